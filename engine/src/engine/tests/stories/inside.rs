//! What waits in the engine: no worker, no slot.

use chrono::TimeDelta;

use crate::{
    definition::{Dag, Task},
    engine::tests::world::{World, at, dag, delay_sensor, task, time_sensor},
    event::{ClearSelection, Event},
    ids::RunKey,
    state::{RunState, TaskState},
};

/// `s` waits in the engine, `next` needs it; the run is triggered at 00:00:30.
fn waiting(waits: Task, until: &str) -> (World, RunKey) {
    let mut world = World::new();
    world.until = until.to_owned();
    world.load(dag("d", vec![waits, task("next", &["s"])]));
    let run = world.trigger("d");
    (world, run)
}

fn why(world: &World, run: RunKey) -> String {
    let reasons = world.engine.explain(&World::key(run, "s"), world.now);
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_time_sensor_waits_without_a_worker_until_its_instant() {
    let (mut world, run) = waiting(time_sensor("s", &[], false), "2026-11-01T00:01:00Z");
    assert_eq!(world.line(run), "running | s=up_for_reschedule next=no_status");
    assert_eq!(why(&world, run), "waits until 2026-11-01T00:01:00Z (in 30s)");
    assert_eq!(world.engine.wake_at().unwrap().wall, at("2026-11-01T00:01:00Z"));
    world.pass(29);
    assert_eq!(why(&world, run), "waits until 2026-11-01T00:01:00Z (in 1s)");
    world.pass(1);
    assert_eq!(world.line(run), "running | s=success next=scheduled");
    assert_eq!(world.tries.len(), 0, "it needs no worker");
}

#[test]
fn what_is_over_already_is_not_waited_for() {
    let (world, run) = waiting(time_sensor("s", &[], false), "2026-11-01T00:00:30Z");
    assert_eq!(world.line(run), "running | s=success next=scheduled");
    let (world, run) = waiting(delay_sensor("s", &[], 0), "");
    assert_eq!(world.line(run), "running | s=success next=scheduled");
}

#[test]
fn a_time_of_day_is_that_of_the_zone_and_the_day_of_the_run() {
    let mut berlin: Dag = dag("d", vec![time_sensor("s", &[], false)]);
    berlin.timezone = chrono_tz::Europe::Berlin;
    let mut world = World::new();
    world.until = "02:30".to_owned();
    world.load(berlin);
    let run = world.trigger("d");
    // The world begins at 01:00:30 in Berlin.
    assert_eq!(
        why(&world, run),
        "waits until 2026-11-01T01:30:00Z (in 1h29m30s); gives up before that, at 2026-11-01T00:01:30Z"
    );
}

#[test]
fn the_instant_survives_a_restart_whatever_the_template_gives_then() {
    let (mut world, run) = waiting(time_sensor("s", &[], false), "2026-11-01T00:01:00Z");
    world.until = "2027-01-01".to_owned();
    world.restart();
    assert_eq!(why(&world, run), "waits until 2026-11-01T00:01:00Z (in 30s)");
    world.pass(30);
    assert_eq!(world.state(run, "s"), TaskState::Success);
}

#[test]
fn it_goes_by_the_wall_clock_and_its_timeout_does_not() {
    // A clock that jumps forward has passed the instant.
    let (mut world, run) = waiting(time_sensor("s", &[], false), "2026-11-01T12:00:00Z");
    world.now.wall += TimeDelta::hours(13);
    world.tick();
    assert_eq!(world.state(run, "s"), TaskState::Success);
    // One that is set back is waited for, until the timeout of a minute is over.
    let (mut world, run) = waiting(time_sensor("s", &[], false), "2026-11-01T00:01:00Z");
    world.now.wall -= TimeDelta::hours(1);
    world.tick();
    world.pass(59);
    assert_eq!(world.state(run, "s"), TaskState::UpForReschedule);
    world.pass(1);
    assert_eq!(world.line(run), "failed | s=failed next=upstream_failed");
    let reason = world.tasks[&World::key(run, "s")].reason.clone().unwrap();
    assert_eq!(reason, "SCH0261: its timeout of 1m is over");
}

#[test]
fn one_that_fails_softly_is_skipped_when_its_time_is_over() {
    let (mut world, run) = waiting(time_sensor("s", &[], true), "2026-11-02");
    world.restart();
    world.pass(60);
    assert_eq!(world.line(run), "success | s=skipped next=skipped");
}

#[test]
fn a_template_that_gives_no_instant_fails_by_name() {
    let (world, run) = waiting(time_sensor("s", &[], false), "soon");
    assert_eq!(world.state(run, "s"), TaskState::Failed);
    let reason = world.tasks[&World::key(run, "s")].reason.clone().unwrap();
    assert_eq!(reason, "SCH0270: `until` gives \"soon\", which is neither a time of day nor a date");
}

#[test]
fn people_clear_mark_and_cancel_what_waits() {
    let until = "2026-11-01T00:01:00Z";
    // A clear asks again.
    let (mut world, run) = waiting(time_sensor("s", &[], false), until);
    world.until = "2026-11-01T00:00:50Z".to_owned();
    world.clear(run, ClearSelection::default());
    assert_eq!(why(&world, run), "waits until 2026-11-01T00:00:50Z (in 20s)");
    world.pass(20);
    assert_eq!(world.state(run, "s"), TaskState::Success);
    world.pass(60);
    assert_eq!(world.state(run, "s"), TaskState::Success, "its timeout has gone with the wait");
    // A mark ends the wait.
    let (mut world, run) = waiting(time_sensor("s", &[], false), until);
    world.mark(run, "s", TaskState::Success);
    assert_eq!(world.line(run), "running | s=success next=scheduled");
    world.pass(120);
    assert_eq!(world.line(run), "running | s=success next=scheduled");
    assert_eq!(world.engine.wake_at(), None, "nothing of the wait is left");
    // A cancel skips it.
    let (mut world, run) = waiting(time_sensor("s", &[], false), until);
    let request = world.request();
    world.step(Event::Cancel { request, run, is_dry_run: false, ended: None });
    assert_eq!(world.line(run), "cancelled | s=skipped next=skipped");
    assert_eq!(world.engine.wake_at(), None);
}

#[test]
fn the_time_of_a_run_ends_what_waits_in_it() {
    let mut limited = dag("d", vec![time_sensor("s", &[], false)]);
    limited.run_timeout = Some(std::time::Duration::from_secs(10));
    let mut world = World::new();
    world.until = "2026-11-02".to_owned();
    world.load(limited);
    let run = world.trigger("d");
    world.pass(10);
    assert_eq!(world.runs[&run].state, RunState::Failed);
    assert_eq!(world.line(run), "failed | s=skipped");
    assert_eq!(world.engine.wake_at(), None);
}
