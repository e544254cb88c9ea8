//! Lists over many rows: each page costs its own rows, not the rows before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect, Select, Statement, Value,
};
use tidemill_engine::{
    ids::{DagId, RunId, RunKey, TaskId},
    rows::{RunRow, VersionHash},
    state::{RunState, TaskState},
};

use super::{SqlReader, entity, rows};
use crate::{
    codec::{cursor, page_size, read_cursor},
    error::ReadError,
    reader::{
        DagFilter, DagQuery, DagSummary, Grid, GridCell, GridRun, Page, PageRequest, ReportPoint, RunBar,
        RunQuery, TaskListItem, TaskQuery,
    },
    views::cut_page,
};

fn text_value(text: impl Into<String>) -> Value {
    Value::String(Some(text.into()))
}

/// Makes a pattern that finds `text` anywhere, whatever characters it has.
pub(super) fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[derive(FromQueryResult)]
struct DagListRow {
    dag_id: String,
    version: String,
    path: String,
    is_paused: bool,
    is_missing: bool,
    cursor_at: i64,
    created_at: i64,
    failed_runs: i64,
    pause_reason: Option<String>,
    description: Option<String>,
    owner: Option<String>,
    tags: String,
    schedule: String,
    timezone: String,
    task_count: i64,
}

/// What a DAG's last run that ended must have been.
fn last_end(values: &mut Vec<Value>, state: RunState) -> String {
    values.push(text_value(state.as_str()));
    format!(
        "(SELECT r.state FROM dag_run r WHERE r.dag_id = d.dag_id AND r.finished_at IS NOT NULL
          ORDER BY r.logical_date DESC, r.run_key DESC LIMIT 1) = ${}",
        values.len()
    )
}

fn dag_conditions(
    backend: DbBackend,
    query: &DagQuery,
    after: Option<DagId>,
    values: &mut Vec<Value>,
) -> String {
    let mut conditions = vec!["1 = 1".to_owned()];
    if let Some(after) = after {
        values.push(text_value(after.as_str()));
        conditions.push(format!("d.dag_id > ${}", values.len()));
    }
    if let Some(text) = &query.text {
        // Only ASCII letters are folded: that is what every database does alike, whatever its locale.
        values.push(text_value(pattern(&text.to_ascii_lowercase())));
        let n = values.len();
        let collation = if backend == DbBackend::Postgres { " COLLATE \"C\"" } else { "" };
        let has = |column: &str| format!("LOWER({column}{collation}) LIKE ${n} ESCAPE '\\'");
        conditions.push(format!("({} OR {})", has("d.dag_id"), has("v.description")));
    }
    if let Some(tag) = &query.tag {
        // Tags are stored as a JSON list, so a whole tag is found with its quotes. Not by LIKE, which does not look at
        // case on one of the databases.
        values.push(text_value(rows::json(tag)));
        let position = if backend == DbBackend::Postgres { "strpos" } else { "instr" };
        conditions.push(format!("{position}(v.tags, ${}) > 0", values.len()));
    }
    conditions.extend(query.state.map(|state| {
        match state {
            DagFilter::Active => "NOT d.is_paused AND NOT d.is_missing".to_owned(),
            DagFilter::Paused => "d.is_paused".to_owned(),
            DagFilter::AutoPaused => "d.is_paused AND d.pause_reason IS NOT NULL".to_owned(),
            DagFilter::Missing => "d.is_missing".to_owned(),
            DagFilter::Running => "EXISTS (SELECT 1 FROM dag_run r WHERE r.dag_id = d.dag_id
            AND r.state IN ('queued', 'running', 'paused'))"
                .to_owned(),
            DagFilter::Success => last_end(values, RunState::Success),
            DagFilter::Failed => last_end(values, RunState::Failed),
        }
    }));
    conditions.join(" AND ")
}

pub(super) async fn dags(reader: &SqlReader, query: &DagQuery) -> Result<Page<DagSummary>, ReadError> {
    let size = page_size(&query.page);
    let mut values = Vec::new();
    let conditions = dag_conditions(reader.backend(), query, read_cursor(&query.page)?, &mut values);
    let sql = format!(
        "SELECT d.dag_id, d.version, d.path, d.is_paused, d.is_missing, d.cursor_at, d.created_at,
            d.failed_runs, d.pause_reason,
            v.description, v.owner, v.tags, v.schedule, v.timezone, v.task_count
         FROM dag d JOIN dag_version v ON v.dag_id = d.dag_id AND v.hash = d.version
         WHERE {conditions} ORDER BY d.dag_id LIMIT {}",
        size + 1
    );
    let statement = Statement::from_sql_and_values(reader.backend(), sql, values);
    let found = DagListRow::find_by_statement(statement).all(&reader.db).await?;
    let page = cut_page(found, size, |row| cursor(&row.dag_id));
    let ids: Vec<&str> = page.items.iter().map(|row| row.dag_id.as_str()).collect();
    let mut last_runs = last_runs(reader, &ids, query.last_runs).await?;
    let items = page.items.into_iter().map(|found| {
        let row = rows::Row::new("dag", &found.dag_id);
        Ok(DagSummary {
            description: found.description,
            owner: found.owner,
            tags: row.json(&found.tags)?,
            schedule: row.json(&found.schedule)?,
            timezone: found.timezone,
            task_count: row.number(found.task_count)?,
            last_runs: last_runs.remove(&found.dag_id).unwrap_or_default(),
            dag: rows::dag_row(entity::dag::Model {
                dag_id: found.dag_id,
                version: found.version,
                path: found.path,
                is_paused: found.is_paused,
                is_missing: found.is_missing,
                cursor_at: found.cursor_at,
                created_at: found.created_at,
                failed_runs: found.failed_runs,
                pause_reason: found.pause_reason,
            })?,
        })
    });
    Ok(Page { items: items.collect::<Result<_, ReadError>>()?, next_cursor: page.next_cursor })
}

/// Returns the newest runs of each DAG. The inner query walks one index per DAG and stops after `limit` rows.
async fn last_runs(
    reader: &SqlReader,
    dag_ids: &[&str],
    limit: u32,
) -> Result<HashMap<String, Vec<RunBar>>, ReadError> {
    let mut bars: HashMap<String, Vec<RunBar>> = HashMap::new();
    if dag_ids.is_empty() || limit == 0 {
        return Ok(bars);
    }
    let names: Vec<String> = (1..=dag_ids.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT r.* FROM dag d JOIN dag_run r ON r.run_key IN (
            SELECT x.run_key FROM dag_run x WHERE x.dag_id = d.dag_id
            ORDER BY x.logical_date DESC, x.run_key DESC LIMIT {limit})
         WHERE d.dag_id IN ({}) ORDER BY r.dag_id, r.logical_date DESC, r.run_key DESC",
        names.join(", ")
    );
    let values = dag_ids.iter().map(|id| text_value(*id));
    let statement = Statement::from_sql_and_values(reader.backend(), sql, values);
    for model in entity::dag_run::Model::find_by_statement(statement).all(&reader.db).await? {
        let dag_id = model.dag_id.clone();
        bars.entry(dag_id).or_default().push(RunBar::from(&rows::run_row(model)?));
    }
    Ok(bars)
}

pub(super) async fn tags(reader: &SqlReader) -> Result<Vec<String>, ReadError> {
    let sql = "SELECT DISTINCT v.tags FROM dag d
        JOIN dag_version v ON v.dag_id = d.dag_id AND v.hash = d.version";
    let found = reader.db.query_all_raw(Statement::from_string(reader.backend(), sql)).await?;
    let row = rows::Row::new("dag_version", "tags");
    let mut tags: BTreeSet<String> = BTreeSet::new();
    for result in found {
        let text: String = result.try_get_by_index(0).map_err(|source| ReadError::Unavailable { source })?;
        tags.extend(row.json::<Vec<String>>(&text)?);
    }
    Ok(tags.into_iter().collect())
}

pub(super) async fn runs(reader: &SqlReader, query: &RunQuery) -> Result<Page<RunRow>, ReadError> {
    use entity::dag_run::{Column, Entity};
    let size = page_size(&query.page);
    let mut select: Select<Entity> = Entity::find();
    if let Some(dag_id) = &query.dag_id {
        select = select.filter(Column::DagId.eq(dag_id.as_str()));
    }
    match query.states.as_slice() {
        [] => {}
        // An equality lets the index that begins with the state give the order too.
        [state] => select = select.filter(Column::State.eq(state.as_str())),
        states => select = select.filter(Column::State.is_in(states.iter().map(|state| state.as_str()))),
    }
    if let Some(run_type) = query.run_type {
        select = select.filter(Column::RunType.eq(run_type.as_str()));
    }
    if let Some(since) = query.finished_since {
        select = select.filter(Column::FinishedAt.gte(rows::micros(since)));
    }
    if let Some(since) = query.logical_since {
        select = select.filter(Column::LogicalDate.gte(rows::micros(since)));
    }
    if let Some(before) = query.logical_before {
        select = select.filter(Column::LogicalDate.lt(rows::micros(before)));
    }
    if query.is_late {
        select = select.filter(Column::DeadlineMissedAt.is_not_null());
    }
    if let Some((date, key)) = read_cursor::<(i64, RunKey)>(&query.page)? {
        select = select.filter(older_than(date, key));
    }
    let select = select.order_by_desc(Column::LogicalDate).order_by_desc(Column::RunKey);
    let models = select.limit(size as u64 + 1).all(&reader.db).await?;
    let found = models.into_iter().map(rows::run_row).collect::<Result<Vec<_>, _>>()?;
    Ok(cut_page(found, size, |run| cursor(&(run.logical_date.timestamp_micros(), run.key))))
}

/// (date, key) < (a, b) as two comparisons, of which the first alone bounds the walk of the index.
fn older_than(date: i64, key: RunKey) -> Condition {
    use entity::dag_run::Column;
    Condition::all()
        .add(Column::LogicalDate.lte(date))
        .add(Condition::any().add(Column::LogicalDate.lt(date)).add(Column::RunKey.lt(key.0)))
}

/// The order is that of the runs' keys and of the instances' primary key, so a walk along the runs that looks up each
/// one's instances needs no sorting; keys alone are found first, so that an index answers without the rows. Only a state over all DAGs is better found by the index of states. SQLite keeps
/// the order of a `CROSS JOIN`; PostgreSQL chooses by itself.
pub(super) async fn task_list(
    reader: &SqlReader,
    query: &TaskQuery,
) -> Result<Page<TaskListItem>, ReadError> {
    let size = page_size(&query.page);
    let by_state = query.state.is_some() && query.dag_id.is_none();
    let (from, key) = if by_state {
        ("task_instance t CROSS JOIN dag_run r", "t.run_key")
    } else {
        ("dag_run r CROSS JOIN task_instance t", "r.run_key")
    };
    let mut values: Vec<Value> = Vec::new();
    let mut conditions = vec!["t.run_key = r.run_key".to_owned()];
    if let Some(dag_id) = &query.dag_id {
        values.push(text_value(dag_id.as_str()));
        conditions.push(format!("r.dag_id = ${}", values.len()));
    }
    if let Some(state) = query.state {
        values.push(text_value(state.as_str()));
        conditions.push(format!("t.state = ${}", values.len()));
    }
    if let Some(since) = query.finished_since {
        values.push(rows::micros(since).into());
        conditions.push(format!("t.finished_at >= ${}", values.len()));
    }
    if let Some((run, task, map_index)) = read_cursor::<(RunKey, TaskId, i64)>(&query.page)? {
        let n = values.len();
        values.extend([run.0.into(), text_value(task.as_str()), map_index.into()]);
        conditions.push(format!(
            "{key} <= ${a} AND ({key} < ${a} OR t.task_id > ${b} OR (t.task_id = ${b} AND t.map_index > ${c}))",
            a = n + 1,
            b = n + 2,
            c = n + 3
        ));
    }
    let sql = format!(
        "SELECT i.*, d.dag_id AS run_dag_id, d.run_id AS run_run_id
         FROM (SELECT t.run_key, t.task_id, t.map_index FROM {from}
               WHERE {} ORDER BY {key} DESC, t.task_id, t.map_index LIMIT {}) AS p
         JOIN task_instance i
            ON i.run_key = p.run_key AND i.task_id = p.task_id AND i.map_index = p.map_index
         JOIN dag_run d ON d.run_key = p.run_key
         ORDER BY i.run_key DESC, i.task_id, i.map_index",
        conditions.join(" AND "),
        size + 1
    );
    let statement = Statement::from_sql_and_values(reader.backend(), sql, values);
    let mut items = Vec::new();
    for result in reader.db.query_all_raw(statement).await? {
        let model = entity::task_instance::Model::from_query_result(&result, "")?;
        let row = rows::Row::new("dag_run", model.run_key);
        let (dag_id, run_id): (String, String) =
            (result.try_get("", "run_dag_id")?, result.try_get("", "run_run_id")?);
        items.push(TaskListItem {
            dag_id: row.name::<DagId>(&dag_id)?,
            run_id: row.name::<RunId>(&run_id)?,
            task: rows::task_row(model)?,
        });
    }
    Ok(cut_page(items, size, |i| cursor(&(i.task.key.run, &i.task.key.task, i.task.key.map_index))))
}

/// A grid of 5 000 tasks × 25 runs has 125 000 cells: they come as one text per run, put together by the
/// database, which costs a tenth of as many rows.
pub(super) async fn grid(
    reader: &SqlReader,
    dag_id: &DagId,
    request: &PageRequest,
) -> Result<Option<Grid>, ReadError> {
    if entity::dag::Entity::find_by_id(dag_id.to_string()).one(&reader.db).await?.is_none() {
        return Ok(None);
    }
    let query = RunQuery { page: request.clone(), dag_id: Some(dag_id.clone()), ..RunQuery::default() };
    let page = runs(reader, &query).await?;
    let mut cells = cells(reader, &page.items).await?;
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for text in cells.values() {
        names.extend(
            text.split(';').filter_map(|cell| cell.split(' ').next()).filter(|name| !name.is_empty()),
        );
    }
    let row = rows::Row::new("task_instance", dag_id);
    let tasks = names.iter().map(|name| row.name::<TaskId>(name)).collect::<Result<Vec<_>, _>>()?;
    let index: HashMap<String, u32> = names.iter().map(|name| (*name).to_owned()).zip(0..).collect();
    let mut columns = Vec::with_capacity(page.items.len());
    for run in &page.items {
        let text = cells.remove(&run.key.0).unwrap_or_default();
        let mut column = Vec::new();
        for cell in text.split(';').filter(|cell| !cell.is_empty()) {
            column.push(parse_cell(&row, cell, &index)?);
        }
        column.sort_unstable();
        let dag_version: VersionHash = run.dag_version.clone();
        columns.push(GridRun { run: RunBar::from(run), dag_version, cells: column });
    }
    Ok(Some(Grid { tasks, runs: columns, next_cursor: page.next_cursor }))
}

async fn cells(reader: &SqlReader, runs: &[RunRow]) -> Result<BTreeMap<i64, String>, ReadError> {
    let mut cells = BTreeMap::new();
    if runs.is_empty() {
        return Ok(cells);
    }
    let names: Vec<String> = (1..=runs.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT run_key, STRING_AGG(task_id || ' ' || map_index || ' ' || state || ' ' || try_number, ';')
         FROM task_instance WHERE run_key IN ({}) GROUP BY run_key",
        names.join(", ")
    );
    let values = runs.iter().map(|run| Value::from(run.key.0));
    let statement = Statement::from_sql_and_values(reader.backend(), sql, values);
    for result in reader.db.query_all_raw(statement).await? {
        cells.insert(
            result.try_get_by_index(0).map_err(|source| ReadError::Unavailable { source })?,
            result.try_get_by_index(1).map_err(|source| ReadError::Unavailable { source })?,
        );
    }
    Ok(cells)
}

fn parse_cell(row: &rows::Row, cell: &str, index: &HashMap<String, u32>) -> Result<GridCell, ReadError> {
    let bad = || row.bad(format_args!("{cell:?} is no cell"));
    let mut parts = cell.split(' ');
    let (Some(task), Some(map_index), Some(state), Some(try_number)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad());
    };
    Ok(GridCell {
        task: index.get(task).copied().ok_or_else(bad)?,
        map_index: map_index.parse().map_err(|_| bad())?,
        state: row.word(state, TaskState::parse)?,
        try_number: try_number.parse().map_err(|_| bad())?,
    })
}

pub(super) async fn report_history(
    reader: &SqlReader,
    dag_id: &DagId,
    task: &TaskId,
    until: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<ReportPoint>, ReadError> {
    use entity::{dag_run, task_report};
    let sql = format!(
        "SELECT r.* FROM dag_run r WHERE r.dag_id = $1 AND r.logical_date <= $3 AND EXISTS (
            SELECT 1 FROM task_report p WHERE p.run_key = r.run_key AND p.task_id = $2 AND p.map_index = -1)
         ORDER BY r.logical_date DESC, r.run_key DESC LIMIT {limit}"
    );
    let values = [text_value(dag_id.as_str()), text_value(task.as_str()), rows::micros(until).into()];
    let with_report = Statement::from_sql_and_values(reader.backend(), sql, values);
    let mut points = Vec::new();
    for model in dag_run::Model::find_by_statement(with_report).all(&reader.db).await? {
        let run = rows::run_row(model)?;
        let newest = task_report::Entity::find()
            .filter(task_report::Column::RunKey.eq(run.key.0))
            .filter(task_report::Column::TaskId.eq(task.as_str()))
            .filter(task_report::Column::MapIndex.eq(-1))
            .order_by_desc(task_report::Column::TryNumber)
            .order_by_desc(task_report::Column::Epoch)
            .one(&reader.db)
            .await?;
        if let Some(report) = newest.map(rows::report_row).transpose()? {
            points.push(ReportPoint { run_id: run.run_id, logical_date: run.logical_date, report });
        }
    }
    Ok(points)
}
