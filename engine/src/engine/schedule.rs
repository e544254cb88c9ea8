//! DAGs come, change and go; dates become runs.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::{CREATED_PER_STEP, DagEntry, Engine, Out, Timer, backfill::Backfill, run::Run};
use crate::{
    action::{Action, Refusal, Reply},
    definition::{Dag, Schedule},
    event::RequestId,
    graph::Graph,
    ids::{BackfillKey, DagId, RunId, RunKey, TaskInstanceKey},
    rows::{DagRow, PassedOver, RunRow, VersionHash},
    state::{RunState, RunType},
    timetable::{Slot, Timetable},
};

/// A date whose firing is this late was missed; everything younger fires, however many there are. Longer than a
/// restart takes, so that restarting a server never passes over a date of a fast schedule (decision 0017).
const LATE: TimeDelta = TimeDelta::seconds(10);

/// What a tick does with the due dates of one DAG.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct DatePlan {
    create: Vec<Slot>,
    /// The first date that gets no run and the first later one that does. Counted only when it is recorded.
    passed_over: Option<(Slot, Slot)>,
    cursor: Option<DateTime<Utc>>,
}

/// A run that somebody asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) run_id: Option<RunId>,
    pub(super) logical_date: Option<DateTime<Utc>>,
    pub(super) conf: Arc<serde_json::Map<String, serde_json::Value>>,
    pub(super) triggered_by: Option<String>,
    pub(super) suffix: String,
    pub(super) is_run_id_taken: bool,
    /// The backfill that makes it, and whether it is the first run of it.
    pub(super) backfill: Option<(BackfillKey, bool)>,
    /// The task instance that triggers it.
    pub(super) origin: Option<TaskInstanceKey>,
}

impl DagEntry {
    pub(super) fn new(row: DagRow, graph: Arc<Graph>, timetable: Arc<Timetable>) -> Self {
        Self {
            row,
            graph,
            timetable,
            queued: BTreeSet::new(),
            running: BTreeSet::new(),
            run_ids: BTreeSet::new(),
            leased: BTreeSet::new(),
            leased_by_task: BTreeMap::new(),
            next_date: None,
            asset_queue: BTreeMap::new(),
            is_asset_run_deferred: false,
            newest_asset_run: None,
            is_fed_by_asset_runs: false,
        }
    }

    /// Whether dates of this DAG become runs at present.
    fn is_scheduling(&self) -> bool {
        !self.row.is_paused && !self.row.is_missing
    }

    /// Returns when this DAG's dates have to be looked at next.
    fn wanted_date(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if !self.is_scheduling() {
            return None;
        }
        match self.graph.dag.schedule.time() {
            Schedule::Never => None,
            Schedule::Continuous if self.active_runs() > 0 => None,
            // A cursor that a clock set back has left in the future holds nothing up: there is no date to wait for.
            Schedule::Continuous => {
                let next = (self.row.cursor + TimeDelta::seconds(1)).min(now + TimeDelta::seconds(1));
                self.continuous_at(next).filter(|_| self.continuous_at(now).is_some())
            }
            // Catch-up holds until a run ends, so that thousands of missed dates are not thousands of rows.
            _ if self.graph.dag.catchup && self.active_runs() >= self.limit() => None,
            _ => self.timetable.next_after(self.row.cursor).map(|slot| slot.run_after),
        }
    }

    /// Returns the date of a `@continuous` run that is wanted at an instant: not before `start_date`, none after `end_date`.
    fn continuous_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let dag = &self.graph.dag;
        let at = dag.start_date.map_or(at, |start| at.max(start));
        dag.end_date.is_none_or(|end| at <= end).then_some(at)
    }

    /// Decides what becomes of the dates that are due at `now` (`semantics.md` §5).
    fn plan_dates(&self, now: DateTime<Utc>) -> DatePlan {
        if self.next_date.is_none_or(|at| at > now) {
            return DatePlan::default();
        }
        if *self.graph.dag.schedule.time() == Schedule::Continuous {
            let at = now.trunc_subsecs(0).max(self.row.cursor + TimeDelta::seconds(1));
            let Some(at) = self.continuous_at(at) else { return DatePlan::default() };
            let slot =
                Slot { logical_date: at, data_interval_start: at, data_interval_end: at, run_after: at };
            return DatePlan { create: vec![slot], passed_over: None, cursor: Some(at) };
        }
        let first = self.timetable.next_after(self.row.cursor).filter(|slot| slot.run_after <= now);
        let Some(first) = first else { return DatePlan::default() };
        let is_catchup = self.graph.dag.catchup;
        if !is_catchup && first.run_after + LATE < now {
            let newest = self.timetable.newest_at(now).unwrap_or(first);
            if newest.run_after > first.run_after {
                let cursor = Some(newest.run_after);
                return DatePlan { create: vec![newest], passed_over: Some((first, newest)), cursor };
            }
        }
        let room = if is_catchup { self.limit().saturating_sub(self.active_runs()) } else { usize::MAX };
        let mut create = vec![first];
        while create.len() < room.min(CREATED_PER_STEP) {
            let Some(last) = create.last() else { break };
            match self.timetable.next_after(last.run_after) {
                Some(slot) if slot.run_after <= now => create.push(slot),
                _ => break,
            }
        }
        let cursor = create.last().map(|slot| slot.run_after);
        DatePlan { create, passed_over: None, cursor }
    }

    /// Deals with every date up to `now` without a run, and says which these are (promise 1). Dates that nobody waits
    /// for any more: those of a pause, of a missing file, of a schedule that is not the DAG's any more.
    pub(super) fn pass_over(&mut self, now: DateTime<Utc>) -> Option<PassedOver> {
        let cursor = self.row.cursor;
        self.row.cursor = cursor.max(now);
        let first = self.timetable.next_after(cursor).filter(|slot| slot.run_after <= now)?;
        let last = self.timetable.newest_at(now).unwrap_or(first);
        Some(self.passed_over(first, last, now))
    }

    fn passed_over(&self, first: Slot, last: Slot, at: DateTime<Utc>) -> PassedOver {
        PassedOver {
            dag_id: self.row.dag_id.clone(),
            first: first.logical_date,
            last: last.logical_date,
            count: self.timetable.count(first, last),
            at,
        }
    }
}

impl Engine {
    /// Returns the dates for which a tick at `now` would create a scheduled run, so that the loop can look up
    /// which of them have one already (a changed timetable can come to a date again).
    #[must_use]
    pub fn due_dates(&self, now: crate::now::Now) -> Vec<(DagId, DateTime<Utc>)> {
        self.dates
            .iter()
            .take_while(|(at, _)| *at <= now.wall)
            .filter_map(|(_, id)| self.dags.get(id).map(|entry| (id, entry)))
            .flat_map(|(id, entry)| {
                entry.plan_dates(now.wall).create.into_iter().map(|slot| (id.clone(), slot.logical_date))
            })
            .collect()
    }

    /// Lets everything become due that is due.
    pub(super) fn tick(&mut self, taken: &[(DagId, DateTime<Utc>)], out: &mut Out) {
        if self.last_wall.is_some_and(|last| out.now.wall < last) {
            // Whoever is armed for a date that the clock was set back from waits for something nearer now.
            for dag_id in self.dags.keys().cloned().collect::<Vec<_>>() {
                self.rearm(&dag_id, out.now);
            }
        }
        self.last_wall = Some(out.now.wall);
        while let Some((at, _)) = self.timers.first()
            && *at <= out.now.mono
        {
            let Some((_, timer)) = self.timers.pop_first() else { break };
            match timer {
                Timer::Lease(run, ix) => self.lease_ended((run, ix), out),
                Timer::Retry(run, ix) => self.retry_due((run, ix), out),
                Timer::Run(run) => self.run_timed_out(run, out),
                Timer::Worker(worker) => self.worker_silent(&worker),
                Timer::Deadline(run) => self.deadline_passed(run, out),
                Timer::Sensor(run, ix) => self.expire((run, ix), out),
                Timer::Assets(dag_id) => self.assets_due(dag_id, out),
            }
        }
        self.pass_late_dates(out);
        self.pass_instants(out);
        let due: Vec<DagId> = self
            .dates
            .iter()
            .take_while(|(at, _)| *at <= out.now.wall)
            .map(|(_, dag_id)| dag_id.clone())
            .collect();
        for dag_id in due {
            self.create_due(&dag_id, taken, out);
        }
    }

    fn create_due(&mut self, dag_id: &DagId, taken: &[(DagId, DateTime<Utc>)], out: &mut Out) {
        let Some(entry) = self.dags.get_mut(dag_id) else { return };
        let plan = entry.plan_dates(out.now.wall);
        if let Some((first, created)) = plan.passed_over {
            let last = entry.timetable.before(created).unwrap_or(first);
            out.actions.push(Action::PassedOver(entry.passed_over(first, last, out.now.wall)));
        }
        if let Some(cursor) = plan.cursor {
            entry.row.cursor = cursor;
            out.actions.push(Action::Dag(entry.row.clone()));
        }
        for slot in plan.create {
            if !taken.iter().any(|(dag, date)| dag == dag_id && *date == slot.logical_date) {
                self.create_scheduled(dag_id, slot, out);
            }
        }
        self.rearm(dag_id, out.now);
    }

    /// Puts a DAG where it belongs among the dates.
    pub(super) fn rearm(&mut self, dag_id: &DagId, now: crate::now::Now) {
        let Some(entry) = self.dags.get_mut(dag_id) else { return };
        let wanted = entry.wanted_date(now.wall);
        if entry.next_date != wanted {
            if let Some(at) = entry.next_date {
                self.dates.remove(&(at, dag_id.clone()));
            }
            if let Some(at) = wanted {
                self.dates.insert((at, dag_id.clone()));
            }
            entry.next_date = wanted;
        }
    }

    fn create_scheduled(&mut self, dag_id: &DagId, slot: Slot, out: &mut Out) {
        let text = format!("scheduled__{}", slot.logical_date.format("%Y-%m-%dT%H:%M:%SZ"));
        let Ok(run_id) = RunId::new(text) else { return };
        let interval = (slot.data_interval_start, slot.data_interval_end);
        let wanted = Wanted {
            run_id: None,
            logical_date: Some(slot.logical_date),
            conf: Arc::default(),
            triggered_by: None,
            suffix: String::new(),
            is_run_id_taken: false,
            backfill: None,
            origin: None,
        };
        self.create_run(dag_id, run_id, RunType::Scheduled, interval, wanted, out);
    }

    pub(super) fn create_run(
        &mut self,
        dag_id: &DagId,
        run_id: RunId,
        run_type: RunType,
        interval: (DateTime<Utc>, DateTime<Utc>),
        wanted: Wanted,
        out: &mut Out,
    ) -> Option<RunRow> {
        let entry = self.dags.get_mut(dag_id)?;
        let key = RunKey(self.next_run_key);
        self.next_run_key += 1;
        let row = RunRow {
            key,
            dag_id: dag_id.clone(),
            run_id,
            run_type,
            state: RunState::Queued,
            with_failures: false,
            reason: None,
            logical_date: wanted.logical_date.unwrap_or(out.now.wall),
            data_interval_start: interval.0,
            data_interval_end: interval.1,
            queued_at: out.now.wall,
            started_at: None,
            finished_at: None,
            conf: wanted.conf,
            dag_version: entry.graph.version.clone(),
            cancel_requested_at: None,
            timed_out_at: None,
            triggered_by: wanted.triggered_by,
            origin: wanted.origin,
            deadline_at: None,
            deadline_missed_at: None,
            backfill: wanted.backfill.map(|(key, _)| key),
            ignores_past: wanted.backfill.is_some_and(|(_, is_first)| is_first),
        };
        let row = RunRow { deadline_at: super::deadline::deadline_of(&entry.graph.dag, &row), ..row };
        let run = Run::new(row.clone(), Arc::clone(&entry.graph));
        out.actions.push(run.insert());
        entry.run_ids.insert(row.run_id.clone());
        self.enqueue(&row);
        self.runs.insert(key, run);
        self.past_of_new(&row);
        self.arm_deadline(key, out.now);
        self.tell_watchers(&row);
        out.promoting.insert(dag_id.clone());
        Some(row)
    }

    /// Takes in a new or changed definition.
    pub(super) fn dag_changed(&mut self, dag: Arc<Dag>, version: VersionHash, path: String, out: &mut Out) {
        let now = out.now.wall;
        let dag_id = dag.id.clone();
        // The loader refuses what has no graph or timetable; a definition that got here without both is left
        // alone, and the last good one stays.
        let Ok(graph) = Graph::new(Arc::clone(&dag), version.clone()) else { return };
        let Ok(timetable) = Timetable::new(&dag) else { return };
        let graph = Arc::new(graph);
        if let Some(entry) = self.dags.get_mut(&dag_id) {
            let is_same = entry.row.version == version && entry.row.path == path && !entry.row.is_missing;
            if is_same {
                return;
            }
            let is_rescheduled = entry.row.is_missing || !is_same_schedule(&entry.graph.dag, &dag);
            if is_rescheduled && !dag.catchup {
                // By the schedule that it had: the new one begins now.
                out.actions.extend(entry.pass_over(now).map(Action::PassedOver));
            }
            entry.timetable = Arc::new(timetable.first_seen(entry.row.created_at));
            let former = std::mem::replace(&mut entry.graph, graph);
            entry.row.version = version;
            entry.row.path = path;
            entry.row.is_missing = false;
            out.actions.push(Action::Dag(entry.row.clone()));
            self.recount_dates(&dag_id, out);
            self.ready.unpark(&dag_id);
            self.wake_past(&dag_id, out);
            self.relisten(&dag_id, Some(&former.dag), out);
        } else {
            let first = timetable.cursor_before_start();
            let is_from_start = dag.catchup || dag.schedule == Schedule::Once;
            let cursor = first.filter(|_| is_from_start).unwrap_or(now);
            // What was decided about it outlives a definition that could not be read; which dates it had is not known.
            let row = match self.undefined.remove(&dag_id) {
                Some(row) => {
                    let cursor = if dag.catchup { row.cursor } else { row.cursor.max(now) };
                    DagRow { version, path, is_missing: false, cursor, ..row }
                }
                None => DagRow {
                    dag_id: dag_id.clone(),
                    version,
                    path,
                    is_paused: false,
                    is_missing: false,
                    failed_runs: 0,
                    pause_reason: None,
                    cursor,
                    created_at: now,
                },
            };
            out.actions.push(Action::Dag(row.clone()));
            let timetable = Arc::new(timetable.first_seen(row.created_at));
            self.dags.insert(dag_id.clone(), DagEntry::new(row, graph, timetable));
            self.relisten(&dag_id, None, out);
        }
        self.rearm(&dag_id, out.now);
        out.promoting.insert(dag_id);
    }

    /// Notes that a DAG's file is gone. Its runs go on with the version that they are pinned to.
    pub(super) fn dag_missing(&mut self, dag_id: &DagId, out: &mut Out) {
        if let Some(row) = self.undefined.get_mut(dag_id).filter(|row| !row.is_missing) {
            row.is_missing = true;
            out.actions.push(Action::Dag(row.clone()));
            return;
        }
        let Some(entry) = self.dags.get_mut(dag_id).filter(|entry| !entry.row.is_missing) else { return };
        entry.row.is_missing = true;
        out.actions.push(Action::Dag(entry.row.clone()));
        self.rearm(dag_id, out.now);
    }

    /// Deletes a DAG whose file is gone.
    pub(super) fn dag_deleted(&mut self, request: RequestId, dag_id: &DagId, out: &mut Out) {
        if self.undefined.get(dag_id).is_some_and(|row| row.is_missing) {
            self.undefined.remove(dag_id);
            self.unlisten(dag_id, None);
            self.backfills.retain(|_, backfill| backfill.row.dag_id != *dag_id);
            out.actions.push(Action::DeleteDag(dag_id.clone()));
            return out.answer(request, Reply::Done);
        }
        let Some(entry) = self.dags.get(dag_id) else { return out.refuse(request, Refusal::UnknownDag) };
        if !entry.row.is_missing {
            return out.refuse(request, Refusal::FileExists(entry.row.path.clone()));
        }
        let of_backfills: usize = self.backfills_of(dag_id).map(Backfill::active).sum();
        let active = entry.active_runs() + of_backfills;
        if active > 0 {
            let count = u32::try_from(active).unwrap_or(u32::MAX);
            return out.refuse(request, Refusal::HasActiveRuns(count));
        }
        let former = self.dags.remove(dag_id);
        self.unlisten(dag_id, former.as_ref().map(|entry| &*entry.graph.dag));
        self.backfills.retain(|_, backfill| backfill.row.dag_id != *dag_id);
        out.actions.push(Action::DeleteDag(dag_id.clone()));
        out.answer(request, Reply::Done);
    }

    /// Starts queued runs of a DAG while there is room, and lets its next date come.
    pub(super) fn promote(&mut self, dag_id: &DagId, out: &mut Out) {
        self.run_by_assets(dag_id, out);
        while let Some(key) = self.next_to_start(dag_id) {
            let Some(row) = self.runs.get(&key).map(|run| run.row.clone()) else { break };
            self.occupy(&row);
            self.start_run(key, out);
        }
        self.end_backfills(dag_id, out);
        self.rearm(dag_id, out.now);
    }

    /// Returns the queued run that may begin: the runs of a backfill have a limit of their own.
    fn next_to_start(&self, dag_id: &DagId) -> Option<RunKey> {
        let entry = self.dags.get(dag_id)?;
        let queued = entry.queued.first().map(|(_, key)| *key);
        if let Some(key) = queued.filter(|_| entry.running.len() < entry.limit()) {
            return Some(key);
        }
        let backfills = || self.backfills_of(dag_id).filter(|backfill| !backfill.queued.is_empty());
        let placed = backfills().filter(|backfill| backfill.has_place()).find_map(Backfill::first_queued);
        let is_any_queued = queued.is_some() || backfills().next().is_some();
        placed.or_else(|| is_any_queued.then(|| self.makes_room_for(entry)).flatten())
    }

    fn start_run(&mut self, key: RunKey, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let now = out.now;
        out.actions.push(run.change(|row| {
            row.state = RunState::Running;
            row.started_at = Some(now.wall);
        }));
        // One that was cancelled while it waited is here to clean up, however long that takes.
        if let Some(timeout) = run.graph.dag.run_timeout.filter(|_| !run.is_ending()) {
            self.arm_run_timeout(key, timeout, out);
        }
        if self.runs.get(&key).is_some_and(|run| run.row.deadline_at.is_none()) {
            self.arm_deadline(key, now);
        }
        let Some(run) = self.runs.get(&key) else { return };
        out.undecided.extend(run.graph.topological().iter().map(|ix| (key, *ix)));
        out.ending.insert(key);
    }

    /// Sets the end of a run's time, `remaining` from now.
    pub(super) fn arm_run_timeout(&mut self, key: RunKey, remaining: Duration, out: &Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        if let Some(at) = run.deadline.take() {
            self.timers.remove(&(at, Timer::Run(key)));
        }
        let at = out.now.mono + remaining;
        run.deadline = Some(at);
        self.timers.insert((at, Timer::Run(key)));
    }
}

/// Whether two versions fire at the same instants.
fn is_same_schedule(a: &Dag, b: &Dag) -> bool {
    a.schedule.time() == b.schedule.time()
        && a.timetable == b.timetable
        && a.timezone == b.timezone
        && a.start_date == b.start_date
        && a.end_date == b.end_date
        && a.catchup == b.catchup
}
