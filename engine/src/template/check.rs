//! What is wrong with a template before anything runs.

use std::ops::Range;

use minijinja::{Error, ErrorKind};

use super::{
    CheckScope, Kind, TemplateProblem,
    environment::{FILTERS, OWN_FILTERS, TESTS, parse_template},
    facts::{self, Facts, Reference, Step},
    instant, is_dynamic,
    names::{self, Shape, nearest},
    shell, stored,
};

pub(super) const SYNTAX: &str = "DAG0701";
pub(super) const UNKNOWN_NAME: &str = "DAG0702";
pub(super) const UNKNOWN_FILTER: &str = "DAG0703";
pub(super) const UNKNOWN_TEST: &str = "DAG0704";
pub(super) const UNKNOWN_FUNCTION: &str = "DAG0705";
pub(super) const NOT_UPSTREAM: &str = "DAG0706";
pub(super) const UNKNOWN_PARAM: &str = "DAG0707";
pub(super) const COMPUTED_NAME: &str = "DAG0708";
pub(super) const NOT_MAPPED: &str = "DAG0424";
pub(super) const WHOLE: &str = "DAG0709";
pub(super) const CAPTURE: &str = "DAG0710";
pub(super) const CONDITION: &str = "DAG0722";
pub(super) const SECRET_ARGUMENT: &str = "DAG0724";

/// Checks one template.
pub(super) fn check(kind: Kind, template: &str, scope: &CheckScope<'_>) -> Vec<TemplateProblem> {
    if !is_dynamic(template) {
        let is_word = ["true", "false"].contains(&template.trim().to_ascii_lowercase().as_str());
        if kind == Kind::Condition && !is_word {
            return vec![bare_condition(template)];
        }
        return Vec::new();
    }
    let root = match parse_template(template) {
        Ok(root) => root,
        Err(error) => return vec![syntax_problem(&error, template)],
    };
    let facts = facts::collect(&root);
    let mut problems = Vec::new();
    check_vocabulary(&facts, &mut problems);
    for reference in &facts.references {
        check_reference(reference, scope, &mut problems);
        if kind == Kind::Argument {
            problems.extend(stored::check_argument(reference));
        }
    }
    if kind == Kind::Shell {
        check_shell(template, &root, &facts, &mut problems);
    }
    problems.sort_by_key(|problem| (problem.range.start, problem.range.end, problem.code));
    problems.dedup();
    problems
}

fn check_shell(
    template: &str,
    root: &minijinja::machinery::ast::Stmt<'_>,
    facts: &Facts,
    problems: &mut Vec<TemplateProblem>,
) {
    for capture in &facts.captures {
        let message = format!(
            "{} cannot stand in a command: what it prints would be seen by other filters",
            capture.what
        );
        let mut problem = error(CAPTURE, capture.range.clone(), message);
        problem.help = Some(
            "use `{% if %}`, `{% for %}` and `{% set name = value %}`, or prepare the text in `env`"
                .to_owned(),
        );
        problems.push(problem);
    }
    if facts.captures.is_empty() {
        problems.extend(shell::check(template, root));
    }
}

/// Makes an error without help.
pub(super) fn error(code: &'static str, range: Range<usize>, message: String) -> TemplateProblem {
    TemplateProblem { code, is_warning: false, message, help: None, suggestion: None, range }
}

fn bare_condition(template: &str) -> TemplateProblem {
    let mut problem = error(
        CONDITION,
        0..template.len(),
        "the condition is neither a template nor `true` or `false`".to_owned(),
    );
    problem.help = Some(format!("write `{{{{ {} }}}}`", template.trim()));
    problem
}

fn syntax_problem(error_: &Error, template: &str) -> TemplateProblem {
    let end = template.len();
    let range = error_.range().map_or(0..end, |range| range.start.min(end)..range.end.min(end));
    let message = error_.detail().map_or_else(|| error_.kind().to_string(), str::to_owned);
    let mut problem = error(SYNTAX, range, message);
    if error_.kind() == ErrorKind::SyntaxError && problem.message.starts_with("unknown statement") {
        problem.help = Some(
            "a template reads nothing but its context: there is no include, import or extends".to_owned(),
        );
    }
    problem
}

fn check_vocabulary(facts: &Facts, problems: &mut Vec<TemplateProblem>) {
    let known = || FILTERS.iter().chain(OWN_FILTERS).copied();
    for (name, range) in &facts.filters {
        if !known().any(|filter| filter == name) {
            let mut problem = error(UNKNOWN_FILTER, range.clone(), format!("there is no filter `{name}`"));
            problem.suggestion = nearest(name, known());
            problems.push(problem);
        }
    }
    for (name, range) in &facts.tests {
        if !TESTS.contains(&name.as_str()) {
            let mut problem = error(UNKNOWN_TEST, range.clone(), format!("there is no test `{name}`"));
            problem.suggestion = nearest(name, TESTS.iter().copied());
            problems.push(problem);
        }
    }
}

fn check_reference(reference: &Reference, scope: &CheckScope<'_>, problems: &mut Vec<TemplateProblem>) {
    let at = reference.range.clone();
    if reference.root == "map" && scope.task.is_some() && !scope.is_mapped {
        problems.push(not_mapped(reference));
        return;
    }
    if reference.root == super::ANSWER && scope.has_answer {
        return;
    }
    let found =
        names::lookup(&reference.root).filter(|(_, without_task)| *without_task || scope.task.is_some());
    let Some((shape, _)) = found else {
        problems.push(unknown_name(reference, scope));
        return;
    };
    let mut shape = shape;
    let mut steps = reference.path.iter();
    loop {
        shape = match shape {
            Shape::Any => return,
            Shape::Params => return check_param(reference, scope, problems),
            Shape::Outputs => return check_output(reference, scope, problems),
            Shape::Variables => return stored::check_variable(reference, problems),
            Shape::Connections => return stored::check_connection(reference, problems),
            Shape::Function if reference.is_call && steps.len() == 0 => return,
            Shape::Function => {
                problems.push(error(
                    UNKNOWN_FUNCTION,
                    at,
                    format!("`{}` is a function: call it", reference.root),
                ));
                return;
            }
            Shape::Instant => return check_instant(reference, steps.next(), problems),
            Shape::Plain => return check_plain(reference, steps.next(), problems),
            Shape::Fields(fields) => match steps.next() {
                None if reference.is_call => {
                    problems.push(error(
                        UNKNOWN_FUNCTION,
                        at,
                        format!("`{}` is not a function", reference.root),
                    ));
                    return;
                }
                None => return,
                Some(Step::Computed) => return,
                Some(Step::Name(name)) => match fields.iter().find(|field| field.0 == name) {
                    Some(field) => field.1,
                    None => {
                        return problems.push(unknown_member(
                            reference,
                            name,
                            fields.iter().map(|field| field.0),
                        ));
                    }
                },
            },
        };
    }
}

fn not_mapped(reference: &Reference) -> TemplateProblem {
    let message = "`map` is not known here: only the other keys of a task with `map` can name its element";
    let mut problem = error(NOT_MAPPED, reference.range.clone(), message.to_owned());
    problem.help = Some("give the task `map = […]`, or take `map` out of the template".to_owned());
    problem
}

fn unknown_name(reference: &Reference, scope: &CheckScope<'_>) -> TemplateProblem {
    let name = &reference.root;
    let is_task_name = names::lookup(name).is_some();
    let code = if reference.is_call && reference.path.is_empty() { UNKNOWN_FUNCTION } else { UNKNOWN_NAME };
    let message = if is_task_name {
        format!("`{name}` is not known here: this template belongs to the DAG, not to a task")
    } else if code == UNKNOWN_FUNCTION {
        format!("there is no function `{name}`")
    } else {
        format!("there is no name `{name}`")
    };
    let mut problem = error(code, reference.range.clone(), message);
    if is_task_name {
        return problem;
    }
    problem.help = names::elsewhere(name).map(str::to_owned);
    if problem.help.is_none() {
        problem.suggestion = nearest(name, names::NAMES.iter().map(|entry| entry.0));
    }
    if problem.help.is_none() && scope.params.contains(name) {
        problem.help = Some(format!("a param is written `params.{name}`"));
        problem.suggestion = None;
    } else if problem.help.is_none() && scope.tasks.contains(name) {
        problem.help = Some(format!("an output is written `outputs.{name}.<key>`"));
        problem.suggestion = None;
    }
    problem
}

pub(super) fn unknown_member<'a>(
    reference: &Reference,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> TemplateProblem {
    let code = if reference.is_call { UNKNOWN_FUNCTION } else { UNKNOWN_NAME };
    let mut problem = error(code, reference.range.clone(), format!("`{}` has no `{name}`", reference.root));
    problem.suggestion = nearest(name, known.clone());
    problem.help = names::elsewhere(name).map(str::to_owned);
    if problem.suggestion.is_none() && problem.help.is_none() {
        problem.help =
            Some(format!("it has {}", known.map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")));
    }
    problem
}

fn check_instant(reference: &Reference, step: Option<&Step>, problems: &mut Vec<TemplateProblem>) {
    let Some(Step::Name(name)) = step else { return };
    let known = if reference.is_call { instant::METHODS } else { instant::ATTRIBUTES };
    if !known.contains(&name.as_str()) {
        let mut problem = unknown_member(reference, name, names::instant_members());
        if instant::METHODS.contains(&name.as_str()) {
            problem.help = Some(format!("call it: `{name}(…)`"));
        }
        problems.push(problem);
    }
}

fn check_plain(reference: &Reference, step: Option<&Step>, problems: &mut Vec<TemplateProblem>) {
    let Some(Step::Name(name)) = step else {
        if reference.is_call {
            let message = format!("`{}` is not a function", reference.root);
            problems.push(error(UNKNOWN_FUNCTION, reference.range.clone(), message));
        }
        return;
    };
    let code = if reference.is_call { UNKNOWN_FUNCTION } else { UNKNOWN_NAME };
    let mut problem = error(code, reference.range.clone(), format!("`{}` has no `{name}`", reference.root));
    problem.help = Some(
        "text and numbers have no attributes or methods: use a filter, such as `| replace(\"-\", \"\")`"
            .to_owned(),
    );
    problems.push(problem);
}

fn check_param(reference: &Reference, scope: &CheckScope<'_>, problems: &mut Vec<TemplateProblem>) {
    let Some(Step::Name(name)) = reference.path.first() else { return };
    if reference.is_call {
        problems.push(value_method(reference));
    } else if !scope.params.contains(name) && !reference.may_be_undefined {
        let mut problem =
            error(UNKNOWN_PARAM, reference.range.clone(), format!("there is no param `{name}`"));
        problem.suggestion = nearest(name, scope.params.iter().map(String::as_str));
        problem.help = Some(format!("declare it: `[params.{name}]`"));
        problems.push(problem);
    }
}

fn check_output(reference: &Reference, scope: &CheckScope<'_>, problems: &mut Vec<TemplateProblem>) {
    let at = reference.range.clone();
    let task = match reference.path.first() {
        None => return,
        Some(Step::Computed) => {
            let message =
                "`outputs[…]` with a computed name: only outputs that can be read from the file are loaded";
            problems.push(error(COMPUTED_NAME, at, message.to_owned()));
            return;
        }
        Some(Step::Name(task)) => task,
    };
    if reference.is_call {
        problems.push(value_method(reference));
    } else if !scope.tasks.contains(task) {
        let mut problem = error(NOT_UPSTREAM, at, format!("there is no task `{task}`"));
        problem.suggestion = nearest(task, scope.tasks.iter().map(String::as_str));
        problems.push(problem);
    } else if !(scope.is_upstream)(task) {
        let me = scope.task.unwrap_or_default();
        let mut problem = error(NOT_UPSTREAM, at, format!("task `{task}` is not upstream of `{me}`"));
        problem.help = Some(format!("add \"{task}\" to its `depends_on`"));
        problems.push(problem);
    }
}

pub(super) fn value_method(reference: &Reference) -> TemplateProblem {
    let name = match reference.path.last() {
        Some(Step::Name(name)) => name.as_str(),
        _ => "",
    };
    let mut problem =
        error(UNKNOWN_FUNCTION, reference.range.clone(), format!("values have no method `{name}`"));
    problem.help = Some("use a filter, such as `| upper` or `| items`".to_owned());
    problem
}
