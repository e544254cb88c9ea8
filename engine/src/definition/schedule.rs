//! `schedule`, `timetable`, and the dates that bound them.

use std::ops::Range;

use super::{
    code::Code,
    fields::{Fields, Mode, Placed},
    keys::TableId,
    kinds::wrong_type,
    model::{AssetSchedule, Schedule, TimetableKind},
    places,
    problem::{Draft, Report},
    suggest::{nearest, shown},
    tree::{Node, Value},
    values::{Instant, instant},
};
use crate::{
    ids::AssetName,
    timetable::{self, TimetableError},
};

/// Reads the schedule. `None` when it is wrong, which has been reported.
pub(crate) fn schedule(dag: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Schedule> {
    let Some(node) = dag.node("schedule") else { return Some(Schedule::Never) };
    match &node.value {
        Value::String(text) => match text.trim() {
            "@once" => Some(Schedule::Once),
            "@continuous" => Some(Schedule::Continuous),
            _ => cron(text, node, report).map(|cron| Schedule::Cron(vec![cron])),
        },
        Value::Array { items, is_tables: false } => crons(items, node, report),
        Value::Table(table) => {
            let fields = Fields::read(table, node.span.clone(), &[TableId::Schedule], Mode::Strict, report);
            from_table(&fields, report)
        }
        _ => {
            wrong_type(
                "schedule",
                "a preset, a cron expression, a list of cron expressions, or a table",
                node,
                report,
            );
            None
        }
    }
}

fn from_table(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Schedule> {
    let errors_before = report.error_count();
    let time = dates_of(fields, report);
    if let (Some(every), Some(cron)) = (fields.field("every"), fields.field("cron")) {
        report.push(
            Draft::error(
                Code::SCHEDULE_TABLE,
                "`every` and `cron` exclude each other",
                cron.key_span.clone(),
            )
            .also(every.key_span.clone(), "the other one")
            .help("keep one of them"),
        );
    }
    let assets: Vec<Placed<'_>> = fields.texts("assets");
    if fields.field("assets").is_none() && fields.field("every").is_none() && fields.field("cron").is_none() {
        check_any(fields, &assets, report);
        let is_misspelt = ["assets", "every", "cron"].into_iter().any(|name| fields.is_misspelt(name));
        if !is_misspelt && fields.field("any").is_none() {
            report.push(
                Draft::error(
                    Code::SCHEDULE_TABLE,
                    "the schedule says neither `every` nor `cron` nor `assets`",
                    fields.at.clone(),
                )
                .absence()
                .help("write `schedule = { every = \"15m\" }`"),
            );
        }
        return None;
    }
    check_any(fields, &assets, report);
    if report.error_count() > errors_before || fields.field("assets").is_none() {
        return time;
    }
    let mut names: Vec<AssetName> = assets.iter().filter_map(|(text, _)| AssetName::new(text).ok()).collect();
    // They have no order: the canonical form must not either.
    names.sort_unstable();
    let any = fields.bool("any") && names.len() > 1;
    Some(Schedule::Assets(AssetSchedule { assets: names, any, time: time.map(Box::new) }))
}

/// Reads the dates of a schedule table.
fn dates_of(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Schedule> {
    if fields.field("every").is_some() {
        return fields.duration("every").map(Schedule::Every);
    }
    let field = fields.field("cron")?;
    match &field.node.value {
        Value::String(text) => cron(text, field.node, report).map(|cron| Schedule::Cron(vec![cron])),
        Value::Array { items, is_tables: false } => crons(items, field.node, report),
        _ => {
            wrong_type("cron", "a cron expression or a list of them", field.node, report);
            None
        }
    }
}

fn check_any(fields: &Fields<'_, '_>, assets: &[Placed<'_>], report: &mut Report<'_>) {
    let Some(field) = fields.field("any") else { return };
    if fields.field("assets").is_none() {
        report.push(
            Draft::error(Code::ANY_WITHOUT_CHOICE, "`any` belongs to `assets`", field.key_span.clone())
                .help("name the assets, or leave `any` out"),
        );
    } else if assets.len() == 1 && fields.bool("any") {
        report.push(
            Draft::warning(
                Code::ANY_WITHOUT_CHOICE,
                "`any` changes nothing: there is one asset only",
                field.key_span.clone(),
            )
            .help("leave `any` out"),
        );
    }
}

fn crons(items: &[Node<'_>], node: &Node<'_>, report: &mut Report<'_>) -> Option<Schedule> {
    if items.is_empty() {
        report.push(
            Draft::error(Code::EMPTY_VALUE, "`schedule` must not be an empty list", node.span.clone())
                .help("leave the key out for a DAG that only triggers start"),
        );
        return None;
    }
    let mut out = Vec::new();
    let mut is_good = true;
    for item in items {
        match &item.value {
            Value::String(text) => match cron(text, item, report) {
                Some(cron) => out.push(cron),
                None => is_good = false,
            },
            _ => {
                wrong_type("an element of schedule", "a cron expression", item, report);
                is_good = false;
            }
        }
    }
    // A union has no order and no repetition: the canonical form must not either.
    out.sort_unstable();
    out.dedup();
    is_good.then_some(Schedule::Cron(out))
}

/// Checks one expression and returns it in canonical form: presets expanded, single blanks.
fn cron(text: &str, node: &Node<'_>, report: &mut Report<'_>) -> Option<String> {
    if text.trim().is_empty() {
        report.push(
            Draft::error(Code::EMPTY_VALUE, "`schedule` must not be empty", node.span.clone())
                .help("leave the key out for a DAG that only triggers start"),
        );
        return None;
    }
    let expanded = timetable::expand_preset(text);
    match timetable::parse_cron(text) {
        Ok(_) => Some(expanded.split_whitespace().collect::<Vec<_>>().join(" ")),
        Err(error) => {
            report_cron(&error, text, node, report);
            None
        }
    }
}

fn report_cron(error: &TimetableError, text: &str, node: &Node<'_>, report: &mut Report<'_>) {
    let code = match error {
        TimetableError::FieldCount { .. } => Code::FIELD_COUNT,
        TimetableError::Field { .. } => Code::CRON_FIELD,
        TimetableError::UnknownPreset { .. } => Code::UNKNOWN_PRESET,
        TimetableError::NotInList { .. } => Code::NOT_IN_LIST,
        TimetableError::NeverFires { .. } => Code::NEVER_FIRES,
        TimetableError::NoExpression => Code::EMPTY_VALUE,
        TimetableError::EveryTooShort | TimetableError::EveryTooLong => Code::DURATION_RANGE,
    };
    let (at, is_exact) = match error.span() {
        Some(range) => places::in_source(report.text(), &node.span, text, &range),
        None => (node.span.clone(), false),
    };
    // A suggestion replaces the place: a part of the expression, or the string with its quotes.
    let suggestion = match (error.suggestion(), error.span()) {
        (Some(part), Some(_)) if is_exact => Some(part),
        (Some(whole), None) => Some(format!("\"{whole}\"")),
        _ => None,
    };
    let help = match &suggestion {
        Some(text) => format!("did you mean `{}`? {}", text.trim_matches('"'), error.help()),
        None => error.help(),
    };
    report.push(Draft::error(code, shown_sentence(&error.to_string()), at).help(help).suggest(suggestion));
}

/// Messages of the timetable quote what was written, so it is made safe here.
fn shown_sentence(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(200).collect()
}

/// Reads the time zone. UTC when it is wrong, which has been reported.
pub(crate) fn timezone(dag: &Fields<'_, '_>, report: &mut Report<'_>) -> chrono_tz::Tz {
    let name = dag.text_or_default("timezone");
    if let Ok(zone) = name.parse::<chrono_tz::Tz>() {
        return zone;
    }
    let at = dag.field("timezone").map_or(0..0, |field| field.node.span.clone());
    let draft = Draft::error(Code::UNKNOWN_TIMEZONE, format!("there is no time zone `{}`", shown(name)), at);
    let near = nearest(name, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
    report.push(match near {
        Some(near) => draft.help(format!("did you mean `{near}`?")).suggest(Some(format!("\"{near}\""))),
        None => draft.help("use an IANA name such as \"Europe/Berlin\" or \"UTC\""),
    });
    chrono_tz::UTC
}

/// Reads `start_date` or `end_date`.
pub(crate) fn date(
    dag: &Fields<'_, '_>,
    name: &str,
    zone: chrono_tz::Tz,
    report: &mut Report<'_>,
) -> Option<(Instant, Range<usize>)> {
    let node = dag.node(name)?;
    let written = match &node.value {
        Value::Datetime(value) => Some(*value),
        Value::String(text) => text.trim().parse::<toml::value::Datetime>().ok(),
        _ => None,
    };
    // Schedules and run ids count in whole seconds, so a fraction would make two names for one date.
    if written.as_ref().and_then(|value| value.time).and_then(|time| time.nanosecond).is_some_and(|ns| ns > 0)
    {
        report.push(
            Draft::error(Code::BAD_DATE, format!("`{name}` has a fraction of a second"), node.span.clone())
                .help("write whole seconds, such as 2026-01-31T06:00:00Z"),
        );
        return None;
    }
    let Some(found) = written.and_then(|value| instant(&value, zone)) else {
        report.push(
            Draft::error(Code::BAD_DATE, format!("`{name}` is not a date"), node.span.clone()).help(
                "write 2026-01-31, 2026-01-31T06:00:00 (in the DAG's time zone) or 2026-01-31T06:00:00Z",
            ),
        );
        return None;
    };
    if found.is_in_gap {
        report.push(
            Draft::warning(
                Code::LOCAL_TIME_GAP,
                format!("{zone} passes over this time; {} is used", found.utc.to_rfc3339()),
                node.span.clone(),
            )
            .help("choose another time, or write an offset"),
        );
    }
    Some((found, node.span.clone()))
}

/// Checks what the keys of the schedule say together.
pub(crate) fn check_together(
    dag: &Fields<'_, '_>,
    schedule: Option<&Schedule>,
    timetable: TimetableKind,
    start: Option<&(Instant, Range<usize>)>,
    end: Option<&(Instant, Range<usize>)>,
    report: &mut Report<'_>,
) {
    if let (Some((start, start_at)), Some((end, end_at))) = (start, end)
        && end.utc < start.utc
    {
        report.push(
            Draft::error(Code::END_BEFORE_START, "`end_date` is before `start_date`", end_at.clone())
                .label("ends here")
                .also(start_at.clone(), "starts here"),
        );
    }
    if let Some(field) = dag.field("catchup")
        && dag.bool("catchup")
        && dag.field("start_date").is_none()
    {
        report.push(
            Draft::warning(
                Code::CATCHUP_WITHOUT_START,
                "`catchup` has no `start_date` to catch up from",
                field.key_span.clone(),
            )
            .absence()
            .help("add `start_date`, or leave `catchup` out"),
        );
    }
    if let Some(field) = dag.field("catchup")
        && dag.bool("catchup")
        && schedule.is_some_and(|schedule| schedule.assets().is_some() && *schedule.time() == Schedule::Never)
    {
        report.push(
            Draft::warning(
                Code::NO_DATES,
                "`catchup` has no effect: assets have events, not dates that could be missed",
                field.key_span.clone(),
            )
            .help(
                "leave `catchup` out; what happens while the server is down or the DAG is paused is queued",
            ),
        );
    }
    let time = schedule.map(Schedule::time);
    let has_intervals = matches!(time, None | Some(Schedule::Cron(_) | Schedule::Every(_)));
    if let Some(field) = dag.field("timetable")
        && timetable == TimetableKind::Interval
        && !has_intervals
    {
        report.push(
            Draft::warning(
                Code::NO_INTERVAL,
                "this schedule has no data intervals, so `timetable` changes nothing",
                field.node.span.clone(),
            )
            .absence()
            .help("leave `timetable` out, or give a cron or `every` schedule"),
        );
    }
}
