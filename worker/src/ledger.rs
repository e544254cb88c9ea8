//! What the worker holds and what it has to say about it; shared by the exchange, the heartbeat and the tries.
//!
//! **Invariants:** an attempt is held, has a result without a verdict, or is finished, never two of these. An
//! assignment that is in one of them is a redelivery and starts nothing. A result stays until its verdict.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tidemill_protocol::worker::{
    Assignment, AttemptKey, AttemptReport, ExchangeResponse, LostAttempt, SELF_KILL_SECONDS,
    SELF_TERM_SECONDS, StopReason, TryOutcome,
};
use tokio::sync::{Notify, mpsc};

use crate::{
    attempt::machine::{Cause, Event},
    clock::boottime_ms,
    failpoint::failpoint,
    outcome::Problem,
};

/// What the results of one exchange may weigh together, in bytes; the server takes twice as much. A single
/// result is lighter by the limits of outputs, operators and log tails.
const RESULTS_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// How many finished attempts are remembered. A redelivery can only concern an attempt whose verdict was given
/// within the last exchanges; this is far more than two exchanges can carry.
const FINISHED_LIMIT: usize = 20_000;

/// The ledger and the signals around it.
#[derive(Debug)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    /// Something for the server has come up; the exchange goes out again.
    pub(crate) news: Notify,
    /// A lease is needed sooner than the next beat.
    pub(crate) beat_now: Notify,
    /// A heartbeat was answered; leases have moved.
    pub(crate) renewed: Notify,
    /// Start of the last answered request, on the clock that runs in suspend.
    contact_ms: AtomicU64,
    /// Last sign of life of the main loop; without it the heartbeat stops renewing.
    pulse_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<AttemptKey, Held>,
    results: BTreeMap<AttemptKey, Pending>,
    lost: Vec<LostAttempt>,
    /// Attempts of older incarnations whose loss is not in `lost` yet.
    leftovers: usize,
    /// What every attempt is told that comes while the worker stops.
    order: Option<Event>,
    finished: BTreeSet<AttemptKey>,
    finished_order: VecDeque<AttemptKey>,
}

#[derive(Debug)]
struct Held {
    control: mpsc::UnboundedSender<Event>,
    /// Until when the lease certainly lasts.
    lease_until_ms: u64,
}

/// A result without a verdict.
#[derive(Clone, Debug)]
struct Pending {
    report: AttemptReport,
    /// About how long it is as JSON, in bytes.
    weight: usize,
    /// The try's folder; removed with the verdict.
    folder: Option<PathBuf>,
    /// The server has refused it once as it was.
    is_reduced: bool,
}

impl Pending {
    fn new(report: AttemptReport, folder: Option<PathBuf>) -> Self {
        let weight = weight(&report);
        Self { report, weight, folder, is_reduced: false }
    }
}

fn weight(report: &AttemptReport) -> usize {
    let json = |value: serde_json::Result<Vec<u8>>| value.map_or(0, |text| text.len());
    let outputs = if report.outputs.is_empty() { 0 } else { json(serde_json::to_vec(&report.outputs)) };
    let evidence = report.report.as_ref().map_or(0, |found| json(serde_json::to_vec(found)));
    1_024 + report.log_tail.len() + outputs + evidence
}

/// What an exchange carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) held: Vec<AttemptKey>,
    pub(crate) results: Vec<AttemptReport>,
    /// There are results beside these.
    pub(crate) has_more: bool,
    pub(crate) lost: Vec<LostAttempt>,
    /// Every loss of an older incarnation was told, so the server may end what else it believes to be here.
    pub(crate) has_swept: bool,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let now = boottime_ms();
        Self {
            inner: Mutex::default(),
            news: Notify::new(),
            beat_now: Notify::new(),
            renewed: Notify::new(),
            contact_ms: AtomicU64::new(now),
            pulse_ms: AtomicU64::new(now),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an assignment that arrived with the answer to a request begun at `request_ms`. `None`: it is a
    /// redelivery of something that is here or is over.
    pub(crate) fn take(
        &self,
        assignment: &Assignment,
        request_ms: u64,
    ) -> Option<mpsc::UnboundedReceiver<Event>> {
        let mut inner = self.lock();
        let key = &assignment.attempt;
        if inner.held.contains_key(key) || inner.results.contains_key(key) || inner.finished.contains(key) {
            return None;
        }
        let (control, events) = mpsc::unbounded_channel();
        // Counted from the start of the request: the answer may have been under way for a while.
        let lease_until_ms = request_ms + assignment.lease_ms;
        if let Some(order) = inner.order {
            // It left the server before the server knew that this worker stops.
            let _ = control.send(order);
        }
        inner.held.insert(key.clone(), Held { control, lease_until_ms });
        Some(events)
    }

    /// The instant until which the attempt's lease certainly lasts; `None` when it is not held.
    pub(crate) fn lease_until_ms(&self, key: &AttemptKey) -> Option<u64> {
        self.lock().held.get(key).map(|held| held.lease_until_ms)
    }

    /// Turns a held attempt into a result that is sent until it gets its verdict.
    pub(crate) fn finish(&self, report: AttemptReport, folder: Option<PathBuf>) {
        failpoint("before_result");
        let mut inner = self.lock();
        inner.held.remove(&report.attempt);
        inner.results.insert(report.attempt.clone(), Pending::new(report, folder));
        drop(inner);
        self.news.notify_one();
    }

    /// Drops a held attempt without a report. `was_started`: a redelivery of it must not start it again.
    pub(crate) fn forget(&self, key: &AttemptKey, was_started: bool) {
        let mut inner = self.lock();
        inner.held.remove(key);
        if was_started {
            inner.remember(key.clone());
        }
        drop(inner);
        self.news.notify_one();
    }

    /// Removes what got a verdict, and the losses that were heard. Returns the folders that are not needed any
    /// more.
    pub(crate) fn settle(&self, sent: &Outbox, response: &ExchangeResponse) -> Vec<PathBuf> {
        let mut inner = self.lock();
        let mut folders = Vec::new();
        for verdict in &response.verdicts {
            if let Some(pending) = inner.results.remove(&verdict.attempt) {
                inner.remember(verdict.attempt.clone());
                folders.extend(pending.folder);
            }
        }
        inner.lost.retain(|lost| !sent.lost.contains(lost));
        folders
    }

    /// The server does not take an exchange that carries this one result. Without what only the task decides
    /// about it (its outputs, its evidence) it is taken, as a failure that says so. One that is refused even then
    /// stays as it is: somebody is repairing the server.
    pub(crate) fn reduce(&self, attempt: &AttemptKey, detail: &str) {
        let mut inner = self.lock();
        let Some(pending) = inner.results.get_mut(attempt).filter(|pending| !pending.is_reduced) else {
            return;
        };
        let report = &mut pending.report;
        report.outcome = TryOutcome::Failed;
        report.reason = Some(Problem::ResultRefused { detail: detail.to_owned() }.to_string());
        report.outputs.clear();
        report.report = None;
        report.follow = None;
        pending.is_reduced = true;
        pending.weight = weight(&pending.report);
    }

    /// So many attempts of older incarnations will be added as lost.
    pub(crate) fn expect_lost(&self, count: usize) {
        self.lock().leftovers = count;
    }

    /// Adds an attempt of an older incarnation that is proven dead.
    pub(crate) fn add_lost(&self, lost: LostAttempt) {
        let mut inner = self.lock();
        inner.lost.push(lost);
        inner.leftovers = inner.leftovers.saturating_sub(1);
        drop(inner);
        self.news.notify_one();
    }

    /// Returns what an exchange must carry now: at most `most` results, and no more than an exchange may weigh.
    /// The others go with the next one.
    pub(crate) fn outbox(&self, most: usize) -> Outbox {
        let inner = self.lock();
        let mut outbox = Outbox {
            held: inner.held.keys().cloned().collect(),
            results: Vec::new(),
            has_more: false,
            lost: inner.lost.clone(),
            has_swept: inner.leftovers == 0,
        };
        let mut weight = 0;
        for pending in inner.results.values() {
            weight += pending.weight;
            if !outbox.results.is_empty() && (weight > RESULTS_LIMIT_BYTES || outbox.results.len() >= most) {
                outbox.has_more = true;
                break;
            }
            outbox.results.push(pending.report.clone());
        }
        outbox
    }

    /// Returns what a heartbeat lists: what is held, and results without a verdict.
    pub(crate) fn leased(&self) -> Vec<AttemptKey> {
        let inner = self.lock();
        inner.held.keys().chain(inner.results.keys()).cloned().collect()
    }

    /// Whether nothing is held and nothing waits for a verdict.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.held.is_empty() && inner.results.is_empty() && inner.lost.is_empty()
    }

    /// Applies the answer to a heartbeat that began at `request_ms` and listed `listed`.
    pub(crate) fn renew(&self, listed: &[AttemptKey], fenced: &[AttemptKey], request_ms: u64, lease_ms: u64) {
        let mut inner = self.lock();
        for key in listed.iter().filter(|key| !fenced.contains(key)) {
            if let Some(held) = inner.held.get_mut(key) {
                held.lease_until_ms = held.lease_until_ms.max(request_ms + lease_ms);
            }
        }
        for key in fenced {
            if let Some(held) = inner.held.get(key) {
                let _ = held.control.send(Event::Kill(Cause::Fenced));
            }
        }
        drop(inner);
        self.renewed.notify_waiters();
    }

    /// Stops an attempt. One that is not here and was never here is answered with a report of its own, which
    /// also keeps its assignment, that may still be under way, from being started.
    pub(crate) fn cancel(&self, key: &AttemptKey, reason: StopReason) {
        let mut inner = self.lock();
        if let Some(held) = inner.held.get(key) {
            let _ = held.control.send(Event::Stop(Cause::Stopped(reason)));
            return;
        }
        if inner.results.contains_key(key) {
            return;
        }
        let report = crate::attempt::stopped_unknown(key, reason);
        inner.results.insert(key.clone(), Pending::new(report, None));
        drop(inner);
        self.news.notify_one();
    }

    /// Sends an event to every attempt that is held.
    pub(crate) fn tell_all(&self, event: Event) {
        for held in self.lock().held.values() {
            let _ = held.control.send(event);
        }
    }

    /// Sends an event to every attempt that is held, and to every one that still comes.
    pub(crate) fn order(&self, event: Event) {
        let mut inner = self.lock();
        for held in inner.held.values() {
            let _ = held.control.send(event);
        }
        inner.order = Some(event);
    }

    /// Records an answered request that began at `started_ms`.
    pub(crate) fn record_contact(&self, started_ms: u64) {
        self.contact_ms.fetch_max(started_ms, Ordering::Relaxed);
    }

    /// Returns the start of the last answered request.
    pub(crate) fn contact_ms(&self) -> u64 {
        self.contact_ms.load(Ordering::Relaxed)
    }

    /// The main loop lives.
    pub(crate) fn record_pulse(&self) {
        self.pulse_ms.store(boottime_ms(), Ordering::Relaxed);
    }

    /// How long ago the main loop gave a sign of life, in milliseconds.
    pub(crate) fn pulse_age_ms(&self) -> u64 {
        boottime_ms().saturating_sub(self.pulse_ms.load(Ordering::Relaxed))
    }

    /// Stops what may be given to somebody else soon: TERM after 15 s without contact, KILL at 25 s, and KILL
    /// 5 s before the end of a lease that was not renewed although there is contact.
    pub(crate) fn enforce_leases(&self, now_ms: u64) {
        let silence = now_ms.saturating_sub(self.contact_ms());
        if silence >= SELF_KILL_SECONDS * 1_000 {
            self.tell_all(Event::Kill(Cause::LostContact));
        } else if silence >= SELF_TERM_SECONDS * 1_000 {
            self.tell_all(Event::Stop(Cause::LostContact));
        }
        for held in self.lock().held.values() {
            if held.lease_until_ms.saturating_sub(5_000) <= now_ms {
                let _ = held.control.send(Event::Kill(Cause::LostContact));
            }
        }
    }
}

impl Inner {
    fn remember(&mut self, key: AttemptKey) {
        if self.finished.insert(key.clone()) {
            self.finished_order.push_back(key);
        }
        while self.finished_order.len() > FINISHED_LIMIT {
            if let Some(oldest) = self.finished_order.pop_front() {
                self.finished.remove(&oldest);
            }
        }
    }
}
