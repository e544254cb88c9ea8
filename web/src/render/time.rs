//! Words for times and sizes.

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;

use super::Markup;
use crate::zone;

/// `2026-11-05T00:00:00Z`, without fractions: for people and for ids.
pub(crate) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `2026-11-05 01:00:00 CET`: in the zone of the page.
pub(crate) fn exact(at: DateTime<Utc>) -> String {
    exact_in(at, zone::shown())
}

/// `2026-11-05 01:00:00 CET`: in a given zone.
pub(crate) fn exact_in(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// `2026-11-05`: in the zone of the page.
pub(crate) fn day(at: DateTime<Utc>) -> String {
    at.with_timezone(&zone::shown()).format("%Y-%m-%d").to_string()
}

/// `01:00 CET`: in the zone of the page.
pub(crate) fn hour(at: DateTime<Utc>) -> String {
    at.with_timezone(&zone::shown()).format("%H:%M %Z").to_string()
}

/// What stands behind an instant: the exact one with its zone, and where that is not UTC the same in UTC. An
/// abbreviation such as `IST` has several meanings; the name of a zone has one.
fn title(at: DateTime<Utc>, zone: Tz) -> String {
    let exact = exact_in(at, zone);
    if zone == Tz::UTC { exact } else { format!("{exact} ({}), {}", zone.name(), instant(at)) }
}

/// `1h 04m`, `2d 03h`, `12.3s`, `87ms`.
pub(crate) fn duration(milliseconds: i64) -> String {
    let ms = milliseconds.max(0);
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..=9 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `1.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..=999 => format!("{bytes} B"),
        1_000..=999_999 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        1_000_000..=999_999_999 => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}

/// An instant as `<time>`: relative to `now`, exact on hover; a script keeps the words fresh.
pub(crate) fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    relative_in(at, now, zone::shown())
}

/// The same with the exact instant in a given zone.
pub(crate) fn relative_in(at: DateTime<Utc>, now: DateTime<Utc>, zone: Tz) -> Markup {
    let ms = (now - at).num_milliseconds();
    // Whole seconds: this is what the script prints too.
    let words = duration(ms.abs() / 1000 * 1000);
    let words = if ms.abs() < 1000 { "0s".to_owned() } else { words.replace(".0s", "s") };
    let mut out = Markup::default();
    out.raw("<time data-rel").attr("datetime", &instant(at)).attr("title", &title(at, zone)).raw(">");
    if ms >= 0 {
        out.text(&words).raw(" ago");
    } else {
        out.raw("in ").text(&words);
    }
    out.raw("</time>");
    out
}

/// An instant as `<time>` in full.
pub(crate) fn absolute(at: DateTime<Utc>) -> Markup {
    absolute_in(at, zone::shown())
}

/// The same in a given zone.
pub(crate) fn absolute_in(at: DateTime<Utc>, zone: Tz) -> Markup {
    let mut out = Markup::default();
    out.raw("<time data-abs").attr("datetime", &instant(at)).attr("title", &title(at, zone)).raw(">");
    out.text(&exact_in(at, zone)).raw("</time>");
    out
}

/// How long something took, or takes so far.
pub(crate) fn took(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Markup {
    let mut out = Markup::default();
    match (from, to) {
        (Some(from), Some(to)) => {
            out.text(&duration((to - from).num_milliseconds()));
        }
        (Some(from), None) => {
            out.raw("<time data-since").attr("datetime", &instant(from)).raw(">running</time>");
        }
        (None, _) => {
            out.raw("<span class=\"muted\">–</span>");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_a_clock() {
        let words: Vec<String> =
            [0, 87, 1_200, 59_000, 64_000, 3_840_000, 183_600_000].into_iter().map(duration).collect();
        assert_eq!(words, ["0ms", "87ms", "1.2s", "59s", "1m 04s", "1h 04m", "2d 03h"]);
    }

    #[test]
    fn relative_times_carry_the_exact_one() {
        let at = DateTime::from_timestamp(1_793_836_800, 0).unwrap();
        let out = relative(at, at + chrono::TimeDelta::seconds(65));
        assert_eq!(
            out.as_str(),
            "<time data-rel datetime=\"2026-11-05T00:00:00Z\" title=\"2026-11-05 00:00:00 UTC\">1m 05s ago</time>"
        );
        let berlin = relative_in(at, at, Tz::Europe__Berlin);
        assert!(
            berlin
                .as_str()
                .contains("title=\"2026-11-05 01:00:00 CET (Europe/Berlin), 2026-11-05T00:00:00Z\""),
            "{berlin}"
        );
        assert!(absolute_in(at, Tz::Europe__Berlin).as_str().contains(">2026-11-05 01:00:00 CET<"));
        assert!(relative(at, at - chrono::TimeDelta::seconds(5)).as_str().contains(">in 5s<"));
    }
}
