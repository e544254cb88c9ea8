//! Values in commands, proved on real shells: dash and bash, both started as `sh`, and bash as itself.
//!
//! `corpus` holds the payloads, `contexts` every accepted place with what it must do, `refused` every refused
//! one with its code, `fuzz` random scripts.

mod contexts;
mod corpus;
mod fuzz;
mod refused;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use chrono::{TimeZone, Utc};
use serde_json::{Value as Json, json};
use tidemill_engine::{
    ids::{DagId, RunId, TaskId},
    state::RunType,
    template::{CheckScope, Context, Kind, TemplateProblem, check},
};

/// Shells as (program, the name it is started under).
const SHELLS: &[(&str, &str)] = &[("/bin/dash", "sh"), ("/bin/bash", "sh"), ("/bin/bash", "bash")];

/// Returns a context whose params are `v` and a list `l` of it.
fn context(value: &str) -> Context {
    let params = json!({"v": value, "l": [value, value], "n": 3});
    let Json::Object(params) = params else { unreachable!("it is an object") };
    let at = |day| Utc.with_ymd_and_hms(2026, 11, day, 0, 0, 0).unwrap();
    Context {
        dag_id: DagId::new("dag").unwrap(),
        dag_description: None,
        dag_tags: Vec::new(),
        dag_owner: None,
        timezone: chrono_tz::UTC,
        task_id: Some(TaskId::new("task").unwrap()),
        run_id: RunId::new("manual__1").unwrap(),
        run_type: RunType::Manual,
        logical_date: at(5),
        data_interval_start: at(5),
        data_interval_end: at(6),
        prev_data_interval_start_success: None,
        prev_data_interval_end_success: None,
        try_number: 1,
        epoch: 1,
        map_index: -1,
        map_value: None,
        mapped_outputs: BTreeMap::new(),
        params,
        conf: serde_json::Map::new(),
        variables: BTreeMap::new(),
        connections: BTreeMap::new(),
        outputs: BTreeMap::from([("up".to_owned(), BTreeMap::from([("k".to_owned(), json!(value))]))]),
        triggering_asset_events: BTreeMap::new(),
    }
}

/// Checks a command that may use the params of [`context`] and the outputs of the task `up`.
fn problems(template: &str) -> Vec<TemplateProblem> {
    let params = BTreeSet::from(["v".to_owned(), "l".to_owned(), "n".to_owned()]);
    let tasks = BTreeSet::from(["up".to_owned(), "task".to_owned()]);
    let scope = CheckScope {
        params: &params,
        tasks: &tasks,
        task: Some("task"),
        is_mapped: false,
        has_answer: false,
        is_upstream: &|id| id == "up",
    };
    check(Kind::Shell, template, &scope)
}

fn errors(template: &str) -> Vec<TemplateProblem> {
    problems(template).into_iter().filter(|problem| !problem.is_warning).collect()
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shell-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Returns the names of the files in it.
    fn files(&self) -> BTreeSet<Vec<u8>> {
        use std::os::unix::ffi::OsStringExt;
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_vec()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a script as a worker does and returns what it printed and whether it succeeded.
fn run(
    shell: (&str, &str),
    script: &str,
    env: &BTreeMap<String, String>,
    folder: &Folder,
) -> (Vec<u8>, bool) {
    let output = Command::new(shell.0)
        .arg0(shell.1)
        .arg("-c")
        .arg(script)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .envs(env)
        .current_dir(&folder.0)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} is needed by this test: {error}", shell.0));
    (output.stdout, output.status.success())
}
