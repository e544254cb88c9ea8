//! Merge conflicts that version control left in a file.

use std::ops::Range;

/// A merge conflict: the marker lines, each as a range of bytes, and what is to be blanked out before parsing.
pub(crate) struct Conflict {
    pub(crate) start: Range<usize>,
    pub(crate) middle: Range<usize>,
    pub(crate) end: Range<usize>,
}

/// Finds the merge conflicts that version control left in the file.
pub(crate) fn find(text: &str) -> Vec<Conflict> {
    let mut found = Vec::new();
    let (mut start, mut middle) = (None, None);
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let range = at..at + line.trim_end().len();
        at += line.len();
        if line.starts_with("<<<<<<<") {
            (start, middle) = (Some(range), None);
        } else if line.starts_with("=======") && start.is_some() {
            middle = Some(range);
        } else if line.starts_with(">>>>>>>")
            && let (Some(start), Some(middle)) = (start.take(), middle.take())
        {
            found.push(Conflict { start, middle, end: range });
        }
    }
    found
}

/// Blanks out the markers and the second side of every conflict, byte for byte, so that places stay true.
pub(crate) fn blank(text: &str, found: &[Conflict]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for conflict in found {
        for range in [conflict.start.clone(), conflict.middle.start..conflict.end.end] {
            for byte in bytes.get_mut(range).unwrap_or_default() {
                if !matches!(byte, b'\n' | b'\r') {
                    *byte = b' ';
                }
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}
