//! What the scheduler shows of itself.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_engine::ids::{AttemptKey, WorkerId};

/// A connected worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its name.
    pub worker: WorkerId,
    /// Its incarnation.
    pub boot_id: String,
    /// Its product version.
    pub version: String,
    /// The queues that it serves.
    pub queues: Vec<String>,
    /// How many attempts it executes at a time.
    pub slots: u32,
    /// How many attempts it is willing to hold; 0 while it drains.
    pub capacity: u32,
    /// What it holds.
    pub attempts: Vec<AttemptKey>,
    /// When this incarnation first connected.
    pub connected_at: DateTime<Utc>,
    /// When it was last heard of.
    pub last_contact_at: DateTime<Utc>,
}

/// Whether the store takes what the scheduler writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StoreState {
    /// The last commit went through.
    Ok,
    /// The last commit failed and is being repeated; nothing new is started.
    Degraded {
        /// Why.
        reason: String,
    },
}

/// How the scheduler is. Health means progress, not reachability: look at the age of the last tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether this server leads.
    pub is_leader: bool,
    /// The leadership term.
    pub term: i64,
    /// How long ago the loop last finished a round.
    pub last_tick_age: Duration,
    /// The store.
    pub store: StoreState,
    /// How many messages wait for the loop.
    pub queue_depth: usize,
    /// How many messages may wait.
    pub queue_limit: usize,
    /// How many DAG files could not be loaded.
    pub import_errors: usize,
    /// How many dag runs are set aside because the store refused their rows.
    pub quarantined_runs: usize,
}

impl Health {
    /// Whether the scheduler makes progress: it leads, ticked within ten seconds and can write.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.is_leader && self.store == StoreState::Ok && self.last_tick_age < Duration::from_secs(10)
    }
}
