//! A scheduler in a temporary folder with a hand-driven clock, and a worker that speaks the protocol by hand.

use std::{collections::BTreeMap, future::Future, path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tidemill_engine::{
    engine::Engine,
    ids::{AttemptKey, DagId, RunKey, TaskId, WorkerId},
    rows::{EngineSnapshot, RunRow, TaskRow},
    state::{RunState, TryOutcome},
};
use tidemill_protocol::worker::{
    Assignment, AttemptReport, ExchangeRequest, ExchangeResponse, HeartbeatRequest, PROTOCOL_VERSION,
};
use tidemill_scheduler::{
    AdminWrite, CallError, Change, Handle, ManualClock, Options, Scheduler, TriggerRequest, Triggered,
};
use tidemill_store::{Database, MemoryStore, Migrate, Reader, Writer};
use tokio::sync::broadcast::error::RecvError;

/// Nothing here takes longer unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Fails the test instead of hanging.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {DEADLINE:?}"),
    }
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn dag_id(text: &str) -> DagId {
    DagId::new(text).unwrap()
}

pub(crate) fn task_id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

/// A store, whatever kind, and the folders beside it. It outlives schedulers.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) writer: Arc<dyn Writer>,
    /// The same store, when it is the one in memory.
    pub(crate) memory: Option<MemoryStore>,
    pub(crate) clock: ManualClock,
}

impl World {
    /// A world over the store in memory.
    pub(crate) fn in_memory() -> Self {
        let store = MemoryStore::new();
        Self {
            folder: tempfile::tempdir().unwrap(),
            reader: Arc::new(store.clone()),
            writer: Arc::new(store.clone()),
            memory: Some(store),
            clock: ManualClock::new(at("2026-11-05T12:00:00Z")),
        }
        .with_folders()
    }

    /// A world over the store in memory, whose leader leads under a lease by the world's clock.
    pub(crate) fn with_leases() -> Self {
        let clock = ManualClock::new(at("2026-11-05T12:00:00Z"));
        let lease_clock = clock.clone();
        let store = MemoryStore::with_leases(move || tidemill_scheduler::Clock::now(&lease_clock).mono);
        let (reader, writer) = (Arc::new(store.clone()), Arc::new(store.clone()));
        Self { folder: tempfile::tempdir().unwrap(), reader, writer, memory: Some(store), clock }
            .with_folders()
    }

    /// A world over a PostgreSQL database. Its leases go by the clock of the database.
    pub(crate) async fn in_postgresql() -> Self {
        let database: Database = crate::postgres::new_database().parse().unwrap();
        let store = tidemill_store::open(&database, Migrate::Apply).await.unwrap();
        let (reader, writer) = (store.reader, store.writer);
        let clock = ManualClock::new(at("2026-11-05T12:00:00Z"));
        Self { folder: tempfile::tempdir().unwrap(), reader, writer, memory: None, clock }.with_folders()
    }

    /// A world over a database file.
    pub(crate) async fn in_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("tidemill.sqlite"));
        let store = tidemill_store::open(&database, Migrate::Apply).await.unwrap();
        Self {
            folder,
            reader: store.reader,
            writer: store.writer,
            memory: None,
            clock: ManualClock::new(at("2026-11-05T12:00:00Z")),
        }
        .with_folders()
    }

    /// Closes the database file and opens it again, as another process would.
    pub(crate) async fn reopen(&mut self) {
        let none = MemoryStore::new();
        (self.reader, self.writer) = (Arc::new(none.clone()), Arc::new(none));
        let database = Database::Sqlite(self.folder.path().join("tidemill.sqlite"));
        let store = tidemill_store::open(&database, Migrate::Refuse).await.unwrap();
        (self.reader, self.writer) = (store.reader, store.writer);
    }

    fn with_folders(self) -> Self {
        std::fs::create_dir_all(self.dags_dir()).unwrap();
        self
    }

    pub(crate) fn dags_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("dags")
    }

    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new(self.dags_dir(), self.folder.path().join("logs"));
        options.outbound = tidemill_outbound::Allow::read(&["127.0.0.1"]).unwrap();
        options.has_housekeeping = false;
        options.rescan_interval = Duration::from_millis(200);
        options.debounce = Duration::from_millis(5);
        options
    }

    /// Starts a scheduler on what is there.
    pub(crate) async fn start(&self) -> Scheduler {
        let (reader, writer) = (Arc::clone(&self.reader), Arc::clone(&self.writer));
        let clock = Arc::new(self.clock.clone());
        if self.memory.is_none()
            && let Some(leader) = reader.leader().await.unwrap().filter(|leader| leader.is_valid)
        {
            // A server that was killed leaves a lease by the database's clock, which these tests do not move.
            writer.release(leader.term).await.unwrap();
        }
        let scheduler =
            soon("a start", Scheduler::start(self.options(), reader, writer, clock)).await.unwrap();
        // The first answer of the loop: the engine is built, at this instant of the clock.
        soon("the first round", scheduler.handle().durable()).await.unwrap();
        scheduler
    }

    /// Writes a file into the DAG folder in one rename, as a careful editor does.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        write_whole(&self.dags_dir().join(name), text.as_ref());
    }

    /// Writes a DAG file and waits until the DAG is known with these tasks.
    pub(crate) async fn define(&self, handle: &Handle, id: &str, tasks: &str) {
        let mut changes = handle.subscribe();
        self.write(&format!("{id}.toml"), format!("[dag]\nid = \"{id}\"\n{tasks}"));
        let wanted = dag_id(id);
        let is_seen = |change: &Change| matches!(change, Change::Dag { dag_id } if *dag_id == wanted);
        wait_for(&mut changes, "a definition", is_seen).await;
    }

    pub(crate) async fn run(&self, run: RunKey) -> RunRow {
        self.reader.run_by_key(run).await.unwrap().unwrap()
    }

    pub(crate) async fn tasks(&self, run: RunKey) -> BTreeMap<String, TaskRow> {
        let rows = self.reader.tasks(run).await.unwrap();
        rows.into_iter().map(|row| (row.key.task.to_string(), row)).collect()
    }

    /// Checks that a rebuild from the store would give the engine that is running.
    pub(crate) async fn check_rebuild(&self, handle: &Handle) {
        let running = handle.durable().await.unwrap();
        self.compare(running).await;
    }

    pub(crate) async fn compare(&self, mut running: EngineSnapshot) {
        let loaded = self.writer.load().await.unwrap();
        assert!(loaded.unreadable.is_empty());
        let now = tidemill_scheduler::Clock::now(&self.clock);
        let mut rebuilt = Engine::restore(loaded.snapshot, now).durable();
        // The store counts keys that were given out, the engine those that it gave out itself.
        running.next_run_key = 0;
        rebuilt.next_run_key = 0;
        running.next_asset_event = 0;
        rebuilt.next_asset_event = 0;
        assert_eq!(running, rebuilt);
    }
}

pub(crate) fn write_whole(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).unwrap();
    std::fs::rename(&temporary, path).unwrap();
}

/// Waits for a change; a receiver that lags goes on with the newest.
pub(crate) async fn wait_for(
    changes: &mut tokio::sync::broadcast::Receiver<Change>,
    what: &str,
    is_wanted: impl Fn(&Change) -> bool,
) -> Change {
    soon(what, async {
        loop {
            match changes.recv().await {
                Ok(change) if is_wanted(&change) => return change,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => panic!("the scheduler is gone"),
            }
        }
    })
    .await
}

/// Waits until a run is in a state.
pub(crate) async fn wait_for_run(
    changes: &mut tokio::sync::broadcast::Receiver<Change>,
    key: RunKey,
    wanted: RunState,
) {
    let is_wanted =
        |change: &Change| matches!(change, Change::Run { run, state, .. } if *run == key && *state == wanted);
    wait_for(changes, "the end of a run", is_wanted).await;
}

pub(crate) fn trigger_of(id: &str) -> TriggerRequest {
    TriggerRequest {
        dag_id: dag_id(id),
        run_id: None,
        logical_date: None,
        conf: serde_json::Map::new(),
        triggered_by: Some("test".into()),
        idempotency: None,
    }
}

pub(crate) async fn trigger(handle: &Handle, id: &str) -> RunRow {
    let Triggered { run, .. } =
        soon("a trigger", handle.trigger(trigger_of(id), AdminWrite::default())).await.unwrap();
    run
}

/// A worker that does what a test tells it.
pub(crate) struct HandWorker {
    handle: Handle,
    pub(crate) id: WorkerId,
    pub(crate) boot_id: String,
    seq: u64,
    pub(crate) capacity: u32,
    pub(crate) held: Vec<AttemptKey>,
}

impl HandWorker {
    pub(crate) fn new(handle: &Handle, id: &str) -> Self {
        Self {
            handle: handle.clone(),
            id: WorkerId::new(id).unwrap(),
            boot_id: format!("{id}-boot-1"),
            seq: 0,
            capacity: 4,
            held: Vec::new(),
        }
    }

    /// The same worker, talking to another server.
    pub(crate) fn reconnect(&mut self, handle: &Handle) {
        self.handle = handle.clone();
    }

    pub(crate) fn request(&mut self, results: Vec<AttemptReport>) -> ExchangeRequest {
        self.seq += 1;
        self.held.retain(|held| !results.iter().any(|result| result.attempt == *held));
        ExchangeRequest {
            protocol: PROTOCOL_VERSION,
            version: "test".into(),
            worker: self.id.clone(),
            boot_id: self.boot_id.clone(),
            seq: self.seq,
            has_swept: true,
            capacity: self.capacity,
            slots: self.capacity,
            queues: vec!["default".into()],
            held: self.held.clone(),
            results,
            lost: Vec::new(),
        }
    }

    /// Exchanges and holds what it is given.
    pub(crate) async fn exchange(&mut self, results: Vec<AttemptReport>) -> ExchangeResponse {
        let request = self.request(results);
        let response = soon("an exchange", self.handle.exchange(request)).await.unwrap();
        self.held.extend(response.assignments.iter().map(|assignment| assignment.attempt.clone()));
        response
    }

    /// Exchanges without results until it is given something.
    pub(crate) async fn next(&mut self) -> Vec<Assignment> {
        loop {
            let response = self.exchange(Vec::new()).await;
            if !response.assignments.is_empty() {
                return response.assignments;
            }
        }
    }

    pub(crate) async fn heartbeat(&self) -> Result<Vec<AttemptKey>, CallError> {
        let request = HeartbeatRequest {
            worker: self.id.clone(),
            boot_id: self.boot_id.clone(),
            attempts: self.held.clone(),
        };
        soon("a heartbeat", self.handle.heartbeat(request)).await.map(|response| response.fenced)
    }
}

/// A report of an attempt that ended by itself.
pub(crate) fn report(attempt: &AttemptKey, outcome: TryOutcome, exit_code: i32) -> AttemptReport {
    AttemptReport {
        attempt: attempt.clone(),
        outcome,
        exit_code: Some(exit_code),
        is_final: false,
        reason: None,
        follow: None,
        outputs: BTreeMap::new(),
        report: None,
        started_at: Some(at("2026-11-05T12:00:00.123456789Z")),
        finished_at: at("2026-11-05T12:00:01Z"),
        log_bytes: 0,
        log_tail_offset: 0,
        log_tail: String::new(),
    }
}

pub(crate) fn success(attempt: &AttemptKey) -> AttemptReport {
    report(attempt, TryOutcome::Success, 0)
}

/// Two tasks in a row; the second cannot do without an output of the first.
pub(crate) const STRICT: &str = r#"
[[task]]
id = "first"
command = "produce"

[[task]]
id = "second"
command = "consume {{ outputs.first.path }}"
depends_on = ["first"]
"#;

/// Two tasks in a row; the second uses an output of the first.
pub(crate) const CHAIN: &str = r#"
[[task]]
id = "first"
command = "produce"
retries = 1
retry_delay = "10s"

[[task]]
id = "second"
command = "consume {{ outputs.first.path | default('nothing') }}"
depends_on = ["first"]
"#;
