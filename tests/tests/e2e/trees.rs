//! Process trees end to end: what a task started, and what escaped from its group and session, is gone after a
//! timeout and after a cancel by the command line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    server::{Options, PATIENCE, Server, cli},
    signals::is_locked,
};

/// Nothing may be left after this time.
const LIMIT: Duration = Duration::from_secs(15);

/// Holds a lock in its own process, in a session of its own, and in an orphan of a session of its own; ignores TERM.
fn script(locks: &Path) -> String {
    let at = |name: &str| locks.join(name).display().to_string();
    format!(
        "trap '' TERM\nsetsid flock {} sleep 1000 &\n(setsid sh -c '(flock {} sleep 1000 &)' &)\n\
         exec flock {} sleep 1000\n",
        at("session"),
        at("orphan"),
        at("main")
    )
}

fn all(folder: &Path) -> Vec<PathBuf> {
    ["session", "orphan", "main"].map(|name| folder.join(name)).into()
}

/// Waits until every lock is held, or none is.
fn until_locked(server: &Server, locks: &[PathBuf], is_held: bool, limit: Duration) -> Duration {
    let began = Instant::now();
    while !locks.iter().all(|lock| is_locked(lock) == is_held) {
        let states: Vec<_> = locks.iter().map(|lock| (lock.clone(), is_locked(lock))).collect();
        assert!(began.elapsed() < limit, "wanted all {is_held}: {states:?}; it said:\n{}", server.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

async fn nothing_survives(cgroups: &str) {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    for (id, timeout) in [("late", "timeout = \"3s\"\n"), ("long", "")] {
        let locks = folder.path().join(id);
        fs::create_dir_all(&locks).unwrap();
        fs::write(dags.join(format!("{id}.sh")), script(&locks)).unwrap();
        let task = format!("[[task]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"./{id}.sh\"]\n{timeout}");
        fs::write(dags.join(format!("{id}.toml")), format!("[dag]\nid = \"{id}\"\n{task}")).unwrap();
    }
    let mut options = Options::new(&dags, &folder.path().join("data"));
    options.env.insert("TIDEMILL_CGROUPS".to_owned(), cgroups.to_owned());
    options.env.insert("TIDEMILL_GRACE".to_owned(), "1s".to_owned());
    let server = Server::start(&options);
    let mut bystander = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let (late, long) = (all(&folder.path().join("late")), all(&folder.path().join("long")));

    let run = server.client.trigger("late", None).await;
    until_locked(&server, &late, true, PATIENCE);
    let timeout = until_locked(&server, &late, false, LIMIT);
    let row = server.client.wait("late", &run).await;
    assert_eq!(row["state"], "failed", "{row}");
    let task = server.client.task("late", &run, "a").await;
    assert!(task["reason"].as_str().unwrap_or_default().contains("WRK0106"), "{task}");

    let (code, out, err) = cli(&server, &["dags", "trigger", "long", "--format", "json"]);
    assert_eq!(code, 0, "{err}");
    let run: serde_json::Value = serde_json::from_str(&out).unwrap();
    let run = run["run_id"].as_str().unwrap();
    until_locked(&server, &long, true, PATIENCE);
    let (code, _, err) = cli(&server, &["runs", "cancel", "long", run]);
    assert_eq!(code, 0, "{err}");
    let cancel = until_locked(&server, &long, false, LIMIT);
    let (code, _, err) = cli(&server, &["runs", "wait", "long", run, "--timeout", "60s"]);
    assert_eq!(code, 1, "a cancelled run is no success: {err}");
    let row = server.client.wait("long", run).await;
    assert_eq!(row["state"], "cancelled", "{row}");
    assert_eq!(server.client.task("long", run, "a").await["state"], "skipped");
    // A second cancel finds nothing to do and says why.
    let (code, _, err) = cli(&server, &["runs", "cancel", "long", run]);
    assert!(code == 1 && err.contains("SCH0206"), "{code}: {err}");

    assert!(bystander.try_wait().unwrap().is_none(), "an unrelated process was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    println!(
        "{}",
        json!({
            "id": "trees_end_to_end", "cgroups": cgroups, "locks": late.len() + long.len(), "survivors": 0,
            "after_timeout_ms": timeout.as_millis() as u64, "after_cancel_ms": cancel.as_millis() as u64,
        })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_task_survives_where_there_are_cgroups() {
    nothing_survives("auto").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_task_survives_without_cgroups() {
    nothing_survives("off").await;
}
