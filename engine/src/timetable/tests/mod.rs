//! Tests of the timetable: dialect, daylight saving, slots, properties.

mod dialect;
mod dst;
mod properties;
mod slots;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{Timetable, clock::Clock, parse_cron};
use crate::definition::{Schedule, TimetableKind};

/// Reads `2026-03-29T01:00Z` or a full RFC 3339 time.
fn at(text: &str) -> DateTime<Utc> {
    let full = if text.len() == 17 { text.replace('Z', ":00Z") } else { text.to_owned() };
    full.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn zone(name: &str) -> Tz {
    name.parse().unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn clock(zone_name: &str, expressions: &[&str]) -> Clock {
    let expressions = expressions.iter().map(|e| parse_cron(e).unwrap()).collect();
    Clock::Cron { expressions, zone: zone(zone_name) }
}

fn cron_instants(
    zone_name: &str,
    expression: &str,
    after: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let clock = clock(zone_name, &[expression]);
    std::iter::successors(clock.next(after), |t| clock.next(*t)).take_while(|t| *t <= until).collect()
}

struct Build {
    schedule: Schedule,
    kind: TimetableKind,
    zone: &'static str,
    start: Option<&'static str>,
    end: Option<&'static str>,
}

impl Build {
    fn cron(expressions: &[&str]) -> Self {
        Self::new(Schedule::Cron(expressions.iter().map(|&e| e.to_owned()).collect()))
    }

    fn new(schedule: Schedule) -> Self {
        Self { schedule, kind: TimetableKind::Trigger, zone: "UTC", start: None, end: None }
    }

    fn interval(mut self) -> Self {
        self.kind = TimetableKind::Interval;
        self
    }

    fn zone(mut self, zone: &'static str) -> Self {
        self.zone = zone;
        self
    }

    fn start(mut self, start: &'static str) -> Self {
        self.start = Some(start);
        self
    }

    fn end(mut self, end: &'static str) -> Self {
        self.end = Some(end);
        self
    }

    fn timetable(self) -> Timetable {
        let (start, end) = (self.start.map(at), self.end.map(at));
        Timetable::compile(&self.schedule, self.kind, zone(self.zone), start, end).unwrap()
    }
}
