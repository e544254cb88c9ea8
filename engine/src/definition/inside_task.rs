//! Reads the tasks that never leave the engine and wait there.

use super::{
    code::Code,
    fields::Fields,
    inside::{Moment, TimeWait, Until, WaitFrom},
    model::Operator,
    problem::{Draft, Report},
    suggest::shown,
    task::GraphKind,
    values::parse_duration,
};

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
