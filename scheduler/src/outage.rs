//! Waiting for the store without forgetting the workers.
//!
//! Whatever the loop waits for, heartbeats are answered: a worker that is not answered for long kills its tasks, so
//! a slow disk would look like the death of every worker. What else comes waits for its turn; once the store is late,
//! calls are refused, because their callers have something better to do than to wait for a disk.

use std::{pin::pin, time::Duration};

use tokio::sync::oneshot;

use crate::{
    core::{Core, Exit},
    error::Unavailable,
    handle::QUEUE_LIMIT,
    input::Input,
    view::StoreState,
};
use tidemill_engine::engine::LEASE;

/// How long the excused attempts of an outage may live after trust has ended; a new leader waits that long (and the
/// margin) before it gives up attempts of workers that it has not heard from.
pub(crate) const OUTAGE_LEASE: Duration = Duration::from_secs(120);
/// An answer of the store that takes longer than this is late.
const PATIENCE: Duration = Duration::from_secs(1);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// A time in which the store did not take what was to be written.
#[derive(Debug)]
pub(crate) struct Outage {
    failures: u32,
    /// Until then heartbeats are acknowledged although trust has ended; absent when it had ended before.
    pub(crate) excused_until: Option<Duration>,
}

impl Core {
    /// Waits for an answer of the store.
    pub(crate) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Exit> {
        let mut work = pin!(work);
        let began = self.shared.clock.now().mono;
        let mut patience = self.shared.clock.sleep_until(began + PATIENCE);
        let mut is_late = false;
        loop {
            tokio::select! {
                biased;
                answer = &mut work => return Ok(answer),
                _ = self.stop.changed(), if is_late => return Err(Exit::Stopped),
                _ = self.lost.changed(), if is_late => return Err(Exit::TermLost),
                () = &mut patience, if !is_late => {
                    is_late = true;
                    self.begin_outage(began, "it has not answered for a while");
                }
                Some(input) = self.inbox.recv() => self.wait_with(input, is_late),
            }
        }
    }

    fn wait_with(&mut self, input: Input, is_late: bool) {
        match input {
            Input::Heartbeat { request, reply } => {
                let answer = self.renew(&request, self.shared.clock.now());
                if answer.is_ok() {
                    // The engine learns of it when its turn comes; nobody waits for that any more.
                    let (nobody, _) = oneshot::channel();
                    self.deferred.push_back(Input::Heartbeat { request, reply: nobody });
                }
                let _ = reply.send(answer);
            }
            input if is_late => self.hold(input, "it has not answered for a while"),
            input if self.deferred.len() >= QUEUE_LIMIT => input.refuse(&Unavailable::Overloaded),
            input => self.deferred.push_back(input),
        }
    }

    /// Notes that the store has not done since `began` what it was asked.
    ///
    /// Heartbeats are then excused for a while after trust has ended, if it had not ended when the failure began. The
    /// end is tied to the end of trust, not to the beginning of the outage: after the last acknowledgement a worker
    /// works on for one lease, and all of that must be over when a new leader begins to give attempts up.
    pub(crate) fn begin_outage(&mut self, began: Duration, reason: &str) {
        if self.outage.is_none() {
            tracing::error!(reason, "the store does not answer as it should; nothing new is started");
            let is_trusted = self.trust.holds(began);
            let excused_until =
                is_trusted.then(|| self.trust.end().saturating_add(OUTAGE_LEASE).saturating_sub(LEASE));
            self.outage = Some(Outage { failures: 0, excused_until });
        }
        self.set_store_state(StoreState::Degraded { reason: reason.to_owned() });
    }

    /// Waits before the store is tried again. Heartbeats are acknowledged meanwhile, calls are refused, and
    /// everything else waits.
    pub(crate) async fn endure(&mut self, reason: String) -> Result<(), Exit> {
        let now = self.shared.clock.now().mono;
        self.begin_outage(now, &reason);
        let failures = self.outage.as_mut().map_or(1, |outage| {
            outage.failures += 1;
            outage.failures
        });
        let backoff = FIRST_BACKOFF.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_BACKOFF);
        self.wait_out(now + backoff, &reason).await
    }

    /// Waits until an instant as [`Self::endure`] does.
    pub(crate) async fn wait_out(&mut self, until: Duration, reason: &str) -> Result<(), Exit> {
        let mut sleep = self.shared.clock.sleep_until(until);
        loop {
            tokio::select! {
                biased;
                _ = self.stop.changed() => return Err(Exit::Stopped),
                _ = self.lost.changed() => return Err(Exit::TermLost),
                input = self.inbox.recv() => match input {
                    Some(input) => self.hold(input, reason),
                    None => { (&mut sleep).await; return Ok(()) }
                },
                () = &mut sleep => return Ok(()),
            }
        }
    }

    fn hold(&mut self, input: Input, reason: &str) {
        let now = self.shared.clock.now();
        match input {
            Input::Heartbeat { request, reply } => {
                let _ = reply.send(self.renew(&request, now));
            }
            // What is shown may be undone when the batch is refused; a reason that may change is better than none.
            Input::Explain { key, reply } => {
                let _ = reply.send(Ok(self.engine.explain(&key, now)));
            }
            Input::Ask(question) => question.answer(&self.engine, now),
            input @ (Input::Folder(_) | Input::Outbox { .. }) => self.deferred.push_back(input),
            other => other.refuse(&Unavailable::Store { reason: reason.to_owned() }),
        }
        self.shared.update_status(|status| status.last_tick = now.mono);
    }

    /// Ends an outage: the silence of the workers meanwhile was ours.
    pub(crate) fn recovered(&mut self) {
        if self.outage.take().is_some() {
            tracing::info!("the store answers again");
            self.must_renew = true;
            self.set_store_state(StoreState::Ok);
        }
    }
}
