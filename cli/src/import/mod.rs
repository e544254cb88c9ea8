//! Converts what other schedulers run into DAG files.
//!
//! An importer reads text and gives [`Imported`]: DAGs and a report with a line for everything that it could not say
//! in a DAG file. Nothing that was read is executed. What is written is loaded by the engine first, so that
//! `tidemill dags check` accepts it: a task that the engine refuses becomes one that fails and says why ([`accept`]).

pub(crate) mod accept;
pub(crate) mod airflow;
pub(crate) mod crontab;
mod words;
pub(crate) mod write;

use serde::Serialize;
use tidemill_engine::definition::keys::{KEYS, Status, TableId};
use toml::Value;

/// How much an entry of the report matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// It was converted; something about it is good to know.
    Note,
    /// It was not converted, or not with the same meaning.
    Problem,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Entry {
    /// The line of the file that was read, from 1.
    pub(crate) line: usize,
    pub(crate) level: Level,
    pub(crate) dag_id: Option<String>,
    pub(crate) task_id: Option<String>,
    pub(crate) message: String,
}

/// What a file became.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    pub(crate) dags: Vec<Dag>,
    pub(crate) entries: Vec<Entry>,
}

impl Imported {
    /// Whether something was not converted.
    pub(crate) fn has_problems(&self) -> bool {
        self.entries.iter().any(|entry| entry.level == Level::Problem)
    }
}

/// A key of a DAG file with its value.
pub(crate) type Key = (String, Value);

/// A DAG on its way into a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dag {
    pub(crate) id: String,
    /// The line where it was found, from 1.
    pub(crate) line: usize,
    /// Lines above the file, without `#`.
    pub(crate) comments: Vec<String>,
    /// The keys of `[dag]` but the id.
    pub(crate) keys: Vec<Key>,
    /// The tables `[params.NAME]`.
    pub(crate) params: Vec<(String, Vec<Key>)>,
    pub(crate) tasks: Vec<Task>,
}

/// A task on its way into a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) line: usize,
    /// Lines above the table, without `#`.
    pub(crate) comments: Vec<String>,
    /// The keys but the id; `command` is left out where a script stands for it.
    pub(crate) keys: Vec<Key>,
    /// What `python3` runs.
    pub(crate) script: Option<Script>,
    /// What stood in the file that was read, for the comment where it could not be converted.
    pub(crate) origin: String,
}

/// A program that an import writes beside the DAG file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// The interpreter.
    pub(crate) python: String,
    /// The name of the file.
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Task {
    /// Sets a key, in place of an earlier one.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.keys.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.keys.push((name.to_owned(), value)),
        }
    }

    /// Makes it one that fails and says why: what was not converted must not look as if it had run.
    pub(crate) fn refuse(&mut self, why: &str) {
        const KEPT: &[&str] =
            &["depends_on", "trigger_rule", "group", "pool", "pool_slots", "priority_weight", "owner", "doc"];
        self.keys.retain(|(key, _)| KEPT.contains(&key.as_str()));
        self.script = None;
        self.comments.push(format!("NOT CONVERTED: {why}"));
        let mut lines = self.origin.lines();
        self.comments.extend(lines.by_ref().take(40).map(|line| format!("  {line}").trim_end().to_owned()));
        if lines.next().is_some() {
            self.comments.push("  …".to_owned());
        }
        let said = "echo \"this task was not converted; see the comment in the DAG file\" >&2; exit 1";
        self.keys.insert(0, ("command".to_owned(), Value::from(said)));
        self.keys.push(("fail_on_exit_code".to_owned(), Value::from(vec![1])));
    }
}

/// Whether a key can be used today.
pub(crate) fn is_built(table: TableId, name: &str) -> bool {
    KEYS.iter().any(|key| key.table == table && key.name == name && key.status == Status::Built)
}

/// Takes what a template would read out of text that is none.
pub(crate) fn literal(text: &str) -> String {
    if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
        format!("{{% raw %}}{text}{{% endraw %}}")
    } else {
        text.to_owned()
    }
}
