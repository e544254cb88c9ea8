//! The handle: how web and CLI reach the scheduler, and the only way to write to the database.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tidemill_engine::{
    action::{Changed, Reply},
    definition::Dag,
    event::{Event, RequestId},
    ids::{AttemptKey, DagId, PoolName, RunId, RunKey, TaskInstanceKey},
    rows::{EngineSnapshot, PoolRow},
    state::RunState,
    wait_reason::WaitReason,
};
use tidemill_protocol::worker::{
    ExchangeRequest, ExchangeResponse, HeartbeatRequest, HeartbeatResponse, PROTOCOL_VERSION, StartedNote,
    Token,
};
use tidemill_store::{Reader, access::Session, batch::ImportError, reader::RunQuery};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    beside::FileWarnings,
    change::Change,
    clock::Clock,
    error::{CallError, InvalidRequest, Unavailable},
    housekeeping,
    input::{Input, ReplyTo},
    logs::{LogSlice, LogStore},
    request::{AdminWrite, MarkRequest, TriggerRequest, Triggered},
    tokens::{InstanceSecret, random_suffix},
    vault::Vault,
    view::{Health, StoreState, WorkerView},
};

/// How many messages may wait for the loop.
pub const QUEUE_LIMIT: usize = 4096;
/// How many changes a subscriber may lag behind before it has to reload what it shows.
pub const CHANGE_LIMIT: usize = 4096;

/// Prefixes of run ids that people may not use.
const RESERVED_PREFIXES: [&str; 5] = ["scheduled__", "manual__", "backfill__", "asset__", "policy__"];

/// What the loop publishes about itself.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) is_leader: bool,
    pub(crate) leader_url: Option<String>,
    pub(crate) term: i64,
    pub(crate) last_tick: Duration,
    pub(crate) store: StoreState,
    pub(crate) quarantined_runs: usize,
}

/// What the loop, the folder sync and every handle share.
pub(crate) struct Shared {
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) status: Mutex<Status>,
    /// The newest definition of every DAG whose file is there.
    pub(crate) dags: RwLock<BTreeMap<DagId, Arc<Dag>>>,
    /// Names of the active runs, for log paths and events.
    pub(crate) runs: RwLock<BTreeMap<RunKey, (DagId, RunId)>>,
    /// What is odd about the file of a DAG although it loads.
    pub(crate) warnings: RwLock<BTreeMap<DagId, Arc<FileWarnings>>>,
    /// Files that could not be loaded, by path.
    pub(crate) import_errors: RwLock<BTreeMap<String, ImportError>>,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) vault: Vault,
    /// Known once this server has led.
    pub(crate) secret: OnceLock<InstanceSecret>,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) next_request: AtomicU64,
    /// Whether the DAG folder was looked through since this server leads.
    pub(crate) first_look: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn change(&self, change: Change) {
        // Nobody listening is not an error.
        let _ = self.changes.send(change);
    }

    pub(crate) fn secret(&self) -> Option<&InstanceSecret> {
        self.secret.get()
    }

    pub(crate) fn new_request(&self) -> RequestId {
        RequestId(self.next_request.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn update_status(&self, update: impl FnOnce(&mut Status)) {
        update(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A cheap, cloneable reference to a running scheduler.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("status", &self.shared.status()).finish_non_exhaustive()
    }
}

impl Handle {
    /// Triggers a dag run. `conf` is checked against the DAG's params.
    ///
    /// # Errors
    /// [`CallError`]: SCH0201, SCH0202, SCH0205, SCH0209, SCH0213, SCH0214, SCH0215 or unavailable.
    pub async fn trigger(&self, trigger: TriggerRequest, side: AdminWrite) -> Result<Triggered, CallError> {
        if let Some(run_id) = &trigger.run_id
            && let Some(prefix) =
                RESERVED_PREFIXES.iter().find(|prefix| run_id.as_str().starts_with(**prefix))
        {
            return Err(InvalidRequest::ReservedRunId { run_id: run_id.to_string(), prefix }.into());
        }
        let suffix = random_suffix().map_err(|error| Unavailable::Store { reason: error.to_string() })?;
        self.send(|reply| Input::Trigger { trigger: Box::new(trigger), suffix, side, reply }).await
    }

    /// Pauses or unpauses a DAG.
    ///
    /// # Errors
    /// [`CallError`]: SCH0201 or unavailable.
    pub async fn pause(&self, dag_id: DagId, is_paused: bool, side: AdminWrite) -> Result<(), CallError> {
        self.request(side, |request| Event::DagPaused { request, dag_id, is_paused }).await.map(drop)
    }

    /// Deletes a DAG whose file is gone, with its runs and their logs.
    ///
    /// # Errors
    /// [`CallError`]: SCH0201, SCH0207, SCH0208 or unavailable.
    pub async fn delete_dag(&self, dag_id: DagId, side: AdminWrite) -> Result<(), CallError> {
        self.delete_ended_runs(&dag_id).await?;
        self.request(side, |request| Event::DagDeleted { request, dag_id }).await.map(drop)
    }

    /// Deletes what would be too much for the one commit that deletes a DAG, if that is going to be allowed.
    async fn delete_ended_runs(&self, dag_id: &DagId) -> Result<(), CallError> {
        let unavailable = |reason: String| CallError::from(Unavailable::Store { reason });
        let read = |error: tidemill_store::ReadError| unavailable(chain(&error));
        let reader = &self.shared.reader;
        let found = reader.dag(dag_id).await.map_err(read)?;
        let Some(detail) = found.filter(|detail| detail.dag.is_missing) else { return Ok(()) };
        let states = RunState::ALL.iter().copied().filter(|state| !state.is_terminal()).collect();
        let active = RunQuery { dag_id: Some(dag_id.clone()), states, ..RunQuery::default() };
        if !reader.runs(&active).await.map_err(read)?.items.is_empty() {
            return Ok(());
        }
        let now = self.shared.clock.now().wall;
        let limit = housekeeping::runs_per_write(detail.definition.tasks.len());
        housekeeping::delete_runs(self, dag_id, now, limit).await.map_err(unavailable)
    }

    /// Gives task instances a verdict by hand; returns what changed, or would.
    ///
    /// # Errors
    /// [`CallError`]: SCH0114, SCH0203, SCH0204, SCH0212 or unavailable.
    pub async fn mark_task(&self, mark: MarkRequest, side: AdminWrite) -> Result<Vec<Changed>, CallError> {
        let MarkRequest { run, tasks, map_index, state, is_dry_run } = mark;
        self.request(side, |request| Event::MarkTask {
            request,
            run,
            tasks,
            map_index,
            state,
            is_dry_run,
            finished: None,
        })
        .await
        .map(changed)
    }

    /// Gives a run a verdict by hand, `success` or `failed`; returns what changed.
    ///
    /// # Errors
    /// [`CallError`]: SCH0203, SCH0212 or unavailable.
    pub async fn mark_run(
        &self,
        run: RunKey,
        state: RunState,
        side: AdminWrite,
    ) -> Result<Vec<Changed>, CallError> {
        let is_dry_run = false;
        self.request(side, |request| Event::MarkRun { request, run, state, is_dry_run, finished: None })
            .await
            .map(changed)
    }

    /// Returns what [`Handle::mark_run`] would change.
    ///
    /// # Errors
    /// [`CallError`]: SCH0203, SCH0212 or unavailable.
    pub async fn would_mark_run(&self, run: RunKey, state: RunState) -> Result<Vec<Changed>, CallError> {
        let (side, is_dry_run) = (AdminWrite::default(), true);
        self.request(side, |request| Event::MarkRun { request, run, state, is_dry_run, finished: None })
            .await
            .map(changed)
    }

    /// Cancels a run; returns what changed.
    ///
    /// # Errors
    /// [`CallError`]: SCH0203, SCH0206 or unavailable.
    pub async fn cancel(&self, run: RunKey, side: AdminWrite) -> Result<Vec<Changed>, CallError> {
        let is_dry_run = false;
        self.request(side, |request| Event::Cancel { request, run, is_dry_run, ended: None })
            .await
            .map(changed)
    }

    /// Returns what [`Handle::cancel`] would change.
    ///
    /// # Errors
    /// [`CallError`]: SCH0203, SCH0206 or unavailable.
    pub async fn would_cancel(&self, run: RunKey) -> Result<Vec<Changed>, CallError> {
        let (side, is_dry_run) = (AdminWrite::default(), true);
        self.request(side, |request| Event::Cancel { request, run, is_dry_run, ended: None })
            .await
            .map(changed)
    }

    /// Makes or resizes a pool.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn set_pool(&self, pool: PoolRow, side: AdminWrite) -> Result<(), CallError> {
        self.request(side, |request| Event::PoolChanged { request, pool }).await.map(drop)
    }

    /// Deletes a pool.
    ///
    /// # Errors
    /// [`CallError`]: SCH0210, SCH0211 or unavailable.
    pub async fn delete_pool(&self, name: PoolName, side: AdminWrite) -> Result<(), CallError> {
        self.request(side, |request| Event::PoolDeleted { request, name }).await.map(drop)
    }

    /// Writes what the engine has no say in: access, audit, retention.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn write(&self, write: AdminWrite) -> Result<(), CallError> {
        self.send(|reply| Input::Admin { write: Box::new(write), reply }).await
    }

    /// Returns once everything is committed that the first look through the DAG folder found: from then on its DAGs
    /// can be triggered.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn folder_read(&self) -> Result<(), CallError> {
        // The sender is ours too, so it cannot be gone.
        let _ = self.shared.first_look.subscribe().wait_for(|is_done| *is_done).await;
        self.write(AdminWrite::default()).await
    }

    /// Uses a login link: begins `session` and returns true, once. False: the link is unknown, expired or was
    /// used before.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn redeem_login_link(&self, hash: String, session: Session) -> Result<bool, CallError> {
        self.send(|reply| Input::Redeem { hash, session: Box::new(session), reply }).await
    }

    /// Returns why a task instance is not running; the first reason is the one that holds it back first.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn explain(&self, key: TaskInstanceKey) -> Result<Vec<WaitReason>, CallError> {
        self.send(|reply| Input::Explain { key, reply }).await
    }

    /// Returns the connected workers by name.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, CallError> {
        self.send(|reply| Input::Workers { reply }).await
    }

    /// Returns what the engine would have to be after a rebuild, with everything committed: for checks that
    /// the store holds the same.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn durable(&self) -> Result<EngineSnapshot, CallError> {
        self.send(|reply| Input::Durable { reply }).await.map(|snapshot| *snapshot)
    }

    /// Returns the files that could not be loaded, by path.
    #[must_use]
    pub fn import_errors(&self) -> Vec<ImportError> {
        let errors = self.shared.import_errors.read().unwrap_or_else(PoisonError::into_inner);
        errors.values().cloned().collect()
    }

    /// Returns the newest definition of a DAG, when it is known.
    #[must_use]
    pub fn dag(&self, dag_id: &DagId) -> Option<Arc<Dag>> {
        self.shared.dags.read().unwrap_or_else(PoisonError::into_inner).get(dag_id).cloned()
    }

    /// Returns how the scheduler is; never waits for the loop.
    #[must_use]
    pub fn health(&self) -> Health {
        let status = self.shared.status();
        Health {
            is_leader: status.is_leader,
            term: status.term,
            last_tick_age: self.shared.clock.now().mono.saturating_sub(status.last_tick),
            store: status.store,
            queue_depth: QUEUE_LIMIT.saturating_sub(self.shared.inbox.capacity()),
            queue_limit: QUEUE_LIMIT,
            import_errors: self.shared.import_errors.read().unwrap_or_else(PoisonError::into_inner).len(),
            quarantined_runs: status.quarantined_runs,
        }
    }

    /// Returns a stream of committed changes. Who lags more than [`CHANGE_LIMIT`] behind must reload.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// Carries results and free capacity in and verdicts, assignments and cancellations out. It is held for
    /// up to 20 s while there is nothing to say. The caller has checked that the worker is who it says it is.
    ///
    /// # Errors
    /// [`CallError`]: SCH0401, SCH0402 or unavailable. After an error the worker repeats all of it.
    pub async fn exchange(&self, request: ExchangeRequest) -> Result<ExchangeResponse, CallError> {
        if request.protocol != PROTOCOL_VERSION {
            let theirs = request.protocol;
            return Err(InvalidRequest::Protocol { theirs, ours: PROTOCOL_VERSION }.into());
        }
        self.send(|reply| Input::Exchange { request: Box::new(request), reply }).await
    }

    /// Renews the leases of the listed attempts and says which of them are gone.
    ///
    /// # Errors
    /// [`CallError`]: SCH0402 or unavailable; then no lease was renewed.
    pub async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatResponse, CallError> {
        self.send(|reply| Input::Heartbeat { request, reply }).await
    }

    /// Notes the start of an attempt. It is on disk within 250 ms.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn started(&self, note: StartedNote) -> Result<(), CallError> {
        self.send(|reply| Input::Started { note, reply }).await
    }

    /// Appends to the log of an attempt and returns where the next append begins: bytes that are there are
    /// passed over, and after a gap the answer is smaller than `offset`. A lost attempt may still append.
    ///
    /// # Errors
    /// [`CallError`]: SCH0403 for a token of another attempt, SCH0404, SCH0106.
    pub async fn append_log(
        &self,
        attempt: AttemptKey,
        token: &Token,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<u64, CallError> {
        let Some(secret) = self.shared.secret.get() else { return Err(self.gone().into()) };
        if !secret.is_attempt_token(&attempt, token) {
            return Err(InvalidRequest::AttemptToken.into());
        }
        let dag = self.dag_of(attempt.instance.run).await?;
        let logs = Arc::clone(&self.shared.logs);
        let key = attempt.clone();
        let end = offset.saturating_add(bytes.len() as u64);
        let size_bytes = blocking(move || logs.append(&dag, &key, offset, &bytes)).await?;
        if size_bytes == end && self.shared.changes.receiver_count() > 0 {
            self.shared.change(Change::Log { attempt, size_bytes });
        }
        Ok(size_bytes)
    }

    /// Reads at most `limit` bytes of the log of an attempt from `offset`. An attempt without a log has an
    /// empty one.
    ///
    /// # Errors
    /// [`CallError`]: SCH0404, SCH0106.
    pub async fn read_log(
        &self,
        attempt: AttemptKey,
        offset: u64,
        limit: usize,
    ) -> Result<LogSlice, CallError> {
        let dag = self.dag_of(attempt.instance.run).await?;
        let logs = Arc::clone(&self.shared.logs);
        Ok(blocking(move || logs.read(&dag, &attempt, offset, limit)).await?)
    }

    async fn dag_of(&self, run: RunKey) -> Result<DagId, CallError> {
        let active = self.shared.runs.read().unwrap_or_else(PoisonError::into_inner).get(&run).cloned();
        if let Some((dag_id, _)) = active {
            return Ok(dag_id);
        }
        let stored = self.shared.reader.run_by_key(run).await;
        match stored {
            Ok(Some(row)) => Ok(row.dag_id),
            Ok(None) => Err(InvalidRequest::UnknownAttempt.into()),
            Err(error) => Err(Unavailable::Store { reason: error.to_string() }.into()),
        }
    }

    pub(crate) async fn request(
        &self,
        side: AdminWrite,
        event: impl FnOnce(RequestId) -> Event,
    ) -> Result<Reply, CallError> {
        let request = self.shared.new_request();
        let event = event(request);
        self.send(|reply| Input::Request { request, event, side, reply }).await
    }

    pub(crate) async fn send<T>(&self, input: impl FnOnce(ReplyTo<T>) -> Input) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.try_send(input(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unavailable::Overloaded,
            mpsc::error::TrySendError::Closed(_) => self.gone(),
        })?;
        answer.await.unwrap_or_else(|_| Err(self.gone().into()))
    }

    fn gone(&self) -> Unavailable {
        let status = self.shared.status();
        // A stand-by reads its inbox too; only a server that has stopped has closed it.
        if status.is_leader || self.shared.inbox.is_closed() {
            Unavailable::Stopping
        } else {
            Unavailable::NotLeader { leader: status.leader_url }
        }
    }
}

pub(crate) fn changed(reply: Reply) -> Vec<Changed> {
    match reply {
        Reply::Changed(changed) => changed,
        _ => Vec::new(),
    }
}

async fn blocking<T: Send + 'static, E: std::error::Error + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Unavailable> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Unavailable::Log { reason: chain(&error) }),
        Err(_) => Err(Unavailable::Stopping),
    }
}

/// Returns an error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
