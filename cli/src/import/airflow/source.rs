//! The text of a Python file: places, and a bound on how deep it nests.

use ruff_text_size::{Ranged, TextRange, TextSize};

/// The longest file, in bytes.
pub(crate) const LONGEST: usize = 1024 * 1024;
/// The deepest brackets.
const BRACKETS: usize = 100;
/// The most tokens of an expression without a comma; a chain of operators nests as deep as it is long.
const TOKENS: usize = 5_000;
/// The deepest indentation, as in Python itself.
const INDENTS: usize = 100;

/// A Python file.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, lines: std::iter::once(0).chain(starts).collect() }
    }

    /// Returns the line of a place, from 1.
    pub(super) fn line(&self, at: TextSize) -> usize {
        self.lines.partition_point(|start| *start <= at.to_usize())
    }

    /// Returns the line in which something begins, from 1.
    pub(super) fn line_of(&self, what: impl Ranged) -> usize {
        self.line(what.range().start())
    }

    /// Returns what stands there.
    pub(super) fn slice(&self, what: impl Ranged) -> &'a str {
        let range: TextRange = what.range();
        self.text.get(range.start().to_usize()..range.end().to_usize()).unwrap_or_default()
    }

    /// Returns the text from a place to another.
    pub(super) fn between(&self, start: TextSize, end: TextSize) -> &'a str {
        self.text.get(start.to_usize()..end.to_usize()).unwrap_or_default()
    }

    /// Returns where the line of a place begins.
    pub(super) fn line_start(&self, at: TextSize) -> TextSize {
        let start = self.lines.get(self.line(at).saturating_sub(1)).copied().unwrap_or_default();
        TextSize::try_from(start).unwrap_or(at)
    }
}

/// Why a text is not parsed, with the line: it nests so deeply that walking its tree could exhaust the stack.
pub(super) fn too_deep(text: &str) -> Option<(usize, &'static str)> {
    let bytes = text.as_bytes();
    let (mut at, mut line, mut brackets, mut tokens, mut is_word) = (0, 1, 0_usize, 0_usize, false);
    let mut indents = 0;
    while let Some(&byte) = bytes.get(at) {
        let was_word =
            std::mem::replace(&mut is_word, byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80);
        match byte {
            b'\n' => {
                line += 1;
                if brackets == 0 {
                    tokens = 0;
                }
                let indent = bytes.iter().skip(at + 1).take_while(|b| matches!(b, b' ' | b'\t')).count();
                // Each level takes a blank at least, and no file that people write has lines so far to the right.
                indents = if brackets == 0 { indent } else { 0 };
            }
            b'#' => {
                at += bytes.iter().skip(at).take_while(|b| **b != b'\n').count();
                continue;
            }
            b'"' | b'\'' => {
                let is_f =
                    at > 0 && matches!(bytes.get(at - 1), Some(b'f' | b'F' | b't' | b'T' | b'r' | b'R'));
                let (end, newlines, depth) = string(bytes, at);
                if is_f && depth > BRACKETS {
                    return Some((line, "an f-string nests too deeply"));
                }
                (at, line, tokens) = (end, line + newlines, tokens + 1);
                continue;
            }
            b'(' | b'[' | b'{' => brackets += 1,
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            b',' => tokens = 0,
            _ => tokens += usize::from(!(byte.is_ascii_whitespace() || is_word && was_word)),
        }
        if brackets > BRACKETS {
            return Some((line, "brackets nest too deeply"));
        }
        if tokens > TOKENS {
            return Some((line, "an expression is too long"));
        }
        if indents > INDENTS * 8 {
            return Some((line, "blocks nest too deeply"));
        }
        at += 1;
    }
    None
}

/// Returns where a string ends, how many lines it has, and how deep brackets nest in it.
fn string(bytes: &[u8], start: usize) -> (usize, usize, usize) {
    let quote = bytes.get(start).copied().unwrap_or_default();
    let is_triple = bytes.get(start..start + 3).is_some_and(|three| three.iter().all(|b| *b == quote));
    let (mut at, mut newlines) = (start + if is_triple { 3 } else { 1 }, 0);
    let (mut depth, mut deepest) = (0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'\n' if !is_triple => break,
            b'\n' => newlines += 1,
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ if byte == quote && !is_triple => return (at + 1, newlines, deepest),
            _ if byte == quote
                && bytes.get(at..at + 3).is_some_and(|three| three.iter().all(|b| *b == quote)) =>
            {
                return (at + 3, newlines, deepest);
            }
            _ => {}
        }
        at += 1;
    }
    (at, newlines, deepest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_bounded_before_anything_is_parsed() {
        for (text, is_refused) in [
            ("x = [".to_owned() + &"[".repeat(200), true),
            ("x = ".to_owned() + &"-".repeat(6_000) + "1", true),
            ("x = ".to_owned() + &"not ".repeat(6_000) + "1", true),
            ("x = ".to_owned() + &"a.".repeat(6_000) + "b", true),
            ("x = f\"".to_owned() + &"{".repeat(300), true),
            ("x = \"".to_owned() + &"(".repeat(300) + "\"", false),
            ("x = [".to_owned() + &"1, ".repeat(20_000) + "]", false),
            ("# ".to_owned() + &"(".repeat(300), false),
            ("x = '''\n".to_owned() + &"((((\n".repeat(3_000) + "'''\ny = 1\n", false),
        ] {
            assert_eq!(too_deep(&text).is_some(), is_refused, "{}", &text[..20]);
        }
    }

    #[test]
    fn places_have_lines() {
        let source = Source::new("a\nbc\n");
        assert_eq!((source.line(0.into()), source.line(2.into()), source.line(3.into())), (1, 2, 2));
        assert_eq!(source.line_start(3.into()), 2.into());
    }
}
