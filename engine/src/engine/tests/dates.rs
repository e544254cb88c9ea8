//! What becomes of dates that get no run, and of clocks that are set.

use std::{sync::Arc, time::Duration};

use super::world::{World, at, dag, dag_id, noop, task};
use crate::{
    action::Action,
    definition::{Dag, Schedule},
    engine::Engine,
    event::Event,
    rows::PassedOver,
    state::{RunState, RunType},
};

fn hourly() -> Dag {
    Dag { schedule: Schedule::Cron(vec!["0 * * * *".to_owned()]), ..dag("h", vec![noop("a", &[])]) }
}

fn passed(actions: &[Action]) -> Vec<PassedOver> {
    let rows = actions.iter().filter_map(|action| match action {
        Action::PassedOver(row) => Some(row.clone()),
        _ => None,
    });
    rows.collect()
}

fn pause(world: &mut World, id: &str, is_paused: bool) -> Vec<PassedOver> {
    let request = world.request();
    passed(&world.step(Event::DagPaused { request, dag_id: dag_id(id), is_paused }))
}

fn change(world: &mut World, dag: Dag) -> Vec<PassedOver> {
    passed(&world.load(dag))
}

/// Promise 1: no date goes without a run and without a word.
#[test]
fn dates_of_a_pause_are_recorded_when_it_ends() {
    let mut world = World::new();
    world.load(hourly());
    pause(&mut world, "h", true);
    world.pass(3 * 3600);
    let rows = pause(&mut world, "h", false);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].first, rows[0].last), (at("2026-11-01T01:00:00Z"), at("2026-11-01T03:00:00Z")));
    assert_eq!(rows[0].count, 3);
    assert!(world.runs.is_empty(), "unpausing fires no past date");
    assert_eq!(pause(&mut world, "h", true), []);
    assert_eq!(pause(&mut world, "h", false), [], "a date is recorded once");
    world.pass(3600);
    assert_eq!(world.runs.len(), 1);
}

#[test]
fn dates_of_a_missing_file_and_of_a_former_schedule_are_recorded() {
    let mut world = World::new();
    world.load(hourly());
    world.step(Event::DagMissing { dag_id: dag_id("h") });
    world.pass(2 * 3600);
    let rows = change(&mut world, hourly());
    assert_eq!(rows.iter().map(|row| row.count).collect::<Vec<_>>(), [2], "{rows:?}");
    // Paused, so that two dates of the former schedule are still open when it changes.
    pause(&mut world, "h", true);
    world.pass(2 * 3600);
    let daily = Dag { schedule: Schedule::Cron(vec!["0 0 * * *".to_owned()]), ..hourly() };
    let rows = change(&mut world, daily);
    assert_eq!(rows.iter().map(|row| row.count).collect::<Vec<_>>(), [2], "by the former schedule: {rows:?}");
}

#[test]
fn dates_that_catch_up_had_left_are_recorded_when_it_is_switched_off() {
    let mut world = World::new();
    let eager = Dag {
        catchup: true,
        start_date: Some(at("2026-10-31T00:00:00Z")),
        max_active_runs: 1,
        ..Dag { tasks: vec![task("a", &[])], ..hourly() }
    };
    world.load(eager.clone());
    world.tick();
    assert_eq!(world.runs.len(), 1, "one at a time");
    let first = world.runs.values().next().unwrap().logical_date;
    let rows = change(&mut world, Dag { catchup: false, ..eager });
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].first, first + chrono::TimeDelta::hours(1));
    assert_eq!(rows[0].last, at("2026-11-01T00:00:00Z"));
    let hours = u64::try_from((rows[0].last - rows[0].first).num_hours()).unwrap();
    assert_eq!(rows[0].count, hours + 1);
}

/// What was passed over is counted once, when it is recorded; catch-up counts nothing.
#[test]
fn the_newest_of_many_missed_dates_runs_and_the_rest_is_recorded_to_its_end() {
    let mut world = World::new();
    let minutely =
        Dag { schedule: Schedule::Cron(vec!["* * * * *".to_owned()]), ..dag("h", vec![noop("a", &[])]) };
    world.load(minutely);
    world.now.wall += chrono::TimeDelta::days(40);
    world.now.mono += Duration::from_secs(5);
    let rows = passed(&world.tick());
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].first, at("2026-11-01T00:01:00Z"));
    assert_eq!(rows[0].last, at("2026-12-10T23:59:00Z"), "the one before the newest, however long the gap");
    assert_eq!(rows[0].count, crate::timetable::MISSED_COUNT_LIMIT);
    let dates: Vec<_> = world.runs.values().map(|run| run.logical_date).collect();
    assert_eq!(dates, [at("2026-12-11T00:00:00Z")]);
}

#[test]
fn a_continuous_dag_goes_on_after_the_clock_was_set_back() {
    let mut world = World::new();
    world.load(Dag { schedule: Schedule::Continuous, ..dag("c", vec![noop("a", &[])]) });
    world.pass(2);
    world.pass(2);
    let before = world.runs.len();
    assert!(before >= 2);
    world.now.wall -= chrono::TimeDelta::hours(3);
    world.tick();
    for _ in 0..3 {
        world.pass(2);
    }
    assert!(world.runs.len() >= before + 2, "{before} runs, then {}", world.runs.len());
    let ended = world.runs.values().filter(|run| run.state == RunState::Success).count();
    assert_eq!(ended, world.runs.len());
    let mut dates: Vec<_> = world.runs.values().map(|run| run.logical_date).collect();
    dates.dedup();
    assert_eq!(dates.len(), world.runs.len(), "no date twice");
    assert!(world.runs.values().all(|run| run.run_type == RunType::Scheduled));
}

/// A stored definition that does not compile costs nothing but itself.
#[test]
fn a_dag_without_a_definition_keeps_what_a_person_set_and_where_its_dates_are() {
    let mut world = World::new();
    world.load(hourly());
    pause(&mut world, "h", true);
    let mut stored = world.stored();
    let (row, definition) = stored.dags.remove(0);
    let cursor = row.cursor;
    stored.undefined.push(row.clone());
    world.engine = Engine::restore(stored, world.now);
    assert_eq!(world.engine.durable().undefined, std::slice::from_ref(&row));
    world.now.wall += chrono::TimeDelta::hours(5);
    let event = Event::DagChanged { dag: definition, version: row.version.clone(), path: row.path.clone() };
    let actions = world.engine.step(event, world.now);
    let changed = actions.iter().find_map(|action| match action {
        Action::Dag(row) => Some(row.clone()),
        _ => None,
    });
    let changed = changed.unwrap();
    assert!(changed.is_paused, "a pause outlives a definition");
    assert_eq!(changed.created_at, row.created_at);
    assert!(changed.cursor >= cursor);
    assert_eq!(world.engine.durable().undefined, []);
    let other = Dag { tasks: vec![task("a", &["gone"])], ..hourly() };
    let mut broken = world.stored();
    broken.dags = vec![(row.clone(), Arc::new(other))];
    assert_eq!(Engine::restore(broken, world.now).durable().undefined, [row], "one that does not compile");
}
