//! The drift report: what `tidemill drift compare` prints, what a task instance stores and pages show.

use serde::{Deserialize, Serialize};
pub use tidemill_engine::definition::drift::{
    CategoricalMetric, CategoricalSpec, Correction, DriftSpec, FeatureRule, KsMethod, NumericMetric,
    NumericSpec, PsiVariant, RuleSpec,
};

/// The result of one comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// One per feature, in the reference's column order.
    pub features: Vec<FeatureReport>,
    /// Drifted / tested features; null when none was tested.
    pub share: Option<f64>,
    /// Whether the data set drifted.
    pub drifted: bool,
    /// What happens next and why; only when an operator asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// What the operator did with the verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// `drift`, `stable` or `insufficient_data`.
    pub verdict: String,
    /// The tasks that are followed.
    pub branch: Vec<String>,
    /// Why, in a sentence.
    pub because: String,
    /// What deserves attention (missing shares, untested features).
    pub warnings: Vec<String>,
    /// How it was measured.
    pub spec: DriftSpec,
    /// Where the data came from.
    pub reference: Source,
    /// Where the data came from.
    pub current: Source,
    /// Wall time, in milliseconds.
    pub elapsed_ms: u64,
}

/// One side's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The path, rendered.
    pub path: String,
    /// SHA-256 over the parts in order.
    pub sha256: String,
    /// How many files.
    pub files: u64,
    /// How many rows.
    pub rows: u64,
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureReport {
    /// The column.
    pub name: String,
    /// `numeric` or `categorical`.
    pub kind: String,
    /// `ok`, `insufficient`, `no_data` or `no_reference`.
    pub status: String,
    /// Rows of the reference.
    pub rows_reference: u64,
    /// Rows of the current data.
    pub rows_current: u64,
    /// Missing values.
    pub missing_reference: u64,
    /// Missing values.
    pub missing_current: u64,
    /// Infinite values, dropped and counted.
    pub infinite_reference: u64,
    /// Infinite values, dropped and counted.
    pub infinite_current: u64,
    /// Values that the numbers are computed on.
    pub n_reference: u64,
    /// Values that the numbers are computed on.
    pub n_current: u64,
    /// The numbers that were asked for.
    pub metrics: Metrics,
    /// Whether it drifted under the rule.
    pub drifted: bool,
    /// The tests that the rule found significant, by the name of their metric. Absent where nothing was tested, and
    /// in reports of versions that did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub significant: Option<Vec<String>>,
    /// The sizes that the rule found large, by the name of their metric. Absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large: Option<Vec<String>>,
    /// Why, or why not tested, one sentence each.
    pub reasons: Vec<String>,
    /// Shares of both sides per bin, for the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Histogram>,
}

/// The numbers of a feature; absent ones were not asked for or could not be computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Kolmogorov–Smirnov.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ks: Option<Ks>,
    /// Population stability index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi: Option<Scalar>,
    /// Kullback–Leibler, nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<Kl>,
    /// Jensen–Shannon, natural logarithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub js: Option<Js>,
    /// Wasserstein.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasserstein: Option<Wasserstein>,
    /// Chi-square of homogeneity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chi2: Option<Chi2>,
}

/// Kolmogorov–Smirnov.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ks {
    /// D.
    pub statistic: f64,
    /// −1 where the current data's distribution function is above by more, else +1 (also when D is 0, as scipy has it).
    pub sign: i8,
    /// Null where it is undefined.
    pub p_value: Option<f64>,
    /// After the correction for many features; only when the rule corrects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value_corrected: Option<f64>,
    /// `exact` or `asymp`.
    pub method: String,
}

/// A single number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scalar {
    /// It.
    pub value: f64,
}

/// Kullback–Leibler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kl {
    /// KL(reference‖current).
    pub reference_current: f64,
    /// KL(current‖reference).
    pub current_reference: f64,
}

/// Jensen–Shannon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Js {
    /// The square root of the divergence.
    pub distance: f64,
    /// The divergence, nats.
    pub divergence: f64,
}

/// Wasserstein.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wasserstein {
    /// As scipy.
    pub value: f64,
    /// Divided by max(population standard deviation of the reference, 0.001).
    pub normed: f64,
}

/// Chi-square.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chi2 {
    /// Contingency test without Yates' correction; 1 where there is one category only, as scipy has it.
    pub p_value: Option<f64>,
    /// After the correction for many features; only when the rule corrects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value_corrected: Option<f64>,
}

/// Shares of both sides per bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Labels of the bins (intervals, values or categories).
    pub labels: Vec<String>,
    /// Shares of the reference, summing to 1.
    pub reference: Vec<f64>,
    /// Shares of the current data, summing to 1.
    pub current: Vec<f64>,
}
