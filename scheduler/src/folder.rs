//! The DAG folder becomes events: what appeared, changed, broke or went.
//!
//! A change is noticed by inotify, and by a look through the folder every few seconds as a net. A file that
//! breaks keeps its last good version; a file that vanishes is believed gone only at a second look, because
//! editors save by deleting and renaming. Parsing runs on blocking threads, a few files at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use notify::Watcher;
use tidemill_engine::{
    ids::DagId,
    rows::{EngineSnapshot, VersionHash},
};
use tidemill_store::batch::{ImportError, ImportErrorChange};
use tokio::{sync::Notify, task::JoinSet, time::Instant};

use crate::{
    beside::FileWarnings,
    core::Core,
    handle::{Shared, chain},
    input::{FolderNews, Input},
    options::Options,
    panics::{caught, words},
    scan::{Fault, Found, ReadFile, Stamp, read, scan},
};

/// A file that vanished is believed gone after this long.
const GONE_AFTER: Duration = Duration::from_millis(300);
/// Every file is read again this often, in case its times lie.
const FULL_READ_INTERVAL: Duration = Duration::from_secs(600);
/// However often the folder changes, a look is not put off for longer.
const LONGEST_DEBOUNCE: Duration = Duration::from_millis(400);
/// How many files one message to the loop brings.
const NEWS_PER_MESSAGE: usize = 256;
/// How many files are read at a time.
const READERS: usize = 2;

/// What is known of a file.
#[derive(Clone, Debug)]
struct FileState {
    stamp: Option<Stamp>,
    hash: Option<[u8; 32]>,
    /// The DAG that it waits to define: another file defines it at present.
    blocked: Option<DagId>,
}

/// Which file defines a DAG.
#[derive(Clone, Debug)]
struct Owner {
    path: String,
    version: VersionHash,
}

/// Watches the folder.
pub(crate) struct FolderSync {
    options: Arc<Options>,
    shared: Arc<Shared>,
    files: BTreeMap<String, FileState>,
    owners: BTreeMap<DagId, Owner>,
    /// The same the other way round.
    owned: BTreeMap<String, BTreeSet<DagId>>,
    /// Files that have recorded problems.
    reported: BTreeSet<String>,
    /// Files that vanished, and when that was noticed.
    gone: BTreeMap<String, Instant>,
    last_full: Instant,
    was_readable: bool,
    /// A file may define now what another one defined before.
    has_freed: bool,
}

impl FolderSync {
    /// Begins with what the store knows, so that a file that is broken at a restart keeps its last good version
    /// and a file that vanished meanwhile is noticed.
    pub(crate) fn new(options: Arc<Options>, shared: Arc<Shared>, snapshot: &EngineSnapshot) -> Self {
        let stored = snapshot.dags.iter().filter(|(row, _)| !row.is_missing);
        let owners: BTreeMap<DagId, Owner> = stored
            .map(|(row, _)| {
                (row.dag_id.clone(), Owner { path: row.path.clone(), version: row.version.clone() })
            })
            .collect();
        let mut owned: BTreeMap<String, BTreeSet<DagId>> = BTreeMap::new();
        for (dag_id, owner) in &owners {
            owned.entry(owner.path.clone()).or_default().insert(dag_id.clone());
        }
        let reported = shared
            .import_errors
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .keys()
            .cloned()
            .collect();
        Self {
            options,
            shared,
            files: BTreeMap::new(),
            owners,
            owned,
            reported,
            gone: BTreeMap::new(),
            last_full: Instant::now(),
            was_readable: true,
            has_freed: false,
        }
    }

    /// Runs for as long as somebody takes the news.
    pub(crate) async fn run(mut self) {
        let changed = Arc::new(Notify::new());
        let _watcher = self.watch(&changed);
        loop {
            let is_full = self.last_full.elapsed() >= FULL_READ_INTERVAL;
            if is_full {
                self.last_full = Instant::now();
            }
            let news = match caught(self.run_once(is_full)).await {
                Ok(news) => news,
                Err(panic) => {
                    tracing::error!(code = "SCH0503", panic, "looking through the DAG folder panicked");
                    // Half of a look may be remembered; the next one looks at everything.
                    self.files.clear();
                    Vec::new()
                }
            };
            if !self.send(news).await {
                return;
            }
            self.shared.first_look.send_replace(true);
            // A file that waited for an id which has become free is read at once.
            if std::mem::take(&mut self.has_freed) {
                continue;
            }
            let wait = if self.gone.is_empty() { self.options.rescan_interval } else { GONE_AFTER };
            if tokio::time::timeout(wait, changed.notified()).await.is_ok() {
                self.settle(&changed).await;
            }
        }
    }

    /// Waits until the folder is quiet, but not for ever.
    async fn settle(&self, changed: &Notify) {
        let end = Instant::now() + LONGEST_DEBOUNCE;
        loop {
            let quiet = (Instant::now() + self.options.debounce).min(end);
            if tokio::time::timeout_at(quiet, changed.notified()).await.is_err() {
                return;
            }
        }
    }

    fn watch(&self, changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
        let waker = Arc::clone(changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            use notify::{
                EventKind,
                event::{AccessKind, AccessMode},
            };
            // Our own reading opens files too.
            let is_reading = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(kind)
                if kind != AccessKind::Close(AccessMode::Write)));
            if !is_reading {
                waker.notify_one();
            }
        });
        let watched = watcher.and_then(|mut watcher| {
            watcher.watch(&self.options.dags_dir, notify::RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        match watched {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the DAG folder cannot be watched; it is looked through instead");
                None
            }
        }
    }

    async fn send(&mut self, news: Vec<FolderNews>) -> bool {
        let mut news = news.into_iter().peekable();
        while news.peek().is_some() {
            let chunk = news.by_ref().take(NEWS_PER_MESSAGE).collect();
            if self.shared.inbox.send(Input::Folder(chunk)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Looks through the folder once and returns what changed.
    pub(crate) async fn run_once(&mut self, is_full: bool) -> Vec<FolderNews> {
        let root = self.options.dags_dir.clone();
        let Ok(scanned) = tokio::task::spawn_blocking(move || scan(&root)).await else { return Vec::new() };
        let found = match scanned {
            Ok(found) => found,
            Err(error) => {
                // A folder that cannot be read is not an empty one: nothing is declared missing.
                if self.was_readable {
                    tracing::error!(code = "SCH0304", error = %error, "the DAG folder cannot be read");
                }
                self.was_readable = false;
                return Vec::new();
            }
        };
        self.was_readable = true;
        let mut news = Vec::new();
        self.forget_gone(&found, &mut news);
        let changed: Vec<(String, PathBuf, Stamp)> = found
            .iter()
            .filter_map(|(path, state)| match state {
                Found::File { absolute, stamp } => {
                    let known = self.files.get(path);
                    let is_same = known.is_some_and(|known| known.stamp == Some(*stamp));
                    (!is_same || is_full).then(|| (path.clone(), absolute.clone(), *stamp))
                }
                Found::Refused(_) => None,
            })
            .collect();
        for (path, stamp, outcome) in self.read_all(changed).await {
            self.take(&path, stamp, outcome, &found, &mut news);
        }
        for (path, state) in &found {
            if let Found::Refused(fault) = state {
                self.refuse(path, fault, &mut news);
            }
        }
        news
    }

    /// Reads files on blocking threads; the results come in path order, whatever thread was faster.
    async fn read_all(&self, changed: Vec<(String, PathBuf, Stamp)>) -> Vec<(String, Stamp, ReadFile)> {
        let mut tasks = JoinSet::new();
        let share = changed.len().div_ceil(READERS).max(1);
        let mut rest = changed.into_iter().peekable();
        while rest.peek().is_some() {
            let part: Vec<_> = rest
                .by_ref()
                .take(share)
                .map(|(path, absolute, stamp)| {
                    let known = self.files.get(&path).and_then(|known| known.hash);
                    (path, absolute, stamp, known)
                })
                .collect();
            tasks.spawn_blocking(move || {
                let read_one =
                    |(path, absolute, stamp, known): (String, PathBuf, Stamp, Option<[u8; 32]>)| {
                        // One file that we cannot cope with keeps no other from being read.
                        let outcome = std::panic::catch_unwind(|| read(&path, &absolute, known))
                            .unwrap_or_else(|panic| ReadFile::Fault(Fault::Panicked(words(&*panic))));
                        (path, stamp, outcome)
                    };
                part.into_iter().map(read_one).collect::<Vec<_>>()
            });
        }
        let mut all: Vec<_> = Vec::new();
        while let Some(part) = tasks.join_next().await {
            match part {
                Ok(part) => all.extend(part),
                Err(error) => tracing::error!(error = %chain(&error), "files were not read"),
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Notices files that vanished; at the second look they are gone.
    fn forget_gone(&mut self, found: &BTreeMap<String, Found>, news: &mut Vec<FolderNews>) {
        let now = Instant::now();
        self.gone.retain(|path, _| !found.contains_key(path));
        let paths: BTreeSet<String> = self
            .files
            .keys()
            .chain(self.owners.values().map(|owner| &owner.path))
            .chain(&self.reported)
            .filter(|path| !found.contains_key(*path))
            .cloned()
            .collect();
        for path in paths {
            let since = *self.gone.entry(path.clone()).or_insert(now);
            if now.duration_since(since) < GONE_AFTER {
                continue;
            }
            self.gone.remove(&path);
            self.files.remove(&path);
            self.clear_problems(&path, news);
            self.release(&path, None, news);
        }
    }

    /// A file does not define what it defined before, except `kept`.
    fn release(&mut self, path: &str, kept: Option<&DagId>, news: &mut Vec<FolderNews>) {
        let owned = self.owned.get(path).cloned().unwrap_or_default();
        let gone = owned.into_iter().filter(|id| Some(id) != kept);
        for dag_id in gone {
            self.disown(&dag_id);
            // A file that waited for this id is read again at the next look, and then defines it.
            for file in self.files.values_mut().filter(|file| file.blocked.as_ref() == Some(&dag_id)) {
                file.stamp = None;
                file.hash = None;
                self.has_freed = true;
            }
            news.push(FolderNews::Missing { dag_id });
        }
    }

    fn disown(&mut self, dag_id: &DagId) {
        let Some(owner) = self.owners.remove(dag_id) else { return };
        // What no file defines has no file to warn of.
        self.shared.warnings.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(dag_id);
        if let Some(owned) = self.owned.get_mut(&owner.path) {
            owned.remove(dag_id);
            if owned.is_empty() {
                self.owned.remove(&owner.path);
            }
        }
    }

    /// Returns the DAG that a file defines at present.
    fn owned_by(&self, path: &str) -> Option<DagId> {
        self.owned.get(path)?.first().cloned()
    }

    fn take(
        &mut self,
        path: &str,
        stamp: Stamp,
        outcome: ReadFile,
        found: &BTreeMap<String, Found>,
        news: &mut Vec<FolderNews>,
    ) {
        let is_first = !self.files.contains_key(path);
        let file =
            self.files.entry(path.to_owned()).or_insert(FileState { stamp: None, hash: None, blocked: None });
        file.stamp = Some(stamp);
        match outcome {
            ReadFile::Unchanged => {}
            ReadFile::Fault(fault) => {
                file.stamp = None;
                self.refuse(path, &fault, news);
            }
            ReadFile::Broken { dag_id, problems, source, hash } => {
                file.hash = Some(hash);
                file.blocked = None;
                let owned = self.owned_by(path);
                self.report(path, owned.or(dag_id), problems, source, news);
            }
            ReadFile::Dag { dag, version, source, hash, warnings } => {
                file.hash = Some(hash);
                let owner = self.owners.get(&dag.id);
                let other = owner.filter(|owner| owner.path != path && found.contains_key(&owner.path));
                if let Some(other) = other {
                    file.blocked = Some(dag.id.clone());
                    let problems = duplicate(&dag.id, path, &other.path);
                    self.report(path, Some(dag.id.clone()), problems, source.to_string(), news);
                    self.release(path, None, news);
                    return;
                }
                file.blocked = None;
                let is_known =
                    is_first && owner.is_some_and(|owner| owner.path == path && owner.version == version);
                self.release(path, Some(&dag.id), news);
                self.clear_problems(path, news);
                let owner = Owner { path: path.to_owned(), version: version.clone() };
                self.disown(&dag.id);
                self.owners.insert(dag.id.clone(), owner);
                self.owned.entry(path.to_owned()).or_default().insert(dag.id.clone());
                self.warn(path, &dag.id, warnings);
                // At a start, what the store has already is no news.
                if !is_known {
                    news.push(FolderNews::Loaded { dag, version, path: path.to_owned(), source });
                }
            }
        }
    }

    /// Keeps what is odd about a DAG's file for the pages, and tells it once.
    fn warn(&self, path: &str, dag_id: &DagId, warnings: FileWarnings) {
        for warning in &warnings.sentences {
            tracing::warn!(path, dag.id = %dag_id, "{warning}");
        }
        let mut all = self.shared.warnings.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.insert(dag_id.clone(), Arc::new(warnings));
    }

    fn refuse(&mut self, path: &str, fault: &Fault, news: &mut Vec<FolderNews>) {
        let (code, message, help) = match fault {
            Fault::Leaves => (
                "SCH0303",
                "the file is a symbolic link that leads out of the DAG folder".to_owned(),
                "put the file into the DAG folder, or let the link point to a file in it",
            ),
            Fault::Unreadable(why) => {
                ("SCH0304", format!("the file cannot be read: {why}"), "let the server read the file")
            }
            Fault::Panicked(why) => (
                "SCH0503",
                format!("Tidemill made a mistake when it read the file: {why}"),
                "please report it, with the file; the last good version stays loaded",
            ),
        };
        let owned = self.owned_by(path);
        let poisoned = std::sync::PoisonError::into_inner;
        let errors = self.shared.import_errors.read().unwrap_or_else(poisoned);
        let is_reported = errors.get(path).is_some_and(|error| has_code(error, code));
        drop(errors);
        if !is_reported {
            self.report(path, owned, problem(code, &message, help), String::new(), news);
        }
    }

    fn report(
        &mut self,
        path: &str,
        dag_id: Option<DagId>,
        problems: serde_json::Value,
        source: String,
        news: &mut Vec<FolderNews>,
    ) {
        let at = self.shared.clock.now().wall;
        self.reported.insert(path.to_owned());
        let error = ImportError { path: path.to_owned(), dag_id, problems, source, at };
        news.push(FolderNews::Problems(ImportErrorChange::Set(error)));
    }

    fn clear_problems(&mut self, path: &str, news: &mut Vec<FolderNews>) {
        // The loop reports files too: those that the database refuses.
        let poisoned = std::sync::PoisonError::into_inner;
        let is_shown = self.shared.import_errors.read().unwrap_or_else(poisoned).contains_key(path);
        if self.reported.remove(path) || is_shown {
            news.push(FolderNews::Problems(ImportErrorChange::Clear { path: path.to_owned() }));
        }
    }
}

impl Core {
    /// Puts folder news of a failed round back, each in a round of its own, so that none is lost and none that is bad
    /// holds up the others. One that the database refuses by itself is given up, and its file says so. Returns how many
    /// rounds that makes.
    pub(crate) fn defer_folder(&mut self, news: Vec<FolderNews>, is_refused: bool) -> usize {
        if is_refused && news.len() == 1 {
            return news.into_iter().next().map_or(0, |item| self.give_up(item));
        }
        let count = news.len();
        self.deferred.extend(news.into_iter().map(|item| Input::Folder(vec![item])));
        count
    }

    fn give_up(&mut self, item: FolderNews) -> usize {
        let (path, dag_id) = match item {
            FolderNews::Loaded { dag, path, .. } => (path, Some(dag.id.clone())),
            FolderNews::Problems(ImportErrorChange::Set(error)) if !has_code(&error, "SCH0305") => {
                (error.path, error.dag_id)
            }
            other => {
                tracing::error!(code = "SCH0305", news = ?other, "the database refuses what the DAG folder says");
                return 0;
            }
        };
        tracing::error!(code = "SCH0305", path, "the database refuses a DAG file");
        let message = "the database refuses to store what this file says";
        let help = "look for odd characters or enormous values in it; the server's log says what was refused";
        let at = self.shared.clock.now().wall;
        // Without its text: that may be what is refused.
        let error = ImportError {
            path,
            dag_id,
            problems: problem("SCH0305", message, help),
            source: String::new(),
            at,
        };
        self.deferred.push_back(Input::Folder(vec![FolderNews::Problems(ImportErrorChange::Set(error))]));
        1
    }
}

fn has_code(error: &ImportError, code: &str) -> bool {
    error.problems.get(0).and_then(|problem| problem.get("code")) == Some(&code.into())
}

fn duplicate(dag_id: &DagId, path: &str, other: &str) -> serde_json::Value {
    let message = format!("{path} and {other} both define the DAG {dag_id}; {other} stays loaded");
    problem("SCH0302", &message, "give one of them another id, or remove it")
}

/// Returns one problem in the shape of `dags check --format json`.
fn problem(code: &str, message: &str, help: &str) -> serde_json::Value {
    serde_json::json!([{
        "code": code, "severity": "error", "message": message, "help": help, "suggestion": null, "spans": [],
    }])
}
