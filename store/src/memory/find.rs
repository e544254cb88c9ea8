//! What several reads of the memory twin look for.

use chrono::{DateTime, Utc};
use tidemill_engine::{
    ids::{AttemptKey, DagId, TaskInstanceKey},
    rows::RunRow,
    state::{RunState, TaskState},
};

use super::State;
use crate::{
    codec::{AUDIT_ROOT, audit_hash},
    reader::{AuditCheck, DagFilter, HomeCounts, StoredReport},
    views,
};

impl State {
    /// Runs of a DAG by logical date, the newest first.
    pub(super) fn runs_of(&self, dag_id: &DagId) -> impl Iterator<Item = &RunRow> {
        let keys = self.run_dates.get(dag_id).into_iter().flat_map(|dates| dates.iter().rev());
        keys.filter_map(|(_, key)| self.runs.get(key))
    }

    pub(super) fn matches(&self, dag_id: &DagId, filter: DagFilter) -> bool {
        let Some(dag) = self.dags.get(dag_id) else { return false };
        let last_end = || self.runs_of(dag_id).find(|r| r.state.is_terminal()).map(|r| r.state);
        match filter {
            DagFilter::Active => !dag.is_paused && !dag.is_missing,
            DagFilter::Paused => dag.is_paused,
            DagFilter::AutoPaused => dag.is_paused && dag.pause_reason.is_some(),
            DagFilter::Missing => dag.is_missing,
            DagFilter::Running => self.runs_of(dag_id).any(|r| !r.state.is_terminal()),
            DagFilter::Success => last_end() == Some(RunState::Success),
            DagFilter::Failed => last_end() == Some(RunState::Failed),
        }
    }

    pub(super) fn newest_reports<'a>(
        &'a self,
        key: &'a TaskInstanceKey,
    ) -> impl Iterator<Item = &'a StoredReport> {
        let first = AttemptKey { instance: key.clone(), try_number: 0, epoch: 0 };
        let last = AttemptKey { instance: key.clone(), try_number: u32::MAX, epoch: u32::MAX };
        self.reports.range(first..=last).rev().map(|(_, report)| report)
    }

    /// Counts what the home page shows.
    pub(super) fn home(&self, now: DateTime<Utc>) -> HomeCounts {
        let since = now - views::DAY;
        let mut counts = HomeCounts { hours: views::empty_hours(now), ..HomeCounts::default() };
        for dag in self.dags.values() {
            counts.dags_paused += u64::from(dag.is_paused);
            counts.dags_missing += u64::from(dag.is_missing);
            counts.dags_active += u64::from(!dag.is_paused && !dag.is_missing);
        }
        for run in self.runs.values() {
            views::count_run(&mut counts, run.state, run.finished_at, since);
        }
        for task in self.tasks.values() {
            if !task.state.is_terminal() {
                *counts.tasks.entry(task.state).or_default() += 1;
            }
            let is_recent = task.finished_at.is_some_and(|at| at >= since);
            counts.tasks_failed += u64::from(task.state == TaskState::Failed && is_recent);
        }
        counts.import_errors = self.import_errors.len() as u64;
        counts.outbox_pending = self.outbox.values().filter(|m| m.next_attempt_at.is_some()).count() as u64;
        counts
    }

    /// Goes through the chain of the audit log.
    pub(super) fn check_audit(&self) -> AuditCheck {
        let mut check = AuditCheck { entries: 0, broken_at: None };
        let mut previous = AUDIT_ROOT.to_owned();
        for (row, seq) in self.audit.values().zip(1..) {
            let hash = audit_hash(&previous, &row.entry, &row.entry.detail.to_string());
            if row.seq != seq || row.hash != hash {
                check.broken_at = Some(seq);
                break;
            }
            check.entries += 1;
            previous = hash;
        }
        check
    }
}
