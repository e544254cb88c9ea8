//! Templates in structured values: arguments, JSON bodies, parameters of a statement.

use serde_json::Value as Json;

use super::{Context, RenderError, render::render_json};

/// Adds every string of a value to `found`. Keys of objects are no templates.
pub fn templates_of<'a>(value: &'a Json, found: &mut Vec<&'a str>) {
    match value {
        Json::String(text) => found.push(text),
        Json::Array(items) => items.iter().for_each(|item| templates_of(item, found)),
        Json::Object(map) => map.values().for_each(|item| templates_of(item, found)),
        _ => {}
    }
}

/// Renders every string in a value. A string that is one placeholder and nothing else becomes the value of its
/// expression, so that a list stays a list and a number a number; every other string becomes text.
///
/// # Errors
/// [`RenderError`], codes `SCH0701` to `SCH0703`.
pub fn render_value(value: &Json, context: &Context) -> Result<Json, RenderError> {
    Ok(match value {
        Json::String(template) => render_json(template, context)?,
        Json::Array(items) => {
            Json::Array(items.iter().map(|item| render_value(item, context)).collect::<Result<_, _>>()?)
        }
        Json::Object(map) => Json::Object(
            map.iter()
                .map(|(key, item)| Ok((key.clone(), render_value(item, context)?)))
                .collect::<Result<_, RenderError>>()?,
        ),
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_string_is_found_and_keys_are_none() {
        let value = json!({"{{ a }}": ["b", {"c": "d"}, 1], "e": null});
        let mut found = Vec::new();
        templates_of(&value, &mut found);
        assert_eq!(found, ["b", "d"]);
    }
}
