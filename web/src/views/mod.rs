//! The wire types of the REST API. A renamed column cannot change them; `docs/api.md` shows them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tidemill_engine::{
    action::Changed,
    definition::{Dag, Schedule},
    ids::{RunId, RunKey},
    rows::{PassedOver, RunRow, TaskRow, TryRow},
    state::TaskState,
    wait_reason::WaitReason,
};
use tidemill_store::{
    Page,
    reader::{DagSummary, VersionInfo},
};
use utoipa::ToSchema;

mod bodies;
mod elements;
mod server;
mod vault;

pub use bodies::{
    CancelBody, CleanBody, ClearBody, LoginLinkBody, MarkBody, PatchDagBody, PoolBody, TokenBody, TriggerBody,
};
pub(crate) use elements::{task_views, told};
pub use server::{
    AuditView, CleanedView, HealthView, ImportErrorView, LoginLinkView, NewTokenView, PoolView, TokenView,
    WorkerInfoView,
};
pub use vault::{ConnectionBody, ConnectionView, SealedView, VariableBody, VariableView};

/// A page of a list: `items`, and where the next page begins.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; null at the end.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    pub(crate) fn of<R>(page: Page<R>, view: impl FnMut(R) -> T) -> Self {
        Self { items: page.items.into_iter().map(view).collect(), next_cursor: page.next_cursor }
    }

    pub(crate) const fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}

/// A DAG.
#[derive(Debug, Serialize, ToSchema)]
pub struct DagView {
    /// Its id.
    pub dag_id: String,
    /// One line about it.
    pub description: Option<String>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// Its labels.
    pub tags: Vec<String>,
    /// Its schedule as it is written: a cron expression, several, or a word.
    pub schedule: String,
    /// The zone of its schedule.
    pub timezone: String,
    /// No scheduled runs are created while it is set.
    pub is_paused: bool,
    /// Why it is paused, when no person did it.
    pub pause_reason: Option<String>,
    /// Its file is gone.
    pub is_missing: bool,
    /// The file, relative to the DAG folder.
    pub path: String,
    /// The hash of its newest version.
    pub dag_version: String,
    /// How many tasks it has.
    pub task_count: u32,
    /// The next scheduled run is created at.
    pub next_run_after: Option<DateTime<Utc>>,
    /// First seen at.
    pub created_at: DateTime<Utc>,
}

/// Returns a schedule as a person would write it.
pub(crate) fn schedule_text(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Never => "none".to_owned(),
        Schedule::Once => "@once".to_owned(),
        Schedule::Continuous => "@continuous".to_owned(),
        Schedule::Cron(list) => list.join(" | "),
        Schedule::Every(every) => {
            format!(
                "every {}",
                crate::render::time::duration(i64::try_from(every.as_millis()).unwrap_or(i64::MAX))
            )
        }
    }
}

impl DagView {
    pub(crate) fn of(summary: DagSummary, next_run_after: Option<DateTime<Utc>>) -> Self {
        Self {
            dag_id: summary.dag.dag_id.to_string(),
            description: summary.description,
            owner: summary.owner,
            tags: summary.tags,
            schedule: schedule_text(&summary.schedule),
            timezone: summary.timezone,
            is_paused: summary.dag.is_paused,
            pause_reason: summary.dag.pause_reason,
            is_missing: summary.dag.is_missing,
            path: summary.dag.path,
            dag_version: summary.dag.version.to_string(),
            task_count: summary.task_count,
            next_run_after,
            created_at: summary.dag.created_at,
        }
    }
}

/// A DAG with its tasks.
#[derive(Debug, Serialize, ToSchema)]
pub struct DagDetailView {
    /// The DAG.
    #[serde(flatten)]
    pub dag: DagView,
    /// Markdown about it.
    pub doc: Option<String>,
    /// Whether every missed date is run.
    pub catchup: bool,
    /// At most this many running runs.
    pub max_active_runs: u32,
    /// At most this many leased task instances.
    pub max_active_tasks: u32,
    /// Parameters: name → JSON-Schema keywords.
    #[schema(value_type = Object)]
    pub params: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
    /// The tasks in file order.
    pub tasks: Vec<TaskDefinitionView>,
    /// Dates that were passed over, the newest first.
    #[schema(value_type = Vec<Object>)]
    pub passed_over: Vec<PassedOver>,
}

/// A task of a DAG.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskDefinitionView {
    /// Its id.
    pub task_id: String,
    /// What it does.
    pub operator: String,
    /// Its direct upstreams.
    pub depends_on: Vec<String>,
    /// When it may run.
    pub trigger_rule: String,
    /// How many failed tries are followed by another.
    pub retries: u32,
    /// Its pool.
    pub pool: String,
    /// Its worker queue.
    pub queue: String,
}

pub(crate) fn task_definitions(dag: &Dag) -> Vec<TaskDefinitionView> {
    dag.tasks
        .iter()
        .map(|task| TaskDefinitionView {
            task_id: task.id.to_string(),
            operator: task.operator.as_str().to_owned(),
            depends_on: task.depends_on.iter().map(ToString::to_string).collect(),
            trigger_rule: task.trigger_rule.as_str().to_owned(),
            retries: task.retries,
            pool: task.pool.to_string(),
            queue: task.queue.clone(),
        })
        .collect()
}

/// A version of a DAG.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionView {
    /// The hash of its canonical definition.
    pub dag_version: String,
    /// The file, relative to the DAG folder.
    pub path: String,
    /// First seen at.
    pub created_at: DateTime<Utc>,
}

impl From<VersionInfo> for VersionView {
    fn from(version: VersionInfo) -> Self {
        Self { dag_version: version.hash.to_string(), path: version.path, created_at: version.created_at }
    }
}

/// A dag run.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunView {
    /// Its DAG.
    pub dag_id: String,
    /// Its id, unique in the DAG.
    pub run_id: String,
    /// `scheduled`, `manual`, `backfill`, `asset` or `policy`.
    pub run_type: String,
    /// `queued`, `running`, `paused`, `success`, `failed` or `cancelled`.
    pub state: String,
    /// A task failed although the run succeeded.
    pub with_failures: bool,
    /// Why it ended or waits as it does.
    pub reason: Option<String>,
    /// The date that it is about.
    pub logical_date: DateTime<Utc>,
    /// Start of the data it covers.
    pub data_interval_start: DateTime<Utc>,
    /// End of the data it covers, exclusive.
    pub data_interval_end: DateTime<Utc>,
    /// Created, or cleared, at.
    pub queued_at: DateTime<Utc>,
    /// Became running at.
    pub started_at: Option<DateTime<Utc>>,
    /// Ended at.
    pub finished_at: Option<DateTime<Utc>>,
    /// What the trigger overrode.
    #[schema(value_type = Object)]
    pub conf: serde_json::Map<String, serde_json::Value>,
    /// The version that it is pinned to.
    pub dag_version: String,
    /// Who or what created it.
    pub triggered_by: Option<String>,
    /// It is late when it has not ended by then.
    pub deadline_at: Option<DateTime<Utc>>,
    /// It was found to be late at.
    pub deadline_missed_at: Option<DateTime<Utc>>,
}

impl From<RunRow> for RunView {
    fn from(run: RunRow) -> Self {
        Self {
            dag_id: run.dag_id.to_string(),
            run_id: run.run_id.to_string(),
            run_type: run.run_type.to_string(),
            state: run.state.to_string(),
            with_failures: run.with_failures,
            reason: run.reason,
            logical_date: run.logical_date,
            data_interval_start: run.data_interval_start,
            data_interval_end: run.data_interval_end,
            queued_at: run.queued_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            conf: run.conf.as_ref().clone(),
            dag_version: run.dag_version.to_string(),
            triggered_by: run.triggered_by,
            deadline_at: run.deadline_at,
            deadline_missed_at: run.deadline_missed_at,
        }
    }
}

/// A task instance.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskView {
    /// Its task.
    pub task_id: String,
    /// Its element, −1 when not mapped.
    pub map_index: i32,
    /// What it does.
    pub operator: Option<String>,
    /// Its state.
    pub state: String,
    /// Why it ended or waits as it does.
    pub reason: Option<String>,
    /// The newest try, 0 before the first.
    pub try_number: u32,
    /// The newest try was assigned at.
    pub queued_at: Option<DateTime<Utc>>,
    /// The newest try started at.
    pub started_at: Option<DateTime<Utc>>,
    /// Ended at.
    pub finished_at: Option<DateTime<Utc>>,
    /// The worker of the newest try.
    pub worker: Option<String>,
    /// The exit code of the newest try.
    pub exit_code: Option<i32>,
    /// How often a sensor has looked in vain since the last clear.
    pub pokes: u32,
    /// A sensor looked first at (since the last clear).
    pub first_poke_at: Option<DateTime<Utc>>,
    /// A sensor looks again at.
    pub next_poke_at: Option<DateTime<Utc>>,
}

impl TaskView {
    pub(crate) fn of(row: TaskRow, operator: Option<&str>) -> Self {
        Self {
            task_id: row.key.task.to_string(),
            map_index: row.key.map_index,
            operator: operator.map(ToOwned::to_owned),
            state: row.state.to_string(),
            reason: row.reason,
            try_number: row.try_number,
            queued_at: row.queued_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            worker: row.worker.map(|w| w.to_string()),
            exit_code: row.exit_code,
            pokes: row.pokes,
            first_poke_at: row.first_poke_at,
            next_poke_at: row.next_poke_at,
        }
    }

    /// An instance without a row: nothing is decided.
    pub(crate) fn undecided(task_id: &str, map_index: i32, operator: Option<&str>) -> Self {
        Self {
            task_id: task_id.to_owned(),
            map_index,
            operator: operator.map(ToOwned::to_owned),
            state: TaskState::NoStatus.to_string(),
            reason: None,
            try_number: 0,
            queued_at: None,
            started_at: None,
            finished_at: None,
            worker: None,
            exit_code: None,
            pokes: 0,
            first_poke_at: None,
            next_poke_at: None,
        }
    }
}

/// One try of a task instance.
#[derive(Debug, Serialize, ToSchema)]
pub struct TryView {
    /// Counted from 1.
    pub try_number: u32,
    /// The lease epoch (`$TIDEMILL_FENCE`).
    pub epoch: u32,
    /// How it ended; null while it is live.
    pub outcome: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// Its worker.
    pub worker: String,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// Assigned at.
    pub queued_at: DateTime<Utc>,
    /// Started at.
    pub started_at: Option<DateTime<Utc>>,
    /// Ended at.
    pub finished_at: Option<DateTime<Utc>>,
}

impl From<TryRow> for TryView {
    fn from(row: TryRow) -> Self {
        Self {
            try_number: row.attempt.try_number,
            epoch: row.attempt.epoch,
            outcome: row.outcome.map(|o| o.to_string()),
            reason: row.reason,
            worker: row.worker.to_string(),
            exit_code: row.exit_code,
            queued_at: row.queued_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

/// One reason why a task instance is not running.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReasonView {
    /// The stable word.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
    /// The facts in it.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

impl From<&WaitReason> for ReasonView {
    fn from(reason: &WaitReason) -> Self {
        // Plain data always serialises; should it not, the sentence still says it.
        let detail = serde_json::to_value(reason).unwrap_or_default();
        Self { code: reason.code(), message: reason.to_string(), detail }
    }
}

/// One line of what changed, or would.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeView {
    /// Its run; another one than was named where runs before or after it are cleared too.
    pub run_id: String,
    /// The task.
    pub task_id: String,
    /// The element, −1 when not mapped.
    pub map_index: i32,
    /// Its state before.
    pub from: String,
    /// Its state after.
    pub to: String,
}

/// What changed, or would.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangesView {
    /// Nothing was done.
    pub is_dry_run: bool,
    /// One line per task instance.
    pub changed: Vec<ChangeView>,
}

impl ChangesView {
    /// `runs` names every run that something changed in.
    pub(crate) fn of(changed: Vec<Changed>, runs: &BTreeMap<RunKey, RunId>, is_dry_run: bool) -> Self {
        let changed = changed
            .into_iter()
            .map(|c| ChangeView {
                run_id: runs.get(&c.run).map(ToString::to_string).unwrap_or_default(),
                task_id: c.task.to_string(),
                map_index: c.map_index,
                from: c.from.to_string(),
                to: c.to.to_string(),
            })
            .collect();
        Self { is_dry_run, changed }
    }
}
