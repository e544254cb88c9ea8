//! What a DAG names that lives on a server and not in its file: variables and connections.

use std::collections::BTreeMap;

use super::{connections_of_task, needs_of_preparation, needs_of_task};
use crate::{
    definition::{Code, Dag, Problem, Severity},
    ids::TaskId,
    preparation::Preparation,
};

/// How many tasks a warning names.
const NAMED: usize = 5;

/// Names by the tasks that need them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamesOutside {
    /// Variables.
    pub variables: BTreeMap<String, Vec<TaskId>>,
    /// Connections.
    pub connections: BTreeMap<String, Vec<TaskId>>,
}

impl NamesOutside {
    /// Returns what the tasks of a DAG name.
    #[must_use]
    pub fn of(dag: &Dag) -> Self {
        let mut found = Self::default();
        for task in &dag.tasks {
            let mut needs = needs_of_task(task);
            needs.merge(needs_of_preparation(task, Preparation::Map));
            let mut connections = connections_of_task(task);
            connections.extend(needs.connections);
            for name in needs.variables {
                found.variables.entry(name).or_default().push(task.id.clone());
            }
            for id in connections {
                found.connections.entry(id).or_default().push(task.id.clone());
            }
        }
        found
    }

    /// Whether nothing is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.connections.is_empty()
    }

    /// Says which of them a server does not have. A warning: they can be made later.
    #[must_use]
    pub fn missing(
        &self,
        has_variable: impl Fn(&str) -> bool,
        has_connection: impl Fn(&str) -> bool,
    ) -> Vec<Problem> {
        let variables = self.variables.iter().filter(|(name, _)| !has_variable(name));
        let connections = self.connections.iter().filter(|(id, _)| !has_connection(id));
        let variables = variables.map(|(name, tasks)| problem("variable", name, tasks));
        variables.chain(connections.map(|(id, tasks)| problem("connection", id, tasks))).collect()
    }
}

fn problem(what: &str, name: &str, tasks: &[TaskId]) -> Problem {
    let shown: Vec<String> = tasks.iter().take(NAMED).map(|task| format!("`{task}`")).collect();
    let more = tasks.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Problem {
        code: Code::NOT_ON_SERVER,
        severity: Severity::Warning,
        message: format!("the server has no {what} `{name}`, which {}{more} will ask for", shown.join(", ")),
        help: Some(if what == "variable" {
            format!("make it with `tidemill variables set {name}`")
        } else {
            format!("make it with `tidemill connections set {name}`")
        }),
        suggestion: None,
        spans: Vec::new(),
    }
}
