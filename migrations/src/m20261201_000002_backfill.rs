//! Backfills, what became of each of their dates, and the runs that belong to them.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// The tables in the order of their creation, spelled as in the first migration.
const TABLES: &[(&str, &str)] = &[
    (
        "backfill",
        "CREATE TABLE backfill (
            backfill_key {key},
            dag_id TEXT NOT NULL REFERENCES dag (dag_id) ON DELETE CASCADE,
            from_date BIGINT NOT NULL,
            to_date BIGINT NOT NULL,
            reprocess TEXT NOT NULL CHECK (reprocess IN ('none', 'failed', 'completed')),
            max_active_runs BIGINT NOT NULL CHECK (max_active_runs > 0),
            run_backwards BOOLEAN NOT NULL,
            conf TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('running', 'paused', 'finished', 'cancelled')),
            reason TEXT,
            cursor_date BIGINT,
            date_count BIGINT NOT NULL CHECK (date_count >= 0),
            created BIGINT NOT NULL CHECK (created >= 0),
            reprocessed BIGINT NOT NULL CHECK (reprocessed >= 0),
            passed_over BIGINT NOT NULL CHECK (passed_over >= 0),
            left_alone BIGINT NOT NULL CHECK (left_alone >= 0),
            failed_runs BIGINT NOT NULL CHECK (failed_runs >= 0),
            cancel_requested_at BIGINT,
            created_by TEXT,
            created_at BIGINT NOT NULL,
            finished_at BIGINT,
            CHECK (from_date <= to_date),
            CHECK ((finished_at IS NOT NULL) = (state IN ('finished', 'cancelled'))),
            CHECK (state <> 'cancelled' OR cancel_requested_at IS NOT NULL)
        )",
    ),
    (
        "backfill_date",
        "CREATE TABLE backfill_date (
            backfill_key BIGINT NOT NULL REFERENCES backfill (backfill_key) ON DELETE CASCADE,
            logical_date BIGINT NOT NULL,
            outcome TEXT NOT NULL CHECK (outcome IN ('created', 'reprocessed', 'passed_over', 'left_alone')),
            run_key BIGINT REFERENCES dag_run (run_key) ON DELETE SET NULL,
            reason TEXT,
            PRIMARY KEY (backfill_key, logical_date)
        ){rowless}",
    ),
    (
        "backfill_idempotency_key",
        "CREATE TABLE backfill_idempotency_key (
            key_hash TEXT NOT NULL PRIMARY KEY,
            request_hash TEXT NOT NULL,
            backfill_key BIGINT NOT NULL REFERENCES backfill (backfill_key) ON DELETE CASCADE,
            created_at BIGINT NOT NULL
        )",
    ),
];

const INDEXES: &[&str] = &[
    "CREATE INDEX backfill_by_dag ON backfill (dag_id, backfill_key)",
    "CREATE INDEX backfill_active ON backfill (backfill_key) WHERE finished_at IS NULL",
    "CREATE INDEX backfill_date_by_run ON backfill_date (run_key)",
    "CREATE INDEX backfill_idempotency_key_by_backfill ON backfill_idempotency_key (backfill_key)",
    "CREATE INDEX backfill_idempotency_key_by_age ON backfill_idempotency_key (created_at)",
    // Holds all that a backfill's progress is made of, so that counting reads no run.
    "CREATE INDEX dag_run_by_backfill ON dag_run (backfill_key, state, started_at, finished_at)
        WHERE backfill_key IS NOT NULL",
];

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let (key, rowless, text) = match manager.get_database_backend() {
            DbBackend::Sqlite => ("INTEGER PRIMARY KEY", " WITHOUT ROWID", " TEXT"),
            _ => ("BIGINT PRIMARY KEY", "", " TEXT COLLATE \"C\""),
        };
        for (_, sql) in TABLES {
            let sql = sql.replace("{key}", key).replace("{rowless}", rowless).replace(" TEXT", text);
            db.execute_unprepared(&sql).await?;
        }
        // No foreign key: SQLite could not drop such a column again, and a run outlives its backfill.
        db.execute_unprepared("ALTER TABLE dag_run ADD COLUMN backfill_key BIGINT").await?;
        let ignores = "ALTER TABLE dag_run ADD COLUMN ignores_past BOOLEAN NOT NULL DEFAULT FALSE";
        db.execute_unprepared(ignores).await?;
        for sql in INDEXES {
            db.execute_unprepared(sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("DROP INDEX dag_run_by_backfill").await?;
        db.execute_unprepared("ALTER TABLE dag_run DROP COLUMN ignores_past").await?;
        db.execute_unprepared("ALTER TABLE dag_run DROP COLUMN backfill_key").await?;
        for (table, _) in TABLES.iter().rev() {
            db.execute_unprepared(&format!("DROP TABLE {table}")).await?;
        }
        Ok(())
    }
}
