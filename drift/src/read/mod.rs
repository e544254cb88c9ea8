//! Readers. Text (CSV, JSON lines) is read once for all columns, as numbers as long as they are numbers; the
//! columns that turn out to be categories are counted in a second pass. Parquet is read one column at a time.

pub(crate) mod csv;
pub(crate) mod jsonl;
pub(crate) mod parquet;

use std::{collections::HashMap, path::PathBuf};

use crate::{
    column::{Categorical, Numeric},
    error::{DriftError, Place},
};

/// The columns that a comparison looks at, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Empty: all.
    pub(crate) features: Vec<String>,
    pub(crate) exclude: Vec<String>,
    /// Counted as categories at once.
    pub(crate) categorical: Vec<String>,
}

impl Selection {
    pub(crate) fn takes(&self, name: &str) -> bool {
        (self.features.is_empty() || self.features.iter().any(|f| f == name))
            && !self.exclude.iter().any(|e| e == name)
    }

    pub(crate) fn is_categorical(&self, name: &str) -> bool {
        self.categorical.iter().any(|c| c == name)
    }
}

/// A column of a text file after the first pass.
#[derive(Debug, Default)]
pub(crate) struct TextColumn {
    pub(crate) name: String,
    pub(crate) numeric: Numeric,
    /// The first cell that is not a number; what `numeric` holds is void then.
    pub(crate) text: Option<(Place, String)>,
    /// JSON only: some cell was a number and not a text that looks like one.
    pub(crate) has_number: bool,
    /// JSON only: some cell was a text.
    pub(crate) has_text: bool,
    /// JSON only: the first cell that is an object or an array.
    pub(crate) nested: Option<Place>,
    /// The first part that lacks the column.
    pub(crate) absent_in: Option<PathBuf>,
    /// Cells seen, missing ones included; the other rows lack the column.
    seen: u64,
}

impl TextColumn {
    /// Whether the cells say that the column is numeric. One without any value is, by default.
    pub(crate) const fn is_numeric(&self) -> bool {
        self.text.is_none() && (self.has_number || !self.has_text)
    }
}

/// A text table after the first pass.
#[derive(Debug, Default)]
pub(crate) struct TextTable {
    pub(crate) columns: Vec<TextColumn>,
    /// Every column in the order of first appearance, taken or not.
    pub(crate) names: Vec<String>,
    pub(crate) rows: u64,
}

impl TextTable {
    /// Counts the rows that lack a column as missing; called once, after the last row.
    ///
    /// A column that first appears in a later part was absent in `first`.
    fn close(&mut self, first: Option<&PathBuf>) {
        for column in &mut self.columns {
            let lacking = self.rows.saturating_sub(column.seen);
            column.numeric.missing += lacking;
            if lacking > 0 && column.absent_in.is_none() {
                column.absent_in = first.cloned();
            }
        }
    }
}

/// Counts categories by their bytes; turned into text once per category instead of once per cell.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    counts: HashMap<Box<[u8]>, u64>,
    missing: u64,
}

impl Counter {
    pub(crate) fn add(&mut self, category: &[u8]) {
        if let Some(count) = self.counts.get_mut(category) {
            *count += 1;
        } else {
            self.counts.insert(category.into(), 1);
        }
    }

    pub(crate) const fn miss(&mut self, count: u64) {
        self.missing += count;
    }

    /// Turns bytes into text; `invalid` makes the error for bytes that are not UTF-8.
    pub(crate) fn finish(self, invalid: impl Fn() -> DriftError) -> Result<Categorical, DriftError> {
        let mut categorical = Categorical { missing: self.missing, ..Categorical::default() };
        for (bytes, count) in self.counts {
            let text = String::from_utf8(bytes.into_vec()).map_err(|_| invalid())?;
            categorical.counts.insert(text, count);
        }
        Ok(categorical)
    }
}
