//! `depends_on_past` through the real binary: a failed date holds the next one, across a kill, until somebody repairs it.

use std::{fs, time::Duration, time::Instant};

use serde_json::{Value, json};

use super::{
    client::Client,
    server::{Options, Server},
};

const DAILY: &str = r#"[dag]
id = "daily"
schedule = "@daily"
start_date = 2026-10-31
end_date = 2026-11-03
catchup = true
max_active_runs = 1

[[task]]
id = "load"
command = "test {{ ds }} != 2026-11-02 -o -e repaired && echo {{ ds }} >> loaded.txt"
depends_on_past = true
"#;

const DATES: [&str; 3] = ["2026-11-01", "2026-11-02", "2026-11-03"];

fn id(date: &str) -> String {
    format!("scheduled__{date}T00:00:00Z")
}

async fn until(client: &Client, date: &str, what: &str, holds: impl Fn(&Value) -> bool) {
    let path = format!("/dags/daily/runs/{}/tasks/load", id(date));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = client.try_get(&path).await;
        if seen.as_ref().is_ok_and(&holds) {
            return;
        }
        assert!(Instant::now() < deadline, "{date}: waited for {what}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn explained(client: &Client, date: &str) -> String {
    let answer = client.get(&format!("/dags/daily/runs/{}/tasks/load/explain", id(date))).await;
    answer["items"][0]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_date_holds_the_next_one_until_it_is_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("daily.toml"), DAILY).unwrap();
    let options = Options::new(&dags, &folder.path().join("data"));
    let mut server = Server::start(&options);
    until(&server.client, DATES[1], "its failure", |task| task["state"] == "failed").await;
    until(&server.client, DATES[2], "its run", |task| task["state"] == "no_status").await;
    let why = "waits for the run before it, scheduled__2026-11-02T00:00:00Z: load is failed";
    assert_eq!(explained(&server.client, DATES[2]).await, why);
    server.kill();
    let server = Server::start(&options);
    let client = &server.client;
    assert_eq!(explained(client, DATES[2]).await, why, "after a kill");
    fs::write(dags.join("repaired"), "").unwrap();
    // The run of the third date has the only place; it makes room for the one that it waits for.
    client.post(&format!("/dags/daily/runs/{}/clear", id(DATES[1])), &json!({})).await.unwrap();
    for date in DATES {
        let run = client.wait("daily", &id(date)).await;
        assert_eq!(run["state"], "success", "{run}");
    }
    assert_eq!(fs::read_to_string(dags.join("loaded.txt")).unwrap(), "2026-11-01\n2026-11-02\n2026-11-03\n");
    println!("{{\"dates\":3,\"held\":1,\"kills\":1}}");
}
