//! Numbers for charts of durations: round steps for an axis, and percentiles.

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Steps that a person reads easily, in milliseconds.
const STEPS: [i64; 33] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    90 * DAY,
    365 * DAY,
];

/// Returns the smallest round step of which at most `lines` fit into a span of milliseconds.
pub(crate) fn step(span: i64, lines: i64) -> i64 {
    let last = STEPS[STEPS.len() - 1];
    STEPS
        .into_iter()
        .find(|step| span / step <= lines.max(1))
        .unwrap_or_else(|| last.saturating_mul((span / lines.max(1) / last).max(1).saturating_add(1)))
}

/// Returns the value below or at which so many percent of the sorted values lie (nearest rank); nothing of nothing.
pub(crate) fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Returns a number of milliseconds as one for coordinates. More than 24 days lose the fraction of a millisecond that
/// no picture shows.
pub(crate) fn real(ms: i64) -> f64 {
    let (high, low) = (ms / 1_000_000, ms % 1_000_000);
    f64::from(i32::try_from(high).unwrap_or(i32::MAX)) * 1_000_000.0
        + f64::from(i32::try_from(low).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_a_handful_of_round_lines() {
        let steps: Vec<i64> = [3, 80, 4_000, 61_000, 3_700_000, 40 * DAY].map(|span| step(span, 5)).into();
        assert_eq!(steps, [1, 20, SECOND, 15 * SECOND, 15 * MINUTE, 7 * DAY]);
        let huge = step(i64::MAX, 5);
        assert!(huge > 0 && i64::MAX / huge <= 5);
        assert_eq!(step(0, 5), 1);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<i64> = (1..=20).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 95)), (Some(10), Some(19)));
        assert_eq!(
            (percentile(&[7], 50), percentile(&[7], 95), percentile(&[], 50)),
            (Some(7), Some(7), None)
        );
    }

    #[test]
    fn long_spans_keep_their_size() {
        assert!((real(90 * DAY) - 7_776_000_000.0).abs() < 1.0);
        assert!((real(1_500) - 1_500.0).abs() < 0.1);
    }
}
