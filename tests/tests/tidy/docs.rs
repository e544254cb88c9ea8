//! Documents that point to things that exist.

use std::{collections::BTreeSet, fs, path::Path};

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

#[test]
fn the_commands_of_the_readme_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let command_line = fs::read_to_string(root().join("cli/README.md")).unwrap();
    let mut checked = 0;
    for line in fenced(&readme) {
        let words: Vec<&str> = line.trim_start_matches("$ ").split_whitespace().collect();
        if let ["make", target, ..] = words[..] {
            assert!(makefile.contains(&format!("\n{target}: ")), "make {target}");
            checked += 1;
        }
        let own = words.iter().position(|word| word.rsplit('/').next() == Some("tidemill"));
        let after_run = words.first() == Some(&"cargo") && words.get(1) == Some(&"run");
        let command = match (own, after_run) {
            (Some(0), _) => words.get(1),
            (_, true) => words.iter().position(|word| *word == "--").and_then(|at| words.get(at + 1)),
            _ => None,
        };
        if let Some(command) = command {
            let is_known = command_line.contains(*command) || cli_names(command);
            assert!(is_known, "tidemill {command}");
            checked += 1;
        }
    }
    assert!(checked >= 2, "the README shows no commands");
}

/// Whether the command line's source names the subcommand.
fn cli_names(command: &str) -> bool {
    let variant: String = command
        .split('-')
        .map(|part| {
            part.chars()
                .next()
                .map(|c| c.to_ascii_uppercase())
                .into_iter()
                .chain(part.chars().skip(1))
                .collect::<String>()
        })
        .collect();
    sources().iter().any(|source| source.path.starts_with("cli/src/") && source.text.contains(&variant))
}
