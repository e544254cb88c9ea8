//! `tidemill assets list|show|events|emit`.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{
    args::Connection,
    client::Client,
    commands::time::parse_object,
    error::{CliError, Result},
    output::{Format, FormatArg, Table, print_json},
    report::say,
};

/// Looks at assets and posts events on them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AssetsCommand {
    /// Lists the assets that DAG files name, with who updates them and who waits for them.
    List {
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows an asset, and why the DAGs that wait for it have no run.
    #[command(after_help = "Example: tidemill assets show warehouse/features")]
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Lists events, the newest first, with the runs that they caused.
    #[command(after_help = "Example: tidemill assets events warehouse/features --limit 5 --format json")]
    Events {
        /// Of this asset only.
        name: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Posts an event: the DAGs that wait for nothing else run at once.
    #[command(
        after_help = "Example: tidemill assets emit warehouse/labels --extra '{\"rows\": 1200}' --key load-2026-11-05"
    )]
    Emit {
        /// The asset.
        name: String,
        /// What there is to say about it, a JSON object; templates see it.
        #[arg(long, value_name = "JSON", value_parser = parse_object)]
        extra: Option<Map<String, Value>>,
        /// A key of your own: the same command with the same key posts one event.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
}

impl AssetsCommand {
    /// Returns how the server is reached.
    pub(crate) fn connection(&self) -> &Connection {
        match self {
            Self::List { connection, .. }
            | Self::Show { connection, .. }
            | Self::Events { connection, .. }
            | Self::Emit { connection, .. } => connection,
        }
    }
}

pub(crate) async fn run(command: &AssetsCommand, client: &Client) -> Result {
    match command {
        AssetsCommand::List { format, .. } => {
            let items = client.list(&["assets"], &[], u32::MAX).await?;
            list(&items, format.format)
        }
        AssetsCommand::Show { name, format, .. } => show(client, name, format.format).await,
        AssetsCommand::Events { name, limit, format, .. } => {
            let query: Vec<(&str, String)> = name.iter().map(|name| ("asset", name.clone())).collect();
            let items = client.list(&["assets", "events"], &query, *limit).await?;
            events(&items, format.format)
        }
        AssetsCommand::Emit { name, extra, key, format, .. } => {
            let body = json!({ "asset": name, "extra": extra.clone().unwrap_or_default() });
            let headers: Vec<(&'static str, &str)> =
                key.iter().map(|key| ("Idempotency-Key", key.as_str())).collect();
            let event: Value = client.send_json(Method::POST, &["assets", "events"], &body, &headers).await?;
            match format.format {
                Format::Json => Ok(print_json(&event)?),
                Format::Table => {
                    say(format!("event {} on {name} at {}", event["id"], text(&event["at"])));
                    Ok(())
                }
            }
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn names(value: &Value, name: impl Fn(&Value) -> String) -> String {
    let names: Vec<String> = value.as_array().into_iter().flatten().map(name).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

/// Who made an event, in words.
fn source(event: &Value) -> String {
    match &event["source"] {
        Value::Null => format!("posted by {}", text(&event["posted_by"])),
        task => format!("{}.{}", text(&task["dag_id"]), text(&task["task_id"])),
    }
}

fn list(items: &[Value], format: Format) -> Result {
    if format == Format::Json {
        return Ok(print_json(&items)?);
    }
    let mut table = Table::new(&["ASSET", "UPDATED BY", "WAITED FOR BY", "LAST EVENT", "FROM"]);
    for asset in items {
        let last = &asset["last_event"];
        let producers =
            names(&asset["producers"], |one| format!("{}.{}", text(&one["dag_id"]), text(&one["task_id"])));
        let from = if last.is_null() { "-".to_owned() } else { source(last) };
        table.row([
            text(&asset["name"]),
            producers,
            names(&asset["consumers"], text),
            text(&last["at"]),
            from,
        ]);
    }
    if table.is_empty() {
        say("no asset; a task with `outlets = [\"NAME\"]` makes one");
        return Ok(());
    }
    Ok(table.print()?)
}

async fn show(client: &Client, name: &str, format: Format) -> Result {
    let found = client.list(&["assets"], &[("name", name.to_owned())], 1).await?;
    let Some(asset) = found.first() else {
        say(format!("no DAG file names the asset {name}"));
        return Err(CliError::Exit(1));
    };
    let mut waits = Vec::new();
    for dag_id in asset["consumers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        waits.push(client.get::<Value>(&["dags", dag_id, "assets"], &[]).await?);
    }
    if format == Format::Json {
        let mut asset = asset.clone();
        asset["waits"] = Value::Array(waits);
        return Ok(print_json(&asset)?);
    }
    list(std::slice::from_ref(asset), format)?;
    for dag in &waits {
        let status = &dag["waits_for"];
        say(format!("{}: {}", text(&dag["dag_id"]), names(&status["reasons"], |why| text(&why["message"]))));
        for queue in status["assets"].as_array().into_iter().flatten() {
            let since = match &queue["first_at"] {
                Value::Null => String::new(),
                at => format!(" since {}", text(at)),
            };
            say(format!("  {}: {} queued{since}", text(&queue["asset"]), queue["queued"]));
        }
    }
    Ok(())
}

fn events(items: &[Value], format: Format) -> Result {
    if format == Format::Json {
        return Ok(print_json(&items)?);
    }
    let mut table = Table::new(&["EVENT", "ASSET", "AT", "FROM", "BECAME"]);
    for event in items {
        let runs = names(&event["runs"], |run| text(&run["run_id"]));
        let queued = names(&event["queued_for"], |dag| format!("queued for {}", text(dag)));
        let became = if runs == "-" { queued } else { runs };
        table.row([
            event["id"].to_string(),
            text(&event["asset"]),
            text(&event["at"]),
            source(event),
            became,
        ]);
    }
    if table.is_empty() {
        say("no events");
        return Ok(());
    }
    Ok(table.print()?)
}
