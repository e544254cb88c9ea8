//! Rendering one template.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::{
    Error, ErrorKind, Output,
    value::{Value, ValueKind},
};
use serde_json::Value as Json;

use super::{
    Context, RenderError,
    environment::{OUTPUT_LIMIT_BYTES, environment, parse_template, print_value, to_json},
    error::shorten,
    facts, is_dynamic,
    needs::Needs,
    shell,
};

/// The longest `NAME=value` and the longest argument that Linux hands to a process, without the final NUL.
pub(super) const STRING_LIMIT_BYTES: usize = 131_071;
/// How much the data of one script may take together. Linux refuses a process whose arguments and environment
/// exceed a quarter of its stack limit (2 MiB of the usual 8), and the task's own environment needs room.
const DATA_LIMIT_BYTES: usize = 1024 * 1024;

/// A script and the data that it reads from its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// For `/bin/sh -c`.
    pub script: String,
    /// What stood in `{{ … }}`, by the name of the variable that the script reads.
    pub env: BTreeMap<String, String>,
}

/// Renders a template to text.
///
/// # Errors
/// [`RenderError`], codes `SCH0701` to `SCH0703`.
pub fn render_text(template: &str, context: &Context) -> Result<String, RenderError> {
    if !is_dynamic(template) {
        return Ok(template.to_owned());
    }
    evaluate(template, context, |out, value| write_to(out, &print_value(value)?))
}

/// Renders a template to a value: what stands in a single `{{ … }}` with nothing but blanks around it keeps its type,
/// everything else is text.
///
/// # Errors
/// [`RenderError`], codes `SCH0701` to `SCH0703`.
pub fn render_json(template: &str, context: &Context) -> Result<Json, RenderError> {
    if !is_dynamic(template) {
        return Ok(Json::String(template.to_owned()));
    }
    let printed = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&printed);
    let text = evaluate(template, context, move |out, value| {
        let text = print_value(value)?;
        let json =
            if matches!(value.kind(), ValueKind::Undefined) { "null".to_owned() } else { to_json(value)? };
        sink.lock().unwrap_or_else(PoisonError::into_inner).push((json, text.clone()));
        write_to(out, &text)
    })?;
    let printed = std::mem::take(&mut *printed.lock().unwrap_or_else(PoisonError::into_inner));
    match printed.as_slice() {
        [(json, printed)] if is_single(template) && text.trim() == printed.trim() => {
            Ok(serde_json::from_str(json).unwrap_or(Json::String(text)))
        }
        _ => Ok(Json::String(text)),
    }
}

/// Whether a template is one `{{ … }}` and blanks.
fn is_single(template: &str) -> bool {
    let text = template.trim();
    text.starts_with("{{") && text.ends_with("}}") && !text.contains("{%") && !text.contains("{#")
}

/// Renders a template that has to print `true` or `false` (in any case, with blanks around it).
///
/// # Errors
/// [`RenderError`], codes `SCH0701` to `SCH0703` and `SCH0706`.
pub fn render_condition(template: &str, context: &Context) -> Result<bool, RenderError> {
    truth(&render_text(template, context)?)
}

/// Reads `true` or `false`.
pub(super) fn truth(text: &str) -> Result<bool, RenderError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(RenderError::Condition { text: shorten(text.trim()) }),
    }
}

/// Renders a template to text with these values alone.
pub(super) fn evaluate_with(template: &str, values: &Value) -> Result<String, RenderError> {
    let env = environment(|out, value| write_to(out, &print_value(value)?));
    let text = env
        .template_from_str(template)
        .and_then(|template| template.render(values))
        .map_err(|error| RenderError::of(&error, template))?;
    if text.len() > OUTPUT_LIMIT_BYTES {
        return Err(RenderError::Limit { what: "the template prints more than 1 MiB".to_owned() });
    }
    Ok(text)
}

/// Renders a command string. Values do not enter the script: it reads them from its environment.
///
/// # Errors
/// [`RenderError`], codes `SCH0701` to `SCH0705` and `SCH0708`.
pub fn render_shell(template: &str, context: &Context) -> Result<Rendered, RenderError> {
    if !is_dynamic(template) {
        check_string("the script", template, template.len())?;
        return Ok(Rendered { script: template.to_owned(), env: BTreeMap::new() });
    }
    if template.contains(shell::is_reserved) {
        return Err(RenderError::ShellContext { what: "the command holds a reserved character".to_owned() });
    }
    let root = parse_template(template).map_err(|error| RenderError::of(&error, template))?;
    if let Some(capture) = facts::collect(&root).captures.first() {
        return Err(RenderError::ShellContext { what: format!("{} in a command", capture.what) });
    }
    let values = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&values);
    let marked = evaluate(template, context, move |out, value| {
        let text = print_value(value)?;
        sink.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        write_to(out, shell::MARK)
    })?;
    let script = shell::place_values(&marked).map_err(|what| RenderError::ShellContext { what })?;
    check_string("the script", &script, script.len())?;
    let values = std::mem::take(&mut *values.lock().unwrap_or_else(PoisonError::into_inner));
    let mut env = BTreeMap::new();
    let mut total = 0;
    for (index, value) in values.into_iter().enumerate() {
        let name = shell::variable(index);
        check_variable(&name, &value)?;
        total += name.len() + value.len() + 2;
        env.insert(name, value);
    }
    if total > DATA_LIMIT_BYTES {
        let name = "the data of the command".to_owned();
        return Err(RenderError::TooLarge { name, size_bytes: total, limit_bytes: DATA_LIMIT_BYTES });
    }
    Ok(Rendered { script, env })
}

/// Refuses an environment variable that no process can be given.
pub(super) fn check_variable(name: &str, value: &str) -> Result<(), RenderError> {
    check_string(name, value, name.len() + 1 + value.len())
}

/// Refuses a string that no process can be given.
pub(super) fn check_string(name: &str, text: &str, size_bytes: usize) -> Result<(), RenderError> {
    if text.contains('\0') {
        return Err(RenderError::Nul { name: name.to_owned() });
    }
    if size_bytes > STRING_LIMIT_BYTES {
        let limit_bytes = STRING_LIMIT_BYTES;
        return Err(RenderError::TooLarge { name: name.to_owned(), size_bytes, limit_bytes });
    }
    Ok(())
}

fn write_to(out: &mut Output<'_>, text: &str) -> Result<(), Error> {
    out.write_str(text).map_err(|_| Error::from(ErrorKind::WriteFailure))
}

fn evaluate(
    template: &str,
    context: &Context,
    print: impl Fn(&mut Output<'_>, &Value) -> Result<(), Error> + Send + Sync + 'static,
) -> Result<String, RenderError> {
    let env = environment(print);
    let wrong = |error: Error| RenderError::of(&error, template);
    let needs = Needs::of(&facts::collect(&parse_template(template).map_err(wrong)?));
    let compile = || env.template_from_str(template)?.render(context.value(&needs));
    let text = compile().map_err(|error| match wrong(error) {
        // Only now: what stands in a branch that is not taken, or before `default`, may be missing.
        undefined @ RenderError::Undefined { .. } => context.lacks(&needs).unwrap_or(undefined),
        other => other,
    })?;
    if text.len() > OUTPUT_LIMIT_BYTES {
        return Err(RenderError::Limit { what: "the template prints more than 1 MiB".to_owned() });
    }
    Ok(text)
}
