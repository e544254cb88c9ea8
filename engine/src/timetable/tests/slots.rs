//! Slots: logical dates, data intervals, start and end dates, what was missed.

use std::time::Duration;

use super::{Build, at};
use crate::{
    definition::Schedule,
    timetable::{MISSED_COUNT_LIMIT, Slot, Timetable, TimetableError},
};

/// Prints a slot as `logical: [start, end)`, without what is zero.
fn text(slot: &Slot) -> String {
    assert_eq!(slot.run_after, slot.data_interval_end);
    let short = |t: chrono::DateTime<chrono::Utc>| t.format("%Y-%m-%dT%H:%M").to_string();
    format!(
        "{}: [{}, {})",
        short(slot.logical_date),
        short(slot.data_interval_start),
        short(slot.data_interval_end)
    )
}

fn list(timetable: &Timetable, from: &str, count: usize) -> Vec<String> {
    timetable.from_logical_date(at(from)).take(count).map(|s| text(&s)).collect()
}

#[test]
fn trigger_names_the_instant_and_covers_what_came_before() {
    let daily = Build::cron(&["@daily"]).timetable();
    let slot = daily.next_after(at("2026-01-01T12:00Z")).unwrap();
    assert_eq!(text(&slot), "2026-01-02T00:00: [2026-01-01T00:00, 2026-01-02T00:00)");
    assert_eq!(daily.next_after(slot.run_after).unwrap().logical_date, at("2026-01-03T00:00Z"));
}

#[test]
fn interval_names_the_start_and_fires_at_the_end() {
    let daily = Build::cron(&["@daily"]).interval().timetable();
    let slot = daily.next_after(at("2026-01-01T12:00Z")).unwrap();
    assert_eq!(text(&slot), "2026-01-01T00:00: [2026-01-01T00:00, 2026-01-02T00:00)");
}

#[test]
fn the_first_interval_does_not_begin_before_the_start_date() {
    let trigger = Build::cron(&["@daily"]).start("2026-01-01T00:00Z").timetable();
    assert_eq!(
        list(&trigger, "2020-01-01T00:00Z", 1),
        ["2026-01-02T00:00: [2026-01-01T00:00, 2026-01-02T00:00)"]
    );
    let interval = Build::cron(&["@daily"]).interval().start("2026-01-01T00:00Z").timetable();
    assert_eq!(
        list(&interval, "2020-01-01T00:00Z", 1),
        ["2026-01-01T00:00: [2026-01-01T00:00, 2026-01-02T00:00)"]
    );
    // In the middle of a day the rest of that day is not covered.
    let later = Build::cron(&["@daily"]).interval().start("2026-01-01T06:00Z").timetable();
    assert_eq!(
        list(&later, "2020-01-01T00:00Z", 1),
        ["2026-01-02T00:00: [2026-01-02T00:00, 2026-01-03T00:00)"]
    );
    assert_eq!(later.next_after(at("2020-01-01T00:00Z")).unwrap().run_after, at("2026-01-03T00:00Z"));
}

#[test]
fn no_logical_date_lies_after_the_end_date() {
    let build = || Build::cron(&["@daily"]).start("2026-01-01T00:00Z").end("2026-01-03T00:00Z");
    let dates = |t: &Timetable| {
        t.from_logical_date(at("2025-01-01T00:00Z"))
            .map(|s| s.logical_date.format("%m-%d").to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(dates(&build().timetable()), ["01-02", "01-03"]);
    let interval = build().interval().timetable();
    assert_eq!(dates(&interval), ["01-01", "01-02", "01-03"]);
    assert_eq!(interval.next_after(at("2026-01-03T12:00Z")).unwrap().run_after, at("2026-01-04T00:00Z"));
    assert_eq!(interval.next_after(at("2026-01-04T00:00Z")), None);
    let missed = interval.missed(at("2025-01-01T00:00Z"), at("2027-01-01T00:00Z")).unwrap();
    assert_eq!((missed.count, missed.newest.logical_date), (3, at("2026-01-03T00:00Z")));
}

#[test]
fn logical_dates_from_an_instant_include_it() {
    for timetable in [Build::cron(&["@daily"]).timetable(), Build::cron(&["@daily"]).interval().timetable()] {
        let dates: Vec<_> =
            timetable.from_logical_date(at("2026-01-01T00:00Z")).take(2).map(|s| s.logical_date).collect();
        assert_eq!(dates, [at("2026-01-01T00:00Z"), at("2026-01-02T00:00Z")]);
        let later = timetable.from_logical_date(at("2026-01-01T00:00:01Z")).next().unwrap();
        assert_eq!(later.logical_date, at("2026-01-02T00:00Z"));
    }
}

#[test]
fn a_list_is_the_union_without_doubles() {
    let union = Build::cron(&["0 6 * * *", "0 6 * * 1", "0 9 * * 6"]).timetable();
    // 2026-01-03 is a Saturday.
    assert_eq!(
        list(&union, "2026-01-02T12:00Z", 4),
        [
            "2026-01-03T06:00: [2026-01-02T06:00, 2026-01-03T06:00)",
            "2026-01-03T09:00: [2026-01-03T06:00, 2026-01-03T09:00)",
            "2026-01-04T06:00: [2026-01-03T09:00, 2026-01-04T06:00)",
            "2026-01-05T06:00: [2026-01-04T06:00, 2026-01-05T06:00)",
        ]
    );
}

#[test]
fn every_counts_from_the_start_date_or_the_epoch() {
    let every = |s| Build::new(Schedule::Every(Duration::from_secs(s)));
    let anchored = every(7 * 3_600).start("2026-01-01T01:30Z").timetable();
    assert_eq!(
        list(&anchored, "2020-01-01T00:00Z", 2),
        [
            "2026-01-01T08:30: [2026-01-01T01:30, 2026-01-01T08:30)",
            "2026-01-01T15:30: [2026-01-01T08:30, 2026-01-01T15:30)",
        ]
    );
    let free = every(900).interval().timetable();
    assert_eq!(
        list(&free, "2026-01-01T00:01Z", 1),
        ["2026-01-01T00:15: [2026-01-01T00:15, 2026-01-01T00:30)"]
    );
    // By elapsed time, whatever the zone does: four quarters in the repeated hour, too.
    let zurich = every(900).zone("Europe/Zurich").timetable();
    let missed = zurich.missed(at("2026-10-25T00:00Z"), at("2026-10-25T02:00Z")).unwrap();
    assert_eq!(missed.count, 8);
    // An instant with a fraction does not repeat or pass over a date.
    let at_fraction = at("2026-01-01T00:14:59.9999995Z");
    assert_eq!(free.next_after(at_fraction).unwrap().run_after, at("2026-01-01T00:15Z"));
    let before_epoch = at("1969-12-31T23:59:59.9999995Z");
    assert_eq!(every(900).timetable().next_after(before_epoch).unwrap().run_after, at("1970-01-01T00:00Z"));
}

#[test]
fn once_fires_at_the_start_date_or_when_first_seen() {
    let dated =
        Build::new(Schedule::Once).start("2026-01-01T06:00Z").timetable().first_seen(at("2026-05-01T00:00Z"));
    assert_eq!(
        list(&dated, "2020-01-01T00:00Z", 3),
        ["2026-01-01T06:00: [2026-01-01T06:00, 2026-01-01T06:00)"]
    );
    assert_eq!(dated.next_after(at("2026-01-01T06:00Z")), None);
    assert_eq!(dated.missed(dated.cursor_before_start().unwrap(), at("2026-05-01T00:00Z")).unwrap().count, 1);
    let seen_at = at("2026-05-01T00:00:00.25Z");
    let undated = Build::new(Schedule::Once).timetable();
    assert_eq!(undated.next_after(seen_at), None);
    let undated = undated.first_seen(seen_at);
    assert_eq!(undated.next_after(seen_at).unwrap().run_after, at("2026-05-01T00:00:01Z"));
    let over = Build::new(Schedule::Once).start("2026-01-02T00:00Z").end("2026-01-01T00:00Z").timetable();
    assert_eq!(over.next_after(at("2020-01-01T00:00Z")), None);
}

#[test]
fn never_and_continuous_have_no_slots() {
    for schedule in [Schedule::Never, Schedule::Continuous] {
        let timetable = Build::new(schedule).timetable();
        assert_eq!(timetable.next_after(at("2026-01-01T00:00Z")), None);
        assert_eq!(timetable.missed(at("2020-01-01T00:00Z"), at("2026-01-01T00:00Z")), None);
        assert_eq!(timetable.from_logical_date(at("2026-01-01T00:00Z")).next(), None);
    }
}

#[test]
fn missed_slots_lie_after_the_cursor_and_not_after_now() {
    let daily = Build::cron(&["@daily"]).interval().timetable();
    assert_eq!(daily.missed(at("2026-01-02T00:00Z"), at("2026-01-02T23:59Z")), None);
    let missed = daily.missed(at("2026-01-02T00:00Z"), at("2026-01-05T00:00Z")).unwrap();
    assert_eq!(missed.first.logical_date, at("2026-01-02T00:00Z"));
    assert_eq!(missed.newest.logical_date, at("2026-01-04T00:00Z"));
    assert_eq!(missed.count, 3);
    // A backward clock has missed nothing.
    assert_eq!(daily.missed(at("2026-01-05T00:00Z"), at("2026-01-02T00:00Z")), None);
}

#[test]
fn what_was_missed_is_bounded_work() {
    let minutely = Build::cron(&["* * * * *"]).timetable();
    let missed = minutely.missed(at("2016-01-01T00:00Z"), at("2026-01-01T00:00Z")).unwrap();
    assert_eq!(missed.count, MISSED_COUNT_LIMIT);
    assert_eq!(missed.newest.run_after, at("2026-01-01T00:00Z"));
    let every = Build::new(Schedule::Every(Duration::from_secs(1))).timetable();
    let missed = every.missed(at("2016-01-01T00:00Z"), at("2026-01-01T00:00Z")).unwrap();
    assert_eq!(missed.count, 3_653 * 86_400);
}

#[test]
fn a_manual_run_gets_the_newest_or_the_containing_interval() {
    let logical = at("2026-01-05T10:00Z");
    let interval = |t: Timetable| t.manual_interval(logical);
    let daily = || Build::cron(&["@daily"]);
    assert_eq!(interval(daily().timetable()), (at("2026-01-04T00:00Z"), at("2026-01-05T00:00Z")));
    assert_eq!(interval(daily().interval().timetable()), (at("2026-01-05T00:00Z"), at("2026-01-06T00:00Z")));
    assert_eq!(interval(Build::new(Schedule::Never).timetable()), (logical, logical));
    assert_eq!(interval(Build::new(Schedule::Once).timetable()), (logical, logical));
    // At an instant itself, and before the start date.
    let midnight = at("2026-01-05T00:00Z");
    assert_eq!(daily().timetable().manual_interval(midnight), (at("2026-01-04T00:00Z"), midnight));
    let early = daily().interval().start("2027-01-01T00:00Z").timetable();
    assert_eq!(early.manual_interval(midnight), (midnight, at("2026-01-06T00:00Z")));
    let every =
        Build::new(Schedule::Every(Duration::from_secs(3_600))).start("2027-01-01T00:00Z").timetable();
    assert_eq!(
        every.manual_interval(at("2026-12-31T22:30Z")),
        (at("2026-12-31T21:00Z"), at("2026-12-31T22:00Z"))
    );
}

#[test]
fn far_dates_end_the_search() {
    let daily = Build::cron(&["@daily"]).zone("Europe/Zurich").timetable();
    for far in ["0001-01-01T00:00Z", "1969-06-01T00:00Z"] {
        assert_eq!(daily.next_after(at(far)).unwrap().run_after.format("%Y").to_string(), "1970", "{far}");
    }
    assert_eq!(daily.next_after(at("2100-12-31T23:00Z")), None);
    assert_eq!(daily.next_after(chrono::DateTime::<chrono::Utc>::MAX_UTC), None);
    assert_eq!(
        daily.manual_interval(at("1950-01-01T00:00Z")),
        (at("1950-01-01T00:00Z"), at("1950-01-01T00:00Z"))
    );
    let empty = Schedule::Cron(Vec::new());
    let refused = Timetable::compile(&empty, Default::default(), chrono_tz::UTC, None, None).unwrap_err();
    assert_eq!(refused, TimetableError::NoExpression);
}
