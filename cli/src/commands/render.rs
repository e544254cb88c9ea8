//! `tidemill tasks render`: what a try was given to do, or what a task of a file would be.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tidemill_engine::ids::RunId;
use tidemill_scheduler::Preview;

use crate::{
    args::Connection,
    commands::{
        dags_file,
        runs::RunArg,
        tasks::{ElementArg, TaskArg},
        time::{parse_object, parse_time},
        usage, view,
    },
    error::{CliError, Result},
    output::FormatArg,
};

/// What is rendered.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tidemill tasks render DAG_ID RUN_ID TASK_ID\n       tidemill tasks render PATH TASK_ID [--logical-date TIME] [--params JSON] [--outputs JSON]"
)]
pub(crate) struct RenderArgs {
    /// The DAG; or a DAG file, and then no server is asked.
    #[arg(value_name = "DAG_ID|PATH")]
    dag: String,
    /// The run's id; of a file the task.
    #[arg(value_name = "RUN_ID|TASK_ID")]
    second: String,
    /// The task of the run.
    task_id: Option<String>,
    #[command(flatten)]
    pub(crate) element: ElementArg,
    /// Which try; the newest by default.
    #[arg(long = "try", value_name = "N")]
    pub(crate) try_number: Option<u32>,
    /// Of a file: the logical date; now by default.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    logical_date: Option<DateTime<Utc>>,
    /// Of a file: overrides params, as a JSON object.
    #[arg(long, visible_alias = "conf", value_name = "JSON", value_parser = parse_object)]
    params: Option<Map<String, Value>>,
    /// Of a file: what the tasks above gave, as in {"extract": {"rows": 3}}.
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    outputs: Option<Map<String, Value>>,
    #[command(flatten)]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    connection: Connection,
}

impl RenderArgs {
    /// Returns how the server is reached.
    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the file, if one is meant: as in `dags next`.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let path = Path::new(&self.dag);
        let is_file = path.is_file() || self.dag.ends_with(".toml") || self.dag.contains('/');
        is_file.then(|| path.to_owned())
    }

    /// Returns the task instance of a run.
    ///
    /// # Errors
    /// Wrong usage: no task is named, or what only a file takes is.
    pub(crate) fn instance(&self) -> Result<TaskArg> {
        let only_file = [
            ("--logical-date", self.logical_date.is_some()),
            ("--params", self.params.is_some()),
            ("--outputs", self.outputs.is_some()),
        ];
        if let Some((name, _)) = only_file.iter().find(|(_, is_given)| *is_given) {
            return Err(usage(format!("{name} is for a task of a DAG file; a run has its own")));
        }
        let task_id = self.task_id.clone().ok_or_else(|| {
            usage("name the DAG, the run and the task; or a DAG file and the task".to_owned())
        })?;
        Ok(TaskArg { run: RunArg { dag_id: self.dag.clone(), run_id: self.second.clone() }, task_id })
    }

    /// Renders a task of a file and prints it.
    ///
    /// # Errors
    /// The file is wrong, has no such task, or a template cannot be rendered.
    pub(crate) fn render_file(&self, path: &Path) -> Result {
        if let Some(extra) = &self.task_id {
            return Err(usage(format!("a file has no runs: leave out {}, or {extra}", self.second)));
        }
        let (dag, _) = dags_file::load_valid(path)?;
        let Some(task) = dag.tasks.iter().find(|task| task.id.as_str() == self.second).cloned() else {
            let tasks = dag.tasks.iter().take(20).map(|task| task.id.to_string()).collect();
            return Err(CliError::NoSuchTask { path: path.to_owned(), task: self.second.clone(), tasks });
        };
        let mut outputs: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for (name, values) in self.outputs.iter().flatten() {
            let Value::Object(values) = values else {
                return Err(usage(format!(
                    "--outputs: what {name} gave must be an object of keys and values"
                )));
            };
            outputs.insert(name.clone(), values.clone().into_iter().collect());
        }
        let logical_date = self.logical_date.unwrap_or_else(Utc::now);
        let run_id = RunId::new(format!("manual__{}__render", logical_date.format("%Y-%m-%dT%H:%M:%SZ")));
        let preview = Preview {
            run_id: run_id.map_err(|error| usage(format!("--logical-date makes a run id that {error}")))?,
            logical_date,
            conf: self.params.clone().unwrap_or_default(),
            map_index: self.element.index(),
            outputs,
        };
        let rendered = preview.render(&Arc::new(dag), &task);
        let rendered = rendered.map_err(|error| CliError::coded(error.code(), &error, None))?;
        view::one(&rendered, self.format.format)
    }
}
