//! What is read of backfills: lists with their progress, their dates, and what the loop looks up for them.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tidemill_engine::{
    backfill::{BackfillDate, BackfillRow, BackfillState, DatedRun},
    ids::{BackfillKey, DagId},
    state::RunState,
};

use crate::{
    error::ReadError,
    pages::{Page, PageRequest, RunBar},
};

/// Which backfills a list shows, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackfillQuery {
    /// The page.
    pub page: PageRequest,
    /// Only of this DAG.
    pub dag_id: Option<DagId>,
    /// Only in one of these states; empty: all.
    pub states: Vec<BackfillState>,
}

/// How many runs of a backfill are in which state, and how long those took that have ended by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCounts {
    /// Waiting for the limit.
    pub queued: u64,
    /// Running.
    pub running: u64,
    /// Parked for a person.
    pub paused: u64,
    /// Succeeded.
    pub success: u64,
    /// Failed.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Microseconds between start and end, over `timed` runs.
    pub total_micros: i64,
    /// How many runs `total_micros` is of.
    pub timed: u64,
}

/// A backfill with its progress.
#[derive(Clone, Debug, PartialEq)]
pub struct BackfillItem {
    /// Its row.
    pub row: BackfillRow,
    /// Its runs, as they are now.
    pub runs: RunCounts,
}

/// A date of a backfill with its run.
#[derive(Clone, Debug, PartialEq)]
pub struct BackfillDateItem {
    /// What became of it.
    pub date: BackfillDate,
    /// Its run as it is now; absent where retention has taken it.
    pub run: Option<RunBar>,
}

/// Which backfill an `Idempotency-Key` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillIdempotencyRow {
    /// SHA-256 of actor, route and key, hexadecimal.
    pub key_hash: String,
    /// SHA-256 of the request's body, hexadecimal.
    pub request_hash: String,
    /// The backfill.
    pub backfill: BackfillKey,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// The part of [`crate::Reader`] that is about backfills.
#[async_trait]
pub trait BackfillReader: Send + Sync {
    /// Returns the scheduled and backfill runs that these dates of a DAG have.
    ///
    /// # Errors
    /// STO0301, STO0302, STO0303, as of every method here.
    async fn dated_runs(&self, dag_id: &DagId, dates: &[DateTime<Utc>]) -> Result<Vec<DatedRun>, ReadError>;

    /// Returns backfills with their progress, the newest first.
    ///
    /// # Errors
    /// As above.
    async fn backfills(&self, query: &BackfillQuery) -> Result<Page<BackfillItem>, ReadError>;

    /// Returns a backfill with its progress.
    ///
    /// # Errors
    /// As above.
    async fn backfill(&self, key: BackfillKey) -> Result<Option<BackfillItem>, ReadError>;

    /// Returns the dates that a backfill has dealt with, by date.
    ///
    /// # Errors
    /// As above.
    async fn backfill_dates(
        &self,
        key: BackfillKey,
        page: &PageRequest,
    ) -> Result<Page<BackfillDateItem>, ReadError>;

    /// Returns what an `Idempotency-Key` made.
    ///
    /// # Errors
    /// As above.
    async fn backfill_idempotency(&self, key_hash: &str)
    -> Result<Option<BackfillIdempotencyRow>, ReadError>;
}

impl RunCounts {
    /// Adds runs in a state; `timed` of them have a start and an end, `micros` apart in all.
    pub(crate) fn add(&mut self, state: RunState, count: u64, (timed, micros): (u64, i64)) {
        let place = match state {
            RunState::Queued => &mut self.queued,
            RunState::Running => &mut self.running,
            RunState::Paused => &mut self.paused,
            RunState::Success => &mut self.success,
            RunState::Failed => &mut self.failed,
            RunState::Cancelled => &mut self.cancelled,
        };
        *place += count;
        if matches!(state, RunState::Success | RunState::Failed) {
            self.timed += timed;
            self.total_micros = self.total_micros.saturating_add(micros);
        }
    }

    /// Returns how many have not ended.
    #[must_use]
    pub const fn active(&self) -> u64 {
        self.queued + self.running + self.paused
    }

    /// Returns how many have ended.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.success + self.failed + self.cancelled
    }
}

impl BackfillItem {
    /// Estimates how long the rest takes, from the mean duration of the runs that have ended: so many rounds of
    /// `max_active_runs` runs. `None` before the first has ended and once nothing is left.
    #[must_use]
    pub fn estimate(&self) -> Option<TimeDelta> {
        let left = self.row.dates_left() + self.runs.active();
        if self.row.state.is_terminal() || left == 0 || self.runs.timed == 0 {
            return None;
        }
        let rounds = left.div_ceil(u64::from(self.row.spec.max_active_runs.max(1)));
        let mean = self.runs.total_micros / i64::try_from(self.runs.timed).unwrap_or(i64::MAX).max(1);
        Some(TimeDelta::microseconds(mean.saturating_mul(i64::try_from(rounds).unwrap_or(i64::MAX))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidemill_engine::backfill::{BackfillSpec, Reprocess};

    use super::*;

    #[test]
    fn the_estimate_counts_rounds_of_its_limit() {
        let at = DateTime::UNIX_EPOCH;
        let spec = BackfillSpec {
            from: at,
            to: at,
            reprocess: Reprocess::None,
            max_active_runs: 3,
            run_backwards: false,
            conf: Arc::default(),
        };
        let row = BackfillRow {
            key: BackfillKey(1),
            dag_id: DagId::new("d").expect("an id"),
            spec,
            state: BackfillState::Running,
            reason: None,
            cursor: None,
            date_count: 12,
            created: 4,
            reprocessed: 0,
            passed_over: 1,
            left_alone: 0,
            failed_runs: 0,
            cancel_requested_at: None,
            created_by: None,
            created_at: at,
            finished_at: None,
        };
        let mut item = BackfillItem { row, runs: RunCounts::default() };
        assert_eq!(item.estimate(), None, "nothing has ended");
        item.runs.add(RunState::Success, 2, (2, 40_000_000));
        item.runs.add(RunState::Cancelled, 1, (1, 999_000_000));
        item.runs.add(RunState::Running, 1, (0, 0));
        // Seven dates and one run are left: three rounds of three at 20 s.
        assert_eq!(item.estimate(), Some(TimeDelta::seconds(60)));
        item.row.state = BackfillState::Finished;
        assert_eq!(item.estimate(), None);
    }
}
