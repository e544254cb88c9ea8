//! The engine with what a store would hold, two clocks, and workers that do what the story says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tidemill_engine::{
    action::{Action, Assign, TaskFence},
    asset::{AssetChange, AssetEventId, AssetEventRow, AssetQueueRow},
    backfill::{BackfillPage, BackfillRow, DatedRun},
    definition::Dag,
    engine::Engine,
    event::{Event, RequestId},
    ids::{AttemptKey, BackfillKey, DagId, PoolName, RunKey, TaskId, TaskInstanceKey, WorkerId},
    now::Now,
    preparation::{FoundRun, Prepared, Unprepared},
    rows::{
        DagRow, EngineSnapshot, FinishedRun, MapRow, PoolRow, PreviousRun, RunRow, RunSnapshot, TaskRow,
        TryRow, VersionHash, directly_below,
    },
    state::{RunType, TaskState},
    template::{Context, prepare},
};

use super::show;

/// A worker of the story.
pub(super) struct Worker {
    pub(super) boot: u32,
    pub(super) capacity: u32,
    /// It is not heard of.
    pub(super) is_silent: bool,
}

pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: Now,
    pub(super) dags: BTreeMap<DagId, DagRow>,
    pub(super) versions: BTreeMap<(DagId, VersionHash), Arc<Dag>>,
    /// Versions in the order in which they were seen, for short names.
    pub(super) version_names: Vec<VersionHash>,
    pub(super) runs: BTreeMap<RunKey, RunRow>,
    pub(super) tasks: BTreeMap<TaskInstanceKey, TaskRow>,
    tries: BTreeMap<AttemptKey, TryRow>,
    maps: BTreeMap<(RunKey, TaskId), MapRow>,
    /// What tasks give, by task and key.
    pub(super) outputs: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
    pools: BTreeMap<PoolName, PoolRow>,
    pub(super) backfills: BTreeMap<BackfillKey, BackfillRow>,
    /// What each worker holds.
    pub(super) held: BTreeSet<(WorkerId, AttemptKey)>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) events: Vec<AssetEventRow>,
    /// Which events are queued for which DAG.
    queue: BTreeSet<(DagId, AssetEventId)>,
    /// What was last said about why a DAG is not run by its assets.
    pub(super) asset_waits: BTreeMap<DagId, String>,
    requests: u64,
    /// What was last said about who waits for what.
    pub(super) waits: BTreeMap<TaskInstanceKey, String>,
}

impl World {
    pub(super) fn new() -> Self {
        let pool =
            PoolRow { name: PoolName::new("default_pool").unwrap(), slots: 128, description: String::new() };
        let now = Now { wall: "2026-11-01T00:00:00Z".parse().unwrap(), mono: Duration::from_secs(1000) };
        let mut world = Self {
            engine: Engine::default(),
            now,
            dags: BTreeMap::new(),
            versions: BTreeMap::new(),
            version_names: Vec::new(),
            runs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tries: BTreeMap::new(),
            maps: BTreeMap::new(),
            outputs: BTreeMap::new(),
            pools: BTreeMap::from([(pool.name.clone(), pool)]),
            backfills: BTreeMap::new(),
            held: BTreeSet::new(),
            workers: BTreeMap::new(),
            events: Vec::new(),
            queue: BTreeSet::new(),
            asset_waits: BTreeMap::new(),
            requests: 0,
            waits: BTreeMap::new(),
        };
        world.engine = Engine::restore(world.stored(), now);
        world
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Six characters that differ, in place of chance.
    pub(super) fn suffix(&self) -> String {
        format!("{:06}", self.requests)
    }

    /// Applies an event and returns what it led to.
    pub(super) fn step(&mut self, event: Event) -> Vec<String> {
        let mut told = self.step_once(event);
        // The loop answers at once what the engine has to know.
        loop {
            if let Some((run, dag, date)) = self.engine.unknown_past().into_iter().next() {
                let previous = self.previous(&dag, date).map(Box::new);
                told.extend(self.step_once(Event::Past { run, previous }));
            } else if let Some(asked) = self.engine.unprepared().into_iter().next() {
                let result = self.prepare(&asked);
                let Unprepared { instance, what } = asked;
                told.extend(self.step_once(Event::Prepared { instance, what, result }));
            } else if let Some(asked) = self.engine.unprepared_stored().into_iter().next() {
                let result = self.prepare(&asked).map(|prepared| self.complete(prepared));
                let Unprepared { instance, what } = asked;
                told.extend(self.step_once(Event::Prepared { instance, what, result }));
            } else if let Some(page) = self.engine.backfill_page(self.now) {
                let event = self.look_up(&page);
                told.extend(self.step_once(event));
            } else {
                break told;
            }
        }
    }

    /// Renders what is asked for; the outputs are what the story says of them.
    fn prepare(&self, asked: &Unprepared) -> Result<Prepared, String> {
        let run = &self.runs[&asked.instance.run];
        let dag = &self.versions[&(run.dag_id.clone(), run.dag_version.clone())];
        let task = dag.tasks.iter().find(|task| task.id == asked.instance.task).unwrap();
        let mut context = Context::of_try(dag, run, &task.id, 0, 0, asked.instance.map_index);
        context.outputs.clone_from(&self.outputs);
        prepare(task, asked.what, &context).map_err(|error| error.to_string())
    }

    fn runs_of<'a>(&'a self, dag_id: &'a DagId) -> impl Iterator<Item = &'a RunRow> {
        self.runs.values().filter(move |run| run.dag_id == *dag_id)
    }

    /// What only the store knows.
    fn complete(&self, prepared: Prepared) -> Prepared {
        match prepared {
            Prepared::Trigger(mut plan) => {
                plan.suffix = self.suffix();
                plan.is_run_id_taken =
                    self.runs_of(&plan.dag_id).any(|run| Some(&run.run_id) == plan.run_id.as_ref());
                Prepared::Trigger(plan)
            }
            Prepared::Runs(mut asked) => {
                let found = match asked.logical_date {
                    None => self.runs_of(&asked.dag_id).max_by_key(|run| (run.logical_date, run.key)),
                    Some(date) => self
                        .runs_of(&asked.dag_id)
                        .filter(|run| run.logical_date == date)
                        .max_by_key(|run| FoundRun::rank(run)),
                };
                asked.found = found.map(FoundRun::of);
                Prepared::Runs(asked)
            }
            other => other,
        }
    }

    /// What the loop finds for a page of a backfill's dates.
    fn look_up(&self, page: &BackfillPage) -> Event {
        let is_dated = |run: &&RunRow| {
            run.dag_id == page.dag_id
                && matches!(run.run_type, RunType::Scheduled | RunType::Backfill)
                && page.dates.contains(&run.logical_date)
        };
        let found: Vec<DatedRun> = self
            .runs
            .values()
            .filter(is_dated)
            .map(|run| DatedRun {
                run: run.key,
                run_id: run.run_id.clone(),
                run_type: run.run_type,
                state: run.state,
                logical_date: run.logical_date,
                unreadable: None,
            })
            .collect();
        let finished = page.to_load(&found).into_iter().filter_map(|run| self.finished(run)).map(|run| *run);
        let finished = finished.collect();
        Event::BackfillDates { backfill: page.backfill, dates: page.dates.clone(), found, finished }
    }

    fn previous(&self, dag: &DagId, before: DateTime<Utc>) -> Option<PreviousRun> {
        let is_dated = |run: &&RunRow| matches!(run.run_type, RunType::Scheduled | RunType::Backfill);
        let earlier = self.runs.values().filter(|run| run.dag_id == *dag && run.logical_date < before);
        let newest = earlier
            .filter(is_dated)
            .max_by_key(|run| (run.logical_date, run.run_type == RunType::Scheduled))?;
        let dag = &self.versions[&(dag.clone(), newest.dag_version.clone())];
        let unset = dag.tasks.iter().map(|task| (task.id.clone(), TaskState::NoStatus));
        let rows = self.tasks.values().filter(|row| row.key.run == newest.key);
        let stored = rows.map(|row| (row.key.task.clone(), row.state));
        Some(PreviousRun {
            run: newest.key,
            run_id: newest.run_id.clone(),
            logical_date: newest.logical_date,
            states: unset.chain(stored).collect(),
            below: directly_below(dag),
        })
    }

    fn step_once(&mut self, event: Event) -> Vec<String> {
        let actions = self.engine.step(event, self.now);
        let mut told = Vec::new();
        for action in &actions {
            told.extend(show::action(self, action));
            self.apply(action);
        }
        let rebuilt = Engine::restore(self.stored(), self.now).durable();
        assert_eq!(rebuilt, self.engine.durable(), "a rebuild is not what wrote the rows");
        told
    }

    fn tick(&mut self) -> Vec<String> {
        let due = self.engine.due_dates(self.now);
        let is_stored = |dag: &DagId, date: DateTime<Utc>| {
            self.runs.values().any(|run| {
                run.dag_id == *dag && run.run_type == RunType::Scheduled && run.logical_date == date
            })
        };
        let taken = due.into_iter().filter(|(dag, date)| is_stored(dag, *date)).collect();
        self.step(Event::Tick { taken })
    }

    /// Lets time pass on both clocks. Whenever something may become due, the workers are heard of first.
    pub(super) fn pass(&mut self, length: Duration) -> Vec<String> {
        let end = self.now.mono + length;
        let mut told = Vec::new();
        let mut idle = 0;
        loop {
            let due = self.engine.wake_at().map(|wake| {
                let by_wall = (wake.wall - self.now.wall).to_std().unwrap_or_default();
                by_wall.min(wake.mono.saturating_sub(self.now.mono))
            });
            let left = end.saturating_sub(self.now.mono);
            let Some(due) = due.filter(|due| *due <= left) else {
                self.advance(left);
                return told;
            };
            self.advance(due);
            self.hear_workers();
            let news = self.tick();
            idle = if due.is_zero() && news.is_empty() { idle + 1 } else { 0 };
            assert!(idle < 3, "the engine wants a tick that changes nothing");
            if !news.is_empty() {
                told.push(format!("[{}]", show::instant(self.now.wall)));
                told.extend(news);
            }
        }
    }

    fn advance(&mut self, length: Duration) {
        self.now.mono += length;
        self.now.wall += TimeDelta::from_std(length).unwrap();
    }

    fn hear_workers(&mut self) {
        let heard: Vec<(WorkerId, u32)> = self
            .workers
            .iter()
            .filter(|(_, worker)| !worker.is_silent)
            .map(|(id, worker)| (id.clone(), worker.boot))
            .collect();
        for (worker, boot) in heard {
            let attempts = self.held_by(&worker);
            let told = self.step(Event::Heartbeat { worker, boot_id: boot.to_string(), attempts });
            assert!(told.is_empty(), "a heartbeat changes no row: {told:?}");
        }
    }

    pub(super) fn held_by(&self, worker: &WorkerId) -> Vec<AttemptKey> {
        self.held.iter().filter(|(holder, _)| holder == worker).map(|(_, held)| held.clone()).collect()
    }

    /// Forgets the engine and builds it from the rows, as a crash does.
    pub(super) fn restart(&mut self) -> Vec<String> {
        self.now.mono = Duration::from_secs(5);
        let before = self.engine.durable();
        self.engine = Engine::restore(self.stored(), self.now);
        assert_eq!(self.engine.durable(), before, "a rebuild is not what wrote the rows");
        let actions = self.engine.resume(self.now);
        assert_eq!(actions, [], "a rebuild had something left to do");
        let mut told = vec!["rebuilt from the store".to_owned()];
        told.extend(self.tick());
        told
    }

    /// Lets time pass with no server that could notice, then starts one.
    pub(super) fn downtime(&mut self, length: Duration) -> Vec<String> {
        self.advance(length);
        self.restart()
    }

    /// The outcome that is stored for an attempt that has no lease.
    pub(super) fn stored_outcome(
        &self,
        attempt: &AttemptKey,
        worker: &WorkerId,
    ) -> Option<tidemill_engine::state::TryOutcome> {
        if self.engine.has_lease(attempt, worker) {
            return None;
        }
        self.tries.get(attempt).and_then(|row| row.outcome)
    }

    pub(super) fn finished(&self, run: RunKey) -> Option<Box<FinishedRun>> {
        let row = self.runs.get(&run).filter(|row| row.state.is_terminal())?;
        let dag = Arc::clone(self.versions.get(&(row.dag_id.clone(), row.dag_version.clone()))?);
        Some(Box::new(FinishedRun { snapshot: self.snapshot(row), dag }))
    }

    pub(super) fn live(&self, key: &TaskInstanceKey) -> (WorkerId, AttemptKey) {
        let found = self.held.iter().find(|(_, held)| held.instance == *key);
        found.cloned().unwrap_or_else(|| panic!("no worker holds {}", key.name()))
    }

    /// The instances that a task has, in the order of their elements.
    pub(super) fn instances(&self, run: RunKey, task: &TaskId) -> Vec<TaskInstanceKey> {
        let length = self.maps.get(&(run, task.clone())).map(|row| row.values.len());
        let key = |map_index| TaskInstanceKey { run, task: task.clone(), map_index };
        length.map_or_else(|| vec![key(-1)], |length| (0..i32::try_from(length).unwrap()).map(key).collect())
    }

    fn snapshot(&self, row: &RunRow) -> RunSnapshot {
        let tasks = self.tasks.values().filter(|task| task.key.run == row.key).cloned().collect();
        let mut fences: BTreeMap<TaskInstanceKey, AttemptKey> = BTreeMap::new();
        for attempt in self.tries.keys().filter(|attempt| attempt.instance.run == row.key) {
            fences.insert(attempt.instance.clone(), attempt.clone());
        }
        let maps = self.maps.iter().filter(|((run, _), _)| *run == row.key).map(|(_, map)| map.clone());
        RunSnapshot { run: row.clone(), tasks, maps: maps.collect(), fences: fences.into_values().collect() }
    }

    fn stored(&self) -> EngineSnapshot {
        let active: Vec<&RunRow> = self.runs.values().filter(|run| !run.state.is_terminal()).collect();
        let version = |dag: &DagId, version: &VersionHash| {
            let id = (dag.clone(), version.clone());
            (id.clone(), Arc::clone(&self.versions[&id]))
        };
        EngineSnapshot {
            undefined: Vec::new(),
            dags: self.dags.values().map(|row| (row.clone(), version(&row.dag_id, &row.version).1)).collect(),
            versions: active.iter().map(|run| version(&run.dag_id, &run.dag_version)).collect(),
            runs: active.iter().map(|row| self.snapshot(row)).collect(),
            open_tries: self.tries.values().filter(|row| row.outcome.is_none()).cloned().collect(),
            pools: self.pools.values().cloned().collect(),
            backfills: self.backfills.values().filter(|row| !row.state.is_terminal()).cloned().collect(),
            next_run_key: {
                let run = self.runs.keys().next_back().map(|key| key.0);
                run.max(self.backfills.keys().next_back().map(|key| key.0)).map_or(0, |key| key + 1)
            },
            asset_queue: self.queue_rows(),
            next_asset_event: self.events.last().map_or(0, |row| row.id.0 + 1),
        }
    }

    fn queue_rows(&self) -> Vec<AssetQueueRow> {
        let mut rows: BTreeMap<_, AssetQueueRow> = BTreeMap::new();
        for (dag_id, id) in &self.queue {
            let event = self.events.iter().find(|row| row.id == *id).unwrap();
            rows.entry((dag_id, &event.asset))
                .and_modify(|row| row.add(event))
                .or_insert_with(|| AssetQueueRow::of(dag_id.clone(), event));
        }
        rows.into_values().collect()
    }

    fn apply_asset(&mut self, change: &AssetChange) {
        let before = self.queue.len();
        let gone = match change {
            AssetChange::Event { row, queued_for } => {
                self.events.push(row.clone());
                self.queue.extend(queued_for.iter().map(|dag_id| (dag_id.clone(), row.id)));
                return;
            }
            AssetChange::Take { dag_id, count, .. } => {
                self.queue.retain(|(dag, _)| dag != dag_id);
                count
            }
            AssetChange::Drop { dag_id, assets, count } => {
                let events = &self.events;
                let is_of = |id| assets.contains(&events.iter().find(|row| row.id == id).unwrap().asset);
                self.queue.retain(|(dag, id)| dag != dag_id || !is_of(*id));
                count
            }
        };
        assert_eq!((before - self.queue.len()) as u64, *gone, "queue guard");
    }

    /// Writes what an action says, refusing what a database would refuse.
    fn apply(&mut self, action: &Action) {
        match action {
            Action::Outputs(change) => {
                self.outputs.insert(change.attempt.instance.task.to_string(), change.values.clone());
            }
            Action::Dag(row) => drop(self.dags.insert(row.dag_id.clone(), row.clone())),
            Action::DeleteDag(id) => {
                self.dags.remove(id);
                self.queue.retain(|(dag, _)| dag != id);
            }
            Action::Run(change) => {
                let stored = self.runs.get(&change.row.key).map(|row| row.state);
                assert_eq!(stored, change.from, "run guard");
                self.runs.insert(change.row.key, change.row.clone());
            }
            Action::Task(change) => {
                let row = &change.row;
                let stored = self
                    .tasks
                    .get(&row.key)
                    .map_or(TaskFence { state: TaskState::NoStatus, try_number: 0, epoch: 0 }, |row| {
                        TaskFence { state: row.state, try_number: row.try_number, epoch: row.epoch }
                    });
                assert_eq!(stored, change.from, "task guard of {:?}", row.key);
                if row.state == TaskState::NoStatus {
                    self.tasks.remove(&row.key);
                } else {
                    self.tasks.insert(row.key.clone(), row.clone());
                }
            }
            Action::Map(change) => {
                let key = (change.run, change.task.clone());
                match &change.values {
                    Some(values) => {
                        let row = MapRow { task: change.task.clone(), values: Arc::clone(values) };
                        drop(self.maps.insert(key, row));
                    }
                    None => drop(self.maps.remove(&key)),
                }
            }
            Action::Try(change) => {
                let former = self.tries.remove(&change.stored_attempt());
                self.tries.insert(change.row.attempt.clone(), change.row.clone());
                assert_eq!(former.is_none(), change.is_new, "try guard");
            }
            Action::Asset(change) => self.apply_asset(change),
            Action::Pool(row) => drop(self.pools.insert(row.name.clone(), row.clone())),
            Action::DeletePool(name) => drop(self.pools.remove(name)),
            Action::Assign(Assign { attempt, worker, .. }) => {
                self.held.insert((worker.clone(), attempt.clone()));
            }
            Action::Backfill(row) => drop(self.backfills.insert(row.key, BackfillRow::clone(row))),
            Action::BackfillDate(_) => {}
            Action::PassedOver(_) | Action::Cancel(_) | Action::Notify(_) | Action::Answer(_) => {}
        }
    }
}
