//! The arguments that every operator takes, and what they are here.

use tidemill_engine::{definition::keys::TableId, state::TriggerRule};
use toml::Value as Toml;

use super::value::Value;
use crate::import::is_built;

/// What an argument of Airflow is in a DAG file.
#[derive(Debug, PartialEq)]
pub(super) enum Mapped {
    Set(&'static str, Toml),
    /// It says what holds anyway, or nothing that matters here.
    Nothing,
    Note(String),
    Problem(String),
    /// It belongs to the operator.
    Unknown,
}

/// Arguments that are read elsewhere, or that say nothing since Airflow 2.
const IDLE: &[&str] = &[
    "task_id",
    "dag",
    "dag_id",
    "task_group",
    "provide_context",
    "multiple_outputs",
    "_function",
    "start_date",
    "end_date",
    "_map",
    "_setup",
    "_teardown",
    "on_failure_fail_dagrun",
];

/// Arguments that are for pages and logs, and others without which the task does the same.
const QUIET: &[&str] = &[
    "do_xcom_push",
    "show_return_value_in_log",
    "doc_json",
    "doc_yaml",
    "doc_rst",
    "task_display_name",
    "logger_name",
    "map_index_template",
    "ui_color",
    "ui_fgcolor",
    "log_events_on_failure",
    "ignore_first_depends_on_past",
    "inlets",
    "output_encoding",
];

/// Arguments that have a key of the same meaning here, when it is built.
const FLAGS: &[(&str, &str)] =
    &[("depends_on_past", "depends_on_past"), ("wait_for_downstream", "wait_for_downstream")];

/// Returns a duration as DAG files write it.
pub(super) fn duration(ms: i64) -> Option<String> {
    let mut rest = u64::try_from(ms).ok()?.div_ceil(1000);
    if rest == 0 {
        return Some("0s".to_owned());
    }
    let mut text = String::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest >= seconds {
            text.push_str(&format!("{}{unit}", rest / seconds));
            rest %= seconds;
        }
    }
    Some(text)
}

/// Returns a `timedelta`, or a number of seconds, as DAG files write it.
pub(super) fn delay(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Delta(ms) => duration(*ms),
        Value::Int(seconds) => duration(seconds.checked_mul(1000)?),
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        Value::Float(seconds) if seconds.abs() < 1e12 => duration((seconds * 1000.0) as i64),
        _ => None,
    }
}

/// Returns a trigger rule by the name that Airflow has for it, now or formerly.
pub(super) fn trigger_rule(value: &Value<'_>) -> Option<&'static str> {
    let name = match value {
        Value::Str(text) => text.clone(),
        Value::Path(path) => path.rsplit('.').next().unwrap_or_default().to_lowercase(),
        _ => return None,
    };
    let name = match name.as_str() {
        "none_failed_or_skipped" => "none_failed_min_one_success",
        "dummy" => "always",
        other => other,
    };
    TriggerRule::ALL.iter().map(|rule| rule.as_str()).find(|rule| *rule == name)
}

/// Translates one argument.
pub(super) fn map(name: &str, value: &Value<'_>) -> Mapped {
    let is_default = matches!(
        (name, value),
        (_, Value::None)
            | (
                "depends_on_past"
                    | "wait_for_downstream"
                    | "retry_exponential_backoff"
                    | "email_on_failure"
                    | "email_on_retry",
                Value::Bool(false)
            )
    );
    if is_default || IDLE.contains(&name) {
        return Mapped::Nothing;
    }
    let text = |key: &'static str| value.as_str().map(|text| Mapped::Set(key, Toml::from(text)));
    let int = |key: &'static str| {
        if let Value::Int(int) = value { Some(Mapped::Set(key, Toml::from(*int))) } else { None }
    };
    let wait = |key: &'static str| delay(value).map(|delay| Mapped::Set(key, Toml::from(delay)));
    let mapped = match name {
        "retries" => int("retries"),
        "retry_delay" => wait("retry_delay"),
        "max_retry_delay" => wait("max_retry_delay"),
        "execution_timeout" => wait("timeout"),
        "retry_exponential_backoff" => match value {
            Value::Bool(true) => Some(Mapped::Set("retry_backoff", Toml::from(true))),
            Value::Float(factor) => Some(Mapped::Set("retry_backoff", Toml::from(*factor))),
            _ => None,
        },
        "pool" => text("pool"),
        "queue" => text("queue"),
        "owner" => text("owner"),
        "pool_slots" => int("pool_slots"),
        "priority_weight" => int("priority_weight"),
        "max_active_tis_per_dag" | "task_concurrency" => int("max_active_per_dag"),
        "max_active_tis_per_dagrun" if is_built(TableId::Task, "max_active_per_run") => {
            int("max_active_per_run")
        }
        "doc" | "doc_md" => text("doc"),
        "trigger_rule" => trigger_rule(value).map(|rule| Mapped::Set("trigger_rule", Toml::from(rule))),
        "weight_rule" => match value {
            Value::Str(text) => Some(Mapped::Set("weight_rule", Toml::from(text.as_str()))),
            Value::Path(path) => {
                let rule = path.rsplit('.').next().unwrap_or_default().to_lowercase();
                Some(Mapped::Set("weight_rule", Toml::from(rule)))
            }
            _ => None,
        },
        _ => return rare(name, value),
    };
    mapped.unwrap_or_else(|| Mapped::Problem(format!("`{name}` has a value that only Python can tell")))
}

fn rare(name: &str, value: &Value<'_>) -> Mapped {
    if let Some((_, key)) = FLAGS.iter().find(|(flag, _)| *flag == name) {
        return match value {
            Value::Bool(true) if is_built(TableId::Task, key) => Mapped::Set(key, Toml::from(true)),
            _ => Mapped::Problem(format!("`{name}` is not built yet")),
        };
    }
    match name {
        "on_failure_callback"
        | "on_success_callback"
        | "on_retry_callback"
        | "on_execute_callback"
        | "on_skipped_callback"
        | "sla_miss_callback" => Mapped::Problem(format!(
            "`{name}` calls Python; `on_failure` and `on_success` call a webhook: `on_failure = {{ webhook = \"…\" }}`"
        )),
        "email_on_failure" | "email_on_retry" => Mapped::Problem(format!(
            "`{name}`: mails are not sent; `on_failure = {{ webhook = \"…\" }}` calls a webhook"
        )),
        "email" => Mapped::Note("`email`: mails are not sent".to_owned()),
        "sla" => {
            Mapped::Problem("`sla` has no counterpart; `timeout` stops a try that takes too long".to_owned())
        }
        _ if QUIET.contains(&name) => Mapped::Note(format!("`{name}` is left out")),
        "outlets" => Mapped::Problem("`outlets`: assets are not converted".to_owned()),
        "executor_config"
        | "run_as_user"
        | "resources"
        | "executor"
        | "max_active_tis_per_dagrun"
        | "pre_execute"
        | "post_execute"
        | "params"
        | "allow_nested_operators"
        | "map_index"
        | "**" => Mapped::Problem(format!("`{name}` has no counterpart")),
        _ => Mapped::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_tasks_are_translated() {
        assert_eq!(duration(5_400_000).as_deref(), Some("1h30m"));
        assert_eq!(duration(90_000_000).as_deref(), Some("1d1h"));
        assert_eq!(duration(1).as_deref(), Some("1s"));
        assert_eq!(map("retry_delay", &Value::Int(90)), Mapped::Set("retry_delay", Toml::from("1m30s")));
        let rule = Value::Path("airflow.utils.trigger_rule.TriggerRule.NONE_FAILED_OR_SKIPPED".to_owned());
        assert_eq!(
            map("trigger_rule", &rule),
            Mapped::Set("trigger_rule", Toml::from("none_failed_min_one_success"))
        );
        assert_eq!(map("depends_on_past", &Value::Bool(false)), Mapped::Nothing);
        assert!(matches!(map("sla", &Value::Delta(1)), Mapped::Problem(_)));
        assert!(matches!(map("retries", &Value::Delta(1)), Mapped::Problem(_)));
        assert_eq!(map("bash_command", &Value::None), Mapped::Nothing);
        assert_eq!(map("bash_command", &Value::Int(1)), Mapped::Unknown);
    }
}
