//! Reads of the databases: the trait, and what belongs to one run.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tidemill_engine::{
    asset::{AssetEventId, AssetEventRow},
    definition::Dag,
    ids::{AttemptKey, ConnectionId, DagId, RunId, RunKey, TaskId, TaskInstanceKey, VariableName, WorkerId},
    mapping::MapValues,
    rows::{PassedOver, PreviousRun, RunRow, TaskRow, TryRow, VersionHash},
    state::{RunState, RunType},
};

use super::{SqlReader, assets, entity, load, reader_access, reader_history, reader_lists, rows, vault};
use crate::{
    access::{ApiToken, IdempotencyRow, JoinToken, LoginLink, Session, WorkerKey},
    assets::{AssetEventItem, AssetEventQuery, AssetQuery, AssetSummary, OldAssetEvents},
    batch::{ImportError, VersionRow},
    error::{OpenError, ReadError},
    reader::{
        AuditCheck, AuditQuery, AuditRow, DagDetail, DagQuery, DagSummary, Grid, HomeCounts, LeaderInfo,
        OutboxRow, Page, PageRequest, PoolUse, Reader, ReportPoint, RunQuery, StoreHealth, StoredReport,
        TaskListItem, TaskQuery, VersionInfo,
    },
    vault::{ConnectionRow, VariableRow},
    views,
};

fn attempt_id(attempt: &AttemptKey) -> (i64, String, i64, i64, i64) {
    let key = &attempt.instance;
    (
        key.run.0,
        key.task.to_string(),
        i64::from(key.map_index),
        i64::from(attempt.try_number),
        i64::from(attempt.epoch),
    )
}

pub(super) async fn find_try(
    reader: &SqlReader,
    attempt: &AttemptKey,
) -> Result<Option<entity::task_try::Model>, ReadError> {
    Ok(entity::task_try::Entity::find_by_id(attempt_id(attempt)).one(&reader.db).await?)
}

#[async_trait]
impl Reader for SqlReader {
    async fn dags(&self, query: &DagQuery) -> Result<Page<DagSummary>, ReadError> {
        reader_lists::dags(self, query).await
    }

    async fn tags(&self) -> Result<Vec<String>, ReadError> {
        reader_lists::tags(self).await
    }

    async fn dag(&self, dag_id: &DagId) -> Result<Option<DagDetail>, ReadError> {
        let model = entity::dag::Entity::find_by_id(dag_id.to_string()).one(&self.db).await?;
        let Some(dag) = model.map(rows::dag_row).transpose()? else { return Ok(None) };
        let definition = load::definition(self, dag_id, &dag.version).await?;
        Ok(definition.map(|definition| DagDetail { dag, definition }))
    }

    async fn versions(&self, dag_id: &DagId) -> Result<Vec<VersionInfo>, ReadError> {
        use entity::dag_version::{Column, Entity};
        let found = Entity::find()
            .select_only()
            .columns([Column::Hash, Column::Path, Column::CreatedAt])
            .filter(Column::DagId.eq(dag_id.as_str()))
            .order_by_desc(Column::CreatedAt)
            .order_by_asc(Column::Hash)
            .into_tuple::<(String, String, i64)>()
            .all(&self.db)
            .await?;
        let row = rows::Row::new("dag_version", dag_id);
        let infos = found.into_iter().map(|(hash, path, at)| {
            Ok(VersionInfo { hash: VersionHash(hash.into()), path, created_at: row.at(at)? })
        });
        infos.collect()
    }

    async fn version(&self, dag_id: &DagId, hash: &VersionHash) -> Result<Option<VersionRow>, ReadError> {
        let id = (dag_id.to_string(), hash.to_string());
        let model = entity::dag_version::Entity::find_by_id(id).one(&self.db).await?;
        model.map(rows::version_row).transpose()
    }

    async fn definition(&self, dag_id: &DagId, hash: &VersionHash) -> Result<Option<Arc<Dag>>, ReadError> {
        load::definition(self, dag_id, hash).await
    }

    async fn passed_over(&self, dag_id: &DagId, limit: u32) -> Result<Vec<PassedOver>, ReadError> {
        use entity::passed_over::{Column, Entity};
        let models = Entity::find()
            .filter(Column::DagId.eq(dag_id.as_str()))
            .order_by_desc(Column::FirstDate)
            .order_by_desc(Column::DecidedAt)
            .limit(u64::from(limit))
            .all(&self.db)
            .await?;
        models.into_iter().map(rows::passed_over_row).collect()
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRow>, ReadError> {
        reader_lists::runs(self, query).await
    }

    async fn run(&self, dag_id: &DagId, run_id: &RunId) -> Result<Option<RunRow>, ReadError> {
        use entity::dag_run::{Column, Entity};
        let model = Entity::find()
            .filter(Column::DagId.eq(dag_id.as_str()))
            .filter(Column::RunId.eq(run_id.as_str()))
            .one(&self.db)
            .await?;
        model.map(rows::run_row).transpose()
    }

    async fn run_by_key(&self, run: RunKey) -> Result<Option<RunRow>, ReadError> {
        let model = entity::dag_run::Entity::find_by_id(run.0).one(&self.db).await?;
        model.map(rows::run_row).transpose()
    }

    async fn taken_dates(
        &self,
        dates: &[(DagId, DateTime<Utc>)],
    ) -> Result<Vec<(DagId, DateTime<Utc>)>, ReadError> {
        reader_history::taken_dates(self, dates).await
    }

    async fn previous_success(
        &self,
        dag_id: &DagId,
        before: DateTime<Utc>,
    ) -> Result<Option<RunRow>, ReadError> {
        use entity::dag_run::{Column, Entity};
        let model = Entity::find()
            .filter(Column::DagId.eq(dag_id.as_str()))
            .filter(Column::State.eq(RunState::Success.as_str()))
            .filter(Column::LogicalDate.lt(rows::micros(before)))
            .order_by_desc(Column::LogicalDate)
            .order_by_desc(Column::RunKey)
            .one(&self.db)
            .await?;
        model.map(rows::run_row).transpose()
    }

    async fn previous_run(
        &self,
        dag_id: &DagId,
        before: DateTime<Utc>,
    ) -> Result<Option<PreviousRun>, ReadError> {
        use entity::dag_run::{Column, Entity};
        let model = Entity::find()
            .filter(Column::DagId.eq(dag_id.as_str()))
            .filter(Column::RunType.is_in([RunType::Scheduled.as_str(), RunType::Backfill.as_str()]))
            .filter(Column::LogicalDate.lt(rows::micros(before)))
            .order_by_desc(Column::LogicalDate)
            // `scheduled` comes after `backfill`.
            .order_by_desc(Column::RunType)
            .one(&self.db)
            .await?;
        let Some(run) = model.map(rows::run_row).transpose()? else { return Ok(None) };
        let tasks = self.tasks(run.key).await?;
        let dag = load::definition(self, &run.dag_id, &run.dag_version).await?;
        Ok(Some(views::previous_run(&run, &tasks, dag.as_deref())))
    }

    async fn runs_finished_before(
        &self,
        dag_id: &DagId,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<RunRow>, ReadError> {
        use entity::dag_run::{Column, Entity};
        let models = Entity::find()
            .filter(Column::DagId.eq(dag_id.as_str()))
            .filter(Column::FinishedAt.lt(rows::micros(before)))
            .order_by_asc(Column::FinishedAt)
            .order_by_asc(Column::RunKey)
            .limit(u64::from(limit))
            .all(&self.db)
            .await?;
        models.into_iter().map(rows::run_row).collect()
    }

    async fn tasks(&self, run: RunKey) -> Result<Vec<TaskRow>, ReadError> {
        use entity::task_instance::{Column, Entity};
        let models = Entity::find()
            .filter(Column::RunKey.eq(run.0))
            .order_by_asc(Column::TaskId)
            .order_by_asc(Column::MapIndex)
            .all(&self.db)
            .await?;
        models.into_iter().map(rows::task_row).collect()
    }

    async fn task(&self, key: &TaskInstanceKey) -> Result<Option<TaskRow>, ReadError> {
        let id = (key.run.0, key.task.to_string(), i64::from(key.map_index));
        let model = entity::task_instance::Entity::find_by_id(id).one(&self.db).await?;
        model.map(rows::task_row).transpose()
    }

    async fn task_list(&self, query: &TaskQuery) -> Result<Page<TaskListItem>, ReadError> {
        reader_lists::task_list(self, query).await
    }

    async fn grid(&self, dag_id: &DagId, page: &PageRequest) -> Result<Option<Grid>, ReadError> {
        reader_lists::grid(self, dag_id, page).await
    }

    async fn tries(&self, key: &TaskInstanceKey) -> Result<Vec<TryRow>, ReadError> {
        use entity::task_try::{Column, Entity};
        let models = Entity::find()
            .filter(Column::RunKey.eq(key.run.0))
            .filter(Column::TaskId.eq(key.task.as_str()))
            .filter(Column::MapIndex.eq(i64::from(key.map_index)))
            .order_by_asc(Column::TryNumber)
            .order_by_asc(Column::Epoch)
            .all(&self.db)
            .await?;
        models.into_iter().map(rows::try_row).collect()
    }

    async fn try_row(&self, attempt: &AttemptKey) -> Result<Option<TryRow>, ReadError> {
        find_try(self, attempt).await?.map(rows::try_row).transpose()
    }

    async fn rendered(&self, attempt: &AttemptKey) -> Result<Option<serde_json::Value>, ReadError> {
        let Some(model) = find_try(self, attempt).await? else { return Ok(None) };
        let row = rows::Row::new("task_try", format_args!("{attempt:?}"));
        model.rendered.map(|text| row.json(&text)).transpose()
    }

    async fn token_hash(&self, attempt: &AttemptKey) -> Result<Option<String>, ReadError> {
        Ok(find_try(self, attempt).await?.and_then(|model| model.token_hash))
    }

    async fn outputs(&self, key: &TaskInstanceKey) -> Result<BTreeMap<String, serde_json::Value>, ReadError> {
        use entity::task_output::{Column, Entity};
        let models = Entity::find()
            .filter(Column::RunKey.eq(key.run.0))
            .filter(Column::TaskId.eq(key.task.as_str()))
            .filter(Column::MapIndex.eq(i64::from(key.map_index)))
            .all(&self.db)
            .await?;
        let row = rows::Row::new("task_output", format_args!("{}/{}", key.run, key.task));
        models.into_iter().map(|model| Ok((model.output_key, row.json(&model.value)?))).collect()
    }

    async fn run_outputs(
        &self,
        run: RunKey,
        tasks: &[TaskId],
    ) -> Result<BTreeMap<TaskId, BTreeMap<String, serde_json::Value>>, ReadError> {
        use entity::task_output::{Column, Entity};
        let row = rows::Row::new("task_output", run);
        let mut outputs: BTreeMap<TaskId, BTreeMap<String, serde_json::Value>> = BTreeMap::new();
        let all = Entity::find().filter(Column::RunKey.eq(run.0)).filter(Column::MapIndex.eq(-1));
        let chunks: Vec<_> = if tasks.is_empty() {
            vec![all]
        } else {
            let names = |chunk: &[TaskId]| chunk.iter().map(|t| t.as_str().to_owned()).collect::<Vec<_>>();
            tasks.chunks(200).map(|chunk| all.clone().filter(Column::TaskId.is_in(names(chunk)))).collect()
        };
        for select in chunks {
            for model in select.all(&self.db).await? {
                let value = row.json(&model.value)?;
                outputs.entry(row.name(&model.task_id)?).or_default().insert(model.output_key, value);
            }
        }
        Ok(outputs)
    }

    async fn mapped_outputs(
        &self,
        run: RunKey,
        task: &TaskId,
    ) -> Result<BTreeMap<i32, BTreeMap<String, serde_json::Value>>, ReadError> {
        use entity::task_output::{Column, Entity};
        let models = Entity::find()
            .filter(Column::RunKey.eq(run.0))
            .filter(Column::TaskId.eq(task.as_str()))
            .filter(Column::MapIndex.gte(0));
        let row = rows::Row::new("task_output", format_args!("{run}/{task}"));
        let mut outputs: BTreeMap<i32, BTreeMap<String, serde_json::Value>> = BTreeMap::new();
        for model in models.all(&self.db).await? {
            let value = row.json(&model.value)?;
            let index = i32::try_from(model.map_index).map_err(|error| row.bad(error))?;
            outputs.entry(index).or_default().insert(model.output_key, value);
        }
        Ok(outputs)
    }

    async fn map_lengths(&self, run: RunKey) -> Result<BTreeMap<TaskId, u32>, ReadError> {
        use entity::task_map::{Column, Entity};
        use sea_orm::QuerySelect;
        let lengths = Entity::find()
            .select_only()
            .columns([Column::TaskId, Column::Length])
            .filter(Column::RunKey.eq(run.0))
            .into_tuple::<(String, i64)>();
        let row = rows::Row::new("task_map", run);
        let found = lengths.all(&self.db).await?;
        found.into_iter().map(|(task, length)| Ok((row.name(&task)?, row.number(length)?))).collect()
    }

    async fn map_values(&self, run: RunKey, task: &TaskId) -> Result<Option<Arc<MapValues>>, ReadError> {
        let id = (run.0, task.to_string());
        let model = entity::task_map::Entity::find_by_id(id).one(&self.db).await?;
        Ok(model.map(rows::map_row).transpose()?.map(|row| row.values))
    }

    async fn reports(&self, key: &TaskInstanceKey) -> Result<Vec<StoredReport>, ReadError> {
        use entity::task_report::{Column, Entity};
        let models = Entity::find()
            .filter(Column::RunKey.eq(key.run.0))
            .filter(Column::TaskId.eq(key.task.as_str()))
            .filter(Column::MapIndex.eq(i64::from(key.map_index)))
            .order_by_desc(Column::TryNumber)
            .order_by_desc(Column::Epoch)
            .all(&self.db)
            .await?;
        models.into_iter().map(rows::report_row).collect()
    }

    async fn report(&self, attempt: &AttemptKey) -> Result<Option<StoredReport>, ReadError> {
        let model = entity::task_report::Entity::find_by_id(attempt_id(attempt)).one(&self.db).await?;
        model.map(rows::report_row).transpose()
    }

    async fn report_history(
        &self,
        dag_id: &DagId,
        task: &TaskId,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<ReportPoint>, ReadError> {
        reader_lists::report_history(self, dag_id, task, until, limit).await
    }

    async fn assets(&self, query: &AssetQuery) -> Result<Page<AssetSummary>, ReadError> {
        assets::assets(self, query).await
    }

    async fn asset_events(&self, query: &AssetEventQuery) -> Result<Page<AssetEventItem>, ReadError> {
        assets::events(self, query).await
    }

    async fn run_asset_events(&self, run: RunKey, limit: u32) -> Result<Vec<AssetEventRow>, ReadError> {
        assets::causes(self, run, limit).await
    }

    async fn queued_asset_events(&self, dag_id: &DagId, limit: u32) -> Result<Vec<AssetEventRow>, ReadError> {
        assets::queued(self, dag_id, limit).await
    }

    async fn asset_event_by_key(&self, key_hash: &str) -> Result<Option<(AssetEventRow, String)>, ReadError> {
        assets::by_key(self, key_hash).await
    }

    async fn old_asset_events(&self, old: OldAssetEvents) -> Result<Vec<AssetEventId>, ReadError> {
        assets::old(self, old).await
    }

    async fn home(&self, now: DateTime<Utc>) -> Result<HomeCounts, ReadError> {
        reader_access::home(self, now).await
    }

    async fn pools(&self) -> Result<Vec<PoolUse>, ReadError> {
        reader_access::pools(self).await
    }

    async fn variables(&self, names: &[VariableName]) -> Result<Vec<VariableRow>, ReadError> {
        vault::variables(self, names).await
    }

    async fn connections(&self, ids: &[ConnectionId]) -> Result<Vec<ConnectionRow>, ReadError> {
        vault::connections(self, ids).await
    }

    async fn import_errors(&self) -> Result<Vec<ImportError>, ReadError> {
        use entity::import_error::{Column, Entity};
        let models = Entity::find().order_by_asc(Column::Path).all(&self.db).await?;
        models.into_iter().map(rows::import_error_row).collect()
    }

    async fn outbox_due(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<OutboxRow>, ReadError> {
        use entity::outbox::{Column, Entity};
        let models = Entity::find()
            .filter(Column::NextAttemptAt.lte(rows::micros(now)))
            .order_by_asc(Column::NextAttemptAt)
            .order_by_asc(Column::Id)
            .limit(u64::from(limit))
            .all(&self.db)
            .await?;
        models.into_iter().map(rows::outbox_row).collect()
    }

    async fn outbox_next(&self) -> Result<Option<DateTime<Utc>>, ReadError> {
        use entity::outbox::{Column, Entity};
        let model = Entity::find()
            .filter(Column::NextAttemptAt.is_not_null())
            .order_by_asc(Column::NextAttemptAt)
            .one(&self.db)
            .await?;
        Ok(model.map(rows::outbox_row).transpose()?.and_then(|row| row.next_attempt_at))
    }

    async fn api_token(&self, hash: &str) -> Result<Option<ApiToken>, ReadError> {
        use entity::api_token::{Column, Entity};
        let model = Entity::find().filter(Column::Hash.eq(hash)).one(&self.db).await?;
        model.map(rows::api_token_row).transpose()
    }

    async fn api_tokens(&self) -> Result<Vec<ApiToken>, ReadError> {
        use entity::api_token::{Column, Entity};
        let select = Entity::find().order_by_desc(Column::CreatedAt).order_by_asc(Column::Id);
        select.all(&self.db).await?.into_iter().map(rows::api_token_row).collect()
    }

    async fn session(&self, hash: &str) -> Result<Option<Session>, ReadError> {
        let model = entity::session::Entity::find_by_id(hash.to_owned()).one(&self.db).await?;
        model.map(rows::session_row).transpose()
    }

    async fn login_link(&self, hash: &str) -> Result<Option<LoginLink>, ReadError> {
        let model = entity::login_link::Entity::find_by_id(hash.to_owned()).one(&self.db).await?;
        model.map(rows::login_link_row).transpose()
    }

    async fn worker_key(&self, hash: &str) -> Result<Option<WorkerKey>, ReadError> {
        let model = entity::worker_key::Entity::find_by_id(hash.to_owned()).one(&self.db).await?;
        model.map(rows::worker_key_row).transpose()
    }

    async fn has_worker_key(&self, worker: &WorkerId) -> Result<bool, ReadError> {
        use entity::worker_key::{Column, Entity};
        let keys =
            Entity::find().filter(Column::Worker.eq(worker.as_str())).filter(Column::RevokedAt.is_null());
        Ok(keys.one(&self.db).await?.is_some())
    }

    async fn join_token(&self, hash: &str) -> Result<Option<JoinToken>, ReadError> {
        use entity::join_token::{Column, Entity};
        let model = Entity::find().filter(Column::Hash.eq(hash)).one(&self.db).await?;
        model.map(rows::join_token_row).transpose()
    }

    async fn join_tokens(&self) -> Result<Vec<JoinToken>, ReadError> {
        use entity::join_token::{Column, Entity};
        let select = Entity::find().order_by_desc(Column::CreatedAt).order_by_asc(Column::Id);
        select.all(&self.db).await?.into_iter().map(rows::join_token_row).collect()
    }

    async fn idempotency(&self, key_hash: &str) -> Result<Option<IdempotencyRow>, ReadError> {
        let model = entity::idempotency_key::Entity::find_by_id(key_hash.to_owned()).one(&self.db).await?;
        model.map(rows::idempotency_row).transpose()
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRow>, ReadError> {
        reader_access::audit(self, query).await
    }

    async fn check_audit(&self) -> Result<AuditCheck, ReadError> {
        reader_access::check_audit(self).await
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, ReadError> {
        let model = entity::setting::Entity::find_by_id(name.to_owned()).one(&self.db).await?;
        Ok(model.map(|model| model.value))
    }

    async fn leader(&self) -> Result<Option<LeaderInfo>, ReadError> {
        reader_access::leader(self).await
    }

    async fn health(&self) -> Result<StoreHealth, ReadError> {
        reader_access::health(self).await
    }

    async fn backup(&self, target: &Path) -> Result<u64, OpenError> {
        crate::open::backup(&self.database, target).await
    }
}
