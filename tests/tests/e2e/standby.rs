//! Two servers on one PostgreSQL database: one leads, the other stands by and takes over.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    client::Client,
    server::{Options, PATIENCE, Server},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stand_by_names_the_leader_and_takes_over_when_it_dies() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("one.toml"), "[dag]\nid = \"one\"\n[[task]]\nid = \"a\"\noperator = \"noop\"\n")
        .unwrap();
    let database = crate::postgres::new_database();
    let options = |name: &str| {
        let mut options = Options::new(&dags, &folder.path().join(name));
        options.command = "server";
        options.args = vec!["--database".to_owned(), database.clone()];
        options
    };
    let mut leader = Server::start(&options("first"));
    let run = leader.client.trigger("one", None).await;
    leader.client.wait("one", &run).await;
    let other = Server::start(&options("second"));
    let until = Instant::now() + PATIENCE;
    while !other.said().contains("another server leads; standing by") {
        assert!(Instant::now() < until, "it does not stand by; it said:\n{}", other.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Access is in the database, so the leader's token is known to both.
    let client = Client::new(&other.url, &leader.client.token);
    assert_eq!(client.get(&format!("/dags/one/runs/{run}")).await["state"], "success", "pages are served");
    let body = json!({ "conf": {}, "logical_date": null, "run_id": null });
    let refused = client.post("/dags/one/runs", &body).await.unwrap_err();
    assert!(refused.contains("421") && refused.contains("SCH0101"), "{refused}");
    assert!(refused.contains(&leader.url), "it names the leader: {refused}");
    let page = client.http.get(format!("{}/workers", other.url)).bearer_auth(&client.token);
    let page = page.header("accept", "text/html").send().await.unwrap();
    assert_eq!(page.status().as_u16(), 421);
    let page = page.text().await.unwrap();
    assert!(page.contains("Another server leads") && page.contains("Go to the leader"), "{page}");
    assert!(page.contains(&format!("href=\"{}\"", leader.url)), "{page}");
    assert!(!other.data_dir.join("admin.token").exists(), "who stands by cannot write");
    leader.kill();
    let died = Instant::now();
    let run = loop {
        match client.post("/dags/one/runs", &body).await {
            Ok(run) => break run["run_id"].as_str().unwrap().to_owned(),
            Err(refused) => assert!(died.elapsed() < PATIENCE, "nobody took over: {refused}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let seconds = died.elapsed().as_secs_f64();
    assert_eq!(client.wait("one", &run).await["state"], "success");
    while !other.said().contains("this server leads now") {
        assert!(died.elapsed() < PATIENCE, "it wrote no access files; it said:\n{}", other.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let token = fs::read_to_string(other.data_dir.join("admin.token")).unwrap();
    Client::new(&other.url, token.trim()).get("/tokens").await;
    client.get("/tokens").await;
    let known = fs::read_to_string(other.data_dir.join("server.json")).unwrap();
    assert!(known.contains(&other.url), "{known}");
    println!("{}", json!({ "id": "take_over", "seconds": (seconds * 10.0).round() / 10.0 }));
}
