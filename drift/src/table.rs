//! One side's data behind one face, whatever its format.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    column::{Column, Numeric},
    error::DriftError,
    read::{Selection, TextColumn, TextTable, csv, jsonl, parquet::ParquetTable},
    source::{Format, Source},
};

/// One side's table, opened: text is read, of Parquet only the footers.
pub(crate) struct Table {
    pub(crate) source: Source,
    /// Every column, in the order of first appearance.
    pub(crate) names: Vec<String>,
    pub(crate) rows: u64,
    data: Data,
}

enum Data {
    Text(BTreeMap<String, TextColumn>),
    Parquet(ParquetTable),
}

/// A column, in memory or still in its files.
pub(crate) enum Input<'a> {
    Ready(Column),
    Parquet {
        table: &'a ParquetTable,
        source: &'a Source,
        name: String,
        as_numeric: bool,
    },
    /// The side lacks the column; every row counts as missing.
    Absent(u64),
}

impl Table {
    pub(crate) fn open(source: Source, selection: &Selection) -> Result<Self, DriftError> {
        let text = |table: TextTable| {
            let columns = table.columns.into_iter().map(|c| (c.name.clone(), c)).collect();
            (table.names, table.rows, Data::Text(columns))
        };
        let (names, rows, data) = match source.format {
            Format::Csv => text(csv::read(&source, selection)?),
            Format::JsonLines => text(jsonl::read(&source, selection)?),
            Format::Parquet => {
                let mut table = ParquetTable::open(&source)?;
                (std::mem::take(&mut table.names), table.rows, Data::Parquet(table))
            }
        };
        Ok(Self { source, names, rows, data })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }

    /// Returns a part that lacks a column, if one does.
    pub(crate) fn absent_in(&self, name: &str) -> Option<PathBuf> {
        if !self.has(name) {
            return Some(self.source.path.clone());
        }
        match &self.data {
            Data::Text(columns) => columns.get(name).and_then(|c| c.absent_in.clone()),
            Data::Parquet(table) => table.absent_in(name),
        }
    }

    /// Tells whether the cells, or the schema, say that a column is numeric.
    pub(crate) fn is_numeric(&self, name: &str) -> Result<bool, DriftError> {
        match &self.data {
            Data::Text(columns) => Ok(columns.get(name).is_none_or(TextColumn::is_numeric)),
            Data::Parquet(table) => table.is_numeric(name),
        }
    }

    /// Takes the columns of this side, each `(name, as numeric)`; text categories are counted here, in one pass.
    pub(crate) fn take(&mut self, wanted: &[(String, bool)]) -> Result<Vec<Input<'_>>, DriftError> {
        let names = &self.names;
        let has = |name: &str| names.iter().any(|n| n == name);
        let columns = match &mut self.data {
            Data::Parquet(table) => {
                let (table, source) = (&*table, &self.source);
                return Ok(wanted
                    .iter()
                    .map(|(name, as_numeric)| {
                        if has(name) {
                            Input::Parquet { table, source, name: name.clone(), as_numeric: *as_numeric }
                        } else {
                            Input::Absent(self.rows)
                        }
                    })
                    .collect());
            }
            Data::Text(columns) => columns,
        };
        if let Some(place) =
            wanted.iter().find_map(|(name, _)| columns.get(name).and_then(|c| c.nested.clone()))
        {
            let detail = format!("line {} holds an object or an array", place.line);
            return Err(DriftError::UnsupportedType { path: place.path, column: place.column, detail });
        }
        let counted: Vec<String> =
            wanted.iter().filter(|(n, num)| !num && has(n)).map(|(n, _)| n.clone()).collect();
        let mut categories = if counted.is_empty() {
            Vec::new()
        } else {
            match self.source.format {
                Format::JsonLines => jsonl::categories(&self.source, &counted)?,
                _ => csv::categories(&self.source, &counted)?,
            }
        }
        .into_iter();
        let mut inputs = Vec::with_capacity(wanted.len());
        for (name, as_numeric) in wanted {
            inputs.push(if !has(name) {
                Input::Absent(self.rows)
            } else if *as_numeric {
                match columns.remove(name) {
                    Some(TextColumn { text: Some((place, text)), .. }) => {
                        return Err(DriftError::NotANumber { place, text });
                    }
                    Some(column) => Input::Ready(Column::Numeric(column.numeric)),
                    None => Input::Absent(self.rows),
                }
            } else {
                categories.next().map_or(Input::Absent(self.rows), |c| Input::Ready(Column::Categorical(c)))
            });
        }
        Ok(inputs)
    }
}

impl Input<'_> {
    /// Reads the column, if it is not in memory yet.
    pub(crate) fn load(self, as_numeric: bool) -> Result<Column, DriftError> {
        match self {
            Self::Ready(column) => Ok(column),
            Self::Parquet { table, source, name, as_numeric } => table.read(source, &name, as_numeric),
            Self::Absent(rows) if as_numeric => {
                Ok(Column::Numeric(Numeric { missing: rows, ..Numeric::default() }))
            }
            Self::Absent(rows) => {
                Ok(Column::Categorical(crate::column::Categorical { missing: rows, ..Default::default() }))
            }
        }
    }
}
