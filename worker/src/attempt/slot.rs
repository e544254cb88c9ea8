//! A place in the queue for a slot.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

type Waiting = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A place in the queue for a slot, taken when it is made. Tries are driven by tasks that the runtime starts in
/// any order; the server's order, which is that of priorities, must not depend on it.
pub(crate) struct Slot {
    waiting: Waiting,
    first: Option<Option<OwnedSemaphorePermit>>,
}

impl Slot {
    pub(crate) fn queue(slots: &Arc<Semaphore>) -> Self {
        // Without the runtime's budget, which would refuse the place after a hundred of them.
        let mut waiting: Waiting = Box::pin(tokio::task::unconstrained(slots.clone().acquire_owned()));
        // The first look takes the place. Whoever waits for it looks again and leaves a waker of its own.
        let first = match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit.ok()),
            Poll::Pending => None,
        };
        Self { waiting, first }
    }

    /// Waits for the slot.
    pub(crate) async fn acquire(mut self) -> Option<OwnedSemaphorePermit> {
        match self.first.take() {
            Some(permit) => permit,
            None => poll_fn(|context| self.waiting.as_mut().poll(context)).await.ok(),
        }
    }
}
