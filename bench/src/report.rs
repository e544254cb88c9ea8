//! Figures, their floors and the verdict.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Lower is better (a latency).
    Lower,
    /// Higher is better (a throughput).
    Higher,
}

/// One measured figure beside the floor of the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The product's figure.
    pub achieved: f64,
    /// What the machine itself does, measured in the same run.
    pub floor: f64,
    /// What the floor is made of, for people; empty when it is one thing.
    pub floor_parts: String,
    /// The budget, as a multiple of the floor, or absolute when there is no floor (`floor` = 1).
    pub budget: f64,
    /// The unit of `achieved` and `floor`.
    pub unit: String,
    /// Which direction is good.
    pub direction: Direction,
    /// Half of the spread between the quartiles over the median, of `achieved` and `floor` together.
    pub noise: f64,
}

impl Figure {
    /// Returns achieved / floor.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.achieved / self.floor
    }

    /// Whether the budget is kept, and by which margin: `yes`, `within the noise` or `no`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (Self { noise: 0.0, ..self.clone() }.is_kept(), self.is_kept()) {
            (true, _) => "yes",
            (false, true) => "within the noise",
            (false, false) => "**no**",
        }
    }

    /// Whether the budget is kept, within the noise that was measured.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        match self.direction {
            Direction::Lower => self.ratio() <= self.budget * (1.0 + self.noise),
            Direction::Higher => self.ratio() >= self.budget * (1.0 - self.noise),
        }
    }
}

/// Returns the value below which `share` of the sorted samples lie; 0 without samples.
#[must_use]
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return 0.0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a list of samples"
    )]
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index.min(sorted.len() - 1)]
}

/// Returns the median.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// Returns half of the spread between the quartiles, over the median.
#[must_use]
pub fn noise(samples: &[f64]) -> f64 {
    let middle = median(samples);
    if middle == 0.0 { 0.0 } else { (quantile(samples, 0.75) - quantile(samples, 0.25)) / (2.0 * middle) }
}

/// Returns the figures as a Markdown table.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let mut text =
        String::from("| what | achieved | floor | ratio | budget | kept |\n|---|---|---|---|---|---|\n");
    for figure in figures {
        let sign = match figure.direction {
            Direction::Lower => "≤",
            Direction::Higher => "≥",
        };
        let _ = writeln!(
            text,
            "| {} | {:.2} {} | {:.2} {}{} | {:.2} | {sign} {:.2} | {} |",
            figure.name,
            figure.achieved,
            figure.unit,
            figure.floor,
            figure.unit,
            if figure.floor_parts.is_empty() { String::new() } else { format!(" ({})", figure.floor_parts) },
            figure.ratio(),
            figure.budget,
            figure.verdict()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(achieved: f64, direction: Direction) -> Figure {
        Figure {
            name: "x".to_owned(),
            achieved,
            floor: 10.0,
            floor_parts: String::new(),
            budget: 2.0,
            unit: "ms".to_owned(),
            direction,
            noise: 0.1,
        }
    }

    #[test]
    fn a_budget_is_kept_within_the_noise_and_not_beyond() {
        assert!(figure(20.0, Direction::Lower).is_kept());
        assert!(figure(21.9, Direction::Lower).is_kept());
        assert_eq!(figure(20.0, Direction::Lower).verdict(), "yes");
        assert_eq!(figure(21.9, Direction::Lower).verdict(), "within the noise");
        assert_eq!(figure(22.1, Direction::Lower).verdict(), "**no**");
        assert!(!figure(22.1, Direction::Lower).is_kept());
        assert!(figure(18.1, Direction::Higher).is_kept());
        assert!(!figure(17.9, Direction::Higher).is_kept());
    }

    #[test]
    fn quantiles_are_of_the_sorted_samples() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert!((median(&samples) - 3.0).abs() < 1e-12);
        assert!((quantile(&samples, 1.0) - 5.0).abs() < 1e-12);
        assert!((noise(&samples) - 1.0 / 3.0).abs() < 1e-12);
    }
}
