//! Writes a DAG as TOML, and remembers which line came from what.

use std::fmt::Write as _;

use toml::Value;

use super::{Dag, Script, Task, literal};

/// Where the scripts of a DAG go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scripts {
    /// Into files beside the DAG file.
    Beside,
    /// Into the command, so that the DAG file is all there is.
    Inside,
}

/// What a line of the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nothing.
    Nothing,
    /// A key of `[dag]`.
    Key(String),
    /// A parameter.
    Param(String),
    /// A task, by its place.
    Task(usize),
}

/// A DAG file.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) text: String,
    owners: Vec<Owner>,
}

impl Written {
    /// Returns what a line says; lines count from 1.
    pub(crate) fn owner(&self, line: u32) -> &Owner {
        let at = usize::try_from(line).unwrap_or(usize::MAX).wrapping_sub(1);
        self.owners.get(at).unwrap_or(&Owner::Nothing)
    }

    fn add(&mut self, owner: &Owner, lines: &str) {
        self.text.push_str(lines);
        self.text.push('\n');
        self.owners.extend(std::iter::repeat_n(owner.clone(), lines.split('\n').count()));
    }

    fn key(&mut self, owner: &Owner, name: &str, value: &Value) {
        self.add(owner, &format!("{} = {}", bare(name), shown(value)));
    }

    fn comments(&mut self, owner: &Owner, comments: &[String]) {
        for comment in comments.iter().flat_map(|comment| comment.split('\n')) {
            let clean: String =
                comment.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
            self.add(owner, format!("# {clean}").trim_end());
        }
    }
}

/// Returns a key as TOML wants it.
fn bare(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_bare { name.to_owned() } else { shown(&Value::from(name)) }
}

/// Returns a value on as few lines as it takes.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            let length: usize = items.iter().map(|item| item.len() + 2).sum();
            if length > 90 && items.len() > 1 {
                let mut text = String::from("[\n");
                for item in &items {
                    // Writing into a string cannot fail.
                    let _ = writeln!(text, "  {item},");
                }
                return format!("{text}]");
            }
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let items: Vec<String> =
                table.iter().map(|(key, value)| format!("{} = {}", bare(key), shown(value))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Writes a DAG file.
pub(crate) fn write(dag: &Dag, scripts: Scripts) -> Written {
    let mut out = Written::default();
    out.comments(&Owner::Nothing, &dag.comments);
    if !dag.comments.is_empty() {
        out.add(&Owner::Nothing, "");
    }
    out.add(&Owner::Nothing, "[dag]");
    out.key(&Owner::Key("id".to_owned()), "id", &Value::from(dag.id.as_str()));
    for (name, value) in &dag.keys {
        out.key(&Owner::Key(name.clone()), name, value);
    }
    for (name, keys) in &dag.params {
        let owner = Owner::Param(name.clone());
        out.add(&Owner::Nothing, "");
        out.add(&owner, &format!("[params.{}]", bare(name)));
        for (key, value) in keys {
            out.key(&owner, key, value);
        }
    }
    for (index, task) in dag.tasks.iter().enumerate() {
        write_task(task, &Owner::Task(index), scripts, &mut out);
    }
    out
}

fn write_task(task: &Task, owner: &Owner, scripts: Scripts, out: &mut Written) {
    out.add(&Owner::Nothing, "");
    out.comments(owner, &task.comments);
    out.add(owner, "[[task]]");
    out.key(owner, "id", &Value::from(task.id.as_str()));
    if let Some(script) = &task.script {
        out.key(owner, "command", &Value::from(command(script, scripts)));
    }
    for (name, value) in &task.keys {
        out.key(owner, name, value);
    }
}

fn command(script: &Script, scripts: Scripts) -> Vec<String> {
    let python = script.python.clone();
    match scripts {
        // Without `-B` every run would leave a cache in the DAG folder.
        Scripts::Beside => vec![python, "-B".to_owned(), script.name.clone()],
        Scripts::Inside => vec![python, "-c".to_owned(), literal(&script.text)],
    }
}
