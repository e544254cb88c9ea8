//! The trigger form, made from the DAG's params.

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use serde_json::{Map, Value};
use tidemill_engine::definition::{Dag, Param};

use super::{Chrome, dag::find, page, see};
use crate::{
    actions,
    auth::Identity,
    error::Result,
    extract::{DagPath, Form, Ids},
    state::WebState,
    views::TriggerBody,
};

struct Field {
    name: String,
    label: String,
    /// An input type, or `boolean`, `enum`, `json`.
    kind: &'static str,
    value: String,
    options: Vec<String>,
    min: String,
    max: String,
    step: String,
    pattern: String,
    is_required: bool,
    hint: String,
    errors: Vec<String>,
}

#[derive(Template)]
#[template(path = "trigger.html")]
struct TriggerPage {
    c: Chrome,
    dag_id: String,
    problems: Vec<String>,
    fields: Vec<Field>,
    has_params: bool,
}

/// Names of the form's own fields; a param's field is prefixed, so that none can collide.
const DATE: &str = "logical_date";
const RUN_ID: &str = "run_id";

fn field_name(param: &Param) -> String {
    format!("param.{}", param.name)
}

fn kind(param: &Param) -> &'static str {
    if param.schema.contains_key("enum") {
        return "enum";
    }
    let types: Vec<&str> = match param.schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => Vec::new(),
    };
    match (types.as_slice(), param.schema.get("format").and_then(Value::as_str)) {
        (["string"], Some("date")) => "date",
        (["string"], _) => "text",
        (["integer" | "number"], _) => "number",
        (["boolean"], _) => "boolean",
        _ => "json",
    }
}

fn plain(value: &Value, kind: &str) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if kind != "json" => text.clone(),
        Value::Object(_) | Value::Array(_) => serde_json::to_string_pretty(value).unwrap_or_default(),
        other => other.to_string(),
    }
}

fn field(param: &Param, given: Option<&str>, problems: &mut Vec<String>) -> Field {
    let kind = kind(param);
    let schema = &param.schema;
    let text = |key: &str| schema.get(key).map(|v| plain(v, "text")).unwrap_or_default();
    let is_mine = |problem: &String| {
        problem.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).any(|w| w == param.name)
    };
    let errors: Vec<String> = problems.extract_if(.., |problem| is_mine(problem)).collect();
    let options = schema.get("enum").and_then(Value::as_array);
    Field {
        name: field_name(param),
        label: schema.get("title").and_then(Value::as_str).unwrap_or(&param.name).to_owned(),
        kind,
        value: given.map_or_else(
            || schema.get("default").map(|v| plain(v, kind)).unwrap_or_default(),
            ToOwned::to_owned,
        ),
        options: options.into_iter().flatten().map(|v| plain(v, "enum")).collect(),
        min: text("minimum"),
        max: text("maximum"),
        step: match schema.get("type").and_then(Value::as_str) {
            Some("number") => "any".to_owned(),
            _ => text("multipleOf"),
        },
        pattern: text("pattern"),
        is_required: !schema.contains_key("default") && kind != "boolean",
        hint: text("description"),
        errors,
    }
}

fn form_page(c: Chrome, dag: &Dag, form: &Form, mut problems: Vec<String>) -> Result<Response> {
    let extra = |name: &str, label: &str, hint: &str| Field {
        name: name.to_owned(),
        label: label.to_owned(),
        kind: "text",
        value: form.value(name).unwrap_or_default().to_owned(),
        options: Vec::new(),
        min: String::new(),
        max: String::new(),
        step: String::new(),
        pattern: String::new(),
        is_required: false,
        hint: hint.to_owned(),
        errors: Vec::new(),
    };
    // Of a box the form carries a hidden `false` before the box's own value: the last one counts.
    let given =
        |name: &str| form.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut fields: Vec<Field> =
        dag.params.iter().map(|p| field(p, given(&field_name(p)), &mut problems)).collect();
    fields.push(extra(DATE, "Logical date", "RFC 3339 or a date; empty: now"));
    fields.push(extra(RUN_ID, "Run id", "Empty: one is made"));
    page(&TriggerPage { c, dag_id: dag.id.to_string(), problems, fields, has_params: !dag.params.is_empty() })
}

/// Shows the form with the defaults.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
) -> Result<Response> {
    let dag = find(&state, &ids.dag_id).await?.definition;
    form_page(c, &dag, &Form(Vec::new()), Vec::new())
}

/// Triggers, or shows the form again with what is wrong beside the fields.
pub(crate) async fn submit(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<DagPath>,
    c: Chrome,
    form: Form,
) -> Result<Response> {
    let dag = find(&state, &ids.dag_id).await?.definition;
    let problems =
        match body(&dag, &form) {
            Ok(body) => match actions::trigger(&state, &who, ids.dag_id.clone(), body, None).await {
                Ok(made) => return Ok(see(&format!("/dags/{}/runs/{}", made.run.dag_id, made.run.run_id))),
                Err(problem) if problem.status == 422 || problem.status == 409 => {
                    if problem.errors.is_empty() { vec![problem.detail] } else { problem.errors }
                }
                Err(problem) => return Err(problem),
            },
            Err(problems) => problems,
        };
    let mut response = form_page(c, &dag, &form, problems)?;
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}

fn body(dag: &Dag, form: &Form) -> std::result::Result<TriggerBody, Vec<String>> {
    let mut problems = Vec::new();
    let mut conf = Map::new();
    for param in &dag.params {
        let name = field_name(param);
        let Some((_, text)) = form.0.iter().rev().find(|(key, _)| *key == name) else { continue };
        match read(param, text) {
            // Only what differs from the default is an override.
            Ok(Some(value)) if param.schema.get("default") != Some(&value) => {
                conf.insert(param.name.clone(), value);
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
    let logical_date = match form.value(DATE).map(date) {
        None => None,
        Some(Ok(at)) => Some(at),
        Some(Err(problem)) => {
            problems.push(problem);
            None
        }
    };
    let run_id = form.value(RUN_ID).map(ToOwned::to_owned);
    if problems.is_empty() { Ok(TriggerBody { conf, logical_date, run_id }) } else { Err(problems) }
}

fn date(text: &str) -> std::result::Result<chrono::DateTime<chrono::Utc>, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    chrono::DateTime::parse_from_rfc3339(&whole)
        .map(|at| at.to_utc())
        .map_err(|_| format!("the logical date {text:?} is neither a date nor an RFC 3339 instant"))
}

fn read(param: &Param, text: &str) -> std::result::Result<Option<Value>, String> {
    let name = &param.name;
    let kind = kind(param);
    if text.is_empty() && kind != "text" {
        return Ok(None);
    }
    match kind {
        "text" | "date" => Ok(Some(Value::String(text.to_owned()))),
        "boolean" => Ok(Some(Value::Bool(text == "true"))),
        "enum" => {
            let options = param.schema.get("enum").and_then(Value::as_array);
            let found = options.into_iter().flatten().find(|option| plain(option, "enum") == text);
            found.cloned().map(Some).ok_or_else(|| format!("{name}: {text:?} is not one of the values"))
        }
        _ => serde_json::from_str(text).map(Some).map_err(|_| {
            let wanted = if kind == "number" { "a number" } else { "JSON" };
            format!("{name}: {text:?} is not {wanted}")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(schema: Value) -> Param {
        Param { name: "p".to_owned(), schema: schema.as_object().cloned().unwrap_or_default() }
    }

    #[test]
    fn fields_are_read_as_their_type() {
        let number = param(serde_json::json!({ "type": "number", "default": 1 }));
        assert_eq!(read(&number, "0.5"), Ok(Some(serde_json::json!(0.5))));
        assert!(read(&number, "x").is_err());
        assert_eq!(read(&number, ""), Ok(None));
        let choice = param(serde_json::json!({ "enum": [1, "a"] }));
        assert_eq!(read(&choice, "1"), Ok(Some(serde_json::json!(1))));
        assert!(read(&choice, "b").is_err());
        let list = param(serde_json::json!({ "type": ["array", "null"] }));
        assert_eq!(read(&list, "[1]"), Ok(Some(serde_json::json!([1]))));
    }

    #[test]
    fn a_date_may_leave_out_its_time() {
        assert_eq!(date("2026-11-05").map(|d| d.to_rfc3339()), Ok("2026-11-05T00:00:00+00:00".to_owned()));
        assert!(date("yesterday").is_err());
    }
}
