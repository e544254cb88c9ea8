//! Log bytes to HTML: select-graphic-rendition colours become classes, every other control is dropped.
//!
//! A log is written by a task and may hold anything. Invalid UTF-8 becomes U+FFFD, OSC strings (clipboard,
//! links, titles) and cursor movements vanish, a carriage return starts the line's text anew as a terminal
//! would. The work is linear in the input: each byte is looked at once.

use super::Markup;

/// The graphic state that runs on from line to line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    bold: bool,
    faint: bool,
    italic: bool,
    underline: bool,
    inverse: bool,
    strike: bool,
    fore: Option<u8>,
    back: Option<u8>,
}

impl Style {
    fn apply(&mut self, parameters: &[u16]) {
        let mut rest = parameters;
        while let [first, tail @ ..] = rest {
            rest = tail;
            match first {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.faint = true,
                3 => self.italic = true,
                4 => self.underline = true,
                7 => self.inverse = true,
                9 => self.strike = true,
                22 => (self.bold, self.faint) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.inverse = false,
                29 => self.strike = false,
                30..=37 => self.fore = u8::try_from(first - 30).ok(),
                39 => self.fore = None,
                40..=47 => self.back = u8::try_from(first - 40).ok(),
                49 => self.back = None,
                90..=97 => self.fore = u8::try_from(first - 90).ok(),
                100..=107 => self.back = u8::try_from(first - 100).ok(),
                38 | 48 => rest = self.extended(*first == 38, rest),
                _ => {}
            }
        }
    }

    /// 256 colours and true colours are brought down to the eight classes; the rest of the list goes on.
    fn extended<'a>(&mut self, is_fore: bool, list: &'a [u16]) -> &'a [u16] {
        let (colour, rest) = match list {
            [5, n, rest @ ..] => (nearest_of_256(*n), rest),
            [2, r, g, b, rest @ ..] => (nearest(*r, *g, *b), rest),
            _ => return &[],
        };
        if is_fore {
            self.fore = Some(colour);
        } else {
            self.back = Some(colour);
        }
        rest
    }

    fn classes(self) -> Vec<&'static str> {
        const FORE: [&str; 8] = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"];
        const BACK: [&str; 8] = ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"];
        let flags = [
            (self.bold, "a1"),
            (self.faint, "a2"),
            (self.italic, "a3"),
            (self.underline, "a4"),
            (self.inverse, "a7"),
            (self.strike, "a9"),
        ];
        let mut classes: Vec<&'static str> = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
        classes.extend(self.fore.and_then(|n| FORE.get(usize::from(n)).copied()));
        classes.extend(self.back.and_then(|n| BACK.get(usize::from(n)).copied()));
        classes
    }
}

fn nearest_of_256(n: u16) -> u8 {
    match n {
        0..=15 => u8::try_from(n % 8).unwrap_or(7),
        16..=231 => {
            let n = n - 16;
            nearest(n / 36 * 51, n / 6 % 6 * 51, n % 6 * 51)
        }
        _ => {
            if n < 244 {
                0
            } else {
                7
            }
        }
    }
}

fn nearest(r: u16, g: u16, b: u16) -> u8 {
    u8::from(r > 127) | (u8::from(g > 127) << 1) | (u8::from(b > 127) << 2)
}

/// Renders one line (without its line feed) into `out` as one element.
pub(crate) fn line(out: &mut Markup, number: Option<u64>, bytes: &[u8], style: &mut Style, is_open: bool) {
    out.raw("<span class=\"l");
    if bytes.starts_with(b"[tidemill]") {
        out.raw(" end");
    }
    out.raw("\"");
    if is_open {
        out.raw(" data-open");
    }
    out.raw(">");
    if let Some(number) = number {
        out.raw("<span class=\"n\">").text(&number.to_string()).raw("</span>");
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\r');
    // A terminal shows what follows the last carriage return; progress bars count on it.
    let visible = text.rfind('\r').map_or(text, |at| &text[at + 1..]);
    for (piece, piece_style) in pieces(visible, style) {
        let classes = piece_style.classes();
        if classes.is_empty() {
            out.text(piece);
            continue;
        }
        out.raw("<span class=\"");
        for (index, class) in classes.into_iter().enumerate() {
            out.raw(if index == 0 { "" } else { " " }).raw(class);
        }
        out.raw("\">").text(piece).raw("</span>");
    }
    out.raw("</span>");
}

/// Splits a line into runs of plain text with the style of each; controls are left out.
fn pieces<'a>(text: &'a str, style: &mut Style) -> Vec<(&'a str, Style)> {
    let mut pieces = Vec::new();
    let bytes = text.as_bytes();
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte >= 0x20 && byte != 0x7f || byte == b'\t' {
            // C1 controls are two bytes in UTF-8 (0xC2 0x80..0x9F) and are dropped too.
            if byte == 0xc2 && bytes.get(at + 1).is_some_and(|next| *next < 0xa0) {
                push(&mut pieces, &text[from..at], *style);
                at += 2;
                from = at;
            } else {
                at += 1;
            }
            continue;
        }
        push(&mut pieces, &text[from..at], *style);
        at = if byte == 0x1b { escape(bytes, at, style) } else { at + 1 };
        // An escape may end inside a multi-byte character only where the sequence is broken off.
        while at < bytes.len() && !text.is_char_boundary(at) {
            at += 1;
        }
        from = at;
    }
    push(&mut pieces, &text[from..], *style);
    pieces
}

fn push<'a>(pieces: &mut Vec<(&'a str, Style)>, text: &'a str, style: Style) {
    if !text.is_empty() {
        pieces.push((text, style));
    }
}

/// Passes over the escape sequence at `at` and returns where the text goes on.
fn escape(bytes: &[u8], at: usize, style: &mut Style) -> usize {
    match bytes.get(at + 1) {
        Some(b'[') => {
            let start = at + 2;
            let length = bytes[start..].iter().take_while(|b| (0x20..0x40).contains(*b)).count();
            let end = start + length;
            if bytes.get(end) == Some(&b'm') {
                style.apply(&parameters(&bytes[start..end]));
            }
            // A final byte ends the sequence; anything else breaks it off and is looked at again.
            if bytes.get(end).is_some_and(|b| (0x40..0x7f).contains(b)) { end + 1 } else { end }
        }
        // OSC, DCS, SOS, PM and APC run to BEL or ST, or to the end of the line.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let mut end = at + 2;
            while end < bytes.len() {
                if bytes[end] == 0x07 {
                    return end + 1;
                }
                if bytes[end] == 0x1b {
                    return if bytes.get(end + 1) == Some(&b'\\') { end + 2 } else { end };
                }
                end += 1;
            }
            end
        }
        Some(next) if (0x20..0x30).contains(next) => (at + 3).min(bytes.len()),
        Some(next) if (0x30..0x7f).contains(next) => at + 2,
        _ => at + 1,
    }
}

fn parameters(bytes: &[u8]) -> Vec<u16> {
    let mut list = vec![0_u16];
    for byte in bytes.iter().take(256) {
        match byte {
            b'0'..=b'9' => {
                if let Some(last) = list.last_mut() {
                    *last = last.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                }
            }
            b';' | b':' => list.push(0),
            _ => return Vec::new(),
        }
    }
    list
}

/// Renders a block of bytes as lines; the last one is marked as open when no line feed ends it.
pub(crate) fn block(bytes: &[u8], first_number: Option<u64>) -> Markup {
    let mut style = Style::default();
    let mut out = Markup::with_capacity(bytes.len() + bytes.len() / 4);
    let mut rest = bytes;
    let mut number = first_number;
    while !rest.is_empty() {
        let (head, tail, is_open) = match rest.iter().position(|b| *b == b'\n') {
            Some(at) => (&rest[..at], &rest[at + 1..], false),
            None => (rest, &rest[rest.len()..], true),
        };
        line(&mut out, number, head, &mut style, is_open);
        number = number.map(|n| n + 1);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(bytes: &[u8]) -> String {
        block(bytes, None).to_string()
    }

    #[test]
    fn colours_become_classes_and_run_on() {
        assert_eq!(
            html(b"\x1b[1;31mbad\nstill\x1b[0m fine\n"),
            "<span class=\"l\"><span class=\"a1 f1\">bad</span></span><span class=\"l\"><span class=\"a1 f1\">still</span> fine</span>"
        );
    }

    #[test]
    fn clipboard_links_and_cursor_controls_vanish() {
        assert_eq!(
            html(b"a\x1b]52;c;ZXZpbA==\x07b\x1b]8;;http://evil\x1b\\c\x1b[2Jd\x1b[10;10He\n"),
            "<span class=\"l\">abcde</span>"
        );
    }

    #[test]
    fn markup_is_text_and_broken_bytes_are_replaced() {
        assert_eq!(
            html(b"<script>\xff\0</script>"),
            "<span class=\"l\" data-open>&lt;script&gt;\u{fffd}&lt;/script&gt;</span>"
        );
    }

    #[test]
    fn a_carriage_return_shows_the_last_state_of_a_progress_bar() {
        assert_eq!(html(b"10%\r20%\r30%\r\n"), "<span class=\"l\">30%</span>");
    }

    #[test]
    fn a_megabyte_of_random_escapes_is_drawn_without_a_panic() {
        // A small generator is enough: the alphabet is what matters.
        let alphabet =
            [0x1b, b'[', b']', b'm', b';', b'3', 0x07, b'\n', 0xc2, 0x9b, b'<', b'P', b'\\', b'\r', 0xf0];
        let mut seed = 7_u64;
        let bytes: Vec<u8> = (0..1_000_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                alphabet[usize::try_from(seed >> 33).unwrap_or(0) % alphabet.len()]
            })
            .collect();
        let text = html(&bytes);
        assert!(!text.contains('\u{1b}') && !text.contains("<<"));
    }
}
