//! Between stored rows and the records of the product.
//!
//! Writing cannot fail. Reading can: a word or a JSON text that makes no sense names its table and key, so that
//! one damaged row is one coded message.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use tidemill_engine::{
    definition::Dag,
    ids::{AttemptKey, BackfillKey, DagId, RunKey, TaskId, TaskInstanceKey},
    rows::{DagRow, MapRow, PassedOver, PoolRow, RunRow, TaskRow, TryRow, VersionHash},
    state::{RunState, RunType, StopReason, TaskState, TryOutcome},
};

use super::entity;
use crate::{
    access::{ApiToken, IdempotencyRow, JoinToken, LoginLink, Role, Session, WorkerKey},
    batch::{AuditEntry, ImportError, VersionRow},
    error::ReadError,
    reader::{AuditRow, OutboxRow, StoredReport},
};

/// Reads the columns of one row and names it when one makes no sense.
pub(super) struct Row {
    table: &'static str,
    key: String,
}

impl Row {
    pub(super) fn new(table: &'static str, key: impl std::fmt::Display) -> Self {
        Self { table, key: key.to_string() }
    }

    pub(super) fn bad(&self, what: impl std::fmt::Display) -> ReadError {
        ReadError::Unreadable { table: self.table, key: self.key.clone(), what: what.to_string() }
    }

    pub(super) fn at(&self, micros: i64) -> Result<DateTime<Utc>, ReadError> {
        DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| self.bad(format_args!("{micros} µs is no instant")))
    }

    fn at_option(&self, micros: Option<i64>) -> Result<Option<DateTime<Utc>>, ReadError> {
        micros.map(|micros| self.at(micros)).transpose()
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, value: i64) -> Result<T, ReadError> {
        T::try_from(value).map_err(|_| self.bad(format_args!("{value} is out of range")))
    }

    pub(super) fn name<T: std::str::FromStr<Err = tidemill_engine::ids::NameError>>(
        &self,
        text: &str,
    ) -> Result<T, ReadError> {
        text.parse().map_err(|error| self.bad(format_args!("{text:?} {error}")))
    }

    pub(super) fn word<T>(&self, text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ReadError> {
        parse(text).ok_or_else(|| self.bad(format_args!("{text:?} is no word of its column")))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, text: &str) -> Result<T, ReadError> {
        serde_json::from_str(text).map_err(|error| self.bad(error))
    }
}

pub(super) fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

pub(super) fn micros_option(at: Option<DateTime<Utc>>) -> Option<i64> {
    at.map(micros)
}

/// Writes a value whose type cannot fail to become JSON (no maps with keys that are not text).
pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

pub(super) fn version_model(row: &VersionRow) -> entity::dag_version::Model {
    let dag = &row.definition;
    entity::dag_version::Model {
        dag_id: row.dag_id.to_string(),
        hash: row.hash.to_string(),
        definition: json(dag),
        source: row.source.clone(),
        path: row.path.clone(),
        created_at: micros(row.created_at),
        description: dag.description.clone(),
        owner: dag.owner.clone(),
        tags: json(&dag.tags),
        schedule: json(&dag.schedule),
        timezone: dag.timezone.name().to_owned(),
        task_count: i64::try_from(dag.tasks.len()).unwrap_or(i64::MAX),
    }
}

pub(super) fn version_row(model: entity::dag_version::Model) -> Result<VersionRow, ReadError> {
    let row = Row::new("dag_version", format_args!("{}/{}", model.dag_id, model.hash));
    Ok(VersionRow {
        dag_id: row.name(&model.dag_id)?,
        definition: Arc::new(row.json::<Dag>(&model.definition)?),
        created_at: row.at(model.created_at)?,
        hash: VersionHash(model.hash.into()),
        source: model.source,
        path: model.path,
    })
}

pub(super) fn dag_model(row: &DagRow) -> entity::dag::Model {
    entity::dag::Model {
        dag_id: row.dag_id.to_string(),
        version: row.version.to_string(),
        path: row.path.clone(),
        is_paused: row.is_paused,
        is_missing: row.is_missing,
        cursor_at: micros(row.cursor),
        created_at: micros(row.created_at),
        failed_runs: i64::from(row.failed_runs),
        pause_reason: row.pause_reason.clone(),
    }
}

pub(super) fn dag_row(model: entity::dag::Model) -> Result<DagRow, ReadError> {
    let row = Row::new("dag", &model.dag_id);
    Ok(DagRow {
        dag_id: row.name(&model.dag_id)?,
        version: VersionHash(model.version.into()),
        path: model.path,
        is_paused: model.is_paused,
        is_missing: model.is_missing,
        failed_runs: row.number(model.failed_runs)?,
        pause_reason: model.pause_reason,
        cursor: row.at(model.cursor_at)?,
        created_at: row.at(model.created_at)?,
    })
}

pub(super) fn passed_over_model(row: &PassedOver) -> entity::passed_over::Model {
    entity::passed_over::Model {
        dag_id: row.dag_id.to_string(),
        first_date: micros(row.first),
        last_date: micros(row.last),
        date_count: i64::try_from(row.count).unwrap_or(i64::MAX),
        decided_at: micros(row.at),
    }
}

pub(super) fn passed_over_row(model: entity::passed_over::Model) -> Result<PassedOver, ReadError> {
    let row = Row::new("passed_over", &model.dag_id);
    Ok(PassedOver {
        dag_id: row.name(&model.dag_id)?,
        first: row.at(model.first_date)?,
        last: row.at(model.last_date)?,
        count: row.number(model.date_count)?,
        at: row.at(model.decided_at)?,
    })
}

pub(super) fn run_row(model: entity::dag_run::Model) -> Result<RunRow, ReadError> {
    let row = Row::new("dag_run", model.run_key);
    let origin = match (model.origin_run, &model.origin_task, model.origin_map_index) {
        (Some(run), Some(task), Some(map_index)) => Some(instance_key(&row, run, task, map_index)?),
        _ => None,
    };
    Ok(RunRow {
        key: RunKey(model.run_key),
        dag_id: row.name(&model.dag_id)?,
        run_id: row.name(&model.run_id)?,
        run_type: row.word(&model.run_type, RunType::parse)?,
        state: row.word(&model.state, RunState::parse)?,
        with_failures: model.with_failures,
        reason: model.reason,
        logical_date: row.at(model.logical_date)?,
        data_interval_start: row.at(model.data_interval_start)?,
        data_interval_end: row.at(model.data_interval_end)?,
        queued_at: row.at(model.queued_at)?,
        started_at: row.at_option(model.started_at)?,
        finished_at: row.at_option(model.finished_at)?,
        conf: Arc::new(row.json(&model.conf)?),
        dag_version: VersionHash(model.dag_version.into()),
        cancel_requested_at: row.at_option(model.cancel_requested_at)?,
        timed_out_at: row.at_option(model.timed_out_at)?,
        triggered_by: model.triggered_by,
        deadline_at: row.at_option(model.deadline_at)?,
        deadline_missed_at: row.at_option(model.deadline_missed_at)?,
        backfill: model.backfill_key.map(BackfillKey),
        ignores_past: model.ignores_past,
        origin,
    })
}

pub(super) fn instance_key(
    row: &Row,
    run_key: i64,
    task_id: &str,
    map_index: i64,
) -> Result<TaskInstanceKey, ReadError> {
    Ok(TaskInstanceKey {
        run: RunKey(run_key),
        task: row.name::<TaskId>(task_id)?,
        map_index: row.number(map_index)?,
    })
}

pub(super) fn task_row(model: entity::task_instance::Model) -> Result<TaskRow, ReadError> {
    let key = format_args!("{}/{}[{}]", model.run_key, model.task_id, model.map_index).to_string();
    let row = Row::new("task_instance", key);
    Ok(TaskRow {
        key: instance_key(&row, model.run_key, &model.task_id, model.map_index)?,
        state: row.word(&model.state, TaskState::parse)?,
        try_number: row.number(model.try_number)?,
        epoch: row.number(model.epoch)?,
        failures: row.number(model.failures)?,
        losses: row.number(model.losses)?,
        scheduled_at: row.at_option(model.scheduled_at)?,
        queued_at: row.at_option(model.queued_at)?,
        started_at: row.at_option(model.started_at)?,
        finished_at: row.at_option(model.finished_at)?,
        retry_at: row.at_option(model.retry_at)?,
        pokes: row.number(model.pokes)?,
        first_poke_at: row.at_option(model.first_poke_at)?,
        next_poke_at: row.at_option(model.next_poke_at)?,
        worker: model.worker.map(|name| row.name(&name)).transpose()?,
        exit_code: model.exit_code.map(|code| row.number(code)).transpose()?,
        reason: model.reason,
        stop: model.stop.map(|word| row.word(&word, StopReason::parse)).transpose()?,
        follow: model.follow.map(|text| row.json(&text)).transpose()?,
    })
}

pub(super) fn try_row(model: entity::task_try::Model) -> Result<TryRow, ReadError> {
    let key = format!("{}/{}[{}] {}", model.run_key, model.task_id, model.map_index, model.try_number);
    let row = Row::new("task_try", key);
    Ok(TryRow {
        attempt: AttemptKey {
            instance: instance_key(&row, model.run_key, &model.task_id, model.map_index)?,
            try_number: row.number(model.try_number)?,
            epoch: row.number(model.epoch)?,
        },
        worker: row.name(&model.worker)?,
        boot_id: model.boot_id,
        queued_at: row.at(model.queued_at)?,
        started_at: row.at_option(model.started_at)?,
        finished_at: row.at_option(model.finished_at)?,
        outcome: model.outcome.map(|word| row.word(&word, TryOutcome::parse)).transpose()?,
        exit_code: model.exit_code.map(|code| row.number(code)).transpose()?,
        reason: model.reason,
    })
}

pub(super) fn report_row(model: entity::task_report::Model) -> Result<StoredReport, ReadError> {
    let key = format!("{}/{}[{}] {}", model.run_key, model.task_id, model.map_index, model.try_number);
    let row = Row::new("task_report", key);
    Ok(StoredReport {
        attempt: AttemptKey {
            instance: instance_key(&row, model.run_key, &model.task_id, model.map_index)?,
            try_number: row.number(model.try_number)?,
            epoch: row.number(model.epoch)?,
        },
        report: row.json(&model.body)?,
        created_at: row.at(model.created_at)?,
    })
}

pub(super) fn map_row(model: entity::task_map::Model) -> Result<MapRow, ReadError> {
    let row = Row::new("task_map", format_args!("{}/{}", model.run_key, model.task_id));
    Ok(MapRow { task: row.name(&model.task_id)?, values: Arc::new(row.json(&model.body)?) })
}

pub(super) fn pool_model(row: &PoolRow) -> entity::pool::Model {
    entity::pool::Model {
        name: row.name.to_string(),
        slots: i64::from(row.slots),
        description: row.description.clone(),
    }
}

pub(super) fn pool_row(model: entity::pool::Model) -> Result<PoolRow, ReadError> {
    let row = Row::new("pool", &model.name);
    Ok(PoolRow {
        name: row.name(&model.name)?,
        slots: row.number(model.slots)?,
        description: model.description,
    })
}

pub(super) fn outbox_row(model: entity::outbox::Model) -> Result<OutboxRow, ReadError> {
    let row = Row::new("outbox", &model.id);
    Ok(OutboxRow {
        message: row.json(&model.body)?,
        created_at: row.at(model.created_at)?,
        failures: row.number(model.failures)?,
        next_attempt_at: row.at_option(model.next_attempt_at)?,
        last_error: model.last_error,
        delivered_at: row.at_option(model.delivered_at)?,
    })
}

pub(super) fn import_error_model(row: &ImportError) -> entity::import_error::Model {
    entity::import_error::Model {
        path: row.path.clone(),
        dag_id: row.dag_id.as_ref().map(DagId::to_string),
        problems: json(&row.problems),
        source: row.source.clone(),
        read_at: micros(row.at),
    }
}

pub(super) fn import_error_row(model: entity::import_error::Model) -> Result<ImportError, ReadError> {
    let row = Row::new("import_error", &model.path);
    Ok(ImportError {
        dag_id: model.dag_id.map(|id| row.name(&id)).transpose()?,
        problems: row.json(&model.problems)?,
        at: row.at(model.read_at)?,
        path: model.path,
        source: model.source,
    })
}

pub(super) fn audit_row(model: entity::audit::Model) -> Result<AuditRow, ReadError> {
    let row = Row::new("audit", model.seq);
    Ok(AuditRow {
        seq: model.seq,
        entry: AuditEntry {
            at: row.at(model.at)?,
            actor: model.actor,
            action: model.action,
            subject: model.subject,
            detail: row.json(&model.detail)?,
        },
        hash: model.hash,
    })
}

pub(super) fn api_token_model(row: &ApiToken) -> entity::api_token::Model {
    entity::api_token::Model {
        id: row.id.clone(),
        name: row.name.clone(),
        role: row.role.as_str().to_owned(),
        hash: row.hash.clone(),
        created_by: row.created_by.clone(),
        created_at: micros(row.created_at),
        expires_at: micros_option(row.expires_at),
        revoked_at: micros_option(row.revoked_at),
    }
}

pub(super) fn api_token_row(model: entity::api_token::Model) -> Result<ApiToken, ReadError> {
    let row = Row::new("api_token", &model.id);
    Ok(ApiToken {
        role: row.word(&model.role, Role::parse)?,
        created_at: row.at(model.created_at)?,
        expires_at: row.at_option(model.expires_at)?,
        revoked_at: row.at_option(model.revoked_at)?,
        id: model.id,
        name: model.name,
        hash: model.hash,
        created_by: model.created_by,
    })
}

pub(super) fn session_model(row: &Session) -> entity::session::Model {
    entity::session::Model {
        hash: row.hash.clone(),
        actor: row.actor.clone(),
        role: row.role.as_str().to_owned(),
        created_at: micros(row.created_at),
        expires_at: micros(row.expires_at),
    }
}

pub(super) fn session_row(model: entity::session::Model) -> Result<Session, ReadError> {
    let row = Row::new("session", "of a browser");
    Ok(Session {
        role: row.word(&model.role, Role::parse)?,
        created_at: row.at(model.created_at)?,
        expires_at: row.at(model.expires_at)?,
        hash: model.hash,
        actor: model.actor,
    })
}

pub(super) fn login_link_model(row: &LoginLink) -> entity::login_link::Model {
    entity::login_link::Model {
        hash: row.hash.clone(),
        actor: row.actor.clone(),
        role: row.role.as_str().to_owned(),
        created_at: micros(row.created_at),
        expires_at: micros(row.expires_at),
        used_at: micros_option(row.used_at),
    }
}

pub(super) fn login_link_row(model: entity::login_link::Model) -> Result<LoginLink, ReadError> {
    let row = Row::new("login_link", "of a person");
    Ok(LoginLink {
        role: row.word(&model.role, Role::parse)?,
        created_at: row.at(model.created_at)?,
        expires_at: row.at(model.expires_at)?,
        used_at: row.at_option(model.used_at)?,
        hash: model.hash,
        actor: model.actor,
    })
}

pub(super) fn worker_key_model(row: &WorkerKey) -> entity::worker_key::Model {
    entity::worker_key::Model {
        hash: row.hash.clone(),
        worker: row.worker.to_string(),
        created_at: micros(row.created_at),
        revoked_at: micros_option(row.revoked_at),
    }
}

pub(super) fn worker_key_row(model: entity::worker_key::Model) -> Result<WorkerKey, ReadError> {
    let row = Row::new("worker_key", &model.worker);
    Ok(WorkerKey {
        worker: row.name(&model.worker)?,
        created_at: row.at(model.created_at)?,
        revoked_at: row.at_option(model.revoked_at)?,
        hash: model.hash,
    })
}

pub(super) fn join_token_model(row: &JoinToken) -> entity::join_token::Model {
    entity::join_token::Model {
        id: row.id.clone(),
        hash: row.hash.clone(),
        created_by: row.created_by.clone(),
        created_at: micros(row.created_at),
        expires_at: micros_option(row.expires_at),
        revoked_at: micros_option(row.revoked_at),
    }
}

pub(super) fn join_token_row(model: entity::join_token::Model) -> Result<JoinToken, ReadError> {
    let row = Row::new("join_token", &model.id);
    Ok(JoinToken {
        created_at: row.at(model.created_at)?,
        expires_at: row.at_option(model.expires_at)?,
        revoked_at: row.at_option(model.revoked_at)?,
        id: model.id,
        hash: model.hash,
        created_by: model.created_by,
    })
}

pub(super) fn idempotency_model(row: &IdempotencyRow) -> entity::idempotency_key::Model {
    entity::idempotency_key::Model {
        key_hash: row.key_hash.clone(),
        request_hash: row.request_hash.clone(),
        run_key: row.run.0,
        created_at: micros(row.created_at),
    }
}

pub(super) fn idempotency_row(model: entity::idempotency_key::Model) -> Result<IdempotencyRow, ReadError> {
    let row = Row::new("idempotency_key", &model.key_hash);
    Ok(IdempotencyRow {
        run: RunKey(model.run_key),
        created_at: row.at(model.created_at)?,
        key_hash: model.key_hash,
        request_hash: model.request_hash,
    })
}
