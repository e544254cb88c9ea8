//! What a new leader loads, and the search for the row that a guard stumbled over.
//!
//! A row that cannot be read leaves its run out and nothing else: one damaged run never keeps a server from
//! starting.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, Statement};
use tidemill_engine::{
    definition::Dag,
    ids::{AttemptKey, DagId, RunKey},
    rows::{EngineSnapshot, FinishedRun, RunSnapshot, TaskRow, TryRow, VersionHash},
    state::{RunState, TaskState},
};

use super::{SqlReader, backfills, entity, rows};
use crate::{
    batch::Batch,
    error::{ReadError, RowRef, Unreadable},
    memory::fences,
    writer::Loaded,
};

/// How many runs are asked for at once.
const RUNS: usize = 200;

/// Parsed definitions by DAG and hash, or why they cannot be had.
type Definitions = HashMap<(String, String), Result<Arc<Dag>, String>>;

fn active() -> Vec<&'static str> {
    RunState::ALL.iter().filter(|state| !state.is_terminal()).map(|state| state.as_str()).collect()
}

pub(super) async fn load(reader: &SqlReader) -> Result<Loaded, ReadError> {
    let db = &reader.db;
    let mut loaded = Loaded::default();
    let leader = entity::leader::Entity::find_by_id(1).one(db).await?;
    let counters = leader.map_or((1, 1), |leader| (leader.next_run_key, leader.next_asset_event));
    (loaded.snapshot.next_run_key, loaded.snapshot.next_asset_event) = counters;
    for row in super::assets::queues(reader).await? {
        match row {
            Ok(row) => loaded.snapshot.asset_queue.push(row),
            Err(error) => loaded.leave_out(None, None, error.to_string()),
        }
    }
    let pools = entity::pool::Entity::find().order_by_asc(entity::pool::Column::Name).all(db).await?;
    for model in pools {
        let name = model.name.clone();
        match rows::pool_row(model) {
            Ok(pool) => loaded.snapshot.pools.push(pool),
            Err(error) => loaded.leave_out(None, None, format!("pool {name}: {error}")),
        }
    }
    let mut definitions = Definitions::new();
    definitions_of(reader, CURRENT, &mut definitions).await?;
    definitions_of(reader, &pinned(), &mut definitions).await?;
    load_dags(reader, &definitions, &mut loaded).await?;
    for row in backfills::load_active(reader).await? {
        match row {
            Ok(row) => loaded.snapshot.backfills.push(row),
            Err((dag_id, what)) => loaded.leave_out(Some(dag_id), None, what),
        }
    }
    let runs = entity::dag_run::Entity::find()
        .filter(entity::dag_run::Column::State.is_in(active()))
        .order_by_asc(entity::dag_run::Column::RunKey)
        .all(db)
        .await?;
    for chunk in runs.chunks(RUNS) {
        load_runs(reader, chunk, &definitions, &mut loaded).await?;
    }
    Ok(loaded)
}

/// The versions that new runs take.
const CURRENT: &str = "EXISTS (SELECT 1 FROM dag AS d WHERE d.dag_id = v.dag_id AND d.version = v.hash)";

/// The versions that active runs are pinned to.
fn pinned() -> String {
    let states: Vec<String> = active().iter().map(|state| format!("'{state}'")).collect();
    format!(
        "EXISTS (SELECT 1 FROM dag_run AS r
            WHERE r.dag_id = v.dag_id AND r.dag_version = v.hash AND r.state IN ({}))",
        states.join(", ")
    )
}

/// Reads definitions in one query, however many DAGs there are: a new leader's lease is six seconds long.
async fn definitions_of(
    reader: &SqlReader,
    condition: &str,
    definitions: &mut Definitions,
) -> Result<(), ReadError> {
    let sql = format!("SELECT v.* FROM dag_version AS v WHERE {condition}");
    let statement = Statement::from_string(reader.backend(), sql);
    for model in entity::dag_version::Entity::find().from_raw_sql(statement).all(&reader.db).await? {
        let key = (model.dag_id.clone(), model.hash.clone());
        if let Entry::Vacant(entry) = definitions.entry(key) {
            let row = rows::version_row(model).map(|row| row.definition);
            entry.insert(row.map_err(|error| error.to_string()));
        }
    }
    Ok(())
}

fn definition_in(definitions: &Definitions, dag_id: &DagId, hash: &VersionHash) -> Result<Arc<Dag>, String> {
    let missing = || Err(format!("version {hash} is not stored"));
    definitions.get(&(dag_id.to_string(), hash.to_string())).cloned().unwrap_or_else(missing)
}

impl Loaded {
    fn leave_out(&mut self, dag_id: Option<DagId>, run: Option<RunKey>, what: String) {
        tracing::error!(code = "STO0301", run = run.map(|run| run.0), %what, "left out while loading");
        self.unreadable.push(Unreadable { dag_id, run, what });
    }
}

async fn load_dags(
    reader: &SqlReader,
    definitions: &Definitions,
    loaded: &mut Loaded,
) -> Result<(), ReadError> {
    let dags = entity::dag::Entity::find().order_by_asc(entity::dag::Column::DagId);
    for model in dags.all(&reader.db).await? {
        let id = model.dag_id.parse().ok();
        match rows::dag_row(model) {
            Ok(dag) => match definition_in(definitions, &dag.dag_id, &dag.version) {
                Ok(definition) => loaded.snapshot.dags.push((dag, definition)),
                Err(what) => {
                    // Whether it is paused and how far its dates are dealt with outlives its definition.
                    loaded.snapshot.undefined.push(dag);
                    loaded.leave_out(id, None, what);
                }
            },
            Err(error) => loaded.leave_out(id, None, error.to_string()),
        }
    }
    Ok(())
}

/// Reads a definition, once per version.
pub(super) async fn definition(
    reader: &SqlReader,
    dag_id: &DagId,
    hash: &VersionHash,
) -> Result<Option<Arc<Dag>>, ReadError> {
    let key = (dag_id.clone(), hash.clone());
    if let Some(dag) = reader.cached(&key) {
        return Ok(Some(dag));
    }
    let id = (dag_id.to_string(), hash.to_string());
    let Some(model) = entity::dag_version::Entity::find_by_id(id).one(&reader.db).await? else {
        return Ok(None);
    };
    let dag = rows::version_row(model)?.definition;
    reader.cache(key, &dag);
    Ok(Some(dag))
}

struct Parts {
    tasks: BTreeMap<i64, Vec<entity::task_instance::Model>>,
    open: BTreeMap<i64, Vec<entity::task_try::Model>>,
    maps: BTreeMap<i64, Vec<entity::task_map::Model>>,
    /// Every try: run, task, element, try number, epoch.
    fences: BTreeMap<i64, Vec<(String, i64, i64, i64)>>,
}

async fn parts(reader: &SqlReader, keys: &[i64]) -> Result<Parts, ReadError> {
    use entity::{task_instance, task_map, task_try};
    use sea_orm::QuerySelect;
    let keys = keys.iter().copied();
    let mut parts = Parts {
        tasks: BTreeMap::new(),
        open: BTreeMap::new(),
        maps: BTreeMap::new(),
        fences: BTreeMap::new(),
    };
    let maps = task_map::Entity::find()
        .filter(task_map::Column::RunKey.is_in(keys.clone()))
        .order_by_asc(task_map::Column::RunKey)
        .order_by_asc(task_map::Column::TaskId);
    for model in maps.all(&reader.db).await? {
        parts.maps.entry(model.run_key).or_default().push(model);
    }
    let tasks = task_instance::Entity::find()
        .filter(task_instance::Column::RunKey.is_in(keys.clone()))
        .order_by_asc(task_instance::Column::RunKey)
        .order_by_asc(task_instance::Column::TaskId)
        .order_by_asc(task_instance::Column::MapIndex);
    for model in tasks.all(&reader.db).await? {
        parts.tasks.entry(model.run_key).or_default().push(model);
    }
    let open = task_try::Entity::find()
        .filter(task_try::Column::RunKey.is_in(keys.clone()))
        .filter(task_try::Column::Outcome.is_null())
        .order_by_asc(task_try::Column::RunKey)
        .order_by_asc(task_try::Column::TaskId)
        .order_by_asc(task_try::Column::MapIndex);
    for model in open.all(&reader.db).await? {
        parts.open.entry(model.run_key).or_default().push(model);
    }
    let fences = task_try::Entity::find()
        .select_only()
        .columns([
            task_try::Column::RunKey,
            task_try::Column::TaskId,
            task_try::Column::MapIndex,
            task_try::Column::TryNumber,
            task_try::Column::Epoch,
        ])
        .filter(task_try::Column::RunKey.is_in(keys))
        .into_tuple::<(i64, String, i64, i64, i64)>();
    for (run, task, map_index, try_number, epoch) in fences.all(&reader.db).await? {
        parts.fences.entry(run).or_default().push((task, map_index, try_number, epoch));
    }
    Ok(parts)
}

impl Parts {
    fn snapshot(&mut self, model: entity::dag_run::Model) -> Result<(RunSnapshot, Vec<TryRow>), ReadError> {
        let key = model.run_key;
        let run = rows::run_row(model)?;
        let tasks = self.tasks.remove(&key).unwrap_or_default();
        let tasks: Vec<TaskRow> = tasks.into_iter().map(rows::task_row).collect::<Result<_, _>>()?;
        let maps = self.maps.remove(&key).unwrap_or_default();
        let maps = maps.into_iter().map(rows::map_row).collect::<Result<_, _>>()?;
        let open = self.open.remove(&key).unwrap_or_default();
        let open: Vec<TryRow> = open.into_iter().map(rows::try_row).collect::<Result<_, _>>()?;
        let row = rows::Row::new("task_try", key);
        let tries = self.fences.remove(&key).unwrap_or_default();
        let tries: Vec<AttemptKey> = tries
            .into_iter()
            .map(|(task, map_index, try_number, epoch)| {
                Ok(AttemptKey {
                    instance: rows::instance_key(&row, key, &task, map_index)?,
                    try_number: row.number(try_number)?,
                    epoch: row.number(epoch)?,
                })
            })
            .collect::<Result<_, ReadError>>()?;
        let fences = fences(&tasks, tries.into_iter());
        Ok((RunSnapshot { run, tasks, maps, fences }, open))
    }
}

async fn load_runs(
    reader: &SqlReader,
    models: &[entity::dag_run::Model],
    definitions: &Definitions,
    loaded: &mut Loaded,
) -> Result<(), ReadError> {
    let keys: Vec<i64> = models.iter().map(|model| model.run_key).collect();
    let mut parts = parts(reader, &keys).await?;
    for model in models {
        let (run, dag_id) = (Some(RunKey(model.run_key)), model.dag_id.parse::<DagId>().ok());
        let (snapshot, open) = match parts.snapshot(model.clone()) {
            Ok(parts) => parts,
            Err(error) => {
                loaded.leave_out(dag_id, run, error.to_string());
                continue;
            }
        };
        let version = (snapshot.run.dag_id.clone(), snapshot.run.dag_version.clone());
        match definition_in(definitions, &version.0, &version.1) {
            Ok(definition) => {
                let EngineSnapshot { versions, runs, open_tries, .. } = &mut loaded.snapshot;
                versions.insert(version, definition);
                runs.push(snapshot);
                open_tries.extend(open);
            }
            Err(what) => loaded.leave_out(dag_id, run, what),
        }
    }
    Ok(())
}

pub(super) async fn load_run(reader: &SqlReader, run: RunKey) -> Result<Option<FinishedRun>, ReadError> {
    let Some(model) = entity::dag_run::Entity::find_by_id(run.0).one(&reader.db).await? else {
        return Ok(None);
    };
    let (snapshot, _) = parts(reader, &[run.0]).await?.snapshot(model)?;
    let dag = definition(reader, &snapshot.run.dag_id, &snapshot.run.dag_version).await?;
    Ok(dag.map(|dag| FinishedRun { snapshot, dag }))
}

/// Finds the first row of a refused batch that is not in the state that the batch expects. The transaction is
/// rolled back and nobody else writes, so what is read now is what the guard saw.
pub(super) async fn find_mismatch(reader: &SqlReader, batch: &Batch) -> Option<RowRef> {
    let mut seen = HashSet::new();
    for change in batch.runs.iter().filter(|change| seen.insert(change.row.key)) {
        let stored = entity::dag_run::Entity::find_by_id(change.row.key.0).one(&reader.db).await.ok()?;
        let stored = stored.and_then(|model| RunState::parse(&model.state));
        if stored != change.from {
            return Some(RowRef::Run(change.row.key));
        }
    }
    let keys: BTreeSet<i64> = batch.tasks.iter().map(|change| change.row.key.run.0).collect();
    let mut seen = HashSet::new();
    for key in keys {
        let models = parts(reader, &[key]).await.ok()?.tasks.remove(&key).unwrap_or_default();
        let stored: BTreeMap<(&str, i64), &entity::task_instance::Model> =
            models.iter().map(|m| ((m.task_id.as_str(), m.map_index), m)).collect();
        let changes = batch.tasks.iter().filter(|change| change.row.key.run.0 == key);
        for change in changes.filter(|change| seen.insert(change.row.key.clone())) {
            let id = (change.row.key.task.as_str(), i64::from(change.row.key.map_index));
            let is_expected = match stored.get(&id) {
                None => change.from.state == TaskState::NoStatus,
                Some(model) => {
                    model.state == change.from.state.as_str()
                        && model.try_number == i64::from(change.from.try_number)
                        && model.epoch == i64::from(change.from.epoch)
                }
            };
            if !is_expected {
                return Some(RowRef::Task(change.row.key.clone()));
            }
        }
    }
    for write in batch.tries.iter().filter(|write| !write.change.is_new) {
        let attempt = &write.change.stored_attempt();
        let stored = super::reader::find_try(reader, attempt).await.ok()?;
        if stored.is_none_or(|model| model.outcome.is_some()) {
            return Some(RowRef::Try(attempt.clone()));
        }
    }
    None
}
