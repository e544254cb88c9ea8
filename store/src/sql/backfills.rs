//! Backfills in the databases.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect, Statement, Value,
};
use tidemill_engine::{
    backfill::{BackfillDate, BackfillRow, BackfillSpec, BackfillState, DateOutcome, DatedRun, Reprocess},
    ids::{BackfillKey, DagId, RunKey},
    state::{RunState, RunType},
};

use super::{
    SqlReader,
    commit::Stop,
    commit_rows::{int, int_option, text, text_option},
    entity,
    multi::{Rows, insert},
    rows::{Row, json, micros, micros_option, run_row},
};
use crate::{
    backfills::{
        BackfillDateItem, BackfillIdempotencyRow, BackfillItem, BackfillQuery, BackfillReader, RunCounts,
    },
    batch::Batch,
    codec::{cursor, page_size, read_cursor},
    error::{ReadError, RowRef},
    reader::{Page, PageRequest, RunBar},
    views::cut_page,
};

const COLUMNS: &str = "backfill_key, dag_id, from_date, to_date, reprocess, max_active_runs, run_backwards, \
    conf, state, reason, cursor_date, date_count, created, reprocessed, passed_over, left_alone, failed_runs, \
    cancel_requested_at, created_by, created_at, finished_at";

fn unsigned(value: u64) -> Value {
    int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn values(row: &BackfillRow) -> [Value; 21] {
    [
        int(row.key.0),
        text(&row.dag_id),
        int(micros(row.spec.from)),
        int(micros(row.spec.to)),
        text(row.spec.reprocess),
        int(row.spec.max_active_runs),
        Value::Bool(Some(row.spec.run_backwards)),
        text(json(&row.spec.conf)),
        text(row.state),
        text_option(row.reason.as_ref()),
        int_option(micros_option(row.cursor)),
        unsigned(row.date_count),
        unsigned(row.created),
        unsigned(row.reprocessed),
        unsigned(row.passed_over),
        unsigned(row.left_alone),
        int(row.failed_runs),
        int_option(micros_option(row.cancel_requested_at)),
        text_option(row.created_by.as_ref()),
        int(micros(row.created_at)),
        int_option(micros_option(row.finished_at)),
    ]
}

fn read(model: entity::backfill::Model) -> Result<BackfillRow, ReadError> {
    let row = Row::new("backfill", model.backfill_key);
    let at = |micros: Option<i64>| micros.map(|micros| row.at(micros)).transpose();
    Ok(BackfillRow {
        key: BackfillKey(model.backfill_key),
        dag_id: row.name(&model.dag_id)?,
        spec: BackfillSpec {
            from: row.at(model.from_date)?,
            to: row.at(model.to_date)?,
            reprocess: row.word(&model.reprocess, Reprocess::parse)?,
            max_active_runs: row.number(model.max_active_runs)?,
            run_backwards: model.run_backwards,
            conf: std::sync::Arc::new(row.json(&model.conf)?),
        },
        state: row.word(&model.state, BackfillState::parse)?,
        reason: model.reason,
        cursor: at(model.cursor_date)?,
        date_count: row.number(model.date_count)?,
        created: row.number(model.created)?,
        reprocessed: row.number(model.reprocessed)?,
        passed_over: row.number(model.passed_over)?,
        left_alone: row.number(model.left_alone)?,
        failed_runs: row.number(model.failed_runs)?,
        cancel_requested_at: at(model.cancel_requested_at)?,
        created_by: model.created_by,
        created_at: row.at(model.created_at)?,
        finished_at: at(model.finished_at)?,
    })
}

/// Writes backfills, what became of their dates, and who asked for them. Runs and DAGs are written before.
pub(super) async fn write(db: &DatabaseTransaction, batch: &Batch) -> Result<(), Stop> {
    let set: Vec<String> = COLUMNS
        .split(", ")
        .filter(|column| *column != "backfill_key")
        .map(|column| format!("{column} = excluded.{column}"))
        .collect();
    for row in &batch.backfills {
        let mut rows = Rows::new(21);
        rows.push(values(row));
        // One that has ended changes no more.
        let touched = rows
            .execute(db, |values| {
                format!(
                    "INSERT INTO backfill ({COLUMNS}) VALUES {values} ON CONFLICT (backfill_key) DO UPDATE SET {}
                     WHERE backfill.finished_at IS NULL",
                    set.join(", ")
                )
            })
            .await?;
        if touched != 1 {
            return Err(Stop::Guard(RowRef::Other { table: "backfill", key: row.key.to_string() }));
        }
    }
    let dates = batch.backfill_dates.iter().map(|date| entity::backfill_date::Model {
        backfill_key: date.backfill.0,
        logical_date: micros(date.logical_date),
        outcome: date.outcome.to_string(),
        run_key: date.run.map(|run| run.0),
        reason: date.reason.clone(),
    });
    insert::<entity::backfill_date::Entity>(db, dates.collect()).await?;
    for row in &batch.backfill_idempotency {
        let mut rows = Rows::new(4);
        rows.push([
            text(&row.key_hash),
            text(&row.request_hash),
            int(row.backfill.0),
            int(micros(row.created_at)),
        ]);
        let touched = rows
            .execute(db, |values| {
                format!(
                    "INSERT INTO backfill_idempotency_key (key_hash, request_hash, backfill_key, created_at)
                     VALUES {values} ON CONFLICT DO NOTHING"
                )
            })
            .await?;
        if touched != 1 {
            let key = row.key_hash.clone();
            return Err(Stop::Guard(RowRef::Other { table: "backfill_idempotency_key", key }));
        }
    }
    Ok(())
}

/// Deletes the backfills of a DAG that ended before an instant and that no run is of any more.
pub(super) async fn prune(db: &DatabaseTransaction, dag_id: &str, before: i64) -> Result<(), DbErr> {
    let sql = "DELETE FROM backfill WHERE dag_id = $1 AND finished_at < $2
        AND NOT EXISTS (SELECT 1 FROM dag_run AS r WHERE r.backfill_key = backfill.backfill_key)";
    let values = [text(dag_id), int(before)];
    db.execute_raw(Statement::from_sql_and_values(db.get_database_backend(), sql, values)).await?;
    Ok(())
}

/// Deletes old idempotency keys.
pub(super) async fn expire(db: &DatabaseTransaction, before: i64) -> Result<(), DbErr> {
    use entity::backfill_idempotency_key::{Column, Entity};
    Entity::delete_many().filter(Column::CreatedAt.lt(before)).exec(db).await?;
    Ok(())
}

/// Loads the backfills that have not ended; what cannot be read is told.
pub(super) async fn load_active(
    reader: &SqlReader,
) -> Result<Vec<Result<BackfillRow, (DagId, String)>>, ReadError> {
    use entity::backfill::{Column, Entity};
    let found = Entity::find().filter(Column::FinishedAt.is_null()).order_by_asc(Column::BackfillKey);
    let mut rows = Vec::new();
    for model in found.all(&reader.db).await? {
        let dag_id = model.dag_id.clone();
        match (read(model), dag_id.parse()) {
            (Ok(row), _) => rows.push(Ok(row)),
            (Err(error), Ok(dag_id)) => rows.push(Err((dag_id, error.to_string()))),
            (Err(error), Err(_)) => return Err(error),
        }
    }
    Ok(rows)
}

#[derive(FromQueryResult)]
struct CountRow {
    backfill_key: i64,
    state: String,
    run_count: i64,
    timed: i64,
    total: Option<i64>,
}

/// Counts the runs of backfills, by the index alone.
async fn counts(reader: &SqlReader, keys: &[i64]) -> Result<HashMap<i64, RunCounts>, ReadError> {
    let mut found: HashMap<i64, RunCounts> = HashMap::new();
    if keys.is_empty() {
        return Ok(found);
    }
    let marks: Vec<String> = (1..=keys.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT backfill_key, state, COUNT(*) AS run_count, COUNT(finished_at - started_at) AS timed,
            CAST(SUM(finished_at - started_at) AS BIGINT) AS total
         FROM dag_run WHERE backfill_key IN ({}) GROUP BY backfill_key, state",
        marks.join(", ")
    );
    let values: Vec<Value> = keys.iter().map(|key| int(*key)).collect();
    let statement = Statement::from_sql_and_values(reader.backend(), sql, values);
    for line in CountRow::find_by_statement(statement).all(&reader.db).await? {
        let row = Row::new("backfill", line.backfill_key);
        let counts = found.entry(line.backfill_key).or_default();
        counts.add(
            row.word(&line.state, RunState::parse)?,
            row.number(line.run_count)?,
            (row.number(line.timed)?, line.total.unwrap_or(0)),
        );
    }
    Ok(found)
}

async fn items(
    reader: &SqlReader,
    models: Vec<entity::backfill::Model>,
) -> Result<Vec<BackfillItem>, ReadError> {
    let keys: Vec<i64> = models.iter().map(|model| model.backfill_key).collect();
    let mut counts = counts(reader, &keys).await?;
    let items = models.into_iter().map(|model| {
        let runs = counts.remove(&model.backfill_key).unwrap_or_default();
        Ok(BackfillItem { row: read(model)?, runs })
    });
    items.collect()
}

#[async_trait]
impl BackfillReader for SqlReader {
    async fn dated_runs(&self, dag_id: &DagId, dates: &[DateTime<Utc>]) -> Result<Vec<DatedRun>, ReadError> {
        use entity::dag_run::{Column, Entity};
        let mut found = Vec::new();
        for chunk in dates.chunks(200) {
            let rows = Entity::find()
                .select_only()
                .columns([Column::RunKey, Column::RunId, Column::RunType, Column::State, Column::LogicalDate])
                .filter(Column::DagId.eq(dag_id.as_str()))
                .filter(Column::RunType.is_in([RunType::Scheduled.as_str(), RunType::Backfill.as_str()]))
                .filter(Column::LogicalDate.is_in(chunk.iter().map(|date| micros(*date))))
                .order_by_asc(Column::RunKey)
                .into_tuple::<(i64, String, String, String, i64)>()
                .all(&self.db)
                .await?;
            for (key, run_id, run_type, state, date) in rows {
                let row = Row::new("dag_run", key);
                found.push(DatedRun {
                    run: RunKey(key),
                    run_id: row.name(&run_id)?,
                    run_type: row.word(&run_type, RunType::parse)?,
                    state: row.word(&state, RunState::parse)?,
                    logical_date: row.at(date)?,
                    unreadable: None,
                });
            }
        }
        Ok(found)
    }

    async fn backfills(&self, query: &BackfillQuery) -> Result<Page<BackfillItem>, ReadError> {
        use entity::backfill::{Column, Entity};
        let size = page_size(&query.page);
        let mut select = Entity::find().order_by_desc(Column::BackfillKey).limit(size as u64 + 1);
        if let Some(after) = read_cursor::<i64>(&query.page)? {
            select = select.filter(Column::BackfillKey.lt(after));
        }
        if let Some(dag_id) = &query.dag_id {
            select = select.filter(Column::DagId.eq(dag_id.as_str()));
        }
        if !query.states.is_empty() {
            select = select.filter(Column::State.is_in(query.states.iter().map(|state| state.as_str())));
        }
        let page = cut_page(select.all(&self.db).await?, size, |model| cursor(&model.backfill_key));
        Ok(Page { items: items(self, page.items).await?, next_cursor: page.next_cursor })
    }

    async fn backfill(&self, key: BackfillKey) -> Result<Option<BackfillItem>, ReadError> {
        let found = entity::backfill::Entity::find_by_id(key.0).one(&self.db).await?;
        Ok(items(self, found.into_iter().collect()).await?.pop())
    }

    async fn backfill_dates(
        &self,
        key: BackfillKey,
        page: &PageRequest,
    ) -> Result<Page<BackfillDateItem>, ReadError> {
        use entity::{
            backfill_date::{Column, Entity},
            dag_run,
        };
        let size = page_size(page);
        let mut select = Entity::find()
            .filter(Column::BackfillKey.eq(key.0))
            .order_by_asc(Column::LogicalDate)
            .limit(size as u64 + 1);
        if let Some(after) = read_cursor::<i64>(page)? {
            select = select.filter(Column::LogicalDate.gt(after));
        }
        let page = cut_page(select.all(&self.db).await?, size, |model| cursor(&model.logical_date));
        let keys: Vec<i64> = page.items.iter().filter_map(|model| model.run_key).collect();
        let mut runs = HashMap::new();
        for model in dag_run::Entity::find().filter(dag_run::Column::RunKey.is_in(keys)).all(&self.db).await?
        {
            let row = run_row(model)?;
            runs.insert(row.key.0, RunBar::from(&row));
        }
        let items = page.items.into_iter().map(|model| {
            let row =
                Row::new("backfill_date", format_args!("{}/{}", model.backfill_key, model.logical_date));
            Ok(BackfillDateItem {
                run: model.run_key.and_then(|run| runs.remove(&run)),
                date: BackfillDate {
                    backfill: key,
                    logical_date: row.at(model.logical_date)?,
                    outcome: row.word(&model.outcome, DateOutcome::parse)?,
                    run: model.run_key.map(RunKey),
                    reason: model.reason,
                },
            })
        });
        Ok(Page { items: items.collect::<Result<_, ReadError>>()?, next_cursor: page.next_cursor })
    }

    async fn backfill_idempotency(
        &self,
        key_hash: &str,
    ) -> Result<Option<BackfillIdempotencyRow>, ReadError> {
        use entity::backfill_idempotency_key::Entity;
        let Some(model) = Entity::find_by_id(key_hash.to_owned()).one(&self.db).await? else {
            return Ok(None);
        };
        let row = Row::new("backfill_idempotency_key", key_hash);
        Ok(Some(BackfillIdempotencyRow {
            created_at: row.at(model.created_at)?,
            key_hash: model.key_hash,
            request_hash: model.request_hash,
            backfill: BackfillKey(model.backfill_key),
        }))
    }
}
