//! What a commit promises about assets, over every implementation.

use std::sync::Arc;

use serde_json::json;
use tidemill_engine::{
    asset::{AssetChange, AssetEventId, AssetEventRow, AssetSource},
    definition,
    ids::{AssetName, RunId, RunKey, TaskId},
    state::{RunState, RunType},
};
use tidemill_store::{
    Batch, CommitError,
    assets::{AssetEventQuery, AssetQuery, OldAssetEvents},
    batch::{AssetKey, AssetWrite, VersionRow},
    error::RowRef,
    reader::PageRequest,
};

use crate::{
    rows::new_run,
    support::{Bed, add_dag, at, dag_id, t0},
};

fn name(text: &str) -> AssetName {
    AssetName::new(text).expect("a name")
}

fn event(id: i64, asset: &str) -> AssetEventRow {
    let extra = json!({ "rows": id, "text": "ünï\u{1}" }).as_object().cloned().unwrap_or_default();
    AssetEventRow {
        id: AssetEventId(id),
        asset: name(asset),
        at: at(id),
        interval_start: at(id - 100),
        interval_end: at(id - 50),
        source: AssetSource::Posted { by: Some("ann".to_owned()) },
        extra: Arc::new(extra),
    }
}

fn happened(row: &AssetEventRow, dags: &[&str]) -> AssetWrite {
    let queued_for = dags.iter().map(|dag| dag_id(dag)).collect();
    AssetWrite { change: AssetChange::Event { row: row.clone(), queued_for }, key: None }
}

fn taken(run: i64, count: u64) -> AssetWrite {
    let change = AssetChange::Take { dag_id: dag_id("etl"), run: RunKey(run), count };
    AssetWrite { change, key: None }
}

fn caused_run(batch: &mut Batch, key: i64) {
    let mut change = new_run(key, RunState::Running);
    change.row.run_type = RunType::Asset;
    change.row.run_id = RunId::new(format!("asset__{key}")).expect("an id");
    batch.runs.push(change);
}

async fn commit(bed: &Bed, batch: &Batch) {
    bed.store.writer.commit(batch).await.expect("stored");
}

pub(crate) async fn events_wait_and_are_taken_once(bed: &Bed) {
    let mut batch = bed.batch().await;
    let of_task = AssetEventRow {
        source: AssetSource::Task {
            dag_id: dag_id("etl"),
            run: RunKey(9),
            run_id: RunId::new("r").expect("an id"),
            task: TaskId::new("a").expect("an id"),
            map_index: -1,
            try_number: 2,
        },
        ..event(7, "s3://bucket/a")
    };
    batch.assets.extend([happened(&event(5, "b"), &["etl"]), happened(&of_task, &["etl"])]);
    commit(bed, &batch).await;
    let loaded = bed.store.writer.load().await.expect("loads").snapshot;
    assert_eq!(loaded.next_asset_event, 8);
    let queue: Vec<_> = loaded.asset_queue.iter().map(|row| (row.asset.as_str(), row.count)).collect();
    assert_eq!(queue, [("b", 1), ("s3://bucket/a", 1)]);
    assert_eq!(loaded.asset_queue[1].interval_start, at(-93));
    // One more arrives and everything is taken, in one batch; what comes after it waits for the next run.
    let mut batch = bed.batch().await;
    caused_run(&mut batch, 1);
    batch.assets.extend([
        happened(&event(8, "b"), &["etl"]),
        taken(1, 3),
        happened(&event(9, "b"), &["etl"]),
        happened(&event(10, "c"), &[]),
    ]);
    commit(bed, &batch).await;
    let caused = bed.store.reader.run_asset_events(RunKey(1), 10).await.expect("reads");
    assert_eq!(caused, [event(8, "b"), of_task, event(5, "b")]);
    let queued = bed.store.reader.queued_asset_events(&dag_id("etl"), 10).await.expect("reads");
    assert_eq!(queued, [event(9, "b")]);
    // Another number than there is: memory and store have parted.
    for count in [0, 2] {
        let mut batch = bed.batch().await;
        caused_run(&mut batch, 2);
        batch.assets.push(taken(2, count));
        let error = bed.store.writer.commit(&batch).await.expect_err("another number");
        let is_queue =
            matches!(&error, CommitError::GuardMismatch { what: RowRef::Other { table: "asset_queue", .. } });
        assert!(is_queue, "{error}");
    }
    let page = PageRequest { cursor: None, limit: 2 };
    let query = AssetEventQuery { page, asset: Some(name("b")) };
    let first = bed.store.reader.asset_events(&query).await.expect("reads");
    let shown: Vec<_> =
        first.items.iter().map(|i| (i.event.id.0, i.runs.len(), i.queued_for.len())).collect();
    assert_eq!(shown, [(9, 0, 1), (8, 1, 0)]);
    let page = PageRequest { cursor: first.next_cursor, limit: 2 };
    let rest = bed.store.reader.asset_events(&AssetEventQuery { page, ..query }).await.expect("reads");
    assert_eq!((rest.items.len(), rest.items[0].event.id.0, rest.next_cursor), (1, 5, None));
}

pub(crate) async fn what_is_listened_to_no_more_is_dropped(bed: &Bed) {
    let mut batch = bed.batch().await;
    batch
        .assets
        .extend(["a", "b", "a"].iter().zip(1..).map(|(asset, id)| happened(&event(id, asset), &["etl"])));
    commit(bed, &batch).await;
    let drop = |count| {
        let assets = vec![name("a"), name("z")];
        AssetWrite { change: AssetChange::Drop { dag_id: dag_id("etl"), assets, count }, key: None }
    };
    let mut batch = bed.batch().await;
    batch.assets.push(drop(1));
    bed.store.writer.commit(&batch).await.expect_err("there are two");
    let mut batch = bed.batch().await;
    batch.assets.push(drop(2));
    commit(bed, &batch).await;
    let queued = bed.store.reader.queued_asset_events(&dag_id("etl"), 10).await.expect("reads");
    assert_eq!(queued, [event(2, "b")]);
}

pub(crate) async fn retention_takes_no_event_that_somebody_needs(bed: &Bed) {
    let mut batch = bed.batch().await;
    caused_run(&mut batch, 1);
    batch.assets.extend([
        happened(&event(1, "a"), &["etl"]),
        taken(1, 1),
        happened(&event(2, "a"), &["etl"]),
        happened(&event(3, "a"), &[]),
        happened(&event(4, "a"), &[]),
        happened(&event(5, "a"), &[]),
    ]);
    commit(bed, &batch).await;
    let old = |before, limit| OldAssetEvents { before: at(before), limit };
    let ids = |found: Vec<AssetEventId>| found.into_iter().map(|id| id.0).collect::<Vec<_>>();
    assert_eq!(ids(bed.store.reader.old_asset_events(old(5, 10)).await.expect("reads")), [3, 4]);
    assert_eq!(ids(bed.store.reader.old_asset_events(old(5, 1)).await.expect("reads")), [3]);
    // Whatever is asked for, what waits and what caused a run stays.
    let mut batch = bed.batch().await;
    batch.asset_deletes.extend((1..=4).map(AssetEventId));
    commit(bed, &batch).await;
    let left = bed.store.reader.asset_events(&AssetEventQuery::default()).await.expect("reads");
    assert_eq!(left.items.iter().map(|item| item.event.id.0).collect::<Vec<_>>(), [5, 2, 1]);
    // With its run goes the reason to keep it.
    let mut batch = bed.batch().await;
    let mut ended = new_run(1, RunState::Success).row;
    ended.run_type = RunType::Asset;
    ended.run_id = RunId::new("asset__1").expect("an id");
    let from = Some(RunState::Running);
    batch.runs.push(tidemill_engine::action::RunChange { from, row: ended });
    batch.run_deletes.push(RunKey(1));
    commit(bed, &batch).await;
    assert_eq!(ids(bed.store.reader.old_asset_events(old(5, 10)).await.expect("reads")), [1]);
    // A number is never used again.
    let mut batch = bed.batch().await;
    batch.asset_deletes.push(AssetEventId(5));
    commit(bed, &batch).await;
    assert_eq!(bed.store.writer.load().await.expect("loads").snapshot.next_asset_event, 6);
}

pub(crate) async fn a_key_is_good_for_one_event(bed: &Bed) {
    let key = |request: &str| AssetKey { key_hash: "k".to_owned(), request_hash: request.to_owned() };
    let mut batch = bed.batch().await;
    batch.assets.push(AssetWrite { key: Some(key("one")), ..happened(&event(1, "a"), &[]) });
    commit(bed, &batch).await;
    let found = bed.store.reader.asset_event_by_key("k").await.expect("reads");
    assert_eq!(found, Some((event(1, "a"), "one".to_owned())));
    let mut batch = bed.batch().await;
    batch.assets.push(AssetWrite { key: Some(key("two")), ..happened(&event(2, "a"), &[]) });
    bed.store.writer.commit(&batch).await.expect_err("the key is taken");
    let mut batch = bed.batch().await;
    batch.expire_before = Some(at(2));
    commit(bed, &batch).await;
    assert_eq!(bed.store.reader.asset_event_by_key("k").await.expect("reads"), None);
    let left = bed.store.reader.asset_events(&AssetEventQuery::default()).await.expect("reads");
    assert_eq!(left.items.len(), 1);
}

fn version(batch: &mut Batch, source: &str) {
    let loaded = definition::load(source.as_bytes(), "x.toml");
    let definition = Arc::new(loaded.dag.unwrap_or_else(|| panic!("{:?}", loaded.problems)));
    let hash = definition::version_hash(&definition);
    let dag_id = definition.id.clone();
    if batch.dags.iter().all(|row| row.dag_id != dag_id) {
        add_dag(batch, dag_id.as_str());
    }
    if let Some(row) = batch.dags.iter_mut().find(|row| row.dag_id == dag_id) {
        row.version = hash.clone();
    }
    let (source, path, created_at) = (source.to_owned(), "x.toml".to_owned(), t0());
    batch.versions.push(VersionRow { dag_id, hash, definition, source, path, created_at });
}

pub(crate) async fn assets_are_listed_by_who_names_them(bed: &Bed) {
    let task = |outlets: &str| format!("[[task]]\nid = \"t\"\ncommand = \"true\"\n{outlets}\n");
    let mut batch = bed.batch().await;
    version(&mut batch, &format!("[dag]\nid = \"p\"\n{}", task("outlets = [\"raw\", \"Wh_x\"]")));
    version(
        &mut batch,
        &format!("[dag]\nid = \"c\"\nschedule = {{ assets = [\"raw\", \"z\"] }}\n{}", task("")),
    );
    batch.assets.push(happened(&event(1, "raw"), &["c"]));
    commit(bed, &batch).await;
    let list = async |query: AssetQuery| {
        let page = bed.store.reader.assets(&query).await.expect("reads");
        let items = page.items.iter().map(|asset| {
            let producers: Vec<_> = asset.producers.iter().map(|p| p.dag_id.as_str()).collect();
            let consumers: Vec<_> = asset.consumers.iter().map(|c| c.as_str()).collect();
            let last = asset.last_event.as_ref().map_or(0, |event| event.id.0);
            format!("{} {producers:?} {consumers:?} {last}", asset.name)
        });
        (items.collect::<Vec<_>>(), page.next_cursor)
    };
    let all = [r#"Wh_x ["p"] [] 0"#, r#"raw ["p"] ["c"] 1"#, r#"z [] ["c"] 0"#];
    assert_eq!(list(AssetQuery::default()).await.0, all);
    let page = PageRequest { cursor: None, limit: 2 };
    let (first, cursor) = list(AssetQuery { page, ..AssetQuery::default() }).await;
    assert_eq!(first, all[..2]);
    let page = PageRequest { cursor, limit: 2 };
    assert_eq!(list(AssetQuery { page, ..AssetQuery::default() }).await, (vec![all[2].to_owned()], None));
    let text = Some("wH_".to_owned());
    assert_eq!(list(AssetQuery { text, ..AssetQuery::default() }).await.0, all[..1]);
    assert_eq!(list(AssetQuery { name: Some(name("z")), ..AssetQuery::default() }).await.0, all[2..]);
    // Another version of the consumer lets go of one; the former version is still stored.
    let mut batch = bed.batch().await;
    version(&mut batch, &format!("[dag]\nid = \"c\"\nschedule = {{ assets = [\"raw\"] }}\n{}", task("")));
    commit(bed, &batch).await;
    assert_eq!(list(AssetQuery::default()).await.0, all[..2]);
}
