//! A worker that is stopped for longer than its leases, then goes on: the fence refuses what it brings.
//!
//! Its tasks end while it sleeps; the server gives them up and another worker executes them again. While that goes on,
//! the sleeper wakes and reports the ends of its own executions.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;

use crate::e2e::{
    server::{Options, PATIENCE, Server},
    truth::{Truth, TruthFolder},
    worker::Worker,
};

/// How many executions of the sleeper become stale.
const TASKS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_brings_after_its_leases_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let truth = TruthFolder::new(&folder.path().join("truth"));
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    // The first execution ends within the leases; the second lasts until the sleeper has been heard.
    let body = format!(
        r#"if [ "$TIDEMILL_FENCE" = 1 ]; then sleep 3; else until [ -e "{}/go" ]; do sleep 0.1; done; fi
echo "fence=$TIDEMILL_FENCE" >> "$TIDEMILL_OUTPUT""#,
        truth.0.display()
    );
    fs::write(dags.join("task.sh"), truth.script(&body)).unwrap();
    let mut text = "[dag]\nid = \"paused\"\n".to_owned();
    for index in 0..TASKS {
        text.push_str(&format!("\n[[task]]\nid = \"t{index}\"\ncommand = [\"/bin/sh\", \"./task.sh\"]\n"));
    }
    fs::write(dags.join("paused.toml"), text).unwrap();
    let mut options = Options::new(&dags, &folder.path().join("data"));
    options.command = "server";
    let server = Server::start(&options);
    let client = &server.client;
    let work = folder.path().join("one");
    let mut sleeper = Worker::start(&server, "sleeper", &dags, &work, 8, &[]);
    let run = client.trigger("paused", None).await;
    until(&truth, "the first executions start", |seen| seen.starts.len() == TASKS);
    sleeper.signal(Signal::STOP);
    until(&truth, "they end while their worker sleeps", |seen| seen.ends.len() == TASKS);
    let mut other = Worker::start(&server, "other", &dags, &folder.path().join("two"), 8, &[]);
    until(&truth, "the leases end and the tasks run again", |seen| seen.starts.len() == 2 * TASKS);
    assert_eq!(unsettled(&work), TASKS);
    sleeper.signal(Signal::CONT);
    // Either its next heartbeat tells it that they are not its own any more, or it brings the results first and they
    // are refused. It lets go of a try when that is settled.
    let deadline = Instant::now() + PATIENCE;
    while unsettled(&work) > 0 {
        assert!(Instant::now() < deadline, "stale tries are not settled; it said:\n{}", sleeper.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let now = client.get(&format!("/dags/paused/runs/{run}")).await;
    assert_eq!(now["state"], "running", "a stale result ended the run");
    fs::write(truth.0.join("go"), "").unwrap();
    let row = client.wait("paused", &run).await;
    assert_eq!(row["state"], "success", "{row}");
    let seen = truth.read();
    assert!(seen.overlaps.is_empty(), "overlapping executions: {:?}", seen.overlaps);
    assert_eq!((seen.starts.len(), seen.ends.len()), (2 * TASKS, 2 * TASKS), "{:?}", seen.starts);
    for index in 0..TASKS {
        let path = format!("/dags/paused/runs/{run}/tasks/t{index}");
        let tries = client.get(&format!("{path}/tries")).await;
        let told: Vec<_> = tries["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["epoch"].as_u64(), row["outcome"].as_str(), row["worker"].as_str()))
            .collect();
        let expected = [(Some(1), Some("lost"), Some("sleeper")), (Some(2), Some("success"), Some("other"))];
        assert!(expected.iter().all(|line| told.contains(line)) && told.len() == 2, "{tries}");
        let outputs = client.get(&format!("{path}/outputs")).await;
        assert_eq!(outputs["fence"].to_string().trim_matches('"'), "2", "{outputs}");
    }
    assert_eq!((sleeper.has_ended(), other.has_ended()), (None, None));
    println!(
        "{}",
        json!({ "id": "paused_worker", "stale_tries": TASKS, "results_refused": refused(&sleeper), "accepted": 0, "overlaps": 0 })
    );
}

/// How many tries the worker has not settled with the server.
fn unsettled(work: &Path) -> usize {
    fs::read_dir(work.join("tries")).map_or(0, Iterator::count)
}

/// How many verdicts `fenced` the worker has noted.
fn refused(worker: &Worker) -> usize {
    worker.said().matches("after the lease had ended and was not applied").count()
}

fn until(truth: &TruthFolder, what: &str, is_so: impl Fn(&Truth) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so(&truth.read()) {
        assert!(Instant::now() < deadline, "waited for: {what}; seen: {:?}", truth.read());
        std::thread::sleep(Duration::from_millis(20));
    }
}
