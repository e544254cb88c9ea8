//! Process trees: a corpus of ways to escape, ended by timeout, cancel and the death of the worker, with and
//! without cgroup, as root and unprivileged. Survivors are found by locks that the processes hold.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tidemill_protocol::worker::{Assignment, Cancellation, StopReason, TryOutcome};

use crate::support::{PATIENCE, Server, Setup, User, eventually, is_locked, key, shell};

/// Within this time nothing may be left, whatever ended the try.
const LIMIT: Duration = Duration::from_secs(15);

/// Opens a lock in a process and keeps it; `hold NAME` in the scripts.
const PRELUDE: &str = "hold() { exec 9>>\"$FILES/$1.lock\"; flock -x 9; exec sleep 1000; }\n";

/// Names, how many locks each holds when all of it runs, and scripts.
const CORPUS: &[(&str, &[&str], &str)] = &[
    ("plain", &["plain"], "hold plain"),
    ("background", &["bg1", "bg2"], "(hold bg1) & (hold bg2) & wait"),
    (
        "trap_term",
        &["trap"],
        "trap '' TERM; exec 9>>\"$FILES/trap.lock\"; flock -x 9; while :; do sleep 1; done",
    ),
    ("setsid", &["setsid"], "setsid flock \"$FILES/setsid.lock\" sleep 1000 & sleep 1000"),
    ("setsid_fork", &["setsidf"], "setsid -f flock \"$FILES/setsidf.lock\" sleep 1000; sleep 1000"),
    ("nohup", &["nohup"], "nohup flock \"$FILES/nohup.lock\" sleep 1000 & sleep 1000"),
    ("subshells", &["deep"], "( ( ( (hold deep) & ) & ) & ); sleep 1000"),
    ("job_control", &["jobs"], "set -m; (hold jobs) & wait"),
    (
        "daemon",
        &["daemon"],
        r#"perl -e 'use POSIX; use Fcntl ":flock"; exit if fork; POSIX::setsid(); exit if fork; chdir "/";
           POSIX::close($_) for 0..20; open(L, ">>", "$ENV{FILES}/daemon.lock"); flock(L, LOCK_EX); sleep 1000'; sleep 1000"#,
    ),
    (
        "shed_everything",
        &["shed"],
        r#"perl -e 'use Fcntl ":flock"; $f = "$ENV{FILES}/shed.lock"; %ENV = (); exec "/usr/bin/perl", "-e",
           "use POSIX; use Fcntl q(:flock); exit if fork; POSIX::setsid(); exit if fork; chdir q(/);
            POSIX::close(\$_) for 0..20; open(L, q(>>), q($f)); flock(L, LOCK_EX); sleep 1000"'; sleep 1000"#,
    ),
    (
        "renamed",
        &["renamed"],
        r#"perl -e 'use POSIX; use Fcntl ":flock"; $0 = "sshd"; exit if fork; POSIX::setsid();
           open(L, ">>", "$ENV{FILES}/renamed.lock"); flock(L, LOCK_EX); sleep 1000 while 1'; sleep 1000"#,
    ),
    (
        "respawn_on_term",
        &["respawn"],
        "exec 9>>\"$FILES/respawn.lock\"; flock -x 9; trap 'setsid sleep 1000 & setsid sleep 1000 &' TERM; \
         while :; do sleep 1 & wait; done",
    ),
    (
        "stopped",
        &["stopped"],
        "(exec 9>>\"$FILES/stopped.lock\"; flock -x 9; exec sh -c 'kill -STOP $$; sleep 1000') & sleep 1000",
    ),
];

/// How a corpus is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Timeout,
    Cancel,
    WorkerKill,
}

fn corpus(files: &Path, end: End) -> Vec<Assignment> {
    CORPUS
        .iter()
        .map(|(name, _, script)| {
            let mut assignment = shell(name, &format!("{PRELUDE}{script}"));
            assignment.env.insert("FILES".to_owned(), files.display().to_string());
            assignment.timeout_ms = (end == End::Timeout).then_some(12_000);
            assignment
        })
        .collect()
}

fn locks(files: &Path) -> Vec<PathBuf> {
    let names = CORPUS.iter().flat_map(|(_, names, _)| names.iter());
    names.map(|name| files.join(format!("{name}.lock"))).collect()
}

/// Makes a cgroup that nobody may manage, as a service manager would delegate one.
fn delegated_cgroup(name: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?.to_owned();
    let folder = PathBuf::from(mount).join(format!("tidemill-test-{}-{name}", std::process::id()));
    fs::create_dir(&folder).ok()?;
    let ours = ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
    let paths = ours.iter().map(|file| folder.join(file)).filter(|path| path.exists());
    Command::new("chown").arg("65534:65534").args(paths).status().ok()?.success().then_some(folder)
}

/// Without a cgroup, a daemon that shed every mark is known by its parents, whatever else runs on the worker.
#[test]
fn a_daemon_without_marks_ends_with_its_try_beside_an_older_one() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let files = setup.files();
    let with_files = |task: &str, script: &str| {
        let mut assignment = shell(task, script);
        assignment.env.insert("FILES".to_owned(), files.display().to_string());
        assignment
    };
    server.assign([with_files("older", "flock \"$FILES/older\" sleep 1000")]);
    assert!(eventually(PATIENCE, || is_locked(&files.join("older"))));
    // Its parent waits until somebody has looked, as a try that does some work first would.
    let script = "(setsid env -i flock \"$FILES/stray\" sleep 1000 </dev/null >/dev/null 2>&1 & until [ -e go ]; \
        do sleep 0.02; done) & wait";
    server.assign([with_files("daemon", script)]);
    assert!(eventually(PATIENCE, || is_locked(&files.join("stray"))));
    // Between two heartbeats the worker looks twenty times.
    let beats = server.with(|state| state.heartbeats.len());
    server.wait("two heartbeats", |state| (state.heartbeats.len() >= beats + 2).then_some(()));
    fs::write(setup.config.dags_dir.join("go"), "").unwrap();
    assert_eq!(server.report("daemon").outcome, TryOutcome::Success);
    assert!(eventually(LIMIT, || !is_locked(&files.join("stray"))), "the daemon survived its try");
    assert!(is_locked(&files.join("older")), "the older try was killed");
    assert_eq!(worker.stop(), Some(0));
}

/// An unrelated process that looks like one of the corpus and must survive.
struct Bystander(std::process::Child);

impl Bystander {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_corpus(name: &str, user: User, with_cgroup: bool, end: End) {
    let server = Server::start();
    let mut setup = Setup::for_user(&server, user);
    setup.config.slots = 32;
    setup.config.grace_ms = 1_000;
    setup.config.cgroups = with_cgroup;
    if with_cgroup && user == User::Nobody {
        setup.cgroup = delegated_cgroup(name);
        assert!(setup.cgroup.is_some(), "this machine lets nobody delegate a cgroup");
    }
    let mut worker = setup.start();
    let mut bystander = Bystander::start();
    let files = setup.files();
    let locks = locks(&files);
    server.assign(corpus(&files, end));
    let all_up = eventually(PATIENCE, || locks.iter().all(|lock| is_locked(lock)));
    let missing: Vec<_> = locks.iter().filter(|lock| !is_locked(lock)).collect();
    let said = server.with(|state| format!("{:#?} {:?}", state.reports, state.logs));
    assert!(all_up, "not all of the corpus came up: {missing:?}; {said}");
    let has_leaves = fs::read_dir(setup.config.work_dir.join("tries")).unwrap().flatten().all(|entry| {
        let record = fs::read_to_string(entry.path().join("record")).unwrap_or_default();
        record.contains("\"cgroup\":\"/") == with_cgroup
    });
    assert!(has_leaves, "cgroups are used exactly when they shall be");

    let ended_at = Instant::now();
    match end {
        End::Timeout => {}
        End::Cancel => server.with(|state| {
            state.cancellations = CORPUS
                .iter()
                .map(|(task, ..)| Cancellation { attempt: key(task), reason: StopReason::Cancelled })
                .collect();
        }),
        End::WorkerKill => {
            if !with_cgroup {
                worker.wait_for_guardian();
            }
            worker.signal(Signal::KILL);
        }
    }
    let limit = if end == End::Timeout { LIMIT + Duration::from_secs(12) } else { LIMIT };
    eventually(limit, || !locks.iter().any(|lock| is_locked(lock)));
    let survivors: Vec<_> = locks.iter().filter(|lock| is_locked(lock)).collect();
    let elapsed = ended_at.elapsed();
    assert!(survivors.is_empty(), "{name}: survivors {survivors:?}");
    assert!(bystander.is_alive(), "an unrelated process was killed");
    if end != End::WorkerKill {
        let outcome = if end == End::Timeout { TryOutcome::TimedOut } else { TryOutcome::Stopped };
        for (task, ..) in CORPUS {
            assert_eq!(server.report(task).outcome, outcome, "{task}");
        }
        assert_eq!(worker.stop(), Some(0));
    }
    println!("{name}: {} cases, {} locks, 0 survivors after {elapsed:?}", CORPUS.len(), locks.len());
    if let Some(cgroup) = &setup.cgroup {
        drop(worker);
        let _ = fs::remove_dir(cgroup);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who the unprivileged half of the matrix is.
fn unprivileged() -> User {
    if is_root() { User::Nobody } else { User::Same }
}

#[test]
fn nothing_survives_a_timeout_unprivileged_without_cgroup() {
    run_corpus("timeout-user-plain", unprivileged(), false, End::Timeout);
}

#[test]
fn nothing_survives_a_cancel_unprivileged_without_cgroup() {
    run_corpus("cancel-user-plain", unprivileged(), false, End::Cancel);
}

#[test]
fn nothing_survives_the_worker_unprivileged_without_cgroup() {
    run_corpus("kill-user-plain", unprivileged(), false, End::WorkerKill);
}

/// The parts of the matrix that only root can set up. Elsewhere they fail: nothing is skipped.
fn as_root(name: &str, user: User, with_cgroup: bool, end: End) {
    assert!(is_root(), "{name} needs root: run the tests in a container as CI does");
    run_corpus(name, user, with_cgroup, end);
}

#[test]
fn nothing_survives_a_timeout_as_root_without_cgroup() {
    as_root("timeout-root-plain", User::Same, false, End::Timeout);
}

#[test]
fn nothing_survives_a_cancel_as_root_without_cgroup() {
    as_root("cancel-root-plain", User::Same, false, End::Cancel);
}

#[test]
fn nothing_survives_the_worker_as_root_without_cgroup() {
    as_root("kill-root-plain", User::Same, false, End::WorkerKill);
}

#[test]
fn nothing_survives_a_timeout_as_root_with_cgroup() {
    as_root("timeout-root-cgroup", User::Same, true, End::Timeout);
}

#[test]
fn nothing_survives_a_cancel_as_root_with_cgroup() {
    as_root("cancel-root-cgroup", User::Same, true, End::Cancel);
}

#[test]
fn nothing_survives_the_worker_as_root_with_cgroup() {
    as_root("kill-root-cgroup", User::Same, true, End::WorkerKill);
}

#[test]
fn nothing_survives_a_timeout_unprivileged_with_cgroup() {
    as_root("timeout-user-cgroup", User::Nobody, true, End::Timeout);
}

#[test]
fn nothing_survives_a_cancel_unprivileged_with_cgroup() {
    as_root("cancel-user-cgroup", User::Nobody, true, End::Cancel);
}

#[test]
fn nothing_survives_the_worker_unprivileged_with_cgroup() {
    as_root("kill-user-cgroup", User::Nobody, true, End::WorkerKill);
}

#[test]
fn a_term_trap_gets_its_full_grace_even_below_a_shell_that_dies_at_once() {
    let server = Server::start();
    let mut setup = Setup::new(&server);
    setup.config.grace_ms = 30_000;
    let mut worker = setup.start();
    let files = setup.files();
    let fifo = files.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // The outer shell has no trap and dies of the TERM; the inner one saves its work when the test lets it.
    let script = "sh -c 'trap \"read line < $FILES/fifo; echo saved \\$line; exit 0\" TERM; \
                  touch $FILES/ready; while :; do sleep 0.05; done'; true";
    let mut assignment = shell("trap", script);
    assignment.env.insert("FILES".to_owned(), files.display().to_string());
    server.assign([assignment]);
    assert!(eventually(PATIENCE, || files.join("ready").exists()));
    server.with(|state| {
        state.cancellations = vec![Cancellation { attempt: key("trap"), reason: StopReason::Cleared }];
    });
    // Opening blocks until the trap reads: it runs, after the outer shell is dead.
    fs::write(&fifo, "checkpoint\n").unwrap();
    let report = server.report("trap");
    assert_eq!(report.outcome, TryOutcome::Stopped);
    let log = server.with(|state| String::from_utf8(state.log("trap")).unwrap());
    assert!(log.contains("saved checkpoint\n"), "{log}");
    assert!(log.ends_with("[tidemill] WRK0111: stopped: it was cleared\n"), "{log}");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_try_ends_with_its_main_process_and_what_it_left_is_killed() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let files = setup.files();
    let script = "flock \"$FILES/a.lock\" sleep 1000 & setsid flock \"$FILES/b.lock\" sleep 1000 & \
                  until [ -e \"$FILES/go\" ]; do sleep 0.02; done; echo done";
    let mut assignment = shell("leaver", script);
    assignment.env.insert("FILES".to_owned(), files.display().to_string());
    server.assign([assignment]);
    let locks = [files.join("a.lock"), files.join("b.lock")];
    assert!(eventually(PATIENCE, || locks.iter().all(|lock| is_locked(lock))));
    fs::write(files.join("go"), "").unwrap();
    fs::set_permissions(files.join("go"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(server.report("leaver").outcome, TryOutcome::Success);
    // The report comes after the proof, so there is nothing to wait for.
    assert!(!locks.iter().any(|lock| is_locked(lock)));
    assert_eq!(server.with(|state| state.log("leaver")), b"done\n");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_stopped_worker_loses_its_tasks_to_the_guardian_before_the_lease_ends() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let files = setup.files();
    let mut assignment = shell("held", &format!("{PRELUDE}hold held"));
    assignment.env.insert("FILES".to_owned(), files.display().to_string());
    server.assign([assignment]);
    let lock = files.join("held.lock");
    assert!(eventually(PATIENCE, || is_locked(&lock)));
    server.wait("a heartbeat that lists it", |state| {
        state.heartbeats.iter().any(|beat| beat.attempts == [key("held")]).then_some(())
    });
    worker.signal(Signal::STOP);
    let stopped_at = Instant::now();
    assert!(eventually(Duration::from_secs(30), || !is_locked(&lock)), "it outlived its lease");
    println!("killed {:?} after the worker was stopped", stopped_at.elapsed());
    worker.signal(Signal::CONT);
    // It was the guardian, not the task: the worker says so.
    assert_eq!(server.report("held").outcome, TryOutcome::Lost);
    assert_eq!(worker.stop(), Some(0));
}
