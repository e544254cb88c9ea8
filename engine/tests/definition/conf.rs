//! What a trigger may give.

use serde_json::{Map, Value, json};
use tidemill_engine::definition::{Dag, check_conf, load};

fn dag(params: &str) -> Dag {
    let text = format!("[dag]\nid = \"x\"\n[[task]]\nid = \"a\"\ncommand = \"true\"\n{params}");
    let loaded = load(text.as_bytes(), "x.toml");
    assert_eq!(loaded.problems, []);
    loaded.dag.unwrap()
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

const PARAMS: &str = r#"
[params.p_value]
type = "number"
default = 0.01
minimum = 0.0
exclusiveMaximum = 1.0
[params.size]
enum = ["small", "large"]
default = "small"
[params.day]
type = ["string", "null"]
format = "date"
[params.columns]
type = "array"
default = []
maxItems = 2
items = { type = "string", minLength = 1 }
[params.step]
type = "integer"
default = 10
multipleOf = 5
"#;

#[test]
fn conf_overrides_the_defaults() {
    let dag = dag(PARAMS);
    let params = check_conf(&dag, &map(json!({ "p_value": 0.5, "day": null, "step": 20.0 }))).unwrap();
    assert_eq!(
        Value::Object(params),
        json!({ "p_value": 0.5, "size": "small", "day": null, "columns": [], "step": 20.0 })
    );
}

#[test]
fn every_problem_of_a_conf_is_told_at_once() {
    let dag = dag(PARAMS);
    let conf = json!({ "p_value": 1.0, "size": "big", "columns": ["a", "", 3], "step": 7, "pvalue": 0.5 });
    let problems = check_conf(&dag, &map(conf)).unwrap_err();
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "`p_value` must be below 1",
            "`size` must be one of \"small\", \"large\"",
            "`day` needs a value",
            "`columns` must have at most 2 elements",
            "`columns[1]` must have at least 1 characters",
            "`columns[2]` must be string, not integer",
            "`step` must be a multiple of 5",
            "the DAG has no parameter `pvalue`; did you mean `p_value`?",
        ]
    );
    assert_eq!(problems.last().unwrap().suggestion.as_deref(), Some("p_value"));
}

#[test]
fn wrong_types_and_formats_are_told() {
    let dag = dag(PARAMS);
    let problem = |conf| check_conf(&dag, &map(conf)).unwrap_err()[0].message.clone();
    assert_eq!(problem(json!({ "day": "2026-02-30" })), "`day` must be a date such as 2026-01-31");
    assert_eq!(problem(json!({ "day": 5 })), "`day` must be string or null, not integer");
    assert_eq!(problem(json!({ "day": null, "step": 7.5 })), "`step` must be integer, not number");
}

#[test]
fn a_dag_without_params_takes_any_conf() {
    let dag = dag("");
    assert_eq!(Value::Object(check_conf(&dag, &map(json!({ "x": 1 }))).unwrap()), json!({ "x": 1 }));
}
