//! What needs no server: DAG files and drift.

use serde_json::{Value, json};

use crate::mill::Mill;

const GOOD: &str = "[dag]\nid = \"hello\"\nschedule = \"30 2 * * *\"\ntimezone = \"Europe/Zurich\"\ntimetable = \"interval\"\n\n[[task]]\nid = \"say\"\ncommand = \"echo hello\"\n";

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_good_file_has_no_problems() {
    let mill = Mill::new();
    mill.write("dags/good.toml", GOOD);
    let done = mill.run(&["dags", "check", "dags/good.toml", "--format", "json"]).exits(0);
    assert_eq!(
        done.json(),
        json!({ "files": [{ "path": "dags/good.toml", "dag_id": "hello", "problems": [] }] })
    );
    assert!(mill.run(&["dags", "check", "dags"]).exits(0).out.contains("hello"));
}

#[test]
fn problems_have_the_documented_shape_and_exit_with_1() {
    let mill = Mill::new();
    mill.write(
        "dags/bad.toml",
        "[dag]\nid = \"x\"\nshedule = \"@daily\"\n\n[[task]]\nid = \"a\"\ncommand = 3\n",
    );
    mill.write("dags/deep/good.toml", GOOD);
    let done = mill.run(&["dags", "check", "dags", "--format", "json"]).exits(1);
    let files = done.json()["files"].clone();
    assert_eq!(files.as_array().unwrap().len(), 2);
    let problems = files[0]["problems"].as_array().unwrap();
    assert!(problems.len() >= 2, "{files}");
    let problem = &problems[0];
    assert_eq!(keys(problem), ["code", "help", "message", "severity", "spans", "suggestion"]);
    assert_eq!(keys(&problem["spans"][0]), ["col", "end_col", "end_line", "label", "line"]);
    assert_eq!((&problem["severity"], &problem["suggestion"]), (&json!("error"), &json!("schedule")));
    let span = &problem["spans"][0];
    assert_eq!((&span["line"], &span["col"], &span["end_col"]), (&json!(3), &json!(1), &json!(7)));
    assert_eq!(done.err, "", "JSON says it all");

    let table = mill.run(&["dags", "check", "dags"]).exits(1);
    assert!(
        table.err.contains("did you mean `schedule`?") && table.err.contains("bad.toml:3:1"),
        "{}",
        table.err
    );
    assert!(table.out.contains("dags/bad.toml"));
    mill.run(&["dags", "check", "missing.toml"]).fails_with("CFG0302");
}

#[test]
fn next_dates_of_a_file_need_no_server() {
    let mill = Mill::new();
    mill.write("good.toml", GOOD);
    let args =
        ["dags", "next", "good.toml", "--from", "2026-03-28T00:00:00Z", "--count", "2", "--format", "json"];
    let done = mill.run(&args).exits(0);
    // 02:30 does not exist in Zurich on 29 March: it fires at 03:00 summer time.
    assert_eq!(
        done.json(),
        json!([
            {
                "logical_date": "2026-03-28T01:30:00Z",
                "data_interval_start": "2026-03-28T01:30:00Z",
                "data_interval_end": "2026-03-29T01:00:00Z",
                "run_after": "2026-03-29T01:00:00Z",
            },
            {
                "logical_date": "2026-03-29T01:00:00Z",
                "data_interval_start": "2026-03-29T01:00:00Z",
                "data_interval_end": "2026-03-30T00:30:00Z",
                "run_after": "2026-03-30T00:30:00Z",
            },
        ])
    );
    let table = mill.run(&["dags", "next", "good.toml", "--count", "3"]).exits(0);
    assert_eq!(table.out.lines().count(), 4);
    assert!(table.err.contains("every day at 02:30 Europe/Zurich"));
}

#[test]
fn drift_is_compared_in_the_documented_shape() {
    let mill = Mill::new();
    let column =
        |shift: f64| (0..200).map(|i| format!("{},{}\n", f64::from(i) + shift, i % 3)).collect::<String>();
    mill.write("a.csv", &format!("x,kind\n{}", column(0.0)));
    mill.write("b.csv", &format!("x,kind\n{}", column(150.0)));
    let args = ["drift", "compare", "--reference", "a.csv", "--current", "b.csv", "--categorical", "kind"];
    let done =
        mill.run(&[&args[..], &["--metrics", "ks,psi,kl,js,wasserstein,chi2", "--format", "json"]].concat());
    let report = done.exits(0).json();
    assert_eq!(report["drifted"], true);
    let feature = &report["features"][0];
    assert_eq!(
        (&feature["name"], &feature["kind"], &feature["status"]),
        (&json!("x"), &json!("numeric"), &json!("ok"))
    );
    for field in [
        "rows_reference",
        "rows_current",
        "missing_reference",
        "missing_current",
        "infinite_reference",
        "infinite_current",
        "n_reference",
        "n_current",
        "metrics",
        "drifted",
        "reasons",
    ] {
        assert!(feature.get(field).is_some(), "{field}");
    }
    assert_eq!(feature["metrics"]["ks"]["statistic"], 0.75);
    assert!(feature["metrics"]["wasserstein"]["normed"].is_number());
    assert!(report["features"][1]["metrics"]["chi2"]["p_value"].is_number());
    let table = mill.run(&args).exits(0);
    assert!(table.out.contains("drifted: 1 features drifted"), "{}", table.out);
    let missing = mill.run(&["drift", "compare", "--reference", "no.csv", "--current", "b.csv"]);
    missing.fails_with("DRF0102");
}

#[test]
fn a_dag_is_tested_in_the_foreground() {
    let mill = Mill::new();
    mill.write(
        "t.toml",
        "[dag]\nid = \"t\"\nschedule = \"@daily\"\ncatchup = true\nstart_date = 2026-01-01\n\n[params.word]\ntype = \"string\"\ndefault = \"x\"\n\n[[task]]\nid = \"one\"\ncommand = \"echo {{ params.word }} {{ ds }} > out.txt\"\n\n[[task]]\nid = \"two\"\noperator = \"noop\"\ndepends_on = [\"one\"]\n",
    );
    let args = [
        "dags",
        "test",
        "t.toml",
        "--logical-date",
        "2026-01-05",
        "--params",
        "{\"word\":\"hej\"}",
        "--format",
        "json",
    ];
    let done = mill.run(&args).exits(0);
    assert_eq!(
        done.json(),
        json!({ "state": "success", "tasks": [
            { "task_id": "one", "map_index": -1, "state": "success", "try_number": 1 },
            { "task_id": "two", "map_index": -1, "state": "success", "try_number": done.json()["tasks"][1]["try_number"] },
        ] })
    );
    assert_eq!(std::fs::read_to_string(mill.path("out.txt")).unwrap(), "hej 2026-01-05\n");
}

#[test]
fn a_failing_dag_shows_the_end_of_its_log_and_exits_with_1() {
    let mill = Mill::new();
    mill.write("t.toml", "[dag]\nid = \"t\"\n\n[[task]]\nid = \"one\"\ncommand = \"echo because; exit 3\"\n\n[[task]]\nid = \"two\"\noperator = \"noop\"\ndepends_on = [\"one\"]\n");
    let done = mill.run(&["dags", "test", "t.toml"]).exits(1);
    assert!(done.err.contains("because") && done.out.contains("upstream_failed"), "{}{}", done.out, done.err);
    mill.write("bad.toml", "[dag]\n");
    let bad = mill.run(&["dags", "test", "bad.toml"]).exits(1);
    assert!(bad.err.contains("DAG0"), "{}", bad.err);
}
