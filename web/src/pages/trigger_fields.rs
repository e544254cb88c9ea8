//! The fields of the trigger form: one for each param, as its schema says.
//!
//! The browser checks what it can (`min`, `step`, `pattern`, …); what counts is the check of the scheduler.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Number, Value};
use tidemill_engine::definition::Param;

use crate::error::PartProblem;

/// What of HTML a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// `<input type=…>`.
    Input(&'static str),
    /// A box.
    Check,
    /// A list to choose from: `enum`, `const`, or a truth value that may be absent.
    Select,
    /// Text of several lines.
    Lines,
    /// JSON: objects, lists, and what may have several types.
    Json,
}

/// A field as the template draws it.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) label: String,
    pub(super) control: Control,
    pub(super) value: String,
    /// Value, label, whether it is chosen.
    pub(super) options: Vec<(String, String, bool)>,
    pub(super) proposals: Vec<String>,
    /// Further attributes of an input: `min`, `max`, `step`, `minlength`, `maxlength`, `pattern`.
    pub(super) limits: Vec<(&'static str, String)>,
    pub(super) is_required: bool,
    pub(super) hint: String,
    pub(super) errors: Vec<String>,
}

impl Field {
    /// A line of text that is not a param.
    pub(super) fn line(name: &str, label: &str, hint: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            label: label.to_owned(),
            control: Control::Input("text"),
            value: value.to_owned(),
            options: Vec::new(),
            proposals: Vec::new(),
            limits: Vec::new(),
            is_required: false,
            hint: hint.to_owned(),
            errors: Vec::new(),
        }
    }

    /// The field of a param: `given` is what was typed, else its default is shown. Its problems are taken out of
    /// `problems`.
    pub(super) fn of(param: &Param, given: Option<&str>, problems: &mut Vec<PartProblem>) -> Self {
        let schema = &param.schema;
        let control = control(schema);
        let default = schema.get("default");
        let value =
            given.map_or_else(|| default.map(|v| typed(v, control)).unwrap_or_default(), str::to_owned);
        let pointer = format!("/{}", param.name);
        let is_mine = |p: &PartProblem| {
            p.pointer.strip_prefix(&pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let errors = problems.extract_if(.., |problem| is_mine(problem)).map(|problem| {
            match problem.pointer.strip_prefix(&pointer).unwrap_or_default() {
                "" => problem.message,
                part => format!("`{part}` {}", problem.message),
            }
        });
        let errors = errors.collect();
        let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
        let zone = matches!(control, Control::Input("datetime-local" | "time")).then_some("UTC.");
        let form = (control == Control::Json).then_some("JSON.");
        let hint = [Some(text("description")), form, zone];
        let hint: Vec<&str> = hint.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        Self {
            name: field_name(param),
            label: if text("title").is_empty() { param.name.clone() } else { text("title").to_owned() },
            options: options(schema, &value),
            proposals: match control {
                Control::Input(_) => {
                    let examples = schema.get("examples").and_then(Value::as_array);
                    examples.into_iter().flatten().map(|v| typed(v, control)).collect()
                }
                _ => Vec::new(),
            },
            limits: limits(schema, control),
            is_required: default.is_none() && !is_nullable(schema) && control != Control::Check,
            hint: hint.join(" "),
            control,
            value,
            errors,
        }
    }

    // Askama compares no enums; it asks.
    pub(super) fn is_check(&self) -> bool {
        self.control == Control::Check
    }

    pub(super) fn is_select(&self) -> bool {
        self.control == Control::Select
    }

    pub(super) fn is_area(&self) -> bool {
        matches!(self.control, Control::Lines | Control::Json)
    }

    pub(super) fn input(&self) -> &'static str {
        match self.control {
            Control::Input(kind) => kind,
            _ => "text",
        }
    }
}

/// A param's field is prefixed, so that no param collides with the form's own fields.
pub(super) fn field_name(param: &Param) -> String {
    format!("param.{}", param.name)
}

fn types(schema: &Map<String, Value>) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_nullable(schema: &Map<String, Value>) -> bool {
    let is_null =
        |key: &str| schema.get(key).and_then(Value::as_array).is_some_and(|all| all.contains(&Value::Null));
    types(schema).contains(&"null") && (!schema.contains_key("enum") || is_null("enum"))
}

fn control(schema: &Map<String, Value>) -> Control {
    if schema.contains_key("enum") || schema.contains_key("const") {
        return Control::Select;
    }
    let mut types = types(schema);
    types.retain(|word| *word != "null");
    match (types.as_slice(), schema.get("format").and_then(Value::as_str)) {
        (["string"], Some("date")) => Control::Input("date"),
        (["string"], Some("date-time")) => Control::Input("datetime-local"),
        (["string"], Some("time")) => Control::Input("time"),
        (["string"], Some("email")) => Control::Input("email"),
        (["string"], Some("uri")) => Control::Input("url"),
        (["string"], Some("multiline")) => Control::Lines,
        (["string"], _) => Control::Input("text"),
        (["integer" | "number"] | ["integer", "number"] | ["number", "integer"], _) => {
            Control::Input("number")
        }
        (["boolean"], _) if is_nullable(schema) => Control::Select,
        (["boolean"], _) => Control::Check,
        _ => Control::Json,
    }
}

/// How a value stands in its field.
fn typed(value: &Value, control: Control) -> String {
    match (value, control) {
        (value, Control::Select) => value.to_string(),
        (Value::Null, _) => String::new(),
        (Value::String(text), Control::Input("datetime-local")) => DateTime::parse_from_rfc3339(text)
            .map_or_else(
                |_| text.clone(),
                |at| {
                    at.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true).trim_end_matches('Z').to_owned()
                },
            ),
        (Value::String(text), Control::Input("time")) => text.trim_end_matches('Z').to_owned(),
        (Value::String(text), Control::Input(_) | Control::Lines) => text.clone(),
        (value, Control::Json) => serde_json::to_string_pretty(value).unwrap_or_default(),
        (value, _) => value.to_string(),
    }
}

fn options(schema: &Map<String, Value>, chosen: &str) -> Vec<(String, String, bool)> {
    let flags = [Value::Bool(true), Value::Bool(false), Value::Null];
    let values: Vec<&Value> = match (schema.get("const"), schema.get("enum").and_then(Value::as_array)) {
        (Some(only), _) => vec![only],
        (None, Some(all)) => all.iter().collect(),
        (None, None) if control(schema) == Control::Select => flags.iter().collect(),
        (None, None) => Vec::new(),
    };
    let label = |value: &Value| match value {
        Value::Null => "no value".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // A text that stands for itself and for nothing else is taken too: people and scripts write it so.
    let is_chosen = |value: &Value| [value.to_string(), label(value)].iter().any(|text| text == chosen);
    values.into_iter().map(|value| (value.to_string(), label(value), is_chosen(value))).collect()
}

fn limits(schema: &Map<String, Value>, control: Control) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let number = |key: &str| match schema.get(key) {
        Some(Value::Number(number)) => Some(number),
        _ => None,
    };
    match control {
        Control::Input("number") => {
            let is_whole = types(schema).contains(&"integer") && !types(schema).contains(&"number");
            let step = number("multipleOf").cloned().or_else(|| is_whole.then(|| Number::from(1)));
            let next = |key: &str, by: i64| {
                number(key)
                    .and_then(Number::as_i64)
                    .filter(|_| is_whole)
                    .map(|bound| Number::from(bound + by))
            };
            let least = number("minimum").cloned().or_else(|| next("exclusiveMinimum", 1));
            let most = number("maximum").cloned().or_else(|| next("exclusiveMaximum", -1));
            // Browsers count steps from the least value; where that is no multiple itself they would refuse good ones.
            let is_aligned = least.as_ref().is_none_or(|least| {
                let step = step.as_ref().and_then(Number::as_i64);
                matches!((least.as_i64(), step), (Some(least), Some(step)) if step != 0 && least % step == 0)
            });
            out.extend(least.map(|least| ("min", least.to_string())));
            out.extend(most.map(|most| ("max", most.to_string())));
            let step = step.filter(|_| is_aligned).map_or_else(|| "any".to_owned(), |step| step.to_string());
            out.push(("step", step));
        }
        Control::Input("datetime-local" | "time") => out.push(("step", "any".to_owned())),
        Control::Input("text" | "email" | "url") | Control::Lines => {
            out.extend(number("minLength").map(|least| ("minlength", least.to_string())));
            out.extend(number("maxLength").map(|most| ("maxlength", most.to_string())));
            if let (Some(pattern), Control::Input(_)) =
                (schema.get("pattern").and_then(Value::as_str), control)
            {
                // A browser wants the whole text to match, JSON Schema any part of it.
                out.push(("pattern", format!(r"[\s\S]*(?:{pattern})[\s\S]*")));
            }
        }
        _ => {}
    }
    out
}

/// Reads what was typed. Nothing: the default holds.
pub(super) fn read(param: &Param, text: &str) -> Result<Option<Value>, String> {
    let schema = &param.schema;
    let control = control(schema);
    let text = text.replace("\r\n", "\n");
    if text.is_empty() && control != Control::Check {
        let is_text = matches!(control, Control::Input("text") | Control::Lines);
        return Ok(match schema.get("default") {
            _ if is_nullable(schema) => Some(Value::Null),
            Some(_) if is_text => Some(Value::String(text)),
            _ => None,
        });
    }
    let whole = |length: usize| if text.len() == length { format!("{text}:00Z") } else { format!("{text}Z") };
    let is_local = |separator: char| {
        let time = text.split_once(separator).map_or(text.as_str(), |(_, time)| time);
        time.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.')
    };
    match control {
        Control::Check => Ok(Some(Value::Bool(text == "true"))),
        Control::Input("number") => match serde_json::from_str(&text) {
            Ok(value @ Value::Number(_)) => Ok(Some(value)),
            _ => Err(format!("must be a number, not {text:?}")),
        },
        Control::Input("datetime-local") if is_local('T') && text.contains('T') => {
            Ok(Some(Value::String(whole("2026-01-31T06:00".len()))))
        }
        Control::Input("time") if is_local(' ') => Ok(Some(Value::String(whole("06:00".len())))),
        Control::Input(_) | Control::Lines => Ok(Some(Value::String(text))),
        Control::Select => {
            let only: Vec<Value> = schema.get("const").into_iter().cloned().collect();
            let all = if only.is_empty() {
                schema.get("enum").and_then(Value::as_array).cloned()
            } else {
                Some(only)
            };
            let all = all.unwrap_or_else(|| vec![Value::Bool(true), Value::Bool(false), Value::Null]);
            let found = all.iter().find(|one| one.to_string() == text);
            let found = found.or_else(|| all.iter().find(|one| one.as_str() == Some(text.as_str())));
            found.cloned().map(Some).ok_or_else(|| format!("must be one of the values, not {text:?}"))
        }
        Control::Json => {
            serde_json::from_str(&text).map(Some).map_err(|error| format!("must be JSON: {error}"))
        }
    }
}

/// Reads the logical date: an instant or a date.
pub(super) fn date(text: &str) -> Result<DateTime<Utc>, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    DateTime::parse_from_rfc3339(&whole)
        .map(|at| at.to_utc())
        .map_err(|_| format!("{text:?} is neither a date nor an RFC 3339 instant"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn param(schema: Value) -> Param {
        Param { name: "p".to_owned(), schema: schema.as_object().cloned().unwrap_or_default() }
    }

    #[test]
    fn fields_are_read_as_their_type() {
        let table = [
            (json!({ "type": "number", "default": 1 }), "0.5", Ok(Some(json!(0.5)))),
            (json!({ "type": "number", "default": 1 }), "", Ok(None)),
            (json!({ "type": ["number", "null"], "default": 1 }), "", Ok(Some(Value::Null))),
            (json!({ "type": "string", "default": "x" }), "", Ok(Some(json!("")))),
            (json!({ "type": "string" }), "", Ok(None)),
            (json!({ "type": "string", "format": "multiline" }), "a\r\nb", Ok(Some(json!("a\nb")))),
            (json!({ "enum": [1, "a"] }), "1", Ok(Some(json!(1)))),
            (json!({ "enum": [1, "a"] }), "a", Ok(Some(json!("a")))),
            (json!({ "enum": ["1", 1] }), "\"1\"", Ok(Some(json!("1")))),
            (json!({ "enum": [null, 1], "type": ["integer", "null"] }), "null", Ok(Some(Value::Null))),
            (json!({ "const": "prod" }), "\"prod\"", Ok(Some(json!("prod")))),
            (json!({ "type": ["boolean", "null"] }), "false", Ok(Some(json!(false)))),
            (json!({ "type": "boolean" }), "true", Ok(Some(json!(true)))),
            (json!({ "type": ["array", "null"] }), "[1]", Ok(Some(json!([1])))),
            (json!({ "type": ["string", "integer"] }), "\"a\"", Ok(Some(json!("a")))),
            (
                json!({ "type": "string", "format": "date-time" }),
                "2026-01-31T06:00",
                Ok(Some(json!("2026-01-31T06:00:00Z"))),
            ),
            (
                json!({ "type": "string", "format": "date-time" }),
                "2026-01-31T06:00:07.5",
                Ok(Some(json!("2026-01-31T06:00:07.5Z"))),
            ),
            (
                json!({ "type": "string", "format": "date-time" }),
                "2026-01-31T06:00:00+02:00",
                Ok(Some(json!("2026-01-31T06:00:00+02:00"))),
            ),
            (json!({ "type": "string", "format": "time" }), "06:00", Ok(Some(json!("06:00:00Z")))),
            (json!({ "type": "string", "format": "date" }), "soon", Ok(Some(json!("soon")))),
        ];
        for (schema, text, expected) in table {
            assert_eq!(read(&param(schema.clone()), text), expected, "{schema} {text:?}");
        }
        for (schema, text) in [
            (json!({ "type": "number" }), "x"),
            (json!({ "type": "number" }), "true"),
            (json!({ "enum": [1, "a"] }), "b"),
            (json!({ "type": "object" }), "{"),
        ] {
            assert!(read(&param(schema.clone()), text).is_err(), "{schema} {text:?}");
        }
    }

    #[test]
    fn each_type_has_its_control_with_the_limits_that_a_browser_can_check() {
        type Limits = &'static [(&'static str, &'static str)];
        let table: [(Value, &str, Limits); 15] = [
            (
                json!({ "type": "integer", "minimum": 1, "maximum": 5 }),
                "number",
                &[("min", "1"), ("max", "5"), ("step", "1")],
            ),
            (json!({ "type": "integer", "exclusiveMinimum": 0 }), "number", &[("min", "1"), ("step", "1")]),
            (
                json!({ "type": "integer", "minimum": 3, "multipleOf": 5 }),
                "number",
                &[("min", "3"), ("step", "any")],
            ),
            (
                json!({ "type": "integer", "minimum": 5, "multipleOf": 5 }),
                "number",
                &[("min", "5"), ("step", "5")],
            ),
            (json!({ "type": "number", "exclusiveMinimum": 0 }), "number", &[("step", "any")]),
            (json!({ "type": "string", "format": "date" }), "date", &[]),
            (json!({ "type": "string", "format": "date-time" }), "datetime-local", &[("step", "any")]),
            (json!({ "type": "string", "format": "email" }), "email", &[]),
            (json!({ "type": "string", "format": "uri" }), "url", &[]),
            (
                json!({ "type": "string", "pattern": "^a", "maxLength": 3 }),
                "text",
                &[("maxlength", "3"), ("pattern", "[\\s\\S]*(?:^a)[\\s\\S]*")],
            ),
            (json!({ "type": ["string", "null"] }), "text", &[]),
            (json!({ "enum": ["a"] }), "select", &[]),
            (json!({ "type": "boolean" }), "check", &[]),
            (json!({ "type": "array" }), "area", &[]),
            (json!({ "type": "object" }), "area", &[]),
        ];
        for (schema, control, limits) in table {
            let field = Field::of(&param(schema.clone()), None, &mut Vec::new());
            let is = match control {
                "select" => field.is_select(),
                "check" => field.is_check(),
                "area" => field.is_area(),
                kind => field.input() == kind && !field.is_area() && !field.is_select() && !field.is_check(),
            };
            assert!(is, "{schema}: {:?}", field.control);
            let found: Vec<(&str, &str)> =
                field.limits.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(found, limits, "{schema}");
        }
    }

    #[test]
    fn errors_stand_beside_their_own_field() {
        let problem =
            |pointer: &str| PartProblem { pointer: pointer.to_owned(), message: "is bad".to_owned() };
        let mut problems = vec![problem("/p"), problem("/p/1"), problem("/pp"), problem("/q")];
        let field = Field::of(&param(json!({ "type": "array" })), Some("[1,"), &mut problems);
        assert_eq!(field.errors, ["is bad", "`/1` is bad"]);
        assert_eq!((field.value.as_str(), problems.len()), ("[1,", 2));
    }

    #[test]
    fn a_date_may_leave_out_its_time() {
        assert_eq!(date("2026-11-05").map(|d| d.to_rfc3339()), Ok("2026-11-05T00:00:00+00:00".to_owned()));
        assert!(date("yesterday").is_err());
    }
}
