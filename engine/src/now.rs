//! Time as an argument.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One instant on both clocks.
///
/// Schedules go by the wall clock; leases, timeouts and retry delays by the monotonic one, so that a clock
/// jump kills nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// The wall clock, UTC.
    pub wall: DateTime<Utc>,
    /// Time since an arbitrary origin of this process, on a clock that never jumps.
    pub mono: Duration,
}
