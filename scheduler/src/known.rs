//! What the shell remembers of the rows that pass through it, so that it need not ask the store.
//!
//! **Invariant:** everything here is derived from committed rows and from the rows of the open round; after a
//! failed commit it is built anew together with the engine. Nothing is decided from it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tidemill_engine::{
    action::Action,
    definition::{Dag, Task},
    ids::{AttemptKey, DagId, RunId, RunKey, TaskId, TaskInstanceKey, WorkerId},
    rows::{DagRow, EngineSnapshot, RunRow, VersionHash},
    state::TaskState,
};

/// A live try.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) worker: WorkerId,
    pub(crate) boot_id: String,
    /// When it was granted or last renewed, on the monotonic clock.
    pub(crate) renewed: Duration,
}

/// A version of a DAG with its tasks by id, so that an assignment costs its own edges, however large the DAG is.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) dag: Arc<Dag>,
    places: HashMap<TaskId, usize>,
    below: HashMap<TaskId, Vec<usize>>,
}

impl Version {
    pub(crate) fn new(dag: Arc<Dag>) -> Self {
        let places = dag.tasks.iter().enumerate().map(|(place, task)| (task.id.clone(), place)).collect();
        let mut below: HashMap<TaskId, Vec<usize>> = HashMap::new();
        for (place, task) in dag.tasks.iter().enumerate() {
            for above in &task.depends_on {
                below.entry(above.clone()).or_default().push(place);
            }
        }
        Self { dag, places, below }
    }

    /// Returns where a task stands in its file.
    pub(crate) fn place(&self, task: &TaskId) -> Option<usize> {
        self.places.get(task).copied()
    }

    pub(crate) fn task(&self, task: &TaskId) -> Option<&Task> {
        self.place(task).map(|place| &self.dag.tasks[place])
    }

    /// Returns the direct downstreams of a task, in the order of the file.
    pub(crate) fn below(&self, task: &TaskId) -> impl Iterator<Item = &Task> {
        self.below.get(task).into_iter().flatten().map(|place| &self.dag.tasks[*place])
    }
}

/// The memory.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) dags: BTreeMap<DagId, DagRow>,
    pub(crate) versions: BTreeMap<(DagId, VersionHash), Arc<Dag>>,
    /// Runs that have not ended, and those that ended in the open round.
    pub(crate) runs: BTreeMap<RunKey, RunRow>,
    pub(crate) leases: BTreeMap<AttemptKey, Lease>,
    /// The versions that something was assigned from.
    indexed: BTreeMap<(DagId, VersionHash), Arc<Version>>,
    /// The same runs by the names that people use.
    names: BTreeMap<(DagId, RunId), RunKey>,
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
            known.remember_run(&run.run);
        }
        let leased: BTreeSet<&TaskInstanceKey> = snapshot
            .runs
            .iter()
            .flat_map(|run| &run.tasks)
            .filter(|row| row.state.has_lease())
            .map(|row| &row.key)
            .collect();
        // A sensor between two pokes has an open try and no lease.
        for row in snapshot.open_tries.iter().filter(|row| leased.contains(&row.attempt.instance)) {
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
                self.indexed.retain(|(id, _), _| id != dag_id);
            }
            Action::Run(change) => {
                if change.row.state.is_terminal() {
                    self.ended.push(change.row.key);
                }
                self.remember_run(&change.row);
            }
            Action::Task(change) if change.row.state == TaskState::UpForReschedule => {
                self.leases.remove(&change.row.attempt());
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

    fn remember_run(&mut self, run: &RunRow) {
        if self.runs.insert(run.key, run.clone()).is_none() {
            self.names.insert((run.dag_id.clone(), run.run_id.clone()), run.key);
        }
    }

    /// Returns a run by the names that people use.
    pub(crate) fn run_named(&self, dag_id: &DagId, run_id: &RunId) -> Option<&RunRow> {
        self.names.get(&(dag_id.clone(), run_id.clone())).and_then(|key| self.runs.get(key))
    }

    /// Forgets what ended, once it is committed, and returns those runs.
    pub(crate) fn forget_ended(&mut self) -> Vec<RunKey> {
        let mut ended = std::mem::take(&mut self.ended);
        ended.retain(|run| self.runs.get(run).is_some_and(|row| row.state.is_terminal()));
        for run in &ended {
            if let Some(row) = self.runs.remove(run) {
                self.names.remove(&(row.dag_id, row.run_id));
            }
        }
        ended
    }

    /// Remembers a finished run until the end of the round.
    pub(crate) fn visit(&mut self, run: &RunRow, dag: &Arc<Dag>) {
        self.versions.insert((run.dag_id.clone(), run.dag_version.clone()), Arc::clone(dag));
        self.remember_run(run);
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
        self.indexed.retain(|(id, hash), _| id != dag_id || used.contains(&hash));
    }

    /// Returns the definition that a run is pinned to, with its tasks by id.
    pub(crate) fn version(&mut self, run: &RunRow) -> Option<Arc<Version>> {
        let key = (run.dag_id.clone(), run.dag_version.clone());
        if let Some(version) = self.indexed.get(&key) {
            return Some(Arc::clone(version));
        }
        let version = Arc::new(Version::new(Arc::clone(self.versions.get(&key)?)));
        self.indexed.insert(key, Arc::clone(&version));
        Some(version)
    }

    /// Returns the definition that a run is pinned to.
    pub(crate) fn definition(&self, run: &RunRow) -> Option<&Arc<Dag>> {
        self.versions.get(&(run.dag_id.clone(), run.dag_version.clone()))
    }
}
