//! Mapped tasks through the real binary: what each element gets, across a kill; a clear of one element and of the whole
//! task; a thousand elements.

use std::{collections::BTreeMap, fs, time::Instant};

use serde_json::{Value, json};

use super::{
    client::Client,
    server::{Options, Server, cli},
};

const FAN: &str = r#"[dag]
id = "fan"

[[task]]
id = "find"
command = '''cat list.json >> "$TIDEMILL_OUTPUT"'''

[[task]]
id = "each"
command = '''
echo "$TIDEMILL_MAP_INDEX {{ map.index }} $TIDEMILL_TRY_NUMBER "{{ map.value.file }} >> given.txt
test ! -e "hold-$TIDEMILL_MAP_INDEX" || sleep 600
echo "size={{ map.value.file | length }}" >> "$TIDEMILL_OUTPUT"
'''
depends_on = ["find"]
map = { file = "{{ outputs.find.files }}" }
retries = 2
retry_delay = 0

[[task]]
id = "join"
command = '''cp "$TIDEMILL_INPUTS" inputs.json; echo "sizes={{ outputs.each.size | tojson }}" >> "$TIDEMILL_OUTPUT"'''
depends_on = ["each"]
"#;

const WIDE: &str = r#"[dag]
id = "wide"
max_active_tasks = 200

[[task]]
id = "noops"
operator = "noop"
map = "{{ range(1000) | list }}"

[[task]]
id = "commands"
command = "exit $(( TIDEMILL_MAP_INDEX == 77 ))"
depends_on = ["noops"]
map = "{{ range(params.n) | list }}"

[[task]]
id = "too_many"
operator = "noop"
map = "{{ range(1025) | list }}"

[[task]]
id = "no_list"
operator = "noop"
map = "{{ params.n }}"

[params.n]
type = "integer"
default = 100
"#;

async fn tasks(client: &Client, dag: &str, run: &str) -> BTreeMap<(String, i64), Value> {
    let items = client.all(&format!("/dags/{dag}/runs/{run}/tasks")).await;
    let key =
        |item: &Value| (item["task_id"].as_str().unwrap().to_owned(), item["map_index"].as_i64().unwrap());
    items.into_iter().map(|item| (key(&item), item)).collect()
}

fn sorted(path: &std::path::Path) -> Vec<String> {
    let mut lines: Vec<String> =
        fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_element_gets_its_value_and_keeps_it_through_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("fan.toml"), FAN).unwrap();
    // A value is data, whatever stands in it.
    let list = json!({ "files": ["a; touch owned", "$(touch owned)", "it's"] });
    fs::write(dags.join("list.json"), list.to_string()).unwrap();
    fs::write(dags.join("hold-1"), "").unwrap();
    let options = Options::new(&dags, &folder.path().join("data"));
    let mut server = Server::start(&options);
    let id = server.client.trigger("fan", None).await;
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    while sorted(&dags.join("given.txt")).len() < 3 {
        assert!(Instant::now() < deadline, "the elements do not start");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The list is another one now, and the run keeps the one it has.
    fs::write(dags.join("list.json"), json!({ "files": ["x"] }).to_string()).unwrap();
    server.kill();
    fs::remove_file(dags.join("hold-1")).unwrap();
    let server = Server::start(&options);
    let run = server.client.wait("fan", &id).await;
    assert_eq!(run["state"], "success", "{run}");
    let given = sorted(&dags.join("given.txt"));
    let last_of_one = given.iter().rfind(|line| line.starts_with("1 1 ")).unwrap();
    assert_eq!(last_of_one, "1 1 2 $(touch owned)", "{given:?}");
    assert!(given.contains(&"0 0 1 a; touch owned".to_owned()) && given.contains(&"2 2 1 it's".to_owned()));
    assert!(!dags.join("owned").exists());
    let outputs = server.client.get(&format!("/dags/fan/runs/{id}/tasks/join/outputs")).await;
    assert_eq!(outputs["sizes"], "[\"14\",\"14\",\"4\"]", "{outputs}");
    let inputs: Value = serde_json::from_slice(&fs::read(dags.join("inputs.json")).unwrap()).unwrap();
    assert_eq!(inputs["each"], json!([{"size": "14"}, {"size": "14"}, {"size": "4"}]));

    // One element again: its value is the old one. The whole task: the list is the new one.
    let clear = |extra: &[&str]| {
        let mut args = vec!["tasks", "clear", "fan", &id, "each"];
        args.extend(extra);
        let (code, out, err) = cli(&server, &args);
        assert_eq!(code, 0, "{out}{err}");
    };
    clear(&["--map-index", "0"]);
    server.client.wait("fan", &id).await;
    assert_eq!(sorted(&dags.join("given.txt")).iter().filter(|line| line.starts_with("0 0 2 a;")).count(), 1);
    let (code, _, err) = cli(&server, &["tasks", "clear", "fan", &id, "each", "--map-index", "3"]);
    assert!(code == 1 && err.contains("SCH0114"), "{err}");
    let (code, _, err) = cli(&server, &["tasks", "clear", "fan", &id, "find", "--downstream"]);
    assert_eq!(code, 0, "{err}");
    server.client.wait("fan", &id).await;
    let found = tasks(&server.client, "fan", &id).await;
    let states: Vec<(i64, &str)> = found
        .iter()
        .filter(|((task, _), _)| task == "each")
        .map(|((_, index), item)| (*index, item["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [(0, "success"), (1, "removed"), (2, "removed")]);
    let (code, out, err) =
        cli(&server, &["tasks", "logs", "fan", &id, "each", "--map-index", "2", "--try", "1"]);
    assert_eq!(code, 0, "the log of a removed element stays: {out}{err}");
    println!("{{\"elements\":3,\"kills\":1,\"cleared\":2,\"removed\":2}}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_elements_run_and_a_wrong_list_fails_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dags = folder.path().join("dags");
    fs::create_dir_all(&dags).unwrap();
    fs::write(dags.join("wide.toml"), WIDE).unwrap();
    let server = Server::start(&Options::new(&dags, &folder.path().join("data")));
    let id = server.client.trigger("wide", None).await;
    let run = server.client.wait("wide", &id).await;
    assert_eq!(run["state"], "failed", "{run}");
    let found = tasks(&server.client, "wide", &id).await;
    let count = |task: &str, state: &str| {
        found.iter().filter(|((id, _), item)| id == task && item["state"] == state).count()
    };
    assert_eq!(count("noops", "success"), 1000);
    assert_eq!((count("commands", "success"), count("commands", "failed")), (99, 1));
    let reason = |task: &str| found[&(task.to_owned(), -1)]["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason("too_many"), "SCH0113: `map` has 1025 elements, more than max_map_length = 1024");
    assert_eq!(reason("no_list"), "SCH0720: `map` of task `no_list`: it is the number 100 and not a list");
    let whole = server.client.get(&format!("/dags/wide/runs/{id}/tasks/commands")).await;
    assert_eq!(whole["reason"], "100 elements: 1 failed, 99 success", "{whole}");
    let failed = server.client.get(&format!("/dags/wide/runs/{id}/tasks/commands?map_index=77")).await;
    assert_eq!((&failed["state"], &failed["exit_code"]), (&json!("failed"), &json!(1)));
    println!("{{\"noops\":1000,\"commands\":100,\"failed\":1,\"refused\":2}}");
}
