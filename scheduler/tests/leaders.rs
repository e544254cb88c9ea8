//! Leading under a lease: outages, take-overs, and what workers are told meanwhile.

use std::{sync::Arc, time::Duration};

use tidemill_engine::state::RunState;
use tidemill_protocol::worker::Verdict;
use tidemill_scheduler::{AdminWrite, Clock, Handle, Scheduler};
use tidemill_store::{LeadershipError, MemoryStore, Writer, memory::Link};

use crate::{
    world::{CHAIN, HandWorker, World, soon, success, trigger, trigger_of, wait_for_run},
    writer::HandWriter,
};

/// Lets everybody run as far as they come without the clock.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

fn mono(world: &World) -> Duration {
    world.clock.now().mono
}

/// Starts a second server on the same database, over a connection of its own.
async fn start_beside(world: &World, connection: &MemoryStore) -> Scheduler {
    let mut options = world.options();
    options.server = "second".to_owned();
    options.url = "http://second".to_owned();
    options.is_folder_watched = false;
    let (reader, writer) = (Arc::new(connection.clone()), Arc::new(connection.clone()));
    let clock = Arc::new(world.clock.clone());
    soon("a second server", Scheduler::start(options, reader, writer, clock)).await.unwrap()
}

fn trigger_later(handle: &Handle) -> tokio::task::JoinHandle<bool> {
    let handle = handle.clone();
    tokio::spawn(async move { handle.trigger(trigger_of("chain"), AdminWrite::default()).await.is_ok() })
}

#[tokio::test]
async fn heartbeats_are_answered_while_a_commit_gets_no_answer() {
    for world in [World::in_memory(), World::with_leases()] {
        let scheduler = world.start().await;
        let handle = scheduler.handle();
        world.define(&handle, "chain", CHAIN).await;
        trigger(&handle, "chain").await;
        let mut worker = HandWorker::new(&handle, "w");
        let held = worker.next().await.remove(0);
        let store = world.memory.clone().unwrap();
        store.set_link(Link::Silent);
        let waiting = trigger_later(&handle);
        settle().await;
        assert!(!waiting.is_finished(), "the commit hangs");
        assert_eq!(worker.heartbeat().await.unwrap(), [], "and the worker hears that all is well");
        // An attempt whose end is being committed holds its lease until that is done.
        let request = worker.request(vec![success(&held.attempt)]);
        let result = tokio::spawn({
            let handle = handle.clone();
            async move { handle.exchange(request).await }
        });
        settle().await;
        worker.held = vec![held.attempt.clone()];
        assert_eq!(worker.heartbeat().await.unwrap(), []);
        store.set_link(Link::Up);
        assert!(soon("the trigger", waiting).await.unwrap());
        let answer = soon("the result", result).await.unwrap().unwrap();
        assert_eq!(answer.verdicts[0].verdict, Verdict::Accepted);
        scheduler.stop().await;
    }
}

/// Promise 3: the last thing that a cut-off leader allows is over before its successor gives anything up.
#[tokio::test]
async fn an_outage_never_looks_like_death_and_never_lets_two_execute() {
    let world = World::with_leases();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    worker.next().await;
    let store = world.memory.clone().unwrap();
    let connection = store.connect();
    let second = start_beside(&world, &connection).await;
    assert!(!second.handle().health().is_leader);

    store.set_link(Link::Cut);
    let cut_at = mono(&world);
    let _waiting = trigger_later(&handle);
    settle().await;
    let (mut acknowledged, mut led_at, mut lost_at) = (cut_at, None, None);
    while lost_at.is_none() {
        world.clock.advance(Duration::from_millis(500));
        settle().await;
        let now = mono(&world);
        assert!(now < cut_at + Duration::from_secs(300), "nobody gives it up");
        if worker.heartbeat().await.is_ok() {
            acknowledged = now;
        }
        if led_at.is_none() && second.handle().health().is_leader {
            led_at = Some(now);
        }
        if led_at.is_some() && world.tasks(run.key).await["first"].losses == 1 {
            lost_at = Some(now);
        }
    }
    let (led_at, lost_at) = (led_at.unwrap(), lost_at.unwrap());
    println!(
        "cut at {cut_at:?}, led at {led_at:?}, acknowledged until {acknowledged:?}, lost at {lost_at:?}"
    );
    assert!(led_at - cut_at <= Duration::from_secs(10), "a take-over takes ten seconds");
    assert!(acknowledged - cut_at >= Duration::from_secs(60), "a long outage is not mass death");
    let lease = tidemill_engine::engine::LEASE;
    assert!(
        acknowledged + lease < lost_at,
        "the last acknowledged lease is over before the successor gives up"
    );
    second.stop().await;
    scheduler.kill().await;
}

#[tokio::test]
async fn a_failure_that_begins_after_trust_has_ended_excuses_nothing() {
    let world = World::with_leases();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    worker.next().await;
    // Nothing is written, so only the renewals fail.
    world.memory.clone().unwrap().set_link(Link::Cut);
    for _ in 0..14 {
        world.clock.advance(Duration::from_millis(500));
        settle().await;
    }
    assert_eq!(worker.heartbeat().await.unwrap_err().code(), "SCH0101", "somebody else may lead by now");
    let _waiting = trigger_later(&handle);
    settle().await;
    assert_eq!(
        worker.heartbeat().await.unwrap_err().code(),
        "SCH0101",
        "and a failing commit changes nothing"
    );
    scheduler.kill().await;
}

#[tokio::test]
async fn a_leader_that_was_replaced_stands_by_and_the_work_goes_on() {
    let world = World::with_leases();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    let store = world.memory.clone().unwrap();
    let connection = store.connect();
    let second = start_beside(&world, &connection).await;
    store.set_link(Link::Silent);
    let lost = trigger_later(&handle);
    soon("the take-over", async {
        while !second.handle().health().is_leader {
            world.clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    })
    .await;
    store.set_link(Link::Up);
    soon("the old leader's end", async {
        while handle.health().is_leader {
            world.clock.advance(Duration::from_millis(20));
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!soon("the trigger", lost).await.unwrap(), "nothing is acknowledged that is not stored");
    let refused = handle.trigger(trigger_of("chain"), AdminWrite::default()).await.unwrap_err();
    assert_eq!(refused.code(), "SCH0101");
    // The worker finds the new leader and its attempt is what it was.
    worker.reconnect(&second.handle());
    let mut changes = second.handle().subscribe();
    let answer = worker.exchange(vec![success(&first.attempt)]).await;
    assert_eq!(answer.verdicts[0].verdict, Verdict::Accepted);
    worker.exchange(vec![success(&answer.assignments[0].attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    second.stop().await;
    scheduler.stop().await;
}

#[tokio::test]
async fn a_new_leader_keeps_its_lease_while_it_loads() {
    let world = World::with_leases();
    let store = world.memory.clone().unwrap();
    let writer = HandWriter::new(&store);
    writer.let_load(false);
    let starting = tokio::spawn({
        let (options, writer) = (world.options(), Arc::new(writer.clone()));
        let (reader, clock) = (Arc::clone(&world.reader), Arc::new(world.clock.clone()));
        async move { Scheduler::start(options, reader, writer, clock).await.unwrap() }
    });
    settle().await;
    let other = store.connect();
    for _ in 0..40 {
        world.clock.advance(Duration::from_millis(500));
        settle().await;
        let error = other.take_leadership("second", "http://second").await.unwrap_err();
        assert!(matches!(error, LeadershipError::Held { .. }), "{error}");
    }
    writer.let_load(true);
    let scheduler = soon("the start", starting).await.unwrap();
    assert!(scheduler.handle().durable().await.is_ok(), "it still leads");
    scheduler.stop().await;
}
