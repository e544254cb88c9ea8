//! Who leads.

use tidemill_store::{
    Batch, BatchId, CommitError, LeadershipError, MemoryStore, Migrate, memory::Fault, open,
};

use crate::support::{Bed, t0};

pub(crate) async fn terms_only_grow(bed: &Bed) {
    let writer = &bed.store.writer;
    assert_eq!(bed.store.reader.leader().await.expect("reads"), None);
    let first = writer.take_leadership("one", "http://one").await.expect("nobody leads");
    assert_eq!((first.term, first.was_abandoned), (1, false));
    let leader = bed.store.reader.leader().await.expect("reads").expect("somebody leads");
    assert_eq!((leader.holder.as_str(), leader.url.as_str(), leader.is_valid), ("one", "http://one", true));
    writer.renew(1).await.expect("renewed");
    writer.release(1).await.expect("released");
    assert!(!bed.store.reader.leader().await.expect("reads").expect("the row stays").is_valid);
    assert!(matches!(writer.renew(1).await, Err(CommitError::TermLost { .. })));
    let second = writer.take_leadership("two", "http://two").await.expect("it was released");
    assert_eq!((second.term, second.was_abandoned), (2, false));
    writer.release(1).await.expect("an old term releases nothing");
    assert!(bed.store.reader.leader().await.expect("reads").expect("somebody leads").is_valid);
}

/// By the database's clock: a second server waits for the lease to end, and gets it at once after a release.
#[tokio::test]
async fn a_postgresql_lease_keeps_the_second_server_out() {
    let bed = Bed::postgres().await;
    let database = bed.database.clone().expect("a database");
    let standby = open(&database, Migrate::Refuse).await.expect("opens beside the leader");
    bed.store.writer.take_leadership("one", "http://one").await.expect("nobody leads");
    let error = standby.writer.take_leadership("two", "http://two").await.expect_err("one leads");
    assert_eq!(error.code(), "STO0207");
    let LeadershipError::Held { holder, url, term, expires_in } = error else { panic!("{error}") };
    assert_eq!((holder.as_str(), url.as_str(), term), ("one", "http://one", 1));
    let left = expires_in.expect("a lease ends");
    assert!(left.as_secs() <= 6 && left.as_millis() > 1000, "{left:?}");
    // The lease runs out: set back instead of waited for.
    execute(&database, "UPDATE leader SET expires_at = 0").await;
    assert!(!bed.store.reader.leader().await.expect("reads").expect("a row").is_valid);
    let taken = standby.writer.take_leadership("two", "http://two").await.expect("the lease is over");
    assert_eq!((taken.term, taken.was_abandoned), (2, true));
    let stale = Batch::new(1, BatchId(1), t0());
    let error = bed.store.writer.commit(&stale).await.expect_err("the old leader wakes up");
    assert!(matches!(error, CommitError::TermLost { term: 1 }));
    standby.writer.release(2).await.expect("released");
    let back = bed.store.writer.take_leadership("one", "http://one").await.expect("at once");
    assert_eq!(back.term, 3);
}

/// A stand-by asks every second; it neither waits for the leader's commit nor holds it up.
#[tokio::test]
async fn a_stand_by_does_not_touch_the_row_that_commits_need() {
    use sea_orm::ConnectionTrait;
    let bed = Bed::postgres().await;
    let database = bed.database.clone().expect("a database");
    let standby = open(&database, Migrate::Refuse).await.expect("opens beside the leader");
    bed.store.writer.take_leadership("one", "http://one").await.expect("nobody leads");
    let tidemill_store::Database::Postgres(url) = &database else { panic!("{database}") };
    let mut options = sea_orm::ConnectOptions::new(url.clone());
    options.max_connections(1);
    let committing = sea_orm::Database::connect(options).await.expect("connects");
    committing.execute_unprepared("BEGIN; SELECT * FROM leader FOR UPDATE").await.expect("locks");
    let asked = standby.writer.take_leadership("two", "http://two");
    let error =
        tokio::time::timeout(std::time::Duration::from_secs(4), asked).await.expect("without waiting");
    assert_eq!(error.expect_err("one leads").code(), "STO0207");
    committing.execute_unprepared("ROLLBACK").await.expect("unlocks");
    committing.close().await.expect("closes");
}

/// The connection dies under a transaction: nothing was committed, and the next commit goes through.
#[tokio::test]
async fn a_postgresql_restart_of_connections_is_survived() {
    let bed = Bed::postgres().await;
    let database = bed.database.clone().expect("a database");
    let mut batch = bed.batch().await;
    execute(
        &database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    batch.settings.push(("a".to_owned(), "b".to_owned()));
    let mut result = bed.store.writer.commit(&batch).await;
    if let Err(CommitError::Unavailable { .. }) = &result {
        result = bed.store.writer.commit(&batch).await;
    }
    result.expect("the pool connects again");
    assert_eq!(bed.store.reader.setting("a").await.expect("reads"), Some("b".to_owned()));
}

#[tokio::test]
async fn an_ambiguous_commit_is_settled_by_its_number() {
    let memory = MemoryStore::new();
    let bed = Bed::memory_of(memory.clone());
    let mut batch = bed.batch().await;
    batch.settings.push(("a".to_owned(), "b".to_owned()));
    for (fault, is_there) in [(Fault::LostBefore, false), (Fault::LostAfter, true)] {
        memory.inject(fault);
        let error = bed.store.writer.commit(&batch).await.expect_err("the answer is lost");
        assert_eq!(error.code(), "STO0204");
        assert_eq!(bed.store.writer.was_committed(1, batch.id).await.expect("answers"), is_there);
    }
    memory.inject(Fault::Unavailable);
    let next = bed.batch().await;
    let error = bed.store.writer.commit(&next).await.expect_err("not now");
    assert_eq!(error.code(), "STO0205");
    bed.store.writer.commit(&next).await.expect("now");
}

pub(crate) async fn execute(database: &tidemill_store::Database, sql: &str) {
    use sea_orm::ConnectionTrait;
    let url = match database {
        tidemill_store::Database::Sqlite(path) => format!("sqlite://{}", path.display()),
        tidemill_store::Database::Postgres(url) => url.clone(),
    };
    let db = sea_orm::Database::connect(url).await.expect("connects");
    db.execute_unprepared(sql).await.expect("is executed");
    db.close().await.expect("closes");
}
