//! Everything is dropped and rebuilt in the middle of work: nothing is lost and nothing happens twice.

use std::{sync::Arc, time::Duration};

use tidemill_engine::state::{RunState, TaskState, TryOutcome};
use tidemill_protocol::worker::Verdict;

use crate::world::{CHAIN, HandWorker, World, report, success, trigger, wait_for_run};

async fn a_restart_keeps_attempts_and_delivers_the_same_token_again(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    let before = handle.durable().await.unwrap();
    scheduler.kill().await;

    let scheduler = world.start().await;
    let handle = scheduler.handle();
    assert_eq!(handle.durable().await.unwrap(), before);
    worker.reconnect(&handle);
    // The worker had not received it: the same assignment, the same token, rendered anew.
    worker.held.clear();
    let again = worker.next().await.remove(0);
    assert_eq!((&again.attempt, &again.token, &again.work), (&first.attempt, &first.token, &first.work));

    let mut changes = handle.subscribe();
    let answer = worker.exchange(vec![success(&first.attempt)]).await;
    assert_eq!(answer.verdicts[0].verdict, Verdict::Accepted);
    let second = answer.assignments[0].attempt.clone();
    // The reply was lost with the server; the result comes again to the next one.
    scheduler.kill().await;
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    drop(changes);
    changes = handle.subscribe();
    worker.reconnect(&handle);
    let answer = worker.exchange(vec![success(&first.attempt)]).await;
    assert_eq!(answer.verdicts[0].verdict, Verdict::Duplicate);
    worker.exchange(vec![success(&second)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    let tries = world.reader.tries(&first.attempt.instance).await.unwrap();
    assert_eq!(tries.len(), 1, "one execution, whatever was restarted");
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn a_retry_survives_a_restart_and_is_not_early(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    let answer = worker.exchange(vec![report(&first.attempt, TryOutcome::Failed, 1)]).await;
    assert_eq!((answer.verdicts[0].verdict, answer.assignments.len()), (Verdict::Accepted, 0));
    assert_eq!(world.tasks(run.key).await["first"].state, TaskState::UpForRetry);
    world.clock.advance(Duration::from_secs(4));
    scheduler.kill().await;

    let scheduler = world.start().await;
    let handle = scheduler.handle();
    worker.reconnect(&handle);
    let request = worker.request(Vec::new());
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.exchange(request).await }
    });
    world.clock.advance(Duration::from_millis(5_900));
    // A question is answered after everything before it, so nothing was assigned by now.
    let key = first.attempt.instance.clone();
    let why = handle.explain(key).await.unwrap();
    assert_eq!(why[0].code(), "retry_at", "{why:?}");
    assert!(!waiting.is_finished());
    world.clock.advance(Duration::from_millis(200));
    let answer = crate::world::soon("the retry", waiting).await.unwrap().unwrap();
    assert_eq!(answer.assignments[0].attempt.try_number, 2);
    scheduler.stop().await;
}

async fn a_worker_that_never_comes_back_loses_its_attempt_after_a_whole_lease(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    worker.next().await;
    world.clock.advance(Duration::from_secs(29));
    scheduler.kill().await;
    // Leases are granted anew at a start: the silence was the server's.
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.clock.advance(Duration::from_secs(29));
    assert_eq!(handle.durable().await.unwrap().open_tries.len(), 1);
    let mut other = HandWorker::new(&handle, "other");
    world.clock.advance(Duration::from_secs(2));
    let again = other.next().await.remove(0);
    assert_eq!(again.attempt.try_number, 2);
    assert_eq!(world.tasks(run.key).await["first"].losses, 1);
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn scheduled_dates_are_created_once_across_restarts_and_clock_jumps(world: World) {
    let mut scheduler = world.start().await;
    let handle = scheduler.handle();
    let text =
        "schedule = \"*/5 * * * *\"\nstart_date = 2026-11-01\n[[task]]\nid = \"only\"\noperator = \"noop\"\n";
    world.define(&handle, "often", text).await;
    for round in 0..4_u32 {
        let mut changes = scheduler.handle().subscribe();
        world.clock.advance(Duration::from_secs(300));
        let is_end = |change: &tidemill_scheduler::Change| {
            matches!(change, tidemill_scheduler::Change::Run { state: RunState::Success, .. })
        };
        crate::world::wait_for(&mut changes, "a scheduled run", is_end).await;
        // Back by an hour and forth again: no date comes twice.
        let now = tidemill_scheduler::Clock::now(&world.clock).wall;
        world.clock.jump_to(now - chrono::TimeDelta::hours(1));
        scheduler.handle().durable().await.unwrap();
        world.clock.jump_to(now);
        if round % 2 == 0 {
            scheduler.kill().await;
            scheduler = world.start().await;
        }
    }
    let query = tidemill_store::reader::RunQuery::default();
    let runs = world.reader.runs(&query).await.unwrap().items;
    let mut dates: Vec<String> = runs.iter().map(|run| run.run_id.to_string()).collect();
    dates.sort();
    let expected: Vec<String> =
        (1..=4).map(|n| format!("scheduled__2026-11-05T12:{:02}:00Z", n * 5)).collect();
    assert_eq!(dates, expected);
    world.check_rebuild(&scheduler.handle()).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn a_database_file_that_is_opened_again_holds_everything_that_was_acknowledged() {
    let mut world = World::in_sqlite().await;
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    let mut result = success(&first.attempt);
    result.outputs.insert("path".into(), serde_json::json!("/data/x"));
    let second = worker.exchange(vec![result]).await.assignments.remove(0);
    let before = handle.durable().await.unwrap();
    scheduler.kill().await;
    drop(handle);
    world.reopen().await;

    let scheduler = world.start().await;
    let handle = scheduler.handle();
    assert_eq!(handle.durable().await.unwrap(), before);
    worker.reconnect(&handle);
    worker.held.clear();
    let mut again = worker.next().await.remove(0);
    again.lease_ms = second.lease_ms;
    assert_eq!(again, second, "rendered anew from what is stored");
    let mut changes = handle.subscribe();
    worker.exchange(vec![success(&second.attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

/// One thread: nothing else has had a turn between the start and the question.
#[tokio::test]
async fn a_start_that_leads_says_so_at_once() {
    let world = World::in_memory();
    let (reader, writer) = (Arc::clone(&world.reader), Arc::clone(&world.writer));
    let scheduler =
        tidemill_scheduler::Scheduler::start(world.options(), reader, writer, Arc::new(world.clock.clone()))
            .await
            .unwrap();
    let health = scheduler.handle().health();
    assert!(health.is_leader && health.term > 0, "{health:?}");
    scheduler.stop().await;
}

over_both_stores!(
    a_restart_keeps_attempts_and_delivers_the_same_token_again,
    a_retry_survives_a_restart_and_is_not_early,
    a_worker_that_never_comes_back_loses_its_attempt_after_a_whole_lease,
    scheduled_dates_are_created_once_across_restarts_and_clock_jumps,
);
