//! What must hold for all data, whatever they are.

use proptest::prelude::*;
use tidemill_protocol::drift::{
    CategoricalMetric, Correction, DriftReport, DriftSpec, FeatureReport, FeatureRule, KsMethod,
    NumericMetric, PsiVariant,
};

use crate::{
    column::{Categorical, Column, Numeric},
    measure::{Side, feature},
    rule,
};

/// Values with ties, signs, extremes, missing and infinite ones.
fn values() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        4 => (-5_i32..5).prop_map(f64::from),
        4 => -1e3_f64..1e3,
        1 => prop::num::f64::ANY,
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0]),
    ];
    prop::collection::vec(value, 0..60)
}

fn spec(psi: PsiVariant, ks: KsMethod) -> DriftSpec {
    let mut spec = DriftSpec { min_samples: 0, ..DriftSpec::default() };
    spec.numeric.metrics = NumericMetric::ALL.to_vec();
    spec.categorical.metrics = CategoricalMetric::ALL.to_vec();
    spec.numeric.psi_variant = psi;
    spec.numeric.ks_method = ks;
    spec
}

fn numeric(values: &[f64]) -> Side {
    let mut column = Numeric::default();
    values.iter().for_each(|v| column.push(*v));
    Side { column: Column::Numeric(column), rows: values.len() as u64 }
}

fn categorical(values: &[u8]) -> Side {
    let mut column = Categorical::default();
    values.iter().for_each(|v| *column.counts.entry(v.to_string()).or_default() += 1);
    Side { column: Column::Categorical(column), rows: values.len() as u64 }
}

fn measure(reference: &[f64], current: &[f64], spec: &DriftSpec) -> FeatureReport {
    feature("x".to_owned(), true, numeric(reference), numeric(current), spec)
}

/// Every number that a report holds.
fn numbers(report: &FeatureReport) -> Vec<f64> {
    let m = &report.metrics;
    let mut all = Vec::new();
    all.extend(m.ks.iter().map(|ks| ks.statistic));
    all.extend(m.ks.iter().filter_map(|ks| ks.p_value));
    all.extend(m.psi.iter().map(|psi| psi.value));
    all.extend(m.kl.iter().flat_map(|kl| [kl.reference_current, kl.current_reference]));
    all.extend(m.js.iter().flat_map(|js| [js.distance, js.divergence]));
    all.extend(m.wasserstein.iter().flat_map(|w| [w.value, w.normed]));
    all.extend(m.chi2.iter().filter_map(|chi2| chi2.p_value));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn numbers_are_finite_and_within_their_bounds(a in values(), b in values()) {
        for psi in PsiVariant::ALL {
            for ks in KsMethod::ALL {
                let report = measure(&a, &b, &spec(*psi, *ks));
                prop_assert!(numbers(&report).iter().all(|n| n.is_finite()), "{report:?}");
                let m = &report.metrics;
                if let Some(ks) = &m.ks {
                    prop_assert!((0.0..=1.0).contains(&ks.statistic));
                    prop_assert!(ks.p_value.is_none_or(|p| (0.0..=1.0).contains(&p)));
                }
                let kl = m.kl.as_ref().map_or([0.0, 0.0], |kl| [kl.reference_current, kl.current_reference]);
                prop_assert!(kl.iter().all(|kl| *kl >= -1e-12));
                let js = m.js.as_ref().map_or(0.0, |js| js.divergence);
                prop_assert!((0.0..=std::f64::consts::LN_2 + 1e-12).contains(&js));
                prop_assert!(m.psi.as_ref().is_none_or(|psi| psi.value >= -1e-12));
                prop_assert!(m.wasserstein.as_ref().is_none_or(|w| w.value >= 0.0 && w.normed >= 0.0));
                if let Some(h) = &report.histogram {
                    for shares in [&h.reference, &h.current] {
                        prop_assert_eq!(shares.len(), h.labels.len());
                        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                    }
                }
                // JSON writes an infinity as null, which would not be read again.
                let json = serde_json::to_string(&report).unwrap();
                prop_assert!(serde_json::from_str::<FeatureReport>(&json).is_ok(), "{}", json);
            }
        }
    }

    #[test]
    fn both_orders_of_the_sides_have_the_same_distance(a in values(), b in values()) {
        let spec = spec(PsiVariant::Atoms, KsMethod::Auto);
        let (ab, ba) = (measure(&a, &b, &spec).metrics, measure(&b, &a, &spec).metrics);
        prop_assert_eq!(ab.ks.is_some(), ba.ks.is_some());
        if let (Some(x), Some(y)) = (&ab.ks, &ba.ks) {
            prop_assert_eq!((x.statistic, x.p_value, &x.method), (y.statistic, y.p_value, &y.method));
        }
        if let (Some(x), Some(y)) = (&ab.wasserstein, &ba.wasserstein) {
            prop_assert_eq!(x.value, y.value);
        }
    }

    #[test]
    fn the_order_of_rows_changes_nothing((a, shuffled) in values().prop_flat_map(|a| (Just(a.clone()), Just(a).prop_shuffle())), b in values()) {
        let spec = spec(PsiVariant::Atoms, KsMethod::Auto);
        prop_assert_eq!(measure(&a, &b, &spec), measure(&shuffled, &b, &spec));
        prop_assert_eq!(measure(&b, &a, &spec), measure(&b, &shuffled, &spec));
    }

    #[test]
    fn equal_data_are_not_apart(a in values()) {
        for psi in PsiVariant::ALL {
            let report = measure(&a, &a, &spec(*psi, KsMethod::Auto));
            let m = report.metrics;
            prop_assert!(m.ks.is_none_or(|ks| ks.statistic == 0.0 && ks.p_value == Some(1.0)));
            prop_assert!(m.psi.is_none_or(|psi| psi.value == 0.0));
            prop_assert!(m.js.is_none_or(|js| js.distance == 0.0));
            prop_assert!(m.wasserstein.is_none_or(|w| w.value == 0.0));
        }
    }

    #[test]
    fn categories_have_symmetric_bounded_numbers(a in prop::collection::vec(0_u8..6, 0..80), b in prop::collection::vec(0_u8..9, 0..80)) {
        let spec = spec(PsiVariant::Atoms, KsMethod::Auto);
        let ab = feature("x".to_owned(), false, categorical(&a), categorical(&b), &spec);
        let ba = feature("x".to_owned(), false, categorical(&b), categorical(&a), &spec);
        prop_assert!(numbers(&ab).iter().all(|n| n.is_finite() && *n >= -1e-12));
        if let (Some(x), Some(y)) = (&ab.metrics.chi2, &ba.metrics.chi2) {
            let (x, y) = (x.p_value.unwrap(), y.p_value.unwrap());
            prop_assert!((0.0..=1.0).contains(&x) && (x - y).abs() <= 1e-9);
        }
        if let (Some(x), Some(y)) = (&ab.metrics.psi, &ba.metrics.psi) {
            prop_assert!((x.value - y.value).abs() < 1e-9);
        }
    }

    #[test]
    fn the_verdict_follows_from_the_features(columns in prop::collection::vec((values(), values()), 1..12), share in 0.05_f64..1.0, any in any::<bool>(), min_samples in 0_u64..30) {
        let mut spec = spec(PsiVariant::Atoms, KsMethod::Auto);
        spec.min_samples = min_samples;
        spec.rule.dataset_share = share;
        spec.rule.feature = if any { FeatureRule::Any } else { FeatureRule::All };
        let features = columns.iter().map(|(a, b)| measure(a, b, &spec)).collect();
        let mut report = DriftReport { features, share: None, drifted: false, decision: None };
        rule::judge(&mut report, &spec);
        let tested = report.features.iter().filter(|f| f.status == "ok").count();
        let drifted = report.features.iter().filter(|f| f.drifted).count();
        prop_assert_eq!(report.share.is_none(), tested == 0);
        prop_assert_eq!(report.drifted, drifted > 0 && drifted as f64 / tested as f64 >= share);
        for f in &report.features {
            prop_assert!(f.status == "ok" || !f.drifted);
            prop_assert_eq!(f.status == "ok", f.n_reference.min(f.n_current) > min_samples);
            prop_assert!(!f.drifted || !f.reasons.is_empty());
        }
    }
}

/// At the level itself a corrected test is significant and an uncorrected one is not: readers are told, they need not
/// know that.
#[test]
fn the_report_names_what_the_rule_found_significant_and_large() {
    let values: Vec<f64> = (0..40).map(f64::from).collect();
    for (correction, is_significant) in
        [(Correction::BenjaminiHochberg, true), (Correction::Bonferroni, true), (Correction::None, false)]
    {
        for (psi, is_large) in [(0.3, true), (0.2, false)] {
            let mut spec = DriftSpec { min_samples: 0, ..DriftSpec::default() };
            spec.rule.correction = correction;
            (spec.numeric.p_value, spec.numeric.psi) = (0.01, Some(0.2));
            let mut feature = measure(&values, &values, &spec);
            feature.metrics.ks.as_mut().unwrap().p_value = Some(0.01);
            feature.metrics.psi.as_mut().unwrap().value = psi;
            let mut report =
                DriftReport { features: vec![feature], share: None, drifted: false, decision: None };
            rule::judge(&mut report, &spec);
            let feature = &report.features[0];
            let names =
                |is_there, name: &str| Some(if is_there { vec![name.to_owned()] } else { Vec::new() });
            assert_eq!(feature.significant, names(is_significant, "ks"), "{correction}");
            assert_eq!(feature.large, names(is_large, "psi"), "{correction}");
            assert_eq!(feature.drifted, is_significant && is_large);
        }
    }
    let mut spec = DriftSpec { min_samples: 100, ..DriftSpec::default() };
    spec.numeric.metrics = NumericMetric::ALL.to_vec();
    let feature = measure(&values, &values, &spec);
    let mut report = DriftReport { features: vec![feature], share: None, drifted: false, decision: None };
    rule::judge(&mut report, &spec);
    assert_eq!((&report.features[0].significant, &report.features[0].large), (&None, &None), "not tested");
}
