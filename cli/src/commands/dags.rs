//! `tidemill dags check|next|test|list|show|trigger|pause|unpause|delete`.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{
    args::Connection,
    client::{Client, block_on},
    commands::{
        dags_file, dags_import, dags_test, on_server,
        runs::{self, RunArg},
        time::{parse_object, parse_time},
        view,
    },
    config::{Config, Overrides, process_env, value::duration},
    error::{CliError, Result},
    output::{Format, FormatArg, Table, instant, print_json},
    report::say,
};

/// Checks, tests and triggers DAGs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DagsCommand {
    /// Checks DAG files without a server and reports everything that is wrong with them.
    Check {
        /// Files, or folders with `*.toml` files.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Also asks the server whether it has the variables, connections and pools that the files name.
        #[arg(long)]
        with_server: bool,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows the next logical dates of a DAG file, or of a DAG that the server knows.
    Next {
        /// A DAG file, or the id of a DAG.
        dag: String,
        /// Logical dates at or after this time; now by default.
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        from: Option<DateTime<Utc>>,
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 10)]
        count: usize,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Runs one dag run of a file in the foreground, without a server, and prints each task's state.
    Test(dags_test::TestArgs),
    /// Writes DAG files from a crontab or from a DAG file of Airflow.
    #[command(subcommand)]
    Import(dags_import::ImportCommand),
    /// Lists the DAGs.
    List {
        /// Part of the id or the description.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only those with this tag.
        #[arg(long)]
        tag: Option<String>,
        /// Only those in this state.
        #[arg(long, value_parser = ["active", "paused", "missing", "running", "success", "failed"])]
        state: Option<String>,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows a DAG.
    Show {
        /// The DAG.
        dag_id: String,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Triggers a dag run.
    Trigger(TriggerArgs),
    /// Pauses a DAG: no scheduled runs are created, running ones go on.
    Pause(PauseArgs),
    /// Unpauses a DAG.
    Unpause(PauseArgs),
    /// Deletes a DAG whose file is gone, with its runs and their logs.
    Delete {
        #[command(flatten)]
        dag: DagArg,
    },
}

/// Which DAG.
#[derive(Debug, clap::Args)]
pub(crate) struct DagArg {
    /// The DAG.
    dag_id: String,
    #[command(flatten)]
    connection: Connection,
}

/// Which DAG is paused or unpaused.
#[derive(Debug, clap::Args)]
pub(crate) struct PauseArgs {
    /// The DAG.
    dag_id: String,
    /// Only say what would change: the dates without a run, those that were missed, and what goes on.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    connection: Connection,
}

/// What is triggered, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct TriggerArgs {
    /// The DAG.
    dag_id: String,
    /// Overrides params, as a JSON object.
    #[arg(long, visible_alias = "params", value_name = "JSON", value_parser = parse_object)]
    conf: Option<Map<String, Value>>,
    /// The logical date; now by default.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    logical_date: Option<DateTime<Utc>>,
    /// A run id of your own.
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// Triggering again with the same key returns the same run.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait until the run has ended. The exit code is 0 when it succeeded, else 1.
    #[arg(long)]
    wait: bool,
    /// With --wait: give up after this long.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    timeout: Option<Duration>,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(command: &DagsCommand, mut overrides: Overrides) -> Result {
    let connection = match command {
        DagsCommand::Check { paths, format, with_server: false, .. } => {
            return dags_file::read_all(paths)?.print(format.format);
        }
        DagsCommand::Check { connection, .. } => connection,
        DagsCommand::Import(command) => return dags_import::run(command),
        DagsCommand::Test(args) => return dags_test::run(args, &overrides),
        DagsCommand::Next { dag, from, count, format, connection } => {
            let path = PathBuf::from(dag);
            if path.is_file() || dag.ends_with(".toml") || dag.contains('/') {
                let (dag, _) = dags_file::load_valid(&path)?;
                return dags_file::next(&dag, from.unwrap_or_else(Utc::now), *count, format.format);
            }
            connection
        }
        DagsCommand::List { connection, .. } | DagsCommand::Show { connection, .. } => connection,
        DagsCommand::Trigger(args) => &args.connection,
        DagsCommand::Pause(args) | DagsCommand::Unpause(args) => &args.connection,
        DagsCommand::Delete { dag } => &dag.connection,
    };
    connection.apply(&mut overrides);
    let client = Client::new(&Config::load(&overrides, &process_env)?)?;
    block_on(ask(command, &client))
}

async fn ask(command: &DagsCommand, client: &Client) -> Result {
    match command {
        DagsCommand::Next { dag, from, count, format, .. } => {
            let source = client.text(&["dags", dag, "source"]).await?;
            let dag = dags_file::load_source(dag, &source)?;
            dags_file::next(&dag, from.unwrap_or_else(Utc::now), *count, format.format)?;
        }
        DagsCommand::List { search, tag, state, format, .. } => {
            let given = [("q", search), ("tag", tag), ("state", state)];
            let query: Vec<_> =
                given.iter().filter_map(|(name, value)| Some((*name, (*value).clone()?))).collect();
            let items = client.list(&["dags"], &query, u32::MAX).await?;
            match format.format {
                Format::Json => print_json(&items)?,
                Format::Table => {
                    let columns = [
                        ("DAG", "dag_id"),
                        ("SCHEDULE", "schedule"),
                        ("PAUSED", "is_paused"),
                        ("MISSING", "is_missing"),
                        ("NEXT RUN", "next_run_after"),
                        ("TASKS", "task_count"),
                        ("DESCRIPTION", "description"),
                    ];
                    view::table(&items, &columns).print()?;
                }
            }
        }
        DagsCommand::Show { dag_id, format, .. } => {
            let dag: Value = client.get(&["dags", dag_id], &[]).await?;
            view::one(&dag, format.format)?;
        }
        DagsCommand::Trigger(args) => trigger(args, client).await?,
        DagsCommand::Pause(args) => pause(client, args, true).await?,
        DagsCommand::Unpause(args) => pause(client, args, false).await?,
        DagsCommand::Delete { dag } => {
            client.delete(&["dags", &dag.dag_id]).await?;
            say(format!("DAG {} is deleted", dag.dag_id));
        }
        DagsCommand::Check { paths, format, .. } => {
            let mut files = dags_file::read_all(paths)?;
            on_server::look(&mut files, client).await?;
            files.print(format.format)?;
        }
        DagsCommand::Import(_) | DagsCommand::Test(_) => {}
    }
    Ok(())
}

async fn pause(client: &Client, args: &PauseArgs, is_paused: bool) -> Result {
    let PauseArgs { dag_id, dry_run, format, .. } = args;
    let body = json!({ "is_paused": is_paused, "dry_run": dry_run });
    let answer: Value = client.send_json(Method::PATCH, &["dags", dag_id], &body, &[]).await?;
    if format.format == Format::Json {
        print_json(&answer)?;
    } else if *dry_run {
        let empty = Vec::new();
        let mut table = Table::new(&["WHAT WOULD CHANGE"]);
        for sentence in answer.get("changes").and_then(Value::as_array).unwrap_or(&empty) {
            table.row([sentence.as_str().unwrap_or_default().to_owned()]);
        }
        table.print()?;
    }
    if !dry_run {
        say(format!("DAG {dag_id} is {}", if is_paused { "paused" } else { "active" }));
    }
    Ok(())
}

async fn trigger(args: &TriggerArgs, client: &Client) -> Result {
    let body = json!({
        "conf": args.conf.clone().unwrap_or_default(),
        "logical_date": args.logical_date.map(instant),
        "run_id": args.run_id,
    });
    let headers: Vec<_> = args.idempotency_key.iter().map(|key| ("Idempotency-Key", key.as_str())).collect();
    let mut run: Value =
        client.send_json(Method::POST, &["dags", &args.dag_id, "runs"], &body, &headers).await?;
    if args.wait {
        let which = RunArg { dag_id: args.dag_id.clone(), run_id: view::text(&run, "run_id") };
        say(format!("run {} was created", which.run_id));
        run = runs::wait(client, &which, args.timeout, true).await?;
    }
    match args.format.format {
        Format::Json => print_json(&run)?,
        Format::Table => view::runs(std::slice::from_ref(&run)).print()?,
    }
    if args.wait && view::text(&run, "state") != "success" {
        return Err(CliError::Exit(1));
    }
    Ok(())
}
