//! Checks JSON values against the JSON-Schema keywords of a parameter.

use serde_json::{Map, Value};

use super::model::Dag;
use crate::definition::suggest::{nearest, shown};

/// A value of `conf` that the DAG does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{message}")]
pub struct ConfProblem {
    /// The parameter.
    pub name: String,
    /// What is wrong, a sentence without a final period that names the parameter.
    pub message: String,
    /// The name that was probably meant.
    pub suggestion: Option<String>,
}

/// Merges `conf` over the defaults and checks the result.
///
/// A DAG without declared parameters takes any `conf`. One with parameters refuses names that it does not
/// declare: a misspelt override would otherwise run with the default, unseen.
///
/// # Errors
/// Every problem, in the order of the declarations, unknown names last.
pub fn check_conf(dag: &Dag, conf: &Map<String, Value>) -> Result<Map<String, Value>, Vec<ConfProblem>> {
    let mut params = Map::new();
    let mut problems = Vec::new();
    for param in &dag.params {
        let Some(value) = conf.get(&param.name).or_else(|| param.schema.get("default")) else {
            problems.push(ConfProblem {
                name: param.name.clone(),
                message: format!("`{}` needs a value", param.name),
                suggestion: None,
            });
            continue;
        };
        for message in violations(&param.schema, value, &format!("`{}`", param.name)) {
            problems.push(ConfProblem { name: param.name.clone(), message, suggestion: None });
        }
        params.insert(param.name.clone(), value.clone());
    }
    for (name, value) in conf {
        if params.contains_key(name) || dag.params.iter().any(|param| param.name == *name) {
            continue;
        }
        if dag.params.is_empty() {
            params.insert(name.clone(), value.clone());
            continue;
        }
        let suggestion = nearest(name, dag.params.iter().map(|param| param.name.as_str()));
        let hint = suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        problems.push(ConfProblem {
            name: name.clone(),
            message: format!("the DAG has no parameter `{}`{hint}", shown(name)),
            suggestion: suggestion.map(str::to_owned),
        });
    }
    if problems.is_empty() { Ok(params) } else { Err(problems) }
}

/// Returns the words of `type`, which is a word or a list of them.
pub(crate) fn types(schema: &Map<String, Value>) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Returns the JSON-Schema type of a value.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn has_type(value: &Value, word: &str) -> bool {
    match word {
        "number" => value.is_number(),
        // JSON has one kind of number: 2.0 is an integer.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        word => type_of(value) == word,
    }
}

/// Returns what is wrong with a value, each a sentence that begins with `name`.
pub(crate) fn violations(schema: &Map<String, Value>, value: &Value, name: &str) -> Vec<String> {
    let types = types(schema);
    if !types.is_empty() && !types.iter().any(|word| has_type(value, word)) {
        return vec![format!("{name} must be {}, not {}", types.join(" or "), type_of(value))];
    }
    let mut out = Vec::new();
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.iter().any(|one| same(one, value))
    {
        let words: Vec<String> = allowed.iter().take(10).map(Value::to_string).collect();
        out.push(format!("{name} must be one of {}", words.join(", ")));
    }
    match value {
        Value::Number(_) => number_violations(schema, value, name, &mut out),
        Value::String(text) => string_violations(schema, text, name, &mut out),
        Value::Array(items) => array_violations(schema, items, name, &mut out),
        _ => {}
    }
    out
}

fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

/// Whether a number keeps a bound.
type Holds = fn(f64, f64) -> bool;

fn number_violations(schema: &Map<String, Value>, value: &Value, name: &str, out: &mut Vec<String>) {
    let Some(number) = value.as_f64() else { return };
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let checks: [(&str, &str, Holds); 4] = [
        ("minimum", "at least", |n, b| n >= b),
        ("maximum", "at most", |n, b| n <= b),
        ("exclusiveMinimum", "above", |n, b| n > b),
        ("exclusiveMaximum", "below", |n, b| n < b),
    ];
    for (key, words, holds) in checks {
        if let Some(limit) = bound(key)
            && !holds(number, limit)
        {
            out.push(format!("{name} must be {words} {limit}"));
        }
    }
    if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0) {
        let quotient = number / step;
        if (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0) {
            out.push(format!("{name} must be a multiple of {step}"));
        }
    }
}

fn string_violations(schema: &Map<String, Value>, text: &str, name: &str, out: &mut Vec<String>) {
    let count = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    if bound("minLength").is_some_and(|least| count < least) {
        out.push(format!("{name} must have at least {} characters", bound("minLength").unwrap_or(0)));
    }
    if bound("maxLength").is_some_and(|most| count > most) {
        out.push(format!("{name} must have at most {} characters", bound("maxLength").unwrap_or(0)));
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("date") if chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_err() || text.len() != 10 => {
            out.push(format!("{name} must be a date such as 2026-01-31"));
        }
        Some("date-time") if chrono::DateTime::parse_from_rfc3339(text).is_err() => {
            out.push(format!("{name} must be a date and time such as 2026-01-31T06:00:00Z"));
        }
        _ => {}
    }
}

fn array_violations(schema: &Map<String, Value>, items: &[Value], name: &str, out: &mut Vec<String>) {
    let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    if bound("minItems").is_some_and(|least| count < least) {
        out.push(format!("{name} must have at least {} elements", bound("minItems").unwrap_or(0)));
    }
    if bound("maxItems").is_some_and(|most| count > most) {
        out.push(format!("{name} must have at most {} elements", bound("maxItems").unwrap_or(0)));
    }
    if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
        // By text, so that a list of any length costs n log n.
        let mut texts: Vec<String> = items.iter().map(Value::to_string).collect();
        texts.sort_unstable();
        if texts.windows(2).any(|pair| pair.first() == pair.last()) {
            out.push(format!("{name} must not have an element twice"));
        }
    }
    if let Some(Value::Object(of_items)) = schema.get("items") {
        for (index, item) in items.iter().enumerate() {
            let element = format!("`{}[{index}]`", name.trim_matches('`'));
            out.extend(violations(of_items, item, &element));
            if out.len() > 20 {
                return;
            }
        }
    }
}
