//! Commands that need a server, without one, or with one that is none.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
};

use crate::mill::Mill;

#[test]
fn without_a_server_the_message_says_where_it_was_looked_for() {
    let mill = Mill::new();
    let done = mill.run(&["dags", "list", "--url", "http://127.0.0.1:1"]).fails_with("CFG0201");
    assert!(done.err.contains("http://127.0.0.1:1"));
    mill.run(&["runs", "list", "--url", "https://x"]).refuses_with("CFG0005");
}

#[test]
fn an_answer_of_another_program_is_not_understood() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
        }
    });
    let mill = Mill::new();
    mill.run(&["dags", "list", "--url", &url]).fails_with("CFG0202");
}

#[test]
fn what_takes_long_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mill = Mill::new();
    let mut child = mill
        .command(&["db", "clean", "--url", &url, "--token", "0123456789abcdef", "--format", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut answer = |body: &str, said: &str| {
        let (mut stream, _) = listener.accept().unwrap();
        // The server answers only after it was said that it goes on.
        let line = lines.next().unwrap().unwrap();
        assert!(line.starts_with("deleting finished runs: ") && line.ends_with(said), "{line}");
        let _ = stream.read(&mut [0; 4096]);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    };
    answer(r#"{"runs":3,"is_dry_run":false,"is_complete":false}"#, " s so far");
    answer(r#"{"runs":2,"is_dry_run":false,"is_complete":true}"#, " s so far, 3 runs");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let done: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["runs"], 5, "data alone are on stdout");
}

#[test]
fn a_process_that_gets_no_resources_says_so() {
    let mill = Mill::new();
    let binary = env!("CARGO_BIN_EXE_tidemill");
    // Three streams and one file: enough for the loader, too little for a runtime. The file must not be taken by what
    // this test inherited, such as the lock of whoever runs it.
    let script = format!("exec 3>&-; ulimit -n 4; exec '{binary}' runs list --url http://127.0.0.1:1");
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .env_clear()
        .env("HOME", mill.path(""))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("CFG0106"), "{err}");
}
