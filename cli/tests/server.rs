//! Why a server does not start, each with its code.

use crate::mill::Mill;

#[test]
fn a_server_that_cannot_start_says_why() {
    let mill = Mill::new();
    std::fs::create_dir(mill.path("dags")).unwrap();
    let start = |args: &[&str]| mill.run(&[&["standalone"], args].concat());
    start(&["--dags-dir", "nowhere"]).fails_with("CFG0105");
    start(&["--listen", "192.0.2.1:1"]).fails_with("CFG0102");
    start(&["--listen", "nonsense"]).refuses_with("CFG0005");
    start(&["--slots", "0"]).refuses_with("CFG0005");
    start(&["--log", "tidemill=loud=er"]).refuses_with("CFG0005");
    mill.run(&["worker", "--name", "no/name"]).refuses_with("CFG0005");
    mill.run(&["worker", "--join-token-file", "missing"]).refuses_with("CFG0005");
    start(&["--demo"]).fails_with("CFG0305");
    mill.write("file", "");
    start(&["--data-dir", "file/below"]).fails_with("CFG0104");
}

#[test]
fn standalone_obeys_a_configured_sqlite_and_refuses_another_database() {
    let mill = Mill::new();
    std::fs::create_dir(mill.path("dags")).unwrap();
    let arguments = ["standalone", "--listen", "127.0.0.1:0", "--data-dir", "data"];
    let refused = mill.command(&arguments).env("TIDEMILL_DATABASE", "postgres://u:hush@db/mill").output();
    let err = String::from_utf8_lossy(&refused.unwrap().stderr).into_owned();
    assert!(err.contains("CFG0107") && !err.contains("hush"), "{err}");
    mill.write("data/tidemill.toml", "[server]\ndatabase = \"sqlite://elsewhere.sqlite\"\n");
    let server = mill.start(&arguments);
    assert!(mill.path("elsewhere.sqlite").is_file() && !mill.path("data/tidemill.sqlite").exists());
    mill.run(&["db", "backup", "copy.sqlite", "--data-dir", "data"]).exits(0);
    drop(server);
}

#[test]
fn a_busy_port_and_a_locked_data_directory_name_their_owner() {
    let mill = Mill::new();
    let first = mill.standalone();
    let owner = format!("process {} (", first.pid());
    let address = first.url.strip_prefix("http://").unwrap().to_owned();
    let busy = mill.run(&["standalone", "--listen", &address, "--data-dir", "other", "--dags-dir", "dags"]);
    assert!(busy.fails_with("CFG0101").err.contains(&owner));
    let locked =
        mill.run(&["standalone", "--listen", "127.0.0.1:0", "--data-dir", "data", "--dags-dir", "dags"]);
    assert!(locked.fails_with("CFG0103").err.contains(&owner));
}

#[test]
fn the_owner_is_named_without_its_secrets() {
    let mill = Mill::new();
    // The same option twice is refused, so the secret stands in one that a server takes: the URL of its database.
    std::fs::create_dir_all(mill.path("dags")).unwrap();
    let url = "postgres://mill:hush-hush@127.0.0.1:1/none";
    mill.run(&["server", "--listen", "127.0.0.1:0", "--data-dir", "data", "--database", url]).exits(1);
    let text = std::fs::read_to_string(mill.path("data/tidemill.lock")).unwrap();
    assert!(text.contains("postgres://mill:***@127.0.0.1:1/none") && !text.contains("hush"), "{text}");
}

#[test]
fn a_database_is_migrated_checked_and_copied() {
    let mill = Mill::new();
    let database = ["--database", "sqlite://one.sqlite"];
    mill.run(&[&["db", "migrate"], &database[..]].concat()).exits(0);
    let check = mill.run(&[&["db", "check", "--format", "json"], &database[..]].concat()).exits(0).json();
    assert!(check["findings"].as_array().unwrap().iter().all(|finding| finding["ok"] == true), "{check}");
    mill.run(&[&["db", "backup", "copy.sqlite"], &database[..]].concat()).exits(0);
    mill.run(&["db", "check", "--database", "sqlite://copy.sqlite"]).exits(0);
    mill.run(&[&["db", "backup", "copy.sqlite"], &database[..]].concat()).fails_with("STO0109");
    mill.run(&[&["db", "backup", "nowhere/copy.sqlite"], &database[..]].concat()).fails_with("CFG0303");
    mill.run(&["db", "check", "--database", "mysql://x"]).refuses_with("STO0107");
    let output = mill.command(&["db", "check"]).env("TIDEMILL_DATABASE", "mysql://x").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "the command line is not to blame");
}
