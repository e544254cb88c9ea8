//! A column in memory: what is left of it once missing and infinite values are counted and dropped.

use std::collections::BTreeMap;

/// A numeric column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Numeric {
    /// Finite values, in file order until somebody sorts them.
    pub(crate) values: Vec<f64>,
    pub(crate) missing: u64,
    pub(crate) infinite: u64,
}

impl Numeric {
    /// Adds a number by the reading rules: NaN is missing, infinities are dropped and counted.
    pub(crate) fn push(&mut self, value: f64) {
        if value.is_finite() {
            // Adding 0.0 turns -0.0 into 0.0, which `total_cmp` would sort apart.
            self.values.push(value + 0.0);
        } else if value.is_nan() {
            self.missing += 1;
        } else {
            self.infinite += 1;
        }
    }
}

/// A categorical column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Categorical {
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) missing: u64,
}

/// A column of one side, ready to be measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Column {
    Numeric(Numeric),
    Categorical(Categorical),
}

/// What a cell of numeric text says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell {
    /// A number, NaN and infinities included.
    Number(f64),
    Missing,
    /// Something else.
    Text,
}

/// Reads numeric text: blanks around it do not count and a few words mean missing.
pub(crate) fn parse_cell(bytes: &[u8]) -> Cell {
    let text = bytes.trim_ascii();
    if matches!(text, b"" | b"NA" | b"N/A" | b"NaN" | b"nan" | b"null" | b"NULL" | b"None") {
        return Cell::Missing;
    }
    match fast_float2::parse::<f64, _>(text) {
        Ok(value) => Cell::Number(value),
        Err(_) => Cell::Text,
    }
}

/// Shortens a cell for a message.
pub(crate) fn shorten(bytes: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(bytes);
    if text.chars().count() <= MOST {
        return text.into_owned();
    }
    let mut short: String = text.chars().take(MOST).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_text_is_read_by_the_rules() {
        for word in ["", "  ", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", " NA\t"] {
            assert_eq!(parse_cell(word.as_bytes()), Cell::Missing, "{word:?}");
        }
        for (word, value) in [
            ("1", 1.0),
            (" -2.5e3 ", -2500.0),
            ("+4", 4.0),
            ("007", 7.0),
            (".5", 0.5),
            ("inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_cell(word.as_bytes()), Cell::Number(value), "{word:?}");
        }
        for word in ["abc", "1,5", "1 2", "0x10", "1_000", "n/a", "-", "1e", "2026-01-01", "true"] {
            assert_eq!(parse_cell(word.as_bytes()), Cell::Text, "{word:?}");
        }
    }

    #[test]
    fn pushing_drops_counts_and_joins_the_zeros() {
        let mut column = Numeric::default();
        for value in [1.0, f64::NAN, f64::INFINITY, -0.0, f64::NEG_INFINITY] {
            column.push(value);
        }
        assert_eq!((column.missing, column.infinite, column.values.len()), (1, 2, 2));
        assert!(column.values.iter().all(|v| !v.is_sign_negative()));
    }

    #[test]
    fn long_cells_are_shortened_by_characters() {
        assert_eq!(shorten("é".repeat(100).as_bytes()).chars().count(), 61);
        assert_eq!(shorten(b"abc"), "abc");
    }
}
