//! Files that load, and what they become.

use std::time::Duration;

use tidemill_engine::definition::{Operator, Schedule, TimetableKind, load, version_hash};

const EXAMPLE: &str = include_str!("../good_files/continuous_training.toml");

#[test]
fn the_example_of_the_design_loads_whole() {
    let loaded = load(EXAMPLE.as_bytes(), "continuous_training.toml");
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.dag_id.as_deref(), Some("continuous_training"));
    let dag = loaded.dag.unwrap();
    assert_eq!(dag.schedule, Schedule::Cron(vec!["0 0 * * *".to_owned()]));
    assert_eq!(dag.timetable, TimetableKind::Interval);
    assert_eq!(dag.tasks.len(), 3);
    assert_eq!(dag.tasks[0].retries, 1);
    assert_eq!(dag.tasks[0].retry_delay, Duration::from_secs(300));
    assert_eq!(dag.tasks[1].owner.as_deref(), Some("ml-team"));
    assert_eq!(dag.tasks[1].timeout, Some(Duration::from_secs(7200)));
    assert!(matches!(dag.tasks[2].operator, Operator::Noop));
    assert!(
        matches!(&dag.tasks[0].operator, Operator::Drift { on_drift, .. } if on_drift[0].as_str() == "retrain")
    );
}

/// Writes every task with its upstreams.
fn shape(text: &str) -> String {
    let loaded = load(text.as_bytes(), "x.toml");
    assert_eq!(loaded.problems, []);
    let line = |task: &tidemill_engine::definition::Task| {
        let up: Vec<&str> = task.depends_on.iter().map(|id| id.as_str()).collect();
        format!("{} < {}", task.id, up.join(" "))
    };
    loaded.dag.unwrap().tasks.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_group_stands_for_its_last_tasks_and_its_first_take_what_it_depends_on() {
    let task = |id: &str, group: &str, rest: &str| {
        format!("[[task]]\nid = \"{id}\"\noperator = \"noop\"\ngroup = \"{group}\"\n{rest}\n")
    };
    let text = [
        "[dag]\nid = \"x\"\n[[task]]\nid = \"extract\"\noperator = \"noop\"\n".to_owned(),
        task("start", "load", "setup = true"),
        task("a", "load.daily", ""),
        task("b", "load.daily", "depends_on = [\"a\"]"),
        task("c", "load.daily", "depends_on = [\"a\"]"),
        task("join", "load", "depends_on = [\"group:load.daily\", \"b\"]"),
        task("stop", "load", "depends_on = [\"join\"]\nteardown = \"start\""),
        task("train", "train", "depends_on = [\"group:load\"]"),
        task("test", "train", ""),
        "[[group]]\nid = \"load\"\ndepends_on = \"extract\"\n".to_owned(),
        "[[group]]\nid = \"load.daily\"\ndepends_on = \"start\"\n".to_owned(),
        "[[group]]\nid = \"train\"\ndepends_on = [\"group:load\", \"extract\"]\n".to_owned(),
    ];
    let expected = "extract < \nstart < extract\na < start\nb < a\nc < a\njoin < c b\nstop < join start\n\
                    train < join extract\ntest < join extract";
    assert_eq!(shape(&text.concat()), expected);
    let dag = load(text.concat().as_bytes(), "x.toml").dag.unwrap();
    assert_eq!(dag.groups.len(), 3);
    assert!(dag.tasks[2].is_in_group("load") && !dag.tasks[2].is_in_group("loa"));
}

#[test]
fn a_branch_that_chooses_a_group_follows_its_first_tasks() {
    let loaded = load(
        b"[dag]\nid = \"x\"\n[[task]]\nid = \"choose\"\noperator = \"branch\"\n\
          branches = [{ when = \"true\", then = \"group:load\" }, { then = \"no\" }]\n\
          [[task]]\nid = \"no\"\noperator = \"noop\"\ndepends_on = [\"choose\"]\n\
          [[task]]\nid = \"a\"\noperator = \"noop\"\ngroup = \"load\"\n\
          [[task]]\nid = \"b\"\noperator = \"noop\"\ngroup = \"load\"\n\
          [[task]]\nid = \"last\"\noperator = \"noop\"\ngroup = \"load\"\ndepends_on = [\"a\", \"b\"]\n\
          [[group]]\nid = \"load\"\ndepends_on = \"choose\"\n",
        "x.toml",
    );
    assert_eq!(loaded.problems, []);
    let dag = loaded.dag.unwrap();
    let Operator::Branch { branches: tidemill_engine::definition::Branches::Arms(arms) } =
        &dag.tasks[0].operator
    else {
        panic!("{:?}", dag.tasks[0].operator)
    };
    assert_eq!(arms[0].then.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn the_commented_example_of_the_shipped_dag_loads() {
    let shipped = include_str!("../../../dags/continuous_training.toml");
    assert_eq!(load(shipped.as_bytes(), "continuous_training.toml").problems, []);
    let marked = "\n# on_failure = ";
    assert_eq!(shipped.matches(marked).count(), 1);
    let loaded = load(shipped.replace(marked, "\non_failure = ").as_bytes(), "continuous_training.toml");
    assert_eq!(loaded.problems, []);
    let dag = loaded.dag.unwrap();
    assert_eq!(dag.on_failure.len(), 1);
    assert!(dag.tasks.iter().any(|task| matches!(task.operator, Operator::Notify { .. })));
}

#[test]
fn values_of_any_shape_are_kept_as_they_are() {
    let loaded = load(include_bytes!("../good_files/operators.toml"), "operators.toml");
    assert_eq!(loaded.problems, []);
    let dag = loaded.dag.unwrap();
    let Operator::Python { spec } = &dag.tasks[0].operator else { panic!("{:?}", dag.tasks[0]) };
    let expected = serde_json::json!({ "callable": {
        "file": "lib/score.py", "function": "Model.score", "args": [1, "{{ ds }}"],
        "kwargs": { "deep": [{ "rows": "{{ params.depth }}" }] },
    } });
    assert_eq!(serde_json::to_value(&spec.target).unwrap(), expected);
}

#[test]
fn comments_and_formatting_make_no_new_version() {
    let plain = load(EXAMPLE.as_bytes(), "a.toml").dag.unwrap();
    let other = format!(
        "\u{feff}{}",
        EXAMPLE.replace('\n', "\r\n").replace(" = ", "  =   ").replace("\"5m\"", "300")
    );
    let other = load(other.as_bytes(), "b.toml");
    assert_eq!(other.problems, []);
    let other = other.dag.unwrap();
    assert_eq!(plain, other);
    assert_eq!(version_hash(&plain), version_hash(&other));
    assert_eq!(version_hash(&plain).as_str().len(), 32);
    let changed = load(EXAMPLE.replace("2h", "3h").as_bytes(), "c.toml").dag.unwrap();
    assert_ne!(version_hash(&plain), version_hash(&changed));
}
