//! Why a run has not ended, and what a pause would change.

use serde::Serialize;
use tidemill_engine::{engine::PausePlan, ids::DagId, wait_reason::RunReason};
use utoipa::ToSchema;

use super::{DagView, ReasonView};

/// One reason why a run has not ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunReasonView {
    /// The stable word.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
    /// The facts in it.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
    /// The first tasks that have it; none where it is the run's own.
    pub tasks: Vec<String>,
    /// How many task instances have it.
    pub count: u32,
}

impl From<&RunReason> for RunReasonView {
    fn from(of: &RunReason) -> Self {
        let ReasonView { code, message, detail } = (&of.reason).into();
        let tasks = of.tasks.iter().map(ToString::to_string).collect();
        Self { code, message, detail, tasks, count: of.count }
    }
}

/// What pausing or unpausing a DAG would change.
#[derive(Debug, Serialize, ToSchema)]
pub struct PausePlanView {
    /// The DAG.
    pub dag_id: String,
    /// Always true: nothing was changed.
    pub is_dry_run: bool,
    /// What would change and what goes on, a sentence each.
    pub changes: Vec<String>,
    /// The facts in them.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub plan: PausePlan,
}

/// What a change of a DAG answers: the DAG as it is now, or what would change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PatchedView {
    /// It was changed.
    Dag(Box<DagView>),
    /// It would be.
    Plan(PausePlanView),
}

impl PausePlanView {
    pub(crate) fn of(dag_id: &DagId, plan: PausePlan) -> Self {
        Self { dag_id: dag_id.to_string(), is_dry_run: true, changes: plan.sentences(), plan }
    }
}
