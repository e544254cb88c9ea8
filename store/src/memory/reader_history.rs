//! Reads of the memory twin that look back.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tidemill_engine::{
    ids::{AttemptKey, DagId, RunKey, TaskId, TaskInstanceKey},
    preparation::FoundRun,
    rows::{RunRow, TaskRow, TryRow},
};

use super::{MemoryStore, first_of};
use crate::{
    error::ReadError,
    history::{COUNT_SPAN_MICROS, HistoryReader, RunCount, TaskPoint},
    reader::{PAGE_LIMIT, RunBar, StoredReport},
    views,
};

#[async_trait]
impl HistoryReader for MemoryStore {
    async fn run_on(&self, dag_id: &DagId, date: Option<DateTime<Utc>>) -> Result<Option<RunRow>, ReadError> {
        let state = self.lock();
        let mut runs = state.runs_of(dag_id);
        Ok(match date {
            None => runs.next().cloned(),
            Some(date) => {
                runs.filter(|run| run.logical_date == date).max_by_key(|run| FoundRun::rank(run)).cloned()
            }
        })
    }

    async fn triggered_runs(&self, origin: &TaskInstanceKey, limit: u32) -> Result<Vec<RunRow>, ReadError> {
        let state = self.lock();
        let found = state.runs.values().rev().filter(|run| run.origin.as_ref() == Some(origin));
        Ok(found.take(limit.clamp(1, PAGE_LIMIT) as usize).cloned().collect())
    }

    async fn run_counts(
        &self,
        dag_id: &DagId,
        since: DateTime<Utc>,
        before: DateTime<Utc>,
    ) -> Result<Vec<RunCount>, ReadError> {
        let state = self.lock();
        let runs = state.runs_of(dag_id).filter(|run| (since..before).contains(&run.logical_date));
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for run in runs {
            let span = run.logical_date.timestamp_micros() / COUNT_SPAN_MICROS;
            *counts.entry((span, run.state)).or_default() += 1;
        }
        let counts = counts.into_iter().filter_map(|((span, state), count)| {
            let from = DateTime::from_timestamp_micros(span * COUNT_SPAN_MICROS)?;
            Some(RunCount { from, state, count })
        });
        Ok(counts.collect())
    }

    async fn task_history(
        &self,
        dag_id: &DagId,
        task: &TaskId,
        limit: u32,
    ) -> Result<Vec<TaskPoint>, ReadError> {
        let state = self.lock();
        let limit = usize::try_from(limit.clamp(1, PAGE_LIMIT)).unwrap_or(1);
        let runs: Vec<RunBar> = state.runs_of(dag_id).take(limit).map(RunBar::from).collect();
        let rows: Vec<TaskRow> = runs
            .iter()
            .filter_map(|run| {
                let key = TaskInstanceKey { run: run.key, task: task.clone(), map_index: -1 };
                state.tasks.get(&key).cloned()
            })
            .collect();
        Ok(views::task_points(runs.into_iter(), rows))
    }

    async fn run_tries(&self, run: RunKey, limit: u32) -> Result<Vec<TryRow>, ReadError> {
        let state = self.lock();
        Ok(state.tries_of(run).take(limit as usize).map(|stored| stored.row.clone()).collect())
    }

    async fn run_reports(&self, run: RunKey, limit: u32) -> Result<Vec<StoredReport>, ReadError> {
        let state = self.lock();
        let first = AttemptKey { instance: first_of(run), try_number: 0, epoch: 0 };
        let of_run = state.reports.range(first..).take_while(|(key, _)| key.instance.run == run);
        // The last one of an instance is its newest.
        let newest: BTreeMap<_, _> = of_run.map(|(key, report)| (&key.instance, report)).collect();
        Ok(newest.into_values().take(limit as usize).cloned().collect())
    }
}
