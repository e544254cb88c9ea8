//! Opening, migrating, checking and backing up a database.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, TransactionTrait};
use tidemill_migrations::Migrator;

use crate::{
    error::OpenError,
    lock::LockFile,
    reader::Reader,
    sql::{Maintenance, SqlReader, SqlStore, connect_maintenance},
    writer::Writer,
};

/// Which database: `sqlite://PATH` or `postgres://…`.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by its URL.
    Postgres(String),
}

impl FromStr for Database {
    type Err = OpenError;

    fn from_str(text: &str) -> Result<Self, OpenError> {
        if let Some(path) = text.strip_prefix("sqlite://").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        Err(OpenError::BadUrl(without_password(text)))
    }
}

/// Prints the URL without its password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // The last `@` before the path ends the user part; a password may itself hold one.
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let url = match authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')) {
        Some((user, password)) => {
            let tail = &rest[user.len() + 1 + password.len()..];
            format!("{scheme}://{user}:***{tail}")
        }
        None => url.to_owned(),
    };
    match url.split_once("password=") {
        Some((head, tail)) => {
            let rest = tail.split_once('&').map_or(String::new(), |(_, rest)| format!("&{rest}"));
            format!("{head}password=***{rest}")
        }
        None => url,
    }
}

/// What to do with a schema that is older than the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// Refuse to start.
    Refuse,
    /// Apply what is missing.
    Apply,
}

/// A database, opened for one server.
#[derive(Clone)]
pub struct Store {
    /// The writing side.
    pub writer: Arc<dyn Writer>,
    /// The reading side.
    pub reader: Arc<dyn Reader>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl From<crate::MemoryStore> for Store {
    fn from(store: crate::MemoryStore) -> Self {
        Self { writer: Arc::new(store.clone()), reader: Arc::new(store) }
    }
}

/// How a database's schema compares with the program's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaStatus {
    /// The newest migration that was applied; absent in an empty database.
    pub found: Option<String>,
    /// The newest migration that the program has.
    pub wanted: String,
    /// What `migrate` would apply, in order.
    pub pending: Vec<String>,
}

/// Opens a database for writing. SQLite: takes the file's lock first, then looks for damage.
///
/// # Errors
/// STO0101 to STO0105, STO0108.
pub async fn open(database: &Database, migrate: Migrate) -> Result<Store, OpenError> {
    let lock = take_lock(database)?;
    check_damage(database).await?;
    match migrate {
        Migrate::Apply => {
            apply(database).await?;
        }
        Migrate::Refuse => check_schema(database).await?,
    }
    let store = SqlStore::open(database, lock).await?;
    let reader = store.reader();
    Ok(Store { writer: Arc::new(store), reader: Arc::new(reader) })
}

/// Opens a database for reading only, beside whoever writes it.
///
/// # Errors
/// STO0102, STO0103, STO0105.
pub async fn open_reader(database: &Database) -> Result<Arc<dyn Reader>, OpenError> {
    check_schema(database).await?;
    Ok(Arc::new(SqlReader::open(database).await?))
}

/// Brings the schema up to date and returns the migrations that were applied.
///
/// # Errors
/// STO0101 (a server has the file), STO0103, STO0105, STO0108.
pub async fn migrate(database: &Database) -> Result<Vec<String>, OpenError> {
    let _lock = take_lock(database)?;
    apply(database).await
}

/// Looks for damage in a SQLite file, beside whoever writes it. PostgreSQL has its own means.
///
/// # Errors
/// STO0104, STO0105.
pub async fn check_damage(database: &Database) -> Result<(), OpenError> {
    let Database::Sqlite(path) = database else { return Ok(()) };
    if !path.exists() {
        return Ok(());
    }
    let damaged = |what: String| OpenError::Corrupt { path: path.clone(), what };
    let db = match connect_maintenance(database).await {
        Ok(db) => db,
        // SQLite notices a broken header or a foreign file while it opens it.
        Err(OpenError::Connect { source, .. }) if is_damage(&source) => {
            return Err(damaged(source.to_string()));
        }
        Err(error) => return Err(error),
    };
    let statement = Statement::from_string(DbBackend::Sqlite, "PRAGMA quick_check(5)");
    let rows = db.0.query_all_raw(statement).await;
    let rows = rows.and_then(|rows| rows.iter().map(|row| row.try_get_by_index::<String>(0)).collect());
    close(db, database).await?;
    let findings: Vec<String> = match rows {
        Ok(rows) => rows,
        Err(source) if is_damage(&source) => return Err(damaged(source.to_string())),
        Err(source) => return Err(OpenError::Connect { url: database.to_string(), source }),
    };
    if findings == ["ok"] { Ok(()) } else { Err(damaged(findings.join("; "))) }
}

/// SQLITE_CORRUPT and SQLITE_NOTADB.
fn is_damage(error: &DbErr) -> bool {
    let (DbErr::Conn(source) | DbErr::Exec(source) | DbErr::Query(source)) = error else { return false };
    let sea_orm::RuntimeErr::SqlxError(source) = source else { return false };
    let Some(answer) = source.as_database_error() else { return false };
    let code = answer.code().and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

/// Compares the schema with the program's, beside whoever writes the database.
///
/// # Errors
/// STO0105.
pub async fn schema_status(database: &Database) -> Result<SchemaStatus, OpenError> {
    let names = tidemill_migrations::names();
    let wanted = names.last().cloned().unwrap_or_default();
    if let Database::Sqlite(path) = database
        && !path.exists()
    {
        return Ok(SchemaStatus { found: None, wanted, pending: names });
    }
    let db = connect_maintenance(database).await?;
    let applied = applied(&db).await;
    close(db, database).await?;
    let applied = applied.map_err(|source| OpenError::Connect { url: database.to_string(), source })?;
    let pending = names.iter().filter(|name| !applied.contains(name)).cloned().collect();
    Ok(SchemaStatus { found: applied.last().cloned(), wanted, pending })
}

/// Copies a SQLite database while everything goes on, whatever its schema is, and returns the copy's size in
/// bytes.
///
/// # Errors
/// STO0105, STO0106 on PostgreSQL, STO0109.
pub async fn backup(database: &Database, target: &Path) -> Result<u64, OpenError> {
    let Database::Sqlite(_) = database else { return Err(OpenError::BackupUnsupported) };
    if target.exists() {
        return Err(OpenError::BackupExists { path: target.to_owned() });
    }
    let failed = |source: DbErr| OpenError::Backup { path: target.to_owned(), source };
    let Some(name) = target.to_str() else {
        return Err(failed(DbErr::Custom("the path is not UTF-8".to_owned())));
    };
    let db = connect_maintenance(database).await?;
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO $1", [name.into()]);
    let result = db.0.execute_raw(statement).await;
    close(db, database).await?;
    result.map_err(failed)?;
    let size = std::fs::metadata(target).map(|metadata| metadata.len());
    size.map_err(|source| OpenError::Io { path: target.to_owned(), source })
}

async fn close(db: Maintenance, database: &Database) -> Result<(), OpenError> {
    db.0.close().await.map_err(|source| OpenError::Connect { url: database.to_string(), source })
}

fn take_lock(database: &Database) -> Result<Option<LockFile>, OpenError> {
    match database {
        Database::Sqlite(path) => LockFile::take(path).map(Some),
        Database::Postgres(_) => Ok(None),
    }
}

/// Returns the applied migrations, the oldest first; none where there is no table of them yet.
async fn applied(db: &Maintenance) -> Result<Vec<String>, DbErr> {
    let backend = db.0.get_database_backend();
    let exists = match backend {
        DbBackend::Postgres => {
            "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'seaql_migrations'"
        }
        _ => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations'",
    };
    if db.0.query_one_raw(Statement::from_string(backend, exists)).await?.is_none() {
        return Ok(Vec::new());
    }
    let sql = "SELECT version FROM seaql_migrations ORDER BY version";
    let rows = db.0.query_all_raw(Statement::from_string(backend, sql)).await?;
    rows.iter().map(|row| row.try_get_by_index::<String>(0)).collect()
}

async fn check_schema(database: &Database) -> Result<(), OpenError> {
    let status = schema_status(database).await?;
    refuse_newer(&status)?;
    if status.pending.is_empty() {
        return Ok(());
    }
    let found = status.found.unwrap_or_else(|| "none".to_owned());
    Err(OpenError::SchemaOlder { found, wanted: status.wanted })
}

fn refuse_newer(status: &SchemaStatus) -> Result<(), OpenError> {
    let names = tidemill_migrations::names();
    match &status.found {
        Some(found) if !names.contains(found) => {
            Err(OpenError::SchemaNewer { found: found.clone(), wanted: status.wanted.clone() })
        }
        _ => Ok(()),
    }
}

/// Applies what is missing, all of it or nothing.
async fn apply(database: &Database) -> Result<Vec<String>, OpenError> {
    use sea_orm_migration::MigratorTrait;
    let status = schema_status(database).await?;
    refuse_newer(&status)?;
    if status.pending.is_empty() {
        return Ok(Vec::new());
    }
    let db = connect_maintenance(database).await?;
    let result = async {
        let transaction = db.0.begin().await?;
        if db.0.get_database_backend() == DbBackend::Postgres {
            // Two servers that start together migrate one after the other.
            transaction.execute_unprepared("SELECT pg_advisory_xact_lock(7449873)").await?;
        }
        Migrator::up(&transaction, None).await?;
        transaction.commit().await
    };
    let result = result.await;
    close(db, database).await?;
    result.map(|()| status.pending).map_err(OpenError::Migration)
}

#[cfg(test)]
mod tests {
    use super::{Database, without_password};

    #[test]
    fn passwords_do_not_show() {
        for (url, shown) in [
            ("postgres://me:secret@host:5432/db", "postgres://me:***@host:5432/db"),
            ("postgres://me:se@cr:et@host/db?x=1", "postgres://me:***@host/db?x=1"),
            ("postgres://me@host/db", "postgres://me@host/db"),
            ("postgres:///db?host=/run&password=secret&x=1", "postgres:///db?host=/run&password=***&x=1"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn an_unknown_url_is_refused() {
        for url in ["", "mysql://x", "sqlite://", "tidemill.db"] {
            let error = url.parse::<Database>().expect_err(url);
            assert_eq!(error.code(), "STO0107");
        }
    }
}
