//! Rendering everything that a task holds, just before it is assigned.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::{
    AnswerCondition, Context, Needs, RenderError, calls,
    error::shorten,
    instant::Instant,
    needs,
    render::{check_string, check_variable, render_condition, render_shell, render_text},
    value::{render_value, templates_of},
};
use crate::{
    definition::{
        BranchArm, Branches, Command, Dag, DriftSpec, HttpSpec, Notification, Operator, PythonSpec,
        PythonTarget, SqlSpec, SqlTask, Task,
    },
    ids::TaskId,
};

/// What an attempt does, rendered; the engine's side of the protocol's `Work`.
#[derive(Clone, Debug, PartialEq)]
pub enum RenderedWork {
    /// `/bin/sh -c SCRIPT`; interpolated values are in the environment.
    Shell {
        /// The script.
        script: String,
    },
    /// Executed as it is.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// Runs Python code.
    Python {
        /// What is called, rendered.
        spec: Box<PythonSpec>,
    },
    /// A choice, already made.
    Branch {
        /// The chosen ids.
        chosen: Vec<String>,
        /// How, in words, for the log.
        because: String,
    },
    /// Measures drift.
    Drift {
        /// What and how, paths rendered.
        spec: Box<DriftSpec>,
        /// Followed when the data drifted.
        on_drift: Vec<TaskId>,
        /// Followed when they did not.
        on_stable: Vec<TaskId>,
        /// Followed when no feature could be tested.
        on_insufficient_data: Option<Vec<TaskId>>,
    },
    /// Calls a webhook.
    Notify {
        /// Where.
        webhook: String,
        /// The JSON body.
        body: Json,
    },
    /// Asks another service.
    Http {
        /// What, rendered.
        spec: Box<HttpSpec>,
        /// Where the body goes.
        response_file: Option<String>,
    },
    /// Executes statements.
    Sql {
        /// Which, parameters rendered.
        spec: Box<SqlTask>,
    },
    /// Asks another service once whether it answers as it should.
    HttpSensor {
        /// What, rendered.
        spec: Box<HttpSpec>,
        /// What the answer must be.
        when: Option<AnswerCondition>,
    },
    /// Asks a database once whether a query gives what it should.
    SqlSensor {
        /// Which, parameters rendered.
        spec: Box<SqlSpec>,
        /// What it must give.
        when: Option<AnswerCondition>,
    },
    /// Looks once whether a file is there.
    FileSensor {
        /// The file, folder or pattern.
        path: String,
    },
}

/// A task, ready to be assigned.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedTask {
    /// What to do; absent for an operator that never leaves the engine.
    pub work: Option<RenderedWork>,
    /// The `TIDEMILL_*` variables that the server knows, the task's `env` and the data of its command.
    pub env: BTreeMap<String, String>,
}

/// Which key of a task could not be rendered, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: `{field}` of task `{task}`: {error}", error.code())]
pub struct TaskRenderError {
    /// The task.
    pub task: TaskId,
    /// The key of the DAG file, such as `command` or `env.DATE`.
    pub field: String,
    /// Why.
    #[source]
    pub error: RenderError,
}

impl TaskRenderError {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.error.code()
    }
}

/// Returns what has to be loaded before the task can be rendered.
#[must_use]
pub fn needs_of_task(task: &Task) -> Needs {
    let mut all = Needs::default();
    for template in templates(task) {
        all.merge(needs(template));
    }
    all
}

/// Returns the connections that a task cannot do without: those that its templates name, and those that its operator
/// is given.
#[must_use]
pub fn connections_of_task(task: &Task) -> BTreeSet<String> {
    let mut ids = needs_of_task(task).connections;
    ids.extend(task.operator.connections().into_iter().map(ToString::to_string));
    ids
}

fn templates(task: &Task) -> Vec<&str> {
    let mut found: Vec<&str> = task.env.values().map(String::as_str).collect();
    match &task.operator {
        Operator::Command { command: Command::Shell(script) } => found.push(script),
        Operator::Command { command: Command::Exec(argv) } => found.extend(argv.iter().map(String::as_str)),
        Operator::Python { spec } => match &spec.target {
            PythonTarget::Script { path, args } => {
                found.push(path);
                found.extend(args.iter().map(String::as_str));
            }
            PythonTarget::Callable { args, kwargs, .. } => {
                args.iter().chain(kwargs.values()).for_each(|value| templates_of(value, &mut found));
            }
        },
        // What waits in the engine is prepared, not rendered.
        Operator::Noop
        | Operator::LatestOnly
        | Operator::TimeSensor { .. }
        | Operator::TriggerDag { .. }
        | Operator::DagRunSensor { .. } => {}
        Operator::ShortCircuit { when, .. } => found.push(when),
        Operator::Branch { branches: Branches::Template(template) } => found.push(template),
        Operator::Branch { branches: Branches::Arms(arms) } => {
            found.extend(arms.iter().filter_map(|arm| arm.when.as_deref()));
        }
        Operator::Drift { spec, .. } => found.extend([spec.reference.as_str(), spec.current.as_str()]),
        Operator::Notify { notification } => {
            found.push(&notification.webhook);
            found.extend(notification.message.as_deref());
        }
        Operator::FileSensor { path, .. } => found.push(path),
        asking @ (Operator::Http { .. }
        | Operator::HttpSensor { .. }
        | Operator::Sql { .. }
        | Operator::SqlSensor { .. }) => calls::templates(asking, &mut found),
    }
    found
}

/// Renders a whole task.
///
/// # Errors
/// [`TaskRenderError`] names the first key that could not be rendered.
pub fn render_task(dag: &Dag, task: &Task, context: &Context) -> Result<RenderedTask, TaskRenderError> {
    let at = |field: &str| {
        let field = field.to_owned();
        |error| TaskRenderError { task: task.id.clone(), field, error }
    };
    let mut env = identity(context);
    for (name, template) in &task.env {
        let field = format!("env.{name}");
        let value = render_text(template, context).map_err(at(&field))?;
        env.insert(name.clone(), value);
    }
    let work = match &task.operator {
        Operator::Noop
        | Operator::LatestOnly
        | Operator::TimeSensor { .. }
        | Operator::TriggerDag { .. }
        | Operator::DagRunSensor { .. } => None,
        Operator::Command { command: Command::Shell(template) } => {
            let rendered = render_shell(template, context).map_err(at("command"))?;
            env.extend(rendered.env);
            Some(RenderedWork::Shell { script: rendered.script })
        }
        Operator::Command { command: Command::Exec(templates) } => {
            Some(RenderedWork::Exec { argv: render_argv(templates, context).map_err(at("command"))? })
        }
        Operator::Python { spec } => Some(RenderedWork::Python {
            spec: Box::new(PythonSpec {
                target: render_python(&spec.target, context, at)?,
                ..(**spec).clone()
            }),
        }),
        Operator::Branch { branches } => {
            let (chosen, because) = render_branches(branches, context).map_err(at("branches"))?;
            Some(RenderedWork::Branch { chosen, because })
        }
        Operator::ShortCircuit { when, .. } => {
            let (chosen, because) = render_gate(dag, task, when, context).map_err(at("when"))?;
            Some(RenderedWork::Branch { chosen, because })
        }
        Operator::Drift { spec, on_drift, on_stable, on_insufficient_data } => {
            let mut spec = spec.clone();
            spec.reference = render_text(&spec.reference, context).map_err(at("reference"))?;
            spec.current = render_text(&spec.current, context).map_err(at("current"))?;
            Some(RenderedWork::Drift {
                spec,
                on_drift: on_drift.clone(),
                on_stable: on_stable.clone(),
                on_insufficient_data: on_insufficient_data.clone(),
            })
        }
        Operator::Notify { notification } => {
            let webhook = render_text(&notification.webhook, context).map_err(at("webhook"))?;
            let default = format!("Task {} of dag run {} of {}.", task.id, context.run_id, dag.id);
            let body = render_message(notification, context, &default).map_err(at("message"))?;
            Some(RenderedWork::Notify { webhook, body })
        }
        asking @ (Operator::Http { .. }
        | Operator::HttpSensor { .. }
        | Operator::Sql { .. }
        | Operator::SqlSensor { .. }) => calls::work(asking, context, at)?,
        Operator::FileSensor { path, .. } => {
            Some(RenderedWork::FileSensor { path: render_text(path, context).map_err(at("path"))? })
        }
    };
    for (name, value) in &env {
        check_variable(name, value).map_err(at(&format!("env.{name}")))?;
    }
    Ok(RenderedTask { work, env })
}

/// Renders the JSON body of a notification: `text` and who speaks.
///
/// # Errors
/// [`RenderError`], codes `SCH0701` to `SCH0703`.
pub fn render_message(
    notification: &Notification,
    context: &Context,
    default: &str,
) -> Result<Json, RenderError> {
    let text = match &notification.message {
        Some(template) => render_text(template, context)?,
        None => default.to_owned(),
    };
    let mut body = json!({
        "text": text,
        "dag_id": context.dag_id,
        "run_id": context.run_id,
        "logical_date": context.logical_date,
    });
    if let Some(task_id) = &context.task_id {
        body["task_id"] = json!(task_id);
        body["try_number"] = json!(context.try_number);
    }
    Ok(body)
}

/// Renders what a `python` task calls; `at` names the key where it fails.
fn render_python<F: FnOnce(RenderError) -> TaskRenderError>(
    target: &PythonTarget,
    context: &Context,
    at: impl Fn(&str) -> F,
) -> Result<PythonTarget, TaskRenderError> {
    Ok(match target {
        PythonTarget::Script { path, args } => PythonTarget::Script {
            path: render_text(path, context).map_err(at("script"))?,
            args: render_argv(args, context).map_err(at("args"))?,
        },
        PythonTarget::Callable { file, function, args, kwargs } => PythonTarget::Callable {
            file: file.clone(),
            function: function.clone(),
            args: args
                .iter()
                .map(|value| render_value(value, context))
                .collect::<Result<_, _>>()
                .map_err(at("args"))?,
            kwargs: kwargs
                .iter()
                .map(|(name, value)| {
                    let rendered = render_value(value, context).map_err(at(&format!("kwargs.{name}")))?;
                    Ok((name.clone(), rendered))
                })
                .collect::<Result<_, _>>()?,
        },
    })
}

fn render_argv(templates: &[String], context: &Context) -> Result<Vec<String>, RenderError> {
    let mut argv = Vec::with_capacity(templates.len());
    for (index, template) in templates.iter().enumerate() {
        let text = render_text(template, context)?;
        check_string(&format!("argument {index}"), &text, text.len())?;
        if context.would_show(&needs(template), &text) {
            return Err(RenderError::SecretArgument { place: format!("argument {index}") });
        }
        argv.push(text);
    }
    Ok(argv)
}

fn render_branches(branches: &Branches, context: &Context) -> Result<(Vec<String>, String), RenderError> {
    match branches {
        Branches::Template(template) => {
            let text = render_text(template, context)?;
            let chosen = parse_choice(text.trim())?;
            Ok((chosen, format!("the branch template printed `{}`", shorten(text.trim()))))
        }
        Branches::Arms(arms) => first_arm(arms, context),
    }
}

fn first_arm(arms: &[BranchArm], context: &Context) -> Result<(Vec<String>, String), RenderError> {
    for (index, arm) in arms.iter().enumerate() {
        let because = match &arm.when {
            None => format!("no earlier arm held; arm {} always does", index + 1),
            Some(when) if render_condition(when, context)? => {
                format!("arm {} held: `{}`", index + 1, shorten(when))
            }
            Some(_) => continue,
        };
        return Ok((arm.then.iter().map(|id| id.as_str().to_owned()).collect(), because));
    }
    Ok((Vec::new(), "no arm held".to_owned()))
}

/// A condition that holds follows everything directly below, one that does not follows nothing.
fn render_gate(
    dag: &Dag,
    task: &Task,
    when: &str,
    context: &Context,
) -> Result<(Vec<String>, String), RenderError> {
    let text = shorten(when);
    if !render_condition(when, context)? {
        return Ok((Vec::new(), format!("the condition does not hold: `{text}`")));
    }
    let below = dag.tasks.iter().filter(|other| other.depends_on.contains(&task.id));
    let chosen = below.map(|other| other.id.as_str().to_owned()).collect();
    Ok((chosen, format!("the condition holds: `{text}`")))
}

/// Reads a task id, a JSON array of them, or nothing.
fn parse_choice(text: &str) -> Result<Vec<String>, RenderError> {
    let wrong = || RenderError::Branch { text: shorten(text) };
    let ids: Vec<String> = match text {
        "" => Vec::new(),
        list if list.starts_with('[') => serde_json::from_str(list).map_err(|_| wrong())?,
        id => vec![id.to_owned()],
    };
    if ids.iter().any(|id| TaskId::new(id).is_err()) {
        return Err(wrong());
    }
    Ok(ids)
}

/// The variables of DESIGN §5 that the server knows; the worker adds the paths.
fn identity(context: &Context) -> BTreeMap<String, String> {
    let date = |at| Instant::utc(at).iso();
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(format!("TIDEMILL_{name}"), value);
    set("DAG_ID", context.dag_id.to_string());
    set("RUN_ID", context.run_id.to_string());
    set("MAP_INDEX", context.map_index.to_string());
    set("TRY_NUMBER", context.try_number.to_string());
    set("FENCE", context.epoch.to_string());
    set("LOGICAL_DATE", date(context.logical_date));
    set("DS", context.logical_date.format("%F").to_string());
    set("DATA_INTERVAL_START", date(context.data_interval_start));
    set("DATA_INTERVAL_END", date(context.data_interval_end));
    set("PARAMS", Json::Object(context.params.clone()).to_string());
    if let Some(task_id) = &context.task_id {
        set("TASK_ID", task_id.to_string());
    }
    env
}
