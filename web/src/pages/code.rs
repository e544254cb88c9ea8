//! The source of a version, and how it differs from its neighbours.

use std::time::Duration;

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;
use similar::{ChangeTag, TextDiff};
use tidemill_store::{batch::VersionRow, reader::VersionInfo};

use super::{
    Chrome,
    dag::{DagHead, find},
    page,
};
use crate::{
    api::dags::VersionParam,
    error::{Problem, Result},
    extract::{DagPath, Ids, Params, version},
    render::{Markup, time},
    state::WebState,
};

struct VersionChoice {
    hash: String,
    label: String,
}

#[derive(Template)]
#[template(path = "dag_code.html")]
struct CodePage {
    c: Chrome,
    h: DagHead,
    path: String,
    hash: String,
    seen: Markup,
    versions: Vec<VersionChoice>,
    source: Markup,
    /// What this version changed, then what the next one did; both only where there is another one.
    changes: Vec<Change>,
}

/// How two versions differ.
struct Change {
    title: &'static str,
    other: String,
    href: String,
    lines: Markup,
}

/// The TOML source of a version.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(query): Params<VersionParam>,
) -> Result<Response> {
    let detail = find(&state, &ids.dag_id).await?;
    let hash = match &query.version {
        Some(text) => version(Some(text)).ok_or_else(|| Problem::not_found("such DAG version"))?,
        None => detail.dag.version.clone(),
    };
    let row = state.reader().version(&ids.dag_id, &hash).await?;
    let row = row.ok_or_else(|| Problem::not_found("such DAG version"))?;
    let versions = state.reader().versions(&ids.dag_id).await?;
    page(&CodePage {
        c,
        h: DagHead::load(&state, &detail, "code").await?,
        changes: changes(&state, &row, &versions).await?,
        path: row.path,
        hash: hash.to_string(),
        seen: time::relative(row.created_at, Utc::now()),
        versions: versions
            .iter()
            .take(50)
            .map(|v| VersionChoice { label: label(v), hash: v.hash.to_string() })
            .collect(),
        source: highlight(&row.source),
    })
}

fn label(version: &VersionInfo) -> String {
    let hash = version.hash.as_str();
    format!("{} ({})", time::exact(version.created_at), hash.get(..8).unwrap_or(hash))
}

/// The differences to the version before and to the one after, among `versions` from the newest to the oldest.
async fn changes(state: &WebState, row: &VersionRow, versions: &[VersionInfo]) -> Result<Vec<Change>> {
    let Some(at) = versions.iter().position(|v| v.hash == row.hash) else { return Ok(Vec::new()) };
    let before = versions.get(at + 1).map(|v| ("What this version changed", v, true));
    let after = at.checked_sub(1).and_then(|at| versions.get(at));
    let after = after.map(|v| ("What the next version changed", v, false));
    let mut changes = Vec::new();
    for (title, other, is_before) in before.into_iter().chain(after) {
        let Some(found) = state.reader().version(&row.dag_id, &other.hash).await? else { continue };
        let (old, new) = if is_before { (&found.source, &row.source) } else { (&row.source, &found.source) };
        changes.push(Change {
            title,
            other: label(other),
            href: format!("/dags/{}/code?version={}", row.dag_id, other.hash),
            lines: difference(old, new),
        });
    }
    Ok(changes)
}

/// Lines that went and came, with a few around them.
fn difference(old: &str, new: &str) -> Markup {
    const AROUND: usize = 3;
    let mut config = TextDiff::configure();
    // A file of a megabyte without a line in common must not hold up the page: what is found by then is shown.
    config.timeout(Duration::from_millis(200));
    let diff = config.diff_lines(old, new);
    let mut out = Markup::default();
    for (index, group) in diff.grouped_ops(AROUND).iter().enumerate() {
        if index > 0 {
            out.raw("<span class=\"l cm\"><span class=\"n\"></span>…</span>");
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (class, sign, number) = match change.tag() {
                ChangeTag::Delete => (" del", "−", change.old_index()),
                ChangeTag::Insert => (" ins", "+", change.new_index()),
                ChangeTag::Equal => ("", "\u{a0}", change.new_index()),
            };
            out.raw("<span class=\"l").raw(class).raw("\"><span class=\"n\">");
            out.text(&number.map(|n| (n + 1).to_string()).unwrap_or_default()).raw("</span>");
            out.raw("<span aria-hidden=\"true\">").raw(sign).raw(" </span>");
            out.raw(match change.tag() {
                ChangeTag::Delete => "<span class=\"sr\">removed: </span>",
                ChangeTag::Insert => "<span class=\"sr\">added: </span>",
                ChangeTag::Equal => "",
            });
            out.text(change.value().trim_end_matches(['\n', '\r'])).raw("</span>");
        }
    }
    out
}

/// Numbers lines and colours tables, keys and comments of TOML; anything odd stays plain.
fn highlight(source: &str) -> Markup {
    let mut out = Markup::with_capacity(source.len() * 2);
    for (index, line) in source.lines().enumerate() {
        out.raw("<span class=\"l\"><span class=\"n\">").text(&(index + 1).to_string()).raw("</span>");
        let trimmed = line.trim_start();
        if trimmed.starts_with('#') {
            out.raw("<span class=\"cm\">").text(line).raw("</span>");
        } else if trimmed.starts_with('[') {
            out.raw("<span class=\"tb\">").text(line).raw("</span>");
        } else if let Some((key, value)) = line.split_once('=').filter(|(key, _)| !key.contains(['"', '\'']))
        {
            out.raw("<span class=\"ky\">").text(key).raw("</span>=").text(value);
        } else {
            out.text(line);
        }
        out.raw("</span>");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_went_and_came_with_its_surroundings() {
        let old: String = (1..=20).map(|n| format!("line {n}\n")).collect();
        let new = old.replace("line 10\n", "line <ten>\nanother\n");
        let told = difference(&old, &new).to_string();
        assert_eq!((told.matches("\"l del\"").count(), told.matches("\"l ins\"").count()), (1, 2));
        assert!(
            told.contains("line &lt;ten&gt;") && told.contains("line 13<") && !told.contains("line 14"),
            "{told}"
        );
        assert_eq!(difference(&old, &old).as_str(), "");
    }
}
