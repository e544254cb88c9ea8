//! Loads what an import would write, and takes out what the engine refuses.

use std::collections::BTreeMap;

use tidemill_engine::definition::{Loaded, load};

use super::{
    Dag, Entry, Imported, Level,
    write::{Owner, Scripts, Written, write},
};

/// Each round takes something out, so it ends; a file that needs more is given up.
const ROUNDS: usize = 50;

/// Returns the files of an import, each with its DAG's place, as the engine accepts them. What had to be taken out is
/// reported; a DAG of which nothing is left is dropped.
pub(crate) fn accept(imported: &mut Imported, scripts: Scripts) -> Vec<Written> {
    let (mut kept, mut files) = (Vec::new(), Vec::new());
    for mut dag in std::mem::take(&mut imported.dags) {
        match accepted(&mut dag, scripts, &mut imported.entries) {
            Some(written) => {
                kept.push(dag);
                files.push(written);
            }
            None => imported.entries.push(Entry {
                line: dag.line,
                level: Level::Problem,
                dag_id: Some(dag.id.clone()),
                task_id: None,
                message: "the DAG cannot be converted: what is left of it is no valid DAG file".to_owned(),
            }),
        }
    }
    imported.dags = kept;
    imported.entries.sort();
    imported.entries.dedup();
    files
}

fn accepted(dag: &mut Dag, scripts: Scripts, entries: &mut Vec<Entry>) -> Option<Written> {
    for _ in 0..ROUNDS {
        let written = write(dag, scripts);
        let loaded = load(written.text.as_bytes(), &dag.id);
        if !loaded.has_errors() {
            return Some(written);
        }
        if !repair(dag, &written, &loaded, entries) {
            return None;
        }
    }
    None
}

/// Takes out what the engine refused. Returns false when it cannot be said what that is.
fn repair(dag: &mut Dag, written: &Written, loaded: &Loaded, entries: &mut Vec<Entry>) -> bool {
    let mut refused: BTreeMap<usize, String> = BTreeMap::new();
    let mut is_changed = false;
    let dag_id = dag.id.clone();
    for problem in loaded.problems.iter().filter(|problem| problem.is_error()) {
        let line = problem.spans.first().map_or(0, |span| span.line);
        let why = format!("{}: {}", problem.code.as_str(), problem.message);
        let mut report = |line: usize, task: Option<&str>, message: String| {
            entries.push(Entry {
                line,
                level: Level::Problem,
                dag_id: Some(dag_id.clone()),
                task_id: task.map(str::to_owned),
                message,
            });
        };
        match written.owner(line) {
            Owner::Task(index) => {
                let Some(task) = dag.tasks.get(*index) else { continue };
                if !refused.contains_key(index) {
                    report(task.line, Some(&task.id), format!("not converted: {why}"));
                }
                refused.entry(*index).or_insert(why);
            }
            Owner::Key(name) if name != "id" => {
                report(dag.line, None, format!("`{name}` is left out: {why}"));
                dag.comments.push(format!("NOT CONVERTED: {name}: {why}"));
                dag.keys.retain(|(key, _)| key != name);
                is_changed = true;
            }
            Owner::Param(name) => {
                report(dag.line, None, format!("the param `{name}` is left out: {why}"));
                dag.comments.push(format!("NOT CONVERTED: params.{name}: {why}"));
                dag.params.retain(|(param, _)| param != name);
                is_changed = true;
            }
            Owner::Key(_) | Owner::Nothing => {}
        }
    }
    for (index, why) in refused {
        let Some(task) = dag.tasks.get_mut(index) else { continue };
        if task.comments.iter().any(|comment| comment.starts_with("NOT CONVERTED")) {
            // What is left of it is refused too: only its place in the graph stays.
            let before = task.keys.len();
            task.keys
                .retain(|(key, _)| ["command", "depends_on", "fail_on_exit_code"].contains(&key.as_str()));
            is_changed |= task.keys.len() < before;
        } else {
            task.refuse(&why);
            is_changed = true;
        }
    }
    is_changed
}
