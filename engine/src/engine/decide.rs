//! Deciding undecided instances, following what ended, ending runs.

use chrono::{DateTime, Utc};

use super::{
    Engine, Instance, Out, TaskOfRun, Timer,
    instances::InstanceIndex,
    ready::{Group, Lane},
    run::{Change, Run},
    verdict::{cleans_up, ended_by_rule, ruled_out, verdict},
};
use crate::{
    action::{Action, Notify},
    definition::{Notification, Operator},
    graph::Priority,
    ids::{RunKey, TaskId},
    rows::TaskRow,
    state::{RunState, RunType, TaskState, TryOutcome},
    trigger_rule::Decision,
};

impl Engine {
    /// Decides the instances of a task about which nothing is decided, if that is possible now. The same verdict holds
    /// for all of them, so that looking costs the same however many there are.
    pub(super) fn decide(&mut self, (key, task): TaskOfRun, out: &mut Out) {
        let Some(run) = self.runs.get(&key) else { return };
        let tally = &run.instances.of(task).tally;
        // A rule that does not wait for everybody may have let it wait for a slot before the branch chose.
        let is_waiting = tally.of(TaskState::Scheduled) > 0;
        let is_undecided = tally.of(TaskState::NoStatus) > 0;
        if !run.is_active() || !(is_undecided || is_waiting) {
            return;
        }
        // Of a run that is ending only what may have to clean up is undecided still.
        let needless =
            (run.is_ending() && !cleans_up(run, task)).then(|| "nothing is to be cleaned up".to_owned());
        if let Some(reason) = needless.or_else(|| ruled_out(run, task)) {
            return self.rule_out((key, task), &reason, out);
        }
        if is_waiting {
            self.take_back((key, task), out);
        }
        if is_undecided {
            self.decide_undecided((key, task), out);
        }
    }

    /// Skips whatever of a task is undecided or waits for a slot.
    fn rule_out(&mut self, (key, task): TaskOfRun, reason: &str, out: &mut Out) {
        let Some(run) = self.runs.get(&key) else { return };
        let waiting = run.of_task_in(task, TaskState::Scheduled);
        let undecided = run.of_task_in(task, TaskState::NoStatus);
        for ix in &waiting {
            self.unschedule((key, *ix));
        }
        for ix in waiting.into_iter().chain(undecided) {
            self.finish((key, ix), TaskState::Skipped, out, |row| row.reason = Some(reason.to_owned()));
        }
    }

    fn decide_undecided(&mut self, (key, task): TaskOfRun, out: &mut Out) {
        let Some(run) = self.runs.get(&key) else { return };
        let (operator, record) = (&run.graph.task(task).operator, run.instances.of(task));
        // One that is cleared as a whole gets new elements once what still runs of it is dead.
        let (tally, is_expanded) = (&record.tally, record.map.is_some());
        if is_expanded
            && tally.clearing > 0
            && tally.clearing + tally.of(TaskState::NoStatus) == tally.counting()
        {
            return;
        }
        let decision = verdict(run, task);
        let is_held =
            // A teardown that is due never waits for another run.
            || !run.is_ending() && self.held_by_past(run, task).is_some();
        if decision == Decision::Wait || (decision == Decision::Run && is_held()) {
            return;
        }
        if decision == Decision::Run && !is_expanded && run.graph.task(task).map.is_some() {
            return self.expand_or_ask((key, task), out);
        }
        let undecided = run.of_task_in(task, TaskState::NoStatus);
        match decision {
            Decision::Wait => {}
            Decision::Run if operator.waits_in_engine() => {
                for ix in undecided {
                    self.begin_inside((key, ix), out);
                }
            }
            Decision::Run if operator.is_in_engine() => {
                let now = out.now.wall;
                let follow =
                    (*operator == Operator::LatestOnly).then(|| self.followed_if_newest((key, task), now));
                for ix in undecided {
                    self.finish((key, ix), TaskState::Success, out, |row| {
                        row.started_at = Some(now);
                        row.follow.clone_from(&follow);
                    });
                }
            }
            Decision::Run => {
                for ix in undecided {
                    self.schedule((key, ix), out);
                }
            }
            Decision::Skip | Decision::UpstreamFailed => {
                let state = match decision {
                    Decision::Skip => TaskState::Skipped,
                    _ => TaskState::UpstreamFailed,
                };
                let reason = ended_by_rule(run, task, state.as_str());
                for ix in undecided {
                    self.finish((key, ix), state, out, |row| row.reason = Some(reason.clone()));
                }
            }
        }
    }

    /// Returns what a `latest_only` follows: everything directly below in the newest run of its schedule and in runs
    /// that no date made, else nothing (`semantics.md` §2.5).
    fn followed_if_newest(&self, (key, ix): TaskOfRun, now: DateTime<Utc>) -> Vec<TaskId> {
        let run = &self.runs[&key];
        let is_dated = matches!(run.row.run_type, RunType::Scheduled | RunType::Backfill);
        let newest = self.dags.get(&run.row.dag_id).and_then(|entry| entry.timetable.newest_at(now));
        if is_dated && newest.is_some_and(|slot| slot.logical_date > run.row.logical_date) {
            return Vec::new();
        }
        run.graph.downstream(ix).iter().map(|down| run.graph.task(*down).id.clone()).collect()
    }

    /// Lets an instance wait for a slot.
    pub(super) fn schedule(&mut self, (key, ix): Instance, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let now = out.now.wall;
        out.actions.push(run.change_task(ix, Change::Durable, |row| {
            row.state = TaskState::Scheduled;
            row.scheduled_at.get_or_insert(now);
            row.retry_at = None;
            row.next_poke_at = None;
        }));
        // In a run that is parked it waits for the person first.
        if run.is_active() {
            let (group, priority) = place(run, ix);
            self.ready.insert(group, priority, (key, ix));
        }
    }

    /// Takes a scheduled instance out of the ready queue.
    pub(super) fn unschedule(&mut self, (key, ix): Instance) {
        if let Some(run) = self.runs.get(&key) {
            let (group, priority) = place(run, ix);
            self.ready.remove(&group, priority, (key, ix));
        }
    }

    /// Ends an instance that has no lease and tells its downstreams. A success is an event on its outlets.
    pub(super) fn finish(
        &mut self,
        instance: Instance,
        state: TaskState,
        out: &mut Out,
        change: impl FnOnce(&mut TaskRow),
    ) {
        self.finish_by_hand(instance, state, out, change);
        if state == TaskState::Success {
            self.update_outlets(instance, out);
        }
    }

    /// The same for a verdict that a person gave: no work was done, so nothing is new in its outlets.
    pub(super) fn finish_by_hand(
        &mut self,
        (key, ix): Instance,
        state: TaskState,
        out: &mut Out,
        change: impl FnOnce(&mut TaskRow),
    ) {
        self.unprepared.remove(&(key, ix));
        self.leave_wait((key, ix), TryOutcome::Stopped, None, out);
        let Some(run) = self.runs.get_mut(&key) else { return };
        let now = out.now.wall;
        out.actions.push(run.change_task(ix, Change::Durable, |row| {
            row.state = state;
            row.finished_at = Some(now);
            row.retry_at = None;
            row.next_poke_at = None;
            row.stop = None;
            change(row);
        }));
        notify_task(run, ix, state, out);
        let graph = std::sync::Arc::clone(&run.graph);
        for down in graph.downstream(ix.task) {
            run.instances.of_mut(*down).counts.add(state);
            out.undecided.push_back((key, *down));
        }
        out.undecided.extend(run.cut_below(ix.task).into_iter().map(|below| (key, below)));
        out.undecided.extend(graph.below_setup(ix.task).iter().map(|below| (key, *below)));
        out.ending.insert(key);
        self.tell_followers((key, ix.task), out);
    }

    /// Ends a run in which nothing is left to do, or in which nothing can ever move.
    pub(super) fn end_if_done(&mut self, key: RunKey, out: &mut Out) {
        let Some(run) = self.runs.get(&key) else { return };
        if !run.is_active() && !run.is_ending() {
            return;
        }
        let (state, reason) = if run.unfinished == 0 {
            outcome(run)
        } else if run.moving == 0 && !run.is_ending() && !self.is_preparing(key) {
            let overlooked = self.overlooked(run);
            if !overlooked.is_empty() {
                out.undecided.extend(overlooked.into_iter().map(|ix| (key, ix)));
                out.ending.insert(key);
                return;
            }
            if self.waits_for_past(run) {
                // The run before may be waiting for the place that this one has.
                out.promoting.insert(run.row.dag_id.clone());
                return;
            }
            (RunState::Failed, Some(deadlock(run)))
        } else {
            return;
        };
        self.end_run(key, state, reason, out);
    }

    /// Ends a run with a verdict and forgets it.
    pub(super) fn end_run(&mut self, key: RunKey, state: RunState, reason: Option<String>, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let now = out.now.wall;
        let with_failures = run.has_failures();
        let is_first_verdict = !run.row.state.is_terminal();
        out.actions.push(run.change(|row| {
            row.state = state;
            row.finished_at = Some(now);
            row.with_failures = state == RunState::Success && with_failures;
            row.reason = reason;
        }));
        notify_run(run, out);
        let row = run.row.clone();
        self.tell_watchers(&row);
        self.child_ended(key, out);
        if is_first_verdict {
            self.count_failed_runs(key, state, out);
        }
        self.forget_run(key, out);
    }

    /// Drops a run from memory; its rows stay.
    pub(super) fn forget_run(&mut self, key: RunKey, out: &mut Out) {
        let Some(run) = self.runs.remove(&key) else { return };
        self.unask_run(key);
        self.past_has_ended(&run);
        self.disarm_deadline(&run);
        if let Some(at) = run.deadline {
            self.timers.remove(&(at, Timer::Run(key)));
        }
        let was_over = self.vacate(&run.row);
        if let Some(entry) = self.dags.get_mut(&run.row.dag_id) {
            entry.run_ids.remove(&run.row.run_id);
        }
        if was_over {
            self.wake_past(&run.row.dag_id, out);
        }
        out.promoting.insert(run.row.dag_id);
    }
}

/// Returns where an instance waits and how urgent it is.
pub(super) fn place(run: &Run, ix: InstanceIndex) -> (Group, Priority) {
    let task = run.graph.task(ix.task);
    let lane = Lane { queue: task.queue.clone(), pool: task.pool.clone(), slots: task.pool_slots };
    let limited = task.max_active_per_dag.map(|_| task.id.clone());
    let in_run = task.max_active_per_run.map(|_| (run.row.key, ix.task));
    let group = Group { lane, dag_id: run.row.dag_id.clone(), limited, in_run };
    let priority = Priority {
        yields: run.row.backfill.is_some(),
        weight: std::cmp::Reverse(run.graph.weight(ix.task)),
        logical_date: run.row.logical_date.timestamp_micros(),
        run: run.row.key.0,
        task: ix.task,
    };
    (group, priority)
}

/// Returns how a run without unfinished instances ends (`semantics.md` §3).
pub(super) fn outcome(run: &Run) -> (RunState, Option<String>) {
    if run.row.timed_out_at.is_some() {
        return (RunState::Failed, Some("timed_out: it ran longer than run_timeout".to_owned()));
    }
    if run.row.cancel_requested_at.is_some() {
        return (RunState::Cancelled, Some("a person cancelled it".to_owned()));
    }
    let failed: Vec<&str> = run
        .graph
        .leaves()
        .iter()
        .filter(|task| run.instances.of(**task).tally.bad() > 0)
        .map(|task| run.graph.task(*task).id.as_str())
        .collect();
    if failed.is_empty() {
        return (RunState::Success, None);
    }
    let first: Vec<&str> = run
        .graph
        .topological()
        .iter()
        .filter(|task| run.instances.of(**task).tally.of(TaskState::Failed) > 0)
        .map(|task| run.graph.task(*task).id.as_str())
        .collect();
    let culprits = if first.is_empty() { failed } else { first };
    let shown = culprits.iter().take(4).copied().collect::<Vec<_>>().join(", ");
    let more = culprits.len().saturating_sub(4);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (RunState::Failed, Some(format!("failed: {shown}{rest}")))
}

fn deadlock(run: &Run) -> String {
    let stuck: Vec<&str> = run
        .instances
        .tasks()
        .filter(|task| task.tally.open() > 0)
        .map(|task| task.only.row.key.task.as_str())
        .collect();
    format!("deadlocked: nothing can move any more; unfinished are {}", stuck.join(", "))
}

pub(super) fn notify_task(run: &Run, ix: InstanceIndex, state: TaskState, out: &mut Out) {
    let task = run.graph.task(ix.task);
    let wanted: &[Notification] = match state {
        TaskState::Success => &task.on_success,
        TaskState::Failed | TaskState::AwaitingInput => &task.on_failure,
        _ => &[],
    };
    let row = &run.instances[ix].row;
    // An end without a try, or one by hand, has the epoch of the one before: the time tells them apart.
    let ended = row.finished_at.map_or(0, |at| at.timestamp_micros());
    for (index, notification) in wanted.iter().enumerate() {
        out.actions.push(Action::Notify(Notify {
            id: format!(
                "task/{}/{}/{}/{}/{state}/{ended}/{index}",
                row.key.run, row.key.task, row.key.map_index, row.epoch
            ),
            notification: notification.clone(),
            dag_id: run.row.dag_id.clone(),
            run_id: run.row.run_id.clone(),
            task: Some(task.id.clone()),
            state: state.as_str().to_owned(),
            reason: row.reason.clone(),
        }));
    }
}

fn notify_run(run: &Run, out: &mut Out) {
    let dag = &run.graph.dag;
    let wanted: &[Notification] = match run.row.state {
        RunState::Success => &dag.on_success,
        RunState::Failed => &dag.on_failure,
        _ => &[],
    };
    // A cleared run ends again: its end is an occasion of its own.
    let occasion = run.row.queued_at.timestamp_micros();
    for (index, notification) in wanted.iter().enumerate() {
        out.actions.push(Action::Notify(Notify {
            id: format!("run/{}/{occasion}/{}/{index}", run.row.key, run.row.state),
            notification: notification.clone(),
            dag_id: run.row.dag_id.clone(),
            run_id: run.row.run_id.clone(),
            task: None,
            state: run.row.state.as_str().to_owned(),
            reason: run.row.reason.clone(),
        }));
    }
}

/// Whether a success of this operator must carry a verdict.
pub(super) const fn needs_verdict(operator: &Operator) -> bool {
    operator.is_branch()
}
