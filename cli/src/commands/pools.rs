//! `tidemill pools list|set|delete`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    args::Connection,
    client::Client,
    commands::view,
    error::Result,
    output::{Format, FormatArg, print_json},
    report::say,
};

/// Looks at pools and changes them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PoolsCommand {
    /// Lists the pools with how many of their slots are taken.
    List {
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Makes a pool, or changes its size.
    Set {
        /// Its name.
        name: String,
        /// How many slots its task instances may take together.
        slots: u32,
        /// What it protects.
        #[arg(long, default_value = "")]
        description: String,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Deletes a pool.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

impl PoolsCommand {
    /// Returns how the server is reached.
    pub(crate) fn connection(&self) -> &Connection {
        match self {
            Self::List { connection, .. }
            | Self::Set { connection, .. }
            | Self::Delete { connection, .. } => connection,
        }
    }
}

pub(crate) async fn run(command: &PoolsCommand, client: &Client) -> Result {
    match command {
        PoolsCommand::List { format, .. } => {
            let items = client.list(&["pools"], &[], u32::MAX).await?;
            match format.format {
                Format::Json => print_json(&items)?,
                Format::Table => {
                    let columns =
                        [("POOL", "name"), ("SLOTS", "slots"), ("USED", "used"), ("PROTECTS", "description")];
                    view::table(&items, &columns).print()?;
                }
            }
        }
        PoolsCommand::Set { name, slots, description, format, .. } => {
            let body = json!({ "slots": slots, "description": description });
            let pool: Value = client.send_json(Method::PUT, &["pools", name], &body, &[]).await?;
            view::one(&pool, format.format)?;
        }
        PoolsCommand::Delete { name, .. } => {
            client.delete(&["pools", name]).await?;
            say(format!("pool {name} is deleted"));
        }
    }
    Ok(())
}
