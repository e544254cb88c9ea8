//! The one who reads: what pages, the REST API and the renderer ask for.
//!
//! Lists are keyset pages: a cursor names the last row of a page, so page 1 000 costs what page 1 costs and
//! rows that arrive meanwhile shift nothing. A cursor is opaque; only the store makes and reads it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tidemill_engine::{
    asset::{AssetEventId, AssetEventRow},
    definition::Dag,
    ids::{AttemptKey, ConnectionId, DagId, RunId, RunKey, TaskId, TaskInstanceKey, VariableName, WorkerId},
    mapping::MapValues,
    rows::{PassedOver, PreviousRun, RunRow, TaskRow, TryRow, VersionHash},
};

use crate::{
    access::{ApiToken, IdempotencyRow, JoinToken, LoginLink, Session, WorkerKey},
    assets::{AssetEventItem, AssetEventQuery, AssetQuery, AssetSummary, OldAssetEvents},
    batch::{ImportError, VersionRow},
    error::{OpenError, ReadError},
    history::HistoryReader,
    vault::{ConnectionRow, VariableRow},
};
pub use crate::{backfills::*, pages::*};

/// The reading side. Any number per process; an answer may be a commit behind the writer.
#[async_trait]
pub trait Reader: BackfillReader + HistoryReader {
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

    /// Returns the run before a logical date that tasks ask for: the newest scheduled or backfill run with an earlier
    /// one, of two with the same date the scheduled one (`semantics.md` §6).
    ///
    /// # Errors
    /// As above.
    async fn previous_run(
        &self,
        dag_id: &DagId,
        before: DateTime<Utc>,
    ) -> Result<Option<PreviousRun>, ReadError>;

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

    /// Returns the rendered work of an attempt.
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

    /// Returns the outputs of the elements of a mapped task: element → key → value.
    ///
    /// # Errors
    /// As above.
    async fn mapped_outputs(
        &self,
        run: RunKey,
        task: &TaskId,
    ) -> Result<BTreeMap<i32, BTreeMap<String, serde_json::Value>>, ReadError>;

    /// Returns how many elements each expanded task of a run has.
    ///
    /// # Errors
    /// As above.
    async fn map_lengths(&self, run: RunKey) -> Result<BTreeMap<TaskId, u32>, ReadError>;

    /// Returns the elements of an expanded task.
    ///
    /// # Errors
    /// As above.
    async fn map_values(&self, run: RunKey, task: &TaskId) -> Result<Option<Arc<MapValues>>, ReadError>;

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

    /// Returns the newest report of an unmapped task in each of the DAG's last `limit` runs up to a logical date
    /// that have one, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn report_history(
        &self,
        dag_id: &DagId,
        task: &TaskId,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<ReportPoint>, ReadError>;

    /// Returns the assets that DAG files name, by name.
    ///
    /// # Errors
    /// As above.
    async fn assets(&self, query: &AssetQuery) -> Result<Page<AssetSummary>, ReadError>;

    /// Returns events on assets, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn asset_events(&self, query: &AssetEventQuery) -> Result<Page<AssetEventItem>, ReadError>;

    /// Returns the events that caused a run, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn run_asset_events(&self, run: RunKey, limit: u32) -> Result<Vec<AssetEventRow>, ReadError>;

    /// Returns the events that wait for a DAG, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn queued_asset_events(&self, dag_id: &DagId, limit: u32) -> Result<Vec<AssetEventRow>, ReadError>;

    /// Returns the event that was posted with an `Idempotency-Key`, and the hash of its request.
    ///
    /// # Errors
    /// As above.
    async fn asset_event_by_key(&self, key_hash: &str) -> Result<Option<(AssetEventRow, String)>, ReadError>;

    /// Returns events that retention may delete, the oldest first.
    ///
    /// # Errors
    /// As above.
    async fn old_asset_events(&self, old: OldAssetEvents) -> Result<Vec<AssetEventId>, ReadError>;

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

    /// Returns the variables of some names that exist, by name; an empty list of names means all.
    ///
    /// # Errors
    /// As above.
    async fn variables(&self, names: &[VariableName]) -> Result<Vec<VariableRow>, ReadError>;

    /// Returns the connections of some ids that exist, by id; an empty list of ids means all.
    ///
    /// # Errors
    /// As above.
    async fn connections(&self, ids: &[ConnectionId]) -> Result<Vec<ConnectionRow>, ReadError>;

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

    /// Whether a worker has a key that is not revoked.
    ///
    /// # Errors
    /// As above.
    async fn has_worker_key(&self, worker: &WorkerId) -> Result<bool, ReadError>;

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
