//! The workers that are connected, what they hold and how much more they take.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Engine, Instance, LEASE, Out, Timer};
use crate::{
    action::{Action, Assign, Cancel},
    ids::{AttemptKey, WorkerId},
};

/// A connected worker.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) boot_id: String,
    pub(super) capacity: u32,
    pub(super) queues: Vec<String>,
    /// Instances that are leased to it, whatever its incarnation.
    pub(super) leased: BTreeSet<Instance>,
    /// When it counts as gone, by the monotonic clock.
    pub(super) silent_at: Duration,
    pub(super) is_connected: bool,
}

impl Worker {
    fn free(&self) -> u32 {
        if !self.is_connected {
            return 0;
        }
        self.capacity.saturating_sub(u32::try_from(self.leased.len()).unwrap_or(u32::MAX))
    }
}

/// What a worker states in an exchange.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) boot_id: String,
    pub(super) has_swept: bool,
    pub(super) capacity: u32,
    pub(super) queues: Vec<String>,
    pub(super) held: Vec<AttemptKey>,
    pub(super) lost: Vec<(AttemptKey, String)>,
}

/// All workers, and per queue those with room, the emptiest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Fleet {
    workers: BTreeMap<WorkerId, Worker>,
    room: BTreeMap<String, BTreeSet<(Reverse<u32>, WorkerId)>>,
}

impl Fleet {
    pub(super) fn get(&self, worker: &WorkerId) -> Option<&Worker> {
        self.workers.get(worker)
    }

    /// Changes a worker and keeps the index of who has room right.
    pub(super) fn update(&mut self, id: &WorkerId, change: impl FnOnce(&mut Worker)) {
        let worker = self.workers.entry(id.clone()).or_insert_with(|| Worker {
            boot_id: String::new(),
            capacity: 0,
            queues: Vec::new(),
            leased: BTreeSet::new(),
            silent_at: Duration::ZERO,
            is_connected: false,
        });
        let before = (Reverse(worker.free()), id.clone());
        let queues = std::mem::take(&mut worker.queues);
        for queue in &queues {
            if let Some(room) = self.room.get_mut(queue) {
                room.remove(&before);
                if room.is_empty() {
                    self.room.remove(queue);
                }
            }
        }
        worker.queues = queues;
        change(worker);
        let free = worker.free();
        if free > 0 {
            for queue in &worker.queues {
                self.room.entry(queue.clone()).or_default().insert((Reverse(free), id.clone()));
            }
        }
        if !worker.is_connected && worker.leased.is_empty() {
            self.workers.remove(id);
        }
    }

    /// Returns the worker with the most room that serves a queue.
    pub(super) fn roomiest(&self, queue: &str) -> Option<&WorkerId> {
        self.room.get(queue)?.first().map(|(_, worker)| worker)
    }

    /// Returns the queues that connected workers serve, some of them more than once.
    pub(super) fn queues(&self) -> impl Iterator<Item = &str> {
        let connected = self.workers.values().filter(|worker| worker.is_connected);
        connected.flat_map(|worker| &worker.queues).map(String::as_str)
    }

    /// Returns how many attempts the connected workers of a queue take together; absent without any.
    pub(super) fn capacity(&self, queue: &str) -> Option<u32> {
        self.workers
            .values()
            .filter(|worker| worker.is_connected && worker.queues.iter().any(|q| q == queue))
            .map(|worker| worker.capacity)
            .reduce(u32::saturating_add)
    }
}

impl Engine {
    /// A worker was not heard of for a lease.
    pub(super) fn worker_silent(&mut self, worker: &WorkerId) {
        if let Some(boot_id) = self.fleet.get(worker).map(|worker| worker.boot_id.clone()) {
            self.worker_left(worker, &boot_id);
        }
    }

    /// Notes that a worker was heard of.
    pub(super) fn heard(&mut self, id: &WorkerId, out: &Out) {
        let silent_at = out.now.mono + LEASE;
        if let Some(worker) = self.fleet.get(id) {
            self.timers.remove(&(worker.silent_at, Timer::Worker(id.clone())));
        }
        self.fleet.update(id, |worker| {
            worker.silent_at = silent_at;
            worker.is_connected = true;
        });
        self.timers.insert((silent_at, Timer::Worker(id.clone())));
    }

    /// Renews the leases of what a worker holds.
    pub(super) fn heartbeat(&mut self, id: &WorkerId, boot_id: &str, attempts: &[AttemptKey], out: &Out) {
        if self.fleet.get(id).is_some_and(|worker| worker.boot_id == boot_id) {
            self.heard(id, out);
        }
        for attempt in attempts {
            self.renew(id, boot_id, attempt, out);
        }
    }

    fn renew(&mut self, worker: &WorkerId, boot_id: &str, attempt: &AttemptKey, out: &Out) {
        let Some((run, ix)) = self.leased(attempt) else { return };
        let Some(record) = self.runs.get_mut(&run).map(|run| &mut run.instances[ix]) else { return };
        let Some(lease) = record.lease.as_mut() else { return };
        if lease.worker != *worker || lease.boot_id != boot_id {
            return;
        }
        self.timers.remove(&(lease.deadline, Timer::Lease(run, ix)));
        lease.deadline = out.now.mono + LEASE;
        self.timers.insert((lease.deadline, Timer::Lease(run, ix)));
    }

    /// Applies what a worker states: its room, the end of older incarnations, and what it lost on the way.
    pub(super) fn worker_exchanged(&mut self, id: &WorkerId, offer: Offer, out: &mut Out) {
        self.heard(id, out);
        for attempt in &offer.held {
            self.renew(id, &offer.boot_id, attempt, out);
        }
        for (attempt, reason) in &offer.lost {
            self.attempt_swept(attempt, id, &offer.boot_id, reason, out);
        }
        let held: BTreeSet<&AttemptKey> = offer.held.iter().collect();
        let leased = self.fleet.get(id).map(|worker| worker.leased.clone()).unwrap_or_default();
        for (run, ix) in leased {
            let record = &self.runs[&run].instances[ix];
            let attempt = self.runs[&run].attempt(ix);
            let is_same_boot = record.lease.as_ref().is_some_and(|lease| lease.boot_id == offer.boot_id);
            if !is_same_boot && offer.has_swept {
                self.attempt_lost(&attempt, "the worker was restarted", out);
            } else if is_same_boot {
                match record.row.stop {
                    // Derived again from state: the cancellation before may not have arrived. A worker that does
                    // not hold the attempt answers with its end and never starts it later, so an assignment that
                    // is still under way to it cannot overlap with what follows.
                    Some(reason) => {
                        out.actions.push(Action::Cancel(Cancel { attempt, worker: id.clone(), reason }));
                    }
                    None if !held.contains(&attempt) => {
                        out.actions.push(Action::Assign(Assign {
                            attempt,
                            worker: id.clone(),
                            is_redelivery: true,
                        }));
                    }
                    None => {}
                }
            }
        }
        self.fleet.update(id, |worker| {
            worker.boot_id = offer.boot_id;
            worker.capacity = offer.capacity;
            worker.queues = offer.queues;
        });
    }

    /// Notes that a worker is gone. What it holds keeps its lease until that ends.
    pub(super) fn worker_left(&mut self, id: &WorkerId, boot_id: &str) {
        if let Some(worker) = self.fleet.get(id)
            && worker.boot_id == boot_id
        {
            self.timers.remove(&(worker.silent_at, Timer::Worker(id.clone())));
            self.fleet.update(id, |worker| {
                worker.is_connected = false;
                worker.capacity = 0;
            });
        }
    }
}
