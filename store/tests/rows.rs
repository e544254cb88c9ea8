//! Rows of runs, task instances and tries in a given state, as the schema wants them.

use std::sync::Arc;

use tidemill_engine::{
    action::{RunChange, TaskChange, TaskFence, TryChange},
    ids::{AttemptKey, RunId, RunKey, TaskId, TaskInstanceKey, WorkerId},
    rows::{RunRow, TaskRow, TryRow},
    state::{RunState, RunType, TaskState, TryOutcome},
};
use tidemill_store::batch::TryWrite;

use crate::support::{at, dag, dag_id, t0, version_of};

pub(crate) fn run_row(key: i64, state: RunState) -> RunRow {
    RunRow {
        key: RunKey(key),
        dag_id: dag_id("etl"),
        run_id: RunId::new(format!("run:{key}")).expect("an id"),
        run_type: RunType::Manual,
        state,
        with_failures: key % 2 == 0,
        reason: (key % 3 == 0).then(|| "because".to_owned()),
        logical_date: at(key * 60),
        data_interval_start: at(key * 60),
        data_interval_end: at(key * 60 + 60),
        queued_at: t0(),
        started_at: (state != RunState::Queued).then(|| at(1)),
        finished_at: state.is_terminal().then(|| at(key)),
        conf: Arc::new(serde_json::Map::from_iter([("x".to_owned(), serde_json::json!(0.1))])),
        dag_version: version_of(&dag("etl")),
        cancel_requested_at: None,
        timed_out_at: None,
        triggered_by: Some("ann".to_owned()),
        deadline_at: (key % 2 == 0).then(|| at(200)),
        deadline_missed_at: (key % 4 == 0).then(|| at(201)),
        backfill: None,
        ignores_past: false,
        origin: None,
    }
}

pub(crate) fn new_run(key: i64, state: RunState) -> RunChange {
    RunChange { from: None, row: run_row(key, state) }
}

pub(crate) fn instance(run: i64, task: &str) -> TaskInstanceKey {
    TaskInstanceKey { run: RunKey(run), task: TaskId::new(task).expect("an id"), map_index: -1 }
}

pub(crate) fn task_row(run: i64, task: &str, state: TaskState) -> TaskRow {
    TaskRow {
        key: instance(run, task),
        state,
        try_number: 1,
        epoch: 1,
        failures: 0,
        losses: 0,
        scheduled_at: Some(at(2)),
        queued_at: Some(at(3)),
        started_at: None,
        finished_at: state.is_terminal().then(|| at(9)),
        retry_at: (state == TaskState::UpForRetry).then(|| at(100)),
        pokes: 0,
        first_poke_at: None,
        next_poke_at: (state == TaskState::UpForReschedule).then(|| at(100)),
        worker: state.has_lease().then(|| WorkerId::new("w1").expect("a name")),
        exit_code: (state == TaskState::Failed).then_some(-7),
        reason: None,
        stop: None,
        follow: (state == TaskState::Success).then(|| vec![TaskId::new("b").expect("an id")]),
    }
}

pub(crate) fn fence(row: &TaskRow) -> TaskFence {
    TaskFence { state: row.state, try_number: row.try_number, epoch: row.epoch }
}

pub(crate) const NOTHING: TaskFence = TaskFence { state: TaskState::NoStatus, try_number: 0, epoch: 0 };

pub(crate) fn change(from: TaskFence, row: TaskRow) -> TaskChange {
    TaskChange { from, row, is_clear: false, is_note: false }
}

pub(crate) fn new_task(run: i64, task: &str, state: TaskState) -> TaskChange {
    change(NOTHING, task_row(run, task, state))
}

pub(crate) fn attempt(run: i64, task: &str, number: u32) -> AttemptKey {
    AttemptKey { instance: instance(run, task), try_number: number, epoch: number }
}

pub(crate) fn try_write(attempt: AttemptKey, is_new: bool, outcome: Option<TryOutcome>) -> TryWrite {
    let row = TryRow {
        attempt,
        worker: WorkerId::new("w1").expect("a name"),
        boot_id: "boot".to_owned(),
        queued_at: at(3),
        started_at: outcome.map(|_| at(4)),
        finished_at: outcome.map(|_| at(5)),
        outcome,
        exit_code: outcome.map(|_| 1),
        reason: outcome.map(|_| "said \u{1F409} so".to_owned()),
    };
    TryWrite {
        change: TryChange { is_new, from_epoch: None, row },
        token_hash: is_new.then(|| "hash".to_owned()),
        rendered: is_new.then(|| serde_json::json!({"kind": "shell", "script": "true"})),
    }
}
