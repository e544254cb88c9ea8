//! Reads the tasks that never leave the engine and wait there.

use super::{
    code::Code,
    fields::Fields,
    inside::{Moment, RunWait, TimeWait, TriggerSpec, Until, WaitFrom, WhichRun},
    kinds::wrong_type,
    model::Operator,
    params::json,
    problem::{Draft, Report},
    suggest::shown,
    task::GraphKind,
    values::parse_duration,
};
use crate::state::RunState;

/// Reads the keys of a `time_sensor`.
pub(crate) fn time<'s>(
    fields: &Fields<'s, '_>,
    name: &str,
    report: &mut Report<'_>,
) -> (Option<Operator>, GraphKind<'s>) {
    let kind = GraphKind::Process;
    let (until, delay) = (fields.field("until"), fields.field("delay"));
    let is_misspelt = fields.is_misspelt("until") || fields.is_misspelt("delay");
    match (until, delay) {
        (None, None) if is_misspelt => return (None, kind),
        (None, None) => {
            report.push(
                Draft::error(
                    Code::TIME_SENSOR,
                    format!("{name} says neither `until` when it waits nor after which `delay` it goes on"),
                    fields.at.clone(),
                )
                .absence()
                .help("add `until = \"14:30\"`, `until = \"{{ … }}\"` or `delay = \"2h\"`"),
            );
            return (None, kind);
        }
        (Some(until), Some(delay)) => {
            report.push(
                Draft::error(
                    Code::TIME_SENSOR,
                    format!("{name} has both `until` and `delay`"),
                    delay.key_span.clone(),
                )
                .also(until.key_span.clone(), "the other one")
                .help("keep one of them: `until` names the instant, `delay` counts from a date of the run"),
            );
            return (None, kind);
        }
        _ => {}
    }
    let from = fields.word("from").and_then(WaitFrom::parse).unwrap_or(WaitFrom::DataIntervalEnd);
    let soft_fail = fields.bool("soft_fail");
    let until = match (fields.string("until"), fields.duration("delay")) {
        (Some(template), _) if is_moment(fields, &template, report) => Until::Text { template, from },
        (_, Some(delay)) => Until::Delay { delay, from },
        _ => return (None, kind),
    };
    (Some(Operator::TimeSensor { wait: TimeWait { until, soft_fail } }), kind)
}

/// Whether a text that is no template says when; which zone it is in makes no difference to that.
fn is_moment(fields: &Fields<'_, '_>, text: &str, report: &mut Report<'_>) -> bool {
    let is_template = text.contains("{{") || text.contains("{%");
    let is_good = is_template || Moment::parse(text, chrono_tz::UTC).is_some();
    if let (false, Some(node)) = (is_good, fields.node("until")) {
        let draft = Draft::error(
            Code::BAD_MOMENT,
            format!("`{}` is neither a time of day nor a date", shown(text)),
            node.span.clone(),
        );
        report.push(match parse_duration(text.trim()) {
            Some(_) => draft.help("a duration stands in `delay`"),
            None => {
                draft.help("write \"14:30\", \"2026-01-31T06:00:00Z\" or a template that gives one of them")
            }
        });
    }
    is_good
}

/// Reads the keys of a `trigger_dag`.
pub(crate) fn trigger<'s>(
    fields: &Fields<'s, '_>,
    name: &str,
    report: &mut Report<'_>,
) -> (Option<Operator>, GraphKind<'s>) {
    fields.require("dag_id", name, report);
    let conf = match fields.node("conf").map(|node| (node, json(node))) {
        None => Some(serde_json::Map::new()),
        Some((_, serde_json::Value::Object(conf))) => Some(conf),
        Some((node, _)) => {
            wrong_type("conf", "a table", node, report);
            None
        }
    };
    let wait = fields.bool("wait");
    if let (false, Some(field)) = (wait, fields.field("allowed_states").or_else(|| fields.field("timeout"))) {
        report.push(
            Draft::warning(
                Code::NO_EFFECT,
                "it has no effect on a trigger_dag that does not wait",
                field.key_span.clone(),
            )
            .help("add `wait = true`"),
        );
    }
    let spec = fields.string("dag_id").zip(conf).map(|(dag_id, conf)| TriggerSpec {
        dag_id,
        conf,
        logical_date: fields.string("logical_date"),
        run_id: fields.string("run_id"),
        wait,
        allowed_states: states(fields),
    });
    (spec.map(|spec| Operator::TriggerDag { spec: Box::new(spec) }), GraphKind::Process)
}

/// Reads the keys of a `dag_run_sensor`.
pub(crate) fn dag_run<'s>(
    fields: &Fields<'s, '_>,
    name: &str,
    report: &mut Report<'_>,
) -> (Option<Operator>, GraphKind<'s>) {
    let kind = GraphKind::Process;
    fields.require("dag_id", name, report);
    let is_latest = fields.bool("latest");
    let said: Vec<_> = ["logical_date", "offset", "latest"]
        .iter()
        .filter(|key| **key != "latest" || is_latest)
        .filter_map(|key| fields.field(key))
        .collect();
    if let [first, second, ..] = said.as_slice() {
        report.push(
            Draft::error(
                Code::WHICH_RUN,
                format!("{name} says in two ways which run it waits for"),
                second.key_span.clone(),
            )
            .also(first.key_span.clone(), "the other one")
            .help("keep one of `logical_date`, `offset` and `latest`"),
        );
        return (None, kind);
    }
    let which = match (fields.string("logical_date"), is_latest) {
        (_, true) => WhichRun::Latest,
        (Some(template), false) => WhichRun::Date { template },
        (None, false) => WhichRun::Offset { earlier: fields.duration("offset").unwrap_or_default() },
    };
    let wait = fields.string("dag_id").map(|dag_id| RunWait {
        dag_id,
        which,
        allowed_states: states(fields),
        wait_on_failure: fields.bool("wait_on_failure"),
        missing_fails: fields.word("missing") == Some("fail"),
        soft_fail: fields.bool("soft_fail"),
    });
    (wait.map(|wait| Operator::DagRunSensor { wait: Box::new(wait) }), kind)
}

/// The ends with which it succeeds, in the order of their declaration.
fn states(fields: &Fields<'_, '_>) -> Vec<RunState> {
    match fields.words("allowed_states") {
        None => vec![RunState::Success],
        Some(words) => {
            let is_named = |state: &RunState| words.iter().any(|(word, _)| *word == state.as_str());
            RunState::ALL.iter().copied().filter(is_named).collect()
        }
    }
}
