//! How a try can end, what is reported about it and what its log holds.

use tidemill_protocol::worker::{TryOutcome, Work};

use crate::support::{Server, Setup, assignment, shell};

#[test]
fn commands_end_as_the_table_says() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let mut final_failure = shell("final", "exit 4");
    final_failure.fail_on_exit_code = vec![4];
    server.assign([
        shell("ok", "echo out; echo err >&2"),
        shell("bad", "exit 3"),
        shell("skip", "exit 99"),
        final_failure,
        shell("signal", "kill -9 $$"),
        assignment(
            "argv",
            Work::Exec {
                argv: vec!["printf".to_owned(), "%s|".to_owned(), "a b".to_owned(), "$HOME".to_owned()],
            },
        ),
        assignment("missing", Work::Exec { argv: vec!["no-such-program".to_owned()] }),
    ]);
    let ok = server.report("ok");
    assert_eq!((ok.outcome, ok.exit_code, ok.reason), (TryOutcome::Success, Some(0), None));
    let table = [
        ("bad", TryOutcome::Failed, Some(3), "exited with code 3", false),
        ("skip", TryOutcome::Skipped, Some(99), "exited with code 99, which skips", false),
        ("final", TryOutcome::Failed, Some(4), "exited with code 4", true),
        ("signal", TryOutcome::Failed, None, "WRK0107: killed by signal 9", false),
        ("argv", TryOutcome::Success, Some(0), "", false),
        ("missing", TryOutcome::Failed, None, "WRK0101: cannot start \"no-such-program\"", false),
    ];
    for (task, outcome, exit_code, reason, is_final) in table {
        let report = server.report(task);
        let found = report.reason.unwrap_or_default();
        assert_eq!(
            (report.outcome, report.exit_code, report.is_final),
            (outcome, exit_code, is_final),
            "{task}"
        );
        assert!(found.starts_with(reason), "{task}: {found}");
    }
    server.with(|state| {
        assert_eq!(state.log("ok"), b"out\nerr\n");
        assert_eq!(state.log("argv"), b"a b|$HOME|");
        assert_eq!(state.log("signal"), b"[tidemill] WRK0107: killed by signal 9\n");
    });
    assert_eq!(worker.stop(), Some(0));
    println!("7 ends checked");
}

/// A lock of whoever started the worker must not live on in its tasks.
#[test]
fn a_task_has_no_descriptor_that_the_worker_was_started_with() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let kept = tempfile::NamedTempFile::new().unwrap();
    rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).unwrap();
    let mut worker = setup.start();
    server.assign([shell("list", "readlink /proc/$$/fd/* || true")]);
    assert_eq!(server.report("list").outcome, TryOutcome::Success);
    let log = server.with(|state| String::from_utf8(state.log("list")).unwrap());
    assert!(log.contains("/dev/null"), "{log}");
    assert!(!log.contains(kept.path().to_str().unwrap()), "{log}");
    let of_worker = std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).unwrap();
    let inherited = of_worker.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    assert!(inherited.into_iter().any(|path| path == kept.path()), "the worker inherited it");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_timeout_stops_the_try_and_says_so_in_its_log() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let mut assignment = shell("slow", "echo begin; printf partial; sleep 1000");
    assignment.timeout_ms = Some(1_000);
    server.assign([assignment]);
    let report = server.report("slow");
    assert_eq!((report.outcome, report.exit_code), (TryOutcome::TimedOut, None));
    assert_eq!(report.reason.as_deref(), Some("WRK0106: stopped after its timeout of 1s"));
    let log = server.with(|state| state.log("slow"));
    assert_eq!(log, b"begin\npartial\n[tidemill] WRK0106: stopped after its timeout of 1s\n");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn what_the_kernel_or_the_folder_refuses_is_an_outcome_and_no_crash() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let mut large = shell("large", "true");
    large.env.insert("BIG".to_owned(), "x".repeat(131_072));
    let mut many = shell("many", "true");
    many.env.extend((0..80).map(|i| (format!("V{i}"), "x".repeat(100_000))));
    let mut nul = shell("nul", "true");
    nul.env.insert("NUL".to_owned(), "a\0b".to_owned());
    let mut outside = shell("outside", "true");
    outside.dag_file = "../demo.toml".to_owned();
    let directory = assignment("directory", Work::Exec { argv: vec!["/".to_owned()] });
    let empty = assignment("empty", Work::Exec { argv: vec![] });
    let script = shell("script", &format!("# {}", "x".repeat(140_000)));
    server.assign([large, many, nul, outside, directory, empty, script]);
    let table = [
        ("large", "WRK0102: environment variable BIG is too large", true),
        ("many", "WRK0102: command and environment together", true),
        ("script", "WRK0102: argument 2 of the command", true),
        ("nul", "WRK0104", true),
        ("outside", "WRK0103", false),
        ("directory", "WRK0101", false),
        ("empty", "WRK0101", false),
    ];
    for (task, reason, is_final) in table {
        let report = server.report(task);
        let found = report.reason.unwrap();
        assert!(found.starts_with(reason), "{task}: {found}");
        assert_eq!((report.outcome, report.is_final), (TryOutcome::Failed, is_final), "{task}");
    }
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_try_that_cannot_be_prepared_fails_coded() {
    let server = Server::start();
    let setup = Setup::new(&server);
    // The name of the try's folder is taken by a file.
    let mut worker = setup.start();
    server.assign([shell("first", "true")]);
    server.report("first");
    std::fs::write(setup.config.work_dir.join("tries/7.blocked.-1.1.1"), "").unwrap();
    server.assign([shell("blocked", "true")]);
    let report = server.report("blocked");
    assert!(report.reason.clone().unwrap().starts_with("WRK0105"), "{:?}", report.reason);
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_task_sees_the_documented_environment_and_nothing_of_the_daemon() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let mut task = shell(
        "env",
        "env | cut -d= -f1 | sort | tr '\\n' ' '; pwd; umask; ulimit -c; cat; cat $TIDEMILL_INPUTS; \
         touch $TIDEMILL_WORK_DIR/a $TIDEMILL_DATA_DIR/kept; grep NoNewPrivs /proc/self/status",
    );
    task.inputs.insert("up".to_owned(), serde_json::json!({ "key": [1, "two"] }));
    task.dag_file = "team/demo.toml".to_owned();
    std::fs::create_dir(setup.config.dags_dir.join("team")).unwrap();
    server.assign([task, shell("none", "cat $TIDEMILL_INPUTS")]);
    server.report("env");
    server.report("none");
    let log = server.with(|state| String::from_utf8(state.log("env")).unwrap());
    let mut lines = log.lines();
    let names: Vec<&str> = lines.next().unwrap().rsplit_once(' ').unwrap().0.split(' ').collect();
    let ours = [
        "TIDEMILL_ATTEMPT",
        "TIDEMILL_DATA_DIR",
        "TIDEMILL_INPUTS",
        "TIDEMILL_OUTPUT",
        "TIDEMILL_TASK_ID",
        "TIDEMILL_WORK_DIR",
    ];
    assert!(ours.iter().all(|name| names.contains(name)), "{names:?}");
    let allowed =
        ["PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "PWD", "OLDPWD", "SHLVL", "_"];
    let strangers: Vec<_> = names.iter().filter(|n| !ours.contains(n) && !allowed.contains(n)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    assert!(log.contains("/dags/team\n0077\n0\n{\"up\":{\"key\":[1,\"two\"]}}NoNewPrivs:\t1\n"), "{log}");
    assert_eq!(server.with(|state| state.log("none")), b"{}\n");
    assert!(setup.config.work_dir.join("data/demo/kept").exists());
    assert_eq!(worker.stop(), Some(0));
    assert_eq!(std::fs::read_dir(setup.config.work_dir.join("tries")).unwrap().count(), 0);
}

#[test]
fn outputs_are_reported_and_bad_ones_fail_the_try_by_name() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let to_output = |task: &str, script: &str| shell(task, &format!("({script}) >> \"$TIDEMILL_OUTPUT\""));
    server.assign([
        to_output("good", r#"echo a=1; echo '{"b": [1, 2]}'"#),
        to_output("large", "printf big=; head -c 262145 /dev/zero | tr '\\0' x"),
        to_output("limit", "printf big=; head -c 262144 /dev/zero | tr '\\0' x"),
        to_output("nonsense", "echo ok=1; echo nonsense"),
        to_output("huge", "seq 1 2000000 | sed 's/^/k=/'"),
        shell("device", "ln -s /dev/zero \"$TIDEMILL_OUTPUT\""),
        to_output("failed", "echo a=1; exit 1"),
    ]);
    let good = server.report("good");
    assert_eq!(serde_json::to_value(good.outputs).unwrap(), serde_json::json!({"a": "1", "b": [1, 2]}));
    assert_eq!(server.report("limit").outcome, TryOutcome::Success);
    let table = [
        ("large", "WRK0201: output \"big\" has 262145 bytes"),
        ("nonsense", "WRK0202: line 2"),
        ("huge", "WRK0203"),
        ("device", "WRK0204"),
        ("failed", "exited with code 1"),
    ];
    for (task, reason) in table {
        let report = server.report(task);
        let found = report.reason.unwrap();
        assert!(found.starts_with(reason), "{task}: {found}");
        assert_eq!(report.outcome, TryOutcome::Failed, "{task}");
    }
    assert_eq!(worker.stop(), Some(0));
}
