//! `[params.NAME]`: declared parameters and their schemas.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::{
    code::Code,
    fields::{Fields, Mode},
    keys::{TableId, one_of},
    kinds::wrong_type,
    model::Param,
    problem::{Draft, Report},
    schema::{Violation, pattern, type_of, types, violations},
    suggest::{nearest, shown},
    tree::{Node, Table, Value},
};

const TYPES: &[&str] = &["string", "integer", "number", "boolean", "array", "object", "null"];
const FOR_NUMBERS: &[&str] = &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const FOR_STRINGS: &[&str] = &["minLength", "maxLength", "format", "pattern"];
const FOR_ARRAYS: &[&str] = &["minItems", "maxItems", "uniqueItems", "items"];
const FOR_OBJECTS: &[&str] = &["properties", "required", "additionalProperties"];

/// Reads the parameters in file order. `is_scheduled`: runs start without a person, so defaults are needed.
pub(crate) fn read(table: &Table<'_>, is_scheduled: bool, report: &mut Report<'_>) -> Vec<Param> {
    let mut params = Vec::new();
    for entry in &table.entries {
        let name = entry.key.as_ref();
        let is_name = name
            .chars()
            .enumerate()
            .all(|(i, c)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit()));
        if name.is_empty() || name.len() > 200 || !is_name {
            report.push(
                Draft::error(
                    Code::BAD_PARAM_NAME,
                    format!("templates cannot use a parameter named `{}`", shown(name)),
                    entry.key_span.clone(),
                )
                .help("use letters, digits and `_`, and do not begin with a digit"),
            );
        }
        match &entry.node.value {
            Value::Table(inner) => {
                let at = if inner.is_inline() { entry.key_span.clone() } else { entry.node.span.clone() };
                let schema = schema(inner, at.clone(), name, report);
                if is_scheduled && inner.get("default").is_none() {
                    report.push(
                        Draft::error(Code::PARAM_WITHOUT_DEFAULT, format!("`{}` has no default, but the DAG has a schedule", shown(name)), at)
                            .absence()
                            .help("add `default = …`: nobody is there to give a value when the schedule starts a run"),
                    );
                }
                params.push(Param { name: name.to_owned(), schema });
            }
            Value::Broken => {}
            _ => {
                let message = format!(
                    "`{}` must be a table of schema keywords, not {}",
                    shown(name),
                    entry.node.value.type_name()
                );
                report.push(
                    Draft::error(Code::WRONG_TYPE, message, entry.node.span.clone())
                        .help(format!("write `[params.{}]` and under it `default = …`", shown(name))),
                );
            }
        }
    }
    params
}

fn schema(table: &Table<'_>, at: Range<usize>, name: &str, report: &mut Report<'_>) -> Map<String, Json> {
    let had_errors = report.error_count();
    let fields = Fields::read(table, at, &[TableId::Param], Mode::Strict, report);
    let mut schema = Map::new();
    for entry in &table.entries {
        let key = entry.key.as_ref();
        if fields.field(key).is_none_or(|field| field.value.is_none()) {
            continue;
        }
        if !keyword(key, &entry.node, report) {
            continue;
        }
        let value = match (&entry.node.value, key) {
            (Value::Table(inner), "items" | "additionalProperties") => {
                Json::Object(self::schema(inner, entry.node.span.clone(), name, report))
            }
            (Value::Table(inner), "properties") => properties(inner, name, report),
            _ => json(&entry.node),
        };
        schema.insert(key.to_owned(), value);
    }
    if let (None, Some(default)) = (schema.get("type"), schema.get("default")) {
        schema.insert("type".to_owned(), Json::String(type_of(default).to_owned()));
    }
    if report.error_count() == had_errors {
        consistent(table, &schema, name, report);
    }
    schema
}

/// Reads the schemas of the members of an object.
fn properties(table: &Table<'_>, name: &str, report: &mut Report<'_>) -> Json {
    let mut members = Map::new();
    for entry in &table.entries {
        match &entry.node.value {
            Value::Table(inner) => {
                let at = if inner.is_inline() { entry.key_span.clone() } else { entry.node.span.clone() };
                members.insert(entry.key.to_string(), Json::Object(schema(inner, at, name, report)));
            }
            Value::Broken => {}
            _ => wrong_type(&entry.key, "a table of schema keywords", &entry.node, report),
        }
    }
    Json::Object(members)
}

/// Reports the first number that JSON does not have, anywhere in a value; returns whether there is none.
fn finite(key: &str, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    match &node.value {
        Value::Float(value) if !value.is_finite() => {
            let message = format!("`{key}` must be a finite number");
            report.push(Draft::error(Code::NUMBER_RANGE, message, node.span.clone()));
            false
        }
        Value::Array { items, .. } => items.iter().all(|item| finite(key, item, report)),
        Value::Table(table) => table.entries.iter().all(|entry| finite(key, &entry.node, report)),
        _ => true,
    }
}

/// Checks the value of a keyword by itself.
fn keyword(key: &str, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    match (key, &node.value) {
        ("type", Value::String(text)) => type_word(text, node, report),
        ("type", Value::Array { items, .. }) if !items.is_empty() => {
            items.iter().fold(true, |good, item| match &item.value {
                Value::String(text) => type_word(text, item, report) && good,
                _ => {
                    wrong_type("an element of type", "a string", item, report);
                    false
                }
            })
        }
        ("enum", Value::Array { items, .. }) if items.is_empty() => {
            report.push(Draft::error(Code::EMPTY_VALUE, "`enum` must not be empty", node.span.clone()));
            false
        }
        ("enum" | "examples", Value::Array { .. }) => finite(key, node, report),
        ("default" | "const", _) => finite(key, node, report),
        ("pattern", Value::String(text)) => match pattern::compile(text) {
            Ok(_) => true,
            Err(why) => {
                let draft = Draft::error(Code::BAD_PATTERN, "`pattern` cannot be used", node.span.clone());
                report.push(draft.label(shown(&why)).help("it is a regular expression as in JavaScript, without looking ahead or behind and without references"));
                false
            }
        },
        ("properties", Value::Table(_)) | ("additionalProperties", Value::Table(_) | Value::Boolean(_)) => {
            true
        }
        ("properties", _) => {
            wrong_type(key, "a table of schemas", node, report);
            false
        }
        ("additionalProperties", _) => {
            wrong_type(key, "`true`, `false` or a schema", node, report);
            false
        }
        (
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf",
            Value::Integer(_) | Value::Float(_),
        ) => {
            let number = json(node).as_f64();
            let is_good = number.is_some_and(|number| key != "multipleOf" || number > 0.0);
            if !is_good {
                let range = if key == "multipleOf" { "a number above 0" } else { "a finite number" };
                report.push(Draft::error(
                    Code::NUMBER_RANGE,
                    format!("`{key}` must be {range}"),
                    node.span.clone(),
                ));
            }
            is_good
        }
        ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf", _) => {
            wrong_type(key, "a number", node, report);
            false
        }
        ("type", _) => {
            wrong_type(key, "a type word or a list of them", node, report);
            false
        }
        ("enum" | "examples", _) => {
            wrong_type(key, "a list", node, report);
            false
        }
        _ => true,
    }
}

fn type_word(text: &str, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    if TYPES.contains(&text) {
        return true;
    }
    let alias = match text {
        "str" | "text" => Some("string"),
        "int" => Some("integer"),
        "float" | "double" => Some("number"),
        "bool" => Some("boolean"),
        "list" => Some("array"),
        "dict" | "table" | "map" => Some("object"),
        _ => None,
    };
    let draft = Draft::error(
        Code::UNKNOWN_WORD,
        format!("`type` does not know `{}`", shown(text)),
        node.span.clone(),
    );
    report.push(match alias.or_else(|| nearest(text, TYPES.iter().copied())) {
        Some(near) => draft.help(format!("did you mean `{near}`?")).suggest(Some(format!("\"{near}\""))),
        None => draft.help(format!("it is {}", one_of(TYPES))),
    });
    false
}

/// Checks the keywords against each other.
fn consistent(table: &Table<'_>, schema: &Map<String, Json>, name: &str, report: &mut Report<'_>) {
    applicable(table, schema, report);
    bounds(table, schema, report);
    if let Some(Json::Array(names)) = schema.get("required")
        && schema.get("additionalProperties") == Some(&Json::Bool(false))
        && let Some(Value::Array { items, .. }) = table.get("required").map(|entry| &entry.node.value)
    {
        let known = schema.get("properties").and_then(Json::as_object);
        for (item, member) in items.iter().zip(names.iter().filter_map(Json::as_str)) {
            if known.is_none_or(|known| !known.contains_key(member)) {
                let message = format!("`{}` is required and not allowed", shown(member));
                report.push(Draft::error(Code::CONTRADICTORY_BOUNDS, message, item.span.clone()).help(
                    "declare it in `properties`: `additionalProperties = false` refuses every other member",
                ));
            }
        }
    }
    if let Some(entry) = table.get("enum")
        && let (Value::Array { items, .. }, Some(Json::Array(values))) =
            (&entry.node.value, schema.get("enum"))
    {
        let mut others = schema.clone();
        others.remove("enum");
        for (item, value) in items.iter().zip(values) {
            for violation in violations(&others, value) {
                let at = part(item, &violation.pointer);
                report.push(Draft::error(Code::ENUM_BREAKS_SCHEMA, violation.sentence("the value"), at));
            }
        }
    }
    let told = |key: &str, whole: &str, code: Code, report: &mut Report<'_>| {
        let (Some(value), Some(entry)) = (schema.get(key), table.get(key)) else { return };
        let mut others = schema.clone();
        if key != "default" {
            others.remove(key);
        }
        for violation in violations(&others, value) {
            let Violation { pointer, .. } = &violation;
            let draft = Draft::error(code, violation.sentence(whole), part(&entry.node, pointer));
            report.push(draft.help(if key == "default" {
                format!("every run that gives no `{}` would be refused", shown(name))
            } else {
                format!("no value of `{}` could satisfy both", shown(name))
            }));
        }
    };
    told("const", "the constant", Code::ENUM_BREAKS_SCHEMA, report);
    told("default", "the default", Code::DEFAULT_BREAKS_SCHEMA, report);
}

/// Returns the place of a part of a value, or as near as it can be told.
fn part(node: &Node<'_>, pointer: &str) -> Range<usize> {
    let mut node = node;
    for step in pointer.split('/').skip(1) {
        let member = step.replace("~1", "/").replace("~0", "~");
        let inner = match &node.value {
            Value::Array { items, .. } => member.parse().ok().and_then(|index: usize| items.get(index)),
            Value::Table(table) => table.get(&member).map(|entry| &entry.node),
            _ => None,
        };
        let Some(inner) = inner else { break };
        node = inner;
    }
    node.span.clone()
}

/// Reports keywords that say nothing about the type.
fn applicable(table: &Table<'_>, schema: &Map<String, Json>, report: &mut Report<'_>) {
    let types = types(schema);
    let groups: [(&[&str], &[&str]); 4] = [
        (FOR_NUMBERS, &["number", "integer"]),
        (FOR_STRINGS, &["string"]),
        (FOR_ARRAYS, &["array"]),
        (FOR_OBJECTS, &["object"]),
    ];
    for (keywords, wanted) in groups {
        if types.is_empty() || types.iter().any(|word| wanted.contains(word)) {
            continue;
        }
        for entry in table.entries.iter().filter(|entry| keywords.contains(&entry.key.as_ref())) {
            let message = format!("`{}` does not apply to the type {}", entry.key, types.join(" or "));
            report.push(
                Draft::error(Code::KEYWORD_FOR_OTHER_TYPE, message, entry.key_span.clone())
                    .help(format!("it is for {}", wanted.join(" and "))),
            );
        }
    }
}

/// Reports bounds between which nothing is.
fn bounds(table: &Table<'_>, schema: &Map<String, Json>, report: &mut Report<'_>) {
    for (low, high, is_open) in [
        ("minimum", "maximum", false),
        ("exclusiveMinimum", "maximum", true),
        ("minimum", "exclusiveMaximum", true),
        ("exclusiveMinimum", "exclusiveMaximum", true),
        ("minLength", "maxLength", false),
        ("minItems", "maxItems", false),
    ] {
        let bound = |key: &str| Some((schema.get(key)?.as_f64()?, table.get(key)?));
        if let (Some((least, from)), Some((most, to))) = (bound(low), bound(high))
            && (least > most || (is_open && least >= most))
        {
            report.push(
                Draft::error(
                    Code::CONTRADICTORY_BOUNDS,
                    format!("no value is between `{low}` and `{high}`"),
                    to.node.span.clone(),
                )
                .label(format!("at most {most}"))
                .also(from.node.span.clone(), format!("at least {least}")),
            );
        }
    }
}

/// Turns a TOML value into JSON; dates become text.
pub(crate) fn json(node: &Node<'_>) -> Json {
    match &node.value {
        Value::String(text) => Json::String(text.to_string()),
        Value::Integer(value) => Json::from(*value),
        Value::Float(value) => Json::from(*value),
        Value::Boolean(value) => Json::Bool(*value),
        Value::Datetime(value) => Json::String(value.to_string()),
        Value::Array { items, .. } => Json::Array(items.iter().map(json).collect()),
        Value::Table(table) => Json::Object(
            table.entries.iter().map(|entry| (entry.key.to_string(), json(&entry.node))).collect(),
        ),
        Value::Broken => Json::Null,
    }
}
