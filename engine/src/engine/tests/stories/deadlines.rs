//! Runs that are late: told once, never stopped.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    action::{Action, Notify},
    definition::{Dag, Deadline, DeadlineFrom, Notification, Schedule, TimetableKind},
    engine::tests::world::{World, at, dag, task},
    event::ClearSelection,
    ids::RunKey,
    state::{RunState, TryOutcome},
};

fn with(deadline: Deadline) -> Dag {
    let hook = Notification { webhook: "http://hooks.internal/late".to_owned(), message: None };
    Dag { deadline: Some(deadline), on_deadline: vec![hook], ..dag("d", vec![task("a", &[])]) }
}

fn within(seconds: u64, from: DeadlineFrom) -> Deadline {
    Deadline::Within { within: Duration::from_secs(seconds), from }
}

fn told(actions: &[Action]) -> Vec<&Notify> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Notify(notify) => Some(notify),
            _ => None,
        })
        .collect()
}

fn started(dag: Dag) -> (World, RunKey) {
    let mut world = World::new();
    world.load(dag);
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    (world, run)
}

fn due(world: &World, run: RunKey) -> Option<DateTime<Utc>> {
    world.runs[&run].deadline_at
}

#[test]
fn a_run_that_is_late_is_told_once_and_goes_on() {
    let (mut world, run) = started(with(within(60, DeadlineFrom::Queued)));
    assert_eq!(due(&world, run), Some(at("2026-11-01T00:01:30Z")));
    for seconds in [20, 20, 19] {
        world.hear("w", "b1");
        assert_eq!(told(&world.pass(seconds)).len(), 0);
    }
    world.hear("w", "b1");
    let actions = world.pass(1);
    let [notify] = told(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((notify.state.as_str(), notify.task.as_ref()), ("late", None));
    assert_eq!(notify.reason.as_deref(), Some("it is running and was due at 2026-11-01T00:01:30Z"));
    assert_eq!(world.runs[&run].deadline_missed_at, Some(at("2026-11-01T00:01:30Z")));
    assert_eq!(world.runs[&run].state, RunState::Running, "it is not stopped");
    world.restart();
    world.exchange("w", "b1", 4);
    for _ in 0..5 {
        world.hear("w", "b1");
        assert_eq!(told(&world.pass(20)).len(), 0, "told once");
    }
    world.end(run, "a", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Success);
    // Cleared, it has its time again.
    world.clear(run, ClearSelection::default());
    assert_eq!(
        (due(&world, run), world.runs[&run].deadline_missed_at),
        (Some(world.now.wall + Duration::from_secs(60)), None)
    );
}

#[test]
fn a_restart_forgets_no_deadline_and_one_that_passed_meanwhile_is_told() {
    let (mut world, run) = started(with(within(60, DeadlineFrom::Queued)));
    world.pass(10);
    world.restart();
    world.exchange("w", "b1", 4);
    world.pass(25);
    world.now.wall += Duration::from_secs(40);
    world.restart();
    assert_eq!(told(&world.tick()).len(), 1);
    assert!(world.runs[&run].deadline_missed_at.is_some());
}

#[test]
fn a_run_that_ends_in_time_and_one_that_waits_for_a_place_are_treated_as_they_deserve() {
    let (mut world, run) = started(Dag { max_active_runs: 1, ..with(within(60, DeadlineFrom::Queued)) });
    let second = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.end(second, "a", TryOutcome::Success);
    assert_eq!(told(&world.pass(100)).len(), 0);
    let first = world.trigger("d");
    let waiting = world.trigger("d");
    assert_eq!(world.runs[&waiting].state, RunState::Queued);
    assert_eq!(told(&world.pass(60)).len(), 2, "one that was never started is late, too");
    assert!(world.runs[&first].deadline_missed_at.is_some());
}

#[test]
fn a_jump_of_the_wall_clock_makes_nobody_late_by_a_wait_and_somebody_late_by_a_date() {
    let (mut world, run) = started(with(within(60, DeadlineFrom::Queued)));
    world.now.wall += chrono::TimeDelta::hours(5);
    assert_eq!(told(&world.tick()).len(), 0, "a wait is measured by the other clock");
    assert!(due(&world, run).is_some());
    let mut world = World::new();
    let hourly = Schedule::Every(Duration::from_secs(3600));
    let dated = Dag { schedule: hourly, ..with(within(600, DeadlineFrom::LogicalDate)) };
    world.load(dated);
    world.exchange("w", "b1", 4);
    world.now.wall = at("2026-11-01T01:00:00Z");
    world.tick();
    let run = *world.runs.keys().next().unwrap();
    assert_eq!(due(&world, run), Some(at("2026-11-01T01:10:00Z")));
    world.now.wall = at("2026-11-01T01:10:00Z");
    assert_eq!(told(&world.tick()).len(), 1);
}

#[test]
fn what_catch_up_runs_late_tells_nobody() {
    let mut world = World::new();
    let start = Some(at("2026-10-31T00:00:00Z"));
    let late = Dag {
        schedule: Schedule::Every(Duration::from_secs(3600)),
        timetable: TimetableKind::Interval,
        start_date: start,
        catchup: true,
        ..with(within(600, DeadlineFrom::DataIntervalEnd))
    };
    world.load(late);
    let actions = world.tick();
    assert!(world.runs.len() >= 10);
    assert!(
        world.runs.values().all(|run| run.deadline_at.is_none() || run.deadline_at > Some(run.queued_at))
    );
    assert_eq!(told(&actions).len(), 0);
    let manual = world.trigger("d");
    assert_eq!(due(&world, manual), None, "only scheduled runs are late by a date");
}

#[test]
fn the_usual_time_is_that_of_the_last_runs_and_needs_some() {
    let mut world = World::new();
    world.load(with(Deadline::Usual { factor: 2.0 }));
    world.exchange("w", "b1", 4);
    for _ in 0..2 {
        let run = world.trigger("d");
        assert_eq!(due(&world, run), None, "nothing is usual yet");
        world.pass(10);
        world.end(run, "a", TryOutcome::Success);
    }
    let run = world.trigger("d");
    assert_eq!(due(&world, run), Some(world.now.wall + Duration::from_secs(20)));
    world.restart();
    world.exchange("w", "b1", 4);
    assert_eq!(told(&world.pass(19)).len(), 0);
    assert_eq!(told(&world.pass(1)).len(), 1);
}
