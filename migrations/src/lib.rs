#![doc = include_str!("../README.md")]

mod m20261123_000001_initial;
mod m20261124_000001_parking;
mod m20261201_000001_mapping;
mod m20261201_000002_backfill;
mod m20261201_000003_assets;
mod m20261201_000004_variables_connections;
mod m20261201_000006_sensors;
mod m20261201_000007_deadlines;
mod m20261201_000012_origins;

pub use m20261123_000001_initial::TASK_TRANSITIONS;
use sea_orm_migration::{MigrationTrait, MigratorTrait, async_trait};

/// Applies and reverts the migrations.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_initial::Migration),
            Box::new(m20261124_000001_parking::Migration),
            Box::new(m20261201_000001_mapping::Migration),
            Box::new(m20261201_000002_backfill::Migration),
            Box::new(m20261201_000003_assets::Migration),
            Box::new(m20261201_000004_variables_connections::Migration),
            Box::new(m20261201_000006_sensors::Migration),
            Box::new(m20261201_000007_deadlines::Migration),
            Box::new(m20261201_000012_origins::Migration),
        ]
    }
}

/// Returns the legal (previous state, state) pairs of a dag run's row after all migrations.
#[must_use]
pub fn run_transitions() -> Vec<(&'static str, &'static str)> {
    let first = m20261123_000001_initial::RUN_TRANSITIONS;
    first.iter().chain(m20261124_000001_parking::NEW_RUN_TRANSITIONS).copied().collect()
}

/// Returns the names of all migrations, the oldest first. The last one is the schema version.
#[must_use]
pub fn names() -> Vec<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}
