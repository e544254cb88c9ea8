//! What happens to the engine.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    asset::AssetExtra,
    backfill::{BackfillChange, BackfillSpec, BackfillState, DatedRun},
    definition::Dag,
    ids::{
        AssetName, AttemptKey, BackfillKey, DagId, PoolName, RunId, RunKey, TaskId, TaskInstanceKey, WorkerId,
    },
    preparation::{Preparation, Prepared},
    rows::{FinishedRun, PoolRow, PreviousRun, VersionHash},
    state::{RunState, TaskState, TryOutcome},
};

/// Correlates an event with the answer that its sender waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// Something that happened. Closed: whatever may change state is one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Time passed.
    Tick {
        /// Of [`crate::engine::Engine::due_dates`], those for which a stored scheduled run exists (loaded just
        /// before): they get no second one.
        taken: Vec<(DagId, DateTime<Utc>)>,
    },
    /// A DAG file appeared or its canonical definition changed.
    DagChanged {
        /// The new definition.
        dag: Arc<Dag>,
        /// Its hash.
        version: VersionHash,
        /// The file, relative to the DAG folder.
        path: String,
    },
    /// A DAG's file is gone.
    DagMissing {
        /// The DAG.
        dag_id: DagId,
    },
    /// A person deletes a missing DAG. Refused while it has active runs.
    DagDeleted {
        /// Who waits for the answer.
        request: RequestId,
        /// The DAG.
        dag_id: DagId,
    },
    /// A person pauses or unpauses a DAG.
    DagPaused {
        /// Who waits for the answer.
        request: RequestId,
        /// The DAG.
        dag_id: DagId,
        /// The new value.
        is_paused: bool,
    },
    /// Somebody asks for a run.
    RunRequested {
        /// Who waits for the answer.
        request: RequestId,
        /// The DAG.
        dag_id: DagId,
        /// A run id of the user's own, already checked against the reserved prefixes.
        run_id: Option<RunId>,
        /// The logical date; absent: now.
        logical_date: Option<DateTime<Utc>>,
        /// Already validated against the DAG's params.
        conf: Arc<serde_json::Map<String, serde_json::Value>>,
        /// Who asks.
        triggered_by: Option<String>,
        /// Six characters for the run id; entropy comes in from the shell.
        suffix: String,
        /// The shell found a stored run of this DAG with this run id (loaded just before).
        is_run_id_taken: bool,
    },
    /// A worker reports the start of an attempt.
    AttemptStarted {
        /// The fence.
        attempt: AttemptKey,
        /// Who reports.
        worker: WorkerId,
        /// When, by the worker's clock.
        started_at: DateTime<Utc>,
    },
    /// An attempt ended: reported by its worker, or decided by the shell before it left (a failed rendering).
    AttemptFinished {
        /// Who waits for the verdict.
        request: Option<RequestId>,
        /// The fence.
        attempt: AttemptKey,
        /// Who reports.
        worker: WorkerId,
        /// How it ended.
        result: AttemptResult,
        /// The outcome of the stored try, when [`crate::engine::Engine::has_lease`] denies the lease (loaded
        /// just before): a repeated result gets the verdict `duplicate`, a late one `fenced`.
        stored: Option<TryOutcome>,
    },
    /// A worker is there: it renews the leases of the attempts that it lists.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// Its incarnation.
        boot_id: String,
        /// What it holds.
        attempts: Vec<AttemptKey>,
    },
    /// A worker exchanges: it states what it holds and how much more it can take.
    WorkerExchanged {
        /// Who.
        worker: WorkerId,
        /// Its incarnation. Attempts of an older one are lost once `has_swept` is set.
        boot_id: String,
        /// Nothing of an older incarnation lives any more on the worker's machine.
        has_swept: bool,
        /// How many attempts it is willing to hold in all; 0 while it drains.
        capacity: u32,
        /// The queues that it serves.
        queues: Vec<String>,
        /// What it holds, results that ride on the same exchange not included. What it should hold and does
        /// not list is delivered again.
        held: Vec<AttemptKey>,
        /// What its sweep has proven dead, with how that is known. Part of this event, so that what is given out
        /// in their place goes to this incarnation and not to the one that is dead.
        lost: Vec<(AttemptKey, String)>,
    },
    /// A worker said goodbye, or was not heard of for a lease.
    WorkerLeft {
        /// Who.
        worker: WorkerId,
        /// Its incarnation.
        boot_id: String,
    },
    /// A worker's sweep proved that an attempt of an older incarnation of it is dead without a result; told by an
    /// exchange that was overtaken, otherwise it is part of [`Event::WorkerExchanged`].
    AttemptLost {
        /// The fence.
        attempt: AttemptKey,
        /// Who says so; nobody can give up the attempt of somebody else.
        worker: WorkerId,
        /// Its incarnation; what it runs itself ends with a result.
        boot_id: String,
        /// How it is known.
        reason: String,
    },
    /// Clears task instances of one run so that they run again.
    Clear {
        /// Who waits for the answer.
        request: RequestId,
        /// The run.
        run: RunKey,
        /// What is cleared.
        selection: ClearSelection,
        /// Only answer what would change.
        is_dry_run: bool,
        /// The run with its instances, when it is not active.
        finished: Option<Box<FinishedRun>>,
        /// The cleared run takes the newest version of its DAG; else it keeps its own.
        latest: bool,
    },
    /// Gives one task instance a verdict by hand.
    MarkTask {
        /// Who waits for the answer.
        request: RequestId,
        /// The run.
        run: RunKey,
        /// The tasks.
        tasks: Vec<TaskId>,
        /// Only this element of each; absent: all of a mapped task.
        map_index: Option<i32>,
        /// `success` or `failed`.
        state: TaskState,
        /// Only answer what would change.
        is_dry_run: bool,
        /// The run with its instances, when it is not active.
        finished: Option<Box<FinishedRun>>,
    },
    /// Gives a run a verdict by hand.
    MarkRun {
        /// Who waits for the answer.
        request: RequestId,
        /// The run.
        run: RunKey,
        /// `success` or `failed`.
        state: RunState,
        /// Only answer what would change.
        is_dry_run: bool,
        /// The run with its instances, when it is not active.
        finished: Option<Box<FinishedRun>>,
    },
    /// Cancels a run.
    Cancel {
        /// Who waits for the answer.
        request: RequestId,
        /// The run.
        run: RunKey,
        /// Only answer what would change.
        is_dry_run: bool,
        /// How the stored run ended, when it is not active (loaded just before).
        ended: Option<RunState>,
    },
    /// Lets a run go on that is parked for a person.
    Resume {
        /// Who waits for the answer.
        request: RequestId,
        /// The run.
        run: RunKey,
        /// Only answer what would change.
        is_dry_run: bool,
        /// How the stored run ended, when it is not active (loaded just before).
        ended: Option<RunState>,
    },
    /// What the loop found when it looked up the run before one of [`crate::engine::Engine::unknown_past`].
    Past {
        /// The run that asks.
        run: RunKey,
        /// The run before it; absent: there is none.
        previous: Option<Box<PreviousRun>>,
    },
    /// The answer to one of [`crate::engine::Engine::unprepared`].
    Prepared {
        /// The instance.
        instance: TaskInstanceKey,
        /// What it asked for.
        what: Preparation,
        /// What was found, or why it cannot be had: the instance fails with that.
        result: Result<Prepared, String>,
    },
    /// What the loop found when it looked up how long the run of one of [`crate::engine::Engine::unknown_usual`] usually
    /// takes.
    Usual {
        /// The run that asks.
        run: RunKey,
        /// The median of the last successful runs; absent: there are too few.
        duration: Option<std::time::Duration>,
    },
    /// Somebody asks for a backfill.
    BackfillRequested {
        /// Who waits for the answer.
        request: RequestId,
        /// The DAG.
        dag_id: DagId,
        /// What is filled; `conf` is validated already.
        spec: Box<BackfillSpec>,
        /// Who asks.
        created_by: Option<String>,
    },
    /// Somebody pauses, resumes or cancels a backfill.
    BackfillChanged {
        /// Who waits for the answer.
        request: RequestId,
        /// The backfill.
        backfill: BackfillKey,
        /// What is asked.
        change: BackfillChange,
        /// Only answer what would change.
        is_dry_run: bool,
        /// How the stored backfill ended, when it is not active (loaded just before).
        ended: Option<BackfillState>,
    },
    /// What the loop found for a page of dates ([`crate::engine::Engine::backfill_page`]).
    BackfillDates {
        /// The backfill.
        backfill: BackfillKey,
        /// The dates that were looked up.
        dates: Vec<DateTime<Utc>>,
        /// The scheduled and backfill runs that they have.
        found: Vec<DatedRun>,
        /// Those of [`crate::backfill::BackfillPage::to_load`].
        finished: Vec<FinishedRun>,
    },
    /// Ended runs were deleted from the store.
    RunsDeleted {
        /// Which.
        runs: Vec<RunKey>,
    },
    /// Somebody posts an event on an asset.
    AssetPosted {
        /// Who waits for the answer.
        request: RequestId,
        /// The asset.
        asset: AssetName,
        /// What the sender says about it.
        extra: AssetExtra,
        /// Who posts it.
        by: Option<String>,
    },
    /// A pool was made or resized.
    PoolChanged {
        /// Who waits for the answer.
        request: RequestId,
        /// The pool.
        pool: PoolRow,
    },
    /// A pool was deleted.
    PoolDeleted {
        /// Who waits for the answer.
        request: RequestId,
        /// The pool.
        name: PoolName,
    },
}

/// How an attempt ended, as far as the engine decides on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptResult {
    /// How.
    pub outcome: TryOutcome,
    /// Its exit code, where it exited.
    pub exit_code: Option<i32>,
    /// No retry follows, whatever the budget says (`fail_on_exit_code`, a bad definition).
    pub is_final: bool,
    /// Why, in words; coded where it is an error of ours.
    pub reason: Option<String>,
    /// What a branch follows; checked by the engine against its direct downstreams.
    pub follow: Option<Vec<String>>,
    /// Started at, by the worker's clock; fills in for a start report that has not arrived.
    pub started_at: Option<DateTime<Utc>>,
}

/// Which instances of a run a clear selects: the named tasks, widened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClearSelection {
    /// The tasks; empty: all.
    pub tasks: Vec<TaskId>,
    /// Only this element of each of them; absent: all of a mapped task, which gets new elements then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_index: Option<i32>,
    /// Everything above them too.
    pub upstream: bool,
    /// Everything below them too.
    pub downstream: bool,
    /// Of all these, only failed and upstream_failed ones (and what those hold back: skipped stays).
    pub only_failed: bool,
}
