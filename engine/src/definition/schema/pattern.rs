//! Patterns of parameters: regular expressions as JSON Schema and browsers read them, matched in linear time.
//!
//! `\d`, `\w` and `\b` mean ASCII there, and inside brackets only `\`, `]`, `^` and `-` mean something; the crate `regex`
//! has more of both. So a pattern is translated. What needs backtracking (look-around, references to groups) is
//! refused when the file loads.

use regex::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
pub(crate) const LONGEST: usize = 1_000;
/// What `\s` stands for in ECMA-262.
const SPACE: &str =
    r"\t\n\x0B\x0C\r \u{A0}\u{1680}\u{2000}-\u{200A}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}\u{FEFF}";

/// Compiles a pattern; a match may begin anywhere.
///
/// # Errors
/// Says in one line why it cannot be used.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    if let Some(what) = backtracks(pattern) {
        return Err(format!("{what} cannot be matched in linear time"));
    }
    RegexBuilder::new(&translated(pattern)).size_limit(1 << 20).nest_limit(50).build().map_err(|error| {
        match error {
            regex::Error::CompiledTooBig(_) => "it stands for too many states".to_owned(),
            // The last line says what; those before it show the translated pattern.
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default().trim();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
        }
    })
}

fn backtracks(pattern: &str) -> Option<&'static str> {
    let mut chars = pattern.char_indices();
    while let Some((at, c)) = chars.next() {
        let rest = pattern.get(at..).unwrap_or_default();
        if c == '\\' {
            match chars.next() {
                Some((_, '1'..='9')) => return Some("a reference to a group"),
                Some((_, 'k')) if rest.starts_with(r"\k<") => return Some("a reference to a group"),
                _ => {}
            }
        } else if ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|look| rest.starts_with(look)) {
            return Some("looking ahead or behind");
        }
    }
    None
}

fn translated(pattern: &str) -> String {
    let mut out = String::new();
    let mut is_in_brackets = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match (chars.next(), is_in_brackets) {
                (Some('d'), true) => out.push_str("0-9"),
                (Some('d'), false) => out.push_str("[0-9]"),
                (Some('D'), _) => out.push_str("[^0-9]"),
                (Some('w'), true) => out.push_str("0-9A-Za-z_"),
                (Some('w'), false) => out.push_str("[0-9A-Za-z_]"),
                (Some('W'), _) => out.push_str("[^0-9A-Za-z_]"),
                (Some('s'), true) => out.push_str(SPACE),
                (Some('s'), false) => out.extend(["[", SPACE, "]"]),
                (Some('S'), _) => out.extend(["[^", SPACE, "]"]),
                (Some('b'), true) => out.push_str(r"\x08"),
                (Some('b'), false) => out.push_str(r"(?-u:\b)"),
                (Some('/'), _) => out.push('/'),
                (Some(other), _) => out.extend(['\\', other]),
                (None, _) => out.push('\\'),
            },
            '[' if is_in_brackets => out.push_str(r"\["),
            '&' | '~' if is_in_brackets => out.extend(['\\', c]),
            '[' => {
                is_in_brackets = true;
                out.push('[');
            }
            ']' => {
                is_in_brackets = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_a_browser() {
        let table = [
            ("^[a-z]+$", "abc", true),
            ("^[a-z]+$", "abc\n", false),
            ("b", "abc", true),
            (r"^\d{4}-\d\d$", "2026-01", true),
            (r"^\d$", "٣", false),
            (r"^\w+$", "café", false),
            (r"^[\w.-]+@[\w.-]+$", "a.b@c-d.org", true),
            (r"^[\D]$", "x", true),
            (r"^[\s,]+$", " ,\u{3000}", true),
            (r"^\S+$", "a b", false),
            (r"\bbig\b", "a big one", true),
            (r"\bbig\b", "bigger", false),
            ("^[[]a]$", "[a]", true),
            ("^[a&&b]+$", "a&b", true),
            ("^[~~]$", "~", true),
            (r"^a\/b$", "a/b", true),
            (r"^\u0041$", "A", true),
            ("^(?<y>[0-9]+)$", "12", true),
            ("^.$", "é", true),
        ];
        for (pattern, text, is_match) in table {
            assert_eq!(
                compile(pattern).map(|regex| regex.is_match(text)),
                Ok(is_match),
                "{pattern} {text:?}"
            );
        }
    }

    #[test]
    fn what_has_no_linear_time_is_refused() {
        for pattern in [r"(a)\1", "(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b", r"(?<x>a)\k<x>"] {
            assert!(compile(pattern).unwrap_err().contains("linear time"), "{pattern}");
        }
        assert!(compile(&"a".repeat(1_001)).unwrap_err().contains("longer"));
        assert!(compile("((a{100}){100}){100}").unwrap_err().contains("too many states"));
        for pattern in ["(", "[a", "a{2,1}", "*", r"\"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        // The pattern that makes a backtracking matcher need hours.
        let regex = compile("^(a+)+$").unwrap();
        assert!(!regex.is_match(&format!("{}b", "a".repeat(100_000))));
    }
}
