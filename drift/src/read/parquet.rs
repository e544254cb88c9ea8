//! Parquet without arrow: flat columns, one at a time, row group by row group.
//!
//! The kind of a column is the file's own: numbers of every width, decimals, dates and times are numeric (in the
//! unit of the file), booleans and text are categorical.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use ::parquet::{
    basic::{ConvertedType, LogicalType, Type},
    column::reader::ColumnReaderImpl,
    data_type::{
        BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
    },
    errors::ParquetError,
    file::{
        metadata::ParquetMetaData, metadata::ParquetMetaDataReader, serialized_reader::SerializedPageReader,
    },
    schema::types::ColumnDescriptor,
};

use super::Counter;
use crate::{
    column::{Cell, Column, Numeric, parse_cell, shorten},
    error::{DriftError, Place},
    source::Source,
};

/// Values that are decoded at a time.
const BATCH: usize = 32 * 1024;

/// A Parquet table: the footers of its parts.
pub(crate) struct ParquetTable {
    parts: Vec<(PathBuf, ParquetMetaData)>,
    /// The top-level columns in the order of first appearance.
    pub(crate) names: Vec<String>,
    pub(crate) rows: u64,
}

/// How the bytes of a column become values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Bool,
    Signed,
    Unsigned,
    Float,
    Half,
    /// An unscaled integer of this scale.
    Decimal(i32),
    Text,
}

impl Shape {
    const fn is_numeric(self) -> bool {
        !matches!(self, Self::Bool | Self::Text)
    }
}

impl ParquetTable {
    /// Reads the footers.
    pub(crate) fn open(source: &Source) -> Result<Self, DriftError> {
        let mut table = Self { parts: Vec::new(), names: Vec::new(), rows: 0 };
        for part in &source.parts {
            let file = source.open(part)?;
            if file.metadata().map_err(|e| source.unreadable(part, e))?.len() == 0 {
                return Err(DriftError::EmptyFile { path: part.clone() });
            }
            let footer = guarded(part, || ParquetMetaDataReader::new().parse_and_finish(&file))?;
            for field in footer.file_metadata().schema().get_fields() {
                if !table.names.iter().any(|name| name == field.name()) {
                    table.names.push(field.name().to_owned());
                }
            }
            table.rows += u64::try_from(footer.file_metadata().num_rows()).unwrap_or(0);
            table.parts.push((part.clone(), footer));
        }
        Ok(table)
    }

    /// Returns the first part that lacks a column.
    pub(crate) fn absent_in(&self, name: &str) -> Option<PathBuf> {
        let has = |footer: &ParquetMetaData| {
            footer.file_metadata().schema().get_fields().iter().any(|f| f.name() == name)
        };
        self.parts.iter().find(|(_, footer)| !has(footer)).map(|(path, _)| path.clone())
    }

    /// Tells whether the files say that a column is numeric; a column of several types is an error.
    pub(crate) fn is_numeric(&self, name: &str) -> Result<bool, DriftError> {
        let mut first: Option<bool> = None;
        for (part, footer) in &self.parts {
            let Some(place) = find(part, footer, name)? else { continue };
            let is_numeric =
                shape(part, footer.file_metadata().schema_descr().column(place).as_ref())?.is_numeric();
            if *first.get_or_insert(is_numeric) != is_numeric {
                return Err(unsupported(part, name, "it is text in one part and a number in another"));
            }
        }
        Ok(first.unwrap_or(true))
    }

    /// Reads a column of all parts.
    pub(crate) fn read(&self, source: &Source, name: &str, as_numeric: bool) -> Result<Column, DriftError> {
        let mut sink = if as_numeric {
            Sink::Numeric(Numeric::default())
        } else {
            Sink::Categorical(Counter::default())
        };
        for (part, footer) in &self.parts {
            let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or(0);
            let Some(place) = find(part, footer, name)? else {
                sink.miss(rows);
                continue;
            };
            // A file of its own per column: clones of one share their position, which threads would fight over.
            let file = Arc::new(source.open(part)?);
            read_part(part, &file, footer, place, &mut sink)?;
        }
        match sink {
            Sink::Numeric(numeric) => Ok(Column::Numeric(numeric)),
            Sink::Categorical(counter) => counter
                .finish(|| unsupported(&source.path, name, "a cell is not UTF-8 text"))
                .map(Column::Categorical),
        }
    }
}

/// Finds a flat column; one with children is an error only when it is asked for.
fn find(part: &Path, footer: &ParquetMetaData, name: &str) -> Result<Option<usize>, DriftError> {
    for (place, column) in footer.file_metadata().schema_descr().columns().iter().enumerate() {
        let path = column.path().parts();
        if path.first().is_some_and(|first| first == name) {
            if path.len() > 1 || column.max_rep_level() > 0 {
                return Err(unsupported(part, name, "it holds lists, maps or structures"));
            }
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn unsupported(part: &Path, column: &str, detail: &str) -> DriftError {
    DriftError::UnsupportedType {
        path: part.to_owned(),
        column: column.to_owned(),
        detail: detail.to_owned(),
    }
}

/// Tells what a column holds, by its logical type, else by its converted type, else by its physical type.
fn shape(part: &Path, column: &ColumnDescriptor) -> Result<Shape, DriftError> {
    let physical = column.physical_type();
    let bytes = matches!(physical, Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY);
    let refuse = |what: &str| Err(unsupported(part, column.name(), what));
    match column.logical_type_ref() {
        Some(LogicalType::Decimal(decimal)) => return Ok(Shape::Decimal(decimal.scale)),
        Some(LogicalType::Integer(int)) if !int.is_signed => return Ok(Shape::Unsigned),
        Some(LogicalType::Float16) => return Ok(Shape::Half),
        Some(LogicalType::String | LogicalType::Enum | LogicalType::Json) if bytes => return Ok(Shape::Text),
        Some(
            LogicalType::Integer(_)
            | LogicalType::Date
            | LogicalType::Time(_)
            | LogicalType::Timestamp(_)
            | LogicalType::Unknown,
        )
        | None => {}
        Some(other) => return refuse(&format!("values of type {other:?} are not compared")),
    }
    match column.converted_type() {
        ConvertedType::DECIMAL => return Ok(Shape::Decimal(column.type_scale())),
        ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64 => {
            return Ok(Shape::Unsigned);
        }
        ConvertedType::INTERVAL => return refuse("intervals are not compared"),
        _ => {}
    }
    match physical {
        Type::BOOLEAN => Ok(Shape::Bool),
        Type::INT32 | Type::INT64 => Ok(Shape::Signed),
        Type::FLOAT | Type::DOUBLE => Ok(Shape::Float),
        Type::BYTE_ARRAY => Ok(Shape::Text),
        Type::INT96 => refuse("INT96 timestamps are not read; write INT64 timestamps"),
        Type::FIXED_LEN_BYTE_ARRAY => refuse("fixed-length bytes without a meaning are not compared"),
    }
}

/// Where values go.
enum Sink {
    Numeric(Numeric),
    Categorical(Counter),
}

impl Sink {
    const fn miss(&mut self, count: u64) {
        match self {
            Self::Numeric(numeric) => numeric.missing += count,
            Self::Categorical(counter) => counter.miss(count),
        }
    }

    fn number(&mut self, value: f64) {
        match self {
            Self::Numeric(numeric) => numeric.push(value),
            Self::Categorical(counter) if value.is_nan() => counter.miss(1),
            Self::Categorical(counter) => counter.add(value.to_string().as_bytes()),
        }
    }

    fn integer(&mut self, value: i128) {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "integers are widened to f64 by definition")]
            Self::Numeric(numeric) => numeric.push(value as f64),
            Self::Categorical(counter) => counter.add(value.to_string().as_bytes()),
        }
    }

    /// Adds text; false where a number was wanted and it is none.
    fn text(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Categorical(counter) if bytes.is_empty() => counter.miss(1),
            Self::Categorical(counter) => counter.add(bytes),
            Self::Numeric(numeric) => match parse_cell(bytes) {
                Cell::Number(value) => numeric.push(value),
                Cell::Missing => numeric.missing += 1,
                Cell::Text => return false,
            },
        }
        true
    }
}

fn read_part(
    part: &Path,
    file: &Arc<File>,
    footer: &ParquetMetaData,
    place: usize,
    sink: &mut Sink,
) -> Result<(), DriftError> {
    let column = footer.file_metadata().schema_descr().column(place);
    let shape = shape(part, &column)?;
    let pages = Pages { part, file, footer, place };
    match column.physical_type() {
        Type::BOOLEAN => {
            pages.each::<BoolType>(sink, |sink, v| sink.text(if *v { b"true" } else { b"false" }))
        }
        Type::INT32 => pages.each::<Int32Type>(sink, |sink, v| {
            match shape {
                Shape::Unsigned => sink.integer(i128::from(v.cast_unsigned())),
                Shape::Decimal(scale) => sink.number(decimal(i128::from(*v), scale)),
                _ => sink.integer(i128::from(*v)),
            }
            true
        }),
        Type::INT64 => pages.each::<Int64Type>(sink, |sink, v| {
            match shape {
                Shape::Unsigned => sink.integer(i128::from(v.cast_unsigned())),
                Shape::Decimal(scale) => sink.number(decimal(i128::from(*v), scale)),
                _ => sink.integer(i128::from(*v)),
            }
            true
        }),
        Type::FLOAT => pages.each::<FloatType>(sink, |sink, v| {
            sink.number(f64::from(*v));
            true
        }),
        Type::DOUBLE => pages.each::<DoubleType>(sink, |sink, v| {
            sink.number(*v);
            true
        }),
        Type::BYTE_ARRAY => pages.each::<ByteArrayType>(sink, |sink, v| bytes(sink, shape, v.data())),
        Type::FIXED_LEN_BYTE_ARRAY => {
            pages.each::<FixedLenByteArrayType>(sink, |sink, v| bytes(sink, shape, v.data()))
        }
        Type::INT96 => Err(unsupported(part, column.name(), "INT96 timestamps are not read")),
    }
}

fn bytes(sink: &mut Sink, shape: Shape, bytes: &[u8]) -> bool {
    match (shape, bytes) {
        (Shape::Decimal(scale), _) => sink.number(wide_decimal(bytes, scale)),
        (Shape::Half, [low, high]) => sink.number(half(u16::from_le_bytes([*low, *high]))),
        _ => return sink.text(bytes),
    }
    true
}

/// An unscaled integer over a power of ten; one rounding where both are exact.
fn decimal(unscaled: i128, scale: i32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "decimals are widened to f64 by definition")]
    let unscaled = unscaled as f64;
    if scale >= 0 { unscaled / 10_f64.powi(scale) } else { unscaled * 10_f64.powi(-scale) }
}

/// A big-endian two's complement decimal of any width.
fn wide_decimal(bytes: &[u8], scale: i32) -> f64 {
    let is_negative = bytes.first().is_some_and(|b| *b >= 0x80);
    if bytes.len() <= 16 {
        let start: i128 = if is_negative { -1 } else { 0 };
        return decimal(bytes.iter().fold(start, |value, byte| (value << 8) | i128::from(*byte)), scale);
    }
    let magnitude = bytes
        .iter()
        .fold(0.0, |value, byte| value * 256.0 + f64::from(if is_negative { !*byte } else { *byte }));
    let value = if is_negative { -(magnitude + 1.0) } else { magnitude };
    if scale >= 0 { value / 10_f64.powi(scale) } else { value * 10_f64.powi(-scale) }
}

/// IEEE 754 half precision.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from((bits >> 10) & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    }
}

/// The pages of one column of one part.
struct Pages<'a> {
    part: &'a Path,
    file: &'a Arc<File>,
    footer: &'a ParquetMetaData,
    place: usize,
}

impl Pages<'_> {
    /// Hands every value to `add`, which says no where it wanted a number; nulls are counted.
    fn each<T: DataType>(
        &self,
        sink: &mut Sink,
        add: impl Fn(&mut Sink, &T::T) -> bool,
    ) -> Result<(), DriftError> {
        let column = self.footer.file_metadata().schema_descr().column(self.place);
        let is_nullable = column.max_def_level() > 0;
        let (mut values, mut levels): (Vec<T::T>, Vec<i16>) = (Vec::new(), Vec::new());
        let mut row = 0_u64;
        for group in self.footer.row_groups() {
            let rows = usize::try_from(group.num_rows()).unwrap_or(0);
            let mut reader = guarded(self.part, || {
                let pages =
                    SerializedPageReader::new(Arc::clone(self.file), group.column(self.place), rows, None)?;
                Ok(ColumnReaderImpl::<T>::new(Arc::clone(&column), Box::new(pages)))
            })?;
            let mut read = 0;
            while read < rows {
                values.clear();
                levels.clear();
                let (records, _, _) = guarded(self.part, || {
                    reader.read_records(
                        BATCH.min(rows - read),
                        is_nullable.then_some(&mut levels),
                        None,
                        &mut values,
                    )
                })?;
                if records == 0 {
                    let detail = format!("column `{}` ends after {read} of {rows} rows", column.name());
                    return Err(DriftError::BadParquet { path: self.part.to_owned(), detail });
                }
                sink.miss((records - values.len().min(records)) as u64);
                for value in &values {
                    if !add(sink, value) {
                        return Err(self.not_a_number(&column, row, &levels, &values, value));
                    }
                }
                read += records;
                row += records as u64;
            }
        }
        Ok(())
    }

    /// Finds the row of a value that is not a number, for the message.
    fn not_a_number<V>(
        &self,
        column: &ColumnDescriptor,
        row: u64,
        levels: &[i16],
        values: &[V],
        value: &V,
    ) -> DriftError
    where
        V: std::fmt::Debug + ::parquet::data_type::AsBytes,
    {
        let index = values.iter().position(|v| std::ptr::eq(v, value)).unwrap_or(0);
        // Nulls have a level but no value.
        let before = if levels.is_empty() {
            index
        } else {
            levels.iter().enumerate().filter(|(_, l)| **l > 0).nth(index).map_or(index, |(at, _)| at)
        };
        DriftError::NotANumber {
            place: Place {
                path: self.part.to_owned(),
                line: row + before as u64 + 1,
                column: column.name().to_owned(),
            },
            text: shorten(value.as_bytes()),
        }
    }
}

/// Turns the library's errors, and its panics on files that lie about themselves, into ours.
fn guarded<T>(part: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DriftError> {
    let bad = |detail: String| DriftError::BadParquet { path: part.to_owned(), detail };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(bad(error.to_string())),
        Err(_) => Err(bad("its pages contradict its footer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_decimals_are_widened() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x7bff, 65_504.0),
            (0x7c00, f64::INFINITY),
        ] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(decimal(12_345, 2), 123.45);
        assert_eq!(wide_decimal(&[0xff, 0x85], 1), -12.3);
        assert_eq!(wide_decimal(&[0xff; 17], 0), -1.0);
        assert_eq!(wide_decimal(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], 0), 256.0);
    }
}
