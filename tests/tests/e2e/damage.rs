//! A database with a row that cannot be read: one dag run is left out and told of, the rest goes on.

use std::{fs, process::Command};

use super::server::{Options, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_row_is_damaged_is_left_out_and_stops_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    for (id, command) in [("lasting", "sleep 600"), ("quick", "true")] {
        let text = format!("[dag]\nid = \"{id}\"\n[[task]]\nid = \"a\"\ncommand = \"{command}\"\n");
        fs::write(dags.join(format!("{id}.toml")), text).unwrap();
    }
    let options = Options::new(&dags, &folder.path().join("data"));
    let mut server = Server::start(&options);
    server.client.trigger("lasting", None).await;
    server.kill();
    let damage = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                  c.execute(\"UPDATE dag_run SET conf = '[]' WHERE dag_id = 'lasting'\"); c.commit()";
    let done = Command::new("python3")
        .args(["-c", damage])
        .arg(options.data_dir.join("tidemill.sqlite"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let server = Server::start(&options);
    let said = server.said();
    assert!(said.contains("SCH0502") && said.contains("a stored row was left out"), "{said}");
    let url = format!("{}/metrics", server.url);
    let metrics = server.client.http.get(url).bearer_auth(&server.client.token).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("\ntidemill_quarantined_runs 1\n"), "{metrics}");
    let run = server.client.trigger("quick", None).await;
    assert_eq!(server.client.wait("quick", &run).await["state"], "success");
}
