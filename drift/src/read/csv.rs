//! CSV: a header line, commas, quotes as in RFC 4180, UTF-8 with or without a byte order mark.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use ::csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::{Counter, Selection, TextColumn, TextTable};
use crate::{
    column::{Categorical, Cell, parse_cell, shorten},
    error::{DriftError, Place},
    source::Source,
};

const BUFFER: usize = 256 * 1024;

/// Reads all selected columns as numbers; where a cell is none, the column stops there and says so.
pub(crate) fn read(source: &Source, selection: &Selection) -> Result<TextTable, DriftError> {
    let mut table = TextTable::default();
    let mut place_of: HashMap<String, Option<usize>> = HashMap::new();
    for part in &source.parts {
        let (mut reader, header) = open(source, part)?;
        // For every column of this part its place in the table, if it is taken.
        let mut places = Vec::with_capacity(header.len());
        for name in &header {
            let place = place_of.entry(name.clone()).or_insert_with(|| {
                table.names.push(name.clone());
                selection.takes(name).then(|| {
                    table.columns.push(TextColumn { name: name.clone(), ..TextColumn::default() });
                    table.columns.len() - 1
                })
            });
            // Forced categories are not parsed here.
            places.push(place.filter(|_| !selection.is_categorical(name)));
        }
        let before = table.rows;
        read_part(part, &mut reader, &places, &mut table)?;
        for column in &mut table.columns {
            if header.contains(&column.name) {
                column.seen += table.rows - before;
            } else {
                column.absent_in.get_or_insert_with(|| part.clone());
            }
        }
    }
    table.close(source.parts.first());
    Ok(table)
}

fn read_part(
    part: &Path,
    reader: &mut Reader<BufReader<File>>,
    places: &[Option<usize>],
    table: &mut TextTable,
) -> Result<(), DriftError> {
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|e| broken(part, &e))? {
        table.rows += 1;
        for (bytes, place) in record.iter().zip(places) {
            let Some(column) = place.and_then(|p| table.columns.get_mut(p)) else { continue };
            if column.text.is_some() {
                continue;
            }
            match parse_cell(bytes) {
                Cell::Number(value) => column.numeric.push(value),
                Cell::Missing => column.numeric.missing += 1,
                Cell::Text => {
                    let line = record.position().map_or(0, ::csv::Position::line);
                    let place = Place { path: part.to_owned(), line, column: column.name.clone() };
                    column.text = Some((place, shorten(bytes)));
                    column.numeric.values = Vec::new();
                }
            }
        }
    }
    Ok(())
}

/// Counts the categories of the named columns.
pub(crate) fn categories(source: &Source, names: &[String]) -> Result<Vec<Categorical>, DriftError> {
    let mut counters: Vec<Counter> = names.iter().map(|_| Counter::default()).collect();
    for part in &source.parts {
        let (mut reader, header) = open(source, part)?;
        let places: Vec<Option<usize>> =
            names.iter().map(|name| header.iter().position(|column| column == name)).collect();
        let mut record = ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|e| broken(part, &e))? {
            for (counter, place) in counters.iter_mut().zip(&places) {
                match place.and_then(|p| record.get(p)) {
                    None | Some(b"") => counter.miss(1),
                    Some(category) => counter.add(category),
                }
            }
        }
    }
    let invalid = |name: &String| DriftError::UnsupportedType {
        path: source.path.clone(),
        column: name.clone(),
        detail: "a cell is not UTF-8 text".to_owned(),
    };
    counters.into_iter().zip(names).map(|(counter, name)| counter.finish(|| invalid(name))).collect()
}

/// Opens a part and reads its header.
fn open(source: &Source, part: &Path) -> Result<(Reader<BufReader<File>>, Vec<String>), DriftError> {
    let mut file = BufReader::with_capacity(BUFFER, source.open(part)?);
    let unreadable = |e| source.unreadable(part, e);
    // The byte order mark would become a part of the first column's name.
    let mut mark = [0; 3];
    let has_mark = matches!(file.read_exact(&mut mark), Ok(()) if mark == *b"\xEF\xBB\xBF");
    if !has_mark {
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    }
    let mut reader = ReaderBuilder::new().buffer_capacity(BUFFER).from_reader(file);
    let header = reader.byte_headers().map_err(|e| broken(part, &e))?.clone();
    if header.is_empty() {
        return Err(DriftError::EmptyFile { path: part.to_owned() });
    }
    let bad = |detail: String| DriftError::BadCsv { path: part.to_owned(), line: 1, detail };
    let mut names: Vec<String> = Vec::with_capacity(header.len());
    for name in &header {
        let name = str::from_utf8(name).map_err(|_| bad("the header is not UTF-8".to_owned()))?.to_owned();
        if names.contains(&name) {
            return Err(bad(format!("two columns are called `{name}`")));
        }
        names.push(name);
    }
    Ok((reader, names))
}

fn broken(part: &Path, error: &::csv::Error) -> DriftError {
    let line = error.position().map_or(0, ::csv::Position::line);
    let detail = match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells where the header has {expected_len}")
        }
        ErrorKind::Io(e) => format!("cannot be read: {e}"),
        _ => error.to_string(),
    };
    DriftError::BadCsv { path: part.to_owned(), line, detail }
}
