//! A server from its start to its stop, through the commands.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::{Value, json};

use crate::mill::{Mill, lasting_port, mode, until};

const HELLO: &str = "[dag]\nid = \"hello\"\n\n[params.word]\ntype = \"string\"\ndefault = \"x\"\n\n[[task]]\nid = \"say\"\ncommand = \"echo hello {{ params.word }}; tidemill --version\"\n";
const SLOW: &str = "[dag]\nid = \"slow\"\n\n[[task]]\nid = \"wait\"\ncommand = \"echo started; sleep 600\"\n";

fn json(mill: &Mill, args: &[&str]) -> Value {
    let all = [args, &["--data-dir", "data", "--format", "json"]].concat();
    mill.run(&all).exits(0).json()
}

fn with_dags() -> Mill {
    let mill = Mill::new();
    mill.write("dags/hello.toml", HELLO);
    mill.write("dags/slow.toml", SLOW);
    mill
}

fn wait_for_dags(mill: &Mill) {
    until("the DAG files are found", || {
        let items = json(mill, &["dags", "list"]);
        (items.as_array()?.len() == 2).then_some(())
    });
}

#[test]
fn a_run_is_triggered_watched_and_read() {
    let mill = with_dags();
    let server = mill.standalone();
    wait_for_dags(&mill);
    assert_eq!(mode(&mill.path("data/admin.token")), 0o600);
    let conf = ["--conf", "{\"word\":\"mill\"}", "--logical-date", "2026-01-01", "--wait"];
    let run = json(&mill, &[&["dags", "trigger", "hello"], &conf[..]].concat());
    assert_eq!((&run["state"], &run["logical_date"]), (&json!("success"), &json!("2026-01-01T00:00:00Z")));
    for field in [
        "dag_id",
        "run_id",
        "run_type",
        "state",
        "with_failures",
        "reason",
        "logical_date",
        "data_interval_start",
        "data_interval_end",
        "queued_at",
        "started_at",
        "finished_at",
        "conf",
        "dag_version",
    ] {
        assert!(run.get(field).is_some(), "{field}");
    }
    let run_id = run["run_id"].as_str().unwrap();
    let log = mill.run(&["tasks", "logs", "hello", run_id, "say", "--data-dir", "data"]).exits(0);
    assert_eq!(log.out, format!("hello mill\ntidemill {}\n", env!("CARGO_PKG_VERSION")));
    let tasks = json(&mill, &["tasks", "list", "hello", run_id]);
    assert_eq!(
        (&tasks[0]["state"], &tasks[0]["try_number"], &tasks[0]["exit_code"]),
        (&json!("success"), &json!(1), &json!(0))
    );
    let reasons = json(&mill, &["tasks", "explain", "hello", run_id, "say"]);
    assert_eq!(reasons[0]["code"], "ended");
    assert!(json(&mill, &["tasks", "render", "hello", run_id, "say"]).is_object());
    assert_eq!(json(&mill, &["runs", "list", "hello", "--state", "success"])[0]["run_id"], run_id);
    assert_eq!(json(&mill, &["runs", "show", "hello", run_id])["state"], "success");
    assert_eq!(json(&mill, &["dags", "show", "hello"])["dag_id"], "hello");
    assert_eq!(json(&mill, &["dags", "next", "hello"]), json!([]));
    let dry = json(&mill, &["runs", "clear", "hello", run_id, "--dry-run"]);
    assert_eq!((&dry["is_dry_run"], &dry["changed"][0]["task_id"]), (&json!(true), &json!("say")));
    mill.run(&["runs", "cancel", "hello", run_id, "--dry-run", "--data-dir", "data"]).fails_with("SCH0206");
    let mark = ["tasks", "mark", "hello", run_id, "say", "--state"];
    let dry = json(&mill, &[&mark[..], &["failed", "--dry-run"]].concat());
    assert_eq!((&dry["is_dry_run"], &dry["changed"][0]["to"]), (&json!(true), &json!("failed")), "{dry}");
    assert_eq!(json(&mill, &["runs", "show", "hello", run_id])["state"], "success", "nothing was changed");
    json(&mill, &[&mark[..], &["failed"]].concat());
    assert_eq!(json(&mill, &["tasks", "list", "hello", run_id])[0]["state"], "failed");
    let wait =
        ["runs", "wait", "hello", run_id, "--timeout", "60s", "--format", "json", "--data-dir", "data"];
    assert_eq!(mill.run(&wait).exits(1).json()["state"], "failed");
    let skipped = mill.run(&[&mark[..], &["skipped", "--data-dir", "data"]].concat()).exits(2);
    assert!(skipped.err.contains("[possible values: success, failed]"), "{}", skipped.err);
    json(&mill, &["tasks", "clear", "hello", run_id, "say"]);
    assert_eq!(json(&mill, &["runs", "wait", "hello", run_id, "--timeout", "60s"])["state"], "success");
    assert_eq!(json(&mill, &["tasks", "list", "hello", run_id])[0]["try_number"], 2);
    mill.run(&["runs", "show", "hello", "nope", "--data-dir", "data"]).fails_with("WEB0201");
    drop(server);
}

#[test]
fn pools_tokens_and_login_links_are_made() {
    let mill = with_dags();
    let server = mill.standalone();
    wait_for_dags(&mill);
    assert_eq!(json(&mill, &["pools", "set", "gpu", "2", "--description", "cards"])["slots"], 2);
    let pools = json(&mill, &["pools", "list"]);
    assert!(pools.as_array().unwrap().iter().any(|pool| pool["name"] == "gpu"));
    mill.run(&["pools", "delete", "gpu", "--data-dir", "data"]).exits(0);
    let token = json(&mill, &["tokens", "create", "reader", "--role", "viewer"]);
    let (id, secret) = (token["id"].as_str().unwrap(), token["token"].as_str().unwrap());
    let as_reader = ["--url", &server.url, "--token", secret];
    mill.run(&[&["dags", "list"], &as_reader[..]].concat()).exits(0);
    mill.run(&[&["dags", "pause", "hello"], &as_reader[..]].concat()).fails_with("WEB0102");
    mill.run(&["tokens", "revoke", id, "--data-dir", "data"]).exits(0);
    mill.run(&[&["dags", "list"], &as_reader[..]].concat()).fails_with("WEB0101");
    // Another home has no token of this server.
    Mill::new().run(&["dags", "list", "--url", &server.url]).fails_with("CFG0203");
    let link = json(&mill, &["login"]);
    assert!(link["url"].as_str().unwrap().starts_with(&format!("{}/login?token=", server.url)), "{link}");
    mill.run(&["dags", "pause", "hello", "--data-dir", "data"]).exits(0);
    assert_eq!(json(&mill, &["dags", "show", "hello"])["is_paused"], true);
    mill.run(&["dags", "unpause", "hello", "--data-dir", "data"]).exits(0);
    mill.run(&["dags", "delete", "hello", "--data-dir", "data"]).fails_with("SCH0208");
    assert_eq!(json(&mill, &["db", "clean", "--dry-run"])["runs"], 0);
    mill.run(&["db", "check", "--data-dir", "data"]).exits(0);
    mill.run(&["db", "backup", "copy.sqlite", "--data-dir", "data"]).exits(0);
}

#[test]
fn a_deleted_admin_token_is_replaced_and_access_is_audited() {
    let mill = with_dags();
    let server = mill.standalone();
    wait_for_dags(&mill);
    let secret = std::fs::read_to_string(mill.path("data/admin.token")).unwrap();
    server.signal("TERM");
    server.wait();
    std::fs::remove_file(mill.path("data/admin.token")).unwrap();
    let server = mill.standalone();
    let old = ["dags", "list", "--url", &server.url, "--token", secret.trim()];
    mill.run(&old).fails_with("WEB0101");
    let tokens = json(&mill, &["tokens", "list"]);
    let is_live = |token: &&Value| token["name"] == "admin.token" && token["revoked_at"].is_null();
    assert_eq!(tokens.as_array().unwrap().iter().filter(is_live).count(), 1, "{tokens}");
    let log = audit(&mill, &server.url);
    let created = log.iter().filter(|entry| entry.as_str() == "server token.create").count();
    let revoked = log.iter().filter(|entry| entry.as_str() == "server token.revoke").count();
    // The link of the first start, and the one of the start that made another token.
    let links = log.iter().filter(|entry| entry.as_str() == "server login_link.create").count();
    assert_eq!((created, revoked, links), (2, 1, 2), "{log:?}");
}

/// Returns who did what.
fn audit(mill: &Mill, url: &str) -> Vec<String> {
    let token = std::fs::read_to_string(mill.path("data/admin.token")).unwrap();
    let request = format!(
        "GET /api/v1/audit?limit=100 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        token.trim()
    );
    let mut stream = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let items = body["items"].as_array().unwrap();
    items.iter().map(|entry| format!("{} {}", text(entry, "actor"), text(entry, "action"))).collect()
}

#[test]
fn waiting_ends_and_a_cancelled_run_fails_the_wait() {
    let mill = with_dags();
    let _server = mill.standalone();
    wait_for_dags(&mill);
    let run = json(&mill, &["dags", "trigger", "slow", "--run-id", "one"]);
    assert_eq!(run["run_id"], "one");
    let wait = ["runs", "wait", "slow", "one", "--data-dir", "data"];
    mill.run(&[&wait[..], &["--timeout", "1s"]].concat()).fails_with("CFG0204");
    mill.run(&["runs", "cancel", "slow", "one", "--data-dir", "data"]).exits(0);
    mill.run(&[&wait[..], &["--timeout", "60s"]].concat()).exits(1);
    assert_eq!(json(&mill, &["runs", "show", "slow", "one"])["state"], "cancelled");
}

#[test]
fn waiting_survives_a_killed_server_that_is_started_again() {
    let mill = Mill::new();
    let run = "until test -e ../go; do sleep 0.05; done";
    mill.write(
        "dags/held.toml",
        &format!("[dag]\nid = \"held\"\n\n[[task]]\nid = \"a\"\ncommand = \"{run}\"\n"),
    );
    let listen = format!("127.0.0.1:{}", lasting_port());
    let start =
        || mill.start(&["standalone", "--listen", &listen, "--data-dir", "data", "--dags-dir", "dags"]);
    let server = start();
    until("the DAG file is found", || (json(&mill, &["dags", "list"]).as_array()?.len() == 1).then_some(()));
    json(&mill, &["dags", "trigger", "held", "--run-id", "one"]);
    let watch = |args: &[&str]| {
        let mut child = mill
            .command(&[args, &["--data-dir", "data", "--format", "json"]].concat())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        (child, lines)
    };
    let (wait, mut said) = watch(&["runs", "wait", "held", "one"]);
    // It has seen the run, so a server has answered.
    let line = said.next().unwrap().unwrap();
    assert!(line.starts_with("one is "), "{line}");
    server.signal("KILL");
    server.wait();
    let line = said.next().unwrap().unwrap();
    assert!(line.contains("CFG0201") && line.ends_with("waiting for it"), "{line}");
    // Without a server: one that never answered is waited for only within a timeout.
    let wait_for = ["runs", "wait", "held", "one", "--data-dir", "data"];
    mill.run(&wait_for).fails_with("CFG0201");
    let late = mill.run(&[&wait_for[..], &["--timeout", "1s"]].concat()).fails_with("CFG0204");
    assert!(late.err.contains("whose server is away"), "{}", late.err);
    assert_eq!(late.err.matches("waiting for it").count(), 1, "{}", late.err);
    let _server = start();
    let line = said.next().unwrap().unwrap();
    assert!(line.starts_with("the server answers again; one is "), "{line}");
    mill.write("go", "");
    let output = wait.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{:?}", said.collect::<Vec<_>>());
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(run["state"], "success");
}

#[test]
fn a_browser_gets_no_secret_in_its_arguments_and_is_no_orphan_of_the_worker() {
    let mill = with_dags();
    // A browser that goes into the background, as those of desktops do.
    let script = "#!/bin/sh\nsleep 600 &\necho \"$! $*\" > opened.new && mv opened.new opened\n";
    let opener = mill.write("bin/xdg-open", script);
    std::fs::set_permissions(&opener, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", mill.path("bin").display(), std::env::var("PATH").unwrap());
    let opened = || {
        let line = until("the page is opened", || std::fs::read_to_string(mill.path("opened")).ok());
        std::fs::remove_file(mill.path("opened")).unwrap();
        let (pid, page) = line.trim().split_once(' ').unwrap();
        (pid.to_owned(), page.to_owned())
    };
    let args =
        ["standalone", "--listen", "127.0.0.1:0", "--data-dir", "data", "--dags-dir", "dags", "--open"];
    let server = mill.start_with(&args, &[("PATH", &path)]);
    let (browser, page) = opened();
    assert_eq!(page, mill.path("data/login.html").display().to_string());
    let leads_on = |page: &str| std::fs::read_to_string(page).unwrap().contains("/login?token=");
    assert!(leads_on(&page) && mode(page.as_ref()) == 0o600);
    until("it is adopted", || {
        let status = std::fs::read_to_string(format!("/proc/{browser}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
        let command = std::fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
        let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        (words.get(1).is_some_and(|word| word == "open")).then_some(())
    });
    let own = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.pid())).unwrap();
    assert!(!own.split_whitespace().any(|pid| pid == browser), "the worker took it for what a task left");
    assert!(std::process::Command::new("kill").arg(&browser).status().unwrap().success());

    let login = mill.command(&["login", "--open", "--data-dir", "data"]).env("PATH", &path).output().unwrap();
    assert_eq!(login.status.code(), Some(0));
    let (browser, page) = opened();
    assert!(!page.contains("token") && leads_on(&page), "{page}");
    assert!(std::process::Command::new("kill").arg(&browser).status().unwrap().success());
}

#[test]
fn behind_a_tls_proxy_links_and_cookies_are_those_of_its_address() {
    let mill = with_dags();
    mill.write("data/tidemill.toml", "[server]\nurl = \"https://mill.example\"\n");
    let server = mill.standalone();
    wait_for_dags(&mill);
    let link = json(&mill, &["login"])["url"].as_str().unwrap().to_owned();
    assert!(link.starts_with("https://mill.example/login?token="), "{link}");
    // What the proxy passes on when the browser presses the button behind the link.
    let form = link.split_once('?').unwrap().1;
    let request = format!(
        "POST /login HTTP/1.1\r\nHost: mill.example\r\nOrigin: https://mill.example\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut stream = std::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    assert!(
        answer.contains("set-cookie: __Host-tidemill_session=") && answer.contains("; Secure"),
        "{answer}"
    );
    // The worker and the command line go past the proxy.
    assert_eq!(json(&mill, &["dags", "trigger", "hello", "--wait"])["state"], "success");
    server.signal("TERM");
    let (_, _, err) = server.wait();
    assert!(err.contains("sign in once with https://mill.example/login?token="), "{err}");
}

#[test]
fn sigterm_stops_running_tasks_and_exits_with_0() {
    let mill = with_dags();
    let server = mill.standalone();
    wait_for_dags(&mill);
    json(&mill, &["dags", "trigger", "slow", "--run-id", "one"]);
    until("the task runs", || {
        let tasks = json(&mill, &["tasks", "list", "slow", "one"]);
        (tasks[0]["state"] == "running").then_some(())
    });
    server.signal("TERM");
    let (status, lines, err) = server.wait();
    assert_eq!(status.code(), Some(0), "{err}");
    assert_eq!(lines, Vec::<String>::new(), "stdout has the one ready line");
    assert!(err.contains("sign in once with http://"), "{err}");
    assert!(err.contains("1 were stopped"), "{err}");
    // The next start finds the run, and the login link is the first start's alone.
    let server = mill.standalone();
    until("the run is there", || {
        (json(&mill, &["runs", "show", "slow", "one"])["state"] == "running").then_some(())
    });
    server.signal("INT");
    let (status, _, err) = server.wait();
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(!err.contains("sign in once"), "{err}");
}

#[test]
fn a_separate_worker_joins_with_a_token() {
    let mill = with_dags();
    let server =
        mill.start(&["server", "--listen", "127.0.0.1:0", "--data-dir", "data", "--dags-dir", "dags"]);
    wait_for_dags(&mill);
    let token = json(&mill, &["tokens", "create", "--role", "worker"]);
    let token_file = mill.write("join.token", &format!("{}\n", token["token"].as_str().unwrap()));
    let mut worker = mill
        .command(&[
            "worker",
            "--url",
            &server.url,
            "--join-token-file",
            token_file.to_str().unwrap(),
            "--work-dir",
            "w",
            "--dags-dir",
            "dags",
        ])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let run = json(&mill, &["dags", "trigger", "hello", "--wait"]);
    assert_eq!(run["state"], "success");
    let pid = worker.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(worker.wait().unwrap().code(), Some(0));
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
}
