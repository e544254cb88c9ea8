//! Lists and braces that are never closed. A parser notices it only lines later, once for every line that
//! follows; here the mistake is found where it is, and the rest of the file can be read.

use std::ops::Range;

use toml_parser::{
    Source,
    lexer::{Token, TokenKind},
};

/// More open brackets than any file that is accepted has.
const MAX_OPEN: usize = 64;

/// A bracket without an end, in bytes of the repaired text.
pub(crate) struct Unclosed {
    /// The bracket.
    pub(crate) open: Range<usize>,
    /// What begins instead; the end of the file has none.
    pub(crate) next: Option<Range<usize>>,
    /// Where the missing brackets were put.
    pub(crate) inserted: Range<usize>,
}

/// A text in which every bracket is closed.
pub(crate) struct Repaired {
    pub(crate) text: String,
    pub(crate) unclosed: Vec<Unclosed>,
}

impl Repaired {
    /// Moves a place of the text as it was given to where it is now.
    pub(crate) fn moved(&self, range: Range<usize>) -> Range<usize> {
        let mut shift = 0;
        for one in &self.unclosed {
            if one.inserted.start <= range.start + shift {
                shift += one.inserted.len();
            }
        }
        range.start + shift..range.end + shift
    }
}

/// Closes brackets before the next key or header.
pub(crate) fn repair(text: &str) -> Repaired {
    let tokens = Source::new(text).lex().into_vec();
    let mut out = Repaired { text: String::with_capacity(text.len()), unclosed: Vec::new() };
    // Open brackets of the value that is being read, as (position, closing bracket).
    let mut stack: Vec<(usize, char)> = Vec::new();
    let (mut is_value, mut is_line_start) = (false, true);
    // The end of the last token that means something, and how much of the text is copied.
    let (mut last_end, mut copied) = (0usize, 0usize);
    for (index, token) in tokens.iter().enumerate() {
        let span = token.span();
        let kind = token.kind();
        if matches!(kind, TokenKind::Whitespace | TokenKind::Comment) {
            continue;
        }
        let is_end = kind == TokenKind::Eof;
        // Nothing may nest so deep; the parser says so, and every step here looks at the whole stack.
        if stack.len() > MAX_OPEN {
            return Repaired { text: text.to_owned(), unclosed: Vec::new() };
        }
        let has_brace = stack.iter().any(|(_, close)| *close == '}');
        let is_next = is_line_start
            && (is_header(text, tokens.get(index..).unwrap_or_default())
                || (!has_brace && is_key(tokens.get(index..).unwrap_or_default())));
        if !stack.is_empty() && (is_end || is_next) {
            let shift = out.text.len();
            out.text.push_str(text.get(copied..last_end).unwrap_or_default());
            let moved = |at: usize| if at >= copied { at - copied + shift } else { at };
            let open = stack.first().map_or(0, |(at, _)| moved(*at));
            let from = out.text.len();
            out.text.extend(stack.iter().rev().map(|(_, close)| *close));
            let inserted = from..out.text.len();
            let start = span.start() - last_end + inserted.end;
            let next = (!is_end).then(|| start..start + span.len());
            out.unclosed.push(Unclosed { open: open..open + 1, next, inserted });
            copied = last_end;
            stack.clear();
            is_value = false;
        }
        match kind {
            TokenKind::Newline => is_value &= !stack.is_empty(),
            TokenKind::Equals if stack.is_empty() => is_value = true,
            TokenKind::LeftSquareBracket if is_value => stack.push((span.start(), ']')),
            TokenKind::LeftCurlyBracket if is_value => stack.push((span.start(), '}')),
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket if is_value => {
                stack.pop();
            }
            _ => {}
        }
        is_line_start = kind == TokenKind::Newline;
        if !is_line_start {
            last_end = span.end();
        }
    }
    out.text.push_str(text.get(copied..).unwrap_or_default());
    out
}

/// `[name` or `[[name`, where `name` is no value.
fn is_header(text: &str, tokens: &[Token]) -> bool {
    let mut rest = tokens.iter().skip_while(|token| token.kind() == TokenKind::LeftSquareBracket);
    let depth = tokens.iter().take_while(|token| token.kind() == TokenKind::LeftSquareBracket).count();
    let name = rest.next().filter(|token| token.kind() == TokenKind::Atom);
    let word = name.and_then(|token| text.get(token.span().start()..token.span().end())).unwrap_or_default();
    let ends = rest
        .next()
        .is_some_and(|token| matches!(token.kind(), TokenKind::RightSquareBracket | TokenKind::Dot));
    (1..=2).contains(&depth)
        && ends
        && word.starts_with(|c: char| c.is_ascii_alphabetic())
        && !matches!(word, "true" | "false" | "inf" | "nan")
}

/// `name =`, which cannot stand in a list.
fn is_key(tokens: &[Token]) -> bool {
    let mut tokens = tokens.iter().filter(|token| token.kind() != TokenKind::Whitespace);
    let is_name = |kind| matches!(kind, TokenKind::Atom | TokenKind::BasicString | TokenKind::LiteralString);
    tokens.next().is_some_and(|token| is_name(token.kind()))
        && tokens
            .find(|token| !is_name(token.kind()) && token.kind() != TokenKind::Dot)
            .is_some_and(|token| token.kind() == TokenKind::Equals)
}

#[cfg(test)]
mod tests {
    use super::repair;

    fn check(text: &str, expected: &str) {
        let repaired = repair(text);
        assert_eq!(repaired.text, expected);
        for one in &repaired.unclosed {
            assert!(matches!(&repaired.text[one.open.clone()], "[" | "{"), "{text}");
            assert!(repaired.text[one.inserted.clone()].chars().all(|c| matches!(c, ']' | '}')), "{text}");
        }
    }

    #[test]
    fn brackets_are_closed_before_the_next_key_or_header() {
        check("a = [1, 2\nb = 3\n", "a = [1, 2]\nb = 3\n");
        check("a = [1, # two\n[[task]]\nb = [2\n", "a = [1,] # two\n[[task]]\nb = [2]\n");
        check("a = { b = 1,\n[c]\nd = 1\n", "a = { b = 1,}\n[c]\nd = 1\n");
        check("a = [[1, [2\nb = {", "a = [[1, [2]]]\nb = {}");
    }

    #[test]
    fn closed_brackets_stay_as_they_are() {
        for text in
            ["a = [\n  1,\n  [true],\n]\n[b]\nc = { d = 1,\n  e = 2 }\n", "a = \"[\"\n[[b]]\n", "[a\nb = 1"]
        {
            check(text, text);
        }
    }
}
