//! Putting a server together: database, scheduler, web. Shared by `standalone`, `server` and `dags test`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tidemill_engine::ids::WorkerId;
use tidemill_protocol::worker::Token;
use tidemill_scheduler::{
    AdminWrite, CallError, Handle, NoEntropy, Options, Scheduler, StartError, SystemClock, random_token,
    token_hash,
};
use tidemill_store::{
    Database, Migrate, Store,
    access::{AccessChange, ApiToken, LoginLink, Role, WorkerKey},
    batch::AuditEntry,
    open,
    open::{backup, schema_status},
};
use tidemill_web::{WebState, router};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    commands::accept,
    config::{Config, process_definitions},
    error::{CliError, Result},
    owner,
    report::say,
};

/// How long open requests may take to end when a server stops.
const LAST_REQUESTS: Duration = Duration::from_secs(3);
/// How long the first start's login link works.
const LOGIN_LINK: TimeDelta = TimeDelta::hours(24);

/// Returns the URL that workers and other servers are told: they speak HTTP and cannot use that of a TLS proxy.
pub(crate) fn machine_url(config: &Config, bound: &Bound) -> String {
    let public = config.text("server.url").filter(|url| url.starts_with("http://"));
    public.map_or_else(|| bound.local_url(), str::to_owned)
}

/// Returns the configured database.
pub(crate) fn database(config: &Config) -> Result<Database> {
    match config.text("server.database") {
        Some(url) => url.parse::<Database>().map_err(|error| config.blame("server.database", error.into())),
        None => Ok(Database::Sqlite(config.data_dir.join("tidemill.sqlite"))),
    }
}

/// Opens the database and brings an empty one up to date. An older schema is migrated, after a backup, only
/// where `may_migrate` says so.
pub(crate) async fn open_store(database: &Database, may_migrate: bool, data_dir: &Path) -> Result<Store> {
    let status = schema_status(database).await?;
    let is_empty = status.found.is_none();
    if let (Some(found), true, Database::Sqlite(_)) =
        (&status.found, may_migrate && !status.pending.is_empty(), database)
    {
        let folder = data_dir.join("backups");
        let unusable = |source| CliError::DataDir { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(unusable)?;
        let name = format!("before-{found}-{}.sqlite", Utc::now().format("%Y%m%dT%H%M%S"));
        backup(database, &folder.join(&name)).await?;
        say(format!("the database is migrated; a copy is in {}", folder.join(name).display()));
    }
    let migrate = if may_migrate || is_empty { Migrate::Apply } else { Migrate::Refuse };
    Ok(open(database, migrate).await?)
}

/// A bound port.
pub(crate) struct Bound {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Binds an address.
    ///
    /// # Errors
    /// CFG0101, CFG0102.
    pub(crate) async fn bind(address: &str) -> Result<Self> {
        let failed = |source| CliError::Listen { address: address.to_owned(), source };
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().map_err(failed)?;
                Ok(Self { listener, address })
            }
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let found = tokio::net::lookup_host(address).await.ok().and_then(|mut found| found.next());
                let owner = found.map_or_else(|| "another process".to_owned(), owner::of_port);
                Err(CliError::PortBusy { address: address.to_owned(), owner })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns the URL that the ready line prints.
    pub(crate) fn shown_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the URL under which this machine reaches it.
    pub(crate) fn local_url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.address.port()))
    }
}

/// A server that runs.
pub(crate) struct Server {
    scheduler: Scheduler,
    web: WebState,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        Self::coded(error.code(), &error, None)
    }
}

impl From<CallError> for CliError {
    fn from(error: CallError) -> Self {
        Self::coded(error.code(), &error, None)
    }
}

impl From<NoEntropy> for CliError {
    fn from(error: NoEntropy) -> Self {
        Self::coded("SCH0108", &error, None)
    }
}

impl Server {
    /// Starts the scheduler, then answers requests.
    pub(crate) async fn start(
        store: &Store,
        bound: Bound,
        options: Options,
        web: tidemill_web::Options,
    ) -> Result<Self> {
        let clock = Arc::new(SystemClock::new());
        let scheduler =
            Scheduler::start(options, Arc::clone(&store.reader), Arc::clone(&store.writer), clock).await?;
        let web = WebState::new(Arc::clone(&store.reader), scheduler.handle(), web);
        let (stop, stopped) = watch::channel(false);
        let limits = accept::Limits::of_process();
        let task = tokio::spawn(accept::serve(bound.listener, router(web.clone()), limits, stopped));
        Ok(Self { scheduler, web, stop, task })
    }

    /// Returns the scheduler's handle.
    pub(crate) fn handle(&self) -> Handle {
        self.scheduler.handle()
    }

    /// Stops: ends streams, lets open requests end, then stops the scheduler.
    pub(crate) async fn stop(self) {
        self.web.stop();
        self.stop.send_replace(true);
        let mut task = self.task;
        if tokio::time::timeout(LAST_REQUESTS, &mut task).await.is_err() {
            task.abort();
        }
        self.scheduler.stop().await;
    }
}

/// Returns the scheduler's options.
///
/// # Errors
/// CFG0320.
pub(crate) fn scheduler_options(config: &Config, url: &str) -> Result<Options> {
    let mut options = Options::new(config.dags_dir(), config.data_dir.join("logs"));
    options.url = url.to_owned();
    options.rescan_interval = config.duration("scheduler.rescan_interval").unwrap_or(options.rescan_interval);
    options.delivery_timeout =
        config.duration("scheduler.delivery_timeout").unwrap_or(options.delivery_timeout);
    options.outbound = config.outbound();
    options.retention = config.duration("retention.runs");
    options.secret_key_file = Some(config.secret_key_file());
    options.definitions = process_definitions()?;
    Ok(options)
}

/// Returns the web server's options for the address that it listens on.
pub(crate) fn web_options(config: &Config, bound: &Bound) -> tidemill_web::Options {
    let mut hosts = config.words("server.allowed_hosts");
    let url = config.text("server.url");
    let parsed = url.and_then(|url| reqwest::Url::parse(url).ok());
    hosts.extend(parsed.and_then(|url| url.host_str().map(str::to_owned)));
    let ip = bound.address.ip();
    if !ip.is_unspecified() {
        hosts.push(ip.to_string());
    }
    tidemill_web::Options {
        hosts,
        url: url.map(str::to_owned),
        retention: config.duration("retention.runs"),
        metrics: record_metrics(),
        ..tidemill_web::Options::default()
    }
}

/// A server without metrics is better than none.
fn record_metrics() -> Option<tidemill_web::MetricsHandle> {
    tidemill_web::install_metrics()
        .inspect_err(|error| tracing::warn!(%error, "metrics are not recorded"))
        .ok()
}

/// Checks that the DAG folder is there: a misspelt one would look like an empty one.
pub(crate) fn check_dags_dir(config: &Config) -> Result {
    let path = config.dags_dir();
    if path.is_dir() { Ok(()) } else { Err(CliError::NoDagsDir { path }) }
}

/// The name of the token that the command line of this host uses, and of its file.
const LOCAL_TOKEN: &str = "admin.token";

/// Returns an audit entry by the server itself.
fn did(action: &str, subject: String, detail: serde_json::Value) -> AuditEntry {
    AuditEntry { at: now(), actor: "server".to_owned(), action: action.to_owned(), subject, detail }
}

/// What the command line finds in the data directory. Returns whether its token is new.
pub(crate) async fn write_local_access(
    store: &Store,
    handle: &Handle,
    data_dir: &Path,
    url: &str,
) -> Result<bool> {
    let server = json!({ "url": url, "pid": std::process::id() });
    owner::write_private(&data_dir.join("server.json"), &format!("{server}\n"))?;
    let path = data_dir.join(LOCAL_TOKEN);
    if let Ok(text) = std::fs::read_to_string(&path) {
        let known = store.reader.api_token(&token_hash(&Token(text.trim().to_owned()))).await?;
        if known.is_some_and(|token| token.revoked_at.is_none() && token.role == Role::Admin) {
            return Ok(false);
        }
    }
    let now = now();
    let secret = random_token()?;
    // Several servers share the database, each with a token of its own: a new one replaces those of its place alone.
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let place = format!("server {host} {}", data_dir.display());
    let mut write = AdminWrite::default();
    let tokens = store.reader.api_tokens().await?;
    for old in tokens.into_iter().filter(|old| old.name == LOCAL_TOKEN && old.created_by == place) {
        if old.revoked_at.is_none() {
            let detail = json!({ "name": LOCAL_TOKEN, "why": "its file is gone" });
            write.audit.push(did("token.revoke", format!("token/{}", old.id), detail));
            write.access.push(AccessChange::Token(ApiToken { revoked_at: Some(now), ..old }));
        }
    }
    let token = ApiToken {
        id: format!("tok_{}", tidemill_scheduler::random_suffix()?),
        name: LOCAL_TOKEN.to_owned(),
        role: Role::Admin,
        hash: token_hash(&secret),
        created_by: place,
        created_at: now,
        expires_at: None,
        revoked_at: None,
    };
    let detail = json!({ "name": LOCAL_TOKEN, "role": token.role });
    write.audit.push(did("token.create", format!("token/{}", token.id), detail));
    write.access.push(AccessChange::Token(token));
    handle.write(write).await?;
    owner::write_private(&path, &format!("{}\n", secret.0))?;
    Ok(true)
}

/// Makes a link that signs the administrator's browser in, once.
pub(crate) async fn login_link(handle: &Handle, url: &str) -> Result<String> {
    let now = now();
    let secret = random_token()?;
    let link = LoginLink {
        hash: token_hash(&secret),
        actor: "admin".to_owned(),
        role: Role::Admin,
        created_at: now,
        expires_at: now + LOGIN_LINK,
        used_at: None,
    };
    let entry = did("login_link.create", format!("person/{}", link.actor), json!({ "role": link.role }));
    handle.write(AdminWrite::access(AccessChange::LoginLink(link)).with_audit(entry)).await?;
    Ok(format!("{url}/login?token={}", secret.0))
}

/// Makes a key for the worker of this process; earlier keys of that name stop working.
pub(crate) async fn worker_key(handle: &Handle, worker: &WorkerId) -> Result<Token> {
    let now = now();
    let secret = random_token()?;
    let key =
        WorkerKey { hash: token_hash(&secret), worker: worker.clone(), created_at: now, revoked_at: None };
    let mut write = AdminWrite::access(AccessChange::RevokeWorker { worker: worker.clone(), at: now });
    write.access.push(AccessChange::WorkerKey(key));
    handle.write(write).await?;
    Ok(secret)
}

/// The wall clock as the store keeps it.
pub(crate) fn now() -> DateTime<Utc> {
    tidemill_store::to_micros(Utc::now())
}

/// Builds the runtime of a server and runs it.
pub(crate) fn with_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| CliError::Setup { what: "the runtime", source })?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}
