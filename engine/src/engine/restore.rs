//! Building the engine from what is stored, and what it must equal afterwards.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::{
    DagEntry, Engine, Instance, LEASE, Out, Pool, Timer,
    backfill::Backfill,
    decide::place,
    run::{Lease, Run},
};
use crate::{
    definition::Dag,
    graph::Graph,
    ids::{AttemptKey, DagId},
    now::Now,
    retry,
    rows::{EngineSnapshot, MapRow, RunSnapshot, TryRow, VersionHash},
    state::{RunState, TaskState},
    timetable::Timetable,
};

/// No list is longer, so a damaged row cannot take the memory of a server.
const LONGEST_MAP: usize = crate::definition::LONGEST_MAP as usize;

/// Builds a run over a graph from its rows. Rows of tasks that the graph does not have are left out.
pub(super) fn run_with(snapshot: &RunSnapshot, graph: Arc<Graph>) -> Run {
    let mut run = Run::new(snapshot.run.clone(), graph);
    for map in &snapshot.maps {
        let mapped = run.graph.index_of(&map.task).filter(|task| run.graph.task(*task).map.is_some());
        if let Some(task) = mapped.filter(|_| map.values.len() <= LONGEST_MAP) {
            run.set_map(task, Some(Arc::clone(&map.values)));
        }
    }
    for row in &snapshot.tasks {
        run.remember(&row.key);
        let is_removed = row.state == TaskState::Removed;
        let place = if is_removed { run.place_ever(&row.key) } else { run.place_of(&row.key) };
        if let Some(ix) = place {
            run.instances[ix].row = row.clone();
        }
    }
    for fence in &snapshot.fences {
        run.remember(&fence.instance);
        if let Some(ix) = run.place_ever(&fence.instance) {
            let row = &mut run.instances[ix].row;
            row.try_number = row.try_number.max(fence.try_number);
            row.epoch = row.epoch.max(fence.epoch);
        }
    }
    run.recount();
    run
}

impl Engine {
    /// Builds the engine from what is stored. Leased attempts get a whole lease from `now`; the remaining part
    /// of a delay is never longer than the delay.
    ///
    /// A DAG without a definition that compiles is remembered, not scheduled; its runs, and runs whose own version does
    /// not compile, are left out: [`Engine::has_run`] tells which.
    #[must_use]
    pub fn restore(snapshot: EngineSnapshot, now: Now) -> Self {
        let (next_run_key, next_asset_event) = (snapshot.next_run_key, snapshot.next_asset_event);
        let mut engine = Self { next_run_key, next_asset_event, ..Self::default() };
        for row in snapshot.pools {
            engine.pools.insert(row.name.clone(), Pool { row, holders: BTreeMap::new() });
        }
        for (row, dag) in snapshot.dags {
            let compiled = (Graph::new(Arc::clone(&dag), row.version.clone()), Timetable::new(&dag));
            let (Ok(graph), Ok(timetable)) = compiled else {
                engine.undefined.insert(row.dag_id.clone(), row);
                continue;
            };
            let timetable = timetable.first_seen(row.created_at);
            let id = row.dag_id.clone();
            engine.dags.insert(id, DagEntry::new(row, Arc::new(graph), Arc::new(timetable)));
        }
        engine.undefined.extend(snapshot.undefined.into_iter().map(|row| (row.dag_id.clone(), row)));
        for row in snapshot.backfills {
            engine.backfills.insert(row.key, Backfill::new(row));
        }
        let mut graphs = BTreeMap::new();
        for run in &snapshot.runs {
            engine.restore_run(run, &snapshot.versions, &mut graphs);
        }
        for row in &snapshot.open_tries {
            engine.restore_lease(row, now);
        }
        engine.restore_children();
        engine.restore_assets(snapshot.asset_queue, now);
        engine.rearm_all(now);
        engine
    }

    fn restore_run(
        &mut self,
        snapshot: &RunSnapshot,
        versions: &BTreeMap<(DagId, VersionHash), Arc<Dag>>,
        graphs: &mut BTreeMap<(DagId, VersionHash), Arc<Graph>>,
    ) {
        let row = &snapshot.run;
        let Some(entry) = self.dags.get(&row.dag_id) else { return };
        let id = (row.dag_id.clone(), row.dag_version.clone());
        let graph = if entry.graph.version == row.dag_version {
            Arc::clone(&entry.graph)
        } else if let Some(graph) = graphs.get(&id) {
            Arc::clone(graph)
        } else {
            let Some(dag) = versions.get(&id) else { return };
            let Ok(graph) = Graph::new(Arc::clone(dag), row.dag_version.clone()) else { return };
            let graph = Arc::new(graph);
            graphs.insert(id, Arc::clone(&graph));
            graph
        };
        match row.state {
            RunState::Queued => self.enqueue(row),
            _ => self.occupy(row),
        }
        if let Some(entry) = self.dags.get_mut(&row.dag_id) {
            entry.run_ids.insert(row.run_id.clone());
        }
        self.runs.insert(row.key, run_with(snapshot, graph));
        self.forget_past(row.key);
    }

    fn restore_lease(&mut self, row: &TryRow, now: Now) {
        let Some((key, ix)) = self.locate(&row.attempt.instance) else { return };
        let Some(run) = self.runs.get_mut(&key) else { return };
        let record = &mut run.instances[ix];
        let deadline = now.mono + LEASE;
        let lease = Lease { worker: row.worker.clone(), boot_id: row.boot_id.clone(), deadline };
        if record.row.epoch != row.attempt.epoch {
            return;
        }
        if !record.row.state.has_lease() {
            // A sensor between two pokes.
            record.open = Some(lease);
            return;
        }
        record.lease = Some(lease);
        self.timers.insert((deadline, Timer::Lease(key, ix)));
        self.hold((key, ix), &row.worker);
    }

    fn rearm_all(&mut self, now: Now) {
        let runs: Vec<_> = self.runs.keys().copied().collect();
        for key in runs {
            let waiting: Vec<(Instance, TaskState)> = self.runs[&key]
                .instances
                .all()
                .map(|(ix, record)| ((key, ix), record.row.state))
                .filter(|(_, state)| !state.is_terminal() && *state != TaskState::NoStatus)
                .collect();
            for (instance, state) in waiting {
                self.restore_wait(instance, now);
                match state {
                    // One in a run that is parked for a person has no place among what is ready.
                    TaskState::Scheduled if !self.runs[&key].is_active() => {}
                    TaskState::Scheduled => {
                        let (group, priority) = place(&self.runs[&key], instance.1);
                        self.ready.insert(group, priority, instance);
                    }
                    TaskState::UpForRetry => self.restore_retry(instance, now),
                    _ => {}
                }
            }
            self.restore_run_timeout(key, now);
            self.arm_deadline(key, now);
        }
        let dags: Vec<DagId> = self.dags.keys().cloned().collect();
        for dag_id in dags {
            self.rearm(&dag_id, now);
        }
    }

    fn restore_retry(&mut self, (key, ix): Instance, now: Now) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let row = &run.instances[ix].row;
        let occasion = retry::Occasion {
            dag: &run.row.dag_id,
            map_index: row.key.map_index,
            logical_date: run.row.logical_date,
            failures: row.failures,
        };
        let whole = retry::delay(run.graph.task(ix.task), occasion);
        let at = now.mono + remaining(row.retry_at, now.wall, whole);
        run.instances[ix].retry_at = Some(at);
        self.timers.insert((at, Timer::Retry(key, ix)));
    }

    fn restore_run_timeout(&mut self, key: crate::ids::RunKey, now: Now) {
        let Some(run) = self.runs.get(&key) else { return };
        let (Some(whole), Some(started)) = (run.graph.dag.run_timeout, run.row.started_at) else { return };
        if run.is_ending() {
            return;
        }
        let end = chrono::TimeDelta::from_std(whole).ok().and_then(|whole| started.checked_add_signed(whole));
        let left = remaining(end, now.wall, whole);
        let out = Out::new(now);
        self.arm_run_timeout(key, left, &out);
    }

    /// Lets everything go on that a crash between two commits may have left standing: called once after
    /// [`Self::restore`], as the first step of a new leader.
    #[must_use]
    pub fn resume(&mut self, now: Now) -> Vec<crate::action::Action> {
        let mut out = Out::new(now);
        out.promoting.extend(self.dags.keys().cloned());
        self.end_orphans(&mut out);
        for (key, run) in &self.runs {
            out.undecided.extend((0..run.graph.len()).map(|task| (*key, task)));
            out.ending.insert(*key);
        }
        self.settle(&mut out);
        out.actions
    }

    /// Returns what must be equal after a rebuild, in canonical order: lease deadlines, heartbeats, connected
    /// workers and verdict memory are left out.
    #[must_use]
    pub fn durable(&self) -> EngineSnapshot {
        let mut snapshot = EngineSnapshot {
            next_run_key: self.next_run_key,
            asset_queue: self.asset_queues(),
            next_asset_event: self.next_asset_event,
            ..EngineSnapshot::default()
        };
        for entry in self.dags.values() {
            snapshot.dags.push((entry.row.clone(), Arc::clone(&entry.graph.dag)));
        }
        snapshot.undefined.extend(self.undefined.values().cloned());
        for pool in self.pools.values() {
            snapshot.pools.push(pool.row.clone());
        }
        snapshot.backfills.extend(self.backfills.values().map(|backfill| backfill.row.clone()));
        for run in self.runs.values() {
            let id = (run.row.dag_id.clone(), run.row.dag_version.clone());
            snapshot.versions.insert(id, Arc::clone(&run.graph.dag));
            let mut stored =
                RunSnapshot { run: run.row.clone(), tasks: Vec::new(), maps: Vec::new(), fences: Vec::new() };
            for record in run.instances.tasks() {
                if let Some(values) = &record.map {
                    let task = record.only.row.key.task.clone();
                    stored.maps.push(MapRow { task, values: Arc::clone(values) });
                }
            }
            stored.maps.sort_by(|a, b| a.task.cmp(&b.task));
            for (ix, record) in run.instances.remembered() {
                if record.row.epoch > 0 {
                    stored.fences.push(run.attempt(ix));
                }
                if record.row.state != TaskState::NoStatus {
                    stored.tasks.push(record.row.clone());
                }
                if let Some(lease) = record.lease.as_ref().or(record.open.as_ref()) {
                    snapshot.open_tries.push(open_try(run.attempt(ix), lease, &record.row));
                }
            }
            stored.tasks.sort_by(|a, b| a.key.cmp(&b.key));
            stored.fences.sort();
            snapshot.runs.push(stored);
        }
        snapshot.open_tries.sort_by(|a, b| a.attempt.cmp(&b.attempt));
        snapshot
    }
}

fn open_try(attempt: AttemptKey, lease: &Lease, row: &crate::rows::TaskRow) -> TryRow {
    TryRow {
        attempt,
        worker: lease.worker.clone(),
        boot_id: lease.boot_id.clone(),
        queued_at: row.queued_at.unwrap_or(DateTime::<Utc>::MIN_UTC),
        started_at: None,
        finished_at: None,
        outcome: None,
        exit_code: None,
        reason: None,
    }
}

/// Returns how much of a delay is left, at most the whole.
pub(super) fn remaining(end: Option<DateTime<Utc>>, now: DateTime<Utc>, whole: Duration) -> Duration {
    end.and_then(|end| (end - now).to_std().ok()).unwrap_or_default().min(whole)
}
