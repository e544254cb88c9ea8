//! When a DAG fires, and which data interval and logical date each firing has (`semantics.md` §5).
//!
//! A schedule is a strictly increasing sequence of instants (`clock`). Two neighbouring instants make a
//! [`Slot`]: its data interval is [the one, the other), it fires at the end, and its logical date is the end
//! (`timetable = "trigger"`) or the start (`"interval"`). Everything else here is arithmetic on that.
//!
//! Time zones follow three rules. In a spring gap a fixed-time schedule fires once, at the first valid instant
//! after the gap. In an autumn overlap it fires once, in the first pass. A schedule with `*` as hour, or
//! `every`, goes by elapsed time: it fires in both passes.
//!
//! This is the only module that names the `cron` crate, which reads another dialect than crontab.
//!
//! **Invariants:** slots strictly increase, every search ends, nothing here reads a clock or a file.

mod clock;
mod describe;
mod error;
mod fields;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use self::clock::Clock;
pub use self::{
    error::{CronField, CronProblem, TimetableError},
    fields::CronExpression,
};
use crate::definition::{AssetSchedule, Dag, Schedule, TimetableKind};

/// The presets that stand for a cron expression.
pub const PRESETS: [(&str, &str); 8] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@quarterly", "0 0 1 */3 *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// [`Missed::count`] of a cron schedule is counted one by one and stops here.
pub const MISSED_COUNT_LIMIT: u64 = 10_000;

/// One firing of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    /// The date that the run is about: the end of the data interval, or its start with `"interval"`.
    pub logical_date: DateTime<Utc>,
    /// Start of the data interval, inclusive.
    pub data_interval_start: DateTime<Utc>,
    /// End of the data interval, exclusive.
    pub data_interval_end: DateTime<Utc>,
    /// The instant of firing.
    pub run_after: DateTime<Utc>,
}

/// The slots between a cursor and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The oldest.
    pub first: Slot,
    /// The newest; the same as `first` when there is one.
    pub newest: Slot,
    /// How many. Exact for `every`; for cron exact below [`MISSED_COUNT_LIMIT`], where it stops.
    pub count: u64,
}

/// A compiled schedule with its time zone and dates.
#[derive(Clone, Debug)]
pub struct Timetable {
    plan: Plan,
    kind: TimetableKind,
    start_date: Option<DateTime<Utc>>,
    end_date: Option<DateTime<Utc>>,
    /// The first instant that may begin a data interval, where `start_date` says so.
    first_start: Option<DateTime<Utc>>,
    /// What runs are created by beside dates; only for words.
    assets: Option<AssetSchedule>,
}

#[derive(Clone, Debug)]
enum Plan {
    /// Nothing fires by itself.
    Never,
    /// The engine starts the next run when the last one has ended.
    Continuous,
    /// At this instant; absent while it is not known when the DAG was first seen.
    Once(Option<DateTime<Utc>>),
    Clock(Clock),
}

/// Expands a preset such as `@daily`; other text is returned as it is.
#[must_use]
pub fn expand_preset(text: &str) -> &str {
    PRESETS.iter().find(|(name, _)| *name == text.trim()).map_or(text, |(_, cron)| cron)
}

/// Reads one cron expression: five fields, six with leading seconds, or a preset that stands for one.
///
/// # Errors
/// [`TimetableError`] when it cannot be read or never fires.
pub fn parse_cron(text: &str) -> Result<CronExpression, TimetableError> {
    let trimmed = text.trim();
    if !trimmed.starts_with('@') {
        return CronExpression::parse(text);
    }
    if let Some((_, cron)) = PRESETS.iter().find(|(name, _)| *name == trimmed) {
        return CronExpression::parse(cron);
    }
    if matches!(trimmed, "@once" | "@continuous") {
        return Err(TimetableError::NotInList { name: trimmed.to_owned() });
    }
    let near: BTreeMap<usize, &str> = PRESETS
        .iter()
        .map(|(name, _)| *name)
        .chain(["@once", "@continuous"])
        .map(|name| (strsim::damerau_levenshtein(&trimmed.to_ascii_lowercase(), name), name))
        .collect();
    let suggestion = near.first_key_value().filter(|(distance, _)| **distance <= 3).map(|(_, name)| *name);
    Err(TimetableError::UnknownPreset { name: trimmed.to_owned(), suggestion })
}

/// Reads the text of `schedule = "…"`: a preset, `@once`, `@continuous` or a cron expression, checked.
///
/// # Errors
/// [`TimetableError`] when it cannot be read or never fires.
pub fn parse_schedule(text: &str) -> Result<Schedule, TimetableError> {
    match text.trim() {
        "@once" => Ok(Schedule::Once),
        "@continuous" => Ok(Schedule::Continuous),
        trimmed => Ok(Schedule::Cron(vec![parse_cron(trimmed)?.source().to_owned()])),
    }
}

/// Checks the period of `{ every = … }`.
///
/// # Errors
/// [`TimetableError`] when it is not in whole seconds, under a second or over a hundred years.
pub fn check_every(every: std::time::Duration) -> Result<TimeDelta, TimetableError> {
    if every.as_secs() == 0 || every.subsec_nanos() != 0 {
        return Err(TimetableError::EveryTooShort);
    }
    match TimeDelta::from_std(every) {
        Ok(step) if step <= TimeDelta::days(36_500) => Ok(step),
        _ => Err(TimetableError::EveryTooLong),
    }
}

impl Timetable {
    /// Compiles the schedule of a DAG. For `@once` without a start date call [`Timetable::first_seen`] too.
    ///
    /// # Errors
    /// [`TimetableError`] when the schedule cannot be read or never fires.
    pub fn new(dag: &Dag) -> Result<Self, TimetableError> {
        Self::compile(&dag.schedule, dag.timetable, dag.timezone, dag.start_date, dag.end_date)
    }

    /// Compiles a schedule on its own.
    ///
    /// # Errors
    /// [`TimetableError`] when the schedule cannot be read or never fires.
    pub fn compile(
        schedule: &Schedule,
        kind: TimetableKind,
        zone: Tz,
        start_date: Option<DateTime<Utc>>,
        end_date: Option<DateTime<Utc>>,
    ) -> Result<Self, TimetableError> {
        let assets = schedule.assets().cloned();
        let plan = match schedule.time() {
            Schedule::Never | Schedule::Assets(_) => Plan::Never,
            Schedule::Continuous => Plan::Continuous,
            Schedule::Once => Plan::Once(start_date),
            Schedule::Cron(list) if list.is_empty() => return Err(TimetableError::NoExpression),
            Schedule::Cron(list) => {
                let expressions = list.iter().map(|text| parse_cron(text)).collect::<Result<_, _>>()?;
                Plan::Clock(Clock::Cron { expressions, zone })
            }
            Schedule::Every(every) => {
                let anchor = start_date.unwrap_or(DateTime::UNIX_EPOCH);
                Plan::Clock(Clock::Every { anchor, step: check_every(*every)? })
            }
        };
        let first_start = match (&plan, start_date) {
            (Plan::Clock(clock), Some(start)) => clock.next(just_before(start)),
            _ => None,
        };
        Ok(Self { plan, kind, start_date, end_date, first_start, assets })
    }

    /// Says when the DAG was first seen: an `@once` without start date fires at the first whole second after
    /// it, so that a cursor which begins at `at` lies before it.
    #[must_use]
    pub fn first_seen(mut self, at: DateTime<Utc>) -> Self {
        if let Plan::Once(instant @ None) = &mut self.plan {
            *instant = DateTime::from_timestamp(at.timestamp().saturating_add(1), 0);
        }
        self
    }

    /// Returns a cursor that lies before every slot, where `start_date` bounds them: where catch-up begins.
    #[must_use]
    pub fn cursor_before_start(&self) -> Option<DateTime<Utc>> {
        // A millisecond, because the databases do not keep less.
        self.start_date.and_then(|start| start.checked_sub_signed(TimeDelta::milliseconds(1)))
    }

    /// Returns the first slot that fires strictly after `after`.
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<Slot> {
        match &self.plan {
            Plan::Never | Plan::Continuous => None,
            Plan::Once(at) => at.filter(|at| *at > after).map(once_slot).filter(|s| self.is_inside(s)),
            Plan::Clock(clock) => {
                let end = clock.next(self.not_before_first(after)?)?;
                let start = match clock.previous(end) {
                    Some(start) => start,
                    // The very first instant that cron knows (1970) has no interval before it.
                    None => return self.next_after(end),
                };
                Some(self.slot(start, end)).filter(|s| self.is_inside(s))
            }
        }
    }

    /// Returns the slots with `cursor` < `run_after` ≤ `now`, if there are any. Costs a few searches, plus for
    /// cron one per slot up to [`MISSED_COUNT_LIMIT`].
    #[must_use]
    pub fn missed(&self, cursor: DateTime<Utc>, now: DateTime<Utc>) -> Option<Missed> {
        let first = self.next_after(cursor).filter(|slot| slot.run_after <= now)?;
        let Plan::Clock(clock) = &self.plan else {
            return Some(Missed { first, newest: first, count: 1 });
        };
        let newest = self.newest_until(clock, now).unwrap_or(first);
        Some(Missed { first, newest, count: self.count(first, newest) })
    }

    /// Returns the newest slot that fires at or before `now`; it may lie before every slot that `start_date` allows.
    /// Costs a few searches, however long ago the last one was.
    #[must_use]
    pub fn newest_at(&self, now: DateTime<Utc>) -> Option<Slot> {
        match &self.plan {
            Plan::Clock(clock) => self.newest_until(clock, now),
            _ => None,
        }
    }

    /// Returns the slot before another one.
    #[must_use]
    pub fn before(&self, slot: Slot) -> Option<Slot> {
        match &self.plan {
            Plan::Clock(clock) => {
                let end = clock.previous(slot.run_after)?;
                Some(self.slot(clock.previous(end)?, end))
            }
            _ => None,
        }
    }

    /// Counts the slots from `first` to `last`, both included: exact for `every`, for cron one search per slot up to
    /// [`MISSED_COUNT_LIMIT`].
    #[must_use]
    pub fn count(&self, first: Slot, last: Slot) -> u64 {
        match &self.plan {
            Plan::Clock(Clock::Every { step, .. }) => {
                let steps = (last.run_after - first.run_after).num_milliseconds() / step.num_milliseconds();
                u64::try_from(steps).unwrap_or(0).saturating_add(1)
            }
            Plan::Clock(clock @ Clock::Cron { .. }) => {
                let mut count = 1;
                let mut at = first.run_after;
                while count < MISSED_COUNT_LIMIT && at < last.run_after {
                    let Some(next) = clock.next(at) else { break };
                    at = next;
                    count += 1;
                }
                count
            }
            _ => 1,
        }
    }

    /// Returns the slots whose logical date is at or after `from`, in order.
    pub fn from_logical_date(&self, from: DateTime<Utc>) -> impl Iterator<Item = Slot> + use<'_> {
        let first = match (&self.plan, self.kind) {
            (Plan::Clock(clock), TimetableKind::Interval) => {
                let start = match (self.start_date, self.first_start) {
                    (Some(_), first) => first.filter(|first| *first >= from),
                    (None, _) => None,
                };
                let is_empty = self.start_date.is_some() && self.first_start.is_none();
                let start = start.or_else(|| clock.next(just_before(from))).filter(|_| !is_empty);
                start.and_then(|start| self.next_after(start))
            }
            _ => self.next_after(just_before(from)),
        };
        std::iter::successors(first, |slot| match &self.plan {
            Plan::Clock(clock) => {
                let start = slot.data_interval_end;
                clock.next(start).map(|end| self.slot(start, end)).filter(|s| self.is_inside(s))
            }
            _ => None,
        })
    }

    /// Returns the slots whose logical date is at or before `until`, the newest first.
    pub fn until_logical_date(&self, until: DateTime<Utc>) -> impl Iterator<Item = Slot> + use<'_> {
        let until = self.end_date.map_or(until, |end| end.min(until));
        let first = match &self.plan {
            Plan::Once(at) => at.filter(|at| *at <= until).map(once_slot),
            Plan::Clock(clock) => clock.previous_or_at(until).and_then(|newest| match self.kind {
                TimetableKind::Trigger => clock.previous(newest).map(|start| self.slot(start, newest)),
                TimetableKind::Interval => clock.next(newest).map(|end| self.slot(newest, end)),
            }),
            Plan::Never | Plan::Continuous => None,
        };
        let is_empty =
            matches!(self.plan, Plan::Clock(_)) && self.start_date.is_some() && self.first_start.is_none();
        std::iter::successors(first.filter(|_| !is_empty), |slot| match &self.plan {
            Plan::Clock(clock) => {
                let end = slot.data_interval_start;
                clock.previous(end).map(|start| self.slot(start, end))
            }
            _ => None,
        })
        .take_while(|slot| self.first_start.is_none_or(|first| slot.data_interval_start >= first))
    }

    /// Returns the data interval of a manual run: with `"trigger"` the one that ends at the newest instant at
    /// or before `logical`, with `"interval"` the one that contains it, without a clock an empty one.
    #[must_use]
    pub fn manual_interval(&self, logical: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
        let interval = match &self.plan {
            Plan::Clock(clock) => clock.previous_or_at(logical).and_then(|newest| match self.kind {
                TimetableKind::Trigger => clock.previous(newest).map(|start| (start, newest)),
                TimetableKind::Interval => clock.next(newest).map(|end| (newest, end)),
            }),
            _ => None,
        };
        interval.unwrap_or((logical, logical))
    }

    /// Returns the schedule in words for pages, or its expression where there are no simple words.
    #[must_use]
    pub fn describe(&self) -> String {
        describe::describe(self)
    }

    fn slot(&self, start: DateTime<Utc>, end: DateTime<Utc>) -> Slot {
        let logical_date = match self.kind {
            TimetableKind::Trigger => end,
            TimetableKind::Interval => start,
        };
        Slot { logical_date, data_interval_start: start, data_interval_end: end, run_after: end }
    }

    fn is_inside(&self, slot: &Slot) -> bool {
        self.end_date.is_none_or(|end| slot.logical_date <= end)
    }

    /// Returns `after`, or the first start of an interval when that is later. None: there is no such start.
    fn not_before_first(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.start_date {
            None => Some(after),
            Some(_) => self.first_start.map(|first| first.max(after)),
        }
    }

    fn newest_until(&self, clock: &Clock, now: DateTime<Utc>) -> Option<Slot> {
        let limit = match (self.end_date, self.kind) {
            (None, _) => now,
            (Some(end), TimetableKind::Trigger) => now.min(end),
            // The last interval begins at or before the end date and fires at its end.
            (Some(end), TimetableKind::Interval) => clock
                .previous_or_at(end)
                .and_then(|start| clock.next(start))
                .map_or(now, |last| now.min(last)),
        };
        let end = clock.previous_or_at(limit)?;
        Some(self.slot(clock.previous(end)?, end))
    }
}

fn once_slot(at: DateTime<Utc>) -> Slot {
    Slot { logical_date: at, data_interval_start: at, data_interval_end: at, run_after: at }
}

fn just_before(at: DateTime<Utc>) -> DateTime<Utc> {
    at.checked_sub_signed(TimeDelta::nanoseconds(1)).unwrap_or(at)
}
