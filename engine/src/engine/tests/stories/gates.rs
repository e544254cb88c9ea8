//! What is below a `short_circuit` or a `latest_only`.

use crate::{
    definition::{Dag, Task},
    engine::tests::world::{World, dag, following, latest_only, noop, short_circuit, task, task_id},
    event::ClearSelection,
    state::{RunState, TaskState, TriggerRule, TryOutcome},
};

/// `always` would run `report` whatever is above it; `other` is not below the gate.
fn gated(ignore_downstream_trigger_rules: bool) -> Dag {
    let always = Task { trigger_rule: TriggerRule::AllDone, ..task("report", &["load", "other"]) };
    let gate = short_circuit("gate", &[], ignore_downstream_trigger_rules);
    dag("d", vec![gate, task("load", &["gate"]), task("other", &[]), always])
}

fn world(dag: Dag) -> World {
    let mut world = World::new();
    world.load(dag);
    world.exchange("w", "b1", 8);
    world
}

#[test]
fn a_false_short_circuit_skips_everything_below_whatever_its_trigger_rule() {
    let mut world = world(gated(true));
    let run = world.trigger("d");
    world.end_with(run, "gate", following(&[]));
    assert_eq!(world.line(run), "running | gate=success load=skipped other=queued report=skipped");
    let reason = world.tasks[&World::key(run, "report")].reason.clone();
    assert_eq!(reason.as_deref(), Some("the condition of short circuit gate does not hold"));
    world.restart();
    world.end(run, "other", TryOutcome::Success);
    assert_eq!(world.line(run), "success | gate=success load=skipped other=success report=skipped");
}

#[test]
fn a_short_circuit_that_respects_trigger_rules_skips_only_what_is_directly_below() {
    let mut world = world(gated(false));
    let run = world.trigger("d");
    world.end_with(run, "gate", following(&[]));
    assert_eq!(world.line(run), "running | gate=success load=skipped other=queued report=no_status");
    world.end(run, "other", TryOutcome::Success);
    assert_eq!(world.state(run, "report"), TaskState::Queued);
}

#[test]
fn a_short_circuit_that_holds_changes_nothing() {
    let mut world = world(gated(true));
    let run = world.trigger("d");
    world.end_with(run, "gate", following(&["load"]));
    for task in ["load", "other", "report"] {
        world.end(run, task, TryOutcome::Success);
    }
    assert_eq!(world.line(run), "success | gate=success load=success other=success report=success");
}

/// `early` does not wait for the gate; `deep` is below what may have run already.
fn early(max_active_tasks: u32) -> Dag {
    let early = Task { trigger_rule: TriggerRule::OneSuccess, ..task("early", &["gate", "other"]) };
    let tasks = vec![short_circuit("gate", &[], true), task("other", &[]), early, task("deep", &["early"])];
    Dag { max_active_tasks, ..dag("d", tasks) }
}

#[test]
fn a_short_circuit_reaches_below_what_runs_already_and_leaves_that_alone() {
    let mut world = world(early(4));
    let run = world.trigger("d");
    world.end(run, "other", TryOutcome::Success);
    assert_eq!(world.line(run), "running | gate=queued other=success early=queued deep=no_status");
    world.end_with(run, "gate", following(&[]));
    assert_eq!(world.line(run), "running | gate=success other=success early=queued deep=skipped");
    world.restart();
    world.end(run, "early", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Success);
}

#[test]
fn a_short_circuit_skips_what_waits_for_a_slot() {
    let mut world = world(early(2));
    let (first, second) = (world.trigger("d"), world.trigger("d"));
    world.end(first, "other", TryOutcome::Success);
    assert_eq!(world.line(first), "running | gate=queued other=success early=scheduled deep=no_status");
    world.end_with(first, "gate", following(&[]));
    assert_eq!(world.line(first), "success | gate=success other=success early=skipped deep=skipped");
    assert_eq!(world.line(second), "running | gate=queued other=queued early=no_status deep=no_status");
}

#[test]
fn a_clear_applies_the_verdict_of_a_short_circuit_again_unless_it_is_cleared_itself() {
    let mut world = world(gated(true));
    let run = world.trigger("d");
    world.end_with(run, "gate", following(&[]));
    world.end(run, "other", TryOutcome::Success);
    let report = ClearSelection { tasks: vec![task_id("report")], ..ClearSelection::default() };
    world.clear(run, report);
    assert_eq!(world.line(run), "success | gate=success load=skipped other=success report=skipped");
    let gate = ClearSelection { tasks: vec![task_id("gate")], downstream: true, ..ClearSelection::default() };
    world.clear(run, gate);
    assert_eq!(world.line(run), "running | gate=queued load=no_status other=success report=no_status");
    world.end_with(run, "gate", following(&["load"]));
    world.end(run, "load", TryOutcome::Success);
    assert_eq!(world.state(run, "report"), TaskState::Queued);
}

#[test]
fn a_short_circuit_that_a_person_marks_stops_nothing() {
    let mut world = world(gated(true));
    let run = world.trigger("d");
    world.end_with(run, "gate", following(&[]));
    world.mark(run, "gate", TaskState::Failed);
    let report = ClearSelection { tasks: vec![task_id("report")], ..ClearSelection::default() };
    world.clear(run, report);
    assert_eq!(world.state(run, "report"), TaskState::NoStatus);
    world.end(run, "other", TryOutcome::Success);
    assert_eq!(world.state(run, "report"), TaskState::Queued);
}

#[test]
fn two_circuits_above_one_task_are_two_reasons_and_one_of_them_is_enough() {
    let tasks = vec![
        short_circuit("first", &[], true),
        short_circuit("second", &[], true),
        task("a", &["first"]),
        task("b", &["second"]),
        Task { trigger_rule: TriggerRule::AllDone, ..task("join", &["a", "b"]) },
    ];
    let mut world = world(dag("d", tasks));
    let run = world.trigger("d");
    world.end_with(run, "first", following(&[]));
    world.end_with(run, "second", following(&[]));
    assert_eq!(world.line(run), "success | first=success second=success a=skipped b=skipped join=skipped");
    // The first one decides anew; the second one's verdict stands.
    let first =
        ClearSelection { tasks: vec![task_id("first")], downstream: true, ..ClearSelection::default() };
    world.clear(run, first);
    world.end_with(run, "first", following(&["a"]));
    world.end(run, "a", TryOutcome::Success);
    assert_eq!(world.line(run), "success | first=success second=success a=success b=skipped join=skipped");
}

#[test]
fn latest_only_lets_a_manual_run_pass_without_a_worker() {
    let mut world = World::new();
    world.load(dag("d", vec![latest_only("newest", &[]), noop("publish", &["newest"])]));
    let run = world.trigger("d");
    assert_eq!(world.line(run), "success | newest=success publish=success");
}
