//! `tidemill standalone`: server, one worker and SQLite in a data directory, in one process, over loopback HTTP.

use tidemill_store::{Database, Store};
use tidemill_worker::{Credential, Stop};
use tokio::sync::watch;

use crate::{
    commands::{
        browser, demo,
        serve::{
            Bound, Server, check_dags_dir, database, open_store, scheduler_options, web_options,
            with_runtime, worker_key, write_local_access,
        },
        server::{ServeArgs, announce},
        signals::Signals,
        worker,
    },
    config::{Config, Overrides, process_env},
    error::{CliError, Result},
    logging, owner,
    report::say,
};

/// Starts everything on this machine: server, one worker, and SQLite in the data directory.
///
/// It prints `listening on http://ADDR:PORT` when it is ready, and at the first start a link that signs a browser
/// in. SIGTERM or Ctrl-C stops it: running tasks are stopped and recorded, the exit code is 0. A second one ends
/// it at once with exit code 130.
#[derive(Debug, clap::Args)]
pub(crate) struct StandaloneArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// How many task instances are executed at a time [default: twice the number of cores]
    /// [env: TIDEMILL_SLOTS].
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Open the page in the browser.
    #[arg(long)]
    open: bool,
    /// Run the fortnight of the shipped DAG `continuous_training`, so that there is something to see.
    #[arg(long)]
    demo: bool,
}

pub(crate) fn run(args: &StandaloneArgs, mut overrides: Overrides) -> Result {
    args.serve.apply(&mut overrides);
    overrides.set("worker.slots", args.slots);
    let config = Config::load(&overrides, &process_env)?;
    logging::start(&config)?;
    with_runtime(serve(args, &config))
}

async fn serve(args: &StandaloneArgs, config: &Config) -> Result {
    check_dags_dir(config)?;
    if args.demo {
        demo::check(&config.dags_dir())?;
    }
    let database = database(config)?;
    if !matches!(database, Database::Sqlite(_)) {
        return Err(CliError::NotStandalone { database: database.to_string() });
    }
    let mut signals = Signals::catch()?;
    let _lock = owner::lock(&config.data_dir)?;
    browser::forget(&config.data_dir);
    let bound = Bound::bind(config.text("server.listen").unwrap_or_default()).await?;
    let store = open_store(&database, true, &config.data_dir).await?;
    let (shown_url, local_url) = (bound.shown_url(), bound.local_url());
    let page_url = config.text("server.url").map_or_else(|| local_url.clone(), str::to_owned);
    let options = scheduler_options(config, &local_url)?;
    let web = web_options(config, &bound);
    let server = Server::start(&store, bound, options, web).await?;
    let is_first = write_local_access(&store, &server.handle(), &config.data_dir, &local_url).await?;

    let key = worker_key(&server.handle(), &worker::name(config)?).await?;
    let work_dir = config.data_dir.join("worker");
    let options = worker::options(config, local_url, Credential::Key(key), work_dir)?;
    let own_exe = options.own_exe.clone();
    let (stop, stopped) = watch::channel(Stop::No);
    let work = tidemill_worker::run(options, stopped);
    let mut work = tokio::spawn(work);

    let link = announce(&server, &shown_url, &page_url, is_first).await?;
    if args.open {
        let target = match &link {
            Some(link) => browser::hide(link, &config.data_dir)?.display().to_string(),
            None => page_url,
        };
        browser::from_server(target, own_exe);
    }
    let demo = args.demo.then(|| tokio::spawn(run_demo(server.handle(), store.clone())));
    let ended = tokio::select! {
        () = signals.next() => None,
        ended = &mut work => Some(ended),
    };
    signals.exit_on_next();
    if let Some(demo) = demo {
        demo.abort();
    }
    let result = match ended {
        // The server goes on while the worker stops, so that what it stopped is recorded.
        None => {
            say("stopping: nothing new is started, running tasks are stopped");
            stop.send_replace(Stop::Graceful);
            work.await
        }
        Some(ended) => ended,
    };
    server.stop().await;
    let _ = std::fs::remove_file(config.data_dir.join("server.json"));
    match result {
        Ok(summary) => {
            let summary = summary?;
            say(format!("stopped: {} tries finished, {} were stopped", summary.finished, summary.lost));
            Ok(())
        }
        Err(error) => {
            let source = std::io::Error::other(error);
            Err(CliError::Setup { what: "the worker ended unexpectedly", source })
        }
    }
}

async fn run_demo(handle: tidemill_scheduler::Handle, store: Store) {
    if let Err(error) = demo::run(&handle, &store).await {
        say("the demo stopped");
        crate::report::show(&error);
    }
}
