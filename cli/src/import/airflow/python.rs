//! Converts what runs Python: a script, and behind it a branch or a gate where its result decides.

use std::collections::BTreeSet;

use ruff_python_ast::{Expr, StmtFunctionDef};
use ruff_text_size::TextRange;
use toml::Value as Toml;

use super::{
    script::{self, Built, Wanted},
    tasks::Making,
    value::{Keyword, Value, quoted},
};
use crate::import::{Script, Task, words};

/// The arguments of the operators of this file.
pub(super) const OWN: &[&str] = &[
    "python_callable",
    "op_args",
    "op_kwargs",
    "templates_dict",
    "requirements",
    "python",
    "ignore_downstream_trigger_rules",
    "env",
    "append_env",
    "poke_interval",
    "soft_fail",
    "mode",
    "timeout",
];

/// How a result is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Python,
    Branch,
    ShortCircuit,
    Bash,
    Sensor,
}

/// Converts an operator that is given a function.
pub(super) fn operator(making: &mut Making<'_, '_>, class: &str) {
    let mode = match class {
        _ if class.starts_with("Branch") => Mode::Branch,
        "ShortCircuitOperator" => Mode::ShortCircuit,
        "PythonSensor" => Mode::Sensor,
        _ => Mode::Python,
    };
    let Some(callable) = making.keyword("python_callable").cloned() else {
        return making.refuse("there is no `python_callable`");
    };
    let at = value_range(making, &callable);
    if let Value::Decorated(decorated) = &callable.value {
        let function = Value::Function(decorated.function);
        return write(making, &function, at, mode, &[], &[]);
    }
    let args = match making.value("op_args").cloned() {
        Some(Value::List(args)) => args,
        Some(other) => vec![other],
        None => Vec::new(),
    };
    let mut keywords: Vec<Keyword<'_>> = Vec::new();
    for (name, value) in script::pairs(making.keyword("op_kwargs")) {
        keywords.push(Keyword { name: name.to_owned(), value: value.clone(), range: callable.range });
    }
    if making.value("op_kwargs").is_some_and(|value| !matches!(value, Value::Dict(_))) {
        making.problem("`op_kwargs` has a value that only Python can tell");
    }
    if let Some(dict) = making.value("templates_dict").cloned() {
        keywords.push(Keyword { name: "templates_dict".to_owned(), value: dict, range: callable.range });
    }
    write(making, &callable.value, at, mode, &args, &keywords);
}

/// Converts a function under `@task…`.
pub(super) fn task<'a>(
    making: &mut Making<'_, 'a>,
    function: &Value<'a>,
    kind: &str,
    args: &[Value<'a>],
    keywords: &[Keyword<'a>],
) {
    let mode = match kind {
        "task" | "task.python" | "task.virtualenv" | "task.external_python" | "setup" | "teardown" => {
            Mode::Python
        }
        "task.branch" | "task.branch_virtualenv" | "task.branch_external_python" => Mode::Branch,
        "task.short_circuit" => Mode::ShortCircuit,
        "task.bash" => Mode::Bash,
        "task.sensor" => Mode::Sensor,
        other => return making.refuse(&format!("there is no counterpart of @{other}")),
    };
    let range = making.draft.range;
    write(making, function, range, mode, args, keywords);
}

/// Returns the place of an argument's value.
fn value_range(making: &Making<'_, '_>, keyword: &Keyword<'_>) -> TextRange {
    let text = making.interp.source.slice(keyword.range);
    let skipped = text.find('=').map_or(0, |at| at + 1);
    let start = keyword.range.start() + ruff_text_size::TextSize::try_from(skipped).unwrap_or_default();
    if start <= keyword.range.end() { TextRange::new(start, keyword.range.end()) } else { keyword.range }
}

fn write<'a>(
    making: &mut Making<'_, 'a>,
    callable: &Value<'a>,
    callable_at: TextRange,
    mode: Mode,
    args: &[Value<'a>],
    keywords: &[Keyword<'a>],
) {
    let title = format!(
        "The task {} of the DAG {}, taken from line {} of its Airflow file.",
        making.task.id,
        making.dag_id,
        making.interp.source.line_of(making.draft.range)
    );
    let wanted = Wanted {
        task: making.draft,
        callable,
        callable_at,
        args,
        keywords: keywords.iter().map(|keyword| (keyword.name.as_str(), &keyword.value)).collect(),
        options: options(making, callable, mode),
        title,
    };
    let built = script::build(making.interp, &wanted);
    accept(making, built, mode);
    gate(making, mode);
}

/// Sets what a script needs.
pub(super) fn set_script(making: &mut Making<'_, '_>, built: Built) {
    let name = format!("{}_{}.py", making.dag_id, making.task.id.replace('.', "_"));
    let python = making.value("python").and_then(Value::as_str).map_or("python3", |python| python).to_owned();
    making.is_script = true;
    making.task.script = Some(Script { python, name, text: built.text });
    let mut env = Vec::new();
    for (name, template) in built.env {
        let text = making.template(&template);
        env.push((name, text));
    }
    making.env(env);
    making.pulls.extend(built.pulls.into_iter().map(|task| (task, "*".to_owned())));
    making.pulls_unknown |= built.pulls_unknown;
    for problem in built.problems {
        making.problem(problem);
    }
}

fn accept(making: &mut Making<'_, '_>, built: Built, mode: Mode) {
    let may_fail_for_good = built.may_fail_for_good || mode == Mode::Sensor;
    set_script(making, built);
    if may_fail_for_good {
        making.task.set("fail_on_exit_code", vec![98]);
    }
    if let Some(requirements) = making.value("requirements").cloned() {
        let list = requirements.items().unwrap_or_else(|| vec![requirements]);
        let list: Vec<String> = list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
        making.problem(format!(
            "`requirements` are not installed; python3 must have them: {}",
            list.join(", ")
        ));
    }
}

/// Returns the options of the script's `_main`.
fn options(making: &mut Making<'_, '_>, callable: &Value<'_>, mode: Mode) -> String {
    let mut options = match mode {
        Mode::Python | Mode::Sensor => String::new(),
        Mode::Branch => format!(", mode=\"branch\", groups={}", groups(making)),
        Mode::ShortCircuit => ", mode=\"short_circuit\"".to_owned(),
        Mode::Bash => ", mode=\"bash\"".to_owned(),
    };
    let is_multiple = match making.keyword("multiple_outputs").map(|keyword| &keyword.value) {
        Some(value) => value.truth() == Some(true),
        None => matches!(callable, Value::Function(function) if returns_dict(function)),
    };
    if is_multiple {
        options.push_str(", multiple=True");
    }
    if mode == Mode::Sensor {
        options.push_str(&format!(", wait={}", super::sensors::wait(making)));
    }
    options
}

/// Whether a function says that it returns a dictionary: each of its keys is an output then.
fn returns_dict(function: &StmtFunctionDef) -> bool {
    let name = match function.returns.as_deref() {
        Some(Expr::Subscript(subscript)) => &*subscript.value,
        Some(other) => other,
        None => return false,
    };
    let name = match name {
        Expr::Name(name) => name.id.as_str(),
        Expr::Attribute(attribute) => attribute.attr.as_str(),
        Expr::StringLiteral(text) => text.value.to_str().split('[').next().unwrap_or_default(),
        _ => "",
    };
    ["dict", "Dict", "Mapping"].contains(&name)
}

/// Returns, as Python, which tasks a chosen group or a renamed task is.
fn groups(making: &Making<'_, '_>) -> String {
    let interp = making.interp;
    let mut items = Vec::new();
    for (index, group) in interp.groups.iter().enumerate() {
        if group.dag != making.draft.dag {
            continue;
        }
        let roots: BTreeSet<String> = interp
            .roots(index)
            .iter()
            .filter_map(|task| interp.tasks.get(*task))
            .map(|task| quoted(&words::id(&task.id)))
            .collect();
        items.push(format!("{}: [{}]", quoted(&group.id), roots.into_iter().collect::<Vec<_>>().join(", ")));
    }
    for task in
        interp.tasks.iter().filter(|task| task.dag == making.draft.dag && words::id(&task.id) != task.id)
    {
        items.push(format!("{}: [{}]", quoted(&task.id), quoted(&words::id(&task.id))));
    }
    format!("{{{}}}", items.join(", "))
}

/// Puts the branch or the gate behind the script, which reads what it decided.
fn gate(making: &mut Making<'_, '_>, mode: Mode) {
    let id = &making.task.id;
    let mut gate = match mode {
        Mode::Branch => {
            let mut gate = Task { id: format!("{id}_branch"), ..Task::default() };
            gate.set("operator", "branch");
            gate.set("depends_on", vec![id.clone()]);
            gate.set("branches", format!("{{{{ outputs[{id:?}].branch }}}}"));
            gate
        }
        Mode::ShortCircuit => {
            let mut gate = Task { id: format!("{id}_gate"), ..Task::default() };
            gate.set("operator", "short_circuit");
            gate.set("depends_on", vec![id.clone()]);
            gate.set("when", format!("{{{{ outputs[{id:?}].condition }}}}"));
            if let Some(Value::Bool(false)) = making.value("ignore_downstream_trigger_rules") {
                gate.set("ignore_downstream_trigger_rules", Toml::from(false));
            }
            gate
        }
        _ => return,
    };
    gate.comments.push(format!("What {id} returned decides here."));
    making.gate = Some(gate);
}
