//! `tidemill dags test`: one dag run in the foreground.
//!
//! The real scheduler over the memory store, the real worker over loopback HTTP, in one process: what passes here
//! passes there. The DAG is registered paused and alone, so that nothing but the one run happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use tidemill_engine::{
    definition::{Dag, Operator, version_hash},
    ids::{AttemptKey, WorkerId},
    rows::{DagRow, PoolRow, RunRow, TaskRow},
    state::{RunState, TaskState},
};
use tidemill_scheduler::{AdminWrite, Handle, Options, TriggerRequest};
use tidemill_store::{Batch, BatchId, CommitError, LeadershipError, MemoryStore, Store, batch::VersionRow};
use tidemill_worker::{Credential, Stop};
use tokio::sync::watch;

use crate::{
    commands::{
        dags_file,
        serve::{Bound, Server, now, web_options, with_runtime, worker_key},
        signals::Signals,
        time::{parse_object, parse_time},
        worker,
    },
    config::{Config, Overrides, process_definitions, process_env},
    error::{CliError, Result},
    logging,
    output::{Format, FormatArg, Table, instant, print_json},
    report::say,
};

/// How often the state is asked for when nothing reports a change.
const GLANCE: Duration = Duration::from_millis(200);
/// How much of a failed task's log is shown, in bytes.
const LOG_END: usize = 16 * 1024;

/// What is tested, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// The DAG file.
    path: PathBuf,
    /// The logical date; now by default.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    logical_date: Option<DateTime<Utc>>,
    /// Overrides params, as a JSON object.
    #[arg(long, visible_alias = "conf", value_name = "JSON", value_parser = parse_object)]
    params: Option<Map<String, Value>>,
    /// Keep logs, work and `$TIDEMILL_DATA_DIR` in this folder; a temporary one by default.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArg,
}

impl From<CommitError> for CliError {
    fn from(error: CommitError) -> Self {
        Self::coded(error.code(), &error, None)
    }
}

impl From<LeadershipError> for CliError {
    fn from(error: LeadershipError) -> Self {
        Self::coded(error.code(), &error, None)
    }
}

pub(crate) fn run(args: &TestArgs, overrides: &Overrides) -> Result {
    let (dag, source) = dags_file::load_valid(&args.path)?;
    let mut overrides = overrides.clone();
    let temporary = tempfile::Builder::new().prefix("tidemill-test-").tempdir();
    let temporary = temporary.map_err(|source| CliError::Setup { what: "a temporary folder", source })?;
    let folder = args.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    let path = std::path::absolute(&args.path)
        .map_err(|source| CliError::Unreadable { path: args.path.clone(), source })?;
    let dags_dir = path.parent().unwrap_or(Path::new("/")).to_owned();
    overrides.set("data_dir", Some(folder.display()));
    overrides.set("dags_dir", Some(dags_dir.display()));
    if !overrides.has("log.level") && process_env("TIDEMILL_LOG").is_none() {
        overrides.set("log.level", Some("warn"));
    }
    let config = Config::load(&overrides, &process_env)?;
    logging::start(&config)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let others = triggered(&dag, &dags_dir)?;
    let test = Test { args, config: &config, dag: Arc::new(dag), name, source, others };
    with_runtime(test.run())
}

struct Test<'a> {
    args: &'a TestArgs,
    config: &'a Config,
    dag: Arc<Dag>,
    name: String,
    source: String,
    /// The DAGs that it triggers: a run of one is executed as well.
    others: Vec<Other>,
}

/// A DAG beside the tested one.
struct Other {
    dag: Arc<Dag>,
    name: String,
    source: String,
}

/// Finds the DAGs that tasks trigger by name, and those that these trigger, among the files of the folder.
fn triggered(dag: &Dag, folder: &Path) -> Result<Vec<Other>> {
    let named = |dag: &Dag| -> Vec<String> {
        let targets = dag.tasks.iter().filter_map(|task| match &task.operator {
            Operator::TriggerDag { spec } => Some(spec.dag_id.clone()),
            _ => None,
        });
        targets.collect()
    };
    let mut wanted = named(dag);
    let mut found: Vec<Other> = Vec::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let mut known = BTreeMap::new();
    for path in dags_file::files(folder)? {
        if let Ok((other, source)) = dags_file::load_quietly(&path) {
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            known.insert(other.id.to_string(), Other { dag: Arc::new(other), name, source });
        }
    }
    known.remove(dag.id.as_str());
    while let Some(id) = wanted.pop() {
        if let Some(other) = known.remove(&id) {
            wanted.extend(named(&other.dag));
            found.push(other);
        }
    }
    Ok(found)
}

impl Test<'_> {
    async fn run(self) -> Result {
        let mut signals = Signals::catch()?;
        let store = Store::from(MemoryStore::new());
        self.register(&store).await?;
        let bound = Bound::bind("127.0.0.1:0").await?;
        let url = bound.local_url();
        let mut options = Options::new(self.config.dags_dir(), self.config.data_dir.join("logs"));
        options.url.clone_from(&url);
        options.is_folder_watched = false;
        options.has_housekeeping = false;
        options.definitions = process_definitions()?;
        options.outbound = self.config.outbound();
        let web = web_options(self.config, &bound);
        let server = Server::start(&store, bound, options, web).await?;
        let handle = server.handle();

        let name = WorkerId::new("test").map_err(|error| CliError::BadSetting {
            name: "worker.name".to_owned(),
            why: error.to_string(),
        })?;
        let key = worker_key(&handle, &name).await?;
        let work_dir = self.config.data_dir.join("worker");
        let mut options = worker::options(self.config, url, Credential::Key(key), work_dir)?;
        options.worker = name;
        let tasks = self.all().flat_map(|(dag, ..)| dag.tasks.iter());
        let queues: BTreeSet<_> = tasks.map(|task| task.queue.clone()).collect();
        options.queues = queues.into_iter().collect();
        let (stop, stopped) = watch::channel(Stop::No);
        let mut work = tokio::spawn(tidemill_worker::run(options, stopped));

        let outcome = tokio::select! {
            outcome = self.drive(&handle, &store) => outcome,
            () = signals.next() => Err(CliError::Exit(130)),
            ended = &mut work => match ended {
                Ok(Ok(_)) => Err(CliError::Exit(1)),
                Ok(Err(error)) => Err(error.into()),
                Err(error) => {
                    let source = std::io::Error::other(error);
                    Err(CliError::Setup { what: "the worker ended unexpectedly", source })
                }
            },
        };
        signals.exit_on_next();
        if !work.is_finished() {
            stop.send_replace(Stop::Now);
            let _ = work.await;
        }
        let shown = match outcome {
            Ok((run, rows)) => self.show(&handle, &run, &rows).await,
            Err(error) => Err(error),
        };
        server.stop().await;
        shown
    }

    /// The tested DAG, and those that it triggers.
    fn all(&self) -> impl Iterator<Item = (&Arc<Dag>, &String, &String)> {
        let others = self.others.iter().map(|other| (&other.dag, &other.name, &other.source));
        std::iter::once((&self.dag, &self.name, &self.source)).chain(others)
    }

    /// Puts the DAGs into the store, paused, with the pools that they name.
    async fn register(&self, store: &Store) -> Result {
        let leadership = store.writer.take_leadership("dags test", "").await?;
        let now = now();
        let mut batch = Batch::new(leadership.term, BatchId(1), now);
        let mut pools = BTreeMap::new();
        for (dag, path, source) in self.all() {
            let version = version_hash(dag);
            batch.versions.push(VersionRow {
                dag_id: dag.id.clone(),
                hash: version.clone(),
                definition: Arc::clone(dag),
                source: source.clone(),
                path: path.clone(),
                created_at: now,
            });
            batch.dags.push(DagRow {
                dag_id: dag.id.clone(),
                version,
                path: path.clone(),
                is_paused: true,
                is_missing: false,
                failed_runs: 0,
                pause_reason: None,
                cursor: now,
                created_at: now,
            });
            for task in &dag.tasks {
                let slots = pools.entry(task.pool.clone()).or_insert(128_u32);
                *slots = (*slots).max(task.pool_slots);
            }
        }
        for (name, slots) in pools {
            batch.pools.push(PoolRow { name, slots, description: String::new() });
        }
        store.writer.commit(&batch).await?;
        store.writer.release(leadership.term).await?;
        Ok(())
    }

    /// Triggers the run, tells what happens and returns how it ended.
    async fn drive(&self, handle: &Handle, store: &Store) -> Result<(RunRow, Vec<TaskRow>)> {
        let request = TriggerRequest {
            dag_id: self.dag.id.clone(),
            run_id: None,
            logical_date: self.args.logical_date,
            conf: self.args.params.clone().unwrap_or_default(),
            triggered_by: Some("dags test".to_owned()),
            idempotency: None,
        };
        let mut changes = handle.subscribe();
        let run = handle.trigger(request, AdminWrite::default()).await?.run;
        say(format!("run {} of {}", run.run_id, run.dag_id));
        let mut told = BTreeMap::new();
        loop {
            let found = store.reader.run(&run.dag_id, &run.run_id).await?;
            let rows = store.reader.tasks(run.key).await?;
            for row in &rows {
                let is_new = told.insert(row.key.clone(), row.state) != Some(row.state);
                if is_new && !matches!(row.state, TaskState::Scheduled | TaskState::Queued) {
                    let mut reason = row.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                    if let Some(at) = row.retry_at {
                        reason.push_str(&format!("; the next try is at {}", instant(at)));
                    }
                    say(format!("  {} {} (try {}){reason}", row.key.task, row.state, row.try_number));
                }
            }
            // A run that waits for a person would wait for ever: there is nobody who could be asked.
            let has_stopped = |run: &RunRow| run.state.is_terminal() || run.state == RunState::Paused;
            if let Some(run) = found.filter(has_stopped) {
                return Ok((run, rows));
            }
            let _ = tokio::time::timeout(GLANCE, changes.recv()).await;
        }
    }

    async fn show(&self, handle: &Handle, run: &RunRow, rows: &[TaskRow]) -> Result {
        for row in rows.iter().filter(|row| row.state == TaskState::Failed && row.epoch > 0) {
            let attempt =
                AttemptKey { instance: row.key.clone(), try_number: row.try_number, epoch: row.epoch };
            if let Ok(log) = handle.read_log(attempt.clone(), 0, 0).await {
                let from = log.size_bytes.saturating_sub(LOG_END as u64);
                if let Ok(log) = handle.read_log(attempt, from, LOG_END).await {
                    say(format!("--- the end of the log of {}", row.key.name()));
                    say(String::from_utf8_lossy(&log.bytes).trim_end());
                }
            }
        }
        let mut by_task: BTreeMap<&str, Vec<&TaskRow>> = BTreeMap::new();
        for row in rows {
            by_task.entry(row.key.task.as_str()).or_default().push(row);
        }
        let tasks = self.dag.tasks.iter().flat_map(|task| {
            let id = task.id.as_str();
            match by_task.get(id) {
                Some(rows) => {
                    let shown = |row: &&TaskRow| (id, row.key.map_index, row.state, row.try_number);
                    rows.iter().map(shown).collect()
                }
                None => vec![(id, -1, TaskState::NoStatus, 0)],
            }
        });
        match self.args.format.format {
            Format::Json => {
                let tasks: Vec<_> = tasks
                    .map(|(task, map_index, state, try_number)| {
                        json!({
                            "task_id": task, "map_index": map_index, "state": state, "try_number": try_number,
                        })
                    })
                    .collect();
                print_json(&json!({ "state": run.state, "tasks": tasks }))?;
            }
            Format::Table => {
                let mut table = Table::new(&["TASK", "STATE", "TRY"]);
                for (task, map_index, state, try_number) in tasks {
                    let name = if map_index < 0 { task.to_owned() } else { format!("{task}[{map_index}]") };
                    table.row([name.as_str(), state.as_str(), &try_number.to_string()]);
                }
                table.print()?;
                let reason = run.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                match run.state {
                    RunState::Paused => say(format!("the run is paused and waits for a person{reason}")),
                    state => say(format!("the run ended as {state}{reason}")),
                }
            }
        }
        if run.state == RunState::Success { Ok(()) } else { Err(CliError::Exit(1)) }
    }
}
