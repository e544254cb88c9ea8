//! Airflow's DAG files. They are programs; here they are read as text, parsed, and followed as far as reading goes.
//!
//! `source` bounds how deep a file nests, the parser gives its tree, `interp`, `eval`, `calls` and `links` follow what it says,
//! `dag`, `tasks`, `python`, `sensors` and `shell` say it as a DAG file, `script` takes functions out into scripts.

mod assets;
mod calls;
mod common;
mod dag;
mod docs;
mod eval;
mod functions;
mod interp;
mod jinja;
mod links;
mod mapped;
mod names;
mod other_runs;
mod outside;
mod params;
mod python;
mod script;
mod sensors;
mod shell;
mod source;
mod tasks;
mod value;
mod vault;

use interp::Interp;
use names::Definitions;
use source::Source;

use super::{Entry, Imported, Level};

/// The stack of the thread that reads: walking a tree takes some of it for each level.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The line, from 1.
    pub(crate) line: usize,
    pub(crate) why: String,
}

/// Converts the text of a Python file; `name` is how the comments call it.
///
/// # Errors
/// The text is not Python, or nests too deeply.
pub(crate) fn import(text: &str, name: &str) -> Result<Imported, Unreadable> {
    if text.len() > source::LONGEST {
        return Err(Unreadable { line: 1, why: "the file is larger than 1 MiB".to_owned() });
    }
    if let Some((line, why)) = source::too_deep(text) {
        return Err(Unreadable { line, why: why.to_owned() });
    }
    std::thread::scope(|scope| {
        let reader =
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || read(text, name));
        match reader.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => Err(Unreadable { line: 1, why: format!("no thread to read it with: {error}") }),
        }
    })
}

fn read(text: &str, name: &str) -> Result<Imported, Unreadable> {
    let source = Source::new(text);
    let parsed = ruff_python_parser::parse_module(text).map_err(|error| Unreadable {
        line: source.line(error.location.start()),
        why: error.error.to_string(),
    })?;
    let body = &parsed.syntax().body;
    let mut interp = Interp::new(&source, Definitions::of(body));
    if let Some(doc) = interp.doc_of(body) {
        interp.bind("__doc__", value::Value::Str(doc));
    }
    interp.body(body);
    let mut entries = std::mem::take(&mut interp.entries);
    if interp.is_exhausted() {
        let message = "the file does too much to be followed to its end; something may be missing";
        entries.push(Entry {
            line: 1,
            level: Level::Problem,
            dag_id: None,
            task_id: None,
            message: message.to_owned(),
        });
    }
    for task in interp.tasks.iter().filter(|task| task.dag.is_none()) {
        entries.push(Entry {
            line: source.line_of(task.range),
            level: Level::Problem,
            dag_id: None,
            task_id: Some(task.id.clone()),
            message: "not converted: the task belongs to no DAG".to_owned(),
        });
    }
    let mut out = Imported::default();
    dag::convert(&interp, name, &mut entries, &mut out.dags);
    entries.extend(interp.uncalled(body));
    out.entries = entries;
    Ok(out)
}

#[cfg(test)]
mod tests;
