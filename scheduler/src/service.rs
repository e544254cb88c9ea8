//! Starting, leading, standing by and stopping.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, RwLock, atomic::AtomicU64},
    time::Duration,
};

use tidemill_engine::{engine::Engine, rows::EngineSnapshot};
use tidemill_store::{
    Batch, BatchId, CommitError, Leadership, LeadershipError, ReadError, Reader, Writer, writer::Loaded,
};
use tokio::{
    sync::{Notify, broadcast, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{
    assign::Assignments,
    clock::Clock,
    commit::STEP_DOWN_MARGIN,
    core::{Core, Exit, Trust},
    error::Unavailable,
    folder::FolderSync,
    handle::{CHANGE_LIMIT, Handle, QUEUE_LIMIT, Shared, Status, chain},
    housekeeping,
    input::Input,
    known::Known,
    logs::{LogError, LogStore},
    options::{Options, OptionsError},
    outage::OUTAGE_LEASE,
    outbox::Outbox,
    panics::{Panics, caught},
    round::Round,
    sessions::Sessions,
    tokens::{InstanceSecret, NoEntropy},
    vault::Vault,
    view::StoreState,
};

/// How often a lease is renewed.
const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// How often a stand-by looks whether it can lead.
const STAND_BY_INTERVAL: Duration = Duration::from_secs(1);
/// The setting that holds the instance secret.
const SECRET_SETTING: &str = "instance_secret";

/// Why the scheduler did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options contradict each other.
    #[error("the options of the scheduler are wrong")]
    Options(#[from] OptionsError),
    /// The folder of the logs cannot be used.
    #[error(transparent)]
    Logs(#[from] LogError),
    /// Leadership was not taken.
    #[error("this server cannot lead")]
    Leadership(#[source] LeadershipError),
    /// What is stored could not be read.
    #[error("the store could not be read")]
    Read(#[from] ReadError),
    /// The instance secret could not be stored.
    #[error("the store could not be written")]
    Commit(#[from] CommitError),
    /// There are no random bytes for the instance secret.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl StartError {
    /// Returns the stable code, where there is one.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Options(_) => "SCH0107",
            Self::Logs(_) => "SCH0106",
            Self::Leadership(error) => error.code(),
            Self::Read(error) => error.code(),
            Self::Commit(error) => error.code(),
            Self::Entropy(_) => "SCH0108",
        }
    }
}

/// A scheduler that runs, leading or standing by.
#[derive(Debug)]
pub struct Scheduler {
    handle: Handle,
    stop: watch::Sender<bool>,
    supervisor: JoinHandle<()>,
}

/// What a supervisor needs to lead again and again.
struct Service {
    options: Arc<Options>,
    shared: Arc<Shared>,
    writer: Arc<dyn Writer>,
    stop: watch::Receiver<bool>,
}

impl Scheduler {
    /// Starts the scheduler. When it returns, this server leads and everything that was stored is loaded, or
    /// it stands by because another one leads under a lease that can end.
    ///
    /// # Errors
    /// [`StartError`]; STO0207 when another process has the database for itself.
    pub async fn start(
        options: Options,
        reader: Arc<dyn Reader>,
        writer: Arc<dyn Writer>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        options.validate()?;
        let logs = Arc::new(LogStore::open(&options.logs_dir)?);
        let (inbox, receiver) = mpsc::channel(QUEUE_LIMIT);
        let status = Status {
            is_leader: false,
            leader_url: None,
            term: 0,
            last_tick: clock.now().mono,
            store: StoreState::Ok,
            quarantined_runs: 0,
        };
        let shared = Arc::new(Shared {
            inbox,
            changes: broadcast::Sender::new(CHANGE_LIMIT),
            status: Mutex::new(status),
            dags: RwLock::default(),
            runs: RwLock::default(),
            warnings: RwLock::default(),
            import_errors: RwLock::new(BTreeMap::new()),
            logs,
            vault: Vault::new(options.secret_key_file.clone(), options.definitions.clone()),
            secret: OnceLock::new(),
            reader,
            clock,
            next_request: AtomicU64::new(1),
            first_look: watch::Sender::new(false),
        });
        let (stop, stopped) = watch::channel(false);
        let service = Service { options: Arc::new(options), shared, writer, stop: stopped };
        let handle = Handle { shared: Arc::clone(&service.shared) };
        let first = match service.take_leadership().await {
            Ok(term) => {
                let prepared = service.prepare(term).await?;
                // Who started this asks at once whether it leads, before the supervisor has its first turn.
                service.declare_leader(&prepared);
                Some(prepared)
            }
            Err(LeadershipError::Held { url, expires_in: Some(_), .. }) => {
                service.shared.update_status(|status| status.leader_url = Some(url));
                None
            }
            Err(error) => return Err(StartError::Leadership(error)),
        };
        let supervisor = tokio::spawn(async move {
            let shared = Arc::clone(&service.shared);
            if let Err(panic) = caught(Box::pin(service.supervise(first, receiver))).await {
                tracing::error!(
                    code = "SCH0503",
                    panic,
                    "the scheduler ended; this server must be started again"
                );
                shared.update_status(|status| status.is_leader = false);
            }
        });
        Ok(Self { handle, stop, supervisor })
    }

    /// Returns a handle; clones of it reach the same scheduler.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops: finishes the commit under way, answers everybody, and gives leadership back.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if let Err(error) = self.supervisor.await {
            tracing::error!(error = %chain(&error), "the scheduler ended unexpectedly");
        }
    }

    /// Ends everything at once without giving leadership back, as a crash would; for tests.
    pub async fn kill(self) {
        self.supervisor.abort();
        let _ = self.supervisor.await;
    }
}

/// A leadership, and what keeps it up from the first moment: what is loaded under it may take longer than its lease.
struct Term {
    leadership: Leadership,
    trust: Arc<Trust>,
    is_lost: watch::Receiver<bool>,
    /// The renewal first; whatever else runs as long as this server leads joins it.
    tasks: JoinSet<()>,
}

/// A leadership with what was loaded under it.
struct Prepared {
    term: Term,
    loaded: Loaded,
    next_batch: i64,
}

impl Service {
    async fn take_leadership(&self) -> Result<Term, LeadershipError> {
        let taken_at = self.shared.clock.now().mono;
        let leadership = self.writer.take_leadership(&self.options.server, &self.options.url).await?;
        let trust = Arc::new(leadership.lease.map_or_else(Trust::for_ever, |lease| {
            Trust::until((taken_at + lease).saturating_sub(STEP_DOWN_MARGIN))
        }));
        let (lost, is_lost) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if leadership.lease.is_some() {
            let (shared, writer) = (Arc::clone(&self.shared), Arc::clone(&self.writer));
            tasks.spawn(renew(shared, writer, leadership.term, Arc::clone(&trust), lost));
        } else {
            // Nobody can take leadership away; the sender must live as long as the loop.
            tasks.spawn(async move { lost.closed().await });
        }
        Ok(Term { leadership, trust, is_lost, tasks })
    }

    /// Loads what is stored, and makes the instance secret at the very first start.
    async fn prepare(&self, term: Term) -> Result<Prepared, StartError> {
        let number = term.leadership.term;
        match self.load(number).await {
            Ok((loaded, next_batch)) => Ok(Prepared { term, loaded, next_batch }),
            Err(error) => {
                drop(term);
                // Who cannot lead must not keep others from it.
                if let Err(error) = self.writer.release(number).await {
                    tracing::warn!(error = %chain(&error), "leadership was not given back");
                }
                Err(error)
            }
        }
    }

    async fn load(&self, term: i64) -> Result<(Loaded, i64), StartError> {
        let mut next_batch = 1;
        if self.shared.secret.get().is_none() {
            let stored = self.shared.reader.setting(SECRET_SETTING).await?;
            let known =
                stored.and_then(|text| hex::decode(text).ok()).and_then(|bytes| bytes.try_into().ok());
            let secret = match known {
                Some(bytes) => InstanceSecret::new(bytes),
                None => {
                    let secret = InstanceSecret::generate()?;
                    let now = self.shared.clock.now().wall;
                    let mut batch = Batch::new(term, BatchId(next_batch), now);
                    batch.settings.push((SECRET_SETTING.to_owned(), hex::encode(secret.as_bytes())));
                    self.writer.commit(&batch).await?;
                    next_batch += 1;
                    secret
                }
            };
            let _ = self.shared.secret.set(secret);
        }
        let loaded = self.writer.load().await?;
        let errors = self.shared.reader.import_errors().await?;
        let errors = errors.into_iter().map(|error| (error.path.clone(), error)).collect();
        *self.shared.import_errors.write().unwrap_or_else(std::sync::PoisonError::into_inner) = errors;
        Ok((loaded, next_batch))
    }

    async fn supervise(self, mut prepared: Option<Prepared>, mut inbox: mpsc::Receiver<Input>) {
        loop {
            if let Some(prepared) = prepared.take() {
                let term = prepared.term.leadership.term;
                let (exit, returned) = self.lead(prepared, inbox).await;
                inbox = returned;
                if exit == Exit::Stopped {
                    if let Err(error) = self.writer.release(term).await {
                        tracing::warn!(error = %chain(&error), "leadership was not given back");
                    }
                    return;
                }
                tracing::warn!("another server leads now; standing by");
            }
            match self.stand_by(&mut inbox).await {
                Some(next) => prepared = Some(next),
                None => return,
            }
        }
    }

    /// Polls for leadership; nothing when it is stopped.
    async fn stand_by(&self, inbox: &mut mpsc::Receiver<Input>) -> Option<Prepared> {
        let mut stop = self.stop.clone();
        loop {
            match self.take_leadership().await {
                Ok(term) => match self.prepare(term).await {
                    Ok(prepared) => return Some(prepared),
                    Err(error) => tracing::error!(error = %chain(&error), "leading failed"),
                },
                Err(LeadershipError::Held { url, .. }) => {
                    self.shared.update_status(|status| status.leader_url = Some(url));
                }
                Err(error) => tracing::warn!(error = %chain(&error), "the store does not say who leads"),
            }
            let now = self.shared.clock.now().mono;
            let mut sleep = self.shared.clock.sleep_until(now + STAND_BY_INTERVAL);
            loop {
                if *stop.borrow() {
                    return None;
                }
                tokio::select! {
                    biased;
                    changed = stop.changed() => if changed.is_err() { return None },
                    () = &mut sleep => break,
                    Some(input) = inbox.recv() => {
                        let leader = self.shared.status().leader_url;
                        input.refuse(&Unavailable::NotLeader { leader });
                    }
                }
            }
        }
    }

    fn declare_leader(&self, prepared: &Prepared) {
        self.shared.update_status(|status| {
            status.is_leader = true;
            status.leader_url = Some(self.options.url.clone());
            status.term = prepared.term.leadership.term;
            status.store = StoreState::Ok;
        });
    }

    /// Leads until it is stopped or another server leads.
    async fn lead(&self, prepared: Prepared, inbox: mpsc::Receiver<Input>) -> (Exit, mpsc::Receiver<Input>) {
        self.declare_leader(&prepared);
        let Prepared { term, loaded, next_batch } = prepared;
        let Term { leadership, trust, is_lost, mut tasks } = term;
        let shared = &self.shared;
        let now = shared.clock.now();
        // Attempts of the leader before may still run, and their workers may need a while to find this server.
        let is_take_over = leadership.was_abandoned && leadership.lease.is_some();
        let grace_until =
            if is_take_over { now.mono + OUTAGE_LEASE + STEP_DOWN_MARGIN } else { Duration::ZERO };
        let outbox = Arc::new(Notify::new());
        self.start_company(&mut tasks, &loaded.snapshot, &outbox);
        let core = Core {
            shared: Arc::clone(shared),
            writer: Arc::clone(&self.writer),
            inbox,
            deferred: VecDeque::new(),
            engine: Engine::default(),
            known: Known::of(&EngineSnapshot::default(), now.mono),
            sessions: Sessions::default(),
            assignments: Assignments::default(),
            round: Round::default(),
            term: leadership.term,
            next_batch,
            trust,
            lease: leadership.lease,
            outage: None,
            must_renew: false,
            grace_until,
            isolated_rounds: 0,
            left_out: Vec::new(),
            quarantined: BTreeMap::new(),
            quarantined_dags: BTreeMap::new(),
            stop: self.stop.clone(),
            lost: is_lost,
            last_tick: None,
            last_wall: None,
            last_renewal: now.mono,
            panics: Panics::default(),
            outbox,
        };
        let (exit, inbox) = core.run(loaded).await;
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        shared.update_status(|status| status.is_leader = false);
        (exit, inbox)
    }

    /// Starts what works beside the loop while this server leads: the DAG folder, the outbox, housekeeping.
    fn start_company(&self, tasks: &mut JoinSet<()>, snapshot: &EngineSnapshot, outbox: &Arc<Notify>) {
        let shared = &self.shared;
        if self.options.is_folder_watched {
            let sync = FolderSync::new(Arc::clone(&self.options), Arc::clone(shared), snapshot);
            tasks.spawn(sync.run());
        } else {
            shared.first_look.send_replace(true);
        }
        tasks.spawn(Outbox::new(Arc::clone(&self.options), Arc::clone(shared), Arc::clone(outbox)).run());
        if self.options.has_housekeeping {
            tasks.spawn(housekeeping::run(
                Arc::clone(&self.options),
                Handle { shared: Arc::clone(shared) },
                Arc::clone(&self.writer),
            ));
        }
    }
}

/// Renews the lease until the term is over.
async fn renew(
    shared: Arc<Shared>,
    writer: Arc<dyn Writer>,
    term: i64,
    trust: Arc<Trust>,
    lost: watch::Sender<bool>,
) {
    loop {
        let started = shared.clock.now().mono;
        shared.clock.sleep_until(started + RENEW_INTERVAL).await;
        let started = shared.clock.now().mono;
        match writer.renew(term).await {
            Ok(leadership) => {
                let lease = leadership.lease.unwrap_or(Duration::MAX);
                trust.extend(started.saturating_add(lease).saturating_sub(STEP_DOWN_MARGIN));
            }
            Err(CommitError::TermLost { .. }) => {
                let _ = lost.send(true);
                return;
            }
            // Only the store can say that the term is over; until it answers, trust runs out by itself.
            Err(error) => tracing::warn!(error = %chain(&error), "the leadership lease was not renewed"),
        }
    }
}
