//! One word per thing, and nothing in pages that the content security policy refuses.

use super::sources;

/// A word that is not ours, what to say instead, and where it may stand all the same.
const BANNED: &[(&str, &str, &[&str])] = &[
    ("zombie", "heartbeat timeout", &[]),
    (
        "execution_date",
        "logical date",
        &[
            "engine/src/template/names.rs",
            "engine/tests/",
            "engine/src/definition/",
            "docs/errors/DAG",
            "docs/templates.md",
            // What an import reads, and what it becomes.
            "cli/src/import/airflow/",
            "cli/tests/import/",
            "docs/import.md",
        ],
    ),
    ("canceled", "cancelled", &[]),
    ("workflow", "dag", &["README.md", "ARCHITECTURE.md", "cli/"]),
    ("job", "task, or dag run", &["scheduler/src/housekeeping.rs", "docs/decisions/"]),
    (
        "jobs",
        "tasks",
        &[
            "scheduler/src/housekeeping.rs",
            "docs/decisions/",
            "deny.toml",
            "scheduler/README.md",
            "engine/tests/shell",
            "worker/tests/",
        ],
    ),
];

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

#[test]
fn the_words_of_the_glossary_are_used() {
    let mut wrong = Vec::new();
    for source in sources() {
        let is_ours =
            ["rs", "md", "html", "py", "toml", "css", "js"].iter().any(|kind| source.has_extension(kind));
        let is_own = source.path.starts_with("tests/tests/tidy/") || source.path == "docs/states.md";
        if !is_ours || is_own || source.path.starts_with("dags/data") || source.path == "CONTRIBUTING.md" {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let lower = line.to_lowercase();
            for (word, instead, places) in BANNED {
                let is_allowed = places.iter().any(|place| source.path.starts_with(place));
                if !is_allowed && words(&lower).any(|found| found == *word) {
                    wrong.push(format!("{}:{}: `{word}`: say {instead}", source.path, number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pages_hold_nothing_that_the_policy_refuses() {
    let refused = [
        "style=",
        "hx-on",
        "js:",
        "javascript:",
        "|safe",
        "| safe",
        "<style",
        "onclick=",
        "onload=",
        "eval(",
    ];
    let mut pages = 0;
    for source in sources() {
        if !source.path.starts_with("web/") || !(source.has_extension("html") || source.has_extension("svg"))
        {
            continue;
        }
        pages += 1;
        for (number, line) in source.text.lines().enumerate() {
            for word in refused {
                assert!(!line.contains(word), "{}:{}: {word}", source.path, number + 1);
            }
            let is_inline = line.contains("<script") && !line.contains("src=");
            assert!(!is_inline, "{}:{}: an inline script", source.path, number + 1);
        }
    }
    println!("pages {pages}");
}

#[test]
fn no_test_is_switched_off() {
    let refused = ["#[ignore", "#[should_panic", "todo!(", "unimplemented!("];
    for source in sources() {
        if source.has_extension("rs") && !source.path.starts_with("tests/tests/tidy/") {
            for word in refused {
                assert!(!source.text.contains(word), "{}: {word}", source.path);
            }
        }
    }
}
