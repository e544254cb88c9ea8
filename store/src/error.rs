//! What can go wrong between the product and its database, one small enum per group of operations.
//!
//! Every variant has a code with a page under `docs/errors/`. A message is a lowercase fragment without its
//! cause; the cause is the `source`.

use std::path::PathBuf;

use sea_orm::DbErr;
use tidemill_engine::ids::{AttemptKey, DagId, RunKey, TaskInstanceKey};

use crate::batch::BatchId;

/// A stored row, as an error names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowRef {
    /// A dag run.
    Run(RunKey),
    /// A task instance.
    Task(TaskInstanceKey),
    /// A try.
    Try(AttemptKey),
    /// Another row, by table and key.
    Other {
        /// The table.
        table: &'static str,
        /// Its key, for people.
        key: String,
    },
}

impl RowRef {
    /// Returns the run that the row belongs to.
    #[must_use]
    pub fn run(&self) -> Option<RunKey> {
        match self {
            Self::Run(run) => Some(*run),
            Self::Task(key) => Some(key.run),
            Self::Try(attempt) => Some(attempt.instance.run),
            Self::Other { .. } => None,
        }
    }
}

impl std::fmt::Display for RowRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(run) => write!(f, "dag run {run}"),
            Self::Task(key) => write!(f, "task instance {}/{}[{}]", key.run, key.task, key.map_index),
            Self::Try(attempt) => {
                let key = &attempt.instance;
                write!(
                    f,
                    "try {} (epoch {}) of {}/{}[{}]",
                    attempt.try_number, attempt.epoch, key.run, key.task, key.map_index
                )
            }
            Self::Other { table, key } => write!(f, "{table} {key}"),
        }
    }
}

/// Why a batch, or a change of the leadership row, was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another leader took over; nothing was written and nothing more may be.
    #[error("leadership term {term} is over")]
    TermLost {
        /// The term that the writer believed in.
        term: i64,
    },
    /// A stored row is not in the state that the batch expects; nothing was written.
    #[error("{what} is not in the state that the batch expects")]
    GuardMismatch {
        /// The first row found so.
        what: RowRef,
    },
    /// The database refuses the batch and would refuse it again; nothing was written.
    #[error("the database refuses the batch: {what}")]
    Constraint {
        /// The run that is to blame, where that is known.
        run: Option<RunKey>,
        /// What is refused, for people.
        what: String,
    },
    /// The connection broke around the commit: [`crate::Writer::was_committed`] settles it.
    #[error("it is not known whether batch {batch} was committed")]
    Ambiguous {
        /// The batch.
        batch: BatchId,
        /// The cause.
        #[source]
        source: DbErr,
    },
    /// The database could not do it now; nothing was written and the same batch may be tried again.
    #[error("the database is unavailable ({why})")]
    Unavailable {
        /// What kind of unavailable.
        why: Unavailable,
        /// The cause.
        #[source]
        source: DbErr,
    },
}

/// Kinds of "not now".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No space is left on the device.
    DiskFull,
    /// Somebody else holds the lock for longer than the busy timeout.
    Busy,
    /// The database cannot be reached or closed the connection.
    Connection,
    /// The file system refused to read or write.
    Io,
    /// The database gave a statement up because it took too long: a slow machine, or too much in one batch.
    Slow,
    /// Anything else that the database answered.
    Other,
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "no space left on the device",
            Self::Busy => "locked by another process",
            Self::Connection => "no connection",
            Self::Io => "input/output error",
            Self::Slow => "it took too long",
            Self::Other => "refused",
        })
    }
}

impl CommitError {
    /// Returns the code of the error's page.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TermLost { .. } => "STO0201",
            Self::GuardMismatch { .. } => "STO0202",
            Self::Constraint { .. } => "STO0203",
            Self::Ambiguous { .. } => "STO0204",
            Self::Unavailable { why: Unavailable::DiskFull, .. } => "STO0206",
            Self::Unavailable { .. } => "STO0205",
        }
    }
}

/// Why leadership was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LeadershipError {
    /// Another server leads.
    #[error("{holder} leads (term {term}); it is reached at {url}")]
    Held {
        /// Who.
        holder: String,
        /// Its advertised URL.
        url: String,
        /// Its term.
        term: i64,
        /// Until its lease ends, by the database's clock; absent: it has no expiry.
        expires_in: Option<std::time::Duration>,
    },
    /// The database did not do it.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl LeadershipError {
    /// Returns the code of the error's page.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Held { .. } => "STO0207",
            Self::Commit(error) => error.code(),
        }
    }
}

/// Why nothing, or not everything, could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database did not answer.
    #[error("the database could not be read")]
    Unavailable {
        /// The cause.
        #[source]
        source: DbErr,
    },
    /// A stored row does not make sense: damaged, or written by hand.
    #[error("{table} {key} cannot be read: {what}")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The cursor of a page was not made by this program.
    #[error("the cursor {0:?} is not valid")]
    BadCursor(String),
}

impl ReadError {
    /// Returns the code of the error's page.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "STO0303",
            Self::Unreadable { .. } => "STO0301",
            Self::BadCursor(_) => "STO0302",
        }
    }
}

impl From<DbErr> for ReadError {
    fn from(source: DbErr) -> Self {
        Self::Unavailable { source }
    }
}

/// Why the database was not opened, migrated, checked or backed up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the SQLite file.
    #[error("{path} is in use by {owner}", path = path.display())]
    Locked {
        /// The database file.
        path: PathBuf,
        /// Process id and command of the owner, as far as it wrote them down.
        owner: String,
    },
    /// The database was written by an older program.
    #[error("the database has schema {found}, this program needs {wanted}")]
    SchemaOlder {
        /// Its newest migration, or `none`.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// The database was written by a newer program.
    #[error("the database has schema {found}, this program only knows {wanted}")]
    SchemaNewer {
        /// Its newest migration.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// `PRAGMA quick_check` found damage.
    #[error("{path} is damaged: {what}", path = path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// The first findings.
        what: String,
    },
    /// The database cannot be opened or reached.
    #[error("cannot open the database {url}")]
    Connect {
        /// Which, without a password.
        url: String,
        /// The cause.
        #[source]
        source: DbErr,
    },
    /// The folder or the lock file cannot be made.
    #[error("cannot use {path}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not a database that this program knows.
    #[error("{0:?} is neither sqlite://PATH nor postgres://…")]
    BadUrl(String),
    /// A migration failed; the schema is as it was before that migration.
    #[error("the schema could not be migrated")]
    Migration(#[source] DbErr),
    /// PostgreSQL has a tool for it.
    #[error("a PostgreSQL database is backed up with pg_dump")]
    BackupUnsupported,
    /// The backup was not written.
    #[error("cannot back up to {path}", path = path.display())]
    Backup {
        /// Where to.
        path: PathBuf,
        /// The cause.
        #[source]
        source: DbErr,
    },
    /// The backup's target exists.
    #[error("{path} exists already", path = path.display())]
    BackupExists {
        /// Which.
        path: PathBuf,
    },
}

impl OpenError {
    /// Returns the code of the error's page.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "STO0101",
            Self::SchemaOlder { .. } => "STO0102",
            Self::SchemaNewer { .. } => "STO0103",
            Self::Corrupt { .. } => "STO0104",
            Self::Connect { .. } | Self::Io { .. } => "STO0105",
            Self::BadUrl(_) => "STO0107",
            Self::Migration(_) => "STO0108",
            Self::BackupUnsupported => "STO0106",
            Self::Backup { .. } | Self::BackupExists { .. } => "STO0109",
        }
    }
}

/// A stored run or DAG that [`crate::Writer::load`] had to leave out, so that one bad row stops nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The DAG, where it is known.
    pub dag_id: Option<DagId>,
    /// The run, where it is one.
    pub run: Option<RunKey>,
    /// What is wrong, for people.
    pub what: String,
}
