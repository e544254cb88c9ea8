//! Both clocks, read in one place.
//!
//! The engine gets time as an argument and the loop is the only reader of a [`Clock`], so a test owns
//! time by owning the clock. A clock also knows how to wait, because a hand-driven clock must wake sleepers.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, Utc};
use tidemill_engine::now::Now;
use tokio::sync::watch;

/// A future that a clock hands out.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Time for the scheduler loop. Its wall clock counts whole microseconds, which is what stores keep: what the
/// engine holds must equal what is read back.
pub trait Clock: Send + Sync + 'static {
    /// Returns the present instant on both clocks.
    fn now(&self) -> Now;
    /// Returns a future that is ready once the monotonic clock has reached `deadline`.
    fn sleep_until(&self, deadline: Duration) -> Sleep;
}

/// The clocks of the machine.
#[derive(Clone, Debug)]
pub struct SystemClock {
    origin: tokio::time::Instant,
}

impl SystemClock {
    /// Starts the monotonic clock at zero.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { wall: Utc::now().trunc_subsecs(6), mono: self.origin.elapsed() }
    }

    fn sleep_until(&self, deadline: Duration) -> Sleep {
        Box::pin(tokio::time::sleep_until(self.origin + deadline))
    }
}

/// A clock that moves only when it is told to; for tests.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<watch::Sender<Now>>,
}

impl ManualClock {
    /// Starts at `wall` with the monotonic clock at zero.
    #[must_use]
    pub fn new(wall: DateTime<Utc>) -> Self {
        Self { now: Arc::new(watch::Sender::new(Now { wall, mono: Duration::ZERO })) }
    }

    /// Moves both clocks forward and wakes who waited for it.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| {
            now.mono += by;
            now.wall += chrono::TimeDelta::from_std(by).unwrap_or(chrono::TimeDelta::MAX);
        });
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn jump_to(&self, wall: DateTime<Utc>) {
        self.now.send_modify(|now| now.wall = wall);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        *self.now.borrow()
    }

    fn sleep_until(&self, deadline: Duration) -> Sleep {
        let mut receiver = self.now.subscribe();
        Box::pin(async move {
            if receiver.wait_for(|now| now.mono >= deadline).await.is_err() {
                // The clock is gone, so this instant never comes.
                std::future::pending::<()>().await;
            }
        })
    }
}
