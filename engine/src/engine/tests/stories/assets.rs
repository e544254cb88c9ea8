//! Assets: who makes events, who waits for them, and that none is lost or counted twice.

use super::super::world::{World, at, dag, dag_id, mapped, noop, refusal, result, task};
use crate::{
    action::Refusal,
    asset::AssetWait,
    definition::{AssetSchedule, Dag, Schedule, Task},
    event::{ClearSelection, Event},
    ids::AssetName,
    state::{RunType, TaskState, TryOutcome},
};

fn assets(names: &[&str]) -> Vec<AssetName> {
    names.iter().map(|name| AssetName::new(name).unwrap()).collect()
}

fn on(names: &[&str], any: bool) -> Schedule {
    Schedule::Assets(AssetSchedule { assets: assets(names), any, time: None })
}

/// A DAG that runs when each of its assets has had an event.
fn consumer(id: &str, names: &[&str]) -> Dag {
    Dag { schedule: on(names, false), ..dag(id, vec![task("use", &[])]) }
}

fn producer(id: &str, outlets: &[&str]) -> Dag {
    dag(id, vec![Task { outlets: assets(outlets), ..task("make", &[]) }])
}

fn pause(world: &mut World, id: &str, is_paused: bool) {
    let request = world.request();
    world.step(Event::DagPaused { request, dag_id: dag_id(id), is_paused });
}

fn waits(world: &World, id: &str) -> Vec<AssetWait> {
    world.engine.asset_status(&dag_id(id), world.now).unwrap().waits
}

#[test]
fn a_success_is_an_event_and_makes_the_run_in_the_same_step() {
    let mut world = World::new();
    world.load(producer("p", &["a"]));
    world.load(consumer("c", &["a"]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("p");
    world.end(run, "make", TryOutcome::Success);
    assert_eq!(world.by_assets("c"), ["a"]);
    let made = world.runs.values().find(|run| run.run_type == RunType::Asset).unwrap();
    assert_eq!(made.run_id.as_str(), "asset__2026-11-01T00:00:30Z__000000");
    assert_eq!(made.logical_date, world.now.wall);
    world.live(made.key, "use");
}

#[test]
fn what_did_not_succeed_is_no_event() {
    let mut world = World::new();
    world.load(producer("p", &["a"]));
    world.load(consumer("c", &["a"]));
    world.exchange("w", "b1", 4);
    for outcome in [TryOutcome::Failed, TryOutcome::Skipped] {
        let run = world.trigger("p");
        world.end(run, "make", outcome);
    }
    assert_eq!((world.events.len(), world.by_assets("c").len()), (0, 0));
}

#[test]
fn every_asset_needs_an_event_and_all_of_them_are_taken() {
    let mut world = World::new();
    world.load(consumer("c", &["a", "b"]));
    world.post("a");
    world.pass(10);
    world.post("a");
    let missing = assets(&["b"]);
    assert_eq!(waits(&world, "c"), [AssetWait::Assets { missing, any: false }]);
    assert_eq!(waits(&world, "c")[0].to_string(), "waits for an event on b");
    world.pass(10);
    world.post("b");
    assert_eq!(world.by_assets("c"), ["a a b"]);
    let run = world.runs.values().next().unwrap();
    // Posted events are about the instant at which they came.
    assert_eq!(run.data_interval_start, at("2026-11-01T00:00:30Z"));
    assert_eq!(run.data_interval_end, at("2026-11-01T00:00:50Z"));
    // It begins anew: one of them is not enough again.
    world.post("b");
    assert_eq!(world.by_assets("c").len(), 1);
}

#[test]
fn any_of_them_is_enough() {
    let mut world = World::new();
    world.load(Dag { schedule: on(&["a", "b"], true), ..dag("c", vec![noop("use", &[])]) });
    world.post("b");
    world.pass(1);
    world.post("a");
    assert_eq!(world.by_assets("c"), ["b", "a"]);
    assert_eq!(waits(&world, "c")[0].to_string(), "waits for an event on one of a, b");
}

#[test]
fn the_data_interval_spans_the_runs_that_made_the_events() {
    let mut world = World::new();
    let every = Schedule::Every(std::time::Duration::from_secs(60));
    world.load(Dag { schedule: every, ..producer("p", &["a"]) });
    world.load(consumer("c", &["a", "b"]));
    world.exchange("w", "b1", 4);
    for _ in 0..2 {
        world.pass(60);
        world.exchange("w", "b1", 4);
        let run = *world.runs.keys().next_back().unwrap();
        world.end(run, "make", TryOutcome::Success);
    }
    world.post("b");
    let run = world.runs.values().find(|run| run.run_type == RunType::Asset).unwrap();
    assert_eq!(run.data_interval_start, at("2026-11-01T00:00:00Z"));
    assert_eq!(run.data_interval_end, at("2026-11-01T00:02:30Z"));
}

#[test]
fn a_full_dag_lets_events_wait_and_one_run_takes_them_all() {
    let mut world = World::new();
    world.load(Dag { max_active_runs: 1, ..consumer("c", &["a"]) });
    world.exchange("w", "b1", 4);
    world.post("a");
    for _ in 0..3 {
        world.pass(5);
        world.post("a");
    }
    assert_eq!(world.by_assets("c"), ["a"]);
    assert_eq!(waits(&world, "c"), [AssetWait::RunLimit { active: 1, limit: 1 }]);
    let run = *world.runs.keys().next().unwrap();
    world.end(run, "use", TryOutcome::Success);
    assert_eq!(world.by_assets("c"), ["a", "a a a"]);
    // The date is that of the newest event, not of the instant at which there was room.
    assert_eq!(world.runs.values().last().unwrap().logical_date, at("2026-11-01T00:00:45Z"));
}

#[test]
fn a_pause_and_a_missing_file_lose_no_event() {
    let mut world = World::new();
    world.load(consumer("c", &["a"]));
    pause(&mut world, "c", true);
    world.post("a");
    world.restart();
    assert_eq!(waits(&world, "c"), [AssetWait::DagPaused]);
    world.step(Event::DagMissing { dag_id: dag_id("c") });
    pause(&mut world, "c", false);
    assert_eq!((waits(&world, "c"), world.runs.len()), (vec![AssetWait::FileMissing], 0));
    world.load(consumer("c", &["a"]));
    assert_eq!(world.by_assets("c"), ["a"]);
}

#[test]
fn an_unpaused_dag_takes_at_once_what_waited_for_it() {
    let mut world = World::new();
    world.load(consumer("c", &["a"]));
    pause(&mut world, "c", true);
    world.post("a");
    assert_eq!(world.by_assets("c").len(), 0);
    pause(&mut world, "c", false);
    assert_eq!(world.by_assets("c"), ["a"]);
}

#[test]
fn an_asset_that_leaves_the_schedule_leaves_the_queue() {
    let mut world = World::new();
    world.load(consumer("c", &["a", "b", "d"]));
    world.post("a");
    world.post("b");
    world.load(consumer("c", &["b", "d"]));
    assert_eq!(world.queue.len(), 1);
    // One that comes back begins anew; one that stayed kept what it had.
    world.load(consumer("c", &["a", "b"]));
    assert_eq!(world.by_assets("c").len(), 0);
    world.post("a");
    assert_eq!(world.by_assets("c"), ["b a"]);
}

#[test]
fn a_change_of_the_schedule_can_make_the_run_at_once() {
    let mut world = World::new();
    world.load(consumer("c", &["a", "b"]));
    world.post("a");
    world.load(Dag { schedule: on(&["a", "b"], true), ..consumer("c", &[]) });
    assert_eq!(world.by_assets("c"), ["a"]);
}

#[test]
fn only_runs_by_assets_take_events() {
    let mut world = World::new();
    let time = Some(Box::new(Schedule::Every(std::time::Duration::from_secs(60))));
    let schedule = Schedule::Assets(AssetSchedule { assets: assets(&["a", "b"]), any: false, time });
    world.load(Dag { schedule, ..dag("c", vec![noop("use", &[])]) });
    world.post("a");
    world.trigger("c");
    world.pass(60);
    assert_eq!((world.runs.len(), world.queue.len()), (2, 1));
    world.post("b");
    assert_eq!(world.by_assets("c"), ["a b"]);
}

#[test]
fn a_clear_and_a_second_success_is_a_second_event() {
    let mut world = World::new();
    world.load(producer("p", &["a"]));
    world.load(consumer("c", &["a"]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("p");
    world.end(run, "make", TryOutcome::Success);
    world.clear(run, ClearSelection::default());
    world.end(run, "make", TryOutcome::Success);
    assert_eq!(world.by_assets("c"), ["a", "a"]);
}

#[test]
fn a_mark_is_no_event_but_what_was_done_before_it_is() {
    let mut world = World::new();
    world.load(producer("p", &["a"]));
    world.load(consumer("c", &["a"]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("p");
    world.end(run, "make", TryOutcome::Failed);
    world.mark(run, "make", TaskState::Success);
    let stopped = world.trigger("p");
    world.mark(stopped, "make", TaskState::Success);
    world.end(stopped, "make", TryOutcome::Stopped);
    assert_eq!(world.events.len(), 0);
    let done = world.trigger("p");
    world.mark(done, "make", TaskState::Success);
    world.end(done, "make", TryOutcome::Success);
    assert_eq!(world.by_assets("c"), ["a"]);
}

#[test]
fn a_repeated_result_is_no_second_event() {
    let mut world = World::new();
    world.load(producer("p", &["a"]));
    world.load(consumer("c", &["a"]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("p");
    let (worker, attempt) = world.live(run, "make");
    for _ in 0..2 {
        world.finish(worker.clone(), attempt.clone(), result(TryOutcome::Success));
    }
    assert_eq!(world.by_assets("c"), ["a"]);
}

#[test]
fn events_outside_the_dates_of_a_dag_do_not_count() {
    let mut world = World::new();
    let dates = (Some(at("2026-11-01T00:01:00Z")), Some(at("2026-11-01T00:02:00Z")));
    world.load(Dag { start_date: dates.0, end_date: dates.1, ..consumer("c", &["a"]) });
    world.post("a");
    assert!(waits(&world, "c")[0].to_string().starts_with("it begins at 2026-11-01T00:01:00Z"));
    world.pass(60);
    world.post("a");
    world.pass(60);
    world.post("a");
    assert!(waits(&world, "c")[0].to_string().contains("is over"));
    assert_eq!(world.by_assets("c").len(), 1);
    assert_eq!(world.events.len(), 3);
}

#[test]
fn an_asset_that_no_file_names_is_refused() {
    let mut world = World::new();
    world.load(producer("p", &["a"]));
    let actions = world.post("tpyo");
    assert_eq!(refusal(&actions), Some(Refusal::UnknownAsset(AssetName::new("tpyo").unwrap())));
    assert_eq!(refusal(&world.post("a")), None);
}

#[test]
fn a_circle_goes_round_once_a_second_and_holds_nothing_up() {
    let mut world = World::new();
    let make = |asset: &str| Task { outlets: assets(&[asset]), ..noop("n", &[]) };
    world.load(Dag { schedule: on(&["a"], false), ..dag("c", vec![make("b")]) });
    world.load(Dag { schedule: on(&["b"], false), ..dag("d", vec![make("a")]) });
    world.post("a");
    assert_eq!((world.by_assets("c").len(), world.by_assets("d").len()), (1, 1));
    assert_eq!(waits(&world, "c"), [AssetWait::Next]);
    world.pass(1);
    assert_eq!(world.by_assets("c").len(), 2);
    // What was on its way when the server died goes on.
    world.restart();
    world.tick();
    assert_eq!(world.by_assets("c").len(), 3);
    pause(&mut world, "c", true);
    world.pass(5);
    assert_eq!(world.by_assets("c").len(), 3);
}

/// What is prepared is answered in the same instant, in steps of their own: the circle must not turn within that.
#[test]
fn a_circle_of_mapped_tasks_goes_round_once_a_second_too() {
    let mut world = World::new();
    let task = mapped(Task { outlets: assets(&["a"]), ..noop("n", &[]) });
    world.load(Dag { schedule: on(&["a"], false), ..dag("c", vec![task]) });
    world.post("a");
    assert_eq!(world.by_assets("c").len(), 1);
    assert_eq!(waits(&world, "c"), [AssetWait::Next]);
    // An event of somebody else is taken by the same next run.
    world.post("a");
    assert_eq!(world.by_assets("c").len(), 1);
    world.pass(1);
    assert_eq!(world.by_assets("c").len(), 2);
}

#[test]
fn what_waits_for_a_dag_without_a_definition_is_kept() {
    let mut world = World::new();
    world.load(consumer("c", &["a", "b"]));
    world.post("a");
    let mut stored = world.stored();
    let (row, _) = stored.dags.pop().unwrap();
    stored.undefined.push(row);
    world.engine = super::super::super::Engine::restore(stored, world.now);
    assert_eq!(world.engine.durable().asset_queue.len(), 1);
    world.load(Dag { description: Some("again".to_owned()), ..consumer("c", &["a", "b"]) });
    world.post("b");
    assert_eq!(world.by_assets("c"), ["a b"]);
}

#[test]
fn a_deleted_dag_listens_no_more() {
    let mut world = World::new();
    world.load(consumer("c", &["a"]));
    pause(&mut world, "c", true);
    world.post("a");
    world.step(Event::DagMissing { dag_id: dag_id("c") });
    let request = world.request();
    world.step(Event::DagDeleted { request, dag_id: dag_id("c") });
    assert!(world.queue.is_empty());
    assert!(refusal(&world.post("a")).is_some());
}
