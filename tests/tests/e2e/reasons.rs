//! Whatever does not run says what is in its way, by name, on every surface; and what a dry run lists is what changes then.

use std::{fs, time::Instant};

use serde_json::{Value, json};

use super::{
    client::Client,
    server::{Options, PATIENCE, Server, cli},
};

/// Waits for a file, so that the test says when it ends.
const HOLD: &str = "while ! test -e released; do sleep 0.05; done";

fn dags() -> [(&'static str, String); 3] {
    let hold = |id: &str, keys: &str| format!("[[task]]\nid = \"{id}\"\ncommand = \"{HOLD}\"\n{keys}\n");
    [
        (
            "pooled.toml",
            format!("[dag]\nid = \"pooled\"\n{}", hold("train", "pool = \"gpu\"\npool_slots = 2")),
        ),
        (
            "mixed.toml",
            format!(
                "[dag]\nid = \"mixed\"\nmax_active_runs = 1\nmax_active_tasks = 2\n{}{}{}{}{}",
                hold("a", ""),
                hold("b", ""),
                hold("c", ""),
                hold("far", "queue = \"mars\""),
                hold("below", "depends_on = [\"a\", \"b\"]"),
            ),
        ),
        (
            "failing.toml",
            "[dag]\nid = \"failing\"\nschedule = \"@daily\"\n[[task]]\nid = \"good\"\ncommand = \"true\"\n\
             [[task]]\nid = \"bad\"\ncommand = \"test -e released\"\n\
             [[task]]\nid = \"last\"\ncommand = \"true\"\ndepends_on = [\"good\", \"bad\"]\n"
                .to_owned(),
        ),
    ]
}

async fn until(client: &Client, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = client.try_get(path).await;
        if let Ok(value) = &seen
            && holds(value)
        {
            return value.clone();
        }
        assert!(Instant::now() < deadline, "waited for {what}: {seen:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn running(client: &Client, dag: &str, run: &str, task: &str) {
    let path = format!("/dags/{dag}/runs/{run}/tasks/{task}");
    until(client, &path, "a task to run", |task| task["state"] == "running").await;
}

fn messages(value: &Value) -> String {
    let items = value["items"].as_array().or_else(|| value.as_array()).unwrap();
    items.iter().map(|item| item["message"].as_str().unwrap()).collect::<Vec<_>>().join(" | ")
}

/// Asks on the command line and over the API, which must say the same.
async fn explained(server: &Server, dag: &str, run: &str, task: Option<&str>) -> String {
    let path = task.map_or_else(String::new, |task| format!("/tasks/{task}"));
    let told = messages(&server.client.get(&format!("/dags/{dag}/runs/{run}{path}/explain")).await);
    let args: Vec<&str> = match task {
        Some(task) => vec!["tasks", "explain", dag, run, task, "--format", "json"],
        None => vec!["runs", "explain", dag, run, "--format", "json"],
    };
    let (code, out, err) = cli(server, &args);
    assert_eq!(code, 0, "{err}");
    assert_eq!(messages(&serde_json::from_str(&out).unwrap()), told, "{args:?}");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wait_names_its_blocker_on_every_surface() {
    let folder = tempfile::tempdir().unwrap();
    let dags_dir = folder.path().join("dags");
    fs::create_dir_all(&dags_dir).unwrap();
    for (name, text) in dags() {
        fs::write(dags_dir.join(name), text).unwrap();
    }
    let server = Server::start(&Options::new(&dags_dir, &folder.path().join("data")));
    let client = &server.client;
    let first = client.trigger("pooled", None).await;
    let told = explained(&server, "pooled", &first, Some("train")).await;
    assert!(told.starts_with("there is no pool gpu; make it with"), "{told}");
    assert_eq!(cli(&server, &["pools", "set", "gpu", "3"]).0, 0);
    running(client, "pooled", &first, "train").await;
    let second = client.trigger("pooled", None).await;
    let full = "pool gpu is full: 2 of 3 slots are taken, it wants 2";
    let holder = format!("held by train of pooled ({first})");
    assert_eq!(explained(&server, "pooled", &second, Some("train")).await, format!("{full} | {holder}"));
    // The same sentence in the list of task instances.
    let listed = client.task("pooled", &second, "train").await;
    assert_eq!(listed["reason"], full, "{listed}");

    let run = client.trigger("mixed", None).await;
    running(client, "mixed", &run, "a").await;
    running(client, "mixed", &run, "b").await;
    let told = explained(&server, "mixed", &run, Some("c")).await;
    assert_eq!(
        told,
        format!(
            "max_active_tasks = 2 of its DAG is reached | held by a of mixed ({run}), b of mixed ({run})"
        )
    );
    let told = explained(&server, "mixed", &run, Some("below")).await;
    assert_eq!(told, "waits for upstream (all_success): a, b");
    let (later, last) = (client.trigger("mixed", None).await, client.trigger("mixed", None).await);
    let told = explained(&server, "mixed", &last, None).await;
    let limit = "its run waits: 1 of max_active_runs = 1 runs are active";
    assert_eq!(told, format!("{limit} | active: {run}; queued before it: {later}"));
    assert_eq!(explained(&server, "mixed", &last, Some("a")).await, told, "the same for its tasks");
    let of_run = client.get(&format!("/dags/mixed/runs/{run}/explain")).await;
    let codes: Vec<&str> =
        of_run["items"].as_array().unwrap().iter().map(|i| i["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["dag_limit", "running"], "what waits for others of the run is left out: {of_run}");

    // Everything that has not ended has a reason or runs.
    let mut waiting = 0;
    for (dag, run) in [("pooled", &second), ("mixed", &run), ("mixed", &later), ("mixed", &last)] {
        for task in client.all(&format!("/dags/{dag}/runs/{run}/tasks")).await {
            let is_explained = task["state"] == "running" || task["reason"].is_string();
            assert!(is_explained, "{task}");
            waiting += usize::from(task["state"] != "running");
        }
    }
    assert!(waiting >= 12, "{waiting}");
    fs::write(dags_dir.join("released"), "").unwrap();
    // With the limit out of the way the queue is what is left.
    for task in ["below", "c"] {
        let path = format!("/dags/mixed/runs/{run}/tasks/{task}");
        until(client, &path, "the last to end", |task| task["state"] == "success").await;
    }
    let told = explained(&server, "mixed", &run, None).await;
    assert_eq!(told, "no worker that serves queue mars is connected");
    let told = explained(&server, "mixed", &run, Some("far")).await;
    assert_eq!(told, "no worker that serves queue mars is connected | the connected workers serve default");
    for run in [&run, &later, &last] {
        assert_eq!(cli(&server, &["runs", "cancel", "mixed", run]).0, 0);
        client.wait("mixed", run).await;
    }
    let (code, _, err) = cli(&server, &["runs", "explain", "mixed", &run]);
    assert!(code == 0 && err.contains("the run ended as cancelled"), "{err}");
    println!("{{\"blockers_named\": 8, \"waiting_instances_explained\": {waiting}}}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_lists_what_changes_then() {
    let folder = tempfile::tempdir().unwrap();
    let dags_dir = folder.path().join("dags");
    fs::create_dir_all(&dags_dir).unwrap();
    let [.., (name, text)] = dags();
    fs::write(dags_dir.join(name), text).unwrap();
    let server = Server::start(&Options::new(&dags_dir, &folder.path().join("data")));
    let client = &server.client;
    let id = client.trigger("failing", None).await;
    assert_eq!(client.wait("failing", &id).await["state"], "failed");
    let ask = |args: &[&str]| -> Value {
        let (code, out, err) = cli(&server, &[args, &["--format", "json"]].concat());
        assert_eq!(code, 0, "{args:?}: {err}");
        serde_json::from_str(&out).unwrap()
    };
    let mut compared = 0;
    for args in [
        &["runs", "mark", "failing", &id, "--state", "success"][..],
        &["runs", "mark", "failing", &id, "--state", "failed"],
        &["tasks", "mark", "failing", &id, "bad", "--state", "success"],
        &["tasks", "clear", "failing", &id, "bad", "--downstream"],
        &["runs", "rerun", "failing", &id],
    ] {
        let before = client.all(&format!("/dags/failing/runs/{id}/tasks")).await;
        let would = ask(&[args, &["--dry-run"]].concat());
        assert_eq!(would["is_dry_run"], true);
        let after = client.all(&format!("/dags/failing/runs/{id}/tasks")).await;
        assert_eq!(before, after, "{args:?}: a dry run changed something");
        let did = ask(args);
        assert_eq!(did["changed"], would["changed"], "{args:?}");
        client.wait("failing", &id).await;
        compared += 1;
    }
    let tasks = ask(&["runs", "rerun", "failing", &id, "--dry-run"]);
    let named: Vec<&str> =
        tasks["changed"].as_array().unwrap().iter().map(|c| c["task_id"].as_str().unwrap()).collect();
    assert_eq!(named, ["bad", "last"], "what succeeded stays");

    // A pause: what stops, what goes on, and that nothing was changed by asking.
    let plan = ask(&["dags", "pause", "failing", "--dry-run"]);
    let said = plan["changes"].to_string();
    assert!(said.contains("no scheduled run is created any more; the next would be that of "), "{said}");
    assert!(said.contains("0 running and 0 queued runs go on"), "{said}");
    assert_eq!(client.get("/dags/failing").await["is_paused"], false);
    assert_eq!(ask(&["dags", "pause", "failing"])["is_paused"], true);
    let again = ask(&["dags", "pause", "failing", "--dry-run"]);
    assert_eq!(again["changes"], json!(["the DAG is paused already, so nothing changes"]));
    let plan = ask(&["dags", "unpause", "failing", "--dry-run"]);
    assert!(plan["changes"].to_string().contains("scheduled runs are created again"), "{plan}");
    assert_eq!(client.get("/dags/failing").await["is_paused"], true);
    assert_eq!(cli(&server, &["dags", "pause", "nope", "--dry-run"]).0, 1);
    println!("{{\"dry_runs_compared\": {compared}, \"pause_plans\": 3}}");
}
