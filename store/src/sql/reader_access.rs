//! Counts, pools, the audit log and the database itself.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Statement, Value,
};
use tidemill_engine::{
    ids::{DagId, PoolName, TaskId},
    rows::VersionHash,
    state::{RunState, TaskState},
};

use super::{SqlReader, entity, load, now_sql, rows};
use crate::{
    codec::{AUDIT_ROOT, audit_hash, cursor, page_size, read_cursor},
    error::ReadError,
    reader::{AuditCheck, AuditQuery, AuditRow, HomeCounts, LeaderInfo, Page, PoolUse, StoreHealth},
    views,
};

impl SqlReader {
    /// Runs a query whose rows are a few numbers or words.
    async fn tuples<T: sea_orm::TryGetableMany>(
        &self,
        sql: &str,
        values: Vec<Value>,
        columns: &[&str],
    ) -> Result<Vec<T>, ReadError> {
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        let found = self.db.query_all_raw(statement).await?;
        let read = |row: &sea_orm::QueryResult| row.try_get_many("", &to_strings(columns));
        Ok(found.iter().map(read).collect::<Result<_, _>>()?)
    }
}

fn to_strings(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

pub(super) async fn home(reader: &SqlReader, now: DateTime<Utc>) -> Result<HomeCounts, ReadError> {
    let since = now - views::DAY;
    let mut counts = HomeCounts { hours: views::empty_hours(now), ..HomeCounts::default() };
    let row = rows::Row::new("home", "counts");
    let dags = "SELECT is_paused, is_missing, COUNT(*) AS n FROM dag GROUP BY is_paused, is_missing";
    let dags: Vec<(bool, bool, i64)> = reader.tuples(dags, vec![], &["is_paused", "is_missing", "n"]).await?;
    for (is_paused, is_missing, n) in dags {
        let n = row.number(n)?;
        counts.dags_paused += if is_paused { n } else { 0 };
        counts.dags_missing += if is_missing { n } else { 0 };
        counts.dags_active += if is_paused || is_missing { 0 } else { n };
    }
    let active = "SELECT state, COUNT(*) AS n FROM dag_run WHERE state IN ('queued', 'running', 'paused')
        GROUP BY state";
    for (state, n) in reader.tuples::<(String, i64)>(active, vec![], &["state", "n"]).await? {
        match row.word(&state, RunState::parse)? {
            RunState::Queued => counts.runs_queued = row.number(n)?,
            RunState::Running => counts.runs_running = row.number(n)?,
            _ => counts.runs_paused = row.number(n)?,
        }
    }
    let first = counts.hours.first().map_or(since, |hour| hour.hour).min(since);
    let ended = "SELECT state, finished_at FROM dag_run WHERE finished_at IS NOT NULL AND finished_at >= $1";
    let values = vec![rows::micros(first).into()];
    for (state, at) in reader.tuples::<(String, i64)>(ended, values, &["state", "finished_at"]).await? {
        views::count_run(&mut counts, row.word(&state, RunState::parse)?, Some(row.at(at)?), since);
    }
    let open: Vec<String> =
        TaskState::ALL.iter().filter(|s| !s.is_terminal()).map(|s| format!("'{s}'")).collect();
    let tasks = format!(
        "SELECT state, COUNT(*) AS n FROM task_instance WHERE state IN ({}) GROUP BY state",
        open.join(", ")
    );
    for (state, n) in reader.tuples::<(String, i64)>(&tasks, vec![], &["state", "n"]).await? {
        counts.tasks.insert(row.word(&state, TaskState::parse)?, row.number(n)?);
    }
    let failed = "SELECT COUNT(*) AS n FROM task_instance WHERE state = 'failed' AND finished_at >= $1";
    let failed = reader.tuples::<(i64,)>(failed, vec![rows::micros(since).into()], &["n"]).await?;
    counts.tasks_failed = failed.first().map_or(Ok(0), |(n,)| row.number(*n))?;
    counts.import_errors = entity::import_error::Entity::find().count(&reader.db).await?;
    let pending = entity::outbox::Entity::find().filter(entity::outbox::Column::NextAttemptAt.is_not_null());
    counts.outbox_pending = pending.count(&reader.db).await?;
    Ok(counts)
}

pub(super) async fn pools(reader: &SqlReader) -> Result<Vec<PoolUse>, ReadError> {
    let pools = entity::pool::Entity::find().order_by_asc(entity::pool::Column::Name).all(&reader.db).await?;
    let sql = "SELECT r.dag_id, r.dag_version, t.task_id FROM task_instance t
        JOIN dag_run r ON r.run_key = t.run_key WHERE t.state IN ('queued', 'running')";
    let columns = ["dag_id", "dag_version", "task_id"];
    let leased: Vec<(String, String, String)> = reader.tuples(sql, vec![], &columns).await?;
    let mut used: BTreeMap<PoolName, (u32, u32)> = BTreeMap::new();
    for (dag_id, version, task) in leased {
        let row = rows::Row::new("dag_run", &dag_id);
        let (dag_id, task): (DagId, TaskId) = (row.name(&dag_id)?, row.name(&task)?);
        let definition = load::definition(reader, &dag_id, &VersionHash(version.into())).await?;
        views::count_slots(&mut used, definition.as_deref(), &task);
    }
    pools.into_iter().map(|model| Ok(views::pool_use(&rows::pool_row(model)?, &used))).collect()
}

pub(super) async fn audit(reader: &SqlReader, query: &AuditQuery) -> Result<Page<AuditRow>, ReadError> {
    use entity::audit::{Column, Entity};
    let size = page_size(&query.page);
    let mut select = Entity::find();
    if let Some(before) = read_cursor::<i64>(&query.page)? {
        select = select.filter(Column::Seq.lt(before));
    }
    if let Some(prefix) = &query.subject_prefix {
        // A range instead of LIKE: no character is special and both databases compare bytes.
        select = select.filter(Column::Subject.gte(prefix.as_str()));
        select = select.filter(Column::Subject.lt(format!("{prefix}\u{10ffff}")));
    }
    if let Some(subject) = &query.subject {
        let inside = Condition::all()
            .add(Column::Subject.gte(format!("{subject}/")))
            .add(Column::Subject.lt(format!("{subject}/\u{10ffff}")));
        select = select.filter(Condition::any().add(Column::Subject.eq(subject.as_str())).add(inside));
    }
    if let Some(actor) = &query.actor {
        select = select.filter(Column::Actor.eq(actor.as_str()));
    }
    let models = select.order_by_desc(Column::Seq).limit(size as u64 + 1).all(&reader.db).await?;
    let found = models.into_iter().map(rows::audit_row).collect::<Result<Vec<_>, _>>()?;
    Ok(cut_page(found, size))
}

fn cut_page(found: Vec<AuditRow>, size: usize) -> Page<AuditRow> {
    views::cut_page(found, size, |row| cursor(&row.seq))
}

pub(super) async fn check_audit(reader: &SqlReader) -> Result<AuditCheck, ReadError> {
    use entity::audit::{Column, Entity};
    let mut check = AuditCheck { entries: 0, broken_at: None };
    let mut previous = AUDIT_ROOT.to_owned();
    let mut seq = 0;
    loop {
        let select = Entity::find().filter(Column::Seq.gt(seq)).order_by_asc(Column::Seq).limit(1000);
        let models = select.all(&reader.db).await?;
        if models.is_empty() {
            return Ok(check);
        }
        for model in models {
            seq += 1;
            let (detail, found_seq) = (model.detail.clone(), model.seq);
            let row = rows::audit_row(model)?;
            let hash = audit_hash(&previous, &row.entry, &detail);
            if found_seq != seq || row.hash != hash {
                check.broken_at = Some(seq);
                return Ok(check);
            }
            check.entries += 1;
            previous = hash;
        }
    }
}

pub(super) async fn leader(reader: &SqlReader) -> Result<Option<LeaderInfo>, ReadError> {
    let sql = format!(
        "SELECT holder, url, term, expires_at - {} AS time_left FROM leader WHERE id = 1",
        now_sql(reader.backend())
    );
    let columns = ["holder", "url", "term", "time_left"];
    let found: Vec<(String, String, i64, i64)> = reader.tuples(&sql, vec![], &columns).await?;
    let has_expiry = reader.backend() == DbBackend::Postgres;
    let info = found.into_iter().next().filter(|(_, _, term, _)| *term > 0);
    Ok(info.map(|(holder, url, term, left)| LeaderInfo {
        is_valid: !holder.is_empty() && (left > 0 || !has_expiry),
        holder,
        url,
        term,
    }))
}

pub(super) async fn health(reader: &SqlReader) -> Result<StoreHealth, ReadError> {
    let (backend, size) = match reader.backend() {
        DbBackend::Postgres => ("postgresql", "SELECT pg_database_size(current_database()) AS n"),
        _ => ("sqlite", "SELECT page_count * page_size AS n FROM pragma_page_count(), pragma_page_size()"),
    };
    let size = reader.tuples::<(i64,)>(size, vec![], &["n"]).await?;
    let version = "SELECT MAX(version) AS version FROM seaql_migrations";
    let version = reader.tuples::<(Option<String>,)>(version, vec![], &["version"]).await?;
    let wal = reader.sqlite_path().map(|path| {
        let mut name = path.into_os_string();
        name.push("-wal");
        // No log file is an empty log.
        std::fs::metadata(name).map_or(0, |metadata| metadata.len())
    });
    Ok(StoreHealth {
        backend: backend.to_owned(),
        schema_version: version.into_iter().next().and_then(|(version,)| version).unwrap_or_default(),
        size_bytes: size.first().map_or(0, |(n,)| u64::try_from(*n).unwrap_or_default()),
        wal_bytes: wal.unwrap_or_default(),
    })
}
