//! The migrations: frozen words, up and down and up, and the tables as the queries expect them.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use sea_orm_migration::MigratorTrait;
use tidemill_engine::state::{RunState, TaskState};
use tidemill_migrations::{Migrator, TASK_TRANSITIONS, run_transitions};
use tidemill_store::{Database, Migrate, open, open::schema_status, open_reader};

use crate::{leadership::execute, support::Bed};

#[test]
fn the_frozen_transitions_are_the_engines() {
    let words = |pairs: &[(&str, &str)]| -> BTreeSet<(String, String)> {
        pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    };
    let engine: BTreeSet<_> =
        TaskState::transitions().into_iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
    assert_eq!(words(TASK_TRANSITIONS), engine);
    let mut engine: BTreeSet<_> =
        RunState::transitions().into_iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
    engine.extend(RunState::ALL.iter().map(|state| ("new".to_owned(), state.to_string())));
    assert_eq!(words(&run_transitions()), engine);
}

async fn connect(database: &Database) -> DatabaseConnection {
    let url = match database {
        Database::Sqlite(path) => format!("sqlite://{}?mode=rwc", path.display()),
        Database::Postgres(url) => url.clone(),
    };
    sea_orm::Database::connect(url).await.expect("connects")
}

async fn tables(db: &DatabaseConnection) -> Vec<String> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"
        }
        _ => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1",
    };
    let found =
        db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.expect("reads");
    let names = found.iter().map(|row| row.try_get_by_index::<String>(0).expect("a name"));
    names.filter(|name| name != "seaql_migrations").collect()
}

async fn up_down_up(database: Database) {
    let db = connect(&database).await;
    Migrator::up(&db, None).await.expect("up");
    let first = tables(&db).await;
    assert!(first.len() > 20, "{first:?}");
    Migrator::down(&db, None).await.expect("down");
    assert_eq!(tables(&db).await, Vec::<String>::new());
    Migrator::up(&db, None).await.expect("up again");
    assert_eq!(tables(&db).await, first);
    db.close().await.expect("closes");
}

#[tokio::test]
async fn migrations_go_up_down_and_up() {
    let folder = tempfile::tempdir().expect("a folder");
    up_down_up(Database::Sqlite(folder.path().join("db.sqlite"))).await;
    up_down_up(crate::postgres::new_database().parse().expect("a URL")).await;
}

async fn other_schemas_are_refused(bed: Bed, insert: &str) {
    let database = bed.database.clone().expect("a database");
    execute(&database, insert).await;
    let error = open_reader(&database).await.err().expect("a newer schema");
    assert_eq!(error.code(), "STO0103", "{error}");
    drop(bed.store.clone());
    execute(&database, "DELETE FROM seaql_migrations").await;
    let error = open_reader(&database).await.err().expect("an older schema");
    assert_eq!(error.code(), "STO0102", "{error}");
    let status = schema_status(&database).await.expect("answers");
    assert_eq!((status.found, status.pending.len()), (None, tidemill_migrations::names().len()));
}

#[tokio::test]
async fn another_schema_is_refused() {
    let insert = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99999999_000001_future', 0)";
    other_schemas_are_refused(Bed::sqlite().await, insert).await;
    other_schemas_are_refused(Bed::postgres().await, insert).await;
}

#[tokio::test]
async fn a_migration_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = Database::Sqlite(folder.path().join("db.sqlite"));
    let db = connect(&database).await;
    db.execute_unprepared("CREATE TABLE setting (x TEXT)").await.expect("a table in the way");
    let error = open(&database, Migrate::Apply).await.expect_err("its name is taken");
    assert_eq!(error.code(), "STO0108", "{error}");
    assert_eq!(tables(&db).await, ["setting"]);
    db.close().await.expect("closes");
}
