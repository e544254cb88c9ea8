//! `setup`, `teardown` and `on_failure_fail_run`: what a task prepares or cleans up for others.

use super::{
    code::Code,
    fields::{Fields, Placed},
    kinds::{named, wrong_type},
    model::Role,
    problem::{Draft, Report},
    tree::{Node, Value},
};
use crate::ids::TaskId;

/// Reads the role of a task and the setups that it names. That they are setups is checked against the graph.
pub(crate) fn read<'s>(fields: &Fields<'s, '_>, report: &mut Report<'_>) -> (Role, Vec<Placed<'s>>) {
    let (is_teardown, setups) =
        fields.node("teardown").map_or((false, Vec::new()), |node| teardown(node, report));
    let is_setup = fields.bool("setup");
    let is_told_to_fail = fields.field("on_failure_fail_run");
    if let (Some(field), false) = (is_told_to_fail, is_teardown) {
        report.push(
            Draft::warning(
                Code::NO_EFFECT,
                "`on_failure_fail_run` has no effect on a task that is no teardown",
                field.key_span.clone(),
            )
            .help("any other task fails its run anyway"),
        );
    }
    if !is_teardown {
        return (if is_setup { Role::Setup } else { Role::Work }, Vec::new());
    }
    if let (true, Some(field)) = (is_setup, fields.field("setup")) {
        report.push(
            Draft::error(
                Code::SETUP_TEARDOWN,
                "a task cannot prepare and clean up at once",
                field.key_span.clone(),
            )
            .help("make two tasks of it"),
        );
    }
    if let Some(field) = fields.field("trigger_rule") {
        report.push(
            Draft::error(
                Code::SETUP_TEARDOWN,
                "a teardown has a rule of its own: its upstreams have ended and a setup of it succeeded",
                field.key_span.clone(),
            )
            .help("leave `trigger_rule` out"),
        );
    }
    let ids = setups.iter().filter_map(|(text, _)| TaskId::new(text).ok()).collect();
    (Role::Teardown { setups: ids, fails_run: fields.bool("on_failure_fail_run") }, setups)
}

/// Returns whether it is a teardown, and of which setups.
fn teardown<'s>(node: &'s Node<'_>, report: &mut Report<'_>) -> (bool, Vec<Placed<'s>>) {
    let mut placed = |node: &'s Node<'_>| match &node.value {
        Value::String(text) if named("teardown", text, node, report) => {
            Some((text.as_ref(), node.span.clone()))
        }
        Value::String(_) => None,
        _ => {
            wrong_type("teardown", "an id, a list of ids, or `true`", node, report);
            None
        }
    };
    match &node.value {
        Value::Boolean(value) => (*value, Vec::new()),
        Value::Array { items, is_tables: false } if items.is_empty() => {
            report.push(
                Draft::error(Code::EMPTY_VALUE, "`teardown` must not be empty", node.span.clone())
                    .help("write `true` where it cleans up after no setup of its own"),
            );
            (true, Vec::new())
        }
        Value::Array { items, is_tables: false } => (true, items.iter().filter_map(placed).collect()),
        _ => (true, placed(node).into_iter().collect()),
    }
}
