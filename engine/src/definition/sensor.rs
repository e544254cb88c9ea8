//! Sensors: what is waited for, and how.

use std::time::Duration;

use super::{
    code::Code,
    fields::Fields,
    http_task,
    model::{Operator, Poke},
    problem::{Draft, Report},
    sql_task,
    task::GraphKind,
    values::show_seconds,
};

/// How long a sensor waits in all where the file says nothing: as in Airflow.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(7 * 86_400);

/// Reads the keys of a sensor.
pub(crate) fn read<'s>(
    word: &str,
    fields: &Fields<'s, '_>,
    name: &str,
    report: &mut Report<'_>,
) -> (Option<Operator>, GraphKind<'s>) {
    let poke = poke(fields, report);
    let operator = match word {
        "file_sensor" => {
            fields.require("path", name, report);
            fields.string("path").zip(poke).map(|(path, poke)| Operator::FileSensor { path, poke })
        }
        "http_sensor" => {
            let (spec, when) = (http_task::read(fields, name, report), fields.string("when"));
            spec.zip(poke).map(|(spec, poke)| Operator::HttpSensor { spec: Box::new(spec), when, poke })
        }
        "sql_sensor" => {
            let (spec, when) = (sql_task::read(fields, name, report), fields.string("when"));
            spec.zip(poke).map(|(spec, poke)| Operator::SqlSensor { spec: Box::new(spec), when, poke })
        }
        _ => None,
    };
    (operator, GraphKind::Process)
}

fn poke(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Poke> {
    let interval = fields.duration("poke_interval")?;
    let max_interval = fields.duration("max_poke_interval")?;
    if interval > max_interval
        && let Some(field) = fields.field("poke_interval").or_else(|| fields.field("max_poke_interval"))
    {
        let (cap, wanted) = (show_seconds(max_interval.as_secs()), show_seconds(interval.as_secs()));
        let message = format!("a poke waits {cap}, not {wanted}: `max_poke_interval` caps it");
        report.push(
            Draft::warning(Code::POKE_ABOVE_CAP, message, field.node.span.clone())
                .help("raise `max_poke_interval` or lower `poke_interval`"),
        );
    }
    let first_wait = interval.min(max_interval);
    if let (Some(timeout), Some(field)) = (fields.duration("timeout"), fields.field("timeout"))
        && timeout <= first_wait
    {
        let message = format!(
            "it gives up after {}, before its second poke at {}",
            show_seconds(timeout.as_secs()),
            show_seconds(first_wait.as_secs())
        );
        report.push(Draft::warning(Code::SINGLE_POKE, message, field.node.span.clone()).help(
            "the `timeout` of a sensor is the time that it waits in all: raise it, or lower `poke_interval`",
        ));
    }
    Some(Poke {
        interval,
        backoff: fields.float("poke_backoff")?,
        max_interval,
        timeout: fields.duration("poke_timeout")?,
        soft_fail: fields.bool("soft_fail"),
    })
}
