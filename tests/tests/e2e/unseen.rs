//! The main flow: the shipped continuous-training DAG on batches that it has never seen.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    python::python,
    server::{Options, Server, cli, repository},
};

const DAG: &str = "continuous_training";

/// Batches under dates that are not shipped: (date, seed, what).
const BATCHES: [(&str, u64, &str); 4] = [
    ("2027-03-01", 11, "quiet"),
    ("2027-03-02", 12, "moved"),
    ("2027-03-03", 13, "moved"),
    ("2027-03-04", 14, "quiet"),
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs the Python side and returns the JSON of its last line.
fn helper(args: &[&str]) -> Value {
    let script = repository().join("tests/tests/e2e/unseen.py");
    let output = Command::new(python()).arg(script).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The shipped folder in a place of the test's own, without the end of its dates.
fn prepared(folder: &Path) -> std::path::PathBuf {
    let dags = folder.join("dags");
    copy(&repository().join("dags"), &dags);
    let file = dags.join("continuous_training.toml");
    let text = fs::read_to_string(&file).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("end_date")).collect();
    fs::write(file, kept.join("\n")).unwrap();
    dags
}

/// Triggers a date, by the CLI or over REST, and returns the ended run's id.
async fn run_date(server: &Server, date: &str, by_cli: bool) -> String {
    let instant = format!("{date}T00:00:00Z");
    let run_id = if by_cli {
        let (code, out, err) =
            cli(server, &["dags", "trigger", DAG, "--logical-date", &instant, "--format", "json"]);
        assert_eq!(code, 0, "{err}");
        let made: Value = serde_json::from_str(&out).unwrap();
        made["run_id"].as_str().unwrap().to_owned()
    } else {
        server.client.trigger(DAG, Some(&instant)).await
    };
    let run = server.client.wait(DAG, &run_id).await;
    assert_eq!(run["state"], "success", "{run}");
    run_id
}

async fn branch_of(server: &Server, run_id: &str) -> &'static str {
    let retrain = server.client.task(DAG, run_id, "retrain").await["state"].clone();
    let no_op = server.client.task(DAG, run_id, "no_op").await["state"].clone();
    match (retrain.as_str(), no_op.as_str()) {
        (Some("success"), Some("skipped")) => "retrain",
        (Some("skipped"), Some("success")) => "no_op",
        states => panic!("{states:?}"),
    }
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Checks the evidence of one run against scipy, and that the page shows it.
async fn check_evidence(server: &Server, dags: &Path, date: &str, run_id: &str, branch: &str) -> usize {
    let base = format!("/dags/{DAG}/runs/{run_id}/tasks/monitor_drift");
    let report = server.client.get(&format!("{base}/report")).await;
    let text = report.to_string();
    let features = find(&report, "features").unwrap_or_else(|| panic!("{text}"));
    let drifted: BTreeSet<String> = features
        .as_array()
        .unwrap()
        .iter()
        .filter(|feature| feature["drifted"] == true)
        .map(|feature| feature["name"].as_str().unwrap().to_owned())
        .collect();
    let expected = names(&helper(&["expect", dags.to_str().unwrap(), date]));
    assert_eq!(drifted, expected, "{date}");
    assert_eq!(features.as_array().unwrap().len(), 30);
    let url = format!("{}{base}", server.url);
    let page = server.client.http.get(url).bearer_auth(&server.client.token).send().await.unwrap();
    assert!(page.status().is_success(), "{}", page.status());
    let page = page.text().await.unwrap();
    assert!(page.contains("Drift report") && page.contains(branch), "{date}: the page shows no report");
    for name in &drifted {
        assert!(page.contains(name.as_str()), "{date}: {name} is not on the page");
    }
    assert_eq!(page.matches("<b class=\"bad-text\">drifted</b>").count(), drifted.len(), "{date}");
    drifted.len()
}

/// Returns the first value under `key`, at any depth.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key))),
        Value::Array(items) => items.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

/// Another process loads the model that a run trained, finds the metrics that the run reported, and finds worse
/// ones when the labels belong to other rows. Returns both accuracies.
async fn check_model(server: &Server, dags: &Path, date: &str, run_id: &str) -> (f64, f64) {
    let outputs = server.client.get(&format!("/dags/{DAG}/runs/{run_id}/tasks/retrain/outputs")).await;
    let said = |name: &str| find(&outputs, name).unwrap_or_else(|| panic!("no {name} in {outputs}")).clone();
    let evaluate = |labels: &Path| -> Value {
        let output = Command::new("python3")
            .current_dir(dags)
            .args(["-B", "scripts/continuous_training/evaluate.py"])
            .arg(said("model").as_str().unwrap())
            .arg(format!("data/live/date={date}"))
            .arg(labels)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let labels = dags.join(format!("data/labels/date={date}"));
    let again = evaluate(&labels);
    for name in ["accuracy", "auc", "log_loss"] {
        let (again, said) = (again[name].as_f64().unwrap(), said(name).as_f64().unwrap());
        assert!((again - said).abs() < 1e-12, "{date}: {name}: {again}, reported {said}");
    }
    let text = fs::read_to_string(labels.join("labels.csv")).unwrap();
    let rows: Vec<(&str, &str)> = text.lines().skip(1).filter_map(|line| line.split_once(',')).collect();
    let permuted = rows.iter().enumerate().map(|(i, (row, _))| {
        let other = rows[(i * 7 + 101) % rows.len()].1;
        format!("{row},{other}\n")
    });
    let folder = tempfile::tempdir().unwrap();
    let header = "row_id,diagnosis\n".to_owned();
    fs::write(folder.path().join("labels.csv"), header + &permuted.collect::<String>()).unwrap();
    let worse = evaluate(folder.path());
    let accuracy = |found: &Value| found["accuracy"].as_f64().unwrap();
    assert!(accuracy(&worse) + 0.15 < accuracy(&again), "{date}: {again}, permuted {worse}");
    (accuracy(&again), accuracy(&worse))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unseen_batches_take_the_branch_that_scipy_expects() {
    let folder = tempfile::tempdir().unwrap();
    let dags = prepared(folder.path());
    for (date, seed, what) in BATCHES {
        helper(&["make", dags.to_str().unwrap(), date, &seed.to_string(), what]);
    }
    let server = Server::start(&Options::new(&dags, &folder.path().join("data")));
    let (mut drifted, mut models) = (0, Vec::new());
    // Later dates first: a retrained baseline is for later dates only, so each is compared with the shipped one.
    for (index, (date, _, what)) in BATCHES.iter().enumerate().rev() {
        let run_id = run_date(&server, date, index % 2 == 0).await;
        let branch = branch_of(&server, &run_id).await;
        assert_eq!(branch, if *what == "moved" { "retrain" } else { "no_op" }, "{date}");
        drifted += check_evidence(&server, &dags, date, &run_id, branch).await;
        if branch == "retrain" {
            models.push(check_model(&server, &dags, date, &run_id).await);
        }
    }
    drop(server);
    // Two folders change places: so do the branches.
    for kind in ["live", "labels"] {
        let place = |date: &str| dags.join(format!("data/{kind}/date={date}"));
        fs::rename(place(BATCHES[0].0), place("held")).unwrap();
        fs::rename(place(BATCHES[1].0), place(BATCHES[0].0)).unwrap();
        fs::rename(place("held"), place(BATCHES[1].0)).unwrap();
    }
    let server = Server::start(&Options::new(&dags, &folder.path().join("other")));
    for (index, expected) in [(1, "no_op"), (0, "retrain")] {
        let run_id = run_date(&server, BATCHES[index].0, true).await;
        assert_eq!(branch_of(&server, &run_id).await, expected, "{} after the swap", BATCHES[index].0);
    }
    assert_eq!(models.len(), 2);
    println!(
        "{}",
        json!({
            "id": "unseen", "batches": BATCHES.len(), "drifted_equal_to_scipy": drifted, "swapped": 2,
            "models_reproduced": models.len(), "accuracy_and_permuted": models,
        })
    );
}

/// The demonstration fortnight through the real binary: what each day decides, and that no shipped file changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fortnight_decides_as_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    copy(&repository().join("dags"), &dags);
    let before = listing(&dags);
    let mut options = Options::new(&dags, &folder.path().join("data"));
    options.args.push("--demo".to_owned());
    let mut server = Server::start(&options);
    let until = std::time::Instant::now() + 3 * super::server::PATIENCE;
    let runs = loop {
        let runs = server.client.try_get(&format!("/dags/{DAG}/runs?limit=50")).await;
        let runs = runs.ok().and_then(|page| page["items"].as_array().cloned()).unwrap_or_default();
        let is_over = |run: &Value| matches!(run["state"].as_str(), Some("success" | "failed"));
        if runs.len() == 14 && runs.iter().all(is_over) {
            break runs;
        }
        assert!(
            std::time::Instant::now() < until,
            "{} runs; the server said:\n{}",
            runs.len(),
            server.said()
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let mut decided = Vec::new();
    for day in 1..=14 {
        let date = format!("2026-11-{day:02}T00:00:00");
        let run = runs.iter().find(|run| run["logical_date"].as_str().unwrap().starts_with(&date)).unwrap();
        let run_id = run["run_id"].as_str().unwrap();
        if run["state"] == "failed" {
            let task = server.client.task(DAG, run_id, "monitor_drift").await;
            let reason = task["reason"].as_str().unwrap_or_default().to_owned();
            assert!(reason.contains("DRF0301"), "day {day}: {task}");
            decided.push("DRF0301");
        } else {
            decided.push(branch_of(&server, run_id).await);
        }
    }
    let mut expected = vec!["no_op"; 14];
    expected[4] = "retrain";
    expected[9] = "DRF0301";
    assert_eq!(decided, expected);
    assert_eq!(listing(&dags), before, "a run changed a shipped file");
    assert_eq!(server.stop().code(), Some(0), "a stopped server ends well; it said:\n{}", server.said());
    println!("{}", json!({ "id": "fortnight", "days": 14, "decided": decided }));
}

/// Every file below a folder with its content's length and hash.
fn listing(folder: &Path) -> BTreeSet<(String, String)> {
    use sha2::{Digest, Sha256};
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        } else {
            found.insert((path.display().to_string(), hex::encode(Sha256::digest(fs::read(&path).unwrap()))));
        }
    }
    found
}
