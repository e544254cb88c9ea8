//! Jinja templates in string fields: checked when a DAG file loads, rendered just before a task starts.
//!
//! Pure: a template sees its [`Context`] and nothing else, and costs a bounded amount of work.
//!
//! **Invariant:** a value can never become syntax of the shell that Tidemill starts. The script that
//! [`render_shell`] returns depends on which branches a template takes, never on what a `{{ … }}` evaluates
//! to: each of those becomes `"${TIDEMILL_V<n>}"` in the quoting of its place, and the value travels through the
//! environment. A place where no quoting makes that true is refused by [`check()`]; see [`shell`].

mod answer;
mod calls;
mod check;
mod context;
mod environment;
mod error;
#[cfg(test)]
mod every_name;
mod facts;
mod instant;
mod mapped_outputs;
mod named;
mod names;
mod needs;
mod other_runs;
mod prepare;
mod render;
pub mod shell;
mod stored;
mod task;
mod value;

use std::{collections::BTreeSet, ops::Range};

pub use answer::{ANSWER, holds, names_of_condition};
pub use calls::AnswerCondition;
pub use context::{Context, Variable, effective_params};
pub use error::RenderError;
pub use mapped_outputs::MappedOutputs;
pub use named::NamesOutside;
pub use needs::{Needs, OutputNeed, RESERVED_VARIABLES};
pub use prepare::{needs_of_preparation, prepare};
pub use render::{Rendered, render_condition, render_json, render_shell, render_text};
pub use task::{
    RenderedTask, RenderedWork, TaskRenderError, connections_of_task, needs_of_task, render_message,
    render_task,
};
pub use value::{render_value, templates_of};

/// What a template is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Printed as text.
    Text,
    /// An element of an array `command`, which becomes an argument of a process.
    Argument,
    /// A `command` string for `/bin/sh`.
    Shell,
    /// Has to print `true` or `false`.
    Condition,
}

/// What a template may refer to, as far as it is known when a file loads.
#[derive(Clone, Copy)]
pub struct CheckScope<'a> {
    /// The declared params.
    pub params: &'a BTreeSet<String>,
    /// The ids of all tasks of the DAG.
    pub tasks: &'a BTreeSet<String>,
    /// The task that the template belongs to; absent for a message of the DAG itself.
    pub task: Option<&'a str>,
    /// Whether the task is mapped, so that `map.value` and `map.index` mean something.
    pub is_mapped: bool,
    /// Whether it is the condition of a sensor, which sees what the sensor got.
    pub has_answer: bool,
    /// Whether a task is a direct or indirect upstream of this one.
    pub is_upstream: &'a dyn Fn(&str) -> bool,
}

/// A fault that is known before anything runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    /// `DAG07xx`.
    pub code: &'static str,
    /// Whether the file loads all the same.
    pub is_warning: bool,
    /// What is wrong, a sentence fragment.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// A name that was probably meant.
    pub suggestion: Option<String>,
    /// Where, in bytes of the template.
    pub range: Range<usize>,
}

/// Checks a template when its file loads and returns every problem, in order of place.
#[must_use]
pub fn check(kind: Kind, template: &str, scope: &CheckScope<'_>) -> Vec<TemplateProblem> {
    check::check(kind, template, scope)
}

/// Returns what has to be loaded before the template can be rendered. A template that does not parse needs
/// nothing: rendering it says why.
#[must_use]
pub fn needs(template: &str) -> Needs {
    if !is_dynamic(template) {
        return Needs::default();
    }
    environment::parse_template(template)
        .map_or_else(|_| Needs::default(), |root| Needs::of(&facts::collect(&root)))
}

/// Whether a text holds any template syntax.
#[must_use]
pub fn is_dynamic(template: &str) -> bool {
    template.contains("{{") || template.contains("{%") || template.contains("{#")
}
