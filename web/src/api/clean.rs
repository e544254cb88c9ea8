//! Retention on demand: deletes finished runs that are old enough, with their logs.

use axum::{Extension, Json, extract::State};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tidemill_engine::ids::{DagId, RunKey};
use tidemill_scheduler::AdminWrite;
use tidemill_store::reader::{DagQuery, DagSummary, PageRequest};

use crate::{
    auth::Identity,
    error::{Problem, Result},
    extract::Body,
    state::WebState,
    views::{CleanBody, CleanedView},
};

/// How many runs one write deletes, so that no commit grows long.
const RUNS_AT_A_TIME: u32 = 200;
/// How many runs of a DAG a dry run counts at most.
const COUNTED: u32 = 10_000;

/// Deletes finished runs that ended long enough ago, or counts them.
#[utoipa::path(post, path = "/api/v1/clean", tag = "server", request_body = CleanBody, responses((status = 200, body = CleanedView)))]
pub(crate) async fn clean(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Body(body): Body<CleanBody>,
) -> Result<Json<CleanedView>> {
    let mut runs = 0;
    let mut cursor = None;
    loop {
        let query = DagQuery { page: PageRequest { cursor, limit: 500 }, ..DagQuery::default() };
        let page = state.reader().dags(&query).await?;
        for summary in &page.items {
            if let Some(before) = horizon(&state, summary, &body)? {
                runs += clean_dag(&state, &who, &summary.dag.dag_id, before, body.dry_run).await?;
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(Json(CleanedView { runs, is_dry_run: body.dry_run }));
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
    is_dry_run: bool,
) -> Result<usize> {
    if is_dry_run {
        return Ok(state.reader().runs_finished_before(dag_id, before, COUNTED).await?.len());
    }
    let mut count = 0;
    let mut last: Option<RunKey> = None;
    loop {
        let old = state.reader().runs_finished_before(dag_id, before, RUNS_AT_A_TIME).await?;
        // Seeing the same oldest run again means that it stays: it was cleared meanwhile.
        if old.is_empty() || old.first().map(|run| run.key) == last {
            return Ok(count);
        }
        last = old.first().map(|run| run.key);
        let entry =
            who.did("runs.clean", format!("dag/{dag_id}"), json!({ "runs": old.len(), "before": before }));
        let run_deletes = old.iter().map(|run| (dag_id.clone(), run.key)).collect();
        state.handle().write(AdminWrite { run_deletes, audit: vec![entry], ..AdminWrite::default() }).await?;
        count += old.len();
    }
}
