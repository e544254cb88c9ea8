//! Applies a batch to the memory twin, all or nothing.

use std::{collections::BTreeMap, sync::Arc};

use tidemill_engine::{
    action::{RunChange, TaskChange},
    ids::{AttemptKey, RunKey},
    rows::{MapRow, RunRow, TaskRow},
    state::TaskState,
};

use super::{State, StoredTry, backfills::is_date_taken};
use crate::{
    access::AccessChange,
    batch::{AuditEntry, Batch, ImportErrorChange, OutboxChange, TryWrite},
    check,
    codec::{AUDIT_ROOT, audit_hash, merged_tries},
    error::{CommitError, RowRef},
    reader::{AuditRow, OutboxRow, StoredReport},
};

/// What plays one change back.
pub(super) type Undo = Box<dyn FnOnce(&mut State)>;

pub(super) fn constraint(run: Option<RunKey>, what: impl Into<String>) -> CommitError {
    CommitError::Constraint { run, what: what.into() }
}

pub(super) fn mismatch(what: RowRef) -> CommitError {
    CommitError::GuardMismatch { what }
}

/// Names the table that a change goes to.
pub(super) type Table<K, V> = fn(&mut State) -> &mut BTreeMap<K, V>;

pub(super) struct Apply<'a> {
    pub(super) state: &'a mut State,
    pub(super) journal: Vec<Undo>,
}

/// Returns the row that an entry becomes at the end of the audit log.
pub(super) fn next_audit(log: &BTreeMap<i64, AuditRow>, entry: &AuditEntry) -> (i64, AuditRow) {
    let last = log.last_key_value();
    let (seq, previous) = last.map_or((1, AUDIT_ROOT.to_owned()), |(seq, row)| (seq + 1, row.hash.clone()));
    let hash = audit_hash(&previous, entry, &entry.detail.to_string());
    (seq, AuditRow { seq, entry: entry.clone(), hash })
}

impl State {
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let mut apply = Apply { state: self, journal: Vec::new() };
        let result = apply.batch(batch);
        if result.is_err() {
            while let Some(undo) = apply.journal.pop() {
                undo(apply.state);
            }
        }
        result
    }
}

impl Apply<'_> {
    /// Writes one row, or deletes it, and remembers what was there.
    pub(super) fn set<K, V>(&mut self, table: Table<K, V>, key: K, value: Option<V>)
    where
        K: Ord + Clone + 'static,
        V: 'static,
    {
        let rows = table(self.state);
        let before = match value {
            Some(value) => rows.insert(key.clone(), value),
            None => rows.remove(&key),
        };
        self.journal.push(Box::new(move |state| {
            match before {
                Some(value) => table(state).insert(key, value),
                None => table(state).remove(&key),
            };
        }));
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), CommitError> {
        self.dags(batch)?;
        for change in &batch.runs {
            self.run(change)?;
        }
        self.maps(batch)?;
        self.backfills(batch)?;
        for write in &batch.outputs {
            self.check_run(write.attempt.instance.run, "outputs")?;
            self.set(|s| &mut s.outputs, write.attempt.instance.clone(), Some(write.values.clone()));
        }
        for change in &batch.tasks {
            self.task(change)?;
        }
        let tries = merged_tries(&batch.tries);
        let (new, old): (Vec<_>, Vec<_>) = tries.into_iter().partition(|w| w.change.is_new);
        for write in old.into_iter().chain(new) {
            self.attempt(write)?;
        }
        for write in &batch.reports {
            self.check_run(write.attempt.instance.run, "report")?;
            let row = StoredReport {
                attempt: write.attempt.clone(),
                report: write.report.clone(),
                created_at: batch.at,
            };
            self.set(|s| &mut s.reports, write.attempt.clone(), Some(row));
        }
        for write in &batch.assets {
            self.asset(write)?;
        }
        for pool in &batch.pools {
            self.set(|s| &mut s.pools, pool.name.clone(), Some(pool.clone()));
        }
        for name in &batch.pool_deletes {
            self.set(|s| &mut s.pools, name.clone(), None);
        }
        for change in &batch.outbox {
            self.outbox(change, batch);
        }
        for change in &batch.import_errors {
            match change {
                ImportErrorChange::Set(error) => {
                    self.set(|s| &mut s.import_errors, error.path.clone(), Some(error.clone()));
                }
                ImportErrorChange::Clear { path } => self.set(|s| &mut s.import_errors, path.clone(), None),
            }
        }
        self.audit(batch);
        for change in &batch.access {
            self.access(change)?;
        }
        self.vault(batch)?;
        self.idempotency_keys(batch)?;
        self.deletes(batch);
        for (name, value) in &batch.settings {
            self.set(|s| &mut s.settings, name.clone(), Some(value.clone()));
        }
        self.expire(batch);
        Ok(())
    }

    fn maps(&mut self, batch: &Batch) -> Result<(), CommitError> {
        for change in &batch.maps {
            self.check_run(change.run, "map")?;
            let row = change
                .values
                .as_ref()
                .map(|values| MapRow { task: change.task.clone(), values: Arc::clone(values) });
            if row.as_ref().is_some_and(|row| row.values.is_empty()) {
                return Err(constraint(Some(change.run), "a map without elements"));
            }
            self.set(|s| &mut s.maps, (change.run, change.task.clone()), row);
        }
        Ok(())
    }

    fn deletes(&mut self, batch: &Batch) {
        for run in &batch.run_deletes {
            if self.state.runs.get(run).is_some_and(|row| row.finished_at.is_some()) {
                self.delete_run(*run);
            }
        }
        for dag_id in &batch.dag_deletes {
            self.delete_dag(dag_id);
        }
        for id in &batch.asset_deletes {
            if self.state.assets.is_free(*id) {
                self.set(|s| &mut s.assets.events, *id, None);
            }
        }
        for (dag_id, before) in &batch.prunes {
            self.prune(dag_id, *before);
        }
    }

    fn dags(&mut self, batch: &Batch) -> Result<(), CommitError> {
        for version in &batch.versions {
            let key = (version.dag_id.clone(), version.hash.clone());
            let mut row = version.clone();
            if let Some(stored) = self.state.versions.get(&key) {
                row.created_at = stored.created_at;
                row.definition = stored.definition.clone();
            }
            self.set(|s| &mut s.versions, key, Some(row));
        }
        for dag in &batch.dags {
            if !self.state.versions.contains_key(&(dag.dag_id.clone(), dag.version.clone())) {
                return Err(constraint(None, format!("dag {} has no version {}", dag.dag_id, dag.version)));
            }
            self.set(|s| &mut s.dags, dag.dag_id.clone(), Some(dag.clone()));
        }
        for row in &batch.passed_over {
            let key = (row.dag_id.clone(), row.first, row.at);
            if !self.state.dags.contains_key(&row.dag_id) || self.state.passed_over.contains_key(&key) {
                return Err(constraint(None, format!("passed_over of dag {} is not possible", row.dag_id)));
            }
            self.set(|s| &mut s.passed_over, key, Some(row.clone()));
        }
        Ok(())
    }

    pub(super) fn check_run(&self, run: RunKey, what: &str) -> Result<(), CommitError> {
        if self.state.runs.contains_key(&run) {
            return Ok(());
        }
        Err(constraint(Some(run), format!("{what} of dag run {run}, which is not stored")))
    }

    fn run(&mut self, change: &RunChange) -> Result<(), CommitError> {
        let row = &change.row;
        check::run_change(change).map_err(|what| constraint(Some(row.key), what))?;
        let state = &self.state;
        if !state.versions.contains_key(&(row.dag_id.clone(), row.dag_version.clone()))
            || !state.dags.contains_key(&row.dag_id)
        {
            return Err(constraint(
                Some(row.key),
                format!("dag {} has no version {}", row.dag_id, row.dag_version),
            ));
        }
        match change.from {
            None => {
                let is_taken = state.runs.contains_key(&row.key)
                    || state.run_ids.contains_key(&(row.dag_id.clone(), row.run_id.clone()))
                    || is_date_taken(state, row);
                if is_taken {
                    return Err(mismatch(RowRef::Run(row.key)));
                }
                let next = state.leader.next_run_key;
                self.state.leader.next_run_key = next.max(row.key.0 + 1);
                self.journal.push(Box::new(move |state| state.leader.next_run_key = next));
                self.index_run(row, true);
            }
            Some(from) => {
                let stored = state.runs.get(&row.key).filter(|stored| stored.state == from);
                let Some(stored) = stored.cloned() else { return Err(mismatch(RowRef::Run(row.key))) };
                self.index_run(&stored, false);
                self.index_run(row, true);
            }
        }
        self.set(|s| &mut s.runs, row.key, Some(row.clone()));
        Ok(())
    }

    pub(super) fn index_run(&mut self, row: &RunRow, is_added: bool) {
        let (dag_id, run_id, date, key) = (row.dag_id.clone(), row.run_id.clone(), row.logical_date, row.key);
        let change = move |state: &mut State, is_added: bool| {
            let dates = state.run_dates.entry(dag_id.clone()).or_default();
            if is_added {
                dates.insert((date, key));
                state.run_ids.insert((dag_id.clone(), run_id.clone()), key);
            } else {
                dates.remove(&(date, key));
                state.run_ids.remove(&(dag_id.clone(), run_id.clone()));
            }
        };
        change(self.state, is_added);
        self.journal.push(Box::new(move |state| change(state, !is_added)));
    }

    fn task(&mut self, change: &TaskChange) -> Result<(), CommitError> {
        let row = &change.row;
        check::task_change(change).map_err(|what| constraint(Some(row.key.run), what))?;
        self.check_run(row.key.run, "task instance")?;
        let stored = self.state.tasks.get(&row.key);
        let is_expected = match stored {
            None => change.from.state == TaskState::NoStatus,
            Some(stored) => fence(stored) == (change.from.state, change.from.try_number, change.from.epoch),
        };
        if !is_expected {
            return Err(mismatch(RowRef::Task(row.key.clone())));
        }
        let is_deleted = row.state == TaskState::NoStatus;
        if change.is_clear || is_deleted {
            self.set(|s| &mut s.outputs, row.key.clone(), None);
        }
        self.set(|s| &mut s.tasks, row.key.clone(), (!is_deleted).then(|| row.clone()));
        Ok(())
    }

    fn attempt(&mut self, write: TryWrite) -> Result<(), CommitError> {
        let former = write.change.stored_attempt();
        let row = write.change.row;
        let run = row.attempt.instance.run;
        check::try_row(&row).map_err(|what| constraint(Some(run), what))?;
        self.check_run(run, "try")?;
        let stored = self.state.tries.get(&former);
        let (token_hash, rendered) = if write.change.is_new {
            let instance = &row.attempt.instance;
            let first = AttemptKey { instance: instance.clone(), try_number: 0, epoch: 0 };
            let mut others = self.state.tries.range(first..).map(|(_, t)| &t.row);
            let is_live = |other: &tidemill_engine::rows::TryRow| other.outcome.is_none();
            let has_live = others.by_ref().take_while(|t| t.attempt.instance == *instance).any(is_live);
            if stored.is_some() || row.outcome.is_none() && has_live {
                return Err(constraint(
                    Some(run),
                    format!("{} exists, or another is live", name_of(&row.attempt)),
                ));
            }
            (write.token_hash, write.rendered)
        } else {
            match stored.filter(|stored| stored.row.outcome.is_none()) {
                Some(stored) => (
                    write.token_hash.or_else(|| stored.token_hash.clone()),
                    write.rendered.or_else(|| stored.rendered.clone()),
                ),
                None => return Err(mismatch(RowRef::Try(row.attempt))),
            }
        };
        let key = row.attempt.clone();
        if former != key {
            self.set(|s| &mut s.tries, former, None);
        }
        self.set(|s| &mut s.tries, key, Some(StoredTry { row, token_hash, rendered }));
        Ok(())
    }

    fn outbox(&mut self, change: &OutboxChange, batch: &Batch) {
        let (id, row) = match change {
            OutboxChange::Insert(message) => {
                if self.state.outbox.contains_key(&message.id) {
                    return;
                }
                let row = OutboxRow {
                    message: message.clone(),
                    created_at: batch.at,
                    failures: 0,
                    next_attempt_at: Some(batch.at),
                    last_error: None,
                    delivered_at: None,
                };
                (&message.id, row)
            }
            OutboxChange::Delivered { id, at } => {
                let Some(row) = self.state.outbox.get(id).cloned() else { return };
                (id, OutboxRow { delivered_at: Some(*at), next_attempt_at: None, ..row })
            }
            OutboxChange::Failed { id, error, next_attempt_at } => {
                let Some(row) = self.state.outbox.get(id).cloned() else { return };
                let failures = row.failures + 1;
                let last_error = Some(error.clone());
                (id, OutboxRow { failures, last_error, next_attempt_at: *next_attempt_at, ..row })
            }
        };
        self.set(|s| &mut s.outbox, id.clone(), Some(row));
    }

    fn audit(&mut self, batch: &Batch) {
        for entry in &batch.audit {
            let (seq, row) = next_audit(&self.state.audit, entry);
            self.set(|s| &mut s.audit, seq, Some(row));
        }
    }

    fn access(&mut self, change: &AccessChange) -> Result<(), CommitError> {
        match change {
            AccessChange::Token(row) => {
                if self.state.api_tokens.values().any(|t| t.hash == row.hash && t.id != row.id) {
                    return Err(constraint(None, "two API tokens with one hash"));
                }
                self.set(|s| &mut s.api_tokens, row.id.clone(), Some(row.clone()));
            }
            AccessChange::Session(row) => self.set(|s| &mut s.sessions, row.hash.clone(), Some(row.clone())),
            AccessChange::EndSession { hash } => self.set(|s| &mut s.sessions, hash.clone(), None),
            AccessChange::LoginLink(row) => {
                self.set(|s| &mut s.login_links, row.hash.clone(), Some(row.clone()));
            }
            AccessChange::WorkerKey(row) => {
                self.set(|s| &mut s.worker_keys, row.hash.clone(), Some(row.clone()));
            }
            AccessChange::RevokeWorker { worker, at } => {
                let keys: Vec<_> = self.state.worker_keys.values().cloned().collect();
                for key in keys.into_iter().filter(|k| k.worker == *worker && k.revoked_at.is_none()) {
                    let hash = key.hash.clone();
                    let revoked = crate::access::WorkerKey { revoked_at: Some(*at), ..key };
                    self.set(|s| &mut s.worker_keys, hash, Some(revoked));
                }
            }
            AccessChange::JoinToken(row) => {
                if self.state.join_tokens.values().any(|t| t.hash == row.hash && t.id != row.id) {
                    return Err(constraint(None, "two join tokens with one hash"));
                }
                self.set(|s| &mut s.join_tokens, row.id.clone(), Some(row.clone()));
            }
        }
        Ok(())
    }
}

fn fence(row: &TaskRow) -> (TaskState, u32, u32) {
    (row.state, row.try_number, row.epoch)
}

fn name_of(attempt: &AttemptKey) -> RowRef {
    RowRef::Try(attempt.clone())
}
