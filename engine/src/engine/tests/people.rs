//! What people ask for one after the other: the newest word counts, and it is kept.

use super::world::{World, dag, following, refusal, task, task_id};
use crate::{
    action::{Action, Reply},
    definition::{Dag, Notification, Task},
    event::{ClearSelection, Event},
    ids::RunKey,
    state::{RunState, StopReason, TaskState, TriggerRule, TryOutcome},
};

fn chain() -> Dag {
    dag("d", vec![task("a", &[]), task("b", &["a"])])
}

fn mark_run(world: &mut World, run: RunKey, state: RunState) -> Vec<Action> {
    let (request, finished) = (world.request(), world.finished(run));
    world.step(Event::MarkRun { request, run, state, is_dry_run: false, finished })
}

fn select(tasks: &[&str]) -> ClearSelection {
    ClearSelection { tasks: tasks.iter().map(|id| task_id(id)).collect(), ..ClearSelection::default() }
}

#[test]
fn the_newest_word_about_a_running_instance_counts() {
    let mut world = World::new();
    world.load(chain());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.clear(run, select(&["a"]));
    assert_eq!(world.tasks[&World::key(run, "a")].stop, Some(StopReason::Cleared));
    world.mark(run, "a", TaskState::Success);
    assert_eq!(world.tasks[&World::key(run, "a")].stop, Some(StopReason::MarkedSuccess));
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.line(run), "running | a=success b=queued");
    world.mark(run, "b", TaskState::Failed);
    world.clear(run, select(&["b"]));
    world.end(run, "b", TryOutcome::Stopped);
    assert_eq!(world.line(run), "running | a=success b=queued");
    let (_, attempt) = world.live(run, "b");
    assert_eq!(attempt.try_number, 2, "cleared, so it runs again");
}

#[test]
fn a_run_that_is_marked_failed_never_ends_as_success() {
    let mut world = World::new();
    // Its only leaf does not wait for what is above it.
    let leaf = Task { trigger_rule: TriggerRule::Always, ..task("leaf", &["a"]) };
    world.load(dag("d", vec![task("a", &[]), leaf]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "leaf", TryOutcome::Success);
    mark_run(&mut world, run, RunState::Failed);
    world.restart();
    world.exchange("w", "b1", 4);
    world.end(run, "a", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Failed, "{}", world.line(run));

    // A leaf whose clear is pending is not started again.
    let run = world.trigger("d");
    world.clear(run, select(&["leaf"]));
    mark_run(&mut world, run, RunState::Failed);
    world.end(run, "leaf", TryOutcome::Stopped);
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.line(run), "failed | a=failed leaf=failed");
}

#[test]
fn what_is_said_about_an_ended_run_follows_a_mark_and_nobody_is_told_twice() {
    let mut world = World::new();
    let cleanup = Task { trigger_rule: TriggerRule::AllDone, ..task("cleanup", &["a", "b"]) };
    let told = Notification { webhook: "http://x".to_owned(), message: None };
    let tasks = vec![task("a", &[]), task("b", &[]), cleanup];
    world.load(Dag { on_success: vec![told], ..dag("d", tasks) });
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Failed);
    world.end(run, "b", TryOutcome::Success);
    world.end(run, "cleanup", TryOutcome::Success);
    let ended = world.runs[&run].finished_at;
    assert!(world.runs[&run].with_failures);
    world.pass(60);
    let actions = world.mark(run, "a", TaskState::Success);
    assert_eq!(world.runs[&run].state, RunState::Success);
    assert!(!world.runs[&run].with_failures, "nothing is failed any more");
    assert_eq!(world.runs[&run].finished_at, ended, "it ended when it ended");
    assert!(!actions.iter().any(|action| matches!(action, Action::Notify(_))), "{actions:?}");
    // The reason of a failed run names what is failed now.
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.end(run, "b", TryOutcome::Success);
    world.end(run, "cleanup", TryOutcome::Failed);
    world.mark(run, "a", TaskState::Failed);
    assert_eq!(world.runs[&run].reason.as_deref(), Some("failed: a, cleanup"));
}

#[test]
fn a_mark_revives_what_never_ran_and_leaves_what_failed_by_itself() {
    let mut world = World::new();
    let anyway = Task { trigger_rule: TriggerRule::AllDone, ..task("anyway", &["a"]) };
    world.load(dag("d", vec![task("a", &[]), task("b", &["a"]), anyway]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Failed);
    world.end(run, "anyway", TryOutcome::Failed);
    assert_eq!(world.line(run), "failed | a=failed b=upstream_failed anyway=failed");
    world.mark(run, "a", TaskState::Success);
    assert_eq!(world.line(run), "running | a=success b=queued anyway=failed");
}

#[test]
fn a_clear_with_the_newest_version_runs_tasks_that_are_new() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[])]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.load(chain());
    let actions = world.clear_latest(run, select(&["b"]));
    assert_eq!(refusal(&actions), None);
    let changed = actions.iter().find_map(|action| match action {
        Action::Answer(answer) => match &answer.reply {
            Reply::Changed(changed) => Some(changed.len()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(changed, Some(1), "the new task is what was asked for");
    assert_eq!(world.line(run), "running | a=success b=queued");
}

#[test]
fn a_branch_skips_a_direct_downstream_that_waits_for_a_slot() {
    let mut world = World::new();
    let early = Task { trigger_rule: TriggerRule::OneSuccess, ..task("early", &["pick", "first"]) };
    let pick = super::world::branch("pick", &[]);
    let first = Task { priority_weight: 100, ..task("first", &[]) };
    let tasks = vec![pick, first, task("other", &["pick"]), early];
    world.load(Dag { max_active_tasks: 1, ..dag("d", tasks) });
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "first", TryOutcome::Success);
    assert_eq!(world.state(run, "pick"), TaskState::Queued, "{}", world.line(run));
    assert_eq!(world.state(run, "early"), TaskState::Scheduled, "{}", world.line(run));
    world.end_with(run, "pick", following(&["other"]));
    assert_eq!(world.line(run), "running | pick=success first=success other=queued early=skipped");
}
