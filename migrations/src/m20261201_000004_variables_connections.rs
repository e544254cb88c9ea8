//! Variables and connections. What is secret in them stands there sealed; the key is not in the database.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// A sealed value begins with the version of its format, so that plain text can never stand in its place.
const TABLES: &[&str] = &[
    "CREATE TABLE variable (
        name TEXT NOT NULL PRIMARY KEY,
        description TEXT NOT NULL,
        is_secret BOOLEAN NOT NULL,
        value TEXT NOT NULL CHECK (value LIKE 'v1:%'),
        updated_by TEXT NOT NULL,
        updated_at BIGINT NOT NULL
    )",
    "CREATE TABLE connection (
        id TEXT NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        description TEXT NOT NULL,
        host TEXT,
        port BIGINT CHECK (port BETWEEN 1 AND 65535),
        login TEXT,
        db_schema TEXT,
        password TEXT CHECK (password LIKE 'v1:%'),
        extra TEXT CHECK (extra LIKE 'v1:%'),
        updated_by TEXT NOT NULL,
        updated_at BIGINT NOT NULL
    )",
];

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Ids sort by their bytes on both.
        let text = match manager.get_database_backend() {
            DbBackend::Sqlite => " TEXT",
            _ => " TEXT COLLATE \"C\"",
        };
        for sql in TABLES {
            manager.get_connection().execute_unprepared(&sql.replace(" TEXT", text)).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["connection", "variable"] {
            manager.get_connection().execute_unprepared(&format!("DROP TABLE {table}")).await?;
        }
        Ok(())
    }
}
