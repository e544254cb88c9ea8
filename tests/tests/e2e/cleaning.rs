//! A setup and its teardown through the real binary: a cancel stops the work, and what was prepared is cleaned up.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use super::server::{Options, Server};

const CLUSTER: &str = r#"[dag]
id = "cluster"

[[task]]
id = "start"
command = "echo started >> cluster.txt"
setup = true
group = "cluster"

[[task]]
id = "train"
command = "echo training >> cluster.txt; exec sleep 600"
depends_on = ["start"]
group = "cluster.work"

[[task]]
id = "report"
command = "echo reported >> cluster.txt"
depends_on = ["group:cluster.work"]
group = "cluster"

[[task]]
id = "stop"
command = "echo stopped >> cluster.txt"
depends_on = ["group:cluster.work"]
teardown = "start"
group = "cluster"
"#;

fn written(dags: &Path) -> String {
    fs::read_to_string(dags.join("cluster.txt")).unwrap_or_default().replace('\n', " ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_cleans_up_what_it_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("cluster.toml"), CLUSTER).unwrap();
    let server = Server::start(&Options::new(&dags, &folder.path().join("data")));
    let client = &server.client;
    let run = client.post("/dags/cluster/runs", &json!({})).await.unwrap();
    let id = run["run_id"].as_str().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !written(&dags).contains("training") {
        assert!(Instant::now() < until, "the work does not run: {}", server.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let changed = client.post(&format!("/dags/cluster/runs/{id}/cancel"), &json!({})).await.unwrap();
    let named: Vec<&str> =
        changed["changed"].as_array().unwrap().iter().map(|i| i["task_id"].as_str().unwrap()).collect();
    assert_eq!(named, ["train", "report"], "the teardown is not among what a cancel ends");
    let ended = client.wait("cluster", id).await;
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert_eq!(written(&dags), "started training stopped ");
    let mut states = Vec::new();
    for task in ["start", "train", "report", "stop"] {
        states.push(client.task("cluster", id, task).await["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["success", "skipped", "skipped", "success"]);
    println!("{{\"cancelled\":1,\"cleaned_up\":1}}");
}
