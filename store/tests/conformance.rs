//! What a commit promises, over every implementation.

use std::sync::Arc;

use serde_json::json;
use tidemill_engine::{
    action::{MapChange, Notify, RunChange, TaskChange},
    definition::Notification,
    ids::{AttemptKey, RunId, RunKey, WorkerId},
    mapping::MapValues,
    rows::{MapRow, TaskRow},
    state::{RunState, RunType, TaskState, TryOutcome},
};
use tidemill_protocol::worker::Report;
use tidemill_store::{
    Batch, BatchId, Coalescer, CommitError,
    access::{AccessChange, ApiToken, IdempotencyRow, JoinToken, LoginLink, Role, Session, WorkerKey},
    batch::{AuditEntry, ImportError, ImportErrorChange, OutboxChange, OutputsWrite, ReportWrite},
    error::RowRef,
    reader::AuditQuery,
};

use crate::{
    rows::{attempt, change, fence, instance, new_run, new_task, run_row, task_row, try_write},
    support::{Bed, add_dag, at, dag_id, t0},
};

/// Stores run 1 with task instance `a` in a state.
async fn with_task(bed: &Bed, state: TaskState) {
    let mut batch = bed.batch().await;
    batch.runs.push(new_run(1, RunState::Running));
    batch.tasks.push(new_task(1, "a", state));
    bed.store.writer.commit(&batch).await.expect("stored");
}

pub(crate) async fn guards_refuse_a_stale_fence(bed: &Bed) {
    with_task(bed, TaskState::Queued).await;
    let stored = task_row(1, "a", TaskState::Queued);
    let mut stale = [fence(&stored); 3];
    stale[0].state = TaskState::Running;
    stale[1].try_number = 2;
    stale[2].epoch = 7;
    for from in stale {
        let mut batch = bed.batch().await;
        batch.tasks.push(change(from, task_row(1, "a", TaskState::Success)));
        let error = bed.store.writer.commit(&batch).await.expect_err("a stale fence");
        assert_eq!(error.code(), "STO0202");
        assert!(
            matches!(error, CommitError::GuardMismatch { what: RowRef::Task(key) } if key == instance(1, "a"))
        );
    }
    let mut batch = bed.batch().await;
    batch.runs.push(RunChange { from: Some(RunState::Queued), row: run_row(1, RunState::Success) });
    let error = bed.store.writer.commit(&batch).await.expect_err("a stale state");
    assert!(matches!(error, CommitError::GuardMismatch { what: RowRef::Run(RunKey(1)) }), "{error}");
    let mut batch = bed.batch().await;
    batch.tasks.push(new_task(1, "a", TaskState::Scheduled));
    let error = bed.store.writer.commit(&batch).await.expect_err("it is there already");
    assert!(matches!(error, CommitError::GuardMismatch { .. }), "{error}");
    let mut batch = bed.batch().await;
    batch.tasks.push(change(fence(&stored), task_row(1, "a", TaskState::Success)));
    bed.store.writer.commit(&batch).await.expect("the right fence");
}

pub(crate) async fn a_refused_batch_leaves_nothing(bed: &Bed) {
    with_task(bed, TaskState::Scheduled).await;
    let before = bed.store.writer.load().await.expect("loads");
    let mut batch = bed.batch().await;
    add_dag(&mut batch, "other");
    batch.runs.push(new_run(2, RunState::Queued));
    batch.tasks.push(new_task(2, "a", TaskState::Scheduled));
    batch.tries.push(try_write(attempt(1, "b", 1), true, None));
    batch.settings.push(("secret".to_owned(), "x".to_owned()));
    batch
        .tasks
        .push(change(fence(&task_row(1, "a", TaskState::Running)), task_row(1, "a", TaskState::Failed)));
    let error = bed.store.writer.commit(&batch).await.expect_err("the last change is stale");
    assert!(
        matches!(&error, CommitError::GuardMismatch { what: RowRef::Task(key) } if *key == instance(1, "a"))
    );
    assert_eq!(bed.store.writer.load().await.expect("loads"), before);
    assert_eq!(bed.store.reader.setting("secret").await.expect("reads"), None);
}

/// Two writers of the same leader race for every instance; each instance is won once.
pub(crate) async fn two_writers_never_both_win(bed: &Bed) {
    const ROUNDS: u32 = 24;
    with_task(bed, TaskState::Queued).await;
    for round in 1..=ROUNDS {
        let (first, second) = (bed.batch().await, bed.batch().await);
        let mut from = fence(&task_row(1, "a", TaskState::Queued));
        from.epoch = round;
        let claim = |mut batch: Batch| {
            let mut row = task_row(1, "a", TaskState::Queued);
            row.epoch = round + 1;
            batch.tasks.push(change(from, row));
            batch
        };
        let (first, second) = (claim(first), claim(second));
        let (a, b) = tokio::join!(bed.store.writer.commit(&first), bed.store.writer.commit(&second));
        assert!(a.is_ok() != b.is_ok(), "round {round}: {a:?} {b:?}");
        let lost = a.err().or(b.err()).expect("one lost");
        assert_eq!(lost.code(), "STO0202", "{lost}");
    }
    let row = bed.store.reader.task(&instance(1, "a")).await.expect("reads").expect("is there");
    assert_eq!(row.epoch, ROUNDS + 1);
}

pub(crate) async fn a_stale_term_writes_nothing(bed: &Bed) {
    let mut old = bed.batch().await;
    bed.store.writer.release(1).await.expect("released");
    old.settings.push(("a".to_owned(), "b".to_owned()));
    let error = bed.store.writer.commit(&old).await.expect_err("nobody leads");
    assert_eq!(error.code(), "STO0201");
    let next = bed.store.writer.take_leadership("next", "http://next").await.expect("leadership");
    assert_eq!((next.term, next.was_abandoned), (2, false));
    let error = bed.store.writer.commit(&old).await.expect_err("another leads");
    assert!(matches!(error, CommitError::TermLost { term: 1 }));
    assert!(matches!(bed.store.writer.renew(1).await, Err(CommitError::TermLost { term: 1 })));
    assert!(matches!(bed.store.writer.was_committed(1, old.id).await, Err(CommitError::TermLost { .. })));
    assert_eq!(bed.store.reader.setting("a").await.expect("reads"), None);
}

pub(crate) async fn a_batch_is_written_once(bed: &Bed) {
    with_task(bed, TaskState::Scheduled).await;
    let mut batch = bed.batch().await;
    let (queued, mut next) = (task_row(1, "a", TaskState::Queued), task_row(1, "a", TaskState::Running));
    next.started_at = Some(at(4));
    batch.tasks.push(change(fence(&task_row(1, "a", TaskState::Scheduled)), queued.clone()));
    assert!(!bed.store.writer.was_committed(1, batch.id).await.expect("answers"));
    bed.store.writer.commit(&batch).await.expect("committed");
    assert!(bed.store.writer.was_committed(1, batch.id).await.expect("answers"));
    bed.store.writer.commit(&batch).await.expect("the same batch again is a success");
    let mut batch = bed.batch().await;
    batch.tasks.push(change(fence(&queued), next.clone()));
    bed.store.writer.commit(&batch).await.expect("committed");
    assert_eq!(bed.store.reader.task(&next.key).await.expect("reads"), Some(next));
}

pub(crate) async fn coalesced_changes_arrive(bed: &Bed) {
    let mut batch = bed.batch().await;
    let mut merge = Coalescer::default();
    merge.push_run(&mut batch, new_run(1, RunState::Queued));
    let running = run_row(1, RunState::Running);
    merge.push_run(&mut batch, RunChange { from: Some(RunState::Queued), row: running });
    merge.push_task(&mut batch, new_task(1, "a", TaskState::Scheduled));
    let scheduled = fence(&task_row(1, "a", TaskState::Scheduled));
    merge.push_task(&mut batch, change(scheduled, task_row(1, "a", TaskState::Success)));
    assert_eq!((batch.runs.len(), batch.tasks.len()), (1, 1), "both are merged");
    bed.store.writer.commit(&batch).await.expect("committed");
    // A finished run that is cleared and starts within one batch: two steps, of which each is legal.
    let mut batch = bed.batch().await;
    let mut merge = Coalescer::default();
    for (from, to) in [
        (RunState::Running, RunState::Success),
        (RunState::Success, RunState::Queued),
        (RunState::Queued, RunState::Running),
    ] {
        merge.push_run(&mut batch, RunChange { from: Some(from), row: run_row(1, to) });
    }
    assert_eq!(batch.runs.len(), 3);
    // A clear deletes and inserts within one batch: one change that passes through no_status.
    let success = task_row(1, "a", TaskState::Success);
    let mut gone = task_row(1, "a", TaskState::NoStatus);
    gone.worker = None;
    let cleared = TaskChange { is_clear: true, ..change(fence(&success), gone.clone()) };
    merge.push_task(&mut batch, cleared);
    let mut again = task_row(1, "a", TaskState::Queued);
    again.try_number = 2;
    again.epoch = 2;
    merge.push_task(&mut batch, change(fence(&gone), again.clone()));
    assert_eq!(batch.tasks.len(), 1);
    assert!(batch.tasks[0].is_clear);
    bed.store.writer.commit(&batch).await.expect("committed");
    assert_eq!(bed.store.reader.task(&again.key).await.expect("reads"), Some(again));
    let run = bed.store.reader.run_by_key(RunKey(1)).await.expect("reads").expect("is there");
    assert_eq!(run, run_row(1, RunState::Running));
}

pub(crate) async fn tries_end_once(bed: &Bed) {
    with_task(bed, TaskState::Queued).await;
    let commit = async |writes: Vec<_>| {
        let mut batch = bed.batch().await;
        batch.tries = writes;
        bed.store.writer.commit(&batch).await
    };
    let first = attempt(1, "a", 1);
    commit(vec![try_write(first.clone(), true, None)]).await.expect("begins");
    let error = commit(vec![try_write(attempt(1, "a", 2), true, None)]).await.expect_err("two live tries");
    assert_eq!(error.code(), "STO0203", "{error}");
    commit(vec![
        try_write(attempt(1, "a", 2), true, None),
        try_write(first.clone(), false, Some(TryOutcome::Lost)),
    ])
    .await
    .expect("the end of one and the beginning of the next, in any order");
    let error = commit(vec![try_write(first.clone(), false, Some(TryOutcome::Success))]).await;
    let error = error.expect_err("it has ended");
    assert!(matches!(&error, CommitError::GuardMismatch { what: RowRef::Try(a) } if *a == first), "{error}");
    let tries = bed.store.reader.tries(&first.instance).await.expect("reads");
    assert_eq!(tries.iter().map(|t| t.outcome).collect::<Vec<_>>(), [Some(TryOutcome::Lost), None]);
    assert_eq!(bed.store.reader.token_hash(&first).await.expect("reads"), Some("hash".to_owned()));
    let rendered = bed.store.reader.rendered(&first).await.expect("reads").expect("is there");
    assert_eq!(rendered["script"], "true");
    let loaded = bed.store.writer.load().await.expect("loads").snapshot;
    assert_eq!(loaded.open_tries.len(), 1);
    assert_eq!(loaded.runs[0].fences, [attempt(1, "a", 2)]);
}

pub(crate) async fn pokes_go_on_with_one_try(bed: &Bed) {
    with_task(bed, TaskState::Queued).await;
    let commit = async |writes: Vec<_>, tasks: Vec<_>| {
        let mut batch = bed.batch().await;
        (batch.tries, batch.tasks) = (writes, tasks);
        bed.store.writer.commit(&batch).await
    };
    let poke = |epoch| AttemptKey { epoch, ..attempt(1, "a", 1) };
    let next = |epoch: u32, outcome| {
        let mut write = try_write(poke(epoch), false, outcome);
        write.change.from_epoch = Some(epoch - 1);
        write.token_hash = Some(format!("hash {epoch}"));
        write
    };
    commit(vec![try_write(poke(1), true, None)], Vec::new()).await.expect("the first poke");
    let waiting = TaskRow {
        pokes: 1,
        first_poke_at: Some(at(3)),
        reason: Some("not there yet".to_owned()),
        ..task_row(1, "a", TaskState::UpForReschedule)
    };
    let waits = change(fence(&task_row(1, "a", TaskState::Queued)), waiting.clone());
    commit(Vec::new(), vec![waits]).await.expect("it waits");
    let reader = &bed.store.reader;
    assert_eq!(reader.task(&waiting.key).await.expect("reads"), Some(waiting));
    commit(vec![next(2, None)], Vec::new()).await.expect("the second poke");
    // A third and a fourth that no commit came between, and the end.
    let end = try_write(poke(4), false, Some(TryOutcome::Success));
    commit(vec![next(3, None), next(4, None), end], Vec::new()).await.expect("the last poke");
    let tries = reader.tries(&instance(1, "a")).await.expect("reads");
    let found: Vec<_> = tries.iter().map(|row| (row.attempt.clone(), row.outcome)).collect();
    assert_eq!(found, [(poke(4), Some(TryOutcome::Success))]);
    assert_eq!(reader.token_hash(&poke(4)).await.expect("reads"), Some("hash 4".to_owned()));
    assert_eq!(reader.token_hash(&poke(2)).await.expect("reads"), None);
    let rendered = reader.rendered(&poke(4)).await.expect("reads").expect("is there");
    assert_eq!(rendered["script"], "true", "what a poke does not say stays");
    let error = commit(vec![next(5, None)], Vec::new()).await.expect_err("it has ended");
    assert!(matches!(&error, CommitError::GuardMismatch { what: RowRef::Try(_) }), "{error}");
}

pub(crate) async fn outputs_are_replaced_and_cleared(bed: &Bed) {
    with_task(bed, TaskState::Queued).await;
    let outputs = |n: u32, value: serde_json::Value| OutputsWrite {
        attempt: attempt(1, "a", n),
        values: [("k".to_owned(), value)].into(),
    };
    let key = instance(1, "a");
    for (n, value) in [(1, json!({"deep": [1, 0.5, "x\u{0}y"]})), (2, json!("second"))] {
        let mut batch = bed.batch().await;
        batch.outputs.push(outputs(n, value.clone()));
        let report = Report::Branch { chosen: vec!["b".to_owned()], because: "so".to_owned() };
        batch.reports.push(ReportWrite { attempt: attempt(1, "a", n), report });
        bed.store.writer.commit(&batch).await.expect("stored");
        assert_eq!(bed.store.reader.outputs(&key).await.expect("reads")["k"], value);
    }
    let all = bed.store.reader.run_outputs(RunKey(1), std::slice::from_ref(&key.task)).await.expect("reads");
    assert_eq!(all[&key.task]["k"], json!("second"));
    let reports = bed.store.reader.reports(&key).await.expect("reads");
    assert_eq!(reports.iter().map(|r| r.attempt.try_number).collect::<Vec<_>>(), [2, 1]);
    let of_run = bed.store.reader.run_by_key(RunKey(1)).await.expect("reads").expect("is there").logical_date;
    let earlier = of_run - chrono::TimeDelta::microseconds(1);
    let history =
        bed.store.reader.report_history(&dag_id("etl"), &key.task, earlier, 5).await.expect("reads");
    assert!(history.is_empty(), "a run that comes later is not part of a history");
    let history = bed.store.reader.report_history(&dag_id("etl"), &key.task, of_run, 5).await.expect("reads");
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].report, reports[0]);
    let mut batch = bed.batch().await;
    let mut gone = task_row(1, "a", TaskState::NoStatus);
    gone.try_number = 1;
    batch
        .tasks
        .push(TaskChange { is_clear: true, ..change(fence(&task_row(1, "a", TaskState::Queued)), gone) });
    bed.store.writer.commit(&batch).await.expect("cleared");
    assert!(bed.store.reader.outputs(&key).await.expect("reads").is_empty());
    assert_eq!(bed.store.reader.task(&key).await.expect("reads"), None);
    assert_eq!(bed.store.reader.reports(&key).await.expect("reads").len(), 2, "evidence stays");
}

pub(crate) async fn retention_deletes_what_hangs_on_a_run(bed: &Bed) {
    let mut batch = bed.batch().await;
    batch.runs.extend([
        new_run(1, RunState::Success),
        new_run(2, RunState::Running),
        new_run(3, RunState::Failed),
    ]);
    for run in 1..=3 {
        batch.tasks.push(new_task(run, "a", TaskState::Success));
        batch.tries.push(try_write(attempt(run, "a", 1), true, Some(TryOutcome::Success)));
        let values = [("k".to_owned(), json!(run))].into();
        batch.outputs.push(OutputsWrite { attempt: attempt(run, "a", 1), values });
        batch.idempotency.push(IdempotencyRow {
            key_hash: format!("key{run}"),
            request_hash: "r".to_owned(),
            run: RunKey(run),
            created_at: t0(),
        });
    }
    bed.store.writer.commit(&batch).await.expect("stored");
    let old = bed.store.reader.runs_finished_before(&dag_id("etl"), at(2), 10).await.expect("reads");
    assert_eq!(old.iter().map(|run| run.key.0).collect::<Vec<_>>(), [1]);
    let mut batch = bed.batch().await;
    batch.run_deletes = vec![RunKey(1), RunKey(2)];
    bed.store.writer.commit(&batch).await.expect("deleted");
    let reader = &bed.store.reader;
    assert_eq!(reader.run_by_key(RunKey(1)).await.expect("reads"), None);
    assert!(reader.tries(&instance(1, "a")).await.expect("reads").is_empty());
    assert!(reader.outputs(&instance(1, "a")).await.expect("reads").is_empty());
    assert_eq!(reader.idempotency("key1").await.expect("reads"), None);
    assert!(reader.run_by_key(RunKey(2)).await.expect("reads").is_some(), "an active run stays");
    assert_eq!(reader.outputs(&instance(2, "a")).await.expect("reads")["k"], json!(2));
    let mut batch = bed.batch().await;
    batch.dag_deletes.push(dag_id("etl"));
    bed.store.writer.commit(&batch).await.expect("deleted");
    assert!(reader.dag(&dag_id("etl")).await.expect("reads").is_none());
    assert!(reader.versions(&dag_id("etl")).await.expect("reads").is_empty());
    assert!(reader.idempotency("key2").await.expect("reads").is_none());
    let loaded = bed.store.writer.load().await.expect("loads").snapshot;
    assert_eq!(loaded.next_run_key, 4, "keys are never used again");
}

pub(crate) async fn the_outbox_delivers_once_by_id(bed: &Bed) {
    let message = |id: &str| Notify {
        id: id.to_owned(),
        notification: Notification { webhook: "http://hook".to_owned(), message: None },
        dag_id: dag_id("etl"),
        run_id: RunId::new("r").expect("an id"),
        task: None,
        state: "failed".to_owned(),
        reason: None,
    };
    let commit = async |changes: Vec<OutboxChange>| {
        let mut batch = bed.batch().await;
        batch.outbox = changes;
        bed.store.writer.commit(&batch).await.expect("committed");
    };
    commit(vec![OutboxChange::Insert(message("m1")), OutboxChange::Insert(message("m2"))]).await;
    commit(vec![OutboxChange::Insert(message("m1"))]).await;
    let due = bed.store.reader.outbox_due(t0(), 10).await.expect("reads");
    assert_eq!(due.iter().map(|row| row.message.id.as_str()).collect::<Vec<_>>(), ["m1", "m2"]);
    let (id, error) = ("m2".to_owned(), "503".to_owned());
    commit(vec![
        OutboxChange::Delivered { id: "m1".to_owned(), at: at(1) },
        OutboxChange::Failed { id, error, next_attempt_at: Some(at(60)) },
    ])
    .await;
    commit(vec![OutboxChange::Insert(message("m1"))]).await;
    assert!(bed.store.reader.outbox_due(at(59), 10).await.expect("reads").is_empty());
    assert_eq!(bed.store.reader.outbox_next().await.expect("reads"), Some(at(60)));
    let due = bed.store.reader.outbox_due(at(60), 10).await.expect("reads");
    assert_eq!((due.len(), due[0].failures, due[0].last_error.as_deref()), (1, 1, Some("503")));
}

pub(crate) async fn access_rows_come_back(bed: &Bed) {
    let token = ApiToken {
        id: "t1".to_owned(),
        name: "ci".to_owned(),
        role: Role::Operator,
        hash: "h1".to_owned(),
        created_by: "ann".to_owned(),
        created_at: t0(),
        expires_at: Some(at(10)),
        revoked_at: None,
    };
    let link = LoginLink {
        hash: "l1".to_owned(),
        actor: "ann".to_owned(),
        role: Role::Admin,
        created_at: t0(),
        expires_at: at(10),
        used_at: None,
    };
    let worker = WorkerId::new("w1").expect("a name");
    let other = WorkerId::new("w2").expect("a name");
    let key = WorkerKey { hash: "k1".to_owned(), worker: worker.clone(), created_at: t0(), revoked_at: None };
    let join = JoinToken {
        id: "j1".to_owned(),
        hash: "jh".to_owned(),
        created_by: "ann".to_owned(),
        created_at: t0(),
        expires_at: None,
        revoked_at: None,
    };
    let mut batch = bed.batch().await;
    batch.access = vec![
        AccessChange::Token(token.clone()),
        AccessChange::LoginLink(link.clone()),
        AccessChange::WorkerKey(WorkerKey { hash: "k2".to_owned(), worker: other.clone(), ..key.clone() }),
        AccessChange::WorkerKey(key),
        AccessChange::JoinToken(join.clone()),
        AccessChange::RevokeWorker { worker: worker.clone(), at: at(3) },
    ];
    batch.import_errors.push(ImportErrorChange::Set(ImportError {
        path: "bad.toml".to_owned(),
        dag_id: None,
        problems: json!([{"code": "DAG0102"}]),
        source: "[dag".to_owned(),
        at: t0(),
    }));
    bed.store.writer.commit(&batch).await.expect("stored");
    let reader = &bed.store.reader;
    assert_eq!(reader.api_token("h1").await.expect("reads"), Some(token.clone()));
    assert_eq!(reader.api_tokens().await.expect("reads"), [token]);
    assert_eq!(reader.join_token("jh").await.expect("reads"), Some(join));
    let key = reader.worker_key("k1").await.expect("reads").expect("is there");
    assert_eq!(key.revoked_at, Some(at(3)));
    assert!(!reader.has_worker_key(&worker).await.expect("reads"), "it is revoked");
    assert!(reader.has_worker_key(&other).await.expect("reads"));
    assert_eq!(reader.import_errors().await.expect("reads")[0].problems[0]["code"], "DAG0102");
    let session = |hash: &str, seconds| Session {
        hash: hash.to_owned(),
        actor: "ann".to_owned(),
        role: Role::Admin,
        created_at: at(seconds),
        expires_at: at(100),
    };
    let redeem = async |hash: &str, session: Session| {
        bed.store.writer.redeem_login_link(1, hash, &session).await.expect("answers")
    };
    assert!(!redeem("unknown", session("s0", 1)).await);
    assert!(!redeem("l1", session("s0", 10)).await, "it has expired");
    assert!(redeem("l1", session("s1", 1)).await);
    assert!(!redeem("l1", session("s2", 2)).await, "it works once");
    assert_eq!(reader.session("s1").await.expect("reads"), Some(session("s1", 1)));
    assert_eq!(reader.session("s2").await.expect("reads"), None);
    // A session begins with its entry in the audit log or not at all.
    let log = reader.audit(&AuditQuery::default()).await.expect("reads").items;
    let signed_in: Vec<_> = log.iter().filter(|row| row.entry.action == "session.begin").collect();
    assert_eq!(signed_in.len(), 1);
    assert_eq!((signed_in[0].entry.actor.as_str(), signed_in[0].entry.at), ("ann", at(1)));
    assert_eq!(reader.check_audit().await.expect("reads").broken_at, None);
    assert_eq!(
        reader.login_link("l1").await.expect("reads"),
        Some(LoginLink { used_at: Some(at(1)), ..link })
    );
    let mut batch = bed.batch().await;
    batch.access.push(AccessChange::EndSession { hash: "s1".to_owned() });
    batch.import_errors.push(ImportErrorChange::Clear { path: "bad.toml".to_owned() });
    batch.expire_before = Some(at(50));
    bed.store.writer.commit(&batch).await.expect("committed");
    assert_eq!(reader.session("s1").await.expect("reads"), None);
    assert_eq!(reader.login_link("l1").await.expect("reads"), None);
    assert!(reader.import_errors().await.expect("reads").is_empty());
}

pub(crate) async fn the_audit_log_is_chained(bed: &Bed) {
    for n in 0..3 {
        let mut batch = bed.batch().await;
        batch.audit = (0..2)
            .map(|m| AuditEntry {
                at: at(n),
                actor: "ann".to_owned(),
                action: "dag.pause".to_owned(),
                subject: format!("dag/etl{m}"),
                detail: json!({"n": n}),
            })
            .collect();
        bed.store.writer.commit(&batch).await.expect("committed");
    }
    let check = bed.store.reader.check_audit().await.expect("reads");
    assert_eq!((check.entries, check.broken_at), (6, None));
    let query = AuditQuery { subject_prefix: Some("dag/etl1".to_owned()), ..AuditQuery::default() };
    let page = bed.store.reader.audit(&query).await.expect("reads");
    assert_eq!(page.items.iter().map(|row| row.seq).collect::<Vec<_>>(), [6, 4, 2]);
    assert_ne!(page.items[0].hash, page.items[1].hash);
}

pub(crate) async fn dates_have_one_run(bed: &Bed) {
    let scheduled = |key: i64, run_type| {
        let mut change = new_run(key, RunState::Queued);
        change.row.run_type = run_type;
        change.row.logical_date = at(0);
        change
    };
    let mut batch = bed.batch().await;
    // A manual run on a scheduled date takes nothing from it.
    batch.runs.push(scheduled(1, RunType::Manual));
    batch.runs.push(scheduled(2, RunType::Scheduled));
    batch.runs.push(scheduled(3, RunType::Backfill));
    bed.store.writer.commit(&batch).await.expect("three types");
    for (key, run_type) in [(4, RunType::Scheduled), (5, RunType::Backfill)] {
        let mut batch = bed.batch().await;
        batch.runs.push(scheduled(key, run_type));
        let error = bed.store.writer.commit(&batch).await.expect_err("a second run of the date");
        assert!(
            matches!(error, CommitError::GuardMismatch { what: RowRef::Run(k) } if k.0 == key),
            "{error}"
        );
    }
    let mut same_id = scheduled(6, RunType::Manual);
    same_id.row.run_id = RunId::new("run:1").expect("an id");
    let mut batch = bed.batch().await;
    batch.runs.push(same_id);
    assert!(bed.store.writer.commit(&batch).await.is_err(), "a run id is unique in its DAG");
    let etl = dag_id("etl");
    let dates = [(dag_id("etl"), at(0)), (dag_id("etl"), at(1))];
    let taken = bed.store.reader.taken_dates(&dates).await.expect("reads");
    assert_eq!(taken, [(dag_id("etl"), at(0))]);
    // The run before: strictly earlier, never a manual one, the scheduled one of two with the same date.
    let before = |instant| bed.store.reader.previous_run(&etl, instant);
    assert_eq!(before(at(0)).await.expect("reads"), None);
    let mut batch = bed.batch().await;
    batch.tasks.push(new_task(2, "a", TaskState::Scheduled));
    bed.store.writer.commit(&batch).await.expect("a task");
    let found = before(at(1)).await.expect("reads").expect("there is one");
    assert_eq!((found.run, found.logical_date), (RunKey(2), at(0)));
    assert_eq!(
        found.states.iter().map(|(id, s)| (id.as_str(), *s)).collect::<Vec<_>>(),
        [("a", TaskState::Scheduled), ("b", TaskState::NoStatus), ("c", TaskState::NoStatus)],
        "what has no row never ran"
    );
}

pub(crate) async fn many_rows_in_one_batch(bed: &Bed) {
    const TASKS: u32 = 1500;
    let mut batch = bed.batch().await;
    batch.runs.push(new_run(1, RunState::Running));
    batch.tasks = (0..TASKS).map(|n| new_task(1, &format!("t{n}"), TaskState::Scheduled)).collect();
    bed.store.writer.commit(&batch).await.expect("inserted");
    let mut batch = bed.batch().await;
    let from = fence(&task_row(1, "a", TaskState::Scheduled));
    batch.tasks =
        (0..TASKS).map(|n| change(from, task_row(1, &format!("t{n}"), TaskState::Queued))).collect();
    batch.tries = (0..TASKS).map(|n| try_write(attempt(1, &format!("t{n}"), 1), true, None)).collect();
    bed.store.writer.commit(&batch).await.expect("updated");
    let tasks = bed.store.reader.tasks(RunKey(1)).await.expect("reads");
    assert_eq!(tasks.len(), TASKS as usize);
    assert!(tasks.iter().all(|task| task.state == TaskState::Queued));
    let loaded = bed.store.writer.load().await.expect("loads").snapshot;
    assert_eq!(loaded.open_tries.len(), TASKS as usize);
    let mut batch = Batch::new(1, BatchId(99), t0());
    let mut gone = tasks.iter().map(|task| {
        let mut row = task.clone();
        row.state = TaskState::NoStatus;
        TaskChange { is_clear: true, ..change(fence(task), row) }
    });
    batch.tasks = gone.by_ref().collect();
    bed.store.writer.commit(&batch).await.expect("deleted");
    assert!(bed.store.reader.tasks(RunKey(1)).await.expect("reads").is_empty());
}

/// A batch may have two words on one DAG, pool or report; the later one counts, on every database.
pub(crate) async fn of_two_rows_with_one_key_the_later_stays(bed: &Bed) {
    let mut batch = bed.batch().await;
    add_dag(&mut batch, "twice");
    let mut again = batch.dags[0].clone();
    again.is_paused = true;
    batch.dags.push(again);
    let name = tidemill_engine::ids::PoolName::new("gpu").expect("a name");
    for slots in [1, 2, 3] {
        let description = format!("{slots} slots");
        batch.pools.push(tidemill_engine::rows::PoolRow { name: name.clone(), slots, description });
    }
    bed.store.writer.commit(&batch).await.expect("the database takes both words");
    let loaded = bed.store.writer.load().await.expect("loads").snapshot;
    let (row, _) = loaded.dags.iter().find(|(row, _)| row.dag_id == dag_id("twice")).expect("stored");
    assert!(row.is_paused);
    assert_eq!(loaded.pools.iter().find(|pool| pool.name == name).map(|pool| pool.slots), Some(3));
}

pub(crate) async fn what_nothing_uses_any_more_is_pruned(bed: &Bed) {
    let old = |hash: &str, batch: &mut Batch| {
        let mut row = batch.versions[0].clone();
        row.hash = tidemill_engine::rows::VersionHash(hash.into());
        batch.versions.push(row);
    };
    let mut batch = bed.batch().await;
    add_dag(&mut batch, "etl");
    old("unused", &mut batch);
    old("pinned", &mut batch);
    let mut run = new_run(1, RunState::Success);
    run.row.dag_version = tidemill_engine::rows::VersionHash("pinned".into());
    batch.runs.push(run);
    let passed =
        |at| tidemill_engine::rows::PassedOver { dag_id: dag_id("etl"), first: at, last: at, count: 1, at };
    batch.passed_over.extend([passed(at(1)), passed(at(900))]);
    bed.store.writer.commit(&batch).await.expect("stored");
    let hashes = async || {
        let versions = bed.store.reader.versions(&dag_id("etl")).await.expect("reads");
        let mut hashes: Vec<String> = versions.iter().map(|version| version.hash.to_string()).collect();
        hashes.retain(|hash| hash.len() < 10);
        hashes.sort();
        (versions.len(), hashes)
    };
    assert_eq!(hashes().await.0, 3);
    let mut batch = bed.batch().await;
    batch.prunes.push((dag_id("etl"), at(100)));
    bed.store.writer.commit(&batch).await.expect("pruned");
    assert_eq!(hashes().await, (2, vec!["pinned".to_owned()]), "what runs and what the DAG is stays");
    let left = bed.store.reader.passed_over(&dag_id("etl"), 9).await.expect("reads");
    assert_eq!(left.iter().map(|row| row.first).collect::<Vec<_>>(), [at(900)]);
}

pub(crate) async fn the_elements_of_mapped_tasks_come_back(bed: &Bed) {
    let task = instance(1, "a").task;
    let change = |run: i64, values: Option<MapValues>| MapChange {
        run: RunKey(run),
        task: task.clone(),
        values: values.map(Arc::new),
    };
    let list = MapValues::List(vec![json!("a\u{0}b"), json!({"deep": [1, null]})]);
    let product =
        MapValues::Product(vec![("z".to_owned(), vec![json!(1)]), ("a".to_owned(), vec![json!("x")])]);
    let mut batch = bed.batch().await;
    batch.runs.extend([new_run(1, RunState::Running), new_run(3, RunState::Success)]);
    batch.maps.extend([
        change(1, Some(product.clone())),
        change(1, Some(list.clone())),
        change(3, Some(product)),
    ]);
    for (index, value) in [(2, json!("two")), (0, json!("zero"))] {
        let mut write =
            OutputsWrite { attempt: attempt(1, "a", 1), values: [("k".to_owned(), value)].into() };
        write.attempt.instance.map_index = index;
        batch.outputs.push(write);
    }
    bed.store.writer.commit(&batch).await.expect("stored");
    let reader = &bed.store.reader;
    let found = reader.map_values(RunKey(1), &task).await.expect("reads").expect("is there");
    assert_eq!(*found, list, "of two words the later counts");
    assert_eq!(reader.map_values(RunKey(1), &instance(1, "b").task).await.expect("reads"), None);
    let lengths = reader.map_lengths(RunKey(1)).await.expect("reads");
    assert_eq!(lengths, [(task.clone(), 2)].into());
    let outputs = reader.mapped_outputs(RunKey(1), &task).await.expect("reads");
    let outputs: Vec<_> = outputs.into_iter().map(|(index, values)| (index, values["k"].clone())).collect();
    assert_eq!(outputs, [(0, json!("zero")), (2, json!("two"))]);
    assert!(
        reader.run_outputs(RunKey(1), &[]).await.expect("reads").is_empty(),
        "those are of unmapped ones"
    );
    let loaded = bed.store.writer.load().await.expect("loads").snapshot;
    assert_eq!(loaded.runs[0].maps, [MapRow { task: task.clone(), values: Arc::new(list) }]);
    let finished = bed.store.writer.load_run(RunKey(3)).await.expect("reads").expect("is there");
    assert_eq!(finished.snapshot.maps.len(), 1);

    let mut batch = bed.batch().await;
    batch.maps.push(change(1, Some(MapValues::List(Vec::new()))));
    let error = bed.store.writer.commit(&batch).await.expect_err("no elements");
    assert_eq!(error.code(), "STO0203");
    let mut batch = bed.batch().await;
    batch.maps.extend([change(1, None), change(1, None)]);
    batch.run_deletes.push(RunKey(3));
    bed.store.writer.commit(&batch).await.expect("deleted");
    for run in [1, 3] {
        assert_eq!(reader.map_values(RunKey(run), &task).await.expect("reads"), None);
    }
}
