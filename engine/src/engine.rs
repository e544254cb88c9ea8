//! The state machine.

use crate::{action::Action, event::Event, ids::TaskInstanceKey, now::Now, wait_reason::WaitReason};

/// All active dag runs and what they need, in memory.
#[derive(Clone, Debug, Default)]
pub struct Engine {}

impl Engine {
    /// Applies one event at `now` and returns what must now happen, in order.
    pub fn step(&mut self, _event: Event, _now: Now) -> Vec<Action> {
        Vec::new()
    }

    /// Returns the next instant at which a tick can change anything.
    #[must_use]
    pub fn wake_at(&self) -> Option<Now> {
        None
    }

    /// Returns why a task instance is not running; the first reason is the one that holds it back first.
    #[must_use]
    pub fn explain(&self, _key: &TaskInstanceKey, _now: Now) -> Vec<WaitReason> {
        Vec::new()
    }
}
