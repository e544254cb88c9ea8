//! Files stay readable.

use super::{ratchet, root, sources};

/// The most lines that ship in one file. Tests at its end do not count.
const LONGEST: usize = 500;

#[test]
fn files_stay_short() {
    let long = sources()
        .iter()
        .filter(|source| source.has_extension("rs") && source.parts().0.lines().count() > LONGEST)
        .map(|source| source.path.clone())
        .collect();
    ratchet("long_files.txt", "files with more than 500 lines", &long);
}

/// The most lines of one function that ships, from `fn` to its closing brace.
const LONGEST_FUNCTION: usize = 70;
/// One `match` over all events of a machine is read as one thing.
const MACHINES: &[(&str, &str)] =
    &[("worker/src/attempt/machine.rs", "next"), ("engine/src/engine/mod.rs", "apply")];

/// Returns the functions of a formatted text with how many lines each has.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let words = code.split("fn ").next().unwrap_or_default();
        let qualifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "extern", "\"C\"", "unsafe"];
        if !code.contains("fn ") || !words.split_whitespace().all(|word| qualifiers.contains(&word)) {
            continue;
        }
        let name = code[words.len() + 3..].split(['(', '<']).next().unwrap_or_default();
        // A function of a trait may have a signature alone; one of one line is short.
        let signature = lines[at..].iter().find(|line| line.ends_with(['{', ';', '}'])).copied();
        if signature.is_some_and(|line| line.ends_with('{')) {
            let end = format!("{indent}}}");
            let length = lines[at..].iter().position(|line| *line == end).map_or(1, |length| length + 1);
            found.push((name.to_owned(), length));
        }
    }
    found
}

#[test]
fn functions_stay_short() {
    let (mut seen, mut long) = (0, Vec::new());
    for source in sources().iter().filter(|source| source.has_extension("rs")) {
        for (name, lines) in functions(source.parts().0) {
            seen += 1;
            if lines > LONGEST_FUNCTION && !MACHINES.contains(&(&*source.path, &*name)) {
                long.push(format!("{}: {name} has {lines} lines", source.path));
            }
        }
    }
    println!("functions {seen}");
    assert!(seen > 1_000, "{seen} functions found");
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_crate_has_one_test_binary() {
    for source in sources() {
        let Some((krate, file)) = source.path.split_once("/tests/") else { continue };
        if krate.contains('/') || file.contains('/') || file == "main.rs" || !source.has_extension("rs") {
            continue;
        }
        let manifest = std::fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("autotests = false"), "{} is a binary of its own", source.path);
    }
}
