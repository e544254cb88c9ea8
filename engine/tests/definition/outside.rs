//! What a file says about things outside of it: scripts, and dates that lie in the past.

use chrono::{DateTime, Utc};
use tidemill_engine::definition::{FileState, Loaded, load};

fn file(dag: &str, tasks: &str) -> Loaded {
    let loaded = load(format!("[dag]\nid = \"x\"\n{dag}\n{tasks}").as_bytes(), "x.toml");
    assert!(loaded.dag.is_some() && loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded
}

fn task(id: &str, command: &str) -> String {
    format!("[[task]]\nid = \"{id}\"\ncommand = {command}\n")
}

const MISSING: &dyn Fn(&str) -> FileState = &|_| FileState::Missing;

#[test]
fn a_script_that_is_not_there_is_pointed_at() {
    let loaded = file("", &task("train", "'set -e; python3 scripts/train.py --date {{ ds }}'"));
    let asked = std::cell::RefCell::new(Vec::new());
    let look = |path: &str| {
        asked.borrow_mut().push(path.to_owned());
        FileState::Missing
    };
    let problems = loaded.outside.missing(&look);
    assert_eq!(*asked.borrow(), ["scripts/train.py"]);
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!((problem.code.as_str(), problem.is_error()), ("DAG0510", false));
    let span = &problem.spans[0];
    assert_eq!((span.line, span.col, span.end_col, span.label.as_str()), (6, 28, 43, "not there"));
    assert!(problem.message.contains("`train` executes `scripts/train.py`"), "{}", problem.message);
    assert!(loaded.outside.missing(&|_| FileState::There).is_empty());
}

#[test]
fn only_what_is_started_itself_must_be_executable() {
    let tasks = task("a", "'./x.sh'") + &task("b", "'sh ./y.sh'") + &task("c", "['./z', 'now']");
    let problems = file("", &tasks).outside.missing(&|_| FileState::NotExecutable);
    let told: Vec<_> = problems.iter().map(|p| (p.spans[0].line, p.help.clone().unwrap())).collect();
    assert_eq!(
        told,
        [(6, "make it so: `chmod +x x.sh`".to_owned()), (12, "make it so: `chmod +x z`".to_owned())]
    );
    assert_eq!(problems[1].spans[0].col, 13, "the element of the list");
}

/// A file that another command names may be made by it.
#[test]
fn a_file_that_another_command_makes_is_left_alone() {
    let tasks =
        task("make", "'python3 generate.py --out scripts/run.sh'") + &task("run", "'bash scripts/run.sh'");
    let problems = file("", &tasks).outside.missing(MISSING);
    let named: Vec<_> = problems.iter().map(|p| p.message.contains("generate.py")).collect();
    assert_eq!(named, [true], "{problems:?}");
    // Two tasks that execute the same file make it not.
    let tasks = task("a", "'python3 train.py --fast'")
        + &task("b", "'python3 train.py'")
        + &task("c", "'python3 retrain.py'");
    assert_eq!(file("", &tasks).outside.missing(MISSING).len(), 3);
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn dates(dag: &str, cursor: Option<&str>, now: &str) -> Vec<(String, u32, String)> {
    let loaded = file(dag, "[[task]]\nid = \"a\"\noperator = \"noop\"\n");
    let problems = loaded.outside.dates(&loaded.dag.unwrap(), cursor.map(at), at(now));
    problems.into_iter().map(|p| (p.code.to_string(), p.spans[0].line, p.message)).collect()
}

#[test]
fn catch_up_over_very_many_dates_is_counted() {
    let dag = "schedule = \"@daily\"\nstart_date = 2020-01-01\ncatchup = true";
    let (code, line, message) = dates(dag, None, "2026-01-01T00:00:30Z").remove(0);
    assert_eq!((code.as_str(), line), ("DAG0511", 5));
    // The interval before the first midnight begins before the start date.
    assert_eq!(message, "`catchup` creates 2192 runs for dates that are past as soon as the DAG is loaded");
    let told = dates(dag, Some("2021-01-01T00:00:00Z"), "2026-01-01T00:00:30Z").remove(0).2;
    assert_eq!(told, "`catchup` still has to create 1826 runs for dates that are past");
    assert_eq!(dates(dag, Some("2025-12-01T00:00:00Z"), "2026-01-01T00:00:30Z"), []);
    let minutes = "schedule = \"* * * * *\"\nstart_date = 2020-01-01\ncatchup = true";
    assert!(dates(minutes, None, "2026-01-01T00:00:00Z")[0].2.contains("at least 10000 runs"));
    let every = "schedule = { every = \"1s\" }\nstart_date = 2020-01-01\ncatchup = true";
    assert!(dates(every, None, "2026-01-01T00:00:00Z")[0].2.contains("189388799 runs"));
}

#[test]
fn a_short_catch_up_and_none_are_left_alone() {
    for dag in [
        "schedule = \"@daily\"\nstart_date = 2025-01-01\ncatchup = true",
        "schedule = \"@hourly\"\nstart_date = 2020-01-01\ncatchup = false",
        "schedule = \"@hourly\"\nstart_date = 2020-01-01",
        "schedule = \"@hourly\"\nstart_date = 2020-01-01\nend_date = 2020-01-20\ncatchup = true",
        "schedule = \"@once\"\nstart_date = 2020-01-01\ncatchup = true",
        "schedule = \"@continuous\"\nstart_date = 2020-01-01\ncatchup = true",
        "start_date = 2020-01-01\nend_date = 2020-02-01",
        "schedule = \"@daily\"\nend_date = 2026-06-01",
    ] {
        assert_eq!(dates(dag, None, "2026-01-01T00:00:30Z"), [], "{dag}");
    }
}

#[test]
fn a_schedule_without_a_date_is_told_from_one_that_is_over() {
    let never = "schedule = \"@monthly\"\nstart_date = 2027-01-02\nend_date = 2027-01-20";
    let (code, line, message) = dates(never, None, "2026-01-01T00:00:00Z").remove(0);
    assert_eq!((code.as_str(), line), ("DAG0513", 5));
    assert!(message.contains("never fires"), "{message}");
    let over = "schedule = \"@daily\"\nstart_date = 2025-01-02\nend_date = 2025-01-20";
    assert!(dates(over, None, "2026-01-01T00:00:00Z")[0].2.contains("does not fire any more"));
    assert!(dates(over, Some("2025-01-20T00:00:00Z"), "2025-01-20T05:00:00Z")[0].2.contains("any more"));
    assert_eq!(dates(over, Some("2025-01-19T00:00:00Z"), "2025-01-19T05:00:00Z"), []);
    // Catch-up still makes runs of them.
    assert_eq!(dates(&format!("{over}\ncatchup = true"), None, "2026-01-01T00:00:00Z"), []);
}
