//! The configuration of the `drift` operator: what is compared and how it is judged.
//!
//! Definitions of the numbers are in the `drift` crate; this module only says which of them are wanted.

use serde::{Deserialize, Serialize};

use crate::state::word_enum;

/// What is compared and how it is judged.
///
/// Keys that are absent when it is read take the values of [`Default`], so a file, a command line and a test
/// name only what differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DriftSpec {
    /// The reference: a CSV, Parquet or JSON-lines file, or a folder of them. A template in a DAG file.
    pub reference: String,
    /// The current data; the same formats. A template in a DAG file.
    pub current: String,
    /// The columns that are looked at; empty: every column of the reference.
    pub features: Vec<String>,
    /// Columns that are left out.
    pub exclude: Vec<String>,
    /// A feature with this many values or fewer on either side is untested. Default 100.
    pub min_samples: u64,
    /// A rise of a feature's share of missing values above this gives a warning. Default 0.2.
    pub missing_share: f64,
    /// How numeric features are measured.
    pub numeric: NumericSpec,
    /// How categorical features are measured.
    pub categorical: CategoricalSpec,
    /// When a feature and the whole data set count as drifted.
    pub rule: RuleSpec,
}

/// How numeric features are measured. A threshold of a metric that is not listed does nothing and is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NumericSpec {
    /// Columns that are numeric whatever they look like.
    pub columns: Vec<String>,
    /// The metrics that are computed.
    pub metrics: Vec<NumericMetric>,
    /// Test: significant when the (corrected) p-value of KS is below it. Default 0.01.
    pub p_value: f64,
    /// Size: large when D is at least this.
    pub ks_statistic: Option<f64>,
    /// Size: large when PSI is above this. Default 0.2 when `psi` is measured.
    pub psi: Option<f64>,
    /// Size: large when the Jensen–Shannon distance is above this.
    pub js: Option<f64>,
    /// Size: large when KL(reference‖current) is above this.
    pub kl: Option<f64>,
    /// Size: large when the normed Wasserstein distance is above this.
    pub wasserstein: Option<f64>,
    /// Which PSI. Of categorical features `seed` adds 1e-6 inside the logarithm, the others clip at 1e-4.
    pub psi_variant: PsiVariant,
    /// Which p-value.
    pub ks_method: KsMethod,
}

/// How categorical features are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CategoricalSpec {
    /// Columns that are categorical whatever they look like.
    pub columns: Vec<String>,
    /// The metrics that are computed.
    pub metrics: Vec<CategoricalMetric>,
    /// Test: significant when the (corrected) p-value of chi-square is below it. Default 0.01.
    pub p_value: f64,
    /// Size: large when PSI is above this. Default 0.2 when `psi` is measured.
    pub psi: Option<f64>,
    /// Size: large when the Jensen–Shannon distance is above this.
    pub js: Option<f64>,
    /// Size: large when KL(reference‖current) is above this.
    pub kl: Option<f64>,
}

/// When a feature and the whole data set count as drifted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleSpec {
    /// What makes a feature drifted.
    pub feature: FeatureRule,
    /// Correction for testing many features at once.
    pub correction: Correction,
    /// The data set drifted when drifted / tested features is at least this (and at least one drifted).
    pub dataset_share: f64,
    /// The data set also drifted when any of these features did.
    pub columns: Vec<String>,
}

impl Default for DriftSpec {
    /// Every column, more than 100 values a side, KS and PSI, chi-square and PSI. Both paths are empty.
    fn default() -> Self {
        Self {
            reference: String::new(),
            current: String::new(),
            features: Vec::new(),
            exclude: Vec::new(),
            min_samples: 100,
            missing_share: 0.2,
            numeric: NumericSpec::default(),
            categorical: CategoricalSpec::default(),
            rule: RuleSpec::default(),
        }
    }
}

impl Default for NumericSpec {
    /// KS below 0.01 as the test, PSI (atoms) above 0.2 as the size.
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            metrics: vec![NumericMetric::Ks, NumericMetric::Psi],
            p_value: 0.01,
            ks_statistic: None,
            psi: Some(0.2),
            js: None,
            kl: None,
            wasserstein: None,
            psi_variant: PsiVariant::Atoms,
            ks_method: KsMethod::Auto,
        }
    }
}

impl Default for CategoricalSpec {
    /// Chi-square below 0.01 as the test, PSI above 0.2 as the size.
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            metrics: vec![CategoricalMetric::Chi2, CategoricalMetric::Psi],
            p_value: 0.01,
            psi: Some(0.2),
            js: None,
            kl: None,
        }
    }
}

impl Default for RuleSpec {
    /// Significant and large, Benjamini-Hochberg, a fifth of the features.
    fn default() -> Self {
        Self {
            feature: FeatureRule::All,
            correction: Correction::BenjaminiHochberg,
            dataset_share: 0.2,
            columns: Vec::new(),
        }
    }
}

word_enum! {
    /// A metric of a numeric feature.
    NumericMetric {
        /// Two-sample Kolmogorov–Smirnov.
        Ks = "ks",
        /// Population stability index.
        Psi = "psi",
        /// Kullback–Leibler divergence, both directions.
        Kl = "kl",
        /// Jensen–Shannon distance and divergence.
        Js = "js",
        /// Wasserstein (earth mover's) distance.
        Wasserstein = "wasserstein",
    }
}

word_enum! {
    /// A metric of a categorical feature.
    CategoricalMetric {
        /// Chi-square test of homogeneity.
        Chi2 = "chi2",
        /// Population stability index.
        Psi = "psi",
        /// Kullback–Leibler divergence, both directions.
        Kl = "kl",
        /// Jensen–Shannon distance and divergence.
        Js = "js",
    }
}

word_enum! {
    /// Which PSI (`drift.md` h.2).
    PsiVariant {
        /// A repeated quantile is a bin of its own (recommended).
        Atoms = "atoms",
        /// Unique inner deciles, open outer bins, shares clipped at 1e-4.
        Clipped = "clipped",
        /// The published example's, with its pitfalls.
        Seed = "seed",
    }
}

word_enum! {
    /// Which KS p-value.
    KsMethod {
        /// Exact up to 10 000 rows on the larger side, else asymptotic, as scipy chooses.
        Auto = "auto",
        /// Exact.
        Exact = "exact",
        /// Asymptotic.
        Asymp = "asymp",
    }
}

word_enum! {
    /// What makes a feature drifted.
    FeatureRule {
        /// Significant (a test) *and* large (a size metric).
        All = "all",
        /// One of them is enough.
        Any = "any",
    }
}

word_enum! {
    /// Correction for testing many features at once.
    Correction {
        /// Benjamini–Hochberg (false discovery rate).
        BenjaminiHochberg = "benjamini_hochberg",
        /// Bonferroni (family-wise error rate).
        Bonferroni = "bonferroni",
        /// None.
        None = "none",
    }
}
