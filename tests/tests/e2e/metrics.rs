//! What `/metrics` of the real binary says, against what was done to it and what the documentation promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::server::{Options, PATIENCE, Server, repository};

/// Samples by name and labels.
struct Scrape {
    samples: BTreeMap<String, f64>,
    families: BTreeSet<String>,
}

impl Scrape {
    async fn of(server: &Server) -> Self {
        let request = server.client.http.get(format!("{}/metrics", server.url));
        let reply = request.bearer_auth(&server.client.token).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        let text = reply.text().await.unwrap();
        let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let name = family.split(' ').next().unwrap().to_owned();
                assert!(families.insert(name), "{line:?} is there twice");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let value = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
                assert!(samples.insert(name.to_owned(), value).is_none(), "{line:?} is there twice");
            }
        }
        Self { samples, families }
    }

    fn get(&self, name: &str) -> f64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.samples))
    }

    /// The value as a count.
    fn count(&self, name: &str) -> u64 {
        let value = self.get(name);
        assert!(value >= 0.0 && value.fract() == 0.0, "{name} {value}");
        format!("{value:.0}").parse().unwrap()
    }
}

fn write_dags(dags: &Path, gate: &Path) {
    fs::create_dir_all(dags).unwrap();
    let good = "[dag]\nid = \"good\"\n\n[[task]]\nid = \"a\"\ncommand = \"true\"\n\n[[task]]\nid = \"b\"\noperator = \"noop\"\ndepends_on = [\"a\"]\n";
    fs::write(dags.join("good.toml"), good).unwrap();
    let bad = "[dag]\nid = \"bad\"\n\n[[task]]\nid = \"a\"\ncommand = \"false\"\nretries = 1\nretry_delay = 0\n\n[[task]]\nid = \"b\"\noperator = \"noop\"\ndepends_on = [\"a\"]\n";
    fs::write(dags.join("bad.toml"), bad).unwrap();
    let slow = format!(
        "[dag]\nid = \"slow\"\n\n[[task]]\nid = \"a\"\ncommand = \"while [ ! -e {} ]; do sleep 0.05; done\"\n",
        gate.display()
    );
    fs::write(dags.join("slow.toml"), slow).unwrap();
    fs::write(dags.join("broken.toml"), "[dag]\nid = \"broken\"\nshedule = \"@daily\"\n").unwrap();
}

async fn until(server: &Server, what: &str, is_met: impl Fn(&Scrape) -> bool) -> Scrape {
    let until = Instant::now() + PATIENCE;
    loop {
        let scrape = Scrape::of(server).await;
        if is_met(&scrape) {
            return scrape;
        }
        assert!(Instant::now() < until, "waited in vain until {what}: {:#?}", scrape.samples);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The names in the table of `docs/api.md`.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(repository().join("docs/api.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `tidemill_"));
    rows.filter_map(|row| row.split('`').next())
        .map(|name| format!("tidemill_{}", name.split('{').next().unwrap_or(name)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let (dags, gate) = (folder.path().join("dags"), folder.path().join("gate"));
    write_dags(&dags, &gate);
    let server = Server::start(&Options::new(&dags, &folder.path().join("data")));
    let stranger = server.client.http.get(format!("{}/metrics", server.url)).send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    let first = until(&server, "the files are loaded", |s| s.get("tidemill_import_errors") == 1.0).await;
    assert_eq!(first.count(&format!("tidemill_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1);
    assert_eq!(first.count("tidemill_runs_ended_total{state=\"success\"}"), 0);
    assert_eq!(first.families, documented(), "the documentation names what there is");

    for dag in ["good", "good", "bad"] {
        let run = server.client.trigger(dag, None).await;
        server.client.wait(dag, &run).await;
    }
    let run = server.client.trigger("slow", None).await;
    let busy = until(&server, "the slow task runs", |s| {
        s.get("tidemill_task_instances{state=\"running\"}") == 1.0 && s.get("tidemill_worker_attempts") == 1.0
    })
    .await;
    assert_eq!(busy.count("tidemill_runs{state=\"running\"}"), 1);
    let ended = |what: &str, word: &str| busy.count(&format!("tidemill_{what}_ended_total{{{word}}}"));
    assert_eq!((ended("runs", "state=\"success\""), ended("runs", "state=\"failed\"")), (2, 1));
    assert_eq!(ended("runs", "state=\"cancelled\""), 0);
    assert_eq!(busy.count("tidemill_runs_created_total{type=\"manual\"}"), 4);
    // Two runs of two tasks; one task that failed after two tries and held the next one back.
    let tasks = ["success", "failed", "upstream_failed", "skipped"];
    let tasks = tasks.map(|state| ended("task_instances", &format!("state=\"{state}\"")));
    assert_eq!(tasks, [4, 1, 1, 0]);
    let tries =
        ["success", "failed", "lost"].map(|outcome| ended("tries", &format!("outcome=\"{outcome}\"")));
    assert_eq!(tries, [2, 2, 0]);

    assert_eq!((busy.count("tidemill_workers"), busy.count("tidemill_worker_slots")), (1, 8));
    assert_eq!((busy.count("tidemill_leader"), busy.count("tidemill_up")), (1, 1));
    assert!(busy.get("tidemill_scheduler_queue_depth") < 100.0);
    // Every run was created by one commit and ended by another.
    let commits = busy.count("tidemill_store_commit_seconds_count");
    assert!(commits >= 8, "{commits} commits");
    assert!(busy.get("tidemill_store_commit_seconds_sum") > 0.0);
    assert_eq!(busy.count("tidemill_store_commit_seconds_bucket{le=\"+Inf\"}"), commits);
    assert!(busy.count("tidemill_scheduler_round_seconds_count") >= commits);
    assert!(busy.count("tidemill_scheduler_events_total") > first.count("tidemill_scheduler_events_total"));

    fs::write(&gate, "").unwrap();
    server.client.wait("slow", &run).await;
    let idle = Scrape::of(&server).await;
    assert_eq!(idle.count("tidemill_runs{state=\"running\"}"), 0);
    assert_eq!(idle.count("tidemill_runs_ended_total{state=\"success\"}"), 3);
    println!(
        "{}",
        serde_json::json!({ "id": "metrics", "families": idle.families.len(), "samples": idle.samples.len(), "commits": commits })
    );
}
