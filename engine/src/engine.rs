//! The state machine.

use chrono::{DateTime, Utc};

use crate::{
    action::Action,
    event::Event,
    ids::{AttemptKey, DagId, TaskInstanceKey, WorkerId},
    now::Now,
    rows::EngineSnapshot,
    wait_reason::WaitReason,
};

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

    /// Builds the engine from what is stored. Leased attempts get a whole lease from `now`.
    #[must_use]
    pub fn restore(_snapshot: EngineSnapshot, _now: Now) -> Self {
        Self {}
    }

    /// Returns the dates for which a tick at `now` would create a scheduled run, so that the loop can look up
    /// which of them have one already (a changed timetable can come to a date again).
    #[must_use]
    pub fn due_dates(&self, _now: Now) -> Vec<(DagId, DateTime<Utc>)> {
        Vec::new()
    }

    /// Whether the attempt is the newest of its instance and leased to this worker.
    #[must_use]
    pub fn has_lease(&self, _attempt: &AttemptKey, _worker: &WorkerId) -> bool {
        false
    }

    /// Returns what must be equal after a rebuild, in canonical order.
    #[must_use]
    pub fn durable(&self) -> EngineSnapshot {
        EngineSnapshot::default()
    }

    /// Returns why a task instance is not running; the first reason is the one that holds it back first.
    #[must_use]
    pub fn explain(&self, _key: &TaskInstanceKey, _now: Now) -> Vec<WaitReason> {
        Vec::new()
    }
}
