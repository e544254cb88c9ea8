//! Test beds and rows.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;
use tidemill_engine::{
    definition::{self, Dag},
    ids::DagId,
    rows::{DagRow, VersionHash},
};
use tidemill_store::{Batch, BatchId, Database, MemoryStore, Migrate, Store, batch::VersionRow, open};

/// A database with a leader and one DAG, `etl`, of three tasks.
pub(crate) struct Bed {
    pub(crate) store: Store,
    pub(crate) database: Option<Database>,
    folder: Option<TempDir>,
    next: std::sync::atomic::AtomicI64,
}

/// The instant that tests begin at.
pub(crate) fn t0() -> DateTime<Utc> {
    "2026-11-01T00:00:00.000001Z".parse().expect("an instant")
}

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    t0() + TimeDelta::seconds(seconds)
}

pub(crate) fn dag_id(name: &str) -> DagId {
    DagId::new(name).expect("an id")
}

pub(crate) fn dag(name: &str) -> Arc<Dag> {
    let source = format!(
        "[dag]\nid = \"{name}\"\ndescription = \"The 100% daily_load, Änderung\"\nschedule = \"@daily\"\n\
         start_date = 2026-01-01\ntags = [\"ml\", \"a \\\"b\\\"\"]\n\n\
         [[task]]\nid = \"a\"\ncommand = \"true\"\npool_slots = 2\n\n\
         [[task]]\nid = \"b\"\ncommand = \"true\"\ndepends_on = [\"a\"]\n\n\
         [[task]]\nid = \"c\"\ncommand = \"true\"\ndepends_on = [\"b\"]\n"
    );
    let loaded = definition::load(source.as_bytes(), "etl.toml");
    Arc::new(loaded.dag.unwrap_or_else(|| panic!("{:?}", loaded.problems)))
}

pub(crate) fn version_of(dag: &Dag) -> VersionHash {
    definition::version_hash(dag)
}

impl Bed {
    pub(crate) fn memory() -> Self {
        Self::memory_of(MemoryStore::new())
    }

    pub(crate) fn memory_of(memory: MemoryStore) -> Self {
        Self::new(memory.into(), None, None)
    }

    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::Sqlite(folder.path().join("tidemill.sqlite"));
        let store = open(&database, Migrate::Apply).await.expect("a database");
        Self::new(store, Some(database), Some(folder))
    }

    pub(crate) async fn postgres() -> Self {
        let database: Database = crate::postgres::new_database().parse().expect("a URL");
        let store = open(&database, Migrate::Apply).await.expect("a database");
        Self::new(store, Some(database), None)
    }

    fn new(store: Store, database: Option<Database>, folder: Option<TempDir>) -> Self {
        Self { store, database, folder, next: 1.into() }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.as_ref().expect("a bed with a folder").path()
    }

    /// Takes leadership and stores the DAG.
    pub(crate) async fn led(store: &Store) -> i64 {
        let term = store.writer.take_leadership("test", "http://test").await.expect("leadership").term;
        let mut batch = Batch::new(term, BatchId(1), t0());
        add_dag(&mut batch, "etl");
        store.writer.commit(&batch).await.expect("the DAG is stored");
        term
    }

    /// Returns the next batch of the bed's leader.
    pub(crate) async fn batch(&self) -> Batch {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if number == 1 {
            let term = Self::led(&self.store).await;
            assert_eq!(term, 1, "a new database begins with term 1");
            self.next.store(3, std::sync::atomic::Ordering::Relaxed);
            return Batch::new(term, BatchId(2), t0());
        }
        Batch::new(1, BatchId(number), t0())
    }
}

pub(crate) fn add_dag(batch: &mut Batch, name: &str) {
    let definition = dag(name);
    let hash = version_of(&definition);
    batch.versions.push(VersionRow {
        dag_id: dag_id(name),
        hash: hash.clone(),
        definition,
        source: "# a comment\n[dag]\n".to_owned(),
        path: format!("{name}.toml"),
        created_at: t0(),
    });
    batch.dags.push(DagRow {
        dag_id: dag_id(name),
        version: hash,
        path: format!("{name}.toml"),
        is_paused: false,
        is_missing: false,
        failed_runs: 0,
        pause_reason: None,
        cursor: t0(),
        created_at: t0(),
    });
}
