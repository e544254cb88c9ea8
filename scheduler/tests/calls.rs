//! What people ask for, and how it is refused.

use serde_json::json;
use tidemill_engine::{
    event::ClearSelection,
    ids::{PoolName, RunId},
    rows::PoolRow,
    state::{RunState, TaskState},
};
use tidemill_scheduler::{AdminWrite, ClearRequest, IdempotencyKey, MarkRequest};
use tidemill_store::access::{LoginLink, Role, Session};
use tidemill_store::batch::AuditEntry;

use crate::world::{
    CHAIN, HandWorker, STRICT, World, at, dag_id, report, success, task_id, trigger, trigger_of, wait_for,
    wait_for_run,
};

const PARAMS: &str = r#"
[params.rows]
type = "integer"
default = 5
minimum = 1

[[task]]
id = "only"
operator = "noop"
"#;

/// One command, for a worker to run.
const ONE: &str = "[[task]]\nid = \"only\"\ncommand = \"x\"\n";

fn entry(action: &str) -> AuditEntry {
    AuditEntry {
        at: at("2026-11-05T12:00:00Z"),
        actor: "ada".into(),
        action: action.into(),
        subject: "dag/chain".into(),
        detail: json!({}),
    }
}

async fn a_trigger_is_checked_before_anything_happens(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "typed", PARAMS).await;
    let code = |conf: serde_json::Value, run_id: Option<&str>, dag: &str| {
        let mut request = trigger_of(dag);
        request.conf = conf.as_object().cloned().unwrap();
        request.run_id = run_id.map(|id| RunId::new(id).unwrap());
        let handle = handle.clone();
        async move {
            let audit = AdminWrite::audit(entry("dag.trigger"));
            handle.trigger(request, audit).await.map(|done| done.run.run_id.to_string()).map_err(|e| e.code())
        }
    };
    assert_eq!(code(json!({"rows": 0}), None, "typed").await, Err("SCH0214"));
    assert_eq!(code(json!({"row": 1}), None, "typed").await, Err("SCH0214"));
    assert_eq!(code(json!({}), Some("scheduled__x"), "typed").await, Err("SCH0213"));
    assert_eq!(code(json!({}), None, "nobody").await, Err("SCH0201"));
    assert_eq!(code(json!({"rows": 7}), Some("mine"), "typed").await, Ok("mine".to_owned()));
    assert_eq!(code(json!({}), Some("mine"), "typed").await, Err("SCH0205"));
    let made = code(json!({}), None, "typed").await.unwrap();
    assert!(made.starts_with("manual__2026-11-05T12:00:00Z__"), "{made}");
    // What was refused left no entry; what was done left one each.
    let audit = world.reader.audit(&tidemill_store::reader::AuditQuery::default()).await.unwrap();
    assert_eq!(audit.items.len(), 2);
    scheduler.stop().await;
}

async fn an_idempotency_key_makes_one_run(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "typed", PARAMS).await;
    let request = |body: &str| {
        let mut request = trigger_of("typed");
        request.idempotency = Some(IdempotencyKey { key_hash: "k".into(), request_hash: body.into() });
        handle.trigger(request, AdminWrite::default())
    };
    let (one, two) = tokio::join!(request("body"), request("body"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.run.key, two.run.key);
    assert_eq!([one.is_repeated, two.is_repeated], [false, true]);
    assert_eq!(request("other").await.unwrap_err().code(), "SCH0215");
    scheduler.stop().await;
}

async fn clear_and_mark_work_on_finished_runs_and_say_first_what_they_would_do(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", STRICT).await;
    let mut changes = handle.subscribe();
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    let mut failed = report(&first.attempt, tidemill_engine::state::TryOutcome::Failed, 1);
    failed.is_final = true;
    worker.exchange(vec![failed]).await;
    wait_for_run(&mut changes, run.key, RunState::Failed).await;
    assert_eq!(world.tasks(run.key).await["second"].state, TaskState::UpstreamFailed);

    let clear = |is_dry_run| ClearRequest {
        is_dry_run,
        ..ClearRequest::new(run.key, ClearSelection { only_failed: true, ..ClearSelection::default() })
    };
    let would = handle.clear(clear(true), AdminWrite::default()).await.unwrap();
    assert_eq!(would.len(), 2);
    assert_eq!(world.run(run.key).await.state, RunState::Failed, "a dry run changes nothing");
    assert_eq!(handle.clear(clear(false), AdminWrite::default()).await.unwrap(), would);
    let again = worker.next().await.remove(0);
    assert_eq!((again.attempt.try_number, again.attempt.epoch), (2, 2), "the fence grows across clears");
    let refused = MarkRequest {
        run: run.key,
        tasks: vec![task_id("nothing")],
        map_index: None,
        state: TaskState::Success,
        is_dry_run: false,
    };
    assert_eq!(handle.mark_task(refused, AdminWrite::default()).await.unwrap_err().code(), "SCH0204");
    let answer = worker.exchange(vec![success(&again.attempt)]).await;
    // Its command names an output that the first task did not write.
    assert_eq!(answer.assignments, []);
    wait_for_run(&mut changes, run.key, RunState::Failed).await;
    let reason = world.tasks(run.key).await["second"].reason.clone().unwrap();
    assert!(reason.starts_with("SCH07"), "{reason}");

    let mark = MarkRequest {
        run: run.key,
        tasks: vec![task_id("second")],
        map_index: None,
        state: TaskState::Success,
        is_dry_run: false,
    };
    assert_eq!(handle.mark_task(mark, AdminWrite::default()).await.unwrap().len(), 1);
    assert_eq!(world.run(run.key).await.state, RunState::Success);
    let marked = handle.mark_run(run.key, RunState::Failed, AdminWrite::default()).await;
    assert!(marked.is_ok(), "{marked:?}");
    assert_eq!(world.run(run.key).await.state, RunState::Failed);
    let running = handle.mark_run(run.key, RunState::Running, AdminWrite::default()).await;
    assert_eq!(running.unwrap_err().code(), "SCH0212");
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn clear_reaches_the_runs_before_and_after(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "one", ONE).await;
    let mut worker = HandWorker::new(&handle, "w");
    let mut runs = Vec::new();
    for day in 1..=5 {
        let mut changes = handle.subscribe();
        let mut request = trigger_of("one");
        request.logical_date = Some(at(&format!("2026-10-0{day}T00:00:00Z")));
        let run = handle.trigger(request, AdminWrite::default()).await.unwrap().run;
        let only = worker.next().await.remove(0);
        worker.exchange(vec![success(&only.attempt)]).await;
        wait_for_run(&mut changes, run.key, RunState::Success).await;
        runs.push(run.key);
    }
    let clear = |past, future, is_dry_run| {
        let request =
            ClearRequest::new(runs[2], ClearSelection { tasks: vec![task_id("only")], ..Default::default() });
        handle.clear(ClearRequest { past, future, is_dry_run, ..request }, AdminWrite::default())
    };
    for (past, future, expected) in
        [(false, false, vec![2]), (true, false, vec![2, 0, 1]), (false, true, vec![2, 3, 4])]
    {
        let would = clear(past, future, true).await.unwrap();
        let keys: Vec<_> = expected.iter().map(|index: &usize| runs[*index]).collect();
        assert_eq!(would.iter().map(|change| change.run).collect::<Vec<_>>(), keys);
    }
    for run in &runs {
        assert_eq!(world.run(*run).await.state, RunState::Success, "a dry run changes nothing");
    }

    // One of them is being cancelled: nothing is cleared at all.
    handle.clear(ClearRequest::new(runs[4], ClearSelection::default()), AdminWrite::default()).await.unwrap();
    let last = worker.next().await.remove(0);
    handle.cancel(runs[4], AdminWrite::default()).await.unwrap();
    assert_eq!(clear(true, true, false).await.unwrap_err().code(), "SCH0216");
    assert_eq!(world.run(runs[0]).await.state, RunState::Success);
    let mut changes = handle.subscribe();
    worker.exchange(vec![report(&last.attempt, tidemill_engine::state::TryOutcome::Stopped, 0)]).await;
    wait_for_run(&mut changes, runs[4], RunState::Cancelled).await;

    assert_eq!(clear(true, true, false).await.unwrap().len(), 5);
    for run in &runs {
        assert!(!world.run(*run).await.state.is_terminal(), "every run goes on");
    }
    scheduler.stop().await;
}

async fn pools_and_pauses_are_written_with_their_audit(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let pool = PoolRow { name: PoolName::new("gpu").unwrap(), slots: 2, description: String::new() };
    handle.set_pool(pool.clone(), AdminWrite::audit(entry("pool.set"))).await.unwrap();
    assert!(world.reader.pools().await.unwrap().iter().any(|row| row.name == pool.name && row.slots == 2));
    handle.delete_pool(pool.name.clone(), AdminWrite::default()).await.unwrap();
    let delete = |name: &str| handle.delete_pool(PoolName::new(name).unwrap(), AdminWrite::default());
    assert_eq!(delete("gpu").await.unwrap_err().code(), "SCH0211");
    assert_eq!(delete("default_pool").await.unwrap_err().code(), "SCH0210");
    handle.pause(dag_id("chain"), true, AdminWrite::audit(entry("dag.pause"))).await.unwrap();
    assert!(world.reader.dag(&dag_id("chain")).await.unwrap().unwrap().dag.is_paused);
    let missing = handle.pause(dag_id("nobody"), true, AdminWrite::audit(entry("dag.pause"))).await;
    assert_eq!(missing.unwrap_err().code(), "SCH0201");
    let check = world.reader.check_audit().await.unwrap();
    assert_eq!((check.entries, check.broken_at), (2, None));
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn a_dag_is_deleted_only_when_its_file_is_gone_and_nothing_runs(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "chain", CHAIN).await;
    let run = trigger(&handle, "chain").await;
    let mut worker = HandWorker::new(&handle, "w");
    let first = worker.next().await.remove(0);
    handle.append_log(first.attempt.clone(), &first.token, 0, b"log".to_vec()).await.unwrap();
    let delete = || handle.delete_dag(dag_id("chain"), AdminWrite::default());
    assert_eq!(delete().await.unwrap_err().code(), "SCH0208");
    let mut changes = handle.subscribe();
    std::fs::remove_file(world.dags_dir().join("chain.toml")).unwrap();
    let is_dag =
        |change: &tidemill_scheduler::Change| matches!(change, tidemill_scheduler::Change::Dag { .. });
    wait_for(&mut changes, "the disappearance", is_dag).await;
    assert!(world.reader.dag(&dag_id("chain")).await.unwrap().unwrap().dag.is_missing);
    assert_eq!(delete().await.unwrap_err().code(), "SCH0207");
    let trigger = handle.trigger(trigger_of("chain"), AdminWrite::default()).await;
    assert_eq!(trigger.unwrap_err().code(), "SCH0202");
    // Its run goes on with the version that it is pinned to.
    let mut result = success(&first.attempt);
    result.outputs.insert("path".into(), json!("x"));
    let answer = worker.exchange(vec![result]).await;
    worker.exchange(vec![success(&answer.assignments[0].attempt)]).await;
    wait_for_run(&mut changes, run.key, RunState::Success).await;
    delete().await.unwrap();
    assert_eq!(delete().await.unwrap_err().code(), "SCH0201");
    assert!(world.reader.dag(&dag_id("chain")).await.unwrap().is_none());
    assert!(handle.dag(&dag_id("chain")).is_none());
    scheduler.stop().await;
}

async fn a_login_link_opens_one_session(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    let now = at("2026-11-05T12:00:00Z");
    let later = now + chrono::TimeDelta::hours(1);
    let link = LoginLink {
        hash: "link".into(),
        actor: "ada".into(),
        role: Role::Admin,
        created_at: now,
        expires_at: later,
        used_at: None,
    };
    let change = tidemill_store::access::AccessChange::LoginLink(link);
    handle.write(AdminWrite::access(change)).await.unwrap();
    let session = |hash: &str| Session {
        hash: hash.into(),
        actor: "ada".into(),
        role: Role::Admin,
        created_at: now,
        expires_at: later,
    };
    assert!(handle.redeem_login_link("link".into(), session("s1")).await.unwrap());
    assert!(!handle.redeem_login_link("link".into(), session("s2")).await.unwrap());
    assert!(world.reader.session("s1").await.unwrap().is_some());
    assert!(world.reader.session("s2").await.unwrap().is_none());
    scheduler.stop().await;
}

over_both_stores!(
    a_trigger_is_checked_before_anything_happens,
    an_idempotency_key_makes_one_run,
    clear_and_mark_work_on_finished_runs_and_say_first_what_they_would_do,
    clear_reaches_the_runs_before_and_after,
    pools_and_pauses_are_written_with_their_audit,
    a_dag_is_deleted_only_when_its_file_is_gone_and_nothing_runs,
    a_login_link_opens_one_session,
);
