//! Assets on the wire.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tidemill_engine::{
    asset::{AssetEventRow, AssetSource, AssetStatus},
    definition::Dag,
};
use tidemill_store::assets::{AssetEventItem, AssetSummary};
use utoipa::ToSchema;

/// An asset that a DAG file names.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetView {
    /// Its name.
    pub name: String,
    /// The tasks that update it.
    pub producers: Vec<AssetProducerView>,
    /// The DAGs whose schedule names it.
    pub consumers: Vec<String>,
    /// Its newest event.
    pub last_event: Option<AssetEventView>,
}

/// A task that updates an asset.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetProducerView {
    /// Its DAG.
    pub dag_id: String,
    /// The task.
    pub task_id: String,
}

/// An event on an asset.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetEventView {
    /// Its number; it only grows.
    pub id: i64,
    /// The asset.
    pub asset: String,
    /// When it was stored.
    pub at: DateTime<Utc>,
    /// Start of the data that it is about.
    pub interval_start: DateTime<Utc>,
    /// End of the data that it is about.
    pub interval_end: DateTime<Utc>,
    /// The task that made it, when none posted it.
    pub source: Option<AssetSourceView>,
    /// Who posted it, when no task made it.
    pub posted_by: Option<String>,
    /// What its sender said about it.
    #[schema(value_type = Object)]
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// The runs that it caused.
    pub runs: Vec<AssetRunView>,
    /// The DAGs that it is queued for.
    pub queued_for: Vec<String>,
}

/// The task instance that made an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetSourceView {
    /// Its DAG.
    pub dag_id: String,
    /// Its run.
    pub run_id: String,
    /// Its task.
    pub task_id: String,
    /// Its element, −1 when not mapped.
    pub map_index: i32,
    /// The try that succeeded; 0 for what never leaves the scheduler.
    pub try_number: u32,
}

/// A run that an event caused.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetRunView {
    /// Its DAG.
    pub dag_id: String,
    /// Its id.
    pub run_id: String,
}

/// The assets of a DAG: what its tasks update, and what it waits for.
#[derive(Debug, Serialize, ToSchema)]
pub struct DagAssetsView {
    /// The DAG.
    pub dag_id: String,
    /// What its tasks update.
    pub updates: Vec<AssetUpdateView>,
    /// What its schedule waits for; null when it is not by assets.
    pub waits_for: Option<AssetWaitView>,
}

/// A task with one of its outlets.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetUpdateView {
    /// The task.
    pub task_id: String,
    /// The asset.
    pub asset: String,
}

/// What a schedule by assets waits for.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetWaitView {
    /// Whether an event on one of the assets is enough.
    pub any: bool,
    /// Each asset with what is queued.
    pub assets: Vec<AssetQueueView>,
    /// Why no run is made; the first is what holds it back first.
    pub reasons: Vec<AssetReasonView>,
}

/// What is queued of an asset.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetQueueView {
    /// The asset.
    pub asset: String,
    /// How many events since the last run that took any.
    pub queued: u64,
    /// The earliest of them.
    pub first_at: Option<DateTime<Utc>>,
    /// The latest of them.
    pub last_at: Option<DateTime<Utc>>,
}

/// Why assets make no run.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetReasonView {
    /// A stable word.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

impl From<AssetEventRow> for AssetEventView {
    fn from(row: AssetEventRow) -> Self {
        let (source, posted_by) = match row.source {
            AssetSource::Task { dag_id, run_id, task, map_index, try_number, .. } => {
                let source = AssetSourceView {
                    dag_id: dag_id.to_string(),
                    run_id: run_id.to_string(),
                    task_id: task.to_string(),
                    map_index,
                    try_number,
                };
                (Some(source), None)
            }
            AssetSource::Posted { by } => (None, by),
        };
        Self {
            id: row.id.0,
            asset: row.asset.to_string(),
            at: row.at,
            interval_start: row.interval_start,
            interval_end: row.interval_end,
            source,
            posted_by,
            extra: row.extra.as_ref().clone(),
            runs: Vec::new(),
            queued_for: Vec::new(),
        }
    }
}

impl From<AssetEventItem> for AssetEventView {
    fn from(item: AssetEventItem) -> Self {
        let runs = item.runs.into_iter();
        Self {
            runs: runs
                .map(|run| AssetRunView { dag_id: run.dag_id.to_string(), run_id: run.run_id.to_string() })
                .collect(),
            queued_for: item.queued_for.iter().map(ToString::to_string).collect(),
            ..Self::from(item.event)
        }
    }
}

impl From<AssetSummary> for AssetView {
    fn from(asset: AssetSummary) -> Self {
        let producers = asset.producers.into_iter();
        Self {
            name: asset.name.to_string(),
            producers: producers
                .map(|one| AssetProducerView {
                    dag_id: one.dag_id.to_string(),
                    task_id: one.task_id.to_string(),
                })
                .collect(),
            consumers: asset.consumers.iter().map(ToString::to_string).collect(),
            last_event: asset.last_event.map(Into::into),
        }
    }
}

impl DagAssetsView {
    pub(crate) fn of(dag: &Dag, status: Option<AssetStatus>) -> Self {
        let updates = dag.tasks.iter().flat_map(|task| {
            let view = |asset: &tidemill_engine::ids::AssetName| AssetUpdateView {
                task_id: task.id.to_string(),
                asset: asset.to_string(),
            };
            task.outlets.iter().map(view).collect::<Vec<_>>()
        });
        Self { dag_id: dag.id.to_string(), updates: updates.collect(), waits_for: status.map(Into::into) }
    }
}

impl From<AssetStatus> for AssetWaitView {
    fn from(status: AssetStatus) -> Self {
        let assets = status.assets.into_iter().map(|queued| AssetQueueView {
            asset: queued.asset.to_string(),
            queued: queued.count,
            first_at: queued.first_at,
            last_at: queued.last_at,
        });
        let reasons = status.waits.iter();
        Self {
            any: status.any,
            assets: assets.collect(),
            reasons: reasons
                .map(|wait| AssetReasonView { code: wait.code(), message: wait.to_string() })
                .collect(),
        }
    }
}
