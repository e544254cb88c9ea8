//! JSON lines: one object a line, read without building a tree. A key that a line lacks is missing there.
//!
//! A column is numeric when it holds at least one number and every text in it reads as one; texts alone are
//! categories even when they look like numbers, because whoever wrote them quoted them.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    io::{BufRead, BufReader},
    path::Path,
};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Counter, Selection, TextColumn, TextTable};
use crate::{
    column::{Categorical, Cell, parse_cell, shorten},
    error::{DriftError, Place},
    source::Source,
};

/// Reads all selected columns as numbers; where a cell is none, the column stops there and says so.
pub(crate) fn read(source: &Source, selection: &Selection) -> Result<TextTable, DriftError> {
    let mut table = TextTable::default();
    let mut place_of: HashMap<String, Option<usize>> = HashMap::new();
    lines(source, |part, line, object| {
        table.rows += 1;
        for (key, value) in object.drain(..) {
            let place = if let Some(place) = place_of.get(key.as_ref()) {
                *place
            } else {
                table.names.push(key.clone().into_owned());
                let place = selection.takes(&key).then(|| {
                    let name = key.clone().into_owned();
                    table.columns.push(TextColumn { name, ..TextColumn::default() });
                    table.columns.len() - 1
                });
                place_of.insert(key.into_owned(), place);
                place
            };
            let Some(column) = place.and_then(|p| table.columns.get_mut(p)) else { continue };
            column.seen += 1;
            if !selection.is_categorical(&column.name) || matches!(value, Value::Nested) {
                take(column, part, line, &value);
            }
        }
    })?;
    // A key that some lines lack is a missing value there, not a missing column.
    table.close(None);
    Ok(table)
}

fn take(column: &mut TextColumn, part: &Path, line: u64, value: &Value<'_>) {
    let place = || Place { path: part.to_owned(), line, column: column.name.clone() };
    let text = match value {
        Value::Null => {
            column.numeric.missing += 1;
            return;
        }
        Value::Number(_) | Value::Integer(_) => {
            column.has_number = true;
            if column.text.is_none() {
                column.numeric.push(value.number());
            }
            return;
        }
        Value::Text(text) => {
            match parse_cell(text.as_bytes()) {
                Cell::Missing => {
                    // An empty text or a `NaN` says nothing about the kind of the column.
                    column.numeric.missing += 1;
                    return;
                }
                Cell::Number(number) => {
                    // The infinities have no number in JSON, so their text is one.
                    column.has_number |= number.is_infinite();
                    column.has_text |= number.is_finite();
                    if column.text.is_none() {
                        column.numeric.push(number);
                    }
                    return;
                }
                Cell::Text => shorten(text.as_bytes()),
            }
        }
        Value::Bool(value) => value.to_string(),
        Value::Nested => {
            if column.nested.is_none() {
                column.nested = Some(place());
            }
            return;
        }
    };
    if column.text.is_none() {
        column.text = Some((place(), text));
        column.numeric.values = Vec::new();
    }
}

/// Counts the categories of the named columns.
pub(crate) fn categories(source: &Source, names: &[String]) -> Result<Vec<Categorical>, DriftError> {
    let mut counters: Vec<Counter> = names.iter().map(|_| Counter::default()).collect();
    let mut seen = vec![0_u64; names.len()];
    let mut rows = 0;
    let place_of: HashMap<&str, usize> = names.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
    lines(source, |_, _, object| {
        rows += 1;
        for (key, value) in object.drain(..) {
            let Some(&place) = place_of.get(key.as_ref()) else { continue };
            let (Some(counter), Some(seen)) = (counters.get_mut(place), seen.get_mut(place)) else {
                continue;
            };
            *seen += 1;
            match value {
                Value::Null | Value::Nested => counter.miss(1),
                Value::Text(text) if text.is_empty() => counter.miss(1),
                Value::Text(text) => counter.add(text.as_bytes()),
                Value::Bool(value) => counter.add(value.to_string().as_bytes()),
                Value::Number(value) => counter.add(value.to_string().as_bytes()),
                Value::Integer(value) => counter.add(value.to_string().as_bytes()),
            }
        }
    })?;
    let mut found = Vec::with_capacity(names.len());
    for ((mut counter, seen), name) in counters.into_iter().zip(seen).zip(names) {
        counter.miss(rows - seen);
        found.push(counter.finish(|| DriftError::UnsupportedType {
            path: source.path.clone(),
            column: name.clone(),
            detail: "a cell is not UTF-8 text".to_owned(),
        })?);
    }
    Ok(found)
}

type Object<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Calls `each` for every line that is not blank.
fn lines(source: &Source, mut each: impl FnMut(&Path, u64, &mut Object<'_>)) -> Result<(), DriftError> {
    let mut any = false;
    for part in &source.parts {
        let mut reader = BufReader::with_capacity(256 * 1024, source.open(part)?);
        let mut bytes = Vec::new();
        let mut line = 0;
        loop {
            bytes.clear();
            if reader.read_until(b'\n', &mut bytes).map_err(|e| source.unreadable(part, e))? == 0 {
                break;
            }
            line += 1;
            let text =
                bytes.strip_prefix(b"\xEF\xBB\xBF").filter(|_| line == 1).unwrap_or(&bytes).trim_ascii();
            if text.is_empty() {
                continue;
            }
            any = true;
            let sanitized;
            let mut object = match parse(text) {
                Ok(object) => object,
                Err(error) => {
                    // Python writes bare NaN and Infinity, which JSON does not have.
                    sanitized = quote_bare_numbers(text);
                    parse(&sanitized).map_err(|_| DriftError::BadJson {
                        path: part.clone(),
                        line,
                        detail: what(&error),
                    })?
                }
            };
            each(part, line, &mut object);
        }
    }
    if any { Ok(()) } else { Err(DriftError::EmptyFile { path: source.path.clone() }) }
}

/// Takes serde's `at line 1` out of a message; the line is ours.
fn what(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => format!("{what} at character {}", error.column()),
        None => text,
    }
}

fn parse(text: &[u8]) -> Result<Object<'_>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let object = deserializer.deserialize_map(ObjectVisitor)?;
    deserializer.end()?;
    Ok(object)
}

/// Replaces NaN and ±Infinity outside of strings by `null` and by the texts that read as infinities.
fn quote_bare_numbers(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let (mut rest, mut in_string, mut is_escaped) = (text, false, false);
    while let Some((&byte, tail)) = rest.split_first() {
        if !in_string {
            let words: [(&[u8], &[u8]); 3] =
                [(b"NaN", b"null"), (b"-Infinity", b"\"-inf\""), (b"Infinity", b"\"inf\"")];
            if let Some((word, with)) = words.iter().find(|(word, _)| rest.starts_with(word)) {
                out.extend_from_slice(with);
                rest = rest.get(word.len()..).unwrap_or_default();
                continue;
            }
        }
        if byte == b'"' && !is_escaped {
            in_string = !in_string;
        }
        is_escaped = in_string && byte == b'\\' && !is_escaped;
        out.push(byte);
        rest = tail;
    }
    out
}

/// A value, without a tree below it.
#[derive(Debug)]
enum Value<'a> {
    Null,
    Bool(bool),
    Number(f64),
    /// Kept whole: identifiers above 2^53 are different categories although they are one `f64`.
    Integer(i128),
    Text(Cow<'a, str>),
    Nested,
}

impl Value<'_> {
    /// The number as columns hold it; not a number for everything else.
    fn number(&self) -> f64 {
        match self {
            Self::Number(value) => *value,
            #[expect(clippy::cast_precision_loss, reason = "integers are widened to f64 by definition")]
            Self::Integer(value) => *value as f64,
            _ => f64::NAN,
        }
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object: Object<'de> = Vec::new();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let value = map.next_value_seed(ValueSeed)?;
            // Of a repeated key the last counts, as everywhere; lines are short, so a scan is cheapest.
            if let Some(slot) = object.iter_mut().find(|(k, _)| *k == key) {
                slot.1 = value;
            } else {
                object.push((key, value));
            }
        }
        Ok(object)
    }
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::Integer(i128::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Value::Integer(i128::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Nested)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Nested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_nan_and_infinity_are_read_outside_of_strings_only() {
        let text = br#"{"a": NaN, "b": -Infinity, "c": "NaN \" Infinity", "d": [Infinity], "e": 1}"#;
        let fixed = quote_bare_numbers(text);
        let object = parse(&fixed).unwrap();
        let find = |key: &str| object.iter().find(|(k, _)| k == key).map(|(_, v)| v).unwrap();
        assert!(matches!(find("a"), Value::Null));
        assert!(matches!(find("b"), Value::Text(t) if t == "-inf"));
        assert!(matches!(find("c"), Value::Text(t) if t == "NaN \" Infinity"));
        assert!(matches!(find("d"), Value::Nested));
        assert!(matches!(find("e"), Value::Integer(1)));
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        let object = parse(br#"{"a": 1, "a": 2}"#).unwrap();
        assert!(matches!(object.as_slice(), [(_, Value::Integer(2))]));
    }
}
