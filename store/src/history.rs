//! What a DAG, a run or a task has been doing: what the charts of the pages are drawn from.
//!
//! A trait of its own, because [`Reader`](crate::Reader) is long; whoever has the one has the other.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_engine::{
    ids::{DagId, RunKey, TaskId, TaskInstanceKey},
    rows::{RunRow, TaskRow, TryRow},
    state::RunState,
};

use crate::{
    error::ReadError,
    reader::{RunBar, StoredReport},
};

/// How long a span of [`HistoryReader::run_counts`] is, in microseconds. No time zone of today is off by less than a
/// quarter of an hour, so a calendar day of any of them is made of whole spans.
pub const COUNT_SPAN_MICROS: i64 = 15 * 60 * 1_000_000;

/// How many runs of one state have their logical date within a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunCount {
    /// The begin of the span.
    pub from: DateTime<Utc>,
    /// The state.
    pub state: RunState,
    /// How many.
    pub count: u64,
}

/// A task in one of the last runs of its DAG.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskPoint {
    /// The run.
    pub run: RunBar,
    /// The task instance in it.
    pub task: TaskRow,
}

/// The part of the reading side that looks back.
#[async_trait]
pub trait HistoryReader: Send + Sync {
    /// Returns the run that a task means which waits for a logical date of a DAG: of several with the same date the first
    /// by [`tidemill_engine::preparation::FoundRun::rank`]. Without a date it is the newest.
    ///
    /// # Errors
    /// As those of [`crate::Reader`].
    async fn run_on(&self, dag_id: &DagId, date: Option<DateTime<Utc>>) -> Result<Option<RunRow>, ReadError>;

    /// Returns the runs that a task instance triggered, the newest first.
    ///
    /// # Errors
    /// As those of [`crate::Reader`].
    async fn triggered_runs(&self, origin: &TaskInstanceKey, limit: u32) -> Result<Vec<RunRow>, ReadError>;

    /// Counts a DAG's runs with `since` ≤ logical date < `before`, by span and state, the oldest first. Costs the runs
    /// within the window, from an index alone.
    ///
    /// # Errors
    /// STO0301, STO0303, as of every method here.
    async fn run_counts(
        &self,
        dag_id: &DagId,
        since: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> Result<Vec<RunCount>, ReadError>;

    /// Returns the unmapped instance of a task in each of the DAG's last `limit` runs (at most
    /// [`PAGE_LIMIT`](crate::reader::PAGE_LIMIT)), the newest first. Runs without one are left out.
    ///
    /// # Errors
    /// As above.
    async fn task_history(
        &self,
        dag_id: &DagId,
        task: &TaskId,
        limit: u32,
    ) -> Result<Vec<TaskPoint>, ReadError>;

    /// Returns the tries of a run, by task and element, the oldest first; at most `limit`.
    ///
    /// # Errors
    /// As above.
    async fn run_tries(&self, run: RunKey, limit: u32) -> Result<Vec<TryRow>, ReadError>;

    /// Returns the newest report of each task instance of a run, by task and element; at most `limit`.
    ///
    /// # Errors
    /// As above.
    async fn run_reports(&self, run: RunKey, limit: u32) -> Result<Vec<StoredReport>, ReadError>;
}
