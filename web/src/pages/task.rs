//! One task instance: why, tries, log, evidence.

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;
use serde::Deserialize;
use tidemill_engine::{
    definition::Operator,
    ids::{AttemptKey, TaskInstanceKey},
    rows::{RunRow, TaskRow, TryRow},
    state::TaskState,
};
use tidemill_protocol::worker::Report;

use super::{
    Chrome,
    confirm::Offer,
    dags::query_string,
    drift, json_lines, page,
    run::{first_sentence, task_href},
    task_log,
};
use crate::{
    error::{Problem, Result},
    extract::{self, Ids, Params, TaskPath},
    render::{Markup, time},
    state::WebState,
};

/// How many triggered runs a page shows.
const TRIGGERED: u32 = 25;

struct TryLine {
    href: String,
    label: String,
    outcome: &'static str,
    started: Markup,
    took: Markup,
    worker: String,
    reason: String,
    is_shown: bool,
}

#[derive(Template)]
#[template(path = "task.html")]
struct TaskPage {
    c: Chrome,
    dag_id: String,
    run_id: String,
    task_id: String,
    /// Of an element the task as a whole.
    whole: Option<(String, String)>,
    state: &'static str,
    sentence: String,
    doc: Option<String>,
    actions: Vec<Offer>,
    reasons: Vec<(String, &'static str)>,
    is_stuck: bool,
    drift: Option<drift::DriftPage>,
    branch: Option<(String, String)>,
    facts: Vec<(&'static str, String)>,
    tries: Vec<TryLine>,
    outputs: Vec<(String, String)>,
    /// The runs that it triggered: address, DAG, run and state.
    triggered: Vec<(String, String, String, &'static str)>,
    rendered: Vec<String>,
    /// The attempt whose log is shown because it is the newest; a page that asked for one stays with it.
    attempt: String,
    log: Option<task_log::Shown>,
}

/// Which element and which try.
#[derive(Deserialize)]
pub(crate) struct TaskParams {
    #[serde(default)]
    map_index: Option<i32>,
    #[serde(default, rename = "try")]
    try_number: Option<u32>,
    #[serde(default)]
    epoch: Option<u32>,
    /// The feature of a drift report that is shown in large.
    #[serde(default)]
    feature: Option<String>,
    /// Of the elements of a mapped task only those in this state.
    #[serde(default)]
    pub(super) state: Option<String>,
    /// Of these from this one on.
    #[serde(default)]
    pub(super) from: Option<usize>,
}

impl TaskParams {
    /// The attempt that is asked for, or the newest.
    fn chosen(&self, tries: &[TryRow]) -> Option<AttemptKey> {
        let found = tries
            .iter()
            .filter(|t| self.try_number.is_none_or(|n| n == t.attempt.try_number))
            .filter(|t| self.epoch.is_none_or(|e| e == t.attempt.epoch));
        found.max_by_key(|t| t.attempt.epoch).map(|t| t.attempt.clone())
    }
}

/// The page of a task instance.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<TaskPath>,
    Params(params): Params<TaskParams>,
) -> Result<Response> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let dag = extract::definition(&state, &run).await?;
    let key = TaskInstanceKey {
        run: run.key,
        task: ids.task_id.clone(),
        map_index: params.map_index.unwrap_or(-1),
    };
    let elements = crate::api::instances::elements(&state, &run, &key).await?;
    if !elements.is_empty() {
        return super::elements::show(&state, c, (&run, &dag), &key, elements, &params).await;
    }
    let row = state.reader().task(&key).await?;
    let element = super::elements::element(&state, &key).await?;
    let task = dag.tasks.iter().find(|t| t.id == ids.task_id);
    if row.is_none() && (task.is_none() || (key.map_index >= 0 && element.is_none())) {
        return Err(Problem::not_found("such task in this run"));
    }
    let tries = state.reader().tries(&key).await?;
    let shown = params.chosen(&tries);
    let word = row.as_ref().map_or(TaskState::NoStatus, |r| r.state);
    let reasons = reasons(&state, &key, word).await;
    let (drift, branch) = evidence(&state, &run, &key, params.feature.as_deref()).await?;
    page(&TaskPage {
        c,
        dag_id: run.dag_id.to_string(),
        run_id: run.run_id.to_string(),
        task_id: label(&key),
        state: word.as_str(),
        sentence: sentence(row.as_ref(), word),
        doc: task.and_then(|task| task.doc.clone()),
        actions: offers(&run, &key),
        is_stuck: word != TaskState::NoStatus && !reasons.is_empty(),
        reasons,
        drift,
        branch,
        facts: element.into_iter().chain(facts(row.as_ref(), task)).collect(),
        whole: (key.map_index >= 0).then(|| (key.task.to_string(), task_href(&run, key.task.as_str(), -1))),
        log: match &shown {
            Some(attempt) => Some(task_log::shown(&state, &run, attempt, &tries).await?),
            None => None,
        },
        attempt: match (&shown, params.try_number, params.epoch) {
            (Some(newest), None, None) => format!("{}.{}", newest.try_number, newest.epoch),
            _ => String::new(),
        },
        rendered: match &shown {
            Some(attempt) => {
                let stored = state.reader().rendered(attempt).await?;
                stored.map(|v| json_lines(&tidemill_scheduler::shown_work(v))).unwrap_or_default()
            }
            None => Vec::new(),
        },
        tries: tries.iter().rev().map(|t| try_line(&run, row.as_ref(), t, shown.as_ref())).collect(),
        triggered: triggered(&state, &key, task).await?,
        outputs: state.reader().outputs(&key).await?.into_iter().map(|(k, v)| (k, v.to_string())).collect(),
    })
}

/// Returns the runs that a task instance triggered, the newest first.
async fn triggered(
    state: &WebState,
    key: &TaskInstanceKey,
    task: Option<&tidemill_engine::definition::Task>,
) -> Result<Vec<(String, String, String, &'static str)>> {
    if !task.is_some_and(|task| matches!(task.operator, Operator::TriggerDag { .. })) {
        return Ok(Vec::new());
    }
    let runs = state.reader().triggered_runs(key, TRIGGERED).await?;
    let line = |run: RunRow| {
        let href = format!("/dags/{}/runs/{}", run.dag_id, run.run_id);
        (href, run.dag_id.to_string(), run.run_id.to_string(), run.state.as_str())
    };
    Ok(runs.into_iter().map(line).collect())
}

/// What people call it: of a mapped task with its element.
pub(crate) fn label(key: &TaskInstanceKey) -> String {
    if key.map_index >= 0 { format!("{} [{}]", key.task, key.map_index) } else { key.task.to_string() }
}

/// Why it is not running. A server that does not lead cannot know; the page is still worth showing.
pub(crate) async fn reasons(
    state: &WebState,
    key: &TaskInstanceKey,
    word: TaskState,
) -> Vec<(String, &'static str)> {
    if word.is_terminal() || word == TaskState::Running {
        return Vec::new();
    }
    match state.handle().explain(key.clone()).await {
        Ok(reasons) => reasons.iter().map(|r| (r.to_string(), r.code())).collect(),
        Err(error) => vec![(error.to_string(), error.code())],
    }
}

async fn evidence(
    state: &WebState,
    run: &RunRow,
    key: &TaskInstanceKey,
    feature: Option<&str>,
) -> Result<(Option<drift::DriftPage>, Option<(String, String)>)> {
    let newest = state.reader().reports(key).await?.into_iter().next().map(|stored| stored.report);
    Ok(match newest {
        Some(Report::Drift(report)) => (Some(drift::shown(state, run, key, &report, feature).await?), None),
        Some(Report::Branch { chosen, because }) => {
            let chosen = if chosen.is_empty() { "nothing".to_owned() } else { chosen.join(", ") };
            (None, Some((chosen, because)))
        }
        None => (None, None),
    })
}

/// How it is doing, in a sentence.
pub(crate) fn sentence(row: Option<&TaskRow>, word: TaskState) -> String {
    let Some(row) = row else { return "Nothing is decided about it yet.".to_owned() };
    let took = row.started_at.zip(row.finished_at).map(|(a, b)| time::duration((b - a).num_milliseconds()));
    let mut text = match word {
        TaskState::Success => "Succeeded".to_owned(),
        TaskState::Failed => "Failed".to_owned(),
        TaskState::Skipped => "Skipped".to_owned(),
        TaskState::UpstreamFailed => "Not executed because an upstream failed".to_owned(),
        TaskState::Running => "Running".to_owned(),
        TaskState::UpForRetry => format!("Failed {} times; the next try waits for its time", row.failures),
        TaskState::Scheduled => "Waits for a slot, a limit or a worker".to_owned(),
        TaskState::Queued => "Given to a worker, which has not reported its start yet".to_owned(),
        other => format!("Is {other}"),
    };
    if let (Some(took), true) = (took, word.is_terminal()) {
        text.push_str(&format!(" after {took}"));
    }
    if row.try_number > 0 {
        text.push_str(&format!(" on try {}", row.try_number));
    }
    if let Some(reason) = &row.reason {
        text.push_str(&format!(": {}", first_sentence(reason)));
    }
    text.push('.');
    text
}

/// What a person may do about it.
pub(crate) fn offers(run: &RunRow, key: &TaskInstanceKey) -> Vec<Offer> {
    let task = key.task.as_str();
    let index = key.map_index.to_string();
    let path = |pairs: &[(&str, &str)]| {
        let mut pairs = pairs.to_vec();
        if key.map_index >= 0 {
            pairs.push(("map_index", index.as_str()));
        }
        format!("/dags/{}/runs/{}/confirm?{}", run.dag_id, run.run_id, query_string(&pairs))
    };
    let offer = |label, href| Offer { label, href, is_primary: false, is_danger: false };
    vec![
        offer("Clear", path(&[("action", "clear"), ("task", task)])),
        offer("Clear with downstream", path(&[("action", "clear"), ("task", task), ("downstream", "true")])),
        offer("Clear here and later", path(&[("action", "clear"), ("task", task), ("future", "true")])),
        offer("Mark success", path(&[("action", "mark"), ("task", task), ("state", "success")])),
        offer("Mark failed", path(&[("action", "mark"), ("task", task), ("state", "failed")])),
    ]
}

pub(super) fn facts(
    row: Option<&TaskRow>,
    task: Option<&tidemill_engine::definition::Task>,
) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(task) = task {
        facts.push(("Operator", task.operator.as_str().to_owned()));
        facts.push(("Trigger rule", task.trigger_rule.as_str().to_owned()));
        let upstream: Vec<&str> = task.depends_on.iter().map(|t| t.as_str()).collect();
        facts.push((
            "Depends on",
            if upstream.is_empty() { "nothing".to_owned() } else { upstream.join(", ") },
        ));
        let delay = i64::try_from(task.retry_delay.as_millis()).unwrap_or(i64::MAX);
        let retries = match task.retries {
            0 => "none".to_owned(),
            n => format!("{n} after {}", time::duration(delay)),
        };
        facts.push(("Retries", retries));
        let s = if task.pool_slots == 1 { "" } else { "s" };
        facts.push(("Pool", format!("{} ({} slot{s})", task.pool, task.pool_slots)));
        facts.push(("Queue", task.queue.clone()));
        if let Some(timeout) = task.timeout {
            let name = if task.soft_fail().is_some() { "Timeout (in all)" } else { "Timeout" };
            facts.push((name, time::duration(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX))));
        }
    }
    if let Some(row) = row {
        facts.extend(row.exit_code.map(|code| ("Exit code", code.to_string())));
        facts.extend(row.worker.as_ref().map(|w| ("Worker", w.to_string())));
        facts.extend(row.retry_at.map(|at| ("Next try", time::exact(at))));
        facts.extend(row.first_poke_at.map(|at| ("Waits since", time::exact(at))));
        if row.pokes > 0 {
            facts.push(("Pokes in vain", row.pokes.to_string()));
        }
        let next = match task.map(|task| &task.operator) {
            Some(Operator::TimeSensor { .. }) => Some("Waits until"),
            // It looks when something happens.
            Some(Operator::TriggerDag { .. } | Operator::DagRunSensor { .. }) => None,
            _ => Some("Next poke"),
        };
        facts.extend(next.zip(row.next_poke_at).map(|(name, at)| (name, time::exact(at))));
        let end = |whole| row.first_poke_at?.checked_add_signed(chrono::TimeDelta::from_std(whole).ok()?);
        let gives_up = task.and_then(|task| end(task.timeout.filter(|_| task.soft_fail().is_some())?));
        facts.extend(gives_up.filter(|_| !row.state.is_terminal()).map(|at| ("Gives up", time::exact(at))));
        facts.extend(row.stop.map(|stop| ("Being stopped", stop.to_string())));
        if row.epoch > 0 {
            facts.push(("Fence", row.epoch.to_string()));
        }
    }
    facts
}

fn try_line(run: &RunRow, instance: Option<&TaskRow>, row: &TryRow, shown: Option<&AttemptKey>) -> TryLine {
    // The row of a try is written when it begins and when it ends; between them its task instance knows.
    let live = instance.filter(|_| row.outcome.is_none());
    let started_at = row.started_at.or(live.and_then(|instance| instance.started_at));
    let state = live.map_or(TaskState::Queued, |instance| instance.state);
    let key = &row.attempt.instance;
    let href = task_href(run, key.task.as_str(), key.map_index);
    let join = if href.contains('?') { '&' } else { '?' };
    TryLine {
        href: format!("{href}{join}try={}&epoch={}", row.attempt.try_number, row.attempt.epoch),
        label: row.attempt.try_number.to_string(),
        outcome: row.outcome.map_or(state.as_str(), |outcome| outcome.as_str()),
        started: started_at.map_or_else(Markup::default, |at| time::relative(at, Utc::now())),
        took: time::took(started_at, row.finished_at),
        worker: row.worker.to_string(),
        reason: row.reason.clone().unwrap_or_default(),
        is_shown: shown == Some(&row.attempt),
    }
}
