//! What must hold after the kills: what the tasks recorded against what the product says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::load::{LAST, upstreams_of_last};
use crate::e2e::{
    server::{PATIENCE, Server},
    truth::{Execution, Truth, TruthFolder},
};

/// Counts over everything that ran.
#[derive(Debug, Default)]
pub(super) struct Achieved {
    pub(super) dates: usize,
    pub(super) executions: usize,
    /// Executions that failed because their script says so.
    pub(super) failed_by_design: usize,
    /// Task instances by how often they were executed, failures by design aside.
    pub(super) by_executions: BTreeMap<usize, usize>,
    /// Task instances that were executed more than once, failures by design aside.
    pub(super) repeated: usize,
}

fn instant(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// Lets everything end and compares what the tasks recorded with what the product says.
pub(super) async fn check_everything(server: &Server, truth: &TruthFolder, start: DateTime<Utc>) -> Achieved {
    let runs = all_ended(server).await;
    check_dates(&runs, start);
    let seen = truth.read();
    if let Some(overlap) = seen.overlaps.first() {
        panic!("overlapping executions: {:?}; {}", seen.overlaps, tries_of(server, &runs, overlap).await);
    }
    let mut by_instance: BTreeMap<(DateTime<Utc>, String), Vec<Execution>> = BTreeMap::new();
    for ((date, task), executions) in seen.by_instance() {
        by_instance.insert((date.parse().unwrap(), task), executions);
    }
    let mut achieved = Achieved {
        dates: runs.len(),
        executions: seen.starts.len(),
        failed_by_design: seen.fails.len(),
        ..Achieved::default()
    };
    for run in &runs {
        assert_eq!(run["state"], "success", "{run}");
        let run_id = run["run_id"].as_str().unwrap();
        for task in server.client.all(&format!("/dags/kill/runs/{run_id}/tasks")).await {
            assert_eq!(task["state"], "success", "{run_id}: {task}");
            let name = task["task_id"].as_str().unwrap();
            let executions = by_instance
                .remove(&(instant(&run["logical_date"]), name.to_owned()))
                .unwrap_or_else(|| panic!("{run_id} {name} is success and never ran"));
            check_instance(server, &seen, run_id, name, &executions).await;
            let count = executions.iter().filter(|execution| !seen.fails.contains(execution)).count();
            *achieved.by_executions.entry(count).or_default() += 1;
            achieved.repeated += usize::from(count > 1);
        }
    }
    assert!(by_instance.is_empty(), "executed and in no run: {:?}", by_instance.keys());
    let dates: BTreeSet<&String> = seen.starts.iter().map(|start| &start.date).collect();
    for (date, upstream) in
        dates.iter().flat_map(|date| upstreams_of_last().into_iter().map(move |up| (date, up)))
    {
        assert!(!seen.is_early(date, LAST, &upstream), "{date}: {LAST} began before the end of {upstream}");
    }
    achieved
}

/// Returns what the product says about the tries of the instance of an overlap.
async fn tries_of(server: &Server, runs: &[Value], overlap: &str) -> Value {
    let words: Vec<&str> = overlap.split(' ').collect();
    let date: DateTime<Utc> = words[1].parse().unwrap();
    let Some(run) = runs.iter().find(|run| instant(&run["logical_date"]) == date) else { return Value::Null };
    let run_id = run["run_id"].as_str().unwrap();
    server.client.get(&format!("/dags/kill/runs/{run_id}/tasks/{}/tries", words[2])).await
}

/// Waits until the schedule has caught up with the clock and every run has ended.
async fn all_ended(server: &Server) -> Vec<Value> {
    let client = &server.client;
    let caught_up = Utc::now();
    let mut progress = Progress::new();
    loop {
        let newest = client.get("/dags/kill/runs?limit=1").await;
        let date = newest["items"].get(0).map(|run| instant(&run["logical_date"]));
        if date.is_some_and(|date| date >= caught_up) {
            break;
        }
        progress.check(server, "the schedule does not catch up", date.map_or(0, |date| date.timestamp()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let url = format!("{}/api/v1/dags/kill", client.base);
    let paused = client.http.patch(url).bearer_auth(&client.token).json(&json!({ "is_paused": true }));
    assert!(paused.send().await.unwrap().status().is_success());
    loop {
        let runs = client.all("/dags/kill/runs?limit=100").await;
        let is_over =
            |run: &&Value| matches!(run["state"].as_str(), Some("success" | "failed" | "cancelled"));
        let over = runs.iter().filter(is_over).count();
        if over == runs.len() {
            return runs;
        }
        progress.check(server, "runs do not end", over as i64);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Fails when a number has not moved for a while.
struct Progress {
    seen: i64,
    since: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { seen: -1, since: Instant::now() }
    }

    fn check(&mut self, server: &Server, what: &str, now: i64) {
        if now != self.seen {
            (self.seen, self.since) = (now, Instant::now());
        }
        assert!(self.since.elapsed() < PATIENCE, "{what}; the server said:\n{}", server.said());
    }
}

/// A run for every second since the start date, and one only.
fn check_dates(runs: &[Value], start: DateTime<Utc>) {
    let mut dates: Vec<DateTime<Utc>> = runs.iter().map(|run| instant(&run["logical_date"])).collect();
    dates.sort_unstable();
    let from_start = (dates[0] - start).num_milliseconds();
    assert!((-1000..=1000).contains(&from_start), "the first date is {}, the start {start}", dates[0]);
    for pair in dates.windows(2) {
        assert_eq!((pair[1] - pair[0]).num_milliseconds(), 1000, "missed or duplicate between {pair:?}");
    }
}

/// Checks one instance: fences rise, its last execution ended well, and a repetition has a recorded reason.
async fn check_instance(server: &Server, seen: &Truth, run_id: &str, name: &str, executions: &[Execution]) {
    let fences: Vec<u32> = executions.iter().map(|execution| execution.fence).collect();
    assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "{run_id} {name}: fences {fences:?}");
    let (last, earlier) = executions.split_last().unwrap();
    assert!(seen.ends.contains(last), "{run_id} {name}: the last execution did not end well");
    if name == "flaky" {
        assert!(executions.iter().any(|e| seen.fails.contains(e)), "{run_id}: flaky never failed");
    }
    if earlier.is_empty() {
        return;
    }
    let tries = server.client.get(&format!("/dags/kill/runs/{run_id}/tasks/{name}/tries")).await;
    for execution in earlier {
        let row = tries["items"].as_array().unwrap().iter().find(|row| {
            row["try_number"] == json!(execution.try_number) && row["epoch"] == json!(execution.fence)
        });
        let row = row.unwrap_or_else(|| panic!("{run_id} {name}: no record of {execution:?} in {tries}"));
        assert_ne!(row["outcome"], "success", "{run_id} {name}: executed again after a success: {tries}");
        let is_told = row["outcome"].is_string()
            && (row["exit_code"].is_i64() || row["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
        assert!(is_told, "{run_id} {name}: no reason for a second execution: {row}");
    }
}
