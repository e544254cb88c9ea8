//! What the shell remembers of the rows that pass through it, so that it need not ask the store.
//!
//! **Invariant:** everything here is derived from committed rows and from the rows of the open round; after a
//! failed commit it is built anew together with the engine. Nothing is decided from it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidemill_engine::{
    action::Action,
    definition::Dag,
    ids::{AttemptKey, DagId, RunKey, WorkerId},
    rows::{DagRow, EngineSnapshot, RunRow, VersionHash},
};

/// A live try.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) worker: WorkerId,
    pub(crate) boot_id: String,
    /// When it was granted or last renewed, on the monotonic clock.
    pub(crate) renewed: Duration,
}

/// The memory.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) dags: BTreeMap<DagId, DagRow>,
    pub(crate) versions: BTreeMap<(DagId, VersionHash), Arc<Dag>>,
    /// Runs that have not ended, and those that ended in the open round.
    pub(crate) runs: BTreeMap<RunKey, RunRow>,
    pub(crate) leases: BTreeMap<AttemptKey, Lease>,
    /// Runs that ended in the open round.
    ended: Vec<RunKey>,
}

impl Known {
    /// Builds the memory of a snapshot; its leases begin now.
    pub(crate) fn of(snapshot: &EngineSnapshot, now: Duration) -> Self {
        let mut known = Self { versions: snapshot.versions.clone(), ..Self::default() };
        for (row, dag) in &snapshot.dags {
            known.versions.insert((row.dag_id.clone(), row.version.clone()), Arc::clone(dag));
            known.dags.insert(row.dag_id.clone(), row.clone());
        }
        for run in &snapshot.runs {
            known.runs.insert(run.run.key, run.run.clone());
        }
        for row in &snapshot.open_tries {
            let lease = Lease { worker: row.worker.clone(), boot_id: row.boot_id.clone(), renewed: now };
            known.leases.insert(row.attempt.clone(), lease);
        }
        known
    }

    /// Learns from an action.
    pub(crate) fn learn(&mut self, action: &Action, now: Duration) {
        match action {
            Action::Dag(row) => {
                self.dags.insert(row.dag_id.clone(), row.clone());
            }
            Action::DeleteDag(dag_id) => {
                self.dags.remove(dag_id);
            }
            Action::Run(change) => {
                if change.row.state.is_terminal() {
                    self.ended.push(change.row.key);
                }
                self.runs.insert(change.row.key, change.row.clone());
            }
            Action::Try(change) => {
                let row = &change.row;
                if row.outcome.is_some() {
                    self.leases.remove(&row.attempt);
                } else if let Some(lease) = self.leases.get_mut(&row.attempt) {
                    lease.worker.clone_from(&row.worker);
                } else {
                    let lease =
                        Lease { worker: row.worker.clone(), boot_id: row.boot_id.clone(), renewed: now };
                    self.leases.insert(row.attempt.clone(), lease);
                }
            }
            _ => {}
        }
    }

    /// Forgets what ended, once it is committed, and returns those runs.
    pub(crate) fn forget_ended(&mut self) -> Vec<RunKey> {
        let mut ended = std::mem::take(&mut self.ended);
        ended.retain(|run| self.runs.get(run).is_some_and(|row| row.state.is_terminal()));
        for run in &ended {
            self.runs.remove(run);
        }
        ended
    }

    /// Remembers a finished run until the end of the round.
    pub(crate) fn visit(&mut self, run: &RunRow, dag: &Arc<Dag>) {
        self.versions.insert((run.dag_id.clone(), run.dag_version.clone()), Arc::clone(dag));
        self.runs.insert(run.key, run.clone());
        self.ended.push(run.key);
    }

    /// Forgets definitions of a DAG that neither it nor an active run uses.
    pub(crate) fn forget_versions(&mut self, dag_id: &DagId) {
        let newest = self.dags.get(dag_id).map(|row| &row.version);
        let used: Vec<&VersionHash> = self
            .runs
            .values()
            .filter(|run| run.dag_id == *dag_id)
            .map(|run| &run.dag_version)
            .chain(newest)
            .collect();
        self.versions.retain(|(id, hash), _| id != dag_id || used.contains(&hash));
    }

    /// Returns the definition that a run is pinned to.
    pub(crate) fn definition(&self, run: &RunRow) -> Option<&Arc<Dag>> {
        self.versions.get(&(run.dag_id.clone(), run.dag_version.clone()))
    }
}
