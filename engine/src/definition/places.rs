//! From a place inside a string's value back to the source: escapes and line ends make the two differ.

use std::ops::Range;

/// Returns the source bytes of `range` of the value of the string that stands at `span`. The whole string
/// where the way back is not certain.
pub(crate) fn in_source(
    source: &str,
    span: &Range<usize>,
    value: &str,
    range: &Range<usize>,
) -> (Range<usize>, bool) {
    let whole = (span.clone(), false);
    let Some(raw) = source.get(span.clone()) else { return whole };
    let Some(map) = map(raw, value) else { return whole };
    let (Some(start), Some(end)) = (map.get(range.start), map.get(range.end.max(range.start))) else {
        return whole;
    };
    // The end of the last character, not the begin of the next: an escaped line end lies between.
    let end = match range.end.checked_sub(1).and_then(|last| map.get(last)) {
        Some(last) if range.end > range.start => {
            let width = raw.get(*last..).map_or(1, character_width);
            (*last + width).min(*end)
        }
        _ => *end,
    };
    (span.start + start..span.start + end.max(*start), true)
}

/// Width in the source of the character that the last byte of a value came from.
fn character_width(raw: &str) -> usize {
    match raw.as_bytes() {
        [b'\\', b'x', ..] => 4,
        [b'\\', b'u', ..] => 6,
        [b'\\', b'U', ..] => 10,
        [b'\\', ..] => 2,
        _ => raw.chars().next().map_or(1, char::len_utf8),
    }
}

/// For every byte of the value the byte of the source where its character begins, and one more for the end.
fn map(raw: &str, value: &str) -> Option<Vec<usize>> {
    let (quote, is_literal) = match raw.as_bytes() {
        [b'"', b'"', b'"', ..] if raw.len() >= 6 => (3, false),
        [b'\'', b'\'', b'\'', ..] if raw.len() >= 6 => (3, true),
        [b'"', ..] if raw.len() >= 2 => (1, false),
        [b'\'', ..] if raw.len() >= 2 => (1, true),
        _ => return None,
    };
    let mut at = quote;
    let end = raw.len().checked_sub(quote)?;
    if quote == 3 {
        // A line end right after the opening quotes is no part of the value.
        at += match raw.get(at..end)?.as_bytes() {
            [b'\r', b'\n', ..] => 2,
            [b'\n', ..] => 1,
            _ => 0,
        };
    }
    let mut map = Vec::with_capacity(value.len() + 1);
    let mut decoded = String::with_capacity(value.len());
    let mut push = |c: char, from: usize| {
        decoded.push(c);
        map.extend(std::iter::repeat_n(from, c.len_utf8()));
    };
    while at < end {
        let rest = raw.get(at..end)?;
        let c = rest.chars().next()?;
        if c == '\\' && !is_literal {
            let (decoded, width) = escape(rest)?;
            if let Some(decoded) = decoded {
                push(decoded, at);
            }
            at += width;
        } else if quote == 3 && rest.starts_with("\r\n") && !value.contains('\r') {
            push('\n', at);
            at += 2;
        } else {
            push(c, at);
            at += c.len_utf8();
        }
    }
    map.push(end);
    (decoded == value).then_some(map)
}

/// Reads one escape: its character (none for an escaped line end) and its width.
fn escape(rest: &str) -> Option<(Option<char>, usize)> {
    let kind = rest.chars().nth(1)?;
    let simple = |c| Some((Some(c), 2));
    let hex = |digits: usize| {
        let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
        Some((Some(char::from_u32(code)?), 2 + digits))
    };
    match kind {
        'b' => simple('\u{8}'),
        't' => simple('\t'),
        'n' => simple('\n'),
        'f' => simple('\u{c}'),
        'r' => simple('\r'),
        'e' => simple('\u{1b}'),
        '"' => simple('"'),
        '\\' => simple('\\'),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        c if c.is_whitespace() => {
            let tail = rest.get(1..)?;
            Some((None, 1 + tail.len() - tail.trim_start_matches([' ', '\t', '\r', '\n']).len()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::in_source;

    fn check(raw: &str, value: &str, find: &str, expected: &str) {
        let source = format!("key = {raw} # end");
        let span = 6..6 + raw.len();
        let start = value.find(find).unwrap();
        let (place, is_exact) = in_source(&source, &span, value, &(start..start + find.len()));
        assert!(is_exact, "{raw}");
        assert_eq!(&source[place], expected, "{raw}");
    }

    #[test]
    fn a_place_in_a_value_is_found_in_the_source() {
        check("\"a {{ x }} b\"", "a {{ x }} b", "{{ x }}", "{{ x }}");
        check("'a {{ x }} b'", "a {{ x }} b", "{{ x }}", "{{ x }}");
        check(r#""say \"{{ x }}\"""#, "say \"{{ x }}\"", "{{ x }}", "{{ x }}");
        check(r#""\u00e4\t{{ x }}""#, "ä\t{{ x }}", "x", "x");
        check("\"\"\"\na\nb {{ x }}\"\"\"", "a\nb {{ x }}", "x", "x");
        check("\"\"\"a \\\n   {{ x }}\"\"\"", "a {{ x }}", "{{ x }}", "{{ x }}");
        check("\"\"\"\r\na\r\nx\"\"\"", "a\nx", "x", "x");
        check(r#""\"x\"""#, "\"x\"", "\"x\"", r#"\"x\""#);
    }

    #[test]
    fn an_uncertain_place_is_the_whole_string() {
        assert_eq!(in_source("k = 'a'", &(4..7), "b", &(0..1)), (4..7, false));
    }
}
