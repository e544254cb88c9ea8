//! What people and programs ask of backfills, once for the API and the pages.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use serde_json::json;
use sha2::{Digest, Sha256};
use tidemill_engine::{
    backfill::{BackfillChange, BackfillRow, BackfillSpec, Reprocess},
    ids::{BackfillKey, DagId, RunId},
};
use tidemill_scheduler::{AdminWrite, BackfillRequest, CreatedBackfill, IdempotencyKey};
use tidemill_store::reader::BackfillItem;

use crate::{
    auth::Identity,
    error::{Problem, Result},
    state::WebState,
    views::backfills::{BackfillBody, BackfillPreviewView, BackfillView},
};

/// How many runs of a backfill are active at a time when nobody says.
pub(crate) const DEFAULT_LIMIT: u32 = 10;

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new("WEB0206", detail)
}

/// Reads a date or a time. Without an offset it is in the zone of the DAG; a date alone that ends a range is all of it.
fn parse_date<Z: TimeZone>(name: &str, text: &str, zone: &Z, is_end: bool) -> Result<DateTime<Utc>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    let times = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let time = times.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let local = match (time, date) {
        (Some(time), _) => time,
        (None, Some(date)) if is_end => {
            let next = date.succ_opt().unwrap_or(date);
            return Ok(in_zone(next.into(), zone) - TimeDelta::microseconds(1));
        }
        (None, Some(date)) => date.into(),
        (None, None) => {
            return Err(invalid(format!(
                "{name} is {text:?}; write a date such as 2026-11-01 or a time such as 2026-11-01T06:00:00Z"
            )));
        }
    };
    Ok(in_zone(local, zone))
}

/// Returns the first instant that has this local time, or the first valid one after a gap.
fn in_zone<Z: TimeZone>(local: NaiveDateTime, zone: &Z) -> DateTime<Utc> {
    for minutes in 0..=24 * 60 {
        let at = zone.from_local_datetime(&(local + TimeDelta::minutes(minutes)));
        if let Some(at) = at.earliest() {
            return at.to_utc();
        }
    }
    local.and_utc()
}

/// Makes a specification of a body, by the zone of the DAG.
pub(crate) async fn spec(state: &WebState, dag_id: &DagId, body: &BackfillBody) -> Result<BackfillSpec> {
    let detail = state.reader().dag(dag_id).await?.ok_or_else(|| Problem::not_found("such DAG"))?;
    let zone = detail.definition.timezone;
    let reprocess = body.reprocess.as_deref().unwrap_or("none");
    let reprocess = Reprocess::parse(reprocess)
        .ok_or_else(|| invalid(format!("reprocess is {reprocess:?}; it is none, failed or completed")))?;
    Ok(BackfillSpec {
        from: parse_date("from", &body.from, &zone, false)?,
        to: parse_date("to", &body.to, &zone, true)?,
        reprocess,
        max_active_runs: body.max_active_runs.unwrap_or(DEFAULT_LIMIT),
        run_backwards: body.run_backwards,
        conf: std::sync::Arc::new(body.conf.clone()),
    })
}

pub(crate) fn dag_id(body: &BackfillBody) -> Result<DagId> {
    DagId::new(&body.dag_id).map_err(|error| invalid(format!("dag_id {error}")))
}

/// Returns a page of what a backfill would do.
pub(crate) async fn preview(
    state: &WebState,
    dag_id: &DagId,
    spec: &BackfillSpec,
    cursor: Option<&str>,
    limit: usize,
) -> Result<BackfillPreviewView> {
    let after = match cursor.filter(|cursor| !cursor.is_empty()) {
        Some(text) => Some(
            DateTime::parse_from_rfc3339(text).map_err(|_| invalid("cursor is not one of ours"))?.to_utc(),
        ),
        None => None,
    };
    let preview = state.handle().preview_backfill(dag_id, spec, after, limit).await?;
    Ok(BackfillPreviewView::of(dag_id, preview))
}

/// Creates a backfill. `key` is the `Idempotency-Key` header.
pub(crate) async fn create(
    state: &WebState,
    who: &Identity,
    dag_id: DagId,
    spec: BackfillSpec,
    key: Option<&str>,
) -> Result<CreatedBackfill> {
    let detail = json!({ "from": spec.from, "to": spec.to, "reprocess": spec.reprocess,
        "max_active_runs": spec.max_active_runs, "run_backwards": spec.run_backwards, "conf": spec.conf });
    let idempotency = key.map(|key| idempotency(who, &dag_id, key, &detail)).transpose()?;
    let side = AdminWrite::audit(who.did("backfill.create", format!("dag/{dag_id}"), detail));
    let created_by = Some(who.actor.clone());
    let request = BackfillRequest { dag_id, spec, created_by, idempotency };
    Ok(state.handle().create_backfill(request, side).await?)
}

fn idempotency(
    who: &Identity,
    dag_id: &DagId,
    key: &str,
    detail: &serde_json::Value,
) -> Result<IdempotencyKey> {
    if key.is_empty() || key.len() > 255 || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::new("WEB0202", "Idempotency-Key must be 1 to 255 visible ASCII characters"));
    }
    let hash = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
    Ok(IdempotencyKey {
        key_hash: hash(&format!("{}\n/backfills/{dag_id}\n{key}", who.actor)),
        request_hash: hash(&detail.to_string()),
    })
}

/// Finds a backfill.
pub(crate) async fn find(state: &WebState, key: BackfillKey) -> Result<BackfillItem> {
    let item = state.reader().backfill(key).await?;
    item.ok_or_else(|| Problem::not_found("such backfill"))
}

/// Pauses, resumes or cancels a backfill, or says what that would change; returns it and the ids of the runs that are
/// cancelled with it.
pub(crate) async fn change(
    state: &WebState,
    who: &Identity,
    key: BackfillKey,
    change: BackfillChange,
    is_dry_run: bool,
) -> Result<(BackfillRow, Vec<RunId>)> {
    let side = if is_dry_run {
        AdminWrite::default()
    } else {
        AdminWrite::audit(who.did(&format!("backfill.{change}"), format!("backfill/{key}"), json!({})))
    };
    let (row, runs) = state.handle().change_backfill(key, change, is_dry_run, side).await?;
    let mut ids = Vec::with_capacity(runs.len());
    for run in runs {
        ids.extend(state.reader().run_by_key(run).await?.map(|run| run.run_id));
    }
    Ok((row, ids))
}

/// Shows a backfill with why it makes no run at present.
pub(crate) async fn view(state: &WebState, item: BackfillItem) -> Result<BackfillView> {
    let wait = match item.row.state.is_terminal() {
        true => None,
        // A stand-by does not know; the row says all that it can.
        false => state.handle().explain_backfill(item.row.key).await.ok().flatten(),
    };
    Ok(BackfillView::of(item, wait.map(|wait| wait.to_string())))
}
