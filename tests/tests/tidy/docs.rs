//! Documents that point to things that exist.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::{root, sources};

#[test]
fn the_documents_of_the_house_are_there() {
    for path in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "Makefile",
        "deny.toml",
        "docs/README.md",
        "docs/operations.md",
        "docs/states.md",
        "docs/testing.md",
        "docs/templates.md",
        ".ci/run",
    ] {
        assert!(root().join(path).is_file(), "{path}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut links = 0;
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.has_extension("md")) {
        let folder = root().join(Path::new(&source.path).parent().unwrap());
        for part in source.text.split("](").skip(1) {
            let target = part.split([')', ' ', '#']).next().unwrap_or_default();
            let is_elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            let is_item = target.contains("::") || target.starts_with('`') || target.contains("()");
            if !is_elsewhere && !is_item && (target.contains('/') || target.contains('.')) {
                links += 1;
                if !folder.join(target).exists() {
                    broken.push(format!("{}: {target}", source.path));
                }
            }
        }
    }
    println!("links {links}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A variant whose patch fits no more shows nothing; `make broken` is too slow to be the first who says so.
#[test]
fn broken_variants_fit_the_code_and_name_their_test() {
    let mut variants = 0;
    for entry in fs::read_dir(root().join("tests/broken")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|found| found != "patch") {
            continue;
        }
        variants += 1;
        let patch = fs::read_to_string(&path).unwrap();
        for field in ["Breaks: ", "Test: ", "Says: "] {
            assert!(patch.lines().any(|line| line.starts_with(field)), "{}: no {field}", path.display());
        }
        let check = Command::new("git").args(["apply", "--check"]).arg(&path).current_dir(root()).output();
        let check = check.expect("git, with which the checkout was made");
        let said = String::from_utf8_lossy(&check.stderr);
        assert!(check.status.success(), "{}: {said}", path.display());
    }
    println!("variants {variants}");
    assert!(variants >= 20, "{variants}");
}

#[test]
fn decisions_are_numbered_and_say_what_violates_them() {
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(root().join("docs/decisions")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        let number: u32 =
            name.get(..4).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{name}"));
        assert!(numbers.insert(number), "{name}: the number is taken");
        let text = fs::read_to_string(&path).unwrap();
        for section in ["## Context", "## Decision", "## Consequences", "A change violates this when"] {
            assert!(text.contains(section), "{name}: {section}");
        }
    }
    let expected: BTreeSet<u32> = (1..=numbers.len() as u32).collect();
    assert_eq!(numbers, expected);
}

/// Returns the lines of the fenced blocks of a document.
fn fenced(text: &str) -> Vec<&str> {
    text.split("```").skip(1).step_by(2).flat_map(str::lines).map(str::trim).collect()
}

/// The commands of `tidemill` itself are checked where the command line is: `cli/src/shown.rs`.
#[test]
fn the_targets_that_documents_name_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let is_target = |name: &str| makefile.contains(&format!("\n{name}: "));
    let mut checked = 0;
    for source in sources().iter().filter(|source| source.has_extension("md")) {
        let spans = source.text.split('`').skip(1).step_by(2);
        for line in fenced(&source.text).into_iter().chain(spans) {
            if let Some(("make", rest)) = line.trim_start_matches("$ ").split_once(' ') {
                let target = rest.split_whitespace().next().unwrap_or_default();
                assert!(is_target(target), "{}: make {target}", source.path);
                checked += 1;
            }
        }
    }
    println!("{checked} targets are named");
    assert!(checked >= 5, "{checked} targets are named");
}
