//! Task logs: one append-only file per attempt.
//!
//! ```text
//! <root>/<dag>/<run key>/<task>/<map index>/<try>.<epoch>.log
//! <root>/<dag>/<run key>/<task>/<map index>/<try>.0.log           the earlier pokes of a sensor's try
//! ```
//!
//! The pokes of a sensor are attempts of one try. Each writes its own file, and when the next one begins, the file of the
//! one before is put to the end of the try's file with epoch 0, which no attempt has. A reader sees that file followed by
//! the file of the attempt it asks for: to it the log of the try only grows.
//!
//! **Invariant:** byte *n* of a file is byte *n* of what the attempt wrote. An append says where its bytes
//! begin; what is already there is passed over and a gap is refused by answering how much there is, so the
//! sender repeats from there. Appending the same bytes twice, in any order, gives the same file.
//!
//! Durability: bytes are in the page cache when an append is answered, so they survive the death of every
//! process at once. They are flushed to disk by [`LogStore::flush`], which housekeeping calls every few
//! seconds. A power cut of the server may therefore shorten a file by its last seconds; the worker then
//! repeats from the shorter end for as long as it holds the attempt, because the answer to its next append
//! tells it so.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tidemill_engine::ids::{AttemptKey, DagId, RunKey};

/// At most this much is returned by one read, in bytes.
pub const READ_LIMIT_BYTES: usize = 1024 * 1024;

/// A log could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the log {path:?}")]
pub struct LogError {
    /// What was tried.
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// A piece of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSlice {
    /// Where it begins.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How long the whole log is now, in bytes.
    pub size_bytes: u64,
}

/// A folder of logs.
#[derive(Debug)]
pub struct LogStore {
    root: PathBuf,
    /// Files with bytes that may not be on disk yet.
    unflushed: Mutex<BTreeSet<PathBuf>>,
    /// Appends to one file take turns; 64 stripes keep different files from waiting for each other.
    stripes: [Mutex<()>; 64],
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks panics half-way through a change, so a poisoned one is still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    /// Opens the folder, making it when it is not there.
    ///
    /// # Errors
    /// [`LogError`] when the folder cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, LogError> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(|source| LogError {
            doing: "make the folder of",
            path: root.clone(),
            source,
        })?;
        Ok(Self { root, unflushed: Mutex::default(), stripes: std::array::from_fn(|_| Mutex::new(())) })
    }

    fn run_folder(&self, dag: &DagId, run: RunKey) -> PathBuf {
        self.root.join(dag.as_str()).join(run.to_string())
    }

    /// Returns the file of an attempt. Names are checked by their types, so they cannot leave the root.
    #[must_use]
    pub fn path(&self, dag: &DagId, attempt: &AttemptKey) -> PathBuf {
        let instance = &attempt.instance;
        let mut path = self.run_folder(dag, instance.run);
        path.push(instance.task.as_str());
        path.push(instance.map_index.to_string());
        path.push(format!("{}.{}.log", attempt.try_number, attempt.epoch));
        path
    }

    /// Returns the file with the pokes before an attempt.
    fn pokes_path(&self, dag: &DagId, attempt: &AttemptKey) -> PathBuf {
        self.path(dag, &AttemptKey { epoch: 0, ..attempt.clone() })
    }

    /// Puts the logs of the pokes before `attempt`, of the same try, to the end of one file. Blocks. What a crash has left
    /// behind is put there by the next call.
    ///
    /// # Errors
    /// [`LogError`]; what was not put there stays where it is.
    pub fn join_pokes(&self, dag: &DagId, attempt: &AttemptKey) -> Result<(), LogError> {
        let all = self.pokes_path(dag, attempt);
        let Some(folder) = all.parent() else { return Ok(()) };
        // Before the files are listed: another call may be about to put them there.
        let _turn = locked(self.stripe(&all));
        let mut earlier: Vec<(u32, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let numbers = name.to_str().and_then(|name| name.strip_suffix(".log")?.split_once('.'));
            let Some((number, epoch)) = numbers else { continue };
            let of_try = number.parse() == Ok(attempt.try_number);
            if let Some(epoch) =
                epoch.parse().ok().filter(|epoch| of_try && (1..attempt.epoch).contains(epoch))
            {
                earlier.push((epoch, entry.path()));
            }
        }
        earlier.sort();
        let fail = |source| LogError { doing: "append to", path: all.clone(), source };
        for (_, path) in earlier {
            let bytes = fs::read(&path).map_err(fail)?;
            let mut file = OpenOptions::new().append(true).create(true).open(&all).map_err(fail)?;
            file.write_all(&bytes).map_err(fail)?;
            fs::remove_file(&path).map_err(fail)?;
            locked(&self.unflushed).insert(all.clone());
        }
        Ok(())
    }

    fn stripe(&self, path: &Path) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let index = hasher.finish() % (self.stripes.len() as u64);
        &self.stripes[usize::try_from(index).unwrap_or(0)]
    }

    /// Appends what of `bytes` is new and returns how long the log is now. Blocks.
    ///
    /// # Errors
    /// [`LogError`]; bytes before the failure may have been kept, a repetition continues after them.
    pub fn append(
        &self,
        dag: &DagId,
        attempt: &AttemptKey,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, LogError> {
        let path = self.path(dag, attempt);
        let fail = |source| LogError { doing: "append to", path: path.clone(), source };
        let _turn = locked(self.stripe(&path));
        let mut file = match OpenOptions::new().append(true).create(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder).map_err(fail)?;
                }
                OpenOptions::new().append(true).create(true).open(&path).map_err(fail)?
            }
            other => other.map_err(fail)?,
        };
        let size = file.metadata().map_err(fail)?.len();
        let Some(known) = size.checked_sub(offset) else { return Ok(size) };
        let new = usize::try_from(known).ok().and_then(|known| bytes.get(known..)).unwrap_or_default();
        if new.is_empty() {
            return Ok(size);
        }
        file.write_all(new).map_err(fail)?;
        locked(&self.unflushed).insert(path);
        Ok(size + new.len() as u64)
    }

    /// Reads at most `limit` bytes (and at most [`READ_LIMIT_BYTES`]) from `offset`. Blocks. A log that does
    /// not exist is empty.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn read(
        &self,
        dag: &DagId,
        attempt: &AttemptKey,
        offset: u64,
        limit: usize,
    ) -> Result<LogSlice, LogError> {
        let path = self.path(dag, attempt);
        let limit = limit.min(READ_LIMIT_BYTES);
        let pokes = self.pokes_path(dag, attempt);
        // While pokes are put together, nobody sees a part of them twice.
        let turn = pokes.exists().then(|| locked(self.stripe(&pokes)));
        let fail = |source| LogError { doing: "read", path: path.clone(), source };
        let (mut slice, earlier) = match &turn {
            Some(_) => {
                let slice = read_file(&pokes, offset, limit).map_err(fail)?;
                let size = slice.size_bytes;
                (slice, size)
            }
            None => (LogSlice { offset, ..LogSlice::default() }, 0),
        };
        let room = limit - slice.bytes.len();
        let own = read_file(&path, offset.saturating_sub(earlier), room).map_err(fail)?;
        // What lies behind the end of the earlier part begins the later one, unless the limit cut it off.
        slice.bytes.extend(own.bytes);
        slice.size_bytes = earlier + own.size_bytes;
        Ok(slice)
    }

    /// Flushes to disk what was appended since the last call and returns how many files that were. Blocks.
    ///
    /// # Errors
    /// The first [`LogError`]; the files that were not flushed are tried again by the next call.
    pub fn flush(&self) -> Result<usize, LogError> {
        let paths = std::mem::take(&mut *locked(&self.unflushed));
        let mut flushed = 0;
        let mut first_error = None;
        for path in paths {
            let synced = match File::open(&path) {
                Ok(file) => file.sync_data(),
                // Retention took it in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            match synced {
                Ok(()) => flushed += 1,
                Err(source) => {
                    locked(&self.unflushed).insert(path.clone());
                    first_error.get_or_insert(LogError { doing: "flush", path, source });
                }
            }
        }
        first_error.map_or(Ok(flushed), Err)
    }

    /// Returns the runs that have logs. Blocks; what cannot be read or is none of ours is passed over.
    #[must_use]
    pub fn runs(&self) -> Vec<(DagId, RunKey)> {
        let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
        let mut found = Vec::new();
        for dag in folders(&self.root) {
            let Some(dag_id) = dag.file_name().to_str().and_then(|name| DagId::new(name).ok()) else {
                continue;
            };
            for run in folders(&dag.path()) {
                let key = run.file_name().to_str().and_then(|name| name.parse().ok());
                if let Some(key) = key {
                    found.push((dag_id.clone(), RunKey(key)));
                }
            }
        }
        found
    }

    /// Deletes all logs of a run. Blocks.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn delete_run(&self, dag: &DagId, run: RunKey) -> Result<(), LogError> {
        self.delete_folder(self.run_folder(dag, run))
    }

    /// Deletes all logs of a DAG. Blocks.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn delete_dag(&self, dag: &DagId) -> Result<(), LogError> {
        self.delete_folder(self.root.join(dag.as_str()))
    }

    fn delete_folder(&self, path: PathBuf) -> Result<(), LogError> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| LogError { doing: "delete", path, source }),
        }
    }
}

/// Reads at most `limit` bytes of a file from `offset`; one that is not there is empty.
fn read_file(path: &Path, offset: u64, limit: usize) -> io::Result<LogSlice> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(LogSlice { offset, ..LogSlice::default() });
        }
        Err(error) => return Err(error),
    };
    let size_bytes = file.metadata()?.len();
    let rest = usize::try_from(size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; rest.min(limit)];
    file.seek(SeekFrom::Start(offset))?;
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(LogSlice { offset, bytes, size_bytes })
}

#[cfg(test)]
mod tests {
    use tidemill_engine::ids::{TaskId, TaskInstanceKey};

    use super::*;

    fn place() -> (DagId, AttemptKey) {
        let instance = TaskInstanceKey { run: RunKey(7), task: TaskId::new("a.b").unwrap(), map_index: -1 };
        (DagId::new("dag").unwrap(), AttemptKey { instance, try_number: 2, epoch: 3 })
    }

    #[test]
    fn appends_are_idempotent_by_offset_and_gaps_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogStore::open(folder.path()).unwrap();
        let (dag, attempt) = place();
        assert_eq!(logs.append(&dag, &attempt, 0, b"hello ").unwrap(), 6);
        assert_eq!(logs.append(&dag, &attempt, 0, b"hello ").unwrap(), 6);
        assert_eq!(logs.append(&dag, &attempt, 3, b"lo world").unwrap(), 11);
        assert_eq!(logs.append(&dag, &attempt, 0, b"hel").unwrap(), 11);
        assert_eq!(logs.append(&dag, &attempt, 99, b"gap").unwrap(), 11);
        let whole = logs.read(&dag, &attempt, 0, 1000).unwrap();
        assert_eq!((whole.bytes.as_slice(), whole.size_bytes), (b"hello world".as_slice(), 11));
        assert_eq!(logs.read(&dag, &attempt, 6, 3).unwrap().bytes, b"wor");
        assert_eq!(logs.read(&dag, &attempt, 50, 3).unwrap().bytes, b"");
        assert_eq!((logs.flush().unwrap(), logs.flush().unwrap()), (1, 0));
    }

    #[test]
    fn a_shortened_log_is_filled_up_from_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogStore::open(folder.path()).unwrap();
        let (dag, attempt) = place();
        logs.append(&dag, &attempt, 0, b"0123456789").unwrap();
        let file = OpenOptions::new().write(true).open(logs.path(&dag, &attempt)).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(logs.append(&dag, &attempt, 10, b"ab").unwrap(), 4);
        assert_eq!(logs.append(&dag, &attempt, 4, b"456789ab").unwrap(), 12);
        assert_eq!(logs.read(&dag, &attempt, 0, 99).unwrap().bytes, b"0123456789ab");
    }

    #[test]
    fn the_log_of_a_sensor_grows_from_poke_to_poke() {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogStore::open(folder.path()).unwrap();
        let (dag, attempt) = place();
        let poke = |epoch| AttemptKey { epoch, ..attempt.clone() };
        let whole = |epoch| {
            let slice = logs.read(&dag, &poke(epoch), 0, 99).unwrap();
            assert_eq!(slice.size_bytes, slice.bytes.len() as u64);
            String::from_utf8(slice.bytes).unwrap()
        };
        // A lost attempt of the try before has its own log.
        logs.append(&dag, &AttemptKey { try_number: 1, epoch: 2, ..attempt.clone() }, 0, b"other\n").unwrap();
        logs.append(&dag, &poke(3), 0, b"one\n").unwrap();
        assert_eq!(whole(3), "one\n");
        logs.join_pokes(&dag, &poke(4)).unwrap();
        assert_eq!(whole(4), "one\n");
        logs.append(&dag, &poke(4), 0, b"two\n").unwrap();
        assert_eq!(whole(4), "one\ntwo\n");
        // The server was killed before it put the second poke to the first.
        logs.append(&dag, &poke(5), 0, b"three\n").unwrap();
        logs.join_pokes(&dag, &poke(6)).unwrap();
        logs.join_pokes(&dag, &poke(6)).unwrap();
        logs.append(&dag, &poke(6), 0, b"four\n").unwrap();
        assert_eq!(whole(6), "one\ntwo\nthree\nfour\n");
        for (offset, limit, expected) in
            [(0, 6, "one\ntw"), (4, 4, "two\n"), (6, 99, "o\nthree\nfour\n"), (14, 2, "fo"), (50, 9, "")]
        {
            let slice = logs.read(&dag, &poke(6), offset, limit).unwrap();
            assert_eq!(String::from_utf8(slice.bytes).unwrap(), expected, "{offset} {limit}");
        }
        assert_eq!(fs::read_dir(logs.path(&dag, &attempt).parent().unwrap()).unwrap().count(), 3);
    }

    #[test]
    fn a_deleted_run_has_empty_logs() {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogStore::open(folder.path()).unwrap();
        let (dag, attempt) = place();
        logs.append(&dag, &attempt, 0, b"x").unwrap();
        logs.delete_run(&dag, RunKey(7)).unwrap();
        logs.delete_run(&dag, RunKey(7)).unwrap();
        logs.delete_dag(&dag).unwrap();
        assert_eq!(logs.read(&dag, &attempt, 0, 9).unwrap(), LogSlice::default());
        assert_eq!(logs.flush().unwrap(), 1);
    }
}
