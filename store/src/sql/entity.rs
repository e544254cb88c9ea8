//! The tables as sea-orm sees them. A test compares them with what the migrations make.
#![expect(unreachable_pub, reason = "sea-orm derives want public items, which nobody outside can reach")]

/// Declares one entity: the columns in the order of the table.
macro_rules! table {
    ($module:ident, $table:literal, $($(#[$attribute:meta])* $column:ident: $type:ty,)+) => {
        pub(crate) mod $module {
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                $($(#[$attribute])* pub $column: $type,)+
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

table!(leader, "leader",
    #[sea_orm(primary_key, auto_increment = false)] id: i64,
    holder: String,
    url: String,
    term: i64,
    batch_id: i64,
    next_run_key: i64,
    expires_at: i64,
    next_asset_event: i64,
);

table!(dag_version, "dag_version",
    #[sea_orm(primary_key, auto_increment = false)] dag_id: String,
    #[sea_orm(primary_key, auto_increment = false)] hash: String,
    definition: String,
    source: String,
    path: String,
    created_at: i64,
    description: Option<String>,
    owner: Option<String>,
    tags: String,
    schedule: String,
    timezone: String,
    task_count: i64,
);

table!(dag, "dag",
    #[sea_orm(primary_key, auto_increment = false)] dag_id: String,
    version: String,
    path: String,
    is_paused: bool,
    is_missing: bool,
    cursor_at: i64,
    created_at: i64,
    failed_runs: i64,
    pause_reason: Option<String>,
);

table!(passed_over, "passed_over",
    #[sea_orm(primary_key, auto_increment = false)] dag_id: String,
    #[sea_orm(primary_key, auto_increment = false)] first_date: i64,
    last_date: i64,
    date_count: i64,
    #[sea_orm(primary_key, auto_increment = false)] decided_at: i64,
);

table!(dag_run, "dag_run",
    #[sea_orm(primary_key, auto_increment = false)] run_key: i64,
    dag_id: String,
    run_id: String,
    run_type: String,
    previous_state: String,
    state: String,
    with_failures: bool,
    reason: Option<String>,
    logical_date: i64,
    data_interval_start: i64,
    data_interval_end: i64,
    queued_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    conf: String,
    dag_version: String,
    cancel_requested_at: Option<i64>,
    timed_out_at: Option<i64>,
    triggered_by: Option<String>,
    backfill_key: Option<i64>,
    ignores_past: bool,
    deadline_at: Option<i64>,
    deadline_missed_at: Option<i64>,
    origin_run: Option<i64>,
    origin_task: Option<String>,
    origin_map_index: Option<i64>,
);

table!(backfill, "backfill",
    #[sea_orm(primary_key, auto_increment = false)] backfill_key: i64,
    dag_id: String,
    from_date: i64,
    to_date: i64,
    reprocess: String,
    max_active_runs: i64,
    run_backwards: bool,
    conf: String,
    state: String,
    reason: Option<String>,
    cursor_date: Option<i64>,
    date_count: i64,
    created: i64,
    reprocessed: i64,
    passed_over: i64,
    left_alone: i64,
    failed_runs: i64,
    cancel_requested_at: Option<i64>,
    created_by: Option<String>,
    created_at: i64,
    finished_at: Option<i64>,
);

table!(backfill_date, "backfill_date",
    #[sea_orm(primary_key, auto_increment = false)] backfill_key: i64,
    #[sea_orm(primary_key, auto_increment = false)] logical_date: i64,
    outcome: String,
    run_key: Option<i64>,
    reason: Option<String>,
);

table!(backfill_idempotency_key, "backfill_idempotency_key",
    #[sea_orm(primary_key, auto_increment = false)] key_hash: String,
    request_hash: String,
    backfill_key: i64,
    created_at: i64,
);

table!(task_instance, "task_instance",
    #[sea_orm(primary_key, auto_increment = false)] run_key: i64,
    #[sea_orm(primary_key, auto_increment = false)] task_id: String,
    #[sea_orm(primary_key, auto_increment = false)] map_index: i64,
    previous_state: String,
    state: String,
    try_number: i64,
    epoch: i64,
    failures: i64,
    losses: i64,
    scheduled_at: Option<i64>,
    queued_at: Option<i64>,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    retry_at: Option<i64>,
    worker: Option<String>,
    exit_code: Option<i64>,
    reason: Option<String>,
    stop: Option<String>,
    follow: Option<String>,
    pokes: i64,
    first_poke_at: Option<i64>,
    next_poke_at: Option<i64>,
);

table!(task_try, "task_try",
    #[sea_orm(primary_key, auto_increment = false)] run_key: i64,
    #[sea_orm(primary_key, auto_increment = false)] task_id: String,
    #[sea_orm(primary_key, auto_increment = false)] map_index: i64,
    #[sea_orm(primary_key, auto_increment = false)] try_number: i64,
    #[sea_orm(primary_key, auto_increment = false)] epoch: i64,
    worker: String,
    boot_id: String,
    queued_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    outcome: Option<String>,
    exit_code: Option<i64>,
    reason: Option<String>,
    token_hash: Option<String>,
    rendered: Option<String>,
);

table!(task_map, "task_map",
    #[sea_orm(primary_key, auto_increment = false)] run_key: i64,
    #[sea_orm(primary_key, auto_increment = false)] task_id: String,
    length: i64,
    body: String,
    created_at: i64,
);

table!(task_output, "task_output",
    #[sea_orm(primary_key, auto_increment = false)] run_key: i64,
    #[sea_orm(primary_key, auto_increment = false)] task_id: String,
    #[sea_orm(primary_key, auto_increment = false)] map_index: i64,
    #[sea_orm(primary_key, auto_increment = false)] output_key: String,
    value: String,
    try_number: i64,
    epoch: i64,
);

table!(task_report, "task_report",
    #[sea_orm(primary_key, auto_increment = false)] run_key: i64,
    #[sea_orm(primary_key, auto_increment = false)] task_id: String,
    #[sea_orm(primary_key, auto_increment = false)] map_index: i64,
    #[sea_orm(primary_key, auto_increment = false)] try_number: i64,
    #[sea_orm(primary_key, auto_increment = false)] epoch: i64,
    body: String,
    created_at: i64,
);

table!(pool, "pool",
    #[sea_orm(primary_key, auto_increment = false)] name: String,
    slots: i64,
    description: String,
);

table!(variable, "variable",
    #[sea_orm(primary_key, auto_increment = false)] name: String,
    description: String,
    is_secret: bool,
    value: String,
    updated_by: String,
    updated_at: i64,
);

table!(connection, "connection",
    #[sea_orm(primary_key, auto_increment = false)] id: String,
    kind: String,
    description: String,
    host: Option<String>,
    port: Option<i64>,
    login: Option<String>,
    db_schema: Option<String>,
    password: Option<String>,
    extra: Option<String>,
    updated_by: String,
    updated_at: i64,
);

table!(outbox, "outbox",
    #[sea_orm(primary_key, auto_increment = false)] id: String,
    body: String,
    created_at: i64,
    failures: i64,
    next_attempt_at: Option<i64>,
    last_error: Option<String>,
    delivered_at: Option<i64>,
);

table!(import_error, "import_error",
    #[sea_orm(primary_key, auto_increment = false)] path: String,
    dag_id: Option<String>,
    problems: String,
    source: String,
    read_at: i64,
);

table!(audit, "audit",
    #[sea_orm(primary_key, auto_increment = false)] seq: i64,
    at: i64,
    actor: String,
    action: String,
    subject: String,
    detail: String,
    hash: String,
);

table!(api_token, "api_token",
    #[sea_orm(primary_key, auto_increment = false)] id: String,
    name: String,
    role: String,
    hash: String,
    created_by: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
);

table!(session, "session",
    #[sea_orm(primary_key, auto_increment = false)] hash: String,
    actor: String,
    role: String,
    created_at: i64,
    expires_at: i64,
);

table!(login_link, "login_link",
    #[sea_orm(primary_key, auto_increment = false)] hash: String,
    actor: String,
    role: String,
    created_at: i64,
    expires_at: i64,
    used_at: Option<i64>,
);

table!(worker_key, "worker_key",
    #[sea_orm(primary_key, auto_increment = false)] hash: String,
    worker: String,
    created_at: i64,
    revoked_at: Option<i64>,
);

table!(join_token, "join_token",
    #[sea_orm(primary_key, auto_increment = false)] id: String,
    hash: String,
    created_by: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
);

table!(idempotency_key, "idempotency_key",
    #[sea_orm(primary_key, auto_increment = false)] key_hash: String,
    request_hash: String,
    run_key: i64,
    created_at: i64,
);

table!(setting, "setting",
    #[sea_orm(primary_key, auto_increment = false)] name: String,
    value: String,
);

#[cfg(test)]
mod tests {
    use sea_orm::{ColumnTrait, IdenStatic};
    use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait, Iterable, Statement};

    use crate::{Database, Migrate, open, sql::connect_maintenance};

    /// Compares the columns of an entity with those of its table: names, order, and which may be null.
    async fn compare<E: EntityTrait>(db: &DatabaseConnection, entity: E) {
        let sql = format!("SELECT name, \"notnull\" FROM pragma_table_info('{}')", entity.table_name());
        let found = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.expect("reads");
        let column = |row: &sea_orm::QueryResult| -> (String, bool) {
            let is_null = row.try_get_by_index::<i64>(1).expect("a flag") == 0;
            (row.try_get_by_index(0).expect("a name"), is_null)
        };
        let table: Vec<_> = found.iter().map(column).collect();
        let columns = E::Column::iter().map(|c| (IdenStatic::as_str(&c).to_owned(), c.def().is_null()));
        let columns: Vec<_> = columns.collect();
        // SQLite reports a row id as nullable, which it cannot be.
        let keys = ["id", "run_key", "backfill_key", "seq"];
        let is_same = |(a, b): (&(String, bool), &(String, bool))| {
            a.0 == b.0 && (a.1 == b.1 || keys.contains(&a.0.as_str()))
        };
        assert_eq!(table.len(), columns.len(), "{}: {table:?}", entity.table_name());
        assert!(table.iter().zip(&columns).all(is_same), "{table:?}\n{columns:?}");
    }

    #[tokio::test]
    async fn entities_are_the_tables_of_the_migrations() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::Sqlite(folder.path().join("db.sqlite"));
        let _store = open(&database, Migrate::Apply).await.expect("opens");
        let db = connect_maintenance(&database).await.expect("connects").0;
        macro_rules! compare_all {
            ($($module:ident)+) => { $(compare(&db, super::$module::Entity).await;)+ };
        }
        compare_all!(leader dag_version dag passed_over dag_run task_instance task_try task_map task_output task_report
            pool outbox import_error audit api_token session login_link worker_key join_token idempotency_key
            setting variable connection backfill backfill_date backfill_idempotency_key);
    }
}
