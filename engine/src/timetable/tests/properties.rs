//! Properties: instants increase, searches end, and a slow oracle that walks minutes agrees.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::{at, clock};
use crate::timetable::{clock::Clock, parse_cron};

/// Zones with gaps and overlaps of an hour, of half an hour, at midnight, of a whole day, and with none.
const ZONES: [&str; 16] = [
    "UTC",
    "Europe/Zurich",
    "Europe/London",
    "Europe/Dublin",
    "America/New_York",
    "America/Havana",
    "America/Santiago",
    "America/St_Johns",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Antarctica/Troll",
];

/// Returns what fires in (`after`, `until`], decided minute by minute from the definition of the rules.
fn slow(expression: &str, zone: Tz, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let cron = parse_cron(expression).unwrap();
    let minute = TimeDelta::minutes(1);
    let local = |t: DateTime<Utc>| t.with_timezone(&zone).naive_local();
    // Two days ahead, so that an overlap or gap before `after` is known.
    let mut at = after - TimeDelta::days(2);
    let mut seen = local(at) - minute;
    let mut found = Vec::new();
    while at <= until {
        let now = local(at);
        let fires = if cron.is_elapsed() {
            cron.matches(now)
        } else {
            // Every local minute that was not reached before: one, several at the end of a gap, none in the
            // second pass of an overlap.
            let reached = (now - seen).num_minutes();
            (1..=reached).any(|step| cron.matches(seen + minute * i32::try_from(step).unwrap()))
        };
        seen = seen.max(now);
        if fires && at > after {
            found.push(at);
        }
        at += minute;
    }
    found
}

/// Returns a week in which the zone changes its offset, `nth` such change after 2005, or a quiet one.
fn week_of_change(zone: Tz, nth: usize) -> DateTime<Utc> {
    use chrono::{Offset, TimeZone};
    let offset = |t: DateTime<Utc>| zone.offset_from_utc_datetime(&t.naive_utc()).fix();
    let mut left = nth;
    let mut day = at("2005-01-01T00:00Z");
    while day < at("2031-01-01T00:00Z") {
        let next = day + TimeDelta::days(1);
        if offset(day) != offset(next) {
            if left == 0 {
                return day - TimeDelta::days(2);
            }
            left -= 1;
        }
        day = next;
    }
    at("2026-03-02T00:00Z") + TimeDelta::days(i64::try_from(nth).unwrap())
}

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let value = move || min..=max;
    prop_oneof![
        4 => Just("*".to_owned()),
        4 => value().prop_map(|v| v.to_string()),
        2 => (value(), value()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        2 => (1..=max).prop_map(|s| format!("*/{s}")),
        2 => (value(), value(), value()).prop_map(|(a, b, c)| format!("{a},{b},{c}")),
        1 => (value(), value(), 1..=max)
            .prop_map(|(a, b, s)| format!("{}-{}/{s}", a.min(b), a.max(b))),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let hour = prop_oneof![3 => field(0, 3), 2 => field(0, 23)];
    let month = prop_oneof![6 => Just("*".to_owned()), 1 => field(1, 12)];
    (field(0, 59), hour, field(1, 31), month, field(0, 7))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
        .prop_filter("never fires", |text| parse_cron(text).is_ok())
}

fn fast(clock: &Clock, after: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    std::iter::successors(clock.next(after), |t| clock.next(*t)).take_while(|t| *t <= until).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_slow_oracle_through_changes_of_offset(
        text in expression(),
        zone_index in 0..ZONES.len(),
        nth in 0_usize..60,
        shift in 0_i64..2_880,
    ) {
        let name = ZONES[zone_index];
        let zone = super::zone(name);
        let after = week_of_change(zone, nth) + TimeDelta::minutes(shift);
        let until = after + TimeDelta::days(4);
        let clock = clock(name, &[&text]);
        let found = fast(&clock, after, until);
        prop_assert!(found.windows(2).all(|w| w[0] < w[1]));
        prop_assert_eq!(&found, &slow(&text, zone, after, until), "{} in {} after {}", text, name, after);
        // Backwards over the same instants.
        let mut back = Vec::new();
        let mut before = until + TimeDelta::seconds(1);
        while let Some(at) = clock.previous(before).filter(|t| *t > after) {
            back.push(at);
            before = at;
            if back.len() > 20 {
                break;
            }
        }
        let expected: Vec<_> = found.iter().rev().copied().take(back.len().max(1)).collect();
        prop_assert_eq!(back, expected.into_iter().take(found.len()).collect::<Vec<_>>());
    }

    #[test]
    fn instants_increase_from_anywhere_and_searches_end(
        text in expression(),
        second in proptest::option::of(field(0, 59)),
        zone_index in 0..ZONES.len(),
        from in -2_000_000_000_i64..4_200_000_000,
        nanos in 0_u32..1_000_000_000,
    ) {
        let text = second.map_or(text.clone(), |second| format!("{second} {text}"));
        let clock = clock(ZONES[zone_index], &[&text]);
        let start = DateTime::from_timestamp(from, nanos).unwrap();
        let mut last = start;
        for _ in 0..20 {
            let Some(next) = clock.next(last) else { break };
            prop_assert!(next > last);
            // Nothing lies between, seen from behind.
            prop_assert_eq!(clock.previous_or_at(next), Some(next));
            if last > start {
                prop_assert_eq!(clock.previous(next), Some(last));
            }
            last = next;
        }
    }

    #[test]
    fn every_is_plain_arithmetic(
        anchor in 0_i64..2_000_000_000,
        step in 1_i64..10_000_000,
        after in -2_000_000_000_i64..4_000_000_000,
        nanos in 0_u32..1_000_000_000,
    ) {
        let anchor = DateTime::from_timestamp(anchor, 0).unwrap();
        let after = DateTime::from_timestamp(after, nanos).unwrap();
        let clock = Clock::Every { anchor, step: TimeDelta::seconds(step) };
        let next = clock.next(after).unwrap();
        prop_assert!(next > after && next - after <= TimeDelta::seconds(step));
        prop_assert_eq!((next - anchor).num_seconds() % step, 0);
        let previous = clock.previous(after).unwrap();
        prop_assert!(previous < after && after - previous <= TimeDelta::seconds(step));
        prop_assert_eq!((previous - anchor).num_seconds() % step, 0);
    }
}

/// Walks `@daily` through a zone and returns how often it fired.
fn walk_days(zone: Tz, first: DateTime<Utc>, end: DateTime<Utc>) -> u64 {
    use chrono::Datelike;
    let clock = Clock::Cron { expressions: vec![parse_cron("@daily").unwrap()], zone };
    let mut instants = 0;
    let mut last = clock.next(first).unwrap();
    let mut last_day = last.with_timezone(&zone).date_naive();
    while last < end {
        let next = clock.next(last).unwrap();
        assert!(next > last, "{zone}: {next} after {last}");
        let day = next.with_timezone(&zone).date_naive();
        let days = day.num_days_from_ce() - last_day.num_days_from_ce();
        // A day that does not exist in a zone (Apia 2011-12-30) has no firing of its own.
        let is_skipped = days == 2 && next - last < TimeDelta::hours(26);
        assert!(days == 1 || is_skipped, "{zone}: {next} is {days} local days after {last}");
        (last, last_day) = (next, day);
        instants += 1;
    }
    instants
}

#[test]
fn daily_is_one_a_local_day_in_every_zone() {
    use std::collections::BTreeMap;

    use chrono::{Offset, TimeZone};
    let (first, end) = (at("2000-01-02T00:00Z"), at("2037-12-30T00:00Z"));
    // Half of the names are links: zones with the same offset on every day are walked once.
    let mut zones = BTreeMap::new();
    for zone in chrono_tz::TZ_VARIANTS {
        let offset = |day: i64| {
            let at = first + TimeDelta::days(day);
            zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
        };
        let changes: Vec<_> = (1..(end - first).num_days())
            .filter(|day| *day == 1 || offset(*day) != offset(day - 1))
            .map(|day| (day, offset(day)))
            .collect();
        zones.entry(changes).or_insert(zone);
    }
    let distinct: Vec<Tz> = zones.into_values().collect();
    let (left, right) = distinct.split_at(distinct.len() / 2);
    let walk = |part: &[Tz]| part.iter().map(|zone| walk_days(*zone, first, end)).sum::<u64>();
    let instants = std::thread::scope(|scope| {
        let other = scope.spawn(|| walk(left));
        walk(right) + other.join().unwrap()
    });
    let names = chrono_tz::TZ_VARIANTS.len();
    println!("{instants} daily instants in {} distinct of {names} zones", distinct.len());
}
