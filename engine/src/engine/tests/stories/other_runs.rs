//! Runs of other DAGs: triggered by a task, or waited for by one.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    definition::{Dag, Param, Task, WhichRun},
    engine::tests::world::{World, dag, dag_id, looking, noop, run_sensor, task, task_id, triggering},
    event::{ClearSelection, Event},
    ids::RunKey,
    rows::RunRow,
    state::{RunState, TaskState, TryOutcome},
};

/// `parent` has a task `t` about `child`, whose only task is executed by a worker.
fn two(task_of_parent: Task) -> (World, RunKey) {
    let mut world = World::new();
    world.load(dag("child", vec![task("work", &[])]));
    world.load(dag("parent", vec![task_of_parent, noop("next", &["t"])]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("parent");
    (world, run)
}

fn children(world: &World) -> Vec<&RunRow> {
    world.runs.values().filter(|row| row.dag_id == dag_id("child")).collect()
}

fn reason(world: &World, run: RunKey) -> String {
    world.tasks[&World::key(run, "t")].reason.clone().unwrap_or_default()
}

fn why(world: &World, run: RunKey) -> String {
    let reasons = world.engine.explain(&World::key(run, "t"), world.now);
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn only(run: RunKey, task: &str) -> ClearSelection {
    assert!(run.0 >= 0);
    ClearSelection { tasks: vec![task_id(task)], downstream: true, ..ClearSelection::default() }
}

#[test]
fn a_task_triggers_a_run_and_goes_on() {
    let (world, run) = two(triggering("t", &[], "child", false));
    assert_eq!(world.line(run), "success | t=success next=success");
    let [child] = children(&world)[..] else { panic!("{:?}", children(&world)) };
    assert_eq!(child.origin, Some(World::key(run, "t")));
    let parent = &world.runs[&run];
    assert_eq!(child.triggered_by, Some(format!("task t of dag run {} of parent", parent.run_id)));
    assert_eq!(world.outputs[&World::key(run, "t")]["run_id"], child.run_id.as_str());
}

#[test]
fn one_that_waits_ends_as_its_run_does() {
    let (mut world, run) = two(triggering("t", &[], "child", true));
    let child = children(&world)[0].key;
    assert_eq!(world.line(run), "running | t=up_for_reschedule next=no_status");
    let id = &world.runs[&child].run_id;
    assert_eq!(
        why(&world, run),
        format!("waits for dag run {id} of child (running), gives up at 2026-11-01T00:01:30Z")
    );
    // Whose run it is stands in the row of that.
    world.restart();
    world.exchange("w", "b1", 4);
    assert_eq!(children(&world).len(), 1, "a restart triggers nothing");
    world.end(child, "work", TryOutcome::Success);
    assert_eq!(world.line(run), "success | t=success next=success");
    let (mut world, run) = two(triggering("t", &[], "child", true));
    let child = children(&world)[0].key;
    world.end(child, "work", TryOutcome::Failed);
    assert_eq!(world.line(run), "failed | t=failed next=upstream_failed");
    let id = &world.runs[&child].run_id;
    assert_eq!(reason(&world, run), format!("SCH0272: dag run {id} of child ended as failed"));
}

#[test]
fn a_clear_triggers_another_run_and_waits_for_that_one() {
    let (mut world, run) = two(triggering("t", &[], "child", true));
    let first = children(&world)[0].key;
    world.clear(run, only(run, "t"));
    assert_eq!(children(&world).len(), 2, "exactly one for each time that it begins");
    let second = children(&world)[1].key;
    world.restart();
    world.exchange("w", "b1", 4);
    world.end(first, "work", TryOutcome::Failed);
    assert_eq!(world.state(run, "t"), TaskState::UpForReschedule, "the first is not waited for any more");
    world.end(second, "work", TryOutcome::Success);
    assert_eq!(world.line(run), "success | t=success next=success");
}

#[test]
fn what_cannot_be_triggered_fails_with_the_reason() {
    let (world, run) = two(triggering("t", &[], "nobody", true));
    assert_eq!(world.line(run), "failed | t=failed next=upstream_failed");
    assert_eq!(reason(&world, run), "SCH0271: no run was triggered: there is no DAG nobody");
    // Its params are checked as those of any other trigger.
    let mut strict: Dag = dag("child", vec![task("work", &[])]);
    let schema = serde_json::json!({ "type": "integer", "default": 1 });
    strict.params = vec![Param { name: "n".to_owned(), schema: schema.as_object().unwrap().clone() }];
    let mut world = World::new();
    let mut wrong = triggering("t", &[], "child", false);
    if let crate::definition::Operator::TriggerDag { spec } = &mut wrong.operator {
        spec.conf.insert("n".to_owned(), "many".into());
    }
    world.load(strict);
    world.load(dag("parent", vec![wrong]));
    let run = world.trigger("parent");
    assert_eq!(world.state(run, "t"), TaskState::Failed);
    let said = reason(&world, run);
    assert!(said.starts_with("SCH0271: no run was triggered: child refuses its conf: `/n`"), "{said}");
    assert_eq!(children(&world).len(), 0);
    // A run id of its own is used once.
    let mut named = triggering("t", &[], "child", false);
    if let crate::definition::Operator::TriggerDag { spec } = &mut named.operator {
        spec.run_id = Some("mine".to_owned());
    }
    let (mut world, run) = two(named);
    world.clear(run, only(run, "t"));
    assert_eq!(reason(&world, run), "SCH0271: no run was triggered: child has a run mine already");
    assert_eq!(children(&world).len(), 1);
}

#[test]
fn a_paused_dag_runs_what_is_triggered() {
    let mut world = World::new();
    world.load(dag("child", vec![noop("work", &[])]));
    world.load(dag("parent", vec![triggering("t", &[], "child", true)]));
    let request = world.request();
    world.step(Event::DagPaused { request, dag_id: dag_id("child"), is_paused: true });
    let run = world.trigger("parent");
    assert_eq!(world.line(run), "success | t=success");
}

#[test]
fn a_wait_for_a_run_ends_with_its_timeout_and_the_run_goes_on() {
    let (mut world, run) = two(triggering("t", &[], "child", true));
    for _ in 0..3 {
        world.hear("w", "b1");
        world.pass(20);
    }
    assert_eq!(world.state(run, "t"), TaskState::Failed);
    assert_eq!(reason(&world, run), "SCH0261: its timeout of 1m is over");
    assert_eq!(children(&world)[0].state, RunState::Running);
}

#[test]
fn a_cancel_ends_the_wait_and_leaves_the_triggered_run_alone() {
    let (mut world, run) = two(triggering("t", &[], "child", true));
    let request = world.request();
    world.step(Event::Cancel { request, run, is_dry_run: false, ended: None });
    assert_eq!(world.runs[&run].state, RunState::Cancelled);
    let child = children(&world)[0].key;
    assert_eq!(world.runs[&child].state, RunState::Running);
    world.end(child, "work", TryOutcome::Success);
    assert_eq!(world.runs[&child].state, RunState::Success);
}

#[test]
fn a_dag_that_triggers_itself_makes_a_run_at_a_time() {
    let mut world = World::new();
    world.triggered_per_step = 3;
    world.load(dag("child", vec![triggering("t", &[], "child", false)]));
    world.trigger("child");
    let runs: BTreeSet<RunState> = children(&world).iter().map(|row| row.state).collect();
    assert_eq!(children(&world).len(), 4);
    assert!(runs.contains(&RunState::Running), "{runs:?}");
}

#[test]
fn a_sensor_waits_for_a_run_that_is_made_and_ends() {
    let (mut world, run) = two(run_sensor("t", &[], "child"));
    assert_eq!(
        why(&world, run),
        "waits for a dag run of child: there is none yet, gives up at 2026-11-01T00:01:30Z"
    );
    let child = world.trigger("child");
    let id = world.runs[&child].run_id.clone();
    assert!(why(&world, run).starts_with(&format!("waits for dag run {id} of child ")));
    world.restart();
    world.exchange("w", "b1", 4);
    world.end(child, "work", TryOutcome::Success);
    assert_eq!(world.line(run), "success | t=success next=success");
}

#[test]
fn a_sensor_finds_a_run_that_has_ended() {
    let mut world = World::new();
    world.load(dag("child", vec![noop("work", &[])]));
    world.trigger("child");
    world.load(dag("parent", vec![run_sensor("t", &[], "child")]));
    let run = world.trigger("parent");
    assert_eq!(world.line(run), "success | t=success");
}

#[test]
fn a_run_that_ended_in_another_way_fails_it_or_is_waited_for() {
    let (mut world, run) = two(run_sensor("t", &[], "child"));
    let child = world.trigger("child");
    world.end(child, "work", TryOutcome::Failed);
    let id = &world.runs[&child].run_id;
    assert_eq!(reason(&world, run), format!("SCH0272: dag run {id} of child ended as failed"));
    // With `wait_on_failure` the repair is waited for.
    let (mut world, run) = two(looking(run_sensor("t", &[], "child"), |wait| wait.wait_on_failure = true));
    let child = world.trigger("child");
    world.end(child, "work", TryOutcome::Failed);
    assert_eq!(world.state(run, "t"), TaskState::UpForReschedule);
    assert!(why(&world, run).contains("(failed)"), "{}", why(&world, run));
    world.clear(child, ClearSelection::default());
    assert!(why(&world, run).contains("(running)"), "{}", why(&world, run));
    world.end(child, "work", TryOutcome::Success);
    assert_eq!(world.line(run), "success | t=success next=success");
}

#[test]
fn a_sensor_means_the_run_of_its_date() {
    let mut world = World::new();
    world.load(dag("child", vec![task("work", &[])]));
    let hour = Duration::from_secs(3600);
    let offset = |wait: &mut crate::definition::RunWait| wait.which = WhichRun::Offset { earlier: hour };
    world.load(dag("parent", vec![looking(run_sensor("t", &[], "child"), offset)]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("parent");
    let other = world.trigger("child");
    world.end(other, "work", TryOutcome::Success);
    assert_eq!(world.state(run, "t"), TaskState::UpForReschedule, "it is of another date");
    let request = world.request();
    let logical_date = Some(world.runs[&run].logical_date - chrono::TimeDelta::hours(1));
    world.step(Event::RunRequested {
        request,
        dag_id: dag_id("child"),
        run_id: None,
        logical_date,
        conf: std::sync::Arc::default(),
        triggered_by: None,
        suffix: "wanted".to_owned(),
        is_run_id_taken: false,
    });
    let child = *world.runs.keys().next_back().unwrap();
    world.end(child, "work", TryOutcome::Success);
    assert_eq!(world.line(run), "success | t=success");
}

#[test]
fn a_missing_run_fails_at_once_where_that_is_asked() {
    let (world, run) = two(looking(run_sensor("t", &[], "child"), |wait| wait.missing_fails = true));
    assert_eq!(reason(&world, run), "SCH0273: child has no run");
    let soft = looking(run_sensor("t", &[], "child"), |wait| {
        wait.missing_fails = true;
        wait.soft_fail = true;
    });
    let (world, run) = two(soft);
    assert_eq!(world.line(run), "success | t=skipped next=skipped");
}

#[test]
fn a_mark_and_a_timeout_leave_nothing_behind() {
    let (mut world, run) = two(run_sensor("t", &[], "child"));
    world.mark(run, "t", TaskState::Success);
    assert_eq!(world.line(run), "success | t=success next=success");
    let (mut world, run) = two(run_sensor("t", &[], "child"));
    for _ in 0..3 {
        world.hear("w", "b1");
        world.pass(20);
    }
    assert_eq!(reason(&world, run), "SCH0261: its timeout of 1m is over");
    world.trigger("child");
    assert_eq!(world.line(run), "failed | t=failed next=upstream_failed");
}
