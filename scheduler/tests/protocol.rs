//! The worker protocol through the handle: assignments, results, verdicts, parking.

use std::time::Duration;

use base64::Engine as _;
use serde_json::json;
use tidemill_engine::state::{RunState, StopReason, TaskState, TryOutcome};
use tidemill_protocol::worker::{LostAttempt, Token, Verdict, Work};
use tidemill_scheduler::{AdminWrite, CallError, InvalidRequest};

use crate::world::{CHAIN, HandWorker, World, report, soon, success, task_id, trigger, wait_for_run};

async fn a_result_and_the_next_assignment_share_one_reply(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let mut changes = handle.subscribe();
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    assert_eq!(first.attempt.instance.task, task_id("first"));
    assert_eq!((first.attempt.try_number, first.attempt.epoch), (1, 1));
    assert_eq!(first.dag_file, "chain.toml");
    assert_eq!(first.lease_ms, 30_000);
    assert_eq!(first.env["TIDEMILL_RUN_ID"], run.run_id.as_str());

    let mut result = success(&first.attempt);
    result.outputs.insert("path".into(), json!("/data/x; rm -rf /"));
    result.log_tail = base64::prelude::BASE64_STANDARD.encode(b"the end\n");
    result.log_bytes = 8;
    let answer = worker.exchange(vec![result]).await;
    assert_eq!(answer.verdicts.len(), 1);
    assert_eq!(answer.verdicts[0].verdict, Verdict::Accepted);
    assert_eq!(answer.assignments.len(), 1, "the successor is in the same reply");
    let second = &answer.assignments[0];
    let Work::Shell { script } = &second.work else { panic!("{:?}", second.work) };
    assert!(!script.contains("rm -rf"), "a value is data, never script: {script}");
    assert!(second.env.values().any(|value| value == "/data/x; rm -rf /"));
    assert_eq!(second.inputs["first"]["path"], json!("/data/x; rm -rf /"));

    let log = handle.read_log(first.attempt.clone(), 0, 100).await.unwrap();
    assert_eq!(log.bytes, b"the end\n");
    worker.exchange(vec![success(&second.attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn a_repeated_result_is_a_duplicate_and_a_late_one_is_fenced(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    // The same result twice in one exchange, and again later: one transition.
    let twice = vec![success(&first.attempt), success(&first.attempt)];
    let answer = worker.exchange(twice).await;
    let verdicts: Vec<Verdict> = answer.verdicts.iter().map(|verdict| verdict.verdict).collect();
    assert_eq!(verdicts, [Verdict::Accepted, Verdict::Duplicate]);
    let again = worker.exchange(vec![success(&first.attempt)]).await;
    assert_eq!(again.verdicts[0].verdict, Verdict::Duplicate);

    // The lease of the second task runs out; its result comes too late and leaves no trace.
    let second = worker.held[0].clone();
    world.clock.advance(Duration::from_secs(31));
    let mut other = HandWorker::new(&handle, "other");
    let retried = other.next().await.remove(0);
    assert_eq!((retried.attempt.try_number, retried.attempt.epoch), (2, 2));
    let mut late = success(&second);
    late.outputs.insert("stolen".into(), json!(true));
    let answer = worker.exchange(vec![late]).await;
    assert_eq!(answer.verdicts[0].verdict, Verdict::Fenced);
    assert_eq!(world.tasks(run.key).await["second"].state, TaskState::Queued);
    assert!(world.reader.outputs(&second.instance).await.unwrap().is_empty());
    assert_eq!(worker.heartbeat().await.unwrap(), []);
    worker.held = vec![second.clone()];
    assert_eq!(worker.heartbeat().await.unwrap(), [second]);
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn an_exchange_is_held_until_there_is_something_to_say(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let mut worker = HandWorker::new(&handle, "w");
    // Nothing to do: held, and answered after twenty seconds of the scheduler's clock.
    let request = worker.request(Vec::new());
    let held = tokio::spawn({
        let handle = handle.clone();
        async move { handle.exchange(request).await }
    });
    assert_eq!(connected(&handle).await, ["w"]);
    world.clock.advance(Duration::from_secs(20));
    let answer = soon("the end of the hold", held).await.unwrap().unwrap();
    assert_eq!((answer.seq, answer.assignments.len()), (1, 0));

    // A newer exchange lets the older one go at once.
    let (older, newer) = (worker.request(Vec::new()), worker.request(Vec::new()));
    let older = tokio::spawn({
        let handle = handle.clone();
        async move { handle.exchange(older).await }
    });
    tokio::task::yield_now().await;
    let newer = tokio::spawn({
        let handle = handle.clone();
        async move { handle.exchange(newer).await }
    });
    assert_eq!(soon("the older answer", older).await.unwrap().unwrap().seq, 2);
    trigger(&handle, "chain").await;
    let answer = soon("the newer answer", newer).await.unwrap().unwrap();
    assert_eq!((answer.seq, answer.assignments.len()), (3, 1));

    // An exchange that comes out of order is answered and changes nothing.
    let mut stale = worker.request(Vec::new());
    stale.seq = 1;
    assert_eq!(soon("the stale answer", handle.exchange(stale)).await.unwrap().assignments, []);
    scheduler.stop().await;
}

async fn connected(handle: &tidemill_scheduler::Handle) -> Vec<String> {
    soon("a connection", async {
        loop {
            let workers = handle.workers().await.unwrap();
            if !workers.is_empty() {
                return workers.iter().map(|view| view.worker.to_string()).collect();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn an_assignment_that_was_not_received_is_delivered_again_unchanged(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    worker.held.clear();
    world.clock.advance(Duration::from_secs(5));
    let mut again = worker.next().await.remove(0);
    // The lease was renewed by nobody: what is left of it is what was left.
    assert_eq!(again.lease_ms, 25_000);
    again.lease_ms = first.lease_ms;
    assert_eq!(again, first);
    scheduler.stop().await;
}

async fn a_newer_start_of_a_worker_replaces_the_older_one(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut old = HandWorker::new(&handle, "w");
    let first = old.next().await.remove(0);
    let mut new = HandWorker::new(&handle, "w");
    new.boot_id = "w-boot-2".into();
    // Its sweep proved that nothing of the older start lives: the attempt is lost and tried again.
    let second = new.next().await.remove(0);
    assert_eq!((second.attempt.try_number, second.attempt.epoch), (2, 2));
    assert_eq!(world.tasks(run.key).await["first"].losses, 1);
    let request = old.request(vec![success(&first.attempt)]);
    let refused = handle.exchange(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused),
        ("SCH0402", InvalidRequest::Replaced { worker: "w".into() }.into())
    );
    assert_eq!(old.heartbeat().await.unwrap_err().code(), "SCH0402");
    scheduler.stop().await;
}

async fn what_a_sweep_reports_lost_is_given_to_the_start_that_swept(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let dead = worker.next().await.remove(0).attempt;
    worker.boot_id = "w-boot-2".into();
    worker.held.clear();
    // One loss is told while the log of another is still under way.
    let mut request = worker.request(Vec::new());
    request.has_swept = false;
    request.lost = vec![LostAttempt { attempt: dead.clone(), reason: "swept".into() }];
    let answer = soon("an exchange", handle.exchange(request)).await.unwrap();
    let next = answer.assignments[0].attempt.clone();
    assert_eq!((next.try_number, next.epoch), (2, 2));
    worker.held.push(next.clone());
    // The sweep is over: what it was given since is not lost with the rest.
    let answer = worker.exchange(vec![success(&next)]).await;
    assert_eq!(answer.verdicts[0].verdict, Verdict::Accepted);
    let tries = world.reader.tries(&dead.instance).await.unwrap();
    let told: Vec<_> =
        tries.iter().map(|row| (row.attempt.epoch, row.boot_id.as_str(), row.outcome)).collect();
    assert_eq!(
        told,
        [(1, "w-boot-1", Some(TryOutcome::Lost)), (2, "w-boot-2", Some(TryOutcome::Success))],
        "{tries:?}"
    );
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn another_protocol_is_refused(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    let mut request = HandWorker::new(&handle, "w").request(Vec::new());
    request.protocol = 99;
    assert_eq!(handle.exchange(request).await.unwrap_err().code(), "SCH0401");
    scheduler.stop().await;
}

async fn a_cancelled_run_tells_its_worker_once_and_ends_when_the_process_is_dead(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let mut changes = handle.subscribe();
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    let parked = worker.request(Vec::new());
    let parked = tokio::spawn({
        let handle = handle.clone();
        async move { handle.exchange(parked).await }
    });
    assert_eq!(connected(&handle).await, ["w"]);
    handle.cancel(run.key, AdminWrite::default()).await.unwrap();
    let answer = soon("the cancellation", parked).await.unwrap().unwrap();
    assert_eq!(answer.cancellations.len(), 1);
    assert_eq!(answer.cancellations[0].reason, StopReason::Cancelled);
    let answer = worker.exchange(vec![report(&first.attempt, TryOutcome::Stopped, 143)]).await;
    assert_eq!(answer.verdicts[0].verdict, Verdict::Accepted);
    wait_for_run(&mut changes, run.key, RunState::Cancelled).await;
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn a_start_is_noted_within_a_quarter_of_a_second(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    let note = tidemill_protocol::worker::StartedNote {
        worker: worker.id.clone(),
        attempt: first.attempt.clone(),
        started_at: crate::world::at("2026-11-05T12:00:00.5Z"),
    };
    handle.started(note).await.unwrap();
    assert_eq!(world.tasks(run.key).await["first"].state, TaskState::Queued, "a note waits for company");
    let mut changes = handle.subscribe();
    world.clock.advance(Duration::from_millis(250));
    let is_running = |change: &tidemill_scheduler::Change| {
        matches!(change, tidemill_scheduler::Change::Task { state: TaskState::Running, .. })
    };
    crate::world::wait_for(&mut changes, "the note", is_running).await;
    assert_eq!(world.tasks(run.key).await["first"].state, TaskState::Running);
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn a_log_takes_bytes_for_its_own_token_only(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    trigger(&handle, "chain").await;
    trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let mut assignments = worker.next().await;
    while assignments.len() < 2 {
        assignments.extend(worker.next().await);
    }
    let (one, two) = (&assignments[0], &assignments[1]);
    let mut changes = handle.subscribe();
    assert_eq!(handle.append_log(one.attempt.clone(), &one.token, 0, b"abc".to_vec()).await.unwrap(), 3);
    assert_eq!(handle.append_log(one.attempt.clone(), &one.token, 9, b"gap".to_vec()).await.unwrap(), 3);
    let is_log =
        |change: &tidemill_scheduler::Change| matches!(change, tidemill_scheduler::Change::Log { .. });
    crate::world::wait_for(&mut changes, "the growth", is_log).await;
    for token in [&two.token, &Token("nothing".into())] {
        let refused = handle.append_log(one.attempt.clone(), token, 3, b"x".to_vec()).await.unwrap_err();
        assert_eq!(refused, CallError::Invalid(InvalidRequest::AttemptToken));
        assert_eq!(refused.code(), "SCH0403");
    }
    let mut gone = one.attempt.clone();
    gone.instance.run = tidemill_engine::ids::RunKey(999);
    assert_eq!(handle.read_log(gone, 0, 10).await.unwrap_err().code(), "SCH0404");
    // The lost attempt's last bytes are still taken, into its own log.
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(handle.append_log(one.attempt.clone(), &one.token, 3, b"def".to_vec()).await.unwrap(), 6);
    assert_eq!(handle.read_log(one.attempt.clone(), 0, 100).await.unwrap().bytes, b"abcdef");
    let stored = world.reader.token_hash(&one.attempt).await.unwrap().unwrap();
    assert_eq!(stored, tidemill_scheduler::token_hash(&one.token), "only the hash is stored");
    scheduler.stop().await;
}

/// Bytes that ride with a result can be read by whoever sees that the try has ended.
#[tokio::test]
async fn the_end_of_a_log_is_there_before_the_end_of_its_try() {
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    // A pipe without a reader holds up whoever opens it for writing.
    let folder = world.folder.path().join(format!("logs/chain/{}/first/-1", run.key));
    let pipe = folder.join("1.1.log");
    std::fs::create_dir_all(&folder).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut result = success(&first.attempt);
    result.log_tail = base64::prelude::BASE64_STANDARD.encode(b"the end\n");
    let request = worker.request(vec![result]);
    let exchange = tokio::spawn({
        let handle = handle.clone();
        async move { handle.exchange(request).await }
    });
    // The loop has one thread with this test and waits for nothing else, so it gets as far as it can.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let meanwhile = world.tasks(run.key).await["first"].state;
    let bytes = tokio::task::spawn_blocking(move || std::fs::read(&pipe).unwrap());
    assert_eq!(soon("the log", bytes).await.unwrap(), b"the end\n");
    assert_eq!(meanwhile, TaskState::Queued, "the log was not written yet");
    let answer = soon("the verdict", exchange).await.unwrap().unwrap();
    assert_eq!(answer.verdicts[0].verdict, Verdict::Accepted);
    assert_eq!(world.tasks(run.key).await["first"].state, TaskState::Success);
    scheduler.stop().await;
}

over_both_stores!(
    a_result_and_the_next_assignment_share_one_reply,
    a_repeated_result_is_a_duplicate_and_a_late_one_is_fenced,
    an_exchange_is_held_until_there_is_something_to_say,
    an_assignment_that_was_not_received_is_delivered_again_unchanged,
    a_newer_start_of_a_worker_replaces_the_older_one,
    what_a_sweep_reports_lost_is_given_to_the_start_that_swept,
    another_protocol_is_refused,
    a_cancelled_run_tells_its_worker_once_and_ends_when_the_process_is_dead,
    a_start_is_noted_within_a_quarter_of_a_second,
    a_log_takes_bytes_for_its_own_token_only,
);
