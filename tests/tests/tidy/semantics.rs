//! Every rule of `docs/semantics.md` names the tests that show it: `tests/semantics.toml`.

use std::{collections::BTreeSet, fs};

use super::{root, sources};

/// Returns the first cells of the rows of every table of the page.
fn rows(page: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let mut is_head = true;
    for line in page.lines() {
        match line.strip_prefix("| ") {
            Some(_) if is_head => {}
            Some(rest) => rows.push(rest.split(" | ").next().unwrap_or_default().trim().to_owned()),
            None => {}
        }
        // A table begins with its head and ends at a line that is none of it.
        is_head = if line.starts_with('|') { is_head && !line.starts_with("|---") } else { true };
    }
    rows
}

#[test]
fn every_rule_of_the_semantics_names_its_tests() {
    let table: toml::Table =
        fs::read_to_string(root().join("tests/semantics.toml")).unwrap().parse().unwrap();
    let code: Vec<String> =
        sources().into_iter().filter(|source| source.has_extension("rs")).map(|source| source.text).collect();
    let mut known = BTreeSet::new();
    for text in &code {
        for part in text.split("fn ").skip(1) {
            known.insert(part.split('(').next().unwrap_or_default());
        }
    }
    let (mut rules, mut tests, mut wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (section, of_section) in &table {
        for (rule, named) in of_section.as_table().unwrap() {
            rules.insert(rule.clone());
            let named: Vec<&str> =
                named.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            if named.is_empty() {
                wrong.push(format!("{section}: {rule} names no test"));
            }
            for name in named {
                let is_there = match name.strip_prefix("scenario:") {
                    Some(story) => root().join(format!("tests/scenarios/{story}.scn")).is_file(),
                    None => known.contains(name),
                };
                if !is_there {
                    wrong.push(format!("{section}: {rule}: there is no {name}"));
                }
                tests.insert(name.to_owned());
            }
        }
    }
    let page = fs::read_to_string(root().join("docs/semantics.md")).unwrap();
    let rows = rows(&page);
    for row in &rows {
        // `all_success` (default) is the rule all_success.
        let plain = row.split(" (default)").next().unwrap_or(row);
        let bare = plain.trim_matches('`');
        if ![row.as_str(), plain, bare].iter().any(|name| rules.contains(*name)) {
            wrong.push(format!("docs/semantics.md: no test is named for the row {row:?}"));
        }
    }
    println!("{{\"rows\": {}, \"rules\": {}, \"tests\": {}}}", rows.len(), rules.len(), tests.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.len() >= 45 && rules.len() >= 90, "{} {}", rows.len(), rules.len());
}
