//! The corpus of malformed files: each says itself which problem is expected where.
//!
//! A comment line `# ^^^ CODE` points at the main place of a problem in the line above it, `# ~~~ CODE` at one of
//! its further places. `#! CODE` expects a problem of the file as a whole, `#@ CODE 8:13-15` one at a place
//! below which no comment can stand. Nothing else may be reported.

use std::{collections::BTreeSet, fs, path::Path};

use tidemill_engine::definition::{Code, Problem, load};

/// A place as the corpus writes it: code, line, first and last column.
type Place = (String, u32, u32, u32);

pub(crate) struct Expected {
    pub(crate) main: Vec<Place>,
    pub(crate) further: Vec<Place>,
}

pub(crate) fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_files");
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Reads the marker comments of a file.
pub(crate) fn expected(source: &[u8]) -> Expected {
    let text = String::from_utf8_lossy(source).into_owned();
    let mut expected = Expected { main: Vec::new(), further: Vec::new() };
    let mut subject = 0;
    for (number, line) in (1u32..).zip(text.lines()) {
        if let Some(code) = line.strip_prefix("#! ") {
            expected.main.push((code.to_owned(), 1, 1, 1));
        } else if let Some(rest) = line.strip_prefix("#@ ") {
            let (code, place) = rest.split_once(' ').unwrap();
            let (row, columns) = place.split_once(':').unwrap();
            let (first, last) = columns.split_once('-').unwrap();
            expected.main.push((
                code.to_owned(),
                row.parse().unwrap(),
                first.parse().unwrap(),
                last.parse().unwrap(),
            ));
        } else if let Some((marks, code)) = marker(line) {
            let first = u32::try_from(line.find(marks).unwrap()).unwrap() + 1;
            let last = first + u32::try_from(marks.len()).unwrap() - 1;
            let list = if marks.starts_with('^') { &mut expected.main } else { &mut expected.further };
            list.push((code.to_owned(), subject, first, last));
        } else {
            subject = number;
        }
    }
    expected.main.sort();
    expected
}

fn marker(line: &str) -> Option<(&str, &str)> {
    let (marks, code) = line.strip_prefix('#')?.trim_start().split_once(' ')?;
    let is_marker = marks.chars().all(|c| c == '^') || marks.chars().all(|c| c == '~');
    (is_marker && !marks.is_empty() && code.starts_with("DAG")).then_some((marks, code))
}

pub(crate) fn places(problems: &[Problem]) -> (Vec<Place>, Vec<Place>) {
    let place = |problem: &Problem, index: usize| {
        problem.spans.get(index).map_or_else(
            || (problem.code.to_string(), 1, 1, 1),
            |span| {
                // A place over several lines is pointed at up to the end of its first line.
                let last = if span.end_line == span.line { span.end_col } else { 0 };
                (problem.code.to_string(), span.line, span.col, last)
            },
        )
    };
    let mut main: Vec<Place> = problems.iter().map(|problem| place(problem, 0)).collect();
    main.sort();
    let further = problems
        .iter()
        .flat_map(|problem| (1..problem.spans.len()).map(move |index| place(problem, index)))
        .collect();
    (main, further)
}

#[test]
fn every_malformed_file_is_refused_at_the_marked_places() {
    let (mut wrong, mut codes, mut count, mut with_three) = (Vec::new(), BTreeSet::new(), 0, 0);
    let files = corpus();
    for (name, source) in &files {
        let loaded = load(source, name);
        let expected = expected(source);
        let (main, further) = places(&loaded.problems);
        let missing: Vec<_> = expected.further.iter().filter(|place| !further.contains(place)).collect();
        if expected.main.is_empty() || main != expected.main || !missing.is_empty() {
            wrong.push(format!(
                "{name}\n  expected {:?}\n  reported {main:?}\n  missing further places {missing:?}\n  {:#?}",
                expected.main,
                loaded
                    .problems
                    .iter()
                    .map(|p| format!("{}: {} ({:?})", p.code, p.message, p.help))
                    .collect::<Vec<_>>()
            ));
        }
        assert_eq!(loaded.dag.is_some(), !loaded.has_errors(), "{name}");
        with_three += usize::from(name.starts_with("three_faults"));
        count += expected.main.len();
        codes.extend(expected.main.into_iter().map(|(code, ..)| code));
    }
    assert!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), files.len(), wrong.join("\n"));
    assert!(files.len() >= 110 && codes.len() >= 40 && with_three >= 5);
    println!(
        "{} malformed files, {count} marked places, {} distinct codes, {with_three} files with three faults",
        files.len(),
        codes.len()
    );
}

#[test]
fn every_code_has_a_file_in_the_corpus_or_a_made_file() {
    // These need more bytes than a repository should hold, bytes that an editor would repair, or a second file.
    let mut codes: BTreeSet<String> = [
        Code::FILE_TOO_LARGE,
        Code::TOO_MANY_TASKS,
        Code::TOO_MANY_EDGES,
        Code::NOT_UTF8,
        Code::MORE_PROBLEMS,
        Code::ASSET_WITHOUT_SOURCE,
        // These ask for files and for the time: `outside.rs` has them.
        Code::MISSING_SCRIPT,
        Code::CATCHUP_OF_MANY,
        Code::NO_DATE_LEFT,
        // Only a server knows.
        Code::NOT_ON_SERVER,
    ]
    .map(|c| c.to_string())
    .into();
    for (_, source) in corpus() {
        codes.extend(expected(&source).main.into_iter().map(|(code, ..)| code));
    }
    let missing: Vec<&str> =
        Code::ALL.iter().map(|(code, _)| code.as_str()).filter(|code| !codes.contains(*code)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
