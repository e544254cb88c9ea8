//! Lists of runs: of all DAGs, of one.

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;
use tidemill_engine::{
    ids::DagId,
    rows::RunRow,
    state::{RunState, RunType},
};

use super::{
    Chrome,
    dag::{DagHead, find},
    dags::query_string,
    page,
};
use crate::{
    api::runs::RunListParams,
    error::Result,
    extract::{DagPath, Ids, Params},
    render::{Markup, time},
    state::WebState,
};

struct Row {
    dag_id: String,
    run_id: String,
    state: &'static str,
    with_failures: bool,
    run_type: &'static str,
    logical_date: Markup,
    started: Markup,
    took: Markup,
    reason: String,
}

#[derive(Template)]
#[template(path = "runs.html")]
struct RunsPage {
    c: Chrome,
    head: Option<DagHead>,
    show_dag: bool,
    rows: Vec<Row>,
    states: Vec<&'static str>,
    types: Vec<&'static str>,
    state: String,
    run_type: String,
    spans: Vec<(String, String)>,
    ended_within: String,
    next_page: Option<String>,
}

/// Runs of all DAGs.
pub(crate) async fn all(
    State(state): State<WebState>,
    c: Chrome,
    Params(params): Params<RunListParams>,
) -> Result<Response> {
    list(&state, c, None, None, &params).await
}

/// Runs of one DAG.
pub(crate) async fn of_dag(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(params): Params<RunListParams>,
) -> Result<Response> {
    let head = DagHead::load(&state, &find(&state, &ids.dag_id).await?, "runs").await?;
    list(&state, c, Some(head), Some(ids.dag_id), &params).await
}

async fn list(
    state: &WebState,
    c: Chrome,
    head: Option<DagHead>,
    dag_id: Option<DagId>,
    params: &RunListParams,
) -> Result<Response> {
    let path = dag_id.as_ref().map_or_else(|| "/runs".to_owned(), |id| format!("/dags/{id}/runs"));
    let found = state.reader().runs(&params.query(dag_id, 100)?).await?;
    let (word, run_type) =
        (params.state.clone().unwrap_or_default(), params.run_type.clone().unwrap_or_default());
    let ended_within = params.ended_within.clone().unwrap_or_default();
    let next_page = found.next_cursor.as_ref().map(|cursor| {
        let query =
            [("state", &word), ("run_type", &run_type), ("ended_within", &ended_within), ("cursor", cursor)];
        format!("{path}?{}", query_string(&query.map(|(name, value)| (name, value.as_str()))))
    });
    page(&RunsPage {
        c,
        show_dag: head.is_none(),
        head,
        rows: found.items.into_iter().map(row).collect(),
        states: RunState::ALL.iter().map(|s| s.as_str()).collect(),
        types: RunType::ALL.iter().map(|t| t.as_str()).collect(),
        state: word,
        run_type,
        spans: spans(&ended_within),
        ended_within,
        next_page,
    })
}

/// What can be chosen, and what was chosen by the address.
fn spans(chosen: &str) -> Vec<(String, String)> {
    let offered = [("1h", "the last hour"), ("24h", "the last 24 hours"), ("7d", "the last 7 days")];
    let mut spans: Vec<_> = offered.map(|(span, words)| (span.to_owned(), words.to_owned())).into();
    if !chosen.is_empty() && !offered.iter().any(|(span, _)| *span == chosen) {
        spans.push((chosen.to_owned(), format!("the last {chosen}")));
    }
    spans
}

fn row(run: RunRow) -> Row {
    let started = run.started_at.map_or_else(Markup::default, |at| time::relative(at, Utc::now()));
    Row {
        state: run.state.as_str(),
        with_failures: run.with_failures,
        run_type: run.run_type.as_str(),
        logical_date: time::absolute(run.logical_date),
        started,
        took: time::took(run.started_at, run.finished_at),
        reason: run.reason.unwrap_or_default(),
        dag_id: run.dag_id.to_string(),
        run_id: run.run_id.to_string(),
    }
}
