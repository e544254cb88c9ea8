//! The crate edges of the design, read from the manifests and the sources.

use std::fs;

use super::{CRATES, root, sources};

/// What a crate may depend on, of ours, and what it never sees.
struct Edge {
    name: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

const RUNTIME: &[&str] =
    &["tokio", "sea-orm", "axum", "reqwest", "rustix", "notify", "getrandom", "tempfile"];

const EDGES: &[Edge] = &[
    Edge { name: "engine", ours: &[], never: RUNTIME },
    Edge { name: "protocol", ours: &["engine"], never: RUNTIME },
    Edge { name: "outbound", ours: &[], never: &["sea-orm", "axum", "reqwest", "askama", "serde_json"] },
    Edge { name: "drift", ours: &["protocol"], never: &["tokio", "sea-orm", "axum", "reqwest"] },
    Edge { name: "migrations", ours: &[], never: &["axum", "reqwest"] },
    Edge {
        name: "store",
        ours: &["engine", "protocol", "migrations"],
        never: &["axum", "reqwest", "askama"],
    },
    Edge {
        name: "scheduler",
        ours: &["engine", "protocol", "store", "outbound"],
        never: &["axum", "sea-orm", "askama", "reqwest"],
    },
    Edge {
        name: "worker",
        ours: &["engine", "protocol", "drift", "outbound"],
        never: &["axum", "sea-orm", "askama"],
    },
    Edge { name: "web", ours: &["engine", "protocol", "store", "scheduler"], never: &["sea-orm"] },
];

fn manifest(name: &str) -> toml::Table {
    let path = root().join(name).join("Cargo.toml");
    fs::read_to_string(&path).unwrap().parse().unwrap()
}

fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for table in ["dependencies", "build-dependencies"] {
        if let Some(table) = manifest.get(table).and_then(toml::Value::as_table) {
            found.extend(table.keys().cloned());
        }
    }
    found
}

#[test]
fn crates_depend_only_on_what_the_design_allows() {
    for edge in EDGES {
        for dependency in dependencies(&manifest(edge.name)) {
            if let Some(ours) = dependency.strip_prefix("tidemill-") {
                assert!(edge.ours.contains(&ours), "{} must not depend on {ours}", edge.name);
            }
            assert!(!edge.never.contains(&&*dependency), "{} must never see {dependency}", edge.name);
        }
    }
}

#[test]
fn every_crate_is_checked_and_has_its_readme_as_its_doc() {
    let workspace = manifest(".");
    let members: Vec<&str> = workspace["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member.as_str().unwrap())
        .collect();
    assert_eq!(members, CRATES);
    for name in CRATES {
        let package = manifest(name);
        assert_eq!(package["package"]["name"].as_str(), Some(&*format!("tidemill-{name}")));
        assert_eq!(package["lints"]["workspace"].as_bool(), Some(true), "{name}");
        let readme = fs::read_to_string(root().join(name).join("README.md")).unwrap();
        assert!(readme.starts_with(&format!("# tidemill-{name}")), "{name}/README.md");
        let body = readme.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(body >= 8 && readme.to_lowercase().contains("not"), "{name}/README.md says too little");
        let library = root().join(name).join("src/lib.rs");
        if library.exists() {
            let text = fs::read_to_string(library).unwrap();
            assert!(text.starts_with("#![doc = include_str!(\"../README.md\")]"), "{name}/src/lib.rs");
        }
    }
}

#[test]
fn the_engine_is_pure() {
    let impure = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::io::stdin",
        "SystemTime",
        "Instant::now",
        "Utc::now",
        "Local::now",
        "thread_rng",
        "RandomState",
    ];
    for source in sources() {
        if !(source.path.starts_with("engine/src/") || source.path.starts_with("protocol/src/")) {
            continue;
        }
        let (shipped, _) = source.parts();
        for word in impure {
            assert!(!shipped.contains(word), "{} uses {word}", source.path);
        }
    }
}

#[test]
fn unsafe_is_one_module() {
    let lint = concat!("unsafe", "_code");
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.has_extension("rs") && source.text.contains(lint))
        .map(|source| source.path)
        .collect();
    assert_eq!(found, ["worker/src/process/clone.rs"]);
}

#[test]
fn only_the_timetable_names_the_cron_crate() {
    for source in sources() {
        if source.has_extension("rs")
            && !source.path.starts_with("engine/src/timetable/")
            && !source.is_test()
        {
            let names = source.text.contains("use cron") || source.text.contains("cron::");
            assert!(!names || source.text.contains("tokio_cron_scheduler"), "{}", source.path);
        }
    }
}

#[test]
fn web_and_cli_write_only_through_the_handle() {
    for source in sources() {
        if source.path.starts_with("web/src/") && !source.is_test() {
            let (shipped, _) = source.parts();
            assert!(!shipped.contains("Writer"), "{} names the store's writer", source.path);
        }
    }
}
