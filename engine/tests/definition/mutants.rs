//! Mechanical mutants of valid files: the place of the fault is known by construction.

use std::collections::BTreeMap;

use tidemill_engine::definition::{Loaded, load};

const FILES: [(&str, &str); 2] = [
    ("everything.toml", include_str!("../good_files/everything.toml")),
    ("continuous_training.toml", include_str!("../good_files/continuous_training.toml")),
];
/// Keys whose absence is an error at the header of their table.
const REQUIRED: [&str; 7] =
    ["command", "reference", "current", "on_drift", "on_stable", "branches", "webhook"];

/// A key and its value in a file, in bytes.
#[derive(Clone, Debug)]
struct Occurrence {
    line: u32,
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
    is_inline: bool,
}

/// Finds every `key = value`, in lines and in braces. The files keep each on one line.
fn occurrences(text: &str) -> Vec<Occurrence> {
    let mut found = Vec::new();
    let mut offset = 0;
    for (number, line) in (1u32..).zip(text.split_inclusive('\n')) {
        if !line.starts_with(['[', '#', '\n']) {
            scan(line, offset, number, &mut found);
        }
        offset += line.len();
    }
    found
}

fn scan(line: &str, offset: usize, number: u32, found: &mut Vec<Occurrence>) {
    let bytes = line.as_bytes();
    let (mut in_string, mut depth) = (false, 0usize);
    // Keys whose value is still open, with the depth at which it ends.
    let mut open: Vec<(std::ops::Range<usize>, usize, usize)> = Vec::new();
    let mut word_start = 0;
    for at in 0..=bytes.len() {
        let byte = bytes.get(at).copied().unwrap_or(b'\n');
        let ends = match byte {
            b'"' => {
                in_string = !in_string;
                false
            }
            _ if in_string => false,
            b'{' | b'[' => {
                depth += 1;
                word_start = at + 1;
                false
            }
            b'=' if bytes.get(at + 1) == Some(&b' ') => {
                let key = line[word_start..at].trim();
                let start = word_start + line[word_start..at].find(key).unwrap();
                open.push((start..start + key.len(), at + 2, depth));
                false
            }
            b',' | b'}' | b']' | b'\n' | b'#' => true,
            _ => false,
        };
        if ends {
            while open.last().is_some_and(|(_, _, at_depth)| *at_depth == depth) {
                let (key, start, at_depth) = open.pop().unwrap();
                let end = start + line[start..at].trim_end().len();
                found.push(Occurrence {
                    line: number,
                    key: offset + key.start..offset + key.end,
                    value: offset + start..offset + end,
                    is_inline: at_depth > 0,
                });
            }
            word_start = at + 1;
            if byte == b'}' || byte == b']' {
                depth -= 1;
            }
            if byte == b'#' {
                break;
            }
        }
    }
}

fn column(text: &str, byte: usize) -> u32 {
    let start = text[..byte].rfind('\n').map_or(0, |at| at + 1);
    u32::try_from(text[start..byte].chars().count()).unwrap() + 1
}

fn replaced(text: &str, range: &std::ops::Range<usize>, with: &str) -> String {
    format!("{}{with}{}", &text[..range.start], &text[range.end..])
}

fn misspelt(key: &str) -> Vec<String> {
    let mut swapped: Vec<char> = key.chars().collect();
    let middle = swapped.len() / 2;
    swapped.swap(middle - 1, middle);
    let (head, tail) = key.split_at(middle);
    vec![
        swapped.into_iter().collect(),
        format!("{head}{}", &tail[1..]),
        format!("{head}x{tail}"),
        format!("{}_", key),
        key.replace('_', "-") + "y",
        key.to_uppercase(),
    ]
    .into_iter()
    .filter(|word| word != key && !word.is_empty())
    .collect()
}

/// Whether some error stands exactly at the key, or anywhere inside the value.
fn is_at(loaded: &Loaded, line: u32, first: u32, last: u32, is_exact: bool) -> bool {
    loaded.problems.iter().filter(|problem| problem.is_error()).any(|problem| {
        problem.spans.first().is_some_and(|span| {
            span.line == line
                && if is_exact {
                    span.col == first && span.end_col == last
                } else {
                    first <= span.col && span.col <= last
                }
        })
    })
}

#[derive(Default)]
struct Tally {
    counts: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

impl Tally {
    fn check(&mut self, kind: &'static str, source: &str, line: u32, columns: (u32, u32), is_exact: bool) {
        *self.counts.entry(kind).or_default() += 1;
        let loaded = load(source.as_bytes(), "mutant.toml");
        if !is_at(&loaded, line, columns.0, columns.1, is_exact) {
            let text = source.lines().nth(line as usize - 1).unwrap_or_default();
            let reported: Vec<_> = loaded
                .problems
                .iter()
                .map(|p| format!("{} {:?}: {}", p.code, p.place(), p.message))
                .collect();
            self.wrong.push(format!("{kind}: line {line}, columns {columns:?}: {text}\n    {reported:?}"));
        }
    }
}

fn mutate_key(text: &str, at: &Occurrence, tally: &mut Tally) {
    let key = &text[at.key.clone()];
    let first = column(text, at.key.start);
    let is_free =
        |word: &str| !(is_env(text, at) && word.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()));
    for word in misspelt(key).into_iter().filter(|word| is_free(word)) {
        let last = first + u32::try_from(word.chars().count()).unwrap() - 1;
        tally.check("misspelt key", &replaced(text, &at.key, &word), at.line, (first, last), true);
    }
    let whole = &text[at.key.start..at.value.end];
    if at.is_inline {
        let twice = replaced(text, &(at.key.start..at.value.end), &format!("{whole}, {whole}"));
        let again = first + u32::try_from(whole.chars().count()).unwrap() + 2;
        let last = again + u32::try_from(key.len()).unwrap() - 1;
        tally.check("duplicated key", &twice, at.line, (again, last), true);
    } else {
        let twice = replaced(text, &(at.key.start..at.value.end), &format!("{whole}\n{whole}"));
        let last = first + u32::try_from(key.len()).unwrap() - 1;
        tally.check("duplicated key", &twice, at.line + 1, (first, last), true);
    }
    if !at.is_inline && (REQUIRED.contains(&key) || key == "id") {
        let header = text[..at.key.start].rfind("\n[").map_or(0, |at| at + 1);
        // A sub-table's header is not the task's.
        let line = u32::try_from(text[..header].lines().count()).unwrap() + 1;
        let header = text[header..].lines().next().unwrap();
        let missing = replaced(text, &(at.key.start..at.value.end), "");
        tally.check("missing key", &missing, line, (1, u32::try_from(header.len()).unwrap()), true);
    }
}

/// Whether the key is the name of an environment variable or of a list that a task is mapped over, which may be anything.
fn is_env(text: &str, at: &Occurrence) -> bool {
    let line = text[..at.key.start].rsplit('\n').next().unwrap();
    at.is_inline && (line.starts_with("env") || line.starts_with("map"))
}

fn mutate_value(text: &str, at: &Occurrence, tally: &mut Tally) {
    for wrong in ["{ zzz = 1 }", "[[[]]]", "[07:30:00]", "{}"] {
        let key = &text[at.key.clone()];
        // These take any list (a time becomes text), or an empty table.
        let is_right = matches!(
            (key, wrong),
            ("examples", "[[[]]]" | "[07:30:00]")
                | ("map" | "size" | "day", "[[[]]]" | "[07:30:00]")
                | ("enum" | "default", "[07:30:00]")
                | ("env" | "default_args" | "items" | "numeric" | "categorical" | "rule", "{}")
        );
        if is_right {
            continue;
        }
        let first = column(text, at.value.start);
        let last = first + u32::try_from(wrong.len()).unwrap() - 1;
        tally.check("mistyped value", &replaced(text, &at.value, wrong), at.line, (first, last), false);
    }
    let value = &text[at.value.clone()];
    if value.starts_with('"') {
        let first = column(text, at.value.start);
        let last = first + u32::try_from(value.chars().count()).unwrap();
        let unquoted = value.trim_end_matches('"');
        tally.check(
            "unclosed string",
            &replaced(text, &at.value, unquoted),
            at.line,
            (first, last + 200),
            false,
        );
    }
}

fn mutate_headers(text: &str, tally: &mut Tally) {
    let mut offset = 0;
    for (number, line) in (1u32..).zip(text.split_inclusive('\n')) {
        if line.starts_with('[') {
            let brackets = line.bytes().take_while(|b| *b == b'[').count();
            let name: String =
                line[brackets..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let range = offset + brackets..offset + brackets + name.len();
            for word in misspelt(&name) {
                let first = u32::try_from(brackets).unwrap() + 1;
                let last = first + u32::try_from(word.chars().count()).unwrap() - 1;
                tally.check("misspelt header", &replaced(text, &range, &word), number, (first, last), true);
            }
        }
        offset += line.len();
    }
}

#[test]
fn every_mutant_is_refused_where_it_was_changed() {
    let mut tally = Tally::default();
    for (name, text) in FILES {
        let loaded = load(text.as_bytes(), name);
        assert_eq!(loaded.problems, [], "{name}");
        for at in occurrences(text) {
            mutate_key(text, &at, &mut tally);
            mutate_value(text, &at, &mut tally);
        }
        mutate_headers(text, &mut tally);
    }
    let total: usize = tally.counts.values().sum();
    let wrong = tally.wrong.len();
    assert!(
        wrong == 0,
        "{wrong} of {total} mutants:\n{}",
        tally.wrong.into_iter().take(60).collect::<Vec<_>>().join("\n")
    );
    assert!(total >= 1000, "only {total} mutants");
    println!("{total} mutants: {:?}", tally.counts);
}

#[test]
fn every_prefix_of_a_file_is_handled() {
    for (name, text) in FILES {
        for end in (0..text.len()).step_by(3) {
            let loaded = load(&text.as_bytes()[..end], name);
            assert_eq!(loaded.dag.is_some(), !loaded.has_errors(), "{name} cut at {end}");
        }
    }
}
