//! The numbers, written from their definitions (`docs/drift.md`); each is checked against scipy or numpy in
//! `tests/scipy.rs`.
//!
//! Samples are sorted, finite and not empty wherever a function says `sorted`.

pub(crate) mod bins;
pub(crate) mod chi2;
pub(crate) mod correction;
pub(crate) mod kolmogorov;
pub(crate) mod ks;
pub(crate) mod wasserstein;

/// Converts a count; counts of rows are far below 2^53.
pub(crate) fn float(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
    {
        count as f64
    }
}

/// A sum with Neumaier's compensation: millions of small terms keep their last digits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, term: f64) {
        let next = self.sum + term;
        self.lost +=
            if self.sum.abs() >= term.abs() { (self.sum - next) + term } else { (term - next) + self.sum };
        self.sum = next;
    }

    pub(crate) fn value(self) -> f64 {
        self.sum + self.lost
    }
}

impl FromIterator<f64> for Sum {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let mut sum = Self::default();
        for term in terms {
            sum.add(term);
        }
        sum
    }
}
