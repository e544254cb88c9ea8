//! The operator `python`: reads its keys.

use serde_json::{Map, Value as Json};

use super::{
    code::Code,
    fields::Fields,
    kinds::{clean, wrong_type},
    params::json,
    problem::{Draft, Report},
    python::{PythonSpec, PythonTarget},
    suggest::shown,
    tree::{Node, Value},
};

/// Reads the keys of a `python` task.
pub(crate) fn read(fields: &Fields<'_, '_>, name: &str, report: &mut Report<'_>) -> Option<PythonSpec> {
    let target = target(fields, name, report);
    Some(PythonSpec {
        target: target?,
        requirements: fields.strings("requirements"),
        requirements_file: fields.string("requirements_file"),
        python: fields.string("python"),
    })
}

fn target(fields: &Fields<'_, '_>, name: &str, report: &mut Report<'_>) -> Option<PythonTarget> {
    match (fields.field("script"), fields.field("callable")) {
        (None, None) if fields.is_misspelt("script") || fields.is_misspelt("callable") => None,
        (None, None) => {
            let message = format!("{name} has neither `script` nor `callable`");
            let draft = Draft::error(Code::PYTHON_TARGET, message, fields.at.clone()).absence();
            report.push(draft.help("add `script = \"train.py\"`, or `callable = \"train.py:main\"`"));
            None
        }
        (Some(script), Some(callable)) => {
            let message = format!("{name} has a `script` and a `callable`");
            let draft = Draft::error(Code::PYTHON_TARGET, message, callable.key_span.clone());
            report.push(draft.also(script.key_span.clone(), "the script").help("leave one of them out"));
            None
        }
        (Some(_), None) => {
            if let Some(kwargs) = fields.field("kwargs") {
                let message = "`kwargs` has no effect on a script";
                let draft = Draft::warning(Code::NO_EFFECT, message, kwargs.key_span.clone());
                report.push(draft.help("a script gets `args`, or use `callable`"));
            }
            let args = texts("args", fields.node("args"), report)?;
            Some(PythonTarget::Script { path: fields.string("script")?, args })
        }
        (None, Some(_)) => callable(fields, report),
    }
}

fn callable(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<PythonTarget> {
    let (args, kwargs) = (positional(fields, report), keywords(fields, report));
    let text = fields.text("callable")?;
    let Some((file, function)) = split(text) else {
        let at = fields.field("callable").map_or(fields.at.clone(), |field| field.node.span.clone());
        let message = format!("`{}` is not a file and a function", shown(text));
        report.push(Draft::error(Code::PYTHON_CALLABLE, message, at).help(
            "write the path of the file, a colon and the name: `callable = \"pkg/module.py:function\"`",
        ));
        return None;
    };
    Some(PythonTarget::Callable {
        file: file.to_owned(),
        function: function.to_owned(),
        args: args?,
        kwargs: kwargs?,
    })
}

/// Splits `pkg/module.py:function`.
fn split(text: &str) -> Option<(&str, &str)> {
    let (file, function) = text.rsplit_once(':')?;
    let is_good = file.ends_with(".py")
        && file.len() > ".py".len()
        && !text.contains("{{")
        && function.split('.').all(is_identifier);
    is_good.then_some((file, function))
}

/// Whether Python takes the text as a name. What is not ASCII is left to Python.
fn is_identifier(text: &str) -> bool {
    text.chars()
        .enumerate()
        .all(|(at, c)| c == '_' || c.is_ascii_alphabetic() || !c.is_ascii() || (at > 0 && c.is_ascii_digit()))
        && !text.is_empty()
}

/// Reads a list of texts, which may be equal and empty, unlike [`super::keys::Kind::Lines`].
pub(crate) fn texts(name: &str, node: Option<&Node<'_>>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let Some(node) = node else { return Some(Vec::new()) };
    let Value::Array { items, is_tables: false } = &node.value else {
        wrong_type(name, "a list of strings", node, report);
        return None;
    };
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            Value::String(text) => {
                found.push(clean(name, text, item, true, report).then(|| text.to_string()));
            }
            _ => {
                wrong_type(&format!("an element of {name}"), "a string", item, report);
                found.push(None);
            }
        }
    }
    found.into_iter().collect()
}

fn positional(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Vec<Json>> {
    let Some(node) = fields.node("args") else { return Some(Vec::new()) };
    match json(node) {
        Json::Array(items) => Some(items),
        _ => {
            wrong_type("args", "a list", node, report);
            None
        }
    }
}

fn keywords(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Map<String, Json>> {
    let Some(node) = fields.node("kwargs") else { return Some(Map::new()) };
    let Value::Table(table) = &node.value else {
        wrong_type("kwargs", "a table", node, report);
        return None;
    };
    let mut is_good = true;
    for entry in table.entries.iter().filter(|entry| !is_identifier(&entry.key)) {
        is_good = false;
        let message = format!("`{}` is not the name of a Python argument", shown(&entry.key));
        report.push(
            Draft::error(Code::PYTHON_ARGUMENT, message, entry.key_span.clone())
                .help("use letters, digits and `_`, and do not begin with a digit"),
        );
    }
    match json(node) {
        Json::Object(map) if is_good => Some(map),
        _ => None,
    }
}
