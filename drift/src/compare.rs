//! The comparison: open both sides, settle which columns are compared and as what, measure each, judge.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
};

use tidemill_protocol::drift::{DriftReport, DriftSpec, FeatureReport};

use crate::{
    column::Column,
    error::DriftError,
    measure::{self, Side},
    read::Selection,
    rule,
    source::Source,
    table::{Input, Table},
};

/// What to do about a column of the reference that the current data lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingColumn {
    /// The comparison fails with DRF0301; what the operator does.
    #[default]
    Fail,
    /// The feature gets the status `no_data`; what `tidemill drift compare` does.
    NoData,
}

/// How a comparison is carried out, beside what is compared.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where relative paths begin: the folder of the DAG file, or the current one.
    pub base: PathBuf,
    /// What to do about a column that the current data lack.
    pub missing_column: MissingColumn,
    /// How many columns are measured at a time, at least 1. Default: as many as there are cores, at most 2.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { base: PathBuf::new(), missing_column: MissingColumn::default(), threads: cores.min(2) }
    }
}

/// Compares the current data with the reference, feature by feature, and judges the whole by the rule.
///
/// # Errors
/// `DRF01xx` where the paths lead nowhere, `DRF02xx` where a file cannot be read, `DRF03xx` where the columns do
/// not fit the configuration.
pub fn compare(spec: &DriftSpec, options: &Options) -> Result<DriftReport, DriftError> {
    Ok(examine(spec, options)?.report)
}

/// A report with what is known about both sides.
pub(crate) struct Examined {
    pub(crate) report: DriftReport,
    pub(crate) reference: Opened,
    pub(crate) current: Opened,
}

/// One side, after the fact.
pub(crate) struct Opened {
    pub(crate) source: Source,
    pub(crate) rows: u64,
    pub(crate) names: Vec<String>,
}

impl From<Table> for Opened {
    fn from(table: Table) -> Self {
        Self { source: table.source, rows: table.rows, names: table.names }
    }
}

pub(crate) fn examine(spec: &DriftSpec, options: &Options) -> Result<Examined, DriftError> {
    let reference = Source::find("reference", &options.base, &spec.reference)?;
    let current = Source::find("current data", &options.base, &spec.current)?;
    let selection = Selection {
        features: spec.features.clone(),
        exclude: spec.exclude.clone(),
        categorical: spec.categorical.columns.clone(),
    };
    let (mut reference, mut current) = open_both(reference, current, &selection, options.threads)?;
    let features = features(spec, options, &reference, &current, &selection)?;
    let mut wanted = Vec::with_capacity(features.len());
    for name in features {
        let as_numeric = if selection.is_categorical(&name) {
            false
        } else if spec.numeric.columns.contains(&name) {
            true
        } else if reference.has(&name) {
            reference.is_numeric(&name)?
        } else {
            current.is_numeric(&name)?
        };
        wanted.push((name, as_numeric));
    }
    let rows = (reference.rows, current.rows);
    let inputs = pair(&mut reference, &mut current, &wanted)?;
    let features = measure_all(inputs, rows, spec, options.threads)?;
    let mut report = DriftReport { features, share: None, drifted: false, decision: None };
    rule::judge(&mut report, spec);
    Ok(Examined { report, reference: reference.into(), current: current.into() })
}

/// Opens both sides, at the same time where there is a thread for it. The reference's error comes first.
fn open_both(
    reference: Source,
    current: Source,
    selection: &Selection,
    threads: usize,
) -> Result<(Table, Table), DriftError> {
    if threads < 2 {
        return Ok((Table::open(reference, selection)?, Table::open(current, selection)?));
    }
    thread::scope(|scope| {
        let other = scope.spawn(|| Table::open(current, selection));
        let reference = Table::open(reference, selection);
        match other.join() {
            Ok(current) => Ok((reference?, current?)),
            // A panic in a thread is a broken invariant of ours and stays one.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Returns the features in the reference's column order and checks every name of the configuration.
fn features(
    spec: &DriftSpec,
    options: &Options,
    reference: &Table,
    current: &Table,
    selection: &Selection,
) -> Result<Vec<String>, DriftError> {
    let mut features: Vec<String> = reference.names.iter().filter(|n| selection.takes(n)).cloned().collect();
    for column in spec.features.iter().filter(|n| selection.takes(n) && !reference.has(n)) {
        // The command line compares what there is; a DAG file that names a column means it.
        if options.missing_column == MissingColumn::Fail || !current.has(column) {
            return Err(unknown("features", column, reference));
        }
        if !features.contains(column) {
            features.push(column.clone());
        }
    }
    let named = [
        ("numeric.columns", &spec.numeric.columns),
        ("categorical.columns", &spec.categorical.columns),
        ("rule.columns", &spec.rule.columns),
    ];
    for (key, columns) in named {
        for column in columns {
            let is_known = reference.has(column) || features.contains(column);
            if !is_known || (key == "rule.columns" && !features.contains(column)) {
                return Err(unknown(key, column, reference));
            }
        }
    }
    if features.is_empty() {
        return Err(DriftError::NoFeatures);
    }
    if options.missing_column == MissingColumn::Fail {
        for column in &features {
            if let Some(path) = current.absent_in(column) {
                return Err(DriftError::MissingColumn { column: column.clone(), path });
            }
        }
    }
    Ok(features)
}

fn unknown(key: &'static str, column: &str, reference: &Table) -> DriftError {
    let known = reference.names.iter().take(40).cloned().collect();
    DriftError::UnknownColumn { key, column: column.to_owned(), known }
}

/// A feature that is to be measured.
struct Pending<'a> {
    index: usize,
    name: String,
    as_numeric: bool,
    reference: Input<'a>,
    current: Input<'a>,
}

fn pair<'a>(
    reference: &'a mut Table,
    current: &'a mut Table,
    wanted: &[(String, bool)],
) -> Result<Vec<Pending<'a>>, DriftError> {
    // A reference column without any value has no kind; whatever the current data hold, they are not at fault.
    let left = reference.take(wanted)?;
    let mut relaxed = wanted.to_vec();
    for ((name, as_numeric), input) in relaxed.iter_mut().zip(&left) {
        let is_empty = match input {
            Input::Ready(Column::Numeric(n)) => n.values.is_empty() && n.infinite == 0,
            Input::Absent(_) => true,
            _ => false,
        };
        if *as_numeric && is_empty {
            *as_numeric = current.is_numeric(name)?;
        }
    }
    let right = current.take(&relaxed)?;
    Ok(left
        .into_iter()
        .zip(right)
        .zip(wanted)
        .enumerate()
        .map(|(index, ((reference, current), (name, as_numeric)))| Pending {
            index,
            name: name.clone(),
            as_numeric: *as_numeric,
            reference,
            current,
        })
        .collect())
}

/// Measures the features on several threads; the first error by the order of the features wins.
fn measure_all(
    pending: Vec<Pending<'_>>,
    rows: (u64, u64),
    spec: &DriftSpec,
    threads: usize,
) -> Result<Vec<FeatureReport>, DriftError> {
    let mut slots: Vec<Option<Result<FeatureReport, DriftError>>> = pending.iter().map(|_| None).collect();
    let threads = threads.clamp(1, pending.len().max(1));
    let queue = Mutex::new(pending.into_iter());
    let work = || {
        let mut done = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(next) = next else { return done };
            done.push((next.index, measure_one(next, rows, spec)));
        }
    };
    let done = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    for (index, result) in done {
        if let Some(slot) = slots.get_mut(index) {
            *slot = Some(result);
        }
    }
    slots.into_iter().flatten().collect()
}

fn measure_one(next: Pending<'_>, rows: (u64, u64), spec: &DriftSpec) -> Result<FeatureReport, DriftError> {
    let reference = Side { column: next.reference.load(next.as_numeric)?, rows: rows.0 };
    let current = Side { column: next.current.load(next.as_numeric)?, rows: rows.1 };
    Ok(measure::feature(next.name, next.as_numeric, reference, current, spec))
}
