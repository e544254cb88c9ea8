//! `tidemill backfill create|list|show|pause|resume|cancel`.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{
    args::Connection,
    client::Client,
    commands::{time::parse_object, usage, view},
    config::value::duration,
    error::{CliError, Result},
    output::{Format, FormatArg, Table, print_json},
    report::say,
};

/// Fills past dates of DAGs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BackfillCommand {
    /// Creates a backfill: a run for every date of the DAG from the first to the last that lies wholly in the past.
    #[command(after_help = "Examples:\n  \
        tidemill backfill create churn --from 2026-10-01 --to 2026-10-31 --dry-run\n  \
        tidemill backfill create churn --from 2026-10-01 --to 2026-10-31 --reprocess failed --wait")]
    Create(Box<CreateArgs>),
    /// Lists backfills with their progress, the newest first.
    List {
        /// Only those of this DAG.
        dag_id: Option<String>,
        /// Only those in these states, separated by commas: running, paused, finished, cancelled.
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
    /// Shows a backfill and what became of its dates.
    Show {
        /// Its number.
        id: i64,
        /// At most so many dates.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        format: FormatArg,
        #[command(flatten)]
        connection: Connection,
    },
    /// Pauses a backfill: no more dates become runs, what runs goes on.
    Pause(ChangeArgs),
    /// Lets a paused backfill go on.
    Resume(ChangeArgs),
    /// Cancels a backfill and its runs that have not ended.
    Cancel(ChangeArgs),
}

/// What is filled.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// The DAG.
    dag_id: String,
    /// The first logical date: a date, or a time; without an offset in the zone of the DAG.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The last logical date; a date alone is all of that day.
    #[arg(long, value_name = "TIME")]
    to: String,
    /// Which dates that have a run are run again: failed is every one that did not succeed, completed is every one.
    #[arg(long, value_name = "WHICH", default_value = "none", value_parser = ["none", "failed", "completed"])]
    reprocess: String,
    /// How many of its runs may be active at a time; the limit of the DAG is another one.
    #[arg(long, value_name = "N", default_value_t = 10)]
    max_active_runs: u32,
    /// The newest date first.
    #[arg(long)]
    run_backwards: bool,
    /// Overrides params in every run, as a JSON object.
    #[arg(long, visible_alias = "params", value_name = "JSON", value_parser = parse_object)]
    conf: Option<Map<String, Value>>,
    /// Makes a repetition of the same command return the same backfill.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Only show what would become of each date.
    #[arg(long)]
    dry_run: bool,
    /// Wait until it has ended. The exit code is then 0 when each of its runs succeeded, else 1.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// With --wait: give up after this long, such as 90s or 2h.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    timeout: Option<Duration>,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    connection: Connection,
}

/// Which backfill.
#[derive(Debug, clap::Args)]
pub(crate) struct ChangeArgs {
    /// Its number.
    id: i64,
    /// Only show what would change.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    connection: Connection,
}

impl BackfillCommand {
    /// Returns how the server is reached.
    pub(crate) fn connection(&self) -> &Connection {
        match self {
            Self::Create(args) => &args.connection,
            Self::List { connection, .. } | Self::Show { connection, .. } => connection,
            Self::Pause(args) | Self::Resume(args) | Self::Cancel(args) => &args.connection,
        }
    }
}

pub(crate) async fn run(command: &BackfillCommand, client: &Client) -> Result {
    match command {
        BackfillCommand::Create(args) => create(args, client).await,
        BackfillCommand::List { dag_id, state, limit, format, .. } => {
            let mut query: Vec<_> = state.iter().map(|state| ("state", state.clone())).collect();
            query.extend(dag_id.iter().map(|id| ("dag_id", id.clone())));
            let items = client.list(&["backfills"], &query, *limit).await?;
            match format.format {
                Format::Json => print_json(&items)?,
                Format::Table => progress(&items).print()?,
            }
            Ok(())
        }
        BackfillCommand::Show { id, limit, format, .. } => {
            let id = id.to_string();
            let mut item: Value = client.get(&["backfills", &id], &[]).await?;
            let dates = client.list(&["backfills", &id, "dates"], &[], *limit).await?;
            if format.format == Format::Json {
                item["items"] = Value::Array(dates);
                print_json(&item)?;
                return Ok(());
            }
            view::one(&item, format.format)?;
            if !dates.is_empty() {
                dates_table(&dates).print()?;
            }
            Ok(())
        }
        BackfillCommand::Pause(args) => change(args, "pause", client).await,
        BackfillCommand::Resume(args) => change(args, "resume", client).await,
        BackfillCommand::Cancel(args) => change(args, "cancel", client).await,
    }
}

async fn change(args: &ChangeArgs, what: &str, client: &Client) -> Result {
    let body = json!({ "dry_run": args.dry_run });
    let changed: Value = client.post(&["backfills", &args.id.to_string(), what], &body).await?;
    match args.format.format {
        Format::Json => print_json(&changed)?,
        Format::Table => {
            let runs = changed.get("cancelled_runs").and_then(Value::as_array);
            let mut table = Table::new(&["RUN", "BECOMES"]);
            for run in runs.into_iter().flatten().filter_map(Value::as_str) {
                table.row([run, "cancelled"]);
            }
            if !table.is_empty() {
                table.print()?;
            }
            let (verb, state) = (if args.dry_run { "would be" } else { "is" }, view::text(&changed, "state"));
            let ending = if what == "cancel" && state != "cancelled" { ", being cancelled" } else { "" };
            say(format!("backfill {} {verb} {state}{ending}", args.id));
        }
    }
    Ok(())
}

async fn create(args: &CreateArgs, client: &Client) -> Result {
    if args.max_active_runs == 0 {
        return Err(usage("--max-active-runs must be at least 1".to_owned()));
    }
    let body = json!({
        "dag_id": args.dag_id,
        "from": args.from,
        "to": args.to,
        "reprocess": args.reprocess,
        "max_active_runs": args.max_active_runs,
        "run_backwards": args.run_backwards,
        "conf": args.conf.clone().unwrap_or_default(),
        "dry_run": args.dry_run,
    });
    if args.dry_run {
        return preview(args, body, client).await;
    }
    let headers: Vec<_> = args.idempotency_key.iter().map(|key| ("Idempotency-Key", key.as_str())).collect();
    let mut item: Value = client.send_json(Method::POST, &["backfills"], &body, &headers).await?;
    if args.wait {
        say(format!("backfill {} was created", view::text(&item, "id")));
        item = wait(&view::text(&item, "id"), args.timeout, client).await?;
    }
    match args.format.format {
        Format::Json => print_json(&item)?,
        Format::Table => progress(std::slice::from_ref(&item)).print()?,
    }
    let is_well =
        view::text(&item, "state") == "finished" && count(&item, "failed") + count(&item, "cancelled") == 0;
    if args.wait && !is_well { Err(CliError::Exit(1)) } else { Ok(()) }
}

fn count(item: &Value, state: &str) -> u64 {
    item.get("runs").and_then(|runs| runs.get(state)).and_then(Value::as_u64).unwrap_or(0)
}

/// Prints what would become of every date, page by page.
async fn preview(args: &CreateArgs, mut body: Value, client: &Client) -> Result {
    let mut items: Vec<Value> = Vec::new();
    body["limit"] = json!(500);
    let mut first: Value = loop {
        let mut page: Value = client.post(&["backfills"], &body).await?;
        if let Some(Value::Array(rows)) = page.get_mut("items").map(Value::take) {
            items.extend(rows);
        }
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(cursor) => body["cursor"] = json!(cursor),
            None => break page,
        }
    };
    if args.format.format == Format::Json {
        first["items"] = Value::Array(items);
        print_json(&first)?;
        return Ok(());
    }
    dates_table(&items).print()?;
    let of = |outcome: &str| items.iter().filter(|item| view::text(item, "outcome") == outcome).count();
    say(format!(
        "{} dates: {} would be created, {} reprocessed, {} passed over, {} left alone",
        items.len(),
        of("created"),
        of("reprocessed"),
        of("passed_over"),
        of("left_alone")
    ));
    Ok(())
}

fn dates_table(items: &[Value]) -> Table {
    view::table(
        items,
        &[
            ("LOGICAL DATE", "logical_date"),
            ("OUTCOME", "outcome"),
            ("RUN", "run_id"),
            ("STATE", "state"),
            ("REASON", "reason"),
        ],
    )
}

/// Returns a table of backfills with their progress.
fn progress(items: &[Value]) -> Table {
    let headings = [
        "ID",
        "DAG",
        "STATE",
        "FROM",
        "TO",
        "DATES",
        "DONE",
        "FAILED",
        "RUNNING",
        "LEFT",
        "SKIPPED",
        "TIME LEFT",
        "WAITS",
    ];
    let mut table = Table::new(&headings);
    for item in items {
        let of_dates = |name: &str| {
            item.get("dates").and_then(|dates| dates.get(name)).and_then(Value::as_u64).unwrap_or(0)
        };
        let seconds = item.get("seconds_left").and_then(Value::as_f64);
        table.row([
            view::text(item, "id"),
            view::text(item, "dag_id"),
            view::text(item, "state"),
            view::text(item, "from"),
            view::text(item, "to"),
            of_dates("total").to_string(),
            count(item, "success").to_string(),
            (count(item, "failed") + count(item, "cancelled")).to_string(),
            (count(item, "running") + count(item, "queued") + count(item, "paused")).to_string(),
            of_dates("left").to_string(),
            (of_dates("passed_over") + of_dates("left_alone")).to_string(),
            seconds.map(|seconds| format!("about {}", span(seconds))).unwrap_or_default(),
            view::text(item, "waits"),
        ]);
    }
    table
}

/// Writes a length of time in its two largest units.
fn span(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.clamp(0.0, 1e12).ceil()).as_secs();
    match (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// Waits for the end of a backfill and returns it. A server that goes away meanwhile is waited for.
async fn wait(id: &str, timeout: Option<Duration>, client: &Client) -> Result<Value> {
    let started = Instant::now();
    let mut shown = String::new();
    loop {
        match client.get::<Value>(&["backfills", id], &[]).await {
            Ok(item) => {
                let state = view::text(&item, "state");
                if matches!(state.as_str(), "finished" | "cancelled") {
                    return Ok(item);
                }
                let left = item.get("dates").map(|dates| view::text(dates, "left")).unwrap_or_default();
                let now = format!("{state}, {} done, {left} dates left", count(&item, "success"));
                if now != shown && started.elapsed() > Duration::from_secs(1) {
                    say(format!("backfill {id} is {now}"));
                    shown = now;
                }
            }
            Err(error) if error.is_passing() => {
                if shown != "away" {
                    say(format!("{error} ({}); waiting for it", error.code()));
                    shown = "away".to_owned();
                }
            }
            Err(error) => return Err(error),
        }
        if let Some(timeout) = timeout.filter(|timeout| started.elapsed() >= *timeout) {
            return Err(CliError::WaitedTooLong {
                what: format!("backfill {id}"),
                seconds: timeout.as_secs(),
            });
        }
        let left = timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(started.elapsed()));
        tokio::time::sleep(Duration::from_millis(500).min(left)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_have_two_units_at_most() {
        let written: Vec<String> = [0.2, 59.5, 61.0, 3_700.0, 90_000.0].map(span).into();
        assert_eq!(written, ["1s", "1m 0s", "1m 1s", "1h 1m", "1d 1h"]);
    }
}
