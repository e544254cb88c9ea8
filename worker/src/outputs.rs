//! What a task writes to `$TIDEMILL_OUTPUT`: `key=value` lines, or one JSON object a line.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use serde_json::Value;
use tidemill_protocol::worker::OUTPUT_LIMIT_BYTES;

/// The most that the file as a whole may hold, and all outputs of a try as JSON, in bytes. It keeps a result far
/// below what one exchange may carry.
pub(crate) const FILE_LIMIT_BYTES: usize = 8 * 1024 * 1024;
/// How deep a value may be nested. A reader of JSON gives up at 128 levels, and a value travels inside other
/// messages: what is read here must be readable everywhere.
const DEPTH_LIMIT: usize = 32;

/// Why outputs were refused. The try fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutputError {
    /// A value above the limit.
    #[error("WRK0201: output {key:?} has {bytes} bytes; the limit of one value is {OUTPUT_LIMIT_BYTES}")]
    TooLarge { key: String, bytes: usize },
    /// A line that is neither form.
    #[error("WRK0202: line {line} of $TIDEMILL_OUTPUT is neither key=value nor a JSON object: {why}")]
    Line { line: usize, why: String },
    /// The file above the limit.
    #[error(
        "WRK0203: $TIDEMILL_OUTPUT has {bytes} bytes; the limit of all outputs of a try is {FILE_LIMIT_BYTES}"
    )]
    FileTooLarge { bytes: u64 },
    /// Rows above the limit.
    #[error(
        "WRK0206: the first {rows} rows have {bytes} bytes already; the limit of one output is {OUTPUT_LIMIT_BYTES}: \
         ask for less, or write them to a file with `output_file`"
    )]
    Rows { rows: usize, bytes: usize },
    /// A value with too many levels.
    #[error("WRK0205: output {key:?} is nested deeper than {DEPTH_LIMIT} levels")]
    TooDeep { key: String },
    /// The file cannot be read.
    #[error("WRK0204: $TIDEMILL_OUTPUT cannot be read: {error}")]
    Unreadable { error: String },
}

/// Reads the file; absent means no outputs.
///
/// # Errors
/// [`OutputError`] for the first thing that is wrong.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Value>, OutputError> {
    let unreadable = |error: std::io::Error| OutputError::Unreadable { error: error.to_string() };
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other.map_err(unreadable)?,
    };
    // A link or a device in its place could make the worker read something that is not the task's.
    if !metadata.is_file() {
        return Err(OutputError::Unreadable { error: "it is not a regular file".to_owned() });
    }
    if metadata.len() > FILE_LIMIT_BYTES as u64 {
        return Err(too_large(path, metadata.len()));
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_LIMIT_BYTES as u64).read_to_end(&mut text).map_err(unreadable)?;
    parse(&text)
}

/// Names the value when the file is one `key=…` that is far too long, else the file.
fn too_large(path: &Path, bytes: u64) -> OutputError {
    let mut head = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(OUTPUT_LIMIT_BYTES as u64 + 4096).read_to_end(&mut head));
    if read.is_ok()
        && !head.contains(&b'\n')
        && !head.starts_with(b"{")
        && let Some(end) = head.iter().position(|b| *b == b'=').filter(|end| *end <= 200)
    {
        let key = String::from_utf8_lossy(&head[..end]).into_owned();
        let length = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(end + 1);
        return OutputError::TooLarge { key, bytes: length };
    }
    OutputError::FileTooLarge { bytes }
}

/// Checks what an operator gives as outputs, by the same limits.
///
/// # Errors
/// [`OutputError`] for the first value that is too large or too deep.
pub(crate) fn check(found: BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>, OutputError> {
    let mut outputs = BTreeMap::new();
    for (key, value) in found {
        let bytes = match &value {
            Value::String(text) => text.len(),
            other => other.to_string().len(),
        };
        insert(&mut outputs, key, value, bytes).map_err(|why| why.at(0))?;
    }
    Ok(outputs)
}

fn parse(text: &[u8]) -> Result<BTreeMap<String, Value>, OutputError> {
    let mut outputs = BTreeMap::new();
    for (index, line) in text.split(|b| *b == b'\n').enumerate() {
        let refuse = |why: &str| OutputError::Line { line: index + 1, why: why.to_owned() };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line = std::str::from_utf8(line).map_err(|_| refuse("it is not UTF-8"))?;
        if line.trim_start().starts_with('{') {
            let object: serde_json::Map<String, Value> =
                serde_json::from_str(line).map_err(|error| refuse(&error.to_string()))?;
            for (key, value) in object {
                let bytes = match &value {
                    Value::String(text) => text.len(),
                    other => other.to_string().len(),
                };
                insert(&mut outputs, key, value, bytes).map_err(|why| why.at(index + 1))?;
            }
        } else {
            let (key, value) = line.split_once('=').ok_or_else(|| refuse("there is no `=`"))?;
            let bytes = value.len();
            insert(&mut outputs, key.trim().to_owned(), Value::String(value.to_owned()), bytes)
                .map_err(|why| why.at(index + 1))?;
        }
    }
    // Escapes can make the JSON of a text six times as long as the text.
    let bytes = serde_json::to_vec(&outputs).map_or(u64::MAX, |text| text.len() as u64);
    if bytes > FILE_LIMIT_BYTES as u64 {
        return Err(OutputError::FileTooLarge { bytes });
    }
    Ok(outputs)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(map) => levels == 0 || map.values().any(|item| is_deeper(item, levels - 1)),
        _ => false,
    }
}

enum Refused {
    Key(String),
    Depth(String),
    Size(String, usize),
}

impl Refused {
    fn at(self, line: usize) -> OutputError {
        match self {
            Self::Key(why) => OutputError::Line { line, why },
            Self::Depth(key) => OutputError::TooDeep { key },
            Self::Size(key, bytes) => OutputError::TooLarge { key, bytes },
        }
    }
}

fn insert(
    outputs: &mut BTreeMap<String, Value>,
    key: String,
    value: Value,
    bytes: usize,
) -> Result<(), Refused> {
    let is_key = !key.is_empty()
        && key.len() <= 200
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !is_key {
        let shown: String = key.chars().take(40).collect();
        return Err(Refused::Key(format!("{shown:?} is not a key (letters, digits, `_`, `-`, `.`)")));
    }
    if bytes > OUTPUT_LIMIT_BYTES {
        return Err(Refused::Size(key, bytes));
    }
    if is_deeper(&value, DEPTH_LIMIT) {
        return Err(Refused::Depth(key));
    }
    outputs.insert(key, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_the_last_line_of_a_key_wins() {
        let outputs =
            parse(b"a=1\r\n\n  \nb=x=y \n{\"c\":[1,{\"d\":null}],\"a\":2}\nlast=no newline").unwrap();
        let expected = serde_json::json!({"a":2,"b":"x=y ","c":[1,{"d":null}],"last":"no newline"});
        assert_eq!(serde_json::to_value(outputs).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let message = |text: &[u8]| parse(text).unwrap_err().to_string();
        assert!(message(b"a=1\nnonsense").starts_with("WRK0202: line 2"));
        assert!(message(b"{\"a\":").starts_with("WRK0202: line 1"));
        assert!(message(b"[1]").contains("there is no `=`"));
        assert!(message(b"a b=1").contains("is not a key"));
        assert!(message(b"a=\xff").contains("not UTF-8"));
    }

    #[test]
    fn the_limit_is_exact_and_names_key_and_size() {
        let line = |bytes: usize| [b"big=".to_vec(), vec![b'x'; bytes]].concat();
        assert!(parse(&line(OUTPUT_LIMIT_BYTES)).is_ok());
        let refused = parse(&line(OUTPUT_LIMIT_BYTES + 1)).unwrap_err();
        assert_eq!(refused, OutputError::TooLarge { key: "big".to_owned(), bytes: OUTPUT_LIMIT_BYTES + 1 });
    }

    #[test]
    fn a_value_is_as_deep_as_every_reader_on_its_way_can_take() {
        let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(DEPTH_LIMIT).as_bytes()).is_ok());
        for levels in [DEPTH_LIMIT + 1, 120] {
            let refused = parse(nested(levels).as_bytes()).unwrap_err();
            assert_eq!(refused, OutputError::TooDeep { key: "a".to_owned() });
            assert!(refused.to_string().starts_with("WRK0205"));
        }
    }

    #[test]
    fn a_number_travels_without_losing_its_last_digit() {
        // These two come back as their neighbours from a reader that rounds in a hurry.
        for text in ["31.245270191439438", "121.48791951161945"] {
            let outputs = parse(format!("{{\"a\":{text}}}").as_bytes()).unwrap();
            assert_eq!(outputs["a"].as_f64(), text.parse().ok());
            assert_eq!(outputs["a"].to_string(), text);
        }
    }

    #[test]
    fn what_counts_is_the_size_of_the_json() {
        let line = |key: usize| format!("k{key}={}\n", "\u{1}".repeat(OUTPUT_LIMIT_BYTES));
        let text: String = (0..6).map(line).collect();
        assert!(parse(text.as_bytes()).unwrap_err().to_string().starts_with("WRK0203"));
        assert!(parse(line(0).as_bytes()).is_ok());
    }

    #[test]
    fn a_file_far_above_the_limit_is_refused_without_reading_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        assert_eq!(read(&path).unwrap(), BTreeMap::new());
        std::fs::write(&path, [b"model=".to_vec(), vec![b'x'; 100 << 20]].concat()).unwrap();
        let refused = OutputError::TooLarge { key: "model".to_owned(), bytes: 100 << 20 };
        assert_eq!(read(&path).unwrap_err(), refused);
        std::fs::write(&path, "a=1\n".repeat(FILE_LIMIT_BYTES / 4 + 1)).unwrap();
        assert!(read(&path).unwrap_err().to_string().starts_with("WRK0203"));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(read(&path).unwrap_err().to_string().starts_with("WRK0204"));
    }
}
