//! A JSON Schema of DAG files, made from the key table, for editors that complete and check while one types.
//!
//! It is of draft 7, which Taplo and Even Better TOML read. It says what can be said about one place: names, types, ranges and
//! words of keys, which keys an operator has. What needs the whole file (ids that exist, circles, templates) is for the
//! loader. **Invariant:** a file that the loader accepts is valid.

use serde_json::{Map, Value, json};

use super::keys::{Default, KeySpec, Kind, OPERATORS, Status, TableId, of_table};

/// What an id looks like.
const NAME: &str = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$";
/// What a list of upstreams holds: an id, or a group.
const TASKS: &str = r"^(group:)?[A-Za-z0-9_][A-Za-z0-9_.-]*$";
/// What the name of an asset looks like.
const ASSET: &str = r"^[A-Za-z0-9_][A-Za-z0-9_./:@+=%~,-]{0,199}$";
const DURATION: &str = r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$";
const DATE: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}";

/// Returns the JSON Schema (draft 7) of a DAG file. Keys and operators that are not built are left out, so that an editor
/// marks them.
#[must_use]
pub fn json_schema() -> Value {
    let mut definitions = Map::new();
    for table in TableId::ALL {
        let schema = match table {
            TableId::Root => continue,
            table if !table.shared_by().is_empty() => continue,
            TableId::Task => task(),
            other => object(&built(*other)),
        };
        definitions.insert(name(*table), schema);
    }
    definitions.insert("default_args".to_owned(), default_args());
    let mut root = object(&built(TableId::Root));
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        root.insert("title".to_owned(), json!("A DAG of Tidemill"));
        root.insert("definitions".to_owned(), Value::Object(definitions));
    }
    root
}

fn name(table: TableId) -> String {
    format!("{table:?}").to_lowercase()
}

fn reference(table: TableId) -> Value {
    json!({ "$ref": format!("#/definitions/{}", name(table)) })
}

fn built(table: TableId) -> Vec<&'static KeySpec> {
    of_table(table).filter(|spec| spec.status == Status::Built).collect()
}

/// Returns the schema of a table that has these keys and no others.
fn object(specs: &[&KeySpec]) -> Value {
    let properties: Map<String, Value> =
        specs.iter().map(|spec| (spec.name.to_owned(), property(spec))).collect();
    let required: Vec<&str> =
        specs.iter().filter(|spec| spec.default == Default::Required).map(|spec| spec.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if let Some(schema) = schema.as_object_mut().filter(|_| !required.is_empty()) {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

/// Returns the schema of a key: its type with what it does, its default and an example.
fn property(spec: &KeySpec) -> Value {
    let mut schema = match spec.kind {
        Kind::Special(_) => special(spec),
        kind => of_kind(kind),
    };
    // In draft 7 nothing beside a reference counts.
    if schema.get("$ref").is_some() {
        schema = json!({ "allOf": [schema] });
    }
    let default = match spec.default {
        Default::Int(value) => json!(value),
        Default::Float(value) => json!(value),
        Default::Bool(value) => json!(value),
        Default::Text(text) => json!(text),
        Default::Seconds(seconds) => json!(super::values::show_seconds(seconds)),
        Default::Required | Default::None | Default::Said(_) => Value::Null,
    };
    if let Some(schema) = schema.as_object_mut() {
        let mut doc = spec.doc.to_owned();
        if let Default::Said(text) = spec.default {
            doc.push_str(&format!("\n\nDefault: {text}."));
        }
        doc.push_str(&format!("\n\nExample: `{} = {}`", spec.name, spec.example));
        schema.insert("description".to_owned(), json!(doc));
        if !default.is_null() {
            schema.insert("default".to_owned(), default);
        }
    }
    schema
}

/// Returns the schema of a task: the keys of all operators, and for each operator which of them it has.
fn task() -> Value {
    let common = built(TableId::Task);
    let mut properties: Map<String, Value> =
        common.iter().map(|spec| (spec.name.to_owned(), property(spec))).collect();
    let mut rules = Vec::new();
    for operator in OPERATORS {
        let own: Vec<&KeySpec> = TableId::of_operator(operator).into_iter().flat_map(built).collect();
        for spec in &own {
            // Two operators may have a key of one name.
            let schema = property(spec);
            let shown = match properties.remove(spec.name) {
                Some(other) if other != schema => json!({ "anyOf": [other, schema] }),
                _ => schema,
            };
            properties.insert(spec.name.to_owned(), shown);
        }
        let names: Vec<&str> = common.iter().chain(&own).map(|spec| spec.name).collect();
        let required: Vec<&str> =
            own.iter().filter(|spec| spec.default == Default::Required).map(|spec| spec.name).collect();
        // Without `operator` the condition holds for `command`, which is the default, and for no other.
        let mut condition = json!({ "properties": { "operator": { "const": operator } } });
        if *operator != "command" {
            condition["required"] = json!(["operator"]);
        }
        rules.push(json!({
            "if": condition,
            "then": { "required": required, "propertyNames": { "enum": names } },
        }));
    }
    let required: Vec<&str> =
        common.iter().filter(|spec| spec.default == Default::Required).map(|spec| spec.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "required": required,
        "allOf": rules,
    })
}

fn default_args() -> Value {
    let specs: Vec<&KeySpec> = built(TableId::Task).into_iter().filter(|spec| spec.in_default_args).collect();
    object(&specs)
}

fn text(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn one_or_more(item: &Value) -> Value {
    json!({ "anyOf": [item, { "type": "array", "items": item, "minItems": 1 }] })
}

/// Returns the schema of a value by its kind.
fn of_kind(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Zone => json!({ "type": "string" }),
        Kind::Line => text(r"^[^\n\r]*[^\s][^\n\r]*$"),
        Kind::Template => text(r"\S"),
        Kind::Name | Kind::Group => text(NAME),
        Kind::Word(words) => json!({ "type": "string", "enum": words() }),
        Kind::Words(words) => json!({
            "type": "array",
            "items": { "type": "string", "enum": words() },
            "uniqueItems": true,
            "minItems": 1,
        }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Float(low, high, is_closed) => number(low, high, is_closed),
        Kind::Duration(low, high) => json!({ "anyOf": [
            { "type": "string", "pattern": DURATION, "minLength": 2 },
            { "type": "integer", "minimum": low, "maximum": high },
        ] }),
        Kind::Date => text(DATE),
        Kind::Assets => json!({
            "type": "array",
            "items": text(ASSET),
            "uniqueItems": true,
            "minItems": 1,
        }),
        Kind::Lines => json!({ "type": "array", "items": { "type": "string" }, "uniqueItems": true }),
        Kind::Tasks => json!({ "anyOf": [
            text(TASKS),
            { "type": "array", "items": text(TASKS), "uniqueItems": true },
        ] }),
        Kind::ExitCodes => json!({
            "type": "array",
            "items": { "type": "integer", "minimum": 1, "maximum": 255 },
            "uniqueItems": true,
        }),
        Kind::Backoff => json!({ "anyOf": [
            { "type": "number", "minimum": 1, "maximum": 100 },
            { "type": "boolean" },
        ] }),
        Kind::Env => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "not": { "pattern": "^TIDEMILL_" } },
            "additionalProperties": { "type": "string" },
        }),
        Kind::Table(table) => reference(table),
        Kind::Tables(table) => one_or_more(&reference(table)),
        Kind::Special(_) => json!({}),
    }
}

fn number(low: f64, high: f64, is_closed: bool) -> Value {
    let mut schema = json!({ "type": "number" });
    for (bound, open, closed) in [(low, "exclusiveMinimum", "minimum"), (high, "exclusiveMaximum", "maximum")]
    {
        if bound.is_finite() {
            schema[if is_closed { closed } else { open }] = json!(bound);
        }
    }
    schema
}

/// Returns the schema of a value that is checked where it is read. What is not known here is anything: better no mark in the
/// editor than a wrong one.
fn special(spec: &KeySpec) -> Value {
    let templates = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
    let cron = text(r"^\s*\S+(\s+\S+){4,5}\s*$");
    match (spec.table, spec.name) {
        (TableId::Root, "params") => {
            json!({ "type": "object", "additionalProperties": reference(TableId::Param) })
        }
        (TableId::Root, "task") => {
            json!({ "type": "array", "items": reference(TableId::Task), "minItems": 1 })
        }
        (TableId::Root, "group") => json!({ "type": "array", "items": reference(TableId::Group) }),
        (TableId::Dag, "schedule") => {
            let preset =
                text("^@(hourly|daily|midnight|weekly|monthly|quarterly|yearly|annually|once|continuous)$");
            let one = json!({ "anyOf": [preset, cron] });
            json!({ "anyOf": [
                one,
                { "type": "array", "items": one, "minItems": 1 },
                reference(TableId::Schedule),
            ] })
        }
        (TableId::Task, "map") => {
            let source =
                json!({ "anyOf": [{ "type": "array" }, { "type": "string", "pattern": r"\{\{|\{%" }] });
            json!({ "anyOf": [
                { "type": "array" },
                { "type": "string", "pattern": r"\{\{|\{%" },
                { "type": "object", "additionalProperties": source, "minProperties": 1 },
            ] })
        }
        (TableId::Dag, "deadline") => json!({ "anyOf": [
            { "type": "string", "pattern": DURATION, "minLength": 2 },
            { "type": "integer", "minimum": 1 },
            reference(TableId::Deadline),
        ] }),
        (TableId::Schedule, "cron") => one_or_more(&cron),
        (TableId::Dag, "default_args") => json!({ "$ref": "#/definitions/default_args" }),
        (TableId::Param, name) => of_param(name),
        (TableId::Command, "command") => json!({ "anyOf": [text(r"\S"), templates] }),
        (TableId::Request, "headers" | "query") | (TableId::Query, "parameters") => {
            json!({ "type": "object" })
        }
        (TableId::Python, "args") => json!({ "type": "array" }),
        (TableId::Python, "kwargs") => json!({ "type": "object" }),
        (TableId::Branch, "branches") => json!({ "anyOf": [
            text(r"\S"),
            { "type": "array", "items": reference(TableId::Arm), "minItems": 1 },
        ] }),
        (TableId::Task, "teardown") => json!({ "anyOf": [
            text(NAME),
            { "type": "array", "items": text(NAME), "minItems": 1 },
            { "type": "boolean" },
        ] }),
        (TableId::Task, "retry_on") => {
            let code = json!({ "type": "integer", "minimum": 1, "maximum": 255 });
            let word = json!({ "type": "string", "enum": ["timed_out", "signal"] });
            json!({ "type": "array", "items": { "anyOf": [code, word] }, "minItems": 1 })
        }
        _ => json!({}),
    }
}

/// Returns the schema of a keyword of a param that is checked where it is read.
fn of_param(name: &str) -> Value {
    match name {
        "type" => {
            let words = ["string", "integer", "number", "boolean", "array", "object", "null"];
            one_or_more(&json!({ "type": "string", "enum": words }))
        }
        "properties" => {
            json!({ "type": "object", "additionalProperties": reference(TableId::Param) })
        }
        "additionalProperties" => {
            json!({ "anyOf": [{ "type": "boolean" }, reference(TableId::Param)] })
        }
        "enum" | "examples" => json!({ "type": "array" }),
        "multipleOf" => json!({ "type": "number", "exclusiveMinimum": 0 }),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
            json!({ "type": "number" })
        }
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::keys::NOT_BUILT_OPERATORS;

    #[test]
    fn what_is_not_built_is_left_out_and_every_reference_leads_somewhere() {
        let schema = json_schema();
        let text = schema.to_string();
        for operator in NOT_BUILT_OPERATORS {
            assert!(!text.contains(&format!("\"const\":\"{operator}\"")), "{operator}");
        }
        let (mut keys, mut references) = (0, 0);
        for spec in TableId::ALL.iter().flat_map(|table| of_table(*table)) {
            let table = match (spec.table, spec.table.operator()) {
                (TableId::Root, _) => &schema,
                (_, Some(_)) => &schema["definitions"]["task"],
                (table, _) if !table.shared_by().is_empty() => &schema["definitions"]["task"],
                (table, None) => &schema["definitions"][name(table)],
            };
            let property = &table["properties"][spec.name];
            assert_eq!(property.is_object(), spec.status == Status::Built, "{:?} {}", spec.table, spec.name);
            keys += usize::from(property.is_object());
        }
        for part in text.split("\"$ref\":\"#/definitions/").skip(1) {
            let target = part.split('"').next().unwrap();
            assert!(schema["definitions"][target].is_object(), "{target}");
            references += 1;
        }
        println!("{{\"keys\": {keys}, \"references\": {references}}}");
        assert!(keys > 90 && references > 10, "{keys} {references}");
    }
}
