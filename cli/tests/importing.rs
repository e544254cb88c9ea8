//! `dags import`: golden files of what crontabs and Airflow's DAG files become, and runs of what was written.
//!
//! `UPDATE_EXPECT=1` writes the golden files anew.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::mill::{Done, Mill};

/// What stands above it is `cli/src/import/airflow/runtime.py` in every script.
const OWN: &str = "# From here on it is the DAG file's.";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

fn sources(extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

/// Puts a file of the folder into the home under its own name.
fn copy(mill: &Mill, path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    mill.write(&name, &fs::read_to_string(path).unwrap());
    name
}

fn import(mill: &Mill, kind: &str, path: &Path) -> Done {
    let name = copy(mill, path);
    mill.run(&["dags", "import", kind, &name, "--out", "out"])
}

/// Returns the report and every file that was written, one after the other.
fn written(mill: &Mill, done: &Done) -> String {
    let mut text = format!("exit code {}\n{}", done.code, done.err);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(mill.path("out")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort_by_key(|path| (path.extension().is_some_and(|found| found == "py"), path.clone()));
    for path in paths {
        let file = fs::read_to_string(&path).unwrap();
        let shown = file.split_once(OWN).map_or(&*file, |(_, own)| own.trim_start());
        let _ = write!(text, "\n==== {}\n{shown}", path.file_name().unwrap().to_string_lossy());
    }
    text
}

fn expect(path: &Path, text: &str) {
    let golden = path.with_extension("golden");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&golden, text).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(text, expected, "{} is not up to date; UPDATE_EXPECT=1 writes it", golden.display());
}

/// Asserts that the checker finds no error in what was written; returns how many files it looked at.
fn check(mill: &Mill) -> usize {
    let checked = mill.run(&["dags", "check", "out", "--format", "json"]).exits(0).json();
    let files = checked["files"].as_array().unwrap().clone();
    for file in &files {
        let errors =
            file["problems"].as_array().unwrap().iter().filter(|problem| problem["severity"] == "error");
        assert_eq!(errors.count(), 0, "{file}");
    }
    files.len()
}

#[test]
fn airflow_files_become_what_the_golden_files_say_and_are_accepted() {
    let (mut shapes, mut dags, mut clean) = (0, 0, 0);
    for path in sources("py") {
        let mill = Mill::new();
        let done = import(&mill, "airflow", &path);
        expect(&path, &written(&mill, &done));
        dags += check(&mill);
        shapes += 1;
        clean += u32::from(done.code == 0);
    }
    println!("{}", json!({ "shapes": shapes, "dags": dags, "without_problems": clean }));
    assert!(shapes >= 15 && dags >= 17 && clean >= 12, "{shapes} {dags} {clean}");
}

#[test]
fn crontabs_become_what_the_golden_files_say_and_are_accepted() {
    let mut dags = 0;
    for path in sources("crontab") {
        let mill = Mill::new();
        let done = import(&mill, "crontab", &path);
        expect(&path, &written(&mill, &done));
        dags += check(&mill);
    }
    println!("{}", json!({ "dags": dags }));
    assert!(dags >= 8, "{dags}");
}

/// Runs a DAG file and returns the state of each task.
fn states(mill: &Mill, file: &str, code: i32) -> Vec<(String, String)> {
    let args = ["dags", "test", file, "--logical-date", "2024-05-06T00:00:00Z", "--format", "json"];
    let run = mill.run(&args).exits(code).json();
    let text = |task: &Value, key: &str| task[key].as_str().unwrap().to_owned();
    run["tasks"].as_array().unwrap().iter().map(|task| (text(task, "task_id"), text(task, "state"))).collect()
}

fn state<'a>(states: &'a [(String, String)], task: &str) -> &'a str {
    &states.iter().find(|(id, _)| id == task).unwrap_or_else(|| panic!("{task}: {states:?}")).1
}

/// Replaces what is not in the file that was read: where it looks for its numbers.
const CHECKED: &str = "continuous_training.toml";

#[test]
fn the_drift_check_takes_both_branches_when_it_runs() {
    for (score, chosen, skipped) in [(None, "no_op", "retrain"), (Some("0.7"), "retrain", "no_op")] {
        let mill = Mill::new();
        import(&mill, "airflow", &folder().join("continuous_training.py")).exits(0);
        if let Some(score) = score {
            mill.write("out/drift.json", &format!("{{\"score\": {score}}}"));
        }
        let states = states(&mill, &format!("out/{CHECKED}"), 0);
        assert_eq!(state(&states, "monitor_drift"), "success");
        assert_eq!((state(&states, chosen), state(&states, skipped)), ("success", "skipped"), "{states:?}");
        assert_eq!(state(&states, "report"), "success");
    }
}

#[test]
fn without_a_folder_the_dag_file_goes_to_stdout_and_runs_alone() {
    let mill = Mill::new();
    let name = copy(&mill, &folder().join("continuous_training.py"));
    let done = mill.run(&["dags", "import", "airflow", &name]).exits(0);
    assert_eq!(done.err, "");
    mill.write("alone/dag.toml", &done.out);
    mill.run(&["dags", "check", "alone"]).exits(0);
    mill.write("alone/drift.json", "{\"score\": 0.3}");
    let states = states(&mill, "alone/dag.toml", 0);
    assert_eq!((state(&states, "retrain"), state(&states, "no_op")), ("success", "skipped"));
}

#[test]
fn outputs_travel_between_the_scripts_of_taskflow_functions() {
    let mill = Mill::new();
    for name in ["taskflow", "taskflow_branch", "airflow_three", "task_groups", "gates", "setups"] {
        let path = folder().join(format!("{name}.py"));
        let name = copy(&mill, &path);
        mill.run(&["dags", "import", "airflow", &name, "--out", "out"]).exits(0);
    }
    let run = |file: &str| {
        let args = ["dags", "test", file, "--logical-date", "2024-05-06T00:00:00Z", "--keep", "kept"];
        mill.run(&args).exits(0)
    };
    run("out/taskflow_etl.toml");
    let log = logs(&mill.path("kept"));
    assert!(log.contains("total of 2024-05-06: 6.00") && log.contains("there are 3"), "{log}");

    let states = |file: &str| states(&mill, file, 0);
    let branch = states("out/taskflow.branch.toml");
    let of = |task: &str| state(&branch, task);
    assert_eq!(
        (of("retrain"), of("tell"), of("keep"), of("end")),
        ("skipped", "success", "skipped", "success")
    );
    let three = states("out/airflow_three.toml");
    assert_eq!((state(&three, "work"), state(&three, "done")), ("success", "success"));
    let groups = states("out/task_groups.toml");
    assert_eq!(
        (state(&groups, "check"), state(&groups, "report.render"), state(&groups, "end")),
        ("success", "skipped", "success")
    );
    let gates = states("out/gates.toml");
    assert_eq!((state(&gates, "enough_gate"), state(&gates, "publish")), ("success", "success"));
    let setups = states("out/setups.toml");
    assert!(setups.iter().all(|(_, state)| state == "success"), "{setups:?}");
}

/// Returns all logs below a folder.
fn logs(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&logs(&path));
        } else if path.extension().is_some_and(|found| found == "log") {
            text.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
        }
    }
    text
}

#[test]
fn a_line_of_a_crontab_runs_in_the_home_folder_with_its_input() {
    let mill = Mill::new();
    mill.write("c", "NAME=you\n0 1 * * * cat > got; echo \"$NAME\" 100\\% >> got%hello%{{ ds }}%\n");
    mill.run(&["dags", "import", "crontab", "c", "--out", "out"]).exits(0);
    assert_eq!(states(&mill, "out/cat.toml", 0), [("run".to_owned(), "success".to_owned())]);
    assert_eq!(fs::read_to_string(mill.path("got")).unwrap(), "hello\n{{ ds }}\nyou 100%\n");
}

#[test]
fn what_exists_is_kept_unless_forced() {
    let mill = Mill::new();
    let path = folder().join("continuous_training.py");
    import(&mill, "airflow", &path).exits(0);
    // The script alone is enough of a reason, and nothing is written then.
    fs::remove_file(mill.path("out/continuous_training.toml")).unwrap();
    mill.write("out/continuous_training_retrain.py", "mine\n");
    import(&mill, "airflow", &path).fails_with("CFG0307");
    assert!(!mill.path("out/continuous_training.toml").exists());
    assert_eq!(fs::read_to_string(mill.path("out/continuous_training_retrain.py")).unwrap(), "mine\n");
    mill.run(&["dags", "import", "airflow", "continuous_training.py", "--out", "out", "--force"]).exits(0);
    assert_ne!(fs::read_to_string(mill.path("out/continuous_training_retrain.py")).unwrap(), "mine\n");
}

#[test]
fn the_report_has_a_shape_for_programs() {
    let mill = Mill::new();
    let name = copy(&mill, &folder().join("unsupported.py"));
    let done = mill.run(&["dags", "import", "airflow", &name, "--format", "json"]).exits(1);
    assert_eq!(done.err, "");
    let report = done.json();
    assert_eq!(report["dags"][0]["dag_id"], "unsupported");
    assert!(report["dags"][0]["toml"].as_str().unwrap().contains("[[task]]"));
    let s3 = report["report"].as_array().unwrap().iter().find(|entry| entry["task_id"] == "s3").unwrap();
    assert_eq!((&s3["line"], &s3["level"]), (&json!(28), &json!("problem")));
    assert!(s3["message"].as_str().unwrap().contains("S3KeySensor"));
    // What could not be converted fails when it runs: it must not look as if it had run.
    mill.write("out/unsupported.toml", report["dags"][0]["toml"].as_str().unwrap());
    let states = states(&mill, "out/unsupported.toml", 1);
    assert_eq!(state(&states, "s3"), "failed");
}

#[test]
fn what_cannot_be_imported_is_said_with_its_code() {
    let mill = Mill::new();
    mill.write("broken.py", "import os\n\ndef f(:\n");
    let broken = mill.run(&["dags", "import", "airflow", "broken.py"]).fails_with("CFG0306");
    assert!(broken.err.contains("line 3"), "{}", broken.err);
    fs::write(mill.path("latin.py"), b"x = 1\n# gr\xfc\xdfe\n").unwrap();
    mill.run(&["dags", "import", "airflow", "latin.py"]).exits(1);
    mill.write("plain.py", "print('no DAG')\n");
    mill.run(&["dags", "import", "airflow", "plain.py"]).exits(1);
    let plain = mill.run(&["dags", "import", "airflow", "plain.py"]);
    assert!(plain.err.contains("CFG0308"), "{}", plain.err);
    mill.run(&["dags", "import", "airflow", "missing.py"]).fails_with("CFG0302");
    // Several DAGs need several files, and a zone must exist.
    let several = copy(&mill, &folder().join("several_dags.py"));
    mill.run(&["dags", "import", "airflow", &several]).exits(2);
    mill.write("c", "0 1 * * * true\n");
    mill.run(&["dags", "import", "crontab", "c", "--timezone", "Mars/Base"]).exits(2);
    let zone = mill.run(&["dags", "import", "crontab", "c", "--timezone", "Asia/Tokyo"]).exits(0);
    assert!(
        zone.out.contains("timezone = \"Asia/Tokyo\"") && zone.err.is_empty(),
        "{}{}",
        zone.out,
        zone.err
    );
}
