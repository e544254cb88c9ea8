//! When the clocks of a zone change.

use chrono::{DateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// The changes of one zone's offset, in seconds since 1970.
pub(super) struct Changes {
    /// Every change.
    pub(super) all: Vec<i64>,
    /// Those where the local day begins late, or begins twice.
    pub(super) at_midnight: Vec<i64>,
}

impl Changes {
    /// Finds the changes from `first` to `last`, looking at every day.
    pub(super) fn of(zone: Tz, first: i64, last: i64) -> Self {
        let mut changes = Self { all: Vec::new(), at_midnight: Vec::new() };
        let mut day = first;
        while day < last {
            let (offset, next) = (offset_at(zone, day), day + 86_400);
            if offset_at(zone, next) != offset {
                let at = change(zone, day, next);
                changes.all.push(at);
                if is_at_midnight(zone, at) {
                    changes.at_midnight.push(at);
                }
            }
            day = next;
        }
        changes
    }
}

fn utc(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn offset_at(zone: Tz, seconds: i64) -> i32 {
    zone.offset_from_utc_datetime(&utc(seconds).naive_utc()).fix().local_minus_utc()
}

fn change(zone: Tz, mut low: i64, mut high: i64) -> i64 {
    let before = offset_at(zone, low);
    while high - low > 1 {
        let middle = i64::midpoint(low, high);
        if offset_at(zone, middle) == before { low = middle } else { high = middle }
    }
    high
}

/// Whether the clock goes forward at midnight, or back to or over it.
fn is_at_midnight(zone: Tz, at: i64) -> bool {
    let local = |seconds: i64, offset: i32| utc(seconds).naive_utc() + TimeDelta::seconds(i64::from(offset));
    let (old, new) = (offset_at(zone, at - 1), offset_at(zone, at));
    let (from, to) = (local(at, old), local(at, new));
    if new > old {
        from.num_seconds_from_midnight() == 0
    } else {
        to.num_seconds_from_midnight() == 0 || to.date() < from.date()
    }
}
