//! Pausing and unpausing a DAG, and what that would change.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Engine, Out};
use crate::{
    action::{Action, Refusal, Reply},
    definition::Schedule,
    event::RequestId,
    ids::DagId,
    now::Now,
    rows::PassedOver,
};

/// What pausing or unpausing a DAG changes, and what goes on all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausePlan {
    /// Whether it is paused now.
    pub was_paused: bool,
    /// Whether it is paused then.
    pub is_paused: bool,
    /// The next date: without a run of its own then, or with one again. Absent: no date comes by itself.
    pub next_logical_date: Option<DateTime<Utc>>,
    /// When that date's run would be created.
    pub next_run_after: Option<DateTime<Utc>>,
    /// The dates that came during the pause.
    pub missed: Option<PassedOver>,
    /// Whether each of these gets a run now; else they are passed over.
    pub is_caught_up: bool,
    /// Whether a run follows the one before without any date.
    pub is_continuous: bool,
    /// Runs that run, and go on.
    pub running_runs: u32,
    /// Runs that are queued, and still start.
    pub queued_runs: u32,
    /// Failed runs in a row that are not counted any more.
    pub failed_runs: u32,
}

impl PausePlan {
    /// Whether anything changes at all.
    #[must_use]
    pub const fn has_effect(&self) -> bool {
        self.was_paused != self.is_paused
    }

    /// Says it in words, a sentence each, without full stops.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let word = if self.is_paused { "paused" } else { "active" };
        if !self.has_effect() {
            return vec![format!("the DAG is {word} already, so nothing changes")];
        }
        let date = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut all = Vec::new();
        all.push(match (self.next_logical_date, self.next_run_after) {
            (Some(logical), Some(at)) if self.is_paused => format!(
                "no scheduled run is created any more; the next would be that of {} at {}",
                date(logical),
                date(at)
            ),
            (Some(logical), Some(at)) => {
                format!(
                    "scheduled runs are created again, the next is that of {} at {}",
                    date(logical),
                    date(at)
                )
            }
            _ if self.is_continuous && self.is_paused => "no run follows the last one any more".to_owned(),
            _ if self.is_continuous => "a run follows the last one again".to_owned(),
            _ => "no date of its schedule is to come, so only triggers start runs, now as then".to_owned(),
        });
        if let Some(missed) = &self.missed {
            let dates =
                if missed.count == 1 { "one date".to_owned() } else { format!("{} dates", missed.count) };
            let span = format!("{} to {}", date(missed.first), date(missed.last));
            all.push(if self.is_caught_up {
                format!("{dates} of the pause get a run each, the oldest first: {span}")
            } else {
                format!("{dates} of the pause are passed over: {span}")
            });
        }
        if self.is_paused {
            all.push(format!(
                "{} running and {} queued runs go on; runs can still be triggered, cleared and cancelled",
                self.running_runs, self.queued_runs
            ));
        }
        if self.failed_runs > 0 {
            all.push(format!(
                "the count of failed runs in a row begins anew; it stands at {}",
                self.failed_runs
            ));
        }
        all
    }
}

impl Engine {
    /// Returns what pausing or unpausing a DAG would change; absent when there is no such DAG.
    #[must_use]
    pub fn plan_pause(&self, dag_id: &DagId, is_paused: bool, now: Now) -> Option<PausePlan> {
        let entry = self.dags.get(dag_id)?;
        let (row, dag) = (&entry.row, &entry.graph.dag);
        let is_unpaused = row.is_paused && !is_paused;
        let missed = match () {
            () if !is_unpaused => None,
            () if dag.catchup => entry.timetable.missed(row.cursor, now.wall).map(|missed| PassedOver {
                dag_id: dag_id.clone(),
                first: missed.first.logical_date,
                last: missed.newest.logical_date,
                count: missed.count,
                at: now.wall,
            }),
            // The very thing that unpausing does, to a copy.
            () => entry.clone().pass_over(now.wall),
        };
        let next = entry.timetable.next_after(row.cursor.max(now.wall)).filter(|_| !row.is_missing);
        let count = |runs: usize| u32::try_from(runs).unwrap_or(u32::MAX);
        Some(PausePlan {
            was_paused: row.is_paused,
            is_paused,
            next_logical_date: next.map(|slot| slot.logical_date),
            next_run_after: next.map(|slot| slot.run_after),
            is_caught_up: missed.is_some() && dag.catchup,
            missed,
            is_continuous: dag.schedule == Schedule::Continuous,
            running_runs: count(entry.running.len()),
            queued_runs: count(entry.queued.len()),
            failed_runs: row.failed_runs,
        })
    }

    /// Pauses or unpauses a DAG. Unpausing never fires a past date unless it catches up.
    pub(super) fn dag_paused(&mut self, request: RequestId, dag_id: &DagId, is_paused: bool, out: &mut Out) {
        let Some(entry) = self.dags.get_mut(dag_id) else { return out.refuse(request, Refusal::UnknownDag) };
        if entry.row.is_paused != is_paused {
            entry.row.is_paused = is_paused;
            (entry.row.failed_runs, entry.row.pause_reason) = (0, None);
            if !is_paused && !entry.graph.dag.catchup {
                out.actions.extend(entry.pass_over(out.now.wall).map(Action::PassedOver));
            }
            out.actions.push(Action::Dag(entry.row.clone()));
            self.rearm(dag_id, out.now);
            // What its assets had meanwhile may make a run.
            out.promoting.insert(dag_id.clone());
        }
        out.answer(request, Reply::Done);
    }
}
