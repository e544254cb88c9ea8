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
