//! Error codes ⇔ pages ⇔ tests.

use std::collections::{BTreeMap, BTreeSet};

use super::{ratchet, sources};

const FAMILIES: &[&str] = &["DAG", "SCH", "WRK", "STO", "CFG", "DRF", "WEB", "NET"];

/// Returns every code that a text names.
fn codes(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c))
        .filter(|word| word.len() == 7 && FAMILIES.contains(&&word[..3]))
        .filter(|word| word.as_bytes()[3] == b'0' && word[4..].bytes().all(|digit| digit.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}

struct Found {
    /// Defined: named in a string of what ships.
    shipped: BTreeSet<String>,
    tested: BTreeSet<String>,
    pages: BTreeMap<String, String>,
}

fn find() -> Found {
    let mut found = Found { shipped: BTreeSet::new(), tested: BTreeSet::new(), pages: BTreeMap::new() };
    for source in sources() {
        if let Some(code) = source.path.strip_prefix("docs/errors/").and_then(|name| name.strip_suffix(".md"))
        {
            found.pages.insert(code.to_owned(), source.text);
        } else if source.path.starts_with("tests/tests/tidy/") {
        } else if source.has_extension("rs") {
            let (shipped, tested) = source.parts();
            // Comments may name a code without defining it.
            let code_lines: String = shipped
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            found.shipped.extend(codes(&code_lines));
            found.tested.extend(codes(tested));
        } else if source.has_extension("py") && source.path.contains("/src/") {
            found.shipped.extend(codes(&source.text));
        } else if source.is_test() {
            found.tested.extend(codes(&source.text));
        }
    }
    found
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let found = find();
    let pages: BTreeSet<String> = found.pages.keys().cloned().collect();
    let missing: Vec<_> = found.shipped.difference(&pages).collect();
    let stale: Vec<_> = pages.difference(&found.shipped).collect();
    assert!(missing.is_empty(), "codes without docs/errors/CODE.md: {missing:?}");
    assert!(stale.is_empty(), "pages without a code: {stale:?}");
    println!("codes {}, pages {}", found.shipped.len(), pages.len());
}

#[test]
fn every_page_says_what_why_and_what_to_do() {
    for (code, text) in find().pages {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("# {code}: ")), "{code}: {first}");
        for section in ["\n## What\n", "\n## Why\n", "\n## What to do\n"] {
            assert!(text.contains(section), "{code}: {section:?}");
        }
        assert!(text.matches("\n```").count() >= 2, "{code} has no example");
    }
}

#[test]
fn every_code_is_named_by_a_test() {
    let found = find();
    let untested = found.shipped.difference(&found.tested).cloned().collect();
    ratchet("untested_codes.txt", "codes that no test names", &untested);
}
