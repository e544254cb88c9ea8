//! Setting aside a run whose rows the schema refuses, so that it stops nothing else.
//!
//! The run is ended in the store without the engine, and the engine is rebuilt without the run. A clear by a
//! person brings it back once the cause is gone. When it is the *creation* of a run that is refused, there is
//! nothing to end yet, and its DAG stays out of the engine until this leader steps down.

use std::collections::BTreeSet;

use tidemill_engine::{
    action::{RunChange, TaskChange, TaskFence, TryChange},
    ids::{AttemptKey, DagId, RunKey},
    rows::{EngineSnapshot, RunSnapshot, TryRow},
    state::{RunState, TaskState, TryOutcome},
};
use tidemill_store::{Batch, BatchId, CommitError, ReadError, batch::TryWrite};

use crate::{
    core::{Core, Exit},
    error::Unavailable,
    handle::chain,
    meter,
};

impl Core {
    pub(crate) fn without_quarantined(&self, mut snapshot: EngineSnapshot) -> EngineSnapshot {
        snapshot.dags.retain(|(row, _)| !self.quarantined_dags.contains_key(&row.dag_id));
        snapshot.runs.retain(|run| {
            !self.quarantined.contains_key(&run.run.key)
                && !self.quarantined_dags.contains_key(&run.run.dag_id)
        });
        snapshot
            .open_tries
            .retain(|row| snapshot.runs.iter().any(|run| run.run.key == row.attempt.instance.run));
        snapshot
    }

    /// The schema refused the batch: one run is set aside, the rest goes on.
    pub(crate) async fn refused(&mut self, run: Option<RunKey>, what: &str) -> Result<(), Exit> {
        let batch = &self.round.batch;
        let touched: BTreeSet<RunKey> = batch
            .runs
            .iter()
            .map(|change| change.row.key)
            .chain(batch.tasks.iter().map(|change| change.row.key.run))
            .chain(batch.tries.iter().map(|write| write.change.row.attempt.instance.run))
            .collect();
        let single = (touched.len() == 1).then(|| touched.first().copied()).flatten();
        let culprit = run.or(single);
        let is_new = culprit.is_some_and(|run| {
            batch.runs.iter().any(|change| change.row.key == run && change.from.is_none())
        });
        let dag_id: Option<DagId> =
            culprit.and_then(|run| self.known.runs.get(&run)).map(|row| row.dag_id.clone());
        let reason = format!("SCH0501: the database refuses a row of this dag run: {what}");
        tracing::error!(code = "SCH0501", run.key = ?culprit, what, "a batch was refused; rebuilding");
        self.fail_round(&Unavailable::NotCommitted { reason: reason.clone() });
        match (culprit, dag_id) {
            (Some(_), Some(dag_id)) if is_new => {
                self.quarantined_dags.insert(dag_id, reason);
            }
            (Some(run), _) => {
                self.end_quarantined(run, &reason).await?;
                self.quarantined.insert(run, reason);
            }
            // Nobody is to blame yet: the messages come back one by one.
            (None, _) => self.isolated_rounds = self.isolated_rounds.max(16),
        }
        self.rebuild().await
    }

    /// Ends a run in the store without the engine, so that a restart does not stumble over it again.
    async fn end_quarantined(&mut self, run: RunKey, reason: &str) -> Result<(), Exit> {
        let loaded = loop {
            match self.writer.load_run(run).await {
                Ok(loaded) => break loaded,
                Err(ReadError::Unavailable { source }) => self.endure(source.to_string()).await?,
                Err(error) => {
                    tracing::error!(error = %chain(&error), run.key = %run, "a run that is set aside cannot be read");
                    return Ok(());
                }
            }
        };
        let Some(loaded) = loaded else { return Ok(()) };
        // With its leases closed if the schema takes that, else the run's row alone; if not even that, the run
        // stays out of the engine for as long as this leader lives.
        for has_leases in [true, false] {
            let batch = self.end_batch(&loaded.snapshot, reason, has_leases);
            let started = self.shared.clock.now().mono;
            match self.writer.commit(&batch).await {
                Ok(()) => {
                    meter::committed(&batch, self.shared.clock.now().mono.saturating_sub(started));
                    self.next_batch += 1;
                    break;
                }
                Err(CommitError::TermLost { .. }) => return Err(Exit::TermLost),
                Err(error) => tracing::error!(error = %chain(&error), "a run could not be ended"),
            }
        }
        Ok(())
    }

    fn end_batch(&self, snapshot: &RunSnapshot, reason: &str, has_leases: bool) -> Batch {
        let now = self.shared.clock.now().wall;
        let mut batch = Batch::new(self.term, BatchId(self.next_batch), now);
        let from = snapshot.run.state;
        if from.is_terminal() {
            return batch;
        }
        let mut row = snapshot.run.clone();
        // A parked run has no step to `failed`.
        row.state = if from == RunState::Paused { RunState::Cancelled } else { RunState::Failed };
        row.reason = Some(reason.to_owned());
        row.finished_at = Some(now);
        batch.runs.push(RunChange { from: Some(from), row });
        for stored in snapshot.tasks.iter().filter(|row| has_leases && row.state.has_lease()) {
            let fence = TaskFence { state: stored.state, try_number: stored.try_number, epoch: stored.epoch };
            let mut row = stored.clone();
            row.state = TaskState::Failed;
            row.finished_at = Some(now);
            row.reason = Some(reason.to_owned());
            row.stop = None;
            batch.tasks.push(TaskChange { from: fence, row, is_clear: false, is_note: false });
            let attempt = AttemptKey {
                instance: stored.key.clone(),
                try_number: stored.try_number,
                epoch: stored.epoch,
            };
            if let Some(lease) = self.known.leases.get(&attempt) {
                let row = TryRow {
                    attempt,
                    worker: lease.worker.clone(),
                    boot_id: lease.boot_id.clone(),
                    queued_at: stored.queued_at.unwrap_or(now),
                    started_at: stored.started_at,
                    finished_at: Some(now),
                    outcome: Some(TryOutcome::Lost),
                    exit_code: None,
                    reason: Some(reason.to_owned()),
                };
                let change = TryChange { is_new: false, row };
                batch.tries.push(TryWrite { change, token_hash: None, rendered: None });
            }
        }
        batch
    }
}
