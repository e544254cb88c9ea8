//! Why a task instance is not running: the other half of every decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    definition::{Dag, Task, values::show_seconds},
    ids::{BackfillKey, DagId, PoolName, RunId, TaskId, WorkerId},
    preparation::Preparation,
    state::{RunState, StopReason, TaskState, TriggerRule},
};

/// One reason why a task instance is not running. The first of a list is the one that holds it back first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum WaitReason {
    /// It has ended; nothing more happens without a clear.
    Ended {
        /// How.
        state: TaskState,
        /// Why, when there is more to say.
        reason: Option<String>,
    },
    /// It runs.
    Running {
        /// Where.
        worker: Option<WorkerId>,
    },
    /// Assigned; the worker has not reported the start.
    Starting {
        /// Where.
        worker: Option<WorkerId>,
    },
    /// Being stopped.
    Stopping {
        /// Why.
        reason: StopReason,
    },
    /// Its run waits for `max_active_runs`.
    RunQueued {
        /// How many runs are active.
        active: u32,
        /// The limit.
        limit: u32,
    },
    /// Its run waits for the limit of its backfill, or for that to be resumed.
    BackfillQueued {
        /// The backfill.
        backfill: BackfillKey,
        /// How many runs of it are active.
        active: u32,
        /// The limit.
        limit: u32,
        /// It is paused.
        is_paused: bool,
    },
    /// Its run is parked for a person.
    RunPaused,
    /// Its run is ending and starts nothing any more.
    RunEnding,
    /// Its trigger rule does not hold yet.
    Upstream {
        /// The rule.
        rule: TriggerRule,
        /// The direct upstreams that have not ended.
        waiting_for: Vec<TaskId>,
    },
    /// Setups that it needs and that are not directly upstream have not ended.
    Setup {
        /// Which.
        waiting_for: Vec<TaskId>,
    },
    /// Tasks of the run before have not ended well, and it asks for them.
    PreviousRun {
        /// The run before.
        run_id: RunId,
        /// What is waited for, with its state there.
        waiting_for: BTreeMap<TaskId, TaskState>,
    },
    /// The run before is being looked up.
    PastUnknown,
    /// The next try has its time.
    RetryAt {
        /// When.
        at: DateTime<Utc>,
        /// How many tries have failed since the last clear.
        failures: u32,
        /// How many retries there are.
        retries: u32,
    },
    /// A sensor found nothing yet and looks again.
    PokeAt {
        /// When.
        at: DateTime<Utc>,
        /// How often it has looked.
        pokes: u32,
        /// It looked first at.
        since: DateTime<Utc>,
        /// It gives up at.
        until: Option<DateTime<Utc>>,
        /// What it saw last.
        last: Option<String>,
    },
    /// It waits for an instant.
    Until {
        /// Which.
        at: DateTime<Utc>,
        /// How far away that is, in seconds.
        left_seconds: u64,
        /// It gives up at.
        until: Option<DateTime<Utc>>,
    },
    /// It waits for a run of another DAG.
    OtherRun {
        /// The DAG.
        dag_id: DagId,
        /// The logical date of the run; absent: the newest.
        logical_date: Option<DateTime<Utc>>,
        /// The run, when there is one.
        run_id: Option<RunId>,
        /// Where it is.
        state: Option<RunState>,
        /// It gives up at.
        until: Option<DateTime<Utc>>,
    },
    /// Its pool has no slot left for it.
    PoolFull {
        /// Which.
        pool: PoolName,
        /// How many there are.
        slots: u32,
        /// How many are taken.
        used: u32,
        /// How many it wants.
        wanted: u32,
    },
    /// There is no pool of that name.
    PoolUnknown {
        /// Which.
        pool: PoolName,
    },
    /// It wants more slots than its pool has.
    PoolTooSmall {
        /// Which.
        pool: PoolName,
        /// How many there are.
        slots: u32,
        /// How many it wants.
        wanted: u32,
    },
    /// `max_active_tasks` of its DAG is reached.
    DagLimit {
        /// The limit.
        limit: u32,
    },
    /// `max_active_per_dag` of its task is reached.
    TaskLimit {
        /// The limit.
        limit: u32,
    },
    /// `max_active_per_run` of its task is reached.
    RunTaskLimit {
        /// The limit.
        limit: u32,
    },
    /// Something has to be rendered before it can be decided on.
    Preparing {
        /// What.
        what: Preparation,
    },
    /// Its map is made anew once those of its elements that are being stopped have ended.
    Remapping,
    /// No worker that serves its queue is connected.
    NoWorker {
        /// Which queue.
        queue: String,
    },
    /// Every worker that serves its queue is full.
    WorkersFull {
        /// Which queue.
        queue: String,
        /// How many slots they have together.
        slots: u32,
    },
    /// Who holds what the reason before this one names.
    HeldBy {
        /// The first of them.
        holders: Vec<Holder>,
        /// How many more there are.
        more: u32,
    },
    /// The runs that its run waits for.
    RunsAhead {
        /// The active ones, in the order of their creation.
        active: Vec<RunId>,
        /// Those that are queued before it.
        queued: Vec<RunId>,
        /// How many more are queued before it.
        more: u32,
    },
    /// The queues that connected workers serve, none of which is its own.
    OtherQueues {
        /// Which.
        queues: BTreeSet<String>,
    },
    /// It is next.
    Next,
    /// The engine contradicts itself here; please report it.
    Inconsistent {
        /// Where.
        place: String,
    },
}

/// A task instance that holds what others wait for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// The DAG.
    pub dag_id: DagId,
    /// The run.
    pub run_id: RunId,
    /// The task.
    pub task: TaskId,
    /// The element, −1 when not mapped.
    pub map_index: i32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.task)?;
        if self.map_index >= 0 {
            write!(f, " [{}]", self.map_index)?;
        }
        write!(f, " of {} ({})", self.dag_id, self.run_id)
    }
}

/// Why a run has not ended: a reason, and the task instances that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReason {
    /// The reason.
    pub reason: WaitReason,
    /// The first tasks that have it; none where it is the run's own.
    pub tasks: Vec<TaskId>,
    /// How many instances have it.
    pub count: u32,
}

impl fmt::Display for RunReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tasks.is_empty() {
            return self.reason.fmt(f);
        }
        let tasks: Vec<&str> = self.tasks.iter().map(TaskId::as_str).collect();
        let more = usize::try_from(self.count).unwrap_or(usize::MAX).saturating_sub(tasks.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        write!(f, "{}{more}: {}", tasks.join(", "), self.reason)
    }
}

/// Returns the tasks that no slot of their pool will ever suffice for as the pools are now, and why. Pools can be made
/// later, so this is a warning (`semantics.md` §8).
#[must_use]
pub fn pool_waits(dag: &Dag, slots_of: &BTreeMap<PoolName, u32>) -> Vec<(TaskId, WaitReason)> {
    let wait =
        |task: &Task| WaitReason::of_pool(&task.pool, slots_of.get(&task.pool).copied(), task.pool_slots);
    dag.tasks.iter().filter_map(|task| Some((task.id.clone(), wait(task)?))).collect()
}

impl WaitReason {
    /// Returns why a pool of so many slots, or none, can never give as many as are wanted.
    #[must_use]
    pub(crate) fn of_pool(pool: &PoolName, slots: Option<u32>, wanted: u32) -> Option<Self> {
        let pool = || pool.clone();
        match slots {
            None => Some(Self::PoolUnknown { pool: pool() }),
            Some(slots) if wanted > slots => Some(Self::PoolTooSmall { pool: pool(), slots, wanted }),
            Some(_) => None,
        }
    }

    /// Returns the stable word of the reason.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Ended { .. } => "ended",
            Self::Running { .. } => "running",
            Self::Starting { .. } => "starting",
            Self::Stopping { .. } => "stopping",
            Self::RunQueued { .. } => "run_queued",
            Self::BackfillQueued { .. } => "backfill_queued",
            Self::RunPaused => "run_paused",
            Self::RunEnding => "run_ending",
            Self::Upstream { .. } => "upstream",
            Self::Setup { .. } => "setup",
            Self::PreviousRun { .. } => "previous_run",
            Self::PastUnknown => "past_unknown",
            Self::RetryAt { .. } => "retry_at",
            Self::PokeAt { .. } => "poke_at",
            Self::Until { .. } => "until",
            Self::OtherRun { .. } => "other_run",
            Self::PoolFull { .. } => "pool_full",
            Self::PoolUnknown { .. } => "pool_unknown",
            Self::PoolTooSmall { .. } => "pool_too_small",
            Self::DagLimit { .. } => "dag_limit",
            Self::TaskLimit { .. } => "task_limit",
            Self::RunTaskLimit { .. } => "run_task_limit",
            Self::Preparing { .. } => "preparing",
            Self::Remapping => "remapping",
            Self::NoWorker { .. } => "no_worker",
            Self::WorkersFull { .. } => "workers_full",
            Self::HeldBy { .. } => "held_by",
            Self::RunsAhead { .. } => "runs_ahead",
            Self::OtherQueues { .. } => "other_queues",
            Self::Next => "next",
            Self::Inconsistent { .. } => "inconsistent",
        }
    }
}

/// Prints the reason as a sentence without a full stop, for people.
impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { state, reason: Some(reason) } => write!(f, "ended as {state}: {reason}"),
            Self::Ended { state, reason: None } => write!(f, "ended as {state}"),
            Self::Running { worker: Some(worker) } => write!(f, "running on worker {worker}"),
            Self::Running { worker: None } => f.write_str("running"),
            Self::Starting { worker: Some(worker) } => write!(f, "starting on worker {worker}"),
            Self::Starting { worker: None } => f.write_str("starting"),
            Self::Stopping { reason } => write!(f, "being stopped ({reason})"),
            Self::RunQueued { active, limit } => {
                write!(f, "its run waits: {active} of max_active_runs = {limit} runs are active")
            }
            Self::BackfillQueued { backfill, is_paused: true, .. } => {
                write!(f, "its run waits: backfill {backfill} is paused")
            }
            Self::BackfillQueued { backfill, active, limit, is_paused: false } => write!(
                f,
                "its run waits: {active} of max_active_runs = {limit} runs of backfill {backfill} are active"
            ),
            Self::RunPaused => f.write_str("its run is paused and waits for a person"),
            Self::RunEnding => f.write_str("its run is ending and starts nothing any more"),
            Self::Upstream { rule, waiting_for } => {
                write!(f, "waits for upstream ({rule}): ")?;
                list(f, waiting_for)
            }
            Self::Setup { waiting_for } => {
                f.write_str("waits for the setup: ")?;
                list(f, waiting_for)
            }
            Self::PreviousRun { run_id, waiting_for } => {
                write!(f, "waits for the run before it, {run_id}: ")?;
                for (index, (task, state)) in waiting_for.iter().take(8).enumerate() {
                    write!(f, "{}{task} is {state}", if index > 0 { ", " } else { "" })?;
                }
                Ok(())
            }
            Self::PastUnknown => f.write_str("the run before it is being looked up"),
            Self::RetryAt { .. } | Self::PokeAt { .. } | Self::Until { .. } => self.fmt_time(f),
            Self::PoolFull { pool, slots, used, wanted } => {
                write!(f, "pool {pool} is full: {used} of {slots} slots are taken, it wants {wanted}")
            }
            Self::PoolUnknown { pool } => {
                write!(f, "there is no pool {pool}; make it with `tidemill pools set {pool} SLOTS`")
            }
            Self::PoolTooSmall { pool, slots, wanted } => {
                write!(f, "it wants {wanted} slots and pool {pool} has only {slots}")
            }
            Self::DagLimit { limit } => write!(f, "max_active_tasks = {limit} of its DAG is reached"),
            Self::TaskLimit { limit } => write!(f, "max_active_per_dag = {limit} of its task is reached"),
            Self::RunTaskLimit { limit } => {
                write!(f, "max_active_per_run = {limit} of its task is reached in this run")
            }
            Self::Preparing { what } => write!(f, "its `{}` is being rendered", what.as_str()),
            Self::Remapping => f.write_str(
                "its map is made anew once those of its elements that are being stopped have ended",
            ),
            Self::NoWorker { queue } => write!(f, "no worker that serves queue {queue} is connected"),
            Self::WorkersFull { queue, slots } => {
                write!(f, "every worker of queue {queue} is busy ({slots} slots)")
            }
            Self::OtherRun { .. } => self.fmt_other(f),
            Self::HeldBy { .. } | Self::RunsAhead { .. } | Self::OtherQueues { .. } => self.fmt_blockers(f),
            Self::Next => f.write_str("it is next"),
            Self::Inconsistent { place } => {
                write!(f, "the engine contradicts itself ({place}); please report this")
            }
        }
    }
}

impl WaitReason {
    /// Prints what has its time.
    fn fmt_time(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RetryAt { at, failures, retries } => {
                write!(
                    f,
                    "next try at {} (failed {failures} of {} tries)",
                    at.format("%Y-%m-%dT%H:%M:%SZ"),
                    retries + 1
                )
            }
            Self::PokeAt { at, pokes, since, until, last } => {
                let shown = |at: &DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                if let Some(last) = last {
                    write!(f, "{last}; ")?;
                }
                write!(f, "next poke at {} (poked {pokes} times since {}", shown(at), shown(since))?;
                match until {
                    Some(until) => write!(f, ", gives up at {})", shown(until)),
                    None => f.write_str(")"),
                }
            }
            Self::Until { at, left_seconds, until } => {
                let shown = |at: &DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                write!(f, "waits until {} (in {})", shown(at), show_seconds(*left_seconds))?;
                match until.filter(|until| until < at) {
                    Some(until) => write!(f, "; gives up before that, at {}", shown(&until)),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Prints which run is waited for.
    fn fmt_other(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::OtherRun { dag_id, logical_date, run_id, state, until } = self else { return Ok(()) };
        let shown = |at: &DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        match (run_id, state, logical_date) {
            (Some(run_id), Some(state), _) => write!(f, "waits for dag run {run_id} of {dag_id} ({state})")?,
            (_, _, Some(at)) => {
                write!(f, "waits for a dag run of {dag_id} for {}: there is none yet", shown(at))?;
            }
            _ => write!(f, "waits for a dag run of {dag_id}: there is none yet")?,
        }
        match until {
            Some(until) => write!(f, ", gives up at {}", shown(until)),
            None => Ok(()),
        }
    }

    /// Prints who is in the way.
    fn fmt_blockers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeldBy { holders, more } => {
                f.write_str("held by ")?;
                named(f, holders.iter().map(ToString::to_string), *more)
            }
            Self::RunsAhead { active, queued, more } => {
                f.write_str("active: ")?;
                named(f, active.iter().map(ToString::to_string), 0)?;
                if queued.is_empty() {
                    return f.write_str("; it is the next one");
                }
                f.write_str("; queued before it: ")?;
                named(f, queued.iter().map(ToString::to_string), *more)
            }
            Self::OtherQueues { queues } => {
                f.write_str("the connected workers serve ")?;
                named(f, queues.iter().map(ToString::to_string), 0)
            }
            _ => Ok(()),
        }
    }
}

fn named(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = String>, more: u32) -> fmt::Result {
    f.write_str(&names.collect::<Vec<_>>().join(", "))?;
    if more > 0 {
        write!(f, " and {more} more")?;
    }
    Ok(())
}

fn list(f: &mut fmt::Formatter<'_>, tasks: &[TaskId]) -> fmt::Result {
    for (index, task) in tasks.iter().take(8).enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{task}")?;
    }
    if tasks.len() > 8 {
        write!(f, " and {} more", tasks.len() - 8)?;
    }
    Ok(())
}
