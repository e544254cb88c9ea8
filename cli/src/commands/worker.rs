//! `tidemill worker`, and the worker within `standalone`.

use std::path::{Path, PathBuf};

use tidemill_engine::ids::WorkerId;
use tidemill_protocol::worker::Token;
use tidemill_worker::{CgroupUse, Credential, Options, Stop};
use tokio::sync::watch;

use crate::{
    client::local_server,
    commands::{
        serve::{check_dags_dir, with_runtime},
        signals::Signals,
    },
    config::{Config, Overrides, process_env},
    error::{CliError, Result, causes_of},
    logging,
    report::say,
};

/// Executes task instances for a server, on this machine.
///
/// The first start joins with a join token; the key that it gets is kept in the work folder. The worker never
/// sees the database. SIGTERM or Ctrl-C stops it: see `worker.drain` and `worker.grace` in the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// The server [default: the one of the data directory] [env: TIDEMILL_URL].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The token of `tidemill tokens create --role worker`; needed once [env: TIDEMILL_JOIN_TOKEN].
    #[arg(long, value_name = "TOKEN")]
    join_token: Option<String>,
    /// A file that holds the join token. Unlike `--join-token` it does not show in the list of processes
    /// [env: TIDEMILL_JOIN_TOKEN_FILE].
    #[arg(long, value_name = "FILE", conflicts_with = "join_token")]
    join_token_file: Option<PathBuf>,
    /// The folder of the worker itself [default: worker in the data directory].
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// The DAG folder as this machine sees it [env: TIDEMILL_DAGS_DIR].
    #[arg(long, value_name = "DIR")]
    dags_dir: Option<PathBuf>,
    /// Its name, unique among the connected workers [default: the host's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How many task instances it executes at a time [default: twice the number of cores].
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// The queues that it serves, separated by commas [default: default].
    #[arg(long, value_name = "QUEUES")]
    queues: Option<String>,
}

impl From<tidemill_worker::Error> for CliError {
    fn from(error: tidemill_worker::Error) -> Self {
        // The worker's messages begin with their code.
        let text = error.to_string();
        let (code, message) = text.split_once(": ").unwrap_or(("WRK0001", &text));
        Self::Coded {
            code: code.to_owned(),
            message: message.to_owned(),
            help: None,
            causes: causes_of(&error),
            is_passing: false,
        }
    }
}

/// Returns the worker's name: as configured, or the host's.
pub(crate) fn name(config: &Config) -> Result<WorkerId> {
    let text = config.text("worker.name").map(str::to_owned).unwrap_or_else(|| {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let clean: String =
            host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).collect();
        if clean.starts_with(|c: char| c.is_ascii_alphanumeric()) { clean } else { format!("w{clean}") }
    });
    WorkerId::new(&text).map_err(|error| config.bad("worker.name", "worker.name", error.to_string()))
}

/// Returns the options of a worker whose folders are in the data directory.
pub(crate) fn options(
    config: &Config,
    url: String,
    credential: Credential,
    work_dir: PathBuf,
) -> Result<Options> {
    let failed = |source| CliError::Setup { what: "the program's own path", source };
    let own_exe = std::env::current_exe().map_err(failed)?;
    let mut options = Options::new(url, name(config)?, credential, config.dags_dir(), work_dir);
    options.data_dir = config.data_dir.join("data");
    if let Some(slots) = config.integer("worker.slots").and_then(|slots| u32::try_from(slots).ok()) {
        options.slots = slots;
        options.prefetch = slots;
    }
    options.queues = config.words("worker.queues");
    options.environment = Options::inherit(&config.words("worker.inherit"));
    // So that a task finds `tidemill` itself, after everything that the operator put there.
    if let Some(folder) = own_exe.parent() {
        let path = options.environment.entry("PATH".to_owned()).or_default();
        append_path(path, folder);
    }
    options.environment.extend(config.map("worker.env"));
    options.grace = config.duration("worker.grace").unwrap_or(options.grace);
    options.drain = config.duration("worker.drain").unwrap_or(options.drain);
    options.outbound = config.outbound();
    if config.text("worker.cgroups") == Some("off") {
        options.cgroups = CgroupUse::Off;
    }
    options.own_exe = own_exe;
    Ok(options)
}

fn append_path(path: &mut String, folder: &Path) {
    let folder = folder.display().to_string();
    if !path.split(':').any(|part| part == folder) {
        if !path.is_empty() {
            path.push(':');
        }
        path.push_str(&folder);
    }
}

pub(crate) fn run(args: &WorkerArgs, mut overrides: Overrides) -> Result {
    overrides.set("client.url", args.url.as_ref());
    overrides.set("worker.join_token", args.join_token.as_ref());
    overrides.set_file("worker.join_token", args.join_token_file.as_ref());
    overrides.set("dags_dir", args.dags_dir.as_ref().map(|path| path.display()));
    overrides.set("worker.name", args.name.as_ref());
    overrides.set("worker.slots", args.slots);
    overrides.set("worker.queues", args.queues.as_ref());
    let config = Config::load(&overrides, &process_env)?;
    logging::start(&config)?;
    check_dags_dir(&config)?;
    let work_dir = args.work_dir.clone().unwrap_or_else(|| config.data_dir.join("worker"));
    let work_dir = std::path::absolute(&work_dir).unwrap_or(work_dir);
    let url = config.text("client.url").map(str::to_owned);
    let url = url
        .or_else(|| local_server(&config.data_dir))
        .unwrap_or_else(|| format!("http://{}", config.text("server.listen").unwrap_or_default()));
    let credential = match config.text("worker.join_token") {
        Some(token) => Credential::JoinToken(Token(token.to_owned())),
        None => Credential::Stored,
    };
    let mut options = options(&config, url, credential, work_dir)?;
    if args.work_dir.is_some() {
        options.data_dir = options.work_dir.join("data");
    }
    with_runtime(async {
        let mut signals = Signals::catch()?;
        let (stop, stopped) = watch::channel(Stop::No);
        let work = tidemill_worker::run(options, stopped);
        tokio::pin!(work);
        let summary = tokio::select! {
            summary = &mut work => summary?,
            () = signals.next() => {
                say("stopping: nothing new is started, running tasks are stopped");
                stop.send_replace(Stop::Graceful);
                signals.exit_on_next();
                work.await?
            }
        };
        say(format!(
            "stopped: {} finished, {} stopped, {} handed back",
            summary.finished, summary.lost, summary.handed_back
        ));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_last_and_once() {
        let mut path = "/usr/bin".to_owned();
        append_path(&mut path, Path::new("/opt/tidemill"));
        append_path(&mut path, Path::new("/opt/tidemill"));
        assert_eq!(path, "/usr/bin:/opt/tidemill");
        let mut empty = String::new();
        append_path(&mut empty, Path::new("/opt"));
        assert_eq!(empty, "/opt");
    }
}
