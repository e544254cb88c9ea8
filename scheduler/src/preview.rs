//! What a task of a file would be given to do, without a server.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use tidemill_engine::{
    definition::{ConfProblem, Dag, Operator, Task, TimeWait, Until, check_conf, version_hash},
    ids::{RunId, RunKey},
    preparation::{Preparation, Prepared},
    rows::RunRow,
    state::{RunState, RunType},
    template::{Context, TaskRenderError, prepare, render_task},
    timetable::Timetable,
};

use crate::{assign::work_of, known::Version};

/// A run that only exists to look at what its tasks would do: a manual one at a logical date.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Its run id.
    pub run_id: RunId,
    /// Its logical date.
    pub logical_date: DateTime<Utc>,
    /// Overrides params.
    pub conf: Map<String, Value>,
    /// Which element of a mapped task; negative: the first.
    pub map_index: i32,
    /// Outputs of other tasks: task, key, value.
    pub outputs: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// `conf` does not fit the params.
    #[error("conf does not fit the params of the DAG: {}", crate::error::sentences(.0))]
    Conf(Vec<ConfProblem>),
    /// A template of the task cannot be rendered.
    #[error(transparent)]
    Render(#[from] TaskRenderError),
}

impl PreviewError {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Conf(_) => "SCH0214",
            Self::Render(error) => error.code(),
        }
    }
}

impl Preview {
    /// Renders a task as its first try in a manual run would get it; `work` is null for what never leaves the engine.
    ///
    /// # Errors
    /// [`PreviewError`]
    pub fn render(&self, dag: &Arc<Dag>, task: &Task) -> Result<Value, PreviewError> {
        // What a run keeps as its conf is what was given; the defaults are filled in where it is used.
        check_conf(dag, &self.conf).map_err(PreviewError::Conf)?;
        let run = self.run(dag);
        let mut context = Context::of_try(dag, &run, &task.id, 1, 1, -1);
        context.outputs.clone_from(&self.outputs);
        if task.map.is_some() {
            // Without a choice it is the first element that is looked at.
            let index = self.map_index.max(0);
            context.map_index = index;
            if let Prepared::Map(values) = prepare(task, Preparation::Map, &context)? {
                context.map_value = usize::try_from(index).ok().and_then(|index| values.value(index));
            }
        }
        let rendered = render_task(dag, task, &context)?;
        let version = Version::new(Arc::clone(dag));
        let work = match rendered.work {
            Some(work) => json!(work_of(work, &version, &task.id)),
            None => inside(dag, task, &run, &context)?,
        };
        let given = |id: &String| task.depends_on.iter().any(|above| above.as_str() == id);
        let inputs: BTreeMap<_, _> = self.outputs.iter().filter(|(id, _)| given(id)).collect();
        Ok(json!({ "work": work, "env": rendered.env, "inputs": inputs }))
    }

    pub(crate) fn run(&self, dag: &Dag) -> RunRow {
        let at = self.logical_date;
        let interval = Timetable::new(dag).map_or((at, at), |timetable| timetable.manual_interval(at));
        RunRow {
            key: RunKey(0),
            dag_id: dag.id.clone(),
            run_id: self.run_id.clone(),
            run_type: RunType::Manual,
            state: RunState::Running,
            with_failures: false,
            reason: None,
            logical_date: at,
            data_interval_start: interval.0,
            data_interval_end: interval.1,
            queued_at: at,
            started_at: Some(at),
            finished_at: None,
            conf: Arc::new(self.conf.clone()),
            dag_version: version_hash(dag),
            cancel_requested_at: None,
            timed_out_at: None,
            triggered_by: None,
            deadline_at: None,
            deadline_missed_at: None,
            backfill: None,
            ignores_past: false,
            origin: None,
        }
    }
}

/// Says what an operator that waits in the engine would wait for or make; null for the others that never leave it.
fn inside(dag: &Dag, task: &Task, run: &RunRow, context: &Context) -> Result<Value, TaskRenderError> {
    let kind = task.operator.as_str();
    let prepared = match &task.operator {
        Operator::TimeSensor { wait: TimeWait { until: Until::Delay { delay, from }, .. } } => {
            let delay = chrono::TimeDelta::from_std(*delay).unwrap_or_default();
            return Ok(json!({ "kind": kind, "until": from.of(run).checked_add_signed(delay) }));
        }
        Operator::TimeSensor { .. } => prepare(task, Preparation::Until, context)?,
        Operator::TriggerDag { .. } => prepare(task, Preparation::Trigger, context)?,
        Operator::DagRunSensor { .. } => prepare(task, Preparation::Runs, context)?,
        _ => return Ok(Value::Null),
    };
    Ok(match (&task.operator, prepared) {
        (
            Operator::TimeSensor { wait: TimeWait { until: Until::Text { from, .. }, .. } },
            Prepared::Until(text),
        ) => {
            json!({ "kind": kind, "until": Until::of_text(&text, *from, dag, run) })
        }
        (_, Prepared::Trigger(plan)) => json!({
            "kind": kind,
            "dag_id": plan.dag_id,
            "conf": *plan.conf,
            "logical_date": plan.logical_date,
            "run_id": plan.run_id,
        }),
        (_, Prepared::Runs(asked)) => {
            json!({ "kind": kind, "dag_id": asked.dag_id, "logical_date": asked.logical_date })
        }
        _ => Value::Null,
    })
}
