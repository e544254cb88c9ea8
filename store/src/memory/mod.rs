//! The memory twin: the same promises without a disk, for `dags test` and the tests of others.
//!
//! **Invariant:** it refuses what the databases refuse. A batch is applied change by change with a journal of
//! what each change replaced; the first refusal plays the journal back, so a batch is all or nothing here too.

mod apply;
mod reader;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::DbErr;
use tidemill_engine::{
    definition::Dag,
    ids::{AttemptKey, DagId, PoolName, RunId, RunKey, TaskInstanceKey},
    rows::{
        DagRow, EngineSnapshot, FinishedRun, PassedOver, PoolRow, RunRow, RunSnapshot, TaskRow, TryRow,
        VersionHash,
    },
};

use crate::{
    batch::{
        ApiToken, Batch, BatchId, IdempotencyRow, ImportError, JoinToken, LoginLink, Session, VersionRow,
        WorkerKey,
    },
    error::{CommitError, LeadershipError, ReadError, Unavailable},
    reader::{AuditRow, OutboxRow, StoredReport},
    writer::{Leadership, Loaded, Writer},
};

/// What a test makes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written and the caller knows.
    Unavailable,
    /// Nothing is written and the caller does not know.
    LostBefore,
    /// It is written and the caller does not know.
    LostAfter,
}

/// A database in memory. Clones share it, as connections share a database.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

/// A stored try with what only the store keeps of it.
#[derive(Clone, Debug)]
struct StoredTry {
    row: TryRow,
    token_hash: Option<String>,
    rendered: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default)]
struct Leader {
    holder: String,
    url: String,
    term: i64,
    batch: BatchId,
    next_run_key: i64,
}

/// The tables. Secondary indexes stand beside the table that they belong to and change with it.
#[derive(Debug)]
struct State {
    leader: Leader,
    dags: BTreeMap<DagId, DagRow>,
    versions: BTreeMap<(DagId, VersionHash), VersionRow>,
    passed_over: BTreeMap<(DagId, DateTime<Utc>, DateTime<Utc>), PassedOver>,
    runs: BTreeMap<RunKey, RunRow>,
    run_ids: HashMap<(DagId, RunId), RunKey>,
    run_dates: BTreeMap<DagId, BTreeSet<(DateTime<Utc>, RunKey)>>,
    tasks: BTreeMap<TaskInstanceKey, TaskRow>,
    tries: BTreeMap<AttemptKey, StoredTry>,
    outputs: BTreeMap<TaskInstanceKey, BTreeMap<String, serde_json::Value>>,
    reports: BTreeMap<AttemptKey, StoredReport>,
    pools: BTreeMap<PoolName, PoolRow>,
    outbox: BTreeMap<String, OutboxRow>,
    import_errors: BTreeMap<String, ImportError>,
    audit: BTreeMap<i64, AuditRow>,
    api_tokens: BTreeMap<String, ApiToken>,
    sessions: BTreeMap<String, Session>,
    login_links: BTreeMap<String, LoginLink>,
    worker_keys: BTreeMap<String, WorkerKey>,
    join_tokens: BTreeMap<String, JoinToken>,
    idempotency: BTreeMap<String, IdempotencyRow>,
    settings: BTreeMap<String, String>,
    faults: VecDeque<Fault>,
}

impl Default for State {
    fn default() -> Self {
        let mut pools = BTreeMap::new();
        if let Ok(name) = PoolName::new("default_pool") {
            let description = "Every task that names no other pool".to_owned();
            pools.insert(name.clone(), PoolRow { name, slots: 128, description });
        }
        Self {
            leader: Leader { next_run_key: 1, ..Leader::default() },
            pools,
            dags: BTreeMap::new(),
            versions: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            runs: BTreeMap::new(),
            run_ids: HashMap::new(),
            run_dates: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tries: BTreeMap::new(),
            outputs: BTreeMap::new(),
            reports: BTreeMap::new(),
            outbox: BTreeMap::new(),
            import_errors: BTreeMap::new(),
            audit: BTreeMap::new(),
            api_tokens: BTreeMap::new(),
            sessions: BTreeMap::new(),
            login_links: BTreeMap::new(),
            worker_keys: BTreeMap::new(),
            join_tokens: BTreeMap::new(),
            idempotency: BTreeMap::new(),
            settings: BTreeMap::new(),
            faults: VecDeque::new(),
        }
    }
}

impl MemoryStore {
    /// Returns an empty database with `default_pool`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next commit that has no fault yet go wrong.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held is a bug that its thread reports; the journal kept the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn injected() -> DbErr {
    DbErr::Custom("injected by a test".to_owned())
}

impl State {
    fn snapshot(&self, run: &RunRow) -> RunSnapshot {
        let tasks: Vec<TaskRow> = self.tasks_of(run.key).cloned().collect();
        let tries = self.tries_of(run.key).map(|t| t.row.attempt.clone());
        RunSnapshot { run: run.clone(), fences: fences(&tasks, tries), tasks }
    }

    fn tasks_of(&self, run: RunKey) -> impl Iterator<Item = &TaskRow> {
        self.tasks.range(apply::first_of(run)..).map(|(_, row)| row).take_while(move |t| t.key.run == run)
    }

    fn tries_of(&self, run: RunKey) -> impl Iterator<Item = &StoredTry> {
        let first = AttemptKey { instance: apply::first_of(run), try_number: 0, epoch: 0 };
        self.tries.range(first..).map(|(_, t)| t).take_while(move |t| t.row.attempt.instance.run == run)
    }

    fn definition(&self, dag_id: &DagId, hash: &VersionHash) -> Option<Arc<Dag>> {
        self.versions.get(&(dag_id.clone(), hash.clone())).map(|v| Arc::clone(&v.definition))
    }
}

/// Returns the highest try number and epoch per instance, over its row and its tries.
pub(crate) fn fences(tasks: &[TaskRow], tries: impl Iterator<Item = AttemptKey>) -> Vec<AttemptKey> {
    let mut highest: BTreeMap<TaskInstanceKey, (u32, u32)> = BTreeMap::new();
    let rows = tasks.iter().map(|t| (t.key.clone(), t.try_number, t.epoch));
    for (key, try_number, epoch) in rows.chain(tries.map(|a| (a.instance, a.try_number, a.epoch))) {
        if try_number > 0 || epoch > 0 {
            let entry = highest.entry(key).or_default();
            *entry = (entry.0.max(try_number), entry.1.max(epoch));
        }
    }
    highest
        .into_iter()
        .map(|(instance, (try_number, epoch))| AttemptKey { instance, try_number, epoch })
        .collect()
}

#[async_trait]
impl Writer for MemoryStore {
    async fn take_leadership(&self, holder: &str, url: &str) -> Result<Leadership, LeadershipError> {
        let mut state = self.lock();
        let was_abandoned = !state.leader.holder.is_empty();
        let term = state.leader.term + 1;
        let next_run_key = state.leader.next_run_key;
        state.leader = Leader {
            holder: holder.to_owned(),
            url: url.to_owned(),
            term,
            batch: BatchId::default(),
            next_run_key,
        };
        Ok(Leadership { term, lease: None, was_abandoned })
    }

    async fn renew(&self, term: i64) -> Result<Leadership, CommitError> {
        let state = self.lock();
        if state.leader.term != term || state.leader.holder.is_empty() {
            return Err(CommitError::TermLost { term });
        }
        Ok(Leadership { term, lease: None, was_abandoned: false })
    }

    async fn release(&self, term: i64) -> Result<(), CommitError> {
        let mut state = self.lock();
        if state.leader.term == term {
            state.leader.holder.clear();
            state.leader.url.clear();
        }
        Ok(())
    }

    async fn commit(&self, batch: &Batch) -> Result<(), CommitError> {
        let mut state = self.lock();
        let fault = state.faults.pop_front();
        match fault {
            Some(Fault::Unavailable) => {
                return Err(CommitError::Unavailable { why: Unavailable::Connection, source: injected() });
            }
            Some(Fault::LostBefore) => {
                return Err(CommitError::Ambiguous { batch: batch.id, source: injected() });
            }
            Some(Fault::LostAfter) | None => {}
        }
        if state.leader.term != batch.term || state.leader.holder.is_empty() {
            return Err(CommitError::TermLost { term: batch.term });
        }
        if state.leader.batch != batch.id {
            state.apply(batch)?;
            state.leader.batch = batch.id;
        }
        match fault {
            Some(_) => Err(CommitError::Ambiguous { batch: batch.id, source: injected() }),
            None => Ok(()),
        }
    }

    async fn was_committed(&self, term: i64, batch: BatchId) -> Result<bool, CommitError> {
        let state = self.lock();
        if state.leader.term != term {
            return Err(CommitError::TermLost { term });
        }
        Ok(state.leader.batch == batch)
    }

    async fn redeem_login_link(&self, term: i64, hash: &str, session: &Session) -> Result<bool, CommitError> {
        let mut state = self.lock();
        if state.leader.term != term {
            return Err(CommitError::TermLost { term });
        }
        let at = session.created_at;
        let Some(link) = state.login_links.get_mut(hash) else { return Ok(false) };
        if link.used_at.is_some() || link.expires_at <= at {
            return Ok(false);
        }
        link.used_at = Some(at);
        state.sessions.insert(session.hash.clone(), session.clone());
        Ok(true)
    }

    async fn load(&self) -> Result<Loaded, ReadError> {
        let state = self.lock();
        let mut snapshot = EngineSnapshot {
            pools: state.pools.values().cloned().collect(),
            next_run_key: state.leader.next_run_key,
            ..EngineSnapshot::default()
        };
        for dag in state.dags.values() {
            if let Some(definition) = state.definition(&dag.dag_id, &dag.version) {
                snapshot.dags.push((dag.clone(), definition));
            }
        }
        for run in state.runs.values().filter(|run| !run.state.is_terminal()) {
            let version = (run.dag_id.clone(), run.dag_version.clone());
            if let Some(definition) = state.definition(&version.0, &version.1) {
                snapshot.versions.insert(version, definition);
                snapshot.runs.push(state.snapshot(run));
                let open = state.tries_of(run.key).filter(|t| t.row.outcome.is_none());
                snapshot.open_tries.extend(open.map(|t| t.row.clone()));
            }
        }
        Ok(Loaded { snapshot, unreadable: Vec::new() })
    }

    async fn load_run(&self, run: RunKey) -> Result<Option<FinishedRun>, ReadError> {
        let state = self.lock();
        let Some(row) = state.runs.get(&run) else { return Ok(None) };
        let dag = state.definition(&row.dag_id, &row.dag_version);
        Ok(dag.map(|dag| FinishedRun { snapshot: state.snapshot(row), dag }))
    }

    async fn checkpoint(&self) -> Result<(), CommitError> {
        Ok(())
    }
}
