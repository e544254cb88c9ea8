//! Operators under the same supervision as commands.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
};

use tidemill_protocol::{
    drift::{
        CategoricalSpec, Correction, DriftSpec, FeatureRule, KsMethod, NumericMetric, NumericSpec,
        PsiVariant, RuleSpec,
    },
    worker::{Report, TaskId, TryOutcome, Work},
};

use crate::support::{Server, Setup, assignment};

fn task(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

fn branch(chosen: &[&str]) -> Work {
    Work::Branch {
        chosen: chosen.iter().map(ToString::to_string).collect(),
        because: "the first arm holds".to_owned(),
        allowed: vec![task("retrain"), task("no_op")],
    }
}

#[test]
fn a_notification_to_nobody_is_skipped() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let body = serde_json::json!({ "text": "done" });
    server.assign([assignment("nobody", Work::Notify { webhook: " ".to_owned(), body })]);
    let report = server.report("nobody");
    assert_eq!(report.outcome, TryOutcome::Skipped, "{:?}", report.reason);
    assert!(report.reason.unwrap().contains("nobody is notified"));
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_branch_follows_what_it_may_and_names_what_it_may_not() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    server.assign([
        assignment("good", branch(&["retrain"])),
        assignment("none", branch(&[])),
        assignment("wrong", branch(&["retrian"])),
    ]);
    let good = server.report("good");
    assert_eq!((good.outcome, good.follow), (TryOutcome::Success, Some(vec!["retrain".to_owned()])));
    assert!(matches!(good.report, Some(Report::Branch { because, .. }) if because == "the first arm holds"));
    assert_eq!(server.report("none").follow, Some(vec![]));
    let wrong = server.report("wrong");
    assert_eq!(wrong.outcome, TryOutcome::Failed);
    let reason = wrong.reason.unwrap();
    assert!(reason.starts_with("WRK0301") && reason.contains("allowed: retrain, no_op"), "{reason}");
    let log = server.with(|state| String::from_utf8_lossy(&state.log("good")).into_owned());
    assert!(log.contains("chosen: retrain") && log.contains("because: the first arm holds"), "{log}");
    assert_eq!(worker.stop(), Some(0));
}

fn drift(current: &str) -> Work {
    let spec = DriftSpec {
        reference: "reference.csv".to_owned(),
        current: current.to_owned(),
        features: vec![],
        exclude: vec![],
        min_samples: 10,
        missing_share: 0.2,
        numeric: NumericSpec {
            columns: vec![],
            metrics: vec![NumericMetric::Ks, NumericMetric::Psi],
            p_value: 0.01,
            ks_statistic: None,
            psi: Some(0.2),
            js: None,
            kl: None,
            wasserstein: None,
            psi_variant: PsiVariant::Atoms,
            ks_method: KsMethod::Auto,
        },
        categorical: CategoricalSpec {
            columns: vec![],
            metrics: vec![],
            p_value: 0.01,
            psi: None,
            js: None,
            kl: None,
        },
        rule: RuleSpec {
            feature: FeatureRule::All,
            correction: Correction::BenjaminiHochberg,
            dataset_share: 0.2,
            columns: vec![],
        },
    };
    Work::Drift {
        spec: Box::new(spec),
        on_drift: vec![task("retrain")],
        on_stable: vec![task("no_op")],
        on_insufficient_data: None,
    }
}

#[test]
fn drift_measures_in_the_folder_of_the_file_and_branches_on_it() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let column = |shift: u32| {
        let rows: Vec<String> = (0..400).map(|i| format!("{}.5", (i * 37) % 100 + shift)).collect();
        format!("radius\n{}\n", rows.join("\n"))
    };
    for (name, shift) in [("reference", 0), ("same", 0), ("moved", 80)] {
        std::fs::write(setup.config.dags_dir.join(format!("{name}.csv")), column(shift)).unwrap();
    }
    let mut worker = setup.start();
    server.assign([
        assignment("stable", drift("same.csv")),
        assignment("drifted", drift("moved.csv")),
        assignment("absent", drift("absent.csv")),
    ]);
    for (name, branch, verdict) in [("stable", "no_op", "stable"), ("drifted", "retrain", "drift")] {
        let report = server.report(name);
        assert_eq!(report.outcome, TryOutcome::Success, "{:?}", report.reason);
        assert_eq!(report.follow, Some(vec![branch.to_owned()]));
        assert_eq!(report.outputs["verdict"], verdict);
        assert!(matches!(report.report, Some(Report::Drift(drift)) if drift.features[0].name == "radius"));
    }
    assert_eq!(server.report("drifted").outputs["drifted_features"], serde_json::json!(["radius"]));
    let absent = server.report("absent");
    assert_eq!(absent.outcome, TryOutcome::Failed);
    assert!(absent.reason.unwrap().starts_with("DRF0102"));
    let log = server.with(|state| String::from_utf8_lossy(&state.log("drifted")).into_owned());
    assert!(log.contains("verdict: drift; next: retrain"), "{log}");
    assert_eq!(worker.stop(), Some(0));
}

/// Answers one request with the status and returns its body.
fn serve_once(listener: TcpListener, status: &'static str) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        reader
            .get_mut()
            .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .unwrap();
        String::from_utf8(body).unwrap()
    })
}

#[test]
fn notify_posts_its_body_and_fails_when_it_is_refused() {
    let server = Server::start();
    let setup = Setup::new(&server);
    let mut worker = setup.start();
    let notify = |webhook: String| Work::Notify { webhook, body: serde_json::json!({"text": "trained"}) };
    let mut hooks = Vec::new();
    for (name, status) in [("taken", "204 No Content"), ("refused", "422 Unprocessable")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?token=secret", listener.local_addr().unwrap());
        hooks.push(serve_once(listener, status));
        server.assign([assignment(name, notify(url))]);
    }
    server.assign([
        assignment("https", notify("https://127.0.0.1:1/hook".to_owned())),
        assignment("nobody", notify("http://127.0.0.1:1/hook".to_owned())),
        assignment("inside", notify("http://127.0.0.2:1/hook?token=secret".to_owned())),
    ]);
    for hook in hooks {
        assert_eq!(hook.join().unwrap(), r#"{"text":"trained"}"#);
    }
    let taken = server.report("taken");
    assert_eq!((taken.outcome, &taken.outputs["status"]), (TryOutcome::Success, &serde_json::json!(204)));
    for (name, code, is_final) in [
        ("refused", "WRK0303", true),
        ("https", "WRK0302", false),
        ("nobody", "WRK0302", false),
        ("inside", "WRK0302: the webhook http://127.0.0.2:1/hook could not be called: NET0001", true),
    ] {
        let report = server.report(name);
        assert_eq!((report.outcome, report.is_final), (TryOutcome::Failed, is_final), "{name}");
        assert!(report.reason.clone().unwrap().starts_with(code), "{:?}", report.reason);
    }
    let log = server.with(|state| String::from_utf8_lossy(&state.log("taken")).into_owned());
    assert!(log.contains("POST http://") && !log.contains("secret"), "{log}");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn an_operator_that_dies_without_a_result_fails_coded() {
    let server = Server::start();
    let setup = Setup::new(&server);
    // Stands in for a binary that is broken or was replaced by another program.
    std::fs::write(&setup.config.own_exe, {
        let script = std::fs::read_to_string(&setup.config.own_exe).unwrap();
        script.replace("#!/bin/sh\n", "#!/bin/sh\n[ \"$1\" = operator ] && exit 0\n")
    })
    .unwrap();
    let mut worker = setup.start();
    server.assign([assignment("broken", branch(&["retrain"]))]);
    let report = server.report("broken");
    assert_eq!(report.outcome, TryOutcome::Failed);
    assert!(report.reason.unwrap().starts_with("WRK0305"));
    assert_eq!(worker.stop(), Some(0));
}
