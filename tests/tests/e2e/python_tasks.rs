//! `python` tasks through the real binary: outputs become arguments, and `uv` builds the environment once.

use std::{fs, time::Instant};

use super::{
    python::python,
    server::{Options, Server},
};

const LIBRARY: &str = r#"
import iniconfig

def sizes(rows):
    return {"rows": [{"size": n, "name": "it's $(" + str(n)} for n in range(rows)], "kind": "list"}

def total(rows, kind, label):
    assert isinstance(rows, list) and kind == "list", (rows, kind)
    print("label:", label)
    return sum(row["size"] for row in rows)

def quit():
    raise SystemExit(99)

def fail():
    raise KeyError("no such row")
"#;

const DAG: &str = r#"[dag]
id = "counted"

[dag.default_args]
skip_on_exit_code = [99]

[params.rows]
type = "integer"
default = 4

[[task]]
id = "list"
operator = "python"
callable = "lib/work.py:sizes"
kwargs = { rows = "{{ params.rows }}" }
requirements = ["iniconfig==2.0.0"]

[[task]]
id = "total"
operator = "python"
callable = "lib/work.py:total"
args = ["{{ outputs.list.rows }}", "{{ outputs.list.kind }}", "{{ dag.dag_id }} on {{ ds }}"]
requirements = ["iniconfig==2.0.0"]
depends_on = ["list"]

[[task]]
id = "told"
command = "echo total={{ outputs.total.return_value }}"
depends_on = ["total"]

[[task]]
id = "quits"
operator = "python"
callable = "lib/work.py:quit"
requirements = ["iniconfig==2.0.0"]

[[task]]
id = "fails"
operator = "python"
callable = "lib/work.py:fail"
requirements = ["iniconfig==2.0.0"]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_become_arguments_and_the_environment_is_built_once() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(dags.join("lib")).unwrap();
    fs::write(dags.join("lib/work.py"), LIBRARY).unwrap();
    fs::write(dags.join("counted.toml"), DAG).unwrap();
    let mut options = Options::new(&dags, &folder.path().join("data"));
    let tools = python().parent().unwrap().display().to_string();
    let path = format!("{tools}:{}", std::env::var("PATH").unwrap());
    options.env.insert("PATH".to_owned(), path);
    let server = Server::start(&options);
    let client = &server.client;
    let started = Instant::now();
    let mut built = 0;
    let tasks = ["list", "total", "told", "quits", "fails"];
    for round in 0..2 {
        let run = client.trigger("counted", None).await;
        let ended = client.wait("counted", &run).await;
        assert_eq!(ended["state"], "failed", "{ended}");
        let mut states = Vec::new();
        let mut logs = Vec::new();
        for task in tasks {
            let instance = client.task("counted", &run, task).await;
            states.push(instance["state"].as_str().unwrap().to_owned());
            logs.push(String::from_utf8(client.log("counted", &run, task, 1).await).unwrap());
        }
        assert_eq!(
            states,
            ["success", "success", "success", "skipped", "failed"],
            "{}",
            logs.join("\n---\n")
        );
        assert!(logs[1].contains("label: counted on 2"), "{}", logs[1]);
        assert!(logs[2].contains("total=6"), "{}", logs[2]);
        let fails = client.task("counted", &run, "fails").await;
        assert_eq!(fails["reason"], "WRK0312: KeyError: 'no such row'", "{fails}");
        let builds = logs.iter().map(|log| log.matches(": built in ").count()).sum::<usize>();
        assert_eq!(builds, usize::from(round == 0), "{}", logs.join("\n---\n"));
        assert!(round > 0 || logs.join("").contains("building with uv"), "{}", logs.join("\n---\n"));
        built += builds;
    }
    println!(
        "{{\"tries\":{},\"built\":{built},\"seconds\":{}}}",
        2 * tasks.len(),
        started.elapsed().as_secs()
    );
}
