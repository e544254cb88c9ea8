//! What the reading side hands out: plain structs, ready for JSON.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_engine::{
    action::Notify,
    definition::{Dag, Schedule},
    ids::{AttemptKey, DagId, PoolName, RunId, RunKey, TaskId},
    rows::{DagRow, RunRow, TaskRow, VersionHash},
    state::{RunState, RunType, TaskState},
};
use tidemill_protocol::worker::Report;

/// The most rows that a page has, whatever was asked for.
pub const PAGE_LIMIT: u32 = 500;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

/// Where a page begins and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// `next_cursor` of the page before; absent: from the beginning.
    pub cursor: Option<String>,
    /// At most this many rows, from 1 to [`PAGE_LIMIT`].
    pub limit: u32,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { cursor: None, limit: 50 }
    }
}

/// Which DAGs a list shows, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DagQuery {
    /// The page.
    pub page: PageRequest,
    /// Part of the id or the description, in any case.
    pub text: Option<String>,
    /// A tag that they carry.
    pub tag: Option<String>,
    /// How they are doing.
    pub state: Option<DagFilter>,
    /// How many of the last runs each one brings along; 0: none.
    pub last_runs: u32,
}

/// How a DAG is doing, for filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DagFilter {
    /// Neither paused nor missing.
    Active,
    /// Paused.
    Paused,
    /// Paused by the scheduler, not by a person.
    AutoPaused,
    /// Its file is gone.
    Missing,
    /// It has a run that has not ended.
    Running,
    /// The last run that ended, by logical date, succeeded.
    Success,
    /// The last run that ended, by logical date, failed.
    Failed,
}

/// One DAG in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DagSummary {
    /// Its row.
    pub dag: DagRow,
    /// One line about it.
    pub description: Option<String>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// Its labels.
    pub tags: Vec<String>,
    /// When it runs by itself.
    pub schedule: Schedule,
    /// The zone of its schedule.
    pub timezone: String,
    /// How many tasks it has.
    pub task_count: u32,
    /// Its last runs by logical date, the newest first.
    pub last_runs: Vec<RunBar>,
}

/// A run as a bar in a strip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunBar {
    /// The run.
    pub key: RunKey,
    /// Its id.
    pub run_id: RunId,
    /// How it came to be.
    pub run_type: RunType,
    /// Where it is.
    pub state: RunState,
    /// A task failed although it succeeded.
    pub with_failures: bool,
    /// What it is about.
    pub logical_date: DateTime<Utc>,
    /// Became `running` at.
    pub started_at: Option<DateTime<Utc>>,
    /// Ended at.
    pub finished_at: Option<DateTime<Utc>>,
}

impl From<&RunRow> for RunBar {
    fn from(run: &RunRow) -> Self {
        Self {
            key: run.key,
            run_id: run.run_id.clone(),
            run_type: run.run_type,
            state: run.state,
            with_failures: run.with_failures,
            logical_date: run.logical_date,
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

/// A DAG with its newest definition.
#[derive(Clone, Debug, PartialEq)]
pub struct DagDetail {
    /// Its row.
    pub dag: DagRow,
    /// What it is.
    pub definition: Arc<Dag>,
}

/// One version in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Its hash.
    pub hash: VersionHash,
    /// The file, relative to the DAG folder.
    pub path: String,
    /// First seen at.
    pub created_at: DateTime<Utc>,
}

/// Which runs a list shows, by logical date, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// The page.
    pub page: PageRequest,
    /// Of this DAG only.
    pub dag_id: Option<DagId>,
    /// In one of these states; empty: in any.
    pub states: Vec<RunState>,
    /// Of this type only.
    pub run_type: Option<RunType>,
    /// Only what ended at this instant or later.
    pub finished_since: Option<DateTime<Utc>>,
    /// Only logical dates at this instant or later.
    pub logical_since: Option<DateTime<Utc>>,
    /// Only logical dates before this instant.
    pub logical_before: Option<DateTime<Utc>>,
    /// Only runs that have missed their deadline.
    pub is_late: bool,
}

/// Which task instances a list shows, the newest run first, then by task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    /// The page.
    pub page: PageRequest,
    /// Of this DAG only.
    pub dag_id: Option<DagId>,
    /// In this state only.
    pub state: Option<TaskState>,
    /// Only what ended at this instant or later.
    pub finished_since: Option<DateTime<Utc>>,
}

/// A task instance in a list over many runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskListItem {
    /// Its DAG.
    pub dag_id: DagId,
    /// Its run.
    pub run_id: RunId,
    /// Itself.
    pub task: TaskRow,
}

/// The newest runs of a DAG with the states of their task instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Every task that occurs in `runs`, by id.
    pub tasks: Vec<TaskId>,
    /// The runs by logical date, the newest first.
    pub runs: Vec<GridRun>,
    /// Where older runs begin; null at the end.
    pub next_cursor: Option<String>,
}

/// One column of a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GridRun {
    /// The run.
    pub run: RunBar,
    /// The version that it is pinned to.
    pub dag_version: VersionHash,
    /// Its task instances, by task and element. `no_status` has no cell.
    pub cells: Vec<GridCell>,
}

/// One task instance of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GridCell {
    /// Index in [`Grid::tasks`].
    pub task: u32,
    /// The element, −1 when not mapped.
    pub map_index: i32,
    /// Where it is.
    pub state: TaskState,
    /// Its newest try.
    pub try_number: u32,
}

/// A report with the attempt that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredReport {
    /// Which.
    pub attempt: AttemptKey,
    /// What was found.
    pub report: Report,
    /// When it was committed.
    pub created_at: DateTime<Utc>,
}

/// A report of one of the last runs, for a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportPoint {
    /// The run.
    pub run_id: RunId,
    /// Its logical date.
    pub logical_date: DateTime<Utc>,
    /// The newest report of the task in it.
    pub report: StoredReport,
}

/// Numbers for the home page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeCounts {
    /// DAGs that are neither paused nor missing.
    pub dags_active: u64,
    /// DAGs that are paused.
    pub dags_paused: u64,
    /// DAGs whose file is gone.
    pub dags_missing: u64,
    /// Runs that wait for `max_active_runs`.
    pub runs_queued: u64,
    /// Runs that are running.
    pub runs_running: u64,
    /// Runs that are parked for a person.
    pub runs_paused: u64,
    /// Runs that succeeded since `now` − 24 h.
    pub runs_succeeded: u64,
    /// Runs that failed since `now` − 24 h.
    pub runs_failed: u64,
    /// Task instances by state, for the states that are not terminal; absent: none.
    pub tasks: BTreeMap<TaskState, u64>,
    /// Task instances that failed since `now` − 24 h.
    pub tasks_failed: u64,
    /// DAG files with problems.
    pub import_errors: u64,
    /// Messages that wait for their delivery.
    pub outbox_pending: u64,
    /// The last 24 clock hours by UTC, the oldest first, the present one last.
    pub hours: Vec<HourCounts>,
}

/// Runs that ended within one hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourCounts {
    /// Its begin.
    pub hour: DateTime<Utc>,
    /// How many succeeded.
    pub success: u64,
    /// How many failed.
    pub failed: u64,
    /// How many were cancelled.
    pub cancelled: u64,
}

/// A pool with its load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolUse {
    /// Its name.
    pub name: PoolName,
    /// How many slots it has.
    pub slots: u32,
    /// What it protects.
    pub description: String,
    /// Slots that leased instances take.
    pub used: u32,
    /// Leased instances.
    pub leased: u32,
}

/// A message to the outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// The message; delivered at least once by its id.
    pub message: Notify,
    /// When it was committed.
    pub created_at: DateTime<Utc>,
    /// How many deliveries failed.
    pub failures: u32,
    /// The next delivery is due at; absent: it was delivered or given up.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// Delivered at.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// An entry of the audit log with its place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Counts from 1 without a gap.
    pub seq: i64,
    /// What was done.
    pub entry: crate::batch::AuditEntry,
    /// SHA-256 over the hash before and the entry, hexadecimal.
    pub hash: String,
}

/// Which audit entries a list shows, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// The page.
    pub page: PageRequest,
    /// About subjects that begin so, such as `dag/etl`.
    pub subject_prefix: Option<String>,
    /// About this subject and what is inside of it: `dag/etl` and `dag/etl/…`, but not `dag/etl_2`.
    pub subject: Option<String>,
    /// By this person or machine.
    pub actor: Option<String>,
}

/// How far the audit log's chain holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCheck {
    /// How many entries were checked.
    pub entries: u64,
    /// The first entry whose hash or number is wrong.
    pub broken_at: Option<i64>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderInfo {
    /// Who; empty when nobody does.
    pub holder: String,
    /// Where it is reached.
    pub url: String,
    /// Its term.
    pub term: i64,
    /// Whether its lease holds, by the database's clock; true where leases do not expire.
    pub is_valid: bool,
}

/// How the database is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreHealth {
    /// `sqlite`, `postgresql` or `memory`.
    pub backend: String,
    /// Its newest migration.
    pub schema_version: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// The size of the write-ahead log, in bytes; SQLite only.
    pub wal_bytes: u64,
}
