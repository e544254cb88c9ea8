//! `tidemill runs list|show|cancel|resume|clear|wait`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    args::Connection,
    client::Client,
    commands::view,
    config::value::duration,
    error::{CliError, Result},
    output::{Format, FormatArg, print_json},
    report::say,
};

/// Looks at dag runs and acts on them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RunsCommand {
    /// Lists dag runs, the newest first.
    List {
        /// Only those of this DAG.
        dag_id: Option<String>,
        /// Only those in these states, separated by commas.
        #[arg(long, value_name = "STATES")]
        state: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 25)]
        limit: u32,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows a dag run.
    Show {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Cancels a dag run: what runs is stopped, what has not started is skipped.
    Cancel {
        #[command(flatten)]
        run: RunArg,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Lets a paused dag run go on: what had no try left gets new ones.
    Resume {
        #[command(flatten)]
        run: RunArg,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Clears task instances of a dag run so that they run again.
    Clear {
        #[command(flatten)]
        run: RunArg,
        /// Only these tasks; may be given several times.
        #[arg(long = "task", value_name = "TASK_ID")]
        tasks: Vec<String>,
        #[command(flatten)]
        clear: ClearArgs,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Waits until a dag run has ended. The exit code is 0 when it succeeded, else 1.
    Wait {
        #[command(flatten)]
        run: RunArg,
        /// Give up after this long, such as 90s or 2h.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        timeout: Option<Duration>,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Which run.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArg {
    /// The DAG.
    pub(crate) dag_id: String,
    /// The run's id.
    pub(crate) run_id: String,
}

/// What a clear selects beyond the named tasks.
#[derive(Debug, clap::Args)]
pub(crate) struct ClearArgs {
    /// Everything above them too.
    #[arg(long)]
    upstream: bool,
    /// Everything below them too.
    #[arg(long)]
    downstream: bool,
    /// Of all these only failed and upstream_failed ones.
    #[arg(long)]
    only_failed: bool,
    /// The same in every run of the DAG with an earlier logical date.
    #[arg(long)]
    past: bool,
    /// The same in every run of the DAG with a later logical date.
    #[arg(long)]
    future: bool,
    /// The run takes the newest version of its DAG.
    #[arg(long)]
    latest: bool,
    /// Only show what would change.
    #[arg(long)]
    dry_run: bool,
}

impl RunsCommand {
    /// Returns how the server is reached.
    pub(crate) fn connection(&self) -> &Connection {
        match self {
            Self::List { connection, .. }
            | Self::Show { connection, .. }
            | Self::Cancel { connection, .. }
            | Self::Resume { connection, .. }
            | Self::Clear { connection, .. }
            | Self::Wait { connection, .. } => connection,
        }
    }
}

pub(crate) async fn run(command: &RunsCommand, client: &Client) -> Result {
    match command {
        RunsCommand::List { dag_id, state, limit, format, .. } => {
            let query: Vec<_> = state.iter().map(|state| ("state", state.clone())).collect();
            let items = match dag_id {
                Some(dag_id) => client.list(&["dags", dag_id, "runs"], &query, *limit).await?,
                None => client.list(&["runs"], &query, *limit).await?,
            };
            match format.format {
                Format::Json => print_json(&items)?,
                Format::Table => view::runs(&items).print()?,
            }
        }
        RunsCommand::Show { run, format, .. } => {
            let item: Value = client.get(&["dags", &run.dag_id, "runs", &run.run_id], &[]).await?;
            view::one(&item, format.format)?;
        }
        RunsCommand::Cancel { run, dry_run, format, .. } => {
            act(client, run, "cancel", *dry_run, format.format).await?;
        }
        RunsCommand::Resume { run, dry_run, format, .. } => {
            act(client, run, "resume", *dry_run, format.format).await?;
        }
        RunsCommand::Clear { run, tasks, clear: options, format, .. } => {
            clear(client, run, tasks, None, options, format.format).await?;
        }
        RunsCommand::Wait { run, timeout, format, .. } => {
            let item = wait(client, run, *timeout, false).await?;
            view::one(&item, format.format)?;
            if view::text(&item, "state") != "success" {
                return Err(CliError::Exit(1));
            }
        }
    }
    Ok(())
}

/// Asks for something that concerns a whole run, and prints what changed.
async fn act(client: &Client, run: &RunArg, what: &str, dry_run: bool, format: Format) -> Result {
    let body = json!({ "dry_run": dry_run });
    let changes: Value = client.post(&["dags", &run.dag_id, "runs", &run.run_id, what], &body).await?;
    view::changes(&changes, format)
}

/// Clears tasks of a run, or only shows what would change.
pub(crate) async fn clear(
    client: &Client,
    run: &RunArg,
    tasks: &[String],
    map_index: Option<i32>,
    options: &ClearArgs,
    format: Format,
) -> Result {
    let body = json!({
        "tasks": tasks,
        "map_index": map_index,
        "upstream": options.upstream,
        "downstream": options.downstream,
        "only_failed": options.only_failed,
        "past": options.past,
        "future": options.future,
        "latest": options.latest,
        "dry_run": options.dry_run,
    });
    let changes: Value = client.post(&["dags", &run.dag_id, "runs", &run.run_id, "clear"], &body).await?;
    view::changes(&changes, format)
}

/// Waits for the end of a run and returns it. A server that goes away meanwhile, or whose stand-by has not taken over
/// yet, is waited for; one that never answered only within a timeout, because a mistyped URL would wait for ever.
pub(crate) async fn wait(
    client: &Client,
    run: &RunArg,
    timeout: Option<Duration>,
    mut has_answered: bool,
) -> Result<Value> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(100);
    let mut shown = String::new();
    let mut is_away = false;
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
        match ask(client, run, left).await {
            Some(Ok(item)) => {
                has_answered = true;
                let state = view::text(&item, "state");
                if matches!(state.as_str(), "success" | "failed" | "cancelled") {
                    return Ok(item);
                }
                if std::mem::take(&mut is_away) {
                    say(format!("the server answers again; {} is {state}", run.run_id));
                    shown = state;
                } else if started.elapsed() > Duration::from_secs(1) && state != shown {
                    // Progress, where it takes longer than a second.
                    say(format!("{} is {state}", run.run_id));
                    shown = state;
                }
            }
            Some(Err(error)) if error.is_passing() && (has_answered || timeout.is_some()) => {
                let was_away = std::mem::replace(&mut is_away, true);
                if !was_away {
                    say(format!("{error} ({}); waiting for it", error.code()));
                }
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
        if let Some(timeout) = timeout.filter(|timeout| started.elapsed() >= *timeout) {
            let mut what = format!("run {} of {}", run.run_id, run.dag_id);
            if is_away {
                what.push_str(", whose server is away,");
            }
            return Err(CliError::WaitedTooLong { what, seconds: timeout.as_secs() });
        }
        let left = timeout.map_or(pause, |timeout| timeout.saturating_sub(started.elapsed()));
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(1));
    }
}

/// Asks for a run once; nothing when no answer came in the time that is left. What is left may be nothing: the last
/// look gets a moment all the same.
async fn ask(client: &Client, run: &RunArg, left: Option<Duration>) -> Option<Result<Value>> {
    let path = ["dags", &run.dag_id, "runs", &run.run_id];
    let look = client.get(&path, &[]);
    match left {
        Some(left) => tokio::time::timeout(left.max(Duration::from_secs(1)), look).await.ok(),
        None => Some(look.await),
    }
}
