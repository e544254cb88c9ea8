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
