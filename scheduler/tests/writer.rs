//! A writer that does to the scheduler what a store under it may do: answer late, lose rows, bring out a mistake.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use tidemill_engine::{ids::RunKey, rows::FinishedRun};
use tidemill_store::{
    Batch, BatchId, CommitError, Leadership, LeadershipError, Loaded, MemoryStore, ReadError, Writer,
    access::Session, error::Unreadable,
};
use tokio::sync::watch;

/// The store in memory behind a hand that interferes.
#[derive(Clone)]
pub(crate) struct HandWriter {
    store: MemoryStore,
    /// A load waits while it is false.
    may_load: watch::Sender<bool>,
    /// So many more loads of a run panic.
    pub(crate) panics: Arc<AtomicU32>,
    /// A run that cannot be read.
    pub(crate) unreadable: Arc<Mutex<Option<RunKey>>>,
    /// How often everything was loaded.
    pub(crate) loads: Arc<AtomicU32>,
}

impl HandWriter {
    pub(crate) fn new(store: &MemoryStore) -> Self {
        Self {
            store: store.clone(),
            may_load: watch::Sender::new(true),
            panics: Arc::default(),
            unreadable: Arc::default(),
            loads: Arc::default(),
        }
    }

    pub(crate) fn let_load(&self, may_load: bool) {
        self.may_load.send_replace(may_load);
    }
}

#[async_trait]
impl Writer for HandWriter {
    async fn take_leadership(&self, holder: &str, url: &str) -> Result<Leadership, LeadershipError> {
        self.store.take_leadership(holder, url).await
    }

    async fn renew(&self, term: i64) -> Result<Leadership, CommitError> {
        self.store.renew(term).await
    }

    async fn release(&self, term: i64) -> Result<(), CommitError> {
        self.store.release(term).await
    }

    async fn commit(&self, batch: &Batch) -> Result<(), CommitError> {
        self.store.commit(batch).await
    }

    async fn was_committed(&self, term: i64, batch: BatchId) -> Result<bool, CommitError> {
        self.store.was_committed(term, batch).await
    }

    async fn redeem_login_link(&self, term: i64, hash: &str, session: &Session) -> Result<bool, CommitError> {
        self.store.redeem_login_link(term, hash, session).await
    }

    async fn load(&self) -> Result<Loaded, ReadError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let mut may_load = self.may_load.subscribe();
        let _ = may_load.wait_for(|may| *may).await;
        let mut loaded = self.store.load().await?;
        if let Some(run) = *self.unreadable.lock().unwrap() {
            let snapshot = &mut loaded.snapshot;
            let before = snapshot.runs.len();
            snapshot.runs.retain(|row| row.run.key != run);
            snapshot.open_tries.retain(|row| row.attempt.instance.run != run);
            if snapshot.runs.len() < before {
                let what = "task_instance: \"runing\" is no word of its column".to_owned();
                loaded.unreadable.push(Unreadable { dag_id: None, run: Some(run), what });
            }
        }
        Ok(loaded)
    }

    async fn load_run(&self, run: RunKey) -> Result<Option<FinishedRun>, ReadError> {
        let is_panic =
            self.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        assert!(is_panic.is_err(), "a mistake that a test asked for");
        if *self.unreadable.lock().unwrap() == Some(run) {
            let what = "\"runing\" is no word of its column".to_owned();
            return Err(ReadError::Unreadable { table: "task_instance", key: run.to_string(), what });
        }
        self.store.load_run(run).await
    }

    async fn checkpoint(&self) -> Result<(), CommitError> {
        self.store.checkpoint().await
    }
}
