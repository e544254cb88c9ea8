//! The exchange: results and free capacity go out, assignments, cancellations and verdicts come back.
//!
//! At most one exchange waits at the server. When there is news while one waits, a newer one goes out at once
//! and the server answers the older. While an exchange that carries news is under way, more news is collected
//! for the next: that is what batches results under load without delaying the first one.

use std::{sync::Arc, time::Duration};

use tidemill_protocol::worker::{AttemptKey, ExchangeRequest, ExchangeResponse, PROTOCOL_VERSION, Verdict};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    Stop,
    attempt::{Slot, drive},
    backoff::Backoff,
    client::CallError,
    clock::boottime_ms,
    context::Context,
    error::Error,
    ledger::Outbox,
    pace::Pace,
};

/// An exchange with news that is not answered within this time does not hold up the next one any longer.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);
/// More exchanges than this at a time help nobody: the server has answered all but the newest.
const MOST_UNDER_WAY: usize = 4;

/// A server that refuses this worker's key for so long has revoked it.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(60);

struct Answer {
    seq: u64,
    started_ms: u64,
    sent: Outbox,
    result: Result<ExchangeResponse, CallError>,
}

/// The exchange with the server.
pub(crate) struct Exchange {
    context: Arc<Context>,
    seq: u64,
    under_way: JoinSet<Answer>,
    /// When the last exchange with news left, while it is not answered.
    news_sent: Option<(u64, Instant)>,
    is_dirty: bool,
    backoff: Backoff,
    not_before: Instant,
    has_had_contact: bool,
    /// Since when the server has refused the key.
    refused_since: Option<Instant>,
    /// How many results the next exchange carries at most: one at a time while the server refuses some.
    most_results: usize,
    is_draining: bool,
    pace: Pace,
    tries: JoinSet<()>,
}

impl Exchange {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            seq: 0,
            under_way: JoinSet::new(),
            news_sent: None,
            is_dirty: true,
            backoff: Backoff::new(),
            not_before: Instant::now(),
            has_had_contact: false,
            refused_since: None,
            most_results: usize::MAX,
            is_draining: false,
            pace: Pace::new(),
            tries: JoinSet::new(),
        }
    }

    /// Exchanges until everything is over after a request to stop.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::Protocol`] when the server refuses the very first exchange for good.
    pub(crate) async fn run(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<(), Error> {
        loop {
            self.is_draining = *stop.borrow_and_update() != Stop::No;
            if self.is_draining && self.context.ledger.is_empty() && self.tries.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            if self.may_send(now) {
                self.send(now);
            }
            let wake = self.wake_at(now);
            tokio::select! {
                Some(answer) = self.under_way.join_next() => {
                    if let Ok(answer) = answer {
                        self.apply(answer)?;
                    }
                }
                () = self.context.ledger.news.notified() => self.is_dirty = true,
                Some(_) = self.tries.join_next() => {}
                changed = stop.changed() => {
                    self.is_dirty = true;
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
    }

    fn may_send(&self, now: Instant) -> bool {
        if now < self.not_before {
            return false;
        }
        if self.under_way.is_empty() {
            return true;
        }
        let is_free = self.news_sent.is_none_or(|(_, sent_at)| now >= sent_at + NEWS_PATIENCE);
        self.is_dirty && is_free && self.under_way.len() < MOST_UNDER_WAY
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let idle = now + Duration::from_secs(60);
        if now < self.not_before {
            return self.not_before;
        }
        match self.news_sent {
            Some((_, sent_at)) if self.is_dirty => {
                (sent_at + NEWS_PATIENCE).max(now + Duration::from_millis(1))
            }
            _ => idle,
        }
    }

    fn send(&mut self, now: Instant) {
        self.is_dirty = false;
        self.seq += 1;
        let context = &self.context;
        let sent = context.ledger.outbox(self.most_results);
        self.is_dirty = sent.has_more;
        let options = &context.options;
        let prefetch = if self.pace.is_short() { options.prefetch } else { 0 };
        let request = ExchangeRequest {
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            worker: options.worker.clone(),
            boot_id: context.boot_id.clone(),
            seq: self.seq,
            // Nothing of an older incarnation lives since before the first exchange; this says that all of it was told.
            has_swept: sent.has_swept,
            capacity: if self.is_draining { 0 } else { options.slots.saturating_add(prefetch) },
            slots: options.slots,
            queues: options.queues.clone(),
            held: sent.held.clone(),
            results: sent.results.clone(),
            lost: sent.lost.clone(),
        };
        if !sent.results.is_empty() || !sent.lost.is_empty() {
            self.news_sent = Some((self.seq, now));
        }
        let (client, seq) = (context.client.clone(), self.seq);
        self.under_way.spawn(async move {
            let started_ms = boottime_ms();
            let result = client.exchange(&request).await;
            Answer { seq, started_ms, sent, result }
        });
    }

    fn apply(&mut self, answer: Answer) -> Result<(), Error> {
        if self.news_sent.is_some_and(|(seq, _)| seq <= answer.seq) {
            self.news_sent = None;
        }
        let response = match answer.result {
            Ok(response) => response,
            Err(error) => return self.fail(&error, answer.seq, &answer.sent),
        };
        self.has_had_contact = true;
        self.refused_since = None;
        if !answer.sent.has_more {
            self.most_results = usize::MAX;
        }
        self.backoff.reset();
        self.not_before = Instant::now();
        let context = self.context.clone();
        context.ledger.record_contact(answer.started_ms);
        for verdict in response.verdicts.iter().filter(|verdict| verdict.verdict == Verdict::Fenced) {
            tracing::warn!(attempt = ?verdict.attempt, "a result came after the lease had ended and was not applied");
        }
        for report in &answer.sent.results {
            self.pace.add(report.started_at, report.finished_at);
        }
        for folder in context.ledger.settle(&answer.sent, &response) {
            context.remove_folder(folder);
        }
        for assignment in response.assignments {
            if let Some(control) = context.ledger.take(&assignment, answer.started_ms) {
                let slot = Slot::queue(&context.slots);
                self.tries.spawn(drive(context.clone(), assignment, control, slot));
            }
        }
        for cancellation in response.cancellations {
            context.ledger.cancel(&cancellation.attempt, cancellation.reason);
        }
        Ok(())
    }

    fn fail(&mut self, error: &CallError, seq: u64, sent: &Outbox) -> Result<(), Error> {
        self.is_dirty = true;
        // Before the first success a refusal is a mistake of the operator. Later it may be a server that is
        // being repaired, and running tasks are worth waiting for.
        if let (false, CallError::Status { status, detail }) = (self.has_had_contact, error) {
            match *status {
                401 | 403 => return Err(Error::Refused { status: *status }),
                400 | 404 | 426 => {
                    let (version, status, detail) = (PROTOCOL_VERSION, *status, detail.clone());
                    return Err(Error::Protocol { version, status, detail });
                }
                _ => {}
            }
        }
        match error {
            CallError::Status { status: status @ (401 | 403), .. } => {
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= REFUSAL_PATIENCE {
                    return Err(Error::Refused { status: *status });
                }
            }
            // It can read this worker's messages in general, so it is one of the results that it cannot take.
            CallError::Status { status: 400 | 413 | 422, detail } => match sent.results.as_slice() {
                [] => {}
                [result] => self.context.ledger.reduce(&result.attempt, detail),
                _ => self.most_results = 1,
            },
            _ => {}
        }
        if seq == self.seq {
            let pause = self.backoff.next();
            self.not_before = Instant::now() + pause;
            tracing::warn!(error = error as &dyn std::error::Error, ?pause, "an exchange failed");
        }
        Ok(())
    }

    /// Stops driving what is left; for the end of a worker that was told to stop at once.
    pub(crate) fn abandon(&mut self) -> Vec<AttemptKey> {
        self.tries.abort_all();
        self.context.ledger.leased()
    }
}
