//! What several reads of the memory twin look for.

use tidemill_engine::{
    ids::{AttemptKey, DagId, TaskInstanceKey},
    rows::RunRow,
    state::RunState,
};

use super::State;
use crate::reader::{DagFilter, StoredReport};

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
}
