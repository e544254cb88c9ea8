//! A training without a try left waits for a person, through the real binary and a kill; and a DAG that keeps failing is
//! paused.

use std::{fs, time::Duration, time::Instant};

use serde_json::{Value, json};

use super::{
    client::Client,
    server::{Options, Server, cli},
};

const TRAINING: &str = r#"[dag]
id = "training"

[[task]]
id = "train"
command = "echo try $TIDEMILL_TRY_NUMBER >> tries.txt; test -e repaired || exit 75"
retries = 1
retry_delay = 0
retry_on = [75]
on_retries_exhausted = "pause"

[[task]]
id = "deploy"
command = "echo deployed >> tries.txt"
depends_on = ["train"]
"#;

const FAILING: &str = r#"[dag]
id = "failing"
schedule = { every = "1s" }
max_consecutive_failed_runs = 2
max_active_runs = 1

[[task]]
id = "fail"
command = "exit 3"
"#;

async fn until(client: &Client, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = client.try_get(path).await;
        if let Ok(value) = &seen
            && holds(value)
        {
            return value.clone();
        }
        assert!(Instant::now() < deadline, "waited for {what}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_run_waits_through_a_kill_and_is_resumed_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("training.toml"), TRAINING).unwrap();
    let options = Options::new(&dags, &folder.path().join("data"));
    let mut server = Server::start(&options);
    let id = server.client.trigger("training", None).await;
    let path = format!("/dags/training/runs/{id}");
    let run = until(&server.client, &path, "the run to be parked", |run| run["state"] == "paused").await;
    assert_eq!(run["reason"], "train failed 2 times and has no try left: resume, mark or cancel");
    server.kill();
    let server = Server::start(&options);
    let run = server.client.get(&path).await;
    assert_eq!(run["state"], "paused", "{run}");
    fs::write(dags.join("repaired"), "").unwrap();
    let (code, out, err) = cli(&server, &["runs", "resume", "training", &id, "--format", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    let run = server.client.wait("training", &id).await;
    assert_eq!(run["state"], "success", "{run}");
    assert_eq!(fs::read_to_string(dags.join("tries.txt")).unwrap(), "try 1\ntry 2\ntry 3\ndeployed\n");
    let (code, _, err) = cli(&server, &["runs", "resume", "training", &id]);
    assert!(code == 1 && err.contains("SCH0206"), "{err}");
    println!("{{\"parked\":1,\"kills\":1,\"resumed\":1}}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dag_that_keeps_failing_is_paused_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("failing.toml"), FAILING).unwrap();
    let server = Server::start(&Options::new(&dags, &folder.path().join("data")));
    let client = &server.client;
    let paused = |dag: &Value| dag["is_paused"] == json!(true);
    let dag = until(client, "/dags/failing", "the DAG to be paused", paused).await;
    let why = dag["pause_reason"].as_str().unwrap();
    assert!(why.starts_with("2 runs failed in a row (max_consecutive_failed_runs = 2)"), "{why}");
    let failed = client.all("/dags/failing/runs?state=failed").await.len();
    assert!(failed >= 2, "{failed}");
    let (code, _, err) = cli(&server, &["dags", "unpause", "failing"]);
    assert_eq!(code, 0, "{err}");
    let again = |dag: &Value| dag["is_paused"] == json!(true) && dag["pause_reason"] != json!(why);
    until(client, "/dags/failing", "two more failures", again).await;
    println!("{{\"paused\":2,\"failed_at_first\":{failed}}}");
}
