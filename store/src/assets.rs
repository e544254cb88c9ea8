//! What the reading side hands out about assets.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_engine::{
    asset::AssetEventRow,
    definition::Dag,
    ids::{AssetName, DagId, RunId, TaskId},
};

use crate::reader::PageRequest;

/// Which assets a list shows, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssetQuery {
    /// The page.
    pub page: PageRequest,
    /// Part of the name, in any case.
    pub text: Option<String>,
    /// This one only.
    pub name: Option<AssetName>,
}

/// An asset that a DAG file names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssetSummary {
    /// Its name.
    pub name: AssetName,
    /// The tasks that update it, by DAG and task.
    pub producers: Vec<AssetProducer>,
    /// The DAGs whose schedule names it.
    pub consumers: Vec<DagId>,
    /// Its newest event.
    pub last_event: Option<AssetEventRow>,
}

/// A task that updates an asset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AssetProducer {
    /// Its DAG.
    pub dag_id: DagId,
    /// The task.
    pub task_id: TaskId,
}

/// Which events a list shows, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssetEventQuery {
    /// The page.
    pub page: PageRequest,
    /// Of this asset only.
    pub asset: Option<AssetName>,
}

/// An event with the runs that it caused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssetEventItem {
    /// The event.
    pub event: AssetEventRow,
    /// The runs, by DAG.
    pub runs: Vec<CausedRun>,
    /// The DAGs that it is queued for.
    pub queued_for: Vec<DagId>,
}

/// A run that an event caused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CausedRun {
    /// Its DAG.
    pub dag_id: DagId,
    /// Its id.
    pub run_id: RunId,
}

/// Events that retention may delete: nobody waits for them, and no run that is still there was caused by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldAssetEvents {
    /// Only what happened before this instant.
    pub before: DateTime<Utc>,
    /// At most so many.
    pub limit: u32,
}

/// Returns who names which asset in a definition; no task stands for the schedule.
pub(crate) fn uses(dag: &Dag) -> Vec<(&AssetName, Option<&TaskId>)> {
    let listened = dag.schedule.assets().map_or(&[][..], |schedule| &schedule.assets);
    let updated = dag.tasks.iter().flat_map(|task| task.outlets.iter().map(|asset| (asset, Some(&task.id))));
    listened.iter().map(|asset| (asset, None)).chain(updated).collect()
}
