//! Reads that look back.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, Statement,
    Value,
};
use tidemill_engine::{
    ids::{DagId, RunKey, TaskId, TaskInstanceKey},
    rows::{RunRow, TaskRow, TryRow},
    state::{RunState, RunType},
};

use super::{SqlReader, entity, reader_lists, rows};
use crate::{
    error::ReadError,
    history::{COUNT_SPAN_MICROS, HistoryReader, RunCount, TaskPoint},
    reader::{PAGE_LIMIT, PageRequest, RunBar, RunQuery, StoredReport},
    views,
};

#[derive(FromQueryResult)]
struct CountRow {
    state: String,
    span: i64,
    runs: i64,
}

#[async_trait]
impl HistoryReader for SqlReader {
    async fn run_on(&self, dag_id: &DagId, date: Option<DateTime<Utc>>) -> Result<Option<RunRow>, ReadError> {
        use entity::dag_run::{Column, Entity};
        let of_dag = Entity::find().filter(Column::DagId.eq(dag_id.as_str()));
        let Some(date) = date else {
            let newest = of_dag.order_by_desc(Column::LogicalDate).order_by_desc(Column::RunKey);
            return newest.one(&self.db).await?.map(rows::run_row).transpose();
        };
        let on_date = of_dag.filter(Column::LogicalDate.eq(rows::micros(date)));
        let dated = [RunType::Scheduled, RunType::Backfill];
        let model = on_date
            .clone()
            .filter(Column::RunType.is_in(dated.map(RunType::as_str)))
            // `scheduled` comes after `backfill`.
            .order_by_desc(Column::RunType)
            .one(&self.db)
            .await?;
        let model = match model {
            Some(model) => Some(model),
            None => on_date.order_by_desc(Column::RunKey).one(&self.db).await?,
        };
        model.map(rows::run_row).transpose()
    }

    async fn triggered_runs(&self, origin: &TaskInstanceKey, limit: u32) -> Result<Vec<RunRow>, ReadError> {
        use entity::dag_run::{Column, Entity};
        let models = Entity::find()
            .filter(Column::OriginRun.eq(origin.run.0))
            .filter(Column::OriginTask.eq(origin.task.as_str()))
            .filter(Column::OriginMapIndex.eq(i64::from(origin.map_index)))
            .order_by_desc(Column::RunKey)
            .limit(u64::from(limit.clamp(1, PAGE_LIMIT)))
            .all(&self.db)
            .await?;
        models.into_iter().map(rows::run_row).collect()
    }

    async fn run_counts(
        &self,
        dag_id: &DagId,
        since: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> Result<Vec<RunCount>, ReadError> {
        // Every state is named, because the index that begins with the state answers without the rows.
        let states: Vec<String> = RunState::ALL.iter().map(|state| format!("'{}'", state.as_str())).collect();
        let sql = format!(
            "SELECT state, logical_date / {COUNT_SPAN_MICROS} AS span, COUNT(*) AS runs FROM dag_run
             WHERE dag_id = $1 AND state IN ({}) AND logical_date >= $2 AND logical_date < $3
             GROUP BY state, logical_date / {COUNT_SPAN_MICROS}",
            states.join(", ")
        );
        let values = [
            Value::String(Some(dag_id.to_string())),
            rows::micros(since).into(),
            rows::micros(before).into(),
        ];
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        let row = rows::Row::new("dag_run", dag_id);
        let mut counts = Vec::new();
        for found in CountRow::find_by_statement(statement).all(&self.db).await? {
            counts.push(RunCount {
                from: row.at(found.span.saturating_mul(COUNT_SPAN_MICROS))?,
                state: row.word(&found.state, RunState::parse)?,
                count: row.number(found.runs)?,
            });
        }
        counts.sort_unstable();
        Ok(counts)
    }

    async fn task_history(
        &self,
        dag_id: &DagId,
        task: &TaskId,
        limit: u32,
    ) -> Result<Vec<TaskPoint>, ReadError> {
        use entity::task_instance::{Column, Entity};
        let page = PageRequest { cursor: None, limit: limit.clamp(1, PAGE_LIMIT) };
        let query = RunQuery { page, dag_id: Some(dag_id.clone()), ..RunQuery::default() };
        let runs = reader_lists::runs(self, &query).await?.items;
        let models = Entity::find()
            .filter(Column::RunKey.is_in(runs.iter().map(|run| run.key.0)))
            .filter(Column::TaskId.eq(task.as_str()))
            .filter(Column::MapIndex.eq(-1_i64))
            .all(&self.db)
            .await?;
        let found = models.into_iter().map(rows::task_row).collect::<Result<Vec<TaskRow>, _>>()?;
        Ok(views::task_points(runs.iter().map(RunBar::from), found))
    }

    async fn run_tries(&self, run: RunKey, limit: u32) -> Result<Vec<TryRow>, ReadError> {
        use entity::task_try::{Column, Entity};
        let models = Entity::find()
            .filter(Column::RunKey.eq(run.0))
            .order_by_asc(Column::TaskId)
            .order_by_asc(Column::MapIndex)
            .order_by_asc(Column::TryNumber)
            .order_by_asc(Column::Epoch)
            .limit(u64::from(limit))
            .all(&self.db)
            .await?;
        models.into_iter().map(rows::try_row).collect()
    }

    async fn run_reports(&self, run: RunKey, limit: u32) -> Result<Vec<StoredReport>, ReadError> {
        use entity::task_report::{Column, Entity};
        let models = Entity::find()
            .filter(Column::RunKey.eq(run.0))
            .order_by_asc(Column::TaskId)
            .order_by_asc(Column::MapIndex)
            .order_by_desc(Column::TryNumber)
            .order_by_desc(Column::Epoch)
            .limit(u64::from(limit))
            .all(&self.db)
            .await?;
        let mut reports = models.into_iter().map(rows::report_row).collect::<Result<Vec<_>, _>>()?;
        reports.dedup_by(|later, kept| later.attempt.instance == kept.attempt.instance);
        Ok(reports)
    }
}

/// Says for which of the dates there is a scheduled run.
pub(super) async fn taken_dates(
    reader: &SqlReader,
    dates: &[(DagId, DateTime<Utc>)],
) -> Result<Vec<(DagId, DateTime<Utc>)>, ReadError> {
    use entity::dag_run::{Column, Entity};
    let mut taken = Vec::new();
    for chunk in dates.chunks(200) {
        let any = chunk.iter().fold(Condition::any(), |any, (dag_id, date)| {
            any.add(
                Condition::all()
                    .add(Column::DagId.eq(dag_id.as_str()))
                    .add(Column::RunType.eq("scheduled"))
                    .add(Column::LogicalDate.eq(rows::micros(*date))),
            )
        });
        let found = Entity::find()
            .select_only()
            .columns([Column::DagId, Column::LogicalDate])
            .filter(any)
            .into_tuple::<(String, i64)>()
            .all(&reader.db)
            .await?;
        let is_found = |(dag_id, date): &&(DagId, DateTime<Utc>)| {
            found.iter().any(|(id, at)| id == dag_id.as_str() && *at == rows::micros(*date))
        };
        taken.extend(chunk.iter().filter(is_found).cloned());
    }
    Ok(taken)
}
