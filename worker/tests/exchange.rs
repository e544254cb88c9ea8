//! What a worker and its server say to each other when things go wrong between them.

use rustix::process::Signal;
use tidemill_protocol::worker::{Cancellation, StopReason, TryOutcome};

use crate::support::{PATIENCE, Server, Setup, User, eventually, is_locked, key, shell};

#[test]
fn a_redelivered_assignment_runs_once() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let wait = "echo ran >> runs; until [ -e go ]; do sleep 0.02; done";
    server.assign([shell("one", wait), shell("one", wait)]);
    server.wait("the start", |state| (!state.started.is_empty()).then_some(()));
    server.assign([shell("one", wait)]);
    std::fs::write(setup.config.dags_dir.join("go"), "").unwrap();
    server.report("one");
    server.wait("its end is known", |state| state.exchanges.last()?.results.is_empty().then_some(()));
    server.assign([shell("one", wait), shell("two", "true")]);
    server.report("two");
    let runs = std::fs::read_to_string(setup.config.dags_dir.join("runs")).unwrap();
    assert_eq!(runs, "ran\n");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_result_is_repeated_until_its_verdict_and_then_never_again() {
    let server = Server::start();
    let setup = Setup::new(&server);
    server.with(|state| state.without_verdict.insert(key("stubborn")));
    let mut worker = setup.start();
    server.assign([shell("stubborn", "true")]);
    server.report("stubborn");
    // Every further exchange carries it again; other results make further exchanges.
    server.assign([shell("other", "true")]);
    server.report("other");
    server.wait("a repetition", |state| (state.deliveries[&key("stubborn")] >= 2).then_some(()));
    server.with(|state| state.without_verdict.clear());
    server.assign([shell("third", "true")]);
    server.report("third");
    server.wait("silence about it", |state| state.exchanges.last()?.results.is_empty().then_some(()));
    let beats = |state: &crate::support::State| state.exchanges.last().map(|last| last.held.len());
    assert_eq!(server.with(|state| beats(state)), Some(0));
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_result_that_the_server_cannot_read_fails_alone() {
    let server = Server::start();
    let setup = Setup::new(&server);
    server.with(|state| state.unreadable.insert(key("odd")));
    let mut worker = setup.start();
    let wait = "until [ -e go ]; do sleep 0.02; done; echo a=1 >> $TIDEMILL_OUTPUT";
    server.assign([shell("first", wait), shell("odd", wait), shell("last", wait)]);
    server.wait("their start", |state| (state.started.len() == 3).then_some(()));
    std::fs::write(setup.config.dags_dir.join("go"), "").unwrap();
    for task in ["first", "last"] {
        let report = server.report(task);
        assert_eq!((report.outcome, report.outputs.len()), (TryOutcome::Success, 1));
    }
    let report = server.report("odd");
    assert_eq!((report.outcome, report.outputs.len()), (TryOutcome::Failed, 0));
    assert!(report.reason.unwrap().starts_with("WRK0114"));
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_worker_returns_to_its_own_server_when_the_leader_is_gone() {
    let leader = Server::start();
    let server = Server::start();
    let setup = Setup::new(&server);
    server.with(|state| state.leader = Some(leader.url.clone()));
    let mut worker = setup.start();
    leader.assign([shell("there", "true")]);
    leader.report("there");
    server.with(|state| state.leader = None);
    drop(leader);
    server.assign([shell("here", "true")]);
    assert_eq!(server.report("here").outcome, TryOutcome::Success);
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_result_survives_a_server_that_is_away() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    server.assign([shell(
        "away",
        "touch started; until [ -e go ]; do sleep 0.02; done; echo end; touch ended",
    )]);
    assert!(eventually(PATIENCE, || setup.config.dags_dir.join("started").exists()));
    server.with(|state| state.down = Some(503));
    std::fs::write(setup.config.dags_dir.join("go"), "").unwrap();
    assert!(eventually(PATIENCE, || setup.config.dags_dir.join("ended").exists()));
    server.with(|state| state.down = None);
    let report = server.report("away");
    assert_eq!(report.outcome, TryOutcome::Success);
    assert_eq!(server.with(|state| state.log("away")), b"end\n");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_fenced_attempt_is_killed_and_never_reported() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let files = setup.files();
    let mut assignment = shell("fenced", "trap '' TERM; flock \"$FILES/lock\" sleep 1000");
    assignment.env.insert("FILES".to_owned(), files.display().to_string());
    server.assign([assignment]);
    assert!(eventually(PATIENCE, || is_locked(&files.join("lock"))));
    server.with(|state| state.fenced.insert(key("fenced")));
    assert!(eventually(PATIENCE, || !is_locked(&files.join("lock"))));
    let marker = "[tidemill] WRK0110: killed because its lease has ended\n";
    server.wait("the marker", |state| (state.log("fenced") == marker.as_bytes()).then_some(()));
    server.wait("that it is let go", |state| state.exchanges.last()?.held.is_empty().then_some(()));
    assert!(server.with(|state| state.report("fenced").is_none()));
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn without_contact_a_task_gets_term_and_is_reported_lost_later() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let files = setup.files();
    let mut assignment =
        shell("cutoff", "trap 'echo got TERM; exit 0' TERM; flock \"$FILES/lock\" sleep 1000 & wait");
    assignment.env.insert("FILES".to_owned(), files.display().to_string());
    server.assign([assignment]);
    assert!(eventually(PATIENCE, || is_locked(&files.join("lock"))));
    server.with(|state| state.down = Some(503));
    let silent_since = std::time::Instant::now();
    assert!(eventually(PATIENCE, || !is_locked(&files.join("lock"))));
    let after = silent_since.elapsed();
    assert!((9..=26).contains(&after.as_secs()), "{after:?}");
    server.with(|state| state.down = None);
    assert_eq!(server.report("cutoff").outcome, TryOutcome::Lost);
    let log = server.with(|state| String::from_utf8(state.log("cutoff")).unwrap());
    assert!(log.starts_with("got TERM\n[tidemill] WRK0109"), "{log}");
    println!("ended {after:?} after the server went silent");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_cancellation_that_overtakes_its_assignment_wins() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let cancellation = Cancellation { attempt: key("overtaken"), reason: StopReason::Cancelled };
    server.with(|state| state.cancellations.push(cancellation));
    let report = server.report("overtaken");
    assert_eq!(report.outcome, TryOutcome::Stopped);
    server.assign([shell("overtaken", "touch ran"), shell("after", "true")]);
    server.report("after");
    assert!(!setup.config.dags_dir.join("ran").exists());
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn beyond_the_slots_attempts_wait_and_a_cancelled_one_never_starts() {
    let server = Server::start();
    let mut setup = Setup::new(&server);
    setup.config.slots = 1;
    let mut worker = setup.start();
    server.assign([
        shell("first", "touch started; until [ -e go ]; do sleep 0.02; done"),
        shell("waits", "touch waited"),
        shell("later", "touch later"),
    ]);
    assert!(eventually(PATIENCE, || setup.config.dags_dir.join("started").exists()));
    let cancellation = Cancellation { attempt: key("waits"), reason: StopReason::Cleared };
    server.with(|state| state.cancellations.push(cancellation));
    assert_eq!(server.report("waits").outcome, TryOutcome::Stopped);
    std::fs::write(setup.config.dags_dir.join("go"), "").unwrap();
    assert_eq!(server.report("later").outcome, TryOutcome::Success);
    assert!(!setup.config.dags_dir.join("waited").exists());
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn an_attempt_whose_lease_is_nearly_over_starts_only_after_it_was_renewed() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let mut assignment = shell("late", "true");
    assignment.lease_ms = 9_000;
    server.assign([assignment]);
    assert_eq!(server.report("late").outcome, TryOutcome::Success);
    let was_renewed_first = server.with(|state| state.heartbeats.iter().any(|b| b.attempts == [key("late")]));
    assert!(was_renewed_first);
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_worker_joins_once_and_keeps_its_key_private() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let mut setup = Setup::for_user(&server, User::Same);
    setup.config.join_token = Some("join-token".to_owned());
    let mut worker = setup.start();
    server.assign([shell("joined", "true")]);
    server.report("joined");
    assert_eq!(worker.stop(), Some(0));
    let key = setup.config.work_dir.join("key");
    assert_eq!(std::fs::read_to_string(&key).unwrap(), "worker-key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    // The token was for one use; the second start has the key.
    setup.config.join_token = Some("used".to_owned());
    let mut second = setup.start();
    server.wait("the second start", |state| {
        let last = state.exchanges.last()?;
        (state.exchanges.first()?.boot_id != last.boot_id).then_some(())
    });
    assert_eq!(second.stop(), Some(0));
    assert_eq!(server.with(|state| state.unauthorized), 0);
}

#[test]
fn refusals_at_the_start_are_coded() {
    let server = Server::start();
    let mut setup = Setup::new(&server);
    setup.config.join_token = Some("wrong".to_owned());
    let mut worker = setup.start();
    assert_eq!(worker.wait(), Some(1));
    assert!(worker.output().contains("error WRK0005"), "{}", worker.output());
    setup.config.join_token = None;
    server.with(|state| state.down = Some(426));
    let mut worker = setup.start();
    assert_eq!(worker.wait(), Some(1));
    assert!(worker.output().contains("error WRK0007"), "{}", worker.output());
    server.with(|state| state.down = None);
    let mut first = setup.start();
    server.wait("the first worker", |state| (!state.exchanges.is_empty()).then_some(()));
    let mut second = setup.start();
    assert_eq!(second.wait(), Some(1));
    let owner = format!("process {}", first.child.id());
    assert!(
        second.output().contains("error WRK0004") && second.output().contains(&owner),
        "{}",
        second.output()
    );
    assert_eq!(first.stop(), Some(0));
    let own_exe = std::mem::replace(&mut setup.config.own_exe, "/no/such/tidemill".into());
    let mut worker = setup.start_by(&own_exe);
    assert_eq!(worker.wait(), Some(1));
    assert!(worker.output().contains("error WRK0006"), "{}", worker.output());
    setup.config.own_exe = own_exe;
    std::fs::remove_file(setup.config.work_dir.join("lock")).unwrap();
    std::fs::create_dir(setup.config.work_dir.join("lock")).unwrap();
    let mut worker = setup.start();
    assert_eq!(worker.wait(), Some(1));
    assert!(worker.output().contains("error WRK0003"), "{}", worker.output());
}

#[test]
fn a_dead_guardian_is_replaced() {
    let server = Server::start();
    let mut setup = Setup::new(&server);
    setup.config.slots = 2;
    let mut worker = setup.start();
    let mut first = None;
    assert!(eventually(PATIENCE, || {
        first = worker.guardian();
        first.is_some()
    }));
    let files = setup.files();
    let mut assignment = shell("guarded", "flock \"$FILES/lock\" sleep 1000");
    assignment.env.insert("FILES".to_owned(), files.display().to_string());
    server.assign([assignment]);
    assert!(eventually(PATIENCE, || is_locked(&files.join("lock"))));
    let pid = rustix::process::Pid::from_raw(first.unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    assert!(eventually(PATIENCE, || worker.guardian().is_some_and(|new| Some(new) != first)));
    // It exists before it has been told what its predecessor knew.
    worker.wait_for_guardian();
    worker.signal(Signal::KILL);
    worker.wait();
    assert!(
        eventually(PATIENCE, || !is_locked(&files.join("lock"))),
        "the new guardian does not know the task"
    );
}
