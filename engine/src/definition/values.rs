//! Durations and dates as they are written in DAG files.

use std::time::Duration;

use chrono::{
    DateTime, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
};
use toml::value::{Datetime, Offset};

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Reads `"90s"`, `"5m"`, `"1h30m"`, `"2d"`: whole numbers with units, the largest first, each unit once.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0u64;
    let mut allowed = UNITS.as_slice();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit = tail.chars().next()?;
        let position = allowed.iter().position(|(name, _)| *name == unit)?;
        let (_, size) = allowed.get(position)?;
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*size)?)?;
        allowed = allowed.get(position + 1..)?;
        rest = tail.get(unit.len_utf8()..)?;
    }
    (!text.is_empty()).then_some(Duration::from_secs(seconds))
}

/// Writes seconds the way a DAG file does.
#[must_use]
pub fn show_seconds(mut seconds: u64) -> String {
    if seconds == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, size) in UNITS {
        let count = seconds / size;
        seconds %= size;
        if count > 0 {
            out.push_str(&format!("{count}{unit}"));
        }
    }
    out
}

/// Proposes the duration that was probably meant: `"5 minutes"`, `"90"`, `"1h 30m"`, `"30m1h"`, `"1:30:00"`.
pub(crate) fn guess_duration(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(format!("{seconds}s"));
    }
    let mut seconds = 0u64;
    let clock: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
    if let Some([hours, minutes, rest]) = clock.as_deref() {
        seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(*rest)?;
        return Some(show_seconds(seconds));
    }
    let mut chars = text.chars().filter(|c| !c.is_whitespace() && *c != ',').peekable();
    while chars.peek().is_some() {
        let mut number = 0u64;
        let mut digits = 0;
        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
            number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
            digits += 1;
            chars.next();
        }
        let mut word = String::new();
        while let Some(c) = chars.next_if(|c| c.is_alphabetic()) {
            word.push(c);
        }
        let size = match word.as_str() {
            "d" | "day" | "days" => 86_400,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "w" | "week" | "weeks" => 604_800,
            _ => return None,
        };
        if digits == 0 {
            return None;
        }
        seconds = seconds.checked_add(number.checked_mul(size)?)?;
    }
    (!text.is_empty()).then(|| show_seconds(seconds))
}

/// An instant, and whether its local time does not exist in its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant {
    pub(crate) utc: DateTime<Utc>,
    pub(crate) is_in_gap: bool,
}

/// Turns a TOML date into an instant: midnight where there is no time, `zone` where there is no offset. The
/// first of two passes of a repeated hour; the end of the gap for a time that the zone passes over.
pub(crate) fn instant(value: &Datetime, zone: chrono_tz::Tz) -> Option<Instant> {
    let date = value.date.as_ref()?;
    if !(1900..=9999).contains(&date.year) {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::from(date.year), u32::from(date.month), u32::from(date.day))?;
    let time = match &value.time {
        None => NaiveTime::MIN,
        Some(time) => NaiveTime::from_hms_nano_opt(
            u32::from(time.hour),
            u32::from(time.minute),
            u32::from(time.second.unwrap_or(0)),
            time.nanosecond.unwrap_or(0),
        )?,
    };
    let local = date.and_time(time);
    match value.offset {
        Some(Offset::Z) => Some(Instant { utc: local.and_utc(), is_in_gap: false }),
        Some(Offset::Custom { minutes }) => {
            let offset = FixedOffset::east_opt(i32::from(minutes) * 60)?;
            let utc = offset.from_local_datetime(&local).single()?.to_utc();
            Some(Instant { utc, is_in_gap: false })
        }
        None => in_zone(local, zone),
    }
}

pub(crate) fn in_zone(local: NaiveDateTime, zone: chrono_tz::Tz) -> Option<Instant> {
    let mut at = local;
    // No gap is longer than a day (Samoa skipped one).
    for _ in 0..=26 * 60 {
        match zone.from_local_datetime(&at) {
            LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => {
                return Some(Instant { utc: time.to_utc(), is_in_gap: at != local });
            }
            LocalResult::None => at = at.checked_add_signed(TimeDelta::minutes(1))?,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{guess_duration, instant, parse_duration, show_seconds};

    #[test]
    fn durations_are_whole_numbers_with_units_largest_first() {
        let good =
            [("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("0s", 0), ("1d1h1m1s", 90_061)];
        for (text, seconds) in good {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        let bad =
            ["", "5", "m", "5 m", "1.5h", "30m1h", "5m5m", "-5m", "5M", "99999999999999999999d", "1h30"];
        for text in bad {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(show_seconds(5400), "1h30m");
    }

    #[test]
    fn a_likely_duration_is_proposed() {
        for (text, guess) in [
            ("5 minutes", Some("5m")),
            ("90", Some("1m30s")),
            ("1h 30m", Some("1h30m")),
            ("30m1h", Some("1h30m")),
            ("0:05:00", Some("5m")),
            ("2 weeks", Some("14d")),
            ("soon", None),
            ("", None),
        ] {
            let guess_is = guess_duration(text);
            match (text, guess) {
                ("90", _) => assert_eq!(guess_is.as_deref(), Some("90s")),
                _ => assert_eq!(guess_is.as_deref(), guess, "{text}"),
            }
        }
    }

    #[test]
    fn dates_without_offset_are_in_the_zone() {
        let zone = chrono_tz::Europe::Berlin;
        let show = |text: &str| {
            let found = instant(&text.parse().unwrap(), zone).unwrap();
            (found.utc.to_rfc3339(), found.is_in_gap)
        };
        assert_eq!(show("2026-01-01"), ("2025-12-31T23:00:00+00:00".to_owned(), false));
        assert_eq!(show("2026-01-01T00:00:00Z"), ("2026-01-01T00:00:00+00:00".to_owned(), false));
        assert_eq!(show("2026-03-29T02:30:00"), ("2026-03-29T01:00:00+00:00".to_owned(), true));
        assert_eq!(show("2026-10-25T02:30:00"), ("2026-10-25T00:30:00+00:00".to_owned(), false));
    }
}
