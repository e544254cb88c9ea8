//! `drift`: measures, judges and chooses what is followed.
//!
//! Outputs: `verdict`, `branch`, `drifted` (is the data set), `share`, `drifted_features`, `warnings`.

use serde_json::json;
use tidemill_drift::{Branches, Options, decide};
use tidemill_protocol::{
    drift::{Decision, DriftReport, DriftSpec},
    worker::{Report, TaskId},
};

use super::{OperatorResult, Out};

pub(super) fn execute(
    spec: &DriftSpec,
    on_drift: &[TaskId],
    on_stable: &[TaskId],
    on_insufficient_data: Option<&[TaskId]>,
    out: &mut Out,
) -> OperatorResult {
    out.line(&format!("reference: {}", spec.reference));
    out.line(&format!("current:   {}", spec.current));
    let branches = Branches {
        on_drift: on_drift.to_vec(),
        on_stable: on_stable.to_vec(),
        on_insufficient_data: on_insufficient_data.map(<[TaskId]>::to_vec),
    };
    // The process starts in the folder of the DAG file, where relative paths begin.
    match decide(spec, &Options::default(), &branches) {
        Ok(report) => finish(report, out),
        Err(error) => {
            let problem = format!("{}: {}\nhelp: {}", error.code(), super::chain(&error), error.help());
            // Data that arrives late is the usual reason, so another try may find it.
            OperatorResult { problem: Some(problem), ..OperatorResult::default() }
        }
    }
}

fn finish(report: DriftReport, out: &mut Out) -> OperatorResult {
    print_features(&report, out);
    let drifted: Vec<&str> = report.features.iter().filter(|f| f.drifted).map(|f| f.name.as_str()).collect();
    let mut outputs = vec![
        ("drifted".to_owned(), json!(report.drifted)),
        ("share".to_owned(), json!(report.share)),
        ("drifted_features".to_owned(), json!(drifted)),
    ];
    let mut follow = None;
    if let Some(decision) = &report.decision {
        print_decision(decision, out);
        outputs.push(("verdict".to_owned(), json!(decision.verdict)));
        outputs.push(("branch".to_owned(), json!(decision.branch)));
        outputs.push(("warnings".to_owned(), json!(decision.warnings)));
        follow = Some(decision.branch.clone());
    }
    OperatorResult {
        follow,
        outputs: outputs.into_iter().collect(),
        report: Some(Report::Drift(Box::new(report))),
        ..OperatorResult::default()
    }
}

fn print_features(report: &DriftReport, out: &mut Out) {
    let width = report.features.iter().map(|f| f.name.chars().count()).max().unwrap_or(0).min(40);
    for feature in &report.features {
        let verdict = match (feature.status.as_str(), feature.drifted) {
            ("ok", true) => "DRIFTED",
            ("ok", false) => "stable",
            (status, _) => status,
        };
        let rows = format!("{} / {} values", feature.n_reference, feature.n_current);
        out.line(&format!("{:width$}  {verdict:12}  {rows}", feature.name));
        for reason in &feature.reasons {
            out.line(&format!("{:width$}    {reason}", ""));
        }
    }
}

fn print_decision(decision: &Decision, out: &mut Out) {
    let side = |name: &str, source: &tidemill_protocol::drift::Source| {
        format!("{name}: {} rows in {} files, sha256 {}", source.rows, source.files, source.sha256)
    };
    out.line(&side("reference", &decision.reference));
    out.line(&side("current", &decision.current));
    for warning in &decision.warnings {
        out.line(&format!("warning: {warning}"));
    }
    out.line(&decision.because);
    let branch = if decision.branch.is_empty() { "nothing".to_owned() } else { decision.branch.join(", ") };
    out.line(&format!("verdict: {}; next: {branch}", decision.verdict));
}
