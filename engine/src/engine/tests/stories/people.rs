//! What people do: clear, mark, cancel; and the end of a run's time, which is the same order.

use std::time::Duration;

use super::diamond;
use crate::{
    action::{Action, Reply},
    definition::{Dag, Task},
    engine::tests::world::{World, dag, task, task_id},
    event::{ClearSelection, Event},
    state::{RunState, TaskState, TryOutcome},
    wait_reason::WaitReason,
};

#[test]
fn clearing_a_running_task_waits_for_its_end() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    let actions = world.clear(run, ClearSelection { tasks: vec![task_id("a")], ..ClearSelection::default() });
    assert!(actions.iter().any(|action| matches!(action, Action::Cancel(_))));
    assert_eq!(world.live(run, "a").1.try_number, 1, "the old try is not known to be dead");
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.live(run, "a").1.try_number, 2);
    assert_eq!(world.tasks[&World::key(run, "a")].failures, 0);
}

#[test]
fn clear_and_rerun_keeps_counting_tries_and_resets_the_budget() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { retries: 1, retry_delay: Duration::from_secs(1), ..task("a", &[]) }]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    for _ in 0..2 {
        world.end(run, "a", TryOutcome::Failed);
        world.pass(1);
    }
    assert_eq!(world.line(run), "failed | a=failed");
    world.clear(run, ClearSelection::default());
    let (_, attempt) = world.live(run, "a");
    assert_eq!((attempt.try_number, attempt.epoch), (3, 3));
    world.end(run, "a", TryOutcome::Failed);
    assert_eq!(world.state(run, "a"), TaskState::UpForRetry, "the budget is fresh");
    world.restart();
    assert_eq!(world.tasks[&World::key(run, "a")].try_number, 3);
}

#[test]
fn retry_from_failure_clears_only_what_failed() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.end(run, "b", TryOutcome::Failed);
    world.end(run, "c", TryOutcome::Success);
    world.clear(run, ClearSelection { only_failed: true, ..ClearSelection::default() });
    assert_eq!(world.line(run), "running | a=success b=queued c=success e=no_status");
}

#[test]
fn marking_a_failed_task_as_success_lets_the_run_go_on() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.end(run, "b", TryOutcome::Failed);
    world.end(run, "c", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Failed);
    world.mark(run, "b", TaskState::Success);
    assert_eq!(world.line(run), "running | a=success b=success c=success e=queued");
}

#[test]
fn marking_a_leaf_of_a_finished_run_changes_its_outcome() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[])]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.mark(run, "a", TaskState::Failed);
    assert_eq!(world.line(run), "failed | a=failed");
    world.mark(run, "a", TaskState::Success);
    assert_eq!(world.line(run), "success | a=success");
}

#[test]
fn marking_a_running_task_stops_it_first() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.mark(run, "a", TaskState::Success);
    assert_eq!(world.state(run, "a"), TaskState::Queued);
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.line(run), "running | a=success b=queued c=queued e=no_status");
}

#[test]
fn cancel_stops_what_runs_and_skips_the_rest() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    let request = world.request();
    world.step(Event::Cancel { request, run, is_dry_run: false, ended: None });
    assert_eq!(world.line(run), "running | a=queued b=skipped c=skipped e=skipped");
    world.restart();
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.line(run), "cancelled | a=skipped b=skipped c=skipped e=skipped");
}

#[test]
fn cancelling_a_queued_run_ends_it_at_once() {
    let mut world = World::new();
    world.load(Dag { max_active_runs: 1, ..diamond() });
    world.exchange("w", "b1", 4);
    world.trigger("d");
    let second = world.trigger("d");
    assert_eq!(world.runs[&second].state, RunState::Queued);
    let reasons = world.engine.explain(&World::key(second, "a"), world.now);
    assert_eq!(reasons[0], WaitReason::RunQueued { active: 1, limit: 1 });
    let request = world.request();
    world.step(Event::Cancel { request, run: second, is_dry_run: false, ended: None });
    assert_eq!(world.runs[&second].state, RunState::Cancelled);
}

#[test]
fn a_run_that_reaches_its_timeout_fails() {
    let mut world = World::new();
    world.load(Dag { run_timeout: Some(Duration::from_secs(20)), ..diamond() });
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.pass(10);
    world.restart();
    world.exchange("w", "b1", 4);
    world.pass(9);
    assert_eq!(world.runs[&run].timed_out_at, None);
    world.pass(1);
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.runs[&run].state, RunState::Failed);
    assert!(world.runs[&run].reason.as_ref().unwrap().starts_with("timed_out"));
}

#[test]
fn marking_a_run_decides_its_leaves() {
    for (state, line) in [
        (RunState::Success, "success | a=success b=skipped c=skipped e=success"),
        (RunState::Failed, "failed | a=failed b=skipped c=skipped e=failed"),
    ] {
        let mut world = World::new();
        world.load(diamond());
        world.exchange("w", "b1", 4);
        let run = world.trigger("d");
        let request = world.request();
        world.step(Event::MarkRun { request, run, state, is_dry_run: false, finished: None });
        world.restart();
        world.end(run, "a", TryOutcome::Stopped);
        assert_eq!(world.line(run), line);
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    let request = world.request();
    let selection = ClearSelection::default();
    let actions =
        world.step(Event::Clear { request, run, selection, is_dry_run: true, finished: None, latest: false });
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert_eq!(world.line(run), "running | a=queued b=no_status c=no_status e=no_status");
}

/// Looking at a cancel or at the mark of a run changes nothing and names exactly what the deed then names.
#[test]
fn what_a_cancel_and_a_mark_of_a_run_would_change_is_what_they_change() {
    let told = |actions: &[Action]| {
        let reply = actions.iter().find_map(|action| match action {
            Action::Answer(answer) => match &answer.reply {
                Reply::Changed(list) => Some(list.clone()),
                _ => None,
            },
            _ => None,
        });
        reply.unwrap_or_else(|| panic!("no answer: {actions:?}"))
    };
    for verdict in [None, Some(RunState::Success), Some(RunState::Failed)] {
        let mut world = World::new();
        world.load(diamond());
        world.exchange("w", "b1", 4);
        let run = world.trigger("d");
        let ask = |request, is_dry_run| match verdict {
            None => Event::Cancel { request, run, is_dry_run, ended: None },
            Some(state) => Event::MarkRun { request, run, state, is_dry_run, finished: None },
        };
        let before = world.engine.durable();
        let request = world.request();
        let asked = world.step(ask(request, true));
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(world.engine.durable(), before);
        let request = world.request();
        let done = world.step(ask(request, false));
        assert!(done.len() > 1, "{done:?}");
        let would = told(&asked);
        assert_eq!(would, told(&done), "{verdict:?}");
        assert_eq!(would.len(), 4, "{would:?}");
    }
}
