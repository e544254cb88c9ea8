//! What the engine wants done, in order.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    asset::{AssetChange, AssetEventRow},
    backfill::{BackfillDate, BackfillProblem, BackfillRow, BackfillState},
    definition::Notification,
    event::RequestId,
    ids::{AssetName, AttemptKey, BackfillKey, DagId, PoolName, RunId, RunKey, TaskId, WorkerId},
    mapping::MapValues,
    rows::{DagRow, PassedOver, PoolRow, RunRow, TaskRow, TryRow},
    state::{RunState, StopReason, TaskState},
};

/// Something that must now happen. Row changes are committed first; what goes outside is released after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Inserts or replaces a DAG row.
    Dag(DagRow),
    /// Deletes a DAG with everything that hangs on it.
    DeleteDag(DagId),
    /// Records dates that were passed over.
    PassedOver(PassedOver),
    /// Inserts or changes a run.
    Run(RunChange),
    /// Inserts, changes or deletes a task instance.
    Task(TaskChange),
    /// Stores or forgets the elements of a mapped task.
    Map(MapChange),
    /// Stores what a task that never leaves the engine gives.
    Outputs(OutputsChange),
    /// Inserts or changes a try.
    Try(TryChange),
    /// Writes what happened on assets.
    Asset(AssetChange),
    /// Inserts or replaces a pool.
    Pool(PoolRow),
    /// Deletes a pool.
    DeletePool(PoolName),
    /// Gives an attempt to a worker, once committed. The shell renders before the commit.
    Assign(Assign),
    /// Tells a worker to stop an attempt, once committed.
    Cancel(Cancel),
    /// Queues a message to the outside in the same transaction.
    Notify(Notify),
    /// Inserts or replaces a backfill.
    Backfill(Box<BackfillRow>),
    /// Records what became of a date of a backfill.
    BackfillDate(BackfillDate),
    /// Answers the sender of an event, once committed.
    Answer(Answer),
}

/// A guarded change of a run row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunChange {
    /// The state that the stored row is in; absent: there is none yet.
    pub from: Option<RunState>,
    /// The whole new row.
    pub row: RunRow,
}

/// A guarded change of a task instance row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskChange {
    /// The stored row's state, try number and epoch; `no_status` with the fence (0, 0) when there is no row.
    pub from: TaskFence,
    /// The whole new row; in state `no_status` the stored row is deleted.
    pub row: TaskRow,
    /// A clear: the row passes through `no_status`, so its previous state is written as that.
    pub is_clear: bool,
    /// Without durability of its own: rides on the next commit, or is flushed within 250 ms.
    pub is_note: bool,
}

/// The elements of a mapped task of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapChange {
    /// The run.
    pub run: RunKey,
    /// The task.
    pub task: TaskId,
    /// Its elements; absent: it is not expanded any more.
    pub values: Option<Arc<MapValues>>,
}

/// The outputs of a task instance, in place of those that it had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputsChange {
    /// Whose.
    pub attempt: AttemptKey,
    /// By key.
    pub values: BTreeMap<String, serde_json::Value>,
}

/// The fence of a stored task instance row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFence {
    /// Its state.
    pub state: TaskState,
    /// Its newest try.
    pub try_number: u32,
    /// Its newest lease epoch.
    pub epoch: u32,
}

/// A change of a try row: inserted when `is_new`, else updated where it has no outcome yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryChange {
    /// Whether the row is inserted.
    pub is_new: bool,
    /// The epoch that the stored row has, when it is another than that of the new row: the next poke of a sensor takes
    /// over the try of the one before.
    #[serde(default)]
    pub from_epoch: Option<u32>,
    /// The whole row.
    pub row: TryRow,
}

impl TryChange {
    /// Returns the attempt under which the row is stored that is changed.
    #[must_use]
    pub fn stored_attempt(&self) -> AttemptKey {
        let epoch = self.from_epoch.unwrap_or(self.row.attempt.epoch);
        AttemptKey { epoch, ..self.row.attempt.clone() }
    }
}

/// An attempt for a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// The fence.
    pub attempt: AttemptKey,
    /// Who gets it.
    pub worker: WorkerId,
    /// It was assigned before and the worker does not list it: delivered again, unchanged.
    pub is_redelivery: bool,
}

/// The end of an attempt, wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The fence.
    pub attempt: AttemptKey,
    /// Who holds it.
    pub worker: WorkerId,
    /// Why.
    pub reason: StopReason,
}

/// A message to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// Unique and the same for the same occasion: delivered at least once by this id.
    pub id: String,
    /// What and where.
    pub notification: Notification,
    /// The DAG.
    pub dag_id: DagId,
    /// The run's id.
    pub run_id: RunId,
    /// The task, when it is about one.
    pub task: Option<TaskId>,
    /// The state that is announced.
    pub state: String,
    /// Why, in words.
    pub reason: Option<String>,
}

/// What the sender of an event gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose.
    pub request: RequestId,
    /// What.
    pub reply: Reply,
}

/// The reply to an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, nothing more to say.
    Done,
    /// A run was created.
    RunCreated(Box<RunRow>),
    /// These instances changed, or would.
    Changed(Vec<Changed>),
    /// An event on an asset was stored.
    AssetEvent(Box<AssetEventRow>),
    /// A backfill was created or changed, or would be; with the runs that are cancelled with it.
    Backfill(Box<BackfillRow>, Vec<RunKey>),
    /// What became of a result.
    Verdict(Verdict),
    /// Not done.
    Refused(Refusal),
}

/// One line of a dry run, or of what was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The run.
    pub run: RunKey,
    /// The task.
    pub task: TaskId,
    /// The element, −1 when not mapped.
    pub map_index: i32,
    /// Its state before.
    pub from: TaskState,
    /// Its state after; a leased one first stops.
    pub to: TaskState,
}

/// What became of a worker's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Applied.
    Accepted,
    /// The same attempt's result was applied before.
    Duplicate,
    /// The attempt no longer holds the lease; nothing was changed.
    Fenced,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such DAG, or it was removed.
    UnknownDag,
    /// Its file is missing, so there is no definition to run.
    MissingDag,
    /// There is no such run.
    UnknownRun,
    /// There is no such task in the run's version.
    UnknownTask(String),
    /// A run with this id exists.
    RunIdTaken(RunId),
    /// The run has ended.
    RunEnded(RunState),
    /// The run is being cancelled or timed out; wait for its end.
    RunEnding,
    /// The run is not parked for a person.
    NotPaused,
    /// The run is active, and this is for finished ones.
    RunActive,
    /// The DAG has active runs.
    HasActiveRuns(u32),
    /// Its file still exists.
    FileExists(String),
    /// The logical date lies outside start and end date.
    OutsideDates,
    /// The pool cannot be deleted.
    PoolProtected,
    /// There is no such pool.
    UnknownPool,
    /// The task has no such element in this run.
    UnknownElement(String),
    /// The state cannot be given by hand.
    NotMarkable,
    /// No DAG file names the asset.
    UnknownAsset(AssetName),
    /// There is no such backfill.
    UnknownBackfill,
    /// The backfill has ended, or is being cancelled.
    BackfillEnded(BackfillState),
    /// A backfill of these dates is not possible.
    Backfill(BackfillProblem),
    /// Another backfill of the same DAG that has not ended has some of the dates.
    BackfillOverlaps(BackfillKey),
}
