//! What goes wrong once must not stop what is right: refused files, unreadable rows, mistakes of our own.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::Engine as _;
use serde_json::json;
use tidemill_engine::{
    event::ClearSelection,
    state::{RunState, TryOutcome},
};
use tidemill_protocol::worker::{AttemptReport, Verdict};
use tidemill_scheduler::{AdminWrite, ClearRequest, Handle, Scheduler, StoreState};
use tidemill_store::{Batch, BatchId, batch::OutputsWrite, memory::Fault};

use crate::{
    world::{CHAIN, HandWorker, STRICT, World, at, report, soon, success, trigger, wait_for_run},
    writer::HandWriter,
};

const ONE: &str = "[[task]]\nid = \"only\"\ncommand = \"x\"\n";

/// Lets the clock run until something holds.
async fn until(world: &World, what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            world.clock.advance(Duration::from_millis(5));
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn start_over(world: &World, writer: &HandWriter) -> Scheduler {
    let (reader, clock) = (Arc::clone(&world.reader), Arc::new(world.clock.clone()));
    let started = Scheduler::start(world.options(), reader, Arc::new(writer.clone()), clock);
    let scheduler = soon("a start", started).await.unwrap();
    soon("the first round", scheduler.handle().durable()).await.unwrap();
    scheduler
}

fn clear(run: tidemill_engine::ids::RunKey) -> ClearRequest {
    ClearRequest::new(run, ClearSelection::default())
}

async fn finish_one(handle: &Handle, worker: &mut HandWorker, id: &str) -> tidemill_engine::rows::RunRow {
    let mut changes = handle.subscribe();
    let run = trigger(handle, id).await;
    let only = worker.next().await.remove(0);
    worker.exchange(vec![success(&only.attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    run
}

#[tokio::test]
async fn a_file_that_the_database_refuses_says_so_and_holds_nothing_up() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    let store = world.memory.clone().unwrap();
    // Refused together with another one, and again by itself.
    store.inject(Fault::Refused);
    store.inject(Fault::Refused);
    let folder = world.folder.path().join("new");
    std::fs::create_dir(&folder).unwrap();
    for id in ["bad", "innocent"] {
        std::fs::write(folder.join(format!("{id}.toml")), format!("[dag]\nid = \"{id}\"\n{ONE}")).unwrap();
    }
    std::fs::rename(folder, world.dags_dir().join("new")).unwrap();
    until(&world, "the word on the file", || {
        let is_told =
            |error: &tidemill_store::batch::ImportError| error.problems[0]["code"] == json!("SCH0305");
        handle.import_errors().first().is_some_and(is_told)
    })
    .await;
    world.define(&handle, "good", ONE).await;
    trigger(&handle, "good").await;
    assert!(handle.dag(&crate::world::dag_id("bad")).is_none());
    // Another save is another try.
    let mut changes = handle.subscribe();
    assert!(handle.dag(&crate::world::dag_id("innocent")).is_some());
    world.write("new/bad.toml", format!("[dag]\nid = \"bad\"\ndescription = \"better\"\n{ONE}"));
    let is_gone =
        |change: &tidemill_scheduler::Change| matches!(change, tidemill_scheduler::Change::Dag { .. });
    crate::world::wait_for(&mut changes, "the better file", is_gone).await;
    assert_eq!(handle.import_errors().len(), 0);
    scheduler.stop().await;
}

/// A batch under a number that an answer was lost for must not be taken for another one.
#[tokio::test]
async fn nothing_acknowledged_is_lost_when_a_run_is_set_aside_under_lost_answers() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "bad", ONE).await;
    world.define(&handle, "good", ONE).await;
    let bad = trigger(&handle, "bad").await;
    let store = world.memory.clone().unwrap();
    for fault in [Fault::Refused, Fault::LostAfter, Fault::LostAfter] {
        store.inject(fault);
    }
    let mut worker = HandWorker::new(&handle, "w");
    let request = worker.request(Vec::new());
    let refused = tokio::spawn({
        let handle = handle.clone();
        async move { handle.exchange(request).await }
    });
    until(&world, "the run to be set aside", || handle.health().quarantined_runs == 1).await;
    assert!(soon("the exchange", refused).await.unwrap().is_err());
    until(&world, "the store", || handle.health().store == StoreState::Ok).await;
    assert_eq!(world.run(bad.key).await.state, RunState::Failed);
    // Whatever is answered from now on is stored.
    for _ in 0..3 {
        let run = trigger(&handle, "good").await;
        assert_eq!(world.run(run.key).await.key, run.key);
    }
    world.check_rebuild(&handle).await;
    // A person clears it, and it stays after the next rebuild.
    handle.clear(clear(bad.key), AdminWrite::default()).await.unwrap();
    assert!(!world.run(bad.key).await.state.is_terminal());
    store.inject(Fault::Refused);
    let request = worker.request(Vec::new());
    let _ = soon("another refusal", handle.exchange(request)).await;
    let engine = soon("the rebuild", handle.durable()).await.unwrap();
    let is_there = engine.runs.iter().any(|run| run.run.key == bad.key);
    assert!(is_there || world.run(bad.key).await.state.is_terminal(), "it is worked on, or it has ended");
    scheduler.stop().await;
}

#[tokio::test]
async fn of_several_runs_in_a_refused_batch_only_the_bad_one_is_set_aside() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", ONE).await;
    let runs =
        [trigger(&handle, "chain").await, trigger(&handle, "chain").await, trigger(&handle, "chain").await];
    let store = world.memory.clone().unwrap();
    // The assignment of all three, the first of them by itself, the second.
    store.inject(Fault::Refused);
    let mut worker = HandWorker::new(&handle, "w");
    let request = worker.request(Vec::new());
    assert!(soon("the refusal", handle.exchange(request)).await.is_err());
    handle.durable().await.unwrap();
    // Each by itself went through: nobody was to blame, and nobody was blamed.
    assert_eq!(handle.health().quarantined_runs, 0);
    worker.held.clear();
    let mut given = worker.next().await;
    while given.len() < 3 {
        given.extend(worker.next().await);
    }
    for run in &runs {
        assert_eq!(world.tasks(run.key).await["only"].try_number, 1);
    }
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn a_panic_is_survived_and_told() {
    let world = World::in_memory();
    let writer = HandWriter::new(world.memory.as_ref().unwrap());
    let scheduler = start_over(&world, &writer).await;
    let handle = scheduler.handle();
    world.define(&handle, "one", ONE).await;
    let mut worker = HandWorker::new(&handle, "w");
    let run = finish_one(&handle, &mut worker, "one").await;
    writer.panics.store(2, Ordering::Relaxed);
    for _ in 0..2 {
        let asked = tokio::spawn({
            let handle = handle.clone();
            async move { handle.clear(clear(run.key), AdminWrite::default()).await }
        });
        until(&world, "the panic", || asked.is_finished()).await;
        assert!(asked.await.unwrap().is_err());
        let StoreState::Degraded { reason } = handle.health().store else { panic!("nobody was told") };
        assert!(reason.starts_with("SCH0503"), "{reason}");
        until(&world, "the rebuild", || handle.health().store == StoreState::Ok).await;
    }
    handle.clear(clear(run.key), AdminWrite::default()).await.unwrap();
    worker.next().await;
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn a_run_that_cannot_be_read_is_ended_with_a_reason() {
    let world = World::in_memory();
    let writer = HandWriter::new(world.memory.as_ref().unwrap());
    let scheduler = start_over(&world, &writer).await;
    world.define(&scheduler.handle(), "one", ONE).await;
    let run = trigger(&scheduler.handle(), "one").await;
    let other = trigger(&scheduler.handle(), "one").await;
    scheduler.kill().await;
    *writer.unreadable.lock().unwrap() = Some(run.key);
    let scheduler = start_over(&world, &writer).await;
    let row = world.run(run.key).await;
    assert_eq!(row.state, RunState::Failed);
    assert!(row.reason.as_deref().is_some_and(|reason| reason.starts_with("SCH0502")), "{:?}", row.reason);
    assert!(!world.run(other.key).await.state.is_terminal());
    scheduler.stop().await;
}

fn with_tail(report: AttemptReport, offset: u64, bytes: &[u8]) -> AttemptReport {
    let log_tail = base64::prelude::BASE64_STANDARD.encode(bytes);
    AttemptReport { log_tail_offset: offset, log_tail, ..report }
}

/// Promise 5: what was written before the end is readable, whatever became of the attempt and of its run.
async fn the_last_bytes_of_a_late_result_are_kept(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "one", ONE).await;
    let mut changes = handle.subscribe();
    let run = trigger(&handle, "one").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    world.clock.advance(Duration::from_secs(31));
    let mut other = HandWorker::new(&handle, "other");
    let second = other.next().await.remove(0);
    // A stranger cannot write into the log of somebody else's attempt.
    let stolen = with_tail(success(&first.attempt), 0, b"stolen");
    assert_eq!(other.exchange(vec![stolen]).await.verdicts[0].verdict, Verdict::Fenced);
    let late = with_tail(report(&first.attempt, TryOutcome::Stopped, 143), 0, b"to the last byte\n");
    assert_eq!(worker.exchange(vec![late]).await.verdicts[0].verdict, Verdict::Fenced);
    let log = handle.read_log(first.attempt.clone(), 0, 100).await.unwrap();
    assert_eq!(log.bytes, b"to the last byte\n");

    // The run ends, its answer is lost, and the result comes again with more of the log.
    other.exchange(vec![success(&second.attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    let again = with_tail(success(&second.attempt), 0, b"the end\n");
    assert_eq!(other.exchange(vec![again]).await.verdicts[0].verdict, Verdict::Duplicate);
    let log = handle.read_log(second.attempt.clone(), 0, 100).await.unwrap();
    assert_eq!(log.bytes, b"the end\n");
    scheduler.stop().await;
}

/// Retention found it old; then a person cleared it.
async fn a_run_that_was_cleared_meanwhile_keeps_its_rows_and_logs(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "one", ONE).await;
    let mut worker = HandWorker::new(&handle, "w");
    let run = finish_one(&handle, &mut worker, "one").await;
    let tried = world.reader.tasks(run.key).await.unwrap()[0].key.clone();
    let attempt = tidemill_engine::ids::AttemptKey { instance: tried, try_number: 1, epoch: 1 };
    let folder = world.folder.path().join(format!("logs/one/{}", run.key));
    std::fs::create_dir_all(folder.join("only/-1")).unwrap();
    std::fs::write(folder.join("only/-1/1.1.log"), b"kept").unwrap();
    let other = finish_one(&handle, &mut worker, "one").await;
    let others = world.folder.path().join(format!("logs/one/{}", other.key));
    std::fs::create_dir_all(&others).unwrap();
    handle.clear(clear(run.key), AdminWrite::default()).await.unwrap();
    let write = || AdminWrite { run_deletes: vec![(run.dag_id.clone(), run.key)], ..AdminWrite::default() };
    let mut both = write();
    both.run_deletes.push((other.dag_id.clone(), other.key));
    handle.write(both).await.unwrap();
    // Logs go in the order of the list: when those of the second are gone, those of the first would be too.
    soon("the deletion of the other's logs", async {
        while others.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(handle.read_log(attempt, 0, 9).await.unwrap().bytes, b"kept");
    assert_eq!(world.run(run.key).await.key, run.key);
    // Ended and old again, it goes with its logs.
    let again = worker.next().await.remove(0);
    let mut changes = handle.subscribe();
    worker.exchange(vec![success(&again.attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    handle.write(write()).await.unwrap();
    assert_eq!(world.reader.run_by_key(run.key).await.unwrap(), None);
    soon("the deletion of the logs", async {
        while folder.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scheduler.stop().await;
}

/// What is delivered again after a restart is what was delivered, whatever became of its upstreams since.
async fn a_redelivery_after_a_restart_is_what_was_rendered(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", STRICT).await;
    trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    let mut result = success(&first.attempt);
    result.outputs.insert("path".into(), json!("/data/x"));
    let second = worker.exchange(vec![result]).await.assignments.remove(0);
    let mut batch = Batch::new(handle.health().term, BatchId(1_000_000), at("2026-11-05T12:00:00Z"));
    let values = [("path".to_owned(), json!("/data/other"))].into();
    batch.outputs.push(OutputsWrite { attempt: first.attempt.clone(), values });
    world.writer.commit(&batch).await.unwrap();
    scheduler.kill().await;
    let scheduler = world.start().await;
    worker.reconnect(&scheduler.handle());
    worker.held.clear();
    let mut again = worker.next().await.remove(0);
    again.lease_ms = second.lease_ms;
    assert_eq!(again, second);
    scheduler.stop().await;
}

/// Several words on one DAG and one pool between two commits: every database takes the last.
async fn changes_of_one_row_in_one_round_are_one_change(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "one", ONE).await;
    let id = crate::world::dag_id("one");
    let pool = |slots| tidemill_engine::rows::PoolRow {
        name: tidemill_engine::ids::PoolName::new("gpu").unwrap(),
        slots,
        description: String::new(),
    };
    let name = pool(1).name;
    // All of them wait in the inbox before the loop gets a turn.
    let side = AdminWrite::default;
    let (a, b, c, d, e, f, g) = tokio::join!(
        handle.pause(id.clone(), true, side()),
        handle.pause(id.clone(), false, side()),
        handle.pause(id.clone(), true, side()),
        handle.set_pool(pool(1), side()),
        handle.set_pool(pool(2), side()),
        handle.delete_pool(name.clone(), side()),
        handle.set_pool(pool(3), side()),
    );
    for result in [a, b, c, d, e, f, g] {
        result.unwrap();
    }
    assert!(world.reader.dag(&id).await.unwrap().unwrap().dag.is_paused);
    let pools = world.reader.pools().await.unwrap();
    assert_eq!(pools.iter().find(|row| row.name == name).map(|row| row.slots), Some(3));
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

/// Retention takes the failed run that the next one waits for.
async fn a_run_before_that_was_deleted_is_waited_for_no_more(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "past", &format!("schedule = \"* * * * *\"\n{ONE}depends_on_past = true\n")).await;
    let mut worker = HandWorker::new(&handle, "w");
    world.clock.advance(Duration::from_secs(60));
    let first = worker.next().await.remove(0).attempt;
    worker.exchange(vec![report(&first, TryOutcome::Failed, 1)]).await;
    world.clock.advance(Duration::from_secs(60));
    let mut held = first.instance.clone();
    held.run.0 += 1;
    soon("the next run", async {
        while handle
            .explain(held.clone())
            .await
            .unwrap()
            .first()
            .is_none_or(|why| why.code() != "previous_run")
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let run_deletes = vec![(crate::world::dag_id("past"), first.instance.run)];
    handle.write(AdminWrite { run_deletes, ..AdminWrite::default() }).await.unwrap();
    assert_eq!(worker.next().await.remove(0).attempt.instance, held);
    scheduler.stop().await;
}

over_both_stores!(
    a_run_before_that_was_deleted_is_waited_for_no_more,
    the_last_bytes_of_a_late_result_are_kept,
    a_run_that_was_cleared_meanwhile_keeps_its_rows_and_logs,
    a_redelivery_after_a_restart_is_what_was_rendered,
    changes_of_one_row_in_one_round_are_one_change,
);

#[tokio::test]
async fn a_heartbeat_that_waits_behind_a_rebuild_is_answered() {
    let world = World::in_memory();
    let store = world.memory.clone().unwrap();
    let writer = HandWriter::new(&store);
    let scheduler = start_over(&world, &writer).await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    worker.next().await;
    writer.let_load(false);
    let loads = writer.loads.load(Ordering::Relaxed);
    store.inject(Fault::Refused);
    let asked = tokio::spawn({
        let (handle, id) = (handle.clone(), crate::world::dag_id("chain"));
        async move { handle.pause(id, true, AdminWrite::default()).await }
    });
    until(&world, "the rebuild", || writer.loads.load(Ordering::Relaxed) > loads).await;
    assert_eq!(worker.heartbeat().await.unwrap(), []);
    writer.let_load(true);
    assert!(soon("the answer", asked).await.unwrap().is_err());
    scheduler.stop().await;
}
