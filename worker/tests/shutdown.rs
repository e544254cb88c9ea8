//! What happens to running and waiting tries when a worker is told to stop, once and twice.

use std::time::Instant;

use rustix::process::Signal;
use tidemill_protocol::worker::TryOutcome;

use crate::support::{PATIENCE, Server, Setup, eventually, is_locked, shell};

#[test]
fn a_stop_ends_running_tries_with_their_grace_and_hands_back_waiting_ones() {
    let server = Server::start();
    let mut setup = Setup::new(&server);
    setup.config.slots = 1;
    let mut worker = setup.start();
    server.assign([
        shell("runs", "trap 'echo saving; exit 0' TERM; touch started; while :; do sleep 0.05; done"),
        shell("waits", "touch ran"),
    ]);
    assert!(eventually(PATIENCE, || setup.config.dags_dir.join("started").exists()));
    assert_eq!(worker.stop(), Some(0));
    let runs = server.report("runs");
    assert_eq!((runs.outcome, runs.exit_code), (TryOutcome::Lost, Some(0)));
    assert!(runs.reason.unwrap().starts_with("WRK0108"));
    assert_eq!(server.report("waits").outcome, TryOutcome::HandedBack);
    assert!(!setup.config.dags_dir.join("ran").exists());
    let log = server.with(|state| String::from_utf8(state.log("runs")).unwrap());
    let end = "saving\n[tidemill] WRK0108: stopped because its worker is shutting down\n";
    assert!(log.ends_with(end), "{log}");
    assert!(
        worker
            .output()
            .contains("summary ExitSummary { finished: 0, lost: 1, handed_back: 1, unconfirmed: 0 }")
    );
    server.with(|state| assert_eq!(state.exchanges.last().unwrap().capacity, 0));
}

#[test]
fn a_drain_lets_running_tries_finish() {
    let server = Server::start();
    let mut setup = Setup::new(&server);
    setup.config.drain_ms = 60_000;
    let mut worker = setup.start();
    server.assign([shell("finishes", "touch started; until [ -e go ]; do sleep 0.02; done; echo whole")]);
    assert!(eventually(PATIENCE, || setup.config.dags_dir.join("started").exists()));
    worker.signal(Signal::TERM);
    server.wait("no capacity", |state| (state.exchanges.last()?.capacity == 0).then_some(()));
    std::fs::write(setup.config.dags_dir.join("go"), "").unwrap();
    assert_eq!(server.report("finishes").outcome, TryOutcome::Success);
    assert_eq!(worker.wait(), Some(0));
    assert_eq!(server.with(|state| state.log("finishes")), b"whole\n");
}

#[test]
fn a_second_request_kills_at_once() {
    let server = Server::start();
    let mut setup = Setup::new(&server);
    setup.config.grace_ms = 600_000;
    let mut worker = setup.start();
    let files = setup.files();
    let mut assignment = shell(
        "deaf",
        "trap 'touch $FILES/term' TERM; exec 9>>$FILES/lock; flock 9; while :; do sleep 0.05; done",
    );
    assignment.env.insert("FILES".to_owned(), files.display().to_string());
    server.assign([assignment]);
    assert!(eventually(PATIENCE, || is_locked(&files.join("lock"))));
    worker.signal(Signal::TERM);
    assert!(eventually(PATIENCE, || files.join("term").exists()));
    let asked_at = Instant::now();
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(), Some(0));
    assert!(asked_at.elapsed().as_secs() < 10, "{:?}", asked_at.elapsed());
    assert!(!is_locked(&files.join("lock")));
    assert_eq!(server.report("deaf").outcome, TryOutcome::Lost);
}

#[test]
fn a_stop_ends_although_the_server_is_away() {
    let server = Server::start();
    let mut setup = Setup::new(&server);
    setup.config.grace_ms = 500;
    let mut worker = setup.start();
    server.assign([shell("orphaned", "touch started; sleep 1000")]);
    assert!(eventually(PATIENCE, || setup.config.dags_dir.join("started").exists()));
    server.with(|state| state.down = Some(503));
    assert_eq!(worker.stop(), Some(0));
    assert!(worker.output().contains("unconfirmed: 1"), "{}", worker.output());
}
