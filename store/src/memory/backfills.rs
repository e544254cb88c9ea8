//! Backfills in the memory twin.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tidemill_engine::{
    backfill::{BackfillRow, DatedRun},
    ids::{BackfillKey, DagId, RunKey},
    rows::RunRow,
    state::RunType,
};

use super::{
    MemoryStore, State,
    apply::{Apply, constraint, mismatch},
    reader::page,
};
use crate::{
    backfills::{
        BackfillDateItem, BackfillIdempotencyRow, BackfillItem, BackfillQuery, BackfillReader, RunCounts,
    },
    batch::Batch,
    codec::read_cursor,
    error::{CommitError, ReadError, RowRef},
    reader::{Page, PageRequest, RunBar},
};

impl Apply<'_> {
    pub(super) fn backfills(&mut self, batch: &Batch) -> Result<(), CommitError> {
        for row in &batch.backfills {
            let other = || RowRef::Other { table: "backfill", key: row.key.to_string() };
            if self.state.backfills.get(&row.key).is_some_and(|stored| stored.finished_at.is_some()) {
                return Err(mismatch(other()));
            }
            let is_possible = self.state.dags.contains_key(&row.dag_id)
                && row.state.is_terminal() == row.finished_at.is_some();
            if !is_possible {
                return Err(constraint(None, format!("backfill {} is not possible", row.key)));
            }
            let next = self.state.leader.next_run_key;
            self.state.leader.next_run_key = next.max(row.key.0 + 1);
            self.journal.push(Box::new(move |state| state.leader.next_run_key = next));
            self.set(|s| &mut s.backfills, row.key, Some(row.clone()));
        }
        for date in &batch.backfill_dates {
            let key = (date.backfill, date.logical_date);
            let is_possible = self.state.backfills.contains_key(&date.backfill)
                && !self.state.backfill_dates.contains_key(&key)
                && date.run.is_none_or(|run| self.state.runs.contains_key(&run));
            if !is_possible {
                let what = format!("a date of backfill {} is not possible", date.backfill);
                return Err(constraint(date.run, what));
            }
            self.set(|s| &mut s.backfill_dates, key, Some(date.clone()));
        }
        for row in &batch.backfill_idempotency {
            if self.state.backfill_idempotency.contains_key(&row.key_hash) {
                let key = row.key_hash.clone();
                return Err(mismatch(RowRef::Other { table: "backfill_idempotency_key", key }));
            }
            self.set(|s| &mut s.backfill_idempotency, row.key_hash.clone(), Some(row.clone()));
        }
        Ok(())
    }

    pub(super) fn idempotency_keys(&mut self, batch: &Batch) -> Result<(), CommitError> {
        for row in &batch.idempotency {
            self.check_run(row.run, "idempotency key")?;
            if self.state.idempotency.contains_key(&row.key_hash) {
                return Err(mismatch(RowRef::Other { table: "idempotency_key", key: row.key_hash.clone() }));
            }
            self.set(|s| &mut s.idempotency, row.key_hash.clone(), Some(row.clone()));
        }
        Ok(())
    }

    /// The run of dates that it was made or cleared for is gone.
    pub(super) fn forget_run_of_dates(&mut self, run: RunKey) {
        let of_run = self.state.backfill_dates.values().filter(|date| date.run == Some(run));
        for date in of_run.cloned().collect::<Vec<_>>() {
            let key = (date.backfill, date.logical_date);
            self.set(
                |s| &mut s.backfill_dates,
                key,
                Some(tidemill_engine::backfill::BackfillDate { run: None, ..date }),
            );
        }
    }

    fn delete_backfill(&mut self, key: BackfillKey) {
        let dates = self.state.backfill_dates.keys().filter(|(backfill, _)| *backfill == key);
        for date in dates.copied().collect::<Vec<_>>() {
            self.set(|s| &mut s.backfill_dates, date, None);
        }
        let keys = self.state.backfill_idempotency.values().filter(|row| row.backfill == key);
        for hash in keys.map(|row| row.key_hash.clone()).collect::<Vec<_>>() {
            self.set(|s| &mut s.backfill_idempotency, hash, None);
        }
        self.set(|s| &mut s.backfills, key, None);
    }

    /// Deletes the backfills of a DAG: all, or those that ended before an instant and that no run is of any more.
    pub(super) fn delete_backfills(&mut self, dag_id: &DagId, before: Option<DateTime<Utc>>) {
        let state = &self.state;
        let is_old = |row: &&BackfillRow| match before {
            None => true,
            Some(before) => {
                row.finished_at.is_some_and(|at| at < before)
                    && !state.runs.values().any(|run| run.backfill == Some(row.key))
            }
        };
        let of_dag = state.backfills.values().filter(|row| row.dag_id == *dag_id);
        let keys: Vec<BackfillKey> = of_dag.filter(is_old).map(|row| row.key).collect();
        for key in keys {
            self.delete_backfill(key);
        }
    }

    pub(super) fn expire_backfill_keys(&mut self, before: DateTime<Utc>) {
        let old = self.state.backfill_idempotency.values().filter(|row| row.created_at < before);
        for hash in old.map(|row| row.key_hash.clone()).collect::<Vec<_>>() {
            self.set(|s| &mut s.backfill_idempotency, hash, None);
        }
    }
}

impl State {
    fn backfill_item(&self, row: &BackfillRow) -> BackfillItem {
        let mut runs = RunCounts::default();
        for run in self.runs.values().filter(|run| run.backfill == Some(row.key)) {
            let took =
                run.started_at.zip(run.finished_at).and_then(|(start, end)| (end - start).num_microseconds());
            runs.add(run.state, 1, (u64::from(took.is_some()), took.unwrap_or(0)));
        }
        BackfillItem { row: row.clone(), runs }
    }
}

/// Whether another run has the key (dag, run type, logical date), which scheduled and backfill runs own.
pub(super) fn is_date_taken(state: &State, row: &RunRow) -> bool {
    if !matches!(row.run_type, RunType::Scheduled | RunType::Backfill) {
        return false;
    }
    let Some(dates) = state.run_dates.get(&row.dag_id) else { return false };
    let (first, last) = ((row.logical_date, RunKey(i64::MIN)), (row.logical_date, RunKey(i64::MAX)));
    dates
        .range(first..=last)
        .any(|(_, key)| state.runs.get(key).is_some_and(|other| other.run_type == row.run_type))
}

#[async_trait]
impl BackfillReader for MemoryStore {
    async fn dated_runs(&self, dag_id: &DagId, dates: &[DateTime<Utc>]) -> Result<Vec<DatedRun>, ReadError> {
        let state = self.lock();
        let of_dag =
            state.runs.values().filter(|run| run.dag_id == *dag_id && dates.contains(&run.logical_date));
        let dated = of_dag.filter(|run| matches!(run.run_type, RunType::Scheduled | RunType::Backfill));
        let found = dated.map(|run| DatedRun {
            run: run.key,
            run_id: run.run_id.clone(),
            run_type: run.run_type,
            state: run.state,
            logical_date: run.logical_date,
            unreadable: None,
        });
        Ok(found.collect())
    }

    async fn backfills(&self, query: &BackfillQuery) -> Result<Page<BackfillItem>, ReadError> {
        let after: Option<i64> = read_cursor(&query.page)?;
        let state = self.lock();
        let rows = state.backfills.values().rev().filter(|row| {
            after.is_none_or(|after| row.key.0 < after)
                && query.dag_id.as_ref().is_none_or(|dag_id| row.dag_id == *dag_id)
                && (query.states.is_empty() || query.states.contains(&row.state))
        });
        Ok(page(rows.map(|row| state.backfill_item(row)), &query.page, |item| item.row.key.0))
    }

    async fn backfill(&self, key: BackfillKey) -> Result<Option<BackfillItem>, ReadError> {
        let state = self.lock();
        Ok(state.backfills.get(&key).map(|row| state.backfill_item(row)))
    }

    async fn backfill_dates(
        &self,
        key: BackfillKey,
        request: &PageRequest,
    ) -> Result<Page<BackfillDateItem>, ReadError> {
        let after: Option<i64> = read_cursor(request)?;
        let state = self.lock();
        let of_backfill = state.backfill_dates.values().filter(|date| {
            date.backfill == key && after.is_none_or(|after| date.logical_date.timestamp_micros() > after)
        });
        let items = of_backfill.map(|date| BackfillDateItem {
            run: date.run.and_then(|run| state.runs.get(&run)).map(RunBar::from),
            date: date.clone(),
        });
        Ok(page(items, request, |item| item.date.logical_date.timestamp_micros()))
    }

    async fn backfill_idempotency(
        &self,
        key_hash: &str,
    ) -> Result<Option<BackfillIdempotencyRow>, ReadError> {
        Ok(self.lock().backfill_idempotency.get(key_hash).cloned())
    }
}
