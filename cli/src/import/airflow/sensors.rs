//! Converts sensors: to sensors of ours where there is one, which free their slot or need none, and else to scripts that
//! look again and again until what they wait for is there.

use toml::Value as Toml;

use super::{common, other_runs, python, shell, tasks::Making, value::Value};

/// The arguments of the sensors of this file.
pub(super) const OWN: &[&str] = &[
    "poke_interval",
    "timeout",
    "soft_fail",
    "exponential_backoff",
    "max_wait",
    "mode",
    "filepath",
    "fs_conn_id",
    "recursive",
    "bash_command",
    "env",
    "python_callable",
    "op_args",
    "op_kwargs",
    "templates_dict",
    "delta",
    "target_time",
    "deferrable",
];

/// Airflow's own default: seven days.
const TIMEOUT: f64 = 604_800.0;

fn seconds(value: Option<&Value<'_>>) -> Option<f64> {
    match value? {
        #[expect(clippy::cast_precision_loss, reason = "no wait is that long")]
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        #[expect(clippy::cast_precision_loss, reason = "no wait is that long")]
        Value::Delta(ms) => Some(*ms as f64 / 1000.0),
        _ => None,
    }
}

/// Returns how a sensor waits, as the arguments of the script's `_wait`.
pub(super) fn wait(making: &mut Making<'_, '_>) -> String {
    for name in ["poke_interval", "timeout"] {
        if making.value(name).is_some() && seconds(making.value(name)).is_none() {
            making.problem(format!("`{name}` has a value that only Python can tell"));
        }
    }
    if making.value("mode").and_then(Value::as_str) == Some("reschedule") {
        making.note("it keeps its slot while it waits; in Airflow `mode=\"reschedule\"` frees it");
    }
    let interval = seconds(making.value("poke_interval")).unwrap_or(60.0);
    let timeout = seconds(making.value("timeout")).unwrap_or(TIMEOUT);
    let soft = if making.value("soft_fail").and_then(Value::truth) == Some(true) { "True" } else { "False" };
    format!("{{\"interval\": {interval}, \"timeout\": {timeout}, \"soft_fail\": {soft}}}")
}

/// Converts a sensor. Returns false for one that it does not know.
pub(super) fn convert(making: &mut Making<'_, '_>, class: &str) -> bool {
    match class {
        "PythonSensor" => python::operator(making, class),
        "FileSensor" => file(making),
        "BashSensor" => bash(making),
        "TimeDeltaSensor" | "TimeDeltaSensorAsync" => {
            let delay = making.value("delta").and_then(common::delay);
            let Some(delay) = delay else {
                making.refuse("a `delta` that only Python can tell");
                return true;
            };
            making.task.set("operator", "time_sensor");
            making.task.set("delay", delay);
            other_runs::waiting(making);
        }
        "TimeSensor" | "TimeSensorAsync" => time(making),
        "DateTimeSensor" | "DateTimeSensorAsync" => moment(making),
        _ => return false,
    }
    true
}

/// Sets how a sensor of ours waits.
pub(super) fn poking(making: &mut Making<'_, '_>) {
    // An `execution_timeout` of `default_args` is that of one poke in Airflow and would be the whole wait here.
    making.task.set("timeout", "7d");
    for (name, key) in
        [("poke_interval", "poke_interval"), ("timeout", "timeout"), ("max_wait", "max_poke_interval")]
    {
        let Some(value) = making.value(name) else { continue };
        match common::delay(value) {
            Some(delay) => making.task.set(key, Toml::from(delay)),
            None => making.problem(format!("`{name}` has a value that only Python can tell")),
        }
    }
    for (name, key) in [("soft_fail", "soft_fail"), ("exponential_backoff", "poke_backoff")] {
        match making.value(name).map(Value::truth) {
            Some(Some(true)) => making.task.set(key, Toml::from(true)),
            Some(None) => making.problem(format!("`{name}` has a value that only Python can tell")),
            Some(Some(false)) | None => {}
        }
    }
}

fn file(making: &mut Making<'_, '_>) {
    let path = making.value("filepath").and_then(|value| making.interp.text_of(value));
    let Some(path) = path else { return making.refuse("a `filepath` that only Python can tell") };
    if !path.starts_with('/') && !path.starts_with("{{") {
        making.problem("`filepath` is relative to what the connection `fs_conn_id` says; here it is relative to the folder of the DAG file");
    }
    if path.contains("**") && making.value("recursive").and_then(Value::truth) != Some(true) {
        making.note("`**` in its `filepath` looks into every folder below; without `recursive=True` Airflow looks into one");
    }
    let path = making.template(&path);
    making.task.set("operator", "file_sensor");
    making.task.set("path", path);
    poking(making);
}

fn time(making: &mut Making<'_, '_>) {
    let parts = match making.value("target_time") {
        Some(Value::Object(object)) if object.path.ends_with("time") => object
            .args
            .iter()
            .map(|part| if let Value::Int(part) = part { Some(*part) } else { None })
            .chain(object.keywords.iter().map(|_| None))
            .collect::<Option<Vec<i64>>>(),
        _ => None,
    };
    let Some(parts) = parts.filter(|parts| (1..=3).contains(&parts.len())) else {
        return making.refuse("a `target_time` that only Python can tell");
    };
    let part = |place: usize| parts.get(place).copied().unwrap_or_default();
    let until = match part(2) {
        0 => format!("{:02}:{:02}", part(0), part(1)),
        second => format!("{:02}:{:02}:{second:02}", part(0), part(1)),
    };
    making.note("it waits for that time of the day on which the data of the run ends, not of the day of its execution");
    making.task.set("operator", "time_sensor");
    making.task.set("until", until);
    other_runs::waiting(making);
}

fn moment(making: &mut Making<'_, '_>) {
    let text = match making.value("target_time") {
        Some(Value::Moment(moment)) if moment.zone.as_deref().is_none_or(|zone| zone == "UTC") => {
            let text = moment.toml();
            Some(if text.contains('T') { format!("{text}+00:00") } else { format!("{text}T00:00:00+00:00") })
        }
        Some(value) => making.interp.text_of(value),
        None => None,
    };
    let Some(text) = text else { return making.refuse("a `target_time` that only Python can tell") };
    let text = making.template(&text);
    making.task.set("operator", "time_sensor");
    making.task.set("until", text);
    other_runs::waiting(making);
}

fn bash(making: &mut Making<'_, '_>) {
    let Some(command) = making.text("bash_command") else {
        return making.refuse("a `bash_command` that only Python can tell");
    };
    let interval = seconds(making.value("poke_interval")).unwrap_or(60.0);
    let timeout = seconds(making.value("timeout")).unwrap_or(TIMEOUT);
    let command = shell::command(&format!("until (\n{}\n); do sleep {interval}; done", command.trim_end()));
    making.task.set("command", command);
    if let Some(timeout) = common::delay(&Value::Float(timeout)) {
        making.task.set("timeout", Toml::from(timeout));
    }
    if making.value("soft_fail").and_then(Value::truth) == Some(true) {
        making.problem("`soft_fail`: after its timeout it fails, and is not skipped");
    }
    making.env(Vec::new());
}
