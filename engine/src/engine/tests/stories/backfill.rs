//! Backfills.

use std::{sync::Arc, time::Duration};

use crate::{
    action::Refusal,
    backfill::{
        BackfillChange, BackfillProblem, BackfillSpec, BackfillState, BackfillWait, DateOutcome, MAX_DATES,
        Reprocess,
    },
    definition::{Dag, Schedule, Task},
    engine::tests::world::{World, at, dag, dag_id, refusal, task, task_id},
    event::{ClearSelection, Event},
    ids::{BackfillKey, RunKey},
    state::{RunState, RunType, TaskState, TryOutcome},
};

/// The clock of a story begins at 2026-11-01T00:00:30Z.
fn hourly(tasks: Vec<Task>) -> Dag {
    Dag { schedule: Schedule::Every(Duration::from_secs(3600)), ..dag("d", tasks) }
}

fn spec(from: &str, to: &str) -> BackfillSpec {
    BackfillSpec {
        from: at(from),
        to: at(to),
        reprocess: Reprocess::None,
        max_active_runs: 10,
        run_backwards: false,
        conf: Arc::default(),
    }
}

/// Four hours of the evening before.
fn evening() -> BackfillSpec {
    spec("2026-10-31T20:00:00Z", "2026-10-31T23:00:00Z")
}

fn world(dag: Dag) -> World {
    let mut world = World::new();
    world.load(dag);
    world.exchange("w", "b1", 8);
    world
}

fn only(world: &World) -> BackfillKey {
    assert_eq!(world.backfills.len(), 1);
    *world.backfills.keys().next().unwrap()
}

/// The hours of the dates that were dealt with, with what became of each.
fn told(world: &World, key: BackfillKey) -> String {
    let dates = world.backfill_dates.values().filter(|date| date.backfill == key);
    let told: Vec<String> =
        dates.map(|date| format!("{} {}", date.logical_date.format("%d.%H"), date.outcome)).collect();
    told.join(", ")
}

fn run_of(world: &World, hour: u32) -> RunKey {
    let of_hour =
        world.runs.values().filter(|run| run.logical_date.format("%H").to_string() == format!("{hour:02}"));
    of_hour.map(|run| run.key).next_back().unwrap()
}

/// Lets hours pass with a worker that is heard of.
fn pass_hours(world: &mut World, count: u32) {
    for _ in 0..count * 180 {
        world.pass(20);
        world.hear("w", "b1");
    }
}

/// Ends whatever is assigned until nothing is.
fn work_off(world: &mut World, outcome: TryOutcome) {
    for _ in 0..500 {
        world.exchange("w", "b1", 8);
        let Some((worker, attempt)) = world.assigned.first().cloned() else { return };
        world.finish(worker, attempt, crate::engine::tests::world::result(outcome));
    }
    panic!("it never ends");
}

#[test]
fn its_dates_become_runs_and_it_finishes_when_they_have_ended() {
    let mut world = world(hourly(vec![task("a", &[])]));
    world.backfill("d", evening());
    let key = only(&world);
    assert_eq!(told(&world, key), "31.20 created, 31.21 created, 31.22 created, 31.23 created");
    for run in world.runs.values() {
        assert_eq!((run.run_type, run.backfill), (RunType::Backfill, Some(key)));
        assert_eq!(
            run.run_id.as_str(),
            format!("backfill__{}", run.logical_date.format("%Y-%m-%dT%H:%M:%SZ"))
        );
        assert_eq!(run.data_interval_end - run.data_interval_start, chrono::TimeDelta::hours(1));
    }
    assert_eq!(world.engine.explain_backfill(key, world.now), Some(BackfillWait::LastRuns { active: 4 }));
    work_off(&mut world, TryOutcome::Success);
    let row = &world.backfills[&key];
    assert_eq!((row.state, row.created, row.date_count), (BackfillState::Finished, 4, 4));
    assert_eq!(world.engine.explain_backfill(key, world.now), None);
}

#[test]
fn only_dates_that_lie_wholly_in_the_past_are_filled() {
    let mut world = world(hourly(vec![task("a", &[])]));
    world.backfill("d", spec("2026-10-31T23:00:00Z", "2026-12-31T00:00:00Z"));
    let row = world.backfills[&only(&world)].clone();
    assert_eq!(row.spec.to, at("2026-11-01T00:00:00Z"), "the last date that has passed");
    assert_eq!(row.date_count, 2);
    // The next date is the timetable's.
    pass_hours(&mut world, 1);
    let types: Vec<RunType> = world.runs.values().map(|run| run.run_type).collect();
    assert_eq!(types, [RunType::Backfill, RunType::Backfill, RunType::Scheduled]);
}

#[test]
fn an_interval_that_has_not_ended_is_not_past() {
    let interval = crate::definition::TimetableKind::Interval;
    let mut world = world(Dag { timetable: interval, ..hourly(vec![task("a", &[])]) });
    world.backfill("d", spec("2026-10-31T22:00:00Z", "2026-11-01T00:00:00Z"));
    // The interval of 00:00 ends at 01:00.
    assert_eq!(told(&world, only(&world)), "31.22 created, 31.23 created");
}

#[test]
fn its_limit_is_its_own_and_a_step_makes_ten_runs_at_most() {
    let mut world = world(Dag { max_active_runs: 1, ..hourly(vec![task("a", &[])]) });
    world.trigger("d");
    world.backfill("d", BackfillSpec { max_active_runs: 2, ..evening() });
    let key = only(&world);
    let running = world.runs.values().filter(|run| run.state == RunState::Running);
    assert_eq!(running.count(), 3, "one by hand, two of the backfill");
    assert_eq!(
        world.engine.explain_backfill(key, world.now).unwrap().to_string(),
        "2 of its max_active_runs = 2 runs are active"
    );
    let first = run_of(&world, 20);
    world.end(first, "a", TryOutcome::Success);
    assert_eq!(world.backfills[&key].created, 3, "an end makes room for the next date");
    let request = world.request();
    let (dag_id, created_by) = (dag_id("d"), None);
    let wide = spec("2026-01-01T00:00:00Z", "2026-10-01T00:00:00Z");
    let spec = Box::new(BackfillSpec { max_active_runs: 100, ..wide });
    let mut engine = world.engine.clone();
    engine.step(Event::BackfillRequested { request, dag_id, spec, created_by }, world.now);
    let page = engine.backfill_page(world.now).unwrap();
    assert_eq!((page.dates.len(), page.room), (100, 10));
}

#[test]
fn the_newest_date_comes_first_when_it_runs_backwards() {
    let mut world = world(hourly(vec![task("a", &[])]));
    world.backfill("d", BackfillSpec { run_backwards: true, max_active_runs: 1, ..evening() });
    let mut order = Vec::new();
    while let Some((worker, attempt)) = world.assigned.first().cloned() {
        order.push(world.runs[&attempt.instance.run].logical_date.format("%H").to_string());
        world.finish(worker, attempt, crate::engine::tests::world::result(TryOutcome::Success));
    }
    assert_eq!(order, ["23", "22", "21", "20"]);
    assert_eq!(world.backfills[&only(&world)].state, BackfillState::Finished);
}

/// Runs of 20:00 (success), 21:00 (failed), 22:00 (cancelled) and 23:00 (running).
fn with_history() -> World {
    let mut world = world(hourly(vec![task("a", &[])]));
    world.backfill("d", evening());
    let (r20, r21, r22) = (run_of(&world, 20), run_of(&world, 21), run_of(&world, 22));
    world.end(r20, "a", TryOutcome::Success);
    world.end(r21, "a", TryOutcome::Failed);
    let request = world.request();
    world.step(Event::Cancel { request, run: r22, is_dry_run: false, ended: None });
    world.end(r22, "a", TryOutcome::Stopped);
    assert_eq!(world.runs[&r22].state, RunState::Cancelled);
    // Its last run leaves it when a person cancels the backfill; it starts anew by a clear.
    let (key, r23) = (only(&world), run_of(&world, 23));
    world.change_backfill(key, BackfillChange::Cancel);
    world.end(r23, "a", TryOutcome::Stopped);
    assert_eq!(world.backfills[&key].state, BackfillState::Cancelled);
    world.clear(r23, ClearSelection::default());
    world.exchange("w", "b1", 8);
    assert_eq!(world.line(r23), "running | a=queued");
    world
}

fn again(reprocess: Reprocess) -> String {
    let mut world = with_history();
    world.backfill("d", BackfillSpec { reprocess, ..evening() });
    let key = *world.backfills.keys().next_back().unwrap();
    told(&world, key)
}

#[test]
fn what_becomes_of_a_date_that_has_a_run_is_as_reprocess_says() {
    assert_eq!(
        again(Reprocess::None),
        "31.20 passed_over, 31.21 passed_over, 31.22 passed_over, 31.23 left_alone"
    );
    assert_eq!(
        again(Reprocess::Failed),
        "31.20 passed_over, 31.21 reprocessed, 31.22 reprocessed, 31.23 left_alone"
    );
    assert_eq!(
        again(Reprocess::Completed),
        "31.20 reprocessed, 31.21 reprocessed, 31.22 reprocessed, 31.23 left_alone"
    );
}

#[test]
fn a_cleared_run_joins_the_backfill_with_the_newest_version_and_its_conf() {
    let mut world = with_history();
    let newer = world.newest(&dag_id("d"));
    let mut newer = Dag::clone(&newer);
    newer.tasks.push(task("b", &["a"]));
    world.load(newer);
    let r21 = run_of(&world, 21);
    let before = world.runs[&r21].dag_version.clone();
    world.backfill("d", BackfillSpec { reprocess: Reprocess::Failed, ..evening() });
    let key = *world.backfills.keys().next_back().unwrap();
    world.exchange("w", "b1", 8);
    assert_eq!(world.line(r21), "running | a=queued b=no_status");
    assert_ne!(world.runs[&r21].dag_version, before);
    assert_eq!(world.runs[&r21].backfill, Some(key));
    assert_eq!(world.live(r21, "a").1.try_number, 2, "the record of the first try stays");
    let reasons: Vec<String> = world
        .backfill_dates
        .values()
        .filter(|date| date.backfill == key)
        .filter_map(|date| date.reason.clone())
        .collect();
    assert_eq!(
        reasons,
        ["backfill__2026-10-31T20:00:00Z has ended as success", "backfill__2026-10-31T23:00:00Z is running"]
    );
}

#[test]
fn a_scheduled_run_counts_as_the_run_of_its_date_and_one_by_hand_does_not() {
    let mut world = world(hourly(vec![task("a", &[])]));
    let request = world.request();
    world.step(Event::RunRequested {
        request,
        dag_id: dag_id("d"),
        run_id: None,
        logical_date: Some(at("2026-10-31T23:00:00Z")),
        conf: Arc::default(),
        triggered_by: None,
        suffix: "aaaaaa".to_owned(),
        is_run_id_taken: false,
    });
    pass_hours(&mut world, 2);
    work_off(&mut world, TryOutcome::Success);
    world.backfill("d", spec("2026-10-31T23:00:00Z", "2026-11-01T02:00:00Z"));
    // 01:00 and 02:00 fired by themselves.
    assert_eq!(
        told(&world, only(&world)),
        "31.23 created, 01.00 created, 01.01 passed_over, 01.02 passed_over"
    );
}

#[test]
fn a_backfill_never_takes_away_a_scheduled_date() {
    let late =
        Dag { catchup: true, start_date: Some(at("2026-10-31T22:00:00Z")), ..hourly(vec![task("a", &[])]) };
    let mut world = World::new();
    world.load(late);
    world.backfill("d", spec("2026-10-31T23:00:00Z", "2026-11-01T00:00:00Z"));
    world.pass(60);
    let mut runs: Vec<String> = world.runs.values().map(|run| run.run_id.to_string()).collect();
    runs.sort();
    assert_eq!(
        runs,
        [
            "backfill__2026-10-31T23:00:00Z",
            "backfill__2026-11-01T00:00:00Z",
            "scheduled__2026-10-31T23:00:00Z",
            "scheduled__2026-11-01T00:00:00Z"
        ]
    );
    assert_eq!(told(&world, only(&world)), "31.23 created, 01.00 created", "and start_date bounds it");
}

#[test]
fn it_yields_to_every_other_run() {
    let mut world = World::new();
    world.load(hourly(vec![Task { priority_weight: 100, ..task("a", &[]) }]));
    world.load(dag("light", vec![task("a", &[])]));
    world.backfill("d", evening());
    let manual = world.trigger("d");
    let light = world.trigger("light");
    world.exchange("w", "b1", 2);
    let first: Vec<RunKey> = world.assigned.iter().map(|(_, attempt)| attempt.instance.run).collect();
    assert_eq!(first, [manual, light], "older dates and heavier weights wait");
}

#[test]
fn pause_stops_new_runs_and_resume_goes_on() {
    let mut world = world(hourly(vec![task("a", &[])]));
    world.backfill("d", BackfillSpec { max_active_runs: 1, ..evening() });
    let key = only(&world);
    world.change_backfill(key, BackfillChange::Pause);
    let first = run_of(&world, 20);
    world.end(first, "a", TryOutcome::Success);
    world.restart();
    world.exchange("w", "b1", 8);
    assert_eq!(world.runs.len(), 1, "no date becomes a run");
    assert_eq!(world.engine.explain_backfill(key, world.now).unwrap().to_string(), "a person has paused it");
    // What a person clears meanwhile waits with it, and says so.
    world.clear(first, ClearSelection::default());
    let reasons = world.engine.explain(&World::key(first, "a"), world.now);
    assert_eq!(reasons[0].to_string(), format!("its run waits: backfill {key} is paused"));
    world.change_backfill(key, BackfillChange::Resume);
    assert_eq!(world.line(first), "running | a=queued");
    work_off(&mut world, TryOutcome::Success);
    assert_eq!((world.runs.len(), world.backfills[&key].state), (4, BackfillState::Finished));
}

#[test]
fn a_cancelled_backfill_cancels_its_runs_and_ends_when_they_have_stopped() {
    let mut world = world(hourly(vec![task("a", &[])]));
    world.backfill("d", BackfillSpec { max_active_runs: 2, ..evening() });
    let (key, request) = (only(&world), world.request());
    let before = world.backfills.clone();
    let change = BackfillChange::Cancel;
    let dry = Event::BackfillChanged { request, backfill: key, change, is_dry_run: true, ended: None };
    let actions = world.step(dry);
    let text = format!("{actions:?}");
    assert!(text.contains(&format!("[{:?}, {:?}]", run_of(&world, 20), run_of(&world, 21))), "{text}");
    assert_eq!(world.backfills, before, "a dry run changes nothing");
    world.change_backfill(key, BackfillChange::Cancel);
    assert_eq!(world.backfills[&key].state, BackfillState::Running, "its tasks are not known to be dead");
    world.restart();
    world.exchange("w", "b1", 8);
    for hour in [20, 21] {
        let run = run_of(&world, hour);
        world.end(run, "a", TryOutcome::Stopped);
        assert_eq!(world.runs[&run].state, RunState::Cancelled);
    }
    assert_eq!(world.backfills[&key].state, BackfillState::Cancelled);
    assert_eq!(world.runs.len(), 2, "no further date became a run");
    let refused = world.change_backfill(key, BackfillChange::Resume);
    assert_eq!(refusal(&refused), Some(Refusal::BackfillEnded(BackfillState::Cancelled)));
}

#[test]
fn a_paused_dag_is_filled_and_a_missing_one_is_waited_for() {
    let mut world = world(hourly(vec![task("a", &[])]));
    let request = world.request();
    world.step(Event::DagPaused { request, dag_id: dag_id("d"), is_paused: true });
    world.backfill("d", BackfillSpec { max_active_runs: 1, ..evening() });
    let key = only(&world);
    assert_eq!(world.runs.len(), 1, "it was asked for, as a run by hand is");
    let dag = world.newest(&dag_id("d"));
    world.step(Event::DagMissing { dag_id: dag_id("d") });
    work_off(&mut world, TryOutcome::Success);
    assert_eq!(world.runs.len(), 1);
    assert_eq!(
        world.engine.explain_backfill(key, world.now).unwrap().to_string(),
        "the file of its DAG is missing or cannot be read"
    );
    world.load(Dag::clone(&dag));
    work_off(&mut world, TryOutcome::Success);
    assert_eq!((world.runs.len(), world.backfills[&key].state), (4, BackfillState::Finished));
}

#[test]
fn a_deleted_dag_takes_its_backfill_along() {
    let mut world = world(hourly(vec![task("a", &[])]));
    world.backfill("d", BackfillSpec { max_active_runs: 1, ..evening() });
    world.step(Event::DagMissing { dag_id: dag_id("d") });
    let request = world.request();
    let refused = world.step(Event::DagDeleted { request, dag_id: dag_id("d") });
    assert_eq!(refusal(&refused), Some(Refusal::HasActiveRuns(1)));
    let run = run_of(&world, 20);
    world.end(run, "a", TryOutcome::Success);
    // What the database does with a DAG that is deleted.
    let mut engine = world.engine.clone();
    engine.step(Event::DagDeleted { request, dag_id: dag_id("d") }, world.now);
    assert_eq!(engine.durable().backfills, []);
}

#[test]
fn a_changed_schedule_counts_from_where_it_is() {
    let mut world = world(hourly(vec![task("a", &[])]));
    world.backfill("d", BackfillSpec { max_active_runs: 2, ..evening() });
    let key = only(&world);
    let half = Dag {
        schedule: Schedule::Every(Duration::from_secs(1800)),
        ..Dag::clone(&world.newest(&dag_id("d")))
    };
    world.load(half);
    assert_eq!(world.backfills[&key].date_count, 2 + 4);
    work_off(&mut world, TryOutcome::Success);
    let minutes: Vec<String> =
        world.runs.values().map(|run| run.logical_date.format("%H:%M").to_string()).collect();
    assert_eq!(minutes, ["20:00", "21:00", "21:30", "22:00", "22:30", "23:00"]);
    assert_eq!(world.backfills[&key].state, BackfillState::Finished);
}

#[test]
fn backfills_of_one_dag_whose_dates_overlap_are_refused_and_others_stand_side_by_side() {
    let mut world = world(hourly(vec![task("a", &[])]));
    world.backfill("d", BackfillSpec { max_active_runs: 1, ..evening() });
    let key = only(&world);
    let refused = world.backfill("d", spec("2026-10-31T23:00:00Z", "2026-11-01T00:00:00Z"));
    assert_eq!(refusal(&refused), Some(Refusal::BackfillOverlaps(key)));
    world.backfill("d", spec("2026-10-31T18:00:00Z", "2026-10-31T19:00:00Z"));
    assert_eq!(world.backfills.len(), 2);
    work_off(&mut world, TryOutcome::Success);
    assert!(world.backfills.values().all(|row| row.state == BackfillState::Finished));
    assert_eq!(world.runs.len(), 6);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut world = world(hourly(vec![task("a", &[])]));
    let problem = |world: &mut World, spec| match refusal(&world.backfill("d", spec)) {
        Some(Refusal::Backfill(problem)) => problem,
        other => panic!("{other:?}"),
    };
    let turned = spec("2026-10-31T23:00:00Z", "2026-10-31T20:00:00Z");
    assert!(matches!(problem(&mut world, turned), BackfillProblem::BadRange(_)));
    let none = BackfillSpec { max_active_runs: 0, ..evening() };
    assert!(matches!(problem(&mut world, none), BackfillProblem::BadRange(_)));
    let future = spec("2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z");
    assert_eq!(problem(&mut world, future), BackfillProblem::NoDates);
    let wide = spec("2000-01-01T00:00:00Z", "2026-10-31T20:00:00Z");
    assert_eq!(problem(&mut world, wide), BackfillProblem::TooManyDates);
    assert!(MAX_DATES as i64 > 10 * 366 * 24, "ten years of hourly dates are possible");
    world.load(dag("never", vec![task("a", &[])]));
    assert_eq!(
        refusal(&world.backfill("never", evening())),
        Some(Refusal::Backfill(BackfillProblem::NoDates))
    );
    assert_eq!(refusal(&world.backfill("nobody", evening())), Some(Refusal::UnknownDag));
    let past = Task { depends_on_past: true, ..task("a", &[]) };
    world.load(hourly(vec![past]));
    let backwards = BackfillSpec { run_backwards: true, ..evening() };
    assert_eq!(problem(&mut world, backwards), BackfillProblem::PastBackwards);
}

#[test]
fn the_first_run_ignores_the_past_and_the_next_ones_wait_for_it() {
    let past = Task { depends_on_past: true, ..task("a", &[]) };
    let mut world = world(hourly(vec![past]));
    // The run before failed.
    world.backfill("d", spec("2026-10-31T20:00:00Z", "2026-10-31T20:00:00Z"));
    let r20 = run_of(&world, 20);
    world.end(r20, "a", TryOutcome::Failed);
    world.backfill("d", spec("2026-10-31T21:00:00Z", "2026-10-31T23:00:00Z"));
    let (r21, r22) = (run_of(&world, 21), run_of(&world, 22));
    assert_eq!(world.state(r21, "a"), TaskState::Queued, "the first one asks for nothing");
    assert_eq!(world.state(r22, "a"), TaskState::NoStatus);
    world.restart();
    world.exchange("w", "b1", 8);
    assert_eq!(world.state(r21, "a"), TaskState::Queued);
    world.end(r21, "a", TryOutcome::Success);
    assert_eq!(world.state(r22, "a"), TaskState::Queued);
}

/// A run of the timetable waits for a run of the backfill, which waits for a run of the timetable that has no place.
#[test]
fn runs_of_both_kinds_that_wait_for_each_other_make_room() {
    let past = Task { depends_on_past: true, ..task("a", &[]) };
    let mut world = world(Dag { max_active_runs: 1, ..hourly(vec![past]) });
    pass_hours(&mut world, 1);
    let r01 = run_of(&world, 1);
    world.end(r01, "a", TryOutcome::Success);
    world.backfill(
        "d",
        BackfillSpec { max_active_runs: 1, ..spec("2026-10-31T23:00:00Z", "2026-11-01T00:00:00Z") },
    );
    pass_hours(&mut world, 1);
    // 02:00 runs, and asks for 01:00, which is cleared and has no place; that asks for 00:00 of the backfill.
    world.clear(r01, ClearSelection::default());
    work_off(&mut world, TryOutcome::Success);
    assert!(world.runs.values().all(|run| run.state == RunState::Success), "{:?}", world.runs);
    assert_eq!(world.backfills[&only(&world)].state, BackfillState::Finished);
}

#[test]
fn failures_in_a_row_pause_the_backfill_and_not_the_dag() {
    let limited = Dag { max_consecutive_failed_runs: Some(2), ..hourly(vec![task("a", &[])]) };
    let mut world = world(limited);
    world.backfill("d", BackfillSpec { max_active_runs: 1, ..evening() });
    let key = only(&world);
    for hour in [20, 21] {
        let run = run_of(&world, hour);
        world.end(run, "a", TryOutcome::Failed);
    }
    let row = world.backfills[&key].clone();
    assert_eq!(row.state, BackfillState::Paused);
    assert_eq!(
        row.reason.unwrap(),
        "SCH0228: 2 of its runs failed in a row (max_consecutive_failed_runs = 2), the last one is \
         backfill__2026-10-31T21:00:00Z"
    );
    assert!(!world.dags[&dag_id("d")].is_paused);
    world.change_backfill(key, BackfillChange::Resume);
    assert_eq!(world.runs.len(), 3);
}

#[test]
fn a_version_that_its_conf_does_not_fit_pauses_it() {
    let mut world = world(hourly(vec![task("a", &[])]));
    let file = "[dag]\nid = \"d\"\nschedule = { every = \"1h\" }\n[params.p]\ntype = \"integer\"\ndefault = 1\n\
        [[task]]\nid = \"a\"\ncommand = \"true\"\n";
    let narrower = crate::definition::load(file.as_bytes(), "d.toml").dag.unwrap();
    world.load(narrower);
    let conf = serde_json::json!({"p": "one"}).as_object().cloned().unwrap();
    // The shell refuses such a conf when a backfill is created; here the DAG is as if it had changed since.
    world.backfill("d", BackfillSpec { conf: Arc::new(conf), ..evening() });
    let key = only(&world);
    let row = &world.backfills[&key];
    assert_eq!(row.state, BackfillState::Paused);
    assert!(row.reason.as_deref().unwrap().starts_with("SCH0226: its conf does not fit"), "{row:?}");
    assert_eq!(world.runs.len(), 0);
    let past = Task { id: task_id("a"), depends_on_past: true, ..task("a", &[]) };
    world.backfill(
        "d",
        BackfillSpec {
            run_backwards: true,
            max_active_runs: 1,
            ..spec("2026-10-30T20:00:00Z", "2026-10-30T22:00:00Z")
        },
    );
    let second = *world.backfills.keys().next_back().unwrap();
    world.load(hourly(vec![past]));
    work_off(&mut world, TryOutcome::Success);
    assert!(world.backfills[&second].reason.as_deref().unwrap().starts_with("SCH0224"));
}

/// Nothing is loaded or made at once, however many dates there are.
#[test]
fn ten_years_of_hours_are_dealt_with_a_page_at_a_time() {
    let mut world = World::new();
    world.load(hourly(vec![task("a", &[])]));
    let request = world.request();
    let wide = spec("2016-11-01T00:00:00Z", "2026-10-31T23:00:00Z");
    let spec = Box::new(BackfillSpec { max_active_runs: 10, ..wide });
    let (dag_id, created_by) = (dag_id("d"), None);
    let mut engine = world.engine.clone();
    engine.step(Event::BackfillRequested { request, dag_id, spec, created_by }, world.now);
    let row = &engine.durable().backfills[0];
    assert_eq!(row.date_count, 87_648);
    let page = engine.backfill_page(world.now).unwrap();
    assert_eq!(page.dates.len(), 100);
    let actions = engine.step(
        Event::BackfillDates {
            backfill: page.backfill,
            dates: page.dates,
            found: Vec::new(),
            finished: Vec::new(),
        },
        world.now,
    );
    let made = actions.iter().filter(|action| matches!(action, crate::action::Action::BackfillDate(date) if date.outcome == DateOutcome::Created));
    assert_eq!(made.count(), 10);
    assert_eq!(engine.backfill_page(world.now), None, "its limit is reached");
}
