//! What a trigger may give.

use serde_json::{Map, Value, json};
use tidemill_engine::definition::{Dag, check_conf, keys, load};

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
    let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "`/p_value` must be below 1.0",
            "`/size` must be one of \"small\", \"large\"",
            "`/day` needs a value",
            "`/columns` must have at most 2 elements",
            "`/columns/1` must have at least 1 character",
            "`/columns/2` must be string, not integer",
            "`/step` must be a multiple of 5",
            "`/pvalue` is not a parameter of the DAG; did you mean `p_value`?",
        ]
    );
    assert_eq!(problems.last().unwrap().suggestion.as_deref(), Some("p_value"));
}

#[test]
fn wrong_types_and_formats_are_told() {
    let dag = dag(PARAMS);
    let problem = |conf| check_conf(&dag, &map(conf)).unwrap_err()[0].to_string();
    assert_eq!(problem(json!({ "day": "2026-02-30" })), "`/day` must be a date such as 2026-01-31");
    assert_eq!(problem(json!({ "day": 5 })), "`/day` must be string or null, not integer");
    assert_eq!(problem(json!({ "day": null, "step": 7.5 })), "`/step` must be integer, not number");
}

/// Schema, a value that it takes, and values that it refuses with where and why.
type Row = (&'static str, Value, &'static [(&'static str, &'static str)]);

/// Every keyword with what it refuses; values are written as JSON.
fn keywords() -> Vec<Row> {
    vec![
        (
            "type = \"string\"",
            json!("a"),
            &[("1", "/p must be string, not integer"), ("null", "/p must be string, not null")],
        ),
        (
            "type = \"integer\"",
            json!(2.0),
            &[("2.5", "/p must be integer, not number"), ("\"2\"", "/p must be integer, not string")],
        ),
        ("type = \"number\"", json!(2), &[("true", "/p must be number, not boolean")]),
        ("type = \"boolean\"", json!(false), &[("0", "/p must be boolean, not integer")]),
        ("type = \"null\"", json!(null), &[("0", "/p must be null, not integer")]),
        ("type = [\"integer\", \"null\"]", json!(null), &[("[]", "/p must be integer or null, not array")]),
        (
            "enum = [1, \"a\", { x = 1 }]",
            json!({ "x": 1.0 }),
            &[("2", "/p must be one of 1, \"a\", {\"x\":1}")],
        ),
        ("const = \"prod\"", json!("prod"), &[("\"test\"", "/p must be \"prod\"")]),
        ("minimum = 1", json!(1), &[("0", "/p must be at least 1")]),
        (
            "maximum = 9007199254740992",
            json!(9_007_199_254_740_992_i64),
            &[("9007199254740993", "/p must be at most 9007199254740992")],
        ),
        ("exclusiveMinimum = 1", json!(1.5), &[("1", "/p must be above 1")]),
        ("exclusiveMaximum = 1", json!(0), &[("1.0", "/p must be below 1")]),
        ("multipleOf = 0.1", json!(0.3), &[("0.35", "/p must be a multiple of 0.1")]),
        (
            "multipleOf = 3",
            json!(9_007_199_254_740_993_i64),
            &[("9007199254740992", "/p must be a multiple of 3")],
        ),
        ("minLength = 2", json!("éé"), &[("\"é\"", "/p must have at least 2 characters")]),
        ("maxLength = 1", json!("é"), &[("\"éé\"", "/p must have at most 1 character")]),
        ("pattern = '^[a-z]+$'", json!("abc"), &[("\"aBc\"", "/p must match the pattern ^[a-z]+$")]),
        (
            "format = \"uuid\"",
            json!("123e4567-e89b-12d3-a456-426614174000"),
            &[("\"1\"", "/p must be a UUID such as 123e4567-e89b-12d3-a456-426614174000")],
        ),
        ("minItems = 1", json!([1]), &[("[]", "/p must have at least 1 element")]),
        ("maxItems = 1", json!([1]), &[("[1,2]", "/p must have at most 1 element")]),
        ("uniqueItems = true", json!([1, 2]), &[("[1,1.0]", "/p must not have an element twice")]),
        (
            "items = { type = \"object\", required = [\"a\"] }",
            json!([{ "a": 1 }]),
            &[("[{}, 1]", "/p/0 must have `a`; /p/1 must be object, not integer")],
        ),
        (
            "properties = { \"a/b\" = { minimum = 1 } }",
            json!({ "c": 0 }),
            &[("{\"a/b\": 0}", "/p/a~1b must be at least 1")],
        ),
        (
            "required = [\"a\", \"b\"]",
            json!({ "a": null, "b": 1 }),
            &[("{}", "/p must have `a`; /p must have `b`")],
        ),
        (
            "properties = { depth = {} }\nadditionalProperties = false",
            json!({ "depth": 1 }),
            &[("{\"dept\": 1}", "/p must not have `dept`; did you mean `depth`?")],
        ),
        (
            "additionalProperties = { type = \"integer\" }",
            json!({ "a": 1 }),
            &[("{\"a\": \"x\"}", "/p/a must be integer, not string")],
        ),
    ]
}

#[test]
fn every_keyword_takes_and_refuses() {
    let (mut taken, mut refused) = (0, 0);
    let mut covered: Vec<String> = vec!["default".to_owned()];
    for (schema, good, bad) in keywords() {
        let dag = dag(&format!("[params.p]\n{schema}\n"));
        covered.extend(dag.params[0].schema.keys().cloned());
        let checked = check_conf(&dag, &map(json!({ "p": good })));
        assert!(checked.is_ok(), "{schema} refuses {good}: {checked:?}");
        taken += 1;
        for (value, why) in bad {
            let value: Value = serde_json::from_str(value).unwrap();
            let problems = check_conf(&dag, &map(json!({ "p": value }))).unwrap_err();
            let said: Vec<String> = problems.iter().map(|p| format!("{} {}", p.pointer, p.message)).collect();
            assert_eq!(said.join("; "), *why, "{schema} {value}");
            refused += 1;
        }
    }
    // Annotations that check nothing.
    covered.extend(["title", "description", "examples"].map(str::to_owned));
    for spec in keys::of_table(keys::TableId::Param) {
        assert!(covered.iter().any(|name| name == spec.name), "{} has no row", spec.name);
    }
    println!(
        "{{\"keywords\": {}, \"taken\": {taken}, \"refused\": {refused}}}",
        keys::of_table(keys::TableId::Param).count()
    );
}

#[test]
fn many_problems_of_one_value_are_cut() {
    let dag = dag("[params.p]\nitems = { type = \"string\" }\n");
    let list: Vec<u32> = (0..100_000).collect();
    assert_eq!(check_conf(&dag, &map(json!({ "p": list }))).unwrap_err().len(), 50);
}

#[test]
fn a_dag_without_params_takes_any_conf() {
    let dag = dag("");
    assert_eq!(Value::Object(check_conf(&dag, &map(json!({ "x": 1 }))).unwrap()), json!({ "x": 1 }));
}
