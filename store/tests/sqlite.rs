//! What only SQLite does: the lock, damage, backups, the write-ahead log.

use std::io::{Read, Seek, SeekFrom, Write};

use tidemill_engine::state::{RunState, TaskState};
use tidemill_store::{Database, Migrate, open, open::check_damage, open_reader};

use crate::{
    rows::{new_run, new_task},
    support::Bed,
};

fn path(bed: &Bed) -> std::path::PathBuf {
    bed.folder().join("tidemill.sqlite")
}

#[tokio::test]
async fn a_second_server_is_refused_by_name() {
    let bed = Bed::sqlite().await;
    let database = bed.database.clone().expect("a database");
    let error = open(&database, Migrate::Apply).await.expect_err("the first has it");
    assert_eq!(error.code(), "STO0101");
    let process = format!("process {} (", std::process::id());
    assert!(error.to_string().contains(&process), "{error}");
    let reader = open_reader(&database).await.expect("reading beside the owner is fine");
    assert_eq!(reader.health().await.expect("reads").backend, "sqlite");
    let Bed { store, .. } = bed;
    drop(store);
}

#[tokio::test]
async fn commits_survive_a_reopening() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = Database::Sqlite(folder.path().join("deep/er/tidemill.sqlite"));
    let store = open(&database, Migrate::Apply).await.expect("makes its folder");
    let term = Bed::led(&store).await;
    let before = store.writer.load().await.expect("loads");
    drop(store);
    let store = open(&database, Migrate::Refuse).await.expect("the lock went with its owner");
    assert_eq!(store.writer.load().await.expect("loads"), before);
    let next = store.writer.take_leadership("two", "http://two").await.expect("leads");
    assert_eq!((next.term, next.was_abandoned, next.lease), (term + 1, true, None));
}

#[tokio::test]
async fn a_backup_is_a_whole_database() {
    let bed = Bed::sqlite().await;
    let mut batch = bed.batch().await;
    batch.runs.push(new_run(1, RunState::Running));
    batch.tasks.push(new_task(1, "a", TaskState::Success));
    bed.store.writer.commit(&batch).await.expect("stored");
    let target = bed.folder().join("copy of it's.sqlite");
    let size = bed.store.reader.backup(&target).await.expect("backs up");
    assert_eq!(size, std::fs::metadata(&target).expect("is there").len());
    let error = bed.store.reader.backup(&target).await.expect_err("it is there already");
    assert_eq!(error.code(), "STO0109");
    let copy = open(&Database::Sqlite(target), Migrate::Refuse).await.expect("opens");
    let (copied, original) = (copy.writer.load().await, bed.store.writer.load().await);
    assert_eq!(copied.expect("loads"), original.expect("loads"));
    let postgres = Bed::postgres().await;
    let error = postgres.store.reader.backup(&bed.folder().join("x")).await.expect_err("pg_dump does that");
    assert_eq!(error.code(), "STO0106");
}

#[tokio::test]
async fn a_checkpoint_moves_the_log_into_the_file() {
    let bed = Bed::sqlite().await;
    let mut batch = bed.batch().await;
    batch.runs.push(new_run(1, RunState::Running));
    for n in 0..2000 {
        batch.tasks.push(new_task(1, &format!("t{n}"), TaskState::Scheduled));
    }
    bed.store.writer.commit(&batch).await.expect("stored");
    let before = std::fs::metadata(path(&bed)).expect("is there").len();
    assert!(bed.store.reader.health().await.expect("reads").wal_bytes > 0);
    bed.store.writer.checkpoint().await.expect("checkpoints");
    assert!(std::fs::metadata(path(&bed)).expect("is there").len() > before);
}

/// A bit flips somewhere: the start refuses with a code, or everything reads as it was; never a panic.
#[tokio::test]
async fn damage_is_refused_or_harmless() {
    let bed = Bed::sqlite().await;
    let mut batch = bed.batch().await;
    batch.runs.push(new_run(1, RunState::Running));
    for n in 0..300 {
        batch.tasks.push(new_task(1, &format!("t{n}"), TaskState::Scheduled));
    }
    bed.store.writer.commit(&batch).await.expect("stored");
    let copy = bed.folder().join("copy.sqlite");
    bed.store.reader.backup(&copy).await.expect("backs up");
    let good = std::fs::read(&copy).expect("reads");
    let database = Database::Sqlite(copy.clone());
    let (mut refused, mut flips) = (0, 0);
    // Every 1 999 bytes: headers, cells and free space of many pages.
    for offset in (0..good.len()).step_by(1999) {
        let mut bad = good.clone();
        bad[offset] ^= 0x40;
        std::fs::write(&copy, &bad).expect("writes");
        flips += 1;
        match open(&database, Migrate::Refuse).await {
            Ok(store) => {
                if let Err(error) = store.writer.load().await {
                    assert!(["STO0301", "STO0303"].contains(&error.code()), "{error}");
                }
            }
            Err(error) => {
                assert!(["STO0104", "STO0105", "STO0102", "STO0103"].contains(&error.code()), "{error:?}");
                refused += 1;
            }
        }
        for side in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(bed.folder().join(format!("copy.sqlite{side}")));
        }
    }
    println!("{flips} flipped bits, {refused} refused at the start");
    assert!(refused > 0);
}

#[tokio::test]
async fn a_broken_page_has_the_code_of_damage() {
    let bed = Bed::sqlite().await;
    let copy = bed.folder().join("copy.sqlite");
    bed.store.reader.backup(&copy).await.expect("backs up");
    let mut file = std::fs::File::options().read(true).write(true).open(&copy).expect("opens");
    let mut page = [0; 64];
    file.seek(SeekFrom::Start(4096)).expect("seeks");
    file.read_exact(&mut page).expect("reads");
    file.seek(SeekFrom::Start(4096)).expect("seeks");
    file.write_all(&[0xff; 512]).expect("writes");
    drop(file);
    let error = check_damage(&Database::Sqlite(copy.clone())).await.expect_err("a page is gone");
    assert_eq!(error.code(), "STO0104", "{error}");
    std::fs::write(&copy, b"this is no database at all, but a text that is long enough").expect("writes");
    let error = open(&Database::Sqlite(copy), Migrate::Apply).await.expect_err("no database");
    assert_eq!(error.code(), "STO0104", "{error}");
}

#[tokio::test]
async fn a_folder_in_the_way_is_a_coded_error() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "x").expect("writes");
    let database = Database::Sqlite(folder.path().join("file/db.sqlite"));
    let error = open(&database, Migrate::Apply).await.expect_err("a file is no folder");
    assert_eq!(error.code(), "STO0105", "{error}");
    let database = "postgres://nobody@127.0.0.1:1/none".parse().expect("a URL");
    let error = open_reader(&database).await.err().expect("nobody listens");
    assert_eq!(error.code(), "STO0105", "{error}");
}

/// One damaged run stops nothing else.
#[tokio::test]
async fn a_poison_row_is_left_out() {
    let bed = Bed::sqlite().await;
    let mut batch = bed.batch().await;
    batch.runs.extend([new_run(1, RunState::Running), new_run(2, RunState::Running)]);
    batch.tasks.extend([new_task(1, "a", TaskState::Success), new_task(2, "a", TaskState::Success)]);
    bed.store.writer.commit(&batch).await.expect("stored");
    let database = bed.database.clone().expect("a database");
    for poison in [
        "UPDATE task_instance SET follow = '{\"not\": \"a list\"' WHERE run_key = 1",
        "UPDATE task_instance SET follow = NULL, exit_code = 99999999999 WHERE run_key = 1",
        "UPDATE dag_run SET conf = '[]' WHERE run_key = 1",
    ] {
        crate::leadership::execute(&database, poison).await;
        let loaded = bed.store.writer.load().await.expect("loads");
        assert_eq!(loaded.unreadable.len(), 1, "{poison}");
        assert_eq!(loaded.unreadable[0].run.map(|run| run.0), Some(1));
        assert_eq!(loaded.snapshot.runs.len(), 1);
        assert_eq!(loaded.snapshot.runs[0].run.key.0, 2);
        let error = bed.store.writer.load_run(tidemill_engine::ids::RunKey(1)).await.expect_err("unreadable");
        assert_eq!(error.code(), "STO0301");
    }
}
