//! Conditions over what a sensor got: the one kind of template that is not rendered by the server.
//!
//! The server knows the run and not the answer, the worker the answer and not the run. So the server sends what the
//! condition names of the run, as plain values, and the worker evaluates it with the answer beside them.

use std::collections::BTreeSet;

use minijinja::value::{Serde, Value, ValueKind};
use serde_json::{Map, Value as Json};

use super::{
    Context, RenderError,
    environment::{parse_template, print_value},
    facts, is_dynamic,
    needs::Needs,
    render::{evaluate_with, truth},
};

/// The name under which a condition sees what the sensor got.
pub const ANSWER: &str = "answer";

/// Returns what a condition names of the run, for [`holds`].
///
/// # Errors
/// [`RenderError`], codes `SCH0240` to `SCH0243` and `SCH0702`.
pub fn names_of_condition(template: &str, context: &Context) -> Result<Map<String, Json>, RenderError> {
    if !is_dynamic(template) {
        return Ok(Map::new());
    }
    let root = parse_template(template).map_err(|error| RenderError::of(&error, template))?;
    let facts = facts::collect(&root);
    let needs = Needs::of(&facts);
    if let Some(missing) = context.lacks(&needs) {
        return Err(missing);
    }
    let all = context.value(&needs);
    let roots: BTreeSet<&str> = facts
        .references
        .iter()
        .map(|reference| reference.root.as_str())
        .filter(|name| *name != ANSWER)
        .collect();
    let mut found = Map::new();
    for name in roots {
        let wrong = |error: minijinja::Error| RenderError::of(&error, template);
        let value = all.get_attr(name).map_err(wrong)?;
        // Functions are not of the run; what is undefined fails by name where it is used.
        if !value.is_undefined() {
            found.insert(name.to_owned(), plain(&value).map_err(wrong)?);
        }
    }
    Ok(found)
}

/// Returns a value as JSON. What JSON does not know, such as an instant, becomes the text that it prints as.
fn plain(value: &Value) -> Result<Json, minijinja::Error> {
    Ok(match value.kind() {
        ValueKind::Plain => Json::String(print_value(value)?),
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter()? {
                map.insert(key.to_string(), plain(&value.get_item(&key)?)?);
            }
            Json::Object(map)
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Result<Vec<Json>, _> = value.try_iter()?.map(|item| plain(&item)).collect();
            Json::Array(items?)
        }
        _ => serde_json::to_value(value).unwrap_or(Json::Null),
    })
}

/// Whether a condition holds for an answer.
///
/// # Errors
/// [`RenderError`], codes `SCH0701` to `SCH0703` and `SCH0706`.
pub fn holds(template: &str, names: &Map<String, Json>, answer: &Json) -> Result<bool, RenderError> {
    let all = names.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value))));
    let all = Value::from_pairs(all.chain([(ANSWER, Value::from(Serde(answer)))]));
    truth(&evaluate_with(template, &all)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(template: &str, answer: &Json) -> Result<bool, String> {
        let names = json!({"ds": "2026-11-01", "params": {"least": 3}});
        holds(template, names.as_object().unwrap(), answer).map_err(|error| error.code().to_owned())
    }

    #[test]
    fn a_condition_sees_the_answer_and_the_run() {
        let answer = json!({"status": 200, "body": {"state": "done", "rows": 5, "day": "2026-11-01"}});
        for (template, expected) in [
            ("{{ answer.body.state == 'done' }}", Ok(true)),
            ("{{ answer.body.day == ds and answer.body.rows >= params.least }}", Ok(true)),
            ("{{ answer.status == 404 }}", Ok(false)),
            ("{{ answer.body.missing | default(false) }}", Ok(false)),
            ("true", Ok(true)),
            ("{{ answer.body.missing == 1 }}", Err("SCH0701")),
            ("{{ answer.body.rows }}", Err("SCH0706")),
            ("{{ answer.body.rows + 'x' }}", Err("SCH0702")),
            (
                "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
                Err("SCH0703"),
            ),
        ] {
            assert_eq!(check(template, &answer), expected.map_err(str::to_owned), "{template}");
        }
    }
}
