//! Backfills: lists, one with its dates, and what is asked before one is cancelled.

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use chrono::Utc;
use tidemill_engine::{backfill::BackfillChange, ids::BackfillKey};
use tidemill_store::reader::{BackfillItem, Page, PageRequest};

use super::{
    Chrome,
    dag::{DagHead, find},
    dags::query_string,
    page, see,
};
use crate::{
    api::backfills::{BackfillListParams, BackfillPath},
    auth::Identity,
    backfills,
    error::{Problem, Result},
    extract::{DagPath, Form, Ids, Paging, Params},
    render::{Markup, chart, time},
    state::WebState,
    views::backfills::BackfillView,
};

/// How many dates a page shows.
const DATES: u32 = 100;

/// A backfill as pages show it.
pub(super) struct Shown {
    id: i64,
    dag_id: String,
    state: String,
    is_cancelling: bool,
    is_ended: bool,
    reason: String,
    waits: String,
    from: Markup,
    to: Markup,
    bar: Markup,
    done: u64,
    failed: u64,
    running: u64,
    left: u64,
    skipped: u64,
    total: u64,
    time_left: String,
    view: BackfillView,
    created: Markup,
}

impl Shown {
    async fn of(state: &WebState, item: BackfillItem) -> Result<Self> {
        let view = backfills::view(state, item).await?;
        let (runs, dates) = (&view.runs, &view.dates);
        let (done, failed) = (runs.success, runs.failed + runs.cancelled);
        let running = runs.running + runs.queued + runs.paused;
        let skipped = dates.passed_over + dates.left_alone;
        let parts = [
            ("s-success", "done", done),
            ("s-failed", "failed or cancelled", failed),
            ("s-running", "running", running),
            ("s-skipped", "passed over or left alone", skipped),
        ];
        Ok(Self {
            id: view.id,
            dag_id: view.dag_id.clone(),
            state: view.state.clone(),
            is_cancelling: view.cancel_requested_at.is_some() && view.finished_at.is_none(),
            is_ended: view.finished_at.is_some(),
            reason: view.reason.clone().unwrap_or_default(),
            waits: view.waits.clone().unwrap_or_default(),
            from: time::absolute(view.from),
            to: time::absolute(view.to),
            bar: chart::progress(&parts, dates.total),
            done,
            failed,
            running,
            left: dates.left,
            skipped,
            total: dates.total,
            time_left: view.seconds_left.map(about).unwrap_or_default(),
            created: time::relative(view.created_at, Utc::now()),
            view,
        })
    }

    fn can_pause(&self) -> bool {
        self.state == "running" && !self.is_cancelling
    }

    fn can_resume(&self) -> bool {
        self.state == "paused" && !self.is_cancelling
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounded before, and an estimate")]
fn about(seconds: f64) -> String {
    format!("about {}", time::duration((seconds.clamp(0.0, 1e12) * 1000.0) as i64))
}

#[derive(Template)]
#[template(path = "backfills.html")]
struct BackfillsPage {
    c: Chrome,
    head: Option<DagHead>,
    rows: Vec<Shown>,
    next_page: Option<String>,
}

async fn rows(state: &WebState, found: Page<BackfillItem>) -> Result<Vec<Shown>> {
    let mut rows = Vec::with_capacity(found.items.len());
    for item in found.items {
        rows.push(Shown::of(state, item).await?);
    }
    Ok(rows)
}

/// Backfills of all DAGs.
pub(crate) async fn all(
    State(state): State<WebState>,
    c: Chrome,
    Params(params): Params<BackfillListParams>,
) -> Result<Response> {
    let found = state.reader().backfills(&params.query()?).await?;
    let next_page = found.next_cursor.as_ref().map(|cursor| {
        let (dag_id, word) = (params.dag_id.as_deref().unwrap_or(""), params.state.as_deref().unwrap_or(""));
        format!("/backfills?{}", query_string(&[("dag_id", dag_id), ("state", word), ("cursor", cursor)]))
    });
    page(&BackfillsPage { c, head: None, rows: rows(&state, found).await?, next_page })
}

/// Backfills of one DAG.
pub(crate) async fn of_dag(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(paging): Params<Paging>,
) -> Result<Response> {
    let head = DagHead::load(&state, &find(&state, &ids.dag_id).await?, "backfills").await?;
    let params = BackfillListParams {
        dag_id: Some(ids.dag_id.to_string()),
        state: None,
        cursor: paging.cursor,
        limit: paging.limit,
    };
    let found = state.reader().backfills(&params.query()?).await?;
    let next_page = found
        .next_cursor
        .as_ref()
        .map(|cursor| format!("/dags/{}/backfills?{}", ids.dag_id, query_string(&[("cursor", cursor)])));
    page(&BackfillsPage { c, head: Some(head), rows: rows(&state, found).await?, next_page })
}

struct DateRow {
    date: Markup,
    outcome: &'static str,
    run_id: String,
    state: &'static str,
    took: Markup,
    reason: String,
}

#[derive(Template)]
#[template(path = "backfill.html")]
struct BackfillPage {
    c: Chrome,
    b: Shown,
    conf: String,
    dates: Vec<DateRow>,
    next_page: Option<String>,
}

/// One backfill with its dates.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<BackfillPath>,
    Params(paging): Params<Paging>,
) -> Result<Response> {
    let item = backfills::find(&state, BackfillKey(ids.id)).await?;
    let request = PageRequest { limit: DATES, ..paging.request(DATES) };
    let found = state.reader().backfill_dates(item.row.key, &request).await?;
    let next_page = found.next_cursor.as_ref();
    let next_page =
        next_page.map(|cursor| format!("/backfills/{}?{}", ids.id, query_string(&[("cursor", cursor)])));
    let dates = found.items.into_iter().map(|item| DateRow {
        date: time::absolute(item.date.logical_date),
        outcome: item.date.outcome.as_str(),
        run_id: item.run.as_ref().map(|run| run.run_id.to_string()).unwrap_or_default(),
        state: item.run.as_ref().map_or("", |run| run.state.as_str()),
        took: item.run.as_ref().map(|run| time::took(run.started_at, run.finished_at)).unwrap_or_default(),
        reason: item.date.reason.unwrap_or_default(),
    });
    let dates = dates.collect();
    let b = Shown::of(&state, item).await?;
    let conf = if b.view.conf.is_empty() {
        String::new()
    } else {
        serde_json::to_string(&b.view.conf).unwrap_or_default()
    };
    page(&BackfillPage { c, b, conf, dates, next_page })
}

#[derive(Template)]
#[template(path = "backfill_cancel.html")]
struct CancelPage {
    c: Chrome,
    id: i64,
    dag_id: String,
    left: u64,
    runs: Vec<String>,
}

/// Asks before a backfill is cancelled: the runs that end with it.
pub(crate) async fn confirm(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    c: Chrome,
    Ids(ids): Ids<BackfillPath>,
) -> Result<Response> {
    let (row, runs) =
        backfills::change(&state, &who, BackfillKey(ids.id), BackfillChange::Cancel, true).await?;
    page(&CancelPage {
        c,
        id: ids.id,
        dag_id: row.dag_id.to_string(),
        left: row.dates_left(),
        runs: runs.iter().map(ToString::to_string).collect(),
    })
}

/// Pauses, resumes or cancels a backfill.
pub(crate) async fn act(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<BackfillPath>,
    form: Form,
) -> Result<Response> {
    let word = form.value("action").unwrap_or_default();
    let change = BackfillChange::parse(word)
        .ok_or_else(|| Problem::new("WEB0206", format!("{word:?} cannot be done with a backfill")))?;
    backfills::change(&state, &who, BackfillKey(ids.id), change, false).await?;
    Ok(see(&format!("/backfills/{}", ids.id)))
}
