//! Every byte of a log arrives, in order, once, whatever it is and whoever dies.

use std::fmt::Write as _;

use rustix::process::Signal;
use sha2::{Digest, Sha256};
use tidemill_protocol::worker::{LOG_TAIL_BYTES, TryOutcome, Work};

use crate::support::{PATIENCE, Server, Setup, assignment, eventually, shell};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn a_million_lines_arrive_byte_for_byte() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    // The last line has no newline; in between are NUL and bytes that are no UTF-8.
    let script = r#"seq 1 500000; printf 'a\000b\377\376\n'; seq 500001 1000000; printf 'no newline'"#;
    server.assign([shell("many", &format!("({script}) | tee copy"))]);
    let report = server.report("many");
    assert_eq!(report.outcome, TryOutcome::Success);
    let copy = std::fs::read(setup.config.dags_dir.join("copy")).unwrap();
    let log = server.with(|state| state.log("many"));
    assert_eq!(report.log_bytes, copy.len() as u64);
    assert_eq!(sha256(&log), sha256(&copy));
    assert!(report.log_tail_offset == copy.len() as u64 - LOG_TAIL_BYTES as u64);
    println!("{} bytes, sha256 {}", log.len(), sha256(&log));
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_log_is_shipped_while_it_grows_and_a_short_one_rides_with_its_result() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let wait = "until [ -e go ]; do sleep 0.02; done";
    server.assign([shell("short", "echo short"), shell("live", &format!("echo first; {wait}; echo second"))]);
    server.report("short");
    server.wait("the first line", |state| (state.log("live") == b"first\n").then_some(()));
    assert!(server.with(|state| state.report("live").is_none()));
    let note = server.wait("the start", |state| state.started.first().cloned());
    assert_eq!(note.attempt.instance.task.as_str(), "live");
    std::fs::write(setup.config.dags_dir.join("go"), "").unwrap();
    server.report("live");
    server.with(|state| {
        assert_eq!(state.log("live"), b"first\nsecond\n");
        assert_eq!(state.log("short"), b"short\n");
        assert!(state.started.iter().all(|note| note.attempt.instance.task.as_str() != "short"));
    });
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_binary_log_without_any_newline_arrives() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let argv = ["sh", "-c", "head -c 10000000 /dev/urandom | tee copy"].map(str::to_owned).to_vec();
    server.assign([assignment("random", Work::Exec { argv })]);
    assert_eq!(server.report("random").outcome, TryOutcome::Success);
    let copy = std::fs::read(setup.config.dags_dir.join("copy")).unwrap();
    assert_eq!(copy.len(), 10_000_000);
    assert_eq!(sha256(&server.with(|state| state.log("random"))), sha256(&copy));
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_log_that_its_task_cuts_keeps_what_was_read() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let wait = "until [ -e go ]; do sleep 0.02; done";
    server.assign([shell("cut", &format!("echo before; {wait}; echo after > /dev/stderr"))]);
    server.wait("the first line", |state| (state.log("cut") == b"before\n").then_some(()));
    std::fs::write(setup.config.dags_dir.join("go"), "").unwrap();
    server.report("cut");
    assert_eq!(server.with(|state| state.log("cut")), b"before\nafter\n");
    assert_eq!(worker.stop(), Some(0));
}

/// Returns an assignment of a script with a secret that must not show.
fn with_secret(task: &str, script: &str, secret: &str) -> tidemill_protocol::worker::Assignment {
    let mut assignment = shell(task, script);
    assignment.secrets = vec![tidemill_protocol::worker::Secret::new(secret)];
    assignment.env.insert("PW".to_owned(), secret.to_owned());
    assignment
}

#[test]
fn a_secret_is_masked_at_its_length_however_it_is_cut() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let wait = "until [ -e go ]; do sleep 0.02; done";
    // Half of it is written and stays so while the log is shipped.
    let script = format!("echo \"first $PW\"; printf 'my hunter-'; {wait}; printf 'two-22!\\n'; exit 3");
    server.assign([with_secret("cut", &script, "hunter-two-22")]);
    server.wait("what is certain", |state| (state.log("cut") == b"first *************\nmy ").then_some(()));
    std::fs::write(setup.config.dags_dir.join("go"), "").unwrap();
    server.report("cut");
    assert_eq!(server.with(|state| state.log("cut")), b"first *************\nmy *************!\n");
    // A log of many ranges, with a secret across every border, and one that ends with the beginning of a secret.
    let many = "for i in $(seq 1 40000); do printf '%s %s\\n' $i \"$PW\"; done; printf 'hunter-two'";
    server.assign([with_secret("many", many, "hunter-two-22")]);
    server.report("many");
    let log = String::from_utf8(server.with(|state| state.log("many"))).unwrap();
    assert_eq!(
        log.matches("hunter-two-22").count() + log.matches("hunter").count(),
        1,
        "only the last beginning"
    );
    assert_eq!(log.matches(" *************\n").count(), 40_000);
    assert!(log.ends_with("40000 *************\nhunter-two"));
    println!("{} bytes masked", 40_000 * 13);
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_later_start_masks_what_it_ships_of_an_earlier_one() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let script = "i=0; while :; do i=$((i+1)); echo \"line $i $PW\"; done";
    server.assign([with_secret("writer", script, "hunter-two-22")]);
    server.wait("a part of the log", |state| (state.log("writer").len() > 10_000).then_some(()));
    worker.signal(Signal::KILL);
    worker.wait();
    let mut second = setup.start();
    let log = server.wait("the marker", |state| {
        let log = String::from_utf8(state.log("writer")).unwrap();
        log.contains("[tidemill] WRK0112").then_some(log)
    });
    assert_eq!(log.matches("hunter-two-22").count(), 0);
    assert!(log.lines().filter(|line| line.ends_with(" *************")).count() > 100);
    assert_eq!(second.stop(), Some(0));
}

#[test]
fn a_log_whose_result_was_taken_does_not_say_that_it_was_lost() {
    let server = Server::start();
    let setup = Setup::new(&server);
    server.with(|state| state.without_verdict.insert(crate::support::key("taken")));
    let mut worker = setup.start();
    server.assign([shell("taken", "echo all of it")]);
    assert_eq!(server.report("taken").outcome, TryOutcome::Success);
    worker.signal(Signal::KILL);
    worker.wait();
    let mut second = setup.start();
    server.wait("the loss", |state| state.lost.first().cloned());
    let tries = setup.config.work_dir.join("tries");
    assert!(eventually(PATIENCE, || std::fs::read_dir(&tries).unwrap().next().is_none()));
    assert_eq!(server.with(|state| state.log("taken")), b"all of it\n");
    assert_eq!(second.stop(), Some(0));
}

#[test]
fn after_a_kill_of_the_worker_the_next_start_ships_the_rest_and_reports_the_loss() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    // Writes as fast as it can into its log and, the same bytes first, into a copy.
    let script = "i=0; while :; do i=$((i+1)); echo \"line $i\" >> copy; echo \"line $i\"; done";
    server.assign([shell("writer", script)]);
    server.wait("a part of the log", |state| (state.log("writer").len() > 10_000).then_some(()));
    worker.signal(Signal::KILL);
    worker.wait();
    let mut second = setup.start();
    let (lost, end) =
        server.wait("the loss", |state| Some((state.lost.first()?.clone(), state.log("writer"))));
    // A stream that follows the log ends with the loss, so everything must be there by then.
    assert!(String::from_utf8_lossy(&end).contains("[tidemill] WRK0112"), "the loss overtook the log");
    assert_eq!(lost.attempt.instance.task.as_str(), "writer");
    assert!(lost.reason.starts_with("WRK0112"), "{}", lost.reason);
    let log = server.wait("the marker", |state| {
        let log = String::from_utf8(state.log("writer")).unwrap();
        log.ends_with("[tidemill] WRK0112: lost: the worker ended without reporting the try\n").then_some(log)
    });
    let copy = std::fs::read_to_string(setup.config.dags_dir.join("copy")).unwrap();
    let written = log.lines().filter(|line| line.starts_with("line ")).count();
    // Killed between its two writes it may have one line more in the copy.
    assert!(
        copy.lines().count().abs_diff(written) <= 1,
        "{} lines, {written} in the log",
        copy.lines().count()
    );
    let first_seen = server.with(|state| state.exchanges.last().map(|request| request.has_swept));
    assert_eq!(first_seen, Some(true));
    let tries = setup.config.work_dir.join("tries");
    assert!(eventually(PATIENCE, || std::fs::read_dir(&tries).unwrap().next().is_none()));
    println!("{written} lines survived the kill");
    assert_eq!(second.stop(), Some(0));
}
