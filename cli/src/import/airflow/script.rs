//! Takes a function out of a DAG file: a script with what the function needs, and nothing of Airflow.

use std::collections::{BTreeMap, BTreeSet};

use ruff_python_ast::{Expr, Stmt, visitor, visitor::Visitor};
use ruff_text_size::{Ranged, TextRange, TextSize};

use super::{
    interp::{Interp, TaskDraft, decorator_kind},
    jinja,
    names::{BUILTINS, Names},
    source::Source,
    value::{Keyword, Value, quoted},
    vault,
};

/// What every script begins with: the context of Airflow's tasks, made of the environment of a task here.
const RUNTIME: &str = include_str!("runtime.py");

/// Names of Airflow that the runtime has.
const PROVIDED: &[&str] = &[
    "AirflowException",
    "AirflowSkipException",
    "AirflowFailException",
    "get_current_context",
    "Variable",
    "BaseHook",
];

/// What is said where a function reads variables.
const VARIABLES: &str = "the function reads variables or connections in a way that only Python can tell: give them as `env = { AIRFLOW_VAR_NAME = \"…\" }`";

/// What a script is made for.
pub(super) struct Wanted<'t, 'a> {
    pub(super) task: &'t TaskDraft<'a>,
    /// The function and the place of its expression.
    pub(super) callable: &'t Value<'a>,
    pub(super) callable_at: TextRange,
    pub(super) args: &'t [Value<'a>],
    pub(super) keywords: Vec<(&'t str, &'t Value<'a>)>,
    /// More arguments of `_main`, as Python.
    pub(super) options: String,
    /// What the script says about itself.
    pub(super) title: String,
}

/// A script and what its task needs.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) text: String,
    /// Templates that come by the environment.
    pub(super) env: Vec<(String, String)>,
    /// The tasks that it pulls from, and whether there may be more.
    pub(super) pulls: BTreeSet<String>,
    pub(super) pulls_unknown: bool,
    pub(super) problems: Vec<String>,
    /// Whether it may exit with 98.
    pub(super) may_fail_for_good: bool,
}

struct Maker<'m, 'a> {
    interp: &'m Interp<'a>,
    task: &'m TaskDraft<'a>,
    imports: BTreeMap<(TextSize, String), String>,
    code: BTreeMap<TextSize, String>,
    values: Vec<String>,
    done: BTreeSet<String>,
    waiting: Vec<String>,
    has_airflow_inside: bool,
    /// Variables of the environment by which variables and connections come, with their templates.
    read: BTreeMap<String, String>,
    built: Built,
}

/// Makes the script of a function.
pub(super) fn build<'a>(interp: &Interp<'a>, wanted: &Wanted<'_, 'a>) -> Built {
    let mut maker = Maker {
        interp,
        task: wanted.task,
        imports: BTreeMap::new(),
        code: BTreeMap::new(),
        values: Vec::new(),
        done: BTreeSet::new(),
        waiting: Vec::new(),
        has_airflow_inside: false,
        read: BTreeMap::new(),
        built: Built::default(),
    };
    let callable = match wanted.callable {
        Value::Function(function) => {
            let name = function.name.as_str();
            maker.done.insert(name.to_owned());
            maker.function(function);
            name.to_owned()
        }
        _ => {
            let text = interp.source.slice(wanted.callable_at).trim();
            if !maker.need_text(text) {
                maker.built.problems.push("the function is known to Python alone".to_owned());
            }
            format!("({text})")
        }
    };
    let args: Vec<String> = wanted.args.iter().map(|value| maker.encode(value)).collect();
    let keywords: Vec<String> = wanted
        .keywords
        .iter()
        .map(|(name, value)| format!("{}: {}", quoted(name), maker.encode(value)))
        .collect();
    maker.carry();
    let call =
        format!("_main({callable}, [{}], {{{}}}{})", args.join(", "), keywords.join(", "), wanted.options);
    maker.finish(&wanted.title, &call)
}

impl<'a> Maker<'_, 'a> {
    /// Takes over what the names that are waited for mean.
    fn carry(&mut self) {
        while let Some(name) = self.waiting.pop() {
            if self.done.insert(name.clone()) {
                self.take(&name);
            }
        }
    }

    fn need(&mut self, names: &Names<'a>) {
        self.waiting.extend(names.free().map(str::to_owned));
        self.built.pulls.extend(names.pulls.iter().cloned());
        self.built.pulls_unknown |= names.pulls_unknown;
        self.read(names);
        for import in &names.imports {
            if let Stmt::ImportFrom(from) = import
                && is_airflow(from.module.as_ref().map_or("", |module| module.as_str()))
            {
                let unknown: Vec<&str> = from
                    .names
                    .iter()
                    .map(|alias| alias.name.as_str())
                    .filter(|name| !PROVIDED.contains(name))
                    .collect();
                self.built.may_fail_for_good |=
                    from.names.iter().any(|alias| alias.name.as_str() == "AirflowFailException");
                self.has_airflow_inside |= unknown.is_empty();
                let is_hidden = |alias: &ruff_python_ast::Alias| {
                    ["Variable", "BaseHook"].contains(&alias.name.as_str()) && alias.asname.is_some()
                };
                if from.names.iter().any(is_hidden) {
                    self.built.problems.push(VARIABLES.to_owned());
                }
                for name in unknown {
                    self.built.problems.push(needs_airflow(name));
                }
            }
        }
    }

    /// Takes over what an expression needs. Returns false when it is none.
    fn need_text(&mut self, text: &str) -> bool {
        let Ok(parsed) = ruff_python_parser::parse_expression(text) else { return false };
        let names = Names::of_expr(&parsed.syntax().body);
        self.waiting.extend(names.free().map(str::to_owned));
        self.built.pulls.extend(names.pulls.iter().cloned());
        self.built.pulls_unknown |= names.pulls_unknown;
        self.read(&names);
        true
    }

    /// Remembers which variables and connections come by the environment.
    fn read(&mut self, names: &Names<'_>) {
        let variables = names.variables.iter().map(|name| (false, name));
        for (is_connection, name) in variables.chain(names.connections.iter().map(|id| (true, id))) {
            match vault::by_environment(is_connection, name) {
                Some((variable, template)) => drop(self.read.insert(variable, template)),
                None => self.built.problems.push(VARIABLES.to_owned()),
            }
        }
        if names.vault_unknown {
            self.built.problems.push(VARIABLES.to_owned());
        }
    }

    fn take(&mut self, name: &str) {
        let interp = self.interp;
        let statements = interp.definitions.get(name);
        if statements.is_empty() && BUILTINS.contains(&name) {
            return;
        }
        let is_inner = !interp.definitions.is_of_module(name);
        if (is_inner || statements.is_empty())
            && let Some(text) = self.task.scope.get(name).and_then(Value::python)
        {
            self.values.push(format!("{name} = {text}"));
            return;
        }
        if statements.is_empty() {
            self.built.problems.push(format!("the function needs `{name}`, which this file does not define"));
        }
        for stmt in statements {
            match stmt {
                Stmt::FunctionDef(function) => self.function(function),
                Stmt::Import(import) => {
                    for alias in &import.names {
                        let bound = alias.asname.as_ref().unwrap_or(&alias.name).as_str();
                        if bound.split('.').next() == Some(name) {
                            self.import(stmt.start(), alias.name.as_str(), interp.source.slice(alias), None);
                        }
                    }
                }
                Stmt::ImportFrom(from) => {
                    let module = from.module.as_ref().map_or("", |module| module.as_str());
                    let dots = ".".repeat(usize::try_from(from.level).unwrap_or_default().min(9));
                    for alias in &from.names {
                        if alias.asname.as_ref().unwrap_or(&alias.name).as_str() == name {
                            let text = interp.source.slice(alias);
                            self.import(
                                stmt.start(),
                                &format!("{dots}{module}"),
                                text,
                                Some(alias.name.as_str()),
                            );
                        }
                    }
                }
                other => {
                    self.code.insert(other.start(), dedent(interp.source, other, other.range()));
                    self.need(&Names::of_stmt(other));
                }
            }
        }
    }

    /// Takes over one import: `import what`, or `from module import what`.
    fn import(&mut self, at: TextSize, module: &str, what: &str, from: Option<&str>) {
        if module == "__future__" {
            return;
        }
        if module.starts_with('.') {
            self.built
                .problems
                .push(format!("`from {module} import {what}` is relative to a package; a script is in none"));
        }
        if is_airflow(module) {
            match from {
                Some(name) if PROVIDED.contains(&name) => {
                    self.built.may_fail_for_good |= name == "AirflowFailException";
                    if what != name {
                        if ["Variable", "BaseHook"].contains(&name) {
                            self.built.problems.push(VARIABLES.to_owned());
                        }
                        let alias = what.rsplit(' ').next().unwrap_or(what);
                        self.imports.insert((at, what.to_owned()), format!("{alias} = {name}"));
                    }
                    return;
                }
                _ => self.built.problems.push(needs_airflow(from.unwrap_or(module))),
            }
        }
        let line =
            if from.is_some() { format!("from {module} import {what}") } else { format!("import {what}") };
        self.imports.insert((at, what.to_owned()), line);
    }

    /// Takes over a function without Airflow's decorators.
    fn function(&mut self, function: &'a ruff_python_ast::StmtFunctionDef) {
        let source = self.interp.source;
        let mut text = String::new();
        for decorator in &function.decorator_list {
            let path = self.decorator_path(&decorator.expression);
            if path.as_deref().and_then(decorator_kind).is_none() {
                text.push_str(source.slice(decorator));
                text.push('\n');
                let names = Names::of_expr(&decorator.expression);
                self.need(&names);
            }
        }
        let start = source.line_start(function.name.range.start());
        let range = TextRange::new(start.min(function.end()), function.end());
        let head = source.between(start, function.name.range.start());
        let indent = head.len() - head.trim_start().len();
        let range =
            TextRange::new(range.start() + TextSize::try_from(indent).unwrap_or_default(), range.end());
        text.push_str(&dedent_by(source, range, indent, &strings(&function.body)));
        self.code.insert(function.start(), text);
        self.need(&Names::of_body(Some(&function.parameters), &function.body));
    }

    /// Returns the dotted name of a decorator, as imported.
    fn decorator_path(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Call(call) => self.decorator_path(&call.func),
            Expr::Attribute(attribute) => {
                Some(format!("{}.{}", self.decorator_path(&attribute.value)?, attribute.attr.as_str()))
            }
            Expr::Name(name) => match self.interp.lookup(name.id.as_str()) {
                Some(Value::Path(path)) => Some(path.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns a value as Python that gives it in the script.
    fn encode(&mut self, value: &Value<'a>) -> String {
        let interp = self.interp;
        match value {
            Value::Str(text) if jinja::is_template(text) => {
                let translated = jinja::translate(text);
                self.built.problems.extend(translated.problems);
                self.built.env.push((format!("ARG_{}", self.built.env.len() + 1), text.clone()));
                format!("_env(\"ARG_{}\")", self.built.env.len())
            }
            Value::Template(text) => {
                self.built.env.push((format!("ARG_{}", self.built.env.len() + 1), text.clone()));
                format!("_env(\"ARG_{}\")", self.built.env.len())
            }
            Value::Element(name) => {
                let variable = format!("ARG_{}", self.built.env.len() + 1);
                let template = format!("{{{{ map.value[{}] | tojson }}}}", quoted(name));
                self.built.env.push((variable.clone(), template));
                format!("_json.loads(_env(\"{variable}\"))")
            }
            Value::Task(task) => self.pulled(*task, "return_value"),
            Value::Output(task, key) => self.pulled(*task, key),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| self.encode(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Dict(items) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|(key, value)| format!("{}: {}", self.encode(key), self.encode(value)))
                    .collect();
                format!("{{{}}}", items.join(", "))
            }
            Value::Moment(moment) => {
                let parts: Vec<String> = moment.parts.iter().map(ToString::to_string).collect();
                format!("_datetime.datetime({})", parts.join(", "))
            }
            Value::Delta(ms) => format!("_datetime.timedelta(milliseconds={ms})"),
            Value::Function(function) => {
                self.waiting.push(function.name.as_str().to_owned());
                function.name.as_str().to_owned()
            }
            Value::Path(path) => {
                let name = path.rsplit('.').next().unwrap_or(path).to_owned();
                self.waiting.push(name.clone());
                name
            }
            Value::Object(object) => self.source_text(object.range),
            Value::Lambda(lambda) => self.source_text(lambda.range),
            Value::Opaque(range) => self.source_text(*range),
            other => match other.python() {
                Some(text) => text,
                None => {
                    let line = interp.source.line_of(self.task.range);
                    self.built
                        .problems
                        .push(format!("an argument of the call in line {line} is known to Python alone"));
                    "None".to_owned()
                }
            },
        }
    }

    fn source_text(&mut self, range: TextRange) -> String {
        let text = self.interp.source.slice(range);
        let text = text
            .split_once('=')
            .filter(|(name, _)| name.trim().chars().all(|c| c.is_alphanumeric() || c == '_'))
            .map_or(text, |(_, value)| value);
        self.need_text(text.trim());
        format!("({})", text.trim())
    }

    fn pulled(&mut self, task: usize, key: &str) -> String {
        let Some(task) = self.interp.tasks.get(task) else { return "None".to_owned() };
        self.built.pulls.insert(task.id.clone());
        if key == "return_value" {
            format!("_ti.xcom_pull({})", quoted(&task.id))
        } else {
            format!("_ti.xcom_pull({}, key={})", quoted(&task.id), quoted(key))
        }
    }

    fn finish(mut self, title: &str, call: &str) -> Built {
        let mut text = format!(
            "\"\"\"{}\"\"\"\n\nfrom __future__ import annotations\n\n{RUNTIME}",
            title.replace('\\', "/").replace('"', "'")
        );
        if self.has_airflow_inside {
            text.push_str(
                "\n\n# The function imports these by Airflow's names.\nfor _name in (\"airflow\", \"airflow.exceptions\", \
                 \"airflow.operators\", \"airflow.operators.python\", \"airflow.models\", \"airflow.hooks\", \"airflow.hooks.base\", \"airflow.sdk\", \"airflow.sdk.exceptions\"):\n    \
                 _sys.modules.setdefault(_name, _sys.modules[__name__])\n",
            );
        }
        text.push_str("\n\n# From here on it is the DAG file's.\n");
        let imports: BTreeSet<&String> = self.imports.values().collect();
        for line in &imports {
            text.push_str(line);
            text.push('\n');
        }
        self.values.sort();
        for value in &self.values {
            text.push_str(value);
            text.push('\n');
        }
        for code in self.code.values() {
            text.push_str("\n\n");
            text.push_str(code.trim_end());
            text.push('\n');
        }
        text.push_str("\n\nif __name__ == \"__main__\":\n    ");
        text.push_str(call);
        text.push('\n');
        self.built.text = text;
        self.built.env.extend(self.read);
        self.built.problems.sort();
        self.built.problems.dedup();
        self.built
    }
}

fn is_airflow(module: &str) -> bool {
    module == "airflow" || module.starts_with("airflow.")
}

fn needs_airflow(name: &str) -> String {
    format!(
        "the function uses `{name}` of Airflow: its import is kept and works only where Airflow is installed"
    )
}

/// Finds the strings that go over several lines.
#[derive(Default)]
struct Strings {
    ranges: Vec<TextRange>,
}

impl<'a> Visitor<'a> for Strings {
    fn visit_expr(&mut self, expr: &'a Expr) {
        if matches!(expr, Expr::StringLiteral(_) | Expr::FString(_) | Expr::BytesLiteral(_)) {
            self.ranges.push(expr.range());
        }
        visitor::walk_expr(self, expr);
    }
}

fn strings(body: &[Stmt]) -> Vec<TextRange> {
    let mut found = Strings::default();
    found.visit_body(body);
    found.ranges
}

fn dedent(source: &Source<'_>, stmt: &Stmt, range: TextRange) -> String {
    let head = source.between(source.line_start(range.start()), range.start());
    let indent = if head.trim().is_empty() { head.len() } else { 0 };
    dedent_by(source, range, indent, &strings(std::slice::from_ref(stmt)))
}

/// Takes the indentation of the first line off every line that does not begin within a string.
fn dedent_by(source: &Source<'_>, range: TextRange, indent: usize, strings: &[TextRange]) -> String {
    let text = source.slice(range);
    let mut out = String::with_capacity(text.len());
    let mut at = range.start().to_usize();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_inside =
            strings.iter().any(|string| string.start().to_usize() < at && at < string.end().to_usize());
        let blanks = line.len() - line.trim_start_matches([' ', '\t']).len();
        let cut = if number == 0 || is_inside { 0 } else { indent.min(blanks) };
        out.push_str(line.get(cut..).unwrap_or(line));
        at += line.len();
    }
    out
}

/// Returns the keyword arguments of a dictionary of them.
pub(super) fn pairs<'t, 'a>(keyword: Option<&'t Keyword<'a>>) -> Vec<(&'t str, &'t Value<'a>)> {
    match keyword.map(|keyword| &keyword.value) {
        Some(Value::Dict(items)) => {
            items.iter().filter_map(|(name, value)| Some((name.as_str()?, value))).collect()
        }
        _ => Vec::new(),
    }
}
