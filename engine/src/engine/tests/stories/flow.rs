//! What runs after what: upstreams, trigger rules, branches, the outcome of a run.

use super::diamond;
use crate::{
    definition::{Dag, Task},
    engine::tests::world::{World, branch, dag, following, noop, result, task, task_id},
    event::{AttemptResult, ClearSelection},
    state::{RunState, TriggerRule, TryOutcome},
};

#[test]
fn a_diamond_runs_in_order_and_its_run_succeeds() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    assert_eq!(world.line(run), "running | a=queued b=no_status c=no_status e=no_status");
    world.end(run, "a", TryOutcome::Success);
    assert_eq!(world.line(run), "running | a=success b=queued c=queued e=no_status");
    world.end(run, "c", TryOutcome::Success);
    world.end(run, "b", TryOutcome::Success);
    world.end(run, "e", TryOutcome::Success);
    assert_eq!(world.line(run), "success | a=success b=success c=success e=success");
}

#[test]
fn a_failure_makes_everything_below_upstream_failed_and_the_run_failed() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.end(run, "b", TryOutcome::Failed);
    assert_eq!(world.line(run), "running | a=success b=failed c=queued e=upstream_failed");
    world.end(run, "c", TryOutcome::Success);
    assert_eq!(world.line(run), "failed | a=success b=failed c=success e=upstream_failed");
    assert_eq!(world.runs[&run].reason.as_deref(), Some("failed: b"));
}

#[test]
fn a_failure_beside_the_leaves_is_marked_with_failures() {
    let mut world = World::new();
    let cleanup = Task { trigger_rule: TriggerRule::AllDone, ..task("cleanup", &["a"]) };
    world.load(dag("d", vec![task("a", &[]), cleanup]));
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Failed);
    world.end(run, "cleanup", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Success);
    assert!(world.runs[&run].with_failures);
}

fn branching() -> Dag {
    let join =
        Task { trigger_rule: TriggerRule::NoneFailedMinOneSuccess, ..task("join", &["left", "right"]) };
    // `direct` is below the branch and below a followed task: it is not skipped when `left` is followed.
    let direct = Task { trigger_rule: TriggerRule::NoneFailed, ..task("direct", &["pick", "left"]) };
    dag("d", vec![branch("pick", &[]), task("left", &["pick"]), task("right", &["pick"]), join, direct])
}

#[test]
fn a_branch_skips_what_it_does_not_follow_and_nothing_deeper() {
    let mut world = World::new();
    world.load(branching());
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end_with(run, "pick", following(&["left"]));
    assert_eq!(
        world.line(run),
        "running | pick=success left=queued right=skipped join=no_status direct=no_status"
    );
    world.end(run, "left", TryOutcome::Success);
    world.end(run, "join", TryOutcome::Success);
    world.end(run, "direct", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Success);
}

#[test]
fn a_clear_below_a_branch_applies_the_stored_verdict_again() {
    let mut world = World::new();
    world.load(branching());
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end_with(run, "pick", following(&["left"]));
    for task in ["left", "join", "direct"] {
        world.end(run, task, TryOutcome::Success);
    }
    world.clear(
        run,
        ClearSelection { tasks: vec![task_id("right"), task_id("join")], ..ClearSelection::default() },
    );
    assert_eq!(
        world.line(run),
        "running | pick=success left=success right=skipped join=queued direct=success"
    );
    world.end(run, "join", TryOutcome::Success);
    world.clear(
        run,
        ClearSelection { tasks: vec![task_id("pick")], downstream: true, ..ClearSelection::default() },
    );
    world.end_with(run, "pick", following(&["right"]));
    assert_eq!(
        world.line(run),
        "running | pick=success left=skipped right=queued join=no_status direct=skipped"
    );
}

#[test]
fn a_branch_that_chooses_a_stranger_fails_with_the_allowed_ids() {
    let mut world = World::new();
    world.load(branching());
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end_with(run, "pick", following(&["join"]));
    let reason = world.tasks[&World::key(run, "pick")].reason.clone().unwrap();
    assert!(reason.starts_with("SCH0111") && reason.contains("left, right, direct"), "{reason}");
    assert_eq!(world.runs[&run].state, RunState::Failed);
}

#[test]
fn a_branch_without_a_verdict_fails() {
    let mut world = World::new();
    world.load(branching());
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end(run, "pick", TryOutcome::Success);
    assert!(world.tasks[&World::key(run, "pick")].reason.as_ref().unwrap().starts_with("SCH0110"));
}

#[test]
fn exit_as_skip_and_fail_without_retry_end_the_try_at_once() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { retries: 5, ..task("a", &[]) }, Task { retries: 5, ..task("b", &[]) }]));
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Skipped);
    world.end_with(run, "b", AttemptResult { is_final: true, ..result(TryOutcome::Failed) });
    assert_eq!(world.line(run), "failed | a=skipped b=failed");
}

#[test]
fn noops_never_leave_the_engine() {
    let mut world = World::new();
    let tasks = (0..40).map(|i| {
        let up = format!("t{}", i - 1);
        let upstream: Vec<&str> = if i == 0 { vec![] } else { vec![up.as_str()] };
        noop(&format!("t{i}"), &upstream)
    });
    world.load(dag("d", tasks.collect()));
    let run = world.trigger("d");
    assert_eq!(world.runs[&run].state, RunState::Success);
    assert_eq!(world.tries.len(), 0);
}
