//! Converts what waits for a time, triggers another DAG or waits for one: the scheduler does all of that by itself.

use toml::Value as Toml;

use super::{common, tasks::Making, value::Value};

/// The arguments of a `TriggerDagRunOperator`.
pub(super) const TRIGGER: &[&str] = &[
    "trigger_dag_id",
    "trigger_run_id",
    "conf",
    "logical_date",
    "execution_date",
    "wait_for_completion",
    "poke_interval",
    "allowed_states",
    "failed_states",
    "reset_dag_run",
    "skip_when_already_exists",
    "deferrable",
];

/// The arguments of an `ExternalTaskSensor`.
pub(super) const SENSOR: &[&str] = &[
    "external_dag_id",
    "external_task_id",
    "external_task_ids",
    "external_task_group_id",
    "allowed_states",
    "failed_states",
    "skipped_states",
    "execution_delta",
    "execution_date_fn",
    "check_existence",
    "poke_interval",
    "poll_interval",
    "timeout",
    "soft_fail",
    "mode",
    "deferrable",
];

/// The ends of a run by the names that Airflow has for them.
fn states(making: &mut Making<'_, '_>, name: &str) -> Option<Vec<String>> {
    let Some(Value::List(items)) = making.value(name).cloned() else { return None };
    let mut found = Vec::new();
    for item in items {
        let text = match &item {
            Value::Str(text) => text.clone(),
            Value::Path(path) => path.rsplit('.').next().unwrap_or_default().to_lowercase(),
            _ => String::new(),
        };
        match text.as_str() {
            "success" | "failed" => found.push(text),
            _ => making.problem(format!("`{name}` names a state that a run does not end in")),
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Whether a flag is set; reported where only Python can tell.
fn flag(making: &mut Making<'_, '_>, name: &str) -> bool {
    match making.value(name).map(Value::truth) {
        None | Some(Some(false)) => false,
        Some(Some(true)) => true,
        Some(None) => {
            making.problem(format!("`{name}` has a value that only Python can tell"));
            false
        }
    }
}

/// Converts a `TriggerDagRunOperator`.
pub(super) fn trigger(making: &mut Making<'_, '_>) {
    let Some(dag_id) = making.text("trigger_dag_id") else {
        return making.refuse("a `trigger_dag_id` that only Python can tell");
    };
    making.task.set("operator", "trigger_dag");
    making.task.set("dag_id", dag_id);
    if let Some(conf) = making.value("conf").cloned() {
        match plain(making, &conf) {
            Some(conf @ Toml::Table(_)) => making.task.set("conf", conf),
            _ => making.problem("`conf` holds something that only Python can tell"),
        }
    }
    for (theirs, ours) in
        [("trigger_run_id", "run_id"), ("logical_date", "logical_date"), ("execution_date", "logical_date")]
    {
        let text = match making.value(theirs).cloned() {
            None => continue,
            Some(Value::Moment(moment)) if moment.zone.as_deref().is_none_or(|zone| zone == "UTC") => {
                let text = moment.toml();
                Some(if text.contains('T') { format!("{text}Z") } else { format!("{text}T00:00:00Z") })
            }
            Some(_) => making.text(theirs),
        };
        if let Some(text) = text {
            making.task.set(ours, text);
        }
    }
    if flag(making, "wait_for_completion") {
        making.task.set("wait", true);
        if let Some(states) = states(making, "allowed_states") {
            making.task.set("allowed_states", states);
        }
        if making.value("failed_states").is_some() {
            making.note("`failed_states` is left out: an end that is not allowed fails the task");
        }
    }
    for name in ["reset_dag_run", "skip_when_already_exists"] {
        if flag(making, name) {
            making.problem(format!("`{name}`: a run id that there is already fails the task"));
        }
    }
}

/// Converts an `ExternalTaskSensor`, where it waits for a run.
pub(super) fn sensor(making: &mut Making<'_, '_>) {
    for name in ["external_task_id", "external_task_ids", "external_task_group_id"] {
        if making.value(name).is_some() {
            let why = format!(
                "a sensor waits for a run and not for its tasks (`{name}`); see `outlets` and assets"
            );
            return making.refuse(&why);
        }
    }
    if making.value("execution_date_fn").is_some() {
        return making
            .refuse("an `execution_date_fn` (see `logical_date` and `offset` of a `dag_run_sensor`)");
    }
    let Some(dag_id) = making.text("external_dag_id") else {
        return making.refuse("an `external_dag_id` that only Python can tell");
    };
    making.task.set("operator", "dag_run_sensor");
    making.task.set("dag_id", dag_id);
    match making.value("execution_delta").cloned() {
        None => {}
        Some(Value::Delta(ms)) if ms >= 0 => {
            if let Some(offset) = common::duration(ms) {
                making.task.set("offset", offset);
            }
        }
        Some(_) => {
            making.problem("`execution_delta` looks ahead, or only Python can tell: see `logical_date`")
        }
    }
    if let Some(states) = states(making, "allowed_states") {
        making.task.set("allowed_states", states);
    }
    // Airflow waits on unless it is told which states fail.
    if states(making, "failed_states").is_none() {
        making.task.set("wait_on_failure", true);
    }
    if making.value("skipped_states").is_some() {
        making.problem("`skipped_states` has no counterpart");
    }
    if flag(making, "check_existence") {
        making.note("`check_existence` is left out: it waits until there is such a DAG");
    }
    waiting(making);
}

/// Sets how long a sensor waits that does not look.
pub(super) fn waiting(making: &mut Making<'_, '_>) {
    // An `execution_timeout` of `default_args` would be the whole wait here.
    making.task.set("timeout", "7d");
    if let Some(value) = making.value("timeout").cloned() {
        match common::delay(&value) {
            Some(timeout) => making.task.set("timeout", timeout),
            None => making.problem("`timeout` has a value that only Python can tell"),
        }
    }
    if flag(making, "soft_fail") {
        making.task.set("soft_fail", true);
    }
}

/// Returns data with the templates in it translated.
fn plain(making: &mut Making<'_, '_>, value: &Value<'_>) -> Option<Toml> {
    Some(match value {
        Value::Str(text) => Toml::from(making.template(text)),
        Value::Bool(value) => Toml::from(*value),
        Value::Int(value) => Toml::from(*value),
        Value::Float(value) if value.is_finite() => Toml::from(*value),
        Value::List(items) => {
            Toml::Array(items.iter().map(|item| plain(making, item)).collect::<Option<Vec<_>>>()?)
        }
        Value::Dict(items) => {
            let mut table = toml::Table::new();
            for (key, item) in items {
                table.insert(key.as_str()?.to_owned(), plain(making, item)?);
            }
            Toml::Table(table)
        }
        other => Toml::from(making.interp.text_of(other).map(|text| making.template(&text))?),
    })
}
