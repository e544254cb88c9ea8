//! The durable records that the engine reads and writes: one struct per table row that it owns.
//!
//! The engine never sees a database. A change carries the whole new row and the state that the stored row is
//! expected to be in, so that the store can check without deciding.

use std::{collections::BTreeMap, fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    asset::AssetQueueRow,
    backfill::BackfillRow,
    definition::Dag,
    ids::{AttemptKey, BackfillKey, DagId, PoolName, RunId, RunKey, TaskId, TaskInstanceKey, WorkerId},
    mapping::MapValues,
    state::{RunState, RunType, StopReason, TaskState, TryOutcome},
};

/// The hash of a DAG's canonical definition: 32 hexadecimal digits (128 bits of SHA-256).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionHash(pub Arc<str>);

impl VersionHash {
    /// Returns the digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VersionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A DAG as the scheduler keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DagRow {
    /// The DAG.
    pub dag_id: DagId,
    /// The version that new runs take.
    pub version: VersionHash,
    /// The file, relative to the DAG folder.
    pub path: String,
    /// No scheduled runs are created while it is set.
    pub is_paused: bool,
    /// Its file is gone; it is shown but not scheduled.
    pub is_missing: bool,
    /// How many runs failed in a row, where the DAG asks for a limit.
    pub failed_runs: u32,
    /// Why it is paused, when no person did it.
    pub pause_reason: Option<String>,
    /// Every date whose `run_after` is at or before this instant is dealt with: created, or passed over and
    /// recorded. Retention never moves it back.
    pub cursor: DateTime<Utc>,
    /// When the DAG was first seen.
    pub created_at: DateTime<Utc>,
}

/// A dag run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    /// The engine's number.
    pub key: RunKey,
    /// The DAG.
    pub dag_id: DagId,
    /// The id that people use, unique in the DAG.
    pub run_id: RunId,
    /// How it came to be.
    pub run_type: RunType,
    /// Where it is.
    pub state: RunState,
    /// A task failed although the run succeeded.
    pub with_failures: bool,
    /// Why it ended or waits as it does, when there is more to say than the state.
    pub reason: Option<String>,
    /// The date that it is about.
    pub logical_date: DateTime<Utc>,
    /// Start of the data it covers, inclusive.
    pub data_interval_start: DateTime<Utc>,
    /// End of the data it covers, exclusive.
    pub data_interval_end: DateTime<Utc>,
    /// Created, or cleared, at.
    pub queued_at: DateTime<Utc>,
    /// Became `running` at.
    pub started_at: Option<DateTime<Utc>>,
    /// Ended at; set exactly in a terminal state.
    pub finished_at: Option<DateTime<Utc>>,
    /// What the trigger overrode; params are the defaults with this on top.
    pub conf: Arc<serde_json::Map<String, serde_json::Value>>,
    /// The version that it is pinned to.
    pub dag_version: VersionHash,
    /// A person asked for its cancellation at.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// It reached `run_timeout` at.
    pub timed_out_at: Option<DateTime<Utc>>,
    /// Who or what created it.
    pub triggered_by: Option<String>,
    /// The task instance that triggered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<TaskInstanceKey>,
    /// It is late when it has not ended by then.
    #[serde(default)]
    pub deadline_at: Option<DateTime<Utc>>,
    /// It was found to be late at.
    #[serde(default)]
    pub deadline_missed_at: Option<DateTime<Utc>>,
    /// The backfill that made it, or that cleared it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<BackfillKey>,
    /// It asks for no run before it: the first run of a backfill (`semantics.md` §6).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignores_past: bool,
}

/// A task instance. `no_status` has no row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    /// The instance.
    pub key: TaskInstanceKey,
    /// Where it is.
    pub state: TaskState,
    /// The newest try, 0 before the first. Only grows.
    pub try_number: u32,
    /// The newest lease epoch, 0 before the first. Only grows.
    pub epoch: u32,
    /// Failed tries since the last clear.
    pub failures: u32,
    /// Lost tries since the last clear.
    pub losses: u32,
    /// Its trigger rule held first at (since the last clear).
    pub scheduled_at: Option<DateTime<Utc>>,
    /// The newest try was assigned at.
    pub queued_at: Option<DateTime<Utc>>,
    /// The newest try started at.
    pub started_at: Option<DateTime<Utc>>,
    /// Ended at; set exactly in a terminal state.
    pub finished_at: Option<DateTime<Utc>>,
    /// The next try may start at; set exactly in `up_for_retry`.
    pub retry_at: Option<DateTime<Utc>>,
    /// How many pokes of a sensor have found nothing since the last clear.
    #[serde(default)]
    pub pokes: u32,
    /// The first poke of a sensor was assigned at (since the last clear).
    #[serde(default)]
    pub first_poke_at: Option<DateTime<Utc>>,
    /// The next poke is due at; set exactly in `up_for_reschedule`.
    #[serde(default)]
    pub next_poke_at: Option<DateTime<Utc>>,
    /// The worker of the newest try; set whenever it is leased.
    pub worker: Option<WorkerId>,
    /// The exit code of the newest try.
    pub exit_code: Option<i32>,
    /// Why it ended or waits as it does, when there is more to say than the state.
    pub reason: Option<String>,
    /// Its leased attempt is being stopped; what follows once it is known to be dead.
    pub stop: Option<StopReason>,
    /// The branch verdict: the direct downstreams that are followed. Stored with a success of a branch.
    pub follow: Option<Vec<TaskId>>,
}

impl TaskRow {
    /// Returns the fence of the newest attempt.
    #[must_use]
    pub fn attempt(&self) -> AttemptKey {
        AttemptKey { instance: self.key.clone(), try_number: self.try_number, epoch: self.epoch }
    }
}

/// One try of a task instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryRow {
    /// Which.
    pub attempt: AttemptKey,
    /// The worker that it was assigned to.
    pub worker: WorkerId,
    /// The incarnation of the worker that it was assigned to.
    pub boot_id: String,
    /// Assigned at.
    pub queued_at: DateTime<Utc>,
    /// Started at.
    pub started_at: Option<DateTime<Utc>>,
    /// Ended at.
    pub finished_at: Option<DateTime<Utc>>,
    /// How it ended; absent while it is live.
    pub outcome: Option<TryOutcome>,
    /// Its exit code, where it exited.
    pub exit_code: Option<i32>,
    /// Why, in words.
    pub reason: Option<String>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRow {
    /// Its name.
    pub name: PoolName,
    /// How many slots its instances may take together.
    pub slots: u32,
    /// What it protects.
    pub description: String,
}

/// Dates that the catch-up rule passed over; recorded because of promise 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// The DAG.
    pub dag_id: DagId,
    /// The first logical date without a run.
    pub first: DateTime<Utc>,
    /// The last logical date without a run.
    pub last: DateTime<Utc>,
    /// How many.
    pub count: u64,
    /// When it was decided.
    pub at: DateTime<Utc>,
}

/// Everything the engine needs of one dag run: what rebuild loads, and what the loop loads of a finished run
/// just before an event that concerns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSnapshot {
    /// The run.
    pub run: RunRow,
    /// Its stored task instances, by key.
    pub tasks: Vec<TaskRow>,
    /// The elements of its expanded tasks, by task.
    #[serde(default)]
    pub maps: Vec<MapRow>,
    /// Per instance the highest try number and epoch ever used: a cleared instance has no row any more.
    pub fences: Vec<AttemptKey>,
}

/// The elements of an expanded task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapRow {
    /// The task.
    pub task: TaskId,
    /// Its elements.
    pub values: Arc<MapValues>,
}

/// A run that the engine does not hold, loaded just before an event that concerns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedRun {
    /// The run and its instances.
    pub snapshot: RunSnapshot,
    /// The definition that it is pinned to.
    pub dag: Arc<Dag>,
}

/// The run before another one, as far as tasks ask for it (`semantics.md` §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousRun {
    /// The run.
    pub run: RunKey,
    /// Its id.
    pub run_id: RunId,
    /// Its logical date.
    pub logical_date: DateTime<Utc>,
    /// The states of its stored task instances; of a mapped task that of an element that did not end well, if any.
    pub states: BTreeMap<TaskId, TaskState>,
    /// The tasks directly below each task, in the version that it is pinned to.
    pub below: BTreeMap<TaskId, Vec<TaskId>>,
}

/// Returns the tasks directly below each task that has any.
#[must_use]
pub fn directly_below(dag: &Dag) -> BTreeMap<TaskId, Vec<TaskId>> {
    let mut below: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
    for task in &dag.tasks {
        for above in &task.depends_on {
            below.entry(above.clone()).or_default().push(task.id.clone());
        }
    }
    below
}

/// Everything the engine is rebuilt from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineSnapshot {
    /// Every DAG with the definition that new runs take.
    pub dags: Vec<(DagRow, Arc<Dag>)>,
    /// DAGs whose definition cannot be had: what a person set and how far their dates are dealt with must not get
    /// lost until their file says again what they are.
    pub undefined: Vec<DagRow>,
    /// The definitions that active runs are pinned to.
    pub versions: BTreeMap<(DagId, VersionHash), Arc<Dag>>,
    /// The active (not terminal) runs.
    pub runs: Vec<RunSnapshot>,
    /// The tries without an outcome: exactly the leased ones.
    pub open_tries: Vec<TryRow>,
    /// Every pool.
    pub pools: Vec<PoolRow>,
    /// The backfills that have not ended, by number.
    pub backfills: Vec<BackfillRow>,
    /// The next run key: one more than the highest ever used.
    pub next_run_key: i64,
    /// What waits of assets, by DAG and asset.
    pub asset_queue: Vec<AssetQueueRow>,
    /// The number of the next asset event: one more than the highest ever used.
    pub next_asset_event: i64,
}
