//! Webhooks: `on_success`, `on_failure` and the operator `notify`.

use std::ops::Range;

use super::{
    code::Code,
    fields::{Fields, Mode},
    keys::TableId,
    kinds::wrong_type,
    model::Notification,
    problem::{Draft, Report},
    tree::{Node, Table, Value},
};

/// How an address is written.
const EXAMPLE: &str = "write it whole, such as `https://hooks.example.org/ml`";

/// Reads `on_success` or `on_failure`: a table or a list of tables.
pub(crate) fn read(fields: &Fields<'_, '_>, name: &str, report: &mut Report<'_>) -> Vec<Notification> {
    let Some(node) = fields.node(name) else { return Vec::new() };
    match &node.value {
        Value::Table(table) => one(table, node.span.clone(), report).into_iter().collect(),
        Value::Array { items, .. } => items.iter().filter_map(|item| element(name, item, report)).collect(),
        _ => Vec::new(),
    }
}

fn element(name: &str, item: &Node<'_>, report: &mut Report<'_>) -> Option<Notification> {
    if let Value::Table(table) = &item.value {
        return one(table, item.span.clone(), report);
    }
    wrong_type(&format!("an element of {name}"), "a table", item, report);
    None
}

fn one(table: &Table<'_>, at: Range<usize>, report: &mut Report<'_>) -> Option<Notification> {
    let fields = Fields::read(table, at, &[TableId::Notification], Mode::Strict, report);
    notification(&fields, "the notification", false, report)
}

/// Reads the keys `webhook` and `message`. `is_template`: the address is rendered before it is called.
pub(crate) fn notification(
    fields: &Fields<'_, '_>,
    what: &str,
    is_template: bool,
    report: &mut Report<'_>,
) -> Option<Notification> {
    if !fields.require("webhook", what, report) {
        return None;
    }
    let webhook = fields.text("webhook")?;
    if let Some(field) = fields.field("webhook") {
        check_address(webhook, is_template, field.node.span.clone(), report);
    }
    Some(Notification { webhook: webhook.to_owned(), message: fields.string("message") })
}

/// Checks the address of a webhook as far as it is known before rendering.
fn check_address(address: &str, may_be_template: bool, at: Range<usize>, report: &mut Report<'_>) {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        if !(may_be_template && address.starts_with("{{")) {
            let message = "the address of a webhook begins with `https://` or `http://`";
            report.push(Draft::error(Code::BAD_WEBHOOK, message, at).help(EXAMPLE));
        }
        return;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let name = host.strip_prefix('[').map_or_else(
        || host.split(':').next().unwrap_or_default(),
        |v6| v6.split(']').next().unwrap_or_default(),
    );
    let port = host.strip_prefix('[').map_or_else(
        || host.split_once(':').map(|(_, port)| port),
        |v6| v6.split_once("]:").map(|(_, port)| port),
    );
    let is_template = may_be_template && address.contains("{{");
    let has_blank = !is_template && address.contains(char::is_whitespace);
    let has_bad_port = !is_template && port.is_some_and(|port| port.parse::<u16>().is_err());
    if name.is_empty() || has_blank || has_bad_port {
        report.push(
            Draft::error(Code::BAD_WEBHOOK, "this is not an address that can be called", at).help(EXAMPLE),
        );
    } else if authority.contains('@') {
        report.push(
            Draft::warning(Code::WEBHOOK_SECRET, "a user name or password stands in the address", at)
                .help("everybody who may read the DAG can read it"),
        );
    }
}
