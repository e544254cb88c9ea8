//! Datetimes as templates see them, and the date filters and macros.
//!
//! Everything is UTC unless a template says `in_timezone`, as in Airflow: `ds` of a run in a DAG with another
//! zone is the UTC date.

use std::{cmp::Ordering, fmt, sync::Arc};

use chrono::{
    DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc,
    format::{Item, StrftimeItems},
};
use chrono_tz::Tz;
use minijinja::{
    Error, ErrorKind, State,
    value::{DynObject, Enumerator, Kwargs, Object, ObjectRepr, Rest, Value, from_args},
};

/// An instant in a zone. Prints as RFC 3339 with a numeric offset, as Airflow's `ts` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instant(pub(super) DateTime<Tz>);

/// The attributes that a datetime has.
pub(super) const ATTRIBUTES: &[&str] = &["year", "month", "day", "hour", "minute", "second", "microsecond"];
/// The methods that a datetime has.
pub(super) const METHODS: &[&str] = &[
    "isoformat",
    "strftime",
    "timestamp",
    "add",
    "subtract",
    "in_timezone",
    "date",
    "weekday",
    "isoweekday",
];

impl Instant {
    /// Wraps a UTC instant.
    pub(super) fn utc(at: DateTime<Utc>) -> Self {
        Self(at.with_timezone(&Tz::UTC))
    }

    /// Returns it as a template value.
    pub(super) fn value(self) -> Value {
        Value::from_object(self)
    }

    /// Returns the ISO 8601 text: microseconds only where there are any.
    pub(super) fn iso(&self) -> String {
        let format = if self.0.timestamp_subsec_micros() == 0 { "%FT%T%:z" } else { "%FT%T%.6f%:z" };
        self.0.format(format).to_string()
    }

    fn shift(self, kwargs: &Kwargs, sign: i64) -> Result<Self, Error> {
        let mut total = TimeDelta::zero();
        let units: [(&str, i64); 5] =
            [("weeks", 604_800), ("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)];
        for (name, seconds) in units {
            let count = kwargs.get::<Option<i64>>(name)?.unwrap_or(0);
            let delta =
                count.checked_mul(seconds).and_then(|s| s.checked_mul(sign)).and_then(TimeDelta::try_seconds);
            total = delta.and_then(|d| total.checked_add(&d)).ok_or_else(out_of_range)?;
        }
        kwargs.assert_all_used()?;
        self.0.checked_add_signed(total).map(Self).ok_or_else(out_of_range)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso())
    }
}

impl Object for Instant {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "year" => Value::from(self.0.year()),
            "month" => Value::from(self.0.month()),
            "day" => Value::from(self.0.day()),
            "hour" => Value::from(self.0.hour()),
            "minute" => Value::from(self.0.minute()),
            "second" => Value::from(self.0.second()),
            "microsecond" => Value::from(self.0.timestamp_subsec_micros()),
            _ => return None,
        })
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match method {
            "isoformat" => from_args::<()>(args).map(|()| Value::from(self.iso())),
            "date" => from_args::<()>(args).map(|()| Value::from(self.0.format("%F").to_string())),
            "weekday" => from_args::<()>(args).map(|()| Value::from(self.0.weekday().num_days_from_monday())),
            "isoweekday" => {
                from_args::<()>(args).map(|()| Value::from(self.0.weekday().number_from_monday()))
            }
            "timestamp" => from_args::<()>(args).map(|()| Value::from(self.0.timestamp())),
            "strftime" => {
                let (format,): (&str,) = from_args(args)?;
                let items = strftime_items(format)?;
                Ok(Value::from(self.0.format_with_items(items.iter()).to_string()))
            }
            "add" | "subtract" => {
                let (kwargs,): (Kwargs,) = from_args(args)?;
                let sign = if method == "add" { 1 } else { -1 };
                self.shift(&kwargs, sign).map(Self::value)
            }
            "in_timezone" => {
                let (name,): (&str,) = from_args(args)?;
                let zone: Tz = name.parse().map_err(|_| {
                    Error::new(ErrorKind::InvalidOperation, format!("`{name}` is not an IANA time zone"))
                })?;
                Ok(Self(self.0.with_timezone(&zone)).value())
            }
            _ => Err(Error::new(ErrorKind::UnknownMethod, format!("a datetime has no method `{method}`"))),
        }
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        other.downcast_ref::<Self>().map(|other| self.0.cmp(&other.0))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

fn out_of_range() -> Error {
    Error::new(ErrorKind::InvalidOperation, "the date is out of range")
}

/// Parses a format once and refuses what chrono would panic on when it prints.
fn strftime_items(format: &str) -> Result<Vec<Item<'_>>, Error> {
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("`{format}` is not a strftime format")));
    }
    Ok(items)
}

/// Reads a datetime object, an RFC 3339 text or a date.
fn to_instant(value: &Value) -> Result<Instant, Error> {
    if let Some(instant) = value.downcast_object_ref::<Instant>() {
        return Ok(*instant);
    }
    let text = value.as_str().unwrap_or_default();
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(Instant::utc(at.to_utc()));
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(Instant::utc(date.and_time(chrono::NaiveTime::MIN).and_utc()));
    }
    Err(Error::new(ErrorKind::InvalidOperation, format!("{value:?} is not a datetime")))
}

fn print_as(value: &Value, format: &str) -> Result<String, Error> {
    to_instant(value).map(|instant| instant.0.format(format).to_string())
}

/// Filter `ds`: `2026-11-05`.
pub(super) fn ds(value: &Value) -> Result<String, Error> {
    print_as(value, "%F")
}

/// Filter `ds_nodash`: `20261105`.
pub(super) fn ds_nodash(value: &Value) -> Result<String, Error> {
    print_as(value, "%Y%m%d")
}

/// Filter `ts`: `2026-11-05T00:00:00+00:00`.
pub(super) fn ts(value: &Value) -> Result<String, Error> {
    to_instant(value).map(|instant| instant.iso())
}

/// Filter `ts_nodash`: `20261105T000000`.
pub(super) fn ts_nodash(value: &Value) -> Result<String, Error> {
    print_as(value, "%Y%m%dT%H%M%S")
}

/// Filter `ts_nodash_with_tz`: `20261105T000000+0000`.
pub(super) fn ts_nodash_with_tz(value: &Value) -> Result<String, Error> {
    print_as(value, "%Y%m%dT%H%M%S%z")
}

/// Macro `ds_add(ds, days)`: the date that many days later.
pub(super) fn ds_add(date: &str, days: i64) -> Result<String, Error> {
    let day = NaiveDate::parse_from_str(date, "%Y-%m-%d")
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("`{date}` is not a YYYY-MM-DD date")))?;
    let moved =
        TimeDelta::try_days(days).and_then(|delta| day.checked_add_signed(delta)).ok_or_else(out_of_range)?;
    Ok(moved.format("%F").to_string())
}

/// Macro `ds_format(text, input_format, output_format)`: another notation of the same date.
pub(super) fn ds_format(text: &str, input: &str, output: &str, rest: Rest<Value>) -> Result<String, Error> {
    if !rest.is_empty() {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let wrong =
        |_| Error::new(ErrorKind::InvalidOperation, format!("`{text}` does not have the format `{input}`"));
    strftime_items(input)?;
    let at = NaiveDateTime::parse_from_str(text, input)
        .or_else(|_| NaiveDate::parse_from_str(text, input).map(|day| day.and_time(chrono::NaiveTime::MIN)))
        .map_err(wrong)?;
    let items = strftime_items(output)?;
    Ok(at.and_utc().format_with_items(items.iter()).to_string())
}
