//! One task instance beside the grid: what somebody who clicked a cell wants to know first.
//!
//! The cell is a link to the grid with the panel open, so it works without a script and can be sent to somebody. A
//! script asks for the panel alone, which costs nothing of the grid.

use askama::Template;
use axum::{extract::State, response::Response};
use serde::Deserialize;
use tidemill_engine::{
    ids::{AttemptKey, DagId, RunId, TaskId, TaskInstanceKey},
    rows::{RunRow, TaskRow, TryRow},
    state::TaskState,
};

use super::{
    Chrome,
    confirm::Offer,
    dags::query_string,
    groups, page,
    run::{last_lines, task_href},
    task,
};
use crate::{
    error::{Problem, Result},
    extract::{self, DagPath, Ids, Params},
    render::{Markup, ansi, time},
    state::WebState,
};

/// How many lines of the end of the log are shown.
const LOG_LINES: usize = 15;
/// How many bytes they may have.
const LOG_BYTES: usize = 16 * 1024;
/// How many of the last tries are listed.
const TRIES: usize = 5;
/// How many elements of a mapped task are listed.
const ELEMENTS: usize = 50;

/// Which cell is open.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Cell {
    #[serde(default)]
    pub(crate) run_id: Option<String>,
    #[serde(default)]
    pub(crate) task_id: Option<String>,
    #[serde(default)]
    pub(crate) map_index: Option<i32>,
}

/// A cell whose names are names.
pub(crate) struct Named {
    run: RunId,
    task: TaskId,
    map_index: i32,
}

impl Cell {
    /// Returns what is asked for; nothing when nothing is.
    ///
    /// # Errors
    /// WEB0201 when a name is no name.
    pub(crate) fn named(&self) -> Result<Option<Named>> {
        let (Some(run), Some(task)) = (&self.run_id, &self.task_id) else { return Ok(None) };
        let (Ok(run), Ok(task)) = (run.parse(), task.parse()) else {
            return Err(Problem::not_found("such task instance"));
        };
        Ok(Some(Named { run, task, map_index: self.map_index.unwrap_or(-1) }))
    }
}

/// One try of it.
pub(crate) struct Try {
    pub(crate) number: u32,
    pub(crate) href: String,
    pub(crate) outcome: &'static str,
    pub(crate) took: Markup,
}

/// One element of a mapped task.
pub(crate) struct Element {
    pub(crate) index: i32,
    pub(crate) state: &'static str,
    pub(crate) href: String,
}

/// The panel.
pub(crate) struct Side {
    /// Of a mapped task: what needs attention first, and how many there are.
    pub(crate) elements: Vec<Element>,
    pub(crate) element_count: usize,
    /// Where the panel alone is.
    pub(crate) fragment: String,
    /// The grid without it.
    pub(crate) back: String,
    pub(crate) href: String,
    pub(crate) run_href: String,
    pub(crate) run_id: String,
    pub(crate) task_id: String,
    pub(crate) state: &'static str,
    pub(crate) sentence: String,
    pub(crate) reason: String,
    pub(crate) reasons: Vec<(String, &'static str)>,
    pub(crate) times: Vec<(&'static str, Markup)>,
    pub(crate) tries: Vec<Try>,
    pub(crate) older_tries: usize,
    pub(crate) log: Option<Markup>,
    pub(crate) actions: Vec<Offer>,
}

impl Side {
    /// Loads the panel of a cell.
    ///
    /// # Errors
    /// WEB0201 when there is no such run or task.
    pub(crate) async fn load(state: &WebState, dag_id: &DagId, cell: &Named, back: String) -> Result<Self> {
        let run = extract::run(state, dag_id, &cell.run).await?;
        let key = TaskInstanceKey { run: run.key, task: cell.task.clone(), map_index: cell.map_index };
        let row = state.reader().task(&key).await?;
        if row.is_none() {
            let dag = extract::definition(state, &run).await?;
            if !dag.tasks.iter().any(|task| task.id == cell.task) {
                return Err(Problem::not_found("such task in this run"));
            }
        }
        let elements =
            if row.is_none() && cell.map_index < 0 { elements(state, &run, cell).await? } else { Vec::new() };
        let word = row.as_ref().map(|row| row.state);
        let word =
            word.or(groups::worst(elements.iter().map(|row| row.state))).unwrap_or(TaskState::NoStatus);
        let tries = state.reader().tries(&key).await?;
        let href = task_href(&run, cell.task.as_str(), cell.map_index);
        let join = if href.contains('?') { '&' } else { '?' };
        let index = cell.map_index.to_string();
        let mut asked = vec![("run_id", cell.run.as_str()), ("task_id", cell.task.as_str())];
        if cell.map_index >= 0 {
            asked.push(("map_index", &index));
        }
        let times = row.as_ref().map_or_else(Vec::new, times);
        let shown = |row: &TryRow| Try {
            number: row.attempt.try_number,
            href: format!("{href}{join}try={}&epoch={}", row.attempt.try_number, row.attempt.epoch),
            outcome: row.outcome.map_or(word.as_str(), |outcome| outcome.as_str()),
            took: time::took(row.started_at, row.finished_at),
        };
        let newest = tries.last().map(|row| row.attempt.clone());
        Ok(Self {
            fragment: format!("/dags/{dag_id}/cell?{}", query_string(&asked)),
            back,
            run_href: format!("/dags/{dag_id}/runs/{}", run.run_id),
            run_id: run.run_id.to_string(),
            task_id: task::label(&key),
            state: word.as_str(),
            sentence: if elements.is_empty() {
                task::sentence(row.as_ref(), word)
            } else {
                format!("Mapped: {} elements.", elements.len())
            },
            reason: row
                .as_ref()
                .and_then(|row| row.reason.clone())
                .filter(|r| r.contains('\n'))
                .unwrap_or_default(),
            reasons: if elements.is_empty() { task::reasons(state, &key, word).await } else { Vec::new() },
            element_count: elements.len(),
            elements: elements
                .into_iter()
                .take(ELEMENTS)
                .map(|row| Element {
                    index: row.key.map_index,
                    state: row.state.as_str(),
                    href: task_href(&run, cell.task.as_str(), row.key.map_index),
                })
                .collect(),
            times,
            older_tries: tries.len().saturating_sub(TRIES),
            tries: tries.iter().rev().take(TRIES).map(shown).collect(),
            log: match newest {
                Some(attempt) => Some(end_of_log(state, attempt).await?),
                None => None,
            },
            actions: task::offers(&run, &key),
            href,
        })
    }
}

/// Returns when an instance started and ended, as far as it did.
fn times(row: &TaskRow) -> Vec<(&'static str, Markup)> {
    let exact = |at: Option<_>| at.map(time::absolute);
    let took = (row.started_at.is_some()).then(|| time::took(row.started_at, row.finished_at));
    [("Started", exact(row.started_at)), ("Ended", exact(row.finished_at)), ("Duration", took)]
        .into_iter()
        .filter_map(|(label, value)| Some((label, value?)))
        .collect()
}

/// The elements of a mapped task: what needs attention first, then by number.
async fn elements(state: &WebState, run: &RunRow, cell: &Named) -> Result<Vec<TaskRow>> {
    if !state.reader().map_lengths(run.key).await?.contains_key(&cell.task) {
        return Ok(Vec::new());
    }
    let mut rows = state.reader().tasks(run.key).await?;
    rows.retain(|row| row.key.task == cell.task && row.key.map_index >= 0);
    rows.sort_by_key(|row| (std::cmp::Reverse(groups::attention(row.state)), row.key.map_index));
    Ok(rows)
}

/// The last lines of a try's log.
async fn end_of_log(state: &WebState, attempt: AttemptKey) -> Result<Markup> {
    let size = state.handle().read_log(attempt.clone(), 0, 0).await?.size_bytes;
    let from = size.saturating_sub(u64::try_from(LOG_BYTES).unwrap_or(u64::MAX));
    let slice = state.handle().read_log(attempt, from, LOG_BYTES).await?;
    Ok(ansi::block(last_lines(&slice.bytes, LOG_LINES), None))
}

#[derive(Template)]
#[template(path = "side_page.html")]
struct SidePage {
    c: Chrome,
    s: Side,
}

/// The panel alone, for the script of the grid.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(cell): Params<Cell>,
) -> Result<Response> {
    let cell = cell.named()?.ok_or_else(|| Problem::not_found("such task instance"))?;
    let s = Side::load(&state, &ids.dag_id, &cell, format!("/dags/{}", ids.dag_id)).await?;
    page(&SidePage { c, s })
}
