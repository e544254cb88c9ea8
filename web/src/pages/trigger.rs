//! The trigger form, made from the DAG's params, with a preview of what the run would do.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};
use chrono::Utc;
use serde_json::{Map, Value};
use tidemill_engine::{definition::Dag, ids::RunId};
use tidemill_protocol::worker::Work;
use tidemill_scheduler::{Effect, Preview, TaskEffect};

use super::{
    Chrome,
    dag::find,
    json_lines, page, see,
    trigger_fields::{Field, date, field_name, read},
};
use crate::{
    actions,
    auth::Identity,
    error::{PartProblem, Problem, Result},
    extract::{DagPath, Form, Ids},
    render::{Markup, time},
    state::WebState,
    views::TriggerBody,
};

/// How many tasks a preview shows.
const SHOWN: usize = 50;
/// Names of the form's own fields.
const DATE: &str = "logical_date";
const RUN_ID: &str = "run_id";
const STEP: &str = "step";

/// What the run would do, as it is drawn.
struct PreviewView {
    params: Vec<String>,
    logical_date: Markup,
    from: Markup,
    to: Markup,
    tasks: Vec<TaskLines>,
    more: usize,
}

struct TaskLines {
    task_id: String,
    operator: &'static str,
    is_mapped: bool,
    later: String,
    problem: String,
    lines: Vec<String>,
}

#[derive(Template)]
#[template(path = "trigger.html")]
struct TriggerPage {
    c: Chrome,
    dag_id: String,
    problems: Vec<String>,
    fields: Vec<Field>,
    preview: Option<PreviewView>,
    has_params: bool,
}

fn form_page(
    c: Chrome,
    dag: &Dag,
    form: &Form,
    mut problems: Vec<PartProblem>,
    preview: Option<PreviewView>,
) -> Result<Response> {
    // Of a box the form carries a hidden `false` before the box's own value: the last one counts.
    let given =
        |name: &str| form.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut fields: Vec<Field> =
        dag.params.iter().map(|p| Field::of(p, given(&field_name(p)), &mut problems)).collect();
    for (name, label, hint) in
        [(DATE, "Logical date", "RFC 3339 or a date; empty: now"), (RUN_ID, "Run id", "Empty: one is made")]
    {
        let mut field = Field::line(name, label, hint, form.value(name).unwrap_or_default());
        field.errors =
            problems.extract_if(.., |problem| problem.pointer == name).map(|p| p.message).collect();
        fields.push(field);
    }
    let told = |problem: &PartProblem| match problem.pointer.as_str() {
        "" => problem.message.clone(),
        _ => problem.to_string(),
    };
    let problems = problems.iter().map(told).collect();
    let has_params = !dag.params.is_empty();
    page(&TriggerPage { c, dag_id: dag.id.to_string(), problems, fields, preview, has_params })
}

/// Shows the form with the defaults.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
) -> Result<Response> {
    let dag = find(&state, &ids.dag_id).await?.definition;
    form_page(c, &dag, &Form(Vec::new()), Vec::new(), None)
}

/// Triggers, or shows what the run would do, or the form again with what is wrong beside the fields.
pub(crate) async fn submit(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<DagPath>,
    c: Chrome,
    form: Form,
) -> Result<Response> {
    let dag = find(&state, &ids.dag_id).await?.definition;
    let problems = match body(&dag, &form) {
        Ok(body) if form.value(STEP) == Some("preview") => match preview(&state, &dag, body).await? {
            Ok(effect) => return form_page(c, &dag, &form, Vec::new(), Some(effect)),
            Err(problems) => problems,
        },
        Ok(body) => match actions::trigger(&state, &who, ids.dag_id.clone(), body, None).await {
            Ok(made) => return Ok(see(&format!("/dags/{}/runs/{}", made.run.dag_id, made.run.run_id))),
            Err(problem) if problem.status == 422 || problem.status == 409 => parts(problem),
            Err(problem) => return Err(problem),
        },
        Err(problems) => problems,
    };
    let mut response = form_page(c, &dag, &form, problems, None)?;
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}

/// Returns what is wrong with parts, or with the whole.
fn parts(problem: Problem) -> Vec<PartProblem> {
    if problem.errors.is_empty() {
        return vec![PartProblem { pointer: String::new(), message: problem.detail }];
    }
    problem.errors
}

fn body(dag: &Dag, form: &Form) -> Result<TriggerBody, Vec<PartProblem>> {
    let mut problems = Vec::new();
    let mut conf = Map::new();
    for param in &dag.params {
        let name = field_name(param);
        let Some((_, text)) = form.0.iter().rev().find(|(key, _)| *key == name) else { continue };
        match read(param, text) {
            // Only what differs from the default is an override.
            Ok(Some(value)) if param.schema.get("default") != Some(&value) => {
                conf.insert(param.name.clone(), value);
            }
            Ok(_) => {}
            Err(message) => problems.push(PartProblem { pointer: format!("/{}", param.name), message }),
        }
    }
    let mut told =
        |name: &str, message: String| problems.push(PartProblem { pointer: name.to_owned(), message });
    let logical_date = form.value(DATE).and_then(|text| date(text).map_err(|why| told(DATE, why)).ok());
    let run_id = form.value(RUN_ID).map(ToOwned::to_owned);
    if let Some(Err(error)) = run_id.as_deref().map(RunId::new) {
        told(RUN_ID, error.to_string());
    }
    // A value that cannot be read must not hide that another one does not fit.
    if !problems.is_empty() {
        let unread: Vec<String> = problems.iter().map(|problem| problem.pointer.clone()).collect();
        let fits = tidemill_engine::definition::check_conf(dag, &conf);
        let others = fits.err().into_iter().flatten().map(PartProblem::from);
        problems.extend(others.filter(|other| !unread.contains(&other.pointer)));
        return Err(problems);
    }
    Ok(TriggerBody { conf, logical_date, run_id })
}

/// Says what a run would do; nothing is changed.
async fn preview(
    state: &WebState,
    dag: &Arc<Dag>,
    body: TriggerBody,
) -> Result<Result<PreviewView, Vec<PartProblem>>> {
    let logical_date = body.logical_date.unwrap_or_else(Utc::now);
    let made = format!("manual__{}__preview", logical_date.format("%Y-%m-%dT%H:%M:%SZ"));
    let run_id = RunId::new(body.run_id.unwrap_or(made));
    let run_id = run_id.map_err(|error| Problem::new("WEB0206", format!("the run id {error}")))?;
    let previous = if Preview::needs_previous(dag) {
        let found = state.reader().previous_success(&dag.id, logical_date).await?;
        found.map(|run| (run.data_interval_start, run.data_interval_end))
    } else {
        None
    };
    let asked = Preview { run_id, logical_date, conf: body.conf, map_index: -1, outputs: BTreeMap::new() };
    Ok(match asked.effect(dag, previous, SHOWN) {
        Ok(effect) => Ok(shown(effect, logical_date)),
        Err(tidemill_scheduler::PreviewError::Conf(problems)) => {
            Err(problems.into_iter().map(PartProblem::from).collect())
        }
        Err(error) => Err(vec![PartProblem { pointer: String::new(), message: error.to_string() }]),
    })
}

fn shown(effect: Effect, logical_date: chrono::DateTime<Utc>) -> PreviewView {
    PreviewView {
        params: json_lines(&Value::Object(effect.params)),
        logical_date: time::absolute(logical_date),
        from: time::absolute(effect.data_interval.0),
        to: time::absolute(effect.data_interval.1),
        tasks: effect.tasks.into_iter().map(task_lines).collect(),
        more: effect.more,
    }
}

fn task_lines(task: TaskEffect) -> TaskLines {
    let mut lines: Vec<String> =
        task.env.iter().flat_map(|(name, value)| split(&format!("{name}={value}"))).collect();
    lines.extend(match &task.work {
        Some(Work::Shell { script }) => split(script),
        Some(Work::Exec { argv }) => vec![serde_json::json!(argv).to_string()],
        Some(other) => json_lines(&serde_json::json!(other)),
        None => Vec::new(),
    });
    TaskLines {
        task_id: task.task_id.to_string(),
        operator: task.operator,
        is_mapped: task.is_mapped,
        later: task.later.join(", "),
        problem: task.problem.unwrap_or_default(),
        lines,
    }
}

fn split(text: &str) -> Vec<String> {
    text.lines().map(ToOwned::to_owned).collect()
}
