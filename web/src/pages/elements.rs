//! A mapped task of a run: its elements, what each one is and how it is.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use chrono::Utc;
use tidemill_engine::{
    definition::{Dag, Task},
    ids::TaskInstanceKey,
    mapping::MapValues,
    rows::RunRow,
    state::TaskState,
};

use super::{
    Chrome,
    confirm::Offer,
    groups, page,
    run::task_href,
    task::{TaskParams, facts, offers, reasons},
};
use crate::{
    error::Result,
    render::{Markup, time},
    state::WebState,
    views::{TaskView, told},
};

/// How many elements a page shows: a thousand rows with links draw at once, ten thousand do not.
const PER_PAGE: usize = 500;
/// How much of an element's value is shown in a list, in characters.
const VALUE: usize = 80;

struct Line {
    href: String,
    index: i32,
    value: String,
    state: String,
    try_number: u32,
    started: Markup,
    took: Markup,
    reason: String,
}

/// How many elements are in a state, and where they are listed.
struct Count {
    state: String,
    count: usize,
    href: String,
    is_shown: bool,
}

#[derive(Template)]
#[template(path = "task_mapped.html")]
struct MappedPage {
    c: Chrome,
    dag_id: String,
    run_id: String,
    task_id: String,
    state: String,
    sentence: String,
    doc: Option<String>,
    actions: Vec<Offer>,
    reasons: Vec<(String, &'static str)>,
    facts: Vec<(&'static str, String)>,
    counts: Vec<Count>,
    all: String,
    is_filtered: bool,
    lines: Vec<Line>,
    shown: String,
    earlier: Option<String>,
    later: Option<String>,
}

/// The page of an expanded task as a whole.
pub(super) async fn show(
    state: &WebState,
    c: Chrome,
    (run, dag): (&RunRow, &Dag),
    key: &TaskInstanceKey,
    elements: Vec<TaskView>,
    params: &TaskParams,
) -> Result<Response> {
    let task = dag.tasks.iter().find(|task| task.id == key.task);
    let values = state.reader().map_values(run.key, &key.task).await?;
    let whole = TaskState::parse(&overall(&elements)).unwrap_or(TaskState::NoStatus);
    let href = task_href(run, key.task.as_str(), -1);
    let wanted = params.state.as_deref().filter(|state| TaskState::parse(state).is_some());
    let sentence = format!("{}.", told(elements.iter().map(|view| view.state.as_str())));
    let counts = counts(&elements, &href, wanted);
    let found: Vec<TaskView> =
        elements.into_iter().filter(|view| wanted.is_none_or(|state| view.state == state)).collect();
    let from = params.from.unwrap_or(0).min(found.len().saturating_sub(1)) / PER_PAGE * PER_PAGE;
    let until = found.len().min(from + PER_PAGE);
    let at = |from: usize| match wanted {
        Some(state) => format!("{href}?state={state}&from={from}"),
        None => format!("{href}?from={from}"),
    };
    page(&MappedPage {
        c,
        dag_id: run.dag_id.to_string(),
        run_id: run.run_id.to_string(),
        task_id: key.task.to_string(),
        state: whole.to_string(),
        sentence,
        doc: task.and_then(|task| task.doc.clone()),
        actions: offers(run, key),
        reasons: reasons(state, key, whole).await,
        facts: mapped_facts(task, values.as_deref()),
        counts,
        is_filtered: wanted.is_some(),
        earlier: (from > 0).then(|| at(from - PER_PAGE)),
        later: (until < found.len()).then(|| at(until)),
        shown: format!("{} to {} of {}", (from + 1).min(found.len()), until, found.len()),
        lines: found
            .into_iter()
            .skip(from)
            .take(PER_PAGE)
            .map(|view| line(run, view, values.as_deref()))
            .collect(),
        all: href,
    })
}

fn overall(elements: &[TaskView]) -> String {
    let states = elements.iter().filter_map(|view| TaskState::parse(&view.state));
    groups::worst(states).unwrap_or(TaskState::NoStatus).to_string()
}

fn counts(elements: &[TaskView], href: &str, wanted: Option<&str>) -> Vec<Count> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for view in elements {
        *counts.entry(view.state.as_str()).or_default() += 1;
    }
    let count = |(state, count): (&str, usize)| Count {
        state: state.to_owned(),
        count,
        href: format!("{href}?state={state}"),
        is_shown: wanted == Some(state),
    };
    counts.into_iter().map(count).collect()
}

fn mapped_facts(task: Option<&Task>, values: Option<&MapValues>) -> Vec<(&'static str, String)> {
    let mut found = facts(None, task);
    if let Some(MapValues::Product(lists)) = values {
        let named = lists.iter().map(|(name, items)| format!("{name} ({})", items.len()));
        found.push(("Mapped over", named.collect::<Vec<_>>().join(" × ")));
    }
    if let Some(limit) = task.and_then(|task| task.max_active_per_run) {
        found.push(("Running at most", limit.to_string()));
    }
    found
}

fn line(run: &RunRow, view: TaskView, values: Option<&MapValues>) -> Line {
    Line {
        href: task_href(run, &view.task_id, view.map_index),
        index: view.map_index,
        value: values.map(|values| value(values, view.map_index)).unwrap_or_default(),
        try_number: view.try_number,
        started: view.started_at.map_or_else(Markup::default, |at| time::relative(at, Utc::now())),
        took: if view.state == "running" || view.finished_at.is_some() {
            time::took(view.started_at, view.finished_at)
        } else {
            Markup::default()
        },
        reason: view.reason.unwrap_or_default(),
        state: view.state,
    }
}

/// Returns what element an instance is, as a fact; nothing when it is none.
pub(super) async fn element(
    state: &WebState,
    key: &TaskInstanceKey,
) -> Result<Option<(&'static str, String)>> {
    let Ok(index) = usize::try_from(key.map_index) else { return Ok(None) };
    let values = state.reader().map_values(key.run, &key.task).await?;
    let values = values.filter(|values| index < values.len());
    Ok(values.map(|values| ("Element", value(&values, key.map_index))))
}

/// Returns the value of an element for a line; nothing of one that its list does not have any more.
pub(super) fn value(values: &MapValues, map_index: i32) -> String {
    let value = usize::try_from(map_index).ok().and_then(|index| values.value(index));
    let text = match value {
        None => return String::new(),
        Some(serde_json::Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    if text.chars().count() <= VALUE {
        return text;
    }
    text.chars().take(VALUE - 1).chain(['…']).collect()
}
