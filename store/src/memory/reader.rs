//! Reads of the memory twin.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tidemill_engine::{
    asset::{AssetEventId, AssetEventRow},
    definition::Dag,
    ids::{
        AttemptKey, ConnectionId, DagId, PoolName, RunId, RunKey, TaskId, TaskInstanceKey, VariableName,
        WorkerId,
    },
    mapping::MapValues,
    rows::{MapRow, PassedOver, PreviousRun, RunRow, TaskRow, TryRow, VersionHash},
    state::{RunState, RunType},
};

use super::{MemoryStore, first_of};
use crate::{
    access::{ApiToken, IdempotencyRow, JoinToken, LoginLink, Session, WorkerKey},
    assets::{AssetEventItem, AssetEventQuery, AssetQuery, AssetSummary, OldAssetEvents},
    batch::{ImportError, VersionRow},
    codec::{cursor, page_size, read_cursor},
    error::{OpenError, ReadError},
    reader::{
        AuditCheck, AuditQuery, AuditRow, DagDetail, DagQuery, DagSummary, Grid, GridCell, GridRun,
        HomeCounts, LeaderInfo, OutboxRow, Page, PageRequest, PoolUse, Reader, ReportPoint, RunBar, RunQuery,
        StoreHealth, StoredReport, TaskListItem, TaskQuery, VersionInfo,
    },
    vault::{ConnectionRow, VariableRow},
    views,
};

/// Cuts a list into a page: one row more than the page tells that there is a next one.
pub(super) fn page<T, K: serde::Serialize>(
    rows: impl Iterator<Item = T>,
    request: &PageRequest,
    key: impl Fn(&T) -> K,
) -> Page<T> {
    let size = page_size(request);
    views::cut_page(rows.take(size + 1).collect(), size, |row| cursor(&key(row)))
}

#[async_trait]
impl Reader for MemoryStore {
    async fn dags(&self, query: &DagQuery) -> Result<Page<DagSummary>, ReadError> {
        let after: Option<DagId> = read_cursor(&query.page)?;
        let text = query.text.as_deref().map(str::to_ascii_lowercase);
        let state = self.lock();
        let rows = state.dags.values().filter_map(|dag| {
            let definition = state.definition(&dag.dag_id, &dag.version)?;
            let has_text = |text: &String| {
                dag.dag_id.as_str().to_ascii_lowercase().contains(text)
                    || definition.description.as_ref().is_some_and(|d| d.to_ascii_lowercase().contains(text))
            };
            let is_shown = after.as_ref().is_none_or(|after| dag.dag_id > *after)
                && text.as_ref().is_none_or(has_text)
                && query.tag.as_ref().is_none_or(|tag| definition.tags.contains(tag))
                && query.state.is_none_or(|filter| state.matches(&dag.dag_id, filter));
            if !is_shown {
                return None;
            }
            let last_runs = state.runs_of(&dag.dag_id).take(query.last_runs as usize);
            Some(DagSummary {
                dag: dag.clone(),
                description: definition.description.clone(),
                owner: definition.owner.clone(),
                tags: definition.tags.clone(),
                schedule: definition.schedule.clone(),
                timezone: definition.timezone.name().to_owned(),
                task_count: u32::try_from(definition.tasks.len()).unwrap_or(u32::MAX),
                last_runs: last_runs.map(RunBar::from).collect(),
            })
        });
        Ok(page(rows, &query.page, |row| row.dag.dag_id.clone()))
    }

    async fn tags(&self) -> Result<Vec<String>, ReadError> {
        let state = self.lock();
        let dags = state.dags.values();
        let tags = dags.filter_map(|d| state.definition(&d.dag_id, &d.version)).flat_map(|d| d.tags.clone());
        Ok(tags.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn dag(&self, dag_id: &DagId) -> Result<Option<DagDetail>, ReadError> {
        let state = self.lock();
        let Some(dag) = state.dags.get(dag_id) else { return Ok(None) };
        let definition = state.definition(dag_id, &dag.version);
        Ok(definition.map(|definition| DagDetail { dag: dag.clone(), definition }))
    }

    async fn versions(&self, dag_id: &DagId) -> Result<Vec<VersionInfo>, ReadError> {
        let state = self.lock();
        let rows = state.versions.values().filter(|v| v.dag_id == *dag_id);
        let mut infos: Vec<_> = rows
            .map(|v| VersionInfo { hash: v.hash.clone(), path: v.path.clone(), created_at: v.created_at })
            .collect();
        infos.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.hash.cmp(&b.hash)));
        Ok(infos)
    }

    async fn version(&self, dag_id: &DagId, hash: &VersionHash) -> Result<Option<VersionRow>, ReadError> {
        Ok(self.lock().versions.get(&(dag_id.clone(), hash.clone())).cloned())
    }

    async fn definition(&self, dag_id: &DagId, hash: &VersionHash) -> Result<Option<Arc<Dag>>, ReadError> {
        Ok(self.lock().definition(dag_id, hash))
    }

    async fn passed_over(&self, dag_id: &DagId, limit: u32) -> Result<Vec<PassedOver>, ReadError> {
        let state = self.lock();
        let rows = state.passed_over.values().filter(|row| row.dag_id == *dag_id).cloned();
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.first, row.at)));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRow>, ReadError> {
        let before: Option<(i64, RunKey)> = read_cursor(&query.page)?;
        let state = self.lock();
        let mut rows: Vec<&RunRow> = match &query.dag_id {
            Some(dag_id) => state.runs_of(dag_id).collect(),
            None => state.runs.values().collect(),
        };
        let key = |run: &RunRow| (run.logical_date.timestamp_micros(), run.key);
        rows.sort_by_key(|run| std::cmp::Reverse(key(run)));
        let rows = rows.into_iter().filter(|run| {
            before.is_none_or(|before| key(run) < before)
                && (query.states.is_empty() || query.states.contains(&run.state))
                && query.run_type.is_none_or(|run_type| run.run_type == run_type)
                && query.finished_since.is_none_or(|since| run.finished_at.is_some_and(|at| at >= since))
                && query.logical_since.is_none_or(|since| run.logical_date >= since)
                && query.logical_before.is_none_or(|before| run.logical_date < before)
                && (!query.is_late || run.deadline_missed_at.is_some())
        });
        Ok(page(rows.cloned(), &query.page, key))
    }

    async fn run(&self, dag_id: &DagId, run_id: &RunId) -> Result<Option<RunRow>, ReadError> {
        let state = self.lock();
        let key = state.run_ids.get(&(dag_id.clone(), run_id.clone()));
        Ok(key.and_then(|key| state.runs.get(key)).cloned())
    }

    async fn run_by_key(&self, run: RunKey) -> Result<Option<RunRow>, ReadError> {
        Ok(self.lock().runs.get(&run).cloned())
    }

    async fn taken_dates(
        &self,
        dates: &[(DagId, DateTime<Utc>)],
    ) -> Result<Vec<(DagId, DateTime<Utc>)>, ReadError> {
        let state = self.lock();
        let is_taken = |(dag_id, date): &&(DagId, DateTime<Utc>)| {
            let range = (*date, RunKey(i64::MIN))..=(*date, RunKey(i64::MAX));
            let keys = state.run_dates.get(dag_id).into_iter().flat_map(|dates| dates.range(range.clone()));
            keys.filter_map(|(_, key)| state.runs.get(key)).any(|r| r.run_type == RunType::Scheduled)
        };
        Ok(dates.iter().filter(is_taken).cloned().collect())
    }

    async fn previous_success(
        &self,
        dag_id: &DagId,
        before: DateTime<Utc>,
    ) -> Result<Option<RunRow>, ReadError> {
        let state = self.lock();
        let mut runs = state.runs_of(dag_id);
        Ok(runs.find(|r| r.logical_date < before && r.state == RunState::Success).cloned())
    }

    async fn previous_run(
        &self,
        dag_id: &DagId,
        before: DateTime<Utc>,
    ) -> Result<Option<PreviousRun>, ReadError> {
        let state = self.lock();
        let is_dated = |run: &&RunRow| matches!(run.run_type, RunType::Scheduled | RunType::Backfill);
        let earlier = state.runs_of(dag_id).filter(|run| run.logical_date < before).filter(is_dated);
        let newest = earlier.max_by_key(|run| (run.logical_date, run.run_type == RunType::Scheduled));
        Ok(newest.map(|run| {
            let tasks: Vec<TaskRow> = state.tasks_of(run.key).cloned().collect();
            let dag = state.definition(dag_id, &run.dag_version);
            views::previous_run(run, &tasks, dag.as_deref())
        }))
    }

    async fn runs_finished_before(
        &self,
        dag_id: &DagId,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<RunRow>, ReadError> {
        let state = self.lock();
        let rows = state.runs_of(dag_id).filter(|r| r.finished_at.is_some_and(|at| at < before));
        let mut rows: Vec<_> = rows.cloned().collect();
        rows.sort_by_key(|r| (r.finished_at, r.key));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn tasks(&self, run: RunKey) -> Result<Vec<TaskRow>, ReadError> {
        Ok(self.lock().tasks_of(run).cloned().collect())
    }

    async fn task(&self, key: &TaskInstanceKey) -> Result<Option<TaskRow>, ReadError> {
        Ok(self.lock().tasks.get(key).cloned())
    }

    async fn task_list(&self, query: &TaskQuery) -> Result<Page<TaskListItem>, ReadError> {
        let after: Option<(RunKey, TaskId, i32)> = read_cursor(&query.page)?;
        let state = self.lock();
        let rows = state.runs.values().rev().flat_map(|run| {
            let of_dag = query.dag_id.as_ref().is_none_or(|dag_id| *dag_id == run.dag_id);
            let tasks = of_dag.then(|| state.tasks_of(run.key)).into_iter().flatten();
            tasks.map(move |task| (run, task))
        });
        let rows = rows.filter(|(run, task)| {
            let is_after = after.as_ref().is_none_or(|(last, id, map_index)| {
                run.key < *last || run.key == *last && (&task.key.task, &task.key.map_index) > (id, map_index)
            });
            is_after
                && query.state.is_none_or(|wanted| task.state == wanted)
                && query.finished_since.is_none_or(|since| task.finished_at.is_some_and(|at| at >= since))
        });
        let items = rows.map(|(run, task)| TaskListItem {
            dag_id: run.dag_id.clone(),
            run_id: run.run_id.clone(),
            task: task.clone(),
        });
        Ok(page(items, &query.page, |i| (i.task.key.run, i.task.key.task.clone(), i.task.key.map_index)))
    }

    async fn grid(&self, dag_id: &DagId, request: &PageRequest) -> Result<Option<Grid>, ReadError> {
        let query = RunQuery { page: request.clone(), dag_id: Some(dag_id.clone()), ..RunQuery::default() };
        let runs = self.runs(&query).await?;
        let state = self.lock();
        if !state.dags.contains_key(dag_id) {
            return Ok(None);
        }
        let tasks: BTreeSet<&TaskId> =
            runs.items.iter().flat_map(|run| state.tasks_of(run.key)).map(|t| &t.key.task).collect();
        let index: BTreeMap<&TaskId, u32> = tasks.iter().copied().zip(0..).collect();
        let columns = runs.items.iter().map(|run| {
            let cells = state.tasks_of(run.key).map(|task| GridCell {
                task: index.get(&task.key.task).copied().unwrap_or_default(),
                map_index: task.key.map_index,
                state: task.state,
                try_number: task.try_number,
            });
            GridRun { run: RunBar::from(run), dag_version: run.dag_version.clone(), cells: cells.collect() }
        });
        let columns = columns.collect();
        let tasks = tasks.into_iter().cloned().collect();
        Ok(Some(Grid { tasks, runs: columns, next_cursor: runs.next_cursor }))
    }

    async fn tries(&self, key: &TaskInstanceKey) -> Result<Vec<TryRow>, ReadError> {
        let state = self.lock();
        let rows = state.tries_of(key.run).filter(|t| t.row.attempt.instance == *key);
        Ok(rows.map(|t| t.row.clone()).collect())
    }

    async fn try_row(&self, attempt: &AttemptKey) -> Result<Option<TryRow>, ReadError> {
        Ok(self.lock().tries.get(attempt).map(|t| t.row.clone()))
    }

    async fn rendered(&self, attempt: &AttemptKey) -> Result<Option<serde_json::Value>, ReadError> {
        Ok(self.lock().tries.get(attempt).and_then(|t| t.rendered.clone()))
    }

    async fn token_hash(&self, attempt: &AttemptKey) -> Result<Option<String>, ReadError> {
        Ok(self.lock().tries.get(attempt).and_then(|t| t.token_hash.clone()))
    }

    async fn outputs(&self, key: &TaskInstanceKey) -> Result<BTreeMap<String, serde_json::Value>, ReadError> {
        Ok(self.lock().outputs.get(key).cloned().unwrap_or_default())
    }

    async fn run_outputs(
        &self,
        run: RunKey,
        tasks: &[TaskId],
    ) -> Result<BTreeMap<TaskId, BTreeMap<String, serde_json::Value>>, ReadError> {
        let state = self.lock();
        let rows = state.outputs.range(first_of(run)..).take_while(|(key, _)| key.run == run);
        let rows = rows.filter(|(key, values)| {
            key.map_index == -1 && !values.is_empty() && (tasks.is_empty() || tasks.contains(&key.task))
        });
        Ok(rows.map(|(key, values)| (key.task.clone(), values.clone())).collect())
    }

    async fn mapped_outputs(
        &self,
        run: RunKey,
        task: &TaskId,
    ) -> Result<BTreeMap<i32, BTreeMap<String, serde_json::Value>>, ReadError> {
        let state = self.lock();
        let first = TaskInstanceKey { run, task: task.clone(), map_index: 0 };
        let rows = state.outputs.range(first..).take_while(|(key, _)| key.run == run && key.task == *task);
        let rows = rows.filter(|(_, values)| !values.is_empty());
        Ok(rows.map(|(key, values)| (key.map_index, values.clone())).collect())
    }

    async fn map_lengths(&self, run: RunKey) -> Result<BTreeMap<TaskId, u32>, ReadError> {
        let state = self.lock();
        let length = |row: &MapRow| u32::try_from(row.values.len()).unwrap_or(u32::MAX);
        Ok(state.maps_of(run).map(|row| (row.task.clone(), length(row))).collect())
    }

    async fn map_values(&self, run: RunKey, task: &TaskId) -> Result<Option<Arc<MapValues>>, ReadError> {
        Ok(self.lock().maps.get(&(run, task.clone())).map(|row| Arc::clone(&row.values)))
    }

    async fn reports(&self, key: &TaskInstanceKey) -> Result<Vec<StoredReport>, ReadError> {
        Ok(self.lock().newest_reports(key).cloned().collect())
    }

    async fn report(&self, attempt: &AttemptKey) -> Result<Option<StoredReport>, ReadError> {
        Ok(self.lock().reports.get(attempt).cloned())
    }

    async fn report_history(
        &self,
        dag_id: &DagId,
        task: &TaskId,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<ReportPoint>, ReadError> {
        let state = self.lock();
        let runs = state.runs_of(dag_id).filter(|run| run.logical_date <= until);
        let points = runs.filter_map(|run| {
            let key = TaskInstanceKey { run: run.key, task: task.clone(), map_index: -1 };
            let report = state.newest_reports(&key).next()?.clone();
            Some(ReportPoint { run_id: run.run_id.clone(), logical_date: run.logical_date, report })
        });
        Ok(points.take(limit as usize).collect())
    }

    async fn assets(&self, query: &AssetQuery) -> Result<Page<AssetSummary>, ReadError> {
        self.lock().assets_page(query)
    }

    async fn asset_events(&self, query: &AssetEventQuery) -> Result<Page<AssetEventItem>, ReadError> {
        self.lock().asset_events_page(query)
    }

    async fn run_asset_events(&self, run: RunKey, limit: u32) -> Result<Vec<AssetEventRow>, ReadError> {
        Ok(self.lock().assets.caused_by(run, limit))
    }

    async fn queued_asset_events(&self, dag_id: &DagId, limit: u32) -> Result<Vec<AssetEventRow>, ReadError> {
        Ok(self.lock().assets.queued(dag_id, limit))
    }

    async fn asset_event_by_key(&self, key_hash: &str) -> Result<Option<(AssetEventRow, String)>, ReadError> {
        let state = self.lock();
        let mut found = state.assets.events.values();
        Ok(found.find_map(|(row, key)| {
            let key = key.as_ref().filter(|key| key.key_hash == key_hash)?;
            Some((row.clone(), key.request_hash.clone()))
        }))
    }

    async fn old_asset_events(&self, old: OldAssetEvents) -> Result<Vec<AssetEventId>, ReadError> {
        Ok(self.lock().assets.old(old))
    }

    async fn home(&self, now: DateTime<Utc>) -> Result<HomeCounts, ReadError> {
        Ok(self.lock().home(now))
    }

    async fn pools(&self) -> Result<Vec<PoolUse>, ReadError> {
        let state = self.lock();
        let mut used: BTreeMap<PoolName, (u32, u32)> = BTreeMap::new();
        for task in state.tasks.values().filter(|task| task.state.has_lease()) {
            let run = state.runs.get(&task.key.run);
            let definition = run.and_then(|run| state.definition(&run.dag_id, &run.dag_version));
            views::count_slots(&mut used, definition.as_deref(), &task.key.task);
        }
        Ok(state.pools.values().map(|pool| views::pool_use(pool, &used)).collect())
    }

    async fn variables(&self, names: &[VariableName]) -> Result<Vec<VariableRow>, ReadError> {
        Ok(self.lock().variables_named(names))
    }

    async fn connections(&self, ids: &[ConnectionId]) -> Result<Vec<ConnectionRow>, ReadError> {
        Ok(self.lock().connections_named(ids))
    }

    async fn import_errors(&self) -> Result<Vec<ImportError>, ReadError> {
        Ok(self.lock().import_errors.values().cloned().collect())
    }

    async fn outbox_due(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<OutboxRow>, ReadError> {
        let state = self.lock();
        let due = |row: &&OutboxRow| row.next_attempt_at.is_some_and(|at| at <= now);
        let mut rows: Vec<_> = state.outbox.values().filter(due).cloned().collect();
        rows.sort_by(|a, b| (a.next_attempt_at, &a.message.id).cmp(&(b.next_attempt_at, &b.message.id)));
        rows.truncate(limit as usize);
        Ok(rows)
    }

    async fn outbox_next(&self) -> Result<Option<DateTime<Utc>>, ReadError> {
        Ok(self.lock().outbox.values().filter_map(|row| row.next_attempt_at).min())
    }

    async fn api_token(&self, hash: &str) -> Result<Option<ApiToken>, ReadError> {
        Ok(self.lock().api_tokens.values().find(|token| token.hash == hash).cloned())
    }

    async fn api_tokens(&self) -> Result<Vec<ApiToken>, ReadError> {
        let mut rows: Vec<_> = self.lock().api_tokens.values().cloned().collect();
        rows.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(rows)
    }

    async fn session(&self, hash: &str) -> Result<Option<Session>, ReadError> {
        Ok(self.lock().sessions.get(hash).cloned())
    }

    async fn login_link(&self, hash: &str) -> Result<Option<LoginLink>, ReadError> {
        Ok(self.lock().login_links.get(hash).cloned())
    }

    async fn worker_key(&self, hash: &str) -> Result<Option<WorkerKey>, ReadError> {
        Ok(self.lock().worker_keys.get(hash).cloned())
    }

    async fn has_worker_key(&self, worker: &WorkerId) -> Result<bool, ReadError> {
        let state = self.lock();
        Ok(state.worker_keys.values().any(|key| key.worker == *worker && key.revoked_at.is_none()))
    }

    async fn join_token(&self, hash: &str) -> Result<Option<JoinToken>, ReadError> {
        Ok(self.lock().join_tokens.values().find(|token| token.hash == hash).cloned())
    }

    async fn join_tokens(&self) -> Result<Vec<JoinToken>, ReadError> {
        let mut rows: Vec<_> = self.lock().join_tokens.values().cloned().collect();
        rows.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(rows)
    }

    async fn idempotency(&self, key_hash: &str) -> Result<Option<IdempotencyRow>, ReadError> {
        Ok(self.lock().idempotency.get(key_hash).cloned())
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditRow>, ReadError> {
        let before: Option<i64> = read_cursor(&query.page)?;
        let state = self.lock();
        let rows = state.audit.values().rev().filter(|row| {
            before.is_none_or(|before| row.seq < before)
                && query.subject_prefix.as_ref().is_none_or(|p| row.entry.subject.starts_with(p))
                && query.subject.as_ref().is_none_or(|subject| views::is_within(&row.entry.subject, subject))
                && query.actor.as_ref().is_none_or(|actor| row.entry.actor == *actor)
        });
        Ok(page(rows.cloned(), &query.page, |row| row.seq))
    }

    async fn check_audit(&self) -> Result<AuditCheck, ReadError> {
        Ok(self.lock().check_audit())
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, ReadError> {
        Ok(self.lock().settings.get(name).cloned())
    }

    async fn leader(&self) -> Result<Option<LeaderInfo>, ReadError> {
        let leader = self.lock().leader.clone();
        let is_valid = !leader.holder.is_empty() && self.is_lease_valid(leader.expires_at);
        let info = LeaderInfo { holder: leader.holder, url: leader.url, term: leader.term, is_valid };
        Ok((info.term > 0).then_some(info))
    }

    async fn health(&self) -> Result<StoreHealth, ReadError> {
        Ok(StoreHealth {
            backend: "memory".to_owned(),
            schema_version: "memory".to_owned(),
            size_bytes: 0,
            wal_bytes: 0,
        })
    }

    async fn backup(&self, target: &Path) -> Result<u64, OpenError> {
        Err(OpenError::Io {
            path: target.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::Unsupported, "a database in memory has no file"),
        })
    }
}
