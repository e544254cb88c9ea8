//! SQLite and PostgreSQL behind one code path.
//!
//! **Invariant:** the two differ only where this file says so: how they are opened, who may lead, and the clock.
//! SQLite has one writing connection, readers of their own, and one connection for checkpoints and backups;
//! PostgreSQL has a small pool for the writer, so that a renewal never queues behind a commit.

mod assets;
mod backfills;
mod commit;
mod commit_rows;
mod connect;
pub(crate) mod entity;
mod fault;
mod leadership;
mod load;
mod multi;
mod reader;
mod reader_access;
mod reader_history;
mod reader_lists;
mod rows;
mod vault;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
pub(crate) use connect::{Maintenance, connect_maintenance};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tidemill_engine::{
    definition::Dag,
    ids::{DagId, RunKey},
    rows::{FinishedRun, VersionHash},
};
use tokio::sync::RwLock;

use crate::{
    access::Session,
    batch::{Batch, BatchId},
    check,
    error::{CommitError, LeadershipError, OpenError, ReadError, Unavailable},
    lock::LockFile,
    open::Database,
    writer::{LEADER_LEASE, Leadership, Loaded, Writer},
};

/// How many definitions stay parsed. One is some kilobytes per task; runs of old versions are rare.
const DEFINITION_CACHE: usize = 512;

/// How long PostgreSQL may take for one change of state. A connection whose other end is gone stays silent for many
/// minutes; a leader cannot wait that long to learn that it does not lead any more. A disk under SQLite is not cured
/// by another connection, so there is no limit there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Parsed definitions by DAG and version.
type Definitions = HashMap<(DagId, VersionHash), Arc<Dag>>;

/// A database on disk or on the network, for writing and reading.
pub(crate) struct SqlStore {
    database: Database,
    /// Replaced when a connection's transaction cannot be rolled back (a full disk does that to SQLite).
    writer: RwLock<DatabaseConnection>,
    reader: SqlReader,
    /// See [`ANSWER_TIMEOUT`].
    answer_timeout: Option<Duration>,
    /// SQLite: held as long as this process may write.
    _lock: Option<LockFile>,
}

/// The reading side alone.
#[derive(Clone)]
pub(crate) struct SqlReader {
    pub(crate) db: DatabaseConnection,
    database: Database,
    definitions: Arc<Mutex<Definitions>>,
}

impl SqlReader {
    pub(crate) async fn open(database: &Database) -> Result<Self, OpenError> {
        let db = connect::connect_reader(database).await?;
        Ok(Self { db, database: database.clone(), definitions: Arc::default() })
    }

    fn backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    fn sqlite_path(&self) -> Option<PathBuf> {
        match &self.database {
            Database::Sqlite(path) => Some(path.clone()),
            Database::Postgres(_) => None,
        }
    }

    fn cached(&self, key: &(DagId, VersionHash)) -> Option<Arc<Dag>> {
        self.definitions.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn cache(&self, key: (DagId, VersionHash), dag: &Arc<Dag>) {
        let mut definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if definitions.len() >= DEFINITION_CACHE {
            // A full cache starts over: simpler than ages, and what is in use comes back at once.
            definitions.clear();
        }
        definitions.insert(key, Arc::clone(dag));
    }
}

impl SqlStore {
    pub(crate) async fn open(database: &Database, lock: Option<LockFile>) -> Result<Self, OpenError> {
        let writer = connect::connect_writer(database).await?;
        let reader = SqlReader::open(database).await?;
        let answer_timeout = matches!(database, Database::Postgres(_)).then_some(ANSWER_TIMEOUT);
        let writer = RwLock::new(writer);
        Ok(Self { database: database.clone(), writer, reader, answer_timeout, _lock: lock })
    }

    pub(crate) fn reader(&self) -> SqlReader {
        self.reader.clone()
    }

    async fn begin(&self) -> Result<DatabaseTransaction, CommitError> {
        let db = self.writer.read().await.clone();
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let result = match db.get_database_backend() {
            DbBackend::Sqlite => db.begin_with_options(options).await,
            _ => db.begin().await,
        };
        result.map_err(fault::before_commit)
    }

    /// Rolls back; a connection that cannot is thrown away, or every later transaction would nest in this one.
    async fn roll_back(&self, transaction: DatabaseTransaction) {
        if let Err(error) = transaction.rollback().await {
            tracing::warn!(%error, "a transaction could not be rolled back; connecting again");
            self.reconnect().await;
        }
    }

    async fn reconnect(&self) {
        match connect::connect_writer(&self.database).await {
            Ok(fresh) => {
                let old = std::mem::replace(&mut *self.writer.write().await, fresh);
                // One that does not answer does not close either, and nobody waits for it.
                tokio::spawn(async move {
                    if let Err(error) = old.close().await {
                        tracing::warn!(%error, "the old connection did not close");
                    }
                });
            }
            Err(error) => tracing::error!(%error, code = error.code(), "the writer cannot connect again"),
        }
    }

    /// Commits; whatever goes wrong, no transaction stays open behind.
    async fn finish(&self, transaction: DatabaseTransaction, batch: BatchId) -> Result<(), CommitError> {
        let result = transaction.commit().await;
        let Err(error) = result else { return Ok(()) };
        let error = fault::at_commit(error, batch);
        // The transaction was dropped with its commit unanswered; only a new connection is known to be clean.
        self.reconnect().await;
        Err(error)
    }

    /// Gives a change of state up that is not answered in time, and connects again: nothing, when it was given up.
    async fn limited<T>(&self, change: impl Future<Output = T> + Send) -> Option<T> {
        let Some(timeout) = self.answer_timeout else { return Some(change.await) };
        match tokio::time::timeout(timeout, change).await {
            Ok(answer) => Some(answer),
            Err(_) => {
                tracing::warn!(?timeout, "the database did not answer; connecting again");
                self.reconnect().await;
                None
            }
        }
    }

    /// Writes a batch in one transaction.
    async fn try_commit(&self, batch: &Batch) -> Result<(), CommitError> {
        let transaction = self.begin().await?;
        match self.write(&transaction, batch).await {
            Ok(()) => self.finish(transaction, batch.id).await,
            Err(commit::Stop::Done) => {
                self.roll_back(transaction).await;
                Ok(())
            }
            Err(commit::Stop::Guard(what)) => {
                self.roll_back(transaction).await;
                let what = load::find_mismatch(&self.reader, batch).await.unwrap_or(what);
                Err(CommitError::GuardMismatch { what })
            }
            Err(commit::Stop::Error(error)) => {
                self.roll_back(transaction).await;
                Err(match error {
                    CommitError::Constraint { run: None, what } => match check::find_culprit(batch) {
                        Some((run, what)) => CommitError::Constraint { run: Some(run), what },
                        None => CommitError::Constraint { run: None, what },
                    },
                    error => error,
                })
            }
        }
    }
}

#[async_trait]
impl Writer for SqlStore {
    async fn take_leadership(&self, holder: &str, url: &str) -> Result<Leadership, LeadershipError> {
        let taken = Box::pin(self.limited(leadership::take(self, holder, url))).await;
        // Whether it was taken is unknown; if it was, its lease runs out before anybody is answered under it.
        taken.unwrap_or_else(|| Err(no_answer().into()))
    }

    async fn renew(&self, term: i64) -> Result<Leadership, CommitError> {
        self.limited(leadership::renew(self, term)).await.unwrap_or_else(|| Err(no_answer()))
    }

    async fn release(&self, term: i64) -> Result<(), CommitError> {
        self.limited(leadership::release(self, term)).await.unwrap_or_else(|| Err(no_answer()))
    }

    async fn commit(&self, batch: &Batch) -> Result<(), CommitError> {
        let Some(result) = self.limited(self.try_commit(batch)).await else {
            let source = DbErr::Custom("no answer in time".to_owned());
            return Err(CommitError::Ambiguous { batch: batch.id, source });
        };
        let is_torn = matches!(&result, Err(CommitError::Unavailable { why: Unavailable::Connection, .. }));
        if is_torn && matches!(self.database, Database::Postgres(_)) {
            // Its siblings in the pool died with it; a fresh pool lets the next attempt through.
            self.reconnect().await;
        }
        result
    }

    async fn was_committed(&self, term: i64, batch: BatchId) -> Result<bool, CommitError> {
        self.limited(leadership::was_committed(self, term, batch)).await.unwrap_or_else(|| Err(no_answer()))
    }

    async fn redeem_login_link(&self, term: i64, hash: &str, session: &Session) -> Result<bool, CommitError> {
        let redeemed = self.limited(leadership::redeem_login_link(self, term, hash, session)).await;
        redeemed.unwrap_or_else(|| Err(no_answer()))
    }

    async fn load(&self) -> Result<Loaded, ReadError> {
        load::load(&self.reader).await
    }

    async fn load_run(&self, run: RunKey) -> Result<Option<FinishedRun>, ReadError> {
        load::load_run(&self.reader, run).await
    }

    async fn checkpoint(&self) -> Result<(), CommitError> {
        let Database::Sqlite(_) = &self.database else { return Ok(()) };
        let not_now = |source: DbErr| fault::before_commit(source);
        let db = connect_maintenance(&self.database).await.map_err(|error| CommitError::Unavailable {
            why: Unavailable::Connection,
            source: DbErr::Custom(error.to_string()),
        })?;
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").await.map_err(not_now)
    }
}

fn no_answer() -> CommitError {
    let source = DbErr::Custom("no answer in time".to_owned());
    CommitError::Unavailable { why: Unavailable::Connection, source }
}

/// The database's clock, in microseconds.
fn now_sql(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint",
        _ => "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
    }
}

/// By the database's clock, the end of a lease that begins now.
fn expiry(backend: DbBackend) -> String {
    format!("{} + {}", now_sql(backend), LEADER_LEASE.as_micros())
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait;

    use super::{Database, SqlStore};
    use crate::{Batch, BatchId, CommitError, Migrate, Reader, Writer, open};

    fn batch(number: i64, bytes: usize) -> Batch {
        let mut batch = Batch::new(1, BatchId(number), chrono::DateTime::UNIX_EPOCH);
        batch.settings.push((format!("s{number}"), "x".repeat(bytes)));
        batch
    }

    /// A commit that is not answered is given up as unknown, the store connects again, and the same batch arrives once.
    #[tokio::test]
    async fn a_commit_without_an_answer_is_ambiguous_in_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::Sqlite(folder.path().join("db.sqlite"));
        drop(open(&database, Migrate::Apply).await.expect("migrates"));
        let mut store = SqlStore::open(&database, None).await.expect("opens");
        store.take_leadership("test", "http://test").await.expect("leads");
        store.commit(&batch(1, 10)).await.expect("nobody is in the way");
        // Somebody else holds the lock for longer than the limit.
        let other = super::connect_maintenance(&database).await.expect("connects").0;
        other.execute_unprepared("BEGIN IMMEDIATE").await.expect("locks");
        store.answer_timeout = Some(std::time::Duration::from_millis(100));
        let error = store.commit(&batch(2, 10)).await.expect_err("no answer");
        assert!(matches!(error, CommitError::Ambiguous { batch: BatchId(2), .. }), "{error:?}");
        other.execute_unprepared("ROLLBACK").await.expect("unlocks");
        store.answer_timeout = None;
        store.commit(&batch(2, 10)).await.expect("the way is free");
        assert!(store.was_committed(1, BatchId(2)).await.expect("answers"));
    }

    /// The disk fills up and is emptied again: nothing is half written, and no restart is needed.
    #[tokio::test]
    async fn a_full_disk_is_told_and_survived() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::Sqlite(folder.path().join("db.sqlite"));
        drop(open(&database, Migrate::Apply).await.expect("migrates"));
        let store = SqlStore::open(&database, None).await.expect("opens");
        store.take_leadership("test", "http://test").await.expect("leads");
        store.commit(&batch(1, 10)).await.expect("there is space");
        let limit = async |pages: u32| {
            let db = store.writer.read().await.clone();
            // SQLite reports a full disk and a full quota of pages alike.
            db.execute_unprepared(&format!("PRAGMA max_page_count = {pages}")).await.expect("is set");
        };
        limit(1).await;
        for _ in 0..3 {
            let error = store.commit(&batch(2, 400_000)).await.expect_err("the disk is full");
            assert_eq!(error.code(), "STO0206", "{error:?}");
            assert!(matches!(error, CommitError::Unavailable { .. }), "definitely not written");
            assert!(!store.was_committed(1, BatchId(2)).await.expect("reads go on"));
            assert_eq!(store.reader().setting("s2").await.expect("reads go on"), None);
            limit(1).await;
        }
        limit(1_000_000).await;
        store.commit(&batch(2, 400_000)).await.expect("there is space again");
        store.commit(&batch(3, 10)).await.expect("and it goes on");
        assert!(store.reader().setting("s2").await.expect("reads").is_some());
    }
}
