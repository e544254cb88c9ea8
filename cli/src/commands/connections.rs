//! `tidemill connections list|show|set|delete|import|export`.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Map, Value, json};
use tidemill_engine::{connection, ids::ConnectionId, secret::Secret};

use crate::{
    args::Connection,
    client::Client,
    commands::{secrets, usage, variables::object, view},
    error::{CliError, Result},
    output::{Format, FormatArg, print_json},
    report::say,
};

/// Looks at connections and changes them: how tasks reach systems outside, `{{ conn.id.host }}` in a template.
///
/// A password never stands on the command line, where every user of the machine can read it:
///   tidemill connections set warehouse --kind postgres --host db.example --login etl --password-stdin < pw.txt
///   tidemill connections set warehouse --uri-file uri.txt
#[derive(Debug, clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum ConnectionsCommand {
    /// Lists the connections without what is secret in them.
    List {
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows a connection without what is secret in it.
    Show {
        /// Its id.
        id: String,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Makes a connection, or changes what is given of one.
    Set(Box<SetArgs>),
    /// Deletes a connection.
    Delete {
        /// Its id.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Makes connections of a JSON file: `{"id": "kind://…"}` or `{"id": {"kind", "host", …}}`, also as Airflow exports.
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,
        #[command(flatten)]
        connection: Connection,
    },
    /// Prints all stored connections as JSON that `import` takes, without what is secret in them.
    Export {
        #[command(flatten)]
        connection: Connection,
    },
}

/// What a connection is to be.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// Its id.
    id: String,
    /// What it leads to, such as postgres, http, slack, smtp.
    #[arg(long)]
    kind: Option<String>,
    /// The machine, or a whole URL of a web service.
    #[arg(long)]
    host: Option<String>,
    /// The port.
    #[arg(long)]
    port: Option<u16>,
    /// Who logs in.
    #[arg(long)]
    login: Option<String>,
    /// The password is read from stdin, or asked for.
    #[arg(long, conflicts_with_all = ["password_file", "no_password"])]
    password_stdin: bool,
    /// A file that holds the password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The stored password goes.
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
    /// The database, or what else stands behind the port.
    #[arg(long)]
    schema: Option<String>,
    /// A file with a JSON object of anything else; `-` is stdin.
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    extra_file: Option<PathBuf>,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// A file with all of it as a URI or JSON; `-` is stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "kind", "host", "port", "login", "password_stdin", "password_file", "no_password", "schema", "extra_file",
    ])]
    uri_file: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    connection: Connection,
}

impl ConnectionsCommand {
    /// Returns how the server is reached.
    pub(crate) fn connection(&self) -> &Connection {
        match self {
            Self::List { connection, .. }
            | Self::Show { connection, .. }
            | Self::Delete { connection, .. }
            | Self::Import { connection, .. }
            | Self::Export { connection, .. } => connection,
            Self::Set(args) => &args.connection,
        }
    }
}

pub(crate) async fn run(command: &ConnectionsCommand, client: &Client) -> Result {
    match command {
        ConnectionsCommand::List { format, .. } => {
            let items = client.list(&["connections"], &[], u32::MAX).await?;
            if format.format == Format::Json {
                return Ok(print_json(&items)?);
            }
            if items.is_empty() {
                say("no connection; `tidemill connections set ID --kind postgres --host HOST` makes one");
            }
            let columns = [
                ("CONNECTION", "id"),
                ("KIND", "kind"),
                ("HOST", "host"),
                ("PORT", "port"),
                ("LOGIN", "login"),
                ("SCHEMA", "schema"),
                ("PASSWORD", "has_password"),
                ("ORIGIN", "origin"),
            ];
            view::table(&items, &columns).print()?;
        }
        ConnectionsCommand::Show { id, format, .. } => {
            let found: Value = client.get(&["connections", id], &[]).await?;
            view::one(&found, format.format)?;
        }
        ConnectionsCommand::Set(args) => set(args, client).await?,
        ConnectionsCommand::Delete { id, .. } => {
            client.delete(&["connections", id]).await?;
            say(format!("connection {id} is deleted"));
        }
        ConnectionsCommand::Import { file, .. } => {
            let all = object(file)?;
            let count = all.len();
            // All are read before one is sent: a mistake in the last must not leave the first changed.
            let read: Vec<(String, Value)> = all
                .into_iter()
                .map(|(id, value)| {
                    imported(&id, &value).map(|body| (id, body)).map_err(|why| broken(file, why))
                })
                .collect::<Result<_>>()?;
            for (id, body) in read {
                let _: Value = client.send_json(Method::PUT, &["connections", &id], &body, &[]).await?;
            }
            say(format!("{count} connections are set"));
        }
        ConnectionsCommand::Export { .. } => {
            let stored = client.list(&["connections"], &[], u32::MAX).await?;
            let all: Map<String, Value> = stored
                .iter()
                .filter(|item| item["origin"] == "stored")
                .map(|item| {
                    let mut body = bare(item);
                    if let Some(hidden) = item["hidden"].as_array().filter(|hidden| !hidden.is_empty()) {
                        say(format!("{}: secret in extra and left out: {}", item["id"], json!(hidden)));
                    }
                    body.retain(|_, value| !value.is_null());
                    (view::text(item, "id"), Value::Object(body))
                })
                .collect();
            print_json(&all)?;
        }
    }
    Ok(())
}

fn broken(file: &std::path::Path, why: String) -> CliError {
    CliError::NotAnObject { path: file.to_owned(), why }
}

/// The fields that are not secret.
fn bare(item: &Value) -> Map<String, Value> {
    let fields = ["kind", "description", "host", "port", "login", "schema", "extra"];
    fields.map(|field| (field.to_owned(), item[field].clone())).into_iter().collect()
}

/// Reads a connection of a file, a URI or an object, into the body of a request.
fn imported(id: &str, value: &Value) -> std::result::Result<Value, String> {
    let name = ConnectionId::new(id).map_err(|error| format!("{id:?} {error}"))?;
    let read = match value {
        Value::String(text) => connection::Connection::from_text(name, text),
        Value::Object(map) => connection::Connection::from_json(name, map),
        _ => Err("it is neither a URI nor an object".to_owned()),
    };
    read.map(|connection| body_of(&connection)).map_err(|why| format!("{id}: {why}"))
}

fn body_of(connection: &connection::Connection) -> Value {
    json!({
        "kind": connection.kind, "description": connection.description, "host": connection.host,
        "port": connection.port, "login": connection.login,
        "password": connection.password.as_ref().map(Secret::reveal),
        "schema": connection.schema, "extra": connection.extra,
    })
}

async fn set(args: &SetArgs, client: &Client) -> Result {
    let body = match &args.uri_file {
        Some(file) => {
            let text = secrets::read(Some(file), "")?;
            let mut body =
                imported(&args.id, &Value::from(text.as_str())).map_err(|why| broken(file, why))?;
            if let Some(description) = &args.description {
                body["description"] = json!(description);
            }
            body
        }
        None => changed(args, client).await?,
    };
    let made: Value = client.send_json(Method::PUT, &["connections", &args.id], &body, &[]).await?;
    match args.format.format {
        Format::Json => print_json(&made)?,
        Format::Table => {
            let has = made["has_password"].as_bool().unwrap_or_default();
            let password = if has { "with a password" } else { "without a password" };
            say(format!("connection {} is set, {password}", args.id));
        }
    }
    Ok(())
}

/// What is stored, with what was given over it.
async fn changed(args: &SetArgs, client: &Client) -> Result<Value> {
    let stored: Option<Value> = match client.get(&["connections", &args.id], &[]).await {
        Ok(found) => Some(found),
        Err(error) if error.code() == "WEB0201" => None,
        Err(error) => return Err(error),
    };
    let Some(kind) = args.kind.clone().or_else(|| Some(stored.as_ref()?["kind"].as_str()?.to_owned())) else {
        return Err(usage("a new connection needs --kind, such as postgres, http, slack or smtp".to_owned()));
    };
    let mut body = stored.as_ref().map(bare).unwrap_or_default();
    body.retain(|_, value| !value.is_null());
    if let Some(hidden) = stored.as_ref().map(|stored| stored["hidden"].clone()) {
        body.insert("keep".to_owned(), hidden);
    }
    body.insert("kind".to_owned(), json!(kind));
    let given = [
        ("host", &args.host),
        ("login", &args.login),
        ("schema", &args.schema),
        ("description", &args.description),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            body.insert(name.to_owned(), json!(value));
        }
    }
    if let Some(port) = args.port {
        body.insert("port".to_owned(), json!(port));
    }
    if let Some(file) = &args.extra_file {
        body.insert("extra".to_owned(), Value::Object(object(file)?));
        body.remove("keep");
    }
    if args.no_password {
        body.insert("password".to_owned(), json!(""));
    } else if args.password_stdin || args.password_file.is_some() {
        let what = format!("The password of {}", args.id);
        body.insert("password".to_owned(), json!(secrets::read(args.password_file.as_deref(), &what)?));
    }
    Ok(Value::Object(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn airflow_s_export_is_read_and_mistakes_name_the_connection_only() {
        let airflow = json!({
            "conn_type": "postgres", "description": null, "login": "etl", "password": "hunter22", "host": "db",
            "port": 5432, "schema": "sales", "extra": "{\"sslmode\": \"require\"}",
        });
        let body = imported("warehouse", &airflow).unwrap();
        assert_eq!((&body["kind"], &body["password"]), (&json!("postgres"), &json!("hunter22")));
        assert_eq!(body["extra"], json!({"sslmode": "require"}));
        assert_eq!(imported("w", &json!("http://u:p@h:80")).unwrap()["port"], json!(80));
        for wrong in [json!("hunter22"), json!(["hunter22"]), json!({"host": {"a": "hunter22"}})] {
            let why = imported("w", &wrong).unwrap_err();
            assert!(why.starts_with("w: ") && !why.contains("hunter22"), "{why}");
        }
    }
}
