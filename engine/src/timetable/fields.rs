//! Reads the five-field crontab dialect and translates it for the `cron` crate.
//!
//! The crate reads another dialect: it wants a seconds field, counts Sunday as 1, refuses 0, and combines day
//! of month and day of week with *and*. So the fields are read here, into sets of numbers, and the crate gets
//! plain lists. The crontab rule for two restricted day fields (either matches) becomes two schedules.
//!
//! Only naive local times go in and out here: what the crate makes of time zones is wrong in gaps and overlaps.

use std::{collections::BTreeSet, ops::Range, str::FromStr};

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};

use super::error::{CronField, CronProblem, TimetableError};

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Returns the names that a field knows, in the order of their numbers.
pub(super) const fn names(field: CronField) -> &'static [&'static str] {
    match field {
        CronField::Month => &MONTHS,
        CronField::DayOfWeek => &DAYS,
        _ => &[],
    }
}

/// One field: the values that match, and whether it was a literal `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldSet {
    pub(super) values: BTreeSet<u32>,
    pub(super) is_star: bool,
}

/// A cron expression, read and compiled.
#[derive(Clone, Debug)]
pub struct CronExpression {
    source: String,
    pub(super) second: FieldSet,
    pub(super) minute: FieldSet,
    pub(super) hour: FieldSet,
    pub(super) day: FieldSet,
    pub(super) month: FieldSet,
    pub(super) weekday: FieldSet,
    /// One, or two when both day fields are restricted.
    schedules: Vec<cron::Schedule>,
}

impl CronExpression {
    /// Reads five fields, or six with leading seconds. Presets are not expanded here.
    ///
    /// # Errors
    /// [`TimetableError`] when a field cannot be read or no date ever matches.
    pub(super) fn parse(text: &str) -> Result<Self, TimetableError> {
        let words = words(text);
        if words.len() != 5 && words.len() != 6 {
            return Err(TimetableError::FieldCount { expression: text.to_owned(), count: words.len() });
        }
        let read = |field: CronField, word: &Range<usize>| {
            read_field(field, text, word.clone()).map_err(|(span, problem)| TimetableError::Field {
                expression: text.to_owned(),
                field,
                span,
                problem,
            })
        };
        let (second, rest) = match words.as_slice() {
            [second, rest @ ..] if words.len() == 6 => (read(CronField::Second, second)?, rest),
            rest => (FieldSet { values: BTreeSet::from([0]), is_star: false }, rest),
        };
        let [minute, hour, day, month, weekday] = rest else {
            return Err(TimetableError::FieldCount { expression: text.to_owned(), count: words.len() });
        };
        let minute = read(CronField::Minute, minute)?;
        let hour = read(CronField::Hour, hour)?;
        let day = read(CronField::DayOfMonth, day)?;
        let month = read(CronField::Month, month)?;
        let weekday = read(CronField::DayOfWeek, weekday)?;
        let never = || TimetableError::NeverFires { expression: text.to_owned() };
        let mut days = Vec::new();
        if day.is_star || !weekday.is_star {
            days.push(("*".to_owned(), crate_weekdays(&weekday)));
        }
        if !day.is_star {
            days.push((list(&day), "*".to_owned()));
        }
        let mut schedules = Vec::new();
        for (dom, dow) in days {
            let line =
                format!("{} {} {} {dom} {} {dow}", list(&second), list(&minute), list(&hour), list(&month));
            // Only lists of numbers in range reach the crate, so it has nothing to refuse.
            schedules.push(cron::Schedule::from_str(&line).map_err(|_| never())?);
        }
        let expression =
            Self { source: text.to_owned(), second, minute, hour, day, month, weekday, schedules };
        // The crate searches to the year 2100 and then gives up: the bound of this search.
        let start = NaiveDate::from_ymd_opt(2000, 1, 1).map(NaiveDateTime::from).ok_or_else(never)?;
        expression.naive_from(start).ok_or_else(never)?;
        Ok(expression)
    }

    /// Returns the text that it was read from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it goes by elapsed time (its hour field is a literal `*`) and so runs in both passes of a
    /// repeated hour.
    #[must_use]
    pub fn is_elapsed(&self) -> bool {
        self.hour.is_star
    }

    /// Returns the first matching local time at or after `from`, in whole seconds.
    pub(super) fn naive_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let after = from.checked_sub_signed(TimeDelta::seconds(1))?.and_utc();
        self.schedules.iter().filter_map(|s| s.after(&after).next()).min().map(|t| t.naive_utc())
    }

    /// Whether a local time matches, decided field by field: the oracle of the tests.
    #[cfg(test)]
    pub(super) fn matches(&self, local: NaiveDateTime) -> bool {
        use chrono::{Datelike, Timelike};
        let day = self.day.values.contains(&local.day());
        let weekday = self.weekday.values.contains(&local.weekday().num_days_from_sunday());
        let is_day = match (self.day.is_star, self.weekday.is_star) {
            (false, false) => day || weekday,
            (true, _) => weekday,
            (_, true) => day,
        };
        is_day
            && self.second.values.contains(&local.second())
            && self.minute.values.contains(&local.minute())
            && self.hour.values.contains(&local.hour())
            && self.month.values.contains(&local.month())
    }
}

/// Returns the byte ranges of the words between white space.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (index, c) in text.char_indices() {
        match (c.is_whitespace(), start) {
            (true, Some(from)) => {
                words.push(from..index);
                start = None;
            }
            (false, None) => start = Some(index),
            _ => {}
        }
    }
    if let Some(from) = start {
        words.push(from..text.len());
    }
    words
}

fn list(field: &FieldSet) -> String {
    if field.is_star {
        return "*".to_owned();
    }
    field.values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn crate_weekdays(field: &FieldSet) -> String {
    if field.is_star {
        return "*".to_owned();
    }
    field.values.iter().map(|d| (d + 1).to_string()).collect::<Vec<_>>().join(",")
}

type Problem = (Range<usize>, CronProblem);

fn read_field(field: CronField, text: &str, word: Range<usize>) -> Result<FieldSet, Problem> {
    let body = &text[word.clone()];
    let mut values = BTreeSet::new();
    let mut offset = word.start;
    for part in body.split(',') {
        let span = offset..offset + part.len();
        offset = span.end + 1;
        read_part(field, part, &span, &mut values)?;
    }
    if field == CronField::DayOfWeek && values.remove(&7) {
        values.insert(0);
    }
    Ok(FieldSet { values, is_star: body == "*" })
}

/// Reads one element of a list: `*`, `a`, `a-b`, each with an optional step.
fn read_part(
    field: CronField,
    part: &str,
    span: &Range<usize>,
    values: &mut BTreeSet<u32>,
) -> Result<(), Problem> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let range_span = span.start..span.start + range.len();
    let (min, max) = field.bounds();
    // Sunday is 0 in a `*`, so that 7 does not make it count twice in steps.
    let max = if field == CronField::DayOfWeek { 6 } else { max };
    let (from, to) = if range == "*" {
        (min, max)
    } else if let Some((from, to)) = range.split_once('-') {
        let from_span = range_span.start..range_span.start + from.len();
        let to_span = from_span.end + 1..range_span.end;
        let from = read_value(field, from, from_span)?;
        let mut to = read_value(field, to, to_span)?;
        // FRI-SUN: Sunday also ends the week.
        if field == CronField::DayOfWeek && to == 0 && from > 0 {
            to = 7;
        }
        if from > to {
            return Err((range_span, CronProblem::Backwards { from, to }));
        }
        (from, to)
    } else {
        let value = read_value(field, range, range_span)?;
        (value, if step.is_some() { max.max(value) } else { value })
    };
    let step = match step {
        None => 1,
        Some(digits) => {
            let step_span = span.end - digits.len()..span.end;
            match digits.parse::<u32>() {
                Ok(step) if step > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => step,
                _ => return Err((step_span, CronProblem::BadStep(digits.to_owned()))),
            }
        }
    };
    values.extend((from..=to).step_by(usize::try_from(step).unwrap_or(usize::MAX)));
    Ok(())
}

fn read_value(field: CronField, text: &str, span: Range<usize>) -> Result<u32, Problem> {
    if text.is_empty() {
        return Err((span, CronProblem::Missing));
    }
    let (min, max) = field.bounds();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u32>() {
            Ok(value) if (min..=max).contains(&value) => Ok(value),
            _ => Err((span, CronProblem::OutOfRange { value: text.to_owned(), min, max })),
        };
    }
    let upper = text.to_ascii_uppercase();
    if let Some(index) = names(field).iter().position(|name| *name == upper) {
        return Ok(min + u32::try_from(index).unwrap_or(0));
    }
    let is_day = matches!(field, CronField::DayOfMonth | CronField::DayOfWeek);
    let foreign = text.chars().find(|c| matches!(c, '?' | '#'));
    let letter = upper.chars().rev().find(|c| matches!(c, 'L' | 'W'));
    let is_number_and_letter = upper.trim_end_matches(['L', 'W']).bytes().all(|b| b.is_ascii_digit());
    match (foreign, letter) {
        (Some(c), _) => Err((span, CronProblem::Dialect(c))),
        (None, Some(c)) if is_day && is_number_and_letter => Err((span, CronProblem::Dialect(c))),
        _ => Err((span, CronProblem::NotAValue(text.to_owned()))),
    }
}
