//! Measures the store on SQLite: how fast batches go in, and what a page costs when there are many rows.
//!
//! `cargo run --release -p tidemill-store --example measure -- 1000000`
#![expect(clippy::print_stdout, reason = "the numbers are what it is for")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use tidemill_engine::{
    action::{RunChange, TaskChange, TaskFence, TryChange},
    definition,
    ids::{AttemptKey, DagId, RunId, RunKey, TaskId, TaskInstanceKey, WorkerId},
    rows::{DagRow, RunRow, TaskRow, TryRow, VersionHash},
    state::{RunState, RunType, TaskState, TryOutcome},
};
use tidemill_store::{
    Batch, BatchId, Database, Migrate, Reader, Store,
    batch::{TryWrite, VersionRow},
    open,
    reader::{DagQuery, PageRequest, RunQuery, TaskQuery},
};

type Failed = Box<dyn std::error::Error>;

const TASKS: i64 = 100;

struct Filler {
    store: Store,
    term: i64,
    number: i64,
    version: VersionHash,
    dag_id: DagId,
    tasks: Vec<TaskId>,
    worker: WorkerId,
    start: DateTime<Utc>,
}

impl Filler {
    async fn new(store: Store) -> Result<Self, Failed> {
        let source =
            "[dag]\nid = \"etl\"\nschedule = \"@daily\"\n\n[[task]]\nid = \"a\"\ncommand = \"true\"\n";
        let dag = definition::load(source.as_bytes(), "etl.toml").dag.ok_or("the DAG loads")?;
        let term = store.writer.take_leadership("measure", "http://measure").await?.term;
        let tasks = (0..TASKS).map(|n| TaskId::new(format!("task_{n:03}"))).collect::<Result<_, _>>()?;
        let filler = Self {
            term,
            number: 0,
            version: definition::version_hash(&dag),
            dag_id: dag.id.clone(),
            tasks,
            worker: WorkerId::new("w1")?,
            start: DateTime::from_timestamp(1_700_000_000, 0).ok_or("an instant")?,
            store,
        };
        let mut batch = Batch::new(term, BatchId(1_000_000_000), filler.start);
        batch.versions.push(VersionRow {
            dag_id: filler.dag_id.clone(),
            hash: filler.version.clone(),
            definition: Arc::new(dag),
            source: source.to_owned(),
            path: "etl.toml".to_owned(),
            created_at: filler.start,
        });
        batch.dags.push(DagRow {
            dag_id: filler.dag_id.clone(),
            version: filler.version.clone(),
            path: "etl.toml".to_owned(),
            is_paused: false,
            is_missing: false,
            failed_runs: 0,
            pause_reason: None,
            cursor: filler.start,
            created_at: filler.start,
        });
        filler.store.writer.commit(&batch).await?;
        Ok(filler)
    }

    async fn commit(&mut self, fill: impl FnOnce(&Self, &mut Batch)) -> Result<Duration, Failed> {
        self.number += 1;
        let mut batch = Batch::new(self.term, BatchId(self.number), self.start);
        fill(self, &mut batch);
        let began = Instant::now();
        self.store.writer.commit(&batch).await?;
        Ok(began.elapsed())
    }

    fn run(&self, key: i64, state: RunState) -> Result<RunRow, Failed> {
        let date = self.start + TimeDelta::minutes(key);
        Ok(RunRow {
            key: RunKey(key),
            dag_id: self.dag_id.clone(),
            run_id: RunId::new(format!("manual__{key}"))?,
            run_type: RunType::Manual,
            state,
            with_failures: false,
            reason: None,
            logical_date: date,
            data_interval_start: date,
            data_interval_end: date,
            queued_at: date,
            started_at: Some(date),
            finished_at: state.is_terminal().then_some(date),
            conf: Arc::default(),
            dag_version: self.version.clone(),
            cancel_requested_at: None,
            timed_out_at: None,
            triggered_by: None,
            deadline_at: None,
            deadline_missed_at: None,
            backfill: None,
            ignores_past: false,
            origin: None,
        })
    }

    fn task(&self, run: i64, task: &TaskId, state: TaskState, number: u32) -> TaskRow {
        let at = self.start + TimeDelta::minutes(run);
        TaskRow {
            key: TaskInstanceKey { run: RunKey(run), task: task.clone(), map_index: -1 },
            state,
            try_number: number,
            epoch: number,
            failures: 0,
            losses: 0,
            scheduled_at: Some(at),
            queued_at: Some(at),
            started_at: Some(at),
            finished_at: state.is_terminal().then_some(at),
            retry_at: None,
            pokes: 0,
            first_poke_at: None,
            next_poke_at: None,
            worker: Some(self.worker.clone()),
            exit_code: Some(0),
            reason: None,
            stop: None,
            follow: None,
        }
    }

    /// Ten runs of a hundred finished instances each, as a fan-out of `noop` tasks writes them.
    fn finished_runs(&self, first: i64, batch: &mut Batch) {
        for key in first..first + 10 {
            batch.runs.extend(self.run(key, RunState::Success).map(|row| RunChange { from: None, row }));
            for (n, task) in self.tasks.iter().enumerate() {
                let state = if n % 50 == 49 { TaskState::Failed } else { TaskState::Success };
                let row = self.task(key, task, state, 1);
                let from = TaskFence { state: TaskState::NoStatus, try_number: 0, epoch: 0 };
                batch.tasks.push(TaskChange { from, row, is_clear: false, is_note: false });
            }
        }
    }

    fn step(&self, keys: std::ops::Range<i64>, from: TaskState, to: TaskState, batch: &mut Batch) {
        for (key, task) in keys.flat_map(|key| self.tasks.iter().map(move |task| (key, task))) {
            let number = u32::from(from != TaskState::Scheduled);
            let row = self.task(key, task, to, 1);
            let (is_new, is_over) = (to == TaskState::Queued, to.is_terminal());
            let attempt = AttemptKey { instance: row.key.clone(), try_number: 1, epoch: 1 };
            let fence = TaskFence { state: from, try_number: number, epoch: number };
            batch.tasks.push(TaskChange { from: fence, row, is_clear: false, is_note: false });
            let row = TryRow {
                attempt,
                worker: self.worker.clone(),
                boot_id: "boot".to_owned(),
                queued_at: self.start,
                started_at: Some(self.start),
                finished_at: is_over.then_some(self.start),
                outcome: is_over.then_some(TryOutcome::Success),
                exit_code: Some(0),
                reason: None,
            };
            let token_hash = is_new.then(|| "0".repeat(64));
            batch.tries.push(TryWrite {
                change: TryChange { is_new, from_epoch: None, row },
                token_hash,
                rendered: None,
            });
        }
    }
}

fn rate(what: &str, rows: i64, times: &mut [Duration]) {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_second = rows as f64 / median.as_secs_f64();
    println!("{what}: median {median:?} for {rows} rows, {per_second:.0} rows/s");
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let total: i64 = std::env::args().nth(1).as_deref().unwrap_or("200000").parse()?;
    let folder = std::env::temp_dir().join(format!("tidemill-measure-{}", std::process::id()));
    let database = Database::Sqlite(folder.join("db.sqlite"));
    let store = open(&database, Migrate::Apply).await?;
    let reader = Arc::clone(&store.reader);
    let mut filler = Filler::new(store).await?;
    let runs = total / TASKS;
    let mut inserts = Vec::new();
    for first in (0..runs).step_by(10) {
        inserts.push(filler.commit(|filler, batch| filler.finished_runs(first, batch)).await?);
        if first % 2000 == 0 {
            filler.store.writer.checkpoint().await?;
        }
    }
    rate("insert finished instances", 10 * TASKS, &mut inserts);
    let (mut assigns, mut ends) = (Vec::new(), Vec::new());
    for first in (runs..runs + 100).step_by(10) {
        let keys = first..first + 10;
        filler
            .commit(|filler, batch| {
                for key in keys.clone() {
                    batch
                        .runs
                        .extend(filler.run(key, RunState::Running).map(|row| RunChange { from: None, row }));
                    for task in &filler.tasks {
                        let mut row = filler.task(key, task, TaskState::Scheduled, 0);
                        row.worker = None;
                        let from = TaskFence { state: TaskState::NoStatus, try_number: 0, epoch: 0 };
                        batch.tasks.push(TaskChange { from, row, is_clear: false, is_note: false });
                    }
                }
            })
            .await?;
        let (from, to) = (TaskState::Scheduled, TaskState::Queued);
        assigns.push(filler.commit(|filler, batch| filler.step(keys.clone(), from, to, batch)).await?);
        let (from, to) = (TaskState::Queued, TaskState::Success);
        ends.push(filler.commit(|filler, batch| filler.step(keys.clone(), from, to, batch)).await?);
    }
    rate("assign (update + new try)", 10 * TASKS, &mut assigns);
    rate("finish (update + end of try)", 10 * TASKS, &mut ends);
    let mut singles = Vec::new();
    for n in 0..200 {
        let setting = ("x".to_owned(), n.to_string());
        singles.push(filler.commit(|_, batch| batch.settings.push(setting)).await?);
    }
    rate("one row a commit", 1, &mut singles);
    pages(reader.as_ref(), &filler.dag_id, runs).await?;
    drop(filler);
    drop(reader);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Times every list, warm: once for the caches, then the best of five.
async fn pages(reader: &dyn Reader, dag_id: &DagId, runs: i64) -> Result<(), Failed> {
    macro_rules! timed {
        ($what:expr, $call:expr) => {{
            let mut best = Duration::MAX;
            for _ in 0..6 {
                let began = Instant::now();
                let _ = $call.await?;
                best = best.min(began.elapsed());
            }
            println!("{}: {best:?}", $what);
        }};
    }
    let page = |limit| PageRequest { cursor: None, limit };
    let tasks = |state, dag_id| TaskQuery { page: page(50), state, dag_id, finished_since: None };
    timed!("runs, page 1", reader.runs(&RunQuery::default()));
    let failed = RunQuery { states: vec![RunState::Failed], ..RunQuery::default() };
    timed!("runs, a state that none has", reader.runs(&failed));
    timed!("instances, page 1", reader.task_list(&tasks(None, None)));
    timed!("instances, failed", reader.task_list(&tasks(Some(TaskState::Failed), None)));
    timed!("instances, a state that none has", reader.task_list(&tasks(Some(TaskState::Removed), None)));
    let rare = tasks(Some(TaskState::Removed), Some(dag_id.clone()));
    timed!("instances of a DAG, a state that none has", reader.task_list(&rare));
    let half = RunKey(runs / 2);
    let deep = reader.task_list(&TaskQuery { page: page(1), ..TaskQuery::default() }).await?;
    let cursor = deep.next_cursor.map(|_| hex::encode(serde_json::json!([half, "task_050", -1]).to_string()));
    let deep = TaskQuery { page: PageRequest { cursor, limit: 50 }, ..TaskQuery::default() };
    timed!("instances, a page in the middle", reader.task_list(&deep));
    timed!("dags with 14 runs each", reader.dags(&DagQuery { last_runs: 14, ..DagQuery::default() }));
    timed!("grid of 25 runs", reader.grid(dag_id, &page(25)));
    timed!("home", reader.home(Utc::now()));
    timed!("instances of a run", reader.tasks(half));
    Ok(())
}
