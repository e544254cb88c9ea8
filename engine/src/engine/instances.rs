//! The task instances of one run, by task: how many there are in which state, and each one's record.
//!
//! A task has one instance without an element (`map_index` −1), or, once a mapped task is expanded, one per element.
//! **What a trigger rule asks is kept per task**: the counts of what ended above it and the tally of its own
//! instances. So an end costs the task's downstream edges, however many elements stand on either side.

use std::{
    ops::{Index, IndexMut},
    sync::Arc,
};

use super::run::InstanceRecord;
use crate::{graph::TaskIndex, mapping::MapValues, state::TaskState, trigger_rule::UpstreamCounts};

/// An instance's place in its run: the position of its task, and its element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InstanceIndex {
    pub(super) task: TaskIndex,
    /// −1 without an element.
    pub(super) map_index: i32,
}

impl InstanceIndex {
    /// Returns the place of the instance without an element.
    pub(super) const fn only(task: TaskIndex) -> Self {
        Self { task, map_index: -1 }
    }

    /// Returns the place of an element.
    pub(super) fn element(task: TaskIndex, position: usize) -> Self {
        Self { task, map_index: i32::try_from(position).unwrap_or(i32::MAX) }
    }

    /// Returns where the element stands in its list; `None` for the instance without one.
    pub(super) fn position(self) -> Option<usize> {
        usize::try_from(self.map_index).ok()
    }
}

/// How many instances of one task are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    by_state: [u32; TaskState::ALL.len()],
    /// Leased ones that are being stopped.
    pub(super) stopping: u32,
    /// Those of them that are cleared then.
    pub(super) clearing: u32,
}

impl Tally {
    pub(super) fn add(&mut self, state: TaskState) {
        self.by_state[state as usize] += 1;
    }

    pub(super) fn remove(&mut self, state: TaskState) {
        self.by_state[state as usize] -= 1;
    }

    /// Returns how many are in a state.
    pub(super) const fn of(&self, state: TaskState) -> u32 {
        self.by_state[state as usize]
    }

    fn sum(&self, which: impl Fn(TaskState) -> bool) -> u32 {
        TaskState::ALL.iter().filter(|state| which(**state)).map(|state| self.of(*state)).sum()
    }

    /// Returns how many have not ended.
    pub(super) fn open(&self) -> u32 {
        self.sum(|state| !state.is_terminal())
    }

    /// Returns how many will move without an upstream: scheduled, leased, waiting for a time or a person.
    pub(super) fn moving(&self) -> u32 {
        self.open() - self.of(TaskState::NoStatus)
    }

    /// Returns how many have a lease.
    pub(super) const fn leased(&self) -> u32 {
        self.of(TaskState::Queued) + self.of(TaskState::Running)
    }

    /// Returns how many count as upstreams: all but removed ones.
    pub(super) fn counting(&self) -> u32 {
        self.sum(|state| state != TaskState::Removed)
    }

    /// Returns how many failed, or were not executed because of a failure.
    pub(super) fn bad(&self) -> u32 {
        self.of(TaskState::Failed) + self.of(TaskState::UpstreamFailed)
    }

    /// Returns the one state that says how the task as a whole is, for those who ask of another run: the worst end,
    /// or that something has not ended.
    pub(super) fn summary(&self) -> TaskState {
        use TaskState::{
            AwaitingInput, Failed, NoStatus, Queued, Removed, Running, Scheduled, Skipped, Success,
            UpForReschedule, UpForRetry, UpstreamFailed,
        };
        let order = [
            Failed,
            UpstreamFailed,
            AwaitingInput,
            Running,
            Queued,
            UpForRetry,
            UpForReschedule,
            Scheduled,
            NoStatus,
            Success,
            Skipped,
        ];
        order.into_iter().find(|state| self.of(*state) > 0).unwrap_or(Removed)
    }
}

/// What is known of one task of a run.
#[derive(Clone, Debug)]
pub(super) struct TaskRecord {
    /// How its direct upstreams ended so far, instance by instance.
    pub(super) counts: UpstreamCounts,
    /// The short circuit above, direct or not, that skips it whatever its trigger rule. Follows from the rows.
    pub(super) cut_by: Option<TaskIndex>,
    /// How its own instances are.
    pub(super) tally: Tally,
    /// The instance without an element: of a mapped task until it is expanded.
    pub(super) only: InstanceRecord,
    /// The elements of an expanded task.
    pub(super) map: Option<Arc<MapValues>>,
    /// A record for each element that there is or was. Never shortened: the fence of one that is cleared, or beyond
    /// the end of a list that is shorter now, goes on from here.
    pub(super) elements: Vec<InstanceRecord>,
}

impl TaskRecord {
    fn length(&self) -> Option<usize> {
        self.map.as_ref().map(|values| values.len())
    }

    fn has_element(&self, position: usize) -> bool {
        self.length().is_some_and(|length| position < length)
            || self.elements.get(position).is_some_and(|record| record.row.state == TaskState::Removed)
    }

    /// Returns how many instances it counts as for those below: one until it is expanded.
    pub(super) fn share(&self) -> u32 {
        self.length()
            .map_or_else(|| self.tally.counting(), |length| u32::try_from(length).unwrap_or(u32::MAX))
    }
}

/// Every instance of a run.
#[derive(Clone, Debug)]
pub(super) struct Instances {
    tasks: Vec<TaskRecord>,
}

impl Instances {
    pub(super) const fn new(tasks: Vec<TaskRecord>) -> Self {
        Self { tasks }
    }

    /// Returns what is known of a task.
    pub(super) fn of(&self, task: TaskIndex) -> &TaskRecord {
        &self.tasks[task]
    }

    /// Returns what is known of a task, to change it.
    pub(super) fn of_mut(&mut self, task: TaskIndex) -> &mut TaskRecord {
        &mut self.tasks[task]
    }

    /// Returns every task in file order.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &TaskRecord> {
        self.tasks.iter()
    }

    /// Returns the instances that a task has.
    pub(super) fn of_task(&self, task: TaskIndex) -> impl Iterator<Item = (InstanceIndex, &InstanceRecord)> {
        let record = &self.tasks[task];
        let only = std::iter::once((InstanceIndex::only(task), &record.only));
        let elements =
            record.elements.iter().enumerate().filter(|(position, _)| record.has_element(*position));
        only.filter(|_| record.map.is_none())
            .chain(elements.map(move |(position, element)| (InstanceIndex::element(task, position), element)))
    }

    /// Returns the instances that there are, by task and element.
    pub(super) fn all(&self) -> impl Iterator<Item = (InstanceIndex, &InstanceRecord)> {
        (0..self.tasks.len()).flat_map(|task| self.of_task(task))
    }

    /// Returns every record that there ever was, also those of which only the fence is left.
    pub(super) fn remembered(&self) -> impl Iterator<Item = (InstanceIndex, &InstanceRecord)> {
        self.tasks.iter().enumerate().flat_map(|(task, record)| {
            let elements = record.elements.iter().enumerate();
            std::iter::once((InstanceIndex::only(task), &record.only)).chain(
                elements.map(move |(position, element)| (InstanceIndex::element(task, position), element)),
            )
        })
    }

    /// Whether there is such an instance.
    pub(super) fn has(&self, ix: InstanceIndex) -> bool {
        let Some(record) = self.tasks.get(ix.task) else { return false };
        match ix.position() {
            Some(position) => record.has_element(position),
            None => ix.map_index == -1 && record.map.is_none(),
        }
    }
}

impl Index<InstanceIndex> for Instances {
    type Output = InstanceRecord;

    fn index(&self, ix: InstanceIndex) -> &InstanceRecord {
        let record = &self.tasks[ix.task];
        match ix.position() {
            Some(position) => &record.elements[position],
            None => &record.only,
        }
    }
}

impl IndexMut<InstanceIndex> for Instances {
    fn index_mut(&mut self, ix: InstanceIndex) -> &mut InstanceRecord {
        let record = &mut self.tasks[ix.task];
        match ix.position() {
            Some(position) => &mut record.elements[position],
            None => &mut record.only,
        }
    }
}
