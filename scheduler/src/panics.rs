//! A mistake of ours that panics stops neither the server nor, quietly, the scheduler.
//!
//! The loop is the only writer of everything that it holds, and all of that can be built again from the store. So a
//! panic is caught, counted and answered like a commit that did not happen: everybody who waits is told, and the
//! engine is rebuilt. A panic that comes again and again leaves the server reachable and unhealthy, and says why.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::Duration,
};

use crate::{
    core::{Core, Exit},
    error::Unavailable,
};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// A panic that is this long after the one before begins a new series.
const SERIES: Duration = Duration::from_secs(120);

/// Panics of the loop, in a row.
#[derive(Debug, Default)]
pub(crate) struct Panics {
    in_a_row: u32,
    last: Duration,
}

/// Runs a future to its end or to its panic, which is returned in words.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(words(&*panic))),
    })
    .await
}

/// Returns what a panic says.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

impl Core {
    /// Goes on after a panic: nobody was told of what was not stored, and everything is built anew.
    pub(crate) async fn recover(&mut self, mut panic: String) -> Result<(), Exit> {
        loop {
            let now = self.shared.clock.now().mono;
            let is_series = self.panics.last + SERIES > now;
            self.panics.in_a_row = if is_series { self.panics.in_a_row.saturating_add(1) } else { 1 };
            self.panics.last = now;
            let reason = format!("SCH0503: the scheduler met a mistake of its own and is rebuilt: {panic}");
            tracing::error!(
                code = "SCH0503",
                panic,
                in_a_row = self.panics.in_a_row,
                "the scheduler panicked"
            );
            self.fail_round(&Unavailable::NotCommitted { reason: reason.clone() }, false);
            self.begin_outage(now, &reason);
            let backoff = FIRST_BACKOFF.saturating_mul(1 << (self.panics.in_a_row - 1).min(8));
            self.wait_out(now + backoff, &reason).await?;
            match caught(self.rebuild()).await {
                Ok(result) => return result,
                Err(again) => panic = again,
            }
        }
    }
}
