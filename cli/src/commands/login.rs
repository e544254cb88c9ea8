//! `tidemill login`: a new one-time login link.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    args::Connection,
    client::Client,
    commands::{browser, view},
    error::Result,
    output::{Format, FormatArg, print, print_json},
    report::say,
};

/// Makes a link that signs a browser in, once.
#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// What the browser may do: viewer, operator or admin, at most what the token may [default: the same as the token].
    #[arg(long, value_parser = ["viewer", "operator", "admin"])]
    role: Option<String>,
    /// Who signs in, as the audit log names them; only an administrator says so [default: the token's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Open it in the browser.
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

pub(crate) async fn run(args: &LoginArgs, client: &Client, data_dir: &Path) -> Result {
    let made: Value = client.post(&["login_links"], &json!({ "role": args.role, "name": args.name })).await?;
    let known = made.get("url").and_then(Value::as_str).map(str::to_owned);
    let url = known.unwrap_or_else(|| format!("{}{}", client.base(), view::text(&made, "path")));
    match args.format.format {
        Format::Json => print_json(&json!({ "url": url, "expires_at": made.get("expires_at") }))?,
        Format::Table => {
            print(&format!("{url}\n"))?;
            say(format!("It works once, until {}.", view::text(&made, "expires_at")));
        }
    }
    if args.open {
        browser::open(&url, data_dir)?;
    }
    Ok(())
}
