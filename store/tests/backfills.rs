//! Backfills in every store.

use std::sync::Arc;

use chrono::TimeDelta;
use tidemill_engine::{
    action::RunChange,
    backfill::{BackfillDate, BackfillRow, BackfillSpec, BackfillState, DateOutcome, Reprocess},
    ids::{BackfillKey, RunKey},
    rows::RunRow,
    state::{RunState, RunType},
};
use tidemill_store::reader::{BackfillIdempotencyRow, BackfillQuery, PageRequest};

use crate::{
    rows::{new_run, run_row},
    support::{Bed, at, dag_id, t0},
};

fn backfill(key: i64) -> BackfillRow {
    BackfillRow {
        key: BackfillKey(key),
        dag_id: dag_id("etl"),
        spec: BackfillSpec {
            from: at(0),
            to: at(3600),
            reprocess: Reprocess::Failed,
            max_active_runs: 3,
            run_backwards: true,
            conf: Arc::new(serde_json::Map::from_iter([("x".to_owned(), serde_json::json!([1, "é"]))])),
        },
        state: BackfillState::Running,
        reason: None,
        cursor: None,
        date_count: 7,
        created: 0,
        reprocessed: 0,
        passed_over: 0,
        left_alone: 0,
        failed_runs: 0,
        cancel_requested_at: None,
        created_by: Some("ann".to_owned()),
        created_at: t0(),
        finished_at: None,
    }
}

fn of_backfill(key: i64, state: RunState, backfill: i64) -> RunChange {
    let row = run_row(key, state);
    let row = RunRow {
        run_type: RunType::Backfill,
        backfill: Some(BackfillKey(backfill)),
        ignores_past: key % 2 == 1,
        started_at: (state != RunState::Queued).then(|| at(1)),
        finished_at: state.is_terminal().then(|| at(11)),
        ..row
    };
    RunChange { from: None, row }
}

fn date(backfill: i64, seconds: i64, outcome: DateOutcome, run: Option<i64>) -> BackfillDate {
    BackfillDate {
        backfill: BackfillKey(backfill),
        logical_date: at(seconds),
        outcome,
        run: run.map(RunKey),
        reason: run.is_none().then(|| "because".to_owned()),
    }
}

pub(crate) async fn backfills_are_kept(bed: &Bed) {
    let mut batch = bed.batch().await;
    batch.backfills.push(backfill(5));
    batch.backfills.push(backfill(6));
    batch.runs.push(of_backfill(7, RunState::Success, 5));
    batch.runs.push(of_backfill(8, RunState::Failed, 5));
    batch.runs.push(of_backfill(9, RunState::Running, 5));
    batch.runs.push(new_run(10, RunState::Success));
    batch.backfill_dates.push(date(5, 420, DateOutcome::Created, Some(7)));
    batch.backfill_dates.push(date(5, 480, DateOutcome::Reprocessed, Some(8)));
    batch.backfill_dates.push(date(5, 500, DateOutcome::PassedOver, None));
    batch.backfill_idempotency.push(BackfillIdempotencyRow {
        key_hash: "k".to_owned(),
        request_hash: "r".to_owned(),
        backfill: BackfillKey(5),
        created_at: t0(),
    });
    bed.store.writer.commit(&batch).await.expect("stored");
    let reader = &bed.store.reader;
    let loaded = bed.store.writer.load().await.expect("loads").snapshot;
    assert_eq!(loaded.backfills, [backfill(5), backfill(6)]);
    assert_eq!(loaded.next_run_key, 11);
    assert!(loaded.runs.iter().any(|run| run.run.backfill == Some(BackfillKey(5)) && run.run.ignores_past));

    let item = reader.backfill(BackfillKey(5)).await.expect("reads").expect("is there");
    assert_eq!(item.row, backfill(5));
    let runs = item.runs;
    assert_eq!((runs.success, runs.failed, runs.running, runs.active(), runs.ended()), (1, 1, 1, 1, 2));
    assert_eq!((runs.timed, runs.total_micros), (2, 20_000_000));
    // Seven dates and one run at three a time, ten seconds each.
    assert_eq!(item.estimate(), Some(TimeDelta::seconds(30)));

    let page = PageRequest { cursor: None, limit: 2 };
    let first = reader.backfill_dates(BackfillKey(5), &page).await.expect("reads");
    let page = PageRequest { cursor: first.next_cursor.clone(), limit: 2 };
    let second = reader.backfill_dates(BackfillKey(5), &page).await.expect("reads");
    assert_eq!(second.next_cursor, None);
    let told: Vec<_> = first.items.iter().chain(&second.items).map(|item| item.date.clone()).collect();
    assert_eq!(told, batch.backfill_dates);
    assert_eq!(first.items[1].run.as_ref().map(|run| run.state), Some(RunState::Failed));

    let query = BackfillQuery { page: PageRequest { cursor: None, limit: 1 }, ..BackfillQuery::default() };
    let newest = reader.backfills(&query).await.expect("reads");
    assert_eq!(newest.items[0].row.key, BackfillKey(6));
    let query = BackfillQuery { page: PageRequest { cursor: newest.next_cursor, limit: 1 }, ..query };
    let older = reader.backfills(&query).await.expect("reads");
    assert_eq!((older.items[0].row.key, older.next_cursor), (BackfillKey(5), None));
    let found = reader.backfill_idempotency("k").await.expect("reads").expect("is there");
    assert_eq!(found.backfill, BackfillKey(5));

    let dates = [at(420), at(540), at(600), at(9999)];
    let found = reader.dated_runs(&dag_id("etl"), &dates).await.expect("reads");
    let found: Vec<_> = found.iter().map(|run| (run.run, run.run_type, run.state)).collect();
    // The run of 600 s is one by hand.
    let expected = [
        (RunKey(7), RunType::Backfill, RunState::Success),
        (RunKey(9), RunType::Backfill, RunState::Running),
    ];
    assert_eq!(found, expected);
}

pub(crate) async fn an_ended_one_changes_no_more_and_goes_with_its_runs(bed: &Bed) {
    let mut batch = bed.batch().await;
    batch.backfills.push(backfill(5));
    batch.runs.push(of_backfill(7, RunState::Success, 5));
    batch.backfill_dates.push(date(5, 420, DateOutcome::Created, Some(7)));
    bed.store.writer.commit(&batch).await.expect("stored");
    let ended = BackfillRow {
        state: BackfillState::Cancelled,
        cancel_requested_at: Some(at(3)),
        finished_at: Some(at(4)),
        reason: Some("enough".to_owned()),
        ..backfill(5)
    };
    let mut batch = bed.batch().await;
    batch.backfills.push(ended.clone());
    bed.store.writer.commit(&batch).await.expect("stored");
    assert_eq!(bed.store.writer.load().await.expect("loads").snapshot.backfills, []);
    let mut batch = bed.batch().await;
    batch.backfills.push(backfill(5));
    let error = bed.store.writer.commit(&batch).await.expect_err("it has ended");
    assert_eq!(error.code(), "STO0202", "{error}");

    // A date is dealt with once.
    let mut batch = bed.batch().await;
    batch.backfill_dates.push(date(5, 420, DateOutcome::PassedOver, None));
    assert!(bed.store.writer.commit(&batch).await.is_err());

    let mut batch = bed.batch().await;
    batch.prunes.push((dag_id("etl"), at(100)));
    bed.store.writer.commit(&batch).await.expect("stored");
    let reader = &bed.store.reader;
    assert!(reader.backfill(BackfillKey(5)).await.expect("reads").is_some(), "it has a run");
    let mut batch = bed.batch().await;
    batch.run_deletes.push(RunKey(7));
    bed.store.writer.commit(&batch).await.expect("stored");
    let dates = reader.backfill_dates(BackfillKey(5), &PageRequest::default()).await.expect("reads");
    assert_eq!((dates.items[0].date.run, &dates.items[0].run), (None, &None), "the date outlives its run");
    let mut batch = bed.batch().await;
    batch.prunes.push((dag_id("etl"), at(100)));
    bed.store.writer.commit(&batch).await.expect("stored");
    assert_eq!(reader.backfill(BackfillKey(5)).await.expect("reads"), None);
}

pub(crate) async fn a_deleted_dag_takes_them_along(bed: &Bed) {
    let mut batch = bed.batch().await;
    batch.backfills.push(backfill(5));
    batch.runs.push(of_backfill(7, RunState::Success, 5));
    batch.backfill_dates.push(date(5, 420, DateOutcome::Created, Some(7)));
    bed.store.writer.commit(&batch).await.expect("stored");
    let mut batch = bed.batch().await;
    batch.dag_deletes.push(dag_id("etl"));
    bed.store.writer.commit(&batch).await.expect("stored");
    assert_eq!(bed.store.reader.backfill(BackfillKey(5)).await.expect("reads"), None);
    let dates = bed.store.reader.backfill_dates(BackfillKey(5), &PageRequest::default()).await;
    assert_eq!(dates.expect("reads").items, []);
    let loaded = bed.store.writer.load().await.expect("loads").snapshot;
    assert_eq!((loaded.backfills.len(), loaded.next_run_key), (0, 8), "numbers are never used again");
}
