//! What went wrong in this run?

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;
use serde::Deserialize;
use tidemill_engine::{
    definition::Dag,
    ids::{AttemptKey, TaskId},
    rows::{RunRow, TaskRow},
    state::{RunState, RunType, TaskState},
};
use tidemill_protocol::worker::Report;
use tidemill_store::reader::{PageRequest, RunQuery};

use super::{Chrome, assets::EventLine, confirm::Offer, dags::query_string, graph, json_lines, page, task};
use crate::{
    api::instances,
    error::Result,
    extract::{self, Ids, Params, RunPath},
    render::{Markup, ansi, scale, time},
    state::WebState,
    views::{TaskView, task_views},
};

/// How many lines of the first failure are shown.
const FAILURE_LINES: usize = 40;
/// How many task instances are listed at a time.
const LISTED: usize = 300;
/// How many pieces of evidence are shown.
const EVIDENCE: u32 = 50;
/// How many of the events that caused a run are shown.
const CAUSES: u32 = 50;

struct Failure {
    state: &'static str,
    task_id: String,
    reason: String,
    href: String,
    log: Markup,
}

/// What a task found out in this run.
struct Evidence {
    href: String,
    label: String,
    word: &'static str,
    text: String,
}

/// A state with how many task instances are in it, as a filter.
struct Chip {
    state: String,
    count: usize,
    href: String,
    is_chosen: bool,
}

/// `?state=&skip=`: which task instances are listed.
#[derive(Default, Deserialize)]
pub(crate) struct RunParams {
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    skip: Option<usize>,
}

struct TaskLine {
    href: String,
    label: String,
    state: String,
    operator: String,
    try_number: u32,
    started: Markup,
    took: Markup,
    worker: String,
    reason: String,
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    c: Chrome,
    dag_id: String,
    run_id: String,
    state: &'static str,
    with_failures: bool,
    is_late: bool,
    sentence: String,
    actions: Vec<Offer>,
    /// Why it has not ended.
    reasons: Vec<(String, &'static str)>,
    facts: Vec<(&'static str, Markup)>,
    failure: Option<Failure>,
    graph: Markup,
    summary: String,
    evidence: Vec<Evidence>,
    chips: Vec<Chip>,
    tasks: Vec<TaskLine>,
    /// Where the list goes on.
    more: Option<String>,
    conf: Vec<String>,
    /// The events that caused it.
    causes: Vec<EventLine>,
    /// There are more of them.
    has_more_causes: bool,
}

/// The page of a run.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<RunPath>,
    Params(params): Params<RunParams>,
) -> Result<Response> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let dag = extract::definition(&state, &run).await?;
    let rows = state.reader().tasks(run.key).await?;
    let lengths = state.reader().map_lengths(run.key).await?;
    let usual = usual(&state, &run).await?;
    let failed = first_failure(&rows);
    let (chips, list, more) = listed(&dag, &rows, &lengths, &params);
    let failure = match failed {
        Some(row) => Some(failure(&state, &run, row).await?),
        None => None,
    };
    let causes = match run.run_type {
        RunType::Asset => state.reader().run_asset_events(run.key, CAUSES + 1).await?,
        _ => Vec::new(),
    };
    page(&RunPage {
        c,
        has_more_causes: causes.len() > CAUSES as usize,
        causes: causes.iter().take(CAUSES as usize).map(EventLine::of).collect(),
        dag_id: run.dag_id.to_string(),
        run_id: run.run_id.to_string(),
        state: run.state.as_str(),
        with_failures: run.with_failures,
        is_late: run.deadline_missed_at.is_some(),
        sentence: sentence(&run, failed, usual),
        actions: offers(&run, &rows),
        reasons: reasons(&state, &run).await,
        facts: facts(&run, usual, parent(&state, &run).await?),
        failure,
        graph: graph::of_run(&state, &dag, &run, &rows).await?,
        summary: summary(&dag, &rows, &lengths),
        conf: if run.conf.is_empty() {
            Vec::new()
        } else {
            json_lines(&serde_json::Value::Object(run.conf.as_ref().clone()))
        },
        evidence: evidence(&state, &run).await?,
        chips,
        tasks: {
            let views = instances::explained(&state, &run, list).await;
            views.into_iter().map(|view| task_line(&run, view)).collect()
        },
        more,
    })
}

/// The task instances that are listed, with what else can be chosen and where the list goes on.
fn listed(
    dag: &Dag,
    rows: &[TaskRow],
    lengths: &BTreeMap<TaskId, u32>,
    params: &RunParams,
) -> (Vec<Chip>, Vec<TaskView>, Option<String>) {
    let all = task_views(dag, rows.to_vec(), lengths);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for view in &all {
        *counts.entry(view.state.clone()).or_default() += 1;
    }
    let chosen = params.state.as_deref().filter(|word| !word.is_empty());
    let chips = counts
        .into_iter()
        .map(|(state, count)| {
            let is_chosen = chosen == Some(state.as_str());
            // Pressed once more a filter is gone.
            let query = if is_chosen { String::new() } else { query_string(&[("state", &state)]) };
            Chip { href: format!("?{query}#tasks"), state, count, is_chosen }
        })
        .collect();
    let skip = params.skip.unwrap_or(0);
    // Whoever looks for a state looks for the elements that are in it.
    let all = if chosen.is_some() { all } else { lines(all) };
    let mut list = all.into_iter().filter(|view| chosen.is_none_or(|word| view.state == word)).skip(skip);
    let shown: Vec<TaskView> = list.by_ref().take(LISTED).collect();
    let more = list.next().map(|_| {
        let skip = (skip + LISTED).to_string();
        format!("?{}#tasks", query_string(&[("state", chosen.unwrap_or_default()), ("skip", &skip)]))
    });
    (chips, shown, more)
}

/// What the tasks of a run found out: drift reports and verdicts of branches.
async fn evidence(state: &WebState, run: &RunRow) -> Result<Vec<Evidence>> {
    let found = state.reader().run_reports(run.key, EVIDENCE).await?;
    let told = found.into_iter().map(|stored| {
        let key = stored.attempt.instance;
        let (word, text) = match stored.report {
            Report::Drift(report) => {
                let drifted = report.features.iter().filter(|feature| feature.drifted).count();
                let branch = report.decision.map(|decision| decision.branch.join(", ")).unwrap_or_default();
                let text =
                    format!("{drifted} of {} features drifted; branch {branch}", report.features.len());
                (if report.drifted { "drifted" } else { "stable" }, text)
            }
            Report::Branch { chosen, because } => {
                let chosen = if chosen.is_empty() { "nothing".to_owned() } else { chosen.join(", ") };
                ("branch", format!("chose {chosen}: {because}"))
            }
        };
        let href = task_href(run, key.task.as_str(), key.map_index);
        Evidence { href, label: task::label(&key), word, text }
    });
    Ok(told.collect())
}

/// Why it has not ended. A server that does not lead cannot know; the page is still worth showing.
async fn reasons(state: &WebState, run: &RunRow) -> Vec<(String, &'static str)> {
    if run.state.is_terminal() {
        return Vec::new();
    }
    match state.handle().explain_run(run.key).await {
        Ok(reasons) => reasons.iter().map(|found| (found.to_string(), found.reason.code())).collect(),
        Err(error) => vec![(error.to_string(), error.code())],
    }
}

fn first_failure(rows: &[TaskRow]) -> Option<&TaskRow> {
    rows.iter().filter(|row| row.state == TaskState::Failed).min_by_key(|row| row.finished_at)
}

/// The median of the last successful runs, in milliseconds.
async fn usual(state: &WebState, run: &RunRow) -> Result<Option<i64>> {
    let query = RunQuery {
        page: PageRequest { cursor: None, limit: 20 },
        dag_id: Some(run.dag_id.clone()),
        states: vec![RunState::Success],
        ..RunQuery::default()
    };
    let runs = state.reader().runs(&query).await?.items;
    let mut took: Vec<i64> = runs
        .iter()
        .filter(|other| other.key != run.key)
        .filter_map(|other| Some((other.finished_at? - other.started_at?).num_milliseconds()))
        .collect();
    took.sort_unstable();
    Ok((took.len() >= 3).then(|| took[took.len() / 2]))
}

fn sentence(run: &RunRow, failed: Option<&TaskRow>, usual: Option<i64>) -> String {
    let took =
        run.started_at.zip(run.finished_at).map(|(from, to)| time::duration((to - from).num_milliseconds()));
    let usual = usual.map(|ms| format!(", usually {}", time::duration(ms))).unwrap_or_default();
    let after = took.map(|t| format!(" after {t}{usual}")).unwrap_or_default();
    let why = match (failed, &run.reason) {
        (Some(row), _) => format!(
            ": task {} failed{}",
            row.key.name(),
            row.reason.as_ref().map(|r| format!(" ({})", first_sentence(r))).unwrap_or_default()
        ),
        (None, Some(reason)) => format!(": {}", first_sentence(reason)),
        (None, None) => String::new(),
    };
    match run.state {
        RunState::Success if run.with_failures => {
            format!("Succeeded{after}, with failures beside the leaves{why}.")
        }
        RunState::Success => format!("Succeeded{after}."),
        RunState::Failed => format!("Failed{after}{why}."),
        RunState::Cancelled => format!("Cancelled{after}{why}."),
        RunState::Running => format!("Running{usual}{why}."),
        RunState::Queued => format!("Queued: it waits for max_active_runs{why}."),
        RunState::Paused => format!("Paused for a person{why}."),
    }
}

/// The first line of a reason, without its full stop, for a sentence that has one of its own. The rest is help.
pub(crate) fn first_sentence(reason: &str) -> &str {
    reason.lines().next().unwrap_or_default().trim_end_matches('.')
}

fn offers(run: &RunRow, rows: &[TaskRow]) -> Vec<Offer> {
    let path = |pairs: &[(&str, &str)]| {
        format!("/dags/{}/runs/{}/confirm?{}", run.dag_id, run.run_id, query_string(pairs))
    };
    let has_failed = rows.iter().any(|r| matches!(r.state, TaskState::Failed | TaskState::UpstreamFailed));
    let mut offers = Vec::new();
    if run.state == RunState::Paused {
        let href = path(&[("action", "resume")]);
        offers.push(Offer { label: "Resume", href, is_primary: true, is_danger: false });
    }
    if has_failed {
        let href = path(&[("action", "clear"), ("only_failed", "true")]);
        offers.push(Offer { label: "Retry from failure", href, is_primary: true, is_danger: false });
    }
    offers.push(Offer {
        label: "Clear all",
        href: path(&[("action", "clear")]),
        is_primary: false,
        is_danger: false,
    });
    if run.state.is_terminal() {
        let to = if run.state == RunState::Success { "failed" } else { "success" };
        let label = if to == "success" { "Mark success" } else { "Mark failed" };
        offers.push(Offer {
            label,
            href: path(&[("action", "mark"), ("state", to)]),
            is_primary: false,
            is_danger: false,
        });
    } else {
        offers.push(Offer {
            label: "Cancel",
            href: path(&[("action", "cancel")]),
            is_primary: false,
            is_danger: true,
        });
    }
    offers
}

/// Links the task instance that triggered a run, when its run is still there.
async fn parent(state: &WebState, run: &RunRow) -> Result<Option<Markup>> {
    let Some(origin) = &run.origin else { return Ok(None) };
    let parent = state.reader().run_by_key(origin.run).await?;
    Ok(parent.map(|parent| {
        let name = format!("{} of {}, {}", origin.name(), parent.dag_id, parent.run_id);
        let mut out = Markup::default();
        out.raw("<a").attr("href", &task_href(&parent, origin.task.as_str(), origin.map_index));
        out.raw(">").text(&name).raw("</a>");
        out
    }))
}

fn facts(run: &RunRow, usual: Option<i64>, parent: Option<Markup>) -> Vec<(&'static str, Markup)> {
    let now = Utc::now();
    let text = |t: &str| {
        let mut out = Markup::default();
        out.text(t);
        out
    };
    let by = if run.run_type == RunType::Asset { "asset events" } else { "the schedule" };
    let mut version = Markup::default();
    version
        .raw("<a class=\"mono\"")
        .attr("href", &format!("/dags/{}/code?version={}", run.dag_id, run.dag_version));
    version.raw(">").text(&run.dag_version.as_str()[..8.min(run.dag_version.as_str().len())]).raw("</a>");
    let mut facts = vec![
        ("Logical date", time::absolute(run.logical_date)),
        ("Data interval", {
            let mut out = time::absolute(run.data_interval_start);
            out.raw(" to ").markup(&time::absolute(run.data_interval_end));
            out
        }),
        ("Queued", time::relative(run.queued_at, now)),
        ("Started", run.started_at.map_or_else(|| text("–"), |at| time::relative(at, now))),
        ("Duration", time::took(run.started_at, run.finished_at)),
        ("Usually", text(&usual.map_or_else(|| "–".to_owned(), |ms| against(run, ms)))),
        ("Type", text(run.run_type.as_str())),
        ("Triggered by", parent.unwrap_or_else(|| text(run.triggered_by.as_deref().unwrap_or(by)))),
        ("Version", version),
    ];
    facts.extend(run.deadline_at.map(|at| ("Deadline", time::relative(at, now))));
    facts.extend(run.deadline_missed_at.map(|at| ("Late since", time::relative(at, now))));
    facts
}

/// The usual duration, and how the run compares to it once it has ended.
fn against(run: &RunRow, usual: i64) -> String {
    let took = run.started_at.zip(run.finished_at).map(|(from, to)| (to - from).num_milliseconds());
    match took.filter(|_| usual > 0) {
        Some(took) => {
            format!("{} (this one: {:.1} ×)", time::duration(usual), scale::real(took) / scale::real(usual))
        }
        None => time::duration(usual),
    }
}

async fn failure(state: &WebState, run: &RunRow, row: &TaskRow) -> Result<Failure> {
    let attempt = AttemptKey { instance: row.key.clone(), try_number: row.try_number, epoch: row.epoch };
    let size = state.handle().read_log(attempt.clone(), 0, 0).await?.size_bytes;
    let from = size.saturating_sub(32 * 1024);
    let slice = state.handle().read_log(attempt, from, 32 * 1024).await?;
    Ok(Failure {
        state: row.state.as_str(),
        task_id: row.key.name(),
        reason: row.reason.clone().unwrap_or_default(),
        href: task_href(run, row.key.task.as_str(), row.key.map_index),
        log: ansi::block(last_lines(&slice.bytes, FAILURE_LINES), None),
    })
}

/// The last `count` lines.
pub(crate) fn last_lines(bytes: &[u8], count: usize) -> &[u8] {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let start = body
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, b)| **b == b'\n')
        .nth(count - 1)
        .map_or(0, |(at, _)| at + 1);
    &bytes[start..]
}

pub(crate) fn task_href(run: &RunRow, task: &str, map_index: i32) -> String {
    let at = if map_index >= 0 { format!("?map_index={map_index}") } else { String::new() };
    format!("/dags/{}/runs/{}/tasks/{task}{at}", run.dag_id, run.run_id)
}

/// A line for each task: the elements of a mapped one stand on its own page, of which there may be thousands.
fn lines(views: Vec<TaskView>) -> Vec<TaskView> {
    let mut lines = Vec::new();
    let mut views = views.into_iter().peekable();
    while let Some(view) = views.next() {
        if view.map_index < 0 {
            lines.push(view);
            continue;
        }
        let mut elements = vec![view];
        while let Some(next) =
            views.next_if(|next| next.map_index >= 0 && next.task_id == elements[0].task_id)
        {
            elements.push(next);
        }
        lines.extend(TaskView::whole(elements));
    }
    lines
}

fn task_line(run: &RunRow, view: TaskView) -> TaskLine {
    let label = if view.map_index >= 0 {
        format!("{} [{}]", view.task_id, view.map_index)
    } else {
        view.task_id.clone()
    };
    TaskLine {
        href: task_href(run, &view.task_id, view.map_index),
        label,
        operator: view.operator.unwrap_or_else(|| "not in this version".to_owned()),
        try_number: view.try_number,
        started: view.started_at.map_or_else(Markup::default, |at| time::relative(at, Utc::now())),
        took: if view.state == "running" || view.finished_at.is_some() {
            time::took(view.started_at, view.finished_at)
        } else {
            Markup::default()
        },
        worker: view.worker.unwrap_or_default(),
        reason: view.reason.unwrap_or_default(),
        state: view.state,
    }
}

fn summary(dag: &Dag, rows: &[TaskRow], lengths: &BTreeMap<TaskId, u32>) -> String {
    let counting = rows.iter().filter(|row| row.state != TaskState::Removed);
    let done = counting.clone().filter(|row| row.state.is_terminal()).count();
    let all: usize =
        dag.tasks.iter().map(|task| lengths.get(&task.id).map_or(1, |length| *length as usize)).sum();
    format!("{done} of {} ended", all.max(counting.count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc", 2), b"b\nc");
        assert_eq!(last_lines(b"a", 5), b"a");
        assert_eq!(last_lines(b"", 5), b"");
    }
}
