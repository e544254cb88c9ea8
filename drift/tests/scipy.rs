//! Every number against scipy and numpy, on files that Python and pyarrow wrote.

use std::{fs, process::Command};

use serde_json::Value;
use tidemill_drift::{DriftSpec, FeatureReport, MissingColumn, Options, compare};
use tidemill_protocol::drift::{CategoricalMetric, KsMethod, NumericMetric, PsiVariant};

use crate::common;

/// Counts what was compared and keeps what differed.
#[derive(Default)]
struct Tally {
    sizes: usize,
    p_values: usize,
    counts: usize,
    drifted: usize,
    worst_size: f64,
    worst_p: f64,
    wrong: Vec<String>,
}

impl Tally {
    /// D, PSI, KL, JS, Wasserstein: 1e-9 relative or 1e-12 absolute.
    fn size(&mut self, name: &str, expected: &Value, actual: Option<f64>) {
        self.sizes += 1;
        match (expected.as_f64(), actual) {
            (Some(e), Some(a)) if (a - e).abs() <= 1e-12 => {}
            (Some(e), Some(a)) if ((a - e) / e).abs() <= 1e-9 => {
                self.worst_size = self.worst_size.max(((a - e) / e).abs())
            }
            _ => self.wrong.push(format!("{name}: {expected} is {actual:?}")),
        }
    }

    /// p-values: 1e-6 relative above 1e-12, else both below 1e-11.
    fn p_value(&mut self, name: &str, expected: &Value, actual: Option<f64>) {
        self.p_values += 1;
        match (expected.as_f64(), actual) {
            (None, None) if expected.is_null() => {}
            (Some(e), Some(a)) if e > 1e-12 && ((a - e) / e).abs() <= 1e-6 => {
                self.worst_p = self.worst_p.max(((a - e) / e).abs());
            }
            (Some(e), Some(a)) if e <= 1e-12 && a < 1e-11 => {}
            _ => self.wrong.push(format!("{name}: {expected} is {actual:?}")),
        }
    }

    fn same(&mut self, name: &str, expected: &Value, actual: impl Into<Value>) {
        self.counts += 1;
        let actual = actual.into();
        if *expected != actual {
            self.wrong.push(format!("{name}: {expected} is {actual}"));
        }
    }
}

fn spec(case: &Value, psi_variant: PsiVariant, ks_method: KsMethod) -> DriftSpec {
    let mut spec = DriftSpec {
        reference: case["reference"].as_str().unwrap().to_owned(),
        current: case["current"].as_str().unwrap().to_owned(),
        min_samples: 0,
        ..DriftSpec::default()
    };
    spec.numeric.metrics = NumericMetric::ALL.to_vec();
    spec.categorical.metrics = CategoricalMetric::ALL.to_vec();
    spec.numeric.psi_variant = psi_variant;
    spec.numeric.ks_method = ks_method;
    spec
}

fn check(tally: &mut Tally, case: &str, feature: &FeatureReport, expected: &Value, psi: &str, p: &str) {
    let name = format!("{case} {} {psi}", feature.name);
    let (metrics, numbers) = (&feature.metrics, &expected["numbers"]);
    if feature.kind != expected["kind"].as_str().unwrap()
        || feature.status != expected["status"].as_str().unwrap()
    {
        tally.wrong.push(format!("{name}: {} {}", feature.kind, feature.status));
    }
    for (key, value) in expected["counts"].as_object().unwrap() {
        let actual = match key.as_str() {
            "missing_reference" => feature.missing_reference,
            "missing_current" => feature.missing_current,
            "infinite_reference" => feature.infinite_reference,
            "infinite_current" => feature.infinite_current,
            "n_reference" => feature.n_reference,
            _ => feature.n_current,
        };
        tally.same(&format!("{name} {key}"), value, actual);
    }
    if expected["status"] != "ok" {
        return;
    }
    tally.size(&name, &numbers[psi], metrics.psi.as_ref().map(|m| m.value));
    if p == "p_auto" {
        let corrected = metrics.ks.as_ref().map(|m| m.p_value_corrected);
        let corrected = corrected.or(metrics.chi2.as_ref().map(|m| m.p_value_corrected)).flatten();
        tally.p_value(&format!("{name} corrected"), &numbers["corrected"], corrected);
        tally.same(&format!("{name} drifted"), &expected["drifted"], feature.drifted);
        tally.drifted += usize::from(feature.drifted);
    }
    let (kl, js) = (metrics.kl.as_ref(), metrics.js.as_ref());
    tally.size(&name, &numbers["kl_reference_current"], kl.map(|m| m.reference_current));
    tally.size(&name, &numbers["kl_current_reference"], kl.map(|m| m.current_reference));
    tally.size(&name, &numbers["js_distance"], js.map(|m| m.distance));
    tally.size(&name, &numbers["js_divergence"], js.map(|m| m.divergence));
    if feature.kind == "categorical" {
        tally.p_value(&name, &numbers["chi2"], metrics.chi2.as_ref().and_then(|m| m.p_value));
        return;
    }
    let ks = metrics.ks.as_ref().unwrap();
    tally.size(&name, &numbers["ks"], Some(ks.statistic));
    tally.p_value(&format!("{name} {p}"), &numbers[p], ks.p_value);
    tally.same(&format!("{name} sign"), &expected["sign"], ks.sign);
    let w = metrics.wasserstein.as_ref();
    tally.size(&name, &numbers["wasserstein"], w.map(|m| m.value));
    tally.size(&name, &numbers["wasserstein_normed"], w.map(|m| m.normed));
    let larger = feature.n_reference.max(feature.n_current);
    let method = match p {
        "p_auto" if larger <= 10_000 => "exact",
        "p_exact" if larger < 40_000 => "exact",
        _ => "asymp",
    };
    tally.same(&format!("{name} method"), &Value::from(method), ks.method.as_str());
}

#[test]
fn numbers_equal_those_of_scipy_and_numpy() {
    let python = common::python_with_scipy();
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference.py");
    common::run(Command::new(python).arg(script).arg(folder.path()));
    let cases: Value = serde_json::from_slice(&fs::read(folder.path().join("cases.json")).unwrap()).unwrap();
    let options = Options {
        base: folder.path().to_owned(),
        missing_column: MissingColumn::NoData,
        ..Options::default()
    };
    let mut tally = Tally::default();
    let cases = cases.as_array().unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let variants = [
            (PsiVariant::Atoms, KsMethod::Auto, "psi_atoms", "p_auto"),
            (PsiVariant::Clipped, KsMethod::Exact, "psi_clipped", "p_exact"),
            (PsiVariant::Seed, KsMethod::Asymp, "psi_seed", "p_asymp"),
        ];
        for (variant, method, psi, p) in variants {
            let report =
                compare(&spec(case, variant, method), &options).unwrap_or_else(|e| panic!("{name}: {e}"));
            let expected = case["features"].as_object().unwrap();
            assert_eq!(report.features.len(), expected.len(), "{name}");
            for feature in &report.features {
                check(&mut tally, name, feature, &expected[&feature.name], psi, p);
            }
        }
    }
    println!(
        "{} cases: {} sizes (worst relative error {:.1e}), {} p-values (worst {:.1e}), {} counts, {} features drifted, {} wrong",
        cases.len(),
        tally.sizes,
        tally.worst_size,
        tally.p_values,
        tally.worst_p,
        tally.counts,
        tally.drifted,
        tally.wrong.len()
    );
    let shown = tally.wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(tally.wrong.is_empty(), "{} wrong:\n{shown}", tally.wrong.len());
    assert!(tally.sizes + tally.p_values >= 1_500);
}
