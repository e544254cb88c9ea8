//! Lists of runs: of all DAGs, of one.

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;
use tidemill_engine::{
    ids::DagId,
    rows::RunRow,
    state::{RunState, RunType},
};
use tidemill_store::reader::RunQuery;

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
    zone,
};

struct Row {
    dag_id: String,
    run_id: String,
    state: &'static str,
    with_failures: bool,
    is_late: bool,
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
    from: String,
    until: String,
    /// The logical dates that the list is limited to, in words.
    dates: Option<Markup>,
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
    let query = params.query(dag_id, 100)?;
    let found = state.reader().runs(&query).await?;
    let (word, run_type) =
        (params.state.clone().unwrap_or_default(), params.run_type.clone().unwrap_or_default());
    let ended_within = params.ended_within.clone().unwrap_or_default();
    let (from, until) = (params.from.clone().unwrap_or_default(), params.until.clone().unwrap_or_default());
    let next_page = found.next_cursor.as_ref().map(|cursor| {
        let query = [
            ("state", &word),
            ("run_type", &run_type),
            ("ended_within", &ended_within),
            ("from", &from),
            ("until", &until),
            ("cursor", cursor),
        ];
        format!("{path}?{}", query_string(&query.map(|(name, value)| (name, value.as_str()))))
    });
    page(&RunsPage {
        c,
        show_dag: head.is_none(),
        head,
        rows: found.items.into_iter().map(|run| row(state, run)).collect(),
        states: RunState::ALL.iter().map(|s| s.as_str()).collect(),
        types: RunType::ALL.iter().map(|t| t.as_str()).collect(),
        state: word,
        run_type,
        spans: spans(&ended_within),
        ended_within,
        dates: dates(&query),
        from,
        until,
        next_page,
    })
}

/// Which logical dates a list is limited to.
fn dates(query: &RunQuery) -> Option<Markup> {
    let mut out = Markup::default();
    match (query.logical_since, query.logical_before) {
        (None, None) => return None,
        (Some(since), None) => out.raw("logical dates from ").markup(&time::absolute(since)),
        (None, Some(before)) => out.raw("logical dates before ").markup(&time::absolute(before)),
        (Some(since), Some(before)) => {
            let out = out.raw("logical dates from ").markup(&time::absolute(since));
            out.raw(" to before ").markup(&time::absolute(before))
        }
    };
    Some(out)
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

fn row(state: &WebState, run: RunRow) -> Row {
    let zone = zone::shown_of(state, &run.dag_id);
    let started = run.started_at.map_or_else(Markup::default, |at| time::relative_in(at, Utc::now(), zone));
    Row {
        state: run.state.as_str(),
        with_failures: run.with_failures,
        is_late: run.deadline_missed_at.is_some(),
        run_type: run.run_type.as_str(),
        logical_date: time::absolute_in(run.logical_date, zone),
        started,
        took: time::took(run.started_at, run.finished_at),
        reason: run.reason.unwrap_or_default(),
        dag_id: run.dag_id.to_string(),
        run_id: run.run_id.to_string(),
    }
}
