//! Checks a value against the kind of its key.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use crate::ids::AssetName;

use super::{
    code::Code,
    fields::{Placed, Typed},
    keys::{self, KeySpec, Kind, one_of},
    model::GROUP_PREFIX,
    problem::{Draft, Report},
    suggest::{nearest, shown},
    tree::{Node, Table, Value},
    values::{guess_duration, parse_duration, show_seconds},
};

/// Reports a value of the wrong type, unless it is broken and reported already.
pub(crate) fn wrong_type(name: &str, wanted: &str, node: &Node<'_>, report: &mut Report<'_>) {
    if !matches!(node.value, Value::Broken) {
        // A key is quoted, a description such as "an element of tags" is not.
        let name = if name.contains(' ') { shown(name) } else { format!("`{}`", shown(name)) };
        let message = format!("{name} must be {wanted}, not {}", node.value.type_name());
        report.push(Draft::error(Code::WRONG_TYPE, message, node.span.clone()));
    }
}

/// Checks a value against the kind of its key.
pub(crate) fn check<'s, 'a>(
    spec: &KeySpec,
    node: &'s Node<'a>,
    report: &mut Report<'_>,
) -> Option<Typed<'s, 'a>> {
    let name = spec.name;
    match (spec.kind, &node.value) {
        (_, Value::Broken) => None,
        (Kind::Text, Value::String(text)) => {
            clean(name, text, node, true, report).then_some(Typed::Text(text))
        }
        (Kind::Line, Value::String(text)) => {
            let is_good = filled(name, text, node, report) && clean(name, text, node, false, report);
            is_good.then_some(Typed::Text(text))
        }
        (Kind::Template, Value::String(text)) => {
            let is_good = filled(name, text, node, report) && clean(name, text, node, true, report);
            is_good.then_some(Typed::Text(text))
        }
        (Kind::Name, Value::String(text)) => named(name, text, node, report).then_some(Typed::Text(text)),
        (Kind::Zone, Value::String(text)) => Some(Typed::Text(text)),
        (Kind::Word(words), Value::String(text)) => word(name, text, &words(), node, report).map(Typed::Word),
        (Kind::Words(all), Value::Array { items, is_tables: false }) => {
            words_list(name, items, &all(), node, report).map(Typed::Words)
        }
        (Kind::Bool, Value::Boolean(value)) => Some(Typed::Bool(*value)),
        (Kind::Int(low, high), Value::Integer(value)) => {
            in_range(name, (low..=high).contains(value), spec, node, report).then_some(Typed::Int(*value))
        }
        (Kind::Float(low, high, closed), Value::Integer(_) | Value::Float(_)) => {
            let value = number(node)?;
            let is_inside = if closed { low <= value && value <= high } else { low < value && value < high };
            in_range(name, is_inside && value.is_finite(), spec, node, report).then_some(Typed::Float(value))
        }
        (Kind::Backoff, Value::Boolean(value)) => Some(Typed::Float(if *value { 2.0 } else { 1.0 })),
        (Kind::Backoff, Value::Integer(_) | Value::Float(_)) => {
            let value = number(node)?;
            in_range(name, (1.0..=100.0).contains(&value), spec, node, report).then_some(Typed::Float(value))
        }
        (Kind::Duration(low, high), Value::String(_) | Value::Integer(_)) => {
            duration(name, low, high, node, report).map(Typed::Duration)
        }
        (Kind::Lines, Value::Array { items, is_tables: false }) => {
            lines(name, items, report).map(Typed::Texts)
        }
        (Kind::Assets, Value::Array { items, is_tables: false }) => {
            assets(name, items, node, report).map(Typed::Texts)
        }
        (Kind::Group, Value::String(text)) => group(name, text, node, report).then_some(Typed::Text(text)),
        (Kind::Tasks, Value::String(_)) => names(name, std::slice::from_ref(node), report).map(Typed::Texts),
        (Kind::Tasks, Value::Array { items, is_tables: false }) => {
            names(name, items, report).map(Typed::Texts)
        }
        (Kind::ExitCodes, Value::Array { items, is_tables: false }) => {
            exit_codes(name, items, report).map(Typed::Codes)
        }
        (Kind::Env, Value::Table(table)) => env(table, report).map(Typed::Env),
        (Kind::Date, Value::String(_) | Value::Datetime(_))
        | (Kind::Table(_), Value::Table(_))
        | (Kind::Tables(_), Value::Table(_) | Value::Array { .. })
        | (Kind::Special(_), _) => Some(Typed::Node),
        (kind, _) => {
            wrong_type(name, &kind.describe(), node, report);
            None
        }
    }
}

fn number(node: &Node<'_>) -> Option<f64> {
    match node.value {
        Value::Float(value) => Some(value),
        // Exact up to 2^53, and every range ends far below.
        #[expect(clippy::cast_precision_loss, reason = "every range ends far below 2^53")]
        Value::Integer(value) => Some(value as f64),
        _ => None,
    }
}

pub(crate) fn filled(name: &str, text: &str, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    let is_filled = !text.trim().is_empty();
    if !is_filled {
        report.push(Draft::error(
            Code::EMPTY_VALUE,
            format!("`{name}` must not be empty"),
            node.span.clone(),
        ));
    }
    is_filled
}

/// Refuses NUL everywhere (no process and no database takes it), other control characters in single lines.
pub(crate) fn clean(
    name: &str,
    text: &str,
    node: &Node<'_>,
    is_multiline: bool,
    report: &mut Report<'_>,
) -> bool {
    let bad = text.chars().find(|c| *c == '\0' || (!is_multiline && c.is_control()));
    if let Some(c) = bad {
        let message = format!("`{}` must not contain the character {}", shown(name), c.escape_unicode());
        report.push(Draft::error(Code::CONTROL_CHARACTER, message, node.span.clone()));
    }
    bad.is_none()
}

pub(crate) fn named(name: &str, text: &str, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    match crate::ids::TaskId::new(text) {
        Ok(_) => true,
        Err(error) => {
            let code = if text.is_empty() { Code::EMPTY_VALUE } else { Code::BAD_NAME };
            report.push(Draft::error(code, format!("`{name}` {error}"), node.span.clone()));
            false
        }
    }
}

fn group(name: &str, text: &str, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    let is_good = named(name, text, node, report);
    if is_good && text.split('.').any(str::is_empty) {
        let message = format!("`{name}`: a name is missing before or after a dot");
        report.push(Draft::error(Code::BAD_NAME, message, node.span.clone()));
        return false;
    }
    is_good
}

fn word(
    name: &str,
    text: &str,
    words: &[&'static str],
    node: &Node<'_>,
    report: &mut Report<'_>,
) -> Option<&'static str> {
    let found = words.iter().find(|word| **word == text).copied();
    if found.is_some() {
        return found;
    }
    if name == "operator" {
        unknown_operator(text, node, report);
        return None;
    }
    let message = format!("`{name}` does not know `{}`", shown(text));
    let draft = Draft::error(Code::UNKNOWN_WORD, message, node.span.clone());
    let near = nearest(text, words.iter().copied());
    report.push(match near {
        Some(near) => draft.help(format!("did you mean `{near}`?")).suggest(Some(format!("\"{near}\""))),
        None => draft.help(format!("it is {}", one_of(words))),
    });
    None
}

fn unknown_operator(text: &str, node: &Node<'_>, report: &mut Report<'_>) {
    let at = node.span.clone();
    if keys::NOT_BUILT_OPERATORS.contains(&text) {
        report.push(
            Draft::error(Code::NOT_BUILT_OPERATOR, format!("the operator `{text}` is not built yet"), at)
                .help(format!("use {}", one_of(keys::OPERATORS))),
        );
        return;
    }
    let known = keys::OPERATORS.iter().chain(keys::NOT_BUILT_OPERATORS).copied();
    let alias = match text {
        "bash" | "shell" | "exec" | "sh" => Some("command"),
        "empty" | "dummy" => Some("noop"),
        _ => None,
    };
    let draft = Draft::error(Code::UNKNOWN_OPERATOR, format!("there is no operator `{}`", shown(text)), at);
    report.push(match nearest(text, known).or(alias) {
        Some(near) => draft.help(format!("did you mean `{near}`?")).suggest(Some(format!("\"{near}\""))),
        None => draft.help(format!("it is {}", one_of(keys::OPERATORS))),
    });
}

fn words_list(
    name: &str,
    items: &[Node<'_>],
    all: &[&'static str],
    node: &Node<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<(&'static str, Range<usize>)>> {
    if items.is_empty() {
        report.push(Draft::error(
            Code::EMPTY_VALUE,
            format!("`{name}` must not be empty"),
            node.span.clone(),
        ));
        return None;
    }
    let mut out: Vec<(&'static str, Range<usize>)> = Vec::new();
    let mut is_good = true;
    for item in items {
        let Value::String(text) = &item.value else {
            wrong_type(&format!("an element of {name}"), "a string", item, report);
            is_good = false;
            continue;
        };
        match word(name, text, all, item, report) {
            Some(found) => match out.iter().find(|(word, _)| *word == found) {
                Some((_, first)) => {
                    is_good = false;
                    twice(name, found, item, first.clone(), report);
                }
                None => out.push((found, item.span.clone())),
            },
            None => is_good = false,
        }
    }
    is_good.then_some(out)
}

fn twice(name: &str, text: &str, item: &Node<'_>, first: Range<usize>, report: &mut Report<'_>) {
    report.push(
        Draft::error(
            Code::DUPLICATE_ELEMENT,
            format!("`{name}` names `{}` twice", shown(text)),
            item.span.clone(),
        )
        .label("again here")
        .also(first, "first here"),
    );
}

fn in_range(name: &str, is_inside: bool, spec: &KeySpec, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    if !is_inside {
        let message = format!("`{name}` must be {}", spec.kind.describe());
        report.push(Draft::error(Code::NUMBER_RANGE, message, node.span.clone()));
    }
    is_inside
}

/// Reads a duration and checks its range in seconds.
fn duration(name: &str, low: u64, high: u64, node: &Node<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let value = match &node.value {
        Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Value::String(text) => {
            let Some(value) = parse_duration(text) else {
                let message = format!("`{}` is not a duration", shown(text));
                let guess = guess_duration(text);
                let help = match &guess {
                    Some(guess) => format!("did you mean `\"{guess}\"`?"),
                    None => "write whole numbers with units, the largest first: \"90s\", \"5m\", \"1h30m\", \"2d\"".to_owned(),
                };
                report.push(
                    Draft::error(Code::BAD_DURATION, message, node.span.clone())
                        .help(help)
                        .suggest(guess.map(|guess| format!("\"{guess}\""))),
                );
                return None;
            };
            Some(value)
        }
        _ => None,
    };
    let value = value.filter(|value| (low..=high).contains(&value.as_secs()));
    if value.is_none() {
        let message = format!("`{name}` must be from {} to {}", show_seconds(low), show_seconds(high));
        report.push(Draft::error(Code::DURATION_RANGE, message, node.span.clone()));
    }
    value
}

fn lines<'s>(name: &str, items: &'s [Node<'_>], report: &mut Report<'_>) -> Option<Vec<Placed<'s>>> {
    list(
        name,
        items,
        report,
        |text, item, report| filled(name, text, item, report) && clean(name, text, item, false, report),
        true,
    )
}

fn assets<'s>(
    name: &str,
    items: &'s [Node<'_>],
    node: &Node<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<Placed<'s>>> {
    if items.is_empty() {
        let message = format!("`{name}` must not be empty");
        report.push(
            Draft::error(Code::EMPTY_VALUE, message, node.span.clone()).help("leave the key out instead"),
        );
        return None;
    }
    let is_good = |text: &str, item: &Node<'_>, report: &mut Report<'_>| match AssetName::new(text) {
        Ok(_) => true,
        Err(error) => {
            let draft = Draft::error(
                Code::BAD_ASSET,
                format!("`{}` is not the name of an asset: it {error}", shown(text)),
                item.span.clone(),
            );
            report.push(match text.contains("{{") || text.contains("{%") {
                true => draft.help("the names of assets are not templates: they say what belongs together"),
                false => draft.help("write a name such as \"warehouse/features\" or \"s3://bucket/key\""),
            });
            false
        }
    };
    list(name, items, report, is_good, true)
}

fn names<'s>(name: &str, items: &'s [Node<'_>], report: &mut Report<'_>) -> Option<Vec<Placed<'s>>> {
    // The graph reports a dependency that is named twice, with its own code.
    let is_good = |text: &str, item: &Node<'_>, report: &mut Report<'_>| match text.strip_prefix(GROUP_PREFIX)
    {
        Some(of_group) => group(name, of_group, item, report),
        None => named(name, text, item, report),
    };
    list(name, items, report, is_good, name != "depends_on")
}

fn list<'s>(
    name: &str,
    items: &'s [Node<'_>],
    report: &mut Report<'_>,
    check: impl Fn(&str, &Node<'_>, &mut Report<'_>) -> bool,
    is_unique: bool,
) -> Option<Vec<Placed<'s>>> {
    let mut out: Vec<Placed<'s>> = Vec::with_capacity(items.len());
    let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    let mut is_good = true;
    for item in items {
        let Value::String(text) = &item.value else {
            wrong_type(&format!("an element of {name}"), "a string", item, report);
            is_good = false;
            continue;
        };
        if !check(text, item, report) {
            is_good = false;
            continue;
        }
        match seen.get(text.as_ref()) {
            Some(first) if is_unique => {
                is_good = false;
                twice(name, text, item, first.clone(), report);
            }
            _ => {
                seen.insert(text, item.span.clone());
                out.push((text, item.span.clone()));
            }
        }
    }
    // Half a list of ids is still worth checking against the graph.
    (is_good || name == "depends_on").then_some(out)
}

fn exit_codes(name: &str, items: &[Node<'_>], report: &mut Report<'_>) -> Option<Vec<i32>> {
    let mut out: Vec<(i32, Range<usize>)> = Vec::new();
    let mut is_good = true;
    for item in items {
        match item.value {
            Value::Integer(value) if (1..=255).contains(&value) => {
                let code = i32::try_from(value).unwrap_or_default();
                if let Some((_, first)) = out.iter().find(|(other, _)| *other == code) {
                    is_good = false;
                    twice(name, &code.to_string(), item, first.clone(), report);
                } else {
                    out.push((code, item.span.clone()));
                }
            }
            Value::Integer(_) => {
                is_good = false;
                let message = format!("an exit code in `{name}` must be from 1 to 255");
                report.push(Draft::error(Code::NUMBER_RANGE, message, item.span.clone()));
            }
            _ => {
                is_good = false;
                wrong_type(&format!("an element of {name}"), "an integer", item, report);
            }
        }
    }
    let mut codes: Vec<i32> = out.into_iter().map(|(code, _)| code).collect();
    codes.sort_unstable();
    is_good.then_some(codes)
}

/// What is in these variables is code to a shell that a task may start.
const SHELL_CODE: [&str; 6] = ["BASH_ENV", "BASHOPTS", "ENV", "PROMPT_COMMAND", "PS4", "SHELLOPTS"];

fn is_templated(node: &Node<'_>) -> bool {
    matches!(&node.value, Value::String(text) if text.contains("{{") || text.contains("{%"))
}

fn env<'s, 'a>(table: &'s Table<'a>, report: &mut Report<'_>) -> Option<Vec<(&'s str, &'s Node<'a>)>> {
    let mut out = Vec::new();
    let mut is_good = true;
    for entry in &table.entries {
        let name = entry.key.as_ref();
        let is_word = name
            .chars()
            .enumerate()
            .all(|(i, c)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit()));
        if name.is_empty() || !is_word {
            is_good = false;
            let message = format!("`{}` is not the name of an environment variable", shown(name));
            report.push(
                Draft::error(Code::BAD_ENV_NAME, message, entry.key_span.clone())
                    .help("use letters, digits and `_`, and do not begin with a digit"),
            );
        } else if name.starts_with("TIDEMILL_") {
            is_good = false;
            let message = format!("`{}` is set by the product itself", shown(name));
            report.push(
                Draft::error(Code::RESERVED_ENV_NAME, message, entry.key_span.clone())
                    .help("choose a name without `TIDEMILL_`"),
            );
        } else if SHELL_CODE.contains(&name) && is_templated(&entry.node) {
            is_good = false;
            let message =
                format!("a shell executes the value of `{}`, so it cannot be a template", shown(name));
            report.push(
                Draft::error(Code::RESERVED_ENV_NAME, message, entry.key_span.clone())
                    .help("pass the value in a variable of your own"),
            );
        }
        match &entry.node.value {
            Value::String(text) => {
                if clean(name, text, &entry.node, true, report) {
                    out.push((name, &entry.node));
                } else {
                    is_good = false;
                }
            }
            _ => {
                is_good = false;
                wrong_type(name, "a string", &entry.node, report);
            }
        }
    }
    is_good.then_some(out)
}
