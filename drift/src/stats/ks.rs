//! The two-sample Kolmogorov–Smirnov test, two-sided.

use super::{float, kolmogorov};

/// The larger side up to which `auto` computes the exact p-value, as scipy does.
const EXACT_UP_TO: usize = 10_000;
/// Above this many lattice cells the exact p-value costs more than 20 ms, so that it is computed only where
/// the verdict could depend on it.
const CHEAP_CELLS: f64 = 4e6;
/// An asymptotic p-value below this cannot become significant or insignificant by being exact.
const BEYOND_DOUBT: f64 = 1e-30;

/// How far two distribution functions are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Distance {
    /// D, from 0 to 1.
    pub(crate) statistic: f64,
    /// −1 where the second sample's function is above by more, else +1.
    pub(crate) sign: i8,
    /// D · n · m, exactly.
    lattice: u128,
    n: usize,
    m: usize,
}

/// Which p-value is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Auto,
    Exact,
    Asymptotic,
}

/// Walks both sorted samples once; the functions are right-continuous, so ties move both before they are compared.
pub(crate) fn distance(first: &[f64], second: &[f64]) -> Distance {
    let (n, m) = (first.len(), second.len());
    let (mut i, mut j) = (0, 0);
    // i·m − j·n is the difference of the functions in units of 1/(n·m): integers, so D has no rounding in it.
    let (mut above, mut below) = (0_u128, 0_u128);
    while let (Some(&a), Some(&b)) = (first.get(i), second.get(j)) {
        let at = a.min(b);
        i += first.get(i..).unwrap_or_default().iter().take_while(|x| **x <= at).count();
        j += second.get(j..).unwrap_or_default().iter().take_while(|x| **x <= at).count();
        let (up, down) = (i as u128 * m as u128, j as u128 * n as u128);
        above = above.max(up.saturating_sub(down));
        below = below.max(down.saturating_sub(up));
    }
    let lattice = above.max(below);
    #[expect(
        clippy::cast_precision_loss,
        reason = "the quotient is what is wanted, to the last digit but one"
    )]
    let statistic = lattice as f64 / (n as u128 * m as u128) as f64;
    Distance { statistic, sign: if below > above { -1 } else { 1 }, lattice, n, m }
}

impl Distance {
    /// Returns the p-value and whether it is exact; `None` where it is undefined.
    pub(crate) fn p_value(&self, method: Method) -> (Option<f64>, bool) {
        let want_exact = match method {
            Method::Auto => self.n.max(self.m) <= EXACT_UP_TO,
            Method::Exact => true,
            Method::Asymptotic => false,
        };
        let g = gcd(self.n, self.m);
        // scipy's limit: beyond it the lattice does not fit and the asymptotic value takes its place.
        if !want_exact || (self.n / g).saturating_mul(self.m / g) >= (1 << 31) - 1 {
            return (self.asymptotic(), false);
        }
        if self.n != self.m && self.cells() > CHEAP_CELLS {
            let asymptotic = self.asymptotic();
            if asymptotic.is_some_and(|p| p < BEYOND_DOUBT) {
                return (asymptotic, false);
            }
        }
        (Some(self.exact(g)), true)
    }

    /// The exact law of one sample at the effective size, which is what scipy calls asymptotic.
    fn asymptotic(&self) -> Option<f64> {
        let (n, m) = (float(self.n), float(self.m));
        let effective = (n * m / (n + m)).round_ties_even();
        (effective >= 1.0).then(|| kolmogorov::survival(effective, self.statistic))
    }

    /// The size of the window that the exact computation visits.
    fn cells(&self) -> f64 {
        let (small, large) = (float(self.n.min(self.m)), float(self.n.max(self.m)));
        large * (2.0 * self.statistic * small + 2.0).min(small)
    }

    /// The share of lattice paths that leave the band of width D.
    fn exact(&self, g: usize) -> f64 {
        let h = usize::try_from(self.lattice / g as u128).unwrap_or(usize::MAX);
        if h == 0 {
            return 1.0;
        }
        let p = if self.n == self.m {
            outside_square(self.n, h)
        } else {
            outside_rectangle(self.n.max(self.m), self.n.min(self.m), g, h)
        };
        p.clamp(0.0, 1.0)
    }
}

fn gcd(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// Equal sizes: the alternating sum over reflections, in the nested form
/// 2·A0·(1 − A1·(1 − A2·(…))) in which nothing cancels, Ak = C(2n, n−(k+1)h) / C(2n, n−kh).
fn outside_square(n: usize, h: usize) -> f64 {
    let mut nested = 0.0;
    for k in (0..=n / h).rev() {
        let mut ratio = 1.0;
        for j in 0..h {
            // Once n − kh − j reaches zero there is no such reflection.
            ratio *= float((n - k * h).saturating_sub(j)) / float(n + k * h + j + 1);
        }
        nested = ratio * (1.0 - nested);
    }
    2.0 * nested
}

/// Unequal sizes: Hodges' inside method on the complement, one lattice column at a time.
///
/// `share(i, j)` is the share of the paths to (i, j) that have left the band; it is 1 outside it, and
/// `(share(i−1, j)·i + share(i, j−1)·j) / (i + j)` inside. Only sums of positive terms, so tiny values are exact.
fn outside_rectangle(large: usize, small: usize, g: usize, h: usize) -> f64 {
    let (rise, unit, h) = ((small / g) as i64, (large / g) as i64, h as i64);
    let mut column = vec![1.0; small + 1];
    // Each value waits for the one before it, and a division would double that wait.
    let inverse: Vec<f64> = (0..=large + small).map(|k| 1.0 / float(k.max(1))).collect();
    let mut high_before = 0_usize;
    for i in 0..=large {
        let centre = rise * i as i64;
        // The band is |rise·i − unit·j| < h.
        let low = ((centre - h).div_euclid(unit) + 1).max(0) as usize;
        let high = ((centre + h + unit - 1).div_euclid(unit).max(0) as usize).min(small + 1);
        // What the window reaches for the first time was outside in the column before.
        for share in column.iter_mut().take(high).skip(high_before.max(low)) {
            *share = 1.0;
        }
        let mut share = if low == 0 { 0.0 } else { 1.0 };
        let left = float(i);
        let window = column.iter_mut().zip(&inverse[i..]).enumerate().take(high).skip(low);
        for (j, (cell, inverse)) in window {
            // At the origin, which has no path before it, both products are zero.
            share = *cell * (left * inverse) + share * (float(j) * inverse);
            *cell = share;
        }
        high_before = high;
    }
    column.last().copied().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts paths one by one: the definition, for tiny samples.
    fn naive_exact(n: usize, m: usize, lattice: u128) -> f64 {
        fn walk(i: usize, j: usize, n: usize, m: usize, lattice: u128, left: bool) -> (u64, u64) {
            let left = left || (i * m).abs_diff(j * n) as u128 >= lattice;
            if i == n && j == m {
                return (u64::from(left), 1);
            }
            let (mut out, mut all) = (0, 0);
            for (a, b, possible) in [(i + 1, j, i < n), (i, j + 1, j < m)] {
                if possible {
                    let (o, t) = walk(a, b, n, m, lattice, left);
                    out += o;
                    all += t;
                }
            }
            (out, all)
        }
        let (out, all) = walk(0, 0, n, m, lattice, false);
        out as f64 / all as f64
    }

    #[test]
    fn exact_p_values_count_the_paths() {
        for n in 1..=7_usize {
            for m in 1..=7_usize {
                for lattice in 1..=(n * m) as u128 {
                    // Only multiples of gcd occur as n·m·D.
                    let g = gcd(n, m);
                    if lattice % g as u128 != 0 {
                        continue;
                    }
                    let d = Distance { statistic: lattice as f64 / (n * m) as f64, sign: 1, lattice, n, m };
                    let (p, exact) = d.p_value(Method::Exact);
                    let naive = naive_exact(n, m, lattice);
                    assert!(exact && (p.unwrap() - naive).abs() < 1e-12, "{n} {m} {lattice}: {p:?} {naive}");
                }
            }
        }
    }

    #[test]
    fn ties_are_moved_together() {
        let d = distance(&[1.0, 1.0, 2.0], &[1.0, 1.0, 2.0]);
        assert_eq!((d.statistic, d.sign), (0.0, 1));
        assert_eq!(d.p_value(Method::Auto), (Some(1.0), true));
        let d = distance(&[1.0, 1.0, 1.0, 2.0], &[1.0, 2.0, 2.0, 2.0]);
        assert_eq!((d.statistic, d.sign), (0.5, 1));
        assert_eq!(distance(&[3.0], &[1.0]).sign, -1);
    }

    #[test]
    fn one_value_a_side_has_no_asymptotic_p_value() {
        let d = distance(&[1.0], &[2.0]);
        assert_eq!(d.p_value(Method::Asymptotic), (None, false));
        assert_eq!(d.p_value(Method::Exact), (Some(1.0), true));
    }

    #[test]
    fn large_hopeless_lattices_are_left_alone() {
        let first: Vec<f64> = (0..9_999).map(f64::from).collect();
        let second: Vec<f64> = (0..10_000).map(|i| f64::from(i) + 4_000.0).collect();
        let (p, exact) = distance(&first, &second).p_value(Method::Auto);
        assert!(!exact && p.unwrap() < 1e-100);
    }
}
