//! Bins from the reference's deciles, and the divergences of shares: PSI, Kullback–Leibler, Jensen–Shannon.

use super::{Sum, float};

/// Shares below this are raised to it, so that an empty bin does not decide alone.
const CLIP: f64 = 1e-4;
/// The published example's term inside the logarithm and on its last edge.
const SEED_EPSILON: f64 = 1e-6;
/// Deciles.
const BUCKETS: usize = 10;

/// Returns the percentiles 0, 10, … 100 by linear interpolation, rounding as numpy does.
///
/// Rounding matters: a decile that is one digit above a tied value puts all its ties into another bin.
pub(crate) fn deciles(sorted: &[f64]) -> Vec<f64> {
    (0..=BUCKETS)
        .map(|i| {
            let place = float(sorted.len().saturating_sub(1)) * (float(i * 10) / 100.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a place in the slice"
            )]
            let before = place.floor() as usize;
            let low = sorted.get(before).or(sorted.last()).copied().unwrap_or(0.0);
            let high = sorted.get(before + 1).copied().unwrap_or(low);
            let (weight, gap) = (place - place.floor(), high - low);
            if !gap.is_finite() {
                return low * (1.0 - weight) + high * weight;
            }
            if weight >= 0.5 { high - gap * (1.0 - weight) } else { low + gap * weight }
        })
        .collect()
}

/// Where bins begin and end: bin(x) = number of `before` ≤ x + number of `after` < x.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cuts {
    pub(crate) before: Vec<f64>,
    pub(crate) after: Vec<f64>,
}

impl Cuts {
    /// Unique inner deciles; the outer bins reach to infinity.
    pub(crate) fn clipped(deciles: &[f64]) -> Self {
        let mut before: Vec<f64> = deciles.get(1..BUCKETS).unwrap_or_default().to_vec();
        before.dedup();
        Self { before, after: Vec::new() }
    }

    /// The same, and a value that occurs twice or more among all deciles is a bin of its own.
    pub(crate) fn atoms(deciles: &[f64]) -> Self {
        let mut cuts = Self::clipped(deciles);
        for pair in deciles.windows(2) {
            if let [a, b] = pair
                && a == b
                && cuts.after.last() != Some(a)
            {
                cuts.after.push(*a);
            }
        }
        cuts
    }

    /// Returns the bins' bounds in ascending order; a value that has a cut on both sides appears twice.
    fn bounds(&self) -> Vec<Bound> {
        let mut bounds: Vec<Bound> =
            self.before.iter().map(|v| Bound { value: *v, is_after: false }).collect();
        bounds.extend(self.after.iter().map(|v| Bound { value: *v, is_after: true }));
        bounds.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.is_after.cmp(&b.is_after)));
        bounds
    }

    /// Counts a sorted sample per bin.
    pub(crate) fn counts(&self, sorted: &[f64]) -> Vec<u64> {
        let mut counts = Vec::with_capacity(self.before.len() + self.after.len() + 1);
        let mut done = 0;
        for bound in self.bounds() {
            let below =
                sorted.partition_point(|x| if bound.is_after { *x <= bound.value } else { *x < bound.value });
            counts.push((below - done) as u64);
            done = below;
        }
        counts.push((sorted.len() - done) as u64);
        counts
    }

    /// Names the bins for people.
    pub(crate) fn labels(&self) -> Vec<String> {
        let bounds = self.bounds();
        let mut labels = Vec::with_capacity(bounds.len() + 1);
        let mut left: Option<Bound> = None;
        for right in bounds.iter().copied().map(Some).chain([None]) {
            labels.push(match (left, right) {
                (None, None) => "all".to_owned(),
                (None, Some(r)) => format!("{} {}", if r.is_after { "≤" } else { "<" }, short(r.value)),
                (Some(l), None) => format!("{} {}", if l.is_after { ">" } else { "≥" }, short(l.value)),
                (Some(l), Some(r)) if l.value == r.value => format!("= {}", short(l.value)),
                (Some(l), Some(r)) => format!(
                    "{}{}, {}{}",
                    if l.is_after { "(" } else { "[" },
                    short(l.value),
                    short(r.value),
                    if r.is_after { "]" } else { ")" }
                ),
            });
            left = right;
        }
        labels
    }
}

/// A border between two bins, before or after its value.
#[derive(Clone, Copy)]
struct Bound {
    value: f64,
    is_after: bool,
}

/// Prints a number with four significant digits.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if (1e-4..1e7).contains(&magnitude) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
        let digits = (3.0 - magnitude.log10().floor()).clamp(0.0, 7.0) as usize;
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{value:.3e}")
    }
}

/// Turns counts into shares.
pub(crate) fn shares(counts: &[u64]) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
    let counts: Vec<f64> = counts.iter().map(|c| *c as f64).collect();
    let all: f64 = counts.iter().sum();
    counts.iter().map(|c| c / all).collect()
}

/// PSI with shares clipped at 1e-4; not renormalised.
pub(crate) fn psi_clipped(reference: &[f64], current: &[f64]) -> f64 {
    psi(reference, current, |share| share.max(CLIP), |share| share.max(CLIP))
}

/// PSI of the published example: the epsilon stands inside the logarithm only.
pub(crate) fn psi_seed(reference: &[f64], current: &[f64]) -> f64 {
    psi(reference, current, |share| share, |share| share + SEED_EPSILON)
}

fn psi(reference: &[f64], current: &[f64], outer: impl Fn(f64) -> f64, inner: impl Fn(f64) -> f64) -> f64 {
    reference
        .iter()
        .zip(current)
        .map(|(e, a)| (outer(*a) - outer(*e)) * (inner(*a) / inner(*e)).ln())
        .collect::<Sum>()
        .value()
}

/// Shares of the published example: ten bins from the deciles, the last closed and 1e-6 wider. Values out of
/// range are in no bin but in the denominator.
pub(crate) fn seed_shares(deciles: &[f64], sorted: &[f64]) -> Vec<f64> {
    let mut edges = deciles.to_vec();
    let mut places = Vec::with_capacity(edges.len());
    if let Some(last) = edges.last_mut() {
        *last += SEED_EPSILON;
    }
    for (i, edge) in edges.iter().enumerate() {
        let is_last = i + 1 == edges.len();
        places.push(sorted.partition_point(|x| if is_last { *x <= *edge } else { *x < *edge }));
    }
    let n = float(sorted.len());
    places.windows(2).map(|w| if let [a, b] = w { float(b.saturating_sub(*a)) / n } else { 0.0 }).collect()
}

/// KL(p‖q) in nats, both clipped at 1e-4 and renormalised.
pub(crate) fn kullback_leibler(p: &[f64], q: &[f64]) -> f64 {
    let total = |shares: &[f64]| shares.iter().map(|s| s.max(CLIP)).sum::<f64>();
    let (p_total, q_total) = (total(p), total(q));
    p.iter()
        .zip(q)
        .map(|(p, q)| (p.max(CLIP) / p_total, q.max(CLIP) / q_total))
        .map(|(p, q)| p * (p / q).ln())
        .collect::<Sum>()
        .value()
}

/// The Jensen–Shannon divergence in nats; empty bins count as they are.
pub(crate) fn jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
    let half = |x: f64, middle: f64| if x > 0.0 { x * (x / middle).ln() } else { 0.0 };
    let sum: Sum = p
        .iter()
        .zip(q)
        .map(|(p, q)| {
            let middle = f64::midpoint(*p, *q);
            half(*p, middle) + half(*q, middle)
        })
        .collect();
    // Rounding can leave a hair below zero.
    (sum.value() / 2.0).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atoms_psi(reference: &[f64], current: &[f64]) -> f64 {
        let cuts = Cuts::atoms(&deciles(reference));
        psi_clipped(&shares(&cuts.counts(reference)), &shares(&cuts.counts(current)))
    }

    fn zeros_and(share: f64) -> Vec<f64> {
        let zeros = (1_000.0 * share) as usize;
        (0..1_000).map(|i| if i < zeros { 0.0 } else { i as f64 }).collect()
    }

    #[test]
    fn repeated_deciles_are_bins_of_their_own() {
        let q = [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 7.0, 9.0];
        let cuts = Cuts::atoms(&q);
        assert_eq!(cuts.before, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(cuts.after, [1.0, 7.0]);
        assert_eq!(cuts.counts(&[0.0, 1.0, 1.0, 1.5, 2.0, 7.0, 7.5]), [1, 2, 1, 1, 0, 0, 0, 0, 1, 1]);
        assert_eq!(cuts.labels()[..3], ["< 1", "= 1", "(1, 2)"]);
        assert_eq!(cuts.labels().last().map(String::as_str), Some("> 7"));
    }

    #[test]
    fn the_measured_pitfalls_are_seen() {
        // drift.md b.3: constants that differ, and zero-inflated columns.
        assert!((atoms_psi(&[3.0; 50], &[4.0; 50]) - 18.4).abs() < 0.05);
        assert_eq!(atoms_psi(&[3.0; 50], &[3.0; 9]), 0.0);
        let (reference, current) = (zeros_and(0.95), zeros_and(0.90));
        assert!((atoms_psi(&reference, &current) - 0.037).abs() < 0.001);
        let q = deciles(&reference);
        assert!(psi_seed(&seed_shares(&q, &reference), &seed_shares(&q, &current)) < 1e-6);
    }

    #[test]
    fn continuous_data_have_the_same_bins_in_both_variants() {
        let sample: Vec<f64> = (0..97).map(|i| f64::from(i) * 1.37).collect();
        let q = deciles(&sample);
        assert_eq!(Cuts::atoms(&q), Cuts::clipped(&q));
    }

    #[test]
    fn numbers_are_printed_short() {
        for (value, text) in [
            (0.0, "0"),
            (1234.56, "1235"),
            (0.12345, "0.1235"),
            (1e9, "1.000e9"),
            (-2.5, "-2.5"),
            (100.0, "100"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
