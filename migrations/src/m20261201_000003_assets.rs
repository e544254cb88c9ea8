//! Events on assets: their history, who they wait for, and which runs they caused.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// The tables in the order of their creation; `{key}` and `{rowless}` as in the first schema.
const TABLES: &[(&str, &str)] = &[
    (
        "asset_event",
        "CREATE TABLE asset_event (
            event_id {key},
            asset TEXT NOT NULL,
            happened_at BIGINT NOT NULL,
            interval_start BIGINT NOT NULL,
            interval_end BIGINT NOT NULL,
            dag_id TEXT,
            run_key BIGINT,
            run_id TEXT,
            task_id TEXT,
            map_index BIGINT,
            try_number BIGINT,
            posted_by TEXT,
            extra TEXT NOT NULL,
            key_hash TEXT UNIQUE,
            request_hash TEXT,
            CHECK (interval_start <= interval_end),
            CHECK ((dag_id IS NULL) = (run_key IS NULL) AND (dag_id IS NULL) = (run_id IS NULL)
                AND (dag_id IS NULL) = (task_id IS NULL) AND (dag_id IS NULL) = (map_index IS NULL)
                AND (dag_id IS NULL) = (try_number IS NULL)),
            CHECK (posted_by IS NULL OR dag_id IS NULL),
            CHECK ((key_hash IS NULL) = (request_hash IS NULL))
        )",
    ),
    // What is queued holds its event: retention cannot take one that waits for somebody.
    (
        "asset_queue",
        "CREATE TABLE asset_queue (
            dag_id TEXT NOT NULL REFERENCES dag (dag_id) ON DELETE CASCADE,
            event_id BIGINT NOT NULL REFERENCES asset_event (event_id) ON DELETE NO ACTION,
            asset TEXT NOT NULL,
            PRIMARY KEY (dag_id, event_id)
        ){rowless}",
    ),
    // An event causes at most one run of a DAG: it is never counted twice.
    (
        "asset_cause",
        "CREATE TABLE asset_cause (
            run_key BIGINT NOT NULL REFERENCES dag_run (run_key) ON DELETE CASCADE,
            event_id BIGINT NOT NULL REFERENCES asset_event (event_id) ON DELETE NO ACTION,
            dag_id TEXT NOT NULL,
            PRIMARY KEY (run_key, event_id),
            UNIQUE (dag_id, event_id)
        ){rowless}",
    ),
    // Who names an asset in which version; the empty task stands for the schedule.
    (
        "dag_asset",
        "CREATE TABLE dag_asset (
            dag_id TEXT NOT NULL,
            version TEXT NOT NULL,
            asset TEXT NOT NULL,
            task_id TEXT NOT NULL,
            PRIMARY KEY (dag_id, version, asset, task_id),
            FOREIGN KEY (dag_id, version) REFERENCES dag_version (dag_id, hash) ON DELETE CASCADE
        ){rowless}",
    ),
];

const INDEXES: &[&str] = &[
    "CREATE INDEX asset_event_by_asset ON asset_event (asset, event_id)",
    "CREATE INDEX asset_event_by_age ON asset_event (happened_at, event_id)",
    "CREATE INDEX asset_queue_by_event ON asset_queue (event_id)",
    "CREATE INDEX asset_cause_by_event ON asset_cause (event_id)",
    "CREATE INDEX dag_asset_by_asset ON dag_asset (asset, dag_id, version)",
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
        db.execute_unprepared("ALTER TABLE leader ADD COLUMN next_asset_event BIGINT NOT NULL DEFAULT 1")
            .await?;
        for (_, sql) in TABLES {
            let sql = sql.replace("{key}", key).replace("{rowless}", rowless).replace(" TEXT", text);
            db.execute_unprepared(&sql).await?;
        }
        for sql in INDEXES {
            db.execute_unprepared(sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for (table, _) in TABLES.iter().rev() {
            db.execute_unprepared(&format!("DROP TABLE {table}")).await?;
        }
        db.execute_unprepared("ALTER TABLE leader DROP COLUMN next_asset_event").await?;
        Ok(())
    }
}
