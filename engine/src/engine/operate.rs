//! What people do to runs: clear and mark. Cancel is `cancel.rs`.

use std::collections::BTreeSet;

use super::{
    Engine, Instance, Out,
    instances::InstanceIndex,
    run::{Change, Run},
    select::{changed, chosen, is_cleaning, leaves_to_mark, positions, revived_by, select, to_end},
};
use crate::{
    action::{Action, Cancel, Changed, MapChange, Refusal, Reply},
    event::{ClearSelection, RequestId},
    ids::{RunKey, TaskId},
    rows::{FinishedRun, RunSnapshot},
    state::{RunState, StopReason, TaskState, TryOutcome},
};

/// A clear that somebody asks for.
#[derive(Clone, Debug)]
pub(super) struct Clear {
    pub(super) run: RunKey,
    pub(super) selection: ClearSelection,
    pub(super) is_dry_run: bool,
    pub(super) finished: Option<Box<FinishedRun>>,
    pub(super) latest: bool,
}

/// A mark that somebody asks for.
#[derive(Clone, Debug)]
pub(super) struct MarkTask {
    pub(super) run: RunKey,
    pub(super) tasks: Vec<TaskId>,
    pub(super) map_index: Option<i32>,
    pub(super) state: TaskState,
    pub(super) is_dry_run: bool,
    pub(super) finished: Option<Box<FinishedRun>>,
}

/// What is asked of a run as a whole.
pub(super) struct MarkRun {
    pub(super) run: RunKey,
    pub(super) state: RunState,
    pub(super) is_dry_run: bool,
    pub(super) finished: Option<Box<FinishedRun>>,
}

/// Returns an instance to `no_status`; its fence stays.
pub(super) fn blank_out(run: &mut Run, ix: InstanceIndex) -> Action {
    let key = run.row.key;
    let blank = super::run::blank(key, &run.graph, ix);
    run.change_task(ix, Change::Clear, |row| {
        *row = crate::rows::TaskRow { try_number: row.try_number, epoch: row.epoch, ..blank };
    })
}

impl Engine {
    /// Returns a run to work on: an active one, or a finished one that was loaded for this.
    pub(super) fn open(
        &self,
        run: RunKey,
        finished: Option<Box<FinishedRun>>,
        latest: bool,
    ) -> Result<Run, Refusal> {
        if let Some(run) = self.runs.get(&run) {
            return match () {
                () if run.is_ending() => Err(Refusal::RunEnding),
                () if latest => Err(Refusal::RunActive),
                () => Ok(run.clone()),
            };
        }
        let mut finished = finished.filter(|f| f.snapshot.run.key == run).ok_or(Refusal::UnknownRun)?;
        // The first run of a backfill has no run before it in that backfill; once this is over it has.
        finished.snapshot.run.ignores_past &= self.lane_of(&finished.snapshot.run).is_some();
        let dag_id = &finished.snapshot.run.dag_id;
        let entry = self.dags.get(dag_id).ok_or(Refusal::UnknownDag)?;
        if latest {
            let graph = std::sync::Arc::clone(&entry.graph);
            return Ok(super::restore::run_with(&finished.snapshot, graph));
        }
        let version = finished.snapshot.run.dag_version.clone();
        let graph = if version == entry.graph.version {
            std::sync::Arc::clone(&entry.graph)
        } else {
            let graph = crate::graph::Graph::new(finished.dag, version).map_err(|_| Refusal::MissingDag)?;
            std::sync::Arc::new(graph)
        };
        Ok(super::restore::run_with(&finished.snapshot, graph))
    }

    /// Clears instances so that they run again (`semantics.md` §10).
    pub(super) fn clear(&mut self, request: RequestId, clear: Clear, out: &mut Out) {
        let gone = clear.latest.then(|| clear.finished.as_ref().map(|f| f.snapshot.clone())).flatten();
        let former = clear.finished.as_ref().map(|finished| finished.snapshot.run.dag_version.clone());
        let run = match self.open(clear.run, clear.finished, clear.latest) {
            Ok(run) => run,
            Err(refusal) => return out.refuse(request, refusal),
        };
        // A task that the version before did not have has nothing to clear, and is what was asked for all the same.
        let is_newer = clear.latest && former.is_some_and(|former| former != run.graph.version);
        let selected = match select(&run, &clear.selection, is_newer) {
            Ok(selected) => selected,
            Err(refusal) => return out.refuse(request, refusal),
        };
        let changed: Vec<Changed> =
            selected.iter().map(|ix| changed(&run, *ix, TaskState::NoStatus)).collect();
        if !clear.is_dry_run && !changed.is_empty() {
            let key = clear.run;
            let is_latest = clear.latest;
            self.adopt(run);
            if is_latest {
                self.take_latest(key, gone, out);
            }
            self.clear_instances(key, &selected, out);
            self.reopen(key, out);
        }
        out.answer(request, Reply::Changed(changed));
    }

    /// Lets a finished run take the newest version: rows of tasks that are gone are deleted.
    pub(super) fn take_latest(&mut self, key: RunKey, former: Option<RunSnapshot>, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let (rows, maps) = former.map(|former| (former.tasks, former.maps)).unwrap_or_default();
        for map in maps {
            let task = run.graph.index_of(&map.task);
            if task.is_none_or(|task| run.instances.of(task).map.is_none()) {
                out.actions.push(Action::Map(MapChange { run: key, task: map.task, values: None }));
            }
        }
        let version = run.graph.version.clone();
        for row in rows.into_iter().filter(|row| run.place_of(&row.key).is_none()) {
            let from =
                crate::action::TaskFence { state: row.state, try_number: row.try_number, epoch: row.epoch };
            let row = crate::rows::TaskRow {
                state: TaskState::NoStatus,
                finished_at: None,
                retry_at: None,
                next_poke_at: None,
                stop: None,
                ..row
            };
            out.actions.push(Action::Task(crate::action::TaskChange {
                from,
                row,
                is_clear: true,
                is_note: false,
            }));
        }
        out.actions.push(run.change(|row| row.dag_version = version));
    }

    /// Takes a run that was worked out into memory, unless it is there.
    pub(super) fn adopt(&mut self, run: Run) {
        let key = run.row.key;
        if let Some(entry) = self.dags.get_mut(&run.row.dag_id) {
            entry.run_ids.insert(run.row.run_id.clone());
        }
        if let std::collections::btree_map::Entry::Vacant(place) = self.runs.entry(key) {
            let row = place.insert(run).row.clone();
            self.past_of_new(&row);
        }
    }

    pub(super) fn clear_instances(&mut self, key: RunKey, selected: &BTreeSet<InstanceIndex>, out: &mut Out) {
        for ix in selected {
            let instance = (key, *ix);
            let Some(state) = self.runs.get(&key).map(|run| run.instances[*ix].row.state) else { return };
            match state {
                TaskState::NoStatus => continue,
                state if state.has_lease() => {
                    self.stop(instance, StopReason::Cleared, out);
                    continue;
                }
                TaskState::Scheduled => self.unschedule(instance),
                _ => self.forget_retry(instance),
            }
            self.leave_wait(instance, TryOutcome::Stopped, Some("it was cleared while it waited"), out);
            if let Some(run) = self.runs.get_mut(&key) {
                out.actions.push(blank_out(run, *ix));
            }
        }
        if let Some(run) = self.runs.get_mut(&key) {
            run.recount();
        }
        for task in selected.iter().map(|ix| ix.task).collect::<BTreeSet<_>>() {
            self.unexpand_if_cleared((key, task), out);
            self.tell_followers((key, task), out);
        }
    }

    /// Lets a run that has undecided instances go on, or queue again if it had ended.
    pub(super) fn reopen(&mut self, key: RunKey, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        if !run.row.state.is_terminal() {
            out.undecided.extend((0..run.graph.len()).map(|task| (key, task)));
            out.ending.insert(key);
            return self.unpark_if_free(key, out);
        }
        let now = out.now.wall;
        let dag = std::sync::Arc::clone(&run.graph.dag);
        out.actions.push(run.change(|row| {
            row.state = RunState::Queued;
            row.queued_at = now;
            row.started_at = None;
            row.finished_at = None;
            row.with_failures = false;
            row.reason = None;
            row.cancel_requested_at = None;
            row.timed_out_at = None;
            row.deadline_missed_at = None;
            row.deadline_at = super::deadline::deadline_of(&dag, row);
        }));
        let row = run.row.clone();
        self.enqueue(&row);
        self.tell_watchers(&row);
        out.promoting.insert(row.dag_id);
        self.arm_deadline(key, out.now);
    }

    /// Marks a leased instance for its end and tells its worker. The newest word counts: what a person asked for last
    /// replaces what was asked for before, and the end of the whole run replaces both.
    fn stop(&mut self, (key, ix): Instance, reason: StopReason, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let record = &run.instances[ix];
        let Some(worker) = record.lease.as_ref().map(|lease| lease.worker.clone()) else { return };
        if record.row.stop == Some(reason) {
            return;
        }
        out.actions.push(run.change_task(ix, Change::Durable, |row| row.stop = Some(reason)));
        out.actions.push(Action::Cancel(Cancel { attempt: run.attempt(ix), worker, reason }));
    }

    /// Ends whatever has not started, as `state`, and stops whatever has, but for what cleans up.
    pub(super) fn end_all(
        &mut self,
        key: RunKey,
        stop: StopReason,
        state: TaskState,
        why: &str,
        out: &mut Out,
    ) -> Vec<Changed> {
        let Some(run) = self.runs.get(&key) else { return Vec::new() };
        let open = to_end(run);
        let list: Vec<Changed> = open.iter().map(|ix| changed(run, *ix, state)).collect();
        for ix in open {
            let Some(state_now) = self.runs.get(&key).map(|run| run.instances[ix].row.state) else { break };
            if state_now.has_lease() {
                self.stop((key, ix), stop, out);
            } else {
                self.end_unstarted((key, ix), state, why, out);
            }
        }
        list
    }

    fn end_unstarted(&mut self, instance: Instance, state: TaskState, why: &str, out: &mut Out) {
        let (key, ix) = instance;
        match self.runs.get(&key).map(|run| run.instances[ix].row.state) {
            Some(TaskState::Scheduled) => self.unschedule(instance),
            Some(TaskState::UpForRetry | TaskState::UpForReschedule) => self.forget_retry(instance),
            _ => {}
        }
        self.leave_wait(instance, TryOutcome::Stopped, Some(why), out);
        let why = why.to_owned();
        self.finish_by_hand(instance, state, out, |row| row.reason = Some(why));
    }

    /// Gives instances a verdict by hand. After a success, what is upstream_failed below is decided anew.
    pub(super) fn mark_task(&mut self, request: RequestId, mark: MarkTask, out: &mut Out) {
        let stop = match mark.state {
            TaskState::Success => StopReason::MarkedSuccess,
            TaskState::Failed => StopReason::MarkedFailed,
            _ => return out.refuse(request, Refusal::NotMarkable),
        };
        // What hangs while it cleans up would otherwise keep its run from ending.
        let cleaning = self.runs.get(&mark.run).filter(|run| is_cleaning(run, &mark.tasks)).cloned();
        let run = match cleaning.map_or_else(|| self.open(mark.run, mark.finished, false), Ok) {
            Ok(run) => run,
            Err(refusal) => return out.refuse(request, refusal),
        };
        let named = match positions(&run, &mark.tasks) {
            Ok(named) => named,
            Err(refusal) => return out.refuse(request, refusal),
        };
        let mut marked = match chosen(&run, &named, mark.map_index) {
            Ok(chosen) => chosen,
            Err(refusal) => return out.refuse(request, refusal),
        };
        marked.retain(|ix| run.instances[*ix].row.state != mark.state);
        let revived = revived_by(&run, &named, mark.state);
        let mut list: Vec<Changed> = marked.iter().map(|ix| changed(&run, *ix, mark.state)).collect();
        list.extend(revived.iter().map(|ix| changed(&run, *ix, TaskState::NoStatus)));
        if !mark.is_dry_run && !list.is_empty() {
            self.adopt(run);
            self.apply_mark(mark.run, &marked, &revived, mark.state, stop, out);
        }
        out.answer(request, Reply::Changed(list));
    }

    fn apply_mark(
        &mut self,
        key: RunKey,
        marked: &BTreeSet<InstanceIndex>,
        revived: &BTreeSet<InstanceIndex>,
        state: TaskState,
        stop: StopReason,
        out: &mut Out,
    ) {
        let why = format!("marked {state} by a person");
        for ix in marked {
            let Some(now) = self.runs.get(&key).map(|run| run.instances[*ix].row.state) else { return };
            if now.has_lease() {
                self.stop((key, *ix), stop, out);
            } else {
                self.end_unstarted((key, *ix), state, &why, out);
            }
        }
        self.clear_instances(key, revived, out);
        let Some(run) = self.runs.get_mut(&key) else { return };
        // The counters of `finish` are for instances that had not ended; a replaced verdict needs a new count.
        run.recount();
        if !run.row.state.is_terminal() || !revived.is_empty() {
            self.reopen(key, out);
        } else {
            let (state, reason) = super::decide::outcome(run);
            let with_failures = state == RunState::Success && run.has_failures();
            if state != run.row.state {
                return self.end_run(key, state, reason, out);
            }
            // It ended when it ended, and that was told; what is said about it may be another now.
            if (&run.row.reason, run.row.with_failures) != (&reason, with_failures) {
                out.actions.push(run.change(|row| {
                    row.reason = reason;
                    row.with_failures = with_failures;
                }));
            }
            self.forget_run(key, out);
        }
    }

    /// Gives a run a verdict by hand. What is leased stops first; its end decides nothing any more.
    pub(super) fn mark_run(&mut self, request: RequestId, mark: MarkRun, out: &mut Out) {
        let MarkRun { run: key, state, is_dry_run, finished } = mark;
        let (stop, leaf) = match state {
            RunState::Success => (StopReason::MarkedSuccess, TaskState::Success),
            RunState::Failed => (StopReason::MarkedFailed, TaskState::Failed),
            _ => return out.refuse(request, Refusal::NotMarkable),
        };
        let run = match self.open(key, finished, false) {
            Ok(run) => run,
            Err(refusal) => return out.refuse(request, refusal),
        };
        let why = format!("its run was marked {state} by a person");
        if run.row.state.is_terminal() {
            if is_dry_run {
                return out.answer(request, Reply::Changed(Vec::new()));
            }
            self.adopt(run);
            if let Some(run) = self.runs.get_mut(&key) {
                // The person's verdict replaces that of the cancel or the timeout.
                run.row.cancel_requested_at = None;
                run.row.timed_out_at = None;
            }
            self.end_run(key, state, Some(format!("marked {state} by a person")), out);
            return out.answer(request, Reply::Changed(Vec::new()));
        }
        let leaves = leaves_to_mark(&run, state);
        let mut list: Vec<Changed> = leaves.iter().map(|ix| changed(&run, *ix, leaf)).collect();
        if is_dry_run {
            let others = to_end(&run).into_iter().filter(|ix| !leaves.contains(ix));
            list.extend(others.map(|ix| changed(&run, ix, TaskState::Skipped)));
            return out.answer(request, Reply::Changed(list));
        }
        self.unpark(key, out);
        for ix in leaves {
            self.end_unstarted((key, ix), leaf, &why, out);
        }
        list.extend(self.end_all(key, stop, TaskState::Skipped, &why, out));
        if let Some(run) = self.runs.get_mut(&key) {
            run.recount();
            if run.unfinished == 0 {
                self.end_run(key, state, Some(format!("marked {state} by a person")), out);
            }
        }
        out.answer(request, Reply::Changed(list));
    }
}
