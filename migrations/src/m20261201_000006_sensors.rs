//! A sensor waits between its pokes: how often it has looked, since when, and when it looks next.

use sea_orm_migration::prelude::*;

/// The new columns of `task_instance`. The last one's check hangs on its column, so that both databases can drop it.
const COLUMNS: &[(&str, &str)] = &[
    ("pokes", "BIGINT NOT NULL DEFAULT 0 CHECK (pokes >= 0)"),
    ("first_poke_at", "BIGINT"),
    ("next_poke_at", "BIGINT CHECK ((next_poke_at IS NOT NULL) = (state = 'up_for_reschedule'))"),
];

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, kind) in COLUMNS {
            let sql = format!("ALTER TABLE task_instance ADD COLUMN {name} {kind}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in COLUMNS.iter().rev() {
            let sql = format!("ALTER TABLE task_instance DROP COLUMN {name}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        // What waited for its next poke has no time for it any more.
        let sql = "UPDATE task_instance SET state = 'scheduled' WHERE state = 'up_for_reschedule'";
        manager.get_connection().execute_unprepared(sql).await?;
        Ok(())
    }
}
