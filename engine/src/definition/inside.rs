//! What the operators hold that never leave the engine and wait there.

use std::time::Duration;

use chrono::{DateTime, NaiveTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use super::{Dag, millis, values};
use crate::{rows::RunRow, state::RunState};

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

/// Reads a date or a date-time, in the zone where it has no offset.
pub(crate) fn moment(text: &str, zone: chrono_tz::Tz) -> Option<DateTime<Utc>> {
    match Moment::parse(text, zone)? {
        Moment::At(at) => Some(at),
        Moment::Daily(_) => None,
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

/// What a `trigger_dag` triggers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerSpec {
    /// The DAG; a template.
    pub dag_id: String,
    /// What overrides its params; strings in it are templates.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub conf: serde_json::Map<String, serde_json::Value>,
    /// The logical date, a template; absent: the instant of the trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_date: Option<String>,
    /// The id of the run, a template; absent: one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Whether it waits for the end of the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
    /// The ends of the run with which a task that waits succeeds.
    pub allowed_states: Vec<RunState>,
}

/// For which run a `dag_run_sensor` waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunWait {
    /// The DAG; a template.
    pub dag_id: String,
    /// Which of its runs.
    pub which: WhichRun,
    /// The ends of the run with which it succeeds.
    pub allowed_states: Vec<RunState>,
    /// Whether it waits on when the run has ended in another way: somebody may clear it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait_on_failure: bool,
    /// Whether it fails at once when there is no such run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing_fails: bool,
    /// Whether it is skipped where it would fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft_fail: bool,
}

/// One of the runs of a DAG.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhichRun {
    /// The one with the logical date of this run, so much earlier.
    Offset {
        /// How much.
        #[serde(with = "millis")]
        earlier: Duration,
    },
    /// The one with the logical date that a template gives.
    Date {
        /// The template.
        template: String,
    },
    /// The one with the newest logical date.
    Latest,
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
