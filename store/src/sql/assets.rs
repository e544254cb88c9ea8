//! Assets in the databases: what a batch writes of them, and what pages and rendering read.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult, Statement, Value};
use tidemill_engine::{
    asset::{AssetChange, AssetEventId, AssetEventRow, AssetQueueRow, AssetSource},
    ids::{AssetName, DagId, RunKey},
};

use super::{
    SqlReader,
    commit::Stop,
    commit_rows::{int, int_option, text, text_option},
    multi::Rows,
    rows::{Row, json, micros},
};
use crate::{
    assets::{
        AssetEventItem, AssetEventQuery, AssetProducer, AssetQuery, AssetSummary, CausedRun, OldAssetEvents,
        uses,
    },
    batch::{AssetKey, AssetWrite, Batch, VersionRow},
    codec::{cursor, page_size, read_cursor},
    error::{ReadError, RowRef},
    reader::Page,
    views::cut_page,
};

const EVENT_COLUMNS: &str = "event_id, asset, happened_at, interval_start, interval_end, dag_id, run_key, \
    run_id, task_id, map_index, try_number, posted_by, extra";

fn event_values(row: &AssetEventRow, key: Option<&AssetKey>) -> [Value; 15] {
    let (dag_id, run, run_id, task, map_index, try_number, by) = match &row.source {
        AssetSource::Task { dag_id, run, run_id, task, map_index, try_number } => (
            Some(dag_id),
            Some(run.0),
            Some(run_id),
            Some(task),
            Some(i64::from(*map_index)),
            Some(i64::from(*try_number)),
            None,
        ),
        AssetSource::Posted { by } => (None, None, None, None, None, None, by.as_ref()),
    };
    [
        int(row.id.0),
        text(&row.asset),
        int(micros(row.at)),
        int(micros(row.interval_start)),
        int(micros(row.interval_end)),
        text_option(dag_id),
        int_option(run),
        text_option(run_id),
        text_option(task),
        int_option(map_index),
        int_option(try_number),
        text_option(by),
        text(json(&row.extra)),
        text_option(key.map(|key| &key.key_hash)),
        text_option(key.map(|key| &key.request_hash)),
    ]
}

/// Events and their places in queues on their way into multi-row statements.
struct Pending {
    events: Rows,
    queued: Rows,
}

impl Pending {
    fn new() -> Self {
        Self { events: Rows::new(15), queued: Rows::new(3) }
    }

    async fn flush(&mut self, db: &DatabaseTransaction) -> Result<(), DbErr> {
        let Self { events, queued } = std::mem::replace(self, Self::new());
        let insert = |values: &str| {
            format!("INSERT INTO asset_event ({EVENT_COLUMNS}, key_hash, request_hash) VALUES {values}")
        };
        events.execute(db, insert).await?;
        let insert =
            |values: &str| format!("INSERT INTO asset_queue (dag_id, event_id, asset) VALUES {values}");
        queued.execute(db, insert).await?;
        Ok(())
    }
}

/// Writes what happened on assets, in its order: what was queued before a run takes the queue is taken with it.
pub(super) async fn write(db: &DatabaseTransaction, writes: &[AssetWrite]) -> Result<(), Stop> {
    let mut pending = Pending::new();
    for write in writes {
        match &write.change {
            AssetChange::Event { row, queued_for } => {
                pending.events.push(event_values(row, write.key.as_ref()));
                for dag_id in queued_for {
                    pending.queued.push([text(dag_id), int(row.id.0), text(&row.asset)]);
                }
            }
            AssetChange::Take { dag_id, run, count } => {
                pending.flush(db).await?;
                take(db, dag_id, *run, *count).await?;
            }
            AssetChange::Drop { dag_id, assets, count } => {
                pending.flush(db).await?;
                let names: Vec<String> = (2..assets.len() + 2).map(|n| format!("${n}")).collect();
                let sql =
                    format!("DELETE FROM asset_queue WHERE dag_id = $1 AND asset IN ({})", names.join(", "));
                let values = std::iter::once(text(dag_id)).chain(assets.iter().map(text)).collect();
                expect(execute(db, &sql, values).await?, *count, dag_id)?;
            }
        }
    }
    pending.flush(db).await?;
    Ok(())
}

async fn take(db: &DatabaseTransaction, dag_id: &DagId, run: RunKey, count: u64) -> Result<(), Stop> {
    let sql = "INSERT INTO asset_cause (run_key, event_id, dag_id)
        SELECT CAST($1 AS BIGINT), event_id, dag_id FROM asset_queue WHERE dag_id = $2";
    expect(execute(db, sql, vec![int(run.0), text(dag_id)]).await?, count, dag_id)?;
    execute(db, "DELETE FROM asset_queue WHERE dag_id = $1", vec![text(dag_id)]).await?;
    Ok(())
}

fn expect(touched: u64, count: u64, dag_id: &DagId) -> Result<(), Stop> {
    match touched == count {
        true => Ok(()),
        false => Err(Stop::Guard(RowRef::Other { table: "asset_queue", key: dag_id.to_string() })),
    }
}

async fn execute(db: &DatabaseTransaction, sql: &str, values: Vec<Value>) -> Result<u64, DbErr> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    Ok(db.execute_raw(statement).await?.rows_affected())
}

/// Notes who names which asset in a version, once.
pub(super) async fn write_uses(db: &DatabaseTransaction, versions: &[VersionRow]) -> Result<(), DbErr> {
    let mut rows = Rows::new(4);
    for version in versions {
        for (asset, task) in uses(&version.definition) {
            let task = task.map_or_else(|| text(""), text);
            rows.push([text(&version.dag_id), text(&version.hash), text(asset), task]);
        }
    }
    let insert = |values: &str| {
        format!(
            "INSERT INTO dag_asset (dag_id, version, asset, task_id) VALUES {values} ON CONFLICT DO NOTHING"
        )
    };
    rows.execute(db, insert).await.map(drop)
}

/// What nobody waits for and no run was caused by.
const IS_FREE: &str = "NOT EXISTS (SELECT 1 FROM asset_queue AS q WHERE q.event_id = asset_event.event_id)
    AND NOT EXISTS (SELECT 1 FROM asset_cause AS c WHERE c.event_id = asset_event.event_id)";

/// Deletes old events, and forgets old idempotency keys.
pub(super) async fn delete(db: &DatabaseTransaction, batch: &Batch) -> Result<(), DbErr> {
    for ids in batch.asset_deletes.chunks(200) {
        let names: Vec<String> = (1..=ids.len()).map(|n| format!("${n}")).collect();
        let sql = format!("DELETE FROM asset_event WHERE event_id IN ({}) AND {IS_FREE}", names.join(", "));
        execute(db, &sql, ids.iter().map(|id| int(id.0)).collect()).await?;
    }
    if let Some(before) = batch.expire_before {
        let sql = "UPDATE asset_event SET key_hash = NULL, request_hash = NULL
            WHERE key_hash IS NOT NULL AND happened_at < $1";
        execute(db, sql, vec![int(micros(before))]).await?;
    }
    Ok(())
}

#[derive(FromQueryResult)]
struct EventModel {
    event_id: i64,
    asset: String,
    happened_at: i64,
    interval_start: i64,
    interval_end: i64,
    dag_id: Option<String>,
    run_key: Option<i64>,
    run_id: Option<String>,
    task_id: Option<String>,
    map_index: Option<i64>,
    try_number: Option<i64>,
    posted_by: Option<String>,
    extra: String,
}

fn event_row(model: EventModel) -> Result<AssetEventRow, ReadError> {
    let row = Row::new("asset_event", model.event_id);
    let source = match (model.dag_id, model.run_key, model.run_id, model.task_id) {
        (Some(dag_id), Some(run), Some(run_id), Some(task)) => AssetSource::Task {
            dag_id: row.name(&dag_id)?,
            run: RunKey(run),
            run_id: row.name(&run_id)?,
            task: row.name(&task)?,
            map_index: row.number(model.map_index.unwrap_or(-1))?,
            try_number: row.number(model.try_number.unwrap_or(0))?,
        },
        _ => AssetSource::Posted { by: model.posted_by },
    };
    Ok(AssetEventRow {
        id: AssetEventId(model.event_id),
        asset: row.name(&model.asset)?,
        at: row.at(model.happened_at)?,
        interval_start: row.at(model.interval_start)?,
        interval_end: row.at(model.interval_end)?,
        source,
        extra: row.json(&model.extra)?,
    })
}

async fn find(reader: &SqlReader, sql: &str, values: Vec<Value>) -> Result<Vec<AssetEventRow>, ReadError> {
    let statement = Statement::from_sql_and_values(reader.backend(), sql, values);
    let found = EventModel::find_by_statement(statement).all(&reader.db).await?;
    found.into_iter().map(event_row).collect()
}

/// Returns what is queued for every DAG, a summary per asset.
pub(super) async fn queues(reader: &SqlReader) -> Result<Vec<Result<AssetQueueRow, ReadError>>, ReadError> {
    let sql = "SELECT q.dag_id, q.asset, COUNT(*) AS events, MIN(e.happened_at) AS first_at,
            MAX(e.happened_at) AS last_at, MIN(e.interval_start) AS interval_start,
            MAX(e.interval_end) AS interval_end, MAX(q.event_id) AS newest
        FROM asset_queue AS q JOIN asset_event AS e ON e.event_id = q.event_id
        GROUP BY q.dag_id, q.asset ORDER BY q.dag_id, q.asset";
    let statement = Statement::from_string(reader.backend(), sql);
    let mut rows = Vec::new();
    for result in reader.db.query_all_raw(statement).await? {
        let (dag_id, asset): (String, String) = (result.try_get("", "dag_id")?, result.try_get("", "asset")?);
        let number = |column: &str| result.try_get::<i64>("", column);
        let [events, first_at, last_at, start, end, newest] =
            ["events", "first_at", "last_at", "interval_start", "interval_end", "newest"].map(number);
        let (events, first_at, last_at, start, end, newest) =
            (events?, first_at?, last_at?, start?, end?, newest?);
        let row = Row::new("asset_queue", &dag_id);
        let read = || {
            Ok(AssetQueueRow {
                dag_id: row.name(&dag_id)?,
                asset: row.name(&asset)?,
                count: row.number(events)?,
                first_at: row.at(first_at)?,
                last_at: row.at(last_at)?,
                interval_start: row.at(start)?,
                interval_end: row.at(end)?,
                newest: AssetEventId(newest),
            })
        };
        rows.push(read());
    }
    Ok(rows)
}

pub(super) async fn assets(reader: &SqlReader, query: &AssetQuery) -> Result<Page<AssetSummary>, ReadError> {
    let size = page_size(&query.page);
    let mut values = Vec::new();
    let mut conditions = vec!["1 = 1".to_owned()];
    if let Some(after) = read_cursor::<AssetName>(&query.page)? {
        values.push(text(after));
        conditions.push(format!("a.asset > ${}", values.len()));
    }
    if let Some(name) = &query.name {
        values.push(text(name));
        conditions.push(format!("a.asset = ${}", values.len()));
    }
    if let Some(part) = &query.text {
        values.push(text(super::reader_lists::pattern(&part.to_ascii_lowercase())));
        conditions.push(format!("LOWER(a.asset) LIKE ${} ESCAPE '\\'", values.len()));
    }
    let sql = format!(
        "SELECT DISTINCT a.asset FROM dag_asset AS a
         JOIN dag AS d ON d.dag_id = a.dag_id AND d.version = a.version
         WHERE {} ORDER BY a.asset LIMIT {}",
        conditions.join(" AND "),
        size + 1
    );
    let row = Row::new("dag_asset", "asset");
    let mut names: Vec<AssetName> = Vec::new();
    let statement = Statement::from_sql_and_values(reader.backend(), sql, values);
    for result in reader.db.query_all_raw(statement).await? {
        names.push(row.name(&result.try_get::<String>("", "asset")?)?);
    }
    let page = cut_page(names, size, cursor);
    let mut items = Vec::with_capacity(page.items.len());
    let mut uses = uses_of(reader, &page.items).await?;
    for name in page.items {
        let (producers, consumers) = uses.remove(&name).unwrap_or_default();
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM asset_event WHERE asset = $1 ORDER BY event_id DESC LIMIT 1"
        );
        let last_event = find(reader, &sql, vec![text(&name)]).await?.pop();
        items.push(AssetSummary { name, producers, consumers, last_event });
    }
    Ok(Page { items, next_cursor: page.next_cursor })
}

type Uses = BTreeMap<AssetName, (Vec<AssetProducer>, Vec<DagId>)>;

async fn uses_of(reader: &SqlReader, names: &[AssetName]) -> Result<Uses, ReadError> {
    let mut uses = Uses::new();
    if names.is_empty() {
        return Ok(uses);
    }
    let places: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT a.asset, a.dag_id, a.task_id FROM dag_asset AS a
         JOIN dag AS d ON d.dag_id = a.dag_id AND d.version = a.version
         WHERE a.asset IN ({}) ORDER BY a.asset, a.dag_id, a.task_id",
        places.join(", ")
    );
    let statement = Statement::from_sql_and_values(reader.backend(), sql, names.iter().map(text));
    for result in reader.db.query_all_raw(statement).await? {
        let (asset, dag_id, task): (String, String, String) =
            (result.try_get("", "asset")?, result.try_get("", "dag_id")?, result.try_get("", "task_id")?);
        let row = Row::new("dag_asset", &asset);
        let (producers, consumers) = uses.entry(row.name(&asset)?).or_default();
        match task.as_str() {
            "" => consumers.push(row.name(&dag_id)?),
            task => producers.push(AssetProducer { dag_id: row.name(&dag_id)?, task_id: row.name(task)? }),
        }
    }
    Ok(uses)
}

pub(super) async fn events(
    reader: &SqlReader,
    query: &AssetEventQuery,
) -> Result<Page<AssetEventItem>, ReadError> {
    let size = page_size(&query.page);
    let mut values = Vec::new();
    let mut conditions = vec!["1 = 1".to_owned()];
    if let Some(asset) = &query.asset {
        values.push(text(asset));
        conditions.push(format!("asset = ${}", values.len()));
    }
    if let Some(AssetEventId(before)) = read_cursor(&query.page)? {
        values.push(int(before));
        conditions.push(format!("event_id < ${}", values.len()));
    }
    let sql = format!(
        "SELECT {EVENT_COLUMNS} FROM asset_event WHERE {} ORDER BY event_id DESC LIMIT {}",
        conditions.join(" AND "),
        size + 1
    );
    let page = cut_page(find(reader, &sql, values).await?, size, |row| cursor(&row.id));
    let ids: Vec<AssetEventId> = page.items.iter().map(|row| row.id).collect();
    let mut runs = related(reader, RUNS_OF, &ids, |row, dag_id, run_id| {
        Ok(CausedRun { dag_id: row.name(dag_id)?, run_id: row.name(run_id)? })
    })
    .await?;
    let mut queued = related(reader, QUEUES_OF, &ids, |row, dag_id, _| row.name(dag_id)).await?;
    let items = page.items.into_iter().map(|event| AssetEventItem {
        runs: runs.remove(&event.id.0).unwrap_or_default(),
        queued_for: queued.remove(&event.id.0).unwrap_or_default(),
        event,
    });
    Ok(Page { items: items.collect(), next_cursor: page.next_cursor })
}

const RUNS_OF: &str = "SELECT c.event_id, r.dag_id, r.run_id FROM asset_cause AS c
    JOIN dag_run AS r ON r.run_key = c.run_key WHERE c.event_id IN ({ids}) ORDER BY c.event_id, r.dag_id";
const QUEUES_OF: &str = "SELECT event_id, dag_id, asset AS run_id FROM asset_queue
    WHERE event_id IN ({ids}) ORDER BY event_id, dag_id";

async fn related<T>(
    reader: &SqlReader,
    sql: &str,
    ids: &[AssetEventId],
    read: impl Fn(&Row, &str, &str) -> Result<T, ReadError>,
) -> Result<BTreeMap<i64, Vec<T>>, ReadError> {
    let mut found: BTreeMap<i64, Vec<T>> = BTreeMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let places: Vec<String> = (1..=ids.len()).map(|n| format!("${n}")).collect();
    let sql = sql.replace("{ids}", &places.join(", "));
    let statement = Statement::from_sql_and_values(reader.backend(), sql, ids.iter().map(|id| int(id.0)));
    for result in reader.db.query_all_raw(statement).await? {
        let (id, dag_id, run_id): (i64, String, String) =
            (result.try_get("", "event_id")?, result.try_get("", "dag_id")?, result.try_get("", "run_id")?);
        let row = Row::new("asset_event", id);
        found.entry(id).or_default().push(read(&row, &dag_id, &run_id)?);
    }
    Ok(found)
}

fn of(table: &str) -> String {
    let columns: Vec<String> = EVENT_COLUMNS.split(", ").map(|c| format!("e.{}", c.trim())).collect();
    format!(
        "SELECT {} FROM {table} AS t JOIN asset_event AS e ON e.event_id = t.event_id",
        columns.join(", ")
    )
}

pub(super) async fn causes(
    reader: &SqlReader,
    run: RunKey,
    limit: u32,
) -> Result<Vec<AssetEventRow>, ReadError> {
    let sql = format!("{} WHERE t.run_key = $1 ORDER BY t.event_id DESC LIMIT {limit}", of("asset_cause"));
    find(reader, &sql, vec![int(run.0)]).await
}

pub(super) async fn queued(
    reader: &SqlReader,
    dag_id: &DagId,
    limit: u32,
) -> Result<Vec<AssetEventRow>, ReadError> {
    let sql = format!("{} WHERE t.dag_id = $1 ORDER BY t.event_id DESC LIMIT {limit}", of("asset_queue"));
    find(reader, &sql, vec![text(dag_id)]).await
}

pub(super) async fn by_key(
    reader: &SqlReader,
    key_hash: &str,
) -> Result<Option<(AssetEventRow, String)>, ReadError> {
    let sql = format!("SELECT {EVENT_COLUMNS} FROM asset_event WHERE key_hash = $1");
    let Some(row) = find(reader, &sql, vec![text(key_hash)]).await?.pop() else { return Ok(None) };
    let statement = Statement::from_sql_and_values(
        reader.backend(),
        "SELECT request_hash FROM asset_event WHERE key_hash = $1",
        [text(key_hash)],
    );
    let Some(found) = reader.db.query_one_raw(statement).await? else { return Ok(None) };
    Ok(Some((row, found.try_get("", "request_hash")?)))
}

pub(super) async fn old(reader: &SqlReader, old: OldAssetEvents) -> Result<Vec<AssetEventId>, ReadError> {
    let sql = format!(
        "SELECT event_id FROM asset_event WHERE happened_at < $1 AND {IS_FREE}
         ORDER BY happened_at, event_id LIMIT {}",
        old.limit
    );
    let statement = Statement::from_sql_and_values(reader.backend(), sql, [int(micros(old.before))]);
    let found = reader.db.query_all_raw(statement).await?;
    found.iter().map(|row| Ok(AssetEventId(row.try_get("", "event_id")?))).collect()
}
