//! Retention on demand: deletes finished runs that are old enough, with their logs.

use std::time::{Duration, Instant};

use axum::{Extension, Json, extract::State};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tidemill_engine::ids::{DagId, RunKey};
use tidemill_scheduler::{AdminWrite, rows_per_run, runs_per_write};
use tidemill_store::reader::{DagQuery, DagSummary, PageRequest};

use crate::{
    auth::Identity,
    error::{Problem, Result},
    extract::Body,
    state::WebState,
    views::{CleanBody, CleanedView},
};

/// How long one call goes on deleting, however slow the database is; half of what a request may take is left then.
const CALL_TIME: Duration = Duration::from_secs(10);
/// How many tasks a DAG counts for whose definition is not loaded.
const UNKNOWN_TASKS: usize = 1_000;
/// How many runs of a DAG a dry run counts at most.
const COUNTED: u32 = 10_000;

/// What one call may still do.
struct Budget {
    rows: u32,
    until: Instant,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.rows == 0 || Instant::now() >= self.until
    }
}

/// Deletes finished runs that ended long enough ago, or counts them. One call deletes a bounded number of rows, so that
/// it ends before the limit of a request; whoever asks goes on until the answer is complete.
#[utoipa::path(post, path = "/api/v1/clean", tag = "server", request_body = CleanBody, responses((status = 200, body = CleanedView)))]
pub(crate) async fn clean(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Body(body): Body<CleanBody>,
) -> Result<Json<CleanedView>> {
    let mut budget = Budget { rows: state.options().clean_rows, until: Instant::now() + CALL_TIME };
    let mut done = CleanedView { runs: 0, is_dry_run: body.dry_run, is_complete: true };
    let mut cursor = None;
    loop {
        let query = DagQuery { page: PageRequest { cursor, limit: 500 }, ..DagQuery::default() };
        let page = state.reader().dags(&query).await?;
        for summary in &page.items {
            let Some(before) = horizon(&state, summary, &body)? else { continue };
            let dag_id = &summary.dag.dag_id;
            if body.dry_run {
                done.runs += state.reader().runs_finished_before(dag_id, before, COUNTED).await?.len();
                continue;
            }
            done.runs += clean_dag(&state, &who, dag_id, before, &mut budget).await?;
            // Looked at only after a deletion, so every call that is not complete has got further.
            if done.runs > 0 && budget.is_spent() {
                done.is_complete = false;
                return Ok(Json(done));
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(Json(done));
        }
    }
}

/// Runs that ended before this instant go; absent: the DAG keeps all.
fn horizon(state: &WebState, summary: &DagSummary, body: &CleanBody) -> Result<Option<DateTime<Utc>>> {
    let kept = match body.older_than_days {
        Some(days) => Some(TimeDelta::days(i64::from(days))),
        None => {
            let own = state.handle().dag(&summary.dag.dag_id).and_then(|dag| dag.retention);
            own.or(state.options().retention).and_then(|kept| TimeDelta::from_std(kept).ok())
        }
    };
    let Some(kept) = kept else { return Ok(None) };
    let before = Utc::now().checked_sub_signed(kept);
    before.map(Some).ok_or_else(|| Problem::new("WEB0206", "older_than_days lies before all time"))
}

async fn clean_dag(
    state: &WebState,
    who: &Identity,
    dag_id: &DagId,
    before: DateTime<Utc>,
    budget: &mut Budget,
) -> Result<usize> {
    let tasks = state.handle().dag(dag_id).map_or(UNKNOWN_TASKS, |dag| dag.tasks.len());
    let mut count = 0;
    let mut last: Option<RunKey> = None;
    while count == 0 || !budget.is_spent() {
        let limit = runs_per_write(tasks).min((budget.rows / rows_per_run(tasks)).max(1));
        let old = state.reader().runs_finished_before(dag_id, before, limit).await?;
        // Seeing the same oldest run again means that it stays: it was cleared meanwhile.
        if old.is_empty() || old.first().map(|run| run.key) == last {
            break;
        }
        last = old.first().map(|run| run.key);
        let entry =
            who.did("runs.clean", format!("dag/{dag_id}"), json!({ "runs": old.len(), "before": before }));
        let run_deletes: Vec<_> = old.iter().map(|run| (dag_id.clone(), run.key)).collect();
        let deleted = u32::try_from(run_deletes.len()).unwrap_or(u32::MAX);
        state.handle().write(AdminWrite { run_deletes, audit: vec![entry], ..AdminWrite::default() }).await?;
        count += old.len();
        budget.rows = budget.rows.saturating_sub(deleted.saturating_mul(rows_per_run(tasks)));
    }
    Ok(count)
}
