//! The five-field dialect: what is accepted, what it means, and what is refused with which words.

use chrono::NaiveDate;

use super::Build;
use crate::{
    definition::Schedule,
    timetable::{TimetableError, check_every, expand_preset, parse_cron, parse_schedule},
};

/// Returns the first `count` local times from the start of 2026, as `month-day hour:minute[:second]`.
fn first(expression: &str, count: usize) -> String {
    let cron = parse_cron(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
    let mut from = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let next = cron.naive_from(from).unwrap();
        assert!(cron.matches(next), "{expression} does not match {next}");
        found.push(next.format("%m-%d %H:%M:%S").to_string().replace(":00 ", " "));
        from = next + chrono::TimeDelta::seconds(1);
    }
    found.iter().map(|t| t.strip_suffix(":00").unwrap_or(t)).collect::<Vec<_>>().join(", ")
}

#[test]
fn expressions_mean_what_crontab_says() {
    // 2026-01-01 is a Thursday.
    let table = [
        ("*/20 * * * *", "01-01 00:00, 01-01 00:20, 01-01 00:40"),
        ("5 4 * * *", "01-01 04:05, 01-02 04:05, 01-03 04:05"),
        ("0 0 * * 0", "01-04 00:00, 01-11 00:00, 01-18 00:00"),
        ("0 0 * * 7", "01-04 00:00, 01-11 00:00, 01-18 00:00"),
        ("0 0 * * SUN", "01-04 00:00, 01-11 00:00, 01-18 00:00"),
        ("0 0 * * sun", "01-04 00:00, 01-11 00:00, 01-18 00:00"),
        ("0 0 * * 1", "01-05 00:00, 01-12 00:00, 01-19 00:00"),
        ("0 0 * * MON", "01-05 00:00, 01-12 00:00, 01-19 00:00"),
        ("0 0 * * 6", "01-03 00:00, 01-10 00:00, 01-17 00:00"),
        ("0 0 * * 5-7", "01-02 00:00, 01-03 00:00, 01-04 00:00"),
        ("0 0 * * FRI-SUN", "01-02 00:00, 01-03 00:00, 01-04 00:00"),
        ("0 0 * * 0-7", "01-01 00:00, 01-02 00:00, 01-03 00:00"),
        ("0 0 * * */2", "01-01 00:00, 01-03 00:00, 01-04 00:00"),
        ("0 0 * * MON-FRI/2", "01-02 00:00, 01-05 00:00, 01-07 00:00"),
        // Both day fields restricted: either matches.
        ("0 0 13 * 5", "01-02 00:00, 01-09 00:00, 01-13 00:00"),
        ("0 0 1,2 * MON", "01-01 00:00, 01-02 00:00, 01-05 00:00"),
        // Only a literal `*` is no restriction: with `*/1` either matches, which is every day.
        ("0 0 */1 * MON", "01-01 00:00, 01-02 00:00, 01-03 00:00"),
        ("0 0 * * 1-7", "01-01 00:00, 01-02 00:00, 01-03 00:00"),
        ("0 0 13 * *", "01-13 00:00, 02-13 00:00, 03-13 00:00"),
        ("0 0 31 * *", "01-31 00:00, 03-31 00:00, 05-31 00:00"),
        ("0 12 1 FEB,nov *", "02-01 12:00, 11-01 12:00, 02-01 12:00"),
        ("0 0 1 JAN-MAR/2 *", "01-01 00:00, 03-01 00:00, 01-01 00:00"),
        ("0 0 1 */3 *", "01-01 00:00, 04-01 00:00, 07-01 00:00"),
        ("50/4 1 * * *", "01-01 01:50, 01-01 01:54, 01-01 01:58"),
        ("0-10/5,30 2 * * *", "01-01 02:00, 01-01 02:05, 01-01 02:10, 01-01 02:30"),
        ("  0\t6   * * *  ", "01-01 06:00, 01-02 06:00, 01-03 06:00"),
        ("15 0 6 * * *", "01-01 06:00:15, 01-02 06:00:15"),
        ("*/30 * * * * *", "01-01 00:00, 01-01 00:00:30, 01-01 00:01"),
        ("0 0 29 2 *", "02-29 00:00, 02-29 00:00"),
        ("@daily", "01-01 00:00, 01-02 00:00"),
        ("@weekly", "01-04 00:00, 01-11 00:00"),
        ("@quarterly", "01-01 00:00, 04-01 00:00"),
        ("@annually", "01-01 00:00, 01-01 00:00"),
        ("0059 * * * *", "01-01 00:59, 01-01 01:59"),
    ];
    for (expression, expected) in table {
        assert_eq!(first(expression, expected.split(", ").count()), expected, "{expression}");
    }
}

#[test]
fn refusals_name_the_field_the_place_and_a_way_out() {
    // Expression, message, the text at the span, suggestion.
    let table = [
        ("", "a cron expression has five fields (or six with leading seconds), this one has 0", "", None),
        (
            "* * * *",
            "a cron expression has five fields (or six with leading seconds), this one has 4",
            "* * * *",
            None,
        ),
        (
            "1 2 3 4 5 6 7",
            "a cron expression has five fields (or six with leading seconds), this one has 7",
            "1 2 3 4 5 6 7",
            None,
        ),
        ("60 * * * *", "minute field: 60 is out of range: it goes from 0 to 59", "60", None),
        ("0 24 * * *", "hour field: 24 is out of range: it goes from 0 to 23", "24", None),
        ("0 0 0 * *", "day of month field: 0 is out of range: it goes from 1 to 31", "0", None),
        ("0 0 * 13 *", "month field: 13 is out of range: it goes from 1 to 12", "13", None),
        ("0 0 * * 8", "day of week field: 8 is out of range: it goes from 0 to 7", "8", None),
        ("60 0 0 * * *", "second field: 60 is out of range: it goes from 0 to 59", "60", None),
        (
            "0 99999999999 * * *",
            "hour field: 99999999999 is out of range: it goes from 0 to 23",
            "99999999999",
            None,
        ),
        ("0 6 * * MONDAY", "day of week field: \"MONDAY\" is not a number or a name", "MONDAY", Some("MON")),
        ("0 6 * january *", "month field: \"january\" is not a number or a name", "january", Some("JAN")),
        ("0 x * * *", "hour field: \"x\" is not a number or a name", "x", None),
        ("0 -1 * * *", "hour field: something is missing here", "", None),
        ("0 1,,2 * * *", "hour field: something is missing here", "", None),
        ("0 1- * * *", "hour field: something is missing here", "", None),
        ("0 22-2 * * *", "hour field: the range 22-2 runs backwards", "22-2", Some("22-23,0-2")),
        ("0 0 * * FRI-MON", "day of week field: the range 5-1 runs backwards", "FRI-MON", Some("5-6,0-1")),
        ("*/0 * * * *", "minute field: \"0\" is not a step: a step is a whole number from 1", "0", None),
        ("*/+5 * * * *", "minute field: \"+5\" is not a step: a step is a whole number from 1", "+5", None),
        ("*/ * * * *", "minute field: \"\" is not a step: a step is a whole number from 1", "", None),
        (
            "0 0 ? * MON",
            "day of month field: '?' belongs to another cron dialect and is not supported",
            "?",
            Some("*"),
        ),
        (
            "0 0 L * *",
            "day of month field: 'L' belongs to another cron dialect and is not supported",
            "L",
            None,
        ),
        (
            "0 0 15W * *",
            "day of month field: 'W' belongs to another cron dialect and is not supported",
            "15W",
            None,
        ),
        (
            "0 0 * * 5#2",
            "day of week field: '#' belongs to another cron dialect and is not supported",
            "5#2",
            None,
        ),
        ("0 0 30 2 *", "\"0 0 30 2 *\" never fires: no date matches it", "0 0 30 2 *", None),
        (
            "0 0 31 4,6,9,11 *",
            "\"0 0 31 4,6,9,11 *\" never fires: no date matches it",
            "0 0 31 4,6,9,11 *",
            None,
        ),
        ("@dayly", "there is no preset \"@dayly\"", "@dayly", Some("@daily")),
        ("@Daily", "there is no preset \"@Daily\"", "@Daily", Some("@daily")),
        ("@sometimes", "there is no preset \"@sometimes\"", "@sometimes", None),
        ("@once", "@once stands alone, it cannot be part of a list of cron expressions", "@once", None),
    ];
    for (expression, message, place, suggestion) in table {
        let error = parse_cron(expression).unwrap_err();
        assert_eq!(error.to_string(), message);
        let span = error.span().unwrap_or(0..expression.len());
        assert_eq!(&expression[span], place, "{expression}");
        assert_eq!(error.suggestion().as_deref(), suggestion, "{expression}");
        assert!(error.help().ends_with('.'), "{expression}: {}", error.help());
    }
    println!("{} refusals", table.len());
}

#[test]
fn a_schedule_text_is_a_preset_or_an_expression() {
    assert_eq!(parse_schedule("@once"), Ok(Schedule::Once));
    assert_eq!(parse_schedule("@continuous"), Ok(Schedule::Continuous));
    assert_eq!(parse_schedule("@midnight"), Ok(Schedule::Cron(vec!["0 0 * * *".to_owned()])));
    assert_eq!(parse_schedule(" 5 4 * * * "), Ok(Schedule::Cron(vec!["5 4 * * *".to_owned()])));
    assert!(matches!(
        parse_schedule("@onec"),
        Err(TimetableError::UnknownPreset { suggestion: Some("@once"), .. })
    ));
    assert_eq!(expand_preset("@hourly"), "0 * * * *");
    assert_eq!(expand_preset("5 4 * * *"), "5 4 * * *");
}

#[test]
fn a_period_is_whole_seconds_within_bounds() {
    use std::time::Duration;
    assert!(check_every(Duration::from_secs(1)).is_ok());
    assert_eq!(check_every(Duration::ZERO), Err(TimetableError::EveryTooShort));
    assert_eq!(check_every(Duration::from_millis(500)), Err(TimetableError::EveryTooShort));
    assert_eq!(check_every(Duration::from_millis(1_500)), Err(TimetableError::EveryTooShort));
    assert_eq!(
        check_every(Duration::MAX - Duration::from_nanos(999_999_999)),
        Err(TimetableError::EveryTooLong)
    );
    assert!(check_every(Duration::from_secs(36_500 * 86_400)).is_ok());
    assert_eq!(check_every(Duration::from_secs(36_500 * 86_400 + 1)), Err(TimetableError::EveryTooLong));
}

#[test]
fn schedules_are_told_in_words() {
    let every = |s| Build::new(Schedule::Every(std::time::Duration::from_secs(s))).timetable().describe();
    assert_eq!(every(900), "every 15 minutes");
    assert_eq!(every(3_600), "every hour");
    assert_eq!(every(90), "every 90 seconds");
    assert_eq!(every(172_800), "every 2 days");
    let table = [
        ("30 2 * * *", "every day at 02:30 Europe/Zurich"),
        ("0 6,18 * * *", "every day at 06:00 and 18:00 Europe/Zurich"),
        ("0 * * * *", "every hour"),
        ("5 * * * *", "every hour at minute 5"),
        ("*/15 * * * *", "every 15 minutes"),
        ("* * * * *", "every minute"),
        ("0 0 * * 0", "every Sunday at 00:00 Europe/Zurich"),
        ("0 0 * * 1,3", "every Monday and Wednesday at 00:00 Europe/Zurich"),
        ("0 7 * * MON-FRI", "Monday to Friday at 07:00 Europe/Zurich"),
        ("0 0 1 * *", "on day 1 of every month at 00:00 Europe/Zurich"),
        ("@quarterly", "on day 1 of every quarter at 00:00 Europe/Zurich"),
        ("@yearly", "every year on 1 January at 00:00 Europe/Zurich"),
        ("0 0 13 * 5", "0 0 13 * 5 Europe/Zurich"),
        ("*/7 * * * *", "*/7 * * * * Europe/Zurich"),
    ];
    for (expression, words) in table {
        assert_eq!(Build::cron(&[expression]).zone("Europe/Zurich").timetable().describe(), words);
    }
    assert_eq!(Build::cron(&["0 6 * * *", "0 9 * * 6"]).timetable().describe(), "0 6 * * * or 0 9 * * 6 UTC");
    assert_eq!(Build::new(Schedule::Never).timetable().describe(), "only when triggered");
}
