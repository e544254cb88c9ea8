//! `worker` beside a `server` that lives on: what it had running is killed, reported lost and run again.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Counts, Seeded, check::check_everything, load::write_dag, rounds};
use crate::e2e::{
    server::{Options, PATIENCE, Server},
    truth::TruthFolder,
    worker::Worker,
};

/// Where the worker dies; `None` is a kill from outside at a random moment.
const POINTS: [Option<&str>; 4] = [None, Some("before_spawn"), None, Some("before_result")];

/// Starts the worker and waits until it takes tasks: everything of its former start is dead by then.
fn start(server: &Server, dags: &Path, work: &Path, failpoint: Option<&str>, starts: usize) -> Worker {
    let env: Vec<(&str, &Path)> =
        failpoint.iter().map(|point| ("TIDEMILL_FAILPOINT", Path::new(*point))).collect();
    let mut worker = Worker::start(server, "mortal", dags, work, 8, &env);
    let until = Instant::now() + PATIENCE;
    while worker.said().matches("the worker is ready").count() < starts && worker.has_ended().is_none() {
        assert!(Instant::now() < until, "the worker does not get ready; it said:\n{}", worker.said());
        std::thread::sleep(Duration::from_millis(2));
    }
    worker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_worker_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let truth = TruthFolder::new(&folder.path().join("truth"));
    let begin = chrono::Utc::now();
    let (dags, work) = (folder.path().join("dags"), folder.path().join("work"));
    write_dag(&dags, &truth, begin);
    let mut options = Options::new(&dags, &folder.path().join("data"));
    options.command = "server";
    let mut server = Server::start(&options);
    let mut seeded = Seeded(0x776f_726b);
    let mut counts = Counts::new();
    for round in 0..rounds() {
        let point = POINTS[round % POINTS.len()];
        let failpoint = point.map(|point| format!("{point}:{}", 5 + seeded.below(60)));
        let mut worker = start(&server, &dags, &work, failpoint.as_deref(), round + 1);
        let seen = truth.read().starts.len();
        let wait = Duration::from_millis(150 + seeded.below(1200));
        counts.kill(&mut worker, point, wait, &truth, seen);
        assert_eq!(server.has_ended(), None, "the server ended; it said:\n{}", server.said());
    }
    let _worker = start(&server, &dags, &work, None, rounds() + 1);
    let achieved = check_everything(&server, &truth, begin).await;
    println!("{}", counts.report("kills_worker", &achieved));
    counts.assert_moments(&["before_commit", "commit_before_reply"]);
    assert!(counts.running() * 2 >= counts.kills, "{} with a task running", counts.running());
}
