//! Stories: what a user would tell, one behaviour each.

use std::time::Duration;

use super::world::{World, at, branch, dag, dag_id, following, noop, refusal, result, task, task_id};
use crate::{
    action::{Action, Refusal, Reply, Verdict},
    definition::{Dag, Schedule, Task, TimetableKind},
    event::{AttemptResult, ClearSelection, Event},
    ids::{PoolName, RunKey},
    rows::PoolRow,
    state::{RunState, RunType, TaskState, TriggerRule, TryOutcome},
    wait_reason::WaitReason,
};

fn diamond() -> Dag {
    dag("d", vec![task("a", &[]), task("b", &["a"]), task("c", &["a"]), task("e", &["b", "c"])])
}

fn verdict(actions: &[Action]) -> Option<Verdict> {
    actions.iter().find_map(|action| match action {
        Action::Answer(answer) => match answer.reply {
            Reply::Verdict(verdict) => Some(verdict),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn a_diamond_runs_in_order_and_its_run_succeeds() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    assert_eq!(world.line(run), "running | a=queued b=no_status c=no_status e=no_status");
    world.end(run, "a", TryOutcome::Success);
    assert_eq!(world.line(run), "running | a=success b=queued c=queued e=no_status");
    world.end(run, "c", TryOutcome::Success);
    world.end(run, "b", TryOutcome::Success);
    world.end(run, "e", TryOutcome::Success);
    assert_eq!(world.line(run), "success | a=success b=success c=success e=success");
}

#[test]
fn a_failure_makes_everything_below_upstream_failed_and_the_run_failed() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.end(run, "b", TryOutcome::Failed);
    assert_eq!(world.line(run), "running | a=success b=failed c=queued e=upstream_failed");
    world.end(run, "c", TryOutcome::Success);
    assert_eq!(world.line(run), "failed | a=success b=failed c=success e=upstream_failed");
    assert_eq!(world.runs[&run].reason.as_deref(), Some("failed: b"));
}

#[test]
fn a_failure_beside_the_leaves_is_marked_with_failures() {
    let mut world = World::new();
    let cleanup = Task { trigger_rule: TriggerRule::AllDone, ..task("cleanup", &["a"]) };
    world.load(dag("d", vec![task("a", &[]), cleanup]));
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Failed);
    world.end(run, "cleanup", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Success);
    assert!(world.runs[&run].with_failures);
}

fn branching() -> Dag {
    let join =
        Task { trigger_rule: TriggerRule::NoneFailedMinOneSuccess, ..task("join", &["left", "right"]) };
    // `direct` is below the branch and below a followed task: it is not skipped when `left` is followed.
    let direct = Task { trigger_rule: TriggerRule::NoneFailed, ..task("direct", &["pick", "left"]) };
    dag("d", vec![branch("pick", &[]), task("left", &["pick"]), task("right", &["pick"]), join, direct])
}

#[test]
fn a_branch_skips_what_it_does_not_follow_and_nothing_deeper() {
    let mut world = World::new();
    world.load(branching());
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end_with(run, "pick", following(&["left"]));
    assert_eq!(
        world.line(run),
        "running | pick=success left=queued right=skipped join=no_status direct=no_status"
    );
    world.end(run, "left", TryOutcome::Success);
    world.end(run, "join", TryOutcome::Success);
    world.end(run, "direct", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Success);
}

#[test]
fn a_clear_below_a_branch_applies_the_stored_verdict_again() {
    let mut world = World::new();
    world.load(branching());
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end_with(run, "pick", following(&["left"]));
    for task in ["left", "join", "direct"] {
        world.end(run, task, TryOutcome::Success);
    }
    world.clear(
        run,
        ClearSelection { tasks: vec![task_id("right"), task_id("join")], ..ClearSelection::default() },
    );
    assert_eq!(
        world.line(run),
        "running | pick=success left=success right=skipped join=queued direct=success"
    );
    world.end(run, "join", TryOutcome::Success);
    world.clear(
        run,
        ClearSelection { tasks: vec![task_id("pick")], downstream: true, ..ClearSelection::default() },
    );
    world.end_with(run, "pick", following(&["right"]));
    assert_eq!(
        world.line(run),
        "running | pick=success left=skipped right=queued join=no_status direct=skipped"
    );
}

#[test]
fn a_branch_that_chooses_a_stranger_fails_with_the_allowed_ids() {
    let mut world = World::new();
    world.load(branching());
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end_with(run, "pick", following(&["join"]));
    let reason = world.tasks[&World::key(run, "pick")].reason.clone().unwrap();
    assert!(reason.starts_with("SCH0111") && reason.contains("left, right, direct"), "{reason}");
    assert_eq!(world.runs[&run].state, RunState::Failed);
}

#[test]
fn a_branch_without_a_verdict_fails() {
    let mut world = World::new();
    world.load(branching());
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    world.end(run, "pick", TryOutcome::Success);
    assert!(world.tasks[&World::key(run, "pick")].reason.as_ref().unwrap().starts_with("SCH0110"));
}

#[test]
fn retry_waits_until_retry_at_and_survives_a_restart() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { retries: 1, ..task("a", &[]) }]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Failed);
    assert_eq!(world.state(run, "a"), TaskState::UpForRetry);
    world.pass(200);
    world.restart();
    world.exchange("w", "b1", 1);
    world.pass(99);
    assert_eq!(world.state(run, "a"), TaskState::UpForRetry);
    world.exchange("w", "b1", 1);
    world.pass(1);
    assert_eq!(world.state(run, "a"), TaskState::Queued);
    let (_, attempt) = world.live(run, "a");
    assert_eq!((attempt.try_number, attempt.epoch), (2, 2));
    world.end(run, "a", TryOutcome::Failed);
    assert_eq!(world.line(run), "failed | a=failed");
}

#[test]
fn a_retry_delay_is_never_longer_than_itself_after_a_clock_jump() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { retries: 1, ..task("a", &[]) }]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Failed);
    world.now.wall = at("2020-01-01T00:00:00Z");
    world.restart();
    world.pass(299);
    world.exchange("w", "b1", 1);
    assert_eq!(world.state(run, "a"), TaskState::UpForRetry);
    world.pass(1);
    assert_eq!(world.state(run, "a"), TaskState::Queued);
}

#[test]
fn exit_as_skip_and_fail_without_retry_end_the_try_at_once() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { retries: 5, ..task("a", &[]) }, Task { retries: 5, ..task("b", &[]) }]));
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Skipped);
    world.end_with(run, "b", AttemptResult { is_final: true, ..result(TryOutcome::Failed) });
    assert_eq!(world.line(run), "failed | a=skipped b=failed");
}

#[test]
fn losses_have_a_budget_of_their_own() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { max_lost_retries: 1, ..task("a", &[]) }]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    world.pass(31);
    world.exchange("w", "b2", 1);
    assert_eq!(world.live(run, "a").1.epoch, 2, "the lease ended and the task was given out again");
    world.exchange("w", "b3", 1);
    assert_eq!(world.line(run), "failed | a=failed", "the second loss is one too many");
    assert!(world.tasks[&World::key(run, "a")].reason.as_ref().unwrap().starts_with("SCH0112"));
}

#[test]
fn heartbeats_keep_a_lease_and_silence_ends_it() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[])]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    for _ in 0..20 {
        let (worker, attempt) = world.live(run, "a");
        world.step(Event::Heartbeat { worker, boot_id: "b1".to_owned(), attempts: vec![attempt] });
        world.pass(25);
    }
    assert_eq!(world.live(run, "a").1.epoch, 1);
    world.pass(6);
    assert_eq!(world.state(run, "a"), TaskState::Scheduled, "{}", world.line(run));
    let reasons = world.engine.explain(&World::key(run, "a"), world.now);
    assert_eq!(reasons, [WaitReason::NoWorker { queue: "default".to_owned() }]);
}

#[test]
fn a_late_result_is_fenced_and_a_repeated_one_is_a_duplicate() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[]), task("b", &["a"])]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    let (worker, first) = world.live(run, "a");
    world.pass(31);
    world.exchange("v", "b1", 1);
    let late = world.finish(worker.clone(), first.clone(), result(TryOutcome::Success));
    assert_eq!(verdict(&late), Some(Verdict::Fenced));
    assert_eq!(world.state(run, "a"), TaskState::Queued);
    let (other, second) = world.live(run, "a");
    assert_ne!(second, first);
    let done = world.finish(other.clone(), second.clone(), result(TryOutcome::Success));
    assert_eq!(verdict(&done), Some(Verdict::Accepted));
    let again = world.finish(other.clone(), second.clone(), result(TryOutcome::Failed));
    assert_eq!(verdict(&again), Some(Verdict::Duplicate));
    assert_eq!(world.state(run, "a"), TaskState::Success);
    world.restart();
    let again = world.finish(other, second, result(TryOutcome::Failed));
    assert_eq!(verdict(&again), Some(Verdict::Duplicate), "known from the stored try after a restart");
    let late = world.finish(worker, first, result(TryOutcome::Success));
    assert_eq!(verdict(&late), Some(Verdict::Fenced));
}

#[test]
fn what_a_worker_should_hold_and_does_not_list_is_delivered_again() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[])]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    let live = world.live(run, "a");
    world.assigned.clear();
    let actions = world.exchange("w", "b1", 1);
    let again = actions
        .iter()
        .any(|action| matches!(action, Action::Assign(a) if a.is_redelivery && a.attempt == live.1));
    assert!(again, "{actions:?}");
    assert_eq!(world.tasks[&live.1.instance].try_number, 1);
}

#[test]
fn clearing_a_running_task_waits_for_its_end() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 2);
    let run = world.trigger("d");
    let actions = world.clear(run, ClearSelection { tasks: vec![task_id("a")], ..ClearSelection::default() });
    assert!(actions.iter().any(|action| matches!(action, Action::Cancel(_))));
    assert_eq!(world.live(run, "a").1.try_number, 1, "the old try is not known to be dead");
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.live(run, "a").1.try_number, 2);
    assert_eq!(world.tasks[&World::key(run, "a")].failures, 0);
}

#[test]
fn clear_and_rerun_keeps_counting_tries_and_resets_the_budget() {
    let mut world = World::new();
    world.load(dag("d", vec![Task { retries: 1, retry_delay: Duration::from_secs(1), ..task("a", &[]) }]));
    world.exchange("w", "b1", 1);
    let run = world.trigger("d");
    for _ in 0..2 {
        world.end(run, "a", TryOutcome::Failed);
        world.pass(1);
    }
    assert_eq!(world.line(run), "failed | a=failed");
    world.clear(run, ClearSelection::default());
    let (_, attempt) = world.live(run, "a");
    assert_eq!((attempt.try_number, attempt.epoch), (3, 3));
    world.end(run, "a", TryOutcome::Failed);
    assert_eq!(world.state(run, "a"), TaskState::UpForRetry, "the budget is fresh");
    world.restart();
    assert_eq!(world.tasks[&World::key(run, "a")].try_number, 3);
}

#[test]
fn retry_from_failure_clears_only_what_failed() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.end(run, "b", TryOutcome::Failed);
    world.end(run, "c", TryOutcome::Success);
    world.clear(run, ClearSelection { only_failed: true, ..ClearSelection::default() });
    assert_eq!(world.line(run), "running | a=success b=queued c=success e=no_status");
}

#[test]
fn marking_a_failed_task_as_success_lets_the_run_go_on() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.end(run, "b", TryOutcome::Failed);
    world.end(run, "c", TryOutcome::Success);
    assert_eq!(world.runs[&run].state, RunState::Failed);
    world.mark(run, "b", TaskState::Success);
    assert_eq!(world.line(run), "running | a=success b=success c=success e=queued");
}

#[test]
fn marking_a_leaf_of_a_finished_run_changes_its_outcome() {
    let mut world = World::new();
    world.load(dag("d", vec![task("a", &[])]));
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.end(run, "a", TryOutcome::Success);
    world.mark(run, "a", TaskState::Failed);
    assert_eq!(world.line(run), "failed | a=failed");
    world.mark(run, "a", TaskState::Success);
    assert_eq!(world.line(run), "success | a=success");
}

#[test]
fn marking_a_running_task_stops_it_first() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.mark(run, "a", TaskState::Success);
    assert_eq!(world.state(run, "a"), TaskState::Queued);
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.line(run), "running | a=success b=queued c=queued e=no_status");
}

#[test]
fn cancel_stops_what_runs_and_skips_the_rest() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    let request = world.request();
    world.step(Event::Cancel { request, run, ended: None });
    assert_eq!(world.line(run), "running | a=queued b=skipped c=skipped e=skipped");
    world.restart();
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.line(run), "cancelled | a=skipped b=skipped c=skipped e=skipped");
}

#[test]
fn cancelling_a_queued_run_ends_it_at_once() {
    let mut world = World::new();
    world.load(Dag { max_active_runs: 1, ..diamond() });
    world.exchange("w", "b1", 4);
    world.trigger("d");
    let second = world.trigger("d");
    assert_eq!(world.runs[&second].state, RunState::Queued);
    let reasons = world.engine.explain(&World::key(second, "a"), world.now);
    assert_eq!(reasons, [WaitReason::RunQueued { active: 1, limit: 1 }]);
    let request = world.request();
    world.step(Event::Cancel { request, run: second, ended: None });
    assert_eq!(world.runs[&second].state, RunState::Cancelled);
}

#[test]
fn a_run_that_reaches_its_timeout_fails() {
    let mut world = World::new();
    world.load(Dag { run_timeout: Some(Duration::from_secs(20)), ..diamond() });
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.pass(10);
    world.restart();
    world.exchange("w", "b1", 4);
    world.pass(9);
    assert_eq!(world.runs[&run].timed_out_at, None);
    world.pass(1);
    world.end(run, "a", TryOutcome::Stopped);
    assert_eq!(world.runs[&run].state, RunState::Failed);
    assert!(world.runs[&run].reason.as_ref().unwrap().starts_with("timed_out"));
}

#[test]
fn marking_a_run_decides_its_leaves() {
    for (state, line) in [
        (RunState::Success, "success | a=success b=skipped c=skipped e=success"),
        (RunState::Failed, "failed | a=failed b=skipped c=skipped e=failed"),
    ] {
        let mut world = World::new();
        world.load(diamond());
        world.exchange("w", "b1", 4);
        let run = world.trigger("d");
        let request = world.request();
        world.step(Event::MarkRun { request, run, state, finished: None });
        world.restart();
        world.end(run, "a", TryOutcome::Stopped);
        assert_eq!(world.line(run), line);
    }
}

#[test]
fn noops_never_leave_the_engine() {
    let mut world = World::new();
    let tasks = (0..40).map(|i| {
        let up = format!("t{}", i - 1);
        let upstream: Vec<&str> = if i == 0 { vec![] } else { vec![up.as_str()] };
        noop(&format!("t{i}"), &upstream)
    });
    world.load(dag("d", tasks.collect()));
    let run = world.trigger("d");
    assert_eq!(world.runs[&run].state, RunState::Success);
    assert_eq!(world.tries.len(), 0);
}

#[test]
fn pools_hold_back_by_slots_and_say_so() {
    let mut world = World::new();
    let pool = PoolName::new("gpu").unwrap();
    let heavy = |id: &str, slots| Task { pool: pool.clone(), pool_slots: slots, ..task(id, &[]) };
    world.load(dag("d", vec![heavy("a", 2), heavy("b", 2), heavy("c", 1), heavy("huge", 9)]));
    world.exchange("w", "b1", 8);
    let run = world.trigger("d");
    let why = |world: &World, task: &str| world.engine.explain(&World::key(run, task), world.now);
    assert_eq!(why(&world, "a"), [WaitReason::PoolUnknown { pool: pool.clone() }]);
    let request = world.request();
    let row = PoolRow { name: pool.clone(), slots: 3, description: String::new() };
    world.step(Event::PoolChanged { request, pool: row });
    assert_eq!(world.line(run), "running | a=queued b=scheduled c=queued huge=scheduled");
    assert_eq!(why(&world, "b"), [WaitReason::PoolFull { pool: pool.clone(), slots: 3, used: 3, wanted: 2 }]);
    assert_eq!(why(&world, "huge"), [WaitReason::PoolTooSmall { pool, slots: 3, wanted: 9 }]);
    world.end(run, "a", TryOutcome::Success);
    assert_eq!(world.state(run, "b"), TaskState::Queued);
}

#[test]
fn limits_of_one_dag_block_no_other() {
    let mut world = World::new();
    world.load(Dag { max_active_tasks: 1, ..dag("narrow", vec![task("a", &[]), task("b", &[])]) });
    let limited = Task { max_active_per_dag: Some(1), ..task("a", &[]) };
    world.load(dag("wide", vec![limited, task("b", &[])]));
    world.exchange("w", "b1", 8);
    let narrow = world.trigger("narrow");
    let (first, second) = (world.trigger("wide"), world.trigger("wide"));
    assert_eq!(world.line(narrow), "running | a=queued b=scheduled");
    assert_eq!(world.line(first), "running | a=queued b=queued");
    assert_eq!(world.line(second), "running | a=scheduled b=queued");
    let why = |world: &World, run, task: &str| world.engine.explain(&World::key(run, task), world.now);
    assert_eq!(why(&world, narrow, "b"), [WaitReason::DagLimit { limit: 1 }]);
    assert_eq!(why(&world, second, "a"), [WaitReason::TaskLimit { limit: 1 }]);
    world.end(first, "a", TryOutcome::Success);
    assert_eq!(world.state(second, "a"), TaskState::Queued);
}

#[test]
fn the_heaviest_goes_first_then_the_oldest_date_then_file_order() {
    let mut world = World::new();
    let heavy = Task { priority_weight: 10, ..task("heavy", &[]) };
    world.load(dag("d", vec![task("light", &[]), heavy, task("last", &[])]));
    let (first, second) = (world.trigger("d"), world.trigger("d"));
    let mut order = Vec::new();
    world.exchange("w", "b1", 1);
    for _ in 0..6 {
        let (_, attempt) = world.assigned.first().cloned().unwrap();
        order.push((attempt.instance.run, attempt.instance.task.to_string()));
        world.end(attempt.instance.run, attempt.instance.task.as_str(), TryOutcome::Success);
    }
    let expected: Vec<(RunKey, String)> = [
        (first, "heavy"),
        (second, "heavy"),
        (first, "light"),
        (first, "last"),
        (second, "light"),
        (second, "last"),
    ]
    .map(|(run, task)| (run, task.to_owned()))
    .into();
    assert_eq!(order, expected);
}

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
fn a_missing_dag_is_not_scheduled_and_can_be_deleted() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    let delete = |world: &mut World| {
        let request = world.request();
        refusal(&world.step(Event::DagDeleted { request, dag_id: dag_id("d") }))
    };
    assert_eq!(delete(&mut world), Some(Refusal::FileExists("d.toml".to_owned())));
    world.step(Event::DagMissing { dag_id: dag_id("d") });
    assert_eq!(delete(&mut world), Some(Refusal::HasActiveRuns(1)));
    for task in ["a", "b", "c", "e"] {
        world.end(run, task, TryOutcome::Success);
    }
    assert_eq!(world.runs[&run].state, RunState::Success, "its run went on");
    assert_eq!(delete(&mut world), None);
}

#[test]
fn a_run_keeps_the_version_that_it_started_with() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    world.load(dag("d", vec![task("other", &[])]));
    for task in ["a", "b", "c", "e"] {
        world.end(run, task, TryOutcome::Success);
    }
    assert_eq!(world.runs[&run].state, RunState::Success);
    let next = world.trigger("d");
    assert_eq!(world.line(next), "running | other=queued");
}

#[test]
fn a_finished_run_can_be_cleared_to_the_latest_version() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    for task in ["a", "b", "c", "e"] {
        world.end(run, task, TryOutcome::Success);
    }
    world.load(dag("d", vec![task("a", &[]), task("z", &["a"])]));
    let (request, finished) = (world.request(), world.finished(run));
    let selection = ClearSelection::default();
    world.step(Event::Clear { request, run, selection, is_dry_run: false, finished, latest: true });
    assert_eq!(world.line(run), "running | a=queued z=no_status");
    assert_eq!(world.live(run, "a").1.try_number, 2);
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut world = World::new();
    world.load(diamond());
    world.exchange("w", "b1", 4);
    let run = world.trigger("d");
    let request = world.request();
    let selection = ClearSelection::default();
    let actions =
        world.step(Event::Clear { request, run, selection, is_dry_run: true, finished: None, latest: false });
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert_eq!(world.line(run), "running | a=queued b=no_status c=no_status e=no_status");
}
