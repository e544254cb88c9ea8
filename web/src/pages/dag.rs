//! What the tabs of a DAG share, and its switch.

use std::collections::BTreeMap;

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use chrono::Utc;
use serde::Deserialize;
use tidemill_engine::{
    definition::{Dag, Schedule},
    ids::DagId,
    timetable::Timetable,
    wait_reason::pool_waits,
};
use tidemill_store::reader::DagDetail;

use super::{Chrome, page, see};
use crate::{
    actions,
    api::dags::next_run,
    auth::{Identity, safe_next},
    error::{Problem, Result},
    extract::{DagPath, Form, Ids, Params},
    render::{Markup, time},
    state::WebState,
    views::schedule_text,
};

/// How many tasks a warning names.
const NAMED: usize = 5;

/// The head of every tab.
pub(crate) struct DagHead {
    pub(crate) dag_id: String,
    pub(crate) description: String,
    pub(crate) schedule: String,
    pub(crate) next: Option<Markup>,
    pub(crate) owner: String,
    pub(crate) tags: Vec<String>,
    pub(crate) is_paused: bool,
    pub(crate) is_missing: bool,
    /// What is odd about it, a sentence each.
    pub(crate) warnings: Vec<String>,
    pub(crate) tab: &'static str,
}

impl DagHead {
    pub(crate) async fn load(state: &WebState, detail: &DagDetail, tab: &'static str) -> Result<Self> {
        let (row, dag) = (&detail.dag, &detail.definition);
        let next =
            if row.is_paused || row.is_missing { None } else { next_run(dag, row.cursor, row.created_at) };
        Ok(Self {
            dag_id: row.dag_id.to_string(),
            description: dag.description.clone().unwrap_or_default(),
            schedule: words(dag),
            next: next.map(|at| time::relative(at, Utc::now())),
            owner: dag.owner.clone().unwrap_or_default(),
            tags: dag.tags.clone(),
            is_paused: row.is_paused,
            is_missing: row.is_missing,
            warnings: {
                let paused = row.pause_reason.as_ref().map(|why| format!("Paused by the scheduler: {why}."));
                paused.into_iter().chain(warnings(state, detail).await?).collect()
            },
            tab,
        })
    }
}

/// What is odd about a DAG: in its file, and about the variables, connections and pools that it names.
pub(crate) async fn warnings(state: &WebState, detail: &DagDetail) -> Result<Vec<String>> {
    let mut warnings = state.handle().warnings(&detail.definition, detail.dag.cursor).await;
    warnings.extend(state.handle().missing_names(&detail.definition).await?);
    let pools = state.reader().pools().await?;
    let slots_of = pools.into_iter().map(|pool| (pool.name, pool.slots)).collect();
    let mut waits: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (task, why) in pool_waits(&detail.definition, &slots_of) {
        waits.entry(why.to_string()).or_default().push(task.to_string());
    }
    warnings.extend(waits.into_iter().map(|(why, tasks)| {
        let more = tasks.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{more} will wait: {why}", tasks.into_iter().take(NAMED).collect::<Vec<_>>().join(", "))
    }));
    Ok(warnings)
}

/// A schedule in words.
fn words(dag: &Dag) -> String {
    let mut words =
        Timetable::new(dag).map_or_else(|_| schedule_text(&dag.schedule), |timetable| timetable.describe());
    // Else a schedule that is over looks like one that forgot its next run.
    if let Some(end) = dag.end_date.filter(|_| dag.schedule != Schedule::Never) {
        words.push_str(&end.format(" until %Y-%m-%d").to_string());
    }
    words
}

pub(crate) fn schedule_words(state: &WebState, dag_id: &DagId, schedule: &Schedule) -> String {
    state.handle().dag(dag_id).map_or_else(|| schedule_text(schedule), |dag| words(&dag))
}

pub(crate) async fn find(state: &WebState, dag_id: &DagId) -> Result<DagDetail> {
    state.reader().dag(dag_id).await?.ok_or_else(|| Problem::not_found("such DAG"))
}

#[derive(Template)]
#[template(path = "pause.html")]
struct PausePage {
    c: Chrome,
    dag_id: String,
    title: &'static str,
    sentences: Vec<String>,
    has_effect: bool,
    is_paused: bool,
    next: String,
}

/// Which way, and where to go on.
#[derive(Deserialize)]
pub(crate) struct PauseParams {
    #[serde(default)]
    is_paused: Option<bool>,
    #[serde(default)]
    next: Option<String>,
}

/// Says what pausing or unpausing would change, and asks.
pub(crate) async fn ask_pause(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(query): Params<PauseParams>,
) -> Result<Response> {
    let is_paused = match query.is_paused {
        Some(is_paused) => is_paused,
        None => !find(&state, &ids.dag_id).await?.dag.is_paused,
    };
    let plan = state.handle().would_pause(ids.dag_id.clone(), is_paused).await?;
    let back = format!("/dags/{}", ids.dag_id);
    let upper = |sentence: String| {
        let mut chars = sentence.chars();
        chars.next().map(|c| format!("{}{}.", c.to_uppercase(), chars.as_str())).unwrap_or_default()
    };
    page(&PausePage {
        c,
        dag_id: ids.dag_id.to_string(),
        title: if is_paused { "Pause" } else { "Unpause" },
        sentences: plan.sentences().into_iter().map(upper).collect(),
        has_effect: plan.has_effect(),
        is_paused,
        next: safe_next(query.next.as_deref().or(Some(&back))).to_owned(),
    })
}

/// Pauses or unpauses.
pub(crate) async fn pause(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<DagPath>,
    form: Form,
) -> Result<Response> {
    let is_paused = match form.value("is_paused") {
        Some("true") => true,
        Some("false") => false,
        _ => return Err(Problem::new("WEB0206", "is_paused must be true or false")),
    };
    actions::pause(&state, &who, ids.dag_id.clone(), is_paused).await?;
    let back = format!("/dags/{}", ids.dag_id);
    Ok(see(safe_next(form.value("next").or(Some(&back)))))
}
