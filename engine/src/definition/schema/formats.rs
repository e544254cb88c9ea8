//! The formats of texts: the words of JSON Schema that can be checked without looking anything up.

// Values only: `core` has no sockets.
use core::net::{Ipv4Addr, Ipv6Addr};

use chrono::{DateTime, NaiveDate};

use super::pattern;

/// One format.
struct Format {
    word: &'static str,
    /// What a text of it looks like.
    like: &'static str,
    is_good: fn(&str) -> bool,
}

/// Every format, in the order of the reference.
const FORMATS: &[Format] = &[
    Format { word: "date", like: "a date such as 2026-01-31", is_good: is_date },
    Format { word: "time", like: "a time with its offset such as 06:00:00Z", is_good: is_time },
    Format {
        word: "date-time",
        like: "a date and time such as 2026-01-31T06:00:00Z",
        is_good: |text| text.len() >= 20 && DateTime::parse_from_rfc3339(text).is_ok(),
    },
    Format { word: "duration", like: "a duration of ISO 8601 such as PT15M", is_good: is_duration },
    Format { word: "email", like: "an address such as ann@example.org", is_good: is_email },
    Format { word: "hostname", like: "a host name such as db.example.org", is_good: is_hostname },
    Format {
        word: "ipv4",
        like: "an address such as 192.0.2.1",
        is_good: |text| text.parse::<Ipv4Addr>().is_ok(),
    },
    Format {
        word: "ipv6",
        like: "an address such as 2001:db8::1",
        is_good: |text| text.parse::<Ipv6Addr>().is_ok(),
    },
    Format { word: "uri", like: "an address such as https://example.org/a", is_good: is_uri },
    Format { word: "uuid", like: "a UUID such as 123e4567-e89b-12d3-a456-426614174000", is_good: is_uuid },
    Format { word: "json-pointer", like: "a JSON pointer such as /a/0", is_good: is_pointer },
    Format {
        word: "regex",
        like: "a regular expression that is matched in linear time",
        is_good: |text| pattern::compile(text).is_ok(),
    },
    // Of Airflow: says how the field in the form looks, and nothing about the text.
    Format { word: "multiline", like: "a text", is_good: |_| true },
];

/// Returns the words of all formats.
pub(crate) fn words() -> Vec<&'static str> {
    FORMATS.iter().map(|format| format.word).collect()
}

/// Returns what a text should look like when it is not of that format.
pub(crate) fn missed(word: &str, text: &str) -> Option<&'static str> {
    let format = FORMATS.iter().find(|format| format.word == word)?;
    (!(format.is_good)(text)).then_some(format.like)
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}

fn is_time(text: &str) -> bool {
    !text.starts_with(' ')
        && text.len() >= 9
        && DateTime::parse_from_rfc3339(&format!("2026-01-01T{text}")).is_ok()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `P3W`, or years, months and days, then after a `T` hours, minutes and seconds; each at most once and in this order.
fn is_duration(text: &str) -> bool {
    let Some(body) = text.strip_prefix('P') else { return false };
    if let Some(weeks) = body.strip_suffix('W') {
        return is_digits(weeks);
    }
    let (days, time) = body.split_once('T').map_or((body, None), |(days, time)| (days, Some(time)));
    let is_filled = !days.is_empty() || time.is_some_and(|time| !time.is_empty());
    is_filled && time != Some("") && follows(days, "YMD") && time.is_none_or(|time| follows(time, "HMS"))
}

/// Whether a text is numbers, each with one of the units behind it, in their order.
fn follows(text: &str, units: &str) -> bool {
    let mut rest = text;
    for unit in units.chars() {
        if let Some((number, after)) = rest.split_once(unit) {
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            if !is_digits(whole) || !is_digits(part) || (number.contains('.') && !after.is_empty()) {
                return false;
            }
            rest = after;
        }
    }
    rest.is_empty()
}

fn is_hostname(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.rsplit_once('@') else { return false };
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    };
    name.len() <= 64 && name.split('.').all(is_atom) && is_hostname(host)
}

/// A scheme, a colon, and only characters that RFC 3986 knows, each `%` with two digits.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let is_known = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b));
    let is_escaped = rest
        .split('%')
        .skip(1)
        .all(|part| part.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    let is_whole = match rest.strip_prefix("//") {
        Some(rest) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let port =
                authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or("", |(_, p)| p);
            // Only a file is without a host.
            (!authority.is_empty() || scheme == "file") && port.bytes().all(|b| b.is_ascii_digit())
        }
        None => !rest.is_empty(),
    };
    is_scheme && is_known && is_escaped && is_whole && rest.matches('#').count() <= 1
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_pointer(text: &str) -> bool {
    let is_escaped = |text: &str| text.split('~').skip(1).all(|part| part.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && is_escaped(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_knows_its_own_texts() {
        let table: [(&str, &[&str], &[&str]); 12] = [
            ("date", &["2026-01-31", "2024-02-29"], &["2026-02-29", "2026-1-31", "31.01.2026", ""]),
            ("time", &["06:00:00Z", "23:59:59.5+02:00"], &["06:00", "06:00:00", "25:00:00Z", "6:00:00Z"]),
            (
                "date-time",
                &["2026-01-31T06:00:00Z", "2026-01-31T06:00:00.25-05:00"],
                &["2026-01-31", "2026-01-31T06:00", "2026-01-32T06:00:00Z"],
            ),
            (
                "duration",
                &["PT15M", "P1Y2M3DT4H5M6S", "P3W", "P1D", "PT0.5S"],
                &["15m", "P", "PT", "P1DT", "P1H", "PT1S1M", "P-1D", "P1W2D", "PT0.5M1S"],
            ),
            (
                "email",
                &["ann@example.org", "a.b+c@d-e.org"],
                &["ann", "@example.org", "ann@", "a..b@c.org", "a b@c.org"],
            ),
            ("hostname", &["localhost", "db-1.example.org"], &["-a.org", "a..b", "a_b.org", ""]),
            ("ipv4", &["192.0.2.1"], &["192.0.2", "256.0.0.1", "192.0.02.1", "::1"]),
            ("ipv6", &["::1", "2001:db8::1", "::ffff:192.0.2.1"], &["192.0.2.1", "2001:db8", "[::1]"]),
            (
                "uri",
                &[
                    "https://example.org/a?b=%20#c",
                    "mailto:ann@example.org",
                    "file:///tmp/x",
                    "s3://bucket/key",
                ],
                &["example.org", "https://", "https://a b", "https://a/%2", "1a:b", "http://a:b/"],
            ),
            (
                "uuid",
                &["123e4567-e89b-12d3-a456-426614174000"],
                &["123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-42661417400g"],
            ),
            ("json-pointer", &["", "/a/0", "/a~1b/~0"], &["a", "/a~2"]),
            ("regex", &["^a+$"], &["(", "(?=a)"]),
        ];
        let mut checked = 0;
        for (word, good, bad) in table {
            for text in good {
                assert_eq!(missed(word, text), None, "{word} {text}");
            }
            for text in bad {
                assert!(missed(word, text).is_some(), "{word} {text}");
            }
            checked += good.len() + bad.len();
        }
        assert_eq!(table.len() + 1, FORMATS.len(), "`multiline` allows every text");
        println!("{{\"formats\": {}, \"texts\": {checked}}}", FORMATS.len());
    }
}
