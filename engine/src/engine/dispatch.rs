//! Who gets a slot next, and what holds the others back.

use super::{
    Engine, Instance, LEASE, Out, Timer,
    ready::{Cause, Group},
    run::{Change, Lease},
};
use crate::{
    action::{Action, Assign, TryChange},
    ids::WorkerId,
    rows::TryRow,
    state::TaskState,
    wait_reason::WaitReason,
};

impl Engine {
    /// Gives what is ready to who has room: filter first, then take (`semantics.md` §8).
    pub(super) fn dispatch(&mut self, out: &mut Out) {
        loop {
            let mut best: Option<(crate::graph::Priority, Group, Instance)> = None;
            let mut parked: Vec<(Group, Cause)> = Vec::new();
            for lane in self.ready.lanes() {
                let Some((priority, group, instance)) = self.ready.head(lane) else { continue };
                if best.as_ref().is_some_and(|(first, ..)| *first <= priority) {
                    continue;
                }
                match self.obstacle(&group) {
                    None => best = Some((priority, group, instance)),
                    Some(WaitReason::DagLimit { .. }) => parked.push((group, Cause::Dag)),
                    Some(WaitReason::TaskLimit { .. }) => parked.push((group, Cause::Task)),
                    Some(WaitReason::RunTaskLimit { .. }) => parked.push((group, Cause::TaskInRun)),
                    Some(_) => {}
                }
            }
            let is_more = !parked.is_empty();
            for (group, cause) in parked {
                self.ready.park(&group, cause);
                if cause != Cause::Dag {
                    // The DAG has room, so the next of its groups gets a chance in its place.
                    self.ready.unpark_next(&group.dag_id, &group.lane);
                }
            }
            // What stood behind a parked group may be better than what was found: look again.
            if is_more {
                continue;
            }
            let Some((priority, group, instance)) = best else { break };
            let Some(worker) = self.fleet.roomiest(&group.lane.queue).cloned() else { break };
            self.ready.remove(&group, priority, instance);
            self.assign(instance, &worker, out);
        }
    }

    /// Returns what holds back everything in a group, first things first. Dispatch and explain both ask here.
    pub(super) fn obstacle(&self, group: &Group) -> Option<WaitReason> {
        let entry = self.dags.get(&group.dag_id)?;
        let dag = &entry.graph.dag;
        if entry.leased.len() >= dag.max_active_tasks as usize {
            return Some(WaitReason::DagLimit { limit: dag.max_active_tasks });
        }
        let limit_of =
            |task| entry.graph.index_of(task).and_then(|ix| entry.graph.task(ix).max_active_per_dag);
        if let Some(task) = &group.limited
            && let Some(limit) = limit_of(task)
            && entry.leased_by_task.get(task).is_some_and(|leased| leased.len() >= limit as usize)
        {
            return Some(WaitReason::TaskLimit { limit });
        }
        if let Some((key, task)) = group.in_run
            && let Some(run) = self.runs.get(&key)
            && let Some(limit) = run.graph.task(task).max_active_per_run
            && run.instances.of(task).tally.leased() >= limit
        {
            return Some(WaitReason::RunTaskLimit { limit });
        }
        let lane = &group.lane;
        let pool = self.pools.get(&lane.pool);
        let never = WaitReason::of_pool(&lane.pool, pool.map(|pool| pool.row.slots), lane.slots);
        let (Some(pool), None) = (pool, &never) else { return never };
        let (slots, used, wanted) = (pool.row.slots, pool.used(), lane.slots);
        if used.saturating_add(wanted) > slots {
            return Some(WaitReason::PoolFull { pool: lane.pool.clone(), slots, used, wanted });
        }
        if self.fleet.roomiest(&lane.queue).is_none() {
            return Some(match self.fleet.capacity(&lane.queue) {
                None => WaitReason::NoWorker { queue: lane.queue.clone() },
                Some(slots) => WaitReason::WorkersFull { queue: lane.queue.clone(), slots },
            });
        }
        None
    }

    fn assign(&mut self, (key, ix): Instance, worker: &WorkerId, out: &mut Out) {
        let Some(boot_id) = self.fleet.get(worker).map(|worker| worker.boot_id.clone()) else { return };
        let Some(run) = self.runs.get_mut(&key) else { return };
        let now = out.now;
        let is_sensor = run.graph.task(ix.task).poke().is_some();
        // The next poke of a sensor goes on with the try of the one before.
        let is_new = run.instances[ix].open.take().is_none();
        let from_epoch = (!is_new).then_some(run.instances[ix].row.epoch);
        out.actions.push(run.change_task(ix, Change::Durable, |row| {
            row.state = TaskState::Queued;
            row.epoch += 1;
            if is_new {
                row.try_number += 1;
                row.queued_at = Some(now.wall);
                row.started_at = None;
            }
            if is_sensor {
                row.first_poke_at.get_or_insert(now.wall);
            }
            row.worker = Some(worker.clone());
            row.exit_code = None;
            row.reason = None;
        }));
        let attempt = run.attempt(ix);
        let deadline = now.mono + LEASE;
        run.instances[ix].lease = Some(Lease { worker: worker.clone(), boot_id: boot_id.clone(), deadline });
        let (queued_at, started_at) = (run.instances[ix].row.queued_at, run.instances[ix].row.started_at);
        out.actions.push(Action::Try(TryChange {
            is_new,
            from_epoch,
            row: TryRow {
                attempt: attempt.clone(),
                worker: worker.clone(),
                boot_id,
                queued_at: queued_at.unwrap_or(now.wall),
                started_at,
                finished_at: None,
                outcome: None,
                exit_code: None,
                reason: None,
            },
        }));
        out.actions.push(Action::Assign(Assign { attempt, worker: worker.clone(), is_redelivery: false }));
        self.timers.insert((deadline, Timer::Lease(key, ix)));
        self.hold((key, ix), worker);
        self.begin_to_wait((key, ix), now);
    }

    /// Enters a leased instance wherever leases count.
    pub(super) fn hold(&mut self, (key, ix): Instance, worker: &WorkerId) {
        let Some(run) = self.runs.get(&key) else { return };
        let task = run.graph.task(ix.task);
        if let Some(entry) = self.dags.get_mut(&run.row.dag_id) {
            entry.leased.insert((key, ix));
            if task.max_active_per_dag.is_some() {
                entry.leased_by_task.entry(task.id.clone()).or_default().insert((key, ix));
            }
        }
        if let Some(pool) = self.pools.get_mut(&task.pool) {
            pool.holders.entry(task.pool_slots).or_default().insert((key, ix));
        }
        self.fleet.update(worker, |worker| {
            worker.leased.insert((key, ix));
        });
    }

    /// Takes an instance whose lease ended out of wherever leases count.
    pub(super) fn release(&mut self, (key, ix): Instance, lease: &Lease) {
        let Some(run) = self.runs.get(&key) else { return };
        let task = run.graph.task(ix.task);
        self.timers.remove(&(lease.deadline, Timer::Lease(key, ix)));
        if let Some(entry) = self.dags.get_mut(&run.row.dag_id) {
            entry.leased.remove(&(key, ix));
            if let Some(leased) = entry.leased_by_task.get_mut(&task.id) {
                leased.remove(&(key, ix));
                if leased.is_empty() {
                    entry.leased_by_task.remove(&task.id);
                }
            }
        }
        if let Some(pool) = self.pools.get_mut(&task.pool)
            && let Some(holders) = pool.holders.get_mut(&task.pool_slots)
        {
            holders.remove(&(key, ix));
            if holders.is_empty() {
                pool.holders.remove(&task.pool_slots);
            }
        }
        self.fleet.update(&lease.worker, |worker| {
            worker.leased.remove(&(key, ix));
        });
        self.ready.unpark_after_end(&run.row.dag_id, &task.id, (key, ix.task));
    }
}
