//! The JSON Schema that `tidemill schema dag` prints, against an independent validator: what the loader accepts is valid, and much
//! of what it refuses is not.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use tidemill_engine::definition::{
    keys::{KEYS, Kind, Status, TableId},
    load,
};

use super::{
    python::python,
    server::{binary, repository},
};

/// Reads `{"schema", "cases": [{"name", "schema", "value"}]}` and prints `{name: first error or null}`.
const VALIDATE: &str = r##"
import json, sys
from jsonschema import Draft7Validator

given = json.load(sys.stdin)
Draft7Validator.check_schema(given["schema"])
root = Draft7Validator(given["schema"])
found = {}
for case in given["cases"]:
    validator = root
    if case["definition"]:
        validator = root.evolve(schema={"$ref": case["definition"], "definitions": given["schema"]["definitions"]})
    error = next(validator.iter_errors(case["value"]), None)
    found[case["name"]] = error and f"{list(error.absolute_path)}: {error.message[:300]}"
print(json.dumps(found))
"##;

/// Returns a TOML value as an editor's validator sees it: dates are texts.
fn plain(value: &toml::Value) -> Value {
    match value {
        toml::Value::Datetime(date) => json!(date.to_string()),
        toml::Value::Array(items) => items.iter().map(plain).collect(),
        toml::Value::Table(table) => {
            Value::Object(table.iter().map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        other => json!(other),
    }
}

fn parse(text: &str) -> Option<Value> {
    text.parse::<toml::Table>().ok().map(|table| plain(&toml::Value::Table(table)))
}

fn case(name: &str, definition: Option<&str>, value: Value) -> Value {
    json!({ "name": name, "definition": definition, "value": value })
}

fn schema() -> Value {
    let output = Command::new(binary()).args(["schema", "dag"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn validate(schema: &Value, cases: Vec<Value>) -> Vec<(String, Option<String>)> {
    use std::io::Write as _;
    let mut child = Command::new(python())
        .args(["-c", VALIDATE])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let given = json!({ "schema": schema, "cases": cases });
    child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let found: serde_json::Map<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    found.into_iter().map(|(name, error)| (name, error.as_str().map(str::to_owned))).collect()
}

fn files(folder: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(repository().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml" || extension == "md"))
        .map(|path: std::path::PathBuf| (name(&path), fs::read_to_string(&path).unwrap_or_default()))
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap().display().to_string()
}

/// Returns the DAG files that stand in documents, as far as the loader accepts them.
fn documented() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, text) in ["docs", "docs/errors", "."].iter().flat_map(|folder| files(folder)) {
        for (number, block) in text.split("```toml\n").skip(1).enumerate() {
            let block = block.split("\n```").next().unwrap_or_default();
            if block.contains("[dag]") && !load(block.as_bytes(), "x").has_errors() {
                found.push((format!("{name} {number}"), block.to_owned()));
            }
        }
    }
    found
}

#[test]
fn what_the_loader_accepts_is_valid_and_what_it_refuses_is_often_not() {
    let schema = schema();
    let mut good = [files("dags"), files("engine/tests/good_files"), documented()].concat();
    good.retain(|(name, text)| !name.ends_with(".md") && !load(text.as_bytes(), name).has_errors());
    let good_cases = good.iter().map(|(name, text)| case(name, None, parse(text).unwrap())).collect();
    let wrong: Vec<_> =
        validate(&schema, good_cases).into_iter().filter(|(_, error)| error.is_some()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    let bad: Vec<_> = files("engine/tests/bad_files")
        .iter()
        .filter_map(|(name, text)| Some(case(name, None, parse(text)?)))
        .collect();
    let all = bad.len();
    let (mut marked, mut warned) = (0, Vec::new());
    for (name, error) in validate(&schema, bad) {
        let text = fs::read(repository().join(&name)).unwrap();
        let is_refused = load(&text, &name).has_errors();
        marked += usize::from(is_refused && error.is_some());
        if !is_refused && error.is_some() {
            warned.push((name, error));
        }
    }
    println!("{}", json!({ "good": good.len(), "bad": all, "bad_marked": marked }));
    assert!(warned.is_empty(), "the loader accepts these: {warned:#?}");
    assert!(good.len() >= 8 && marked >= 60, "{} {marked}", good.len());
}

#[test]
fn every_example_of_a_key_is_valid_and_a_value_of_another_type_is_not() {
    let schema = schema();
    let (mut examples, mut others) = (Vec::new(), Vec::new());
    for spec in KEYS.iter().filter(|spec| spec.status == Status::Built && spec.table != TableId::Root) {
        let table = format!("{:?}", spec.table).to_lowercase();
        // The keys that operators share stand in a task, like those of one operator.
        let is_of_task = spec.table.operator().is_some() || !spec.table.shared_by().is_empty();
        let table = if is_of_task { "task".to_owned() } else { table };
        let definition = format!("#/definitions/{table}/properties/{}", spec.name);
        let name = format!("{:?}.{}", spec.table, spec.name);
        let line = format!("{} = {}", spec.name, spec.example);
        let value = parse(&line).unwrap_or_else(|| panic!("{line}"))[spec.name].clone();
        examples.push(case(&name, Some(&definition), value));
        if !matches!(spec.kind, Kind::Special(_)) {
            others.push(case(&name, Some(&definition), json!({ "no such": [["key"]] })));
        }
    }
    let (all, of_others) = (examples.len(), others.len());
    let wrong: Vec<_> =
        validate(&schema, examples).into_iter().filter(|(_, error)| error.is_some()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let taken: Vec<_> = validate(&schema, others).into_iter().filter(|(_, error)| error.is_none()).collect();
    assert!(taken.is_empty(), "{taken:#?}");
    println!("{}", json!({ "examples": all, "others": of_others }));
    assert!(all >= 90, "{all}");
}
