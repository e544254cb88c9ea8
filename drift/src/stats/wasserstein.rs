//! The Wasserstein (earth mover's) distance of order 1.

use super::{Sum, float};

/// The population standard deviation below which a reference counts as constant for the normed distance.
const MIN_DEVIATION: f64 = 0.001;

/// The area between both distribution functions; `None` where it overflows.
pub(crate) fn distance(first: &[f64], second: &[f64]) -> Option<f64> {
    let (n, m) = (float(first.len()), float(second.len()));
    let (mut i, mut j) = (0, 0);
    let mut area = Sum::default();
    let mut before: Option<f64> = None;
    loop {
        let at = match (first.get(i), second.get(j)) {
            (Some(a), Some(b)) => a.min(*b),
            (Some(a), None) => *a,
            (None, Some(b)) => *b,
            (None, None) => break,
        };
        if let Some(before) = before {
            area.add((float(i) / n - float(j) / m).abs() * (at - before));
        }
        while first.get(i).is_some_and(|x| *x <= at) {
            i += 1;
        }
        while second.get(j).is_some_and(|x| *x <= at) {
            j += 1;
        }
        before = Some(at);
    }
    Some(area.value()).filter(|area| area.is_finite())
}

/// Divides a distance by the reference's population standard deviation, or by 0.001 where that is larger.
pub(crate) fn normed(distance: f64, reference: &[f64]) -> Option<f64> {
    let n = float(reference.len());
    let mean = reference.iter().copied().collect::<Sum>().value() / n;
    let squares = reference.iter().map(|x| (x - mean) * (x - mean)).collect::<Sum>().value();
    let deviation = (squares / n).sqrt();
    deviation.is_finite().then(|| distance / deviation.max(MIN_DEVIATION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_moves_by_the_shift() {
        assert_eq!(distance(&[0.0, 1.0, 3.0], &[5.0, 6.0, 8.0]), Some(5.0));
        assert_eq!(distance(&[0.0, 1.0], &[0.0, 1.0]), Some(0.0));
        assert_eq!(distance(&[0.0], &[0.0, 2.0]), Some(1.0));
    }

    #[test]
    fn a_constant_reference_is_normed_by_the_floor() {
        assert_eq!(normed(0.5, &[3.0, 3.0]), Some(500.0));
        assert_eq!(normed(0.5, &[-1.0, 1.0]), Some(0.5));
    }

    #[test]
    fn overflow_is_no_number() {
        assert_eq!(distance(&[-1e308, -1e308], &[1e308, 1e308]), None);
        assert_eq!(normed(1.0, &[-1e308, 1e308]), None);
    }
}
