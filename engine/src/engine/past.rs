//! The run before: `depends_on_past` and `wait_for_downstream` (`semantics.md` §6).
//!
//! The previous run may be active, then its instances are here, or it has ended, then the loop looks it up. A run whose
//! previous one is not known is in [`Engine::unknown_past`]; the loop answers with [`crate::event::Event::Past`]. What
//! is known is never stored: it is looked up again after a rebuild, and whenever the previous run begins anew or ends.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::{Engine, Out, TaskOfRun, run::Run};
use crate::{
    graph::TaskIndex,
    ids::{DagId, RunKey, TaskId},
    rows::{PreviousRun, RunRow},
    state::{RunType, TaskState},
    trigger_rule::Decision,
    wait_reason::WaitReason,
};

/// What is known of the run before.
#[derive(Clone, Debug, Default)]
pub(super) enum Past {
    /// No task asks for it.
    #[default]
    Unasked,
    /// It has to be looked up.
    Unknown,
    /// There is none.
    None,
    /// It is this one, in memory or as it was when it was looked up.
    Run(Box<PreviousRun>),
}

impl Engine {
    /// Returns the runs whose previous run the loop has to look up: the newest scheduled or backfill run of the DAG
    /// with an earlier logical date; of two with the same date the scheduled one.
    #[must_use]
    pub fn unknown_past(&self) -> Vec<(RunKey, DagId, DateTime<Utc>)> {
        let found = self.unknown_past.iter().filter_map(|key| self.runs.get(key));
        found.map(|run| (run.row.key, run.row.dag_id.clone(), run.row.logical_date)).collect()
    }

    /// Whether [`Self::unknown_past`] has any.
    #[must_use]
    pub fn is_past_unknown(&self) -> bool {
        !self.unknown_past.is_empty()
    }

    /// Takes in what the loop found.
    pub(super) fn past_known(&mut self, key: RunKey, found: Option<Box<PreviousRun>>, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        if !self.unknown_past.remove(&key) {
            return;
        }
        if let Some(previous) = &found {
            self.followers.entry(previous.run).or_default().insert(key);
        }
        run.past = found.map_or(Past::None, Past::Run);
        let graph = Arc::clone(&run.graph);
        out.undecided.extend(graph.past_tasks().iter().map(|ix| (key, *ix)));
        out.ending.insert(key);
    }

    /// Notes that the previous run of a run is not known, if one of its tasks asks.
    pub(super) fn forget_past(&mut self, key: RunKey) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        if run.graph.past_tasks().is_empty() || run.row.ignores_past {
            return;
        }
        if let Past::Run(previous) = std::mem::replace(&mut run.past, Past::Unknown)
            && let Some(followers) = self.followers.get_mut(&previous.run)
        {
            followers.remove(&key);
            if followers.is_empty() {
                self.followers.remove(&previous.run);
            }
        }
        self.unknown_past.insert(key);
    }

    /// A run came into memory: its own past is asked for, and it may be the past of a later one.
    pub(super) fn past_of_new(&mut self, row: &RunRow) {
        self.forget_past(row.key);
        if !matches!(row.run_type, RunType::Scheduled | RunType::Backfill) {
            return;
        }
        let Some(entry) = self.dags.get(&row.dag_id) else { return };
        let is_later = |key: &RunKey| {
            self.runs.get(key).is_some_and(|run| match &run.past {
                _ if run.row.logical_date <= row.logical_date => false,
                Past::Unasked | Past::Unknown => false,
                Past::None => true,
                Past::Run(known) => known.logical_date <= row.logical_date,
            })
        };
        let from = (row.logical_date, RunKey(i64::MIN));
        let of_backfills = self.backfills_of(&row.dag_id).flat_map(|backfill| backfill.queued.range(from..));
        let queued = entry.queued.range(from..).chain(of_backfills).map(|(_, key)| *key);
        let running = self.running_of(entry).map(|run| run.row.key);
        let later: Vec<RunKey> = queued.chain(running).filter(is_later).collect();
        for key in later {
            self.forget_past(key);
        }
    }

    /// A run leaves memory: whoever waited for it is told how it ended by the store.
    pub(super) fn past_has_ended(&mut self, run: &Run) {
        if let Past::Run(previous) = &run.past
            && let Some(followers) = self.followers.get_mut(&previous.run)
        {
            followers.remove(&run.row.key);
            if followers.is_empty() {
                self.followers.remove(&previous.run);
            }
        }
        self.unknown_past.remove(&run.row.key);
        for follower in self.followers.remove(&run.row.key).unwrap_or_default() {
            self.forget_past(follower);
        }
    }

    /// Lets those look again who wait for an instance of the run before: O(its upstreams) for each later run.
    pub(super) fn tell_followers(&self, (key, ix): TaskOfRun, out: &mut Out) {
        let Some(followers) = self.followers.get(&key) else { return };
        let Some(graph) = self.runs.get(&key).map(|run| &run.graph) else { return };
        // By the version of this run: what is below a task here is what is asked for.
        let asked = || graph.upstream(ix).iter().copied().chain([ix]).map(|ix| &graph.task(ix).id);
        for follower in followers {
            let Some(run) = self.runs.get(follower) else { continue };
            let asking = asked().filter_map(|id| run.graph.index_of(id));
            out.undecided.extend(asking.filter(|ix| run.graph.asks_past(*ix)).map(|ix| (*follower, ix)));
        }
    }

    /// Takes the instances of a task that wait for a slot back when the run before has come to hold them back again: it
    /// was cleared, or another came between. What was tried already goes on.
    pub(super) fn take_back(&mut self, (key, task): TaskOfRun, out: &mut Out) {
        let Some(run) = self.runs.get(&key).filter(|run| !run.is_ending()) else { return };
        // What is only not known, as after a restart, takes nothing back.
        if !matches!(self.held_by_past(run, task), Some(WaitReason::PreviousRun { .. })) {
            return;
        }
        let mut waiting = run.of_task_in(task, TaskState::Scheduled);
        waiting.retain(|ix| {
            let row = &run.instances[*ix].row;
            row.failures == 0 && row.losses == 0 && row.first_poke_at.is_none()
        });
        for ix in waiting {
            self.unschedule((key, ix));
            if let Some(run) = self.runs.get_mut(&key) {
                out.actions.push(super::operate::blank_out(run, ix));
                out.promoting.insert(run.row.dag_id.clone());
            }
        }
        self.unexpand_if_cleared((key, task), out);
    }

    /// Ended runs were deleted: whoever waited for one of them has another run before it, or none.
    pub(super) fn runs_deleted(&mut self, runs: &[RunKey]) {
        for run in runs.iter().filter(|run| !self.runs.contains_key(run)).copied().collect::<Vec<_>>() {
            for follower in self.followers.remove(&run).unwrap_or_default() {
                self.forget_past(follower);
            }
        }
    }

    /// Says why the run before holds an instance back; `None` when it does not. What cleans up never waits for another run.
    pub(super) fn held_by_past(&self, run: &Run, ix: TaskIndex) -> Option<WaitReason> {
        if !run.graph.asks_past(ix) || run.row.ignores_past || run.graph.setups_of(ix).is_some() {
            return None;
        }
        let previous = match &run.past {
            Past::Unasked | Past::None => return None,
            Past::Unknown => return Some(WaitReason::PastUnknown),
            Past::Run(previous) => previous,
        };
        let is_active = self.runs.contains_key(&previous.run);
        if is_active && self.is_over_limit(&run.row) {
            return self.run_queued(&run.row);
        }
        let task = run.graph.task(ix);
        let below = task.wait_for_downstream.then(|| self.past_below(previous, &task.id));
        let asked = below.into_iter().flatten().chain([&task.id]);
        let waiting_for: BTreeMap<TaskId, TaskState> = asked
            .filter_map(|id| Some((id.clone(), self.past_state(previous, id)?)))
            .filter(|(_, state)| {
                !matches!(state, TaskState::Success | TaskState::Skipped | TaskState::Removed)
            })
            .collect();
        let run_id = previous.run_id.clone();
        (!waiting_for.is_empty()).then_some(WaitReason::PreviousRun { run_id, waiting_for })
    }

    /// Returns the tasks directly below a task in the run before: its version counts, not that of the run that waits.
    fn past_below<'a>(&'a self, previous: &'a PreviousRun, task: &TaskId) -> Vec<&'a TaskId> {
        match self.runs.get(&previous.run) {
            Some(run) => {
                let below = run.graph.index_of(task).map_or(&[][..], |ix| run.graph.downstream(ix));
                below.iter().map(|ix| &run.graph.task(*ix).id).collect()
            }
            None => previous.below.get(task).into_iter().flatten().collect(),
        }
    }

    /// Whether a run began beyond the limit that this one counts against, because the others stand still until it has
    /// ended.
    fn is_over_limit(&self, run: &RunRow) -> bool {
        match run.backfill.and_then(|key| self.backfills.get(&key)) {
            Some(backfill) => backfill.is_over_limit(),
            None => self.dags.get(&run.dag_id).is_some_and(super::DagEntry::is_over_limit),
        }
    }

    /// Returns the state of a task in the run before; `None` when it has no such task.
    fn past_state(&self, previous: &PreviousRun, task: &TaskId) -> Option<TaskState> {
        match self.runs.get(&previous.run) {
            Some(run) => run.graph.index_of(task).map(|ix| run.instances.of(ix).tally.summary()),
            None => previous.states.get(task).copied(),
        }
    }

    /// Returns the run that gets a place although `max_active_runs` is reached: every running run of the DAG stands still
    /// because of an earlier one, and the earliest of those that wait for a place may let the others go on. These stand
    /// still until it has ended.
    pub(super) fn makes_room_for(&self, entry: &super::DagEntry) -> Option<RunKey> {
        let mut wanted: Option<(DateTime<Utc>, RunKey)> = None;
        let is_queued = |place: &(DateTime<Utc>, RunKey)| {
            let is_of = |backfill: &super::Backfill| backfill.may_start() && backfill.queued.contains(place);
            entry.queued.contains(place) || self.backfills_of(&entry.row.dag_id).any(is_of)
        };
        for run in self.running_of(entry) {
            if run.moving > 0 || run.is_ending() || !self.waits_for_past(run) {
                return None;
            }
            if let Past::Run(before) = &run.past {
                let place = (before.logical_date, before.run);
                if is_queued(&place) && wanted.is_none_or(|first| place < first) {
                    wanted = Some(place);
                }
            }
        }
        wanted.map(|(_, key)| key)
    }

    /// Lets every running run of a DAG look at the run before again: how many may go on has changed.
    pub(super) fn wake_past(&self, dag_id: &DagId, out: &mut Out) {
        let Some(entry) = self.dags.get(dag_id) else { return };
        for run in self.running_of(entry) {
            out.undecided.extend(run.graph.past_tasks().iter().map(|ix| (run.row.key, *ix)));
        }
    }

    /// Returns the instances that nothing holds any more and that were not looked at since.
    pub(super) fn overlooked(&self, run: &Run) -> Vec<TaskIndex> {
        let is_free = |ix: &TaskIndex| {
            run.instances.of(*ix).tally.of(TaskState::NoStatus) > 0
                && super::verdict::verdict(run, *ix) == Decision::Run
                && self.held_by_past(run, *ix).is_none()
        };
        run.graph.past_tasks().iter().copied().filter(is_free).collect()
    }

    /// Whether an instance of a run would go on if it were not for the run before: such a run is not deadlocked.
    pub(super) fn waits_for_past(&self, run: &Run) -> bool {
        run.graph.past_tasks().iter().any(|ix| {
            run.instances.of(*ix).tally.of(TaskState::NoStatus) > 0
                && super::verdict::verdict(run, *ix) == Decision::Run
                && self.held_by_past(run, *ix).is_some()
        })
    }
}
