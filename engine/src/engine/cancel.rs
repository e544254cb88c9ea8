//! Runs that end before their work is done: by a person, or because their time is over, which is the same order.

use super::{
    Engine, Out,
    select::{changed, to_end},
};
use crate::{
    action::{Changed, Refusal, Reply},
    event::RequestId,
    ids::RunKey,
    state::{RunState, StopReason, TaskState},
};

/// Which run is cancelled, and how it ended when it did already.
pub(super) struct CancelRun {
    pub(super) run: RunKey,
    pub(super) is_dry_run: bool,
    pub(super) ended: Option<RunState>,
}

impl Engine {
    /// Cancels a run.
    pub(super) fn cancel(&mut self, request: RequestId, cancel: CancelRun, out: &mut Out) {
        let key = cancel.run;
        let Some(run) = self.runs.get_mut(&key) else {
            return out.refuse(request, cancel.ended.map_or(Refusal::UnknownRun, Refusal::RunEnded));
        };
        if run.is_ending() {
            return out.answer(request, Reply::Changed(Vec::new()));
        }
        if cancel.is_dry_run {
            let list = to_end(run).into_iter().map(|ix| changed(run, ix, TaskState::Skipped)).collect();
            return out.answer(request, Reply::Changed(list));
        }
        let list = self.cancel_run(key, out);
        out.answer(request, Reply::Changed(list));
    }

    /// Cancels a run unless it is ending already; returns what changes.
    pub(super) fn cancel_run(&mut self, key: RunKey, out: &mut Out) -> Vec<Changed> {
        let Some(run) = self.runs.get_mut(&key).filter(|run| !run.is_ending()) else { return Vec::new() };
        let now = out.now.wall;
        out.actions.push(run.change(|row| row.cancel_requested_at = Some(now)));
        self.unpark(key, out);
        let why = "its run was cancelled";
        let list = self.end_all(key, StopReason::Cancelled, TaskState::Skipped, why, out);
        out.ending.insert(key);
        list
    }

    /// A run reached `run_timeout`.
    pub(super) fn run_timed_out(&mut self, key: RunKey, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        run.deadline = None;
        if run.is_ending() {
            return;
        }
        let now = out.now.wall;
        out.actions.push(run.change(|row| row.timed_out_at = Some(now)));
        self.unpark(key, out);
        self.end_all(key, StopReason::RunTimedOut, TaskState::Skipped, "its run timed out", out);
        out.ending.insert(key);
    }
}
