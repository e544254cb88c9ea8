//! The chi-square test of homogeneity for a 2×K table, without Yates' correction.

use std::{collections::BTreeMap, f64::consts::PI};

use super::Sum;

/// Pairs the counts of both sides over the union of their categories, in the order of the categories.
pub(crate) fn union(
    first: &BTreeMap<String, u64>,
    second: &BTreeMap<String, u64>,
) -> Vec<(String, u64, u64)> {
    let mut pairs: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (category, count) in first {
        pairs.entry(category).or_default().0 += count;
    }
    for (category, count) in second {
        pairs.entry(category).or_default().1 += count;
    }
    pairs.into_iter().map(|(category, (a, b))| (category.to_owned(), a, b)).collect()
}

/// Returns the p-value; 1 where there is one category only. Every category occurs on one side at least.
pub(crate) fn p_value(first: &[f64], second: &[f64]) -> f64 {
    if first.len() < 2 {
        return 1.0;
    }
    let rows = [first.iter().sum::<f64>(), second.iter().sum::<f64>()];
    let all = rows[0] + rows[1];
    let mut statistic = Sum::default();
    for (a, b) in first.iter().zip(second) {
        for (observed, row) in [(a, rows[0]), (b, rows[1])] {
            let expected = row * (a + b) / all;
            statistic.add((observed - expected) * (observed - expected) / expected);
        }
    }
    upper_gamma(super::float(first.len() - 1) / 2.0, statistic.value() / 2.0)
}

/// The regularised upper incomplete gamma function Q(a, x).
fn upper_gamma(a: f64, x: f64) -> f64 {
    /// Both forms need about √a more terms than this; a table of a million categories stays below.
    const MOST_TERMS: u32 = 100_000;
    if x <= 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        // The series of the lower function.
        let (mut sum, mut term, mut k) = (1.0 / a, 1.0 / a, a);
        for _ in 0..MOST_TERMS {
            k += 1.0;
            term *= x / k;
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        return (1.0 - front * sum).clamp(0.0, 1.0);
    }
    // The continued fraction of the upper one, by Lentz's method.
    let tiny = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / tiny, 1.0 / b);
    let mut fraction = d;
    for i in 1..MOST_TERMS {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = an * d + b;
        d = 1.0 / if d.abs() < tiny { tiny } else { d };
        c = b + an / c;
        c = if c.abs() < tiny { tiny } else { c };
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    (front * fraction).clamp(0.0, 1.0)
}

/// The logarithm of the gamma function for positive arguments: Stirling's series above 15, the recurrence below.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0_f64);
    while x < 15.0 {
        product *= x;
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    let series = (1.0 / 12.0
        - r * (1.0 / 360.0
            - r * (1.0 / 1260.0 - r * (1.0 / 1680.0 - r * (1.0 / 1188.0 - r * 691.0 / 360_360.0)))))
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series - product.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_gamma_knows_factorials_and_halves() {
        for (x, expected) in
            [(1.0, 0.0), (2.0, 0.0), (5.0, 24_f64.ln()), (0.5, PI.sqrt().ln()), (11.0, 3_628_800_f64.ln())]
        {
            assert!((ln_gamma(x) - expected).abs() < 1e-13, "{x}");
        }
    }

    #[test]
    fn upper_gamma_of_one_is_the_exponential() {
        for x in [0.01, 0.5, 1.0, 1.9, 2.1, 10.0, 50.0, 500.0] {
            let (p, expected) = (upper_gamma(1.0, x), (-x).exp());
            assert!(((p - expected) / expected).abs() < 1e-12, "{x}: {p} {expected}");
        }
    }

    #[test]
    fn one_category_is_no_difference() {
        assert_eq!(p_value(&[4.0], &[9.0]), 1.0);
        assert_eq!(p_value(&[4.0, 8.0], &[2.0, 4.0]), 1.0);
    }
}
