//! What pages and event streams are told after a commit.

use serde::{Deserialize, Serialize};
use tidemill_engine::{
    ids::{AttemptKey, BackfillKey, DagId, RunId, RunKey, TaskId},
    state::{RunState, TaskState},
};

/// Something changed and is committed. A receiver that lags behind reloads what it shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A DAG appeared, changed, was paused or was deleted.
    Dag {
        /// Which.
        dag_id: DagId,
    },
    /// A run changed.
    Run {
        /// Its DAG.
        dag_id: DagId,
        /// Its id.
        run_id: RunId,
        /// Its number.
        run: RunKey,
        /// Its new state.
        state: RunState,
    },
    /// A task instance changed.
    Task {
        /// Its DAG.
        dag_id: DagId,
        /// Its run's id.
        run_id: RunId,
        /// Its run's number.
        run: RunKey,
        /// Its task.
        task: TaskId,
        /// Its element, −1 when not mapped.
        map_index: i32,
        /// Its new state.
        state: TaskState,
        /// Its newest try.
        try_number: u32,
    },
    /// The log of an attempt grew.
    Log {
        /// Whose.
        #[serde(flatten)]
        attempt: AttemptKey,
        /// How long it is now, in bytes.
        size_bytes: u64,
    },
    /// A backfill changed.
    Backfill {
        /// Its DAG.
        dag_id: DagId,
        /// Its number.
        backfill: BackfillKey,
    },
    /// A worker came or went.
    Workers,
    /// Something happened on an asset.
    Assets,
    /// A pool changed.
    Pools,
    /// The list of import errors changed.
    ImportErrors,
}
