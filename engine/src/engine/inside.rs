//! What waits without leaving the engine: no worker, no slot, no try.
//!
//! A `time_sensor` waits as `up_for_reschedule`, and the instant that it waits for is its `next_poke_at`: decided once,
//! stored, and found again after a restart, whatever its template would give then. It counts by the wall clock, its
//! `timeout` by the monotonic one, from `first_poke_at`.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Engine, Instance, Out, run::Change};
use crate::{
    definition::{Operator, Until},
    now::Now,
    preparation::Preparation,
    rows::TaskRow,
    state::TaskState,
    wait_reason::WaitReason,
};

/// Says until when an instance waits.
pub(super) fn waits(
    row: &TaskRow,
    since: DateTime<Utc>,
    gives_up: Option<DateTime<Utc>>,
    now: Now,
) -> WaitReason {
    let at = row.next_poke_at.unwrap_or(since);
    let left = (at - now.wall).to_std().unwrap_or_default();
    WaitReason::Until { at, left_seconds: left.as_secs(), until: gives_up }
}

impl Engine {
    /// An instance whose trigger rule holds begins to wait, or asks first for what.
    pub(super) fn begin_inside(&mut self, instance: Instance, out: &mut Out) {
        let (key, ix) = instance;
        let Some(run) = self.runs.get(&key) else { return };
        let wait = match &run.graph.task(ix.task).operator {
            Operator::TimeSensor { wait } => wait,
            Operator::TriggerDag { .. } => return self.ask(instance, Preparation::Trigger),
            Operator::DagRunSensor { .. } => return self.ask(instance, Preparation::Runs),
            _ => return,
        };
        match &wait.until {
            Until::Text { .. } => self.ask(instance, Preparation::Until),
            Until::Delay { delay, from } => {
                let from = from.of(&run.row);
                let delay = TimeDelta::from_std(*delay).unwrap_or_default();
                let at = from.checked_add_signed(delay).unwrap_or(from);
                self.wait_until(instance, at, out);
            }
        }
    }

    /// A `time_sensor` knows what its template gives.
    pub(super) fn wait_until_text(&mut self, instance: Instance, text: &str, out: &mut Out) {
        let (key, ix) = instance;
        let Some(run) = self.runs.get(&key) else { return };
        let Operator::TimeSensor { wait } = &run.graph.task(ix.task).operator else { return };
        let Until::Text { from, .. } = &wait.until else { return };
        match Until::of_text(text, *from, &run.graph.dag, &run.row) {
            Some(at) => self.wait_until(instance, at, out),
            None => {
                let shown: String = text.trim().chars().take(80).collect();
                let reason =
                    format!("SCH0270: `until` gives {shown:?}, which is neither a time of day nor a date");
                self.finish(instance, TaskState::Failed, out, |row| row.reason = Some(reason));
            }
        }
    }

    /// Waits for an instant; one that is over is not waited for.
    fn wait_until(&mut self, (key, ix): Instance, at: DateTime<Utc>, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let now = out.now.wall;
        if at <= now {
            return self.finish((key, ix), TaskState::Success, out, |row| row.started_at = Some(now));
        }
        out.actions.push(run.change_task(ix, Change::Durable, |row| {
            row.state = TaskState::UpForReschedule;
            row.scheduled_at = Some(now);
            row.started_at = Some(now);
            row.first_poke_at = Some(now);
            row.next_poke_at = Some(at);
        }));
        self.instants.insert((at, (key, ix)));
        self.begin_to_wait((key, ix), out.now);
    }

    /// Lets the instants pass that have come.
    pub(super) fn pass_instants(&mut self, out: &mut Out) {
        while let Some((at, instance)) = self.instants.first().copied()
            && at <= out.now.wall
        {
            self.instants.pop_first();
            self.finish(instance, TaskState::Success, out, |_| {});
        }
    }

    /// Drops what an instance waits for.
    pub(super) fn forget_inside(&mut self, (key, ix): Instance) {
        if let Some(at) = self.runs.get(&key).and_then(|run| run.instances[ix].row.next_poke_at) {
            self.instants.remove(&(at, (key, ix)));
        }
        self.unwatch((key, ix));
    }

    /// Waits again for an instant that is stored, and asks again for a run.
    pub(super) fn restore_inside(&mut self, (key, ix): Instance) {
        let Some(run) = self.runs.get(&key) else { return };
        let (row, task) = (&run.instances[ix].row, run.graph.task(ix.task));
        match (&task.operator, row.next_poke_at) {
            (Operator::TimeSensor { .. }, Some(at)) => drop(self.instants.insert((at, (key, ix)))),
            (Operator::DagRunSensor { .. }, Some(_)) => self.ask((key, ix), Preparation::Runs),
            _ => {}
        }
    }
}
