//! The configuration: codes, places, precedence.

use crate::mill::Mill;

#[test]
fn a_missing_file_that_was_named_is_an_error_and_one_that_was_not_is_none() {
    let mill = Mill::new();
    mill.run(&["config", "check"]).exits(0);
    mill.run(&["config", "check", "--config", "missing.toml"]).fails_with("CFG0001");
}

#[test]
fn every_problem_of_a_file_is_shown_with_its_code_and_place() {
    let mill = Mill::new();
    mill.write("bad.toml", "[server]\nlisten = 1\nport = 80\n[worker]\nslot = 3\n");
    let done = mill.run(&["config", "check", "--config", "bad.toml"]).fails_with("CFG0003");
    for part in ["CFG0004", "server.listen", "port", "Did you mean `slots`?", "bad.toml:5:1"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    mill.write("syntax.toml", "a = = 1\n");
    mill.run(&["config", "check", "--config", "syntax.toml"]).fails_with("CFG0002");
    std::fs::write(mill.path("bytes.toml"), b"a = \"\xff\"\n").unwrap();
    mill.run(&["config", "check", "--config", "bytes.toml"]).fails_with("CFG0002");
}

#[test]
fn a_bad_variable_is_an_error_that_names_it() {
    let mill = Mill::new();
    let output = mill.command(&["config", "check"]).env("TIDEMILL_SLOTS", "many").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("CFG0005") && err.contains("TIDEMILL_SLOTS"), "{err}");
}

#[test]
fn values_are_shown_with_their_origin_and_secrets_are_not() {
    let mill = Mill::new();
    mill.write("data/tidemill.toml", "[server]\nlisten = \"127.0.0.1:1\"\n[worker]\nslots = 3\n");
    let output = mill
        .command(&["config", "show", "--format", "json", "--data-dir", "data"])
        .env("TIDEMILL_SLOTS", "4")
        .env("TIDEMILL_TOKEN", "hush")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!out.contains("hush"));
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    let value = |key: &str| {
        let items = shown["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["key"] == key).unwrap();
        format!("{} from {}", item["value"], item["origin"].as_str().unwrap())
    };
    assert_eq!(value("server.listen"), "\"127.0.0.1:1\" from file");
    assert_eq!(value("worker.slots"), "4 from environment");
    assert_eq!(value("worker.grace"), "\"10s\" from default");
    assert_eq!(value("client.token"), "\"<secret>\" from environment");
    assert!(shown["file"].as_str().unwrap().ends_with("data/tidemill.toml"));
}

#[test]
fn a_connection_of_the_environment_that_is_none_is_told_without_its_value() {
    let mill = Mill::new();
    std::fs::create_dir_all(mill.path("dags")).unwrap();
    let args = ["standalone", "--dags-dir", "dags", "--data-dir", "data", "--listen", "127.0.0.1:0"];
    let output = mill.command(&args).env("TIDEMILL_CONN_WAREHOUSE", "hunter22").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("CFG0320") && err.contains("TIDEMILL_CONN_WAREHOUSE"), "{err}");
    assert!(!err.contains("hunter22"), "{err}");
}

#[test]
fn a_file_of_connections_that_is_none_is_told_before_anything_is_sent() {
    let mill = Mill::new();
    for text in ["[\"hunter22\"]", "{\"a\": \"hunter22\"}", "hunter22"] {
        mill.write("connections.json", text);
        let args = ["connections", "import", "connections.json", "--url", "http://127.0.0.1:1"];
        let done = mill.run(&args).fails_with("CFG0321");
        assert!(!done.err.contains("hunter22"), "{}", done.err);
    }
}
