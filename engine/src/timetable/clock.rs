//! The instants at which a schedule fires: local cron times mapped to a zone, or a fixed period.
//!
//! There is one primitive, [`Clock::next`]; the instant before another one is found by bisection over it, so
//! that both directions agree by construction.
//!
//! **Invariant:** instants are strictly increasing, in whole seconds for cron, and every search ends.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc, offset::LocalResult};
use chrono_tz::Tz;

use super::fields::CronExpression;

/// Longer than any offset of a zone, and than any jump of one.
const ZONE_REACH: TimeDelta = TimeDelta::hours(26);
const SECOND: TimeDelta = TimeDelta::seconds(1);
const DAY: TimeDelta = TimeDelta::days(1);

/// What fires.
#[derive(Clone, Debug)]
pub(super) enum Clock {
    /// The union of cron expressions in a zone.
    Cron { expressions: Vec<CronExpression>, zone: Tz },
    /// Every `step` from `anchor`, in both directions.
    Every { anchor: DateTime<Utc>, step: TimeDelta },
}

impl Clock {
    /// Returns the first instant strictly after `after`.
    pub(super) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron { expressions, zone } => {
                expressions.iter().filter_map(|e| next_cron(e, *zone, after)).min()
            }
            Self::Every { anchor, step } => {
                let passed = (after - anchor).num_milliseconds().div_euclid(step.num_milliseconds());
                // Milliseconds are cut towards zero, so the step itself may still lie ahead.
                let at = at_step(*anchor, *step, passed)?;
                if at > after { Some(at) } else { at_step(*anchor, *step, passed.checked_add(1)?) }
            }
        }
    }

    /// Returns the last instant strictly before `before`.
    pub(super) fn previous(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Cron { .. } => self.previous_by_bisection(before),
            Self::Every { anchor, step } => {
                let distance = before - anchor;
                let step_ms = step.num_milliseconds();
                let passed = distance.num_milliseconds().div_euclid(step_ms);
                let at = at_step(*anchor, *step, passed)?;
                if at < before { Some(at) } else { at_step(*anchor, *step, passed.checked_sub(1)?) }
            }
        }
    }

    /// Returns the last instant at or before `at`.
    pub(super) fn previous_or_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.previous(at.checked_add_signed(TimeDelta::nanoseconds(1))?)
    }

    fn previous_by_bisection(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The crate knows no year before 1970.
        let floor = NaiveDate::from_ymd_opt(1969, 12, 1).map(|d| NaiveDateTime::from(d).and_utc())?;
        let mut reach = TimeDelta::seconds(64);
        let mut best = loop {
            let from = before.checked_sub_signed(reach)?;
            match self.next(from.max(floor)) {
                Some(at) if at < before => break at,
                _ if from <= floor => return None,
                _ => reach = reach * 2,
            }
        };
        // Invariant: `best` fires before `before`, nothing fires in (high, before).
        let mut high = before;
        loop {
            match self.next(best) {
                Some(at) if at < before => best = at,
                _ => return Some(best),
            }
            let middle = best + (high - best) / 2;
            match self.next(middle) {
                Some(at) if at < before => best = at,
                _ => high = middle,
            }
        }
    }
}

fn at_step(anchor: DateTime<Utc>, step: TimeDelta, count: i64) -> Option<DateTime<Utc>> {
    let distance = TimeDelta::try_milliseconds(step.num_milliseconds().checked_mul(count)?)?;
    anchor.checked_add_signed(distance)
}

fn offset_at(zone: Tz, at: DateTime<Utc>) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    TimeDelta::seconds(i64::from(offset.local_minus_utc()))
}

fn local_at(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    at.naive_utc() + offset_at(zone, at)
}

fn next_cron(expression: &CronExpression, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    // Far outside the crate's years the arithmetic below could leave chrono's range.
    let first = NaiveDate::from_ymd_opt(1969, 12, 1).map(|d| NaiveDateTime::from(d).and_utc())?;
    let last = NaiveDate::from_ymd_opt(2101, 2, 1).map(|d| NaiveDateTime::from(d).and_utc())?;
    if after >= last {
        return None;
    }
    let after = DateTime::from_timestamp(after.max(first).timestamp(), 0)?;
    if expression.is_elapsed() {
        next_elapsed(expression, zone, after + SECOND)
    } else {
        next_fixed(expression, zone, after)
    }
}

/// Fixed-time schedules: once in a gap, at its end; once in an overlap, in its first pass.
///
/// The map from local times to instants is then monotone. Every local time up to the one at `after` maps to
/// an instant at or before `after`, and so does the rest of an overlap whose second pass `after` is in.
fn next_fixed(expression: &CronExpression, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let local = local_at(zone, after);
    let from = match zone.from_local_datetime(&local) {
        LocalResult::Ambiguous(earlier, later) if later.to_utc() == after => {
            let change = first_change(zone, earlier.to_utc(), after);
            change.naive_utc() + offset_at(zone, earlier.to_utc())
        }
        _ => local + SECOND,
    };
    let naive = expression.naive_from(from)?;
    match zone.from_local_datetime(&naive) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc()),
        LocalResult::None => Some(end_of_gap(zone, naive)),
    }
}

/// Schedules with `*` as hour: every instant whose local time matches, in both passes of an overlap.
fn next_elapsed(expression: &CronExpression, zone: Tz, mut start: DateTime<Utc>) -> Option<DateTime<Utc>> {
    // Each round ends, or passes a change of offset, or lands within two days of the next local match.
    loop {
        let offset = offset_at(zone, start);
        let naive = expression.naive_from(start.naive_utc() + offset)?;
        let candidate = (naive - offset).and_utc();
        if candidate - start <= DAY {
            if offset_at(zone, candidate) == offset {
                return Some(candidate);
            }
            start = first_change(zone, start, candidate);
            continue;
        }
        let probe = start + DAY;
        start = if offset_at(zone, probe) == offset {
            // Until two days before the match no offset brings the local time there.
            probe.max((naive - DAY * 2).and_utc())
        } else {
            first_change(zone, start, probe)
        };
    }
}

/// Returns the first instant in (`from`, `to`] whose offset differs from that at `from`. They must differ at
/// the ends, and lie so close that there is one change between them.
fn first_change(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> DateTime<Utc> {
    let offset = offset_at(zone, from);
    bisect(from, to, |at| offset_at(zone, at) != offset)
}

/// Returns the first valid instant after a local time that does not exist.
fn end_of_gap(zone: Tz, naive: NaiveDateTime) -> DateTime<Utc> {
    let around = naive.and_utc();
    bisect(around - ZONE_REACH * 2, around + ZONE_REACH * 2, |at| local_at(zone, at) > naive)
}

/// Returns the first second in (`from`, `to`] for which `holds`; it must hold at `to` and from there back.
fn bisect(from: DateTime<Utc>, to: DateTime<Utc>, holds: impl Fn(DateTime<Utc>) -> bool) -> DateTime<Utc> {
    let (mut low, mut high) = (from, to);
    while high - low > SECOND {
        let middle = low + TimeDelta::seconds((high - low).num_seconds() / 2);
        if holds(middle) { high = middle } else { low = middle }
    }
    high
}
