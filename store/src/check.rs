//! What the schema refuses, once more in words.
//!
//! The memory twin refuses with it; the databases refuse by themselves, and this module then finds the row that
//! was to blame in a statement of hundreds. A conformance test holds both against each other.

use tidemill_engine::{
    action::{RunChange, TaskChange},
    rows::{RunRow, TaskRow, TryRow},
    state::TaskState,
};

use crate::batch::{Batch, is_run_step, is_task_step};

/// Returns what the schema has against a run change.
pub(crate) fn run_change(change: &RunChange) -> Result<(), String> {
    let row = &change.row;
    if let Some(from) = change.from
        && from != row.state
        && !is_run_step(from, row.state)
    {
        return Err(format!("dag run {} may not go from {from} to {}", row.key, row.state));
    }
    run_row(row)
}

fn run_row(row: &RunRow) -> Result<(), String> {
    if row.state.is_terminal() != row.finished_at.is_some() {
        return Err(format!(
            "dag run {} is {} and {} finished_at",
            row.key,
            row.state,
            if row.finished_at.is_some() { "has a" } else { "has no" }
        ));
    }
    if row.deadline_missed_at.is_some() && row.deadline_at.is_none() {
        return Err(format!("dag run {} has missed a deadline that it has not", row.key));
    }
    if row.data_interval_start > row.data_interval_end {
        return Err(format!("the data interval of dag run {} ends before it starts", row.key));
    }
    Ok(())
}

/// Returns what the schema has against a task instance change.
pub(crate) fn task_change(change: &TaskChange) -> Result<(), String> {
    let row = &change.row;
    if row.state == TaskState::NoStatus {
        return Ok(());
    }
    let from = if change.is_clear { TaskState::NoStatus } else { change.from.state };
    let is_unchanged = from == row.state && !change.is_clear;
    if !is_unchanged && !is_task_step(from, row.state) {
        return Err(format!(
            "task instance {}/{}[{}] may not go from {from} to {}",
            row.key.run, row.key.task, row.key.map_index, row.state
        ));
    }
    task_row(row)
}

fn task_row(row: &TaskRow) -> Result<(), String> {
    let key = &row.key;
    let name = format!("task instance {}/{}[{}]", key.run, key.task, key.map_index);
    if row.state.is_terminal() != row.finished_at.is_some() {
        let has = if row.finished_at.is_some() { "has a" } else { "has no" };
        return Err(format!("{name} is {} and {has} finished_at", row.state));
    }
    if (row.state == TaskState::UpForRetry) != row.retry_at.is_some() {
        let has = if row.retry_at.is_some() { "has a" } else { "has no" };
        return Err(format!("{name} is {} and {has} retry_at", row.state));
    }
    if (row.state == TaskState::UpForReschedule) != row.next_poke_at.is_some() {
        let has = if row.next_poke_at.is_some() { "has a" } else { "has no" };
        return Err(format!("{name} is {} and {has} next_poke_at", row.state));
    }
    if row.state.has_lease() && (row.worker.is_none() || row.try_number == 0 || row.epoch == 0) {
        return Err(format!("{name} is {} without a worker or a try", row.state));
    }
    if row.stop.is_some() && !row.state.has_lease() {
        return Err(format!("{name} is {} and is being stopped", row.state));
    }
    if key.map_index < -1 {
        return Err(format!("{name} has an element below -1"));
    }
    Ok(())
}

/// Returns what the schema has against a try.
pub(crate) fn try_row(row: &TryRow) -> Result<(), String> {
    let key = &row.attempt.instance;
    let name = format!("try {} of {}/{}[{}]", row.attempt.try_number, key.run, key.task, key.map_index);
    if row.outcome.is_some() != row.finished_at.is_some() {
        return Err(format!("{name} has an outcome without finished_at, or the reverse"));
    }
    if row.attempt.try_number == 0 || row.attempt.epoch == 0 {
        return Err(format!("{name} has try number or epoch 0"));
    }
    Ok(())
}

/// Returns the first change of a batch that the schema refuses by itself, with its run.
pub(crate) fn find_culprit(batch: &Batch) -> Option<(tidemill_engine::ids::RunKey, String)> {
    let runs = batch.runs.iter().map(|c| (c.row.key, run_change(c)));
    let tasks = batch.tasks.iter().map(|c| (c.row.key.run, task_change(c)));
    let tries = batch.tries.iter().map(|w| {
        let row = &w.change.row;
        (row.attempt.instance.run, try_row(row))
    });
    runs.chain(tasks).chain(tries).find_map(|(run, verdict)| verdict.err().map(|what| (run, what)))
}
