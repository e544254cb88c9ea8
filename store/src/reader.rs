//! The one who reads: what pages, the REST API and the renderer ask for.
//!
//! Lists are keyset pages: a cursor names the last row of a page, so page 1 000 costs what page 1 costs and
//! rows that arrive meanwhile shift nothing. A cursor is opaque; only the store makes and reads it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_engine::{
    action::Notify,
    definition::{Dag, Schedule},
    ids::{AttemptKey, DagId, PoolName, RunId, RunKey, TaskId, TaskInstanceKey},
    rows::{DagRow, PassedOver, RunRow, TaskRow, TryRow, VersionHash},
    state::{RunState, RunType, TaskState},
};
use tidemill_protocol::worker::Report;

use crate::{
    batch::{ApiToken, IdempotencyRow, ImportError, JoinToken, LoginLink, Session, VersionRow, WorkerKey},
    error::{OpenError, ReadError},
};

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

/// The reading side. Any number per process; pages may be a commit behind, never between two.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Returns DAGs by id.
    ///
    /// # Errors
    /// STO0301, STO0302, STO0303, as of every method here.
    async fn dags(&self, query: &DagQuery) -> Result<Page<DagSummary>, ReadError>;

    /// Returns every tag in use, sorted.
    ///
    /// # Errors
    /// As above.
    async fn tags(&self) -> Result<Vec<String>, ReadError>;

    /// Returns a DAG.
    ///
    /// # Errors
    /// As above.
    async fn dag(&self, dag_id: &DagId) -> Result<Option<DagDetail>, ReadError>;

    /// Returns a DAG's versions, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn versions(&self, dag_id: &DagId) -> Result<Vec<VersionInfo>, ReadError>;

    /// Returns a version with its source text.
    ///
    /// # Errors
    /// As above.
    async fn version(&self, dag_id: &DagId, hash: &VersionHash) -> Result<Option<VersionRow>, ReadError>;

    /// Returns the definition of a version; recent ones come from memory.
    ///
    /// # Errors
    /// As above.
    async fn definition(&self, dag_id: &DagId, hash: &VersionHash) -> Result<Option<Arc<Dag>>, ReadError>;

    /// Returns the dates that were passed over, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn passed_over(&self, dag_id: &DagId, limit: u32) -> Result<Vec<PassedOver>, ReadError>;

    /// Returns runs by logical date, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRow>, ReadError>;

    /// Returns a run by the ids that people use.
    ///
    /// # Errors
    /// As above.
    async fn run(&self, dag_id: &DagId, run_id: &RunId) -> Result<Option<RunRow>, ReadError>;

    /// Returns a run by its number.
    ///
    /// # Errors
    /// As above.
    async fn run_by_key(&self, run: RunKey) -> Result<Option<RunRow>, ReadError>;

    /// Returns those of the given dates for which a scheduled run is stored: what a tick is told.
    ///
    /// # Errors
    /// As above.
    async fn taken_dates(
        &self,
        dates: &[(DagId, DateTime<Utc>)],
    ) -> Result<Vec<(DagId, DateTime<Utc>)>, ReadError>;

    /// Returns the newest successful run with a logical date before the given one.
    ///
    /// # Errors
    /// As above.
    async fn previous_success(
        &self,
        dag_id: &DagId,
        before: DateTime<Utc>,
    ) -> Result<Option<RunRow>, ReadError>;

    /// Returns runs of a DAG that ended before an instant, the oldest first: what retention may delete.
    ///
    /// # Errors
    /// As above.
    async fn runs_finished_before(
        &self,
        dag_id: &DagId,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<RunRow>, ReadError>;

    /// Returns the stored task instances of a run, by task and element.
    ///
    /// # Errors
    /// As above.
    async fn tasks(&self, run: RunKey) -> Result<Vec<TaskRow>, ReadError>;

    /// Returns one task instance; absent is `no_status`.
    ///
    /// # Errors
    /// As above.
    async fn task(&self, key: &TaskInstanceKey) -> Result<Option<TaskRow>, ReadError>;

    /// Returns task instances over many runs.
    ///
    /// # Errors
    /// As above.
    async fn task_list(&self, query: &TaskQuery) -> Result<Page<TaskListItem>, ReadError>;

    /// Returns the newest `limit` runs of a DAG with their cells; `cursor` continues to older ones.
    ///
    /// # Errors
    /// As above.
    async fn grid(&self, dag_id: &DagId, page: &PageRequest) -> Result<Option<Grid>, ReadError>;

    /// Returns the tries of a task instance, the oldest first.
    ///
    /// # Errors
    /// As above.
    async fn tries(&self, key: &TaskInstanceKey) -> Result<Vec<TryRow>, ReadError>;

    /// Returns one try.
    ///
    /// # Errors
    /// As above.
    async fn try_row(&self, attempt: &AttemptKey) -> Result<Option<TryRow>, ReadError>;

    /// Returns the rendered work of an attempt, secrets masked.
    ///
    /// # Errors
    /// As above.
    async fn rendered(&self, attempt: &AttemptKey) -> Result<Option<serde_json::Value>, ReadError>;

    /// Returns the hash of an attempt's token; it outlives the attempt.
    ///
    /// # Errors
    /// As above.
    async fn token_hash(&self, attempt: &AttemptKey) -> Result<Option<String>, ReadError>;

    /// Returns the outputs of a task instance by key.
    ///
    /// # Errors
    /// As above.
    async fn outputs(&self, key: &TaskInstanceKey) -> Result<BTreeMap<String, serde_json::Value>, ReadError>;

    /// Returns the outputs of unmapped task instances of a run: task → key → value; an empty list of tasks
    /// means all.
    ///
    /// # Errors
    /// As above.
    async fn run_outputs(
        &self,
        run: RunKey,
        tasks: &[TaskId],
    ) -> Result<BTreeMap<TaskId, BTreeMap<String, serde_json::Value>>, ReadError>;

    /// Returns the reports of a task instance, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn reports(&self, key: &TaskInstanceKey) -> Result<Vec<StoredReport>, ReadError>;

    /// Returns the report of one attempt.
    ///
    /// # Errors
    /// As above.
    async fn report(&self, attempt: &AttemptKey) -> Result<Option<StoredReport>, ReadError>;

    /// Returns the newest report of an unmapped task in each of the DAG's last `limit` runs that have one, the
    /// newest first.
    ///
    /// # Errors
    /// As above.
    async fn report_history(
        &self,
        dag_id: &DagId,
        task: &TaskId,
        limit: u32,
    ) -> Result<Vec<ReportPoint>, ReadError>;

    /// Counts for the home page.
    ///
    /// # Errors
    /// As above.
    async fn home(&self, now: DateTime<Utc>) -> Result<HomeCounts, ReadError>;

    /// Returns the pools with their load, by name.
    ///
    /// # Errors
    /// As above.
    async fn pools(&self) -> Result<Vec<PoolUse>, ReadError>;

    /// Returns the problems of DAG files, by path.
    ///
    /// # Errors
    /// As above.
    async fn import_errors(&self) -> Result<Vec<ImportError>, ReadError>;

    /// Returns messages whose delivery is due, the longest due first.
    ///
    /// # Errors
    /// As above.
    async fn outbox_due(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<OutboxRow>, ReadError>;

    /// Returns when the next message falls due.
    ///
    /// # Errors
    /// As above.
    async fn outbox_next(&self) -> Result<Option<DateTime<Utc>>, ReadError>;

    /// Returns an API token by the hash of its secret, revoked and expired ones too.
    ///
    /// # Errors
    /// As above.
    async fn api_token(&self, hash: &str) -> Result<Option<ApiToken>, ReadError>;

    /// Returns the API tokens, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn api_tokens(&self) -> Result<Vec<ApiToken>, ReadError>;

    /// Returns a session by the hash of its secret, an expired one too.
    ///
    /// # Errors
    /// As above.
    async fn session(&self, hash: &str) -> Result<Option<Session>, ReadError>;

    /// Returns a login link by the hash of its secret, used and expired ones too.
    ///
    /// # Errors
    /// As above.
    async fn login_link(&self, hash: &str) -> Result<Option<LoginLink>, ReadError>;

    /// Returns a worker's key by its hash, a revoked one too.
    ///
    /// # Errors
    /// As above.
    async fn worker_key(&self, hash: &str) -> Result<Option<WorkerKey>, ReadError>;

    /// Returns a join token by the hash of its secret, revoked and expired ones too.
    ///
    /// # Errors
    /// As above.
    async fn join_token(&self, hash: &str) -> Result<Option<JoinToken>, ReadError>;

    /// Returns the join tokens, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn join_tokens(&self) -> Result<Vec<JoinToken>, ReadError>;

    /// Returns what an `Idempotency-Key` made.
    ///
    /// # Errors
    /// As above.
    async fn idempotency(&self, key_hash: &str) -> Result<Option<IdempotencyRow>, ReadError>;

    /// Returns audit entries, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRow>, ReadError>;

    /// Recomputes the audit log's chain from its beginning.
    ///
    /// # Errors
    /// As above.
    async fn check_audit(&self) -> Result<AuditCheck, ReadError>;

    /// Returns a named value of the instance.
    ///
    /// # Errors
    /// As above.
    async fn setting(&self, name: &str) -> Result<Option<String>, ReadError>;

    /// Returns who leads; absent before anybody ever did.
    ///
    /// # Errors
    /// As above.
    async fn leader(&self) -> Result<Option<LeaderInfo>, ReadError>;

    /// Returns how the database is.
    ///
    /// # Errors
    /// As above.
    async fn health(&self) -> Result<StoreHealth, ReadError>;

    /// Writes a consistent copy while everything goes on, and returns its size in bytes. The target must not
    /// exist.
    ///
    /// # Errors
    /// STO0106 on PostgreSQL, STO0109 when the copy cannot be written.
    async fn backup(&self, target: &Path) -> Result<u64, OpenError>;
}
