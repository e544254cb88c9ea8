//! `standalone`: its tasks die with it and run again.

use std::time::Duration;

use super::{Counts, POINTS, Seeded, check::check_everything, load::write_dag, rounds};
use crate::e2e::{
    server::{Options, Server},
    truth::TruthFolder,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_standalone_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let truth = TruthFolder::new(&folder.path().join("truth"));
    let start = chrono::Utc::now();
    let dags = folder.path().join("dags");
    write_dag(&dags, &truth, start);
    let mut options = Options::new(&dags, &folder.path().join("data"));
    let mut seeded = Seeded(0x7469_6465);
    let mut counts = Counts::new();
    for round in 0..rounds() {
        let point = POINTS[round % POINTS.len()];
        options.env.remove("TIDEMILL_FAILPOINT");
        if let Some(point) = point {
            let visits = 5 + seeded.below(60);
            options.env.insert("TIDEMILL_FAILPOINT".to_owned(), format!("{point}:{visits}"));
        }
        // Its first tasks begin before it is known to listen.
        let seen = truth.read().starts.len();
        let mut server = Server::start(&options);
        let wait = Duration::from_millis(150 + seeded.below(1200));
        counts.kill(&mut server, point, wait, &truth, seen);
    }
    options.env.remove("TIDEMILL_FAILPOINT");
    let server = Server::start(&options);
    let achieved = check_everything(&server, &truth, start).await;
    println!("{}", counts.report("kills_standalone", &achieved));
    counts.assert_shares();
}
