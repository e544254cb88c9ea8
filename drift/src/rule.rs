//! The verdict: which features drifted, and whether the data set did.
//!
//! A p-value or a size that could not be computed never meets a threshold; nothing here compares a NaN.

use tidemill_protocol::drift::{
    CategoricalMetric, Correction, DriftReport, DriftSpec, FeatureReport, FeatureRule, NumericMetric,
};

use crate::stats::correction;

/// What the tests and sizes of one feature say.
#[derive(Debug, Default)]
struct Findings {
    /// A test is part of the rule for this kind of feature.
    has_test: bool,
    /// A size is part of the rule for this kind of feature.
    has_size: bool,
    /// Metric and sentence of each test that is significant.
    significant: Vec<(&'static str, String)>,
    /// Metric and sentence of each size that is large.
    large: Vec<(&'static str, String)>,
}

/// Fills in corrected p-values, drifted features with their reasons, the share and the verdict.
pub(crate) fn judge(report: &mut DriftReport, spec: &DriftSpec) {
    let p_values: Vec<f64> = report.features.iter().filter(|f| is_tested(f)).filter_map(p_value).collect();
    let mut adjusted = match spec.rule.correction {
        Correction::BenjaminiHochberg => correction::benjamini_hochberg(&p_values),
        Correction::Bonferroni => correction::bonferroni(&p_values),
        Correction::None => p_values.clone(),
    }
    .into_iter();
    for feature in &mut report.features {
        if !is_tested(feature) {
            feature.reasons = vec![untested(feature, spec)];
            continue;
        }
        let corrected = p_value(feature).and_then(|_| adjusted.next());
        if spec.rule.correction != Correction::None {
            set_corrected(feature, corrected);
        }
        let findings = examine(feature, corrected, &p_values, spec);
        let (significant, large) = (!findings.significant.is_empty(), !findings.large.is_empty());
        feature.drifted = match spec.rule.feature {
            FeatureRule::Any => significant || large,
            // Where only one of the two is measured, that one decides.
            FeatureRule::All => {
                (significant || !findings.has_test) && (large || !findings.has_size) && (significant || large)
            }
        };
        let names =
            |found: &[(&str, String)]| Some(found.iter().map(|(metric, _)| (*metric).into()).collect());
        feature.significant = names(&findings.significant);
        feature.large = names(&findings.large);
        let sentences = findings.significant.into_iter().chain(findings.large);
        feature.reasons = sentences.map(|(_, sentence)| sentence).collect();
        if !feature.drifted && !feature.reasons.is_empty() {
            let lacking = if significant { "no size is large" } else { "no test is significant" };
            feature.reasons.push(format!("Not drifted, because {lacking}."));
        }
    }
    let tested = report.features.iter().filter(|f| is_tested(f)).count();
    let drifted = report.features.iter().filter(|f| f.drifted).count();
    report.share = (tested > 0).then(|| crate::stats::float(drifted) / crate::stats::float(tested));
    let named = report.features.iter().any(|f| f.drifted && spec.rule.columns.contains(&f.name));
    report.drifted =
        drifted > 0 && (named || report.share.is_some_and(|share| share >= spec.rule.dataset_share));
}

/// Whether the rule looks at a feature.
pub(crate) fn is_tested(feature: &FeatureReport) -> bool {
    feature.status == "ok"
}

fn p_value(feature: &FeatureReport) -> Option<f64> {
    let metrics = &feature.metrics;
    metrics
        .ks
        .as_ref()
        .and_then(|ks| ks.p_value)
        .or_else(|| metrics.chi2.as_ref().and_then(|chi2| chi2.p_value))
}

fn set_corrected(feature: &mut FeatureReport, corrected: Option<f64>) {
    if let Some(ks) = &mut feature.metrics.ks {
        ks.p_value_corrected = corrected;
    }
    if let Some(chi2) = &mut feature.metrics.chi2 {
        chi2.p_value_corrected = corrected;
    }
}

fn untested(feature: &FeatureReport, spec: &DriftSpec) -> String {
    match feature.status.as_str() {
        "no_data" => "Not tested: the current data have no value.".to_owned(),
        "no_reference" => "Not tested: the reference has no value.".to_owned(),
        _ => format!(
            "Not tested: {} and {} values, where more than {} are wanted on both sides.",
            feature.n_reference, feature.n_current, spec.min_samples
        ),
    }
}

fn examine(feature: &FeatureReport, corrected: Option<f64>, all: &[f64], spec: &DriftSpec) -> Findings {
    let metrics = &feature.metrics;
    let mut findings = Findings::default();
    if feature.kind == "numeric" {
        let wants = |metric| spec.numeric.metrics.contains(&metric);
        findings.test(
            ("ks", "KS"),
            wants(NumericMetric::Ks),
            feature,
            corrected,
            all,
            spec.numeric.p_value,
            spec,
        );
        let ks = metrics.ks.as_ref().map(|ks| ks.statistic);
        // D counts at its threshold already, the others above it.
        findings.size(("ks", "D"), wants(NumericMetric::Ks), ks, spec.numeric.ks_statistic, |value, at| {
            value >= at
        });
        let psi = metrics.psi.as_ref().map(|psi| psi.value);
        findings
            .size(("psi", "PSI"), wants(NumericMetric::Psi), psi, spec.numeric.psi, |value, at| value > at);
        let js = metrics.js.as_ref().map(|js| js.distance);
        findings.size(("js", "JS distance"), wants(NumericMetric::Js), js, spec.numeric.js, |value, at| {
            value > at
        });
        let kl = metrics.kl.as_ref().map(|kl| kl.reference_current);
        findings.size(("kl", "KL"), wants(NumericMetric::Kl), kl, spec.numeric.kl, |value, at| value > at);
        let w = metrics.wasserstein.as_ref().map(|w| w.normed);
        findings.size(
            ("wasserstein", "normed Wasserstein"),
            wants(NumericMetric::Wasserstein),
            w,
            spec.numeric.wasserstein,
            |value, at| value > at,
        );
    } else {
        let wants = |metric| spec.categorical.metrics.contains(&metric);
        findings.test(
            ("chi2", "chi-square"),
            wants(CategoricalMetric::Chi2),
            feature,
            corrected,
            all,
            spec.categorical.p_value,
            spec,
        );
        let psi = metrics.psi.as_ref().map(|psi| psi.value);
        findings.size(
            ("psi", "PSI"),
            wants(CategoricalMetric::Psi),
            psi,
            spec.categorical.psi,
            |value, at| value > at,
        );
        let js = metrics.js.as_ref().map(|js| js.distance);
        findings.size(
            ("js", "JS distance"),
            wants(CategoricalMetric::Js),
            js,
            spec.categorical.js,
            |value, at| value > at,
        );
        let kl = metrics.kl.as_ref().map(|kl| kl.reference_current);
        findings.size(("kl", "KL"), wants(CategoricalMetric::Kl), kl, spec.categorical.kl, |value, at| {
            value > at
        });
    }
    findings
}

impl Findings {
    #[expect(
        clippy::too_many_arguments,
        reason = "one call per kind of feature, all of it names and numbers"
    )]
    fn test(
        &mut self,
        (metric, name): (&'static str, &str),
        is_wanted: bool,
        feature: &FeatureReport,
        corrected: Option<f64>,
        all: &[f64],
        level: f64,
        spec: &DriftSpec,
    ) {
        if !is_wanted {
            return;
        }
        self.has_test = true;
        let (Some(p), Some(corrected)) = (p_value(feature), corrected) else { return };
        let how = match spec.rule.correction {
            Correction::BenjaminiHochberg => {
                if correction::benjamini_hochberg_cut(all, level).is_none_or(|cut| p > cut) {
                    return;
                }
                format!(" ({corrected:.2e} after Benjamini-Hochberg over {} features)", all.len())
            }
            Correction::Bonferroni => {
                if p > level / crate::stats::float(all.len()) {
                    return;
                }
                format!(" ({corrected:.2e} after Bonferroni over {} features)", all.len())
            }
            Correction::None => {
                if p >= level {
                    return;
                }
                String::new()
            }
        };
        let sentence = format!("{name} is significant: p = {p:.2e}{how}, level {level}.");
        self.significant.push((metric, sentence));
    }

    fn size(
        &mut self,
        (metric, name): (&'static str, &str),
        is_wanted: bool,
        value: Option<f64>,
        threshold: Option<f64>,
        is_large: fn(f64, f64) -> bool,
    ) {
        let Some(threshold) = threshold.filter(|_| is_wanted) else { return };
        self.has_size = true;
        if let Some(value) = value.filter(|value| is_large(*value, threshold)) {
            self.large.push((metric, format!("{name} is large: {value:.3}, threshold {threshold}.")));
        }
    }
}
