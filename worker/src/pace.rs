//! Whether tries are so short that the next ones should already be here when a slot frees.
//!
//! Assignments beyond the free slots hide the round trip, but they wait here although another worker may be
//! idle. That is only worth it while the wait is far shorter than anybody notices.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

/// How many of the last tries count.
const WINDOW: usize = 16;
/// Up to this mean duration a try is short, in milliseconds.
const SHORT_MS: i64 = 500;

/// The durations of the last tries.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    durations_ms: VecDeque<i64>,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self { durations_ms: VecDeque::new() }
    }

    pub(crate) fn add(&mut self, started_at: Option<DateTime<Utc>>, finished_at: DateTime<Utc>) {
        let Some(started_at) = started_at else { return };
        self.durations_ms.push_back((finished_at - started_at).num_milliseconds().max(0));
        if self.durations_ms.len() > WINDOW {
            self.durations_ms.pop_front();
        }
    }

    /// Whether the last tries were all short. Without a full picture none is.
    pub(crate) fn is_short(&self) -> bool {
        self.durations_ms.len() >= 4 && self.durations_ms.iter().all(|duration| *duration <= SHORT_MS)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn one_long_try_ends_the_prefetch_and_a_window_of_short_ones_brings_it_back() {
        let mut pace = Pace::new();
        let end = DateTime::UNIX_EPOCH;
        let add = |pace: &mut Pace, ms| pace.add(Some(end - TimeDelta::milliseconds(ms)), end);
        assert!(!pace.is_short());
        (0..4).for_each(|_| add(&mut pace, 20));
        assert!(pace.is_short());
        add(&mut pace, 60_000);
        assert!(!pace.is_short());
        (0..WINDOW).for_each(|_| add(&mut pace, 20));
        assert!(pace.is_short());
    }
}
