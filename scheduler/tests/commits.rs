//! Commits that fail: nobody is told of what is not stored, and one bad run stops nothing else.

use std::time::Duration;

use tidemill_engine::{
    action::{RunChange, TryChange},
    ids::{AttemptKey, TaskInstanceKey, WorkerId},
    rows::TryRow,
    state::{RunState, TaskState},
};
use tidemill_protocol::worker::Verdict;
use tidemill_scheduler::{AdminWrite, Handle, StoreState};
use tidemill_store::{Batch, BatchId, batch::TryWrite, memory::Fault};

use crate::world::{CHAIN, HandWorker, World, at, soon, success, task_id, trigger, trigger_of, wait_for_run};

/// Advances the clock until the handle shows a state of the store: the loop waits for the clock.
async fn until_store(world: &World, handle: &Handle, is_ok: bool) {
    soon("a state of the store", async {
        while (handle.health().store == StoreState::Ok) != is_ok {
            world.clock.advance(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_tried_again_until_the_store_takes_it() {
    for fault in [Fault::Unavailable, Fault::LostBefore, Fault::LostAfter] {
        let world = World::in_memory();
        let scheduler = world.start().await;
        let handle = scheduler.handle();
        world.define(&handle, "chain", CHAIN).await;
        let store = world.memory.clone().unwrap();
        let mut worker = HandWorker::new(&handle, "w");
        let old = trigger(&handle, "chain").await;
        let held = worker.next().await.remove(0);

        store.inject(fault);
        if fault != Fault::LostAfter {
            // One that has arrived is not sent again.
            store.inject(fault);
        }
        let waiting = tokio::spawn({
            let handle = handle.clone();
            async move { handle.trigger(trigger_of("chain"), AdminWrite::default()).await }
        });
        // Answered only once it is stored; meanwhile leases are acknowledged and calls are refused.
        soon("the outage", async {
            while handle.health().store == StoreState::Ok {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(!handle.health().is_healthy());
        assert_eq!(worker.heartbeat().await.unwrap(), [], "{fault:?}");
        let refused = handle.pause(old.dag_id.clone(), true, AdminWrite::default()).await.unwrap_err();
        assert_eq!(refused.code(), "SCH0103", "{fault:?}");
        assert!(!waiting.is_finished(), "{fault:?}");
        until_store(&world, &handle, true).await;
        let run = soon("the trigger", waiting).await.unwrap().unwrap().run;
        let page = world.reader.runs(&tidemill_store::reader::RunQuery::default()).await.unwrap();
        assert_eq!(page.items.len(), 2, "{fault:?}: one run per trigger, however often it was written");
        assert!(page.items.iter().any(|row| row.key == run.key));
        let answer = worker.exchange(vec![success(&held.attempt)]).await;
        assert_eq!(answer.verdicts[0].verdict, Verdict::Accepted, "{fault:?}");
        world.check_rebuild(&handle).await;
        scheduler.stop().await;
    }
}

#[tokio::test]
async fn a_long_outage_loses_no_attempt() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let store = world.memory.clone().unwrap();
    let mut worker = HandWorker::new(&handle, "w");
    let held = worker.next().await.remove(0);
    for _ in 0..12 {
        store.inject(Fault::Unavailable);
    }
    let _waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.trigger(trigger_of("chain"), AdminWrite::default()).await }
    });
    until_store(&world, &handle, false).await;
    // Twelve failures with back-off last longer than a lease. The silence is the store's, not the worker's.
    soon("the end of the outage", async {
        while handle.health().store != StoreState::Ok {
            world.clock.advance(Duration::from_millis(200));
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(tidemill_scheduler::Clock::now(&world.clock).mono > Duration::from_secs(30));
    let answer = worker.exchange(vec![success(&held.attempt)]).await;
    assert_eq!(answer.verdicts[0].verdict, Verdict::Accepted);
    assert_eq!(world.tasks(run.key).await["first"].losses, 0);
    scheduler.stop().await;
}

/// Writes behind the scheduler's back, as a person with a database shell might.
async fn tamper(world: &World, handle: &Handle, change: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new(handle.health().term, BatchId(1_000_000), at("2026-11-05T12:00:00Z"));
    change(&mut batch);
    world.writer.commit(&batch).await.unwrap();
}

#[tokio::test]
async fn a_store_that_disagrees_makes_the_scheduler_believe_the_store() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let held = worker.next().await.remove(0);
    // The run was ended by somebody else.
    let stored = world.run(run.key).await;
    tamper(&world, &handle, |batch| {
        let mut row = stored.clone();
        row.state = RunState::Failed;
        row.finished_at = Some(at("2026-11-05T12:00:00Z"));
        batch.runs.push(RunChange { from: Some(stored.state), row });
    })
    .await;
    let mut second = trigger_of("chain");
    second.dag_id = run.dag_id.clone();
    // The cancellation does not fit what is stored, alone and again.
    let refused = soon("the refusal", handle.cancel(run.key, AdminWrite::default())).await;
    assert_eq!(refused.unwrap_err().code(), "SCH0102");
    // After the rebuild the engine knows better, and everything else goes on.
    let refused = soon("the second", handle.cancel(run.key, AdminWrite::default())).await;
    assert_eq!(refused.unwrap_err().code(), "SCH0206");
    let answer = worker.exchange(vec![success(&held.attempt)]).await;
    assert_ne!(answer.verdicts[0].verdict, Verdict::Accepted);
    let mut changes = handle.subscribe();
    let next = soon("a trigger", handle.trigger(second, AdminWrite::default())).await.unwrap().run;
    let first = worker.next().await.remove(0);
    let answer = worker.exchange(vec![success(&first.attempt)]).await;
    worker.exchange(vec![success(&answer.assignments[0].attempt)]).await;
    wait_for_run(&mut changes, next.key, RunState::Success).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn a_run_that_the_schema_refuses_is_set_aside_and_the_rest_goes_on() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "bad", CHAIN).await;
    world.define(&handle, "good", CHAIN).await;
    let bad = trigger(&handle, "bad").await;
    // A row is in the way of the run's first try.
    let instance = TaskInstanceKey { run: bad.key, task: task_id("first"), map_index: -1 };
    tamper(&world, &handle, |batch| {
        let row = TryRow {
            attempt: AttemptKey { instance, try_number: 1, epoch: 1 },
            worker: WorkerId::new("ghost").unwrap(),
            boot_id: "ghost".into(),
            queued_at: at("2026-11-05T12:00:00Z"),
            started_at: None,
            finished_at: Some(at("2026-11-05T12:00:00Z")),
            outcome: Some(tidemill_engine::state::TryOutcome::Lost),
            exit_code: None,
            reason: None,
        };
        let change = TryChange { is_new: true, from_epoch: None, row };
        batch.tries.push(TryWrite { change, token_hash: Some("x".into()), rendered: None });
    })
    .await;
    let mut changes = handle.subscribe();
    let good = trigger(&handle, "good").await;
    let mut worker = HandWorker::new(&handle, "w");
    // The first exchange meets the refusal; the worker asks again, as it does after any error.
    let mut given = Vec::new();
    soon("work of the good run", async {
        while given.is_empty() {
            let request = worker.request(Vec::new());
            if let Ok(answer) = handle.exchange(request).await {
                given = answer.assignments;
            }
        }
    })
    .await;
    assert!(given.iter().all(|assignment| assignment.attempt.instance.run == good.key), "{given:?}");
    worker.held = given.iter().map(|assignment| assignment.attempt.clone()).collect();
    let answer = worker.exchange(vec![success(&given[0].attempt)]).await;
    worker.exchange(vec![success(&answer.assignments[0].attempt)]).await;
    wait_for_run(&mut changes, good.key, RunState::Success).await;
    let row = world.run(bad.key).await;
    assert_eq!(row.state, RunState::Failed);
    assert!(row.reason.as_deref().is_some_and(|reason| reason.starts_with("SCH0501")), "{:?}", row.reason);
    assert_eq!(handle.health().quarantined_runs, 1);
    assert_ne!(world.tasks(bad.key).await.get("first").map(|row| row.state), Some(TaskState::Queued));
    scheduler.stop().await;
}
