//! `tidemill tokens create|list|revoke`.

use serde_json::{Value, json};

use crate::{
    args::Connection,
    client::Client,
    commands::view,
    error::Result,
    output::{Format, FormatArg, print, print_json},
    report::say,
};

/// Makes and revokes tokens for machines.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TokensCommand {
    /// Makes a token and prints its secret, once.
    Create {
        /// What people call it.
        #[arg(default_value = "token")]
        name: String,
        /// What it may do: viewer sees, operator acts on runs, admin does everything, worker joins as a worker.
        #[arg(long, value_parser = ["viewer", "operator", "admin", "worker"])]
        role: String,
        /// It stops working after so many days; never by default.
        #[arg(long, value_name = "N")]
        days: Option<u32>,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Lists the tokens, without their secrets.
    List {
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Revokes a token at once.
    Revoke {
        /// Its id, as the list shows it.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
}

impl TokensCommand {
    /// Returns how the server is reached.
    pub(crate) fn connection(&self) -> &Connection {
        match self {
            Self::Create { connection, .. }
            | Self::List { connection, .. }
            | Self::Revoke { connection, .. } => connection,
        }
    }
}

pub(crate) async fn run(command: &TokensCommand, client: &Client) -> Result {
    match command {
        TokensCommand::Create { name, role, days, format, .. } => {
            let made: Value = if role == "worker" {
                client.post(&["join_tokens"], &json!({})).await?
            } else {
                let body = json!({ "name": name, "role": role, "days": days });
                client.post(&["tokens"], &body).await?
            };
            match format.format {
                Format::Json => print_json(&made)?,
                Format::Table => {
                    say(format!(
                        "token {} of role {role}; the secret is shown once:",
                        view::text(&made, "id")
                    ));
                    print(&format!("{}\n", view::text(&made, "token")))?;
                }
            }
        }
        TokensCommand::List { format, .. } => {
            let mut items = client.list(&["tokens"], &[], u32::MAX).await?;
            items.extend(client.list(&["join_tokens"], &[], u32::MAX).await?);
            match format.format {
                Format::Json => print_json(&items)?,
                Format::Table => {
                    let columns = [
                        ("ID", "id"),
                        ("NAME", "name"),
                        ("ROLE", "role"),
                        ("CREATED", "created_at"),
                        ("BY", "created_by"),
                        ("EXPIRES", "expires_at"),
                        ("REVOKED", "revoked_at"),
                    ];
                    view::table(&items, &columns).print()?;
                }
            }
        }
        TokensCommand::Revoke { id, .. } => {
            client.delete(&["tokens", id]).await?;
            say(format!("token {id} is revoked"));
        }
    }
    Ok(())
}
