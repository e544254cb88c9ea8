//! Setting aside what the database refuses or cannot give back, so that it stops nothing else.
//!
//! The run is ended in the store without the engine, and the engine is rebuilt without the run. A clear by a
//! person brings it back once the cause is gone. When it is the *creation* of a run that is refused, there is
//! nothing to end yet, and its DAG stays out of the engine until this leader steps down.

use std::{collections::BTreeSet, sync::Arc};

use tidemill_engine::{
    action::{RunChange, TaskChange, TaskFence, TryChange},
    asset::{AssetChange, AssetSource},
    ids::{AttemptKey, DagId, RunId, RunKey},
    rows::{EngineSnapshot, RunSnapshot, TaskRow, TryRow},
    state::{RunState, TaskState, TryOutcome},
};
use tidemill_store::{
    Batch, BatchId, CommitError, ReadError,
    batch::{AssetWrite, OutboxChange, TryWrite},
};

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

    /// The database refused the batch and would refuse it again: who is to blame is set aside, the rest goes on.
    pub(crate) async fn refused(&mut self, run: Option<RunKey>, what: &str) -> Result<(), Exit> {
        let batch = self.round.batch.clone();
        let has_folder_news = !self.round.folder.is_empty();
        let is_alone = self.round.events <= 1;
        let touched = touched(&batch);
        tracing::error!(code = "SCH0501", run.key = ?run, what, "a batch was refused; rebuilding");
        let reason = format!("SCH0501: the database refuses a row of this dag run: {what}");
        self.fail_round(&Unavailable::NotCommitted { reason: reason.clone() }, true);
        let culprits = match run {
            Some(run) => vec![(run, reason)],
            None if touched.len() == 1 && !has_folder_news => {
                touched.into_iter().map(|run| (run, reason.clone())).collect()
            }
            None => self.commit_by_run(&batch, &touched).await?,
        };
        let is_blamed = !culprits.is_empty();
        for (run, reason) in culprits {
            let created = batch.runs.iter().find(|change| change.row.key == run && change.from.is_none());
            match created {
                // There is nothing to end yet.
                Some(change) => drop(self.quarantined_dags.insert(change.row.dag_id.clone(), reason)),
                None => {
                    self.end_run(run, &reason).await?;
                    self.quarantined.insert(run, reason);
                }
            }
        }
        if !is_blamed {
            // Nobody is to blame yet: the messages come back one by one.
            self.isolated_rounds = self.isolated_rounds.max(16);
            if is_alone && !has_folder_news {
                self.set_dag_aside(&batch, what);
            }
        }
        self.rebuild().await
    }

    /// What a single message or a tick wants written of a single DAG is refused: nothing but that DAG's own rows is left
    /// to blame.
    fn set_dag_aside(&mut self, batch: &Batch, what: &str) {
        let rows = batch.dags.iter().map(|row| &row.dag_id);
        let of_backfills = batch.backfills.iter().map(|row| &row.dag_id);
        let dags: BTreeSet<&DagId> =
            rows.chain(batch.passed_over.iter().map(|row| &row.dag_id)).chain(of_backfills).collect();
        if let (1, Some(dag_id)) = (dags.len(), dags.first()) {
            let reason = format!("SCH0501: the database refuses a row of this DAG: {what}");
            self.quarantined_dags.insert((*dag_id).clone(), reason);
        }
    }

    /// Commits a refused batch again run by run, each by itself, and returns the runs that are refused. What goes through
    /// is what the engine decided, guarded row by row as before; who waited for it was told to ask again.
    async fn commit_by_run(
        &mut self,
        batch: &Batch,
        touched: &BTreeSet<RunKey>,
    ) -> Result<Vec<(RunKey, String)>, Exit> {
        let mut culprits = Vec::new();
        if touched.len() < 2 {
            return Ok(culprits);
        }
        for run in touched {
            let mut part = part_of(batch, *run);
            if let Some(row) = self.known.runs.get(run) {
                part.outbox.extend(messages_of(batch, &row.dag_id, &row.run_id));
            }
            match self.commit_aside(part).await? {
                Ok(()) => {}
                Err(CommitError::Constraint { what, .. }) => {
                    let reason = format!("SCH0501: the database refuses a row of this dag run: {what}");
                    culprits.push((*run, reason));
                }
                Err(error) => {
                    tracing::error!(error = %chain(&error), run.key = %run, "a run was not committed")
                }
            }
        }
        Ok(culprits)
    }

    /// Commits a batch that is not the round's under a number of its own, and waits for a store that is away.
    async fn commit_aside(&mut self, mut batch: Batch) -> Result<Result<(), CommitError>, Exit> {
        batch.id = BatchId(self.next_batch);
        // Whatever becomes of it, the next batch is another content.
        self.next_batch += 1;
        let batch = Arc::new(batch);
        let began = self.shared.clock.now().mono;
        loop {
            let (writer, sent) = (Arc::clone(&self.writer), Arc::clone(&batch));
            match self.meanwhile(async move { writer.commit(&sent).await }).await? {
                Err(CommitError::TermLost { .. }) => return Err(Exit::TermLost),
                // The same batch again: the store recognises one that arrived.
                Err(error @ (CommitError::Unavailable { .. } | CommitError::Ambiguous { .. })) => {
                    self.endure(format!("{}: {}", error.code(), chain(&error))).await?;
                }
                settled => {
                    if settled.is_ok() {
                        meter::committed(&batch, self.shared.clock.now().mono.saturating_sub(began));
                    }
                    return Ok(settled);
                }
            }
        }
    }

    /// Ends the runs that could not be taken in, so that nobody waits for them.
    pub(crate) async fn end_left_out(&mut self) -> Result<(), Exit> {
        for (run, reason) in std::mem::take(&mut self.left_out) {
            tracing::error!(code = "SCH0502", run.key = %run, reason, "a dag run cannot be read; it is ended");
            self.end_run(run, &reason).await?;
        }
        Ok(())
    }

    /// Ends a run in the store without the engine, so that a restart does not stumble over it again.
    async fn end_run(&mut self, run: RunKey, reason: &str) -> Result<(), Exit> {
        let snapshot = loop {
            let writer = Arc::clone(&self.writer);
            match self.meanwhile(async move { writer.load_run(run).await }).await? {
                Ok(Some(loaded)) => break loaded.snapshot,
                Err(ReadError::Unavailable { source }) => self.endure(source.to_string()).await?,
                // Its definition or one of its rows is not what it was; its own row may be.
                Ok(None) | Err(_) => match self.shared.reader.run_by_key(run).await {
                    Ok(Some(row)) => {
                        break RunSnapshot {
                            run: row,
                            tasks: Vec::new(),
                            maps: Vec::new(),
                            fences: Vec::new(),
                        };
                    }
                    Ok(None) => return Ok(()),
                    Err(ReadError::Unavailable { source }) => self.endure(source.to_string()).await?,
                    Err(error) => {
                        tracing::error!(error = %chain(&error), run.key = %run, "a run that is set aside cannot be read");
                        return Ok(());
                    }
                },
            }
        };
        // With its leases closed if the database takes that, else the run's row alone; if not even that, the run
        // stays out of the engine for as long as this leader lives.
        let open = self.open_tries(&snapshot).await;
        for has_leases in [true, false] {
            let batch = self.end_batch(&snapshot, &open, reason, has_leases);
            match self.commit_aside(batch).await? {
                Ok(()) => break,
                Err(error) => tracing::error!(error = %chain(&error), "a run could not be ended"),
            }
        }
        Ok(())
    }

    /// Returns the tries of a run that have not ended, as far as they can be read.
    async fn open_tries(&self, snapshot: &RunSnapshot) -> Vec<TryRow> {
        let mut open = Vec::new();
        // The try of a sensor is open between its pokes too.
        let may_be_open =
            |row: &&TaskRow| row.state.has_lease() || row.first_poke_at.is_some() && !row.state.is_terminal();
        for row in snapshot.tasks.iter().filter(may_be_open) {
            let tries = self.shared.reader.tries(&row.key).await.unwrap_or_default();
            open.extend(tries.into_iter().filter(|row| row.outcome.is_none()));
        }
        open
    }

    fn end_batch(&self, snapshot: &RunSnapshot, open: &[TryRow], reason: &str, has_leases: bool) -> Batch {
        let now = self.shared.clock.now().wall;
        let mut batch = Batch::new(self.term, BatchId::default(), now);
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
        for stored in snapshot.tasks.iter().filter(|row| has_leases && !row.state.is_terminal()) {
            let fence = TaskFence { state: stored.state, try_number: stored.try_number, epoch: stored.epoch };
            let mut row = stored.clone();
            row.state = TaskState::Failed;
            row.finished_at = Some(now);
            row.reason = Some(reason.to_owned());
            row.stop = None;
            (row.retry_at, row.next_poke_at) = (None, None);
            batch.tasks.push(TaskChange { from: fence, row, is_clear: false, is_note: false });
        }
        for stored in open.iter().filter(|_| has_leases) {
            let outcome = Some(TryOutcome::Lost);
            let row =
                TryRow { finished_at: Some(now), outcome, reason: Some(reason.to_owned()), ..stored.clone() };
            let change = TryChange { is_new: false, from_epoch: None, row };
            batch.tries.push(TryWrite { change, token_hash: None, rendered: None });
        }
        batch
    }
}

/// Returns the runs that a batch changes.
fn touched(batch: &Batch) -> BTreeSet<RunKey> {
    batch
        .runs
        .iter()
        .map(|change| change.row.key)
        .chain(batch.tasks.iter().map(|change| change.row.key.run))
        .chain(batch.tries.iter().map(|write| write.change.row.attempt.instance.run))
        .collect()
}

/// Returns the new messages about one run.
fn messages_of<'a>(
    batch: &'a Batch,
    dag_id: &'a DagId,
    run_id: &'a RunId,
) -> impl Iterator<Item = OutboxChange> + 'a {
    let is_about = move |change: &&OutboxChange| match change {
        OutboxChange::Insert(message) => message.dag_id == *dag_id && message.run_id == *run_id,
        OutboxChange::Delivered { .. } | OutboxChange::Failed { .. } => false,
    };
    batch.outbox.iter().filter(is_about).cloned()
}

/// Returns what a batch changes of one run, without what belongs to its DAG: a date whose cursor is not moved with it
/// is found to be taken.
fn part_of(batch: &Batch, run: RunKey) -> Batch {
    let mut part = Batch::new(batch.term, batch.id, batch.at);
    part.runs.extend(batch.runs.iter().filter(|change| change.row.key == run).cloned());
    part.maps.extend(batch.maps.iter().filter(|change| change.run == run).cloned());
    part.tasks.extend(batch.tasks.iter().filter(|change| change.row.key.run == run).cloned());
    let is_of = |attempt: &AttemptKey| attempt.instance.run == run;
    part.tries.extend(batch.tries.iter().filter(|write| is_of(&write.change.row.attempt)).cloned());
    part.outputs.extend(batch.outputs.iter().filter(|write| is_of(&write.attempt)).cloned());
    part.reports.extend(batch.reports.iter().filter(|write| is_of(&write.attempt)).cloned());
    let is_of_run = |write: &AssetWrite| match &write.change {
        AssetChange::Event { row, .. } => {
            matches!(&row.source, AssetSource::Task { run: by, .. } if *by == run)
        }
        AssetChange::Take { run: by, .. } => *by == run,
        AssetChange::Drop { .. } => false,
    };
    part.assets.extend(batch.assets.iter().filter(|write| is_of_run(write)).cloned());
    part
}

#[cfg(test)]
mod tests {
    use tidemill_engine::{
        action::{MapChange, Notify},
        definition::Notification,
        ids::TaskId,
    };

    use super::*;

    #[test]
    fn a_part_holds_the_lists_and_the_messages_of_its_run_and_of_no_other() {
        let at = "2026-11-01T00:00:00Z".parse().unwrap();
        let mut batch = Batch::new(1, BatchId(1), at);
        let dag_id = DagId::new("d").unwrap();
        for number in [1, 2] {
            let run = RunKey(number);
            batch.maps.push(MapChange { run, task: TaskId::new("m").unwrap(), values: None });
            batch.outbox.push(OutboxChange::Insert(Notify {
                id: number.to_string(),
                notification: Notification { webhook: "http://h/".to_owned(), message: None },
                dag_id: dag_id.clone(),
                run_id: RunId::new(format!("r{number}")).unwrap(),
                task: None,
                state: "failed".to_owned(),
                reason: None,
            }));
        }
        let part = part_of(&batch, RunKey(2));
        assert_eq!(part.maps.iter().map(|change| change.run).collect::<Vec<_>>(), [RunKey(2)]);
        let run_id = RunId::new("r2").unwrap();
        let messages: Vec<_> = messages_of(&batch, &dag_id, &run_id).collect();
        assert_eq!(messages, batch.outbox[1..]);
    }
}
