//! The pages about DAG files say what the code says.

use std::{collections::BTreeSet, fs, path::PathBuf};

use expect_test::expect_file;
use tidemill_engine::definition::{
    Code,
    keys::{Default, KEYS, Status, TableId},
    load, reference,
};

use super::bad_files::{corpus, expected};

fn errors_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/errors")
}

/// `UPDATE_EXPECT=1 cargo nextest run -p tidemill-engine docs` writes the page anew.
#[test]
fn the_reference_of_keys_is_the_key_table() {
    expect_file!["../../../docs/dag-files.md"].assert_eq(&reference());
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    for (code, title) in Code::ALL {
        let page = fs::read_to_string(errors_folder().join(format!("{code}.md"))).unwrap_or_default();
        assert_eq!(page.lines().next(), Some(format!("# {code}: {title}").as_str()), "docs/errors/{code}.md");
        for section in ["\n## What\n", "\n## Why\n", "\n## What to do\n", "\n```"] {
            assert!(page.contains(section), "docs/errors/{code}.md has no {section:?}");
        }
    }
    let known: BTreeSet<&str> = Code::ALL.iter().map(|(code, _)| code.as_str()).collect();
    // The templates' codes are another module's; the corpus triggers each of them.
    let triggered: BTreeSet<String> =
        corpus().iter().flat_map(|(_, source)| expected(source).main).map(|(code, ..)| code).collect();
    let mut pages = 0;
    for entry in fs::read_dir(errors_folder()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let code = name.trim_end_matches(".md");
        if code.starts_with("DAG") {
            pages += 1;
            assert!(
                known.contains(code) || triggered.contains(code),
                "nothing gives the code of docs/errors/{name}"
            );
        }
    }
    println!("{} codes of the loader, {pages} pages", known.len());
}

#[test]
fn every_code_of_the_corpus_is_explained() {
    let codes: BTreeSet<String> =
        corpus().iter().flat_map(|(_, source)| expected(source).main).map(|(code, ..)| code).collect();
    for code in &codes {
        assert!(errors_folder().join(format!("{code}.md")).exists(), "{code}");
    }
    println!("{} codes in the corpus", codes.len());
}

/// The DAG files that ship with the product.
#[test]
fn every_shipped_file_loads_without_a_word() {
    let mut count = 0;
    for entry in fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dags")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let loaded = load(&fs::read(&path).unwrap(), &path.to_string_lossy());
            assert_eq!(loaded.problems, [], "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 3);
}

#[test]
fn no_key_is_listed_twice() {
    let mut seen = BTreeSet::new();
    for spec in KEYS {
        assert!(seen.insert((spec.table, spec.name)), "{:?} {}", spec.table, spec.name);
    }
}

/// Builds a file around the example of a key.
fn with_example(table: TableId, line: &str) -> String {
    let dag = "[dag]\nid = \"x\"\n";
    let rest = "[[task]]\nid = \"other\"\noperator = \"noop\"\n";
    let task = |keys: &str| format!("{dag}{rest}[[task]]\nid = \"t\"\n{keys}\n");
    let drift =
        "operator = \"drift\"\nreference = \"r\"\ncurrent = \"c\"\non_drift = \"a\"\non_stable = \"a\"\n";
    match table {
        TableId::Root => String::new(),
        TableId::Dag => format!("{dag}{line}\n{rest}"),
        TableId::Schedule => format!("{dag}schedule = {{ {line} }}\n{rest}"),
        TableId::Deadline => {
            let within = if line.starts_with("from") { "within = \"2h\", " } else { "" };
            format!("{dag}deadline = {{ {within}{line} }}\n{rest}")
        }
        TableId::Param => format!("{dag}[params.p]\n{line}\n{rest}"),
        TableId::Group => {
            let id = if line.starts_with("id") { "" } else { "id = \"load.daily\"\n" };
            format!("{}group = \"load.daily\"\n[[group]]\n{id}{line}\n", task("command = \"true\""))
        }
        TableId::Task => task(&format!("command = \"true\"\n{line}")),
        TableId::Command => task(line),
        TableId::Branch => task(&format!("operator = \"branch\"\n{line}")),
        TableId::Arm => task(&format!("operator = \"branch\"\nbranches = [{{ {line} }}]")),
        TableId::ShortCircuit => {
            let when = if line.starts_with("when") { "" } else { "when = \"true\"\n" };
            task(&format!("operator = \"short_circuit\"\n{when}{line}"))
        }
        TableId::Drift => task(&format!("{drift}{line}")),
        TableId::Numeric => task(&format!("{drift}numeric = {{ {line} }}")),
        TableId::Categorical => task(&format!("{drift}categorical = {{ {line} }}")),
        TableId::Rule => task(&format!("{drift}rule = {{ {line} }}")),
        TableId::Python => {
            let target = if line.starts_with("script") || line.starts_with("callable") {
                ""
            } else {
                "callable = \"a.py:f\"\n"
            };
            task(&format!("operator = \"python\"\n{target}{line}"))
        }
        TableId::Request => {
            let url = if line.starts_with("url") || line.starts_with("connection") {
                ""
            } else {
                "url = \"https://api.example.org/\"\n"
            };
            task(&format!("operator = \"http\"\n{url}{line}"))
        }
        TableId::Http => task(&format!("operator = \"http\"\nurl = \"https://a.example.org/\"\n{line}")),
        TableId::HttpSensor => {
            task(&format!("operator = \"http_sensor\"\nurl = \"https://a.example.org/\"\n{line}"))
        }
        TableId::Query => {
            let database = if line.starts_with("connection") || line.starts_with("database") {
                ""
            } else {
                "connection = \"c\"\n"
            };
            let sql = match line.split(' ').next() {
                Some("sql" | "sql_file") => "",
                Some("parameters") => "sql = \"SELECT :day, :least\"\n",
                _ => "sql = \"SELECT 1\"\n",
            };
            let day = if line.starts_with("sql =") { "parameters = { day = \"x\" }\n" } else { "" };
            task(&format!("operator = \"sql\"\n{database}{sql}{day}{line}"))
        }
        TableId::Sql => task(&format!("operator = \"sql\"\nconnection = \"c\"\nsql = \"SELECT 1\"\n{line}")),
        TableId::SqlSensor => {
            task(&format!("operator = \"sql_sensor\"\nconnection = \"c\"\nsql = \"SELECT 1\"\n{line}"))
        }
        TableId::Notify => task(&format!("operator = \"notify\"\n{line}")),
        TableId::Sensor => task(&format!("operator = \"file_sensor\"\npath = \"f\"\n{line}")),
        TableId::FileSensor => task(&format!("operator = \"file_sensor\"\n{line}")),
        TableId::TimeSensor => {
            let until =
                if line.starts_with("until") || line.starts_with("delay") { "" } else { "delay = 60\n" };
            task(&format!("operator = \"time_sensor\"\n{until}{line}"))
        }
        TableId::TriggerDag | TableId::DagRunSensor => {
            let operator = if table == TableId::TriggerDag { "trigger_dag" } else { "dag_run_sensor" };
            let dag_id = if line.starts_with("dag_id") { "" } else { "dag_id = \"load\"\n" };
            task(&format!("operator = \"{operator}\"\n{dag_id}{line}"))
        }
        TableId::Notification => task(&format!("command = \"true\"\non_failure = {{ {line} }}")),
    }
}

#[test]
fn the_example_of_every_key_is_right_by_itself() {
    // What an example alone cannot have right: its surroundings.
    let about_surroundings = [
        "DAG0005", "DAG0104", "DAG0223", "DAG0402", "DAG0414", "DAG0505", "DAG0602", "DAG0604", "DAG0707",
        "DAG0302", "DAG0409",
    ];
    let mut checked = 0;
    for spec in KEYS.iter().filter(|spec| spec.table != TableId::Root) {
        let line = format!("{} = {}", spec.name, spec.example);
        let text = with_example(spec.table, &line);
        let loaded = load(text.as_bytes(), "x.toml");
        let problems: Vec<String> = loaded
            .problems
            .iter()
            .filter(|problem| problem.is_error() && !about_surroundings.contains(&problem.code.as_str()))
            .map(|problem| format!("{}: {}", problem.code, problem.message))
            .collect();
        match spec.status {
            Status::Built => assert_eq!(problems, Vec::<String>::new(), "{text}"),
            Status::NotBuilt(_) => {
                assert!(problems.iter().any(|p| p.starts_with("DAG0103")), "{text}\n{problems:?}")
            }
        }
        checked += 1;
    }
    println!("{checked} examples");
}

#[test]
fn the_defaults_of_the_table_are_the_defaults_of_the_definition() {
    let loaded = load(b"[dag]\nid = \"x\"\n[[task]]\nid = \"a\"\ncommand = \"true\"\n", "x.toml");
    let json = serde_json::to_value(loaded.dag.unwrap()).unwrap();
    let mut checked = 0;
    for spec in KEYS {
        let found = match spec.table {
            TableId::Dag => &json[spec.name],
            TableId::Task => &json["tasks"][0][spec.name],
            _ => continue,
        };
        let expected: serde_json::Value = match spec.default {
            Default::Int(value) => value.into(),
            Default::Float(value) => value.into(),
            Default::Bool(value) => value.into(),
            Default::Seconds(value) => (value * 1000).into(),
            Default::Text(text) if spec.name != "operator" => text.into(),
            _ => continue,
        };
        // What is as it was before a key came is left out, so that a new key makes no new version of every DAG.
        if found.is_null() && (expected == false || expected == "fail" || spec.name == "max_map_length") {
            continue;
        }
        assert_eq!(*found, expected, "{}", spec.name);
        checked += 1;
    }
    assert!(checked >= 15);
}
