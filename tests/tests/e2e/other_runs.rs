//! What never leaves the engine, through the real binary and `kill -9`: triggered runs, sensors for them, times.

use std::{collections::BTreeSet, fs, time::Duration};

use super::server::{Options, Server, cli};

const CHILD: &str = r#"[dag]
id = "child"
max_active_runs = 100

[params.number]
type = "integer"
default = 0

[[task]]
id = "later"
operator = "time_sensor"
delay = "2s"
from = "logical_date"
"#;

const PARENT: &str = r#"[dag]
id = "parent"

[[task]]
id = "start"
operator = "trigger_dag"
dag_id = "child"
conf = { number = "{{ map.value }}" }
map = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
wait = true

[[task]]
id = "refused"
operator = "trigger_dag"
dag_id = "child"
conf = { number = "many" }

[[task]]
id = "newest"
operator = "dag_run_sensor"
dag_id = "child"
latest = true

[[task]]
id = "report"
command = "echo '{{ outputs.start | length }}'"
depends_on = ["start"]
"#;

const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_triggers_exactly_one_run_each_time_whatever_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("child.toml"), CHILD).unwrap();
    fs::write(dags.join("parent.toml"), PARENT).unwrap();
    let options = Options::new(&dags, &folder.path().join("data"));
    let mut server = Server::start(&options);
    let run = server.client.trigger("parent", None).await;
    for round in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(150 * round as u64)).await;
        server.kill();
        server = Server::start(&options);
    }
    let ended = server.client.wait("parent", &run).await;
    assert_eq!(ended["state"], "failed", "{ended}");
    let children = server.client.all("/dags/child/runs").await;
    assert_eq!(children.len(), 10, "exactly one for each element: {children:?}");
    let numbers: BTreeSet<i64> =
        children.iter().filter_map(|child| child["conf"]["number"].as_i64()).collect();
    assert_eq!(numbers, (0..10).collect(), "each with its own conf");
    let by = children[0]["triggered_by"].as_str().unwrap_or_default();
    assert!(by.starts_with("task start[") && by.ends_with(&format!(" of dag run {run} of parent")), "{by}");
    let refused = server.client.task("parent", &run, "refused").await;
    let why = refused["reason"].as_str().unwrap_or_default();
    assert!(why.starts_with("SCH0271: no run was triggered: child refuses its conf: "), "{why}");
    for task in ["newest", "report"] {
        assert_eq!(server.client.task("parent", &run, task).await["state"], "success", "{task}");
    }
    // A clear triggers another one for each, and only one.
    let (code, _, err) = cli(&server, &["tasks", "clear", "parent", &run, "start", "--downstream"]);
    assert_eq!(code, 0, "{err}");
    server.kill();
    let server = Server::start(&options);
    server.client.wait("parent", &run).await;
    let after = server.client.all("/dags/child/runs").await.len();
    assert_eq!(after, 20, "one more for each element");
    println!("{{\"elements\":10,\"kills\":{},\"triggered\":{after}}}", KILLS + 1);
}
