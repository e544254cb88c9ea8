//! What is computed alike over rows of memory and of a database.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use tidemill_engine::{
    definition::Dag,
    ids::{PoolName, TaskId},
    rows::{PoolRow, PreviousRun, RunRow, TaskRow, directly_below},
    state::{RunState, TaskState},
};

use crate::{
    history::TaskPoint,
    reader::{HomeCounts, HourCounts, Page, PoolUse, RunBar},
};

/// The window of the home page's counts.
pub(crate) const DAY: TimeDelta = TimeDelta::hours(24);

/// Makes a page of `size + 1` rows at most: the row too much only tells that there is a next page.
pub(crate) fn cut_page<T>(
    mut rows: Vec<T>,
    size: usize,
    cursor: impl FnOnce(&T) -> Option<String>,
) -> Page<T> {
    let has_more = rows.len() > size;
    rows.truncate(size);
    let next_cursor = if has_more { rows.last().and_then(cursor) } else { None };
    Page { items: rows, next_cursor }
}

/// Sums up a run for the one after it. Of a mapped task one element that did not end well speaks for all.
/// A task of its version without a row never ran.
pub(crate) fn previous_run(run: &RunRow, tasks: &[TaskRow], dag: Option<&Dag>) -> PreviousRun {
    let mut states: BTreeMap<TaskId, TaskState> = BTreeMap::new();
    for row in tasks {
        let is_well = matches!(row.state, TaskState::Success | TaskState::Skipped | TaskState::Removed);
        if !is_well || !states.contains_key(&row.key.task) {
            states.insert(row.key.task.clone(), row.state);
        }
    }
    for task in dag.into_iter().flat_map(|dag| &dag.tasks) {
        states.entry(task.id.clone()).or_insert(TaskState::NoStatus);
    }
    let RunRow { key, run_id, logical_date, .. } = run.clone();
    let below = dag.map(directly_below).unwrap_or_default();
    PreviousRun { run: key, run_id, logical_date, states, below }
}

/// Whether a subject of the audit log is another one or inside of it.
pub(crate) fn is_within(subject: &str, of: &str) -> bool {
    subject.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Puts runs and the instances of one task in them together, in the order of the runs.
pub(crate) fn task_points(runs: impl Iterator<Item = RunBar>, tasks: Vec<TaskRow>) -> Vec<TaskPoint> {
    let mut tasks: BTreeMap<_, TaskRow> = tasks.into_iter().map(|task| (task.key.run, task)).collect();
    runs.filter_map(|run| tasks.remove(&run.key).map(|task| TaskPoint { run, task })).collect()
}

/// Returns the 24 clock hours that end with the one of `now`, the oldest first.
pub(crate) fn empty_hours(now: DateTime<Utc>) -> Vec<HourCounts> {
    let last = now.duration_trunc(TimeDelta::hours(1)).unwrap_or(now);
    let hours = (0..24).rev().map(|back| last - TimeDelta::hours(back));
    hours.map(|hour| HourCounts { hour, success: 0, failed: 0, cancelled: 0 }).collect()
}

/// Adds runs of one state to the counts.
pub(crate) fn count_run(
    counts: &mut HomeCounts,
    state: RunState,
    finished_at: Option<DateTime<Utc>>,
    since: DateTime<Utc>,
) {
    match state {
        RunState::Queued => counts.runs_queued += 1,
        RunState::Running => counts.runs_running += 1,
        RunState::Paused => counts.runs_paused += 1,
        RunState::Success | RunState::Failed | RunState::Cancelled => {}
    }
    let Some(at) = finished_at else { return };
    if at >= since {
        counts.runs_succeeded += u64::from(state == RunState::Success);
        counts.runs_failed += u64::from(state == RunState::Failed);
    }
    let hour = counts.hours.iter_mut().find(|h| h.hour <= at && at < h.hour + TimeDelta::hours(1));
    if let Some(hour) = hour {
        hour.success += u64::from(state == RunState::Success);
        hour.failed += u64::from(state == RunState::Failed);
        hour.cancelled += u64::from(state == RunState::Cancelled);
    }
}

/// Adds a leased instance to its pool's load: slots and instances.
pub(crate) fn count_slots(used: &mut BTreeMap<PoolName, (u32, u32)>, dag: Option<&Dag>, task: &TaskId) {
    if let Some(task) = dag.and_then(|dag| dag.tasks.iter().find(|t| t.id == *task)) {
        let entry = used.entry(task.pool.clone()).or_default();
        entry.0 = entry.0.saturating_add(task.pool_slots);
        entry.1 = entry.1.saturating_add(1);
    }
}

/// Puts a pool and its load together.
pub(crate) fn pool_use(pool: &PoolRow, used: &BTreeMap<PoolName, (u32, u32)>) -> PoolUse {
    let (slots, leased) = used.get(&pool.name).copied().unwrap_or_default();
    PoolUse {
        name: pool.name.clone(),
        slots: pool.slots,
        description: pool.description.clone(),
        used: slots,
        leased,
    }
}
