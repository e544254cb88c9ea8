//! `tidemill drift compare`: the operator's measurement on the command line, without a server.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use tidemill_drift::{DriftReport, DriftSpec, FeatureReport, MissingColumn, Options, compare};
use tidemill_protocol::drift::{
    CategoricalMetric, Correction, FeatureRule, KsMethod, NumericMetric, PsiVariant,
};

use crate::{
    commands::usage,
    error::{CliError, Result},
    output::{Format, FormatArg, Table, print, print_json},
    report::Progress,
};

/// Measures drift between two data sets.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DriftCommand {
    Compare(Box<CompareArgs>),
}

/// Compares current data with a reference, feature by feature.
///
/// Every PATH is a CSV, Parquet or JSON-lines file, or a folder of them. The exit code is 0 whether the data
/// drifted or not; read `drifted` in the result.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// The reference.
    #[arg(long, value_name = "PATH")]
    reference: PathBuf,
    /// The data that are compared with it.
    #[arg(long, value_name = "PATH")]
    current: PathBuf,
    /// Only these columns.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    features: Vec<String>,
    /// Not these columns.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Columns that are numeric whatever they look like.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    numeric: Vec<String>,
    /// Columns that are categorical whatever they look like.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    categorical: Vec<String>,
    /// A feature with this many values or fewer on either side is not tested.
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_samples: u64,
    /// What is measured: ks, psi, kl, js, wasserstein, chi2 [default: ks and psi; chi2 and psi for
    /// categorical columns].
    #[arg(long, value_name = "METRICS", value_delimiter = ',', value_parser = ["ks", "psi", "kl", "js", "wasserstein", "chi2"])]
    metrics: Vec<String>,
    /// Which PSI.
    #[arg(long, value_name = "VARIANT", value_parser = ["atoms", "clipped", "seed"], default_value = "atoms")]
    psi: String,
    /// Which p-value of KS; auto is exact up to 10 000 rows, as scipy chooses.
    #[arg(long, value_name = "METHOD", value_parser = ["auto", "exact", "asymp"], default_value = "auto")]
    ks: String,
    /// How it is judged, as JSON: feature ("all", "any"), correction ("benjamini_hochberg", "bonferroni",
    /// "none"), dataset_share, columns, and the thresholds p_value, ks_statistic, psi, js, kl, wasserstein.
    #[arg(long, value_name = "JSON", value_parser = parse_rule)]
    rule: Option<Rule>,
    #[command(flatten)]
    format: FormatArg,
}

/// `--rule`. A threshold holds for numeric and categorical features.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rule {
    feature: Option<FeatureRule>,
    correction: Option<Correction>,
    dataset_share: Option<f64>,
    columns: Vec<String>,
    p_value: Option<f64>,
    ks_statistic: Option<f64>,
    #[serde(deserialize_with = "given")]
    psi: Given,
    js: Option<f64>,
    kl: Option<f64>,
    wasserstein: Option<f64>,
}

/// A threshold that has a default: absent, taken away with null, or set.
#[derive(Clone, Copy, Debug, Default)]
enum Given {
    #[default]
    Absent,
    Is(Option<f64>),
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Given, D::Error> {
    Option::<f64>::deserialize(deserializer).map(Given::Is)
}

fn parse_rule(text: &str) -> Result<Rule, String> {
    let rule: Rule = serde_json::from_str(text).map_err(|error| error.to_string())?;
    for (name, share) in [("dataset_share", rule.dataset_share), ("p_value", rule.p_value)] {
        if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return Err(format!("{name} must be from 0 to 1"));
        }
    }
    Ok(rule)
}

fn spec(args: &CompareArgs) -> Result<DriftSpec> {
    let mut spec = DriftSpec {
        reference: args.reference.to_string_lossy().into_owned(),
        current: args.current.to_string_lossy().into_owned(),
        features: args.features.clone(),
        exclude: args.exclude.clone(),
        min_samples: args.min_samples,
        ..DriftSpec::default()
    };
    spec.numeric.columns.clone_from(&args.numeric);
    spec.categorical.columns.clone_from(&args.categorical);
    if let Some(both) = args.numeric.iter().find(|column| args.categorical.contains(column)) {
        return Err(usage(format!("column {both:?} cannot be numeric and categorical at once")));
    }
    if !args.metrics.is_empty() {
        spec.numeric.metrics = args.metrics.iter().filter_map(|word| NumericMetric::parse(word)).collect();
        spec.categorical.metrics =
            args.metrics.iter().filter_map(|word| CategoricalMetric::parse(word)).collect();
    }
    spec.numeric.psi_variant = PsiVariant::parse(&args.psi).unwrap_or(PsiVariant::Atoms);
    spec.numeric.ks_method = KsMethod::parse(&args.ks).unwrap_or(KsMethod::Auto);
    let rule = args.rule.clone().unwrap_or_default();
    judge(&mut spec, &rule);
    if args.rule.is_some() && spec.rule.feature == FeatureRule::All {
        let has_test = spec.numeric.metrics.contains(&NumericMetric::Ks)
            || spec.categorical.metrics.contains(&CategoricalMetric::Chi2);
        let numeric = &spec.numeric;
        let sizes = [numeric.ks_statistic, numeric.psi, numeric.js, numeric.kl, numeric.wasserstein];
        let categorical = [spec.categorical.psi, spec.categorical.js, spec.categorical.kl];
        if !has_test || !sizes.iter().chain(&categorical).any(Option::is_some) {
            let why = "feature = \"all\" needs both a test (ks, chi2) and a size metric with a threshold";
            return Err(usage(format!("{why}; with \"any\" one of them is enough")));
        }
    }
    Ok(spec)
}

/// Puts the rule and its thresholds into the specification; one of a metric that is not measured has no effect.
fn judge(spec: &mut DriftSpec, rule: &Rule) {
    spec.rule.feature = rule.feature.unwrap_or(spec.rule.feature);
    spec.rule.correction = rule.correction.unwrap_or(spec.rule.correction);
    spec.rule.dataset_share = rule.dataset_share.unwrap_or(spec.rule.dataset_share);
    spec.rule.columns.clone_from(&rule.columns);
    let numeric = &mut spec.numeric;
    let has = |metric| numeric.metrics.contains(&metric);
    let (ks, psi) = (has(NumericMetric::Ks), has(NumericMetric::Psi));
    let (js, kl, wasserstein) =
        (has(NumericMetric::Js), has(NumericMetric::Kl), has(NumericMetric::Wasserstein));
    let wanted_psi = if let Given::Is(threshold) = rule.psi { threshold } else { numeric.psi };
    numeric.p_value = rule.p_value.unwrap_or(numeric.p_value);
    numeric.ks_statistic = rule.ks_statistic.filter(|_| ks);
    numeric.psi = wanted_psi.filter(|_| psi);
    numeric.js = rule.js.filter(|_| js);
    numeric.kl = rule.kl.filter(|_| kl);
    numeric.wasserstein = rule.wasserstein.filter(|_| wasserstein);
    let categorical = &mut spec.categorical;
    let has = |metric| categorical.metrics.contains(&metric);
    let (psi, js, kl) = (has(CategoricalMetric::Psi), has(CategoricalMetric::Js), has(CategoricalMetric::Kl));
    categorical.p_value = rule.p_value.unwrap_or(categorical.p_value);
    categorical.psi = wanted_psi.filter(|_| psi);
    categorical.js = rule.js.filter(|_| js);
    categorical.kl = rule.kl.filter(|_| kl);
}

pub(crate) fn run(command: &DriftCommand) -> Result {
    let DriftCommand::Compare(args) = command;
    let spec = spec(args)?;
    let options = Options { missing_column: MissingColumn::NoData, ..Options::default() };
    let _progress = Progress::start("comparing", String::new);
    let report = compare(&spec, &options)
        .map_err(|error| CliError::coded(error.code(), &error, Some(error.help())))?;
    match args.format.format {
        Format::Json => print_json(&report)?,
        Format::Table => {
            table(&report).print()?;
            print(&summary(&report))?;
        }
    }
    Ok(())
}

fn table(report: &DriftReport) -> Table {
    let mut table = Table::new(&["FEATURE", "KIND", "STATUS", "N", "DRIFTED", "METRICS", "BECAUSE"]);
    for feature in &report.features {
        table.row([
            feature.name.clone(),
            feature.kind.clone(),
            feature.status.clone(),
            format!("{}/{}", feature.n_reference, feature.n_current),
            if feature.drifted { "yes" } else { "no" }.to_owned(),
            metrics(feature),
            feature.reasons.join(" "),
        ]);
    }
    table
}

fn metrics(feature: &FeatureReport) -> String {
    let mut words = Vec::new();
    let p = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3e}"));
    if let Some(ks) = &feature.metrics.ks {
        words.push(format!("ks={:.4} p={}", ks.statistic, p(ks.p_value)));
    }
    if let Some(chi2) = &feature.metrics.chi2 {
        words.push(format!("chi2 p={}", p(chi2.p_value)));
    }
    if let Some(psi) = &feature.metrics.psi {
        words.push(format!("psi={:.4}", psi.value));
    }
    if let Some(kl) = &feature.metrics.kl {
        words.push(format!("kl={:.4}/{:.4}", kl.reference_current, kl.current_reference));
    }
    if let Some(js) = &feature.metrics.js {
        words.push(format!("js={:.4}", js.distance));
    }
    if let Some(wasserstein) = &feature.metrics.wasserstein {
        words.push(format!("wasserstein={:.4}", wasserstein.normed));
    }
    words.join(" ")
}

fn summary(report: &DriftReport) -> String {
    let drifted = report.features.iter().filter(|feature| feature.drifted).count();
    let verdict = if report.drifted { "drifted" } else { "stable" };
    match report.share {
        Some(share) => {
            format!("{verdict}: {drifted} features drifted, share {share:.3} of the tested ones\n")
        }
        None => format!("{verdict}: no feature could be tested\n"),
    }
}
