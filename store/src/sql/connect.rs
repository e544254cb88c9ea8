//! How connections are made.

use std::time::Duration;

use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DbErr,
    sqlx::{
        postgres::PgConnectOptions,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    },
};

use crate::{error::OpenError, open::Database};

/// How long SQLite waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements of the writer are prepared once; there are about nine texts for each of some twelve kinds.
const STATEMENTS: usize = 256;
/// A net under the timer that checkpoints: SQLite does it itself beyond this many pages (about 80 MB).
const AUTOCHECKPOINT_PAGES: &str = "20000";
/// Readers of one process.
const READERS: u32 = 4;

fn sqlite(
    path: std::path::PathBuf,
    is_reader: bool,
) -> impl Fn(SqliteConnectOptions) -> SqliteConnectOptions {
    move |options| {
        let options = options
            .filename(&path)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .statement_cache_capacity(STATEMENTS);
        if is_reader {
            return options.read_only(true).pragma("cache_size", "-8000");
        }
        options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", AUTOCHECKPOINT_PAGES)
            .pragma("cache_size", "-16000")
    }
}

fn postgres(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("tidemill").statement_cache_capacity(STATEMENTS).options([
        // A leader that hangs in a transaction must not keep the leadership row from its successor.
        ("idle_in_transaction_session_timeout", "2000"),
        ("lock_timeout", "5000"),
        ("statement_timeout", "30000"),
        ("synchronous_commit", "on"),
    ])
}

async fn connect(
    database: &Database,
    connections: u32,
    is_reader: bool,
) -> Result<DatabaseConnection, OpenError> {
    let url = match database {
        // Replaced by the path itself, which need not survive being a URL.
        Database::Sqlite(_) => "sqlite://database",
        Database::Postgres(url) => url,
    };
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(0)
        .connect_timeout(Duration::from_secs(5))
        .acquire_timeout(Duration::from_secs(5))
        .sqlx_logging(false);
    match database {
        Database::Sqlite(path) => {
            // One connection for good: a closed one would lose its prepared statements and its caches.
            options.idle_timeout(None).max_lifetime(None).test_before_acquire(false);
            options.map_sqlx_sqlite_opts(sqlite(path.clone(), is_reader));
        }
        Database::Postgres(_) => {
            // A page survives a restart of the server for one round trip more. The writer finds out by itself.
            options.test_before_acquire(is_reader);
            options.map_sqlx_postgres_opts(postgres);
        }
    }
    sea_orm::Database::connect(options)
        .await
        .map_err(|source| OpenError::Connect { url: database.to_string(), source })
}

pub(super) async fn connect_writer(database: &Database) -> Result<DatabaseConnection, OpenError> {
    let connections = if matches!(database, Database::Sqlite(_)) { 1 } else { 3 };
    connect(database, connections, false).await
}

pub(super) async fn connect_reader(database: &Database) -> Result<DatabaseConnection, OpenError> {
    connect(database, READERS, true).await
}

/// A connection for one rare thing: a migration, a check, a checkpoint, a backup.
pub(crate) struct Maintenance(pub(crate) DatabaseConnection);

impl Maintenance {
    pub(crate) async fn execute(self, sql: &str) -> Result<(), DbErr> {
        let result = self.0.execute_unprepared(sql).await;
        self.0.close().await?;
        result.map(|_| ())
    }
}

pub(crate) async fn connect_maintenance(database: &Database) -> Result<Maintenance, OpenError> {
    connect(database, 1, false).await.map(Maintenance)
}
