//! A schedule in words, for pages.

use std::{collections::BTreeSet, time::Duration};

use chrono_tz::Tz;

use super::{
    AssetSchedule, Clock, Plan, Timetable,
    fields::{CronExpression, FieldSet},
};

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) fn describe(timetable: &Timetable) -> String {
    match &timetable.assets {
        None => dates(timetable),
        Some(schedule) => match timetable.plan {
            Plan::Never => by_assets(schedule),
            _ => format!("{}, and {}", by_assets(schedule), dates(timetable)),
        },
    }
}

fn by_assets(schedule: &AssetSchedule) -> String {
    let names: Vec<&str> = schedule.assets.iter().map(|asset| asset.as_str()).collect();
    match names.as_slice() {
        [] => "only when triggered".to_owned(),
        [one] => format!("on an event on {one}"),
        [init @ .., last] if schedule.any => format!("on an event on {} or {last}", init.join(", ")),
        several => format!("on events on {}", join(several)),
    }
}

fn dates(timetable: &Timetable) -> String {
    match &timetable.plan {
        Plan::Never => "only when triggered".to_owned(),
        Plan::Continuous => "continuously".to_owned(),
        Plan::Once(None) => "once".to_owned(),
        Plan::Once(Some(at)) => format!("once, at {}", at.format("%Y-%m-%d %H:%M:%S UTC")),
        Plan::Clock(Clock::Every { step, .. }) => {
            format!("every {}", duration(step.to_std().unwrap_or_default()))
        }
        Plan::Clock(Clock::Cron { expressions, zone }) => match expressions.as_slice() {
            [one] => cron(one, *zone).unwrap_or_else(|| format!("{} {zone}", one.source())),
            list => {
                let sources: Vec<_> = list.iter().map(CronExpression::source).collect();
                format!("{} {zone}", sources.join(" or "))
            }
        },
    }
}

fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let unit = units.into_iter().find(|(size, _)| seconds.is_multiple_of(*size));
    let (size, name) = unit.unwrap_or((1, "second"));
    match seconds / size {
        1 => name.to_owned(),
        count => format!("{count} {name}s"),
    }
}

fn only(field: &FieldSet) -> Option<u32> {
    match field.values.len() {
        1 => field.values.first().copied(),
        _ => None,
    }
}

fn cron(expression: &CronExpression, zone: Tz) -> Option<String> {
    let CronExpression { second, minute, hour, day, month, weekday, .. } = expression;
    if only(second) != Some(0) {
        return None;
    }
    let is_any_day = day.is_star && month.is_star && weekday.is_star;
    if hour.is_star {
        if !is_any_day {
            return None;
        }
        return match (minute.is_star, only(minute), step(&minute.values, 60)) {
            (true, _, _) => Some("every minute".to_owned()),
            (_, Some(0), _) => Some("every hour".to_owned()),
            (_, Some(at), _) => Some(format!("every hour at minute {at}")),
            (_, None, Some(step)) => Some(format!("every {step} minutes")),
            _ => None,
        };
    }
    let minute = only(minute)?;
    if hour.values.len() > 4 {
        return None;
    }
    let times: Vec<_> = hour.values.iter().map(|hour| format!("{hour:02}:{minute:02}")).collect();
    let at = format!("at {} {zone}", join(&times));
    let month_name = only(month).and_then(|m| MONTHS.get(m as usize - 1));
    match (day.is_star, month.is_star, weekday.is_star) {
        (true, true, true) => Some(format!("every day {at}")),
        (true, true, false) if weekday.values == BTreeSet::from([1, 2, 3, 4, 5]) => {
            Some(format!("Monday to Friday {at}"))
        }
        (true, true, false) if weekday.values.len() <= 3 => {
            let days: Vec<_> =
                weekday.values.iter().filter_map(|d| WEEKDAYS.get(*d as usize)).copied().collect();
            Some(format!("every {} {at}", join(&days)))
        }
        (false, true, true) => Some(format!("on day {} of every month {at}", only(day)?)),
        (false, false, true) => match month_name {
            Some(name) => Some(format!("every year on {} {name} {at}", only(day)?)),
            None if month.values == BTreeSet::from([1, 4, 7, 10]) => {
                Some(format!("on day {} of every quarter {at}", only(day)?))
            }
            None => None,
        },
        _ => None,
    }
}

/// Returns the step of `*/n` when the values are its whole series and divide the field evenly.
fn step(values: &BTreeSet<u32>, size: u32) -> Option<u32> {
    let step = size.checked_div(u32::try_from(values.len()).ok()?)?;
    let series: BTreeSet<u32> = (0..size).step_by(step.max(1) as usize).collect();
    (step > 1 && size.is_multiple_of(step) && series == *values).then_some(step)
}

fn join<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [init @ .., last] => {
            let init: Vec<_> = init.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", init.join(", "), last.as_ref())
        }
    }
}
