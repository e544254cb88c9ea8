//! A DAG counts its failed runs and says why it is paused; a run that is parked for a person may be given a verdict.

use sea_orm_migration::prelude::*;

/// The pairs that a dag run's row may take since this migration.
pub(crate) const NEW_RUN_TRANSITIONS: &[(&str, &str)] = &[("paused", "success"), ("paused", "failed")];

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("ALTER TABLE dag ADD COLUMN failed_runs BIGINT NOT NULL DEFAULT 0").await?;
        db.execute_unprepared("ALTER TABLE dag ADD COLUMN pause_reason TEXT").await?;
        for (from, to) in NEW_RUN_TRANSITIONS {
            let sql =
                format!("INSERT INTO run_state_transition (previous_state, state) VALUES ('{from}', '{to}')");
            db.execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for (from, to) in NEW_RUN_TRANSITIONS {
            // A run that went this way keeps its verdict, as if it had been running before.
            let moved = format!(
                "UPDATE dag_run SET previous_state = 'running' WHERE previous_state = '{from}' AND state = '{to}'"
            );
            let gone = format!(
                "DELETE FROM run_state_transition WHERE previous_state = '{from}' AND state = '{to}'"
            );
            db.execute_unprepared(&moved).await?;
            db.execute_unprepared(&gone).await?;
        }
        db.execute_unprepared("ALTER TABLE dag DROP COLUMN pause_reason").await?;
        db.execute_unprepared("ALTER TABLE dag DROP COLUMN failed_runs").await?;
        Ok(())
    }
}
