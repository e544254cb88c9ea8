//! What can go wrong, each with its code (`docs/errors/DRF0xxx.md`).

use std::{io, path::PathBuf};

/// The place of a cell in a text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1; for Parquet the row.
    pub line: u64,
    /// The column's name.
    pub column: String,
}

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DriftError {
    /// The path is blank, usually a template that rendered to nothing.
    #[error("the path of the {side} is empty")]
    EmptyPath {
        /// `reference` or `current data`.
        side: &'static str,
    },
    /// A path cannot be read.
    #[error("the {side} `{}` cannot be read", path.display())]
    Unreadable {
        /// `reference` or `current data`.
        side: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder holds no data file.
    #[error("the {side} `{}` holds no CSV, Parquet or JSON-lines file", path.display())]
    NoParts {
        /// `reference` or `current data`.
        side: &'static str,
        /// The folder.
        path: PathBuf,
    },
    /// A file whose format is not read.
    #[error("`{}` is not a format that drift reads: {detail}", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        detail: String,
    },
    /// A file without any content.
    #[error("`{}` has no content, not even a header", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// A CSV file that breaks the format.
    #[error("`{}` line {line}: {detail}", path.display())]
    BadCsv {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong.
        detail: String,
    },
    /// A JSON-lines file that breaks the format.
    #[error("`{}` line {line}: {detail}", path.display())]
    BadJson {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong.
        detail: String,
    },
    /// A Parquet file that breaks the format.
    #[error("`{}` is not a sound Parquet file: {detail}", path.display())]
    BadParquet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A column whose values are neither numbers nor text.
    #[error("`{}` column `{column}`: {detail}", path.display())]
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What it holds.
        detail: String,
    },
    /// Text where a number belongs.
    #[error("`{}` line {}, column `{}`: `{text}` is not a number", place.path.display(), place.line, place.column)]
    NotANumber {
        /// Where.
        place: Place,
        /// The cell, shortened.
        text: String,
    },
    /// A column of the reference is absent in the current data.
    #[error("column `{column}` of the reference is missing in the current data `{}`", path.display())]
    MissingColumn {
        /// The column.
        column: String,
        /// The file, or the whole path when no part has it.
        path: PathBuf,
    },
    /// The configuration names a column that the reference lacks.
    #[error("`{key}` names column `{column}`, which the reference does not have")]
    UnknownColumn {
        /// The key of the task.
        key: &'static str,
        /// The column.
        column: String,
        /// The nearest columns that exist.
        known: Vec<String>,
    },
    /// Nothing is left to compare.
    #[error("no feature is left to compare")]
    NoFeatures,
}

impl DriftError {
    /// Returns the stable code; `docs/errors/CODE.md` explains it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EmptyPath { .. } => "DRF0101",
            Self::Unreadable { .. } => "DRF0102",
            Self::NoParts { .. } => "DRF0103",
            Self::UnknownFormat { .. } => "DRF0104",
            Self::EmptyFile { .. } => "DRF0105",
            Self::BadCsv { .. } => "DRF0201",
            Self::BadJson { .. } => "DRF0202",
            Self::BadParquet { .. } => "DRF0203",
            Self::UnsupportedType { .. } => "DRF0204",
            Self::NotANumber { .. } => "DRF0205",
            Self::MissingColumn { .. } => "DRF0301",
            Self::UnknownColumn { .. } => "DRF0302",
            Self::NoFeatures => "DRF0303",
        }
    }

    /// Returns what a person can do about it, in one sentence.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::EmptyPath { .. } => {
                "look at the template of the path: it rendered to nothing.".to_owned()
            }
            Self::Unreadable { .. } => {
                "relative paths start at the folder of the DAG file; check that the data has arrived.".to_owned()
            }
            Self::NoParts { .. } => {
                "files end in .csv, .parquet, .pq, .jsonl or .ndjson; names that start with `.` or `_` are passed over."
                    .to_owned()
            }
            Self::UnknownFormat { .. } => {
                "write CSV, Parquet or JSON lines, uncompressed from outside, one format per path.".to_owned()
            }
            Self::EmptyFile { .. } => "write at least the header line.".to_owned(),
            Self::BadCsv { .. } | Self::BadJson { .. } | Self::BadParquet { .. } => {
                "write the file again; an interrupted writer leaves such files.".to_owned()
            }
            Self::UnsupportedType { column, .. } => {
                format!("write another type, or leave it out with exclude = [\"{column}\"].")
            }
            Self::NotANumber { place, .. } => format!(
                "correct the cell, or name the column in categorical.columns = [\"{}\"].",
                place.column
            ),
            Self::MissingColumn { column, .. } => {
                format!("restore the column upstream, or leave it out with exclude = [\"{column}\"].")
            }
            Self::UnknownColumn { known, .. } if known.is_empty() => {
                "the reference has no column at all.".to_owned()
            }
            Self::UnknownColumn { known, .. } => format!("the reference has: {}.", known.join(", ")),
            Self::NoFeatures => "look at `features` and `exclude`: together they leave no column.".to_owned(),
        }
    }
}
