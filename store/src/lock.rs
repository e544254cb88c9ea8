//! The lock that makes a SQLite file one server's own.
//!
//! It is the operating system's lock on a file of its own beside the database, so it ends with its process however
//! that ends. The file also says who holds it, for the message that a second server prints.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::error::OpenError;

/// A held lock. Dropping it lets the next one in; the file stays, since deleting it would race with an opener.
pub(crate) struct LockFile {
    file: File,
}

impl LockFile {
    /// Takes the lock of a database file.
    pub(crate) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = path_of(database);
        let failed = |source| OpenError::Io { path: path.clone(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Who holds it is a courtesy; that it is held is the fact.
                let _ = file.read_to_string(&mut owner);
                let owner = owner.trim();
                let owner = if owner.is_empty() { "another process" } else { owner };
                return Err(OpenError::Locked { path: database.to_owned(), owner: owner.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let command: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
        let owner = format!("process {} ({})", std::process::id(), command.join(" "));
        file.set_len(0).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.write_all(owner.as_bytes()).map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A name that is no longer true would mislead; the lock itself goes with the file handle.
        let _ = self.file.set_len(0);
    }
}

fn path_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
