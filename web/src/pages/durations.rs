//! How long do its runs take, and is the last one usual?

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tidemill_engine::{ids::DagId, ids::TaskId, state::TaskState};
use tidemill_store::reader::{PageRequest, RunQuery};

use super::{
    Chrome,
    dag::{DagHead, find},
    page,
};
use crate::{
    error::{Problem, Result},
    extract::{DagPath, Ids, Params},
    render::{
        Markup,
        plot::{self, Point},
        scale, time,
    },
    state::WebState,
};

/// How many runs are looked at, and what else can be chosen.
const RUNS: u32 = 50;
const CHOICES: [u32; 4] = [25, 50, 100, 500];

/// `?task_id=&limit=`.
#[derive(Deserialize)]
pub(crate) struct DurationParams {
    #[serde(default)]
    task_id: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
}

#[derive(Template)]
#[template(path = "dag_durations.html")]
struct DurationsPage {
    c: Chrome,
    h: DagHead,
    tasks: Vec<String>,
    task_id: String,
    choices: [u32; 4],
    limit: u32,
    numbers: Vec<(&'static str, String)>,
    chart: Markup,
    is_empty: bool,
}

/// The durations of the last runs, or of a task in them.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(params): Params<DurationParams>,
) -> Result<Response> {
    let detail = find(&state, &ids.dag_id).await?;
    let limit = params.limit.unwrap_or(RUNS).clamp(1, 500);
    let task = match params.task_id.as_deref().filter(|id| !id.is_empty()) {
        Some(id) => Some(id.parse::<TaskId>().map_err(|_| Problem::not_found("such task"))?),
        None => None,
    };
    let points = match &task {
        Some(task) => of_task(&state, &ids.dag_id, task, limit).await?,
        None => of_runs(&state, &ids.dag_id, limit).await?,
    };
    let mut usual: Vec<i64> = points.iter().filter(|p| p.is_usual).map(|p| p.ms).collect();
    usual.sort_unstable();
    let (median, p95) = (scale::percentile(&usual, 50), scale::percentile(&usual, 95));
    let word = |ms: Option<i64>| ms.map_or_else(|| "–".to_owned(), time::duration);
    page(&DurationsPage {
        c,
        h: DagHead::load(&state, &detail, "durations").await?,
        tasks: detail.definition.tasks.iter().map(|task| task.id.to_string()).collect(),
        task_id: task.map(|task| task.to_string()).unwrap_or_default(),
        choices: CHOICES,
        limit,
        numbers: vec![
            ("median", word(median)),
            ("95 % take at most", word(p95)),
            ("longest", word(points.iter().map(|p| p.ms).max())),
            ("the last one", word(points.last().map(|p| p.ms))),
        ],
        is_empty: points.is_empty(),
        chart: plot::durations(&points, median, p95),
    })
}

fn took(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Option<i64> {
    Some((to.unwrap_or_else(Utc::now) - from?).num_milliseconds().max(0))
}

/// Runs that have started, the oldest first.
async fn of_runs(state: &WebState, dag_id: &DagId, limit: u32) -> Result<Vec<Point>> {
    let page = PageRequest { cursor: None, limit };
    let query = RunQuery { page, dag_id: Some(dag_id.clone()), ..RunQuery::default() };
    let runs = state.reader().runs(&query).await?.items;
    let points = runs.into_iter().rev().filter_map(|run| {
        let ms = took(run.started_at, run.finished_at)?;
        Some(Point {
            href: format!("/dags/{dag_id}/runs/{}", run.run_id),
            title: format!(
                "{}: {}, {}\n{}",
                run.run_id,
                run.state,
                time::duration(ms),
                time::exact(run.logical_date)
            ),
            state: run.state.as_str(),
            ms,
            is_usual: run.state.as_str() == "success",
        })
    });
    Ok(points.collect())
}

/// The last try of a task in the last runs, the oldest first.
async fn of_task(state: &WebState, dag_id: &DagId, task: &TaskId, limit: u32) -> Result<Vec<Point>> {
    let found = state.reader().task_history(dag_id, task, limit).await?;
    let points = found.into_iter().rev().filter_map(|point| {
        let row = point.task;
        let ms = took(row.started_at, row.finished_at)?;
        Some(Point {
            href: format!("/dags/{dag_id}/runs/{}/tasks/{task}", point.run.run_id),
            title: format!(
                "{}: {} on try {}, {}\n{}",
                point.run.run_id,
                row.state,
                row.try_number,
                time::duration(ms),
                time::exact(point.run.logical_date)
            ),
            state: row.state.as_str(),
            ms,
            is_usual: row.state == TaskState::Success,
        })
    });
    Ok(points.collect())
}
