//! Why a task instance is not running: the same questions that deciding asks, in the same order.

use super::{
    Engine, Instance,
    decide::place,
    run::Run,
    verdict::{being_stopped, cleans_up},
};
use crate::{
    graph::TaskIndex,
    ids::TaskInstanceKey,
    now::Now,
    rows::RunRow,
    state::{RunState, TaskState},
    wait_reason::WaitReason,
};

/// How many different reasons are told of a task with many elements.
const SHOWN_REASONS: usize = 8;

impl Engine {
    /// Returns why a task instance is not running; the first reason is the one that holds it back first. Empty
    /// when its run is not active: then its stored state says everything. An expanded task without an element stands for
    /// all of its elements.
    #[must_use]
    pub fn explain(&self, key: &TaskInstanceKey, now: Now) -> Vec<WaitReason> {
        let Some(at) = self.locate(key) else { return self.explain_elements(key, now) };
        self.reasons(at, now, true)
    }

    /// As [`Self::explain`], and without what is looked up only for people (who holds what, which runs are ahead) when it is
    /// asked of many instances at once.
    pub(super) fn reasons(&self, (run_key, ix): Instance, now: Now, is_whole: bool) -> Vec<WaitReason> {
        let Some(run) = self.runs.get(&run_key) else { return Vec::new() };
        let record = &run.instances[ix];
        let row = &record.row;
        if row.state.is_terminal() {
            return vec![WaitReason::Ended { state: row.state, reason: row.reason.clone() }];
        }
        let mut reasons = Vec::new();
        if let Some(reason) = row.stop {
            reasons.push(WaitReason::Stopping { reason });
        }
        match row.state {
            TaskState::Running => reasons.push(WaitReason::Running { worker: row.worker.clone() }),
            TaskState::Queued => reasons.push(WaitReason::Starting { worker: row.worker.clone() }),
            _ => {}
        }
        if row.state.has_lease() {
            return reasons;
        }
        match run.row.state {
            RunState::Queued => {
                reasons.extend(self.run_queued(&run.row));
                if let Some(entry) = self.dags.get(&run.row.dag_id)
                    && run.row.backfill.is_none()
                    && is_whole
                {
                    reasons.push(self.runs_ahead(entry, run));
                }
            }
            RunState::Paused => reasons.push(WaitReason::RunPaused),
            _ if run.is_ending() && !cleans_up(run, ix.task) => reasons.push(WaitReason::RunEnding),
            _ => {}
        }
        match row.state {
            TaskState::UpForRetry => {
                let at = row.retry_at.unwrap_or(run.row.queued_at);
                let retries = run.graph.task(ix.task).retries;
                reasons.push(WaitReason::RetryAt { at, failures: row.failures, retries });
            }
            TaskState::UpForReschedule => {
                let other = self.waits_for_other(run, ix);
                reasons.push(other.unwrap_or_else(|| super::sensor::waits(run, ix, now)));
            }
            TaskState::Scheduled if !run.is_active() => {}
            TaskState::Scheduled => {
                let (group, _) = place(run, ix);
                let obstacle = self.obstacle(&group).unwrap_or(WaitReason::Next);
                let holders = if is_whole { self.holders(&group, &obstacle) } else { None };
                reasons.push(obstacle);
                reasons.extend(holders);
            }
            TaskState::NoStatus => {
                let tally = &run.instances.of(ix.task).tally;
                if tally.clearing > 0 {
                    reasons.push(WaitReason::Remapping);
                }
                if let Some(what) = self.unprepared.get(&(run_key, ix)) {
                    reasons.push(WaitReason::Preparing { what: *what });
                }
                reasons.extend(upstream(run, ix.task));
                reasons.extend(self.held_by_past(run, ix.task));
            }
            _ => {}
        }
        if reasons.is_empty() {
            reasons.push(WaitReason::Inconsistent { place: format!("{} of {}", row.state, run.row.state) });
        }
        reasons
    }

    /// Returns why the elements of an expanded task are not running, each reason once, or how the task ended.
    fn explain_elements(&self, key: &TaskInstanceKey, now: Now) -> Vec<WaitReason> {
        let Some(run) = self.runs.get(&key.run).filter(|_| key.map_index == -1) else { return Vec::new() };
        let Some(task) = run.graph.index_of(&key.task) else { return Vec::new() };
        let record = run.instances.of(task);
        if record.tally.open() == 0 {
            return vec![WaitReason::Ended { state: record.tally.summary(), reason: None }];
        }
        let mut reasons = Vec::new();
        for (_, record) in run.instances.of_task(task).filter(|(_, record)| !record.row.state.is_terminal()) {
            for reason in self.explain(&record.row.key, now) {
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
            if reasons.len() >= SHOWN_REASONS {
                break;
            }
        }
        reasons
    }

    /// Says which limit a run waits for.
    pub(super) fn run_queued(&self, run: &RunRow) -> Option<WaitReason> {
        let count = |active: usize| u32::try_from(active).unwrap_or(u32::MAX);
        if let Some(backfill) = run.backfill.and_then(|key| self.backfills.get(&key)) {
            return Some(WaitReason::BackfillQueued {
                backfill: backfill.row.key,
                active: count(backfill.running.len()),
                limit: backfill.row.spec.max_active_runs,
                is_paused: !backfill.may_start(),
            });
        }
        let entry = self.dags.get(&run.dag_id)?;
        let active = count(entry.running.len());
        Some(WaitReason::RunQueued { active, limit: entry.graph.dag.max_active_runs })
    }
}

/// Says what an undecided instance waits for above it.
fn upstream(run: &Run, ix: TaskIndex) -> Vec<WaitReason> {
    let unended = |above: &[TaskIndex]| -> Vec<_> {
        let open = above.iter().filter(|up| run.instances.of(**up).tally.open() > 0);
        open.map(|up| run.graph.task(*up).id.clone()).collect()
    };
    let mut reasons = Vec::new();
    let setups = unended(run.graph.setups_above(ix));
    if !setups.is_empty() {
        reasons.push(WaitReason::Setup { waiting_for: setups });
    }
    let mut waiting_for = unended(run.graph.upstream(ix));
    for stopping in being_stopped(run, ix).into_iter().map(|ix| &run.graph.task(ix).id) {
        if !waiting_for.contains(stopping) {
            waiting_for.push(stopping.clone());
        }
    }
    if !waiting_for.is_empty() {
        reasons.push(WaitReason::Upstream { rule: run.graph.task(ix).trigger_rule, waiting_for });
    }
    reasons
}
