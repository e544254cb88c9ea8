//! A kernel without random bytes: no secret is made up, and the cause stays in the server's log.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use super::server::{Options, Server, repository};

/// Returns options under which the server gets no random bytes while `flag` exists.
fn options(folder: &Path, flag: &Path) -> Options {
    let library = folder.join("no_entropy.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(repository().join("tests/support/no_entropy.c"))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let dags = folder.join("dags");
    fs::create_dir_all(&dags).unwrap();
    let mut options = Options::new(&dags, &folder.join("data"));
    options.env.insert("LD_PRELOAD".to_owned(), library.display().to_string());
    options.env.insert("TIDEMILL_TEST_NO_ENTROPY".to_owned(), flag.display().to_string());
    options
}

#[test]
fn a_first_start_without_random_bytes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("flag");
    let options = options(folder.path(), &flag);
    fs::write(&flag, "").unwrap();
    let Err(message) = Server::try_start(&options) else { panic!("it started without a secret") };
    assert!(message.contains("SCH0108"), "{message}");
    fs::remove_file(&flag).unwrap();
    Server::start(&options);
}

#[tokio::test]
async fn an_unexpected_error_is_told_to_the_log_and_not_to_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("flag");
    // A worker of its own would draw its id about now, and end the process when it cannot.
    let mut options = options(folder.path(), &flag);
    options.command = "server";
    let server = Server::start(&options);
    // So does its housekeeping, right after it listens; without ids for that a server does not go on.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    fs::write(&flag, "").unwrap();
    let refused = server.client.post("/join_tokens", &json!({})).await.unwrap_err();
    let is_coded = refused.contains("500") && refused.contains("WEB0301");
    assert!(is_coded, "{refused}\nthe server said:\n{}", server.said());
    assert!(!refused.contains("random"), "the cause is not the client's business: {refused}");
    let said = server.said();
    assert!(said.contains("unexpected error in a request") && said.contains("no random bytes"), "{said}");
    fs::remove_file(&flag).unwrap();
    let again = server.client.post("/join_tokens", &json!({})).await;
    assert!(again.is_ok(), "{again:?}\nthe server said:\n{}", server.said());
}
