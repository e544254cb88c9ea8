//! Who holds what an instance waits for, and why a run has not ended.
//!
//! Deciding does not need these, so they are looked up only when somebody asks: O(instances of the DAG), never on the way of
//! an event.

use std::collections::{BTreeMap, BTreeSet};

use super::{DagEntry, Engine, Instance, ready::Group, run::Run};
use crate::{
    ids::{RunKey, TaskId, TaskInstanceKey},
    now::Now,
    state::{RunState, TaskState},
    wait_reason::{Holder, RunReason, WaitReason},
};

/// How many are named; the rest is counted.
const NAMED: usize = 8;

impl Engine {
    /// Returns who holds what the instances of a group wait for, where that is somebody.
    pub(super) fn holders(&self, group: &Group, obstacle: &WaitReason) -> Option<WaitReason> {
        let entry = self.dags.get(&group.dag_id)?;
        let held_by = |instances: &mut dyn Iterator<Item = Instance>| {
            let holders: Vec<Holder> =
                instances.take(NAMED).filter_map(|instance| self.holder(instance)).collect();
            let more = u32::try_from(instances.count()).unwrap_or(u32::MAX);
            (!holders.is_empty()).then_some(WaitReason::HeldBy { holders, more })
        };
        match obstacle {
            WaitReason::PoolFull { pool, .. } => {
                let pool = self.pools.get(pool)?;
                held_by(&mut pool.holders.values().flatten().copied())
            }
            WaitReason::DagLimit { .. } => held_by(&mut entry.leased.iter().copied()),
            WaitReason::TaskLimit { .. } => {
                let leased = entry.leased_by_task.get(group.limited.as_ref()?)?;
                held_by(&mut leased.iter().copied())
            }
            WaitReason::NoWorker { .. } => {
                let queues: BTreeSet<String> = self.fleet.queues().map(str::to_owned).collect();
                (!queues.is_empty()).then_some(WaitReason::OtherQueues { queues })
            }
            _ => None,
        }
    }

    fn holder(&self, (key, ix): Instance) -> Option<Holder> {
        let run = self.runs.get(&key).filter(|run| run.instances.has(ix))?;
        let (dag_id, run_id) = (run.row.dag_id.clone(), run.row.run_id.clone());
        let TaskInstanceKey { task, map_index, .. } = run.instances[ix].row.key.clone();
        Some(Holder { dag_id, run_id, task, map_index })
    }

    /// Returns which runs a queued run waits for: those that are active, and those that are queued before it.
    pub(super) fn runs_ahead(&self, entry: &DagEntry, run: &Run) -> WaitReason {
        let id = |key: &RunKey| self.runs.get(key).map(|run| run.row.run_id.clone());
        let before = || entry.queued.range(..(run.row.logical_date, run.row.key));
        WaitReason::RunsAhead {
            active: entry.running.iter().take(NAMED).filter_map(id).collect(),
            queued: before().take(NAMED).filter_map(|(_, key)| id(key)).collect(),
            more: u32::try_from(before().count().saturating_sub(NAMED)).unwrap_or(u32::MAX),
        }
    }

    /// Returns the first reason of every instance of an active run that has not ended, at most `limit` of them, those
    /// about which something is decided first.
    #[must_use]
    pub fn explain_all(&self, key: RunKey, limit: usize, now: Now) -> Vec<(TaskInstanceKey, WaitReason)> {
        let Some(run) = self.runs.get(&key) else { return Vec::new() };
        let open = |is_undecided: bool| {
            run.instances.all().filter(move |(_, record)| {
                let state = record.row.state;
                !state.is_terminal() && (state == TaskState::NoStatus) == is_undecided
            })
        };
        let reason = |ix| self.reasons((key, ix), now, false).into_iter().next();
        open(false)
            .chain(open(true))
            .take(limit)
            .filter_map(|(ix, record)| Some((record.row.key.clone(), reason(ix)?)))
            .collect()
    }

    /// Returns why a run has not ended: what holds the whole of it back, or else what its instances do and wait for. What
    /// only waits for others of the same run is left out as long as something else is there to be said.
    #[must_use]
    pub fn explain_run(&self, key: RunKey, now: Now) -> Vec<RunReason> {
        let Some(run) = self.runs.get(&key) else { return Vec::new() };
        if run.row.state == RunState::Queued
            && let Some(entry) = self.dags.get(&run.row.dag_id)
        {
            let of_run = |reason| RunReason { reason, tasks: Vec::new(), count: 0 };
            let ahead = run.row.backfill.is_none().then(|| self.runs_ahead(entry, run));
            return self.run_queued(&run.row).into_iter().chain(ahead).map(of_run).collect();
        }
        let mut found: BTreeMap<(bool, String), RunReason> = BTreeMap::new();
        for (instance, reason) in self.explain_all(key, usize::MAX, now) {
            let is_of_others = matches!(
                reason,
                WaitReason::Upstream { .. } | WaitReason::Setup { .. } | WaitReason::RunPaused
            );
            let place = found.entry((is_of_others, reason.to_string()));
            let known = place.or_insert(RunReason { reason, tasks: Vec::new(), count: 0 });
            known.count += 1;
            push_named(&mut known.tasks, instance.task);
        }
        let has_own = found.keys().any(|(is_of_others, _)| !is_of_others);
        found.retain(|(is_of_others, _), _| !(has_own && *is_of_others));
        found.into_values().collect()
    }
}

fn push_named(tasks: &mut Vec<TaskId>, task: TaskId) {
    if tasks.len() < NAMED && !tasks.contains(&task) {
        tasks.push(task);
    }
}
