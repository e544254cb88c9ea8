//! What exists?

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tidemill_engine::ids::DagId;
use tidemill_store::{
    batch::ImportError,
    reader::{DagSummary, RunBar},
};

use super::{Chrome, page};
use crate::{
    api::dags::{DagListParams, next_of},
    error::Result,
    extract::Params,
    render::{Markup, chart, time},
    state::WebState,
    zone,
};

struct SnippetLine {
    number: u64,
    text: String,
    is_hit: bool,
    under: String,
}

struct ShownProblem {
    severity: String,
    code: String,
    message: String,
    help: Option<String>,
    place: Option<String>,
    snippet: Vec<SnippetLine>,
}

struct FileError {
    path: String,
    dag_id: Option<String>,
    problems: Vec<ShownProblem>,
}

struct Row {
    dag_id: String,
    description: String,
    is_paused: bool,
    is_missing: bool,
    tags: Vec<String>,
    strip: Markup,
    last_state: Option<&'static str>,
    schedule: String,
    next: Option<Markup>,
    owner: String,
}

#[derive(Template)]
#[template(path = "dags.html")]
struct DagsPage {
    c: Chrome,
    errors: Vec<FileError>,
    q: String,
    state: String,
    tag: String,
    states: [&'static str; 7],
    tags: Vec<String>,
    rows: Vec<Row>,
    is_filtered: bool,
    next_page: Option<String>,
}

/// The list of DAGs.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Params(params): Params<DagListParams>,
) -> Result<Response> {
    let now = Utc::now();
    let found = state.reader().dags(&params.query(100, 14)?).await?;
    let (q, word, tag) = (
        params.q.clone().unwrap_or_default(),
        params.state.clone().unwrap_or_default(),
        params.tag.clone().unwrap_or_default(),
    );
    let errors = state.reader().import_errors().await?;
    let next_page = found.next_cursor.as_ref().map(|cursor| {
        let pairs = [("q", q.as_str()), ("state", &word), ("tag", &tag), ("cursor", cursor)];
        format!("/dags?{}", query_string(&pairs))
    });
    page(&DagsPage {
        is_filtered: !(q.is_empty() && word.is_empty() && tag.is_empty()),
        c,
        errors: errors.iter().map(|error| file_error(&state, error)).collect(),
        q,
        state: word,
        tag,
        states: ["active", "paused", "auto_paused", "missing", "running", "success", "failed"],
        tags: state.reader().tags().await?,
        rows: found.items.into_iter().map(|summary| row(&state, summary, now)).collect(),
        next_page,
    })
}

/// Builds a query string; values are percent-encoded.
pub(crate) fn query_string(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

pub(crate) fn bars(dag_id: &DagId, runs: &[RunBar]) -> Vec<chart::Bar> {
    runs.iter()
        .rev()
        .map(|run| {
            let end = run.finished_at.unwrap_or_else(Utc::now);
            let took = run.started_at.map(|start| (end - start).num_milliseconds());
            chart::Bar {
                href: format!("/dags/{dag_id}/runs/{}", run.run_id),
                state: run.state.as_str(),
                seconds: took.map(|ms| f64::from(u32::try_from(ms.max(0)).unwrap_or(u32::MAX)) / 1000.0),
                title: format!(
                    "{}: {}{}",
                    run.run_id,
                    run.state,
                    took.map(|ms| format!(", {}", time::duration(ms))).unwrap_or_default()
                ),
            }
        })
        .collect()
}

fn row(state: &WebState, summary: DagSummary, now: DateTime<Utc>) -> Row {
    let zone = zone::shown_of(state, &summary.dag.dag_id);
    let next = next_of(state, &summary).map(|at| time::relative_in(at, now, zone));
    let schedule = super::dag::schedule_words(state, &summary.dag.dag_id, &summary.schedule);
    Row {
        strip: chart::strip(&bars(&summary.dag.dag_id, &summary.last_runs), 14),
        last_state: summary.last_runs.first().map(|run| run.state.as_str()),
        dag_id: summary.dag.dag_id.to_string(),
        description: summary.description.unwrap_or_default(),
        is_paused: summary.dag.is_paused,
        is_missing: summary.dag.is_missing,
        tags: summary.tags,
        schedule,
        next,
        owner: summary.owner.unwrap_or_default(),
    }
}

fn file_error(state: &WebState, error: &ImportError) -> FileError {
    let list = error.problems.as_array().or_else(|| error.problems.get("problems").and_then(Value::as_array));
    FileError {
        path: error.path.clone(),
        // A file that never loaded has no last good version.
        dag_id: error.dag_id.as_ref().filter(|id| state.handle().dag(id).is_some()).map(ToString::to_string),
        problems: list.into_iter().flatten().take(20).map(|p| shown_problem(p, &error.source)).collect(),
    }
}

fn shown_problem(problem: &Value, source: &str) -> ShownProblem {
    let text = |key: &str| problem.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let span = problem.get("spans").and_then(|s| s.get(0));
    let number = |key: &str| span.and_then(|s| s.get(key)).and_then(Value::as_u64);
    let place = number("line").zip(number("col"));
    let help = problem.get("help").and_then(Value::as_str).map(ToOwned::to_owned);
    let suggestion =
        problem.get("suggestion").and_then(Value::as_str).map(|s| format!("did you mean {s:?}?"));
    ShownProblem {
        severity: text("severity"),
        code: text("code"),
        message: text("message"),
        help: help.or(suggestion),
        place: place.map(|(line, col)| format!("{line}:{col}")),
        snippet: place.map_or_else(Vec::new, |(line, col)| {
            let end = if number("end_line") == Some(line) { number("end_col") } else { None };
            snippet(source, line, col, end)
        }),
    }
}

/// The line with its neighbours; carets below the place. Columns count characters from 1.
fn snippet(source: &str, line: u64, col: u64, end: Option<u64>) -> Vec<SnippetLine> {
    let from = line.saturating_sub(3).max(1);
    source
        .lines()
        .enumerate()
        .map(|(index, text)| (u64::try_from(index).unwrap_or(0) + 1, text))
        .filter(|(number, _)| (from..=line + 2).contains(number))
        .map(|(number, text)| {
            let pad = usize::try_from(col.saturating_sub(1)).unwrap_or(0).min(160);
            let width =
                end.map_or(1, |end| usize::try_from(end.saturating_sub(col) + 1).unwrap_or(1)).clamp(1, 80);
            SnippetLine {
                number,
                text: text.chars().take(160).filter(|c| !c.is_control() || *c == '\t').collect(),
                is_hit: number == line,
                under: format!("{}{}", " ".repeat(pad), "^".repeat(width)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_points_at_the_place() {
        let lines = snippet("a\nb\nkey = 1\nd\ne\nf", 3, 1, Some(3));
        assert_eq!(lines.len(), 5);
        let hit = lines.iter().find(|l| l.is_hit).unwrap();
        assert_eq!((hit.number, hit.text.as_str(), hit.under.as_str()), (3, "key = 1", "^^^"));
        assert!(snippet("a", 900, 900, None).is_empty());
    }

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(query_string(&[("q", "a b&c=d"), ("x", "")]), "q=a%20b%26c%3Dd");
    }
}
