//! `tidemill variables list|get|set|delete|import|export|new-key|seal`.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{
    args::Connection,
    client::Client,
    commands::{secrets, usage, view},
    error::{CliError, Result},
    output::{Format, FormatArg, print, print_json},
    report::say,
};

/// Looks at variables and changes them: values that tasks share, `{{ var.name }}` in a template.
///
/// A value never has to stand on the command line, where every user of the machine can read it:
///   tidemill variables set bucket s3://models
///   tidemill variables set api_token --secret < token.txt
#[derive(Debug, clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum VariablesCommand {
    /// Lists the variables; the values of secret ones are not shown.
    List {
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Prints the value of a plain variable.
    Get {
        /// Its name.
        name: String,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Makes or changes a variable.
    Set {
        /// Its name.
        name: String,
        /// Its value; a secret one is read from --file, from stdin, or asked for.
        value: Option<String>,
        /// A file that holds the value; `-` is stdin.
        #[arg(long, value_name = "FILE", conflicts_with = "value")]
        file: Option<PathBuf>,
        /// It is never shown again. Without this and --plain a new one is secret when its name says so.
        #[arg(long, conflicts_with_all = ["plain", "value"])]
        secret: bool,
        /// It is shown to everybody who can sign in.
        #[arg(long)]
        plain: bool,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Deletes a variable.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Makes variables of a JSON file: `{"name": "value"}`, or `{"name": {"value", "description", "is_secret"}}`.
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
    /// Prints all stored variables as JSON that `import` takes; values of secret ones are null.
    Export {
        #[command(flatten)]
        connection: Connection,
    },
    /// Puts a new key first in a key file. Then `seal` uses it.
    NewKey {
        /// The key file.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
    /// Has the server read its key file again and seal every variable and connection with the first key.
    Seal {
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
}

impl VariablesCommand {
    /// Returns how the server is reached; absent where none is needed.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        match self {
            Self::List { connection, .. }
            | Self::Get { connection, .. }
            | Self::Set { connection, .. }
            | Self::Delete { connection, .. }
            | Self::Import { connection, .. }
            | Self::Export { connection, .. }
            | Self::Seal { connection, .. } => Some(connection),
            Self::NewKey { .. } => None,
        }
    }
}

/// Puts a new key into a key file.
///
/// # Errors
/// STO0111.
pub(crate) fn new_key(key_file: &std::path::Path) -> Result {
    let id =
        tidemill_scheduler::add_key(key_file).map_err(|error| CliError::coded(error.code(), &error, None))?;
    say(format!(
        "key {id} is the first of {}; `tidemill variables seal` seals everything with it, then the old lines can go",
        key_file.display()
    ));
    Ok(())
}

pub(crate) async fn run(command: &VariablesCommand, client: &Client) -> Result {
    match command {
        VariablesCommand::List { format, .. } => list(client, format.format).await?,
        VariablesCommand::Get { name, format, .. } => {
            let found: Value = client.get(&["variables", name], &[]).await?;
            match (format.format, found.get("value").and_then(Value::as_str)) {
                (Format::Json, _) => print_json(&found)?,
                (Format::Table, Some(value)) => print(&format!("{value}\n"))?,
                (Format::Table, None) => return Err(CliError::SecretValue { name: name.clone() }),
            }
        }
        VariablesCommand::Set { name, value, file, secret, plain, description, format, .. } => {
            let value = match value {
                Some(value) => value.clone(),
                None => secrets::read(file.as_deref(), &format!("The value of {name}"))?,
            };
            let is_secret = if *secret { Some(true) } else { plain.then_some(false) };
            let body = json!({ "value": value, "description": description, "is_secret": is_secret });
            let made: Value = client.send_json(Method::PUT, &["variables", name], &body, &[]).await?;
            match format.format {
                Format::Json => print_json(&made)?,
                Format::Table => {
                    let is_secret = made.get("is_secret").and_then(Value::as_bool).unwrap_or_default();
                    let how = if is_secret { "secret: it is not shown again" } else { "plain" };
                    say(format!("variable {name} is set, {how}"));
                }
            }
        }
        VariablesCommand::Delete { name, .. } => {
            client.delete(&["variables", name]).await?;
            say(format!("variable {name} is deleted"));
        }
        VariablesCommand::Import { file, .. } => import(client, file).await?,
        VariablesCommand::Export { .. } => {
            let stored = client.list(&["variables"], &[], u32::MAX).await?;
            let stored = stored.iter().filter(|item| item["origin"] == "stored");
            let all: Map<String, Value> = stored
                .map(|item| {
                    let kept =
                        ["value", "description", "is_secret"].map(|key| (key.to_owned(), item[key].clone()));
                    (view::text(item, "name"), Value::Object(Map::from_iter(kept)))
                })
                .collect();
            print_json(&all)?;
        }
        VariablesCommand::NewKey { key_file } => return new_key(key_file),
        VariablesCommand::Seal { format, .. } => {
            let done: Value = client.post(&["seal"], &json!({})).await?;
            match format.format {
                Format::Json => print_json(&done)?,
                Format::Table => say(format!(
                    "{} variables and connections are sealed with key {}; other lines of the key file can go",
                    done["sealed"],
                    view::text(&done, "key")
                )),
            }
        }
    }
    Ok(())
}

async fn list(client: &Client, format: Format) -> Result {
    let mut items = client.list(&["variables"], &[], u32::MAX).await?;
    if format == Format::Json {
        return Ok(print_json(&items)?);
    }
    for item in &mut items {
        let is_secret = item["is_secret"].as_bool().unwrap_or_default();
        if let Some(problem) = item["problem"].as_str().map(str::to_owned) {
            item["value"] = Value::from(problem);
        } else if is_secret {
            item["value"] = Value::from("(secret)");
        }
    }
    if items.is_empty() {
        say("no variable; `tidemill variables set NAME VALUE` makes one");
    }
    let columns =
        [("VARIABLE", "name"), ("VALUE", "value"), ("ORIGIN", "origin"), ("DESCRIPTION", "description")];
    Ok(view::table(&items, &columns).print()?)
}

/// Reads a JSON object from a file or stdin.
///
/// # Errors
/// CFG0302; CFG0321 where it is none.
pub(crate) fn object(file: &std::path::Path) -> Result<Map<String, Value>> {
    let text = secrets::read(Some(file), "")?;
    serde_json::from_str(&text).map_err(|error| CliError::NotAnObject {
        path: file.to_owned(),
        // The parser's own words may repeat a piece of the text.
        why: format!("it is not a JSON object (line {}, column {})", error.line(), error.column()),
    })
}

async fn import(client: &Client, file: &std::path::Path) -> Result {
    let mut count = 0;
    for (name, value) in object(file)? {
        let body = match value {
            Value::Object(map) if map.contains_key("value") => Value::Object(map),
            Value::String(text) => json!({ "value": text }),
            Value::Null => return Err(usage(format!("{name} has no value"))),
            // As Airflow does: what is not text is kept as JSON.
            other => json!({ "value": other.to_string() }),
        };
        if body["value"].is_null() {
            say(format!("{name}: a secret is not exported, so its value is left as it is"));
        }
        let _: Value = client.send_json(Method::PUT, &["variables", &name], &body, &[]).await?;
        count += 1;
    }
    say(format!("{count} variables are set"));
    Ok(())
}
