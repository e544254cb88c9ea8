//! Task instances of a run: states, reasons, tries, outputs, evidence.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use tidemill_engine::{
    ids::{AttemptKey, TaskInstanceKey},
    rows::{RunRow, TryRow},
    wait_reason::WaitReason,
};
use tidemill_protocol::worker::Report;

use crate::{
    error::{Problem, Result},
    extract::{self, Ids, MapIndex, Params, RunPath, TaskPath, TryPath},
    state::WebState,
    views::{List, ReasonView, TaskView, TryView, task_views},
};

/// Finds an instance by names; the task must exist in the run's version or have a row.
pub(crate) async fn instance(
    state: &WebState,
    ids: &TaskPath,
    at: &MapIndex,
) -> Result<(RunRow, TaskInstanceKey)> {
    let run = extract::run(state, &ids.dag_id, &ids.run_id).await?;
    let key = TaskInstanceKey { run: run.key, task: ids.task_id.clone(), map_index: at.value() };
    // An instance about which nothing is decided has no row; an element is there when its list has it, or had it.
    if key.map_index >= 0
        && key.map_index >= length(state, &key).await?
        && state.reader().task(&key).await?.is_none()
    {
        return Err(Problem::not_found("such element of this task"));
    }
    Ok((run, key))
}

/// Returns how many elements a task has in its run: none when it is not expanded.
async fn length(state: &WebState, key: &TaskInstanceKey) -> Result<i32> {
    let lengths = state.reader().map_lengths(key.run).await?;
    Ok(lengths.get(&key.task).map_or(0, |length| i32::try_from(*length).unwrap_or(i32::MAX)))
}

/// Returns the elements of an expanded task; nothing for any other instance.
pub(crate) async fn elements(state: &WebState, run: &RunRow, key: &TaskInstanceKey) -> Result<Vec<TaskView>> {
    if key.map_index >= 0 || length(state, key).await? == 0 {
        return Ok(Vec::new());
    }
    let dag = extract::definition(state, run).await?;
    let lengths = state.reader().map_lengths(run.key).await?;
    let mut rows = state.reader().tasks(run.key).await?;
    rows.retain(|row| row.key.task == key.task);
    let mut views = task_views(&dag, rows, &lengths);
    views.retain(|view| view.task_id == key.task.as_str());
    Ok(views)
}

/// Finds a try; of several epochs of one try the newest.
pub(crate) async fn newest_epoch(state: &WebState, key: &TaskInstanceKey, try_number: u32) -> Result<TryRow> {
    let tries = state.reader().tries(key).await?;
    let found =
        tries.into_iter().filter(|t| t.attempt.try_number == try_number).max_by_key(|t| t.attempt.epoch);
    found.ok_or_else(|| Problem::not_found("such try"))
}

pub(crate) async fn attempt(
    state: &WebState,
    ids: &TryPath,
    at: &MapIndex,
    epoch: Option<u32>,
) -> Result<AttemptKey> {
    let run = extract::run(state, &ids.dag_id, &ids.run_id).await?;
    let instance = TaskInstanceKey { run: run.key, task: ids.task_id.clone(), map_index: at.value() };
    match epoch {
        Some(epoch) => Ok(AttemptKey { instance, try_number: ids.try_number, epoch }),
        None => Ok(newest_epoch(state, &instance, ids.try_number).await?.attempt),
    }
}

/// Why an instance is not running. The engine holds the active runs; of a run that has ended it knows nothing any
/// more, and the stored row says how the instance ended.
pub(crate) async fn reasons(state: &WebState, key: TaskInstanceKey) -> Result<Vec<WaitReason>> {
    let reasons = state.handle().explain(key.clone()).await?;
    if !reasons.is_empty() {
        return Ok(reasons);
    }
    let row = state.reader().task(&key).await?.filter(|row| row.state.is_terminal());
    Ok(row.map(|row| WaitReason::Ended { state: row.state, reason: row.reason }).into_iter().collect())
}

/// Lists every task instance of a run, also those about which nothing is decided.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/tasks", tag = "task instances", params(("dag_id" = String, Path), ("run_id" = String, Path)),
    responses((status = 200, body = List<TaskView>), (status = 404, body = Problem)))]
pub(crate) async fn list(
    State(state): State<WebState>,
    Ids(ids): Ids<RunPath>,
) -> Result<Json<List<TaskView>>> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let dag = extract::definition(&state, &run).await?;
    let lengths = state.reader().map_lengths(run.key).await?;
    let rows = state.reader().tasks(run.key).await?;
    Ok(Json(List::whole(task_views(&dag, rows, &lengths))))
}

/// Shows a task instance; without `map_index` an expanded task as a whole.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}", tag = "task instances", params(("dag_id" = String, Path), ("run_id" = String, Path), ("task_id" = String, Path), ("map_index" = Option<i32>, Query)),
    responses((status = 200, body = TaskView), (status = 404, body = Problem)))]
pub(crate) async fn show(
    State(state): State<WebState>,
    Ids(ids): Ids<TaskPath>,
    Params(at): Params<MapIndex>,
) -> Result<Json<TaskView>> {
    let (run, key) = instance(&state, &ids, &at).await?;
    if let Some(whole) = TaskView::whole(elements(&state, &run, &key).await?) {
        return Ok(Json(whole));
    }
    let dag = extract::definition(&state, &run).await?;
    let task = dag.tasks.iter().find(|t| t.id == ids.task_id);
    let operator = task.map(|t| t.operator.as_str());
    match (state.reader().task(&key).await?, task) {
        (Some(row), _) => Ok(Json(TaskView::of(row, operator))),
        (None, Some(_)) => Ok(Json(TaskView::undecided(ids.task_id.as_str(), key.map_index, operator))),
        (None, None) => Err(Problem::not_found("such task in this run")),
    }
}

/// Says why a task instance is not running; the first reason is the one that holds it back first.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/explain", tag = "task instances", params(("dag_id" = String, Path), ("run_id" = String, Path), ("task_id" = String, Path), ("map_index" = Option<i32>, Query)),
    responses((status = 200, body = List<ReasonView>), (status = 404, body = Problem)))]
pub(crate) async fn explain(
    State(state): State<WebState>,
    Ids(ids): Ids<TaskPath>,
    Params(at): Params<MapIndex>,
) -> Result<Json<List<ReasonView>>> {
    let (_, key) = instance(&state, &ids, &at).await?;
    let reasons = reasons(&state, key).await?;
    Ok(Json(List::whole(reasons.iter().map(Into::into).collect())))
}

/// Shows the outputs of a task instance by key; of an expanded task without `map_index` each is a list by element.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/outputs", tag = "task instances", params(("dag_id" = String, Path), ("run_id" = String, Path), ("task_id" = String, Path), ("map_index" = Option<i32>, Query)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(crate) async fn outputs(
    State(state): State<WebState>,
    Ids(ids): Ids<TaskPath>,
    Params(at): Params<MapIndex>,
) -> Result<Json<BTreeMap<String, serde_json::Value>>> {
    let (_, key) = instance(&state, &ids, &at).await?;
    let length = usize::try_from(length(&state, &key).await?).unwrap_or(0);
    if key.map_index >= 0 || length == 0 {
        return Ok(Json(state.reader().outputs(&key).await?));
    }
    let mut lists: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for (index, values) in state.reader().mapped_outputs(key.run, &key.task).await? {
        for (name, value) in values {
            let list = lists.entry(name).or_insert_with(|| vec![serde_json::Value::Null; length]);
            if let Some(place) = usize::try_from(index).ok().and_then(|index| list.get_mut(index)) {
                *place = value;
            }
        }
    }
    Ok(Json(lists.into_iter().map(|(name, list)| (name, list.into())).collect()))
}

/// Shows what the operator of the newest try found: a drift report, a branch choice.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/report", tag = "task instances", params(("dag_id" = String, Path), ("run_id" = String, Path), ("task_id" = String, Path), ("map_index" = Option<i32>, Query)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(crate) async fn report(
    State(state): State<WebState>,
    Ids(ids): Ids<TaskPath>,
    Params(at): Params<MapIndex>,
) -> Result<Json<Report>> {
    let (_, key) = instance(&state, &ids, &at).await?;
    let newest = state.reader().reports(&key).await?.into_iter().next();
    newest.map(|stored| Json(stored.report)).ok_or_else(|| Problem::not_found("report of this task instance"))
}

/// Lists the tries of a task instance, the oldest first.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/tries", tag = "task instances", params(("dag_id" = String, Path), ("run_id" = String, Path), ("task_id" = String, Path), ("map_index" = Option<i32>, Query)),
    responses((status = 200, body = List<TryView>), (status = 404, body = Problem)))]
pub(crate) async fn tries(
    State(state): State<WebState>,
    Ids(ids): Ids<TaskPath>,
    Params(at): Params<MapIndex>,
) -> Result<Json<List<TryView>>> {
    let (_, key) = instance(&state, &ids, &at).await?;
    let tries = state.reader().tries(&key).await?;
    Ok(Json(List::whole(tries.into_iter().map(Into::into).collect())))
}

/// Shows what a try was given to do, rendered.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/tries/{try_number}/rendered", tag = "task instances", params(("dag_id" = String, Path), ("run_id" = String, Path), ("task_id" = String, Path), ("try_number" = u32, Path), ("map_index" = Option<i32>, Query)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(crate) async fn rendered(
    State(state): State<WebState>,
    Ids(ids): Ids<TryPath>,
    Params(at): Params<MapIndex>,
) -> Result<Json<serde_json::Value>> {
    let attempt = attempt(&state, &ids, &at, None).await?;
    let rendered = state.reader().rendered(&attempt).await?;
    rendered
        .map(tidemill_scheduler::shown_work)
        .map(Json)
        .ok_or_else(|| Problem::not_found("rendered work of this try"))
}
