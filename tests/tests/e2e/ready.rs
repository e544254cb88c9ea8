//! What the line `listening on …` promises.

use std::{fmt::Write, fs};

use super::server::{Options, Server};

/// Enough tasks for a look through the folder to take longer than a request.
const DAGS: usize = 60;
const TASKS: usize = 100;

/// Whoever reads the line may trigger any DAG of the folder: nothing has to be tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dags_of_the_folder_are_there_when_the_line_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    for index in 0..DAGS {
        let mut text = format!("[dag]\nid = \"d{index:02}\"\n");
        for task in 0..TASKS {
            write!(text, "\n[[task]]\nid = \"t{task}\"\noperator = \"noop\"\n").unwrap();
        }
        fs::write(dags.join(format!("d{index:02}.toml")), text).unwrap();
    }
    let data = folder.path().join("data");
    let mut triggered = 0;
    for index in [DAGS - 1, 0] {
        let server = Server::start(&Options::new(&dags, &data));
        let dag = format!("d{index:02}");
        let run = server.client.trigger(&dag, None).await;
        assert_eq!(server.client.wait(&dag, &run).await["state"], "success");
        triggered += 1;
    }
    println!("{{\"dags\":{DAGS},\"triggered_at_once\":{triggered}}}");
}
