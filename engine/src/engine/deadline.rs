//! Deadlines: a run that has not ended in time is late. It goes on; somebody is told once.
//!
//! When a run is late is decided when it is queued (by the usual time: when it starts) and stored in its row, so a restart
//! changes nothing. A deadline that is over by then is none: a date that catch-up runs late would otherwise tell about each
//! of them what everybody knows. Dates count on the wall clock, waits on the monotonic one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Engine, Out, Timer, run::Run};
use crate::{
    action::{Action, Notify},
    definition::{Dag, Deadline, DeadlineFrom},
    ids::{DagId, RunKey},
    now::Now,
    rows::RunRow,
    state::{RunState, RunType},
};

/// The state that a message about a late run announces.
const LATE: &str = "late";

/// Returns when a run that is queued now is late, as far as that is known; runs of a backfill never are.
pub(super) fn deadline_of(dag: &Dag, row: &RunRow) -> Option<DateTime<Utc>> {
    let Some(Deadline::Within { within, from }) = &dag.deadline else { return None };
    if row.backfill.is_some() {
        return None;
    }
    let is_dated = row.run_type == RunType::Scheduled;
    let start = match from {
        DeadlineFrom::Queued if row.run_type != RunType::Backfill => row.queued_at,
        DeadlineFrom::LogicalDate if is_dated => row.logical_date,
        DeadlineFrom::DataIntervalEnd if is_dated => row.data_interval_end,
        _ => return None,
    };
    after(start, *within).filter(|at| *at > row.queued_at)
}

fn after(start: DateTime<Utc>, within: Duration) -> Option<DateTime<Utc>> {
    start.checked_add_signed(TimeDelta::from_std(within).ok()?)
}

/// Whether the deadline of a DAG counts on the wall clock.
const fn is_by_date(dag: &Dag) -> bool {
    matches!(
        &dag.deadline,
        Some(Deadline::Within { from: DeadlineFrom::LogicalDate | DeadlineFrom::DataIntervalEnd, .. })
    )
}

impl Engine {
    /// Returns the runs for which the loop has to look up how long a successful run of their DAG usually takes.
    #[must_use]
    pub fn unknown_usual(&self) -> Vec<(RunKey, DagId)> {
        let runs = self.unknown_usual.iter().filter_map(|key| self.runs.get(key));
        runs.map(|run| (run.row.key, run.row.dag_id.clone())).collect()
    }

    /// Whether [`Self::unknown_usual`] has any.
    #[must_use]
    pub fn is_usual_unknown(&self) -> bool {
        !self.unknown_usual.is_empty()
    }

    /// Waits for the deadline of a run: that in its row, or the one that the usual time gives once it is known.
    pub(super) fn arm_deadline(&mut self, key: RunKey, now: Now) {
        let Some(run) = self.runs.get_mut(&key) else { return };
        let dag = &run.graph.dag;
        if run.row.deadline_missed_at.is_some() || dag.deadline.is_none() || run.row.state.is_terminal() {
            return;
        }
        match run.row.deadline_at {
            Some(at) if is_by_date(dag) => drop(self.late_dates.insert((at, key))),
            Some(at) => {
                let is_usual = matches!(dag.deadline, Some(Deadline::Usual { .. }));
                let start = run.row.started_at.filter(|_| is_usual).unwrap_or(run.row.queued_at);
                let whole = (at - start).to_std().unwrap_or_default();
                let mono = now.mono.saturating_add(super::restore::remaining(Some(at), now.wall, whole));
                run.late_at = Some(mono);
                self.timers.insert((mono, Timer::Deadline(key)));
            }
            None => {
                let is_usual = matches!(dag.deadline, Some(Deadline::Usual { .. }));
                let is_asked =
                    is_usual && run.row.backfill.is_none() && run.row.run_type != RunType::Backfill;
                if is_asked && run.row.state != RunState::Queued {
                    self.unknown_usual.insert(key);
                }
            }
        }
    }

    /// Stops waiting for the deadline of a run.
    pub(super) fn disarm_deadline(&mut self, run: &Run) {
        let key = run.row.key;
        self.unknown_usual.remove(&key);
        if let Some(at) = run.late_at {
            self.timers.remove(&(at, Timer::Deadline(key)));
        }
        if let Some(at) = run.row.deadline_at {
            self.late_dates.remove(&(at, key));
        }
    }

    /// Takes in how long a run usually takes; absent: too few have succeeded to tell.
    pub(super) fn usual_known(&mut self, key: RunKey, usual: Option<Duration>, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key).filter(|_| self.unknown_usual.remove(&key)) else { return };
        let (Some(usual), Some(Deadline::Usual { factor })) = (usual, &run.graph.dag.deadline) else {
            return;
        };
        let started = run.row.started_at.unwrap_or(out.now.wall);
        let within = Duration::try_from_secs_f64(usual.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        // A second is what clocks and commits may take, however short the runs are.
        let Some(at) = after(started, within.max(Duration::from_secs(1))) else { return };
        out.actions.push(run.change(|row| row.deadline_at = Some(at)));
        self.arm_deadline(key, out.now);
    }

    /// Lets the deadlines by date pass that are due.
    pub(super) fn pass_late_dates(&mut self, out: &mut Out) {
        while let Some((at, key)) = self.late_dates.first().copied()
            && at <= out.now.wall
        {
            self.late_dates.pop_first();
            self.deadline_passed(key, out);
        }
    }

    /// A run is late: it is noted, and told once.
    pub(super) fn deadline_passed(&mut self, key: RunKey, out: &mut Out) {
        let Some(run) = self.runs.get_mut(&key).filter(|run| run.row.deadline_missed_at.is_none()) else {
            return;
        };
        run.late_at = None;
        let now = out.now.wall;
        out.actions.push(run.change(|row| row.deadline_missed_at = Some(now)));
        let row = &run.row;
        // A cleared run is queued anew: its deadline is an occasion of its own.
        let occasion = row.queued_at.timestamp_micros();
        let due = row.deadline_at.unwrap_or(now).format("%Y-%m-%dT%H:%M:%SZ");
        for (index, notification) in run.graph.dag.on_deadline.iter().enumerate() {
            out.actions.push(Action::Notify(Notify {
                id: format!("deadline/{key}/{occasion}/{index}"),
                notification: notification.clone(),
                dag_id: row.dag_id.clone(),
                run_id: row.run_id.clone(),
                task: None,
                state: LATE.to_owned(),
                reason: Some(format!("it is {} and was due at {due}", row.state)),
            }));
        }
    }
}
