//! Backfills through the handle: what is refused, what a dry run says, and a leader that is replaced in the middle.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::json;
use tidemill_engine::{
    backfill::{BackfillChange, BackfillSpec, BackfillState, DateOutcome, Reprocess},
    ids::BackfillKey,
    state::{RunState, RunType, TryOutcome},
};
use tidemill_scheduler::{
    AdminWrite, BackfillRequest, CallError, Change, CreatedBackfill, Handle, IdempotencyKey,
};
use tidemill_store::{
    batch::AuditEntry,
    reader::{AuditQuery, PageRequest, RunQuery},
};

use crate::world::{HandWorker, World, at, dag_id, report, wait_for};

const HOURLY: &str = r#"schedule = { every = "1h" }

[params.rows]
type = "integer"
default = 5

[[task]]
id = "only"
operator = "noop"
"#;

const WORK: &str = r#"schedule = { every = "1h" }

[[task]]
id = "only"
command = "x"
"#;

/// The clock stands at 2026-11-05T12:00:00Z.
fn hours(back: i64, count: i64) -> BackfillSpec {
    let from = at("2026-11-05T12:00:00Z") - TimeDelta::hours(back);
    BackfillSpec {
        from,
        to: from + TimeDelta::hours(count - 1),
        reprocess: Reprocess::None,
        max_active_runs: 10,
        run_backwards: false,
        conf: Arc::default(),
    }
}

async fn create(handle: &Handle, dag: &str, spec: BackfillSpec) -> Result<CreatedBackfill, CallError> {
    let request =
        BackfillRequest { dag_id: dag_id(dag), spec, created_by: Some("ada".into()), idempotency: None };
    let entry = AuditEntry {
        at: at("2026-11-05T12:00:00Z"),
        actor: "ada".into(),
        action: "backfill.create".into(),
        subject: format!("dag/{dag}"),
        detail: json!({}),
    };
    handle.create_backfill(request, AdminWrite::audit(entry)).await
}

/// Waits until a backfill is in a state.
async fn wait_until(
    world: &World,
    changes: &mut tokio::sync::broadcast::Receiver<Change>,
    key: BackfillKey,
    wanted: BackfillState,
) {
    loop {
        let item = world.reader.backfill(key).await.unwrap().unwrap();
        if item.row.state == wanted {
            return;
        }
        let is_own =
            |change: &Change| matches!(change, Change::Backfill { backfill, .. } if *backfill == key);
        wait_for(changes, "a change of a backfill", is_own).await;
    }
}

async fn what_cannot_be_filled_is_refused(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "hourly", HOURLY).await;
    world.define(&handle, "work", WORK).await;
    world.define(&handle, "never", "[[task]]\nid = \"only\"\noperator = \"noop\"\n").await;
    let past = WORK.replace("command", "depends_on_past = true\ncommand");
    world.define(&handle, "past", &past).await;
    let code = async |dag: &str, spec: BackfillSpec| {
        let preview = handle.preview_backfill(&dag_id(dag), &spec, None, 10).await.map_err(|e| e.code());
        let created = create(&handle, dag, spec).await.map_err(|e| e.code());
        assert_eq!(preview.as_ref().err(), created.as_ref().err(), "a dry run refuses the same");
        created.err()
    };
    let conf = |value: serde_json::Value| Arc::new(value.as_object().cloned().unwrap());
    assert_eq!(code("nobody", hours(5, 3)).await, Some("SCH0201"));
    assert_eq!(code("never", hours(5, 3)).await, Some("SCH0221"));
    assert_eq!(code("hourly", hours(-5, 3)).await, Some("SCH0221"), "in the future");
    assert_eq!(code("hourly", hours(200_000, 150_000)).await, Some("SCH0222"));
    assert_eq!(code("hourly", hours(5, -1)).await, Some("SCH0227"));
    assert_eq!(code("hourly", BackfillSpec { max_active_runs: 0, ..hours(5, 3) }).await, Some("SCH0227"));
    let backwards = BackfillSpec { run_backwards: true, ..hours(5, 3) };
    assert_eq!(code("past", backwards).await, Some("SCH0224"));
    let wrong = BackfillSpec { conf: conf(json!({"rows": "many"})), ..hours(5, 3) };
    assert_eq!(code("hourly", wrong).await, Some("SCH0214"));
    let made = create(&handle, "work", hours(5, 3)).await.unwrap();
    assert_eq!(code("work", hours(4, 1)).await, Some("SCH0223"));
    let change = async |key: BackfillKey, change: BackfillChange| {
        handle.change_backfill(key, change, false, AdminWrite::default()).await.map_err(|e| e.code())
    };
    assert_eq!(change(BackfillKey(9999), BackfillChange::Pause).await, Err("SCH0220"));
    let (row, runs) = change(made.row.key, BackfillChange::Cancel).await.unwrap();
    // Nothing was assigned, so its runs end at once.
    assert_eq!((row.cancel_requested_at.is_some(), runs.len()), (true, 3));
    assert_eq!(change(made.row.key, BackfillChange::Resume).await, Err("SCH0225"));
    let audit = world.reader.audit(&AuditQuery::default()).await.unwrap();
    assert_eq!(audit.items.len(), 1, "what was refused left no entry");
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn an_idempotency_key_makes_one_backfill(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "work", WORK).await;
    let request = |body: &str| {
        let idempotency = Some(IdempotencyKey { key_hash: "k".into(), request_hash: body.into() });
        let request =
            BackfillRequest { dag_id: dag_id("work"), spec: hours(5, 3), created_by: None, idempotency };
        handle.create_backfill(request, AdminWrite::default())
    };
    let one = request("body").await.unwrap();
    let two = request("body").await.unwrap();
    assert_eq!((one.is_repeated, two.is_repeated, one.row.key), (false, true, two.row.key));
    assert_eq!(request("other").await.unwrap_err().code(), "SCH0215");
    scheduler.stop().await;
}

/// Every date gets exactly one run, although the leader is replaced again and again.
async fn a_backfill_goes_on_under_another_leader(world: World) {
    let mut scheduler = world.start().await;
    let mut handle = scheduler.handle();
    world.define(&handle, "hourly", HOURLY).await;
    let spec =
        BackfillSpec { conf: Arc::new(json!({"rows": 7}).as_object().cloned().unwrap()), ..hours(400, 250) };
    let preview = handle.preview_backfill(&dag_id("hourly"), &spec, None, 100).await.unwrap();
    assert_eq!((preview.dates.count, preview.items.len()), (250, 100));
    assert!(preview.items.iter().all(|(_, plan)| plan.outcome() == DateOutcome::Created));
    let next = handle.preview_backfill(&dag_id("hourly"), &spec, preview.next, 500).await.unwrap();
    assert_eq!((next.items.len(), next.next), (150, None));
    let key = create(&handle, "hourly", spec).await.unwrap().row.key;
    for _ in 0..3 {
        scheduler.stop().await;
        scheduler = world.start().await;
        handle = scheduler.handle();
        world.check_rebuild(&handle).await;
    }
    let mut changes = handle.subscribe();
    wait_until(&world, &mut changes, key, BackfillState::Finished).await;
    let item = world.reader.backfill(key).await.unwrap().unwrap();
    assert_eq!((item.row.created, item.runs.success, item.row.dates_left()), (250, 250, 0));
    let mut dates = std::collections::BTreeSet::new();
    let mut page = PageRequest { cursor: None, limit: 500 };
    loop {
        let found = world.reader.runs(&RunQuery { page: page.clone(), ..RunQuery::default() }).await.unwrap();
        for run in found.items {
            assert_eq!((run.run_type, run.conf["rows"].as_i64()), (RunType::Backfill, Some(7)));
            assert!(dates.insert(run.logical_date), "{} has two runs", run.logical_date);
        }
        match found.next_cursor {
            Some(cursor) => page.cursor = Some(cursor),
            None => break,
        }
    }
    assert_eq!(dates.len(), 250);
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn failed_dates_are_run_again_and_say_what_was_passed_over(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "work", WORK).await;
    let mut changes = handle.subscribe();
    let key = create(&handle, "work", hours(5, 3)).await.unwrap().row.key;
    let mut worker = HandWorker::new(&handle, "w");
    let mut results = Vec::new();
    while results.len() < 3 {
        for assignment in worker.next().await {
            let outcome = if results.is_empty() { TryOutcome::Failed } else { TryOutcome::Success };
            results.push(report(&assignment.attempt, outcome, i32::from(results.is_empty())));
        }
    }
    worker.exchange(results).await;
    wait_until(&world, &mut changes, key, BackfillState::Finished).await;
    let spec = BackfillSpec { reprocess: Reprocess::Failed, ..hours(5, 4) };
    let preview = handle.preview_backfill(&dag_id("work"), &spec, None, 10).await.unwrap();
    let planned: Vec<DateOutcome> = preview.items.iter().map(|(_, plan)| plan.outcome()).collect();
    let again = create(&handle, "work", spec).await.unwrap().row.key;
    let mut results = Vec::new();
    while results.len() < 2 {
        results.extend(worker.next().await.iter().map(|a| report(&a.attempt, TryOutcome::Success, 0)));
    }
    assert_eq!(results[0].attempt.try_number, 2, "the record of the first try stays");
    worker.exchange(results).await;
    wait_until(&world, &mut changes, again, BackfillState::Finished).await;
    let dates = world.reader.backfill_dates(again, &PageRequest::default()).await.unwrap().items;
    let outcomes: Vec<DateOutcome> = dates.iter().map(|item| item.date.outcome).collect();
    assert_eq!(outcomes, planned, "the dry run said the same");
    use DateOutcome::{Created, PassedOver, Reprocessed};
    assert_eq!(outcomes, [Reprocessed, PassedOver, PassedOver, Created]);
    assert_eq!(dates[0].run.as_ref().map(|run| run.state), Some(RunState::Success));
    assert_eq!(dates[1].date.reason.as_deref(), Some("backfill__2026-11-05T08:00:00Z has ended as success"));
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

over_both_stores!(
    what_cannot_be_filled_is_refused,
    an_idempotency_key_makes_one_backfill,
    a_backfill_goes_on_under_another_leader,
    failed_dates_are_run_again_and_say_what_was_passed_over,
);
