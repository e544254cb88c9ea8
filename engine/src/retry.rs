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
