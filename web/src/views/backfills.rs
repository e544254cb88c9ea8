//! Backfills on the wire.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_engine::{backfill::Plan, ids::DagId};
use tidemill_scheduler::BackfillPreview;
use tidemill_store::reader::{BackfillDateItem, BackfillItem};
use utoipa::ToSchema;

/// Asks for a backfill.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillBody {
    /// The DAG.
    pub dag_id: String,
    /// The first logical date: a date, or a time; without an offset in the zone of the DAG.
    pub from: String,
    /// The last logical date; a date alone is all of that day.
    pub to: String,
    /// What becomes of dates that have a run: `none` (the default), `failed` or `completed` are run again.
    #[serde(default)]
    pub reprocess: Option<String>,
    /// How many of its runs may be active at a time; null: 10.
    #[serde(default)]
    pub max_active_runs: Option<u32>,
    /// The newest date first.
    #[serde(default)]
    pub run_backwards: bool,
    /// Overrides params in every run.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub conf: serde_json::Map<String, serde_json::Value>,
    /// Only say what would become of each date.
    #[serde(default)]
    pub dry_run: bool,
    /// Of a dry run: `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Of a dry run: at most so many dates, up to 500; null: 100.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// A backfill.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackfillView {
    /// Its number.
    pub id: i64,
    /// The DAG.
    pub dag_id: String,
    /// `running`, `paused`, `finished` or `cancelled`.
    pub state: String,
    /// Why it is paused, when no person did it.
    pub reason: Option<String>,
    /// Why it makes no run at present; null once it has ended.
    pub waits: Option<String>,
    /// The first logical date.
    pub from: DateTime<Utc>,
    /// The last logical date.
    pub to: DateTime<Utc>,
    /// What becomes of dates that have a run.
    pub reprocess: String,
    /// How many of its runs may be active at a time.
    pub max_active_runs: u32,
    /// The newest date first.
    pub run_backwards: bool,
    /// What every run overrides of the params.
    #[schema(value_type = Object)]
    pub conf: serde_json::Map<String, serde_json::Value>,
    /// What became of its dates.
    pub dates: BackfillDatesView,
    /// Its runs as they are now.
    pub runs: BackfillRunsView,
    /// How long the rest takes, by the mean duration so far; null while nothing is known or left.
    pub seconds_left: Option<f64>,
    /// Who created it.
    pub created_by: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// A person asked for its cancellation at.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// Ended at.
    pub finished_at: Option<DateTime<Utc>>,
}

/// What became of the dates of a backfill.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackfillDatesView {
    /// All of them.
    pub total: u64,
    /// Nobody has looked at them yet.
    pub left: u64,
    /// They got a run.
    pub created: u64,
    /// Their run was cleared.
    pub reprocessed: u64,
    /// They have a run that is not run again.
    pub passed_over: u64,
    /// They have a run that has not ended, or that cannot be cleared.
    pub left_alone: u64,
}

/// The runs of a backfill by state.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackfillRunsView {
    /// Waiting for the limit.
    pub queued: u64,
    /// Running.
    pub running: u64,
    /// Parked for a person.
    pub paused: u64,
    /// Succeeded.
    pub success: u64,
    /// Failed.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
}

impl BackfillView {
    /// Shows a stored backfill.
    #[must_use]
    pub fn of(item: BackfillItem, waits: Option<String>) -> Self {
        let seconds_left = item.estimate().map(|left| left.as_seconds_f64());
        let BackfillItem { row, runs } = item;
        Self {
            id: row.key.0,
            dag_id: row.dag_id.to_string(),
            state: row.state.to_string(),
            waits,
            from: row.spec.from,
            to: row.spec.to,
            reprocess: row.spec.reprocess.to_string(),
            max_active_runs: row.spec.max_active_runs,
            run_backwards: row.spec.run_backwards,
            conf: (*row.spec.conf).clone(),
            dates: BackfillDatesView {
                total: row.date_count,
                left: row.dates_left(),
                created: row.created,
                reprocessed: row.reprocessed,
                passed_over: row.passed_over,
                left_alone: row.left_alone,
            },
            runs: BackfillRunsView {
                queued: runs.queued,
                running: runs.running,
                paused: runs.paused,
                success: runs.success,
                failed: runs.failed,
                cancelled: runs.cancelled,
            },
            seconds_left,
            reason: row.reason,
            created_by: row.created_by,
            created_at: row.created_at,
            cancel_requested_at: row.cancel_requested_at,
            finished_at: row.finished_at,
        }
    }
}

/// What became of a date, or would.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackfillDateView {
    /// The date.
    pub logical_date: DateTime<Utc>,
    /// `created`, `reprocessed`, `passed_over` or `left_alone`.
    pub outcome: String,
    /// Its run; null where there is none yet, or none any more.
    pub run_id: Option<String>,
    /// The state of its run.
    pub state: Option<String>,
    /// Why no run comes of it.
    pub reason: Option<String>,
}

impl From<BackfillDateItem> for BackfillDateView {
    fn from(item: BackfillDateItem) -> Self {
        Self {
            logical_date: item.date.logical_date,
            outcome: item.date.outcome.to_string(),
            run_id: item.run.as_ref().map(|run| run.run_id.to_string()),
            state: item.run.as_ref().map(|run| run.state.to_string()),
            reason: item.date.reason,
        }
    }
}

/// What a backfill would do, one page of its dates.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackfillPreviewView {
    /// The DAG.
    pub dag_id: String,
    /// The first logical date of the DAG in the range.
    pub from: DateTime<Utc>,
    /// The last one that lies wholly in the past.
    pub to: DateTime<Utc>,
    /// How many dates there are from the first to the last.
    pub date_count: u64,
    /// What would become of them, in the order of the backfill.
    pub items: Vec<BackfillDateView>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

impl BackfillPreviewView {
    /// Shows a page of a preview.
    #[must_use]
    pub fn of(dag_id: &DagId, preview: BackfillPreview) -> Self {
        let item = |(logical_date, plan): (DateTime<Utc>, Plan)| BackfillDateView {
            logical_date,
            outcome: plan.outcome().to_string(),
            run_id: None,
            state: None,
            reason: match plan {
                Plan::Nothing { reason, .. } => Some(reason),
                _ => None,
            },
        };
        Self {
            dag_id: dag_id.to_string(),
            from: preview.dates.first.logical_date,
            to: preview.dates.last.logical_date,
            date_count: preview.dates.count,
            items: preview.items.into_iter().map(item).collect(),
            next_cursor: preview.next.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
        }
    }
}

/// What a change of a backfill has done, or would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackfillChangeView {
    /// The backfill.
    pub id: i64,
    /// Its state then.
    pub state: String,
    /// Runs that are cancelled with it.
    pub cancelled_runs: Vec<String>,
    /// Nothing was changed.
    pub dry_run: bool,
}
