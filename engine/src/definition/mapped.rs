//! `map`: what a task is mapped over.

use std::ops::Range;

use super::{
    code::Code,
    fields::Fields,
    kinds::{clean, filled, wrong_type},
    map_spec::{MapSource, MapSpec},
    params,
    problem::{Draft, Report},
    suggest::shown,
    tree::{Node, Value},
};
use crate::template;

/// What the value of `map` may be.
pub(crate) const WANTED: &str = "a list, a template, or a table of them";

/// Operators whose verdict is about what is directly below them: with one verdict for each element there is no one who
/// says which counts (decision 0021).
const UNMAPPABLE: &[&str] = &["branch", "short_circuit", "latest_only", "drift"];

/// Reads what a task is mapped over.
pub(crate) fn read(
    word: Option<&str>,
    own: &Fields<'_, '_>,
    limit: Option<u32>,
    report: &mut Report<'_>,
) -> Option<MapSpec> {
    let Some(field) = own.field("map") else {
        without(own, report);
        return None;
    };
    if let Some(word) = word.filter(|word| UNMAPPABLE.contains(word)) {
        report.push(
            Draft::error(
                Code::NOT_MAPPABLE,
                format!("a `{word}` decides about the tasks below it, so it cannot be mapped"),
                field.key_span.clone(),
            )
            .help("map a `command` that writes what it finds to `$TIDEMILL_OUTPUT`, and let one branch below it decide"),
        );
        return None;
    }
    let spec = spec(field.node, report)?;
    check_length(&spec, limit, field.node.span.clone(), report);
    Some(spec)
}

/// Says that keys of mapped tasks do nothing for others.
fn without(own: &Fields<'_, '_>, report: &mut Report<'_>) {
    for name in ["max_active_per_run", "max_map_length"] {
        if let Some(field) = own.field(name) {
            report.push(
                Draft::warning(
                    Code::NO_EFFECT,
                    format!("`{name}` has no effect on a task without `map`"),
                    field.key_span.clone(),
                )
                .help("such a task has one instance in a run"),
            );
        }
    }
}

fn spec(node: &Node<'_>, report: &mut Report<'_>) -> Option<MapSpec> {
    let Value::Table(table) = &node.value else { return source("map", node, report).map(MapSpec::One) };
    if table.entries.is_empty() {
        report.push(
            Draft::error(Code::EMPTY_VALUE, "`map` must not be empty", node.span.clone())
                .help("name one list at least: `{ size = [\"small\", \"large\"] }`"),
        );
        return None;
    }
    let sources: Vec<Option<(String, MapSource)>> = table
        .entries
        .iter()
        .map(|entry| {
            let name = format!("map.{}", shown(&entry.key));
            Some((entry.key.to_string(), source(&name, &entry.node, report)?))
        })
        .collect();
    sources.into_iter().collect::<Option<_>>().map(MapSpec::Product)
}

fn source(name: &str, node: &Node<'_>, report: &mut Report<'_>) -> Option<MapSource> {
    match &node.value {
        Value::Array { items, .. } => {
            let mut is_good = true;
            for item in items {
                is_good &= is_sound(name, item, report);
            }
            is_good.then(|| MapSource::List(items.iter().map(params::json).collect()))
        }
        Value::String(text) => {
            let is_good = filled(name, text, node, report) && clean(name, text, node, true, report);
            if is_good && !template::is_dynamic(text) {
                report.push(
                    Draft::error(
                        Code::MAP_OF_TEXT,
                        format!("`{name}` is a text and never a list"),
                        node.span.clone(),
                    )
                    .help("write a list, or a template that gives one: `\"{{ outputs.find.files }}\"`"),
                );
                return None;
            }
            is_good.then(|| MapSource::Template(text.to_string()))
        }
        Value::Broken => None,
        _ => {
            let wanted = if name == "map" { WANTED } else { "a list or a template" };
            wrong_type(name, wanted, node, report);
            None
        }
    }
}

/// Refuses what no template and no process can be given, wherever it stands in a value.
fn is_sound(name: &str, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    match &node.value {
        Value::Broken => false,
        Value::String(text) => clean(name, text, node, true, report),
        // Every element is looked at, so that all mistakes come at once.
        Value::Array { items, .. } => items.iter().filter(|item| !is_sound(name, item, report)).count() == 0,
        Value::Table(table) => {
            table.entries.iter().filter(|entry| !is_sound(name, &entry.node, report)).count() == 0
        }
        _ => true,
    }
}

/// Checks what is known of the length before anything runs.
fn check_length(spec: &MapSpec, limit: Option<u32>, at: Range<usize>, report: &mut Report<'_>) {
    let lengths: Vec<Option<usize>> = match spec {
        MapSpec::One(source) => vec![length(source)],
        MapSpec::Product(sources) => sources.iter().map(|(_, source)| length(source)).collect(),
    };
    if lengths.contains(&Some(0)) {
        report.push(
            Draft::warning(Code::EMPTY_MAP, "the map is empty, so the task is always skipped", at)
                .help("add an element, or leave the task out"),
        );
        return;
    }
    // A list that is not known has one element at least, or the task is skipped.
    let least = lengths.into_iter().map(|length| length.unwrap_or(1)).fold(1, usize::saturating_mul);
    if let Some(limit) = limit.filter(|limit| least > *limit as usize) {
        report.push(
            Draft::error(
                Code::MAP_TOO_LONG,
                format!("the map has {least} elements, more than max_map_length = {limit}"),
                at,
            )
            .help("raise `max_map_length`, or let each element do more"),
        );
    }
}

fn length(source: &MapSource) -> Option<usize> {
    match source {
        MapSource::List(items) => Some(items.len()),
        MapSource::Template(_) => None,
    }
}

/// Visits the texts of a `map` that are templates.
pub(crate) fn texts<'s, 'a>(node: &'s Node<'a>, visit: &mut dyn FnMut(&'s Node<'a>)) {
    match &node.value {
        Value::String(_) => visit(node),
        Value::Array { items, .. } => items.iter().for_each(|item| texts(item, visit)),
        Value::Table(table) => table.entries.iter().for_each(|entry| texts(&entry.node, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;
    use crate::definition::load;

    fn map_of(text: &str) -> Option<MapSpec> {
        let source = format!("[dag]\nid = \"x\"\n[[task]]\nid = \"a\"\ncommand = \"true\"\nmap = {text}\n");
        load(source.as_bytes(), "x.toml").dag.and_then(|dag| dag.tasks[0].map.clone())
    }

    #[test]
    fn a_map_is_a_list_a_template_or_a_table_of_them() {
        let list = MapSource::List(vec![Json::from(1), Json::from("b")]);
        assert_eq!(map_of("[1, \"b\"]"), Some(MapSpec::One(list.clone())));
        let template = MapSource::Template("{{ params }}".to_owned());
        assert_eq!(map_of("\"{{ params }}\""), Some(MapSpec::One(template.clone())));
        let product = MapSpec::Product(vec![("z".to_owned(), list), ("a".to_owned(), template)]);
        assert_eq!(
            map_of("{ z = [1, \"b\"], a = \"{{ params }}\" }"),
            Some(product),
            "in the order of the file"
        );
        assert_eq!(map_of("3"), None);
    }
}
