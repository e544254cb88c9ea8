//! One batch, one transaction.
//!
//! ```text
//! BEGIN IMMEDIATE
//!   UPDATE leader … WHERE term = T AND batch_id <> B     0 rows: the term is over, or B is here already
//!   versions, DAGs, runs, outputs, instances, tries, …   each kind as multi-row statements
//! COMMIT
//! ```
//!
//! The first statement takes the leader's row, so a take-over waits for the commit and a commit for a take-over;
//! it also renews the lease, since a leader that commits is alive.

use super::{
    SqlStore, assets, backfills,
    commit_rows::{KEY, clean, int, key_values, text, write_runs, write_tasks, write_tries},
    entity, fault,
    multi::{Rows, insert, upsert, waves},
    rows::{
        api_token_model, dag_model, idempotency_model, import_error_model, join_token_model, json,
        login_link_model, micros, micros_option, passed_over_model, pool_model, session_model, version_model,
        worker_key_model,
    },
    vault,
};
use std::collections::BTreeMap;

use crate::{
    access::AccessChange,
    batch::{AuditEntry, Batch, ImportErrorChange, OutboxChange, OutputsWrite},
    codec::{AUDIT_ROOT, audit_hash, merged_tries},
    error::{CommitError, RowRef},
};
use tidemill_engine::{
    action::MapChange,
    ids::{RunKey, TaskId},
};

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    Statement,
    sea_query::{Expr, ExprTrait},
};
use tidemill_engine::asset::AssetChange;

/// Why a transaction is given up before its commit.
pub(super) enum Stop {
    /// The batch is here already.
    Done,
    /// See [`CommitError`].
    Error(CommitError),
    /// A guard did not hold; the row is one of the statement's, not yet the right one.
    Guard(RowRef),
}

impl From<DbErr> for Stop {
    fn from(error: DbErr) -> Self {
        Self::Error(fault::before_commit(error))
    }
}

impl SqlStore {
    /// Writes everything of a batch into an open transaction.
    pub(super) async fn write(&self, db: &DatabaseTransaction, batch: &Batch) -> Result<(), Stop> {
        self.guard(db, batch).await?;
        let versions = batch.versions.iter().map(version_model).collect();
        insert_versions(db, versions).await?;
        assets::write_uses(db, &batch.versions).await?;
        upsert::<entity::dag::Entity>(db, batch.dags.iter().map(dag_model).collect()).await?;
        insert::<entity::passed_over::Entity>(db, batch.passed_over.iter().map(passed_over_model).collect())
            .await?;
        for wave in waves(&batch.runs, |change| change.row.key) {
            write_runs(db, &wave).await?;
        }
        write_maps(db, batch).await?;
        backfills::write(db, batch).await?;
        write_outputs(db, &batch.outputs).await?;
        for wave in waves(&batch.tasks, |change| &change.row.key) {
            write_tasks(db, &wave).await?;
        }
        write_tries(db, &merged_tries(&batch.tries)).await?;
        write_reports(db, batch).await?;
        assets::write(db, &batch.assets).await?;
        upsert::<entity::pool::Entity>(db, batch.pools.iter().map(pool_model).collect()).await?;
        for name in &batch.pool_deletes {
            entity::pool::Entity::delete_by_id(name.to_string()).exec(db).await?;
        }
        write_outbox(db, batch).await?;
        write_import_errors(db, batch).await?;
        write_audit(db, &batch.audit).await?;
        for change in &batch.access {
            write_access(db, change).await?;
        }
        for change in &batch.vault {
            vault::write(db, change).await?;
        }
        write_idempotency(db, batch).await?;
        delete(db, batch).await?;
        for (name, value) in &batch.settings {
            let row = entity::setting::Model { name: name.clone(), value: value.clone() };
            upsert::<entity::setting::Entity>(db, vec![row]).await?;
        }
        Ok(())
    }

    async fn guard(&self, db: &DatabaseTransaction, batch: &Batch) -> Result<(), Stop> {
        let backend = db.get_database_backend();
        let new_keys = batch.runs.iter().filter(|c| c.from.is_none()).map(|c| c.row.key.0 + 1);
        let events = batch.assets.iter().filter_map(|write| match &write.change {
            AssetChange::Event { row, .. } => Some(row.id.0 + 1),
            _ => None,
        });
        let new_keys = new_keys.chain(batch.backfills.iter().map(|row| row.key.0 + 1));
        let sql = format!(
            "UPDATE leader SET batch_id = $1, expires_at = {expiry},
                next_run_key = CASE WHEN next_run_key < $2 THEN $2 ELSE next_run_key END,
                next_asset_event = CASE WHEN next_asset_event < $4 THEN $4 ELSE next_asset_event END
             WHERE id = 1 AND term = $3 AND holder <> '' AND batch_id <> $1",
            expiry = super::expiry(backend),
        );
        let values = [
            int(batch.id.0),
            int(new_keys.max().unwrap_or(0)),
            int(batch.term),
            int(events.max().unwrap_or(0)),
        ];
        let result = db.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        if result.rows_affected() == 1 {
            return Ok(());
        }
        let leader = entity::leader::Entity::find_by_id(1).one(db).await?;
        let is_done =
            leader.is_some_and(|l| l.term == batch.term && l.batch_id == batch.id.0 && !l.holder.is_empty());
        Err(if is_done { Stop::Done } else { Stop::Error(CommitError::TermLost { term: batch.term }) })
    }
}

/// A version is written once; a repeated one brings new comments at most.
async fn insert_versions(
    db: &DatabaseTransaction,
    models: Vec<entity::dag_version::Model>,
) -> Result<(), DbErr> {
    use entity::dag_version::{ActiveModel, Column, Entity};
    for model in models {
        let mut conflict = sea_orm::sea_query::OnConflict::columns([Column::DagId, Column::Hash]);
        conflict.update_columns([Column::Source, Column::Path]);
        let mut row = ActiveModel::from(model);
        row.source = sea_orm::Set(clean(row.source.take().unwrap_or_default()));
        Entity::insert(row).on_conflict(conflict).exec_without_returning(db).await?;
    }
    Ok(())
}

async fn write_outputs(db: &DatabaseTransaction, outputs: &[OutputsWrite]) -> Result<(), DbErr> {
    // Two successes of one instance in one batch: the later one replaces the earlier one.
    for wave in waves(outputs, |write| &write.attempt.instance) {
        let (mut deletes, mut inserts) = (Rows::new(3), Rows::new(7));
        for write in wave {
            let key = &write.attempt.instance;
            deletes.push(key_values(key));
            for (name, value) in &write.values {
                let [run, task, map_index] = key_values(key);
                let (try_number, epoch) = (write.attempt.try_number, write.attempt.epoch);
                inserts.push([
                    run,
                    task,
                    map_index,
                    text(name),
                    text(json(value)),
                    int(try_number),
                    int(epoch),
                ]);
            }
        }
        deletes.delete(db, "task_output", &KEY).await?;
        inserts
            .execute(db, |values| {
                format!(
                    "INSERT INTO task_output (run_key, task_id, map_index, output_key, value, try_number, epoch)
                     VALUES {values}"
                )
            })
            .await?;
    }
    Ok(())
}

/// The later of two changes of one row counts, so the rest need not be written.
async fn write_maps(db: &DatabaseTransaction, batch: &Batch) -> Result<(), DbErr> {
    let last: BTreeMap<(RunKey, &TaskId), &MapChange> =
        batch.maps.iter().map(|change| ((change.run, &change.task), change)).collect();
    let mut gone = Rows::new(2);
    let mut models = Vec::new();
    for change in last.into_values() {
        match &change.values {
            None => gone.push([int(change.run.0), text(&change.task)]),
            Some(values) => models.push(entity::task_map::Model {
                run_key: change.run.0,
                task_id: change.task.to_string(),
                length: i64::try_from(values.len()).unwrap_or(i64::MAX),
                body: json(values.as_ref()),
                created_at: micros(batch.at),
            }),
        }
    }
    gone.delete(db, "task_map", &["run_key", "task_id"]).await?;
    upsert::<entity::task_map::Entity>(db, models).await
}

async fn write_reports(db: &DatabaseTransaction, batch: &Batch) -> Result<(), DbErr> {
    let models = batch.reports.iter().map(|write| entity::task_report::Model {
        run_key: write.attempt.instance.run.0,
        task_id: write.attempt.instance.task.to_string(),
        map_index: i64::from(write.attempt.instance.map_index),
        try_number: i64::from(write.attempt.try_number),
        epoch: i64::from(write.attempt.epoch),
        body: json(&write.report),
        created_at: micros(batch.at),
    });
    upsert::<entity::task_report::Entity>(db, models.collect()).await
}

async fn write_outbox(db: &DatabaseTransaction, batch: &Batch) -> Result<(), DbErr> {
    use entity::outbox::{Column, Entity};
    let mut inserts = Rows::new(5);
    for change in &batch.outbox {
        if let OutboxChange::Insert(message) = change {
            let at = micros(batch.at);
            inserts.push([text(&message.id), text(json(message)), int(at), int(0), int(at)]);
        }
    }
    inserts
        .execute(db, |values| {
            format!(
                "INSERT INTO outbox (id, body, created_at, failures, next_attempt_at) VALUES {values}
                 ON CONFLICT DO NOTHING"
            )
        })
        .await?;
    for change in &batch.outbox {
        let (id, update) = match change {
            OutboxChange::Insert(_) => continue,
            OutboxChange::Delivered { id, at } => (
                id,
                Entity::update_many()
                    .col_expr(Column::DeliveredAt, Expr::value(micros(*at)))
                    .col_expr(Column::NextAttemptAt, Expr::value(None::<i64>)),
            ),
            OutboxChange::Failed { id, error, next_attempt_at } => (
                id,
                Entity::update_many()
                    .col_expr(Column::Failures, Expr::col(Column::Failures).add(1_i64))
                    .col_expr(Column::LastError, Expr::value(Some(clean(error.clone()))))
                    .col_expr(Column::NextAttemptAt, Expr::value(micros_option(*next_attempt_at))),
            ),
        };
        update.filter(Column::Id.eq(id.as_str())).exec(db).await?;
    }
    Ok(())
}

async fn write_import_errors(db: &DatabaseTransaction, batch: &Batch) -> Result<(), DbErr> {
    use entity::import_error::Entity;
    for change in &batch.import_errors {
        match change {
            ImportErrorChange::Set(error) => {
                let mut model = import_error_model(error);
                model.source = clean(model.source);
                upsert::<Entity>(db, vec![model]).await?;
            }
            ImportErrorChange::Clear { path } => {
                Entity::delete_by_id(path.clone()).exec(db).await?;
            }
        }
    }
    Ok(())
}

/// Appends entries to the audit log, each with the hash of the one before.
pub(super) async fn write_audit(db: &DatabaseTransaction, entries: &[AuditEntry]) -> Result<(), DbErr> {
    use entity::audit::{Column, Entity, Model};
    if entries.is_empty() {
        return Ok(());
    }
    let last = Entity::find().order_by_desc(Column::Seq).one(db).await?;
    let (mut seq, mut previous) = last.map_or((0, AUDIT_ROOT.to_owned()), |row| (row.seq, row.hash));
    let models = entries.iter().map(|entry| {
        let detail = json(&entry.detail);
        seq += 1;
        previous = audit_hash(&previous, entry, &detail);
        Model {
            seq,
            at: micros(entry.at),
            actor: entry.actor.clone(),
            action: entry.action.clone(),
            subject: entry.subject.clone(),
            detail,
            hash: previous.clone(),
        }
    });
    insert::<Entity>(db, models.collect()).await
}

async fn write_access(db: &DatabaseTransaction, change: &AccessChange) -> Result<(), DbErr> {
    use entity::{api_token, join_token, login_link, session, worker_key};
    match change {
        AccessChange::Token(row) => upsert::<api_token::Entity>(db, vec![api_token_model(row)]).await,
        AccessChange::Session(row) => upsert::<session::Entity>(db, vec![session_model(row)]).await,
        AccessChange::EndSession { hash } => {
            session::Entity::delete_by_id(hash.clone()).exec(db).await.map(|_| ())
        }
        AccessChange::LoginLink(row) => upsert::<login_link::Entity>(db, vec![login_link_model(row)]).await,
        AccessChange::WorkerKey(row) => upsert::<worker_key::Entity>(db, vec![worker_key_model(row)]).await,
        AccessChange::RevokeWorker { worker, at } => worker_key::Entity::update_many()
            .col_expr(worker_key::Column::RevokedAt, Expr::value(micros(*at)))
            .filter(worker_key::Column::Worker.eq(worker.as_str()))
            .filter(worker_key::Column::RevokedAt.is_null())
            .exec(db)
            .await
            .map(|_| ()),
        AccessChange::JoinToken(row) => upsert::<join_token::Entity>(db, vec![join_token_model(row)]).await,
    }
}

async fn write_idempotency(db: &DatabaseTransaction, batch: &Batch) -> Result<(), Stop> {
    for row in &batch.idempotency {
        let model = idempotency_model(row);
        let values =
            [text(&model.key_hash), text(&model.request_hash), int(model.run_key), int(model.created_at)];
        let mut rows = Rows::new(4);
        rows.push(values);
        let touched = rows
            .execute(db, |values| {
                format!(
                    "INSERT INTO idempotency_key (key_hash, request_hash, run_key, created_at) VALUES {values}
                     ON CONFLICT DO NOTHING"
                )
            })
            .await?;
        if touched != 1 {
            let key = row.key_hash.clone();
            return Err(Stop::Guard(RowRef::Other { table: "idempotency_key", key }));
        }
    }
    Ok(())
}

async fn prune(db: &DatabaseTransaction, dag_id: &str, before: i64) -> Result<(), DbErr> {
    use entity::passed_over;
    passed_over::Entity::delete_many()
        .filter(passed_over::Column::DagId.eq(dag_id))
        .filter(passed_over::Column::DecidedAt.lt(before))
        .exec(db)
        .await?;
    let sql = "DELETE FROM dag_version WHERE dag_id = $1 AND created_at < $2
        AND NOT EXISTS (SELECT 1 FROM dag AS d WHERE d.dag_id = dag_version.dag_id AND d.version = dag_version.hash)
        AND NOT EXISTS (SELECT 1 FROM dag_run AS r
            WHERE r.dag_id = dag_version.dag_id AND r.dag_version = dag_version.hash)";
    let values = [text(dag_id), int(before)];
    db.execute_raw(Statement::from_sql_and_values(db.get_database_backend(), sql, values)).await?;
    backfills::prune(db, dag_id, before).await
}

async fn delete(db: &DatabaseTransaction, batch: &Batch) -> Result<(), DbErr> {
    use entity::{dag, dag_run, dag_version, idempotency_key, login_link, outbox, session};
    for runs in batch.run_deletes.chunks(200) {
        dag_run::Entity::delete_many()
            .filter(dag_run::Column::RunKey.is_in(runs.iter().map(|run| run.0)))
            .filter(dag_run::Column::FinishedAt.is_not_null())
            .exec(db)
            .await?;
    }
    for dag_id in &batch.dag_deletes {
        let id = dag_id.as_str();
        dag_run::Entity::delete_many().filter(dag_run::Column::DagId.eq(id)).exec(db).await?;
        dag::Entity::delete_by_id(id.to_owned()).exec(db).await?;
        dag_version::Entity::delete_many().filter(dag_version::Column::DagId.eq(id)).exec(db).await?;
    }
    assets::delete(db, batch).await?;
    for (dag_id, before) in &batch.prunes {
        prune(db, dag_id.as_str(), micros(*before)).await?;
    }
    if let Some(before) = batch.expire_before.map(micros) {
        session::Entity::delete_many().filter(session::Column::ExpiresAt.lt(before)).exec(db).await?;
        login_link::Entity::delete_many().filter(login_link::Column::ExpiresAt.lt(before)).exec(db).await?;
        idempotency_key::Entity::delete_many()
            .filter(idempotency_key::Column::CreatedAt.lt(before))
            .exec(db)
            .await?;
        backfills::expire(db, before).await?;
        outbox::Entity::delete_many()
            .filter(outbox::Column::NextAttemptAt.is_null())
            .filter(outbox::Column::CreatedAt.lt(before))
            .exec(db)
            .await?;
    }
    Ok(())
}
