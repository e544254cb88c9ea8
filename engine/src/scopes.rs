//! Setups, their teardowns, and the tasks between them (`semantics.md` §7).
//!
//! A setup *covers* a task when the task is below it and one of its teardowns is below the task; a setup without
//! teardowns covers everything below it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{definition::Dag, graph::TaskIndex};

/// Which setups cover which tasks. DAGs without setups pay nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scopes {
    /// Per teardown its setups; without any when it names none.
    setups_of: BTreeMap<TaskIndex, Vec<TaskIndex>>,
    /// Per teardown what its setups cover.
    work_of: BTreeMap<TaskIndex, BTreeSet<TaskIndex>>,
    /// Per setup its teardowns; every setup is in here.
    teardowns_of: BTreeMap<TaskIndex, Vec<TaskIndex>>,
    /// Per task the setups that cover it and are not directly upstream: the trigger rule counts those that are.
    above: BTreeMap<TaskIndex, Vec<TaskIndex>>,
    /// Per setup the tasks that have it in `above`.
    below: BTreeMap<TaskIndex, Vec<TaskIndex>>,
}

impl Scopes {
    /// Works out who covers whom: a walk down and a walk up for each setup.
    pub(crate) fn new(
        dag: &Dag,
        index: &BTreeMap<crate::ids::TaskId, TaskIndex>,
        upstream: &[Vec<TaskIndex>],
        downstream: &[Vec<TaskIndex>],
    ) -> Self {
        let mut scopes = Self::default();
        for (ix, task) in dag.tasks.iter().enumerate() {
            if task.role.is_setup() {
                scopes.teardowns_of.insert(ix, Vec::new());
            }
        }
        for (ix, task) in dag.tasks.iter().enumerate() {
            if let crate::definition::Role::Teardown { setups, .. } = &task.role {
                let setups: Vec<TaskIndex> = setups.iter().filter_map(|id| index.get(id).copied()).collect();
                for setup in &setups {
                    scopes.teardowns_of.entry(*setup).or_default().push(ix);
                }
                scopes.setups_of.insert(ix, setups);
            }
        }
        for (setup, teardowns) in &scopes.teardowns_of {
            let covered = covered(*setup, teardowns, upstream, downstream);
            for teardown in teardowns {
                scopes.work_of.entry(*teardown).or_default().extend(&covered);
            }
            for ix in covered {
                // A teardown has the rule of its own setups, and no other.
                if !upstream[ix].contains(setup) && !dag.tasks[ix].role.is_teardown() {
                    scopes.above.entry(ix).or_default().push(*setup);
                    scopes.below.entry(*setup).or_default().push(ix);
                }
            }
        }
        scopes
    }

    /// Returns the setups of a teardown; `None` when the task is no teardown.
    pub(crate) fn setups_of(&self, ix: TaskIndex) -> Option<&[TaskIndex]> {
        self.setups_of.get(&ix).map(Vec::as_slice)
    }

    /// Returns every setup and every teardown.
    pub(crate) fn setups_and_teardowns(&self) -> impl Iterator<Item = TaskIndex> {
        self.teardowns_of.keys().chain(self.setups_of.keys()).copied()
    }

    /// Returns what the setups of a teardown cover.
    pub(crate) fn work_of(&self, teardown: TaskIndex) -> impl Iterator<Item = TaskIndex> {
        self.work_of.get(&teardown).into_iter().flatten().copied()
    }

    /// Returns the setups that cover a task and are not directly upstream.
    pub(crate) fn above(&self, ix: TaskIndex) -> &[TaskIndex] {
        self.above.get(&ix).map_or(&[], Vec::as_slice)
    }

    /// Returns the tasks that wait for a setup without having it directly upstream.
    pub(crate) fn below(&self, setup: TaskIndex) -> &[TaskIndex] {
        self.below.get(&setup).map_or(&[], Vec::as_slice)
    }

    /// Returns what must run again with the given tasks: the setups that cover them, and the teardowns of those and of
    /// the given setups.
    pub(crate) fn belonging_to(
        &self,
        tasks: &BTreeSet<TaskIndex>,
        upstream: &[Vec<TaskIndex>],
        downstream: &[Vec<TaskIndex>],
    ) -> BTreeSet<TaskIndex> {
        let mut all = tasks.clone();
        loop {
            let before = all.len();
            for (setup, teardowns) in &self.teardowns_of {
                let is_given = all.contains(setup);
                if is_given || !covered(*setup, teardowns, upstream, downstream).is_disjoint(&all) {
                    all.insert(*setup);
                    all.extend(teardowns);
                }
            }
            // A setup may stand between others, which belong to it then.
            if all.len() == before {
                return all.difference(tasks).copied().collect();
            }
        }
    }
}

/// Returns the tasks that a setup covers, without itself and its own teardowns.
fn covered(
    setup: TaskIndex,
    teardowns: &[TaskIndex],
    upstream: &[Vec<TaskIndex>],
    downstream: &[Vec<TaskIndex>],
) -> BTreeSet<TaskIndex> {
    let mut found = reach(&[setup], downstream);
    if !teardowns.is_empty() {
        let before = reach(teardowns, upstream);
        found.retain(|ix| before.contains(ix));
    }
    found.retain(|ix| *ix != setup && !teardowns.contains(ix));
    found
}

fn reach(from: &[TaskIndex], edges: &[Vec<TaskIndex>]) -> BTreeSet<TaskIndex> {
    let mut found: BTreeSet<TaskIndex> = from.iter().copied().collect();
    let mut open: Vec<TaskIndex> = from.to_vec();
    while let Some(ix) = open.pop() {
        open.extend(edges[ix].iter().copied().filter(|next| found.insert(*next)));
    }
    found
}
