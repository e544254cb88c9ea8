//! `short_circuit` and `latest_only` through the real binary: the condition reads what a process wrote.

use std::fs;

use serde_json::json;

use super::server::{Options, Server};

const GATED: &str = r#"[dag]
id = "gated"

[params.rows]
type = "integer"
default = 0

[[task]]
id = "count"
command = "echo '{\"rows\": {{ params.rows }}}' >> \"$TIDEMILL_OUTPUT\""

[[task]]
id = "any_rows"
operator = "short_circuit"
when = "{{ outputs.count.rows > 0 }}"
depends_on = ["count"]

[[task]]
id = "load"
command = "true"
depends_on = ["any_rows"]

[[task]]
id = "report"
command = "true"
depends_on = ["load"]
trigger_rule = "all_done"

[[task]]
id = "newest"
operator = "latest_only"
depends_on = ["count"]

[[task]]
id = "publish"
operator = "noop"
depends_on = ["newest"]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_circuit_decides_by_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("gated.toml"), GATED).unwrap();
    let server = Server::start(&Options::new(&dags, &folder.path().join("data")));
    let client = &server.client;
    let mut seen = Vec::new();
    for rows in [0, 7] {
        let body = json!({ "conf": { "rows": rows } });
        let run = client.post("/dags/gated/runs", &body).await.unwrap();
        let id = run["run_id"].as_str().unwrap();
        let ended = client.wait("gated", id).await;
        assert_eq!(ended["state"], "success", "{ended}");
        let mut states = Vec::new();
        for task in ["count", "any_rows", "load", "report", "publish"] {
            let instance = client.task("gated", id, task).await;
            states.push(format!("{task}={}", instance["state"].as_str().unwrap()));
        }
        let log = client.log("gated", id, "any_rows", 1).await;
        seen.push((states.join(" "), String::from_utf8(log).unwrap()));
    }
    let [(stopped, why), (passed, because)] = <[_; 2]>::try_from(seen).unwrap();
    assert_eq!(stopped, "count=success any_rows=success load=skipped report=skipped publish=success");
    assert!(why.contains("the condition does not hold: `{{ outputs.count.rows > 0 }}`"), "{why}");
    assert_eq!(passed, "count=success any_rows=success load=success report=success publish=success");
    assert!(because.contains("chosen: load"), "{because}");
    println!("{{\"runs\":2,\"stopped\":1,\"passed\":1}}");
}
