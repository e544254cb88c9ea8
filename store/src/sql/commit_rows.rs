//! The rows that every batch has: runs, task instances, tries. Multi-row statements, guarded in their `WHERE`.

use sea_orm::{DatabaseTransaction, Value};
use tidemill_engine::{
    action::{RunChange, TaskChange},
    ids::{TaskInstanceKey, WorkerId},
    rows::RunRow,
    state::{StopReason, TaskState},
};

use super::{
    commit::Stop,
    multi::Rows,
    rows::{json, micros, micros_option},
};
use crate::{batch::TryWrite, error::RowRef};

/// Text that both databases take: PostgreSQL has no NUL in text.
pub(super) fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

pub(super) fn text(value: impl ToString) -> Value {
    Value::String(Some(clean(value.to_string())))
}

pub(super) fn text_option(value: Option<&impl ToString>) -> Value {
    Value::String(value.map(|value| clean(value.to_string())))
}

pub(super) fn int(value: impl Into<i64>) -> Value {
    Value::BigInt(Some(value.into()))
}

pub(super) fn int_option(value: Option<i64>) -> Value {
    Value::BigInt(value)
}

const RUN_COLUMNS: &str = "run_key, dag_id, run_id, run_type, previous_state, state, with_failures, reason, \
    logical_date, data_interval_start, data_interval_end, queued_at, started_at, finished_at, conf, \
    dag_version, cancel_requested_at, timed_out_at, triggered_by, deadline_at, deadline_missed_at, \
    backfill_key, ignores_past, origin_run, origin_task, origin_map_index";

/// How many there are; an update also carries the state that it expects.
const RUN_WIDTH: usize = 26;

pub(super) async fn write_runs(db: &DatabaseTransaction, wave: &[&RunChange]) -> Result<(), Stop> {
    let (mut inserts, mut updates) = (Rows::new(RUN_WIDTH), Rows::new(RUN_WIDTH + 1));
    let (mut first_insert, mut first_update, mut inserted, mut updated) = (None, None, 0, 0);
    for change in wave {
        if change.from.is_none() {
            inserts.push(run_values(&change.row, text("new")));
            first_insert.get_or_insert(change.row.key);
            inserted += 1;
        } else {
            let from = || text_option(change.from.as_ref());
            updates.push_with(run_values(&change.row, from()), [from()]);
            first_update.get_or_insert(change.row.key);
            updated += 1;
        }
    }
    let touched = inserts
        .execute(db, |values| {
            format!("INSERT INTO dag_run ({RUN_COLUMNS}) VALUES {values} ON CONFLICT DO NOTHING")
        })
        .await?;
    if let Some(run) = first_insert.filter(|_| touched != inserted) {
        return Err(Stop::Guard(RowRef::Run(run)));
    }
    let touched = updates.execute(db, update_runs_sql).await?;
    match first_update.filter(|_| touched != updated) {
        Some(run) => Err(Stop::Guard(RowRef::Run(run))),
        None => Ok(()),
    }
}

fn update_runs_sql(values: &str) -> String {
    format!(
        "WITH v ({RUN_COLUMNS}, from_state) AS (VALUES {values})
         UPDATE dag_run AS r SET
            previous_state = CASE WHEN r.state <> v.state THEN r.state ELSE r.previous_state END,
            state = v.state, with_failures = v.with_failures, reason = v.reason,
            logical_date = v.logical_date, data_interval_start = v.data_interval_start,
            data_interval_end = v.data_interval_end, queued_at = v.queued_at, started_at = v.started_at,
            finished_at = v.finished_at, conf = v.conf, dag_version = v.dag_version,
            cancel_requested_at = v.cancel_requested_at, timed_out_at = v.timed_out_at,
            triggered_by = v.triggered_by, deadline_at = v.deadline_at,
            deadline_missed_at = v.deadline_missed_at,
            backfill_key = v.backfill_key, ignores_past = v.ignores_past,
            origin_run = v.origin_run, origin_task = v.origin_task, origin_map_index = v.origin_map_index
         FROM v WHERE r.run_key = v.run_key AND r.state = v.from_state"
    )
}

fn run_values(row: &RunRow, previous_state: Value) -> [Value; RUN_WIDTH] {
    [
        int(row.key.0),
        text(&row.dag_id),
        text(&row.run_id),
        text(row.run_type),
        previous_state,
        text(row.state),
        Value::Bool(Some(row.with_failures)),
        text_option(row.reason.as_ref()),
        int(micros(row.logical_date)),
        int(micros(row.data_interval_start)),
        int(micros(row.data_interval_end)),
        int(micros(row.queued_at)),
        int_option(micros_option(row.started_at)),
        int_option(micros_option(row.finished_at)),
        text(json(&row.conf)),
        text(&row.dag_version),
        int_option(micros_option(row.cancel_requested_at)),
        int_option(micros_option(row.timed_out_at)),
        text_option(row.triggered_by.as_ref()),
        int_option(micros_option(row.deadline_at)),
        int_option(micros_option(row.deadline_missed_at)),
        int_option(row.backfill.map(|key| key.0)),
        Value::Bool(Some(row.ignores_past)),
        int_option(row.origin.as_ref().map(|origin| origin.run.0)),
        text_option(row.origin.as_ref().map(|origin| &origin.task)),
        int_option(row.origin.as_ref().map(|origin| i64::from(origin.map_index))),
    ]
}

/// What names a task instance in every table.
pub(super) const KEY: [&str; 3] = ["run_key", "task_id", "map_index"];
/// What a stored task instance must be for a change to apply.
const FENCE: [&str; 6] = ["run_key", "task_id", "map_index", "state", "try_number", "epoch"];

/// How many there are; an update also carries its fence.
const TASK_WIDTH: usize = 22;
const TASK_COLUMNS: &str = "run_key, task_id, map_index, previous_state, state, try_number, epoch, failures, \
    losses, scheduled_at, queued_at, started_at, finished_at, retry_at, worker, exit_code, reason, stop, \
    follow, pokes, first_poke_at, next_poke_at";

pub(super) async fn write_tasks(db: &DatabaseTransaction, wave: &[&TaskChange]) -> Result<(), Stop> {
    let (mut inserts, mut updates, mut deletes) =
        (Rows::new(TASK_WIDTH), Rows::new(TASK_WIDTH + 4), Rows::new(6));
    let mut cleared = Rows::new(3);
    let mut expected = [0; 3];
    for change in wave {
        let (from, to) = (change.from.state, change.row.state);
        let key = &change.row.key;
        if from != TaskState::NoStatus && (change.is_clear || to == TaskState::NoStatus) {
            cleared.push(key_values(key));
        }
        match (from, to) {
            (TaskState::NoStatus, TaskState::NoStatus) => {}
            (TaskState::NoStatus, _) => {
                inserts.push(task_values(change));
                expected[0] += 1;
            }
            (_, TaskState::NoStatus) => {
                let [run, task, map_index] = key_values(key);
                deletes.push([run, task, map_index, text(from), fence_try(change), fence_epoch(change)]);
                expected[1] += 1;
            }
            _ => {
                let is_clear = Value::Bool(Some(change.is_clear));
                let fence = [text(from), fence_try(change), fence_epoch(change), is_clear];
                updates.push_with(task_values(change), fence);
                expected[2] += 1;
            }
        }
    }
    let inserted = inserts
        .execute(db, |values| {
            format!("INSERT INTO task_instance ({TASK_COLUMNS}) VALUES {values} ON CONFLICT DO NOTHING")
        })
        .await?;
    let deleted = deletes.delete(db, "task_instance", &FENCE).await?;
    let updated = updates.execute(db, update_tasks_sql).await?;
    cleared.delete(db, "task_output", &KEY).await?;
    match wave.first().filter(|_| [inserted, deleted, updated] != expected) {
        Some(change) => Err(Stop::Guard(RowRef::Task(change.row.key.clone()))),
        None => Ok(()),
    }
}

fn update_tasks_sql(values: &str) -> String {
    format!(
        "WITH v ({TASK_COLUMNS}, from_state, from_try, from_epoch, is_clear) AS (VALUES {values})
         UPDATE task_instance AS t SET
            previous_state = CASE WHEN v.is_clear THEN 'no_status'
                WHEN t.state <> v.state THEN t.state ELSE t.previous_state END,
            state = v.state, try_number = v.try_number, epoch = v.epoch, failures = v.failures,
            losses = v.losses, scheduled_at = v.scheduled_at, queued_at = v.queued_at,
            started_at = v.started_at, finished_at = v.finished_at, retry_at = v.retry_at,
            worker = v.worker, exit_code = v.exit_code, reason = v.reason, stop = v.stop, follow = v.follow,
            pokes = v.pokes, first_poke_at = v.first_poke_at, next_poke_at = v.next_poke_at
         FROM v
         WHERE t.run_key = v.run_key AND t.task_id = v.task_id AND t.map_index = v.map_index
            AND t.state = v.from_state AND t.try_number = v.from_try AND t.epoch = v.from_epoch"
    )
}

pub(super) fn key_values(key: &TaskInstanceKey) -> [Value; 3] {
    [int(key.run.0), text(&key.task), int(key.map_index)]
}

fn fence_try(change: &TaskChange) -> Value {
    int(change.from.try_number)
}

fn fence_epoch(change: &TaskChange) -> Value {
    int(change.from.epoch)
}

fn task_values(change: &TaskChange) -> [Value; TASK_WIDTH] {
    let row = &change.row;
    let [run, task, map_index] = key_values(&row.key);
    [
        run,
        task,
        map_index,
        text(change.from.state),
        text(row.state),
        int(row.try_number),
        int(row.epoch),
        int(row.failures),
        int(row.losses),
        int_option(micros_option(row.scheduled_at)),
        int_option(micros_option(row.queued_at)),
        int_option(micros_option(row.started_at)),
        int_option(micros_option(row.finished_at)),
        int_option(micros_option(row.retry_at)),
        text_option(row.worker.as_ref().map(WorkerId::as_str).as_ref()),
        int_option(row.exit_code.map(i64::from)),
        text_option(row.reason.as_ref()),
        text_option(row.stop.map(StopReason::as_str).as_ref()),
        text_option(row.follow.as_ref().map(json).as_ref()),
        int(row.pokes),
        int_option(micros_option(row.first_poke_at)),
        int_option(micros_option(row.next_poke_at)),
    ]
}

/// How many there are; an update also carries the epoch that it expects.
const TRY_WIDTH: usize = 15;
const TRY_COLUMNS: &str = "run_key, task_id, map_index, try_number, epoch, worker, boot_id, queued_at, \
    started_at, finished_at, outcome, exit_code, reason, token_hash, rendered";

/// Ends tries before it begins new ones: an instance has one live try.
pub(super) async fn write_tries(db: &DatabaseTransaction, tries: &[TryWrite]) -> Result<(), Stop> {
    let (mut inserts, mut updates) = (Rows::new(TRY_WIDTH), Rows::new(TRY_WIDTH + 1));
    let (mut first, mut expected) = (None, 0);
    for write in tries {
        if write.change.is_new {
            inserts.push(try_values(write));
        } else {
            let from_epoch = write.change.from_epoch.unwrap_or(write.change.row.attempt.epoch);
            updates.push_with(try_values(write), [int(from_epoch)]);
            first.get_or_insert(&write.change.row.attempt);
            expected += 1;
        }
    }
    let touched = updates.execute(db, update_tries_sql).await?;
    if let Some(attempt) = first.filter(|_| touched != expected) {
        return Err(Stop::Guard(RowRef::Try(attempt.clone())));
    }
    inserts.execute(db, |values| format!("INSERT INTO task_try ({TRY_COLUMNS}) VALUES {values}")).await?;
    Ok(())
}

fn update_tries_sql(values: &str) -> String {
    format!(
        "WITH v ({TRY_COLUMNS}, from_epoch) AS (VALUES {values})
         UPDATE task_try AS t SET
            epoch = v.epoch, token_hash = COALESCE(v.token_hash, t.token_hash),
            rendered = COALESCE(v.rendered, t.rendered), worker = v.worker, boot_id = v.boot_id,
            queued_at = v.queued_at, started_at = v.started_at,
            finished_at = v.finished_at, outcome = v.outcome, exit_code = v.exit_code, reason = v.reason
         FROM v
         WHERE t.run_key = v.run_key AND t.task_id = v.task_id AND t.map_index = v.map_index
            AND t.try_number = v.try_number AND t.epoch = v.from_epoch AND t.outcome IS NULL"
    )
}

fn try_values(write: &TryWrite) -> [Value; TRY_WIDTH] {
    let row = &write.change.row;
    let [run, task, map_index] = key_values(&row.attempt.instance);
    [
        run,
        task,
        map_index,
        int(row.attempt.try_number),
        int(row.attempt.epoch),
        text(&row.worker),
        text(&row.boot_id),
        int(micros(row.queued_at)),
        int_option(micros_option(row.started_at)),
        int_option(micros_option(row.finished_at)),
        text_option(row.outcome.as_ref()),
        int_option(row.exit_code.map(i64::from)),
        text_option(row.reason.as_ref()),
        text_option(write.token_hash.as_ref()),
        text_option(write.rendered.as_ref().map(json).as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, DbBackend, Statement};

    use super::{FENCE, KEY, RUN_WIDTH, update_runs_sql, update_tasks_sql, update_tries_sql};
    use crate::{
        Database, Migrate, open,
        sql::{
            connect_maintenance,
            multi::{delete_sql, placeholders},
        },
    };

    /// What a commit pays must not grow with the tables: no statement of a batch walks one.
    #[tokio::test]
    async fn no_statement_of_a_batch_scans_a_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::Sqlite(folder.path().join("db.sqlite"));
        let _store = open(&database, Migrate::Apply).await.expect("opens");
        let db = connect_maintenance(&database).await.expect("connects").0;
        let values = |width| placeholders(DbBackend::Sqlite, 4, width);
        for sql in [
            update_runs_sql(&values(RUN_WIDTH + 1)),
            update_tasks_sql(&values(26)),
            update_tries_sql(&values(16)),
            delete_sql(DbBackend::Sqlite, "task_instance", &FENCE, 4),
            delete_sql(DbBackend::Sqlite, "task_output", &KEY, 4),
        ] {
            let plan = Statement::from_string(DbBackend::Sqlite, format!("EXPLAIN QUERY PLAN {sql}"));
            let lines = db.query_all_raw(plan).await.expect("explains");
            let lines: Vec<String> = lines.iter().map(|l| l.try_get("", "detail").expect("text")).collect();
            let is_scan = |line: &&String| {
                line.starts_with("SCAN") && !line.contains("CONSTANT") && line.as_str() != "SCAN v"
            };
            assert_eq!(lines.iter().find(is_scan), None, "{sql}\n{lines:#?}");
            assert!(lines.iter().any(|line| line.starts_with("SEARCH")), "{lines:#?}");
        }
    }
}
