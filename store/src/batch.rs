//! What one commit writes.
//!
//! A batch is plain data: the scheduler fills it from the engine's actions and from requests, and
//! [`crate::Writer::commit`] writes it in one transaction or not at all.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, LazyLock},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_engine::{
    action::{MapChange, Notify, RunChange, TaskChange, TaskFence, TryChange},
    asset::{AssetChange, AssetEventId},
    backfill::{BackfillDate, BackfillRow},
    definition::Dag,
    ids::{AttemptKey, DagId, PoolName, RunKey, TaskInstanceKey},
    rows::{DagRow, PassedOver, PoolRow, VersionHash},
    state::{RunState, TaskState},
};
use tidemill_protocol::worker::Report;

use crate::{
    access::{AccessChange, IdempotencyRow},
    backfills::BackfillIdempotencyRow,
    vault::VaultChange,
};

/// Numbers the batches of one leadership term from 1. Written to the leadership row with the batch, so that a
/// commit whose answer was lost can be settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub i64);

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Everything that one transaction writes. All lists may be empty.
///
/// Lists are applied in the order of the fields. Within `runs` and `tasks` one row may appear several times;
/// its changes are applied in their order; [`Coalescer`] merges them where that is allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The leadership term that it is committed under.
    pub term: i64,
    /// Its number in the term.
    pub id: BatchId,
    /// The wall clock of the commit; becomes `created_at` of rows that have no instant of their own.
    pub at: DateTime<Utc>,
    /// DAG versions; written once, a repeated one only refreshes its source text and path.
    pub versions: Vec<VersionRow>,
    /// DAG rows, inserted or replaced. Their version is stored before or in the same batch.
    pub dags: Vec<DagRow>,
    /// Dates that were passed over.
    pub passed_over: Vec<PassedOver>,
    /// Runs, inserted or changed, guarded by the state they leave.
    pub runs: Vec<RunChange>,
    /// Backfills, inserted or changed where they have not ended.
    pub backfills: Vec<BackfillRow>,
    /// What became of dates of backfills.
    pub backfill_dates: Vec<BackfillDate>,
    /// Which backfill an `Idempotency-Key` made. A key that exists is a guard mismatch.
    pub backfill_idempotency: Vec<BackfillIdempotencyRow>,
    /// Task instances, inserted, changed or deleted, guarded by their fence.
    pub tasks: Vec<TaskChange>,
    /// Elements of mapped tasks: stored, replaced or deleted; of two with one key the later counts.
    pub maps: Vec<MapChange>,
    /// Tries, inserted, or changed where they have no outcome yet.
    pub tries: Vec<TryWrite>,
    /// Outputs of successful tries; they replace the instance's former ones. A clear in `tasks` deletes them.
    pub outputs: Vec<OutputsWrite>,
    /// Reports of operators, one per attempt.
    pub reports: Vec<ReportWrite>,
    /// What happened on assets, in order.
    pub assets: Vec<AssetWrite>,
    /// Asset events that retention deletes; one that somebody waits for, or that a run was caused by, stays.
    pub asset_deletes: Vec<AssetEventId>,
    /// Pools, inserted or replaced.
    pub pools: Vec<PoolRow>,
    /// Pools, deleted.
    pub pool_deletes: Vec<PoolName>,
    /// Messages to the outside: new, delivered, failed.
    pub outbox: Vec<OutboxChange>,
    /// Problems of DAG files: set or gone.
    pub import_errors: Vec<ImportErrorChange>,
    /// Entries of the audit log, in order; the store chains them.
    pub audit: Vec<AuditEntry>,
    /// Tokens, sessions and worker keys.
    pub access: Vec<AccessChange>,
    /// Variables and connections, in order.
    pub vault: Vec<VaultChange>,
    /// Which run an `Idempotency-Key` made. A key that exists is a guard mismatch.
    pub idempotency: Vec<IdempotencyRow>,
    /// Finished runs that retention deletes with everything that hangs on them; one that is not finished stays.
    pub run_deletes: Vec<RunKey>,
    /// DAGs that are deleted with everything that hangs on them.
    pub dag_deletes: Vec<DagId>,
    /// Per DAG: versions that neither the DAG nor a run uses and that were first seen before the instant, and records of
    /// dates that were passed over before it, are deleted.
    pub prunes: Vec<(DagId, DateTime<Utc>)>,
    /// Named values of the instance (its secret, …), inserted or replaced.
    pub settings: Vec<(String, String)>,
    /// Expired sessions and login links, idempotency keys and delivered messages older than this are deleted.
    pub expire_before: Option<DateTime<Utc>>,
}

impl Batch {
    /// Returns an empty batch.
    #[must_use]
    pub fn new(term: i64, id: BatchId, at: DateTime<Utc>) -> Self {
        Self { term, id, at, ..Self::default() }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::new(self.term, self.id, self.at)
    }
}

/// Merges changes of one row while a batch is filled: first `from`, last `to`.
///
/// A pair of states that no single commit may make (a finished run that is cleared and starts in one batch)
/// stays two changes, which the store applies one after the other, so that the schema can check each.
#[derive(Clone, Debug, Default)]
pub struct Coalescer {
    runs: HashMap<RunKey, usize>,
    tasks: HashMap<TaskInstanceKey, usize>,
}

impl Coalescer {
    /// Adds a run change to the batch.
    pub fn push_run(&mut self, batch: &mut Batch, change: RunChange) {
        if let Some(last) = self.runs.get(&change.row.key).and_then(|index| batch.runs.get_mut(*index)) {
            let to = change.row.state;
            let is_legal = match last.from {
                None => true,
                Some(from) => from == last.row.state || last.row.state == to || is_run_step(from, to),
            };
            if is_legal && change.from == Some(last.row.state) {
                last.row = change.row;
                return;
            }
        }
        self.runs.insert(change.row.key, batch.runs.len());
        batch.runs.push(change);
    }

    /// Adds a task instance change to the batch.
    pub fn push_task(&mut self, batch: &mut Batch, change: TaskChange) {
        if let Some(last) = self.tasks.get(&change.row.key).and_then(|index| batch.tasks.get_mut(*index)) {
            let follows =
                TaskFence { state: last.row.state, try_number: last.row.try_number, epoch: last.row.epoch }
                    == change.from;
            let (from, to) = (last.from.state, change.row.state);
            // A deletion followed by an insertion is a clear of the row; an insertion that is undone stays two
            // changes.
            let is_clear = last.is_clear
                || change.is_clear
                || (last.row.state == TaskState::NoStatus && from != TaskState::NoStatus);
            let is_legal = if is_clear {
                from != TaskState::NoStatus
                    && (to == TaskState::NoStatus || is_task_step(TaskState::NoStatus, to))
            } else {
                from == last.row.state || last.row.state == to || is_task_step(from, to)
            };
            if follows && is_legal {
                last.row = change.row;
                last.is_clear = is_clear;
                last.is_note = last.is_note && change.is_note;
                return;
            }
        }
        self.tasks.insert(change.row.key.clone(), batch.tasks.len());
        batch.tasks.push(change);
    }
}

/// Whether a run may go from one state to another in one change.
pub(crate) fn is_run_step(from: RunState, to: RunState) -> bool {
    static STEPS: LazyLock<HashSet<(RunState, RunState)>> =
        LazyLock::new(|| RunState::transitions().into_iter().collect());
    STEPS.contains(&(from, to))
}

/// Whether a task instance may go from one state to another in one change.
pub(crate) fn is_task_step(from: TaskState, to: TaskState) -> bool {
    static STEPS: LazyLock<HashSet<(TaskState, TaskState)>> =
        LazyLock::new(|| TaskState::transitions().into_iter().collect());
    STEPS.contains(&(from, to))
}

/// A change of assets with what only the store keeps of it.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetWrite {
    /// The change.
    pub change: AssetChange,
    /// The `Idempotency-Key` that an event was posted with. One that exists is a guard mismatch.
    pub key: Option<AssetKey>,
}

/// What keeps a posted event from being posted twice, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetKey {
    /// SHA-256 of actor, route and key, hexadecimal.
    pub key_hash: String,
    /// SHA-256 of the request's body, hexadecimal.
    pub request_hash: String,
}

/// A version of a DAG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionRow {
    /// The DAG.
    pub dag_id: DagId,
    /// The hash of its canonical definition.
    pub hash: VersionHash,
    /// The definition.
    pub definition: Arc<Dag>,
    /// The file's text.
    pub source: String,
    /// The file, relative to the DAG folder.
    pub path: String,
    /// First seen at.
    pub created_at: DateTime<Utc>,
}

/// A try with what only the store keeps of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TryWrite {
    /// The try.
    pub change: TryChange,
    /// SHA-256 of the attempt's token, hexadecimal; set with a new try.
    pub token_hash: Option<String>,
    /// The rendered work; set with a new try.
    pub rendered: Option<serde_json::Value>,
}

/// Outputs of a successful try.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputsWrite {
    /// Which try.
    pub attempt: AttemptKey,
    /// Its outputs by key.
    pub values: BTreeMap<String, serde_json::Value>,
}

/// What an operator found.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportWrite {
    /// Which try.
    pub attempt: AttemptKey,
    /// What.
    pub report: Report,
}

/// A change of the outbox.
#[derive(Clone, Debug, PartialEq)]
pub enum OutboxChange {
    /// A new message; one with the same id is already on its way and stays as it is.
    Insert(Notify),
    /// It was delivered.
    Delivered {
        /// Which.
        id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// A delivery failed.
    Failed {
        /// Which.
        id: String,
        /// Why.
        error: String,
        /// The next attempt is made then; absent: it is given up.
        next_attempt_at: Option<DateTime<Utc>>,
    },
}

/// A change of the import errors.
#[derive(Clone, Debug, PartialEq)]
pub enum ImportErrorChange {
    /// The file has problems.
    Set(ImportError),
    /// The file is fine again, or gone.
    Clear {
        /// The file, relative to the DAG folder.
        path: String,
    },
}

/// The problems of a DAG file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportError {
    /// The file, relative to the DAG folder.
    pub path: String,
    /// The DAG that was loaded from it last.
    pub dag_id: Option<DagId>,
    /// The problems, in the shape of `dags check --format json`.
    pub problems: serde_json::Value,
    /// The file's text, for the snippets.
    pub source: String,
    /// When it was read.
    pub at: DateTime<Utc>,
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What was done, a stable word such as `dag.pause`.
    pub action: String,
    /// What it was done to, such as `dag/etl` or `run/etl/manual__…`.
    pub subject: String,
    /// More, such as old and new values.
    pub detail: serde_json::Value,
}
