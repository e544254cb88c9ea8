//! Where data lies: a file, or a folder whose files are the parts of one table.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::error::DriftError;

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Parquet,
    JsonLines,
}

/// One side's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The path that was asked for, resolved.
    pub(crate) path: PathBuf,
    /// In the order in which they are read.
    pub(crate) parts: Vec<PathBuf>,
    pub(crate) format: Format,
    /// `reference` or `current data`, for messages.
    pub(crate) side: &'static str,
}

impl Source {
    /// Finds the parts of `path`, which is relative to `base` unless it is absolute.
    pub(crate) fn find(side: &'static str, base: &Path, path: &str) -> Result<Self, DriftError> {
        if path.trim().is_empty() {
            return Err(DriftError::EmptyPath { side });
        }
        let path = base.join(path);
        let unreadable = |source| DriftError::Unreadable { side, path: path.clone(), source };
        if !fs::metadata(&path).map_err(unreadable)?.is_dir() {
            let format = match by_extension(&path)? {
                Some(format) => format,
                None => by_content(&path).map_err(unreadable)?,
            };
            return Ok(Self { parts: vec![path.clone()], path, format, side });
        }
        let mut found = Vec::new();
        collect(side, &path, &mut found)?;
        let Some(&(_, format)) = found.first() else {
            return Err(DriftError::NoParts { side, path });
        };
        if let Some((other, _)) = found.iter().find(|(_, f)| *f != format) {
            let detail = "its folder also holds files of another format".to_owned();
            return Err(DriftError::UnknownFormat { path: other.clone(), detail });
        }
        Ok(Self { path, parts: found.into_iter().map(|(path, _)| path).collect(), format, side })
    }

    /// Opens one part.
    pub(crate) fn open(&self, part: &Path) -> Result<File, DriftError> {
        File::open(part).map_err(|source| self.unreadable(part, source))
    }

    /// Says that a part cannot be read.
    pub(crate) fn unreadable(&self, part: &Path, source: io::Error) -> DriftError {
        DriftError::Unreadable { side: self.side, path: part.to_owned(), source }
    }

    /// Returns the SHA-256 over the bytes of all parts in order, in hexadecimal.
    pub(crate) fn sha256(&self) -> Result<String, DriftError> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        for part in &self.parts {
            let mut file = self.open(part)?;
            loop {
                let read = match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(self.unreadable(part, e)),
                };
                hash.update(buffer.get(..read).unwrap_or_default());
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Adds the data files below a folder in the order of their names; nested hive folders are fine.
fn collect(side: &'static str, folder: &Path, found: &mut Vec<(PathBuf, Format)>) -> Result<(), DriftError> {
    let unreadable = |source| DriftError::Unreadable { side, path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    // By name, not by inode, or the checksum and the messages would differ between machines.
    entries.sort();
    for path in entries {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        // Writers put `_SUCCESS`, `_temporary` and hidden checksums beside their parts.
        if name.starts_with(['.', '_']) {
            continue;
        }
        if path.is_dir() {
            collect(side, &path, found)?;
        } else if let Some(format) = by_extension(&path)? {
            found.push((path, format));
        }
    }
    Ok(())
}

/// Tells the format by the file's name; an error for data that would otherwise be passed over silently.
fn by_extension(path: &Path) -> Result<Option<Format>, DriftError> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "csv" => Ok(Some(Format::Csv)),
        "parquet" | "pq" => Ok(Some(Format::Parquet)),
        "jsonl" | "ndjson" | "json" => Ok(Some(Format::JsonLines)),
        "gz" | "bz2" | "xz" | "zst" | "zip" | "lz4" | "tsv" | "xlsx" | "orc" | "avro" | "feather"
        | "arrow" => Err(DriftError::UnknownFormat {
            path: path.to_owned(),
            detail: format!("it ends in .{extension}"),
        }),
        _ => Ok(None),
    }
}

/// Tells the format of a file without a telling name by its first bytes.
fn by_content(path: &Path) -> io::Result<Format> {
    let mut start = Vec::new();
    File::open(path)?.take(64).read_to_end(&mut start)?;
    Ok(match start.trim_ascii_start() {
        [b'P', b'A', b'R', b'1', ..] => Format::Parquet,
        [b'{', ..] => Format::JsonLines,
        _ => Format::Csv,
    })
}
