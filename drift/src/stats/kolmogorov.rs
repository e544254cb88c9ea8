//! The law of the one-sample Kolmogorov statistic at a finite n, chosen by region as Simard and L'Ecuyer do
//! (*Computing the two-sided Kolmogorov–Smirnov distribution*, 2011):
//!
//! - n·d ≤ 1/2: certain; d ≥ 1/2 or far in the tail: twice Smirnov's one-sided law;
//! - small n, or small d: Marsaglia, Tsang and Wang's matrix power (exact);
//! - else: Pelz and Good's expansion to n^(−3/2).

use std::f64::consts::PI;

use super::Sum;

/// Up to here everything but the tail is computed exactly.
const SMALL_N: f64 = 140.0;
/// Above this n the matrix would be large while the probability below `1.4 n^(−3/2)` is under 1e-8.
const MATRIX_N: f64 = 20_000.0;

/// P(D ≥ d) for a sample of `n` (a whole number, at least 1).
pub(crate) fn survival(n: f64, d: f64) -> f64 {
    let t = n * d;
    if t <= 0.5 {
        return 1.0;
    }
    if d >= 1.0 {
        return 0.0;
    }
    let z2 = t * d;
    let tail_from = if n <= SMALL_N { 4.0 } else { 2.2 };
    let p = if d >= 0.5 || z2 >= tail_from {
        2.0 * smirnov(n, d)
    } else if n <= SMALL_N || (n <= MATRIX_N && n * d.powf(1.5) <= 1.4) {
        1.0 - matrix_power(n, d)
    } else {
        1.0 - pelz_good(n, d)
    };
    p.clamp(0.0, 1.0)
}

/// Smirnov's one-sided law, P(D+ ≥ d): a sum of positive terms, taken in logarithms.
fn smirnov(n: f64, d: f64) -> f64 {
    // Below any threshold and any digit that is compared; the leading term says how small it is.
    if n > 2_000.0 && n * d * d > 40.0 {
        let z2 = n * d * d;
        return (-2.0 * z2 - 4.0 * z2 * z2 / (9.0 * n)).exp();
    }
    let last = (n * (1.0 - d)).floor();
    let mut sum = Sum::default();
    let mut ln_choose = 0.0;
    let mut v = 0.0;
    while v <= last {
        // At the right end rounding can leave a hair below zero.
        let rest = (1.0 - d - v / n).max(0.0);
        let ln_rest = if n - v == 0.0 { 0.0 } else { (n - v) * rest.ln() };
        let term = ln_choose + (v - 1.0) * (d + v / n).ln() + ln_rest;
        // ln(0) is −∞ at the right end, and its exponential the right term.
        sum.add(term.exp());
        ln_choose += ((n - v) / (v + 1.0)).ln();
        v += 1.0;
    }
    d * sum.value()
}

/// P(D < d) by the n-th power of a (2k−1)² matrix, with its exponent kept apart against overflow.
fn matrix_power(n: f64, d: f64) -> f64 {
    let t = n * d;
    let k = t.floor() + 1.0;
    let h = k - t;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "k is a small whole number")]
    let k = k as usize;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "n is a whole number below 20 000"
    )]
    let mut exponent = n as u64;
    let size = 2 * k - 1;
    let mut base = Scaled::start(size, h);
    let mut power = Scaled::identity(size);
    while exponent > 0 {
        if exponent % 2 == 1 {
            power = power.times(&base);
        }
        exponent /= 2;
        if exponent > 0 {
            base = base.times(&base);
        }
    }
    // n!/n^n, in small factors so that it never underflows.
    let mut value = power.cells.get((k - 1) * size + k - 1).copied().unwrap_or(0.0);
    let mut tens = power.tens;
    let mut i = 1.0;
    while i <= n {
        value *= i / n;
        if value < 1e-140 {
            value *= 1e140;
            tens -= 140;
        }
        i += 1.0;
    }
    value * 10_f64.powi(tens)
}

/// A square matrix times a power of ten.
struct Scaled {
    cells: Vec<f64>,
    size: usize,
    tens: i32,
}

impl Scaled {
    fn identity(size: usize) -> Self {
        let mut cells = vec![0.0; size * size];
        for cell in cells.iter_mut().step_by(size + 1) {
            *cell = 1.0;
        }
        Self { cells, size, tens: 0 }
    }

    /// Durbin's transition matrix.
    fn start(size: usize, h: f64) -> Self {
        let mut cells = vec![0.0; size * size];
        let mut factorials = vec![1.0; size + 2];
        for i in 1..factorials.len() {
            factorials[i] = factorials[i - 1] * super::float(i);
        }
        let powers: Vec<f64> = (0..=size).scan(1.0, |p, _| Some(std::mem::replace(p, *p * h))).collect();
        for row in 0..size {
            for column in 0..size.min(row + 2) {
                let distance = row + 1 - column;
                let mut value = 1.0;
                if column == 0 {
                    value -= powers[row + 1];
                }
                if row == size - 1 {
                    value -= powers[size - column];
                }
                if column == 0 && row == size - 1 && 2.0 * h > 1.0 {
                    value += (2.0 * h - 1.0).powi(i32::try_from(size).unwrap_or(i32::MAX));
                }
                cells[row * size + column] = value / factorials[distance];
            }
        }
        Self { cells, size, tens: 0 }
    }

    fn times(&self, other: &Self) -> Self {
        let size = self.size;
        let mut cells = vec![0.0; size * size];
        for (row, out) in self.cells.chunks_exact(size).zip(cells.chunks_exact_mut(size)) {
            for (factor, line) in row.iter().zip(other.cells.chunks_exact(size)) {
                for (cell, value) in out.iter_mut().zip(line) {
                    *cell += factor * value;
                }
            }
        }
        let mut tens = self.tens + other.tens;
        if cells.get(size * size / 2).is_some_and(|middle| *middle > 1e140) {
            for cell in &mut cells {
                *cell *= 1e-140;
            }
            tens += 140;
        }
        Self { cells, size, tens }
    }
}

/// Pelz and Good's expansion of P(D < d): K0 + K1/√n + K2/n + K3/n^(3/2), in the form for small z = d√n.
fn pelz_good(n: f64, d: f64) -> f64 {
    let z = d * n.sqrt();
    let (z2, pi2) = (z * z, PI * PI);
    let (z4, z6) = (z2 * z2, z2 * z2 * z2);
    let mut sums = [0.0_f64; 4];
    // Sums over odd m of a polynomial in m² times q^(m²).
    let mut m = 1.0;
    loop {
        let m2 = m * m;
        let q = (-pi2 * m2 / (8.0 * z2)).exp();
        let a = pi2 * m2 / 4.0;
        let terms = [
            1.0,
            a - z2,
            6.0 * z6 + 2.0 * z4 + (2.0 * z4 - 5.0 * z2) * a + (1.0 - 2.0 * z2) * a * a,
            -30.0 * z6 - 90.0 * z4 * z4
                + (135.0 * z4 - 96.0 * z6) * a
                + (212.0 * z4 - 60.0 * z2) * a * a
                + (5.0 - 30.0 * z2) * a * a * a,
        ];
        for (sum, term) in sums.iter_mut().zip(terms) {
            *sum += term * q;
        }
        if q < 1e-22 || m > 201.0 {
            break;
        }
        m += 2.0;
    }
    let root = (2.0 * PI).sqrt();
    let divisors = [z, 6.0 * z4, 72.0 * z4 * z2 * z, 6480.0 * z6 * z4];
    let mut k: [f64; 4] = [0.0; 4];
    for ((k, sum), divisor) in k.iter_mut().zip(sums).zip(divisors) {
        *k = root * sum / divisor;
    }
    // The second sums of K2 and K3, over all whole numbers.
    let (mut second, mut third) = (0.0, 0.0);
    let mut i = 1.0;
    loop {
        let b = pi2 * i * i;
        let q = (-b / (2.0 * z2)).exp();
        second += b * q;
        third += (3.0 * z2 - b) * b * q;
        if q < 1e-22 || i > 101.0 {
            break;
        }
        i += 1.0;
    }
    k[2] -= root * second / (36.0 * z2 * z);
    k[3] += root * third / (216.0 * z6);
    let r = n.sqrt();
    k[0] + k[1] / r + k[2] / n + k[3] / (n * r)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of scipy 1.17's `kstwo.sf`.
    #[test]
    fn survival_meets_every_region() {
        for (n, d, expected) in include!("kolmogorov_table.in") {
            let p: f64 = survival(n, d);
            let expected: f64 = expected;
            if expected > 1e-12 {
                assert!(((p - expected) / expected).abs() < 1e-6, "{n} {d}: {p:e} {expected:e}");
            } else {
                assert!(p < 1e-11, "{n} {d}: {p:e} {expected:e}");
            }
        }
    }

    #[test]
    fn survival_falls_as_the_distance_grows() {
        for n in [1.0, 2.0, 10.0, 100.0, 141.0, 1_000.0, 30_000.0] {
            let mut before = 1.0;
            for point in 0..=400 {
                let p = survival(n, f64::from(point) / 400.0);
                assert!((0.0..=1.0).contains(&p) && p <= before + 1e-6, "{n} {point}: {p} {before}");
                before = p;
            }
        }
    }
}
