//! Refusals that have a code of their own, each reached the way a caller reaches it.

use std::{sync::Arc, time::Duration};

use tidemill_engine::{
    event::ClearSelection,
    ids::{RunKey, TaskInstanceKey},
    state::RunState,
};
use tidemill_scheduler::{AdminWrite, ClearRequest, Health, Scheduler};
use tokio::task::JoinSet;

use crate::world::{CHAIN, HandWorker, World, at, soon, success, task_id, trigger, trigger_of, wait_for_run};

const ONE: &str = "[[task]]\nid = \"only\"\ncommand = \"x\"\n";

fn clear_of(run: RunKey, latest: bool) -> ClearRequest {
    ClearRequest { latest, ..ClearRequest::new(run, ClearSelection::default()) }
}

async fn what_has_ended_is_not_cancelled_and_what_never_was_is_unknown(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "one", ONE).await;
    let mut changes = handle.subscribe();
    let run = trigger(&handle, "one").await;
    let mut worker = HandWorker::new(&handle, "w");
    let only = worker.next().await.remove(0);
    worker.exchange(vec![success(&only.attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    let refused = handle.cancel(run.key, AdminWrite::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string().as_str()),
        ("SCH0206", "the dag run has ended as success")
    );
    let unknown = handle.cancel(RunKey(run.key.0 + 1), AdminWrite::default()).await.unwrap_err();
    assert_eq!(unknown.code(), "SCH0203");
    assert_eq!(world.run(run.key).await.state, RunState::Success);
    scheduler.stop().await;
}

async fn a_run_that_is_ending_or_active_is_not_cleared_to_something_else(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    worker.next().await;
    let refused = handle.clear(clear_of(run.key, true), AdminWrite::default()).await.unwrap_err();
    assert_eq!(refused.code(), "SCH0217");
    let refused = handle.resume(run.key, AdminWrite::default()).await.unwrap_err();
    assert_eq!(refused.code(), "SCH0218");
    handle.cancel(run.key, AdminWrite::default()).await.unwrap();
    // Its task is being stopped; what is cleared now would be overtaken by the end of the run.
    let refused = handle.clear(clear_of(run.key, false), AdminWrite::default()).await.unwrap_err();
    assert_eq!(refused.code(), "SCH0216");
    scheduler.stop().await;
}

async fn a_date_outside_the_life_of_a_dag_gets_no_run(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "old", &format!("end_date = 2026-12-31\n{ONE}")).await;
    let dated = |date: &str| {
        let mut request = trigger_of("old");
        request.logical_date = Some(at(date));
        handle.trigger(request, AdminWrite::default())
    };
    assert_eq!(dated("2027-01-02T00:00:00Z").await.unwrap_err().code(), "SCH0209");
    dated("2026-12-30T00:00:00Z").await.unwrap();
    scheduler.stop().await;
}

async fn a_log_that_cannot_be_written_or_read_says_so(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "one", ONE).await;
    trigger(&handle, "one").await;
    let mut worker = HandWorker::new(&handle, "w");
    let only = worker.next().await.remove(0);
    // A file where the folder of the DAG's logs belongs.
    let folder = world.options().logs_dir.join("one");
    std::fs::write(&folder, "in the way").unwrap();
    let append = || handle.append_log(only.attempt.clone(), &only.token, 0, b"line\n".to_vec());
    assert_eq!(append().await.unwrap_err().code(), "SCH0106");
    assert_eq!(handle.read_log(only.attempt.clone(), 0, 10).await.unwrap_err().code(), "SCH0106");
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(append().await.unwrap(), 5, "the worker brings it again");
    scheduler.stop().await;
}

over_both_stores!(
    what_has_ended_is_not_cancelled_and_what_never_was_is_unknown,
    a_run_that_is_ending_or_active_is_not_cleared_to_something_else,
    a_date_outside_the_life_of_a_dag_gets_no_run,
    a_log_that_cannot_be_written_or_read_says_so,
);

/// One thread: what is spawned here runs before the loop sees the first message, so the queue fills up.
#[tokio::test]
async fn a_full_queue_refuses_what_does_not_fit_and_answers_the_rest() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    let Health { queue_limit, .. } = handle.health();
    let key = TaskInstanceKey { run: RunKey(1), task: task_id("none"), map_index: -1 };
    let mut calls = JoinSet::new();
    let extra = 50;
    for _ in 0..queue_limit + extra {
        let (handle, key) = (handle.clone(), key.clone());
        calls.spawn(async move { handle.explain(key).await });
    }
    let answers = soon("all answers", calls.join_all()).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), extra);
    assert!(refused.iter().all(|error| error.code() == "SCH0104"), "{refused:?}");
    handle.explain(key).await.unwrap();
    scheduler.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    let mut worker = HandWorker::new(&handle, "w");
    let request = worker.request(Vec::new());
    let parked = tokio::spawn({
        let handle = handle.clone();
        async move { handle.exchange(request).await }
    });
    // The answer shows that the exchange before it was taken.
    soon("the worker", async {
        while handle.workers().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scheduler.stop().await;
    assert_eq!(parked.await.unwrap().unwrap_err().code(), "SCH0105");
    let key = TaskInstanceKey { run: RunKey(1), task: task_id("none"), map_index: -1 };
    assert_eq!(handle.explain(key).await.unwrap_err().code(), "SCH0105");
}

#[tokio::test]
async fn options_that_make_no_sense_are_named() {
    let world = World::in_memory();
    for (interval, named) in
        [(Duration::ZERO, "must be longer than zero"), (Duration::from_secs(3601), "longer than an hour")]
    {
        let mut options = world.options();
        options.rescan_interval = interval;
        let (reader, writer) = (Arc::clone(&world.reader), Arc::clone(&world.writer));
        let error =
            Scheduler::start(options, reader, writer, Arc::new(world.clock.clone())).await.unwrap_err();
        assert_eq!(error.code(), "SCH0107");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("rescan_interval") && cause.contains(named), "{cause}");
    }
}
