//! What the operators hold that never leave the engine and wait there.

use std::time::Duration;

use chrono::{DateTime, NaiveTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use super::{Dag, millis, values};
use crate::rows::RunRow;

/// Until when a `time_sensor` waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeWait {
    /// Until when.
    pub until: Until,
    /// Whether it is skipped where it would fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft_fail: bool,
}

/// An instant that each run has for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// A template that renders to a date, to an instant, or to a time of day.
    Text {
        /// The template.
        template: String,
        /// On whose day, for a time of day.
        from: WaitFrom,
    },
    /// So long after a date of the run.
    Delay {
        /// How long.
        #[serde(with = "millis")]
        delay: Duration,
        /// After which.
        from: WaitFrom,
    },
}

crate::state::word_enum! {
    /// The date of a run from which a wait counts.
    WaitFrom {
        /// The end of its data interval: when a scheduled run may begin.
        DataIntervalEnd = "data_interval_end",
        /// Its logical date.
        LogicalDate = "logical_date",
    }
}

impl WaitFrom {
    /// Returns the date of a run.
    #[must_use]
    pub const fn of(self, run: &RunRow) -> DateTime<Utc> {
        match self {
            Self::DataIntervalEnd => run.data_interval_end,
            Self::LogicalDate => run.logical_date,
        }
    }
}

/// What a text says about when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At an instant.
    At(DateTime<Utc>),
    /// At a time of the day.
    Daily(NaiveTime),
}

impl Moment {
    /// Reads a date, a date-time (in the zone where it has no offset), or a time of day.
    pub(crate) fn parse(text: &str, zone: chrono_tz::Tz) -> Option<Self> {
        let text = text.trim();
        let time = ["%H:%M", "%H:%M:%S"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok());
        if let Some(time) = time {
            return Some(Self::Daily(time));
        }
        // TOML wants seconds, people often leave them out.
        let is_short = text.len() == "2026-01-31T06:00".len();
        let text = if is_short { format!("{text}:00") } else { text.to_owned() };
        let value = text.parse::<toml::value::Datetime>().ok()?;
        // Instants are stored in microseconds (decision 0014).
        values::instant(&value, zone).map(|found| Self::At(found.utc.trunc_subsecs(6)))
    }
}

impl Until {
    /// Returns the instant that a rendered text means to a run; `None` when it means none.
    ///
    /// A time of day is that of the day on which the date of the run is, in the zone of the DAG: the first of two
    /// passes of a repeated hour, the end of the gap for a time that the zone passes over.
    #[must_use]
    pub fn of_text(text: &str, from: WaitFrom, dag: &Dag, run: &RunRow) -> Option<DateTime<Utc>> {
        match Moment::parse(text, dag.timezone)? {
            Moment::At(at) => Some(at),
            Moment::Daily(time) => {
                let day = from.of(run).with_timezone(&dag.timezone).date_naive();
                values::in_zone(day.and_time(time), dag.timezone).map(|found| found.utc)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn a_moment_is_a_date_an_instant_or_a_time_of_day() {
        let zone = chrono_tz::Europe::Berlin;
        let show = |text: &str| match Moment::parse(text, zone) {
            Some(Moment::At(at)) => at.to_rfc3339(),
            Some(Moment::Daily(time)) => format!("daily {time}"),
            None => "none".to_owned(),
        };
        for (text, expected) in [
            ("14:30", "daily 14:30:00"),
            (" 06:00:05 ", "daily 06:00:05"),
            ("2026-11-05", "2026-11-04T23:00:00+00:00"),
            ("2026-11-05T06:00", "2026-11-05T05:00:00+00:00"),
            ("2026-11-05 06:00:00", "2026-11-05T05:00:00+00:00"),
            ("2026-11-05T06:00:00Z", "2026-11-05T06:00:00+00:00"),
            ("2026-11-05T06:00:00+02:00", "2026-11-05T04:00:00+00:00"),
            // In spring the clock goes from 02:00 to 03:00.
            ("2026-03-29T02:30", "2026-03-29T01:00:00+00:00"),
            ("25:00", "none"),
            ("noon", "none"),
            ("", "none"),
        ] {
            assert_eq!(show(text), expected, "{text:?}");
        }
    }
}
