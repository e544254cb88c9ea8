//! `file_sensor`: looks once whether a file is there.
//!
//! Outputs: `path`, the first one that was found, and `count`, how many match a pattern.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{OperatorResult, Out};
use crate::outcome::Problem;

/// So many matches of a pattern are counted; what is waited for is there long before.
const COUNTED: usize = 10_000;

pub(super) fn poke(path: &str, out: &mut Out) -> OperatorResult {
    match look(path) {
        Ok(found) if found.is_empty() => OperatorResult::not_yet(absence(path), out),
        Ok(found) => {
            let first = found[0].to_string_lossy().into_owned();
            out.stamped(&format!("found {first}"));
            let outputs =
                [("path".to_owned(), first.into()), ("count".to_owned(), found.len().into())].into();
            OperatorResult { outputs, ..OperatorResult::default() }
        }
        Err(error) => {
            let problem = Problem::FileSensor { path: path.to_owned(), error };
            OperatorResult::failed(&problem, false)
        }
    }
}

/// Says what is missing; a folder that is there and empty is the case that puzzles people.
fn absence(path: &str) -> String {
    match Path::new(path).is_dir() {
        true => format!("there is no file in {path} yet"),
        false => format!("{path} is not there yet"),
    }
}

/// Returns what is there: the path itself, or else what matches it as a pattern.
fn look(path: &str) -> Result<Vec<PathBuf>, String> {
    // A name with brackets in it is a name first.
    if is_there(Path::new(path)).map_err(|error| error.to_string())? {
        return Ok(vec![PathBuf::from(path)]);
    }
    if !path.contains(['*', '?', '[']) {
        return Ok(Vec::new());
    }
    let matches = glob::glob(path).map_err(|error| format!("it is no pattern: {error}"))?;
    let mut found = Vec::new();
    for entry in matches {
        let entry = entry.map_err(|error| error.to_string())?;
        if is_there(&entry).map_err(|error| error.to_string())? {
            found.push(entry);
        }
        if found.len() == COUNTED {
            break;
        }
    }
    found.sort();
    Ok(found)
}

/// Whether there is a file, or a folder with a file somewhere in it.
fn is_there(path: &Path) -> io::Result<bool> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        // Whoever made it may have taken it away between two looks; a part of the way may be a file still.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    if !found.is_dir() {
        return Ok(true);
    }
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // Links to folders are not walked: they may lead in circles.
            match entry.file_type()? {
                kind if kind.is_dir() => open.push(entry.path()),
                _ => return Ok(true),
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_a_filled_folder_and_a_pattern_are_found_and_an_empty_folder_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        fs::create_dir_all(at("empty/deep")).unwrap();
        fs::create_dir_all(at("filled/deep")).unwrap();
        fs::write(at("filled/deep/x"), "").unwrap();
        for name in ["a1.csv", "a2.csv", "b[1].csv"] {
            fs::write(at(name), "").unwrap();
        }
        let count = |name: &str| look(&at(name)).unwrap().len();
        for (name, expected) in [
            ("a1.csv", 1),
            ("a*.csv", 2),
            ("b[1].csv", 1),
            ("empty", 0),
            ("filled", 1),
            ("**/x", 1),
            ("none", 0),
            ("none*", 0),
            ("a1.csv/below", 0),
        ] {
            assert_eq!(count(name), expected, "{name}");
        }
        assert!(look("a***b").unwrap_err().contains("it is no pattern"));
        assert!(absence(&at("empty")).starts_with("there is no file in"));
        assert!(absence(&at("none")).ends_with("is not there yet"));
    }
}
