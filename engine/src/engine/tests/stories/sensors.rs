//! Sensors: they look, let go of their slot, and look again.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    action::Action,
    definition::{Dag, RetriesExhausted, Task},
    engine::tests::world::{World, at, dag, poking, result, sensor, task, task_id},
    event::{AttemptResult, ClearSelection, Event},
    ids::RunKey,
    state::{RunState, TaskState, TryOutcome},
    wait_reason::WaitReason,
};

fn not_yet() -> AttemptResult {
    AttemptResult { reason: Some("f is not there yet".to_owned()), ..result(TryOutcome::Rescheduled) }
}

/// `s` waits for a file, `next` needs it.
fn waiting(task_of_dag: Task) -> (World, RunKey) {
    let mut world = World::new();
    world.load(dag("d", vec![task_of_dag, task("next", &["s"])]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    (world, run)
}

/// Lets time pass while the worker is heard of.
fn pass(world: &mut World, seconds: i64) {
    let mut left = seconds;
    while left > 0 {
        world.hear("w", "b1");
        world.pass(left.min(20));
        left -= 20;
    }
}

fn tries(world: &World) -> Vec<(u32, u32, Option<TryOutcome>)> {
    let rows = world.tries.values().filter(|row| row.attempt.instance.task == task_id("s"));
    rows.map(|row| (row.attempt.try_number, row.attempt.epoch, row.outcome)).collect()
}

fn reason(world: &World, run: RunKey) -> String {
    world.tasks[&World::key(run, "s")].reason.clone().unwrap_or_default()
}

#[test]
fn a_sensor_lets_go_of_its_slot_and_keeps_its_try() {
    let (mut world, run) = waiting(sensor("s", &[]));
    world.end_with(run, "s", not_yet());
    assert_eq!(world.line(run), "running | s=up_for_reschedule next=no_status");
    assert_eq!(tries(&world), [(1, 1, None)], "the try goes on");
    // The only slot is free meanwhile.
    let mut other = dag("other", vec![task("t", &[])]);
    other.max_active_tasks = 1;
    world.load(other);
    let busy = world.trigger("other");
    assert_eq!(world.state(busy, "t"), TaskState::Queued);
    let why = world.engine.explain(&World::key(run, "s"), world.now);
    assert_eq!(
        why[0].to_string(),
        "f is not there yet; next poke at 2026-11-01T00:00:40Z (poked 1 times since 2026-11-01T00:00:30Z, gives \
         up at 2026-11-01T00:01:30Z)"
    );
    pass(&mut world, 10);
    assert_eq!(world.state(run, "s"), TaskState::Scheduled, "its time has come, and the worker is busy");
    let why = world.engine.explain(&World::key(run, "s"), world.now);
    assert!(matches!(why[0], WaitReason::WorkersFull { .. }), "{why:?}");
    world.end(busy, "t", TryOutcome::Success);
    assert_eq!(world.live(run, "s").1.epoch, 2);
    assert_eq!(tries(&world), [(1, 2, None)]);
    world.end(run, "s", TryOutcome::Success);
    assert_eq!(tries(&world), [(1, 2, Some(TryOutcome::Success))], "one try, however often it looked");
    assert_eq!(world.line(run), "running | s=success next=queued");
}

#[test]
fn the_wait_grows_up_to_its_cap() {
    let slow = poking(sensor("s", &[]), |poke| {
        poke.backoff = 2.0;
        poke.max_interval = Duration::from_secs(25);
    });
    let (mut world, run) = waiting(Task { timeout: Some(Duration::from_secs(600)), ..slow });
    for expected in [10, 20, 25, 25] {
        world.end_with(run, "s", not_yet());
        pass(&mut world, expected - 1);
        assert_eq!(world.state(run, "s"), TaskState::UpForReschedule, "{expected}");
        pass(&mut world, 1);
        assert_eq!(world.state(run, "s"), TaskState::Queued, "{expected}");
    }
}

#[test]
fn the_timeout_is_total_and_nothing_follows_it() {
    for (is_soft, end) in [(false, TaskState::Failed), (true, TaskState::Skipped)] {
        let patient = poking(sensor("s", &[]), |poke| poke.soft_fail = is_soft);
        let (mut world, run) = waiting(Task { retries: 3, ..patient });
        for _ in 0..5 {
            world.end_with(run, "s", not_yet());
            pass(&mut world, 10);
        }
        world.end_with(run, "s", not_yet());
        assert_eq!(world.state(run, "s"), TaskState::UpForReschedule);
        pass(&mut world, 10);
        assert_eq!(world.state(run, "s"), end, "60 s after the first poke, and it has three retries");
        assert_eq!(
            reason(&world, run),
            "SCH0261: the sensor's timeout of 1m is over: it has looked 6 times in vain; last: f is not there yet"
        );
        assert_eq!(tries(&world), [(1, 6, Some(TryOutcome::TimedOut))]);
    }
}

#[test]
fn a_poke_that_is_under_way_when_the_time_is_over_may_still_find_something() {
    let (mut world, run) = waiting(sensor("s", &[]));
    world.end_with(run, "s", not_yet());
    pass(&mut world, 10);
    pass(&mut world, 100);
    assert_eq!(world.state(run, "s"), TaskState::Queued, "it is asked what it sees");
    let mut late = world.engine.clone();
    world.end(run, "s", TryOutcome::Success);
    assert_eq!(world.state(run, "s"), TaskState::Success);
    let attempt = world.tries.keys().find(|attempt| attempt.instance.task == task_id("s")).unwrap().clone();
    let event = Event::AttemptFinished {
        request: None,
        attempt,
        worker: crate::engine::tests::world::worker_id("w"),
        result: not_yet(),
        stored: None,
    };
    let ended = late
        .step(event, world.now)
        .into_iter()
        .any(|action| matches!(action, Action::Task(change) if change.row.state == TaskState::Failed));
    assert!(ended, "and one that saw nothing was the last one");
}

#[test]
fn a_restart_neither_lengthens_the_wait_nor_forgets_it() {
    let (mut world, run) = waiting(sensor("s", &[]));
    world.end_with(run, "s", not_yet());
    pass(&mut world, 4);
    world.restart();
    world.exchange("w", "b1", 1);
    pass(&mut world, 5);
    assert_eq!(world.state(run, "s"), TaskState::UpForReschedule);
    pass(&mut world, 1);
    assert_eq!(world.state(run, "s"), TaskState::Queued);
    world.end_with(run, "s", not_yet());
    // The server is down for the rest of the time.
    world.now.wall += chrono::TimeDelta::seconds(50);
    world.restart();
    world.tick();
    assert_eq!(world.state(run, "s"), TaskState::Failed);
    // A wall clock that is set back while the server is down does not make it wait for longer than the whole.
    let (mut world, run) = waiting(sensor("s", &[]));
    world.end_with(run, "s", not_yet());
    world.now.wall = at("2026-10-01T00:00:00Z");
    world.restart();
    world.exchange("w", "b1", 1);
    pass(&mut world, 10);
    assert_eq!(world.state(run, "s"), TaskState::Queued);
    world.end_with(run, "s", not_yet());
    for _ in 0..5 {
        pass(&mut world, 10);
        if world.state(run, "s") == TaskState::Queued {
            world.end_with(run, "s", not_yet());
        }
    }
    assert_eq!(world.state(run, "s"), TaskState::Failed);
}

#[test]
fn a_poke_that_fails_is_retried_and_one_that_is_lost_is_poked_again() {
    let (mut world, run) =
        waiting(Task { retries: 1, retry_delay: Duration::from_secs(5), ..sensor("s", &[]) });
    world.end_with(run, "s", not_yet());
    pass(&mut world, 10);
    world.end(run, "s", TryOutcome::Lost);
    assert_eq!(
        tries(&world),
        [(1, 2, Some(TryOutcome::Lost)), (2, 3, None)],
        "a loss is poked again at once"
    );
    world.end(run, "s", TryOutcome::Failed);
    assert_eq!(world.state(run, "s"), TaskState::UpForRetry);
    pass(&mut world, 5);
    assert_eq!(tries(&world).last(), Some(&(3, 4, None)));
    world.end(run, "s", TryOutcome::Failed);
    assert_eq!(world.state(run, "s"), TaskState::Failed, "no try is left");
    let soft = poking(sensor("s", &[]), |poke| poke.soft_fail = true);
    let (mut world, run) = waiting(soft);
    world.end(run, "s", TryOutcome::TimedOut);
    assert_eq!(world.state(run, "s"), TaskState::Skipped, "soft_fail skips what would fail");
}

#[test]
fn what_people_do_to_a_waiting_sensor_ends_its_try() {
    let wait = || {
        let (mut world, run) = waiting(sensor("s", &[]));
        world.end_with(run, "s", not_yet());
        (world, run)
    };
    let (mut world, run) = wait();
    world.mark(run, "s", TaskState::Success);
    assert_eq!(world.line(run), "running | s=success next=queued");
    assert_eq!(tries(&world), [(1, 1, Some(TryOutcome::Stopped))]);
    let (mut world, run) = wait();
    let request = world.request();
    world.step(Event::Cancel { request, run, is_dry_run: false, ended: None });
    assert_eq!(world.line(run), "cancelled | s=skipped next=skipped");
    assert_eq!(tries(&world), [(1, 1, Some(TryOutcome::Stopped))]);
    let (mut world, run) = wait();
    pass(&mut world, 30);
    world.end_with(run, "s", not_yet());
    world.clear(run, ClearSelection { tasks: vec![task_id("s")], ..ClearSelection::default() });
    assert_eq!(tries(&world), [(1, 2, Some(TryOutcome::Stopped)), (2, 3, None)], "a clear begins anew");
    for _ in 0..5 {
        world.end_with(run, "s", not_yet());
        pass(&mut world, 10);
    }
    assert_eq!(world.state(run, "s"), TaskState::Queued, "and so does its time");
    // A poke that is stopped by a clear and says that it saw nothing.
    let (mut world, run) = waiting(sensor("s", &[]));
    world.clear(run, ClearSelection { tasks: vec![task_id("s")], ..ClearSelection::default() });
    world.end_with(run, "s", not_yet());
    assert_eq!(tries(&world), [(1, 1, Some(TryOutcome::Stopped)), (2, 2, None)]);
}

#[test]
fn a_sensor_of_a_run_that_is_parked_or_times_out_does_not_hold_it() {
    let fails = Task { on_retries_exhausted: RetriesExhausted::Pause, ..task("t", &[]) };
    let mut world = World::new();
    world.load(dag("d", vec![sensor("s", &[]), fails]));
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    world.end_with(run, "s", not_yet());
    world.end(run, "t", TryOutcome::Failed);
    assert_eq!(world.line(run), "paused | s=up_for_reschedule t=awaiting_input");
    pass(&mut world, 10);
    assert_eq!(
        world.line(run),
        "paused | s=scheduled t=awaiting_input",
        "it looks when the person has decided"
    );
    world.restart();
    world.exchange("w", "b1", 2);
    world.mark(run, "t", TaskState::Success);
    assert_eq!(world.line(run), "running | s=queued t=success");
    assert_eq!(tries(&world), [(1, 2, None)]);
    let timed = Dag { run_timeout: Some(Duration::from_secs(15)), ..dag("timed", vec![sensor("s", &[])]) };
    world.load(timed);
    let run = world.trigger("timed");
    world.end_with(run, "s", not_yet());
    pass(&mut world, 9);
    pass(&mut world, 6);
    if world.state(run, "s") == TaskState::Queued {
        world.end_with(run, "s", not_yet());
    }
    assert_eq!(world.runs[&run].state, RunState::Failed);
}

#[test]
fn who_is_no_sensor_cannot_wait_like_one() {
    let (mut world, run) = waiting(Task { retries: 2, ..task("s", &[]) });
    world.end_with(run, "s", not_yet());
    assert_eq!(world.line(run), "failed | s=failed next=upstream_failed");
    assert!(reason(&world, run).starts_with("SCH0260"), "{}", reason(&world, run));
}

/// 1 000 sensors wait in 1 000 runs of a DAG that may run one task at a time, with one worker of one slot.
#[test]
fn a_thousand_waiting_sensors_hold_no_slot_and_only_what_is_due_costs() {
    let mut world = World::new();
    let patient = poking(sensor("s", &[]), |poke| poke.interval = Duration::from_secs(1000));
    let patient = Task { timeout: Some(Duration::from_secs(100_000)), ..patient };
    let many = Dag { max_active_runs: 1000, max_active_tasks: 1, ..dag("many", vec![patient]) };
    world.load(many);
    world.load(dag("other", vec![task("t", &[])]));
    world.exchange("w", "b1", 1);
    // The world checks everything after each step, which is not what is counted here.
    let (mut engine, mut now) = (world.engine.clone(), world.now);
    let worker = crate::engine::tests::world::worker_id("w");
    let mut waiting = BTreeSet::new();
    let trigger = |dag: &str, number: usize| Event::RunRequested {
        request: crate::event::RequestId(number as u64),
        dag_id: crate::engine::tests::world::dag_id(dag),
        run_id: None,
        logical_date: None,
        conf: std::sync::Arc::default(),
        triggered_by: None,
        suffix: format!("{number:06}"),
        is_run_id_taken: false,
    };
    let assigned = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Assign(assign) => Some(assign.attempt.clone()),
            _ => None,
        })
    };
    for number in 0..1000 {
        let actions = engine.step(trigger("many", number), now);
        let attempt = assigned(&actions).expect("the slot is free again");
        let (request, stored) = (None, None);
        let worker = worker.clone();
        engine.step(
            Event::AttemptFinished { request, attempt: attempt.clone(), worker, result: not_yet(), stored },
            now,
        );
        waiting.insert(attempt.instance);
        now.mono += Duration::from_millis(10);
        now.wall += chrono::TimeDelta::milliseconds(10);
    }
    assert_eq!(waiting.len(), 1000);
    let attempt = assigned(&engine.step(trigger("other", 2000), now)).expect("nothing holds the slot");
    let result = result(TryOutcome::Success);
    let finished =
        Event::AttemptFinished { request: None, attempt, worker: worker.clone(), result, stored: None };
    engine.step(finished, now);
    // Nothing is due: a tick does nothing. One is due: one moves.
    assert_eq!(engine.step(Event::Tick { taken: Vec::new() }, now), []);
    now = world.now;
    now.mono += Duration::from_secs(1000);
    now.wall += chrono::TimeDelta::seconds(1000);
    let boot_id = "b1".to_owned();
    assert_eq!(engine.step(Event::Heartbeat { worker, boot_id, attempts: Vec::new() }, now), []);
    let moved = engine.step(Event::Tick { taken: Vec::new() }, now);
    let tasks = moved.iter().filter(|action| matches!(action, Action::Task(_))).count();
    println!("{{\"waiting_sensors\": {}, \"slots\": 1, \"moved_by_the_tick\": {tasks}}}", waiting.len());
    assert_eq!(tasks, 2, "one instance: scheduled and queued");
}
