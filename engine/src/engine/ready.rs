//! What waits for a slot, in the order in which it gets one.
//!
//! Instances that are held back by exactly the same things form a *group*; groups that compete for the same
//! pool slots and worker queue form a *lane*. Dispatch looks at the first group of each lane, so its cost does
//! not grow with what waits behind. A group whose DAG or task limit is reached is parked by that cause and blocks
//! nobody; an end lets back only what it made room for, however many groups are parked.

use std::collections::{BTreeMap, BTreeSet};

use super::{Instance, TaskOfRun};
use crate::{
    graph::Priority,
    ids::{DagId, PoolName, TaskId},
};

/// What competes for the same slots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) queue: String,
    pub(super) pool: PoolName,
    pub(super) slots: u32,
}

/// What is held back by exactly the same things.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) lane: Lane,
    pub(super) dag_id: DagId,
    /// Only for tasks with `max_active_per_dag`.
    pub(super) limited: Option<TaskId>,
    /// Only for tasks with `max_active_per_run`.
    pub(super) in_run: Option<TaskOfRun>,
}

/// Groups by how urgent their heads are.
type Heads = BTreeSet<(Priority, Group)>;

/// Why a group stands aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// `max_active_tasks` of its DAG.
    Dag,
    /// `max_active_per_dag` of its task.
    Task,
    /// `max_active_per_run` of its task.
    TaskInRun,
}

/// A group's instances and where it stands.
#[derive(Clone, Debug, Default)]
struct Members {
    waiting: BTreeSet<(Priority, Instance)>,
    /// Absent: in its lane.
    parked: Option<Cause>,
}

/// The ready queue.
///
/// **Invariant:** every group with members stands in exactly one place: in its lane, or parked for one cause. While a
/// DAG's limit is not reached, the most urgent of its groups that are parked for that limit is not more urgent than
/// what its lane offers.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadyQueue {
    groups: BTreeMap<Group, Members>,
    lanes: BTreeMap<Lane, Heads>,
    by_dag: BTreeMap<DagId, BTreeMap<Lane, Heads>>,
    by_task: BTreeMap<(DagId, Option<TaskId>), Heads>,
    by_run: BTreeMap<Option<TaskOfRun>, Heads>,
}

/// Replaces a group's head in one of several sets; a set that is empty goes.
fn replace<K: Ord>(
    sets: &mut BTreeMap<K, Heads>,
    key: K,
    group: &Group,
    former: Option<Priority>,
    head: Option<Priority>,
) {
    if let Some(former) = former
        && let Some(set) = sets.get_mut(&key)
    {
        set.remove(&(former, group.clone()));
        if set.is_empty() && head.is_none() {
            sets.remove(&key);
            return;
        }
    }
    if let Some(head) = head {
        sets.entry(key).or_default().insert((head, group.clone()));
    }
}

impl ReadyQueue {
    /// Adds an instance.
    pub(super) fn insert(&mut self, group: Group, priority: Priority, instance: Instance) {
        let members = self.groups.entry(group.clone()).or_default();
        let (head, parked) = (members.waiting.first().map(|(priority, _)| *priority), members.parked);
        members.waiting.insert((priority, instance));
        if head.is_none_or(|head| priority < head) {
            self.put(&group, parked, head, Some(priority));
            if parked == Some(Cause::Dag) {
                // It may be the most urgent one of its DAG now, and the limit may not be reached any more.
                self.move_to(&group, None);
            }
        }
    }

    /// Removes an instance.
    pub(super) fn remove(&mut self, group: &Group, priority: Priority, instance: Instance) {
        let Some(members) = self.groups.get_mut(group) else { return };
        let (head, parked) = (members.waiting.first().map(|(priority, _)| *priority), members.parked);
        if !members.waiting.remove(&(priority, instance)) {
            return;
        }
        let next = members.waiting.first().map(|(priority, _)| *priority);
        if next.is_none() {
            self.groups.remove(group);
        }
        if head != next {
            self.put(group, parked, head, next);
            if parked.is_none() {
                // One that is parked may be more urgent than what this group has left. If the DAG's limit is reached,
                // it is parked again as soon as it is looked at.
                self.unpark_next(&group.dag_id, &group.lane);
            }
        }
    }

    /// Replaces the head of a group where the group stands.
    fn put(
        &mut self,
        group: &Group,
        parked: Option<Cause>,
        former: Option<Priority>,
        head: Option<Priority>,
    ) {
        match parked {
            None => replace(&mut self.lanes, group.lane.clone(), group, former, head),
            Some(Cause::Dag) => {
                let lanes = self.by_dag.entry(group.dag_id.clone()).or_default();
                replace(lanes, group.lane.clone(), group, former, head);
                if lanes.is_empty() {
                    self.by_dag.remove(&group.dag_id);
                }
            }
            Some(Cause::Task) => {
                let key = (group.dag_id.clone(), group.limited.clone());
                replace(&mut self.by_task, key, group, former, head);
            }
            Some(Cause::TaskInRun) => replace(&mut self.by_run, group.in_run, group, former, head),
        }
    }

    /// Moves a group to where it is from now on.
    fn move_to(&mut self, group: &Group, parked: Option<Cause>) {
        let Some(members) = self.groups.get_mut(group) else { return };
        let head = members.waiting.first().map(|(priority, _)| *priority);
        let former = std::mem::replace(&mut members.parked, parked);
        if former != parked {
            self.put(group, former, head, None);
            self.put(group, parked, None, head);
        }
    }

    /// Takes a group out of its lane until its cause is gone.
    pub(super) fn park(&mut self, group: &Group, cause: Cause) {
        self.move_to(group, Some(cause));
    }

    /// Puts the most urgent group of a DAG that its limit holds back into its lane.
    pub(super) fn unpark_next(&mut self, dag_id: &DagId, lane: &Lane) {
        let parked = self.by_dag.get(dag_id).and_then(|lanes| lanes.get(lane));
        if let Some((_, group)) = parked.and_then(BTreeSet::first).cloned() {
            self.move_to(&group, None);
        }
    }

    /// An instance gave up its lease: one more of its task may run, and one more of its DAG. Which lane gets the latter
    /// depends on pools and workers, so each may offer its most urgent group; the rest stays where it is.
    pub(super) fn unpark_after_end(&mut self, dag_id: &DagId, task: &TaskId, in_run: TaskOfRun) {
        let limited = (dag_id.clone(), Some(task.clone()));
        let of_task = self.by_task.get(&limited).into_iter().flatten();
        let of_run = self.by_run.get(&Some(in_run)).into_iter().flatten();
        for group in of_task.chain(of_run).map(|(_, group)| group.clone()).collect::<Vec<_>>() {
            self.move_to(&group, None);
        }
        let lanes: Vec<Lane> =
            self.by_dag.get(dag_id).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for lane in lanes {
            self.unpark_next(dag_id, &lane);
        }
    }

    /// Puts everything of a DAG back: its limits changed.
    pub(super) fn unpark(&mut self, dag_id: &DagId) {
        let parked: Vec<Group> = self
            .groups
            .iter()
            .filter(|(group, members)| group.dag_id == *dag_id && members.parked.is_some())
            .map(|(group, _)| group.clone())
            .collect();
        for group in parked {
            self.move_to(&group, None);
        }
    }

    /// Returns the lanes that have somebody waiting.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.keys()
    }

    /// Returns the first group of a lane with its head.
    pub(super) fn head(&self, lane: &Lane) -> Option<(Priority, Group, Instance)> {
        let (priority, group) = self.lanes.get(lane)?.first()?;
        let (_, instance) = self.groups.get(group)?.waiting.first()?;
        Some((*priority, group.clone(), *instance))
    }
}
