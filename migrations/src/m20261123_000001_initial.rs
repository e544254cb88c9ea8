//! The first schema.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// The legal (previous state, state) pairs of a dag run; `new` stands before its creation, and one commit may
/// create a run and move it on.
pub(crate) const RUN_TRANSITIONS: &[(&str, &str)] = &[
    ("new", "queued"),
    ("new", "running"),
    ("new", "paused"),
    ("new", "success"),
    ("new", "failed"),
    ("new", "cancelled"),
    ("queued", "running"),
    ("queued", "cancelled"),
    ("queued", "success"),
    ("queued", "failed"),
    ("running", "success"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "paused"),
    ("paused", "running"),
    ("paused", "cancelled"),
    ("success", "queued"),
    ("failed", "queued"),
    ("cancelled", "queued"),
    ("success", "failed"),
    ("failed", "success"),
    ("cancelled", "success"),
    ("cancelled", "failed"),
];

/// The legal (previous state, state) pairs of a task instance row; `no_status` is the absence of the row.
pub const TASK_TRANSITIONS: &[(&str, &str)] = &[
    ("no_status", "scheduled"),
    ("no_status", "up_for_retry"),
    ("no_status", "up_for_reschedule"),
    ("no_status", "awaiting_input"),
    ("no_status", "queued"),
    ("no_status", "success"),
    ("no_status", "failed"),
    ("no_status", "skipped"),
    ("no_status", "upstream_failed"),
    ("no_status", "removed"),
    ("scheduled", "up_for_retry"),
    ("scheduled", "up_for_reschedule"),
    ("scheduled", "awaiting_input"),
    ("scheduled", "queued"),
    ("scheduled", "success"),
    ("scheduled", "failed"),
    ("scheduled", "skipped"),
    ("scheduled", "upstream_failed"),
    ("scheduled", "removed"),
    ("up_for_retry", "scheduled"),
    ("up_for_retry", "up_for_reschedule"),
    ("up_for_retry", "awaiting_input"),
    ("up_for_retry", "queued"),
    ("up_for_retry", "success"),
    ("up_for_retry", "failed"),
    ("up_for_retry", "skipped"),
    ("up_for_retry", "upstream_failed"),
    ("up_for_retry", "removed"),
    ("up_for_reschedule", "scheduled"),
    ("up_for_reschedule", "up_for_retry"),
    ("up_for_reschedule", "awaiting_input"),
    ("up_for_reschedule", "queued"),
    ("up_for_reschedule", "success"),
    ("up_for_reschedule", "failed"),
    ("up_for_reschedule", "skipped"),
    ("up_for_reschedule", "upstream_failed"),
    ("up_for_reschedule", "removed"),
    ("awaiting_input", "scheduled"),
    ("awaiting_input", "up_for_retry"),
    ("awaiting_input", "up_for_reschedule"),
    ("awaiting_input", "queued"),
    ("awaiting_input", "success"),
    ("awaiting_input", "failed"),
    ("awaiting_input", "skipped"),
    ("awaiting_input", "upstream_failed"),
    ("awaiting_input", "removed"),
    ("queued", "running"),
    ("queued", "scheduled"),
    ("queued", "up_for_retry"),
    ("queued", "up_for_reschedule"),
    ("queued", "awaiting_input"),
    ("queued", "success"),
    ("queued", "failed"),
    ("queued", "skipped"),
    ("running", "scheduled"),
    ("running", "up_for_retry"),
    ("running", "up_for_reschedule"),
    ("running", "awaiting_input"),
    ("running", "success"),
    ("running", "failed"),
    ("running", "skipped"),
    ("queued", "queued"),
    ("running", "queued"),
    ("success", "failed"),
    ("success", "skipped"),
    ("failed", "success"),
    ("failed", "skipped"),
    ("skipped", "success"),
    ("skipped", "failed"),
    ("upstream_failed", "success"),
    ("upstream_failed", "failed"),
    ("upstream_failed", "skipped"),
];

/// The tables in the order of their creation. `{key}` and `{rowless}` are what the two databases spell
/// differently: an integer key that is SQLite's row id, and a table that is stored as its primary key's tree.
const TABLES: &[(&str, &str)] = &[
    (
        "leader",
        "CREATE TABLE leader (
            id {key} CHECK (id = 1),
            holder TEXT NOT NULL,
            url TEXT NOT NULL,
            term BIGINT NOT NULL CHECK (term >= 0),
            batch_id BIGINT NOT NULL,
            next_run_key BIGINT NOT NULL,
            expires_at BIGINT NOT NULL
        )",
    ),
    (
        "run_state_transition",
        "CREATE TABLE run_state_transition (
            previous_state TEXT NOT NULL,
            state TEXT NOT NULL,
            PRIMARY KEY (previous_state, state)
        ){rowless}",
    ),
    (
        "task_state_transition",
        "CREATE TABLE task_state_transition (
            previous_state TEXT NOT NULL,
            state TEXT NOT NULL,
            PRIMARY KEY (previous_state, state)
        ){rowless}",
    ),
    (
        "dag_version",
        "CREATE TABLE dag_version (
            dag_id TEXT NOT NULL,
            hash TEXT NOT NULL,
            definition TEXT NOT NULL,
            source TEXT NOT NULL,
            path TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            description TEXT,
            owner TEXT,
            tags TEXT NOT NULL,
            schedule TEXT NOT NULL,
            timezone TEXT NOT NULL,
            task_count BIGINT NOT NULL,
            PRIMARY KEY (dag_id, hash)
        )",
    ),
    (
        "dag",
        "CREATE TABLE dag (
            dag_id TEXT NOT NULL PRIMARY KEY,
            version TEXT NOT NULL,
            path TEXT NOT NULL,
            is_paused BOOLEAN NOT NULL,
            is_missing BOOLEAN NOT NULL,
            cursor_at BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            FOREIGN KEY (dag_id, version) REFERENCES dag_version (dag_id, hash) ON DELETE NO ACTION
        )",
    ),
    (
        "passed_over",
        "CREATE TABLE passed_over (
            dag_id TEXT NOT NULL REFERENCES dag (dag_id) ON DELETE CASCADE,
            first_date BIGINT NOT NULL,
            last_date BIGINT NOT NULL,
            date_count BIGINT NOT NULL CHECK (date_count > 0),
            decided_at BIGINT NOT NULL,
            PRIMARY KEY (dag_id, first_date, decided_at)
        ){rowless}",
    ),
    (
        "dag_run",
        "CREATE TABLE dag_run (
            run_key {key},
            dag_id TEXT NOT NULL REFERENCES dag (dag_id) ON DELETE CASCADE,
            run_id TEXT NOT NULL,
            run_type TEXT NOT NULL
                CHECK (run_type IN ('scheduled', 'manual', 'backfill', 'asset', 'policy')),
            previous_state TEXT NOT NULL,
            state TEXT NOT NULL,
            with_failures BOOLEAN NOT NULL,
            reason TEXT,
            logical_date BIGINT NOT NULL,
            data_interval_start BIGINT NOT NULL,
            data_interval_end BIGINT NOT NULL,
            queued_at BIGINT NOT NULL,
            started_at BIGINT,
            finished_at BIGINT,
            conf TEXT NOT NULL,
            dag_version TEXT NOT NULL,
            cancel_requested_at BIGINT,
            timed_out_at BIGINT,
            triggered_by TEXT,
            UNIQUE (dag_id, run_id),
            FOREIGN KEY (previous_state, state)
                REFERENCES run_state_transition (previous_state, state) ON DELETE NO ACTION,
            FOREIGN KEY (dag_id, dag_version) REFERENCES dag_version (dag_id, hash) ON DELETE NO ACTION,
            CHECK (data_interval_start <= data_interval_end),
            CHECK ((finished_at IS NOT NULL) = (state IN ('success', 'failed', 'cancelled')))
        )",
    ),
    (
        "task_instance",
        "CREATE TABLE task_instance (
            run_key BIGINT NOT NULL REFERENCES dag_run (run_key) ON DELETE CASCADE,
            task_id TEXT NOT NULL,
            map_index BIGINT NOT NULL CHECK (map_index >= -1),
            previous_state TEXT NOT NULL,
            state TEXT NOT NULL,
            try_number BIGINT NOT NULL CHECK (try_number >= 0),
            epoch BIGINT NOT NULL CHECK (epoch >= 0),
            failures BIGINT NOT NULL CHECK (failures >= 0),
            losses BIGINT NOT NULL CHECK (losses >= 0),
            scheduled_at BIGINT,
            queued_at BIGINT,
            started_at BIGINT,
            finished_at BIGINT,
            retry_at BIGINT,
            worker TEXT,
            exit_code BIGINT,
            reason TEXT,
            stop TEXT CHECK (stop IN
                ('cleared', 'marked_success', 'marked_failed', 'cancelled', 'run_timed_out')),
            follow TEXT,
            PRIMARY KEY (run_key, task_id, map_index),
            FOREIGN KEY (previous_state, state)
                REFERENCES task_state_transition (previous_state, state) ON DELETE NO ACTION,
            CHECK ((finished_at IS NOT NULL)
                = (state IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed'))),
            CHECK ((retry_at IS NOT NULL) = (state = 'up_for_retry')),
            CHECK (state NOT IN ('queued', 'running')
                OR (worker IS NOT NULL AND try_number > 0 AND epoch > 0)),
            CHECK (stop IS NULL OR state IN ('queued', 'running'))
        ){rowless}",
    ),
    (
        "task_try",
        "CREATE TABLE task_try (
            run_key BIGINT NOT NULL REFERENCES dag_run (run_key) ON DELETE CASCADE,
            task_id TEXT NOT NULL,
            map_index BIGINT NOT NULL,
            try_number BIGINT NOT NULL CHECK (try_number > 0),
            epoch BIGINT NOT NULL CHECK (epoch > 0),
            worker TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            queued_at BIGINT NOT NULL,
            started_at BIGINT,
            finished_at BIGINT,
            outcome TEXT CHECK (outcome IN
                ('success', 'failed', 'skipped', 'timed_out', 'lost', 'stopped', 'handed_back')),
            exit_code BIGINT,
            reason TEXT,
            token_hash TEXT,
            rendered TEXT,
            PRIMARY KEY (run_key, task_id, map_index, try_number, epoch),
            CHECK ((finished_at IS NOT NULL) = (outcome IS NOT NULL))
        ){rowless}",
    ),
    (
        "task_output",
        "CREATE TABLE task_output (
            run_key BIGINT NOT NULL REFERENCES dag_run (run_key) ON DELETE CASCADE,
            task_id TEXT NOT NULL,
            map_index BIGINT NOT NULL,
            output_key TEXT NOT NULL,
            value TEXT NOT NULL,
            try_number BIGINT NOT NULL,
            epoch BIGINT NOT NULL,
            PRIMARY KEY (run_key, task_id, map_index, output_key)
        )",
    ),
    (
        "task_report",
        "CREATE TABLE task_report (
            run_key BIGINT NOT NULL REFERENCES dag_run (run_key) ON DELETE CASCADE,
            task_id TEXT NOT NULL,
            map_index BIGINT NOT NULL,
            try_number BIGINT NOT NULL,
            epoch BIGINT NOT NULL,
            body TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            PRIMARY KEY (run_key, task_id, map_index, try_number, epoch)
        )",
    ),
    (
        "pool",
        "CREATE TABLE pool (
            name TEXT NOT NULL PRIMARY KEY,
            slots BIGINT NOT NULL CHECK (slots >= 0),
            description TEXT NOT NULL
        )",
    ),
    (
        "outbox",
        "CREATE TABLE outbox (
            id TEXT NOT NULL PRIMARY KEY,
            body TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            failures BIGINT NOT NULL,
            next_attempt_at BIGINT,
            last_error TEXT,
            delivered_at BIGINT,
            CHECK (delivered_at IS NULL OR next_attempt_at IS NULL)
        )",
    ),
    (
        "import_error",
        "CREATE TABLE import_error (
            path TEXT NOT NULL PRIMARY KEY,
            dag_id TEXT,
            problems TEXT NOT NULL,
            source TEXT NOT NULL,
            read_at BIGINT NOT NULL
        )",
    ),
    (
        "audit",
        "CREATE TABLE audit (
            seq {key} CHECK (seq > 0),
            at BIGINT NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            subject TEXT NOT NULL,
            detail TEXT NOT NULL,
            hash TEXT NOT NULL UNIQUE
        )",
    ),
    (
        "api_token",
        "CREATE TABLE api_token (
            id TEXT NOT NULL PRIMARY KEY,
            name TEXT NOT NULL,
            role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
            hash TEXT NOT NULL UNIQUE,
            created_by TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT,
            revoked_at BIGINT
        )",
    ),
    (
        "session",
        "CREATE TABLE session (
            hash TEXT NOT NULL PRIMARY KEY,
            actor TEXT NOT NULL,
            role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
            created_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL
        )",
    ),
    (
        "login_link",
        "CREATE TABLE login_link (
            hash TEXT NOT NULL PRIMARY KEY,
            actor TEXT NOT NULL,
            role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
            created_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            used_at BIGINT
        )",
    ),
    (
        "worker_key",
        "CREATE TABLE worker_key (
            hash TEXT NOT NULL PRIMARY KEY,
            worker TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            revoked_at BIGINT
        )",
    ),
    (
        "join_token",
        "CREATE TABLE join_token (
            id TEXT NOT NULL PRIMARY KEY,
            hash TEXT NOT NULL UNIQUE,
            created_by TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT,
            revoked_at BIGINT
        )",
    ),
    (
        "idempotency_key",
        "CREATE TABLE idempotency_key (
            key_hash TEXT NOT NULL PRIMARY KEY,
            request_hash TEXT NOT NULL,
            run_key BIGINT NOT NULL REFERENCES dag_run (run_key) ON DELETE CASCADE,
            created_at BIGINT NOT NULL
        )",
    ),
    (
        "setting",
        "CREATE TABLE setting (
            name TEXT NOT NULL PRIMARY KEY,
            value TEXT NOT NULL
        )",
    ),
];

/// Unique keys on parts of tables, and what keeps every list page at the cost of its own rows.
const INDEXES: &[&str] = &[
    // Promise 1: one run per (dag, logical date), for the types that own their date.
    "CREATE UNIQUE INDEX dag_run_date_key ON dag_run (dag_id, run_type, logical_date)
        WHERE run_type IN ('scheduled', 'backfill')",
    // Promise 3: one live try per instance; also what a new leader loads.
    "CREATE UNIQUE INDEX task_try_live_key ON task_try (run_key, task_id, map_index) WHERE outcome IS NULL",
    "CREATE INDEX dag_run_by_date ON dag_run (logical_date, run_key)",
    "CREATE INDEX dag_run_by_dag ON dag_run (dag_id, logical_date, run_key)",
    "CREATE INDEX dag_run_by_dag_key ON dag_run (dag_id, run_key)",
    "CREATE INDEX dag_run_by_dag_state ON dag_run (dag_id, state, logical_date, run_key)",
    "CREATE INDEX dag_run_by_state ON dag_run (state, logical_date, run_key)",
    "CREATE INDEX dag_run_by_end ON dag_run (finished_at) WHERE finished_at IS NOT NULL",
    "CREATE INDEX dag_run_by_dag_end ON dag_run (dag_id, finished_at) WHERE finished_at IS NOT NULL",
    "CREATE INDEX dag_run_by_version ON dag_run (dag_id, dag_version)",
    "CREATE INDEX task_instance_by_state ON task_instance (state, run_key, task_id, map_index)",
    // Two columns, although the first is always the same: with one, SQLite prefers the index above.
    "CREATE INDEX task_instance_failed ON task_instance (state, finished_at) WHERE state = 'failed'",
    "CREATE INDEX outbox_due ON outbox (next_attempt_at, id) WHERE next_attempt_at IS NOT NULL",
    "CREATE INDEX idempotency_key_by_run ON idempotency_key (run_key)",
    "CREATE INDEX idempotency_key_by_age ON idempotency_key (created_at)",
    "CREATE INDEX worker_key_by_worker ON worker_key (worker)",
];

const ROWS: &[&str] = &[
    "INSERT INTO leader (id, holder, url, term, batch_id, next_run_key, expires_at)
        VALUES (1, '', '', 0, 0, 1, 0)",
    "INSERT INTO pool (name, slots, description)
        VALUES ('default_pool', 128, 'Every task that names no other pool')",
];

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        // Ids sort by their bytes on both, so that pages and tests agree whatever the cluster's locale is.
        let (key, rowless, text) = match manager.get_database_backend() {
            DbBackend::Sqlite => ("INTEGER PRIMARY KEY", " WITHOUT ROWID", " TEXT"),
            _ => ("BIGINT PRIMARY KEY", "", " TEXT COLLATE \"C\""),
        };
        for (_, sql) in TABLES {
            let sql = sql.replace("{key}", key).replace("{rowless}", rowless).replace(" TEXT", text);
            db.execute_unprepared(&sql).await?;
        }
        for sql in INDEXES.iter().chain(ROWS) {
            db.execute_unprepared(sql).await?;
        }
        for (table, pairs) in
            [("run_state_transition", RUN_TRANSITIONS), ("task_state_transition", TASK_TRANSITIONS)]
        {
            let rows: Vec<String> = pairs.iter().map(|(from, to)| format!("('{from}', '{to}')")).collect();
            let sql = format!("INSERT INTO {table} (previous_state, state) VALUES {}", rows.join(", "));
            db.execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, _) in TABLES.iter().rev() {
            manager.get_connection().execute_unprepared(&format!("DROP TABLE {table}")).await?;
        }
        Ok(())
    }
}
