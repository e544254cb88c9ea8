//! What becomes of attempts: started, ended, lost.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Engine, Instance, Out, Timer, decide::needs_verdict, run::Change};
use crate::{
    action::Verdict,
    definition::{GROUP_PREFIX, RetriesExhausted},
    event::AttemptResult,
    ids::{AttemptKey, TaskId, WorkerId},
    retry,
    state::{StopReason, TaskState, TryOutcome},
};

impl Engine {
    /// Notes that an attempt runs.
    pub(super) fn attempt_started(
        &mut self,
        attempt: &AttemptKey,
        worker: &WorkerId,
        started_at: DateTime<Utc>,
        out: &mut Out,
    ) {
        if !self.has_lease(attempt, worker) {
            return;
        }
        let Some((key, ix)) = self.leased(attempt) else { return };
        let Some(run) = self.runs.get_mut(&key) else { return };
        if run.instances[ix].row.state == TaskState::Queued {
            out.actions.push(run.change_task(ix, Change::Note, |row| {
                row.state = TaskState::Running;
                // Of a sensor it is the start of the try, not of each poke.
                row.started_at.get_or_insert(started_at);
            }));
        }
    }

    /// Applies a result if its attempt holds the lease, and says what became of it.
    pub(super) fn attempt_finished(
        &mut self,
        attempt: &AttemptKey,
        worker: &WorkerId,
        result: AttemptResult,
        stored: Option<TryOutcome>,
        out: &mut Out,
    ) -> Verdict {
        if !self.has_lease(attempt, worker) {
            return self.verdict_without_lease(attempt, stored);
        }
        if let Some(instance) = self.leased(attempt) {
            self.attempt_ended(instance, result, out);
        }
        Verdict::Accepted
    }

    /// A repeated result is a duplicate; one of an attempt that was given up is fenced.
    fn verdict_without_lease(&self, attempt: &AttemptKey, stored: Option<TryOutcome>) -> Verdict {
        let known = self.locate(&attempt.instance).and_then(|(key, ix)| {
            let closed = &self.runs[&key].instances[ix].closed;
            closed.iter().find(|(epoch, _)| *epoch == attempt.epoch).map(|(_, outcome)| *outcome)
        });
        match known.or(stored) {
            Some(TryOutcome::Lost) | None => Verdict::Fenced,
            Some(_) => Verdict::Duplicate,
        }
    }

    /// Believes a worker that an attempt of an older incarnation of it is dead, and nobody else.
    pub(super) fn attempt_swept(
        &mut self,
        attempt: &AttemptKey,
        worker: &WorkerId,
        boot_id: &str,
        reason: &str,
        out: &mut Out,
    ) {
        let lease = self.leased(attempt).and_then(|(run, ix)| self.runs[&run].instances[ix].lease.as_ref());
        if lease.is_some_and(|lease| lease.worker == *worker && lease.boot_id != boot_id) {
            self.attempt_lost(attempt, reason, out);
        }
    }

    /// Declares a live attempt lost; nothing happens to one that is not live.
    pub(super) fn attempt_lost(&mut self, attempt: &AttemptKey, reason: &str, out: &mut Out) {
        if let Some(instance) = self.leased(attempt) {
            self.attempt_ended(instance, lost(reason), out);
        }
    }

    /// A lease ended without a word of its worker.
    pub(super) fn lease_ended(&mut self, (key, ix): Instance, out: &mut Out) {
        let Some(lease) = self.runs.get(&key).and_then(|run| run.instances[ix].lease.as_ref()) else {
            return;
        };
        if lease.deadline > out.now.mono {
            return;
        }
        let reason = format!("heartbeat timeout: nothing was heard of worker {} for its lease", lease.worker);
        self.attempt_ended((key, ix), lost(&reason), out);
    }

    /// The one place where a try ends: its record, its slots, and what follows.
    fn attempt_ended(&mut self, (key, ix): Instance, result: AttemptResult, out: &mut Out) {
        let result = self.judge_poke((key, ix), result);
        if result.outcome == TryOutcome::Rescheduled {
            self.wait_for_poke((key, ix), result, out);
            return self.expire((key, ix), out);
        }
        let Some(run) = self.runs.get_mut(&key) else { return };
        let Some((closed, lease)) = run.close_try(ix, out.now, &result) else { return };
        out.actions.push(closed);
        self.release((key, ix), &lease);
        let Some(run) = self.runs.get(&key) else { return };
        match run.instances[ix].row.stop {
            Some(stop) => {
                // What cleans up, or prepares anew, may have waited for this end.
                out.undecided.extend(run.graph.setups_and_teardowns().map(|waiting| (key, waiting)));
                self.resolve_stop((key, ix), stop, &result, out);
            }
            None => self.resolve((key, ix), result, out),
        }
        self.expire((key, ix), out);
    }

    /// What follows an end that nobody asked for.
    fn resolve(&mut self, instance: Instance, mut result: AttemptResult, out: &mut Out) {
        let (key, ix) = instance;
        let task = self.runs[&key].graph.task(ix.task).clone();
        if result.outcome == TryOutcome::Success && needs_verdict(&task.operator) {
            if let Err(reason) = self.check_follow(instance, result.follow.as_deref()) {
                result.outcome = TryOutcome::Failed;
                result.is_final = true;
                result.reason = Some(reason);
            }
        } else {
            result.follow = None;
        }
        match result.outcome {
            TryOutcome::Success | TryOutcome::Skipped => self.finish_with(instance, result, out),
            TryOutcome::Failed | TryOutcome::TimedOut => self.failed(instance, &task, result, out),
            // Stopped without having been asked to: the worker ended it on its own behalf.
            TryOutcome::Lost | TryOutcome::Stopped | TryOutcome::Rescheduled => {
                self.was_lost(instance, &task, result, out)
            }
            TryOutcome::HandedBack => self.schedule(instance, out),
        }
    }

    fn finish_with(&mut self, instance: Instance, result: AttemptResult, out: &mut Out) {
        let state = match result.outcome {
            TryOutcome::Success => TaskState::Success,
            TryOutcome::Skipped => TaskState::Skipped,
            _ => TaskState::Failed,
        };
        let follow = result.follow.map(|names| self.followed(instance, &names));
        self.finish(instance, state, out, |row| {
            row.exit_code = result.exit_code;
            row.reason = result.reason;
            row.follow = follow;
        });
    }

    /// Returns the tasks that a verdict names; a group is followed by its roots.
    fn followed(&self, (key, _): Instance, names: &[String]) -> Vec<TaskId> {
        let graph = &self.runs[&key].graph;
        let mut followed: Vec<TaskId> = Vec::new();
        for name in names {
            let ids: Vec<TaskId> = match name.strip_prefix(GROUP_PREFIX) {
                Some(group) => {
                    graph.roots_of_group(group).into_iter().map(|ix| graph.task(ix).id.clone()).collect()
                }
                None => TaskId::new(name).into_iter().collect(),
            };
            followed.extend(ids.into_iter().filter(|id| !followed.contains(id)).collect::<Vec<_>>());
        }
        followed
    }

    /// A branch must name direct downstreams of its own.
    fn check_follow(&self, (key, ix): Instance, follow: Option<&[String]>) -> Result<(), String> {
        let graph = &self.runs[&key].graph;
        let allowed: Vec<&str> =
            graph.downstream(ix.task).iter().map(|down| graph.task(*down).id.as_str()).collect();
        let Some(follow) = follow else {
            return Err("SCH0110: the branch ended without a verdict".to_owned());
        };
        let is_allowed = |name: &str| match name.strip_prefix(GROUP_PREFIX) {
            Some(group) => {
                let roots = graph.roots_of_group(group);
                !roots.is_empty() && roots.iter().all(|root| allowed.contains(&graph.task(*root).id.as_str()))
            }
            None => allowed.contains(&name),
        };
        match follow.iter().find(|name| !is_allowed(name)) {
            None => Ok(()),
            Some(id) => Err(format!(
                "SCH0111: the branch chose {id:?}, which is not one of its direct downstreams: {}",
                allowed.join(", ")
            )),
        }
    }

    fn failed(
        &mut self,
        instance: Instance,
        task: &crate::definition::Task,
        result: AttemptResult,
        out: &mut Out,
    ) {
        let (key, ix) = instance;
        let Some(run) = self.runs.get_mut(&key) else { return };
        let failures = run.instances[ix].row.failures + 1;
        let is_ending = run.is_ending() && !task.role.is_teardown();
        let is_retried = !result.is_final && task.retry_on.as_ref().is_none_or(|on| on.includes(&result));
        let is_exhausted = is_retried && failures > task.retries;
        if is_exhausted && !run.is_ending() && task.on_retries_exhausted == RetriesExhausted::Pause {
            return self.park(instance, failures, result, out);
        }
        if !is_retried || is_exhausted || is_ending {
            let is_soft = task.poke().is_some_and(|poke| poke.soft_fail);
            let state = if is_soft { TaskState::Skipped } else { TaskState::Failed };
            return self.finish(instance, state, out, |row| {
                row.failures = failures;
                row.exit_code = result.exit_code;
                row.reason = result.reason;
            });
        }
        let occasion = retry::Occasion {
            dag: &run.row.dag_id,
            map_index: run.instances[ix].row.key.map_index,
            logical_date: run.row.logical_date,
            failures,
        };
        let delay = retry::delay(task, occasion);
        self.wait_for_retry(instance, delay, out, |row| {
            row.failures = failures;
            row.exit_code = result.exit_code;
            row.reason = result.reason;
        });
    }

    fn wait_for_retry(
        &mut self,
        (key, ix): Instance,
        delay: Duration,
        out: &mut Out,
        change: impl FnOnce(&mut crate::rows::TaskRow),
    ) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let now = out.now;
        out.actions.push(run.change_task(ix, Change::Durable, |row| {
            row.state = TaskState::UpForRetry;
            row.retry_at = Some(now.wall + delay);
            change(row);
        }));
        let at = now.mono + delay;
        run.instances[ix].retry_at = Some(at);
        self.timers.insert((at, Timer::Retry(key, ix)));
    }

    /// The next try or poke may start.
    pub(super) fn retry_due(&mut self, instance: Instance, out: &mut Out) {
        self.forget_retry(instance);
        let (key, ix) = instance;
        let state = self.runs.get(&key).map(|run| run.instances[ix].row.state);
        if matches!(state, Some(TaskState::UpForRetry | TaskState::UpForReschedule)) {
            self.schedule(instance, out);
        }
    }

    /// Drops the timer of an instance that does not wait for its next try or poke any more.
    pub(super) fn forget_retry(&mut self, (key, ix): Instance) {
        if let Some(run) = self.runs.get_mut(&key)
            && let Some(at) = run.instances[ix].retry_at.take()
        {
            self.timers.remove(&(at, Timer::Retry(key, ix)));
        }
    }

    /// A loss has a budget of its own and is tried again at once, on whichever worker has room.
    fn was_lost(
        &mut self,
        instance: Instance,
        task: &crate::definition::Task,
        result: AttemptResult,
        out: &mut Out,
    ) {
        let (key, ix) = instance;
        let Some(run) = self.runs.get_mut(&key) else { return };
        let losses = run.instances[ix].row.losses + 1;
        if losses > task.max_lost_retries {
            let reason = format!(
                "SCH0112: lost {losses} times (max_lost_retries = {}); last: {}",
                task.max_lost_retries,
                result.reason.as_deref().unwrap_or("unknown")
            );
            return self.finish(instance, TaskState::Failed, out, |row| {
                row.losses = losses;
                row.exit_code = result.exit_code;
                row.reason = Some(reason);
            });
        }
        run.instances[ix].row.losses = losses;
        run.instances[ix].row.reason = result.reason;
        self.schedule(instance, out);
    }

    /// What follows an end that was asked for: the old process is known to be dead now.
    fn resolve_stop(&mut self, instance: Instance, stop: StopReason, result: &AttemptResult, out: &mut Out) {
        let (key, ix) = instance;
        let exit_code = result.exit_code;
        let mut end = |engine: &mut Self, state, reason: &str| {
            let reason = reason.to_owned();
            engine.finish_by_hand(instance, state, out, |row| {
                row.exit_code = exit_code;
                row.reason = Some(reason);
            });
        };
        match stop {
            StopReason::MarkedSuccess => {
                end(self, TaskState::Success, "marked success by a person");
                // It was done before the stop reached it, so its outlets are new all the same.
                if result.outcome == TryOutcome::Success {
                    self.update_outlets(instance, out);
                }
            }
            StopReason::MarkedFailed => end(self, TaskState::Failed, "marked failed by a person"),
            StopReason::Cancelled | StopReason::RunTimedOut if result.outcome == TryOutcome::Success => {
                // It was done before the stop reached it.
                self.finish_with(instance, result.clone(), out);
            }
            StopReason::Cancelled => end(self, TaskState::Skipped, "stopped: its run was cancelled"),
            StopReason::RunTimedOut => end(self, TaskState::Skipped, "stopped: its run timed out"),
            StopReason::Cleared => {
                self.forget_wait(instance);
                let Some(run) = self.runs.get_mut(&key) else { return };
                out.actions.push(super::operate::blank_out(run, ix));
                self.unexpand_if_cleared((key, ix.task), out);
                out.undecided.push_back((key, ix.task));
                // Where it waits for an earlier run from now on, that one needs its place.
                out.ending.insert(key);
            }
        }
    }
}

fn lost(reason: &str) -> AttemptResult {
    AttemptResult {
        outcome: TryOutcome::Lost,
        exit_code: None,
        is_final: false,
        reason: Some(reason.to_owned()),
        follow: None,
        started_at: None,
    }
}
