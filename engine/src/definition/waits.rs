//! How sensors wait, and when a run is late.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;

/// When a run is late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// So long after an instant.
    Within {
        /// How long.
        #[serde(with = "millis")]
        within: Duration,
        /// After what.
        from: DeadlineFrom,
    },
    /// So many times the median of the last successful runs, from its start.
    Usual {
        /// How many times.
        factor: f64,
    },
}

crate::state::word_enum! {
    /// From when a deadline counts.
    DeadlineFrom {
        /// When the run was created or cleared.
        Queued = "queued",
        /// The logical date of a scheduled run.
        LogicalDate = "logical_date",
        /// The end of the data interval of a scheduled run: when it may begin.
        DataIntervalEnd = "data_interval_end",
    }
}

/// How a sensor waits. How long in all is the `timeout` of its task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Poke {
    /// The wait after the first poke that found nothing.
    #[serde(with = "millis")]
    pub interval: Duration,
    /// Multiplies the wait with every further poke; 1.0 is constant.
    pub backoff: f64,
    /// The longest wait between two pokes.
    #[serde(with = "millis")]
    pub max_interval: Duration,
    /// The longest time of one poke; its processes are stopped then.
    #[serde(with = "millis")]
    pub timeout: Duration,
    /// Whether it is skipped where it would fail.
    pub soft_fail: bool,
}
