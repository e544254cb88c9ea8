//! `tidemill tasks list|logs|explain|clear|mark|render`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    args::Connection,
    client::Client,
    commands::{
        runs::{self, ClearArgs, RunArg},
        view,
    },
    error::Result,
    output::{Format, FormatArg, print_bytes, print_json},
};

/// How much of a log is read at a time, in bytes.
const LOG_CHUNK: u64 = 4 * 1024 * 1024;

/// Looks at task instances and acts on them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TasksCommand {
    /// Lists the task instances of a dag run.
    List {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Prints the log of a try, byte for byte.
    Logs {
        #[command(flatten)]
        task: TaskArg,
        /// Which try; the newest by default.
        #[arg(long = "try", value_name = "N")]
        try_number: Option<u32>,
        /// Go on until the try has ended.
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        element: ElementArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Says why a task instance is not running.
    Explain {
        #[command(flatten)]
        task: TaskArg,
        #[command(flatten)]
        element: ElementArg,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Clears a task instance so that it runs again.
    Clear {
        #[command(flatten)]
        task: TaskArg,
        #[command(flatten)]
        element: ElementArg,
        #[command(flatten)]
        clear: ClearArgs,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Gives a task instance a verdict by hand. What runs is stopped first.
    Mark {
        #[command(flatten)]
        task: TaskArg,
        /// The verdict.
        #[arg(long, value_parser = ["success", "failed"])]
        state: String,
        #[command(flatten)]
        element: ElementArg,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows the work of a try as it was rendered.
    Render {
        #[command(flatten)]
        task: TaskArg,
        #[command(flatten)]
        element: ElementArg,
        /// Which try; the newest by default.
        #[arg(long = "try", value_name = "N")]
        try_number: Option<u32>,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Which task instance.
#[derive(Debug, clap::Args)]
pub(crate) struct TaskArg {
    #[command(flatten)]
    run: RunArg,
    /// The task.
    task_id: String,
}

/// Which element of a mapped task.
#[derive(Debug, clap::Args)]
pub(crate) struct ElementArg {
    /// The element of a mapped task, counted from 0; -1 for the task as a whole.
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-1..))]
    map_index: i32,
}

impl ElementArg {
    fn query(&self) -> Vec<(&'static str, String)> {
        if self.map_index < 0 { Vec::new() } else { vec![("map_index", self.map_index.to_string())] }
    }

    fn chosen(&self) -> Option<i32> {
        (self.map_index >= 0).then_some(self.map_index)
    }
}

impl TaskArg {
    fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let mut path = vec!["dags", &self.run.dag_id, "runs", &self.run.run_id, "tasks", &self.task_id];
        path.extend(rest);
        path
    }
}

impl TasksCommand {
    /// Returns how the server is reached.
    pub(crate) fn connection(&self) -> &Connection {
        match self {
            Self::List { connection, .. }
            | Self::Logs { connection, .. }
            | Self::Explain { connection, .. }
            | Self::Clear { connection, .. }
            | Self::Mark { connection, .. }
            | Self::Render { connection, .. } => connection,
        }
    }
}

pub(crate) async fn run(command: &TasksCommand, client: &Client) -> Result {
    match command {
        TasksCommand::List { run, format, .. } => {
            let items =
                client.list(&["dags", &run.dag_id, "runs", &run.run_id, "tasks"], &[], u32::MAX).await?;
            match format.format {
                Format::Json => print_json(&items)?,
                Format::Table => instances(&items)?,
            }
        }
        TasksCommand::Logs { task, try_number, follow, element, .. } => {
            logs(client, task, &element.query(), *try_number, *follow).await?;
        }
        TasksCommand::Explain { task, element, format, .. } => {
            let reasons: Value = client.get(&task.path(&["explain"]), &element.query()).await?;
            let empty = Vec::new();
            let items = reasons.get("items").and_then(Value::as_array).unwrap_or(&empty);
            match format.format {
                Format::Json => print_json(items)?,
                Format::Table => view::table(items, &[("CODE", "code"), ("REASON", "message")]).print()?,
            }
        }
        TasksCommand::Clear { task, element, clear, format, .. } => {
            let tasks = std::slice::from_ref(&task.task_id);
            runs::clear(client, &task.run, tasks, element.chosen(), clear, format.format).await?;
        }
        TasksCommand::Mark { task, state, element, dry_run, format, .. } => {
            let path = ["dags", &task.run.dag_id, "runs", &task.run.run_id, "mark"];
            let body = json!({ "tasks": [task.task_id], "map_index": element.chosen(), "state": state,
                "dry_run": dry_run });
            let changes: Value = client.post(&path, &body).await?;
            view::changes(&changes, format.format)?;
        }
        TasksCommand::Render { task, try_number, element, format, .. } => {
            let element = element.query();
            let number = newest_try(client, task, &element, *try_number).await?.to_string();
            let work: Value = client.get(&task.path(&["tries", &number, "rendered"]), &element).await?;
            view::one(&work, format.format)?;
        }
    }
    Ok(())
}

fn instances(items: &[Value]) -> Result {
    let columns = [
        ("TASK", "task_id"),
        ("MAP INDEX", "map_index"),
        ("OPERATOR", "operator"),
        ("STATE", "state"),
        ("TRY", "try_number"),
        ("STARTED", "started_at"),
        ("FINISHED", "finished_at"),
        ("EXIT", "exit_code"),
        ("REASON", "reason"),
    ];
    view::table(items, &columns).print()?;
    Ok(())
}

/// The query that picks an element.
type Element<'a> = &'a [(&'static str, String)];

async fn newest_try(
    client: &Client,
    task: &TaskArg,
    element: Element<'_>,
    wanted: Option<u32>,
) -> Result<u64> {
    if let Some(number) = wanted {
        return Ok(number.into());
    }
    let item: Value = client.get(&task.path(&[]), element).await?;
    Ok(item.get("try_number").and_then(Value::as_u64).unwrap_or(0).max(1))
}

async fn is_live(client: &Client, task: &TaskArg, element: Element<'_>, number: u64) -> Result<bool> {
    let item: Value = client.get(&task.path(&[]), element).await?;
    let is_newest = item.get("try_number").and_then(Value::as_u64) == Some(number);
    Ok(is_newest && matches!(view::text(&item, "state").as_str(), "queued" | "running"))
}

/// Copies the bytes of a log to stdout, from the first on.
async fn logs(
    client: &Client,
    task: &TaskArg,
    element: Element<'_>,
    wanted: Option<u32>,
    follow: bool,
) -> Result {
    let number = newest_try(client, task, element, wanted).await?;
    let text = number.to_string();
    let path = task.path(&["tries", &text, "log"]);
    let mut offset = 0_u64;
    loop {
        // Asked before the bytes are read: what was written until the end is then in the last read.
        let goes_on = follow && is_live(client, task, element, number).await?;
        loop {
            let mut query = element.to_vec();
            query.push(("offset", offset.to_string()));
            query.push(("limit", LOG_CHUNK.to_string()));
            let bytes = client.bytes(&path, &query).await?;
            if !print_bytes(&bytes)? {
                return Ok(());
            }
            offset += bytes.len() as u64;
            if (bytes.len() as u64) < LOG_CHUNK {
                break;
            }
        }
        if !goes_on {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
