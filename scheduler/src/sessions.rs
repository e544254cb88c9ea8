//! Connected workers and their parked exchanges.
//!
//! ```text
//! exchange ─▶ admit ──▶ step, commit ──▶ something to say? ── yes ─▶ answer
//!               │                              │ no
//!               │ newer one of the same start  ▼
//!               └──────── answers ◀──────── parked ≤ 20 s
//! ```
//!
//! Nothing is queued for a worker that is not listening: what it should hold and does not list is assigned
//! again by the engine at its next exchange, and so is a cancellation.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tidemill_engine::{
    ids::{AttemptKey, WorkerId},
    now::Now,
};
use tidemill_protocol::worker::{
    Assignment, Cancellation, EXCHANGE_HOLD_SECONDS, ExchangeRequest, ExchangeResponse, LEASE_SECONDS,
    ResultVerdict,
};

use crate::{error::InvalidRequest, input::ReplyTo};

/// A cancellation, or an assignment that was delivered already, is repeated at once only after this long:
/// the worker may be busy with the first one, and answering each of its exchanges at once would spin.
const REPEAT_AFTER: Duration = Duration::from_secs(2);
/// How many earlier incarnations of a worker are remembered, so that a delayed message of one is recognised.
const REMEMBERED_BOOTS: usize = 8;

/// An exchange that waits for its answer.
#[derive(Debug)]
pub(crate) struct OpenExchange {
    pub(crate) worker: WorkerId,
    pub(crate) boot_id: String,
    pub(crate) response: ExchangeResponse,
    reply: ReplyTo<ExchangeResponse>,
    /// When it is answered whatever there is to say.
    answer_at: Duration,
    /// There is something to say at once.
    is_urgent: bool,
}

impl OpenExchange {
    pub(crate) fn add_verdict(&mut self, verdict: ResultVerdict) {
        self.response.verdicts.push(verdict);
        self.is_urgent = true;
    }

    pub(crate) fn answer(self) {
        let _ = self.reply.send(Ok(self.response));
    }

    pub(crate) fn fail(self, error: impl Into<crate::error::CallError>) {
        let _ = self.reply.send(Err(error.into()));
    }
}

/// One connected worker.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) boot_id: String,
    pub(crate) version: String,
    pub(crate) queues: Vec<String>,
    pub(crate) slots: u32,
    pub(crate) capacity: u32,
    pub(crate) connected_at: DateTime<Utc>,
    pub(crate) last_contact: Now,
    newest_seq: u64,
    parked: Option<OpenExchange>,
    /// What this incarnation was told, and when: assignments and cancellations by attempt.
    told: BTreeMap<(AttemptKey, bool), Duration>,
    /// When old entries of `told` were last dropped.
    told_swept: Duration,
}

/// How an exchange was received.
pub(crate) enum Admission {
    /// It is the newest; the engine learns what it says.
    Newest,
    /// A newer one of the same incarnation came first: only its results count.
    Overtaken,
}

/// Every connected worker.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) connected: BTreeMap<WorkerId, Session>,
    retired: BTreeMap<WorkerId, VecDeque<String>>,
}

impl Sessions {
    fn is_retired(&self, worker: &WorkerId, boot_id: &str) -> bool {
        self.retired.get(worker).is_some_and(|boots| boots.iter().any(|boot| boot == boot_id))
    }

    fn retire(&mut self, worker: &WorkerId, boot_id: String) {
        let boots = self.retired.entry(worker.clone()).or_default();
        boots.push_back(boot_id);
        if boots.len() > REMEMBERED_BOOTS {
            boots.pop_front();
        }
    }

    /// Notes a sign of life.
    ///
    /// # Errors
    /// [`InvalidRequest::Replaced`] when a newer incarnation has connected.
    pub(crate) fn touch(&mut self, worker: &WorkerId, boot_id: &str, now: Now) -> Result<(), InvalidRequest> {
        if self.is_retired(worker, boot_id) {
            return Err(InvalidRequest::Replaced { worker: worker.to_string() });
        }
        if let Some(session) = self.connected.get_mut(worker)
            && session.boot_id == boot_id
        {
            session.last_contact = now;
        }
        Ok(())
    }

    /// Receives an exchange; a parked older one of the worker is answered.
    ///
    /// # Errors
    /// [`InvalidRequest::Replaced`] when a newer incarnation has connected.
    pub(crate) fn admit(&mut self, request: &ExchangeRequest, now: Now) -> Result<Admission, InvalidRequest> {
        self.touch(&request.worker, &request.boot_id, now)?;
        let is_new = self.connected.get(&request.worker).is_none_or(|known| known.boot_id != request.boot_id);
        if is_new {
            if let Some(old) = self.connected.remove(&request.worker) {
                self.retire(&request.worker, old.boot_id);
                if let Some(parked) = old.parked {
                    parked.fail(InvalidRequest::Replaced { worker: request.worker.to_string() });
                }
            }
            let session = Session {
                boot_id: request.boot_id.clone(),
                version: String::new(),
                queues: Vec::new(),
                slots: 0,
                capacity: 0,
                connected_at: now.wall,
                last_contact: now,
                newest_seq: 0,
                parked: None,
                told: BTreeMap::new(),
                told_swept: now.mono,
            };
            self.connected.insert(request.worker.clone(), session);
        }
        let Some(session) = self.connected.get_mut(&request.worker) else { return Ok(Admission::Overtaken) };
        // The same number twice is a repetition of the same exchange: it replaces the first.
        if request.seq < session.newest_seq {
            return Ok(Admission::Overtaken);
        }
        session.newest_seq = request.seq;
        session.version.clone_from(&request.version);
        session.queues.clone_from(&request.queues);
        session.slots = request.slots;
        session.capacity = request.capacity;
        if let Some(parked) = session.parked.take() {
            parked.answer();
        }
        Ok(Admission::Newest)
    }

    /// Opens an exchange that was admitted.
    pub(crate) fn open(
        request: &ExchangeRequest,
        reply: ReplyTo<ExchangeResponse>,
        now: Now,
    ) -> OpenExchange {
        OpenExchange {
            worker: request.worker.clone(),
            boot_id: request.boot_id.clone(),
            response: ExchangeResponse { seq: request.seq, ..ExchangeResponse::default() },
            reply,
            answer_at: now.mono + Duration::from_secs(EXCHANGE_HOLD_SECONDS),
            is_urgent: false,
        }
    }

    /// Parks an exchange whose batch is committed; one that was overtaken meanwhile is answered.
    pub(crate) fn park(&mut self, exchange: OpenExchange) {
        match self.connected.get_mut(&exchange.worker) {
            Some(session)
                if session.boot_id == exchange.boot_id && session.newest_seq == exchange.response.seq =>
            {
                if let Some(older) = session.parked.replace(exchange) {
                    older.answer();
                }
            }
            _ => exchange.answer(),
        }
    }

    /// Adds an assignment to the worker's parked exchange, when it has one.
    pub(crate) fn assign(&mut self, worker: &WorkerId, assignment: Assignment, now: Duration) {
        let Some(session) = self.connected.get_mut(worker) else { return };
        let Some(parked) = session.parked.as_mut() else { return };
        let told = session.told.insert((assignment.attempt.clone(), false), now);
        parked.response.assignments.push(assignment);
        parked.hurry(told, now);
    }

    /// Adds a cancellation to the worker's parked exchange, when it has one.
    pub(crate) fn cancel(&mut self, worker: &WorkerId, cancellation: Cancellation, now: Duration) {
        let Some(session) = self.connected.get_mut(worker) else { return };
        let Some(parked) = session.parked.as_mut() else { return };
        let key = (cancellation.attempt.clone(), true);
        let told = session.told.get(&key).copied();
        parked.response.cancellations.push(cancellation);
        parked.hurry(told, now);
    }

    /// Answers every parked exchange that has something to say or has been held long enough.
    pub(crate) fn answer_due(&mut self, now: Duration) {
        for session in self.connected.values_mut() {
            let is_due = session.parked.as_ref().is_some_and(|parked| {
                parked.is_urgent || parked.answer_at <= now || parked.reply.is_closed()
            });
            if is_due && let Some(parked) = session.parked.take() {
                for cancellation in &parked.response.cancellations {
                    session.told.insert((cancellation.attempt.clone(), true), now);
                }
                parked.answer();
                // Now and then only: a look at every entry per answer would grow with the load twice.
                if session.told_swept + REPEAT_AFTER <= now {
                    session.told_swept = now;
                    session.told.retain(|_, at| *at + REPEAT_AFTER * 2 > now);
                }
            }
        }
    }

    /// Returns when the next parked exchange must be answered.
    pub(crate) fn next_answer(&self) -> Option<Duration> {
        self.connected
            .values()
            .filter_map(|session| session.parked.as_ref())
            .map(|parked| parked.answer_at)
            .min()
    }

    /// Removes and returns the workers that were not heard of for a lease.
    pub(crate) fn take_silent(&mut self, now: Duration) -> Vec<(WorkerId, String)> {
        let lease = Duration::from_secs(LEASE_SECONDS);
        let silent: Vec<WorkerId> = self
            .connected
            .iter()
            .filter(|(_, session)| session.last_contact.mono + lease <= now && session.parked.is_none())
            .map(|(worker, _)| worker.clone())
            .collect();
        silent
            .into_iter()
            .filter_map(|worker| self.connected.remove(&worker).map(|session| (worker, session.boot_id)))
            .collect()
    }

    /// Answers every parked exchange with an error; after a rebuild the workers say again what they hold.
    pub(crate) fn fail_parked(&mut self, error: &crate::error::Unavailable) {
        for session in self.connected.values_mut() {
            if let Some(parked) = session.parked.take() {
                parked.fail(error.clone());
            }
        }
    }
}

impl OpenExchange {
    fn hurry(&mut self, told: Option<Duration>, now: Duration) {
        match told.map(|at| at + REPEAT_AFTER).filter(|repeat| *repeat > now) {
            None => self.is_urgent = true,
            Some(repeat) => self.answer_at = self.answer_at.min(repeat),
        }
    }
}
