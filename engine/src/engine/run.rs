//! One active dag run: its row, its graph and one small record per task instance.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::{
    instances::{InstanceIndex, Instances, Tally, TaskRecord},
    other_runs::Watch,
    past::Past,
};
use crate::{
    action::{Action, RunChange, TaskChange, TaskFence, TryChange},
    definition::Operator,
    event::AttemptResult,
    graph::{Graph, TaskIndex},
    ids::{AttemptKey, RunKey, TaskInstanceKey, WorkerId},
    mapping::MapValues,
    now::Now,
    rows::{RunRow, TaskRow, TryRow},
    state::{RunState, StopReason, TaskState, TryOutcome},
    trigger_rule::UpstreamCounts,
};

/// An active dag run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) row: RunRow,
    pub(super) graph: Arc<Graph>,
    /// By task and element.
    pub(super) instances: Instances,
    /// Instances that have not ended.
    pub(super) unfinished: usize,
    /// Instances that will move without an upstream: scheduled, leased, waiting for a time or a person.
    pub(super) moving: usize,
    /// When `run_timeout` is reached, by the monotonic clock.
    pub(super) deadline: Option<Duration>,
    /// When it is late, by the monotonic clock; where that is the clock of its deadline.
    pub(super) late_at: Option<Duration>,
    /// The run before, where a task asks for it.
    pub(super) past: Past,
}

/// One task instance in memory.
#[derive(Clone, Debug)]
pub(super) struct InstanceRecord {
    pub(super) row: TaskRow,
    pub(super) lease: Option<Lease>,
    /// When the next try or poke may start, by the monotonic clock; set exactly in `up_for_retry` and
    /// `up_for_reschedule`.
    pub(super) retry_at: Option<Duration>,
    /// When a sensor has waited long enough in all, by the monotonic clock; from its first poke to its end.
    pub(super) expires_at: Option<Duration>,
    /// Whose poke was the last one of a try that goes on; set while a sensor waits for its next one.
    pub(super) open: Option<Lease>,
    /// The run that it triggered and waits for.
    pub(super) child: Option<RunKey>,
    /// The runs that it watches.
    pub(super) watch: Option<Box<Watch>>,
    /// Ended attempts by epoch, newest last, for verdicts on repeated results. Bounded.
    pub(super) closed: Vec<(u32, TryOutcome)>,
}

/// Who holds an attempt, and until when.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) worker: WorkerId,
    pub(super) boot_id: String,
    pub(super) deadline: Duration,
}

impl InstanceRecord {
    /// Remembers how an attempt ended, for verdicts on repeated results.
    fn close(&mut self, epoch: u32, outcome: TryOutcome) {
        self.closed.push((epoch, outcome));
        if self.closed.len() > 8 {
            self.closed.remove(0);
        }
    }
}

/// What kind of change of a task row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Durable,
    Note,
    Clear,
}

/// Returns the row of an instance about which nothing is decided.
pub(super) fn blank(run: RunKey, graph: &Graph, ix: InstanceIndex) -> TaskRow {
    TaskRow {
        key: TaskInstanceKey { run, task: graph.task(ix.task).id.clone(), map_index: ix.map_index },
        state: TaskState::NoStatus,
        try_number: 0,
        epoch: 0,
        failures: 0,
        losses: 0,
        scheduled_at: None,
        queued_at: None,
        started_at: None,
        finished_at: None,
        retry_at: None,
        pokes: 0,
        first_poke_at: None,
        next_poke_at: None,
        worker: None,
        exit_code: None,
        reason: None,
        stop: None,
        follow: None,
    }
}

const fn is_moving(state: TaskState) -> bool {
    !state.is_terminal() && !matches!(state, TaskState::NoStatus)
}

const fn is_stopping(row: &TaskRow) -> bool {
    row.stop.is_some() && row.state.has_lease()
}

const fn is_clearing(row: &TaskRow) -> bool {
    matches!(row.stop, Some(StopReason::Cleared)) && row.state.has_lease()
}

impl InstanceRecord {
    fn blank(run: RunKey, graph: &Graph, ix: InstanceIndex) -> Self {
        Self {
            row: blank(run, graph, ix),
            lease: None,
            retry_at: None,
            expires_at: None,
            open: None,
            child: None,
            watch: None,
            closed: Vec::new(),
        }
    }
}

impl Run {
    /// Makes a run in which nothing is decided.
    pub(super) fn new(row: RunRow, graph: Arc<Graph>) -> Self {
        let tasks = (0..graph.len()).map(|task| TaskRecord {
            counts: UpstreamCounts::default(),
            cut_by: None,
            tally: Tally::default(),
            only: InstanceRecord::blank(row.key, &graph, InstanceIndex::only(task)),
            map: None,
            elements: Vec::new(),
        });
        let instances = Instances::new(tasks.collect());
        let mut run = Self {
            row,
            graph,
            instances,
            unfinished: 0,
            moving: 0,
            deadline: None,
            late_at: None,
            past: Past::Unasked,
        };
        run.recount();
        run
    }

    /// Whether the run still starts things.
    pub(super) const fn is_ending(&self) -> bool {
        self.row.cancel_requested_at.is_some() || self.row.timed_out_at.is_some()
    }

    /// Computes every counter from the states: O(instances + edges), after a restore, a clear or a mark.
    pub(super) fn recount(&mut self) {
        for task in 0..self.graph.len() {
            self.instances.of_mut(task).tally = self.tally(task);
        }
        self.unfinished = self.instances.tasks().map(|task| task.tally.open() as usize).sum();
        self.moving = self.instances.tasks().map(|task| task.tally.moving() as usize).sum();
        for task in 0..self.graph.len() {
            let mut counts = UpstreamCounts::default();
            for up in self.graph.upstream(task) {
                let tally = &self.instances.of(*up).tally;
                counts.total += self.instances.of(*up).share();
                counts.success += tally.of(TaskState::Success);
                counts.skipped += tally.of(TaskState::Skipped);
                counts.failed += tally.of(TaskState::Failed);
                counts.upstream_failed += tally.of(TaskState::UpstreamFailed);
            }
            let record = self.instances.of_mut(task);
            record.counts = counts;
            record.cut_by = None;
        }
        let circuits: Vec<TaskIndex> =
            self.graph.topological().iter().copied().filter(|ix| self.is_cutting(*ix)).collect();
        for circuit in circuits {
            self.cut_below(circuit);
        }
    }

    fn tally(&self, task: TaskIndex) -> Tally {
        let mut tally = Tally::default();
        for (_, record) in self.instances.of_task(task) {
            tally.add(record.row.state);
            tally.stopping += u32::from(is_stopping(&record.row));
            tally.clearing += u32::from(is_clearing(&record.row));
        }
        tally
    }

    /// Gives a mapped task its elements, or takes them away, and counts again what follows from how many there are:
    /// O(elements + edges).
    pub(super) fn set_map(&mut self, task: TaskIndex, map: Option<Arc<MapValues>>) {
        let length = map.as_ref().map_or(0, |values| values.len());
        self.remember_elements(task, length);
        let record = self.instances.of_mut(task);
        let before = (record.share(), record.tally);
        record.map = map;
        let tally = self.tally(task);
        let record = self.instances.of_mut(task);
        record.tally = tally;
        let share = record.share();
        self.unfinished = self.unfinished + tally.open() as usize - before.1.open() as usize;
        self.moving = self.moving + tally.moving() as usize - before.1.moving() as usize;
        let graph = Arc::clone(&self.graph);
        for down in graph.downstream(task) {
            let counts = &mut self.instances.of_mut(*down).counts;
            counts.total = counts.total + share - before.0;
        }
    }

    /// Makes room for so many elements.
    pub(super) fn remember_elements(&mut self, task: TaskIndex, length: usize) {
        let (key, graph) = (self.row.key, Arc::clone(&self.graph));
        let elements = &mut self.instances.of_mut(task).elements;
        for position in elements.len()..length {
            elements.push(InstanceRecord::blank(key, &graph, InstanceIndex::element(task, position)));
        }
    }

    /// Whether an instance is a short circuit that ended everything below it.
    fn is_cutting(&self, ix: TaskIndex) -> bool {
        // A short circuit is never mapped.
        let row = &self.instances.of(ix).only.row;
        let is_wide = matches!(
            self.graph.task(ix).operator,
            Operator::ShortCircuit { ignore_downstream_trigger_rules: true, .. }
        );
        is_wide && row.state == TaskState::Success && row.follow.as_ref().is_some_and(Vec::is_empty)
    }

    /// Notes what a task that has just ended cuts off, and returns what was not cut off before. An edge is walked
    /// once, however many circuits are above it.
    pub(super) fn cut_below(&mut self, ix: TaskIndex) -> Vec<TaskIndex> {
        let mut found = Vec::new();
        if !self.is_cutting(ix) {
            return found;
        }
        let mut open = vec![ix];
        while let Some(next) = open.pop() {
            for down in self.graph.downstream(next) {
                let record = self.instances.of_mut(*down);
                if record.cut_by.is_none() {
                    record.cut_by = Some(ix);
                    open.push(*down);
                    found.push(*down);
                }
            }
        }
        found
    }

    /// Returns the place of an instance that there is.
    pub(super) fn place_of(&self, key: &TaskInstanceKey) -> Option<InstanceIndex> {
        let ix = InstanceIndex { task: self.graph.index_of(&key.task)?, map_index: key.map_index };
        self.instances.has(ix).then_some(ix)
    }

    /// Makes sure that there is a record for the element that a key names.
    pub(super) fn remember(&mut self, key: &TaskInstanceKey) {
        let longest = crate::definition::LONGEST_MAP as usize;
        if let Some(task) = self.graph.index_of(&key.task)
            && let Some(position) = usize::try_from(key.map_index).ok().filter(|position| *position < longest)
        {
            self.remember_elements(task, position + 1);
        }
    }

    /// Returns the place of an instance that there is or was.
    pub(super) fn place_ever(&self, key: &TaskInstanceKey) -> Option<InstanceIndex> {
        let ix = InstanceIndex { task: self.graph.index_of(&key.task)?, map_index: key.map_index };
        let known = self.instances.of(ix.task).elements.len();
        let is_known = ix.map_index == -1 || ix.position().is_some_and(|position| position < known);
        is_known.then_some(ix)
    }

    /// Returns the instances in a state.
    pub(super) fn in_state(&self, state: TaskState) -> Vec<InstanceIndex> {
        let tasks = (0..self.graph.len()).filter(|task| self.instances.of(*task).tally.of(state) > 0);
        tasks.flat_map(|task| self.of_task_in(task, state)).collect()
    }

    /// Returns the instances of a task that are in a state.
    pub(super) fn of_task_in(&self, task: TaskIndex, state: TaskState) -> Vec<InstanceIndex> {
        let found = self.instances.of_task(task).filter(|(_, record)| record.row.state == state);
        found.map(|(ix, _)| ix).collect()
    }

    /// Whether any instance failed, whatever the leaves say.
    pub(super) fn has_failures(&self) -> bool {
        self.instances.tasks().any(|task| task.tally.of(TaskState::Failed) > 0)
    }

    /// Changes the run's row and returns the guarded change.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut RunRow)) -> Action {
        let from = self.row.state;
        change(&mut self.row);
        Action::Run(RunChange { from: Some(from), row: self.row.clone() })
    }

    /// Returns the guarded insert of the run's row.
    pub(super) fn insert(&self) -> Action {
        Action::Run(RunChange { from: None, row: self.row.clone() })
    }

    /// Changes an instance's row, keeps the counters right and returns the guarded change.
    pub(super) fn change_task(
        &mut self,
        ix: InstanceIndex,
        kind: Change,
        change: impl FnOnce(&mut TaskRow),
    ) -> Action {
        let was_there = self.instances.has(ix);
        let row = &mut self.instances[ix].row;
        let (before, was_stopping, was_clearing) = (row.state, is_stopping(row), is_clearing(row));
        let from = match before {
            TaskState::NoStatus => TaskFence { state: before, try_number: 0, epoch: 0 },
            _ => TaskFence { state: before, try_number: row.try_number, epoch: row.epoch },
        };
        change(row);
        let (after, is_stopping, is_clearing) = (row.state, is_stopping(row), is_clearing(row));
        let row = row.clone();
        // An element that is gone comes back as `removed`, and the other way round.
        let is_there = self.instances.has(ix);
        let tally = &mut self.instances.of_mut(ix.task).tally;
        if was_there {
            tally.remove(before);
            self.unfinished -= usize::from(!before.is_terminal());
            self.moving -= usize::from(is_moving(before));
        }
        if is_there {
            tally.add(after);
            self.unfinished += usize::from(!after.is_terminal());
            self.moving += usize::from(is_moving(after));
        }
        tally.stopping = tally.stopping + u32::from(is_stopping) - u32::from(was_stopping);
        tally.clearing = tally.clearing + u32::from(is_clearing) - u32::from(was_clearing);
        Action::Task(TaskChange { from, row, is_clear: kind == Change::Clear, is_note: kind == Change::Note })
    }

    /// Returns the fence of an instance's newest attempt.
    pub(super) fn attempt(&self, ix: InstanceIndex) -> AttemptKey {
        let row = &self.instances[ix].row;
        AttemptKey { instance: row.key.clone(), try_number: row.try_number, epoch: row.epoch }
    }

    /// Ends the newest try with its outcome and gives up the lease.
    pub(super) fn close_try(
        &mut self,
        ix: InstanceIndex,
        now: Now,
        result: &AttemptResult,
    ) -> Option<(Action, Lease)> {
        let attempt = self.attempt(ix);
        let instance = &mut self.instances[ix];
        let lease = instance.lease.take()?;
        if instance.row.started_at.is_none() {
            instance.row.started_at = result.started_at;
        }
        instance.close(attempt.epoch, result.outcome);
        let row = TryRow {
            attempt,
            worker: lease.worker.clone(),
            boot_id: lease.boot_id.clone(),
            queued_at: instance.row.queued_at.unwrap_or(now.wall),
            started_at: instance.row.started_at,
            finished_at: Some(now.wall),
            outcome: Some(result.outcome),
            exit_code: result.exit_code,
            reason: result.reason.clone(),
        };
        Some((Action::Try(TryChange { is_new: false, from_epoch: None, row }), lease))
    }

    /// Gives up the lease of a try that goes on with the next poke.
    pub(super) fn pause_try(
        &mut self,
        ix: InstanceIndex,
        started_at: Option<DateTime<Utc>>,
    ) -> Option<Lease> {
        let instance = &mut self.instances[ix];
        let lease = instance.lease.take()?;
        if instance.row.started_at.is_none() {
            instance.row.started_at = started_at;
        }
        instance.close(instance.row.epoch, TryOutcome::Rescheduled);
        instance.open = Some(lease.clone());
        Some(lease)
    }

    /// Whether the run counts as running (not queued, not ended).
    pub(super) fn is_active(&self) -> bool {
        self.row.state == RunState::Running
    }
}
