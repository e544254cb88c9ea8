//! The forms that programs print a value in: as it is, escaped for JSON, Python, the shell and URLs, in base 64 at
//! every alignment, in hexadecimal digits.

use std::fmt::Write as _;

use super::MIN_BYTES;

/// Lines of base 64 have this many characters: `base64`, and PEM.
const LINES: [usize; 2] = [76, 64];

/// Returns every form of a value that is long enough to be looked for.
pub(super) fn of(value: &str) -> Vec<Vec<u8>> {
    if value.len() < MIN_BYTES {
        return Vec::new();
    }
    let mut texts = vec![value.to_owned()];
    // A key of several lines may be printed with a prefix on each.
    texts.extend(value.lines().map(|line| line.trim().to_owned()));
    texts.extend([json(value, false), json(value, true), python(value)]);
    // What `set -x` prints, in two dialects of the shell.
    texts.extend([value.replace('\'', r"'\''"), value.replace('\'', r#"'"'"'"#)]);
    texts.extend(urls(value));
    let digits = value.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    texts.extend([digits.to_ascii_uppercase(), digits]);
    texts.extend(base64(value.as_bytes()));
    texts.retain(|text| text.len() >= MIN_BYTES);
    texts.into_iter().map(String::into_bytes).collect()
}

/// The inside of a JSON string, with other characters as they are or as `\u….`
fn json(value: &str, is_ascii: bool) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    let inside = &quoted[1..quoted.len() - 1];
    if !is_ascii {
        return inside.to_owned();
    }
    let mut out = String::new();
    for c in inside.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// The inside of a Python string.
fn python(value: &str) -> String {
    let escaped = value.replace('\\', r"\\").replace('\n', r"\n").replace('\r', r"\r").replace('\t', r"\t");
    // Python takes the other quotation mark unless both are in it.
    if escaped.contains('\'') && escaped.contains('"') { escaped.replace('\'', r"\'") } else { escaped }
}

/// Percent-encoded: everything, without the path separator, as JavaScript does it, and as forms do it.
fn urls(value: &str) -> Vec<String> {
    let encode = |keep: &str, is_upper: bool| {
        let mut out = String::new();
        for byte in value.bytes() {
            let c = char::from(byte);
            if byte.is_ascii_alphanumeric() || "-_.~".contains(c) || (byte.is_ascii() && keep.contains(c)) {
                out.push(c);
            } else if is_upper {
                let _ = write!(out, "%{byte:02X}");
            } else {
                let _ = write!(out, "%{byte:02x}");
            }
        }
        out
    };
    let mut found = Vec::new();
    for keep in ["", "/", "!'()*", "/!$&'()*+,;=:@"] {
        for is_upper in [true, false] {
            let text = encode(keep, is_upper);
            found.push(text.replace("%20", "+"));
            found.push(text);
        }
    }
    found
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The characters of base 64 that depend on nothing but the value, wherever it begins in what is encoded.
fn base64(value: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for alphabet in [STANDARD, FOR_URLS] {
        for before in 0..3 {
            let text = digits(value, before, alphabet);
            if before == 0 {
                for line in LINES.iter().filter(|line| **line < text.len()) {
                    let lines = text.as_bytes().chunks(*line);
                    found.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
                }
            }
            found.push(text);
        }
    }
    found
}

/// Encodes a value that has `before` bytes before it. Digits that hold bits of a neighbour are left out.
fn digits(value: &[u8], before: usize, alphabet: &[u8; 64]) -> String {
    let bit = |index: usize| (value[index / 8] >> (7 - index % 8)) & 1;
    // The first digit that begins inside the value, counted in its bits.
    let first = (6 - (before * 8) % 6) % 6;
    (first..value.len() * 8)
        .step_by(6)
        .filter(|start| start + 6 <= value.len() * 8)
        .map(|start| {
            let digit =
                (start..start + 6).fold(0_usize, |digit, index| (digit << 1) | usize::from(bit(index)));
            char::from(alphabet[digit])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, form: &str) -> bool {
        of(value).iter().any(|found| found == form.as_bytes())
    }

    #[test]
    fn every_escape_is_a_form() {
        assert!(has("say \"hi\"\n", r#"say \"hi\"\n"#));
        assert!(has("Ünïcödé", r"\u00dcn\u00efc\u00f6d\u00e9"));
        assert!(has("a\\b'c\"d", r#"a\\b\'c"d"#));
        assert!(has("it's it", r"it'\''s it"));
        assert!(has("p@ss/wörd x", "p%40ss%2Fw%C3%B6rd%20x"));
        assert!(has("p@ss/wörd x", "p%40ss/w%c3%b6rd+x"));
        assert!(has("secret", "736563726574"));
        assert!(has("first line\nsecond line", "second line"));
    }

    #[test]
    fn base_64_is_found_at_every_alignment() {
        // printf 'hunter22' | base64, and with `a` and `ab` before it; the rest depends on what follows.
        assert!(has("hunter22", "aHVudGVyMj"));
        assert!(has("hunter22", "h1bnRlcjIy"));
        assert!(has("hunter22", "odW50ZXIyM"));
        // Bytes whose digits differ in the two alphabets.
        assert!(has("~~~???>>>", "fn5-Pz8_Pj4-"));
        assert!(has("~~~???>>>", "fn5+Pz8/Pj4+"));
    }

    #[test]
    fn long_base_64_is_found_line_by_line() {
        let value = "x".repeat(100);
        assert!(of(&value).iter().filter(|form| form.len() == 76).count() > 0);
        assert!(of(&value).iter().filter(|form| form.len() == 64).count() > 0);
    }
}
