//! What waits for a person: a run that a failed task has parked, a DAG that failed runs have paused.

use super::{Engine, Instance, Out, decide::place, run::Change, select::changed};
use crate::{
    action::{Action, Refusal, Reply},
    event::{AttemptResult, RequestId},
    ids::RunKey,
    state::{RunState, TaskState},
};

/// Which parked run goes on, and how it ended when it did already.
pub(super) struct ResumeRun {
    pub(super) run: RunKey,
    pub(super) is_dry_run: bool,
    pub(super) ended: Option<RunState>,
}

impl Engine {
    /// Parks a run because a task has no try left: the instance waits for a person, and nothing new starts.
    pub(super) fn park(&mut self, (key, ix): Instance, failures: u32, result: AttemptResult, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let told = result.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let tries = if failures == 1 { "once".to_owned() } else { format!("{failures} times") };
        out.actions.push(run.change_task(ix, Change::Durable, |row| {
            row.state = TaskState::AwaitingInput;
            row.failures = failures;
            row.exit_code = result.exit_code;
            row.reason = Some(format!("failed {tries}, the run waits for a person{told}"));
        }));
        super::decide::notify_task(run, ix, TaskState::AwaitingInput, out);
        let why = format!(
            "{} failed {tries} and has no try left: resume, mark or cancel",
            run.graph.task(ix.task).id
        );
        out.actions.push(run.change(|row| {
            row.state = RunState::Paused;
            row.reason = Some(why);
        }));
        let waiting = run.in_state(TaskState::Scheduled);
        for ix in waiting {
            self.unschedule((key, ix));
        }
    }

    /// Lets a parked run go on: what had no try left gets new ones.
    pub(super) fn resume_run(&mut self, request: RequestId, resume: ResumeRun, out: &mut Out) {
        let key = resume.run;
        let Some(run) = self.runs.get(&key) else {
            return out.refuse(request, resume.ended.map_or(Refusal::UnknownRun, Refusal::RunEnded));
        };
        if run.row.state != RunState::Paused {
            return out.refuse(request, Refusal::NotPaused);
        }
        let parked = run.in_state(TaskState::AwaitingInput);
        let list = parked.iter().map(|ix| changed(run, *ix, TaskState::Scheduled)).collect();
        if !resume.is_dry_run {
            self.unpark(key, out);
            for ix in parked {
                self.forget_wait((key, ix));
                if let Some(run) = self.runs.get_mut(&key) {
                    let row = &mut run.instances[ix].row;
                    (row.failures, row.losses, row.reason) = (0, 0, None);
                    (row.pokes, row.first_poke_at) = (0, None);
                }
                self.schedule((key, ix), out);
            }
        }
        out.answer(request, Reply::Changed(list));
    }

    /// Lets a parked run go on when nothing in it waits for a person any more.
    pub(super) fn unpark_if_free(&mut self, key: RunKey, out: &mut Out) {
        let Some(run) = self.runs.get(&key) else { return };
        if run.row.state == RunState::Paused && run.in_state(TaskState::AwaitingInput).is_empty() {
            self.unpark(key, out);
        }
    }

    /// Lets a parked run be running again; what waits in it has its place among what is ready.
    pub(super) fn unpark(&mut self, key: RunKey, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        if run.row.state != RunState::Paused {
            return;
        }
        out.actions.push(run.change(|row| {
            row.state = RunState::Running;
            row.reason = None;
        }));
        for ix in run.in_state(TaskState::Scheduled) {
            let (group, priority) = place(run, ix);
            self.ready.insert(group, priority, (key, ix));
        }
        out.undecided.extend((0..run.graph.len()).map(|task| (key, task)));
        out.ending.insert(key);
    }

    /// Counts how many runs of a DAG failed in a row, and pauses it when they are as many as it says. A cancelled run
    /// says nothing.
    pub(super) fn count_failed_runs(&mut self, key: RunKey, state: RunState, out: &mut Out) {
        let Some(run) = self.runs.get(&key) else { return };
        let (dag_id, run_id) = (run.row.dag_id.clone(), run.row.run_id.clone());
        let Some(entry) = self.dags.get_mut(&dag_id) else { return };
        let Some(limit) = entry.graph.dag.max_consecutive_failed_runs else { return };
        let former = entry.row.failed_runs;
        entry.row.failed_runs = match state {
            RunState::Failed => former.saturating_add(1),
            RunState::Success => 0,
            _ => former,
        };
        if entry.row.failed_runs == former {
            return;
        }
        if entry.row.failed_runs >= limit && !entry.row.is_paused {
            entry.row.is_paused = true;
            entry.row.pause_reason = Some(format!(
                "{} runs failed in a row (max_consecutive_failed_runs = {limit}), the last one is {run_id}",
                entry.row.failed_runs
            ));
        }
        out.actions.push(Action::Dag(entry.row.clone()));
        self.rearm(&dag_id, out.now);
    }
}
