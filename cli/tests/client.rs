//! Commands that need a server, without one, or with one that is none.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use crate::mill::Mill;

#[test]
fn without_a_server_the_message_says_where_it_was_looked_for() {
    let mill = Mill::new();
    let done = mill.run(&["dags", "list", "--url", "http://127.0.0.1:1"]).fails_with("CFG0201");
    assert!(done.err.contains("http://127.0.0.1:1"));
    mill.run(&["runs", "list", "--url", "https://x"]).fails_with("CFG0005");
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
fn a_process_that_gets_no_resources_says_so() {
    let mill = Mill::new();
    let binary = env!("CARGO_BIN_EXE_tidemill");
    // Three streams and one file: enough for the loader, too little for a runtime.
    let script = format!("ulimit -n 4; exec '{binary}' runs list --url http://127.0.0.1:1");
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
