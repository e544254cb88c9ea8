//! What waits for a person: parked runs and DAGs that failed runs have paused. And which failures are retried.

use std::time::Duration;

use crate::{
    action::Refusal,
    definition::{Dag, RetriesExhausted, RetryOn, Task},
    engine::tests::world::{World, dag, dag_id, refusal, result, task, task_id},
    event::{AttemptResult, ClearSelection, Event},
    ids::RunKey,
    state::{RunState, TaskState, TryOutcome},
};

/// `train` asks a person when it has failed; `other` runs beside it, `last` waits for a slot of the DAG.
fn trained() -> Dag {
    let train = Task {
        retries: 1,
        retry_delay: Duration::from_secs(5),
        on_retries_exhausted: RetriesExhausted::Pause,
        ..task("train", &[])
    };
    let tasks = vec![train, task("other", &[]), task("last", &[]), task("deploy", &["train", "other"])];
    Dag { max_active_tasks: 2, ..dag("d", tasks) }
}

/// Fails `train` twice, so that the run is parked while `other` runs and `last` waits.
fn parked() -> (World, RunKey) {
    let mut world = World::new();
    world.load(trained());
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end(run, "train", TryOutcome::Failed);
    // `last` took the slot of `train`; it ends, and the second try has it again.
    world.end(run, "last", TryOutcome::Success);
    world.pass(6);
    world.end(run, "train", TryOutcome::Failed);
    (world, run)
}

fn resume(world: &mut World, run: RunKey, is_dry_run: bool) -> Option<Refusal> {
    let request = world.request();
    let ended = world.runs.get(&run).map(|row| row.state).filter(|state| state.is_terminal());
    refusal(&world.step(Event::Resume { request, run, is_dry_run, ended }))
}

#[test]
fn a_run_is_parked_when_no_try_is_left_and_goes_on_with_new_ones_when_it_is_resumed() {
    let (mut world, run) = parked();
    assert_eq!(world.line(run), "paused | train=awaiting_input other=queued last=success deploy=no_status");
    let reason = world.runs[&run].reason.clone();
    assert_eq!(reason.as_deref(), Some("train failed 2 times and has no try left: resume, mark or cancel"));
    world.end(run, "other", TryOutcome::Success);
    world.restart();
    world.exchange("w", "b1", 8);
    assert_eq!(world.line(run), "paused | train=awaiting_input other=success last=success deploy=no_status");
    assert_eq!(resume(&mut world, run, true), None);
    assert_eq!(world.runs[&run].state, RunState::Paused, "a dry run changes nothing");
    assert_eq!(resume(&mut world, run, false), None);
    assert_eq!(world.line(run), "running | train=queued other=success last=success deploy=no_status");
    world.end(run, "train", TryOutcome::Failed);
    assert_eq!(world.state(run, "train"), TaskState::UpForRetry, "it has its retries again");
    world.pass(6);
    world.end(run, "train", TryOutcome::Success);
    world.end(run, "deploy", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Success);
    assert_eq!(resume(&mut world, run, false), Some(Refusal::RunEnded(RunState::Success)));
}

#[test]
fn nothing_new_starts_in_a_parked_run() {
    let mut dag = trained();
    dag.tasks[0].retries = 0;
    let mut world = World::new();
    world.load(dag);
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    assert_eq!(resume(&mut world, run, false), Some(Refusal::NotPaused));
    world.end(run, "train", TryOutcome::Failed);
    let line = "paused | train=awaiting_input other=queued last=scheduled deploy=no_status";
    assert_eq!(world.line(run), line, "the slot is free, and `last` does not get it");
    world.restart();
    world.exchange("w", "b1", 8);
    assert_eq!(world.line(run), line);
    let (worker, attempt) = world.live(run, "other");
    world.finish(worker, attempt, result(TryOutcome::HandedBack));
    assert_eq!(world.state(run, "other"), TaskState::Scheduled);
    assert_eq!(resume(&mut world, run, false), None);
    assert_eq!(world.line(run), "running | train=queued other=queued last=scheduled deploy=no_status");
}

#[test]
fn a_parked_run_can_be_cancelled() {
    let (mut world, run) = parked();
    let request = world.request();
    world.step(Event::Cancel { request, run, is_dry_run: false, ended: None });
    assert_eq!(world.line(run), "running | train=skipped other=queued last=success deploy=skipped");
    world.end(run, "other", TryOutcome::Stopped);
    assert_eq!(world.runs[&run].state, RunState::Cancelled);
}

#[test]
fn a_mark_or_a_clear_of_what_waits_lets_the_run_go_on() {
    let (mut world, run) = parked();
    world.mark(run, "train", TaskState::Success);
    assert_eq!(world.line(run), "running | train=success other=queued last=success deploy=no_status");
    let (mut world, run) = parked();
    world.clear(run, ClearSelection { tasks: vec![task_id("train")], ..ClearSelection::default() });
    assert_eq!(world.line(run), "running | train=queued other=queued last=success deploy=no_status");
}

#[test]
fn a_verdict_on_a_parked_run_ends_it() {
    let (mut world, run) = parked();
    let request = world.request();
    world.step(Event::MarkRun { request, run, state: RunState::Success, is_dry_run: false, finished: None });
    world.end(run, "other", TryOutcome::Stopped);
    assert_eq!(world.runs[&run].state, RunState::Success, "{}", world.line(run));
}

#[test]
fn only_the_failures_that_are_named_are_retried() {
    let retry_on = Some(RetryOn { exit_codes: vec![75], timed_out: true, signal: true });
    let code = |code| AttemptResult { exit_code: Some(code), ..result(TryOutcome::Failed) };
    for (ended, state) in [
        (code(75), TaskState::UpForRetry),
        (code(1), TaskState::Failed),
        (code(139), TaskState::UpForRetry),
        (result(TryOutcome::TimedOut), TaskState::UpForRetry),
        (result(TryOutcome::Failed), TaskState::UpForRetry),
        (AttemptResult { is_final: true, ..code(75) }, TaskState::Failed),
    ] {
        let mut world = World::new();
        world.load(dag("d", vec![Task { retries: 3, retry_on: retry_on.clone(), ..task("a", &[]) }]));
        world.exchange("w", "b1", 8);
        let run = world.trigger("d");
        world.end_with(run, "a", ended.clone());
        assert_eq!(world.state(run, "a"), state, "{ended:?}");
    }
}

fn pause(world: &mut World, is_paused: bool) {
    let request = world.request();
    world.step(Event::DagPaused { request, dag_id: dag_id("d"), is_paused });
}

#[test]
fn a_dag_is_paused_after_so_many_failed_runs_in_a_row() {
    let mut world = World::new();
    world.load(Dag { max_consecutive_failed_runs: Some(2), ..dag("d", vec![task("a", &[])]) });
    world.exchange("w", "b1", 8);
    let run = |world: &mut World, outcome| {
        let run = world.trigger("d");
        if outcome == TryOutcome::Stopped {
            let request = world.request();
            world.step(Event::Cancel { request, run, is_dry_run: false, ended: None });
        }
        world.end(run, "a", outcome);
    };
    run(&mut world, TryOutcome::Failed);
    run(&mut world, TryOutcome::Success);
    run(&mut world, TryOutcome::Failed);
    run(&mut world, TryOutcome::Stopped);
    assert!(!world.dags[&dag_id("d")].is_paused, "a success begins anew, a cancelled run says nothing");
    world.restart();
    world.exchange("w", "b1", 8);
    run(&mut world, TryOutcome::Failed);
    let row = world.dags[&dag_id("d")].clone();
    assert!(row.is_paused);
    let reason = row.pause_reason.unwrap();
    assert!(reason.starts_with("2 runs failed in a row (max_consecutive_failed_runs = 2)"), "{reason}");
    pause(&mut world, false);
    let row = &world.dags[&dag_id("d")];
    assert_eq!((row.is_paused, row.failed_runs, row.pause_reason.as_deref()), (false, 0, None));
    run(&mut world, TryOutcome::Failed);
    assert!(!world.dags[&dag_id("d")].is_paused);
}

#[test]
fn a_mark_on_a_run_that_has_failed_is_no_second_failure() {
    let mut world = World::new();
    world.load(Dag { max_consecutive_failed_runs: Some(2), ..dag("d", vec![task("a", &[])]) });
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Failed);
    let (request, finished) = (world.request(), world.finished(run));
    world.step(Event::MarkRun { request, run, state: RunState::Failed, is_dry_run: false, finished });
    let row = &world.dags[&dag_id("d")];
    assert_eq!((row.is_paused, row.failed_runs), (false, 1));
}
