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

/// A warning leaves the exit code alone: the file is loaded, and what it names may come later.
#[test]
fn a_script_that_is_not_beside_the_file_and_a_catch_up_of_very_many_runs_are_warned_of() {
    let mill = Mill::new();
    mill.write(
        "dags/tasks.toml",
        "[dag]\nid = \"tasks\"\nschedule = \"@daily\"\nstart_date = 2015-01-01\ncatchup = true\n\n[[task]]\nid = \"train\"\ncommand = \"python3 scripts/train.py --date {{ ds }}\"\n",
    );
    let warned = |mill: &Mill| -> Vec<(String, u64, u64)> {
        let done = mill.run(&["dags", "check", "dags", "--format", "json"]).exits(0);
        let problems = done.json()["files"][0]["problems"].as_array().unwrap().clone();
        let place = |p: &Value, key: &str| p["spans"][0][key].as_u64().unwrap();
        problems
            .iter()
            .map(|p| (p["code"].as_str().unwrap().to_owned(), place(p, "line"), place(p, "col")))
            .collect()
    };
    assert_eq!(warned(&mill), [("DAG0511".to_owned(), 5, 11), ("DAG0510".to_owned(), 9, 20)]);
    let table = mill.run(&["dags", "check", "dags/tasks.toml"]).exits(0);
    assert!(table.err.contains("not there") && table.err.contains("scripts/train.py"), "{}", table.err);
    mill.write("dags/scripts/train.py", "");
    assert_eq!(warned(&mill), [("DAG0511".to_owned(), 5, 11)]);
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

/// What a task of a file would be given, without a server: params, dates, outputs of tasks above, and the same checks.
#[test]
fn a_task_of_a_file_is_rendered_without_a_server() {
    let mill = Mill::new();
    mill.write(
        "dags/render.toml",
        "[dag]\nid = \"render\"\nschedule = \"@daily\"\ntimetable = \"interval\"\n[params.limit]\ndefault = 3\nmaximum = 9\n\
         [[task]]\nid = \"extract\"\ncommand = \"echo {{ ds }} {{ params.limit }}\"\n\
         [[task]]\nid = \"load\"\ncommand = [\"load\", \"{{ outputs.extract.rows }}\"]\ndepends_on = \"extract\"\n\
         [[task]]\nid = \"done\"\noperator = \"noop\"\ndepends_on = \"load\"\n",
    );
    let render = |args: &[&str]| {
        let all = [&["tasks", "render", "dags/render.toml"], args, &["--format", "json"]].concat();
        mill.run(&all)
    };
    let extract =
        render(&["extract", "--logical-date", "2026-11-01", "--params", "{\"limit\": 7}"]).exits(0).json();
    assert_eq!(extract["work"]["script"], "echo \"${TIDEMILL_V0}\" \"${TIDEMILL_V1}\"");
    let env = &extract["env"];
    assert_eq!((&env["TIDEMILL_V0"], &env["TIDEMILL_V1"]), (&json!("2026-11-01"), &json!("7")));
    assert_eq!(env["TIDEMILL_DATA_INTERVAL_END"], "2026-11-02T00:00:00+00:00");
    let load = render(&["load", "--outputs", "{\"extract\": {\"rows\": 12}}"]).exits(0).json();
    assert_eq!(load["work"]["argv"], json!(["load", "12"]));
    assert_eq!(load["inputs"], json!({ "extract": { "rows": 12 } }));
    assert_eq!(render(&["done"]).exits(0).json()["work"], Value::Null, "it never leaves the scheduler");
    // Wrong input says what is wrong.
    render(&["nope"]).fails_with("CFG0330");
    render(&["extract", "--params", "{\"limit\": 70}"]).fails_with("SCH0214");
    let missing = render(&["load"]).exits(1);
    assert!(missing.err.contains("SCH0702") || missing.err.contains("SCH0701"), "{}", missing.err);
    mill.run(&["tasks", "render", "dags/render.toml", "load", "--outputs", "{\"extract\": 1}"]).exits(2);
}

/// A run that is parked for a person would wait for ever in a test: there is nobody who could be asked.
#[test]
fn a_test_run_that_waits_for_a_person_ends_and_says_so() {
    let mill = Mill::new();
    let task = "[[task]]\nid = \"a\"\ncommand = \"exit 3\"\non_retries_exhausted = \"pause\"\n";
    mill.write("parked.toml", &format!("[dag]\nid = \"parked\"\n{task}"));
    let done = mill.run(&["dags", "test", "parked.toml", "--format", "json"]).exits(1);
    let told = done.json();
    assert_eq!((&told["state"], &told["tasks"][0]["state"]), (&json!("paused"), &json!("awaiting_input")));
    let table = mill.run(&["dags", "test", "parked.toml"]).exits(1);
    assert!(table.err.contains("the run is paused and waits for a person: a failed once"), "{}", table.err);
}

#[test]
fn a_test_executes_what_it_triggers_too() {
    let mill = Mill::new();
    mill.write(
        "parent.toml",
        "[dag]\nid = \"parent\"\n[[task]]\nid = \"start\"\noperator = \"trigger_dag\"\ndag_id = \"child\"\nwait = true\n\
         [[task]]\nid = \"day\"\noperator = \"time_sensor\"\nuntil = \"{{ data_interval_end }}\"\n",
    );
    mill.write(
        "child.toml",
        "[dag]\nid = \"child\"\n[[task]]\nid = \"work\"\ncommand = \"echo worked > worked\"\n",
    );
    let done = mill.run(&["dags", "test", "parent.toml", "--format", "json"]).exits(0);
    let told = done.json();
    assert_eq!(told["state"], "success", "{told}");
    // Without the other file it fails, and says why.
    mill.write("child.toml", "[dag]\nid = \"another\"\n[[task]]\nid = \"work\"\ncommand = \"true\"\n");
    let alone = mill.run(&["dags", "test", "parent.toml"]).exits(1);
    assert!(alone.err.contains("SCH0271: no run was triggered: there is no DAG child"), "{}", alone.err);
}
