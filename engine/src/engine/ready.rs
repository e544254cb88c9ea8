//! What waits for a slot, in the order in which it gets one.
//!
//! Instances that are held back by exactly the same things form a *group*; groups that compete for the same
//! pool slots and worker queue form a *lane*. Dispatch looks at the first group of each lane, so its cost does
//! not grow with what waits behind. A group whose DAG or task limit is reached is parked and blocks nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::Instance;
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
}

/// The ready queue.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadyQueue {
    groups: BTreeMap<Group, BTreeSet<(Priority, Instance)>>,
    lanes: BTreeMap<Lane, BTreeSet<(Priority, Group)>>,
    parked: BTreeMap<DagId, BTreeSet<Group>>,
}

impl ReadyQueue {
    /// Adds an instance.
    pub(super) fn insert(&mut self, group: Group, priority: Priority, instance: Instance) {
        let members = self.groups.entry(group.clone()).or_default();
        let head = members.first().map(|(priority, _)| *priority);
        members.insert((priority, instance));
        if head.is_none_or(|head| priority < head) && !self.is_parked(&group) {
            self.move_head(&group, head);
        }
    }

    /// Removes an instance.
    pub(super) fn remove(&mut self, group: &Group, priority: Priority, instance: Instance) {
        let Some(members) = self.groups.get_mut(group) else { return };
        let head = members.first().map(|(priority, _)| *priority);
        if !members.remove(&(priority, instance)) {
            return;
        }
        let is_empty = members.is_empty();
        if self.is_parked(group) {
            if is_empty {
                self.unpark_one(group);
            }
        } else if head == Some(priority) {
            self.move_head(group, head);
        }
        if is_empty {
            self.groups.remove(group);
        }
    }

    /// Puts the group's present head where its former one stood in the lane.
    fn move_head(&mut self, group: &Group, former: Option<Priority>) {
        let lane = self.lanes.entry(group.lane.clone()).or_default();
        if let Some(former) = former {
            lane.remove(&(former, group.clone()));
        }
        if let Some((priority, _)) = self.groups.get(group).and_then(BTreeSet::first) {
            lane.insert((*priority, group.clone()));
        }
        if lane.is_empty() {
            self.lanes.remove(&group.lane);
        }
    }

    fn is_parked(&self, group: &Group) -> bool {
        self.parked.get(&group.dag_id).is_some_and(|groups| groups.contains(group))
    }

    fn unpark_one(&mut self, group: &Group) {
        if let Some(groups) = self.parked.get_mut(&group.dag_id) {
            groups.remove(group);
            if groups.is_empty() {
                self.parked.remove(&group.dag_id);
            }
        }
    }

    /// Takes a group out of its lane until [`Self::unpark`] of its DAG.
    pub(super) fn park(&mut self, group: &Group) {
        if let Some((priority, _)) = self.groups.get(group).and_then(BTreeSet::first).copied()
            && let Some(lane) = self.lanes.get_mut(&group.lane)
        {
            lane.remove(&(priority, group.clone()));
            if lane.is_empty() {
                self.lanes.remove(&group.lane);
            }
        }
        self.parked.entry(group.dag_id.clone()).or_default().insert(group.clone());
    }

    /// Puts the parked groups of a DAG back: one of its instances gave up its lease, or its limits changed.
    pub(super) fn unpark(&mut self, dag_id: &DagId) {
        for group in self.parked.remove(dag_id).unwrap_or_default() {
            self.move_head(&group, None);
        }
    }

    /// Returns the lanes that have somebody waiting.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.keys()
    }

    /// Returns the first group of a lane with its head.
    pub(super) fn head(&self, lane: &Lane) -> Option<(Priority, Group, Instance)> {
        let (priority, group) = self.lanes.get(lane)?.first()?;
        let (_, instance) = self.groups.get(group)?.first()?;
        Some((*priority, group.clone(), *instance))
    }
}
