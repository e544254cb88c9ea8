//! The operator `http` and the sensor `http_sensor`: reads their keys.

use std::{collections::BTreeMap, ops::Range};

use serde_json::{Map, Value as Json};

use super::{
    code::Code,
    fields::Fields,
    http::{HttpMethod, HttpSpec},
    kinds::{clean, wrong_type},
    model::Operator,
    params::json,
    problem::{Draft, Report},
    suggest::shown,
    tree::{Node, Value},
};
use crate::ids::ConnectionId;

/// Reads the keys of an `http` task.
pub(crate) fn operator(fields: &Fields<'_, '_>, name: &str, report: &mut Report<'_>) -> Option<Operator> {
    let spec = read(fields, name, report)?;
    Some(Operator::Http { spec: Box::new(spec), response_file: fields.string("response_file") })
}

/// Reads the keys of a request.
pub(crate) fn read(fields: &Fields<'_, '_>, name: &str, report: &mut Report<'_>) -> Option<HttpSpec> {
    let connection = fields.text("connection").and_then(|id| ConnectionId::new(id).ok());
    let url = fields.string("url").unwrap_or_default();
    match fields.field("url") {
        None if fields.field("connection").is_none() => {
            if !fields.is_misspelt("url") && !fields.is_misspelt("connection") {
                let message = format!("{name} has neither `url` nor `connection`");
                let draft = Draft::error(Code::HTTP_TARGET, message, fields.at.clone()).absence();
                report.push(draft.help("add `url = \"https://api.example.org/report\"`"));
            }
            return None;
        }
        Some(field) if fields.field("connection").is_none() => {
            check_url(&url, field.node.span.clone(), report);
        }
        _ => {}
    }
    let (headers, query) = (headers(fields, report), query(fields, report));
    let expected_status = statuses(fields.node("expected_status"), report);
    Some(HttpSpec {
        method: fields.word("method").and_then(HttpMethod::parse)?,
        url,
        connection,
        headers: headers?,
        query: query?,
        body: fields.node("body").map(json),
        expected_status: expected_status?,
        request_timeout: fields.duration("request_timeout")?,
        follow_redirects: fields.bool("follow_redirects"),
    })
}

/// Checks a whole URL as far as it is known before rendering.
fn check_url(url: &str, at: Range<usize>, report: &mut Report<'_>) {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let is_open = url.trim_start().starts_with("{{");
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let is_whole = matches!(scheme.as_deref(), Some("http" | "https"))
        && !rest.is_empty()
        && !rest.starts_with(['/', '?', '#']);
    if !is_open && !is_whole {
        let message = "without a `connection` the URL is whole and begins with `https://` or `http://`";
        report.push(
            Draft::error(Code::HTTP_TARGET, message, at)
                .help("write it whole, such as `https://api.example.org/report`"),
        );
    }
}

fn headers(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<BTreeMap<String, String>> {
    let Some(node) = fields.node("headers") else { return Some(BTreeMap::new()) };
    let Value::Table(table) = &node.value else {
        wrong_type("headers", "a table of strings", node, report);
        return None;
    };
    let mut found = BTreeMap::new();
    let mut is_good = true;
    for entry in &table.entries {
        let name = entry.key.as_ref();
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            is_good = false;
            let message = format!("`{}` is not the name of a header", shown(name));
            report.push(
                Draft::error(Code::BAD_HEADER, message, entry.key_span.clone())
                    .help("letters, digits and `-`, such as `X-Request-Id`"),
            );
        } else if ["host", "content-length", "transfer-encoding", "connection"]
            .contains(&name.to_ascii_lowercase().as_str())
        {
            is_good = false;
            let message = format!("`{name}` is set from the URL and the body");
            report.push(Draft::error(Code::BAD_HEADER, message, entry.key_span.clone()).help("leave it out"));
        }
        match &entry.node.value {
            Value::String(text) if clean(name, text, &entry.node, false, report) => {
                found.insert(name.to_owned(), text.to_string());
            }
            Value::String(_) => is_good = false,
            _ => {
                is_good = false;
                wrong_type(name, "a string", &entry.node, report);
            }
        }
    }
    is_good.then_some(found)
}

fn query(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Map<String, Json>> {
    let Some(node) = fields.node("query") else { return Some(Map::new()) };
    let is_plain = |value: &Json| !matches!(value, Json::Array(_) | Json::Object(_));
    match json(node) {
        Json::Object(map)
            if map.values().all(|value| match value {
                Json::Array(items) => items.iter().all(is_plain),
                other => is_plain(other),
            }) =>
        {
            Some(map)
        }
        _ => {
            wrong_type("query", "a table of texts, numbers and lists of them", node, report);
            None
        }
    }
}

/// Reads `200`, `"200-299"` or a list of both.
fn statuses(node: Option<&Node<'_>>, report: &mut Report<'_>) -> Option<Vec<(u16, u16)>> {
    let Some(node) = node else { return Some(vec![(200, 299)]) };
    let items = match &node.value {
        Value::Array { items, is_tables: false } if !items.is_empty() => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut found: Vec<Option<(u16, u16)>> = Vec::with_capacity(items.len());
    for item in items {
        let range = match &item.value {
            Value::Integer(status) => u16::try_from(*status).ok().map(|status| (status, status)),
            Value::String(text) => text
                .split_once('-')
                .and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?))),
            _ => None,
        };
        let range = range.filter(|(low, high)| 100 <= *low && low <= high && *high <= 599);
        if range.is_none() {
            let message = "this is neither a status nor a range of them";
            report.push(
                Draft::error(Code::BAD_STATUS, message, item.span.clone())
                    .help("write 204, \"200-299\", or a list of such"),
            );
        }
        found.push(range);
    }
    found.into_iter().collect()
}
