//! Which dates get a run: catch-up, downtime, clocks, pauses.

use crate::{
    definition::{Dag, Schedule, TimetableKind},
    engine::tests::world::{World, at, dag, dag_id, noop, task},
    event::Event,
    state::{RunState, RunType, TryOutcome},
};

fn daily(catchup: bool) -> Dag {
    Dag {
        schedule: Schedule::Cron(vec!["0 0 * * *".to_owned()]),
        timetable: TimetableKind::Interval,
        start_date: Some(at("2026-10-20T00:00:00Z")),
        catchup,
        max_active_runs: 3,
        ..dag("daily", vec![noop("a", &[])])
    }
}

fn scheduled_dates(world: &World) -> Vec<String> {
    let mut dates: Vec<_> = world
        .runs
        .values()
        .filter(|run| run.run_type == RunType::Scheduled)
        .map(|run| run.logical_date.format("%m-%d").to_string())
        .collect();
    dates.sort();
    dates
}

#[test]
fn adding_a_dag_never_fires_a_past_date_without_catchup() {
    let mut world = World::new();
    world.load(daily(false));
    world.tick();
    assert_eq!(scheduled_dates(&world), [""; 0]);
    world.pass(86_400);
    assert_eq!(scheduled_dates(&world), ["11-01"]);
    assert_eq!(world.runs.values().next().unwrap().run_id.as_str(), "scheduled__2026-11-01T00:00:00Z");
}

#[test]
fn catchup_creates_every_missed_date_oldest_first() {
    let mut world = World::new();
    world.load(daily(true));
    let mut ticks = 0;
    while !world.engine.due_dates(world.now).is_empty() {
        world.tick();
        ticks += 1;
    }
    assert_eq!(scheduled_dates(&world).len(), 12);
    assert!(ticks >= 2, "at most max_active_runs at a time");
    world.restart();
    world.tick();
    assert_eq!(scheduled_dates(&world).len(), 12);
}

#[test]
fn downtime_runs_the_newest_missed_date_once_and_records_the_rest() {
    let mut world = World::new();
    world.load(daily(false));
    world.now.wall = at("2026-11-10T12:00:00Z");
    world.restart();
    world.tick();
    assert_eq!(scheduled_dates(&world), ["11-09"]);
    assert_eq!(world.passed_over, 8);
    world.tick();
    assert_eq!(scheduled_dates(&world).len(), 1);
}

#[test]
fn a_clock_that_jumps_back_repeats_nothing() {
    let mut world = World::new();
    world.load(daily(false));
    world.pass(86_400);
    world.now.wall = at("2026-10-01T00:00:00Z");
    world.tick();
    world.now.wall = at("2026-11-02T00:00:10Z");
    world.tick();
    assert_eq!(scheduled_dates(&world), ["11-01"]);
    world.pass(86_400);
    assert_eq!(scheduled_dates(&world), ["11-01", "11-02"]);
}

#[test]
fn pausing_stops_new_dates_and_unpausing_fires_no_past_one() {
    let mut world = World::new();
    world.load(daily(false));
    let request = world.request();
    world.step(Event::DagPaused { request, dag_id: dag_id("daily"), is_paused: true });
    world.pass(3 * 86_400);
    assert_eq!(scheduled_dates(&world).len(), 0);
    let manual = world.trigger("daily");
    assert_eq!(world.runs[&manual].state, RunState::Success, "manual runs of a paused dag execute");
    let request = world.request();
    world.step(Event::DagPaused { request, dag_id: dag_id("daily"), is_paused: false });
    world.tick();
    assert_eq!(scheduled_dates(&world).len(), 0);
    world.pass(86_400);
    assert_eq!(scheduled_dates(&world).len(), 1);
}

#[test]
fn a_changed_schedule_that_comes_to_a_date_again_gives_it_no_second_run() {
    let mut world = World::new();
    world.load(Dag { timetable: TimetableKind::Trigger, ..daily(false) });
    world.pass(86_400);
    assert_eq!(scheduled_dates(&world), ["11-02"]);
    world.load(daily(false));
    world.pass(86_400);
    assert_eq!(scheduled_dates(&world), ["11-02"], "the interval that begins on 11-02 has its run");
    world.pass(86_400);
    assert_eq!(scheduled_dates(&world), ["11-02", "11-03"]);
}

#[test]
fn a_manual_run_never_takes_away_a_scheduled_date() {
    let mut world = World::new();
    world.load(daily(false));
    let request = world.request();
    world.step(Event::RunRequested {
        request,
        dag_id: dag_id("daily"),
        run_id: None,
        logical_date: Some(at("2026-11-01T00:00:00Z")),
        conf: std::sync::Arc::default(),
        triggered_by: None,
        suffix: "abcdef".to_owned(),
        is_run_id_taken: false,
    });
    world.pass(86_400);
    assert_eq!(scheduled_dates(&world), ["11-01"]);
    assert_eq!(world.runs.len(), 2);
}

#[test]
fn continuous_starts_the_next_run_when_the_last_has_ended() {
    let mut world = World::new();
    world.load(Dag { schedule: Schedule::Continuous, ..dag("c", vec![task("a", &[])]) });
    world.exchange("w", "b1", 1);
    world.pass(5);
    assert_eq!(world.runs.len(), 1);
    world.pass(20);
    assert_eq!(world.runs.len(), 1);
    let run = *world.runs.keys().next().unwrap();
    world.end(run, "a", TryOutcome::Success);
    world.pass(1);
    assert_eq!(world.runs.len(), 2);
}

#[test]
fn once_fires_once_ever() {
    let mut world = World::new();
    world.load(Dag { schedule: Schedule::Once, ..dag("o", vec![noop("a", &[])]) });
    world.pass(2);
    assert_eq!(world.runs.len(), 1);
    world.restart();
    world.pass(86_400);
    assert_eq!(world.runs.len(), 1);
}

#[test]
fn once_fires_at_its_start_date_however_long_ago_or_ahead_that_is() {
    for (start, after) in [("2020-01-01T00:00:00Z", 1), ("2026-11-01T00:10:00Z", 600)] {
        let mut world = World::new();
        let start_date = Some(at(start));
        world.load(Dag { schedule: Schedule::Once, start_date, ..dag("o", vec![noop("a", &[])]) });
        world.pass(after);
        let dates: Vec<_> = world.runs.values().map(|run| run.logical_date).collect();
        assert_eq!(dates, [at(start)]);
        world.pass(86_400);
        assert_eq!(world.runs.len(), 1);
    }
}

#[test]
fn once_that_is_over_never_fires() {
    let mut world = World::new();
    let (start_date, end_date) = (Some(at("2026-11-02T00:00:00Z")), Some(at("2026-11-01T12:00:00Z")));
    world.load(Dag { schedule: Schedule::Once, start_date, end_date, ..dag("o", vec![noop("a", &[])]) });
    world.pass(3 * 86_400);
    assert_eq!(world.runs.len(), 0);
}

#[test]
fn continuous_keeps_to_start_date_and_end_date() {
    let mut world = World::new();
    let (start_date, end_date) = (Some(at("2026-11-01T00:01:00Z")), Some(at("2026-11-01T00:01:03Z")));
    world.load(Dag {
        schedule: Schedule::Continuous,
        start_date,
        end_date,
        ..dag("c", vec![noop("a", &[])])
    });
    for _ in 0..60 {
        world.pass(1);
    }
    let dates: Vec<_> = world.runs.values().map(|run| run.logical_date).collect();
    assert_eq!(dates.first(), Some(&at("2026-11-01T00:01:00Z")));
    assert!(dates.iter().all(|date| *date <= at("2026-11-01T00:01:03Z")), "{dates:?}");
    assert!(dates.len() >= 3, "{dates:?}");
    world.pass(3_600);
    assert_eq!(world.runs.len(), dates.len());
}

#[test]
fn continuous_stands_still_while_it_is_paused_and_goes_on_after_a_failure() {
    let mut world = World::new();
    world.load(Dag { schedule: Schedule::Continuous, ..dag("c", vec![task("a", &[])]) });
    world.exchange("w", "b1", 1);
    world.pass(2);
    let run = *world.runs.keys().next().unwrap();
    world.end(run, "a", TryOutcome::Failed);
    world.pass(1);
    assert_eq!(world.runs.len(), 2);
    let request = world.request();
    world.step(Event::DagPaused { request, dag_id: dag_id("c"), is_paused: true });
    world.exchange("w", "b1", 1);
    let run = *world.runs.keys().next_back().unwrap();
    world.end(run, "a", TryOutcome::Success);
    world.pass(20);
    assert_eq!(world.runs.len(), 2);
    world.step(Event::DagPaused { request, dag_id: dag_id("c"), is_paused: false });
    world.pass(1);
    assert_eq!(world.runs.len(), 3);
}
