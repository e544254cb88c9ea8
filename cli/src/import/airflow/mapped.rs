//! Converts mapped tasks: `.expand(x=[…])` over literals and over outputs of other tasks, `.expand_kwargs([…])` over literals.

use ruff_text_size::TextRange;
use toml::Value as Toml;

use super::{
    calls::Arguments,
    interp::{Interp, Work},
    tasks::Making,
    value::{Decorated, Keyword, Object, Value},
};

/// The name under which a draft keeps what it is mapped over.
pub(super) const MAP: &str = "_map";

/// Functions whose result decides nothing about what is below them.
const FUNCTIONS: &[&str] =
    &["task", "task.python", "task.virtualenv", "task.external_python", "task.bash", "setup", "teardown"];

/// What is mapped, as a draft: what it does and its keywords with [`MAP`] among them. An error says why it is not
/// converted.
pub(super) fn function<'a>(
    decorated: &Decorated<'a>,
    expanded: &[Keyword<'a>],
    range: TextRange,
) -> Result<(Work<'a>, Vec<Keyword<'a>>), String> {
    if !FUNCTIONS.contains(&decorated.kind.as_str()) {
        return Err(format!("a mapped task (`expand`) under @{}", decorated.kind));
    }
    let mut given = decorated.bound.clone();
    given.extend(expanded.iter().map(element));
    let mut keywords = decorated.keywords.clone();
    keywords.push(map(expanded, range));
    let work = Work::Function(Value::Function(decorated.function), decorated.kind.clone(), Vec::new(), given);
    Ok((work, keywords))
}

/// The same for an operator: only what is a text of each element can be put into it.
pub(super) fn operator<'a>(
    object: &Object<'a>,
    expanded: &[Keyword<'a>],
    range: TextRange,
) -> Result<(Work<'a>, Vec<Keyword<'a>>), String> {
    let class = object.path.trim_end_matches(".partial").rsplit('.').next().unwrap_or_default();
    let is_known = |keyword: &Keyword<'_>| class == "BashOperator" && keyword.name == "bash_command";
    if let Some(other) = expanded.iter().find(|keyword| !is_known(keyword)) {
        return Err(format!("a mapped task (`expand`) over `{}` of {class}", other.name));
    }
    let mut keywords = object.keywords.clone();
    keywords.extend(expanded.iter().map(element));
    keywords.push(map(expanded, range));
    Ok((Work::Operator(class.to_owned()), keywords))
}

/// Returns the arguments that `expand_kwargs` gives, and its list: literal dictionaries with the same keys.
pub(super) fn tables<'a>(arguments: &Arguments<'a>) -> Result<(Vec<Keyword<'a>>, Value<'a>), String> {
    let unknown = || "a mapped task (`expand_kwargs`) over what only Python can tell".to_owned();
    let ([Value::List(items)], []) = (&*arguments.args, &*arguments.keywords) else { return Err(unknown()) };
    let names = |item: &Value<'a>| -> Option<Vec<String>> {
        let Value::Dict(members) = item else { return None };
        let mut names: Vec<String> =
            members.iter().map(|(name, _)| name.as_str().map(str::to_owned)).collect::<Option<_>>()?;
        names.sort();
        Some(names)
    };
    let first = items.first().and_then(names).ok_or_else(unknown)?;
    if items.iter().any(|item| names(item).as_ref() != Some(&first)) {
        return Err("a mapped task (`expand_kwargs`) whose elements give different arguments".to_owned());
    }
    let range = arguments.range;
    let keyword = |name: String| Keyword { name, value: Value::None, range };
    Ok((first.into_iter().map(keyword).collect(), Value::List(items.clone())))
}

/// Puts the list of `expand_kwargs` in the place of the lists by name.
pub(super) fn replace<'a>(keywords: &mut [Keyword<'a>], list: Value<'a>) {
    if let Some(map) = keywords.iter_mut().rev().find(|keyword| keyword.name == MAP) {
        map.value = list;
    }
}

fn element<'a>(keyword: &Keyword<'a>) -> Keyword<'a> {
    Keyword { value: Value::Element(keyword.name.clone()), ..keyword.clone() }
}

fn map<'a>(expanded: &[Keyword<'a>], range: TextRange) -> Keyword<'a> {
    let items = expanded.iter().map(|keyword| (Value::Str(keyword.name.clone()), keyword.value.clone()));
    Keyword { name: MAP.to_owned(), value: Value::Dict(items.collect()), range }
}

/// Sets what a converted task is mapped over.
pub(super) fn set(making: &mut Making<'_, '_>) {
    if let Some(Value::List(items)) = making.value(MAP).cloned() {
        let items: Option<Vec<Toml>> = items.iter().map(|item| literal(making, item)).collect();
        return match items {
            Some(items) => making.task.set("map", Toml::Array(items)),
            None => making.refuse("a mapped task (`expand_kwargs`) over what only Python can tell"),
        };
    }
    let Some(Value::Dict(lists)) = making.value(MAP).cloned() else { return };
    let mut table = toml::Table::new();
    for (name, value) in &lists {
        let Some(name) = name.as_str() else { continue };
        let Some(list) = list(making, value) else {
            return making
                .refuse(&format!("a mapped task (`expand`) over `{name}`, which only Python can tell"));
        };
        table.insert(name.to_owned(), list);
    }
    if lists.len() > 1 {
        making.note("elements are numbered in the order of the names that are mapped over");
    }
    making.task.set("map", Toml::Table(table));
}

/// Returns a list as a DAG file has it: of literals, or a template of an output.
fn list(making: &mut Making<'_, '_>, value: &Value<'_>) -> Option<Toml> {
    match value {
        Value::List(items) => {
            items.iter().map(|item| literal(making, item)).collect::<Option<_>>().map(Toml::Array)
        }
        Value::Task(task) => output(making, *task, "return_value"),
        Value::Output(task, key) => output(making, *task, key),
        _ => None,
    }
}

fn output(making: &mut Making<'_, '_>, task: usize, key: &str) -> Option<Toml> {
    let interp: &Interp<'_> = making.interp;
    let reference = interp.output_reference(task, key)?;
    Some(Toml::from(making.template(&format!("{{{{ {reference} }}}}"))))
}

fn literal(making: &mut Making<'_, '_>, value: &Value<'_>) -> Option<Toml> {
    Some(match value {
        Value::Str(text) => Toml::from(making.template(text)),
        Value::Int(value) => Toml::from(*value),
        Value::Float(value) => Toml::from(*value),
        Value::Bool(value) => Toml::from(*value),
        Value::List(items) => {
            Toml::Array(items.iter().map(|item| literal(making, item)).collect::<Option<_>>()?)
        }
        Value::Dict(items) => {
            let mut table = toml::Table::new();
            for (key, value) in items {
                table.insert(key.as_str()?.to_owned(), literal(making, value)?);
            }
            Toml::Table(table)
        }
        Value::Moment(moment) => Toml::from(moment.toml()),
        _ => return None,
    })
}
