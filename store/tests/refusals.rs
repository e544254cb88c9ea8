//! What the schema refuses, walked pair by pair.

use tidemill_engine::{
    action::{RunChange, TaskChange},
    ids::{RunKey, TaskId},
    state::{RunState, StopReason, TaskState, TryOutcome},
};
use tidemill_store::{Batch, CommitError};

use crate::{
    rows::{attempt, change, fence, new_run, new_task, run_row, task_row, try_write},
    support::{Bed, at},
};

/// Brings a new instance into a state by legal changes.
fn into_state(batch: &mut Batch, task: &str, state: TaskState) {
    match state {
        TaskState::NoStatus => {}
        // Nothing starts without having been assigned.
        TaskState::Running => {
            batch.tasks.push(new_task(1, task, TaskState::Queued));
            let from = fence(&task_row(1, task, TaskState::Queued));
            batch.tasks.push(change(from, task_row(1, task, TaskState::Running)));
        }
        state => batch.tasks.push(new_task(1, task, state)),
    }
}

pub(crate) async fn every_illegal_pair_is_refused(bed: &Bed) {
    let legal = TaskState::transitions();
    let (mut accepted, mut refused) = (0, 0);
    let states = TaskState::ALL.iter().filter(|state| **state != TaskState::NoStatus);
    let pairs: Vec<_> =
        TaskState::ALL.iter().flat_map(|from| states.clone().map(move |to| (*from, *to))).collect();
    let mut batch = bed.batch().await;
    batch.runs.push(new_run(1, RunState::Running));
    for (number, (from, _)) in pairs.iter().enumerate() {
        into_state(&mut batch, &format!("t{number}"), *from);
    }
    bed.store.writer.commit(&batch).await.expect("every state can be reached");
    for (number, (from, to)) in pairs.into_iter().enumerate() {
        let task = format!("t{number}");
        // The same state is no transition: it is a note, or another worker's assignment.
        let is_legal = legal.contains(&(from, to)) || from == to;
        let mut from = fence(&task_row(1, &task, from));
        if from.state == TaskState::NoStatus {
            (from.try_number, from.epoch) = (0, 0);
        }
        let mut batch = bed.batch().await;
        batch.tasks.push(change(from, task_row(1, &task, to)));
        match bed.store.writer.commit(&batch).await {
            Ok(()) => {
                assert!(is_legal, "{} → {to} was accepted", from.state);
                accepted += 1;
            }
            Err(CommitError::Constraint { run: Some(RunKey(1)), what }) => {
                assert!(!is_legal, "{} → {to} was refused: {what}", from.state);
                refused += 1;
            }
            Err(error) => panic!("{} → {to}: {error}", from.state),
        }
    }
    println!("task instance pairs: {accepted} accepted, {refused} refused");
    assert_eq!(accepted + refused, 12 * 11);
    every_illegal_run_pair_is_refused(bed).await;
}

async fn every_illegal_run_pair_is_refused(bed: &Bed) {
    let legal = RunState::transitions();
    let (mut accepted, mut refused) = (0, 0);
    for (from, to) in RunState::ALL.iter().flat_map(|from| RunState::ALL.iter().map(move |to| (*from, *to))) {
        let key = 100 + accepted + refused;
        let mut batch = bed.batch().await;
        batch.runs.push(new_run(key, from));
        bed.store.writer.commit(&batch).await.expect("a run is created in any state");
        let mut batch = bed.batch().await;
        batch.runs.push(RunChange { from: Some(from), row: run_row(key, to) });
        let is_legal = legal.contains(&(from, to)) || from == to;
        match bed.store.writer.commit(&batch).await {
            Ok(()) if is_legal => accepted += 1,
            Err(CommitError::Constraint { run: Some(run), .. }) if !is_legal && run.0 == key => refused += 1,
            other => panic!("{from} → {to}: {other:?}"),
        }
    }
    println!("dag run pairs: {accepted} accepted, {refused} refused");
    assert_eq!(accepted + refused, 36);
}

/// Every CHECK of the schema has a batch that only it refuses.
pub(crate) async fn checks_tie_states_to_columns(bed: &Bed) {
    let mut batch = bed.batch().await;
    batch.runs.push(new_run(1, RunState::Running));
    batch.tasks.push(new_task(1, "a", TaskState::Queued));
    bed.store.writer.commit(&batch).await.expect("stored");
    let stored = task_row(1, "a", TaskState::Queued);
    let task = |state, edit: &dyn Fn(&mut TaskChange)| {
        let mut change = change(fence(&stored), task_row(1, "a", state));
        edit(&mut change);
        let mut batch = Batch::default();
        batch.tasks.push(change);
        batch
    };
    let run = |state, edit: &dyn Fn(&mut RunChange)| {
        let mut change = RunChange { from: Some(RunState::Running), row: run_row(1, state) };
        edit(&mut change);
        let mut batch = Batch::default();
        batch.runs.push(change);
        batch
    };
    let attempted = |outcome, edit: &dyn Fn(&mut tidemill_engine::rows::TryRow)| {
        let mut write = try_write(attempt(1, "a", 1), true, outcome);
        edit(&mut write.change.row);
        let mut batch = Batch::default();
        batch.tries.push(write);
        batch
    };
    let refused = [
        ("success without an end", task(TaskState::Success, &|c| c.row.finished_at = None)),
        ("running with an end", task(TaskState::Running, &|c| c.row.finished_at = Some(at(9)))),
        ("up_for_retry without a time", task(TaskState::UpForRetry, &|c| c.row.retry_at = None)),
        (
            "up_for_reschedule without a time",
            task(TaskState::UpForReschedule, &|c| c.row.next_poke_at = None),
        ),
        (
            "scheduled with a time of a poke",
            task(TaskState::Scheduled, &|c| c.row.next_poke_at = Some(at(9))),
        ),
        ("success with a retry time", task(TaskState::Success, &|c| c.row.retry_at = Some(at(9)))),
        ("running without a worker", task(TaskState::Running, &|c| c.row.worker = None)),
        ("running without a try", task(TaskState::Running, &|c| c.row.try_number = 0)),
        ("stopping without a lease", task(TaskState::Success, &|c| c.row.stop = Some(StopReason::Cleared))),
        (
            "an element of no run",
            task(TaskState::Success, &|c| {
                c.from = crate::rows::NOTHING;
                c.row.key.run = RunKey(77);
            }),
        ),
        (
            "an element below -1",
            task(TaskState::Success, &|c| {
                c.from = crate::rows::NOTHING;
                c.row.key.task = TaskId::new("b").expect("an id");
                c.row.key.map_index = -2;
            }),
        ),
        ("a run that ended without an end", run(RunState::Success, &|c| c.row.finished_at = None)),
        ("a running run with an end", run(RunState::Running, &|c| c.row.finished_at = Some(at(1)))),
        ("an interval that ends first", run(RunState::Running, &|c| c.row.data_interval_end = at(-9))),
        (
            "an unknown version",
            run(RunState::Running, &|c| {
                c.row.dag_version = tidemill_engine::rows::VersionHash("none".into());
            }),
        ),
        ("a try that ended without an end", attempted(Some(TryOutcome::Failed), &|t| t.finished_at = None)),
        ("a live try with an end", attempted(None, &|t| t.finished_at = Some(at(1)))),
        ("try 0", attempted(None, &|t| t.attempt.try_number = 0)),
    ];
    for (name, wrong) in refused {
        let numbered = bed.batch().await;
        let wrong = Batch { term: numbered.term, id: numbered.id, at: numbered.at, ..wrong };
        let error = bed.store.writer.commit(&wrong).await.expect_err(name);
        assert!(matches!(error, CommitError::Constraint { .. }), "{name}: {error:?}");
        assert_eq!(error.code(), "STO0203");
    }
}
