//! When a run is late, and when that was found.

use sea_orm_migration::prelude::*;

/// The new columns of `dag_run`. Only a run with a deadline can miss it; the check hangs on its column, so that both
/// databases can drop it.
const COLUMNS: &[(&str, &str)] = &[
    ("deadline_at", "BIGINT"),
    ("deadline_missed_at", "BIGINT CHECK (deadline_missed_at IS NULL OR deadline_at IS NOT NULL)"),
];
/// Late runs are few; pages look for them among all.
const LATE_INDEX: &str = "CREATE INDEX dag_run_late ON dag_run (state, logical_date, run_key) WHERE deadline_missed_at IS NOT NULL";

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for (name, kind) in COLUMNS {
            db.execute_unprepared(&format!("ALTER TABLE dag_run ADD COLUMN {name} {kind}")).await?;
        }
        db.execute_unprepared(LATE_INDEX).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("DROP INDEX dag_run_late").await?;
        for (name, _) in COLUMNS.iter().rev() {
            db.execute_unprepared(&format!("ALTER TABLE dag_run DROP COLUMN {name}")).await?;
        }
        Ok(())
    }
}
