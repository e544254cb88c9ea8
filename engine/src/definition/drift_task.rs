//! The operator `drift`: what is measured, how it is judged, and what follows.

use std::ops::Range;

use super::{
    DriftSpec,
    code::Code,
    drift::{
        CategoricalMetric, CategoricalSpec, Correction, FeatureRule, KsMethod, NumericMetric, NumericSpec,
        PsiVariant, RuleSpec,
    },
    fields::{Fields, Mode, Placed},
    groups::Groups,
    keys::TableId,
    model::Operator,
    problem::{Draft, Report},
    suggest::shown,
    task::{Choice, GraphKind},
    tree::Value,
};
use crate::ids::TaskId;

/// PSI above it is large where the file says nothing (Lewis' convention is 0.1–0.25).
const PSI_LARGE: f64 = 0.2;

/// Reads the keys of a drift task.
pub(crate) fn read<'s>(
    fields: &Fields<'s, '_>,
    name: &str,
    groups: &Groups<'s>,
    report: &mut Report<'_>,
) -> (Option<Operator>, GraphKind<'s>) {
    let mut is_complete = true;
    for key in ["reference", "current", "on_drift", "on_stable"] {
        is_complete &= fields.require(key, name, report);
    }
    let numeric = sub(fields, "numeric", TableId::Numeric, report);
    let categorical = sub(fields, "categorical", TableId::Categorical, report);
    let rule = sub(fields, "rule", TableId::Rule, report);
    check_columns(fields, &numeric, &categorical, &rule, report);
    let spec = spec(fields, &numeric, &categorical, &rule, report);
    if let Some(spec) = &spec {
        check_judgement(spec, fields, &numeric, &categorical, &rule, report);
    }
    let mut choices = Vec::new();
    let mut followed: Vec<Option<Vec<TaskId>>> = Vec::new();
    for key in ["on_drift", "on_stable", "on_insufficient_data"] {
        let written = fields.texts(key);
        if let Some(node) = fields.node(key)
            && written.is_empty()
        {
            report.push(
                Draft::error(Code::EMPTY_VALUE, format!("`{key}` must not be empty"), node.span.clone())
                    .help("name a task; a noop where nothing is to be done"),
            );
        }
        let targets = groups.targets(written, report);
        followed.push(targets.iter().map(|(text, _)| TaskId::new(text).ok()).collect());
        choices.push(Choice { targets });
    }
    choices.retain(|choice| !choice.targets.is_empty());
    let operator = (|| {
        let [on_drift, on_stable, insufficient] = <[_; 3]>::try_from(followed).ok()?;
        let on_insufficient_data = match fields.field("on_insufficient_data") {
            Some(_) => Some(insufficient?),
            None => None,
        };
        Some(Operator::Drift {
            spec: Box::new(spec?),
            on_drift: on_drift?,
            on_stable: on_stable?,
            on_insufficient_data,
        })
    })();
    (operator.filter(|_| is_complete), GraphKind::Branch(choices))
}

fn sub<'s, 'a>(
    fields: &Fields<'s, 'a>,
    name: &str,
    table: TableId,
    report: &mut Report<'_>,
) -> Fields<'s, 'a> {
    match fields.node(name).map(|node| (&node.value, node.span.clone())) {
        Some((Value::Table(inner), at)) => Fields::read(inner, at, &[table], Mode::Strict, report),
        _ => Fields::empty(fields.at.clone(), vec![table]),
    }
}

/// A metric with its threshold key.
type Threshold<M> = (M, &'static str);

const NUMERIC_SIZES: [Threshold<NumericMetric>; 5] = [
    (NumericMetric::Ks, "ks_statistic"),
    (NumericMetric::Psi, "psi"),
    (NumericMetric::Js, "js"),
    (NumericMetric::Kl, "kl"),
    (NumericMetric::Wasserstein, "wasserstein"),
];
const CATEGORICAL_SIZES: [Threshold<CategoricalMetric>; 3] =
    [(CategoricalMetric::Psi, "psi"), (CategoricalMetric::Js, "js"), (CategoricalMetric::Kl, "kl")];

fn spec(
    fields: &Fields<'_, '_>,
    numeric: &Fields<'_, '_>,
    categorical: &Fields<'_, '_>,
    rule: &Fields<'_, '_>,
    report: &mut Report<'_>,
) -> Option<DriftSpec> {
    let metrics: Vec<NumericMetric> = match numeric.words("metrics") {
        Some(words) => words.iter().filter_map(|(word, _)| NumericMetric::parse(word)).collect(),
        None => vec![NumericMetric::Ks, NumericMetric::Psi],
    };
    let measured = |metric: &str| metrics.iter().any(|m| m.as_str() == metric);
    thresholds(
        numeric,
        NUMERIC_SIZES.iter().map(|(m, key)| (m.as_str(), *key)).chain([
            ("ks", "p_value"),
            ("ks", "ks_method"),
            ("psi", "psi_variant"),
        ]),
        measured,
        report,
    );
    let of_categories: Vec<CategoricalMetric> = match categorical.words("metrics") {
        Some(words) => words.iter().filter_map(|(word, _)| CategoricalMetric::parse(word)).collect(),
        None => vec![CategoricalMetric::Chi2, CategoricalMetric::Psi],
    };
    let measured = |metric: &str| of_categories.iter().any(|m| m.as_str() == metric);
    thresholds(
        categorical,
        CATEGORICAL_SIZES.iter().map(|(m, key)| (m.as_str(), *key)).chain([("chi2", "p_value")]),
        measured,
        report,
    );
    let has_psi = metrics.contains(&NumericMetric::Psi);
    let has_categorical_psi = of_categories.contains(&CategoricalMetric::Psi);
    Some(DriftSpec {
        reference: fields.string("reference")?,
        current: fields.string("current")?,
        features: fields.strings("features"),
        exclude: fields.strings("exclude"),
        min_samples: u64::try_from(fields.int("min_samples")?).ok()?,
        missing_share: fields.float("missing_share")?,
        numeric: NumericSpec {
            columns: numeric.strings("columns"),
            p_value: numeric.float("p_value")?,
            ks_statistic: numeric.float("ks_statistic"),
            psi: numeric.float("psi").or(has_psi.then_some(PSI_LARGE)),
            js: numeric.float("js"),
            kl: numeric.float("kl"),
            wasserstein: numeric.float("wasserstein"),
            psi_variant: numeric.word("psi_variant").and_then(PsiVariant::parse)?,
            ks_method: numeric.word("ks_method").and_then(KsMethod::parse)?,
            metrics,
        },
        categorical: CategoricalSpec {
            columns: categorical.strings("columns"),
            p_value: categorical.float("p_value")?,
            psi: categorical.float("psi").or(has_categorical_psi.then_some(PSI_LARGE)),
            js: categorical.float("js"),
            kl: categorical.float("kl"),
            metrics: of_categories,
        },
        rule: RuleSpec {
            feature: rule.word("feature").and_then(FeatureRule::parse)?,
            correction: rule.word("correction").and_then(Correction::parse)?,
            dataset_share: rule.float("dataset_share")?,
            columns: rule.strings("columns"),
        },
    })
}

/// Refuses a threshold of a metric that is not measured: it would do nothing, unseen.
fn thresholds<'k>(
    fields: &Fields<'_, '_>,
    keys: impl Iterator<Item = (&'k str, &'k str)>,
    measured: impl Fn(&str) -> bool,
    report: &mut Report<'_>,
) {
    for (metric, key) in keys {
        if let Some(field) = fields.field(key)
            && !measured(metric)
        {
            report.push(
                Draft::error(
                    Code::THRESHOLD_WITHOUT_METRIC,
                    format!("`{key}` does nothing: `{metric}` is not among the metrics"),
                    field.key_span.clone(),
                )
                .help(format!("add \"{metric}\" to `metrics`, or leave `{key}` out")),
            );
        }
    }
}

fn check_columns(
    fields: &Fields<'_, '_>,
    numeric: &Fields<'_, '_>,
    categorical: &Fields<'_, '_>,
    rule: &Fields<'_, '_>,
    report: &mut Report<'_>,
) {
    let lists: [(&str, Vec<Placed<'_>>); 4] = [
        ("features", fields.texts("features")),
        ("exclude", fields.texts("exclude")),
        ("numeric.columns", numeric.texts("columns")),
        ("categorical.columns", categorical.texts("columns")),
    ];
    let [features, exclude, of_numbers, of_categories] = &lists;
    for (a, b) in
        [(features, exclude), (exclude, of_numbers), (exclude, of_categories), (of_numbers, of_categories)]
    {
        for (column, at) in &b.1 {
            if let Some((_, first)) = a.1.iter().find(|(other, _)| other == column) {
                report.push(
                    Draft::error(
                        Code::COLUMN_TWICE,
                        format!("the column `{}` stands in `{}` and in `{}`", shown(column), a.0, b.0),
                        at.clone(),
                    )
                    .also(first.clone(), "and here"),
                );
            }
        }
    }
    let listed: Vec<&str> = features.1.iter().map(|(column, _)| *column).collect();
    let wanted = rule.texts("columns").into_iter().map(|column| ("rule.columns", column));
    let typed = of_numbers.1.iter().chain(&of_categories.1).cloned().map(|column| ("columns", column));
    for (list, (column, at)) in wanted.chain(typed) {
        let is_excluded = list == "rule.columns" && exclude.1.iter().any(|(other, _)| *other == column);
        if is_excluded || (!listed.is_empty() && !listed.contains(&column)) {
            let why = if is_excluded { "it is in `exclude`" } else { "it is not in `features`" };
            report.push(Draft::error(
                Code::COLUMN_NOT_COMPARED,
                format!("the column `{}` is not compared: {why}", shown(column)),
                at,
            ));
        }
    }
}

/// Checks that the rule can be met by what is measured, for the kinds of columns that are in use.
fn check_judgement(
    spec: &DriftSpec,
    fields: &Fields<'_, '_>,
    numeric: &Fields<'_, '_>,
    categorical: &Fields<'_, '_>,
    rule: &Fields<'_, '_>,
    report: &mut Report<'_>,
) {
    let n = &spec.numeric;
    let has_numeric_size = [n.ks_statistic, n.psi, n.js, n.kl, n.wasserstein].iter().any(Option::is_some);
    let c = &spec.categorical;
    let has_categorical_size = [c.psi, c.js, c.kl].iter().any(Option::is_some);
    let kinds = [
        ("numeric", n.metrics.contains(&NumericMetric::Ks), has_numeric_size, numeric, "ks"),
        (
            "categorical",
            c.metrics.contains(&CategoricalMetric::Chi2),
            has_categorical_size,
            categorical,
            "chi2",
        ),
    ];
    for (kind, has_test, has_size, own, test) in kinds {
        if !is_in_use(spec, kind) {
            continue;
        }
        let place: Range<usize> = own
            .field("metrics")
            .map(|field| field.node.span.clone())
            .or_else(|| rule.field("feature").map(|field| field.node.span.clone()))
            .unwrap_or_else(|| fields.at.clone());
        if !has_test && !has_size {
            report.push(
                Draft::error(
                    Code::NEVER_DRIFTS,
                    format!("{kind} features have neither a test nor a size: they can never drift"),
                    place,
                )
                .help(format!("measure `{test}`, or give a threshold such as `psi = 0.2`")),
            );
        } else if spec.rule.feature == FeatureRule::All && !(has_test && has_size) {
            let lacks = if has_test {
                "a size (a threshold such as `psi = 0.2`)".to_owned()
            } else {
                format!("a test (`{test}`)")
            };
            report.push(
                Draft::error(
                    Code::TEST_AND_SIZE,
                    format!(
                        "`feature = \"all\"` needs a test and a size; {kind} features have no {}",
                        lacks.trim_start_matches("a ")
                    ),
                    place,
                )
                .help(format!("add {lacks}, or set `rule = {{ feature = \"any\" }}`")),
            );
        }
    }
}

/// Whether there may be columns of the kind: all listed features of the other kind leave none.
fn is_in_use(spec: &DriftSpec, kind: &str) -> bool {
    let others = if kind == "numeric" { &spec.categorical.columns } else { &spec.numeric.columns };
    spec.features.is_empty() || spec.features.iter().any(|feature| !others.contains(feature))
}
