//! Which run a task makes or means.

use tidemill_engine::{
    definition::{Task, load},
    preparation::{Preparation, Prepared},
    template::{needs_of_preparation, prepare},
};

use super::context;

fn task(keys: &str) -> Task {
    let text =
        format!("[dag]\nid = \"d\"\n[[task]]\nid = \"t\"\n{keys}\n[[task]]\nid = \"up\"\ncommand = \"x\"\n");
    let dag = load(text.as_bytes(), "d.toml").dag.unwrap_or_else(|| panic!("{text}"));
    dag.tasks[0].clone()
}

fn prepared(keys: &str, what: Preparation) -> Result<Prepared, String> {
    prepare(&task(keys), what, &context()).map_err(|error| error.to_string())
}

#[test]
fn a_triggered_run_has_what_its_templates_give() {
    let keys = "operator = \"trigger_dag\"\ndepends_on = [\"up\"]\ndag_id = \"load_{{ ds_nodash }}\"\nrun_id = \"of-{{ ds }}\"\n\
        logical_date = \"{{ data_interval_end }}\"\nconf = { score = \"{{ outputs.up.score }}\", at = [\"{{ ds }}\", 1] }";
    let Ok(Prepared::Trigger(plan)) = prepared(keys, Preparation::Trigger) else { panic!("not a plan") };
    assert_eq!(plan.dag_id.as_str(), "load_20261105");
    assert_eq!(plan.run_id.as_ref().map(|id| id.as_str()), Some("of-2026-11-05"));
    assert_eq!(plan.logical_date.map(|at| at.to_rfc3339()), Some("2026-11-06T06:30:00+00:00".to_owned()));
    assert_eq!(
        serde_json::Value::Object((*plan.conf).clone()),
        serde_json::json!({"score": 0.25, "at": ["2026-11-05", 1]})
    );
    let needs = needs_of_preparation(&task(keys), Preparation::Trigger);
    assert!(needs.outputs.contains_key("up"), "{needs:?}");
}

#[test]
fn a_sensor_means_a_run_by_its_date() {
    let date = |keys: &str| match prepared(
        &format!("operator = \"dag_run_sensor\"\ndag_id = \"load\"\n{keys}"),
        Preparation::Runs,
    ) {
        Ok(Prepared::Runs(asked)) => asked.logical_date.map(|at| at.to_rfc3339()),
        other => panic!("{other:?}"),
    };
    assert_eq!(date("").as_deref(), Some("2026-11-05T06:30:00+00:00"));
    assert_eq!(date("offset = \"1d\"").as_deref(), Some("2026-11-04T06:30:00+00:00"));
    assert_eq!(date("logical_date = \"{{ ds }}\"").as_deref(), Some("2026-11-05T00:00:00+00:00"));
    assert_eq!(date("latest = true"), None);
}

#[test]
fn what_is_no_id_and_no_date_fails_by_name() {
    let why = |keys: &str, what| prepared(keys, what).unwrap_err();
    let sensor = "operator = \"dag_run_sensor\"\n";
    assert_eq!(
        why(&format!("{sensor}dag_id = \"a b\""), Preparation::Runs),
        "SCH0274: `dag_id` of task `t`: it gives \"a b\", which is not the id of a DAG"
    );
    assert_eq!(
        why(&format!("{sensor}dag_id = \"a\"\nlogical_date = \"06:00\""), Preparation::Runs),
        "SCH0274: `logical_date` of task `t`: it gives \"06:00\", which is not a date"
    );
    let named = "operator = \"trigger_dag\"\ndag_id = \"a\"\nrun_id = \"{{ ds }} {{ ds }}\"";
    let said = why(named, Preparation::Trigger);
    assert!(said.ends_with("which is not the id of a run"), "{said}");
}
