//! `tidemill db migrate|check|backup|clean`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tidemill_store::{Reader, open, open_reader};

use crate::{
    args::Connection,
    client::{Client, block_on},
    commands::serve::database,
    config::{Config, Overrides, process_env},
    error::{CliError, Result},
    output::{Format, FormatArg, Table, print_json},
    report::{Progress, say},
};

/// Looks after the database.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DbCommand {
    /// Brings the schema up to date. No server may be using the database.
    Migrate {
        #[command(flatten)]
        which: DatabaseArg,
    },
    /// Checks schema, file and audit log, beside a running server. The exit code is 1 when something is wrong.
    Check {
        #[command(flatten)]
        which: DatabaseArg,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Copies a SQLite database to a new file while everything goes on.
    Backup {
        /// Where to; the file must not exist.
        target: PathBuf,
        #[command(flatten)]
        which: DatabaseArg,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Deletes finished dag runs and their logs now, through the server.
    Clean {
        /// Those that ended more than so many days ago; by the retention rules by default.
        #[arg(long, value_name = "N")]
        older_than_days: Option<u32>,
        /// Only say how many.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Which database.
#[derive(Debug, clap::Args)]
pub(crate) struct DatabaseArg {
    /// sqlite://PATH or postgres://… [default: tidemill.sqlite in the data directory].
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

pub(crate) fn run(command: &DbCommand, mut overrides: Overrides) -> Result {
    match command {
        DbCommand::Migrate { which } | DbCommand::Check { which, .. } | DbCommand::Backup { which, .. } => {
            overrides.set("server.database", which.database.as_ref());
        }
        DbCommand::Clean { connection, .. } => connection.apply(&mut overrides),
    }
    let config = Config::load(&overrides, &process_env)?;
    block_on(act(command, &config))
}

async fn act(command: &DbCommand, config: &Config) -> Result {
    match command {
        DbCommand::Migrate { .. } => {
            let _progress = Progress::start("bringing the schema up to date", String::new);
            let applied = open::migrate(&database(config)?).await?;
            for name in &applied {
                say(format!("applied {name}"));
            }
            say(if applied.is_empty() { "the schema is up to date" } else { "the schema is now up to date" });
        }
        DbCommand::Check { format, .. } => return check(config, format.format).await,
        DbCommand::Backup { target, format, .. } => {
            let target = std::path::absolute(target)
                .map_err(|source| CliError::Unwritable { path: target.clone(), source })?;
            if let Some(folder) = target.parent().filter(|folder| !folder.is_dir()) {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(CliError::Unwritable { path: folder.to_owned(), source });
            }
            let copy = target.clone();
            let _progress = Progress::start("copying the database", move || {
                std::fs::metadata(&copy)
                    .map_or_else(|_| String::new(), |copy| format!(", {} bytes", copy.len()))
            });
            let size = open::backup(&database(config)?, &target).await?;
            match format.format {
                Format::Json => print_json(&json!({ "path": target, "size_bytes": size }))?,
                Format::Table => say(format!("{} ({size} bytes)", target.display())),
            }
        }
        DbCommand::Clean { older_than_days, dry_run, format, .. } => {
            let client = Client::new(config)?;
            let body = json!({ "older_than_days": older_than_days, "dry_run": dry_run });
            let runs = clean(&client, &body).await?;
            match format.format {
                Format::Json => {
                    print_json(&json!({ "runs": runs, "is_dry_run": dry_run, "is_complete": true }))?;
                }
                Format::Table => {
                    let verb = if *dry_run { "would be deleted" } else { "were deleted" };
                    say(format!("{runs} runs {verb}"));
                }
            }
        }
    }
    Ok(())
}

/// Asks the server to delete until nothing is left; one call does a bounded amount of work. Returns how many runs.
async fn clean(client: &Client, body: &Value) -> Result<u64> {
    let runs = Arc::new(AtomicU64::new(0));
    let so_far = Arc::clone(&runs);
    let _progress = Progress::start("deleting finished runs", move || match so_far.load(Ordering::Relaxed) {
        0 => String::new(),
        runs => format!(", {runs} runs"),
    });
    loop {
        let done: Value = client.post(&["clean"], body).await?;
        let more = done.get("runs").and_then(Value::as_u64).unwrap_or(0);
        let all = runs.fetch_add(more, Ordering::Relaxed) + more;
        // A server that deleted nothing has nothing more to do, whatever it says.
        if done.get("is_complete") != Some(&Value::Bool(false)) || more == 0 {
            return Ok(all);
        }
    }
}

/// One finding: what was looked at, whether it is fine, and more.
struct Finding(&'static str, bool, String);

async fn check(config: &Config, format: Format) -> Result {
    let database = database(config)?;
    let _progress = Progress::start("checking the database", String::new);
    let mut findings = Vec::new();
    match open::check_damage(&database).await {
        Ok(()) => findings.push(Finding("file", true, "no damage".to_owned())),
        Err(error) if error.code() == "STO0104" => findings.push(Finding("file", false, error.to_string())),
        Err(error) => return Err(error.into()),
    }
    if findings.iter().all(|finding| finding.1) {
        let status = open::schema_status(&database).await?;
        let found = status.found.unwrap_or_else(|| "none".to_owned());
        let is_current = status.pending.is_empty() && found == status.wanted;
        let more = format!("{found}; this program has {}", status.wanted);
        findings.push(Finding("schema", is_current, more));
        if is_current {
            let reader: Arc<dyn Reader> = open_reader(&database).await?;
            let audit = reader.check_audit().await?;
            let more = match audit.broken_at {
                None => format!("{} entries, chained", audit.entries),
                Some(seq) => format!("the chain breaks at entry {seq}"),
            };
            findings.push(Finding("audit log", audit.broken_at.is_none(), more));
        }
    }
    match format {
        Format::Json => {
            let items: Vec<_> = findings
                .iter()
                .map(|Finding(what, is_fine, more)| json!({ "what": what, "ok": is_fine, "detail": more }))
                .collect();
            print_json(&json!({ "database": database.to_string(), "findings": items }))?;
        }
        Format::Table => {
            say(database.to_string());
            let mut table = Table::new(&["WHAT", "OK", "DETAIL"]);
            for Finding(what, is_fine, more) in &findings {
                table.row([*what, if *is_fine { "yes" } else { "no" }, more]);
            }
            table.print()?;
        }
    }
    if findings.iter().all(|finding| finding.1) { Ok(()) } else { Err(CliError::Exit(1)) }
}
