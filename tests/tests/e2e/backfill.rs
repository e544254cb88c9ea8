//! A backfill through the real binary: a dry run, a kill in the middle, pause and resume, running again what failed.

use std::{fs, time::Duration, time::Instant};

use serde_json::Value;

use super::{
    client::Client,
    server::{Options, Server, cli},
};

const DAILY: &str = r#"[dag]
id = "daily"
schedule = "@daily"
start_date = 2026-01-01
max_active_runs = 1

[[task]]
id = "load"
command = "test {{ ds }} != 2026-01-07 -o -e repaired && echo {{ ds }} >> loaded.txt"
"#;

fn json(server: &Server, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
    let (code, out, err) = cli(server, &args);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
}

fn outcomes(preview: &Value) -> Vec<String> {
    let items = preview["items"].as_array().unwrap();
    items.iter().map(|item| item["outcome"].as_str().unwrap().to_owned()).collect()
}

async fn until(client: &Client, id: i64, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = client.try_get(&format!("/backfills/{id}")).await;
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
async fn past_dates_are_filled_through_a_kill_and_failed_ones_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("daily.toml"), DAILY).unwrap();
    let options = Options::new(&dags, &folder.path().join("data"));
    let mut server = Server::start(&options);
    let range = ["--from", "2026-01-05", "--to", "2026-01-14"];
    let create = |more: &[&'static str]| -> Vec<&'static str> {
        ["backfill", "create", "daily"].into_iter().chain(range).chain(more.iter().copied()).collect()
    };

    let preview = json(&server, &create(&["--dry-run"]));
    assert_eq!(outcomes(&preview), ["created"; 10], "{preview}");
    assert_eq!(json(&server, &["backfill", "list"]), serde_json::json!([]), "a dry run creates nothing");

    let made = json(&server, &create(&["--max-active-runs", "2", "--idempotency-key", "k1"]));
    let id = made["id"].as_i64().unwrap();
    let again = json(&server, &create(&["--max-active-runs", "2", "--idempotency-key", "k1"]));
    assert_eq!(again["id"], made["id"], "the same key is the same backfill");
    let (code, _, err) = cli(&server, &create(&[]));
    assert!(code == 1 && err.contains("SCH0223"), "{err}");

    until(&server.client, id, "some dates", |b| b["dates"]["created"].as_u64() >= Some(2)).await;
    let number = id.to_string();
    assert_eq!(json(&server, &["backfill", "pause", &number])["state"], "paused");
    server.kill();
    let server = Server::start(&options);
    let client = &server.client;
    let paused = until(client, id, "its runs to end", |b| b["runs"]["running"] == 0).await;
    assert_eq!(paused["state"], "paused", "{paused}");
    assert_eq!(paused["waits"], "a person has paused it");
    json(&server, &["backfill", "resume", &number]);
    let done = until(client, id, "its end", |b| b["state"] == "finished").await;
    assert_eq!((&done["runs"]["success"], &done["runs"]["failed"]), (&9.into(), &1.into()), "{done}");

    fs::write(dags.join("repaired"), "").unwrap();
    let preview = json(&server, &create(&["--dry-run", "--reprocess", "failed"]));
    let of = |word: &str| outcomes(&preview).iter().filter(|outcome| *outcome == word).count();
    assert_eq!((of("reprocessed"), of("passed_over")), (1, 9), "{preview}");
    let (code, out, err) = cli(&server, &create(&["--reprocess", "failed", "--wait", "--timeout", "60s"]));
    assert_eq!(code, 0, "{out}{err}");
    let mut loaded: Vec<String> =
        fs::read_to_string(dags.join("loaded.txt")).unwrap().lines().map(str::to_owned).collect();
    loaded.sort();
    // A try that the kill caught after it had written is executed once more.
    loaded.dedup();
    let dates: Vec<String> = (5..15).map(|day| format!("2026-01-{day:02}")).collect();
    assert_eq!(loaded, dates, "each date");
    println!("{{\"dates\":10,\"kills\":1,\"reprocessed\":1,\"passed_over\":9}}");
}
