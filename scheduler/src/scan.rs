//! Looking through the DAG folder and reading what changed. Blocking, so never on the loop.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sha2::{Digest, Sha256};
use tidemill_engine::{
    definition::{Dag, load, version_hash},
    ids::DagId,
    rows::VersionHash,
};

use crate::beside::{FileWarnings, sentence};

/// The largest DAG file, in bytes.
const SIZE_LIMIT_BYTES: u64 = 1024 * 1024;
/// How deep folders are searched.
const DEPTH_LIMIT: usize = 32;
/// How many files are looked at.
const FILE_LIMIT: usize = 100_000;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    size_bytes: u64,
    inode: u64,
}

/// A file of the DAG folder, as the file system shows it.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It can be read.
    File { absolute: PathBuf, stamp: Stamp },
    /// It must not or cannot be read.
    Refused(Fault),
}

/// Why a file is not even read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A symbolic link that leads out of the folder. Nothing of its target is ever shown.
    Leaves,
    /// The file system refused.
    Unreadable(String),
    /// We panicked.
    Panicked(String),
}

/// What reading a file gave.
#[derive(Debug)]
pub(crate) enum ReadFile {
    /// The same bytes as before.
    Unchanged,
    /// A DAG.
    Dag {
        dag: Arc<Dag>,
        version: VersionHash,
        source: Arc<str>,
        hash: [u8; 32],
        /// What is odd about the file although it loads.
        warnings: FileWarnings,
    },
    /// Problems, in the shape of `dags check --format json`.
    Broken { dag_id: Option<DagId>, problems: serde_json::Value, source: String, hash: [u8; 32] },
    /// It vanished or cannot be read.
    Fault(Fault),
}

/// Returns every `*.toml` file below the folder by its relative path. Hidden files and folders are passed over.
///
/// # Errors
/// The folder itself cannot be read.
pub(crate) fn scan(root: &Path) -> io::Result<BTreeMap<String, Found>> {
    let root = root.canonicalize()?;
    let mut found = BTreeMap::new();
    let mut open = vec![(root.clone(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = open.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // A folder may vanish while it is being looked at; the root may not.
            Err(error) if prefix.is_empty() => return Err(error),
            Err(_) => continue,
        };
        for entry in entries.filter_map(Result::ok) {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            if kind.is_dir() && depth < DEPTH_LIMIT {
                open.push((entry.path(), path, depth + 1));
            } else if name.ends_with(".toml")
                && !kind.is_dir()
                && found.len() < FILE_LIMIT
                && let Some(state) = inspect(&root, &entry.path(), kind.is_symlink())
            {
                found.insert(path, state);
            }
        }
    }
    Ok(found)
}

fn inspect(root: &Path, path: &Path, is_symlink: bool) -> Option<Found> {
    let absolute = if is_symlink {
        match path.canonicalize() {
            Ok(target) if !target.starts_with(root) => return Some(Found::Refused(Fault::Leaves)),
            Ok(target) => target,
            Err(error) => return Some(Found::Refused(Fault::Unreadable(error.to_string()))),
        }
    } else {
        path.to_owned()
    };
    match fs::metadata(&absolute) {
        Ok(metadata) if metadata.is_file() => Some(Found::File { absolute, stamp: stamp(&metadata) }),
        // A folder or a device behind a link, or a pipe: reading it could block for ever.
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Found::Refused(Fault::Unreadable(error.to_string()))),
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    Stamp { modified: metadata.modified().ok(), size_bytes: metadata.len(), inode: metadata.ino() }
}

/// Reads and loads a file, unless its bytes are those of `known`.
pub(crate) fn read(path: &str, absolute: &Path, known: Option<[u8; 32]>) -> ReadFile {
    let mut bytes = Vec::new();
    // One byte more than allowed is enough for the loader to refuse it.
    let result =
        fs::File::open(absolute).and_then(|file| file.take(SIZE_LIMIT_BYTES + 1).read_to_end(&mut bytes));
    if let Err(error) = result {
        return ReadFile::Fault(Fault::Unreadable(error.to_string()));
    }
    let hash: [u8; 32] = Sha256::digest(&bytes).into();
    if known == Some(hash) {
        return ReadFile::Unchanged;
    }
    let loaded = load(&bytes, path);
    let source = String::from_utf8_lossy(&bytes).into_owned();
    match loaded.dag {
        Some(dag) => {
            let version = version_hash(&dag);
            // A link's own folder is not known here, so what lies beside the file is looked at beside its target.
            let folder = absolute.parent().map(Path::to_owned).unwrap_or_default();
            let sentences = loaded.problems.iter().map(sentence).collect();
            let warnings = FileWarnings { sentences, outside: Arc::new(loaded.outside), folder };
            ReadFile::Dag { dag: Arc::new(dag), version, source: source.into(), hash, warnings }
        }
        None => {
            let dag_id = loaded.dag_id.and_then(|id| DagId::new(id).ok());
            let problems = serde_json::to_value(&loaded.problems).unwrap_or_default();
            ReadFile::Broken { dag_id, problems, source, hash }
        }
    }
}
