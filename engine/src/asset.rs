//! Events on assets: what is stored of them, what the engine wants done with them, and why none has made a run.
//!
//! ```text
//! a task with outlets succeeds ─┐                          ┌─▶ asset_event          the history
//! somebody posts an event ──────┴─▶ AssetChange::Event ────┴─▶ asset_queue          one row per DAG that listens
//!                                   AssetChange::Take  ──────▶ queue rows of a DAG become causes of its new run
//!                                   AssetChange::Drop  ──────▶ queue rows go: the DAG listens to that asset no more
//! ```
//!
//! **Invariant:** an event is queued for a DAG at most once, in the commit that stores the event, and leaves the queue in
//! the commit that stores the run which it causes. So it is never counted twice and never lost.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{AssetName, DagId, RunId, RunKey, TaskId};

/// The engine's number for an asset event. Assigned in the order in which they happen and never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AssetEventId(pub i64);

impl fmt::Display for AssetEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// More about an event, as its sender said it.
pub type AssetExtra = Arc<serde_json::Map<String, serde_json::Value>>;

/// An event on an asset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssetEventRow {
    /// The engine's number.
    pub id: AssetEventId,
    /// The asset.
    pub asset: AssetName,
    /// When, by the wall clock of the commit that it is part of.
    pub at: DateTime<Utc>,
    /// Start of the data that it is about: that of the run that made it, else `at`.
    pub interval_start: DateTime<Utc>,
    /// End of the data that it is about.
    pub interval_end: DateTime<Utc>,
    /// Who made it.
    pub source: AssetSource,
    /// What its sender said about it.
    pub extra: AssetExtra,
}

/// Who made an asset event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AssetSource {
    /// A task with the asset among its outlets succeeded.
    Task {
        /// Its DAG.
        dag_id: DagId,
        /// The number of its run.
        run: RunKey,
        /// The id of its run.
        run_id: RunId,
        /// The task.
        task: TaskId,
        /// The element, −1 when not mapped.
        map_index: i32,
        /// The try that succeeded; 0 for what never leaves the engine.
        try_number: u32,
    },
    /// It was posted.
    Posted {
        /// By whom, where that is known.
        by: Option<String>,
    },
}

/// What waits for one DAG of one asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetQueueRow {
    /// The DAG.
    pub dag_id: DagId,
    /// The asset.
    pub asset: AssetName,
    /// How many events.
    pub count: u64,
    /// The earliest of them.
    pub first_at: DateTime<Utc>,
    /// The latest of them.
    pub last_at: DateTime<Utc>,
    /// The earliest start of what they are about.
    pub interval_start: DateTime<Utc>,
    /// The latest end of what they are about.
    pub interval_end: DateTime<Utc>,
    /// The one with the highest number.
    pub newest: AssetEventId,
}

impl AssetQueueRow {
    /// Returns the queue of a DAG that holds one event.
    #[must_use]
    pub fn of(dag_id: DagId, event: &AssetEventRow) -> Self {
        Self {
            dag_id,
            asset: event.asset.clone(),
            count: 1,
            first_at: event.at,
            last_at: event.at,
            interval_start: event.interval_start,
            interval_end: event.interval_end,
            newest: event.id,
        }
    }

    /// Adds an event.
    pub fn add(&mut self, event: &AssetEventRow) {
        self.count += 1;
        self.first_at = self.first_at.min(event.at);
        self.last_at = self.last_at.max(event.at);
        self.interval_start = self.interval_start.min(event.interval_start);
        self.interval_end = self.interval_end.max(event.interval_end);
        self.newest = self.newest.max(event.id);
    }
}

/// What is to be written about assets. The order counts: what an earlier change queued, a later one takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetChange {
    /// An event happened.
    Event {
        /// It.
        row: AssetEventRow,
        /// The DAGs that it is queued for.
        queued_for: Vec<DagId>,
    },
    /// A new run takes everything that is queued for its DAG.
    Take {
        /// The DAG.
        dag_id: DagId,
        /// The run.
        run: RunKey,
        /// How many events that are; the store refuses another number.
        count: u64,
    },
    /// The DAG listens to assets no more; what is queued of them is dropped from the queue, not from the history.
    Drop {
        /// The DAG.
        dag_id: DagId,
        /// The assets.
        assets: Vec<AssetName>,
        /// How many events that are; the store refuses another number.
        count: u64,
    },
}

/// How a DAG with an asset schedule stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetStatus {
    /// Whether an event on one of the assets is enough.
    pub any: bool,
    /// Each asset of the schedule, in order.
    pub assets: Vec<AssetQueued>,
    /// Why no run is made; the first is what holds it back first. Never empty.
    pub waits: Vec<AssetWait>,
}

/// What of one asset waits for a DAG.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetQueued {
    /// The asset.
    pub asset: AssetName,
    /// How many events since the last run that took any.
    pub count: u64,
    /// The earliest of them.
    pub first_at: Option<DateTime<Utc>>,
    /// The latest of them.
    pub last_at: Option<DateTime<Utc>>,
}

/// Why a DAG with an asset schedule gets no run by its assets at present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum AssetWait {
    /// Its file is gone.
    FileMissing,
    /// It is paused; events are queued meanwhile.
    DagPaused,
    /// `max_active_runs` is reached; events are queued meanwhile.
    RunLimit {
        /// How many runs are active.
        active: u32,
        /// The limit.
        limit: u32,
    },
    /// Assets have had no event.
    Assets {
        /// Which.
        missing: Vec<AssetName>,
        /// Whether an event on one of them is enough.
        any: bool,
    },
    /// Events before `start_date` are not queued.
    NotBegun {
        /// When it begins.
        at: DateTime<Utc>,
    },
    /// Events after `end_date` are not queued.
    Over {
        /// When it was over.
        at: DateTime<Utc>,
    },
    /// It is next.
    Next,
}

impl AssetWait {
    /// Returns the stable word of the reason.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::FileMissing => "file_missing",
            Self::DagPaused => "dag_paused",
            Self::RunLimit { .. } => "run_limit",
            Self::Assets { .. } => "assets",
            Self::NotBegun { .. } => "not_begun",
            Self::Over { .. } => "over",
            Self::Next => "next",
        }
    }
}

/// Prints the reason as a sentence without a full stop, for people.
impl fmt::Display for AssetWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = |at: &DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        match self {
            Self::FileMissing => f.write_str("its file is missing; events are queued meanwhile"),
            Self::DagPaused => f.write_str("it is paused; events are queued meanwhile"),
            Self::RunLimit { active, limit } => write!(
                f,
                "{active} of max_active_runs = {limit} runs are active; events are queued meanwhile"
            ),
            Self::Assets { missing, any } => {
                f.write_str(if *any { "waits for an event on one of " } else { "waits for an event on " })?;
                for (index, asset) in missing.iter().take(8).enumerate() {
                    write!(f, "{}{asset}", if index > 0 { ", " } else { "" })?;
                }
                match missing.len().checked_sub(8) {
                    Some(more) if more > 0 => write!(f, " and {more} more"),
                    _ => Ok(()),
                }
            }
            Self::NotBegun { at } => write!(f, "it begins at {}; earlier events do not count", date(at)),
            Self::Over { at } => write!(f, "its end_date {} is over; later events do not count", date(at)),
            Self::Next => f.write_str("its run is made with the next tick"),
        }
    }
}
