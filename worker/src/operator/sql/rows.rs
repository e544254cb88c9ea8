//! Where rows go: into the outputs of the try, or to a file.

use serde_json::{Map, Value as Json, json};
use tidemill_protocol::worker::OUTPUT_LIMIT_BYTES;

use crate::{operator::http::Target, outcome::Problem, outputs::OutputError};

/// Where rows go.
pub(super) enum Rows {
    /// Into the outputs.
    Kept(Kept),
    /// To a file.
    Written(Written),
}

/// Rows for the outputs.
#[derive(Default)]
pub(super) struct Kept {
    /// Those of the last statement that returned any.
    rows: Vec<Json>,
    first: Option<Json>,
    bytes: usize,
    /// A further statement has begun; its first row replaces what is there.
    is_stale: bool,
}

/// Rows in a file.
pub(super) struct Written {
    target: Target,
    path: String,
    is_csv: bool,
    columns: Option<Vec<String>>,
    rows: u64,
    /// A statement before the present one has written.
    has_earlier: bool,
}

impl Rows {
    /// A statement begins.
    pub(super) fn begin(&mut self) {
        match self {
            Self::Kept(kept) => kept.is_stale = true,
            Self::Written(written) => written.has_earlier = written.columns.is_some(),
        }
    }

    /// Takes the names of the columns of a statement that returns rows; it may return none.
    pub(super) fn columns(&mut self, names: &[String]) -> Result<(), Problem> {
        match self {
            Self::Kept(kept) => {
                if std::mem::take(&mut kept.is_stale) {
                    (kept.rows, kept.first, kept.bytes) = (Vec::new(), None, 0);
                }
                Ok(())
            }
            Self::Written(written) => written.columns(names),
        }
    }

    /// Takes a row.
    pub(super) fn push(&mut self, names: &[String], values: Vec<Json>) -> Result<(), Problem> {
        match self {
            Self::Kept(kept) => kept.push(names, values),
            Self::Written(written) => written.push(names, &values),
        }
    }

    /// Returns the outputs.
    pub(super) fn outputs(self, count: u64) -> Result<Map<String, Json>, Problem> {
        let mut outputs = Map::new();
        match self {
            Self::Kept(kept) => {
                if let Some(first) = kept.first {
                    outputs.insert("value".to_owned(), first);
                }
                outputs.insert("rows".to_owned(), Json::Array(kept.rows));
                outputs.insert("row_count".to_owned(), count.into());
            }
            Self::Written(written) => {
                outputs.insert("row_count".to_owned(), written.rows.into());
                outputs.insert("file".to_owned(), written.target.keep()?.into());
            }
        }
        Ok(outputs)
    }
}

impl Kept {
    fn push(&mut self, names: &[String], values: Vec<Json>) -> Result<(), Problem> {
        if self.first.is_none() && self.rows.is_empty() {
            self.first = values.first().cloned();
        }
        let row: Map<String, Json> = names.iter().cloned().zip(values).collect();
        let row = Json::Object(row);
        self.bytes += row.to_string().len() + 1;
        if self.bytes > OUTPUT_LIMIT_BYTES {
            return Err(OutputError::Rows { rows: self.rows.len() + 1, bytes: self.bytes }.into());
        }
        self.rows.push(row);
        Ok(())
    }
}

impl Written {
    /// Rows for a file that was begun.
    pub(super) fn new(target: Target, path: &str) -> Self {
        let is_csv = path.to_ascii_lowercase().ends_with(".csv");
        Self { target, path: path.to_owned(), is_csv, columns: None, rows: 0, has_earlier: false }
    }

    fn columns(&mut self, names: &[String]) -> Result<(), Problem> {
        if self.has_earlier && self.columns.is_some() {
            let why = format!("two statements return rows, and {} can hold those of one", self.path);
            return Err(Problem::SqlRequest { why });
        }
        if self.columns.is_none() {
            self.columns = Some(names.to_vec());
            if self.is_csv {
                self.line(names.iter().map(|name| field(name)))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, names: &[String], values: &[Json]) -> Result<(), Problem> {
        self.rows += 1;
        if self.is_csv {
            return self.line(values.iter().map(|value| match value {
                Json::Null => String::new(),
                // An empty text and nothing are two things.
                Json::String(text) if text.is_empty() => "\"\"".to_owned(),
                Json::String(text) => field(text),
                other => field(&other.to_string()),
            }));
        }
        let row: Map<String, Json> = names.iter().cloned().zip(values.iter().cloned()).collect();
        let mut text = json!(row).to_string();
        text.push('\n');
        self.target.write(text.as_bytes())
    }

    fn line(&mut self, fields: impl Iterator<Item = String>) -> Result<(), Problem> {
        let mut text = fields.collect::<Vec<_>>().join(",");
        text.push_str("\r\n");
        self.target.write(text.as_bytes())
    }
}

/// Quotes a field of a CSV file where it needs it (RFC 4180).
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_where_it_needs_it() {
        for (text, expected) in [
            ("a", "a"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("a\nb", "\"a\nb\""),
            (" a", "\" a\""),
        ] {
            assert_eq!(field(text), expected);
        }
    }

    #[test]
    fn rows_that_are_too_much_for_an_output_are_refused_with_their_size() {
        let names = ["a".to_owned()];
        let mut rows = Rows::Kept(Kept::default());
        rows.begin();
        rows.columns(&names).unwrap();
        let error = (0..100_000).find_map(|n| rows.push(&names, vec![json!(n)]).err()).unwrap().to_string();
        assert!(error.starts_with("WRK0206") && error.contains("output_file"), "{error}");
    }
}
