//! The numbers of one feature, before anybody judges them.

use tidemill_protocol::drift::{
    CategoricalMetric, Chi2, DriftSpec, FeatureReport, Histogram, Js, Kl, Ks, KsMethod, Metrics,
    NumericMetric, PsiVariant, Scalar, Wasserstein,
};

use crate::{
    column::{Categorical, Column, Numeric},
    stats::{
        bins::{self, Cuts},
        chi2, ks, wasserstein,
    },
};

/// How many categories a picture shows; the rest is one bar.
const MOST_BARS: usize = 24;

/// One side's column.
pub(crate) struct Side {
    pub(crate) column: Column,
    pub(crate) rows: u64,
}

impl Side {
    const fn missing(&self) -> u64 {
        match &self.column {
            Column::Numeric(n) => n.missing,
            Column::Categorical(c) => c.missing,
        }
    }

    const fn infinite(&self) -> u64 {
        match &self.column {
            Column::Numeric(n) => n.infinite,
            Column::Categorical(_) => 0,
        }
    }

    fn n(&self) -> u64 {
        match &self.column {
            Column::Numeric(n) => n.values.len() as u64,
            Column::Categorical(c) => c.counts.values().sum(),
        }
    }
}

/// Measures a feature. A side without values gives a status and no numbers.
pub(crate) fn feature(
    name: String,
    is_numeric: bool,
    mut reference: Side,
    mut current: Side,
    spec: &DriftSpec,
) -> FeatureReport {
    let (n_reference, n_current) = (reference.n(), current.n());
    let status = if n_current == 0 {
        "no_data"
    } else if n_reference == 0 {
        "no_reference"
    } else if n_reference.min(n_current) <= spec.min_samples {
        "insufficient"
    } else {
        "ok"
    };
    let (metrics, histogram) = match (&mut reference.column, &mut current.column) {
        _ if n_reference == 0 || n_current == 0 => (Metrics::default(), None),
        (Column::Numeric(reference), Column::Numeric(current)) => numeric(reference, current, spec),
        (Column::Categorical(reference), Column::Categorical(current)) => {
            categorical(reference, current, spec)
        }
        // Both sides are loaded as the same kind wherever both have values.
        _ => (Metrics::default(), None),
    };
    FeatureReport {
        name,
        kind: if is_numeric { "numeric" } else { "categorical" }.to_owned(),
        status: status.to_owned(),
        rows_reference: reference.rows,
        rows_current: current.rows,
        missing_reference: reference.missing(),
        missing_current: current.missing(),
        infinite_reference: reference.infinite(),
        infinite_current: current.infinite(),
        n_reference,
        n_current,
        metrics,
        drifted: false,
        significant: None,
        large: None,
        reasons: Vec::new(),
        histogram,
    }
}

fn numeric(reference: &mut Numeric, current: &mut Numeric, spec: &DriftSpec) -> (Metrics, Option<Histogram>) {
    // The sum for the standard deviation must not depend on the order of the rows, so sort first.
    reference.values.sort_unstable_by(f64::total_cmp);
    current.values.sort_unstable_by(f64::total_cmp);
    let (reference, current) = (reference.values.as_slice(), current.values.as_slice());
    let wants = |metric| spec.numeric.metrics.contains(&metric);
    let deciles = bins::deciles(reference);
    let atoms = Cuts::atoms(&deciles);
    let p = bins::shares(&atoms.counts(reference));
    let q = bins::shares(&atoms.counts(current));
    let psi = || match spec.numeric.psi_variant {
        PsiVariant::Atoms => bins::psi_clipped(&p, &q),
        PsiVariant::Clipped => {
            let cuts = Cuts::clipped(&deciles);
            bins::psi_clipped(&bins::shares(&cuts.counts(reference)), &bins::shares(&cuts.counts(current)))
        }
        PsiVariant::Seed => {
            bins::psi_seed(&bins::seed_shares(&deciles, reference), &bins::seed_shares(&deciles, current))
        }
    };
    let metrics = Metrics {
        ks: wants(NumericMetric::Ks).then(|| kolmogorov_smirnov(reference, current, spec.numeric.ks_method)),
        psi: wants(NumericMetric::Psi).then(|| Scalar { value: psi() }),
        kl: wants(NumericMetric::Kl).then(|| kl(&p, &q)),
        js: wants(NumericMetric::Js).then(|| js(&p, &q)),
        wasserstein: wants(NumericMetric::Wasserstein)
            .then(|| {
                let value = wasserstein::distance(reference, current)?;
                Some(Wasserstein { value, normed: wasserstein::normed(value, reference)? })
            })
            .flatten(),
        chi2: None,
    };
    (metrics, Some(Histogram { labels: atoms.labels(), reference: p, current: q }))
}

fn kolmogorov_smirnov(reference: &[f64], current: &[f64], method: KsMethod) -> Ks {
    let distance = ks::distance(reference, current);
    let (p_value, is_exact) = distance.p_value(match method {
        KsMethod::Auto => ks::Method::Auto,
        KsMethod::Exact => ks::Method::Exact,
        KsMethod::Asymp => ks::Method::Asymptotic,
    });
    Ks {
        statistic: distance.statistic,
        sign: distance.sign,
        p_value,
        p_value_corrected: None,
        method: if is_exact { "exact" } else { "asymp" }.to_owned(),
    }
}

fn categorical(
    reference: &Categorical,
    current: &Categorical,
    spec: &DriftSpec,
) -> (Metrics, Option<Histogram>) {
    let union = chi2::union(&reference.counts, &current.counts);
    let counts = |pick: fn(&(String, u64, u64)) -> u64| union.iter().map(pick).collect::<Vec<u64>>();
    let (left, right) = (counts(|u| u.1), counts(|u| u.2));
    let (p, q) = (bins::shares(&left), bins::shares(&right));
    let wants = |metric| spec.categorical.metrics.contains(&metric);
    let metrics = Metrics {
        psi: wants(CategoricalMetric::Psi).then(|| Scalar {
            value: match spec.numeric.psi_variant {
                PsiVariant::Seed => bins::psi_seed(&p, &q),
                PsiVariant::Atoms | PsiVariant::Clipped => bins::psi_clipped(&p, &q),
            },
        }),
        kl: wants(CategoricalMetric::Kl).then(|| kl(&p, &q)),
        js: wants(CategoricalMetric::Js).then(|| js(&p, &q)),
        chi2: wants(CategoricalMetric::Chi2).then(|| {
            #[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
            let floats = |counts: &[u64]| counts.iter().map(|c| *c as f64).collect::<Vec<f64>>();
            Chi2 { p_value: Some(chi2::p_value(&floats(&left), &floats(&right))), p_value_corrected: None }
        }),
        ..Metrics::default()
    };
    (metrics, Some(bars(union, &p, &q)))
}

/// The most frequent categories, by the sum of both shares; the rest is one bar.
fn bars(union: Vec<(String, u64, u64)>, p: &[f64], q: &[f64]) -> Histogram {
    let mut bars: Vec<(String, f64, f64)> =
        union.into_iter().zip(p.iter().zip(q)).map(|((name, ..), (p, q))| (name, *p, *q)).collect();
    bars.sort_by(|a, b| (b.1 + b.2).total_cmp(&(a.1 + a.2)).then_with(|| a.0.cmp(&b.0)));
    if bars.len() > MOST_BARS {
        let rest = bars.split_off(MOST_BARS - 1);
        let label = format!("{} others", rest.len());
        bars.push((label, rest.iter().map(|r| r.1).sum(), rest.iter().map(|r| r.2).sum()));
    }
    Histogram {
        labels: bars.iter().map(|b| b.0.clone()).collect(),
        reference: bars.iter().map(|b| b.1).collect(),
        current: bars.iter().map(|b| b.2).collect(),
    }
}

fn kl(p: &[f64], q: &[f64]) -> Kl {
    Kl { reference_current: bins::kullback_leibler(p, q), current_reference: bins::kullback_leibler(q, p) }
}

fn js(p: &[f64], q: &[f64]) -> Js {
    let divergence = bins::jensen_shannon(p, q);
    Js { distance: divergence.sqrt(), divergence }
}
