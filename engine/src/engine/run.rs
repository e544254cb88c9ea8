//! One active dag run: its row, its graph and one small record per task instance.

use std::{sync::Arc, time::Duration};

use super::past::Past;
use crate::{
    action::{Action, RunChange, TaskChange, TaskFence, TryChange},
    definition::Operator,
    event::AttemptResult,
    graph::{Graph, TaskIndex},
    ids::{AttemptKey, RunKey, TaskInstanceKey, WorkerId},
    now::Now,
    rows::{RunRow, TaskRow, TryRow},
    state::{RunState, TaskState, TryOutcome},
    trigger_rule::UpstreamCounts,
};

/// An active dag run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) row: RunRow,
    pub(super) graph: Arc<Graph>,
    /// By the task's position.
    pub(super) instances: Vec<InstanceRecord>,
    /// Instances that have not ended.
    pub(super) unfinished: usize,
    /// Instances that will move without an upstream: scheduled, leased, waiting for a time or a person.
    pub(super) moving: usize,
    /// When `run_timeout` is reached, by the monotonic clock.
    pub(super) deadline: Option<Duration>,
    /// The run before, where a task asks for it.
    pub(super) past: Past,
}

/// One task instance in memory.
#[derive(Clone, Debug)]
pub(super) struct InstanceRecord {
    pub(super) row: TaskRow,
    pub(super) counts: UpstreamCounts,
    pub(super) lease: Option<Lease>,
    /// When the next try may start, by the monotonic clock; set exactly in `up_for_retry`.
    pub(super) retry_at: Option<Duration>,
    /// The short circuit above, direct or not, that skips it whatever its trigger rule. Follows from the rows.
    pub(super) cut_by: Option<TaskIndex>,
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

/// What kind of change of a task row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Durable,
    Note,
    Clear,
}

/// Returns the row of an instance about which nothing is decided.
pub(super) fn blank(run: RunKey, graph: &Graph, ix: TaskIndex) -> TaskRow {
    TaskRow {
        key: TaskInstanceKey { run, task: graph.task(ix).id.clone(), map_index: -1 },
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

impl Run {
    /// Makes a run in which nothing is decided.
    pub(super) fn new(row: RunRow, graph: Arc<Graph>) -> Self {
        let instances: Vec<InstanceRecord> = (0..graph.len())
            .map(|ix| InstanceRecord {
                row: blank(row.key, &graph, ix),
                counts: UpstreamCounts::default(),
                lease: None,
                retry_at: None,
                cut_by: None,
                closed: Vec::new(),
            })
            .collect();
        let mut run =
            Self { row, graph, instances, unfinished: 0, moving: 0, deadline: None, past: Past::Unasked };
        run.recount();
        run
    }

    /// Whether the run still starts things.
    pub(super) const fn is_ending(&self) -> bool {
        self.row.cancel_requested_at.is_some() || self.row.timed_out_at.is_some()
    }

    /// Computes every counter from the states: O(tasks + edges), after a restore, a clear or a mark.
    pub(super) fn recount(&mut self) {
        self.unfinished = self.instances.iter().filter(|i| !i.row.state.is_terminal()).count();
        self.moving = self.instances.iter().filter(|i| is_moving(i.row.state)).count();
        for ix in 0..self.instances.len() {
            let upstream = self.graph.upstream(ix);
            let total = u32::try_from(upstream.len()).unwrap_or(u32::MAX);
            let mut counts = UpstreamCounts { total, ..UpstreamCounts::default() };
            for up in upstream {
                counts.add(self.instances[*up].row.state);
            }
            self.instances[ix].counts = counts;
            self.instances[ix].cut_by = None;
        }
        let circuits: Vec<TaskIndex> =
            self.graph.topological().iter().copied().filter(|ix| self.is_cutting(*ix)).collect();
        for circuit in circuits {
            self.cut_below(circuit);
        }
    }

    /// Whether an instance is a short circuit that ended everything below it.
    fn is_cutting(&self, ix: TaskIndex) -> bool {
        let row = &self.instances[ix].row;
        let is_wide = matches!(
            self.graph.task(ix).operator,
            Operator::ShortCircuit { ignore_downstream_trigger_rules: true, .. }
        );
        is_wide && row.state == TaskState::Success && row.follow.as_ref().is_some_and(Vec::is_empty)
    }

    /// Notes what an instance that has just ended cuts off, and returns what was not cut off before. An edge is walked
    /// once, however many circuits are above it.
    pub(super) fn cut_below(&mut self, ix: TaskIndex) -> Vec<TaskIndex> {
        let mut found = Vec::new();
        if !self.is_cutting(ix) {
            return found;
        }
        let mut open = vec![ix];
        while let Some(next) = open.pop() {
            for down in self.graph.downstream(next) {
                let record = &mut self.instances[*down];
                if record.cut_by.is_none() {
                    record.cut_by = Some(ix);
                    open.push(*down);
                    found.push(*down);
                }
            }
        }
        found
    }

    /// Returns the instances in a state.
    pub(super) fn in_state(&self, state: TaskState) -> Vec<TaskIndex> {
        (0..self.instances.len()).filter(|ix| self.instances[*ix].row.state == state).collect()
    }

    /// Whether any instance failed, whatever the leaves say.
    pub(super) fn has_failures(&self) -> bool {
        self.instances.iter().any(|i| i.row.state == TaskState::Failed)
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
        ix: TaskIndex,
        kind: Change,
        change: impl FnOnce(&mut TaskRow),
    ) -> Action {
        let row = &mut self.instances[ix].row;
        let before = row.state;
        let from = match before {
            TaskState::NoStatus => TaskFence { state: before, try_number: 0, epoch: 0 },
            _ => TaskFence { state: before, try_number: row.try_number, epoch: row.epoch },
        };
        change(row);
        let after = row.state;
        let row = row.clone();
        match (before.is_terminal(), after.is_terminal()) {
            (false, true) => self.unfinished -= 1,
            (true, false) => self.unfinished += 1,
            _ => {}
        }
        match (is_moving(before), is_moving(after)) {
            (false, true) => self.moving += 1,
            (true, false) => self.moving -= 1,
            _ => {}
        }
        Action::Task(TaskChange { from, row, is_clear: kind == Change::Clear, is_note: kind == Change::Note })
    }

    /// Returns the fence of an instance's newest attempt.
    pub(super) fn attempt(&self, ix: TaskIndex) -> AttemptKey {
        let row = &self.instances[ix].row;
        AttemptKey { instance: row.key.clone(), try_number: row.try_number, epoch: row.epoch }
    }

    /// Ends the newest try with its outcome and gives up the lease.
    pub(super) fn close_try(
        &mut self,
        ix: TaskIndex,
        now: Now,
        result: &AttemptResult,
    ) -> Option<(Action, Lease)> {
        let attempt = self.attempt(ix);
        let instance = &mut self.instances[ix];
        let lease = instance.lease.take()?;
        if instance.row.started_at.is_none() {
            instance.row.started_at = result.started_at;
        }
        instance.closed.push((attempt.epoch, result.outcome));
        if instance.closed.len() > 8 {
            instance.closed.remove(0);
        }
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
        Some((Action::Try(TryChange { is_new: false, row }), lease))
    }

    /// Whether the run counts as running (not queued, not ended).
    pub(super) fn is_active(&self) -> bool {
        self.row.state == RunState::Running
    }
}
