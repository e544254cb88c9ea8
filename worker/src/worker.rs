//! A running worker: its parts in the order in which they start and stop.

use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, flock},
    process::{Resource, Rlimit, getpid, set_child_subreaper, setrlimit, umask},
};
use sha2::{Digest, Sha256};
use tidemill_protocol::worker::{HeartbeatRequest, Token, WorkerId};
use tokio::sync::watch;

use crate::{
    attempt::{
        files::{NO_INPUTS, TRIES},
        machine::{Cause, Event},
    },
    client::{CallError, Client},
    clock::boottime_ms,
    context::Context,
    error::Error,
    exchange::Exchange,
    guardian::Guardian,
    heartbeat::Heartbeat,
    options::{CgroupUse, Credential, Options},
    process::{
        cgroup::{self, Cgroups},
        children::Children,
    },
    sweep,
};

/// Whether and how a worker shall stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It works.
    #[default]
    No,
    /// Takes nothing new, hands back what has not started, lets running tries go on for [`Options::drain`],
    /// then stops them with their grace and reports them lost.
    Graceful,
    /// Kills what runs, reports what it can within two seconds.
    Now,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitSummary {
    /// Tries that ended with a result.
    pub finished: u64,
    /// Tries that were stopped by the worker itself and are reported lost.
    pub lost: u64,
    /// Tries that were given back without having been started.
    pub handed_back: u64,
    /// Tries whose end the server has not confirmed; it finds out by their leases.
    pub unconfirmed: u64,
}

/// How often leases are enforced and the main loop gives its sign of life.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// How long a stopping worker tries to get its last results to the server.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs a worker until `stop` says otherwise and everything it held is settled.
///
/// It changes the process that it runs in: umask 077, no core files, orphans of tasks become its children.
///
/// # Errors
/// [`Error`]: WRK0001 to WRK0008.
pub async fn run(options: Options, mut stop: watch::Receiver<Stop>) -> Result<ExitSummary, Error> {
    options.validate()?;
    harden()?;
    prepare_folders(&options)?;
    let _lock = lock(&options.work_dir)?;
    let leftovers = {
        let options = options.clone();
        blocking("the sweep", move || Ok(sweep::sweep(&options))).await?
    };
    let url = reqwest::Url::parse(&options.server_url)
        .map_err(|error| Error::Url { url: options.server_url.clone(), why: error.to_string() })?;
    let key = tokio::select! {
        key = obtain_key(&options, &url) => key?,
        () = stopped(&mut stop) => return Ok(ExitSummary::default()),
    };
    let client = Arc::new(make_client(&options, &url, key)?);
    let heart = make_client(&options, &url, client.key())?;
    let context = {
        let (options, client) = (options.clone(), client.clone());
        Arc::new(blocking("the guardian", move || open_context(options, client)).await?)
    };
    let mut heartbeat = Heartbeat::start(&context, heart)?;
    let watcher = tokio::spawn(watch_leases(context.clone()));
    let stopper = tokio::spawn(carry_out_stop(context.clone(), stop.clone()));
    sweep::report(&context, leftovers);
    tracing::info!(worker = %options.worker, slots = options.slots, cgroups = context.cgroups.is_some(), "the worker is ready");

    let mut exchange = Exchange::new(context.clone());
    let last_words = last_words(context.clone(), stop.clone());
    let result = tokio::select! {
        result = exchange.run(&mut stop) => result,
        () = last_words => Ok(()),
    };
    let unconfirmed = exchange.abandon().len() as u64;
    watcher.abort();
    stopper.abort();
    let shared = context.clone();
    let _ = tokio::task::spawn_blocking(move || {
        heartbeat.stop();
        // What is still watched now is killed by the closing of the pipe.
        shared.guardian.close();
        shared.children.orphans();
        if let Some(cgroups) = &shared.cgroups {
            cgroups.close();
        }
    })
    .await;
    result?;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    Ok(ExitSummary {
        finished: count(&context.counts.finished),
        lost: count(&context.counts.lost),
        handed_back: count(&context.counts.handed_back),
        unconfirmed,
    })
}

async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // A sender that is gone cannot stop anything any more: that is a stop too.
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Setup { what, source: std::io::Error::other(error.to_string()) })?
}

/// Sets once on the worker what every task inherits.
fn harden() -> Result<(), Error> {
    umask(Mode::from_raw_mode(0o077));
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|error| Error::Setup { what: "no core files", source: error.into() })?;
    set_child_subreaper(Some(getpid()))
        .map_err(|error| Error::Setup { what: "adoption of orphans", source: error.into() })
}

fn prepare_folders(options: &Options) -> Result<(), Error> {
    let work = &options.work_dir;
    for folder in [work.clone(), work.join(TRIES), options.data_dir.clone()] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|source| Error::WorkDir { path: folder, source })?;
    }
    let none = work.join(NO_INPUTS);
    fs::write(&none, "{}\n").map_err(|source| Error::WorkDir { path: none, source })
}

/// Takes the work folder for this process.
fn lock(work_dir: &Path) -> Result<File, Error> {
    let path = work_dir.join("lock");
    let failed = |source| Error::WorkDir { path: path.clone(), source };
    let mut file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut owner = String::new();
        let _ = file.read_to_string(&mut owner);
        let owner = if owner.trim().is_empty() {
            "another worker".to_owned()
        } else {
            format!("process {}", owner.trim())
        };
        return Err(Error::Locked { path: work_dir.to_owned(), owner });
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(failed)?;
    Ok(file)
}

fn make_client(options: &Options, url: &reqwest::Url, key: Token) -> Result<Client, Error> {
    Client::new(url.clone(), key)
        .map_err(|error| Error::Url { url: options.server_url.clone(), why: error.to_string() })
}

/// Returns the worker's key, joining with the token when there is none yet.
async fn obtain_key(options: &Options, url: &reqwest::Url) -> Result<Token, Error> {
    let path = options.work_dir.join("key");
    let stored = match fs::read_to_string(&path) {
        Ok(text) => Some(Token(text.trim().to_owned())).filter(|key| !key.0.is_empty()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(Error::WorkDir { path, source }),
    };
    let join_token = match (&options.credential, stored) {
        (Credential::Key(key), _) => return Ok(key.clone()),
        (Credential::Stored, Some(key)) => return Ok(key),
        (Credential::Stored, None) => return Err(Error::Refused { status: 401 }),
        (Credential::JoinToken(_), Some(key)) if !is_refused(options, url, &key).await? => return Ok(key),
        (Credential::JoinToken(token), _) => token.clone(),
    };
    let key = join(&make_client(options, url, join_token)?, &options.worker).await?;
    // Beside it first: a crash in between must not leave an empty key.
    let fresh = options.work_dir.join("key.new");
    let failed = |source| Error::WorkDir { path: path.clone(), source };
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(&fresh).map_err(failed)?;
    file.write_all(key.0.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(failed)?;
    Ok(key)
}

/// Whether the server refuses the stored key: it was revoked, and the join token that was given is to replace it.
/// A server that does not answer says nothing about the key.
async fn is_refused(options: &Options, url: &reqwest::Url, key: &Token) -> Result<bool, Error> {
    let question =
        HeartbeatRequest { worker: options.worker.clone(), boot_id: String::new(), attempts: Vec::new() };
    let answer = make_client(options, url, key.clone())?.heartbeat(&question).await;
    Ok(answer.is_err_and(|error| matches!(error.status(), Some(401 | 403))))
}

async fn join(client: &Client, worker: &WorkerId) -> Result<Token, Error> {
    let mut backoff = crate::backoff::Backoff::new();
    loop {
        match client.join(worker).await {
            Ok(answer) => return Ok(answer.key),
            Err(CallError::Status { status: status @ (401 | 403), .. }) => {
                return Err(Error::Refused { status });
            }
            Err(error) => {
                let pause = backoff.next();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    ?pause,
                    "the server cannot be joined yet"
                );
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn open_context(options: Options, client: Arc<Client>) -> Result<Context, Error> {
    let children = Children::default();
    let guardian = Guardian::start(&options.own_exe, &children)?;
    let cgroups = match options.cgroups {
        CgroupUse::Off => None,
        CgroupUse::Auto => match Cgroups::open(&cgroup_name(&options)) {
            Ok(cgroups) => Some(cgroups),
            Err(why) => {
                tracing::info!(
                    why,
                    "tries get no cgroup of their own; process trees are found by other marks"
                );
                None
            }
        },
    };
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Error::Setup {
        what: "a random id",
        source: std::io::Error::other(error.to_string()),
    })?;
    let boot_id = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Context::new(options, client, guardian, children, cgroups, boot_id))
}

/// The same folder after a restart of this worker, another one for every other worker of the machine.
fn cgroup_name(options: &Options) -> String {
    let folder = fs::canonicalize(&options.work_dir).unwrap_or_else(|_| options.work_dir.clone());
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Enforces leases and gives the main loop's sign of life.
async fn watch_leases(context: Arc<Context>) {
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        context.ledger.record_pulse();
        context.ledger.enforce_leases(boottime_ms());
        let shared = context.clone();
        let _ = tokio::task::spawn_blocking(move || shared.look_at_descendants()).await;
        context.oom_kills.store(cgroup::oom_kills_around(), Ordering::Relaxed);
    }
}

/// Turns requests to stop into events for the tries.
async fn carry_out_stop(context: Arc<Context>, mut stop: watch::Receiver<Stop>) {
    stopped(&mut stop).await;
    context.ledger.order(Event::Drain);
    let now = stop.wait_for(|stop| *stop == Stop::Now);
    if tokio::time::timeout(context.options.drain, now).await.is_err() {
        context.ledger.order(Event::Stop(Cause::WorkerStops));
        let _ = stop.wait_for(|stop| *stop == Stop::Now).await;
    }
    context.ledger.order(Event::Kill(Cause::WorkerStops));
}

/// Ends when a stopping worker has nothing alive and could not get its last results through, or has no time.
async fn last_words(context: Arc<Context>, mut stop: watch::Receiver<Stop>) {
    stopped(&mut stop).await;
    let patience = context.options.drain + context.options.grace + LAST_WORDS;
    let now = stop.wait_for(|stop| *stop == Stop::Now);
    let _ = tokio::time::timeout(patience, now).await;
    tokio::time::sleep(LAST_WORDS).await;
}
