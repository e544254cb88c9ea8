//! Did it drift, and why? The evidence of the `drift` operator as a table.

use std::collections::BTreeMap;

use tidemill_engine::{ids::TaskInstanceKey, rows::RunRow};
use tidemill_protocol::{
    drift::{Correction, DriftReport, DriftSpec, FeatureReport, FeatureRule, Metrics},
    worker::Report,
};

use super::{dags::query_string, run::task_href};
use crate::{
    error::Result,
    render::{
        Markup, chart,
        distribution::{self, Past},
        time,
    },
    state::WebState,
};

/// How many runs the PSI line goes back.
const HISTORY: u32 = 20;

/// One feature.
pub(crate) struct Feature {
    pub(crate) name: String,
    /// The same page with this feature in large.
    pub(crate) href: String,
    pub(crate) kind: String,
    pub(crate) verdict: String,
    pub(crate) is_drifted: bool,
    pub(crate) psi: String,
    pub(crate) is_psi_large: bool,
    pub(crate) ks: String,
    pub(crate) is_ks_large: bool,
    /// The sizes of [`DriftPage::sizes`], each with whether the rule found it large.
    pub(crate) sizes: Vec<(String, bool)>,
    pub(crate) p_value: String,
    pub(crate) is_significant: bool,
    pub(crate) histogram: Markup,
    pub(crate) history: Markup,
    pub(crate) rows: String,
    pub(crate) missing: String,
    pub(crate) reasons: String,
    effect: f64,
}

/// The feature that is shown in large.
pub(crate) struct Focus {
    pub(crate) name: String,
    pub(crate) words: String,
    pub(crate) histogram: Markup,
    pub(crate) history: Markup,
    pub(crate) runs: usize,
}

/// The report.
pub(crate) struct DriftPage {
    pub(crate) focus: Option<Focus>,
    pub(crate) headline: String,
    pub(crate) because: String,
    pub(crate) is_drifted: bool,
    pub(crate) warnings: Vec<String>,
    pub(crate) share: String,
    pub(crate) json: String,
    /// Names of the further sizes that were measured of any feature.
    pub(crate) sizes: Vec<&'static str>,
    pub(crate) features: Vec<Feature>,
    pub(crate) thresholds: String,
    pub(crate) sources: Vec<String>,
}

pub(crate) async fn shown(
    state: &WebState,
    run: &RunRow,
    key: &TaskInstanceKey,
    report: &DriftReport,
    asked: Option<&str>,
) -> Result<DriftPage> {
    let history = history(state, run, key).await?;
    let page = task_href(run, key.task.as_str(), key.map_index);
    let decision = report.decision.as_ref();
    let spec = decision.map(|d| &d.spec);
    let sizes = measured(report);
    let mut features: Vec<Feature> =
        report.features.iter().map(|f| feature(f, &page, spec, &sizes, &history)).collect();
    features.sort_by(|a, b| b.effect.total_cmp(&a.effect).then_with(|| a.name.cmp(&b.name)));
    let branch = decision.map(|d| d.branch.join(", ")).unwrap_or_default();
    let headline = match (decision.map(|d| d.verdict.as_str()), report.drifted) {
        (Some("insufficient_data"), _) => format!("Too little data to tell; branch {branch}"),
        (_, true) => format!("The data drifted; branch {branch}"),
        (_, false) => format!("The data are stable; branch {branch}"),
    };
    let drifted = report.features.iter().filter(|f| f.drifted).count();
    let tested = report.features.iter().filter(|f| f.status == "ok").count();
    // The one that was asked for, else the one that moved the most.
    let chosen = features.iter().find(|f| Some(f.name.as_str()) == asked).or(features.first());
    let focus = chosen.and_then(|chosen| report.features.iter().find(|f| f.name == chosen.name));
    Ok(DriftPage {
        focus: focus.map(|f| focused(f, spec, &history)),
        headline,
        because: decision.map(|d| d.because.clone()).unwrap_or_default(),
        is_drifted: report.drifted,
        warnings: decision.map(|d| d.warnings.clone()).unwrap_or_default(),
        share: format!("{drifted} of {tested} tested features drifted"),
        json: format!("/api/v1/dags/{}/runs/{}/tasks/{}/report", run.dag_id, run.run_id, key.task),
        sizes: sizes.iter().map(|(heading, ..)| *heading).collect(),
        features,
        thresholds: spec.map(thresholds).unwrap_or_default(),
        sources: decision.map_or_else(Vec::new, |d| {
            [("reference", &d.reference), ("current", &d.current)]
                .map(|(side, s)| {
                    format!(
                        "{side} {} ({} rows, {} files, sha256 {}…)",
                        s.path,
                        s.rows,
                        s.files,
                        s.sha256.get(..12).unwrap_or("")
                    )
                })
                .into()
        }),
    })
}

/// The PSI of each run by feature, the oldest first.
type History = BTreeMap<String, Vec<Past>>;

/// The threshold of the rule for the PSI of a feature.
fn psi_limit(feature: &FeatureReport, spec: Option<&DriftSpec>) -> Option<f64> {
    let is_numeric = feature.kind == "numeric";
    spec.and_then(|s| if is_numeric { s.numeric.psi } else { s.categorical.psi })
}

fn focused(report: &FeatureReport, spec: Option<&DriftSpec>, history: &History) -> Focus {
    let past = history.get(&report.name).map_or(&[][..], Vec::as_slice);
    let verdict = if report.drifted { "drifted" } else { "stable" };
    let mut words = vec![report.kind.clone()];
    words.push(if report.status == "ok" { verdict.to_owned() } else { report.status.clone() });
    words.extend(report.reasons.iter().cloned());
    Focus {
        name: report.name.clone(),
        words: words.join(" · "),
        histogram: report.histogram.as_ref().map_or_else(Markup::default, |h| {
            distribution::overlaid(&h.labels, &h.reference, &h.current, report.drifted)
        }),
        history: distribution::history(past, psi_limit(report, spec)),
        runs: past.len(),
    }
}

/// Whether the rule found the size large. A report of an older version does not say, and a page does not guess.
fn is_large(feature: &FeatureReport, metric: &str) -> bool {
    feature.large.as_ref().is_some_and(|large| large.iter().any(|name| name == metric))
}

/// Reads a size of a feature, if it was measured.
type Size = fn(&Metrics) -> Option<f64>;

/// The sizes that have a column only where they were asked for: heading, name in the rule, value.
const SIZES: [(&str, &str, Size); 3] = [
    ("JS distance", "js", |metrics| metrics.js.as_ref().map(|js| js.distance)),
    ("KL", "kl", |metrics| metrics.kl.as_ref().map(|kl| kl.reference_current)),
    ("Wasserstein, normed", "wasserstein", |metrics| metrics.wasserstein.as_ref().map(|w| w.normed)),
];

/// The sizes that were measured of any feature.
fn measured(report: &DriftReport) -> Vec<(&'static str, &'static str, Size)> {
    SIZES
        .into_iter()
        .filter(|(_, _, value)| report.features.iter().any(|feature| value(&feature.metrics).is_some()))
        .collect()
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// PSI by feature over the last runs up to this one, the oldest first.
async fn history(state: &WebState, run: &RunRow, key: &TaskInstanceKey) -> Result<History> {
    let points = state.reader().report_history(&run.dag_id, &key.task, run.logical_date, HISTORY).await?;
    let mut history = History::new();
    for point in points.into_iter().rev() {
        let Report::Drift(report) = point.report.report else { continue };
        for feature in report.features {
            let Some(psi) = &feature.metrics.psi else { continue };
            let past = Past {
                href: format!("/dags/{}/runs/{}/tasks/{}", run.dag_id, point.run_id, key.task),
                title: point.run_id.to_string(),
                date: time::day(point.logical_date),
                psi: psi.value,
                is_large: is_large(&feature, "psi"),
            };
            history.entry(feature.name).or_default().push(past);
        }
    }
    Ok(history)
}

fn feature(
    report: &FeatureReport,
    page: &str,
    spec: Option<&DriftSpec>,
    sizes: &[(&str, &str, Size)],
    history: &History,
) -> Feature {
    let metrics = &report.metrics;
    let psi = metrics.psi.as_ref().map(|m| m.value);
    let p_value = match (&metrics.ks, &metrics.chi2) {
        (Some(ks), _) => ks.p_value_corrected.or(ks.p_value),
        (None, Some(chi2)) => chi2.p_value_corrected.or(chi2.p_value),
        (None, None) => None,
    };
    let ks = metrics.ks.as_ref().map(|m| m.statistic);
    let histogram = report.histogram.as_ref().map_or_else(Markup::default, |h| {
        chart::histogram(&h.labels, &h.reference, &h.current, report.drifted)
    });
    Feature {
        href: format!("{page}?{}#feature", query_string(&[("feature", &report.name)])),
        name: report.name.clone(),
        kind: report.kind.clone(),
        verdict: if report.status == "ok" { "stable".to_owned() } else { report.status.clone() },
        is_drifted: report.drifted,
        psi: number(psi),
        is_psi_large: is_large(report, "psi"),
        ks: number(ks),
        is_ks_large: is_large(report, "ks"),
        sizes: sizes
            .iter()
            .map(|(_, name, value)| (number(value(metrics)), is_large(report, name)))
            .collect(),
        p_value: p_value.map_or_else(|| "–".to_owned(), p_text),
        is_significant: report.significant.as_ref().is_some_and(|tests| !tests.is_empty()),
        histogram,
        history: history.get(&report.name).map_or_else(Markup::default, |past| {
            let line: Vec<(f64, bool)> = past.iter().map(|p| (p.psi, p.is_large)).collect();
            chart::spark(&line, psi_limit(report, spec))
        }),
        rows: format!("{} → {}", report.rows_reference, report.rows_current),
        missing: format!("{} → {}", report.missing_reference, report.missing_current),
        reasons: report.reasons.join(" "),
        effect: psi.or(ks).or(metrics.js.as_ref().map(|m| m.distance)).unwrap_or(-1.0),
    }
}

fn p_text(p: f64) -> String {
    if p == 0.0 || p >= 0.001 { format!("{p:.3}") } else { format!("{p:.1e}") }
}

fn thresholds(spec: &DriftSpec) -> String {
    let numeric = &spec.numeric;
    let test = match spec.rule.correction {
        Correction::None => format!("p < {}", numeric.p_value),
        // After a correction the level itself is significant, and in these names' own way.
        correction => format!("p ≤ {} after {correction}", numeric.p_value),
    };
    let sizes = [
        ("PSI >", numeric.psi),
        ("D ≥", numeric.ks_statistic),
        ("JS distance >", numeric.js),
        ("KL >", numeric.kl),
        ("normed Wasserstein >", numeric.wasserstein),
    ];
    let sizes: Vec<String> =
        sizes.iter().filter_map(|(name, limit)| Some(format!("{name} {}", (*limit)?))).collect();
    let sizes = if sizes.is_empty() { "no size has a threshold".to_owned() } else { sizes.join(" or ") };
    let join = if spec.rule.feature == FeatureRule::All { "and" } else { "or" };
    format!(
        "A numeric feature drifted when its test is significant ({test}) {join} a size is large ({sizes}); the data set when a share of {} did",
        spec.rule.dataset_share
    )
}
