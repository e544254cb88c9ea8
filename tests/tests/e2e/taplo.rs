//! The JSON Schema that `tidemill schema dag` prints in the hands of Taplo, which is what editors run: set up as
//! `docs/editor.md` says, it finds nothing wrong with what ships, and much of what is wrong elsewhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tidemill_engine::definition::load;

use super::{
    python::python,
    server::{binary, repository},
};

/// Copies the DAG files of a folder; returns their names.
fn copy(from: &Path, to: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            fs::copy(&path, to.join(&name)).unwrap();
            names.insert(name);
        }
    }
    names
}

/// Returns which files of a folder below `dags/` Taplo finds something wrong with, and everything that it says.
fn marked(root: &Path, folder: &str) -> (BTreeSet<String>, String) {
    let taplo = python().with_file_name("taplo");
    let output = Command::new(taplo)
        .current_dir(root)
        .args(["lint", "--colors", "never", &format!("dags/{folder}/*.toml")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let files = said.lines().filter(|line| line.contains("invalid file")).filter_map(|line| {
        let path = line.split("path=\"").nth(1)?.split('"').next()?;
        Some(PathBuf::from(path).file_name()?.to_string_lossy().into_owned())
    });
    let files: BTreeSet<String> = files.collect();
    assert_eq!(output.status.success(), files.is_empty(), "{said}");
    (files, said)
}

#[test]
fn taplo_set_up_as_documented_marks_what_is_wrong_and_nothing_that_ships() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let schema = Command::new(binary()).args(["schema", "dag"]).output().unwrap();
    assert!(schema.status.success());
    fs::write(root.join("dag.schema.json"), schema.stdout).unwrap();
    let page = fs::read_to_string(repository().join("docs/editor.md")).unwrap();
    let block = page.split("```toml\n").nth(1).and_then(|rest| rest.split("\n```").next()).unwrap();
    assert!(block.contains("[rule.schema]"), "the first block of docs/editor.md is .taplo.toml");
    fs::write(root.join(".taplo.toml"), block).unwrap();

    let mut good = 0;
    for (from, to) in [("dags", "shipped"), ("engine/tests/good_files", "good")] {
        good += copy(&repository().join(from), &root.join("dags").join(to)).len();
        let (files, said) = marked(root, to);
        assert_eq!(files, BTreeSet::new(), "{said}");
    }
    // Not even a schema that is not found may pass for one that finds nothing.
    let broken = [
        ("unknown_key", "[dag]\nid = \"a\"\nshedule = \"@daily\"\n[[task]]\nid = \"t\"\ncommand = \"x\"\n"),
        ("no_id", "[dag]\n[[task]]\nid = \"t\"\ncommand = \"x\"\n"),
        (
            "wrong_type",
            "[dag]\nid = \"a\"\nmax_active_runs = \"one\"\n[[task]]\nid = \"t\"\ncommand = \"x\"\n",
        ),
        (
            "no_word",
            "[dag]\nid = \"a\"\n[[task]]\nid = \"t\"\ncommand = \"x\"\ntrigger_rule = \"all_sucess\"\n",
        ),
        ("other_operator", "[dag]\nid = \"a\"\n[[task]]\nid = \"t\"\noperator = \"noop\"\ncommand = \"x\"\n"),
        ("out_of_range", "[dag]\nid = \"a\"\n[[task]]\nid = \"t\"\ncommand = \"x\"\nretries = -1\n"),
        ("no_command", "[dag]\nid = \"a\"\n[[task]]\nid = \"t\"\n"),
        (
            "param_keyword",
            "[dag]\nid = \"a\"\n[params.p]\nminimun = 1\n[[task]]\nid = \"t\"\ncommand = \"x\"\n",
        ),
        (
            "param_member",
            "[dag]\nid = \"a\"\n[params.p.properties.q]\ntype = \"int\"\n[[task]]\nid = \"t\"\ncommand = \"x\"\n",
        ),
        ("no_toml", "[dag\nid = \"a\"\n"),
    ];
    fs::create_dir_all(root.join("dags/broken")).unwrap();
    for (name, text) in broken {
        fs::write(root.join(format!("dags/broken/{name}.toml")), text).unwrap();
    }
    let (files, said) = marked(root, "broken");
    let expected: BTreeSet<String> = broken.iter().map(|(name, _)| format!("{name}.toml")).collect();
    assert_eq!(files, expected, "{said}");

    let bad = copy(&repository().join("engine/tests/bad_files"), &root.join("dags/bad"));
    let (files, said) = marked(root, "bad");
    for name in &files {
        let text = fs::read(root.join("dags/bad").join(name)).unwrap();
        assert!(load(&text, name).has_errors(), "the loader accepts {name}: {said}");
    }
    println!(
        "{}",
        json!({ "good": good, "broken": expected.len(), "bad": bad.len(), "bad_marked": files.len() })
    );
    assert!(good >= 7 && files.len() >= 100, "{good} {}", files.len());
}
