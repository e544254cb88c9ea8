//! `depends_on_past` and `wait_for_downstream`.

use crate::{
    definition::{Dag, Schedule, Task},
    engine::tests::world::{World, dag, mapped, noop, setup, task, task_id, teardown},
    event::{ClearSelection, Event},
    ids::RunKey,
    state::{RunState, TaskState, TryOutcome, WeightRule},
};

const MINUTE: u64 = 60;

fn past(id: &str, depends_on: &[&str]) -> Task {
    Task { depends_on_past: true, ..task(id, depends_on) }
}

fn every_minute(tasks: Vec<Task>) -> Dag {
    Dag { schedule: Schedule::Every(std::time::Duration::from_secs(MINUTE)), ..dag("d", tasks) }
}

/// Lets minutes pass with a worker that is heard of, and returns all runs.
fn minutes(world: &mut World, count: u32) -> Vec<RunKey> {
    for _ in 0..count * 3 {
        world.pass(20);
        world.hear("w", "b1");
    }
    world.runs.keys().copied().collect()
}

fn world(dag: Dag) -> World {
    let mut world = World::new();
    world.load(dag);
    world.exchange("w", "b1", 8);
    world
}

fn reason(world: &World, run: RunKey, task: &str) -> String {
    let reasons = world.engine.explain(&World::key(run, task), world.now);
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_task_waits_for_itself_in_the_run_before_and_says_so() {
    let mut world = world(every_minute(vec![past("load", &[]), task("report", &["load"])]));
    let runs = minutes(&mut world, 2);
    let [first, second] = [runs[0], runs[1]];
    assert_eq!(world.line(first), "running | load=queued report=no_status", "there is no run before");
    assert_eq!(world.line(second), "running | load=no_status report=no_status");
    let before = world.runs[&first].run_id.clone();
    assert_eq!(
        reason(&world, second, "load"),
        format!("waits for the run before it, {before}: load is queued")
    );
    world.end(first, "load", TryOutcome::Failed);
    assert_eq!(world.runs[&first].state, RunState::Failed);
    assert_eq!(
        reason(&world, second, "load"),
        format!("waits for the run before it, {before}: load is failed")
    );
    // It waits for a person, and is not called deadlocked meanwhile.
    world.restart();
    world.exchange("w", "b1", 8);
    assert_eq!(world.line(second), "running | load=no_status report=no_status");
    world.mark(first, "load", TaskState::Success);
    assert_eq!(world.state(second, "load"), TaskState::Queued);
}

#[test]
fn a_skip_lets_the_next_run_pass_and_a_clear_of_the_run_before_holds_it_again() {
    let mut world = world(every_minute(vec![past("load", &[])]));
    let runs = minutes(&mut world, 3);
    world.end(runs[0], "load", TryOutcome::Skipped);
    assert_eq!(world.state(runs[1], "load"), TaskState::Queued);
    assert_eq!(world.state(runs[2], "load"), TaskState::NoStatus);
    world.end(runs[1], "load", TryOutcome::Failed);
    world.clear(runs[1], ClearSelection::default());
    world.restart();
    world.exchange("w", "b1", 8);
    assert_eq!(world.state(runs[1], "load"), TaskState::Queued);
    assert_eq!(world.state(runs[2], "load"), TaskState::NoStatus);
    world.end(runs[1], "load", TryOutcome::Success);
    assert_eq!(world.state(runs[2], "load"), TaskState::Queued);
}

#[test]
fn wait_for_downstream_waits_for_what_is_directly_below_too() {
    let waiting = Task { wait_for_downstream: true, ..task("load", &[]) };
    let mut world = world(every_minute(vec![waiting, task("use", &["load"]), task("deep", &["use"])]));
    let runs = minutes(&mut world, 2);
    world.end(runs[0], "load", TryOutcome::Success);
    assert_eq!(world.state(runs[1], "load"), TaskState::NoStatus);
    assert!(reason(&world, runs[1], "load").ends_with("use is queued"));
    world.end(runs[0], "use", TryOutcome::Success);
    assert_eq!(world.state(runs[0], "deep"), TaskState::Queued, "what is deeper is not waited for");
    assert_eq!(world.state(runs[1], "load"), TaskState::Queued);
}

/// What is directly below is asked of the version of the run before, while that runs and when it has ended.
#[test]
fn wait_for_downstream_goes_by_the_version_of_the_run_before() {
    for has_ended in [false, true] {
        let waiting = || Task { wait_for_downstream: true, ..task("load", &[]) };
        let mut world = world(every_minute(vec![waiting(), task("use", &["load"]), task("other", &[])]));
        let first = minutes(&mut world, 1)[0];
        world.load(every_minute(vec![waiting(), task("use", &[]), task("other", &["load"])]));
        let second = minutes(&mut world, 1)[1];
        world.end(first, "load", TryOutcome::Success);
        assert!(
            reason(&world, second, "load").ends_with("use is queued"),
            "{}",
            reason(&world, second, "load")
        );
        if has_ended {
            world.end(first, "other", TryOutcome::Success);
            world.end(first, "use", TryOutcome::Failed);
            assert_eq!(world.runs[&first].state, RunState::Failed);
            assert!(reason(&world, second, "load").ends_with("use is failed"));
            world.mark(first, "use", TaskState::Success);
        } else {
            world.end(first, "use", TryOutcome::Success);
            assert_eq!(
                world.state(first, "other"),
                TaskState::Queued,
                "what is not below it is not waited for"
            );
        }
        assert_eq!(world.state(second, "load"), TaskState::Queued);
    }
}

#[test]
fn a_manual_run_looks_back_and_nobody_looks_back_at_it() {
    let mut world = world(every_minute(vec![past("load", &[])]));
    let first = minutes(&mut world, 1)[0];
    let manual = world.trigger("d");
    assert_eq!(world.state(manual, "load"), TaskState::NoStatus);
    let all = minutes(&mut world, 1);
    let second = *all.iter().find(|run| **run != first && **run != manual).unwrap();
    world.end(first, "load", TryOutcome::Success);
    assert_eq!(world.state(manual, "load"), TaskState::Queued);
    assert_eq!(world.state(second, "load"), TaskState::Queued);
}

#[test]
fn a_task_that_the_run_before_did_not_have_waits_for_nothing() {
    let mut world = world(every_minute(vec![task("other", &[])]));
    let first = minutes(&mut world, 1)[0];
    world.load(every_minute(vec![task("other", &[]), past("load", &[])]));
    let second = minutes(&mut world, 1)[1];
    assert_eq!(world.runs[&first].state, RunState::Running);
    assert_eq!(world.state(second, "load"), TaskState::Queued);
}

#[test]
fn an_instance_of_the_engine_waits_as_well() {
    let gate = Task { depends_on_past: true, ..noop("gate", &["load"]) };
    let mut world = world(every_minute(vec![task("load", &[]), gate]));
    let runs = minutes(&mut world, 2);
    world.end(runs[1], "load", TryOutcome::Success);
    assert_eq!(world.line(runs[1]), "running | load=success gate=no_status");
    world.end(runs[0], "load", TryOutcome::Success);
    assert_eq!(world.line(runs[0]), "success | load=success gate=success");
    assert_eq!(world.line(runs[1]), "success | load=success gate=success");
}

#[test]
fn a_run_that_waits_makes_room_for_the_cleared_one_before_it_and_stands_still_until_that_has_ended() {
    let tasks = vec![past("load", &[]), task("report", &["load"])];
    let mut world = world(Dag { max_active_runs: 1, ..every_minute(tasks) });
    let runs = minutes(&mut world, 2);
    let [first, second] = [runs[0], runs[1]];
    world.end(first, "load", TryOutcome::Failed);
    assert_eq!(world.line(second), "running | load=no_status report=no_status");
    world.clear(first, ClearSelection::default());
    assert_eq!(world.line(first), "running | load=queued report=no_status");
    world.end(first, "load", TryOutcome::Success);
    assert_eq!(world.line(second), "running | load=no_status report=no_status");
    assert_eq!(reason(&world, second, "load"), "its run waits: 2 of max_active_runs = 1 runs are active");
    world.restart();
    world.exchange("w", "b1", 8);
    world.end(first, "report", TryOutcome::Success);
    assert_eq!(world.line(second), "running | load=queued report=no_status");
}

#[test]
fn room_is_made_for_the_run_that_is_waited_for_whoever_stands_before_it() {
    let mut world = world(Dag { max_active_runs: 1, ..every_minute(vec![past("load", &[])]) });
    let first = minutes(&mut world, 1)[0];
    world.end(first, "load", TryOutcome::Success);
    let second = minutes(&mut world, 1)[1];
    world.end(second, "load", TryOutcome::Failed);
    let third = minutes(&mut world, 1)[2];
    assert_eq!(world.line(third), "running | load=no_status");
    // The first one waits for a place too, and nobody waits for it until the second one does.
    world.clear(first, ClearSelection::default());
    assert_eq!(world.line(first), "queued | load=no_status");
    world.clear(second, ClearSelection::default());
    assert_eq!(world.line(first), "running | load=queued");
    for run in [first, second, third] {
        world.end(run, "load", TryOutcome::Success);
        assert_eq!(world.runs[&run].state, RunState::Success, "{}", world.line(run));
    }
}

#[test]
fn a_lowered_limit_ends_no_run_as_deadlocked() {
    let limited =
        |max_active_runs| Dag { max_active_runs, ..every_minute(vec![past("a", &[]), task("z", &[])]) };
    let mut world = world(limited(3));
    let runs = minutes(&mut world, 3);
    world.end(runs[0], "a", TryOutcome::Success);
    world.load(limited(2));
    world.end(runs[1], "a", TryOutcome::Success);
    // Three runs are active, one more than the limit now says, so the third one waits for the second.
    assert_eq!(world.state(runs[2], "a"), TaskState::NoStatus);
    world.end(runs[0], "z", TryOutcome::Success);
    assert_eq!(world.line(runs[2]), "running | a=queued z=queued");
    for (run, task) in [(runs[1], "z"), (runs[2], "z"), (runs[2], "a")] {
        world.end(run, task, TryOutcome::Success);
    }
    assert!(runs.iter().all(|run| world.runs[run].state == RunState::Success));
}

#[test]
fn what_is_below_a_task_in_the_version_of_the_run_before_tells_it() {
    let waiting = Task { wait_for_downstream: true, ..task("a", &[]) };
    let mut world = world(every_minute(vec![task("a", &[]), task("c", &["a"]), task("x", &[])]));
    let first = minutes(&mut world, 1)[0];
    world.load(every_minute(vec![waiting, task("c", &[]), task("x", &["a"])]));
    let second = minutes(&mut world, 1)[1];
    world.end(first, "a", TryOutcome::Success);
    assert!(reason(&world, second, "a").ends_with("c is queued"), "{}", reason(&world, second, "a"));
    world.end(first, "c", TryOutcome::Success);
    // `x` is below it now, but was not then.
    assert_eq!(world.state(second, "a"), TaskState::Queued);
}

#[test]
fn a_teardown_never_waits_for_the_run_before() {
    let stop = Task { depends_on_past: true, ..teardown("stop", &["start"], &["start"]) };
    let mut world = world(every_minute(vec![setup("start", &[]), stop]));
    let runs = minutes(&mut world, 2);
    for run in [runs[0], runs[1]] {
        world.end(run, "start", TryOutcome::Success);
        world.end(run, "stop", TryOutcome::Failed);
        assert_eq!(world.runs[&run].state, RunState::Success);
    }
}

#[test]
fn a_run_that_nobody_waits_for_gets_no_room() {
    let mut world = world(Dag { max_active_runs: 1, ..every_minute(vec![past("load", &[])]) });
    let runs = minutes(&mut world, 2);
    world.end(runs[0], "load", TryOutcome::Failed);
    assert_eq!(world.line(runs[1]), "running | load=no_status");
    world.now.wall -= chrono::TimeDelta::seconds(45);
    let manual = world.trigger("d");
    assert!(world.runs[&manual].logical_date < world.runs[&runs[1]].logical_date);
    assert_eq!(world.line(manual), "queued | load=no_status");
}

#[test]
fn a_run_that_waits_for_the_one_before_can_be_cancelled() {
    let mut world = world(every_minute(vec![past("load", &[])]));
    let runs = minutes(&mut world, 3);
    let request = world.request();
    world.step(Event::Cancel { request, run: runs[1], is_dry_run: false, ended: None });
    assert_eq!(world.line(runs[1]), "cancelled | load=skipped");
    // A skip passes: the third waits for the second, not for the first.
    assert_eq!(world.state(runs[2], "load"), TaskState::Queued);
    assert_eq!(world.state(runs[0], "load"), TaskState::Queued);
}

#[test]
fn a_clear_of_the_run_before_takes_back_what_waits_for_a_slot() {
    // The report of the first run goes before the load of the second, and there is one slot.
    let load = Task { weight_rule: WeightRule::Absolute, ..past("load", &[]) };
    let report = Task { priority_weight: 10, ..task("report", &["load"]) };
    let mut world = world(Dag { max_active_tasks: 1, ..every_minute(vec![load, report]) });
    let runs = minutes(&mut world, 2);
    let [first, second] = [runs[0], runs[1]];
    world.end(first, "load", TryOutcome::Success);
    assert_eq!(world.line(second), "running | load=scheduled report=no_status");
    world.clear(first, ClearSelection { tasks: vec![task_id("load")], ..ClearSelection::default() });
    assert_eq!(world.line(second), "running | load=no_status report=no_status");
    world.restart();
    world.exchange("w", "b1", 8);
    world.end(first, "report", TryOutcome::Success);
    world.end(first, "load", TryOutcome::Success);
    assert_eq!(world.state(second, "load"), TaskState::Queued);
}

#[test]
fn a_run_before_that_retention_deleted_is_waited_for_no_more() {
    let mut world = world(every_minute(vec![past("load", &[])]));
    let runs = minutes(&mut world, 2);
    let [first, second] = [runs[0], runs[1]];
    world.end(first, "load", TryOutcome::Failed);
    assert_eq!(world.state(second, "load"), TaskState::NoStatus);
    world.runs.remove(&first);
    world.tasks.retain(|key, _| key.run != first);
    world.tries.retain(|attempt, _| attempt.instance.run != first);
    world.step(Event::RunsDeleted { runs: vec![first] });
    assert_eq!(world.state(second, "load"), TaskState::Queued);
}

/// What the process of a cleared task leaves behind is a task that waits for the run before, which waits for its place.
#[test]
fn a_cleared_process_that_ends_makes_room_for_the_run_before() {
    let mut world = world(Dag { max_active_runs: 1, ..every_minute(vec![past("load", &[])]) });
    let first = minutes(&mut world, 1)[0];
    world.end(first, "load", TryOutcome::Success);
    let second = minutes(&mut world, 1)[1];
    assert_eq!(world.line(second), "running | load=queued");
    world.clear(first, ClearSelection::default());
    assert_eq!(world.line(first), "queued | load=no_status");
    world.clear(second, ClearSelection::default());
    world.end(second, "load", TryOutcome::Stopped);
    assert_eq!(world.line(first), "running | load=queued");
    world.end(first, "load", TryOutcome::Success);
    assert_eq!(world.line(second), "running | load=queued");
}

#[test]
fn a_list_whose_task_was_taken_back_is_made_anew() {
    let files = mapped(past("load", &[]));
    let mut world = world(Dag { max_active_tasks: 1, ..every_minute(vec![files, task("other", &[])]) });
    let runs = minutes(&mut world, 2);
    let [first, second] = [runs[0], runs[1]];
    for element in ["load[0]", "load[1]", "other"] {
        while world.state(first, element) != TaskState::Success {
            let (worker, attempt) = world.assigned.first().cloned().unwrap();
            world.finish(worker, attempt, crate::engine::tests::world::result(TryOutcome::Success));
        }
    }
    while world.state(second, "other") != TaskState::Queued {
        let (worker, attempt) = world.assigned.first().cloned().unwrap();
        world.finish(worker, attempt, crate::engine::tests::world::result(TryOutcome::HandedBack));
    }
    assert_eq!(world.line(second), "running | load=[scheduled scheduled] other=queued");
    world.clear(first, ClearSelection { tasks: vec![task_id("load")], ..ClearSelection::default() });
    assert_eq!(world.line(second), "running | load=no_status other=queued", "its list is asked for again");
}
