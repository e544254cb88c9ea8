//! Converts tasks.

use std::collections::{BTreeMap, BTreeSet};

use ruff_text_size::TextRange;
use tidemill_engine::definition::keys::TableId;
use toml::Value as Toml;

use super::{
    common::{self, Mapped},
    interp::{Interp, TaskDraft, Work},
    jinja, mapped, other_runs, outside, python, sensors, shell,
    value::{Keyword, Value},
};
use crate::import::{Entry, Level, Task, is_built, words};

/// One task on its way.
pub(super) struct Making<'c, 'a> {
    pub(super) interp: &'c Interp<'a>,
    pub(super) draft: &'c TaskDraft<'a>,
    pub(super) dag_id: &'c str,
    pub(super) task: Task,
    /// The outputs that it names: task of Airflow, key.
    pub(super) pulls: BTreeSet<(String, String)>,
    /// It pulls from tasks that only Python can tell.
    pub(super) pulls_unknown: bool,
    /// It pulls by its script and not by templates.
    pub(super) is_script: bool,
    /// The translated script of a shell, to which the push of the last line may be added.
    pub(super) shell: Option<String>,
    /// What follows it and holds back what is below: a branch or a gate.
    pub(super) gate: Option<Task>,
    pub(super) entries: Vec<Entry>,
}

impl<'a> Making<'_, 'a> {
    pub(super) fn keyword(&self, name: &str) -> Option<&Keyword<'a>> {
        self.draft.keywords.iter().rev().find(|keyword| keyword.name == name)
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value<'a>> {
        self.keyword(name).map(|keyword| &keyword.value).filter(|value| !matches!(value, Value::None))
    }

    pub(super) fn report(&mut self, level: Level, at: TextRange, message: String) {
        if level == Level::Problem {
            self.task.comments.push(format!("NOT CONVERTED: {message}"));
        }
        self.entries.push(Entry {
            line: self.interp.source.line_of(at),
            level,
            dag_id: Some(self.dag_id.to_owned()),
            task_id: Some(self.task.id.clone()),
            message,
        });
    }

    pub(super) fn problem(&mut self, message: impl Into<String>) {
        self.report(Level::Problem, self.draft.range, message.into());
    }

    pub(super) fn note(&mut self, message: impl Into<String>) {
        self.report(Level::Note, self.draft.range, message.into());
    }

    /// Gives it up: it becomes a task that fails and says so.
    pub(super) fn refuse(&mut self, why: &str) {
        self.entries.push(Entry {
            line: self.interp.source.line_of(self.draft.range),
            level: Level::Problem,
            dag_id: Some(self.dag_id.to_owned()),
            task_id: Some(self.task.id.clone()),
            message: format!("not converted: {why}; the task fails when it runs"),
        });
        self.task.refuse(why);
        (self.shell, self.gate) = (None, None);
    }

    /// Translates a template and remembers what it pulls.
    pub(super) fn template(&mut self, text: &str) -> String {
        let translated = jinja::translate(text);
        self.pulls.extend(translated.pulls);
        for problem in translated.problems {
            self.problem(problem);
        }
        translated.text
    }

    /// Returns an argument as a translated template; `None`, reported, where only Python can tell.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let value = self.value(name)?.clone();
        match self.interp.text_of(&value) {
            Some(text) => Some(self.template(&text)),
            None => {
                self.problem(format!("`{name}` has a value that only Python can tell"));
                None
            }
        }
    }

    /// Sets the environment that an argument gives.
    pub(super) fn env(&mut self, more: Vec<(String, String)>) {
        let mut env = toml::Table::new();
        if let Some(Value::Dict(items)) = self.value("env").cloned() {
            for (name, value) in items {
                match (name.as_str(), self.interp.text_of(&value)) {
                    (Some(name), Some(text)) => {
                        let text = self.template(&text);
                        env.insert(name.to_owned(), Toml::from(text));
                    }
                    _ => self.problem("a variable of `env` has a value that only Python can tell"),
                }
            }
        } else if self.value("env").is_some() {
            self.problem("`env` has a value that only Python can tell");
        }
        env.extend(more.into_iter().map(|(name, value)| (name, Toml::from(value))));
        if !env.is_empty() {
            self.task.set("env", Toml::Table(env));
        }
    }

    /// Sets the keys that every operator has; `own` are those of the operator.
    fn common(&mut self, own: &[&str]) {
        for keyword in &self.draft.keywords {
            if ["start_date", "end_date"].contains(&keyword.name.as_str()) {
                let message = format!("`{}` of a task has no counterpart: dates are the DAG's", keyword.name);
                self.report(Level::Problem, keyword.range, message);
            }
            match common::map(&keyword.name, &keyword.value) {
                Mapped::Set(key, value) => self.task.set(key, value),
                Mapped::Nothing => {}
                Mapped::Note(text) => self.report(Level::Note, keyword.range, text),
                Mapped::Problem(text) => self.report(Level::Problem, keyword.range, text),
                Mapped::Unknown if own.contains(&keyword.name.as_str()) || own == ["*"] => {}
                Mapped::Unknown => {
                    let message = format!("`{}` is left out", keyword.name);
                    self.report(Level::Problem, keyword.range, message);
                }
            }
        }
    }

    fn bash(&mut self) {
        let Some(command) = self.text("bash_command") else {
            return self.refuse("a `bash_command` that only Python can tell");
        };
        let is_file = [".sh", ".bash"].iter().any(|end| command.ends_with(end))
            && !command.contains(['\n', '|', ';', '&']);
        if is_file && !command.trim().contains(' ') {
            self.note(format!("Airflow reads `{command}` as a template; here bash runs the file as it is"));
            self.task.set("command", vec!["bash", command.trim()]);
        } else {
            let command = match self.text("cwd") {
                Some(folder) => format!("cd '{folder}' || exit 1\n{command}"),
                None => command,
            };
            self.task.set("command", shell::command(command.trim_end()));
            self.shell = Some(command.trim_end().to_owned());
        }
        let codes = match self.value("skip_on_exit_code").or_else(|| self.value("skip_exit_code")) {
            Some(Value::Int(code)) => Some(vec![*code]),
            Some(Value::List(items)) => Some(
                items
                    .iter()
                    .filter_map(|item| if let Value::Int(code) = item { Some(*code) } else { None })
                    .collect(),
            ),
            _ => None,
        };
        if let Some(codes) = codes {
            self.task.set("skip_on_exit_code", codes);
        }
        self.env(Vec::new());
        self.common(&["bash_command", "env", "append_env", "cwd", "skip_on_exit_code", "skip_exit_code"]);
    }

    fn operator(&mut self, class: &str) {
        match class {
            "BashOperator" => self.bash(),
            "EmptyOperator" | "DummyOperator" => {
                self.task.set("operator", "noop");
                self.common(&[]);
            }
            "LatestOnlyOperator" => {
                self.task.set("operator", "latest_only");
                self.common(&[]);
            }
            "PythonOperator"
            | "PythonVirtualenvOperator"
            | "ExternalPythonOperator"
            | "BranchPythonOperator"
            | "BranchPythonVirtualenvOperator"
            | "BranchExternalPythonOperator"
            | "ShortCircuitOperator" => {
                python::operator(self, class);
                self.common(python::OWN);
            }
            "TriggerDagRunOperator" => {
                other_runs::trigger(self);
                self.common(other_runs::TRIGGER);
            }
            "ExternalTaskSensor" => {
                other_runs::sensor(self);
                self.common(other_runs::SENSOR);
            }
            _ if sensors::convert(self, class) => self.common(sensors::OWN),
            _ if outside::convert(self, class) => self.common(outside::OWN),
            _ => {
                let hint = hint(class);
                self.common(&["*"]);
                self.refuse(&format!("there is no counterpart of {class}{hint}"));
            }
        }
    }
}

/// Says what to use in place of an operator.
fn hint(class: &str) -> &'static str {
    match class {
        "EmailOperator" | "SlackWebhookOperator" | "SlackAPIPostOperator" => " (see the operator `notify`)",
        "DockerOperator" => " (a `command` with `docker run` does it)",
        "KubernetesPodOperator" => " (a `command` with `kubectl run` does it)",
        "SSHOperator" => " (a `command` with ssh does it)",
        _ => "",
    }
}

/// Converts the tasks of a DAG.
pub(super) fn convert(interp: &Interp<'_>, dag: usize, dag_id: &str, entries: &mut Vec<Entry>) -> Vec<Task> {
    let members: Vec<usize> = (0..interp.tasks.len())
        .filter(|task| interp.tasks.get(*task).is_some_and(|task| task.dag == Some(dag)))
        .collect();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeMap::new();
    let mut makings = Vec::new();
    for index in &members {
        let Some(draft) = interp.tasks.get(*index) else { continue };
        let id = words::unique(&words::id(&draft.id), &mut taken);
        ids.insert(*index, id.clone());
        let line = interp.source.line_of(draft.range);
        let origin = interp.source.slice(draft.range).to_owned();
        let task = Task { id, line, origin, ..Task::default() };
        let making = Making {
            interp,
            draft,
            dag_id,
            task,
            pulls: BTreeSet::new(),
            pulls_unknown: false,
            is_script: false,
            shell: None,
            gate: None,
            entries: Vec::new(),
        };
        makings.push((*index, making));
    }
    for (_, making) in &mut makings {
        fill(making, &mut taken);
    }
    let pulled: BTreeSet<String> = makings
        .iter()
        .flat_map(|(_, making)| &making.pulls)
        .filter(|(_, key)| key == "return_value" || key == "*")
        .map(|(task, _)| task.clone())
        .collect();
    let exits: BTreeMap<usize, String> = makings
        .iter()
        .map(|(index, making)| {
            (*index, making.gate.as_ref().map_or_else(|| making.task.id.clone(), |gate| gate.id.clone()))
        })
        .collect();
    let mut tasks = Vec::new();
    for (index, mut making) in makings {
        if let Some(script) = making.shell.as_ref().filter(|_| pulled.contains(&making.draft.id)) {
            let command = shell::command(&shell::with_return_value(script));
            making.task.set("command", command);
        }
        link(&mut making, index, &exits, &ids);
        entries.append(&mut making.entries);
        tasks.push(making.task);
        tasks.extend(making.gate);
    }
    tasks
}

fn fill(making: &mut Making<'_, '_>, taken: &mut BTreeSet<String>) {
    if making.task.id != making.draft.id {
        making.problem(format!(
            "the id {:?} becomes `{}`: ids here have letters, digits, `_`, `.` and `-`",
            making.draft.id, making.task.id
        ));
    }
    match &making.draft.work {
        Work::Operator(class) => making.operator(class),
        Work::Function(function, kind, args, keywords) => {
            python::task(making, function, kind, args, keywords);
            making.common(python::OWN);
        }
        Work::Unknown(what) => {
            let why = format!("{what} has no counterpart yet");
            making.common(&["*"]);
            making.refuse(&why);
        }
    }
    mapped::set(making);
    setup_and_teardown(making);
    if let Some(group) = making.draft.group.and_then(|group| making.interp.groups.get(group)) {
        if is_built(TableId::Task, "group") {
            making.task.set("group", words::id(&group.id));
        } else {
            making.task.comments.push(format!("of the task group {}", group.id));
        }
    }
    if let Some(gate) = &mut making.gate {
        gate.id = words::unique(&gate.id, taken);
        gate.line = making.task.line;
    }
}

fn setup_and_teardown(making: &mut Making<'_, '_>) {
    if making.value("_setup").is_some() {
        making.task.set("setup", true);
    }
    let Some(setups) = making.value("_teardown") else { return };
    let setups = match setups {
        Value::List(setups) => setups.clone(),
        other => vec![other.clone()],
    };
    let ids = setups.iter().filter_map(|setup| {
        if let Value::Task(task) = setup { making.interp.tasks.get(*task) } else { None }
    });
    let ids: Vec<String> = ids.map(|task| words::id(&task.id)).collect();
    making.task.set("teardown", if ids.is_empty() { Toml::from(true) } else { Toml::from(ids) });
    if making.value("on_failure_fail_dagrun").and_then(Value::truth) == Some(true) {
        making.task.set("on_failure_fail_run", true);
    }
}

/// Sets what it depends on, and brings it the outputs that it pulls.
fn link(
    making: &mut Making<'_, '_>,
    index: usize,
    exits: &BTreeMap<usize, String>,
    ids: &BTreeMap<usize, String>,
) {
    let up: Vec<&String> = making.draft.up.iter().filter_map(|up| exits.get(up)).collect();
    if making.draft.up.iter().any(|up| !exits.contains_key(up)) {
        making.problem("a dependency on a task of another DAG is left out");
    }
    if !up.is_empty() {
        let list: Vec<Toml> = up.iter().map(|id| Toml::from(id.as_str())).collect();
        let at = usize::from(!making.task.keys.is_empty() && making.task.script.is_none());
        making.task.keys.insert(at, ("depends_on".to_owned(), Toml::Array(list)));
    }
    if !making.is_script || making.task.script.is_none() {
        return;
    }
    let above = ancestors(making.interp, index);
    let names: BTreeMap<&str, (usize, &String)> = ids
        .iter()
        .filter_map(|(at, id)| Some((making.interp.tasks.get(*at)?.id.as_str(), (*at, id))))
        .collect();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut missing = Vec::new();
    for (task, _) in &making.pulls {
        match names.get(task.as_str()) {
            Some((at, id)) if above.contains(at) => drop(wanted.insert((*id).clone())),
            _ => missing.push(task.clone()),
        }
    }
    for task in missing {
        making.problem(format!("it pulls from `{task}`, which is not upstream: the script gets nothing from it; add the dependency"));
    }
    if making.pulls_unknown {
        wanted.extend(above.iter().filter_map(|at| ids.get(at)).take(50).cloned());
    }
    // The outputs of direct upstreams are in the file of the inputs; those of others come by a template.
    wanted.retain(|id| !up.contains(&id));
    if !wanted.is_empty() {
        let items: Vec<String> =
            wanted.iter().map(|id| format!("\"{id}\": {{{{ outputs[\"{id}\"] | tojson }}}}")).collect();
        let mut env = making
            .task
            .keys
            .iter()
            .find(|(key, _)| key == "env")
            .and_then(|(_, env)| env.as_table().cloned())
            .unwrap_or_default();
        env.insert("XCOMS".to_owned(), Toml::from(format!("{{{}}}", items.join(", "))));
        making.task.set("env", Toml::Table(env));
    }
}

fn ancestors(interp: &Interp<'_>, index: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![index];
    while let Some(at) = waiting.pop() {
        for up in interp.tasks.get(at).map(|task| &task.up).into_iter().flatten() {
            if found.insert(*up) {
                waiting.push(*up);
            }
        }
    }
    found
}
