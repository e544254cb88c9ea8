//! Checks every template of a file against what it may refer to.

use std::{collections::BTreeSet, ops::Range};

use super::{
    code::Code,
    graph_checks::Graph,
    mapped, places,
    problem::{Draft, Report},
    task::TaskDraft,
    tree::{Node, Table, Value},
};
use crate::template::{self, CheckScope, Kind};

/// Names that may be missing only because a syntax error hides them.
const ABOUT_OTHER_PLACES: [&str; 2] = ["DAG0706", "DAG0707"];

/// Checks the templates of `[dag]`, of `default_args` and of every task.
pub(crate) fn check(
    root: &Table<'_>,
    drafts: &[TaskDraft<'_>],
    graph: &Graph<'_, '_>,
    report: &mut Report<'_>,
) {
    let params: BTreeSet<String> = keys_of(root.get("params").map(|entry| &entry.node));
    let tasks: BTreeSet<String> =
        drafts.iter().filter_map(|draft| draft.id.as_ref()).map(|(id, _)| (*id).to_owned()).collect();
    let dag = root.get("dag").map(|entry| &entry.node.value);
    if let Some(Value::Table(dag)) = dag {
        let scope = CheckScope {
            params: &params,
            tasks: &tasks,
            task: None,
            is_mapped: false,
            has_answer: false,
            is_upstream: &|_| false,
        };
        messages(dag, &mut |kind, node| one(kind, node, &scope, report));
        if let Some(Value::Table(defaults)) = dag.get("default_args").map(|entry| &entry.node.value) {
            // They are rendered for each task, so any task may be upstream.
            let scope = CheckScope {
                params: &params,
                tasks: &tasks,
                task: Some(""),
                is_mapped: true,
                has_answer: false,
                is_upstream: &|_| true,
            };
            of_task(defaults, &mut |kind, node| one(kind, node, &scope, report));
        }
    }
    let Some(Value::Array { items, .. }) = root.get("task").map(|entry| &entry.node.value) else { return };
    let tables = items.iter().filter_map(|item| match &item.value {
        Value::Table(table) => Some(table),
        _ => None,
    });
    for (index, (table, draft)) in tables.zip(drafts).enumerate() {
        let id = draft.id.as_ref().map_or("", |(id, _)| id);
        let is_upstream = |other: &str| graph.is_upstream(index, other);
        let map = table.get("map");
        let scope = CheckScope {
            params: &params,
            tasks: &tasks,
            task: Some(id),
            is_mapped: map.is_some(),
            has_answer: is_asking(table),
            is_upstream: &is_upstream,
        };
        of_task(table, &mut |kind, node| one(kind, node, &scope, report));
        if let Some(map) = map {
            // Its own elements are not known before it is.
            let scope = CheckScope { is_mapped: false, has_answer: false, ..scope };
            mapped::texts(&map.node, &mut |node| one(Kind::Text, node, &scope, report));
        }
        code_argument(table, report);
    }
}

/// Whether a task is a sensor whose condition sees what it got.
fn is_asking(task: &Table<'_>) -> bool {
    let word = task.get("operator").map(|entry| &entry.node.value);
    matches!(word, Some(Value::String(word)) if matches!(word.as_ref(), "http_sensor" | "sql_sensor"))
}

/// Refuses a template in the code that an array command gives to a shell, and warns where another interpreter gets it.
fn code_argument(task: &Table<'_>, report: &mut Report<'_>) {
    let Some(Value::Array { items, .. }) = task.get("command").map(|entry| &entry.node.value) else { return };
    let words = items.iter().map(|item| match &item.value {
        Value::String(text) => text.as_ref(),
        _ => "",
    });
    let Some(found) = template::shell::nested_interpreter(words) else { return };
    let Some(node) = items.get(found.index) else { return };
    let draft = if found.is_shell {
        Draft::error(Code::CODE_FOR_SHELL, "a shell reads this value as code", node.span.clone())
            .help("pass it as an argument: `[\"sh\", \"-c\", 'echo \"$1\"', \"sh\", \"{{ … }}\"]`")
    } else {
        Draft::warning(
            Code::new("DAG0720"),
            "another interpreter reads this value as code",
            node.span.clone(),
        )
        .help("pass it as an argument: `[\"python3\", \"script.py\", \"{{ … }}\"]`")
    };
    report.push(draft);
}

fn keys_of(node: Option<&Node<'_>>) -> BTreeSet<String> {
    match node.map(|node| &node.value) {
        Some(Value::Table(table)) => table.entries.iter().map(|entry| entry.key.to_string()).collect(),
        _ => BTreeSet::new(),
    }
}

/// Visits the templates of a task's keys.
fn of_task(table: &Table<'_>, visit: &mut dyn FnMut(Kind, &Node<'_>)) {
    for entry in &table.entries {
        match (entry.key.as_ref(), &entry.node.value) {
            ("command", Value::String(_)) => visit(Kind::Shell, &entry.node),
            ("command", Value::Array { items, .. }) => {
                items.iter().for_each(|item| visit(Kind::Argument, item));
            }
            ("env", Value::Table(env)) => env.entries.iter().for_each(|entry| visit(Kind::Text, &entry.node)),
            ("branches", Value::Array { items, .. }) => {
                for arm in items {
                    if let Value::Table(arm) = &arm.value
                        && let Some(when) = arm.get("when")
                    {
                        visit(Kind::Condition, &when.node);
                    }
                }
            }
            ("when", _) => visit(Kind::Condition, &entry.node),
            (
                "branches" | "reference" | "current" | "webhook" | "message" | "script" | "path" | "until"
                | "dag_id" | "logical_date" | "run_id" | "url" | "database" | "response_file" | "output_file",
                _,
            ) => visit(Kind::Text, &entry.node),
            ("args" | "kwargs" | "conf" | "headers" | "query" | "body" | "parameters", _) => {
                nested(&entry.node, visit)
            }
            _ => {}
        }
    }
    messages(table, visit);
}

/// Visits every string in a value.
fn nested(node: &Node<'_>, visit: &mut dyn FnMut(Kind, &Node<'_>)) {
    match &node.value {
        Value::String(_) => visit(Kind::Text, node),
        Value::Array { items, .. } => items.iter().for_each(|item| nested(item, visit)),
        Value::Table(table) => table.entries.iter().for_each(|entry| nested(&entry.node, visit)),
        _ => {}
    }
}

/// Visits the messages of `on_success` and `on_failure`.
fn messages(table: &Table<'_>, visit: &mut dyn FnMut(Kind, &Node<'_>)) {
    for entry in ["on_success", "on_failure", "on_deadline"].iter().filter_map(|key| table.get(key)) {
        let items = match &entry.node.value {
            Value::Array { items, .. } => items.as_slice(),
            _ => std::slice::from_ref(&entry.node),
        };
        for item in items {
            if let Value::Table(notification) = &item.value
                && let Some(message) = notification.get("message")
            {
                visit(Kind::Text, &message.node);
            }
        }
    }
}

fn one(kind: Kind, node: &Node<'_>, scope: &CheckScope<'_>, report: &mut Report<'_>) {
    let Value::String(text) = &node.value else { return };
    for problem in template::check(kind, text, scope) {
        let (at, is_exact): (Range<usize>, bool) =
            places::in_source(report.text(), &node.span, text, &problem.range);
        let code = Code::new(problem.code);
        let mut draft = if problem.is_warning {
            Draft::warning(code, problem.message, at)
        } else {
            Draft::error(code, problem.message, at)
        };
        if let Some(help) = problem.help {
            draft = draft.help(help);
        }
        if ABOUT_OTHER_PLACES.contains(&problem.code) {
            draft = draft.absence();
        }
        let hint = problem.suggestion.as_ref().map(|name| format!("did you mean `{name}`?"));
        draft = match (is_exact, hint) {
            (true, _) => draft.suggest(problem.suggestion),
            (false, Some(hint)) => draft.help(hint),
            (false, None) => draft,
        };
        report.push(draft);
    }
}
