//! Sensors between their pokes (`semantics.md` §4).
//!
//! A poke is one short attempt. One that found nothing gives its slot back and its try goes on: the try's row stays open,
//! and the next poke takes it over with the next epoch. How long a sensor waits in all counts on the monotonic clock from
//! its first poke, over all tries; only a clear begins anew. A poke that is under way when the time is over is waited for,
//! because it may have found something.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Engine, Instance, Out, Timer,
    instances::InstanceIndex,
    run::{Change, Run},
};
use crate::{
    action::{Action, TryChange},
    definition::Poke,
    event::AttemptResult,
    now::Now,
    rows::TryRow,
    state::{TaskState, TryOutcome},
    wait_reason::WaitReason,
};

/// Returns how long a sensor waits after so many pokes in a row: `interval × backoff^(pokes−1)` in whole seconds, capped.
/// There is no jitter: what waits for the same thing looks at the same time, and slots spread it.
pub(super) fn poke_delay(poke: &Poke, pokes: u32) -> Duration {
    let exponent = i32::try_from(pokes.saturating_sub(1)).unwrap_or(i32::MAX);
    let factor = poke.backoff.powi(exponent).clamp(0.0, f64::MAX);
    let cap = poke.max_interval.as_secs_f64().max(1.0);
    let seconds = (poke.interval.as_secs_f64() * factor).ceil().clamp(1.0, cap);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1 s … max_interval"
    )]
    Duration::from_secs(seconds as u64)
}

/// Says when a sensor looks again, for what, and when it gives up.
pub(super) fn waits(run: &Run, ix: InstanceIndex, now: Now) -> WaitReason {
    let row = &run.instances[ix].row;
    let since = row.first_poke_at.unwrap_or(run.row.queued_at);
    if run.graph.task(ix.task).operator.waits_in_engine() {
        return super::inside::waits(row, since, end_of_wait(run, ix), now);
    }
    WaitReason::PokeAt {
        at: row.next_poke_at.unwrap_or(since),
        pokes: row.pokes,
        since,
        until: end_of_wait(run, ix),
        last: row.reason.clone(),
    }
}

/// Returns when a sensor gives up, by the wall clock.
pub(super) fn end_of_wait(run: &Run, ix: InstanceIndex) -> Option<DateTime<Utc>> {
    let whole = TimeDelta::from_std(run.graph.task(ix.task).timeout?).ok()?;
    run.instances[ix].row.first_poke_at?.checked_add_signed(whole)
}

impl Engine {
    /// What a result means to an instance that pokes, or does not.
    pub(super) fn judge_poke(&self, (key, ix): Instance, mut result: AttemptResult) -> AttemptResult {
        let Some(run) = self.runs.get(&key).filter(|_| result.outcome == TryOutcome::Rescheduled) else {
            return result;
        };
        if run.graph.task(ix.task).poke().is_none() {
            result.outcome = TryOutcome::Failed;
            result.is_final = true;
            result.reason = Some("SCH0260: its worker says that it waits, and it is no sensor".to_owned());
        } else if run.instances[ix].row.stop.is_some() {
            result.outcome = TryOutcome::Stopped;
        }
        result
    }

    /// A poke found nothing: its slot is free, its try goes on.
    pub(super) fn wait_for_poke(&mut self, (key, ix): Instance, result: AttemptResult, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let Some(poke) = run.graph.task(ix.task).poke() else { return };
        let delay = poke_delay(poke, run.instances[ix].row.pokes.saturating_add(1));
        let Some(lease) = run.pause_try(ix, result.started_at) else { return };
        let now = out.now;
        out.actions.push(run.change_task(ix, Change::Durable, |row| {
            row.state = TaskState::UpForReschedule;
            row.pokes = row.pokes.saturating_add(1);
            row.next_poke_at = Some(now.wall + delay);
            row.exit_code = result.exit_code;
            row.reason = result.reason;
        }));
        let at = now.mono + delay;
        run.instances[ix].retry_at = Some(at);
        self.timers.insert((at, Timer::Retry(key, ix)));
        self.release((key, ix), &lease);
    }

    /// The first poke begins: the time that it waits in all does, too.
    pub(super) fn begin_to_wait(&mut self, (key, ix): Instance, now: Now) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let Some(whole) =
            run.graph.task(ix.task).timeout.filter(|_| run.graph.task(ix.task).soft_fail().is_some())
        else {
            return;
        };
        let record = &mut run.instances[ix];
        if record.expires_at.is_none() {
            let at = now.mono + whole;
            record.expires_at = Some(at);
            self.timers.insert((at, Timer::Sensor(key, ix)));
        }
    }

    /// Ends a sensor whose time is over, unless a poke is under way: then its end does.
    pub(super) fn expire(&mut self, instance: Instance, out: &mut Out) {
        let (key, ix) = instance;
        let Some(run) = self.runs.get(&key) else { return };
        let (record, task) = (&run.instances[ix], run.graph.task(ix.task));
        let is_over = record.expires_at.is_some_and(|at| at <= out.now.mono);
        let (Some(is_soft), true) = (task.soft_fail(), is_over) else { return };
        match record.row.state {
            TaskState::Scheduled => self.unschedule(instance),
            TaskState::UpForRetry | TaskState::UpForReschedule => self.forget_retry(instance),
            _ => return,
        }
        let reason = over(&self.runs[&key], ix);
        self.leave_wait(instance, TryOutcome::TimedOut, Some(&reason), out);
        let state = if is_soft { TaskState::Skipped } else { TaskState::Failed };
        self.finish(instance, state, out, |row| row.reason = Some(reason));
    }

    /// Lets go of what a sensor has while it waits: its timer, and its open try, which ends as it is said.
    pub(super) fn leave_wait(
        &mut self,
        (key, ix): Instance,
        outcome: TryOutcome,
        reason: Option<&str>,
        out: &mut Out,
    ) {
        self.forget_wait((key, ix));
        let Some(run) = self.runs.get_mut(&key) else { return };
        let Some(lease) = run.instances[ix].open.take() else { return };
        let attempt = run.attempt(ix);
        let row = &run.instances[ix].row;
        out.actions.push(Action::Try(TryChange {
            is_new: false,
            from_epoch: None,
            row: TryRow {
                attempt,
                worker: lease.worker,
                boot_id: lease.boot_id,
                queued_at: row.queued_at.unwrap_or(out.now.wall),
                started_at: row.started_at,
                finished_at: Some(out.now.wall),
                outcome: Some(outcome),
                exit_code: row.exit_code,
                reason: reason.map(str::to_owned),
            },
        }));
    }

    /// Lets the time that a sensor waits in all begin anew with its next poke.
    pub(super) fn forget_wait(&mut self, (key, ix): Instance) {
        self.forget_inside((key, ix));
        if let Some(run) = self.runs.get_mut(&key)
            && let Some(at) = run.instances[ix].expires_at.take()
        {
            self.timers.remove(&(at, Timer::Sensor(key, ix)));
        }
    }

    /// Sets the timers of a sensor after a rebuild: what was waited for is never waited for longer.
    pub(super) fn restore_wait(&mut self, (key, ix): Instance, now: Now) {
        self.restore_inside((key, ix));
        let Some(run) = self.runs.get_mut(&key) else { return };
        if run.graph.task(ix.task).soft_fail().is_none() {
            return;
        }
        let poke = run.graph.task(ix.task).poke();
        let (whole, end) = (run.graph.task(ix.task).timeout, end_of_wait(run, ix));
        let delay = poke.map(|poke| poke_delay(poke, run.instances[ix].row.pokes));
        let record = &mut run.instances[ix];
        if let (TaskState::UpForReschedule, Some(delay)) = (record.row.state, delay) {
            let at = now.mono + super::restore::remaining(record.row.next_poke_at, now.wall, delay);
            record.retry_at = Some(at);
            self.timers.insert((at, Timer::Retry(key, ix)));
        }
        if let (Some(whole), Some(end)) = (whole, end) {
            let at = now.mono + super::restore::remaining(Some(end), now.wall, whole);
            record.expires_at = Some(at);
            self.timers.insert((at, Timer::Sensor(key, ix)));
        }
    }
}

/// Says that the time of a sensor is over, and what it has seen last.
fn over(run: &Run, ix: InstanceIndex) -> String {
    let row = &run.instances[ix].row;
    let whole = run.graph.task(ix.task).timeout.unwrap_or_default();
    if run.graph.task(ix.task).operator.waits_in_engine() {
        return format!("SCH0261: its timeout of {} is over", show(whole));
    }
    let times = if row.pokes == 1 { "once".to_owned() } else { format!("{} times", row.pokes) };
    let last = row.reason.as_ref().map(|last| format!("; last: {last}")).unwrap_or_default();
    let whole = show(whole);
    format!("SCH0261: the sensor's timeout of {whole} is over: it has looked {times} in vain{last}")
}

fn show(duration: Duration) -> String {
    crate::definition::values::show_seconds(duration.as_secs())
}
