//! What people and programs ask for, one struct per request with more than one argument.

use chrono::{DateTime, Utc};
use tidemill_engine::{
    asset::{AssetEventId, AssetEventRow},
    event::ClearSelection,
    ids::{AssetName, DagId, RunId, RunKey, TaskId},
    rows::RunRow,
    state::TaskState,
};
use tidemill_store::{access::AccessChange, batch::AuditEntry, vault::VaultChange};

/// Asks for a dag run.
#[derive(Clone, Debug, PartialEq)]
pub struct TriggerRequest {
    /// The DAG.
    pub dag_id: DagId,
    /// A run id of the caller's own; absent: one is made.
    pub run_id: Option<RunId>,
    /// The logical date; absent: the instant of the trigger.
    pub logical_date: Option<DateTime<Utc>>,
    /// Overrides params.
    pub conf: serde_json::Map<String, serde_json::Value>,
    /// Who asks, for people.
    pub triggered_by: Option<String>,
    /// Makes a repetition of the same request return the same run.
    pub idempotency: Option<IdempotencyKey>,
}

/// An `Idempotency-Key` with what it stands for, hashed by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// SHA-256 of actor, route and key, hexadecimal.
    pub key_hash: String,
    /// SHA-256 of the request's body, hexadecimal.
    pub request_hash: String,
}

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct Triggered {
    /// The run.
    pub run: RunRow,
    /// An earlier request with the same idempotency key made it.
    pub is_repeated: bool,
}

/// Posts an event on an asset.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetPost {
    /// The asset.
    pub asset: AssetName,
    /// What the sender says about it.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Who posts it, for people.
    pub by: Option<String>,
    /// Makes a repetition of the same request return the same event.
    pub idempotency: Option<IdempotencyKey>,
}

/// What became of a post.
#[derive(Clone, Debug, PartialEq)]
pub struct PostedEvent {
    /// The event.
    pub event: AssetEventRow,
    /// An earlier request with the same idempotency key made it.
    pub is_repeated: bool,
}

/// Asks to clear task instances of a run, and of the runs before and after it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClearRequest {
    /// The run.
    pub run: RunKey,
    /// What is cleared.
    pub selection: ClearSelection,
    /// The same in every run of the DAG with an earlier logical date.
    pub past: bool,
    /// The same in every run of the DAG with a later logical date.
    pub future: bool,
    /// Only says what would change.
    pub is_dry_run: bool,
    /// The run takes the newest version of its DAG.
    pub latest: bool,
}

impl ClearRequest {
    /// Clears what is selected in this run only, in the version that it is pinned to.
    #[must_use]
    pub const fn new(run: RunKey, selection: ClearSelection) -> Self {
        Self { run, selection, past: false, future: false, is_dry_run: false, latest: false }
    }
}

/// Asks to give task instances a verdict by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRequest {
    /// The run.
    pub run: RunKey,
    /// The tasks.
    pub tasks: Vec<TaskId>,
    /// Only this element of each of them.
    pub map_index: Option<i32>,
    /// `success`, `failed` or `skipped`.
    pub state: TaskState,
    /// Only says what would change.
    pub is_dry_run: bool,
}

/// What is written without the engine having a say: who may do what, who did what, and what is thrown away.
///
/// Given to a call that changes something, it is committed with it, or not at all when the call is refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdminWrite {
    /// Tokens, sessions, login links, worker keys, join tokens.
    pub access: Vec<AccessChange>,
    /// Entries of the audit log.
    pub audit: Vec<AuditEntry>,
    /// Variables and connections, in order.
    pub vault: Vec<VaultChange>,
    /// Named values of the instance.
    pub settings: Vec<(String, String)>,
    /// Finished runs that retention deletes; their logs go with them.
    pub run_deletes: Vec<(DagId, RunKey)>,
    /// Asset events that retention deletes.
    pub asset_deletes: Vec<AssetEventId>,
    /// Per DAG: versions that nothing uses and records of dates that were passed over, older than the instant, are
    /// deleted.
    pub prunes: Vec<(DagId, DateTime<Utc>)>,
    /// Expired sessions, login links, idempotency keys and delivered messages older than this are deleted.
    pub expire_before: Option<DateTime<Utc>>,
}

impl AdminWrite {
    /// Returns a write of one audit entry.
    #[must_use]
    pub fn audit(entry: AuditEntry) -> Self {
        Self { audit: vec![entry], ..Self::default() }
    }

    /// Returns a write of one change of access.
    #[must_use]
    pub fn access(change: AccessChange) -> Self {
        Self { access: vec![change], ..Self::default() }
    }

    /// Adds an audit entry.
    #[must_use]
    pub fn with_audit(mut self, entry: AuditEntry) -> Self {
        self.audit.push(entry);
        self
    }
}
