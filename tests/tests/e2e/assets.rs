//! Assets through the real binary and kill -9: each event is taken by exactly one run of each DAG that waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    client::Client,
    server::{Options, Server, cli},
};

const MAKE: &str = r#"[dag]
id = "make"
schedule = { every = "1s" }
max_active_runs = 4

[[task]]
id = "write"
command = """echo '{"asset_extra": {"rows": 7}}' >> "$TIDEMILL_OUTPUT\""""
outlets = ["wh/raw", "wh/side"]
max_lost_retries = 100
"#;

/// Waits for every asset, one run at a time, so that events pile up in the queue.
const EACH: &str = r#"[dag]
id = "each"
schedule = { assets = ["wh/raw", "wh/label"] }
max_active_runs = 1

[[task]]
id = "use"
command = 'printf "%s\n" "$EVENTS" >> each.txt; sleep 0.2'
env = { EVENTS = "{{ triggering_asset_events | tojson }}" }
max_lost_retries = 100
"#;

const EITHER: &str = r#"[dag]
id = "either"
schedule = { assets = ["wh/side", "wh/label"], any = true }

[[task]]
id = "see"
operator = "noop"
"#;

const KILLS: u64 = 3;

/// Posts with a key until the answer comes, as a program outside would.
async fn post(server: &Server, key: &str) -> Result<Value, String> {
    let reply = server
        .client
        .http
        .post(format!("{}/api/v1/assets/events", server.client.base))
        .bearer_auth(&server.client.token)
        .header("Idempotency-Key", key)
        .json(&json!({ "asset": "wh/label", "extra": { "key": key } }))
        .send()
        .await
        .map_err(|error| error.to_string())?;
    let status = reply.status();
    let body: Value = reply.json().await.map_err(|error| error.to_string())?;
    if status == 201 { Ok(body) } else { Err(body.to_string()) }
}

/// Returns, by DAG and event, the runs that took it.
async fn causes(client: &Client, dags: &[&str]) -> BTreeMap<(String, i64), Vec<String>> {
    let mut found: BTreeMap<(String, i64), Vec<String>> = BTreeMap::new();
    for dag in dags {
        for run in client.all(&format!("/dags/{dag}/runs?run_type=asset")).await {
            let id = run["run_id"].as_str().unwrap().to_owned();
            let events = client.all(&format!("/dags/{dag}/runs/{id}/assets")).await;
            assert!(!events.is_empty(), "{id} was caused by nothing");
            for event in events {
                let key = ((*dag).to_owned(), event["id"].as_i64().unwrap());
                found.entry(key).or_default().push(id.clone());
            }
        }
    }
    found
}

async fn quiet(client: &Client) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let active = client.all("/runs?state=queued,running").await.len();
        if active == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{active} runs do not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_or_counted_twice_over_kills() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    for (name, text) in [("make", MAKE), ("each", EACH), ("either", EITHER)] {
        fs::write(dags.join(format!("{name}.toml")), text).unwrap();
    }
    let options = Options::new(&dags, &folder.path().join("data"));
    let mut posted = BTreeSet::new();
    let mut server = Server::start(&options);
    for kill in 0..KILLS {
        let started = Instant::now();
        let mut number = 0;
        while started.elapsed() < Duration::from_millis(1500) {
            number += 1;
            let key = format!("k{kill}-{number}");
            // Sent twice: the second is the same event.
            let first = post(&server, &key).await.unwrap();
            assert_eq!(post(&server, &key).await.unwrap()["id"], first["id"]);
            posted.insert(first["id"].as_i64().unwrap());
        }
        server.kill();
        server = Server::start(&options);
    }
    let (code, _, err) = cli(&server, &["dags", "pause", "make"]);
    assert_eq!(code, 0, "{err}");
    quiet(&server.client).await;
    // What still waits for a partner gets one.
    posted.insert(post(&server, "last").await.unwrap()["id"].as_i64().unwrap());
    quiet(&server.client).await;

    let events = server.client.all("/assets/events").await;
    let of = |asset: &str| -> BTreeSet<i64> {
        let own = events.iter().filter(|event| event["asset"] == asset);
        own.map(|event| event["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(of("wh/label"), posted, "posted events and stored events");
    // A success is one event on each outlet, whatever was killed.
    let runs = server.client.all("/dags/make/runs?state=success").await;
    assert_eq!((of("wh/raw").len(), of("wh/side").len()), (runs.len(), runs.len()));
    let made = events.iter().filter(|event| event["asset"] == "wh/raw");
    assert!(made.clone().all(|event| event["extra"] == json!({ "rows": 7 })), "extra of a task");
    let sources: BTreeSet<&str> = made.map(|event| event["source"]["run_id"].as_str().unwrap()).collect();
    assert_eq!(sources.len(), runs.len(), "a success made two events");

    let causes = causes(&server.client, &["each", "either"]).await;
    let twice: Vec<_> = causes.iter().filter(|(_, runs)| runs.len() != 1).collect();
    assert!(twice.is_empty(), "events counted twice: {twice:?}");
    let mut waiting = 0;
    for (dag, asset) in
        [("each", "wh/raw"), ("each", "wh/label"), ("either", "wh/side"), ("either", "wh/label")]
    {
        for id in of(asset) {
            let event = events.iter().find(|event| event["id"] == id).unwrap();
            let is_queued = event["queued_for"].as_array().unwrap().contains(&json!(dag));
            let is_taken = causes.contains_key(&(dag.to_owned(), id));
            assert!(
                is_queued != is_taken,
                "event {id} on {asset} is lost for {dag}, or both taken and queued"
            );
            waiting += usize::from(is_queued);
        }
    }
    let seen = fs::read_to_string(dags.join("each.txt")).unwrap();
    let sees_both = |line: &str| {
        let seen: Value = serde_json::from_str(line).unwrap();
        seen["wh/raw"].is_array() && seen["wh/label"][0]["extra"]["key"].is_string()
    };
    assert!(seen.lines().all(sees_both), "{seen}");
    let (code, out, err) = cli(&server, &["assets", "show", "wh/label"]);
    assert!(code == 0 && out.contains("each") && err.contains("wh/raw"), "{out}{err}");
    let (code, _, err) = cli(&server, &["assets", "emit", "wh/tpyo"]);
    assert!(code == 1 && err.contains("SCH0230"), "{err}");
    println!(
        "{{\"kills\":{KILLS},\"events\":{},\"taken\":{},\"still_queued\":{waiting},\"asset_runs\":{}}}",
        events.len(),
        causes.len(),
        causes.values().flatten().collect::<BTreeSet<_>>().len()
    );
}
