//! How long a failed try waits for the next (`semantics.md` §4).

use std::time::Duration;

use chrono::{DateTime, Utc};
use sha1::{Digest, Sha1};

use crate::{definition::Task, ids::DagId};

/// What the deterministic jitter is taken from.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The DAG.
    pub dag: &'a DagId,
    /// The element, −1 when not mapped.
    pub map_index: i32,
    /// The run's logical date.
    pub logical_date: DateTime<Utc>,
    /// Failed tries since the last clear, from 1.
    pub failures: u32,
}

/// Returns the delay before the next try after `failures` failed ones.
///
/// `base = max(1 s, ceil(retry_delay × retry_backoff^(failures−1)))`; with a back-off other than 1.0 a jitter of
/// `sha1("dag#task#map#logical_date#failures") mod base` seconds is added; then capped at `max_retry_delay`.
#[must_use]
pub fn delay(task: &Task, occasion: Occasion<'_>) -> Duration {
    let exponent = i32::try_from(occasion.failures.saturating_sub(1)).unwrap_or(i32::MAX);
    // A high power is infinite, and zero times infinity is not a number: both ends are cut off before.
    let factor = task.retry_backoff.powi(exponent).clamp(0.0, f64::MAX);
    let cap = task.max_retry_delay.as_secs_f64();
    let base = (task.retry_delay.as_secs_f64() * factor).ceil().clamp(1.0, cap.max(1.0));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1 s … max_retry_delay"
    )]
    let base = (base as u64).max(1);
    let is_constant = (task.retry_backoff - 1.0).abs() < f64::EPSILON;
    let jitter = if is_constant { 0 } else { jitter(task, occasion, base) };
    Duration::from_secs(base + jitter).min(task.max_retry_delay.max(Duration::from_secs(1)))
}

/// Returns the digest, as one number of 160 bits, modulo `base`.
fn jitter(task: &Task, occasion: Occasion<'_>, base: u64) -> u64 {
    let text = format!(
        "{}#{}#{}#{}#{}",
        occasion.dag,
        task.id,
        occasion.map_index,
        occasion.logical_date.to_rfc3339(),
        occasion.failures
    );
    let digest = Sha1::digest(text.as_bytes());
    let base = u128::from(base);
    let rest = digest.iter().fold(0_u128, |rest, byte| (rest * 256 + u128::from(*byte)) % base);
    u64::try_from(rest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::load;

    fn after(keys: &str, failures: u32) -> u64 {
        let text = format!("[dag]\nid = \"d\"\n[[task]]\nid = \"t\"\ncommand = \"true\"\n{keys}\n");
        let dag = load(text.as_bytes(), "d.toml").dag.unwrap();
        let occasion = Occasion {
            dag: &dag.id,
            map_index: -1,
            logical_date: "2026-11-01T00:00:00Z".parse().unwrap(),
            failures,
        };
        delay(&dag.tasks[0], occasion).as_secs()
    }

    /// Computed by another program: Python's `hashlib` over the same text, in arithmetic without bounds.
    #[test]
    fn every_delay_is_what_the_formula_says() {
        for (keys, failures, seconds) in [
            ("", 1, 300),
            ("", 7, 300),
            ("retry_backoff = true", 1, 502),
            ("retry_backoff = 2.0", 1, 502),
            ("retry_backoff = 2.0", 2, 1_040),
            ("retry_backoff = 2.0", 3, 2_358),
            ("retry_backoff = 2.0", 4, 3_307),
            ("retry_backoff = 2.0", 12, 86_400),
            ("retry_delay = \"10s\"\nretry_backoff = 1.5", 2, 20),
            ("retry_delay = \"10s\"\nretry_backoff = 1.5", 4, 59),
            ("retry_delay = \"0s\"", 1, 1),
            ("retry_delay = \"0s\"\nretry_backoff = 2.0", 3, 1),
            ("retry_delay = \"1m\"\nretry_backoff = 2.0\nmax_retry_delay = \"1h\"", 9, 3_600),
            ("retry_delay = \"10m\"\nmax_retry_delay = \"1m\"", 1, 60),
            ("retry_delay = \"1s\"\nretry_backoff = 2.0", 300, 86_400),
            ("retry_delay = \"1s\"\nretry_backoff = 100", u32::MAX, 86_400),
            ("retry_delay = \"90s\"\nretry_backoff = 1.0001", 2, 147),
        ] {
            assert_eq!(after(keys, failures), seconds, "{keys:?} after {failures} failures");
        }
    }

    /// Two instances that fail at the same instant do not come back at the same instant.
    #[test]
    fn the_jitter_depends_on_the_occasion_and_on_nothing_else() {
        let of = |task: &str, failures| {
            let text = format!(
                "[dag]\nid = \"d\"\n[[task]]\nid = \"{task}\"\ncommand = \"true\"\nretry_backoff = true\n"
            );
            let dag = load(text.as_bytes(), "d.toml").dag.unwrap();
            let logical_date = "2026-11-01T00:00:00Z".parse().unwrap();
            delay(&dag.tasks[0], Occasion { dag: &dag.id, map_index: -1, logical_date, failures })
        };
        assert_eq!(of("t", 2), of("t", 2));
        let all: std::collections::BTreeSet<Duration> = (0..50).map(|i| of(&format!("t{i}"), 1)).collect();
        assert!(all.len() > 40 && all.iter().all(|d| (300..600).contains(&d.as_secs())), "{all:?}");
    }
}
