//! What the charts of the pages are drawn from.

use chrono::{DateTime, TimeDelta, Utc};
use tidemill_engine::{
    action::RunChange,
    state::{RunState, TaskState, TryOutcome},
};
use tidemill_protocol::worker::Report;
use tidemill_store::{
    batch::{AuditEntry, ReportWrite},
    history::RunCount,
    reader::{AuditQuery, DagFilter, DagQuery, PageRequest, RunQuery},
};

use crate::{
    rows::{attempt, new_task, run_row, try_write},
    support::{Bed, add_dag, dag_id},
};

fn date(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

/// Runs on both sides of the borders of a quarter of an hour and of the window.
async fn fill(bed: &Bed) {
    let mut batch = bed.batch().await;
    add_dag(&mut batch, "etl_2");
    let runs = [
        ("2026-10-31T23:59:59Z", RunState::Failed),
        ("2026-11-01T00:00:00Z", RunState::Success),
        ("2026-11-01T00:14:59Z", RunState::Success),
        ("2026-11-01T00:14:59.999999Z", RunState::Failed),
        ("2026-11-01T00:15:00Z", RunState::Success),
        ("2026-11-02T00:00:00Z", RunState::Running),
    ];
    for (key, (at, state)) in (1..).zip(runs) {
        let mut row = run_row(key, state);
        row.logical_date = date(at);
        batch.runs.push(RunChange { from: None, row });
        if key % 2 == 0 {
            batch.tasks.push(new_task(key, "a", TaskState::Success));
        }
        batch.tasks.push(new_task(key, "b", TaskState::Failed));
    }
    for (task, number) in [("a", 1), ("a", 2), ("b", 1)] {
        let attempt = attempt(2, task, number);
        batch.tries.push(try_write(attempt.clone(), true, Some(TryOutcome::Failed)));
        let report = Report::Branch { chosen: vec![format!("{task}{number}")], because: "so".to_owned() };
        batch.reports.push(ReportWrite { attempt, report });
    }
    bed.store.writer.commit(&batch).await.expect("stored");
}

pub(crate) async fn what_has_been_is_counted_and_listed(bed: &Bed) {
    fill(bed).await;
    let reader = &bed.store.reader;
    let (since, before) = (date("2026-11-01T00:00:00Z"), date("2026-11-02T00:00:00Z"));
    let counts = reader.run_counts(&dag_id("etl"), since, before).await.expect("reads");
    let count = |from: &str, state, count| RunCount { from: date(from), state, count };
    let wanted = [
        count("2026-11-01T00:00:00Z", RunState::Success, 2),
        count("2026-11-01T00:00:00Z", RunState::Failed, 1),
        count("2026-11-01T00:15:00Z", RunState::Success, 1),
    ];
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    assert_eq!(counts, wanted);
    assert!(reader.run_counts(&dag_id("etl_2"), since, before).await.expect("reads").is_empty());
    let query = RunQuery {
        dag_id: Some(dag_id("etl")),
        logical_since: Some(since),
        logical_before: Some(before),
        ..RunQuery::default()
    };
    let runs = reader.runs(&query).await.expect("reads").items;
    assert_eq!(runs.iter().map(|run| run.key.0).collect::<Vec<_>>(), [5, 4, 3, 2]);

    let a = attempt(2, "a", 1).instance.task;
    let points = reader.task_history(&dag_id("etl"), &a, 500).await.expect("reads");
    assert_eq!(points.iter().map(|point| point.run.key.0).collect::<Vec<_>>(), [6, 4, 2]);
    assert!(points.iter().all(|point| point.task.key.run == point.run.key && point.task.key.task == a));
    let points = reader.task_history(&dag_id("etl"), &a, 2).await.expect("reads");
    assert_eq!(points.len(), 1, "of the last two runs one has the task");

    let tries = reader.run_tries(run_row(2, RunState::Success).key, 100).await.expect("reads");
    let wanted = [attempt(2, "a", 1), attempt(2, "a", 2), attempt(2, "b", 1)];
    assert_eq!(tries.iter().map(|row| row.attempt.clone()).collect::<Vec<_>>(), wanted);
    assert_eq!(reader.run_tries(run_row(2, RunState::Success).key, 2).await.expect("reads").len(), 2);
    let reports = reader.run_reports(run_row(2, RunState::Success).key, 100).await.expect("reads");
    let newest = [attempt(2, "a", 2), attempt(2, "b", 1)];
    assert_eq!(reports.iter().map(|report| report.attempt.clone()).collect::<Vec<_>>(), newest);
    assert!(reader.run_reports(run_row(3, RunState::Success).key, 100).await.expect("reads").is_empty());
}

pub(crate) async fn subjects_and_pauses_are_told_apart(bed: &Bed) {
    let mut batch = bed.batch().await;
    for name in ["one", "two"] {
        add_dag(&mut batch, name);
        let row = batch.dags.last_mut().expect("added");
        row.is_paused = true;
        row.pause_reason = (name == "two").then(|| "3 runs failed in a row".to_owned());
    }
    for (n, subject) in ["dag/etl", "dag/etl/run/x", "dag/etl_2", "dag/etl-x", "dag"].into_iter().enumerate()
    {
        batch.audit.push(AuditEntry {
            at: date("2026-11-01T00:00:00Z") + TimeDelta::seconds(i64::try_from(n).unwrap_or(0)),
            actor: "ann".to_owned(),
            action: "dag.pause".to_owned(),
            subject: subject.to_owned(),
            detail: serde_json::json!({}),
        });
    }
    bed.store.writer.commit(&batch).await.expect("stored");
    let reader = &bed.store.reader;
    let query = AuditQuery { subject: Some("dag/etl".to_owned()), ..AuditQuery::default() };
    let found = reader.audit(&query).await.expect("reads").items;
    let subjects: Vec<_> = found.iter().map(|row| row.entry.subject.as_str()).collect();
    assert_eq!(subjects, ["dag/etl/run/x", "dag/etl"]);
    let query = DagQuery {
        state: Some(DagFilter::AutoPaused),
        page: PageRequest { cursor: None, limit: 5 },
        ..DagQuery::default()
    };
    let found = reader.dags(&query).await.expect("reads").items;
    assert_eq!(found.iter().map(|dag| dag.dag.dag_id.as_str()).collect::<Vec<_>>(), ["two"]);
}
