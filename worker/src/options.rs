//! What a worker is told at its start.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tidemill_outbound::Allow;
use tidemill_protocol::worker::{Token, WorkerId};

use crate::error::Error;

/// The variables of its own environment that a worker hands to tasks without being told so.
pub const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// How a worker proves to the server who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The worker's own key.
    Key(Token),
    /// A join token, exchanged once for a key that is kept in the work folder (mode 0600). A key that is
    /// there from an earlier start is used instead.
    JoinToken(Token),
    /// The key from the work folder; an earlier start has joined.
    Stored,
}

/// Whether tries get a cgroup of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupUse {
    /// Where the worker may make them.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// The options of a worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server, `http://HOST:PORT`.
    pub server_url: String,
    /// The worker's name.
    pub worker: WorkerId,
    /// How it proves it.
    pub credential: Credential,
    /// The DAG folder as this machine sees it; tasks run in the folders of their files.
    pub dags_dir: PathBuf,
    /// The worker's own folder: tries, logs until they are shipped, the key, the lock. One worker per folder.
    pub work_dir: PathBuf,
    /// `$TIDEMILL_DATA_DIR` is a folder per DAG in here, kept. Default: `data` in the work folder.
    pub data_dir: PathBuf,
    /// How many tries are executed at a time.
    pub slots: u32,
    /// How many assignments beyond the slots it takes while tries are short. Default: the slots.
    pub prefetch: u32,
    /// The queues that it serves. Default: `default`.
    pub queues: Vec<String>,
    /// The environment that every task starts from; see [`Options::inherit`].
    pub environment: BTreeMap<String, String>,
    /// From SIGTERM to SIGKILL when a try is stopped. Default 10 s.
    pub grace: Duration,
    /// How long running tries may go on after a first request to stop. Default zero: they are stopped.
    pub drain: Duration,
    /// The `tidemill` binary: the guardian (`guardian`) and the operators (`operator SPEC`) are sub-commands.
    pub own_exe: PathBuf,
    /// Whether tries get a cgroup of their own.
    pub cgroups: CgroupUse,
    /// How long the virtual environment of `python` tasks is kept after its last use. Default 30 days.
    pub venv_max_age: Duration,
    /// Which addresses operators may call although they are not public.
    pub outbound: Allow,
}

impl Options {
    /// Returns options with every default, inheriting [`INHERITED`].
    #[must_use]
    pub fn new(
        server_url: String,
        worker: WorkerId,
        credential: Credential,
        dags_dir: PathBuf,
        work_dir: PathBuf,
    ) -> Self {
        let slots = std::thread::available_parallelism()
            .map_or(4, |cores| u32::try_from(cores.get() * 2).unwrap_or(8));
        Self {
            server_url,
            worker,
            credential,
            dags_dir,
            data_dir: work_dir.join("data"),
            work_dir,
            slots,
            prefetch: slots,
            queues: vec!["default".to_owned()],
            environment: Self::inherit(&[]),
            grace: Duration::from_secs(10),
            drain: Duration::ZERO,
            own_exe: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tidemill")),
            cgroups: CgroupUse::Auto,
            venv_max_age: Duration::from_secs(30 * 86_400),
            outbound: Allow::default(),
        }
    }

    /// Returns those variables of this process that tasks inherit: [`INHERITED`] and `additions`. Variables of
    /// Tidemill's own are never among them: they may hold its credentials.
    #[must_use]
    pub fn inherit(additions: &[String]) -> BTreeMap<String, String> {
        INHERITED
            .iter()
            .copied()
            .chain(additions.iter().map(String::as_str))
            .filter(|name| !name.starts_with("TIDEMILL_"))
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
            .collect()
    }

    /// Checks what can be checked without touching anything.
    ///
    /// # Errors
    /// [`Error::Options`] (WRK0001) with the first option that cannot work, [`Error::Url`] (WRK0002).
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |option: &'static str, why: &str| Err(Error::Options { option, why: why.to_owned() });
        if self.slots == 0 {
            return refuse("slots", "must be at least 1");
        }
        if self.slots > 10_000 {
            return refuse("slots", "must be at most 10000");
        }
        if self.queues.is_empty() {
            return refuse("queues", "must name at least one queue");
        }
        if self.grace > Duration::from_secs(3600) {
            return refuse("grace", "must be at most one hour");
        }
        if let Some(name) = self.environment.keys().find(|name| name.starts_with("TIDEMILL_")) {
            return refuse("environment", &format!("{name} is Tidemill's own and is not handed to tasks"));
        }
        if !self.own_exe.is_absolute() {
            return refuse("own_exe", "must be an absolute path");
        }
        let url = reqwest::Url::parse(&self.server_url)
            .map_err(|error| Error::Url { url: self.server_url.clone(), why: error.to_string() })?;
        if url.scheme() != "http" || !url.has_host() {
            let why = "only http://HOST:PORT is supported; put a TLS proxy or a tunnel in between".to_owned();
            return Err(Error::Url { url: self.server_url.clone(), why });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let key = Credential::Key(Token("k".to_owned()));
        let worker = WorkerId::new("w").unwrap();
        Options::new("http://127.0.0.1:1".to_owned(), worker, key, "/dags".into(), "/w".into())
    }

    #[test]
    fn defaults_are_valid_and_each_bad_option_is_named() {
        options().validate().unwrap();
        let refused = |change: fn(&mut Options)| {
            let mut options = options();
            change(&mut options);
            options.validate().unwrap_err().to_string()
        };
        assert!(refused(|o| o.slots = 0).contains("WRK0001: option slots"));
        assert!(refused(|o| o.queues.clear()).contains("option queues"));
        assert!(refused(|o| o.server_url = "https://x:1".to_owned()).contains("WRK0002"));
        assert!(refused(|o| o.server_url = "not a url".to_owned()).contains("WRK0002"));
        let leak = |o: &mut Options| drop(o.environment.insert("TIDEMILL_TOKEN".to_owned(), String::new()));
        assert!(refused(leak).contains("TIDEMILL_TOKEN"));
    }
}
