//! Setups, what they prepare, and the teardowns that clean up.

use crate::{
    definition::{Dag, Role, Task},
    engine::tests::world::{World, branch, dag, following, setup, short_circuit, task, task_id, teardown},
    event::{ClearSelection, Event},
    ids::RunKey,
    state::{RunState, TaskState, TriggerRule, TryOutcome},
    wait_reason::WaitReason,
};

/// start → train → report, and stop cleans up after start. `report` would run whatever became of `train`.
fn cluster() -> Dag {
    let report = Task { trigger_rule: TriggerRule::AllDone, ..task("report", &["train"]) };
    let stop = teardown("stop", &["start"], &["report", "start"]);
    dag("d", vec![setup("start", &[]), task("train", &["start"]), report, stop])
}

fn world(dag: Dag) -> World {
    let mut world = World::new();
    world.load(dag);
    world.exchange("w", "b1", 8);
    world
}

fn cancel(world: &mut World, run: RunKey) {
    let request = world.request();
    world.step(Event::Cancel { request, run, is_dry_run: false, ended: None });
}

fn why(world: &World, run: RunKey, task: &str) -> String {
    world.tasks[&World::key(run, task)].reason.clone().unwrap_or_default()
}

#[test]
fn a_teardown_runs_when_its_setup_succeeded_however_the_work_ended_and_decides_nothing() {
    for (work, state) in [(TryOutcome::Success, RunState::Success), (TryOutcome::Failed, RunState::Failed)] {
        let mut world = world(dag(
            "d",
            vec![
                setup("start", &[]),
                task("train", &["start"]),
                teardown("stop", &["start"], &["train", "start"]),
            ],
        ));
        let run = world.trigger("d");
        world.end(run, "start", TryOutcome::Success);
        world.end(run, "train", work);
        assert_eq!(world.state(run, "stop"), TaskState::Queued);
        world.restart();
        world.end(run, "stop", TryOutcome::Failed);
        assert_eq!(world.runs[&run].state, state, "{work:?}");
        assert_eq!(world.runs[&run].with_failures, state == RunState::Success);
    }
}

#[test]
fn a_teardown_that_may_fail_the_run_decides_beside_the_work() {
    let fatal = |id: &str| Task {
        role: Role::Teardown { setups: vec![task_id("start")], fails_run: true },
        ..teardown(id, &["start"], &["train", "start"])
    };
    for (work, clean, state) in [
        (TryOutcome::Success, TryOutcome::Failed, RunState::Failed),
        (TryOutcome::Success, TryOutcome::Success, RunState::Success),
        (TryOutcome::Failed, TryOutcome::Success, RunState::Failed),
    ] {
        let mut world = world(dag("d", vec![setup("start", &[]), task("train", &["start"]), fatal("stop")]));
        let run = world.trigger("d");
        world.end(run, "start", TryOutcome::Success);
        world.end(run, "train", work);
        world.end(run, "stop", clean);
        assert_eq!(world.runs[&run].state, state, "{work:?} {clean:?}");
    }
}

#[test]
fn what_a_failed_or_skipped_setup_was_to_prepare_does_not_run_whatever_its_trigger_rule() {
    for (outcome, state) in [(TryOutcome::Failed, "upstream_failed"), (TryOutcome::Skipped, "skipped")] {
        let mut world = world(cluster());
        let run = world.trigger("d");
        world.end(run, "start", outcome);
        let ended = if state == "skipped" { "success" } else { "failed" };
        let start = if state == "skipped" { "skipped" } else { "failed" };
        assert_eq!(
            world.line(run),
            format!("{ended} | start={start} train={state} report={state} stop={state}")
        );
        assert_eq!(why(&world, run, "report"), format!("its setup start is {start}"));
        assert_eq!(why(&world, run, "stop"), format!("its setup start is {start}"));
    }
}

#[test]
fn a_task_waits_for_a_setup_that_is_not_directly_upstream() {
    // `early` does not wait for `start`, so `late` is asked before `start` has ended.
    let early = Task { trigger_rule: TriggerRule::OneSuccess, ..task("early", &["start", "other"]) };
    let late = task("late", &["early"]);
    let stop = teardown("stop", &["start"], &["late", "start"]);
    let mut world = world(dag("d", vec![setup("start", &[]), task("other", &[]), early, late, stop]));
    let run = world.trigger("d");
    world.end(run, "other", TryOutcome::Success);
    world.end(run, "early", TryOutcome::Success);
    assert_eq!(world.state(run, "late"), TaskState::NoStatus);
    let reasons = world.engine.explain(&World::key(run, "late"), world.now);
    assert_eq!(reasons, [WaitReason::Setup { waiting_for: vec![task_id("start")] }]);
    world.restart();
    world.exchange("w", "b1", 8);
    world.end(run, "start", TryOutcome::Success);
    assert_eq!(world.state(run, "late"), TaskState::Queued);
}

#[test]
fn a_cancelled_run_still_cleans_up_and_only_then_is_cancelled() {
    let mut world = world(cluster());
    let run = world.trigger("d");
    world.end(run, "start", TryOutcome::Success);
    cancel(&mut world, run);
    assert_eq!(world.line(run), "running | start=success train=queued report=skipped stop=no_status");
    world.end(run, "train", TryOutcome::Stopped);
    assert_eq!(world.line(run), "running | start=success train=skipped report=skipped stop=queued");
    world.restart();
    world.end(run, "stop", TryOutcome::Success);
    assert_eq!(world.line(run), "cancelled | start=success train=skipped report=skipped stop=success");
}

#[test]
fn a_cancel_while_the_setup_runs_cleans_up_only_what_it_finished() {
    for (outcome, line) in [
        (TryOutcome::Stopped, "cancelled | start=skipped train=skipped report=skipped stop=skipped"),
        (TryOutcome::Success, "running | start=success train=skipped report=skipped stop=queued"),
    ] {
        let mut world = world(cluster());
        let run = world.trigger("d");
        cancel(&mut world, run);
        world.end(run, "start", outcome);
        assert_eq!(world.line(run), line);
    }
}

#[test]
fn a_teardown_is_tried_again_while_its_run_is_ending() {
    let stop = Task { retries: 1, ..teardown("stop", &["start"], &["train", "start"]) };
    let mut world = world(dag("d", vec![setup("start", &[]), task("train", &["start"]), stop]));
    let run = world.trigger("d");
    world.end(run, "start", TryOutcome::Success);
    cancel(&mut world, run);
    world.end(run, "train", TryOutcome::Stopped);
    world.end(run, "stop", TryOutcome::Failed);
    assert_eq!(world.state(run, "stop"), TaskState::UpForRetry);
    world.pass(301);
    world.exchange("w", "b1", 8);
    world.end(run, "stop", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Cancelled);
}

#[test]
fn a_teardown_that_hangs_in_a_cancelled_run_can_be_marked() {
    let mut world = world(cluster());
    let run = world.trigger("d");
    world.end(run, "start", TryOutcome::Success);
    cancel(&mut world, run);
    world.end(run, "train", TryOutcome::Stopped);
    world.mark(run, "stop", TaskState::Failed);
    world.end(run, "stop", TryOutcome::Stopped);
    assert_eq!(world.line(run), "cancelled | start=success train=skipped report=skipped stop=failed");
}

#[test]
fn a_timed_out_run_cleans_up_and_fails() {
    let mut world = world(Dag { run_timeout: Some(std::time::Duration::from_secs(60)), ..cluster() });
    let run = world.trigger("d");
    world.end(run, "start", TryOutcome::Success);
    world.pass(61);
    world.exchange("w", "b1", 8);
    world.end(run, "train", TryOutcome::Stopped);
    assert_eq!(world.state(run, "stop"), TaskState::Queued);
    world.end(run, "stop", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Failed);
}

#[test]
fn a_run_that_is_marked_still_cleans_up() {
    let mut world = world(cluster());
    let run = world.trigger("d");
    world.end(run, "start", TryOutcome::Success);
    let request = world.request();
    world.step(Event::MarkRun { request, run, state: RunState::Failed, is_dry_run: false, finished: None });
    world.end(run, "train", TryOutcome::Stopped);
    assert_eq!(world.state(run, "stop"), TaskState::Queued);
    world.end(run, "stop", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Failed);
}

#[test]
fn clearing_a_task_between_them_clears_both() {
    let mut world = world(cluster());
    let run = world.trigger("d");
    for task in ["start", "train", "report", "stop"] {
        world.end(run, task, TryOutcome::Success);
    }
    let only = |task: &str| ClearSelection { tasks: vec![task_id(task)], ..ClearSelection::default() };
    world.clear(run, only("train"));
    assert_eq!(world.line(run), "running | start=queued train=no_status report=success stop=no_status");
    for task in ["start", "train", "stop"] {
        world.end(run, task, TryOutcome::Success);
    }
    world.clear(run, only("stop"));
    assert_eq!(world.line(run), "running | start=success train=success report=success stop=queued");
    world.end(run, "stop", TryOutcome::Success);
    world.clear(run, only("start"));
    assert_eq!(world.line(run), "running | start=queued train=success report=success stop=no_status");
}

#[test]
fn a_cleared_setup_waits_until_what_used_it_is_dead() {
    let mut world = world(cluster());
    let run = world.trigger("d");
    world.end(run, "start", TryOutcome::Success);
    let train = ClearSelection { tasks: vec![task_id("train")], ..ClearSelection::default() };
    world.clear(run, train);
    assert_eq!(world.line(run), "running | start=no_status train=queued report=no_status stop=no_status");
    let reasons = world.engine.explain(&World::key(run, "start"), world.now);
    assert_eq!(reasons[0].code(), "upstream");
    world.end(run, "train", TryOutcome::Stopped);
    assert_eq!(world.line(run), "running | start=queued train=no_status report=no_status stop=no_status");
}

#[test]
fn a_clear_reaches_the_setups_around_a_setup() {
    let inner =
        [setup("net", &["start"]), task("train", &["net"]), teardown("unnet", &["net"], &["train", "net"])];
    let outer = teardown("stop", &["start"], &["net", "start"]);
    let tasks: Vec<Task> = [setup("start", &[])].into_iter().chain(inner).chain([outer]).collect();
    let mut world = world(dag("d", tasks));
    let run = world.trigger("d");
    for task in ["start", "net", "train", "unnet", "stop"] {
        world.end(run, task, TryOutcome::Success);
    }
    world.clear(run, ClearSelection { tasks: vec![task_id("train")], ..ClearSelection::default() });
    let line = "running | start=queued net=no_status train=no_status unnet=no_status stop=no_status";
    assert_eq!(world.line(run), line);
}

#[test]
fn a_run_that_is_ending_is_not_parked_by_what_cleans_up() {
    let stop = Task {
        on_retries_exhausted: crate::definition::RetriesExhausted::Pause,
        ..teardown("stop", &["start"], &["start"])
    };
    let mut world = world(dag("d", vec![setup("start", &[]), task("train", &["start"]), stop]));
    let run = world.trigger("d");
    world.end(run, "start", TryOutcome::Success);
    cancel(&mut world, run);
    world.end(run, "train", TryOutcome::Stopped);
    world.end(run, "stop", TryOutcome::Failed);
    assert_eq!(world.runs[&run].state, RunState::Cancelled);
}

#[test]
fn a_run_that_waits_for_a_person_because_of_its_teardown_ends_when_it_is_cancelled_marked_or_out_of_time() {
    for how in ["cancel", "mark", "time"] {
        let stop = Task {
            on_retries_exhausted: crate::definition::RetriesExhausted::Pause,
            ..teardown("stop", &["start"], &["start", "train"])
        };
        let tasks = vec![setup("start", &[]), task("train", &["start"]), stop];
        let mut world =
            world(Dag { run_timeout: Some(std::time::Duration::from_secs(60)), ..dag("d", tasks) });
        let run = world.trigger("d");
        world.end(run, "start", TryOutcome::Success);
        world.end(run, "train", TryOutcome::Success);
        world.end(run, "stop", TryOutcome::Failed);
        assert_eq!(world.line(run), "paused | start=success train=success stop=awaiting_input");
        let request = world.request();
        let state = RunState::Failed;
        match how {
            "cancel" => cancel(&mut world, run),
            "mark" => {
                drop(world.step(Event::MarkRun { request, run, state, is_dry_run: false, finished: None }));
            }
            _ => drop(world.pass(61)),
        }
        let ended = if how == "cancel" { RunState::Cancelled } else { RunState::Failed };
        assert_eq!(world.runs[&run].state, ended, "{how}: {}", world.line(run));
    }
}

#[test]
fn a_run_that_is_marked_failed_while_it_cleans_up_fails() {
    let role = Role::Teardown { setups: vec![task_id("start")], fails_run: true };
    let stop = Task { role, ..teardown("stop", &["start"], &["train", "start"]) };
    let mut world = world(dag("d", vec![setup("start", &[]), task("train", &["start"]), stop]));
    let run = world.trigger("d");
    world.end(run, "start", TryOutcome::Success);
    world.end(run, "train", TryOutcome::Success);
    let request = world.request();
    world.step(Event::MarkRun { request, run, state: RunState::Failed, is_dry_run: false, finished: None });
    world.end(run, "stop", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Failed);
}

#[test]
fn a_run_that_is_cancelled_while_it_waits_cleans_up_after_its_earlier_start() {
    let mut world = world(Dag { max_active_runs: 1, ..cluster() });
    let run = world.trigger("d");
    for (task, outcome) in [
        ("start", TryOutcome::Success),
        ("train", TryOutcome::Failed),
        ("report", TryOutcome::Success),
        ("stop", TryOutcome::Failed),
    ] {
        world.end(run, task, outcome);
    }
    let other = world.trigger("d");
    let stop = ClearSelection { tasks: vec![task_id("stop")], ..ClearSelection::default() };
    world.clear(run, stop);
    assert_eq!(world.runs[&run].state, RunState::Queued);
    cancel(&mut world, run);
    // It waits for its turn like any other run.
    assert_eq!(world.line(run), "queued | start=success train=failed report=success stop=no_status");
    world.restart();
    world.exchange("w", "b1", 8);
    cancel(&mut world, other);
    world.end(other, "start", TryOutcome::Stopped);
    world.end(run, "stop", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Cancelled);
}

#[test]
fn neither_a_branch_nor_a_short_circuit_skips_what_cleans_up() {
    let circuit = short_circuit("gate", &["start"], true);
    let stop = teardown("stop", &["start"], &["train", "start"]);
    let mut world = world(dag("d", vec![setup("start", &[]), circuit, task("train", &["gate"]), stop]));
    let run = world.trigger("d");
    world.end(run, "start", TryOutcome::Success);
    world.end_with(run, "gate", following(&[]));
    assert_eq!(world.line(run), "running | start=success gate=success train=skipped stop=queued");
}

#[test]
fn a_branch_may_follow_a_group_and_then_follows_its_roots() {
    let inside = |id: &str, up: &[&str]| Task { group: Some("load.daily".to_owned()), ..task(id, up) };
    let tasks = vec![
        branch("choose", &[]),
        inside("a", &["choose"]),
        inside("b", &["choose"]),
        inside("last", &["a", "b"]),
        task("no", &["choose"]),
    ];
    let mut world = world(dag("d", tasks));
    let run = world.trigger("d");
    world.end_with(run, "choose", following(&["group:load"]));
    assert_eq!(world.line(run), "running | choose=success a=queued b=queued last=no_status no=skipped");
    let run = world.trigger("d");
    world.end_with(run, "choose", following(&["group:lo"]));
    assert_eq!(world.runs[&run].state, RunState::Failed);
    assert!(why(&world, run, "choose").contains("SCH0111"), "{}", why(&world, run, "choose"));
}
