//! Testing many features at once.

/// Returns Benjamini and Hochberg's adjusted p-values in the given order.
pub(crate) fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let m = super::float(p_values.len());
    let mut adjusted = vec![1.0; p_values.len()];
    let mut smallest = 1.0_f64;
    for (rank, (index, p)) in ranked(p_values).into_iter().enumerate().rev() {
        smallest = smallest.min(p * m / super::float(rank + 1));
        if let Some(slot) = adjusted.get_mut(index) {
            *slot = smallest;
        }
    }
    adjusted
}

/// Returns the largest p-value that Benjamini and Hochberg's rule rejects at level `q`.
///
/// The definition, `p(i) ≤ q·i/m`, rather than a comparison of the adjusted value: that one rounds twice.
pub(crate) fn benjamini_hochberg_cut(p_values: &[f64], q: f64) -> Option<f64> {
    let m = super::float(p_values.len());
    ranked(p_values)
        .into_iter()
        .enumerate()
        .filter(|(rank, (_, p))| *p <= q * super::float(rank + 1) / m)
        .map(|(_, (_, p))| p)
        .next_back()
}

/// Returns Bonferroni's adjusted p-values.
pub(crate) fn bonferroni(p_values: &[f64]) -> Vec<f64> {
    let m = super::float(p_values.len());
    p_values.iter().map(|p| (p * m).min(1.0)).collect()
}

/// Ascending p-values with their places.
fn ranked(p_values: &[f64]) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    ranked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_textbook_example_is_reproduced() {
        // Benjamini and Hochberg 1995, section 3.2: four of fifteen are rejected at 0.05.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
            0.6528, 0.7590, 1.0,
        ];
        assert_eq!(benjamini_hochberg_cut(&p, 0.05), Some(0.0095));
        assert_eq!(bonferroni(&p).iter().filter(|p| **p <= 0.05).count(), 3);
    }

    #[test]
    fn a_p_value_on_the_line_is_rejected() {
        assert_eq!(benjamini_hochberg_cut(&[0.01, 1.0], 0.02), Some(0.01));
        assert_eq!(benjamini_hochberg_cut(&[], 0.02), None);
    }

    proptest! {
        #[test]
        fn the_rule_agrees_with_a_naive_version(p in prop::collection::vec(0.0_f64..=1.0, 0..40), q in 0.001_f64..0.5) {
            // Naive: for every rank, count how many p-values are at most its line.
            let m = p.len();
            let mut rejected = 0;
            for rank in 1..=m {
                let line = q * rank as f64 / m as f64;
                if p.iter().filter(|x| **x <= line).count() >= rank {
                    rejected = rejected.max(rank);
                }
            }
            let cut = benjamini_hochberg_cut(&p, q);
            prop_assert_eq!(p.iter().filter(|x| cut.is_some_and(|c| **x <= c)).count(), rejected);
            let adjusted = benjamini_hochberg(&p);
            for (p, adjusted) in p.iter().zip(&adjusted) {
                prop_assert!(*adjusted >= *p - 1e-15 && *adjusted <= 1.0);
                // Away from the line both forms agree.
                if (adjusted - q).abs() > 1e-12 {
                    prop_assert_eq!(*adjusted < q, cut.is_some_and(|c| *p <= c));
                }
            }
        }
    }
}
