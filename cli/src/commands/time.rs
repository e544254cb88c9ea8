//! Times and JSON on the command line.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::{Map, Value};

/// Reads an RFC 3339 time, or a date or a time without offset in UTC.
///
/// # Errors
/// What is wrong with it, for clap.
pub(crate) fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(at.and_utc());
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(NaiveDateTime::from(date).and_utc());
    }
    Err("write it as 2026-11-01T06:00:00Z, or 2026-11-01 for midnight UTC".to_owned())
}

/// Reads a JSON object.
///
/// # Errors
/// What is wrong with it, for clap.
pub(crate) fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("it must be a JSON object such as {\"p_value\": 0.05}".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_an_offset_are_utc() {
        for text in ["2026-11-01", "2026-11-01T00:00", "2026-11-01 00:00:00", "2026-11-01T01:00:00+01:00"] {
            assert_eq!(parse_time(text).unwrap().to_rfc3339(), "2026-11-01T00:00:00+00:00", "{text}");
        }
        assert!(parse_time("yesterday").is_err());
        assert!(parse_time("2026-02-30").is_err());
    }
}
