//! What a machine can check of the house: crate edges, error codes, words, sizes, links.
//!
//! Two lists of present offenders, `long_files.txt` and `untested_codes.txt`, may only shrink. `TIDY_UPDATE=1`
//! rewrites them; a reviewer sees the difference.

mod codes;
mod docs;
mod edges;
mod semantics;
mod sizes;
mod words;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The folders of the workspace's crates.
const CRATES: &[&str] = &[
    "engine",
    "protocol",
    "outbound",
    "drift",
    "migrations",
    "store",
    "scheduler",
    "worker",
    "web",
    "cli",
    "tests",
    "bench",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A text file of the repository.
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// Whether the whole file is test code.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// Splits a Rust file into what ships and what is only compiled for tests.
    fn parts(&self) -> (&str, &str) {
        if self.is_test() {
            return ("", &self.text);
        }
        // A test module stands at the end of its file.
        match self.text.find("\n#[cfg(test)]\nmod ") {
            Some(at) if self.text[at..].contains('{') => self.text.split_at(at),
            _ => (&self.text, ""),
        }
    }
}

/// Returns every text file under git's eye: what is not ignored by name.
fn sources() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap_or_default();
            let path = entry.path();
            let is_skipped = ["target", ".git", ".tidemill", "node_modules", "__pycache__", "vendor"];
            if is_skipped.contains(&&*name) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Compares present offenders with the list that may only shrink.
fn ratchet(list: &str, what: &str, present: &BTreeSet<String>) {
    let path = root().join("tests/tests/tidy").join(list);
    if std::env::var_os("TIDY_UPDATE").is_some() {
        let text: String = present.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&path, text).unwrap();
        return;
    }
    let listed: BTreeSet<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    let fresh: Vec<_> = present.difference(&listed).collect();
    assert!(fresh.is_empty(), "{what}: {fresh:#?}");
    let gone: Vec<_> = listed.difference(present).collect();
    assert!(gone.is_empty(), "no longer true, take it off {list}: {gone:#?}");
    println!("{list}: {} left", listed.len());
}
