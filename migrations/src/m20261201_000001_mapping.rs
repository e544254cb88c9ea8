//! The elements of expanded mapped tasks, committed with the first decision on them.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

const TABLE: &str = "CREATE TABLE task_map (
    run_key BIGINT NOT NULL REFERENCES dag_run (run_key) ON DELETE CASCADE,
    task_id TEXT NOT NULL,
    length BIGINT NOT NULL CHECK (length > 0),
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run_key, task_id)
)";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // As in the first migration: ids sort by their bytes on both.
        let text = match manager.get_database_backend() {
            DbBackend::Sqlite => " TEXT",
            _ => " TEXT COLLATE \"C\"",
        };
        manager.get_connection().execute_unprepared(&TABLE.replace(" TEXT", text)).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE task_map").await?;
        Ok(())
    }
}
