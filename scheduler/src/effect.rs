//! What a manual run would do before there is one: its params, and what each of its tasks would be given.
//!
//! **Invariant:** it changes nothing and opens no secret. What is known only when a task starts (outputs, variables,
//! connections) stands there by its name, between `‹` and `›`.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use tidemill_engine::{
    connection::Connection,
    definition::{Dag, Task, check_conf},
    ids::{ConnectionId, TaskId},
    preparation::{Preparation, Prepared},
    secret::Secret,
    template::{
        Context, MappedOutputs, Needs, OutputNeed, Variable, needs_of_preparation, needs_of_task, prepare,
        render_task,
    },
};
use tidemill_protocol::worker::Work;

use crate::{
    assign::work_of,
    known::Version,
    preview::{Preview, PreviewError},
};

/// What a run would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The declared defaults with `conf` on top.
    pub params: Map<String, Value>,
    /// The data that the run would cover.
    pub data_interval: (DateTime<Utc>, DateTime<Utc>),
    /// The first tasks, in the order of the file.
    pub tasks: Vec<TaskEffect>,
    /// How many more there are.
    pub more: usize,
}

/// What a task would be given.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEffect {
    /// The task.
    pub task_id: TaskId,
    /// Its operator.
    pub operator: &'static str,
    /// Whether this is the first element of a mapped task.
    pub is_mapped: bool,
    /// What its process would be given; absent for what never leaves the engine, or where it cannot be told yet.
    pub work: Option<Work>,
    /// Its own environment, and the data of its command.
    pub env: BTreeMap<String, String>,
    /// What is known only when it starts, such as `outputs.extract.rows`.
    pub later: Vec<String>,
    /// Why it could not be rendered although everything is known.
    pub problem: Option<String>,
}

impl Preview {
    /// Whether the effect of a run depends on the newest earlier run that succeeded.
    #[must_use]
    pub fn needs_previous(dag: &Dag) -> bool {
        dag.tasks.iter().any(|task| needs_of(task).previous_success)
    }

    /// Says what the run would do. `previous` is the data interval of the newest earlier run that succeeded.
    ///
    /// # Errors
    /// [`PreviewError::Conf`]
    pub fn effect(
        &self,
        dag: &Arc<Dag>,
        previous: Option<(DateTime<Utc>, DateTime<Utc>)>,
        limit: usize,
    ) -> Result<Effect, PreviewError> {
        let params = check_conf(dag, &self.conf).map_err(PreviewError::Conf)?;
        let run = self.run(dag);
        let version = Version::new(Arc::clone(dag));
        let tasks = dag.tasks.iter().take(limit).map(|task| {
            let mut context = Context::of_try(dag, &run, &task.id, 1, 1, -1);
            context.prev_data_interval_start_success = previous.map(|interval| interval.0);
            context.prev_data_interval_end_success = previous.map(|interval| interval.1);
            let later = stand_in(dag, &needs_of(task), &mut context);
            effect_of(&version, task, context, later)
        });
        Ok(Effect {
            params,
            data_interval: (run.data_interval_start, run.data_interval_end),
            tasks: tasks.collect(),
            more: dag.tasks.len().saturating_sub(limit),
        })
    }
}

fn needs_of(task: &Task) -> Needs {
    let mut needs = needs_of_task(task);
    needs.merge(needs_of_preparation(task, Preparation::Map));
    needs
}

fn named(what: &str) -> String {
    format!("‹{what}›")
}

/// Puts names in the place of what is known only later, and returns the names.
fn stand_in(dag: &Dag, needs: &Needs, context: &mut Context) -> Vec<String> {
    let mut later = Vec::new();
    for (task, need) in &needs.outputs {
        let keys: Vec<&String> = match need {
            OutputNeed::All => Vec::new(),
            OutputNeed::Keys(keys) => keys.iter().collect(),
        };
        if keys.is_empty() {
            later.push(format!("outputs.{task}"));
        }
        let mut values = BTreeMap::new();
        for key in keys {
            let name = format!("outputs.{task}.{key}");
            values.insert(key.clone(), Value::String(named(&name)));
            later.push(name);
        }
        let is_mapped = dag.tasks.iter().any(|one| one.id.as_str() == task && one.map.is_some());
        if is_mapped {
            context.mapped_outputs.insert(task.clone(), MappedOutputs(vec![Some(Arc::new(values))]));
        } else {
            context.outputs.insert(task.clone(), values);
        }
    }
    if needs.all_outputs {
        later.push("outputs".to_owned());
    }
    for name in &needs.variables {
        let shown = named(&format!("var.{name}"));
        let is_json = needs.json_variables.contains(name);
        let value = Secret::new(if is_json { json!(shown).to_string() } else { shown });
        context.variables.insert(name.clone(), Variable { value, is_secret: false });
        later.push(format!("var.{name}"));
    }
    for id in &needs.connections {
        later.push(format!("conn.{id}"));
        let Ok(known) = ConnectionId::new(id) else { continue };
        let mut connection = Connection::new(known, named(&format!("conn.{id}.conn_type")));
        let field = |name: &str| Some(named(&format!("conn.{id}.{name}")));
        connection.host = field("host");
        connection.login = field("login");
        connection.schema = field("schema");
        connection.password = field("password").map(Secret::new);
        context.connections.insert(id.clone(), connection);
    }
    if needs.asset_events {
        later.push("triggering_asset_events".to_owned());
    }
    later
}

fn effect_of(version: &Version, task: &Task, mut context: Context, mut later: Vec<String>) -> TaskEffect {
    let is_mapped = task.map.is_some();
    let mut outcome = Ok(());
    if is_mapped {
        context.map_index = 0;
        outcome = prepare(task, Preparation::Map, &context).map(|prepared| {
            if let Prepared::Map(values) = prepared {
                context.map_value = values.value(0);
            }
        });
        if context.map_value.is_none() {
            later.push("map.value".to_owned());
        }
    }
    let rendered = outcome.and_then(|()| render_task(&version.dag, task, &context));
    let (work, env, problem) = match rendered {
        Ok(rendered) => {
            let work = rendered.work.map(|work| work_of(work, version, &task.id));
            // What says who the task is stands in every task, and its values are above.
            let is_own = |name: &String| task.env.contains_key(name) || name.starts_with("TIDEMILL_V");
            (work, rendered.env.into_iter().filter(|(name, _)| is_own(name)).collect(), None)
        }
        Err(_) if !later.is_empty() => (None, BTreeMap::new(), None),
        Err(error) => (None, BTreeMap::new(), Some(error.to_string())),
    };
    TaskEffect {
        task_id: task.id.clone(),
        operator: task.operator.as_str(),
        is_mapped,
        work,
        env,
        later,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use tidemill_engine::{definition::load, ids::RunId};

    use super::*;

    fn effect(text: &str, conf: Value) -> Result<Effect, PreviewError> {
        let loaded = load(format!("[dag]\nid = \"x\"\n{text}").as_bytes(), "x.toml");
        assert_eq!(loaded.problems, []);
        let preview = Preview {
            run_id: RunId::new("mine").unwrap(),
            logical_date: "2026-11-05T12:00:00Z".parse().unwrap(),
            conf: conf.as_object().cloned().unwrap(),
            map_index: -1,
            outputs: BTreeMap::new(),
        };
        preview.effect(&Arc::new(loaded.dag.unwrap()), None, 50)
    }

    #[test]
    fn params_are_rendered_and_what_comes_later_is_named() {
        let text = r#"
[params.size]
default = "small"
[[task]]
id = "list"
command = ["list", "{{ params.size }}", "{{ ds }}"]
[[task]]
id = "train"
depends_on = ["list"]
command = "train --size {{ params.size }} --rows {{ outputs.list.rows }}"
env = { KEY = "{{ conn.db.password }}{{ var.a }}" }
[[task]]
id = "each"
depends_on = ["list"]
map = "{{ outputs.list.files }}"
command = ["cat", "{{ map.value }}"]
[[task]]
id = "wrong"
command = ["x", "{{ params.size | int }}"]
[[task]]
id = "end"
operator = "noop"
"#;
        let effect = effect(text, json!({ "size": "large" })).unwrap();
        assert_eq!(effect.params, *json!({ "size": "large" }).as_object().unwrap());
        let find = |id: &str| effect.tasks.iter().find(|task| task.task_id.as_str() == id).unwrap();
        let argv = ["list", "large", "2026-11-05"].map(str::to_owned).to_vec();
        assert_eq!(find("list").work, Some(Work::Exec { argv }));
        let train = find("train");
        assert_eq!(train.later, ["outputs.list.rows", "var.a", "conn.db"]);
        assert_eq!(train.env["KEY"], "‹conn.db.password›‹var.a›");
        let mut data: Vec<&str> = train.env.values().map(String::as_str).collect();
        data.sort_unstable();
        assert_eq!(data, ["large", "‹conn.db.password›‹var.a›", "‹outputs.list.rows›"]);
        let each = find("each");
        assert_eq!((each.work.clone(), each.problem.clone()), (None, None));
        assert!(each.is_mapped && each.later.contains(&"outputs.list.files".to_owned()));
        assert!(find("wrong").problem.as_ref().unwrap().contains("SCH07"), "{:?}", find("wrong"));
        assert_eq!((find("end").work.clone(), find("end").problem.clone()), (None, None));
    }

    #[test]
    fn a_conf_that_does_not_fit_has_no_effect() {
        let text = "[params.n]\ndefault = 1\n[[task]]\nid = \"a\"\ncommand = \"true\"\n";
        let error = effect(text, json!({ "n": "x", "m": 1 })).unwrap_err();
        assert_eq!(error.code(), "SCH0214");
        assert!(error.to_string().contains("`/n` must be integer, not string; `/m` is not"), "{error}");
    }
}
