//! The pages in a real Chromium: home → DAG → graph → run → task → log, trigger with params, pause, both themes, three
//! widths, and pages that follow what happens elsewhere.

use std::{fs, path::Path};

use serde_json::json;

use super::{
    python::python,
    server::{Options, Server, repository},
};

const BRANCHING: &str = r#"
[dag]
id = "branching"
description = "Chooses a side"
tags = ["test"]

[params.side]
type = "string"
enum = ["left", "right"]
default = "left"
description = "Which side is followed"

[params.count]
type = "integer"
default = 1
minimum = 1
maximum = 9

[[task]]
id = "pick"
operator = "branch"
branches = "{{ params.side }}"

[[task]]
id = "left"
command = "echo hello from left {{ params.count }}"
depends_on = ["pick"]

[[task]]
id = "right"
command = "echo hello from right {{ params.count }}"
depends_on = ["pick"]

[[task]]
id = "join"
operator = "noop"
depends_on = ["left", "right"]
trigger_rule = "none_failed_min_one_success"
"#;

/// Waits for a pool that does not exist yet, then prints a step after each file that appears.
fn gated(gates: &Path) -> String {
    let script = format!(
        "for n in 1 2 3; do echo step $n of 3; until [ -e {}/$n ]; do sleep 0.05; done; done; printf 'no line ends this'",
        gates.display()
    );
    format!("[dag]\nid = \"gated\"\n\n[[task]]\nid = \"step\"\npool = \"gate\"\ncommand = {script:?}\n")
}

const FAILING: &str = "[dag]\nid = \"failing\"\n\n[[task]]\nid = \"boom\"\ncommand = \"exit 3\"\n";

const ZONED: &str =
    "[dag]\nid = \"zoned\"\ntimezone = \"Europe/Berlin\"\n\n[[task]]\nid = \"only\"\noperator = \"noop\"\n";

const BROKEN: &str = "[dag]\nid = \"broken\"\n\n[[task]]\nid = \"a\"\ncomand = \"true\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_work_in_chromium_in_both_themes() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("branching.toml"), BRANCHING).unwrap();
    fs::write(dags.join("broken.toml"), BROKEN).unwrap();
    fs::write(dags.join("zoned.toml"), ZONED).unwrap();
    let gates = folder.path().join("gates");
    fs::create_dir_all(&gates).unwrap();
    fs::write(dags.join("gated.toml"), gated(&gates)).unwrap();
    fs::write(dags.join("failing.toml"), FAILING).unwrap();
    let server = Server::start(&Options::new(&dags, &folder.path().join("data")));
    // An id as wide as they come: no page may be pushed out of a narrow window by it.
    let run = "W".repeat(48);
    let body = json!({ "conf": {}, "logical_date": null, "run_id": run });
    server.client.post("/dags/branching/runs", &body).await.unwrap();
    let ended = server.client.wait("branching", &run).await;
    assert_eq!(ended["state"], "success", "{ended}");
    let zoned = server.client.trigger("zoned", Some("2026-11-05T00:00:00Z")).await;
    server.client.wait("zoned", &zoned).await;
    let link = server
        .said()
        .split_whitespace()
        .find(|word| word.contains("/login?token="))
        .map(str::to_owned)
        .unwrap_or_else(|| panic!("no login link in:\n{}", server.said()));
    let pictures = repository().join("target/pictures");
    let output = tokio::process::Command::new(python())
        .arg(repository().join("tests/tests/browser/pages.py"))
        .arg(&link)
        .arg(&pictures)
        .arg(&server.client.token)
        .arg(&gates)
        .output()
        .await
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}\nthe server said:\n{}", server.said());
    let counts: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    println!("{counts}");
    assert_eq!(counts["csp_violations"], json!(0));
    assert_eq!(counts["console_messages"], json!(0));
    assert_eq!(counts["problems"], json!(0));
    assert!(counts["pages"].as_u64().unwrap() >= 34, "{counts}");
    assert!(counts["widths"].as_u64().unwrap() >= 102, "{counts}");
    assert_eq!((&counts["panels"], &counts["zones"]), (&json!(2), &json!(3)), "{counts}");
    assert!(counts["live_updates"].as_u64().unwrap() >= 7, "{counts}");
}
