//! Applies a batch to the memory twin, all or nothing.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use tidemill_engine::{
    action::{RunChange, TaskChange},
    ids::{AttemptKey, DagId, RunKey, TaskId, TaskInstanceKey},
    rows::{MapRow, RunRow, TaskRow, VersionHash},
    state::{RunType, TaskState},
};

use super::{State, StoredTry};
use crate::{
    batch::{AccessChange, AuditEntry, Batch, ImportErrorChange, OutboxChange, TryWrite},
    check,
    codec::{AUDIT_ROOT, audit_hash, merged_tries},
    error::{CommitError, RowRef},
    reader::{AuditRow, OutboxRow, StoredReport},
    vault::VaultChange,
};

/// What plays one change back.
type Undo = Box<dyn FnOnce(&mut State)>;

/// The smallest key that a task instance of the run can have.
pub(super) fn first_of(run: RunKey) -> TaskInstanceKey {
    // `0` is the smallest text that the pattern of ids allows: `-` and `.` sort before it but cannot begin one.
    static FIRST: std::sync::LazyLock<Option<TaskId>> = std::sync::LazyLock::new(|| TaskId::new("0").ok());
    let task = FIRST.clone().unwrap_or_else(|| unreachable!("`0` is a valid id"));
    TaskInstanceKey { run, task, map_index: i32::MIN }
}

fn constraint(run: Option<RunKey>, what: impl Into<String>) -> CommitError {
    CommitError::Constraint { run, what: what.into() }
}

fn mismatch(what: RowRef) -> CommitError {
    CommitError::GuardMismatch { what }
}

/// Names the table that a change goes to.
type Table<K, V> = fn(&mut State) -> &mut BTreeMap<K, V>;

struct Apply<'a> {
    state: &'a mut State,
    journal: Vec<Undo>,
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
    fn set<K, V>(&mut self, table: Table<K, V>, key: K, value: Option<V>)
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
        for change in &batch.vault {
            if !change.is_sealed() {
                return Err(constraint(None, "a value is not sealed"));
            }
            match change {
                VaultChange::SetVariable(row) => {
                    self.set(|s| &mut s.variables, row.name.clone(), Some(row.clone()));
                }
                VaultChange::DeleteVariable(name) => self.set(|s| &mut s.variables, name.clone(), None),
                VaultChange::SetConnection(row) => {
                    self.set(|s| &mut s.connections, row.id.clone(), Some(row.clone()));
                }
                VaultChange::DeleteConnection(id) => self.set(|s| &mut s.connections, id.clone(), None),
            }
        }
        for row in &batch.idempotency {
            self.check_run(row.run, "idempotency key")?;
            if self.state.idempotency.contains_key(&row.key_hash) {
                return Err(mismatch(RowRef::Other { table: "idempotency_key", key: row.key_hash.clone() }));
            }
            self.set(|s| &mut s.idempotency, row.key_hash.clone(), Some(row.clone()));
        }
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

    fn check_run(&self, run: RunKey, what: &str) -> Result<(), CommitError> {
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

    fn index_run(&mut self, row: &RunRow, is_added: bool) {
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
                    let revoked = crate::batch::WorkerKey { revoked_at: Some(*at), ..key };
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

    fn delete_run(&mut self, run: RunKey) {
        let Some(row) = self.state.runs.get(&run).cloned() else { return };
        let tasks: Vec<_> = self.state.tasks_of(run).map(|t| t.key.clone()).collect();
        let tries: Vec<_> = self.state.tries_of(run).map(|t| t.row.attempt.clone()).collect();
        let outputs = self.state.outputs.range(first_of(run)..).map(|(key, _)| key.clone());
        let outputs: Vec<_> = outputs.take_while(|key| key.run == run).collect();
        let maps: Vec<_> = self.state.maps.keys().filter(|(key, _)| *key == run).cloned().collect();
        for key in maps {
            self.set(|s| &mut s.maps, key, None);
        }
        let keys = self.state.idempotency.values().filter(|row| row.run == run);
        let keys: Vec<_> = keys.map(|row| row.key_hash.clone()).collect();
        for key in tasks {
            self.set(|s| &mut s.tasks, key, None);
        }
        for key in tries {
            self.set(|s| &mut s.tries, key.clone(), None);
            self.set(|s| &mut s.reports, key, None);
        }
        for key in outputs {
            self.set(|s| &mut s.outputs, key, None);
        }
        for key in keys {
            self.set(|s| &mut s.idempotency, key, None);
        }
        self.index_run(&row, false);
        self.set(|s| &mut s.runs, run, None);
    }

    fn delete_dag(&mut self, dag_id: &DagId) {
        let runs = self.state.run_dates.get(dag_id).into_iter().flatten();
        let runs: Vec<RunKey> = runs.map(|(_, key)| *key).collect();
        for run in runs {
            self.delete_run(run);
        }
        let keys = self.state.versions.keys().filter(|(dag, _)| dag == dag_id);
        for key in keys.cloned().collect::<Vec<_>>() {
            self.set(|s| &mut s.versions, key, None);
        }
        let keys = self.state.passed_over.keys().filter(|(dag, ..)| dag == dag_id);
        for key in keys.cloned().collect::<Vec<_>>() {
            self.set(|s| &mut s.passed_over, key, None);
        }
        self.set(|s| &mut s.dags, dag_id.clone(), None);
    }

    fn prune(&mut self, dag_id: &DagId, before: DateTime<Utc>) {
        let state = &self.state;
        let is_used = |hash: &VersionHash| {
            state.dags.get(dag_id).is_some_and(|dag| dag.version == *hash)
                || state.runs.values().any(|run| run.dag_id == *dag_id && run.dag_version == *hash)
        };
        let versions = state.versions.values().filter(|row| row.dag_id == *dag_id && row.created_at < before);
        let versions: Vec<_> = versions.map(|row| row.hash.clone()).filter(|hash| !is_used(hash)).collect();
        let passed = state.passed_over.iter().filter(|((dag, ..), row)| dag == dag_id && row.at < before);
        let passed: Vec<_> = passed.map(|(key, _)| key.clone()).collect();
        for hash in versions {
            self.set(|s| &mut s.versions, (dag_id.clone(), hash), None);
        }
        for key in passed {
            self.set(|s| &mut s.passed_over, key, None);
        }
    }

    fn expire(&mut self, batch: &Batch) {
        let Some(before) = batch.expire_before else { return };
        let state = &self.state;
        let sessions: Vec<_> =
            state.sessions.values().filter(|s| s.expires_at < before).map(|s| s.hash.clone()).collect();
        let links: Vec<_> =
            state.login_links.values().filter(|l| l.expires_at < before).map(|l| l.hash.clone()).collect();
        let keys: Vec<_> = state
            .idempotency
            .values()
            .filter(|k| k.created_at < before)
            .map(|k| k.key_hash.clone())
            .collect();
        let is_old = |row: &&OutboxRow| row.next_attempt_at.is_none() && row.created_at < before;
        let messages: Vec<_> =
            state.outbox.values().filter(is_old).map(|row| row.message.id.clone()).collect();
        for key in sessions {
            self.set(|s| &mut s.sessions, key, None);
        }
        for key in links {
            self.set(|s| &mut s.login_links, key, None);
        }
        for key in keys {
            self.set(|s| &mut s.idempotency, key, None);
        }
        for key in messages {
            self.set(|s| &mut s.outbox, key, None);
        }
    }
}

fn fence(row: &TaskRow) -> (TaskState, u32, u32) {
    (row.state, row.try_number, row.epoch)
}

fn name_of(attempt: &AttemptKey) -> RowRef {
    RowRef::Try(attempt.clone())
}

/// Whether another run has the key (dag, run type, logical date), which scheduled and backfill runs own.
fn is_date_taken(state: &State, row: &RunRow) -> bool {
    if !matches!(row.run_type, RunType::Scheduled | RunType::Backfill) {
        return false;
    }
    let Some(dates) = state.run_dates.get(&row.dag_id) else { return false };
    let (first, last) = ((row.logical_date, RunKey(i64::MIN)), (row.logical_date, RunKey(i64::MAX)));
    dates
        .range(first..=last)
        .any(|(_, key)| state.runs.get(key).is_some_and(|other| other.run_type == row.run_type))
}
