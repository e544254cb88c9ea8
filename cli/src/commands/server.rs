//! `tidemill server`: web, REST API, worker API and the scheduler.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tidemill_store::Store;

use crate::{
    commands::{
        serve::{
            Bound, Server, check_dags_dir, database, login_link, machine_url, open_store, scheduler_options,
            web_options, with_runtime, write_local_access,
        },
        signals::Signals,
    },
    config::{Config, Overrides, process_env},
    error::Result,
    logging, output, owner,
    report::say,
};

/// Serves pages and APIs and schedules dag runs; task instances are executed by workers.
///
/// With PostgreSQL several may run: one leads, the others stand by. SIGTERM or Ctrl-C stops it with exit code 0;
/// workers go on and report to the next leader.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    /// sqlite://PATH or postgres://… [default: tidemill.sqlite in the data directory]
    /// [env: TIDEMILL_DATABASE].
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The URL under which people reach this server; `https://…` behind a TLS proxy [env: TIDEMILL_SERVER_URL].
    #[arg(long, value_name = "URL")]
    server_url: Option<String>,
    /// Bring an older schema up to date; without it an older one is refused.
    #[arg(long)]
    migrate: bool,
}

/// What `server` and `standalone` share.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The folder of the DAG files [default: dags] [env: TIDEMILL_DAGS_DIR].
    #[arg(long, value_name = "DIR")]
    dags_dir: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:7373] [env: TIDEMILL_LISTEN].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
}

impl ServeArgs {
    /// Adds what these options override in the configuration.
    pub(crate) fn apply(&self, overrides: &mut Overrides) {
        overrides.set("dags_dir", self.dags_dir.as_ref().map(|path| path.display()));
        overrides.set("server.listen", self.listen.as_ref());
    }
}

/// The longest wait for the first look through the DAG folder: one that hangs must not keep the pages away.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Prints the ready line once the DAGs of the folder are there, and at the first start the login link.
pub(crate) async fn announce(
    server: &Server,
    shown_url: &str,
    page_url: &str,
    is_first: bool,
) -> Result<Option<String>> {
    match tokio::time::timeout(FIRST_LOOK, server.handle().folder_read()).await {
        Ok(read) => read?,
        Err(_) => say("the DAG folder is still being read; its DAGs come later"),
    }
    output::print(&format!("listening on {shown_url}\n"))?;
    if !is_first {
        say("`tidemill login` makes a link that signs a browser in");
        return Ok(None);
    }
    let link = login_link(&server.handle(), page_url).await?;
    say(format!("sign in once with {link}"));
    Ok(Some(link))
}

pub(crate) fn run(args: &ServerArgs, mut overrides: Overrides) -> Result {
    args.serve.apply(&mut overrides);
    overrides.set("server.database", args.database.as_ref());
    overrides.set("server.url", args.server_url.as_ref());
    let config = Config::load(&overrides, &process_env)?;
    logging::start(&config)?;
    with_runtime(serve(args, &config))
}

/// How often a stand-by looks whether it leads; taking over takes seconds anyway.
const GLANCE: Duration = Duration::from_millis(250);

/// Waits until this server leads, and writes its access files then. Returns at once where it has led from the start.
async fn take_over(server: &Server, store: &Store, data_dir: &Path, url: &str) {
    let handle = server.handle();
    if handle.health().is_leader {
        return;
    }
    loop {
        tokio::time::sleep(GLANCE).await;
        if !handle.health().is_leader {
            continue;
        }
        match write_local_access(store, &handle, data_dir, url).await {
            Ok(_) => return say("this server leads now"),
            // It may have lost the lead again before the token was written.
            Err(error) => crate::report::show(&error),
        }
    }
}

async fn serve(args: &ServerArgs, config: &Config) -> Result {
    check_dags_dir(config)?;
    let mut signals = Signals::catch()?;
    let _lock = owner::lock(&config.data_dir)?;
    let bound = Bound::bind(config.text("server.listen").unwrap_or_default()).await?;
    let store = open_store(&database(config)?, args.migrate, &config.data_dir).await?;
    let shown_url = bound.shown_url();
    let url = config.text("server.url").map_or_else(|| bound.local_url(), str::to_owned);
    let local_url = bound.local_url();
    let options = scheduler_options(config, &machine_url(config, &bound))?;
    let web = web_options(config, &bound);
    let server = Server::start(&store, bound, options, web).await?;
    // A stand-by cannot write; the leader has written its own.
    if server.handle().health().is_leader {
        let is_first = write_local_access(&store, &server.handle(), &config.data_dir, &local_url).await?;
        announce(&server, &shown_url, &url, is_first).await?;
    } else {
        output::print(&format!("listening on {shown_url}\n"))?;
        say("another server leads; standing by");
    }
    // A stand-by writes what the command line of its host needs when it takes over.
    let takes_over = take_over(&server, &store, &config.data_dir, &local_url);
    tokio::select! {
        () = takes_over => signals.next().await,
        () = signals.next() => {}
    }
    say("stopping");
    signals.exit_on_next();
    server.stop().await;
    let _ = std::fs::remove_file(config.data_dir.join("server.json"));
    Ok(())
}
