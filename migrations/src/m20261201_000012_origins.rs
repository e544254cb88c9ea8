//! Which task instance triggered a run.

use sea_orm_migration::prelude::*;

/// The new columns of `dag_run`. The run that triggered it may be deleted before it, so they reference nothing. The last
/// one's check hangs on its column, so that both databases can drop it.
const COLUMNS: &[(&str, &str)] = &[
    ("origin_run", "BIGINT"),
    ("origin_task", "TEXT"),
    ("origin_map_index", "BIGINT CHECK ((origin_map_index IS NOT NULL) = (origin_run IS NOT NULL))"),
];
/// Few runs are triggered by a task; the page of a task looks for its own.
const INDEX: &str = "CREATE INDEX dag_run_origin ON dag_run (origin_run, origin_task, origin_map_index, run_key) \
    WHERE origin_run IS NOT NULL";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for (name, kind) in COLUMNS {
            db.execute_unprepared(&format!("ALTER TABLE dag_run ADD COLUMN {name} {kind}")).await?;
        }
        db.execute_unprepared(INDEX).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("DROP INDEX dag_run_origin").await?;
        for (name, _) in COLUMNS.iter().rev() {
            db.execute_unprepared(&format!("ALTER TABLE dag_run DROP COLUMN {name}")).await?;
        }
        Ok(())
    }
}
