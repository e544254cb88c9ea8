//! Checks JSON values against the JSON-Schema keywords of a parameter.

mod formats;
pub(crate) mod pattern;

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::model::Dag;
use crate::definition::suggest::{nearest, shown};

pub(crate) use formats::words as format_words;

/// How many problems of one value are told.
const MANY: usize = 50;

/// A value of `conf` that the DAG does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("`{pointer}` {message}")]
pub struct ConfProblem {
    /// Where in `conf`: a JSON pointer (RFC 6901) such as `/columns/1`.
    pub pointer: String,
    /// What is wrong there: a sentence without its subject and without a final period.
    pub message: String,
    /// The name that was probably meant.
    pub suggestion: Option<String>,
}

/// What is wrong with a part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The part, as a JSON pointer; empty for the whole value.
    pub(crate) pointer: String,
    /// A sentence without its subject.
    pub(crate) message: String,
}

impl Violation {
    /// Returns the whole sentence; `whole` names the value.
    pub(crate) fn sentence(&self, whole: &str) -> String {
        if self.pointer.is_empty() {
            format!("{whole} {}", self.message)
        } else {
            format!("`{}` in {whole} {}", self.pointer, self.message)
        }
    }
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
        let pointer = pointer_to("", &param.name);
        let Some(value) = conf.get(&param.name).or_else(|| param.schema.get("default")) else {
            problems.push(ConfProblem { pointer, message: "needs a value".to_owned(), suggestion: None });
            continue;
        };
        problems.extend(violations(&param.schema, value).into_iter().map(|violation| ConfProblem {
            pointer: format!("{pointer}{}", violation.pointer),
            message: violation.message,
            suggestion: None,
        }));
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
            pointer: pointer_to("", &shown(name)),
            message: format!("is not a parameter of the DAG{hint}"),
            suggestion: suggestion.map(str::to_owned),
        });
    }
    if problems.is_empty() { Ok(params) } else { Err(problems) }
}

/// Returns the pointer to a member of what `pointer` points at.
fn pointer_to(pointer: &str, member: &str) -> String {
    format!("{pointer}/{}", member.replace('~', "~0").replace('/', "~1"))
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

/// Returns what is wrong with a value, in the order in which it is written.
pub(crate) fn violations(schema: &Map<String, Value>, value: &Value) -> Vec<Violation> {
    let mut found = Found { out: Vec::new(), pointer: String::new() };
    found.check(schema, value);
    found.out.truncate(MANY);
    found.out
}

/// Whether an order keeps a bound.
type Holds = fn(Ordering) -> bool;

/// What was found so far, and where the check is.
struct Found {
    out: Vec<Violation>,
    pointer: String,
}

impl Found {
    fn tell(&mut self, message: String) {
        self.out.push(Violation { pointer: self.pointer.clone(), message });
    }

    fn inside(&mut self, member: &str, schema: &Map<String, Value>, value: &Value) {
        let length = self.pointer.len();
        self.pointer = pointer_to(&self.pointer, member);
        self.check(schema, value);
        self.pointer.truncate(length);
    }

    fn check(&mut self, schema: &Map<String, Value>, value: &Value) {
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|word| has_type(value, word)) {
            self.tell(format!("must be {}, not {}", types.join(" or "), type_of(value)));
            return;
        }
        if let Some(only) = schema.get("const")
            && !same(only, value)
        {
            self.tell(format!("must be {only}"));
        }
        if let Some(Value::Array(allowed)) = schema.get("enum")
            && !allowed.iter().any(|one| same(one, value))
        {
            let words: Vec<String> = allowed.iter().take(10).map(Value::to_string).collect();
            let more = if allowed.len() > 10 { ", …" } else { "" };
            self.tell(format!("must be one of {}{more}", words.join(", ")));
        }
        match value {
            Value::Number(number) => self.number(schema, number),
            Value::String(text) => self.string(schema, text),
            Value::Array(items) => self.array(schema, items),
            Value::Object(members) => self.object(schema, members),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn number(&mut self, schema: &Map<String, Value>, number: &Number) {
        let bound = |key: &str| {
            schema.get(key).and_then(|value| match value {
                Value::Number(number) => Some(number),
                _ => None,
            })
        };
        let checks: [(&str, &str, Holds); 4] = [
            ("minimum", "at least", Ordering::is_ge),
            ("maximum", "at most", Ordering::is_le),
            ("exclusiveMinimum", "above", Ordering::is_gt),
            ("exclusiveMaximum", "below", Ordering::is_lt),
        ];
        for (key, words, holds) in checks {
            if let Some(limit) = bound(key)
                && !compare(number, limit).is_some_and(holds)
            {
                self.tell(format!("must be {words} {limit}"));
            }
        }
        if let Some(step) = bound("multipleOf")
            && !is_multiple(number, step)
        {
            self.tell(format!("must be a multiple of {step}"));
        }
    }

    /// Checks a size against two keywords.
    fn size(&mut self, schema: &Map<String, Value>, least: &str, most: &str, size: usize, what: [&str; 2]) {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let plural = |count: u64| what[usize::from(count != 1)];
        if let Some(least) = bound(least).filter(|least| size < *least) {
            self.tell(format!("must have at least {least} {}", plural(least)));
        }
        if let Some(most) = bound(most).filter(|most| size > *most) {
            self.tell(format!("must have at most {most} {}", plural(most)));
        }
    }

    fn string(&mut self, schema: &Map<String, Value>, text: &str) {
        self.size(schema, "minLength", "maxLength", text.chars().count(), ["character", "characters"]);
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && let Ok(regex) = pattern::compile(pattern)
            && !regex.is_match(text)
        {
            self.tell(format!("must match the pattern {pattern}"));
        }
        if let Some(word) = schema.get("format").and_then(Value::as_str)
            && let Some(like) = formats::missed(word, text)
        {
            self.tell(format!("must be {like}"));
        }
    }

    fn array(&mut self, schema: &Map<String, Value>, items: &[Value]) {
        self.size(schema, "minItems", "maxItems", items.len(), ["element", "elements"]);
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            // By text, so that a list of any length costs n log n.
            let mut texts: Vec<String> = items.iter().map(canonical).collect();
            texts.sort_unstable();
            if texts.windows(2).any(|pair| pair.first() == pair.last()) {
                self.tell("must not have an element twice".to_owned());
            }
        }
        if let Some(Value::Object(of_items)) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.inside(&index.to_string(), of_items, item);
                if self.out.len() > MANY {
                    return;
                }
            }
        }
    }

    fn object(&mut self, schema: &Map<String, Value>, members: &Map<String, Value>) {
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = name.as_str().filter(|name| !members.contains_key(*name)) {
                self.tell(format!("must have `{}`", shown(name)));
            }
        }
        let known = schema.get("properties").and_then(Value::as_object);
        for (name, value) in members {
            match (known.and_then(|known| known.get(name)), schema.get("additionalProperties")) {
                (Some(Value::Object(of_member)), _) | (None, Some(Value::Object(of_member))) => {
                    self.inside(name, of_member, value);
                }
                (None, Some(Value::Bool(false))) => {
                    let names = known.into_iter().flat_map(Map::keys).map(String::as_str);
                    let hint = nearest(name, names).map(|near| format!("; did you mean `{near}`?"));
                    self.tell(format!("must not have `{}`{}", shown(name), hint.unwrap_or_default()));
                }
                _ => {}
            }
            if self.out.len() > MANY {
                return;
            }
        }
    }
}

/// Whole numbers are compared as they are, everything else as floating-point numbers.
fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn is_multiple(number: &Number, step: &Number) -> bool {
    if let (Some(number), Some(step)) = (whole(number), whole(step)) {
        return step == 0 || number % step == 0;
    }
    let (Some(number), Some(step)) = (number.as_f64(), step.as_f64()) else { return true };
    let quotient = number / step;
    // 0.3 is a multiple of 0.1, although no computer has either.
    (quotient - quotient.round()).abs() <= 1e-9 * quotient.abs().max(1.0)
}

/// Whether two values are equal as JSON Schema sees it: 1 and 1.0 are, and the order of members does not count.
fn same(a: &Value, b: &Value) -> bool {
    canonical(a) == canonical(b)
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Up to 2^53 whole numbers are the same in both forms.
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                (float as i64).to_string()
            }
            _ => number.to_string(),
        },
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        Value::Object(members) => {
            let mut pairs: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            pairs.sort_unstable();
            format!("{{{}}}", pairs.join(","))
        }
        other => other.to_string(),
    }
}
