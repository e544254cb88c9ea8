//! What the operator `drift` makes of a comparison: a verdict, the branch that follows, and why.

use std::time::Instant;

use tidemill_protocol::{
    drift::{Decision, DriftReport, DriftSpec, FeatureReport, Source as ReportSource},
    worker::TaskId,
};

use crate::{
    compare::{Examined, Opened, Options, examine},
    error::DriftError,
    rule::is_tested,
};

/// How many names a sentence lists.
const MOST_NAMES: usize = 6;

/// The tasks that follow each verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branches {
    /// Followed when the data drifted.
    pub on_drift: Vec<TaskId>,
    /// Followed when they did not.
    pub on_stable: Vec<TaskId>,
    /// Followed when no feature could be tested; absent: `on_stable`, with a warning.
    pub on_insufficient_data: Option<Vec<TaskId>>,
}

/// Compares as [`compare`](fn@crate::compare) does and decides what follows; the report carries the decision.
///
/// # Errors
/// Those of [`compare`](fn@crate::compare).
pub fn decide(spec: &DriftSpec, options: &Options, branches: &Branches) -> Result<DriftReport, DriftError> {
    let started = Instant::now();
    let Examined { mut report, reference, current } = examine(spec, options)?;
    let mut warnings = warnings(&report, spec, &reference, &current);
    let tested = report.features.iter().filter(|f| is_tested(f)).count();
    let (verdict, branch) = if tested == 0 {
        if branches.on_insufficient_data.is_none() {
            warnings.push(
                "No feature could be tested and `on_insufficient_data` is not given, so `on_stable` is followed."
                    .to_owned(),
            );
        }
        ("insufficient_data", branches.on_insufficient_data.as_ref().unwrap_or(&branches.on_stable))
    } else if report.drifted {
        ("drift", &branches.on_drift)
    } else {
        ("stable", &branches.on_stable)
    };
    report.decision = Some(Decision {
        verdict: verdict.to_owned(),
        branch: branch.iter().map(|id| id.as_str().to_owned()).collect(),
        because: because(&report, spec, tested),
        warnings,
        spec: spec.clone(),
        reference: describe(&reference)?,
        current: describe(&current)?,
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(report)
}

fn describe(side: &Opened) -> Result<ReportSource, DriftError> {
    Ok(ReportSource {
        path: side.source.path.display().to_string(),
        sha256: side.source.sha256()?,
        files: side.source.parts.len() as u64,
        rows: side.rows,
    })
}

fn because(report: &DriftReport, spec: &DriftSpec, tested: usize) -> String {
    let Some(share) = report.share else {
        return format!(
            "None of {} features has more than {} values on both sides.",
            report.features.len(),
            spec.min_samples
        );
    };
    let drifted: Vec<&FeatureReport> = report.features.iter().filter(|f| f.drifted).collect();
    if drifted.is_empty() {
        return format!("None of {tested} tested features drifted.");
    }
    let wanted = spec.rule.dataset_share;
    let share = format!("{} of {tested} tested features drifted ({:.0} %)", drifted.len(), share * 100.0);
    let names = names(drifted.iter().map(|f| f.name.as_str()));
    let named: Vec<&str> = drifted
        .iter()
        .map(|f| f.name.as_str())
        .filter(|n| spec.rule.columns.iter().any(|c| c == n))
        .collect();
    if !report.drifted {
        format!("{share}: {names}; the data set counts as drifted from {:.0} % on.", wanted * 100.0)
    } else if named.is_empty() || report.share.is_some_and(|s| s >= wanted) {
        format!("{share}: {names}; {:.0} % are enough.", wanted * 100.0)
    } else {
        format!("{share}: {names}; {} is named by the rule.", self::names(named.into_iter()))
    }
}

/// Lists a few names and counts the rest.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = names.collect();
    let listed = all.get(..MOST_NAMES).unwrap_or(&all).join(", ");
    match all.len().saturating_sub(MOST_NAMES) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

fn warnings(report: &DriftReport, spec: &DriftSpec, reference: &Opened, current: &Opened) -> Vec<String> {
    let mut warnings = Vec::new();
    let share = |missing: u64, rows: u64| {
        #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
        (rows > 0).then(|| missing as f64 / rows as f64)
    };
    for feature in &report.features {
        let before = share(feature.missing_reference, feature.rows_reference);
        let now = share(feature.missing_current, feature.rows_current);
        if let (Some(before), Some(now)) = (before, now)
            && now - before > spec.missing_share
        {
            warnings.push(format!(
                "`{}`: {:.0} % of the values are missing, {:.0} % in the reference.",
                feature.name,
                now * 100.0,
                before * 100.0
            ));
        }
        if feature.infinite_current > 0 {
            warnings.push(format!(
                "`{}`: {} infinite values are left out.",
                feature.name, feature.infinite_current
            ));
        }
    }
    let untested: Vec<&str> =
        report.features.iter().filter(|f| !is_tested(f)).map(|f| f.name.as_str()).collect();
    if !untested.is_empty() {
        warnings.push(format!("Not tested: {}.", names(untested.into_iter())));
    }
    let is_new = |name: &&String| {
        !reference.names.contains(name) && !spec.exclude.contains(name) && spec.features.is_empty()
    };
    let new: Vec<&str> = current.names.iter().filter(is_new).map(String::as_str).collect();
    if !new.is_empty() {
        warnings
            .push(format!("The reference lacks columns of the current data: {}.", names(new.into_iter())));
    }
    warnings
}
