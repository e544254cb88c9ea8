//! What happens next: one pure state machine over events.
//!
//! ```text
//! event ──▶ apply ──▶ settle: decide instances, end runs, promote queued runs ──▶ dispatch ──▶ actions
//! ```
//!
//! `apply` changes what the event says and notes what has to be looked at again; `settle` looks at that and
//! nothing else; `dispatch` gives what is ready to who has room. So finishing a task costs its downstream edges
//! and a logarithm, whatever else is active.
//!
//! **Invariants.** Slots are sets of live instances, never counters. An instance is in the ready queue exactly
//! when it is `scheduled`. It has a lease exactly when it is `queued` or `running`. A terminal state is left by
//! a clear or a mark only. Deciding and explaining share `Engine::obstacle`.

mod assets;
mod attempt;
mod backfill;
mod cancel;
mod deadline;
mod decide;
mod dispatch;
mod explain;
mod explain_run;
mod fleet;
mod inside;
mod instances;
mod manual;
mod operate;
mod other_runs;
mod park;
mod past;
mod pause;
mod prepare;
mod ready;
mod restore;
mod run;
mod schedule;
mod select;
mod sensor;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};

pub use self::pause::PausePlan;
use self::{
    assets::{AssetIndex, AssetQueue},
    backfill::Backfill,
    fleet::Fleet,
    instances::InstanceIndex,
    ready::ReadyQueue,
    run::Run,
};
use crate::{
    action::{Action, Answer, Refusal, Reply},
    event::{Event, RequestId},
    graph::{Graph, TaskIndex},
    ids::{AttemptKey, BackfillKey, DagId, PoolName, RunId, RunKey, TaskId, TaskInstanceKey, WorkerId},
    now::Now,
    preparation::Preparation,
    rows::{DagRow, PoolRow},
    timetable::Timetable,
};

/// A lease, counted from its assignment or last renewal.
pub const LEASE: Duration = Duration::from_secs(30);

/// The name of the pool that always exists.
pub const DEFAULT_POOL: &str = "default_pool";

/// How many runs of one DAG a step creates at most, so that other DAGs do not wait.
const CREATED_PER_STEP: usize = 10;

/// A task instance inside the engine: its run and its place there.
type Instance = (RunKey, InstanceIndex);

/// A task of a run: what a trigger rule decides about, with all its instances.
type TaskOfRun = (RunKey, TaskIndex);

/// All active dag runs and what they need, in memory.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    dags: BTreeMap<DagId, DagEntry>,
    runs: BTreeMap<RunKey, Run>,
    /// DAGs without a definition that compiles: kept until their file says again what they are.
    undefined: BTreeMap<DagId, DagRow>,
    pools: BTreeMap<PoolName, Pool>,
    fleet: Fleet,
    ready: ReadyQueue,
    /// Deadlines by the monotonic clock.
    timers: BTreeSet<(Duration, Timer)>,
    /// The next date of each DAG by the wall clock.
    dates: BTreeSet<(DateTime<Utc>, DagId)>,
    next_run_key: i64,
    /// The backfills that have not ended.
    backfills: BTreeMap<BackfillKey, Backfill>,
    /// The one whose dates were dealt with last.
    backfill_turn: BackfillKey,
    /// Runs whose previous run has to be looked up.
    unknown_past: BTreeSet<RunKey>,
    /// What has to be prepared before the engine can act on an instance.
    unprepared: BTreeMap<Instance, Preparation>,
    /// Deadlines by the wall clock.
    late_dates: BTreeSet<(DateTime<Utc>, RunKey)>,
    /// What waits for an instant of the wall clock.
    instants: BTreeSet<(DateTime<Utc>, Instance)>,
    /// Who waits for runs of a DAG, by logical date.
    watchers: BTreeMap<other_runs::Watched, BTreeSet<Instance>>,
    /// Runs for which the usual time has to be looked up.
    unknown_usual: BTreeSet<RunKey>,
    /// Per run the active ones that it is the previous run of.
    followers: BTreeMap<RunKey, BTreeSet<RunKey>>,
    /// Who listens to assets and who makes events on them.
    assets: AssetIndex,
    next_asset_event: i64,
    /// The wall clock of the newest tick: earlier than now unless it was set back.
    last_wall: Option<DateTime<Utc>>,
}

/// A DAG, its current version and what is active of it.
#[derive(Clone, Debug)]
struct DagEntry {
    row: DagRow,
    graph: Arc<Graph>,
    timetable: Arc<Timetable>,
    /// Runs that wait for `max_active_runs`, oldest logical date first.
    queued: BTreeSet<(DateTime<Utc>, RunKey)>,
    /// Runs that count against `max_active_runs`.
    running: BTreeSet<RunKey>,
    /// Ids of the active runs: a new run may not take one of them.
    run_ids: BTreeSet<RunId>,
    /// Leased instances: `max_active_tasks`.
    leased: BTreeSet<Instance>,
    /// Leased instances of tasks with `max_active_per_dag`.
    leased_by_task: BTreeMap<TaskId, BTreeSet<Instance>>,
    /// Where this DAG stands in [`Engine::dates`].
    next_date: Option<DateTime<Utc>>,
    /// What its assets have had since its last run that took any.
    asset_queue: AssetQueue,
    /// Its next run by assets waits for [`Timer::Assets`].
    is_asset_run_deferred: bool,
    /// The newest run that its assets made since this engine began, and when by the monotonic clock.
    newest_asset_run: Option<(RunKey, Duration)>,
    /// A run by assets made an event that is queued.
    is_fed_by_asset_runs: bool,
}

impl DagEntry {
    fn active_runs(&self) -> usize {
        self.queued.len() + self.running.len()
    }

    fn is_active(&self, run: RunKey) -> bool {
        self.running.contains(&run) || self.queued.iter().any(|(_, queued)| *queued == run)
    }

    /// Whether a run started beyond the limit because the others stand still until it has ended.
    fn is_over_limit(&self) -> bool {
        self.running.len() > self.limit()
    }

    fn limit(&self) -> usize {
        self.graph.dag.max_active_runs as usize
    }
}

/// A pool and who holds its slots, by how many each holds.
#[derive(Clone, Debug)]
struct Pool {
    row: PoolRow,
    holders: BTreeMap<u32, BTreeSet<Instance>>,
}

impl Pool {
    /// Computes the taken slots from the live instances.
    fn used(&self) -> u32 {
        self.holders
            .iter()
            .map(|(slots, holders)| slots.saturating_mul(u32::try_from(holders.len()).unwrap_or(u32::MAX)))
            .fold(0, u32::saturating_add)
    }
}

/// Something that becomes due by the monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// An attempt's lease ends.
    Lease(RunKey, InstanceIndex),
    /// The next try or poke may start.
    Retry(RunKey, InstanceIndex),
    /// A run reaches `run_timeout`.
    Run(RunKey),
    /// A worker was not heard of for a lease.
    Worker(WorkerId),
    /// A run is late.
    Deadline(RunKey),
    /// A sensor has waited for as long as it may.
    Sensor(RunKey, InstanceIndex),
    /// The assets of a DAG are looked at again.
    Assets(DagId),
}

/// What one step has produced and still has to look at.
struct Out {
    now: Now,
    actions: Vec<Action>,
    /// Tasks with undecided instances whose upstreams changed.
    undecided: VecDeque<TaskOfRun>,
    /// Runs that may have ended.
    ending: BTreeSet<RunKey>,
    /// DAGs that may start a queued run or create the next one.
    promoting: BTreeSet<DagId>,
    /// DAGs that got a run by their assets in this step.
    by_assets: BTreeSet<DagId>,
}

impl Out {
    const fn new(now: Now) -> Self {
        Self {
            now,
            actions: Vec::new(),
            undecided: VecDeque::new(),
            ending: BTreeSet::new(),
            promoting: BTreeSet::new(),
            by_assets: BTreeSet::new(),
        }
    }

    fn answer(&mut self, request: RequestId, reply: Reply) {
        self.actions.push(Action::Answer(Answer { request, reply }));
    }

    fn refuse(&mut self, request: RequestId, refusal: Refusal) {
        self.answer(request, Reply::Refused(refusal));
    }
}

impl Engine {
    /// Applies one event at `now` and returns what must now happen, in order.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Action> {
        let mut out = Out::new(now);
        self.apply(event, &mut out);
        self.settle(&mut out);
        out.actions
    }

    /// The one exhaustive match over events.
    fn apply(&mut self, event: Event, out: &mut Out) {
        match event {
            Event::Tick { taken } => self.tick(&taken, out),
            Event::DagChanged { dag, version, path } => self.dag_changed(dag, version, path, out),
            Event::DagMissing { dag_id } => self.dag_missing(&dag_id, out),
            Event::DagDeleted { request, dag_id } => self.dag_deleted(request, &dag_id, out),
            Event::DagPaused { request, dag_id, is_paused } => {
                self.dag_paused(request, &dag_id, is_paused, out)
            }
            Event::RunRequested {
                request,
                dag_id,
                run_id,
                logical_date,
                conf,
                triggered_by,
                suffix,
                is_run_id_taken,
            } => {
                let wanted = schedule::Wanted {
                    run_id,
                    logical_date,
                    conf,
                    triggered_by,
                    suffix,
                    is_run_id_taken,
                    backfill: None,
                    origin: None,
                };
                self.run_requested(request, &dag_id, wanted, out);
            }
            Event::AttemptStarted { attempt, worker, started_at } => {
                self.attempt_started(&attempt, &worker, started_at, out);
            }
            Event::AttemptFinished { request, attempt, worker, result, stored } => {
                let verdict = self.attempt_finished(&attempt, &worker, result, stored, out);
                if let Some(request) = request {
                    out.answer(request, Reply::Verdict(verdict));
                }
            }
            Event::Heartbeat { worker, boot_id, attempts } => {
                self.heartbeat(&worker, &boot_id, &attempts, out)
            }
            Event::WorkerExchanged { worker, boot_id, has_swept, capacity, queues, held, lost } => {
                let offer = fleet::Offer { boot_id, has_swept, capacity, queues, held, lost };
                self.worker_exchanged(&worker, offer, out);
            }
            Event::WorkerLeft { worker, boot_id } => self.worker_left(&worker, &boot_id),
            Event::AttemptLost { attempt, worker, boot_id, reason } => {
                self.attempt_swept(&attempt, &worker, &boot_id, &reason, out);
            }
            Event::Clear { request, run, selection, is_dry_run, finished, latest } => {
                let clear = operate::Clear { run, selection, is_dry_run, finished, latest };
                self.clear(request, clear, out);
            }
            Event::MarkTask { request, run, tasks, map_index, state, is_dry_run, finished } => {
                let mark = operate::MarkTask { run, tasks, map_index, state, is_dry_run, finished };
                self.mark_task(request, mark, out);
            }
            Event::MarkRun { request, run, state, is_dry_run, finished } => {
                let mark = operate::MarkRun { run, state, is_dry_run, finished };
                self.mark_run(request, mark, out);
            }
            Event::Cancel { request, run, is_dry_run, ended } => {
                self.cancel(request, cancel::CancelRun { run, is_dry_run, ended }, out);
            }
            Event::RunsDeleted { runs } => self.runs_deleted(&runs),
            Event::Prepared { instance, what, result } => self.prepared(&instance, what, result, out),
            Event::Past { run, previous } => self.past_known(run, previous, out),
            Event::Usual { run, duration } => self.usual_known(run, duration, out),
            Event::BackfillRequested { request, dag_id, spec, created_by } => {
                self.backfill_requested(request, &dag_id, *spec, created_by, out);
            }
            Event::BackfillChanged { request, backfill, change, is_dry_run, ended } => {
                self.backfill_changed(request, backfill, change, ended, is_dry_run, out);
            }
            Event::BackfillDates { backfill, dates, found, finished } => {
                self.backfill_dates(backfill, backfill::Found { dates, runs: found, finished }, out);
            }
            Event::Resume { request, run, is_dry_run, ended } => {
                self.resume_run(request, park::ResumeRun { run, is_dry_run, ended }, out);
            }
            Event::AssetPosted { request, asset, extra, by } => {
                self.asset_posted(request, assets::Posted { asset, extra, by }, out);
            }
            Event::PoolChanged { request, pool } => self.pool_changed(request, pool, out),
            Event::PoolDeleted { request, name } => self.pool_deleted(request, &name, out),
        }
    }

    /// Follows every consequence within this step, breadth first and without recursion.
    fn settle(&mut self, out: &mut Out) {
        loop {
            if let Some(task) = out.undecided.pop_front() {
                self.decide(task, out);
            } else if let Some(run) = out.ending.pop_first() {
                self.end_if_done(run, out);
            } else if let Some(dag_id) = out.promoting.pop_first() {
                self.promote(&dag_id, out);
            } else {
                break;
            }
        }
        self.dispatch(out);
    }

    /// Returns how many slots every pool has.
    #[must_use]
    pub fn pool_slots(&self) -> BTreeMap<PoolName, u32> {
        self.pools.iter().map(|(name, pool)| (name.clone(), pool.row.slots)).collect()
    }

    /// Returns the next instant at which a tick can change anything: due when *either* clock reaches its part.
    #[must_use]
    pub fn wake_at(&self) -> Option<Now> {
        let dates = self.dates.first().map(|(at, _)| *at).into_iter();
        let late = self.late_dates.first().map(|(at, _)| *at);
        let walls = dates.chain(late).chain(self.instants.first().map(|(at, _)| *at));
        let (wall, mono) = (walls.min(), self.timers.first().map(|(at, _)| *at));
        if wall.is_none() && mono.is_none() {
            return None;
        }
        Some(Now { wall: wall.unwrap_or(DateTime::<Utc>::MAX_UTC), mono: mono.unwrap_or(Duration::MAX) })
    }

    /// Whether a run is in memory.
    #[must_use]
    pub fn has_run(&self, run: RunKey) -> bool {
        self.runs.contains_key(&run)
    }

    /// Whether the attempt is the newest of its instance and leased to this worker.
    #[must_use]
    pub fn has_lease(&self, attempt: &AttemptKey, worker: &WorkerId) -> bool {
        self.leased(attempt).is_some_and(|(run, ix)| {
            self.runs[&run].instances[ix].lease.as_ref().is_some_and(|lease| lease.worker == *worker)
        })
    }

    /// Returns the position of an instance that is in memory.
    fn locate(&self, key: &TaskInstanceKey) -> Option<Instance> {
        let run = self.runs.get(&key.run)?;
        Some((key.run, run.place_of(key)?))
    }

    /// Returns the instance whose live attempt this is.
    fn leased(&self, attempt: &AttemptKey) -> Option<Instance> {
        let (run, ix) = self.locate(&attempt.instance)?;
        let instance = &self.runs[&run].instances[ix];
        let is_newest = instance.row.try_number == attempt.try_number && instance.row.epoch == attempt.epoch;
        (instance.lease.is_some() && is_newest).then_some((run, ix))
    }

    fn pool_changed(&mut self, request: RequestId, row: PoolRow, out: &mut Out) {
        let name = row.name.clone();
        // A pool that comes back is still used by what was assigned before it went.
        let former = self.pools.remove(&name).map(|pool| pool.holders);
        let holders = former.unwrap_or_else(|| self.holders_of(&name));
        out.actions.push(Action::Pool(row.clone()));
        self.pools.insert(name, Pool { row, holders });
        out.answer(request, Reply::Done);
    }

    /// Returns the leased instances whose tasks take slots of a pool.
    fn holders_of(&self, pool: &PoolName) -> BTreeMap<u32, BTreeSet<Instance>> {
        let mut holders: BTreeMap<u32, BTreeSet<Instance>> = BTreeMap::new();
        for (key, ix) in self.dags.values().flat_map(|entry| &entry.leased) {
            let Some(run) = self.runs.get(key) else { continue };
            let task = run.graph.task(ix.task);
            if task.pool == *pool {
                holders.entry(task.pool_slots).or_default().insert((*key, *ix));
            }
        }
        holders
    }

    fn pool_deleted(&mut self, request: RequestId, name: &PoolName, out: &mut Out) {
        if name.as_str() == DEFAULT_POOL {
            return out.refuse(request, Refusal::PoolProtected);
        }
        if self.pools.remove(name).is_none() {
            return out.refuse(request, Refusal::UnknownPool);
        }
        // Instances that still run in it keep running, and count again when it is made anew.
        out.actions.push(Action::DeletePool(name.clone()));
        out.answer(request, Reply::Done);
    }
}
