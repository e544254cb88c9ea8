//! Sensors through the real binary: they wait without a slot, through a kill, in one try with one log; and give up.

use std::{fs, time::Duration, time::Instant};

use serde_json::Value;

use super::server::{Options, Server, cli};

const WAITING: &str = r#"[dag]
id = "waiting"

[[task]]
id = "file"
operator = "file_sensor"
path = "incoming/{{ ds }}/*.csv"
poke_interval = "1s"

[[task]]
id = "count"
command = "test -f '{{ outputs.file.path }}' && echo 'found {{ outputs.file.count }}'"
depends_on = ["file"]

[[task]]
id = "given_up"
operator = "file_sensor"
path = "never"
poke_interval = "1s"
timeout = "3s"
soft_fail = true

[[task]]
id = "failed"
operator = "file_sensor"
path = "never"
poke_interval = "1s"
timeout = "2s"
retries = 5
"#;

const BUSY: &str = r#"[dag]
id = "busy"

[[task]]
id = "work"
command = "echo busy"
"#;

async fn until(
    server: &Server,
    run_id: &str,
    task: &str,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = server.client.task("waiting", run_id, task).await;
        if holds(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited for {what}: {seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sensors_wait_without_a_slot_through_a_kill_and_give_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("waiting.toml"), WAITING).unwrap();
    fs::write(dags.join("busy.toml"), BUSY).unwrap();
    // One slot, three sensors.
    let options = Options { slots: 1, ..Options::new(&dags, &folder.path().join("data")) };
    let mut server = Server::start(&options);
    let run = server.client.trigger("waiting", Some("2026-11-01T00:00:00Z")).await;
    let waits = |task: &Value| task["pokes"].as_u64() >= Some(2) && task["state"] == "up_for_reschedule";
    let waiting = until(&server, &run, "file", "two pokes", waits).await;
    assert_eq!((waiting["try_number"].as_u64(), &waiting["state"]), (Some(1), &"up_for_reschedule".into()));
    let (code, out, err) = cli(&server, &["tasks", "explain", "waiting", &run, "file"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("incoming/2026-11-01/*.csv is not there yet; next poke at "), "{out}");
    let busy = server.client.trigger("busy", None).await;
    assert_eq!(server.client.wait("busy", &busy).await["state"], "success", "the slot is free");
    server.kill();
    let server = Server::start(&options);
    let pokes = waiting["pokes"].as_u64();
    let goes_on = |task: &Value| task["pokes"].as_u64() > pokes && task["state"] == "up_for_reschedule";
    until(&server, &run, "file", "a poke after the kill", goes_on).await;
    fs::create_dir_all(dags.join("incoming/2026-11-01")).unwrap();
    fs::write(dags.join("incoming/2026-11-01/a.csv"), "x").unwrap();
    let ended = server.client.wait("waiting", &run).await;
    assert_eq!(ended["state"], "failed", "{ended}");
    let state = async |task: &str| server.client.task("waiting", &run, task).await;
    let (file, count) = (state("file").await, state("count").await);
    assert_eq!((&file["state"], &count["state"]), (&"success".into(), &"success".into()), "{file}");
    assert_eq!(server.client.log("waiting", &run, "count", 1).await, b"found 1\n");
    let (soft, hard) = (state("given_up").await, state("failed").await);
    assert_eq!((&soft["state"], &hard["state"]), (&"skipped".into(), &"failed".into()));
    let why = hard["reason"].as_str().unwrap();
    assert!(why.starts_with("SCH0261: the sensor's timeout of 2s is over"), "{why}");
    // One try, one log, a line for each poke.
    let path = format!("/dags/waiting/runs/{run}/tasks/file/tries");
    let tries = server.client.get(&path).await["items"].as_array().cloned().unwrap_or_default();
    assert!(tries.iter().all(|t| t["outcome"] == "success" || t["outcome"] == "lost"), "{tries:?}");
    let number = file["try_number"].as_u64().unwrap();
    let log = String::from_utf8(server.client.log("waiting", &run, "file", number).await).unwrap();
    let looks = log.lines().filter(|line| line.ends_with("is not there yet")).count();
    assert!(
        log.lines().last().is_some_and(|line| line.ends_with("found incoming/2026-11-01/a.csv")),
        "{log}"
    );
    assert!(number > 1 || looks as u64 == file["pokes"].as_u64().unwrap(), "{looks}: {log}");
    println!(
        "{{\"sensors\":3,\"slots\":1,\"kills\":1,\"pokes\":{},\"tries\":{},\"log_lines\":{}}}",
        file["pokes"],
        tries.len(),
        log.lines().count()
    );
}
