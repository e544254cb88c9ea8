//! `deadline`: when a run is late.

use super::{
    code::Code,
    fields::{Fields, Mode},
    keys::TableId,
    kinds::wrong_type,
    model::{Deadline, DeadlineFrom, TimetableKind},
    problem::{Draft, Report},
    tree::Value,
    values::{guess_duration, parse_duration},
};

/// The longest that may be given to a run: a year and a day, as for every duration.
const LONGEST_SECONDS: u64 = 366 * 86_400;

/// Reads `deadline`, and warns of what cannot come.
pub(crate) fn read(
    dag: &Fields<'_, '_>,
    timetable: TimetableKind,
    report: &mut Report<'_>,
) -> Option<Deadline> {
    let Some(node) = dag.node("deadline") else {
        if let Some(field) = dag.field("on_deadline").filter(|_| dag.field("deadline").is_none()) {
            report.push(
                Draft::warning(
                    Code::NO_EFFECT,
                    "`on_deadline` has no effect without `deadline`",
                    field.key_span.clone(),
                )
                .help("add `deadline = \"2h\"`"),
            );
        }
        return None;
    };
    let at = node.span.clone();
    let deadline = match &node.value {
        Value::Table(table) => {
            in_table(&Fields::read(table, at.clone(), &[TableId::Deadline], Mode::Strict, report), report)
        }
        Value::Integer(seconds) => {
            u64::try_from(*seconds).ok().map(std::time::Duration::from_secs).map(queued)
        }
        Value::String(text) => match parse_duration(text) {
            Some(within) => Some(queued(within)),
            None => {
                let guess = guess_duration(text);
                let message = format!("`{}` is not a duration", super::suggest::shown(text));
                report.push(
                    Draft::error(Code::BAD_DURATION, message, at.clone())
                        .help("write \"2h\", or a table: { within = \"2h\", from = \"logical_date\" } or { usual = 1.5 }")
                        .suggest(guess.map(|guess| format!("\"{guess}\""))),
                );
                return None;
            }
        },
        _ => {
            wrong_type("deadline", "a duration or a table", node, report);
            return None;
        }
    };
    if let Some(Deadline::Within { within, from }) = &deadline {
        if !(1..=LONGEST_SECONDS).contains(&within.as_secs()) {
            report.push(Draft::error(Code::DURATION_RANGE, "`deadline` must be from 1s to 366d", at));
            return None;
        }
        never_comes(dag, *from, timetable, at, report);
    }
    deadline
}

const fn queued(within: std::time::Duration) -> Deadline {
    Deadline::Within { within, from: DeadlineFrom::Queued }
}

fn in_table(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Deadline> {
    let (within, usual) = (fields.field("within"), fields.field("usual"));
    let from = fields.field("from");
    let message = match (within, usual) {
        (Some(_), Some(_)) => "a deadline is either `within` a time or by the `usual` one",
        (None, None) => "a deadline needs `within` or `usual`",
        (None, Some(_)) if from.is_some() => {
            "`from` belongs to `within`; the usual time counts from the start of the run"
        }
        _ => {
            let word = fields.word("from").and_then(DeadlineFrom::parse);
            return match (fields.duration("within"), fields.float("usual")) {
                (Some(within), _) => Some(Deadline::Within { within, from: word? }),
                (None, Some(factor)) => Some(Deadline::Usual { factor }),
                (None, None) => None,
            };
        }
    };
    report.push(
        Draft::error(Code::DEADLINE_TABLE, message, fields.at.clone())
            .help("write { within = \"2h\", from = \"queued\" } or { usual = 1.5 }"),
    );
    None
}

/// A date that has no run, or that is over before the run begins, makes no run late.
fn never_comes(
    dag: &Fields<'_, '_>,
    from: DeadlineFrom,
    timetable: TimetableKind,
    at: std::ops::Range<usize>,
    report: &mut Report<'_>,
) {
    if from == DeadlineFrom::Queued {
        return;
    }
    if dag.field("schedule").is_none() {
        let message = format!(
            "only scheduled runs are late by their {}, and this DAG has no `schedule`",
            from.as_str()
        );
        report.push(Draft::warning(Code::DEADLINE_NEVER, message, at).help("count from `queued`"));
    } else if from == DeadlineFrom::LogicalDate && timetable == TimetableKind::Interval {
        let message = "with `timetable = \"interval\"` the logical date is the start of the interval, before the run begins";
        report.push(
            Draft::warning(Code::DEADLINE_NEVER, message, at)
                .help("count from `data_interval_end`, which is when the run may begin"),
        );
    }
}
