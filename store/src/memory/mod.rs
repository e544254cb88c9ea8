//! The memory twin: the same promises without a disk, for `dags test` and the tests of others.
//!
//! **Invariant:** it refuses what the databases refuse. A batch is applied change by change with a journal of
//! what each change replaced; the first refusal plays the journal back, so a batch is all or nothing here too.
//! It can lead by leases, as PostgreSQL does, and each of several connections to it can be cut or held up.

mod apply;
mod asset_changes;
mod assets;
mod backfills;
mod find;
mod reader;
mod reader_history;
mod remove;
mod vault;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::DbErr;
use tidemill_engine::{
    backfill::{BackfillDate, BackfillRow},
    definition::Dag,
    ids::{
        AttemptKey, BackfillKey, ConnectionId, DagId, PoolName, RunId, RunKey, TaskId, TaskInstanceKey,
        VariableName,
    },
    rows::{
        DagRow, EngineSnapshot, FinishedRun, MapRow, PassedOver, PoolRow, RunRow, RunSnapshot, TaskRow,
        TryRow, VersionHash,
    },
};

use crate::{
    access::{ApiToken, IdempotencyRow, JoinToken, LoginLink, Session, WorkerKey},
    backfills::BackfillIdempotencyRow,
    batch::{Batch, BatchId, ImportError, VersionRow},
    error::{CommitError, LeadershipError, ReadError, Unavailable},
    reader::{AuditRow, OutboxRow, StoredReport},
    vault::{ConnectionRow, VariableRow},
    writer::{LEADER_LEASE, Leadership, Loaded, Writer},
};

/// The smallest key that a task instance of the run can have.
fn first_of(run: RunKey) -> TaskInstanceKey {
    // `0` is the smallest text that the pattern of ids allows: `-` and `.` sort before it but cannot begin one.
    static FIRST: std::sync::LazyLock<Option<TaskId>> = std::sync::LazyLock::new(|| TaskId::new("0").ok());
    let task = FIRST.clone().unwrap_or_else(|| unreachable!("`0` is a valid id"));
    TaskInstanceKey { run, task, map_index: i32::MIN }
}

/// What a test makes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written and the caller knows.
    Unavailable,
    /// Nothing is written and the caller does not know.
    LostBefore,
    /// It is written and the caller does not know.
    LostAfter,
    /// Nothing is written, and the database would refuse it again.
    Refused,
}

/// How a connection is, as far as writing and leading go. Reading is not affected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// It works.
    #[default]
    Up,
    /// Everything fails at once.
    Cut,
    /// Nothing is answered until it is up or cut.
    Silent,
}

/// The clock that leases go by: the database's, whatever the servers think.
type LeaseClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A database in memory. Clones share it, as statements share a connection.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    link: Arc<tokio::sync::watch::Sender<Link>>,
    /// Absent: who leads leads until it is released, as with SQLite.
    clock: Option<LeaseClock>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("link", &self.link.borrow()).finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { state: Arc::default(), link: Arc::new(tokio::sync::watch::Sender::new(Link::Up)), clock: None }
    }
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
    next_asset_event: i64,
    /// When the lease ends, by the lease clock.
    expires_at: Duration,
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
    maps: BTreeMap<(RunKey, TaskId), MapRow>,
    outputs: BTreeMap<TaskInstanceKey, BTreeMap<String, serde_json::Value>>,
    reports: BTreeMap<AttemptKey, StoredReport>,
    assets: assets::AssetTables,
    pools: BTreeMap<PoolName, PoolRow>,
    backfills: BTreeMap<BackfillKey, BackfillRow>,
    backfill_dates: BTreeMap<(BackfillKey, DateTime<Utc>), BackfillDate>,
    backfill_idempotency: BTreeMap<String, BackfillIdempotencyRow>,
    outbox: BTreeMap<String, OutboxRow>,
    import_errors: BTreeMap<String, ImportError>,
    audit: BTreeMap<i64, AuditRow>,
    api_tokens: BTreeMap<String, ApiToken>,
    sessions: BTreeMap<String, Session>,
    login_links: BTreeMap<String, LoginLink>,
    worker_keys: BTreeMap<String, WorkerKey>,
    join_tokens: BTreeMap<String, JoinToken>,
    idempotency: BTreeMap<String, IdempotencyRow>,
    variables: BTreeMap<VariableName, VariableRow>,
    connections: BTreeMap<ConnectionId, ConnectionRow>,
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
            leader: Leader { next_run_key: 1, next_asset_event: 1, ..Leader::default() },
            assets: assets::AssetTables::default(),
            pools,
            dags: BTreeMap::new(),
            versions: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            runs: BTreeMap::new(),
            run_ids: HashMap::new(),
            run_dates: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tries: BTreeMap::new(),
            maps: BTreeMap::new(),
            outputs: BTreeMap::new(),
            reports: BTreeMap::new(),
            backfills: BTreeMap::new(),
            backfill_dates: BTreeMap::new(),
            backfill_idempotency: BTreeMap::new(),
            outbox: BTreeMap::new(),
            import_errors: BTreeMap::new(),
            audit: BTreeMap::new(),
            api_tokens: BTreeMap::new(),
            sessions: BTreeMap::new(),
            login_links: BTreeMap::new(),
            worker_keys: BTreeMap::new(),
            join_tokens: BTreeMap::new(),
            idempotency: BTreeMap::new(),
            variables: BTreeMap::new(),
            connections: BTreeMap::new(),
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

    /// Returns an empty database whose leadership is a lease of [`LEADER_LEASE`] by `clock`.
    #[must_use]
    pub fn with_leases(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { clock: Some(Arc::new(clock)), ..Self::default() }
    }

    /// Returns another connection to the same database, with a link of its own.
    #[must_use]
    pub fn connect(&self) -> Self {
        let link = Arc::new(tokio::sync::watch::Sender::new(Link::Up));
        Self { state: Arc::clone(&self.state), link, clock: self.clock.clone() }
    }

    /// Cuts this connection, holds it up or lets it work again.
    pub fn set_link(&self, link: Link) {
        self.link.send_replace(link);
    }

    async fn reach(&self) -> Result<(), CommitError> {
        let mut link = self.link.subscribe();
        let state = link.wait_for(|link| *link != Link::Silent).await.map_or(Link::Cut, |link| *link);
        match state {
            Link::Up => Ok(()),
            _ => Err(CommitError::Unavailable { why: Unavailable::Connection, source: injected() }),
        }
    }

    fn lease(&self) -> Option<Duration> {
        self.clock.is_some().then_some(LEADER_LEASE)
    }

    /// When a lease that begins now ends.
    fn expiry(&self) -> Duration {
        self.clock.as_ref().map_or(Duration::MAX, |clock| clock() + LEADER_LEASE)
    }

    fn is_lease_valid(&self, expires_at: Duration) -> bool {
        self.clock.as_ref().is_none_or(|clock| expires_at > clock())
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
        let maps = self.maps_of(run.key).cloned().collect();
        RunSnapshot { run: run.clone(), fences: fences(&tasks, tries), maps, tasks }
    }

    fn tasks_of(&self, run: RunKey) -> impl Iterator<Item = &TaskRow> {
        self.tasks.range(first_of(run)..).map(|(_, row)| row).take_while(move |t| t.key.run == run)
    }

    fn maps_of(&self, run: RunKey) -> impl Iterator<Item = &MapRow> {
        let first = (run, first_of(run).task);
        self.maps.range(first..).take_while(move |((key, _), _)| *key == run).map(|(_, row)| row)
    }

    fn tries_of(&self, run: RunKey) -> impl Iterator<Item = &StoredTry> {
        let first = AttemptKey { instance: first_of(run), try_number: 0, epoch: 0 };
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
        self.reach().await?;
        let mut state = self.lock();
        let was_abandoned = !state.leader.holder.is_empty();
        if let Some(clock) = &self.clock
            && was_abandoned
            && let Some(left) = state.leader.expires_at.checked_sub(clock()).filter(|left| !left.is_zero())
        {
            let Leader { holder, url, term, .. } = state.leader.clone();
            return Err(LeadershipError::Held { holder, url, term, expires_in: Some(left) });
        }
        let term = state.leader.term + 1;
        let (next_run_key, next_asset_event) = (state.leader.next_run_key, state.leader.next_asset_event);
        state.leader = Leader {
            holder: holder.to_owned(),
            url: url.to_owned(),
            term,
            batch: BatchId::default(),
            next_run_key,
            next_asset_event,
            expires_at: self.expiry(),
        };
        Ok(Leadership { term, lease: self.lease(), was_abandoned })
    }

    async fn renew(&self, term: i64) -> Result<Leadership, CommitError> {
        self.reach().await?;
        let mut state = self.lock();
        if state.leader.term != term || state.leader.holder.is_empty() {
            return Err(CommitError::TermLost { term });
        }
        state.leader.expires_at = self.expiry();
        Ok(Leadership { term, lease: self.lease(), was_abandoned: false })
    }

    async fn release(&self, term: i64) -> Result<(), CommitError> {
        self.reach().await?;
        let mut state = self.lock();
        if state.leader.term == term {
            state.leader.holder.clear();
            state.leader.url.clear();
        }
        Ok(())
    }

    async fn commit(&self, batch: &Batch) -> Result<(), CommitError> {
        self.reach().await?;
        let mut state = self.lock();
        let fault = state.faults.pop_front();
        match fault {
            Some(Fault::Unavailable) => {
                return Err(CommitError::Unavailable { why: Unavailable::Connection, source: injected() });
            }
            Some(Fault::LostBefore) => {
                return Err(CommitError::Ambiguous { batch: batch.id, source: injected() });
            }
            Some(Fault::Refused) => {
                let what = "refused by the test".to_owned();
                return Err(CommitError::Constraint { run: None, what });
            }
            Some(Fault::LostAfter) | None => {}
        }
        if state.leader.term != batch.term || state.leader.holder.is_empty() {
            return Err(CommitError::TermLost { term: batch.term });
        }
        if state.leader.batch != batch.id {
            state.apply(batch)?;
            state.leader.batch = batch.id;
            state.leader.expires_at = self.expiry();
        }
        match fault {
            Some(_) => Err(CommitError::Ambiguous { batch: batch.id, source: injected() }),
            None => Ok(()),
        }
    }

    async fn was_committed(&self, term: i64, batch: BatchId) -> Result<bool, CommitError> {
        self.reach().await?;
        let state = self.lock();
        if state.leader.term != term {
            return Err(CommitError::TermLost { term });
        }
        Ok(state.leader.batch == batch)
    }

    async fn redeem_login_link(&self, term: i64, hash: &str, session: &Session) -> Result<bool, CommitError> {
        self.reach().await?;
        let mut state = self.lock();
        if state.leader.term != term || state.leader.holder.is_empty() {
            return Err(CommitError::TermLost { term });
        }
        let at = session.created_at;
        let Some(link) = state.login_links.get_mut(hash) else { return Ok(false) };
        if link.used_at.is_some() || link.expires_at <= at {
            return Ok(false);
        }
        link.used_at = Some(at);
        state.sessions.insert(session.hash.clone(), session.clone());
        let (seq, row) = apply::next_audit(&state.audit, &session.begun());
        state.audit.insert(seq, row);
        Ok(true)
    }

    async fn load(&self) -> Result<Loaded, ReadError> {
        if self.reach().await.is_err() {
            return Err(ReadError::Unavailable { source: injected() });
        }
        let state = self.lock();
        let mut snapshot = EngineSnapshot {
            pools: state.pools.values().cloned().collect(),
            backfills: state.backfills.values().filter(|row| !row.state.is_terminal()).cloned().collect(),
            next_run_key: state.leader.next_run_key,
            asset_queue: state.assets.queues(),
            next_asset_event: state.leader.next_asset_event,
            ..EngineSnapshot::default()
        };
        for dag in state.dags.values() {
            match state.definition(&dag.dag_id, &dag.version) {
                Some(definition) => snapshot.dags.push((dag.clone(), definition)),
                None => snapshot.undefined.push(dag.clone()),
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
