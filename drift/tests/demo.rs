//! The shipped fortnight: the real scripts and the real operator, day by day, as `continuous_training.toml` has them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_drift::{Branches, DriftError, DriftReport, DriftSpec, Options, decide};
use tidemill_protocol::worker::TaskId;

use crate::common;

fn dags() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../dags")).unwrap()
}

/// A data folder, and the outputs of the day that is being run.
struct Mill {
    data: TempDir,
    dag: toml::Table,
    outputs: BTreeMap<String, Value>,
}

impl Mill {
    fn new() -> Self {
        let text = fs::read_to_string(dags().join("continuous_training.toml")).unwrap();
        Self { data: tempfile::tempdir().unwrap(), dag: text.parse().unwrap(), outputs: BTreeMap::new() }
    }

    fn task(&self, id: &str) -> &toml::Table {
        let tasks = self.dag["task"].as_array().unwrap();
        tasks.iter().filter_map(toml::Value::as_table).find(|t| t["id"].as_str() == Some(id)).unwrap()
    }

    /// Renders the few templates that the file uses.
    fn render(&self, text: &str, day: &str) -> String {
        let param = |name: &str| self.dag["params"][name]["default"].to_string();
        let baseline = self.outputs.get("pick_baseline").and_then(|o| o["path"].as_str()).unwrap_or_default();
        let text = text
            .replace("{{ ds }}", day)
            .replace("{{ outputs.pick_baseline.path }}", baseline)
            .replace("{{ params.min_accuracy }}", &param("min_accuracy"))
            .replace("{{ params.rounds }}", &param("rounds"));
        assert!(!text.contains("{{"), "{text}");
        text
    }

    /// Runs a command task as the file has it; returns its exit code and log, and keeps its outputs.
    fn run(&mut self, id: &str, day: &str) -> (Option<i32>, String) {
        let work = tempfile::tempdir().unwrap();
        let (output, inputs) = (work.path().join("output"), work.path().join("inputs"));
        let task = self.task(id);
        let upstreams: Vec<&str> = task
            .get("depends_on")
            .and_then(toml::Value::as_array)
            .map(|ids| ids.iter().filter_map(toml::Value::as_str).collect())
            .unwrap_or_default();
        let handed: BTreeMap<_, _> =
            self.outputs.iter().filter(|(task, _)| upstreams.contains(&task.as_str())).collect();
        fs::write(&inputs, serde_json::to_vec(&handed).unwrap()).unwrap();
        let mut command = match &task["command"] {
            toml::Value::String(script) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", &self.render(script, day)]);
                command
            }
            words => {
                let words: Vec<String> =
                    words.as_array().unwrap().iter().map(|w| self.render(w.as_str().unwrap(), day)).collect();
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        let result = command
            .current_dir(dags())
            .env("TIDEMILL_DS", day)
            .env("TIDEMILL_LOGICAL_DATE", format!("{day}T00:00:00Z"))
            .env("TIDEMILL_DATA_DIR", self.data.path())
            .env("TIDEMILL_WORK_DIR", work.path())
            .env("TIDEMILL_OUTPUT", &output)
            .env("TIDEMILL_INPUTS", &inputs)
            .env("TIDEMILL_FENCE", "1")
            .output()
            .unwrap();
        let mut values = serde_json::Map::new();
        for line in fs::read_to_string(&output).unwrap_or_default().lines() {
            values.extend(serde_json::from_str::<serde_json::Map<String, Value>>(line).unwrap());
        }
        if result.status.success() {
            self.outputs.insert(id.to_owned(), values.into());
        }
        let log = [result.stdout, result.stderr].concat();
        (result.status.code(), String::from_utf8_lossy(&log).into_owned())
    }

    fn succeed(&mut self, id: &str, day: &str) -> String {
        let (code, log) = self.run(id, day);
        assert_eq!(code, Some(0), "{day} {id}: {log}");
        log
    }

    /// The operator, with the keys of the file.
    fn monitor(&self, day: &str) -> Result<DriftReport, DriftError> {
        let task = self.task("monitor_drift");
        let mut spec: DriftSpec = toml::Value::Table(task.clone()).try_into().unwrap();
        spec.reference = self.render(&spec.reference, day);
        spec.current = self.render(&spec.current, day);
        let ids = |key: &str| vec![TaskId::new(task[key].as_str().unwrap()).unwrap()];
        let branches = Branches {
            on_drift: ids("on_drift"),
            on_stable: ids("on_stable"),
            on_insufficient_data: Some(ids("on_insufficient_data")),
        };
        decide(&spec, &Options { base: dags(), ..Options::default() }, &branches)
    }

    /// One day, in the order of the graph. Returns the branch, or the code of the operator's error.
    fn day(&mut self, day: &str) -> (String, Vec<String>) {
        self.outputs.clear();
        self.succeed("pick_baseline", day);
        let (code, log) = self.run("score", day);
        assert!(matches!(code, Some(0 | 99)), "{day}: {log}");
        let report = match self.monitor(day) {
            Ok(report) => report,
            Err(error) => return (error.code().to_owned(), Vec::new()),
        };
        let decision = report.decision.unwrap();
        let drifted: Vec<&str> =
            report.features.iter().filter(|f| f.drifted).map(|f| f.name.as_str()).collect();
        println!("{day}: {} {} {:?}", decision.branch.join(" "), decision.because, decision.warnings);
        let handed =
            json!({"verdict": decision.verdict, "drifted_features": drifted, "warnings": decision.warnings});
        self.outputs.insert("monitor_drift".to_owned(), handed);
        if decision.branch == ["retrain"] {
            self.succeed("retrain", day);
        }
        let log = self.succeed("report", day);
        assert!(log.contains(&decision.verdict) && log.contains(day), "{log}");
        (decision.branch.join(" "), decision.warnings)
    }
}

/// Everything tracked in the folder, to see that nothing changes.
fn snapshot(folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            snapshot(&path, into);
        } else {
            into.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

#[test]
fn the_fortnight_takes_the_expected_branches() {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    snapshot(&dags(), &mut before);
    let mut mill = Mill::new();
    let mut accuracy = Vec::new();
    for number in 1..=14 {
        let day = format!("2026-11-{number:02}");
        let (branch, warnings) = mill.day(&day);
        let expected = match number {
            5 => "retrain",
            10 => "DRF0301",
            _ => "no_op",
        };
        assert_eq!(branch, expected, "{day}");
        assert_eq!(!warnings.is_empty(), number == 9, "{day}: {warnings:?}");
        if number == 9 {
            assert!(warnings[0].contains("mean_texture"), "{warnings:?}");
        }
        accuracy.push(mill.outputs.get("score").and_then(|s| s["accuracy"].as_f64()));
    }
    println!("accuracy in service by day: {accuracy:?}");
    assert!(accuracy[9].is_none(), "day 10 lacks a column of the model");
    let of = |day: usize| accuracy[day - 1].unwrap();
    assert!(of(12) < 0.75 && [1, 2, 3, 4, 6, 7, 8, 11, 13, 14].iter().all(|d| of(*d) > 0.9), "{accuracy:?}");
    // A date that runs again after its predecessors takes its branch again.
    assert_eq!(mill.day("2026-11-05").0, "retrain");
    assert_eq!(mill.day("2026-11-04").0, "no_op");
    snapshot(&dags(), &mut after);
    assert!(before == after, "a run changed a shipped file");
}

#[test]
fn the_model_is_real() {
    let mut mill = Mill::new();
    let day = "2026-11-05";
    assert_eq!(mill.day(day).0, "retrain");
    let reported = mill.outputs["retrain"].clone();
    let evaluate = |labels: &Path| -> Value {
        let mut command = Command::new("python3");
        command.current_dir(dags()).args(["-B", "scripts/continuous_training/evaluate.py"]);
        command.arg(reported["model"].as_str().unwrap()).arg(format!("data/live/date={day}")).arg(labels);
        serde_json::from_str(&common::run(&mut command)).unwrap()
    };
    // Another process loads the model and finds the same metrics.
    let again = evaluate(&dags().join(format!("data/labels/date={day}")));
    for key in ["accuracy", "auc", "log_loss"] {
        assert_eq!(again[key], reported[key], "{key}");
    }
    assert_eq!(again["rows"], reported["rows_unseen"]);
    let accuracy = again["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.9 && accuracy > reported["accuracy_before"].as_f64().unwrap(), "{reported}");
    // Labels that belong to other rows lower them.
    let text = fs::read_to_string(dags().join(format!("data/labels/date={day}/labels.csv"))).unwrap();
    let rows: Vec<(&str, &str)> = text.lines().skip(1).filter_map(|l| l.split_once(',')).collect();
    let mut permuted = "row_id,diagnosis\n".to_owned();
    for (i, (row, _)) in rows.iter().enumerate() {
        permuted.push_str(&format!("{row},{}\n", rows[(i * 7 + 101) % rows.len()].1));
    }
    let path = common::write(mill.data.path(), "permuted/labels.csv", permuted);
    let worse = evaluate(Path::new(&path));
    println!("reported {reported}, permuted {worse}");
    assert!(worse["accuracy"].as_f64().unwrap() < 0.75 && worse["auc"].as_f64().unwrap() < 0.7, "{worse}");
}

#[test]
fn a_model_below_the_least_accuracy_is_not_promoted() {
    let mut mill = Mill::new();
    mill.dag["params"]["min_accuracy"]["default"] = toml::Value::Float(1.0);
    mill.outputs.clear();
    mill.succeed("pick_baseline", "2026-11-12");
    // The labels of this day are wrong, so nothing can learn them.
    let (code, log) = mill.run("retrain", "2026-11-12");
    assert!(code == Some(1) && log.contains("not promoted"), "{log}");
    assert!(!mill.data.path().join("baselines").exists());
}

#[test]
fn the_shipped_data_are_made_from_the_shipped_table() {
    let made = tempfile::tempdir().unwrap();
    common::run(Command::new("python3").arg("-B").arg(dags().join("data/simulate.py")).arg(made.path()));
    let mut files = BTreeMap::new();
    snapshot(made.path(), &mut files);
    assert_eq!(files.len(), 1 + 14 + 14);
    for (path, bytes) in files {
        let shipped = dags().join("data").join(path.strip_prefix(made.path()).unwrap());
        assert!(fs::read(&shipped).unwrap() == bytes, "{}", shipped.display());
    }
    let script = "scripts/continuous_training/make_baseline.py";
    common::run(Command::new("python3").current_dir(dags()).args(["-B", script]).arg(made.path()));
    let read = |folder: &Path| -> Value {
        serde_json::from_slice(&fs::read(folder.join("model.json")).unwrap()).unwrap()
    };
    assert_eq!(read(made.path())["metrics"], read(&dags().join("data/baseline"))["metrics"]);
}

#[test]
fn maintenance_keeps_the_newest_backups_and_nothing_else_is_touched() {
    let data = tempfile::tempdir().unwrap();
    let backups = data.path().join("backups");
    for day in 1..=16 {
        common::write(&backups, &format!("tidemill-202611{day:02}T033000Z-1.sqlite"), "x");
    }
    common::write(&backups, "notes.txt", "mine");
    let keep = |newest: &str| {
        let mut command = Command::new("sh");
        command.args(["scripts/maintenance/keep_newest.sh", newest]).current_dir(dags());
        common::run(command.env("TIDEMILL_DATA_DIR", data.path()));
        let mut names: Vec<String> = fs::read_dir(&backups)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let names = keep("14");
    assert_eq!(names.len(), 15);
    assert_eq!((names[0].as_str(), names[1].as_str()), ("notes.txt", "tidemill-20261103T033000Z-1.sqlite"));
    assert_eq!(keep("14"), names);
    assert_eq!(keep("1")[1], "tidemill-20261116T033000Z-1.sqlite");
}
