//! `server` with a `worker` that lives on: tasks run over the kill, and the worker brings their results to the
//! server's next start.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{Counts, POINTS, Seeded, check::check_everything, load::write_dag, rounds};
use crate::e2e::{
    server::{Options, Server, lasting_port},
    truth::TruthFolder,
    worker::Worker,
};

/// Points that the worker passes; it kills the server there and goes on.
const OF_WORKER: [&str; 2] = ["before_spawn", "before_result"];

/// Tells the worker to kill the server at a point.
fn order(orders: &Path, point: &str, server: &Server) {
    // A reader must never see half of a number.
    let draft = orders.with_extension("draft");
    fs::write(&draft, format!("{point} {}", server.pid())).unwrap();
    fs::rename(draft, orders).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_server_costs_its_worker_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let truth = TruthFolder::new(&folder.path().join("truth"));
    let start = chrono::Utc::now();
    let dags = folder.path().join("dags");
    write_dag(&dags, &truth, start);
    let mut options = Options::new(&dags, &folder.path().join("data"));
    options.command = "server";
    options.listen = format!("127.0.0.1:{}", lasting_port());
    let orders = folder.path().join("orders");
    let mut server = Server::start(&options);
    let env = [("TIDEMILL_FAILPOINT_ORDERS", orders.as_path())];
    let mut worker = Worker::start(&server, "lasting", &dags, &folder.path().join("work"), 8, &env);
    let mut seeded = Seeded(0x6d69_6c6c);
    let mut counts = Counts::new();
    for round in 0..rounds() {
        let point = POINTS[round % POINTS.len()];
        let wait = Duration::from_millis(150 + seeded.below(1200));
        if let Some(point) = point.filter(|point| OF_WORKER.contains(point)) {
            wait_while_it_lives(&mut server, Duration::from_millis(seeded.below(500)));
            order(&orders, point, &server);
        }
        counts.kill(&mut server, point, wait, &truth, 0);
        assert_eq!(worker.has_ended(), None, "the worker ended; it said:\n{}", worker.said());
        // The next round's point, if it is one of the server's, counts from its start.
        let next = POINTS[(round + 1) % POINTS.len()].filter(|point| !OF_WORKER.contains(point));
        options.env.remove("TIDEMILL_FAILPOINT");
        if let Some(point) = next.filter(|_| round + 1 < rounds()) {
            let visits = 5 + seeded.below(60);
            options.env.insert("TIDEMILL_FAILPOINT".to_owned(), format!("{point}:{visits}"));
        }
        server = Server::start(&options);
    }
    let achieved = check_everything(&server, &truth, start).await;
    println!("{}", counts.report("kills_server", &achieved));
    counts.assert_shares();
    assert_eq!(worker.has_ended(), None, "the worker ended; it said:\n{}", worker.said());
    assert_eq!(worker.said().matches("the worker is ready").count(), 1, "the worker was started again");
    // The worker held the task all the time, so a kill of the server is no reason to run it again.
    assert_eq!(achieved.repeated, 0, "{:?}", achieved.by_executions);
    let seen = truth.read();
    let unended: Vec<_> = counts.hit.iter().filter(|execution| seen.is_open(execution)).collect();
    assert!(unended.is_empty(), "running at a kill and never ended: {unended:?}");
}

fn wait_while_it_lives(server: &mut Server, wait: Duration) {
    let until = Instant::now() + wait;
    while Instant::now() < until && server.has_ended().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
}
