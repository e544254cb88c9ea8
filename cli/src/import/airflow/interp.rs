//! Reads the statements of a DAG file and keeps what they say about DAGs.
//!
//! It follows what is written: assignments, `with`, loops over known lists, calls of functions of the file. It never
//! asks Python. What it cannot know is [`Value::Opaque`]; a loop or a condition that it cannot know and that makes tasks is
//! reported.

use std::collections::{BTreeMap, BTreeSet};

use ruff_python_ast::{Expr, Stmt, StmtFunctionDef, visitor, visitor::Visitor};
use ruff_text_size::{Ranged, TextRange};

use super::{
    names::Definitions,
    source::Source,
    value::{Decorated, Keyword, Value},
};
use crate::import::{Entry, Level};

/// How many statements and expressions are followed; loops could multiply them without end.
const BUDGET: u32 = 400_000;
/// How deep functions of the file may call each other.
const CALLS: usize = 16;
/// How deep expressions are followed.
const EXPRESSIONS: usize = 150;

/// A DAG as it is written.
#[derive(Debug)]
pub(super) struct DagDraft<'a> {
    pub(super) range: TextRange,
    pub(super) id: String,
    pub(super) keywords: Vec<Keyword<'a>>,
}

/// A task group as it is written.
#[derive(Debug)]
pub(super) struct GroupDraft<'a> {
    /// The id with those of the groups around it.
    pub(super) id: String,
    pub(super) parent: Option<usize>,
    pub(super) dag: Option<usize>,
    /// What stands before the ids of its members.
    pub(super) prefix: String,
    pub(super) defaults: Vec<Keyword<'a>>,
}

/// What a task does.
#[derive(Clone, Debug)]
pub(super) enum Work<'a> {
    /// An operator by its class.
    Operator(String),
    /// A function under `@task…`; the second is what it was called with.
    Function(Value<'a>, String, Vec<Value<'a>>, Vec<Keyword<'a>>),
    /// Something that is only reported.
    Unknown(String),
}

/// A task as it is written.
#[derive(Debug)]
pub(super) struct TaskDraft<'a> {
    pub(super) dag: Option<usize>,
    pub(super) group: Option<usize>,
    pub(super) id: String,
    pub(super) range: TextRange,
    pub(super) work: Work<'a>,
    pub(super) keywords: Vec<Keyword<'a>>,
    /// The tasks directly upstream.
    pub(super) up: BTreeSet<usize>,
    /// The names that were known where it was made.
    pub(super) scope: BTreeMap<String, Value<'a>>,
}

/// How a statement ended.
pub(super) enum Flow<'a> {
    Next,
    Return(Value<'a>),
    Break,
    Continue,
}

/// The reader.
pub(super) struct Interp<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) definitions: Definitions<'a>,
    pub(super) dags: Vec<DagDraft<'a>>,
    pub(super) groups: Vec<GroupDraft<'a>>,
    pub(super) tasks: Vec<TaskDraft<'a>>,
    pub(super) entries: Vec<Entry>,
    /// The DAGs and groups whose `with` or function is open.
    pub(super) open_dags: Vec<usize>,
    pub(super) open_groups: Vec<usize>,
    pub(super) scopes: Vec<BTreeMap<String, Value<'a>>>,
    pub(super) calls: usize,
    pub(super) depth: usize,
    budget: u32,
}

impl<'a> Interp<'a> {
    pub(super) fn new(source: &'a Source<'a>, definitions: Definitions<'a>) -> Self {
        let globals = BTreeMap::from([("__name__".to_owned(), Value::Str("dag_file".to_owned()))]);
        Self {
            source,
            definitions,
            dags: Vec::new(),
            groups: Vec::new(),
            tasks: Vec::new(),
            entries: Vec::new(),
            open_dags: Vec::new(),
            open_groups: Vec::new(),
            scopes: vec![globals],
            calls: 0,
            depth: 0,
            budget: BUDGET,
        }
    }

    pub(super) fn report(&mut self, level: Level, at: impl Ranged, message: impl Into<String>) {
        let line = self.source.line_of(at);
        let dag_id = self.open_dags.last().and_then(|dag| self.dags.get(*dag)).map(|dag| dag.id.clone());
        self.entries.push(Entry { line, level, dag_id, task_id: None, message: message.into() });
    }

    pub(super) fn problem(&mut self, at: impl Ranged, message: impl Into<String>) {
        self.report(Level::Problem, at, message);
    }

    /// Takes from the budget; false when it is used up.
    pub(super) fn spend(&mut self) -> bool {
        self.budget = self.budget.saturating_sub(1);
        self.budget > 0
    }

    /// Whether all the budget was used, so that something may be missing.
    pub(super) const fn is_exhausted(&self) -> bool {
        self.budget == 0
    }

    pub(super) fn eval(&mut self, expr: &'a Expr) -> Value<'a> {
        if self.depth >= EXPRESSIONS || !self.spend() {
            return Value::Opaque(expr.range());
        }
        self.depth += 1;
        let value = self.expression(expr);
        self.depth -= 1;
        value
    }

    pub(super) fn bind(&mut self, name: &str, value: Value<'a>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), value);
        }
    }

    /// Returns what a name means; the innermost scope wins.
    pub(super) fn lookup(&self, name: &str) -> Option<&Value<'a>> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    pub(super) fn body(&mut self, body: &'a [Stmt]) -> Flow<'a> {
        for stmt in body {
            if !self.spend() {
                return Flow::Next;
            }
            match self.statement(stmt) {
                Flow::Next => {}
                other => return other,
            }
        }
        Flow::Next
    }

    fn statement(&mut self, stmt: &'a Stmt) -> Flow<'a> {
        match stmt {
            Stmt::Expr(stmt) => drop(self.eval(&stmt.value)),
            Stmt::Assign(stmt) => {
                let value = self.eval(&stmt.value);
                for target in &stmt.targets {
                    self.assign(target, value.clone());
                }
            }
            Stmt::AnnAssign(stmt) => {
                if let Some(value) = &stmt.value {
                    let value = self.eval(value);
                    self.assign(&stmt.target, value);
                }
            }
            Stmt::AugAssign(stmt) => {
                let left = self.eval(&stmt.target);
                let right = self.eval(&stmt.value);
                let value = self.binary(left, stmt.op, right, stmt.range);
                self.assign(&stmt.target, value);
            }
            Stmt::Import(stmt) => {
                for alias in &stmt.names {
                    let path = alias.name.as_str();
                    let first = path.split('.').next().unwrap_or(path);
                    match &alias.asname {
                        Some(name) => self.bind(name.as_str(), Value::Path(path.to_owned())),
                        None => self.bind(first, Value::Path(first.to_owned())),
                    }
                }
            }
            Stmt::ImportFrom(stmt) => {
                let module = stmt.module.as_ref().map_or("", |module| module.as_str());
                for alias in &stmt.names {
                    let name = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.bind(name.as_str(), Value::Path(format!("{module}.{}", alias.name.as_str())));
                }
            }
            Stmt::FunctionDef(stmt) => {
                let value = self.function(stmt);
                self.bind(stmt.name.as_str(), value);
            }
            Stmt::ClassDef(stmt) => self.bind(stmt.name.as_str(), Value::Opaque(stmt.range)),
            Stmt::With(stmt) => return self.with(stmt),
            Stmt::If(stmt) => return self.condition(stmt),
            Stmt::For(stmt) => return self.repeat(stmt),
            Stmt::While(stmt) => self.unknown(&stmt.body, stmt.range, "a `while` loop"),
            Stmt::Match(stmt) => {
                for case in &stmt.cases {
                    self.unknown(&case.body, stmt.range, "a `match`");
                }
            }
            Stmt::Try(stmt) => {
                for body in [&stmt.body, &stmt.orelse, &stmt.finalbody] {
                    match self.body(body) {
                        Flow::Next => {}
                        other => return other,
                    }
                }
            }
            Stmt::Return(stmt) => {
                let value = stmt.value.as_ref().map_or(Value::None, |value| self.eval(value));
                return Flow::Return(value);
            }
            Stmt::Break(_) => return Flow::Break,
            Stmt::Continue(_) => return Flow::Continue,
            _ => {}
        }
        Flow::Next
    }

    /// Returns a function with what Airflow's decorators make of it.
    fn function(&mut self, stmt: &'a StmtFunctionDef) -> Value<'a> {
        let mut made: Option<Decorated<'a>> = None;
        for decorator in &stmt.decorator_list {
            let (path, mut keywords) = match self.eval(&decorator.expression) {
                Value::Path(path) => (path, Vec::new()),
                Value::Object(object) => {
                    let mut keywords = object.keywords.clone();
                    if let Some(id) = object.args.first() {
                        keywords.push(Keyword {
                            name: "dag_id".to_owned(),
                            value: id.clone(),
                            range: object.range,
                        });
                    }
                    (object.path.clone(), keywords)
                }
                _ => continue,
            };
            let Some(kind) = decorator_kind(&path) else { continue };
            match &mut made {
                None => {
                    let function = stmt;
                    made = Some(Decorated { kind, function, keywords, bound: Vec::new() });
                }
                Some(made) => {
                    made.keywords.append(&mut keywords);
                    // `@setup` above `@task`: the task is what matters.
                    if ["setup", "teardown"].contains(&made.kind.as_str()) {
                        let mark = std::mem::replace(&mut made.kind, kind);
                        let value = Value::Bool(true);
                        made.keywords.push(Keyword {
                            name: format!("_{mark}"),
                            value,
                            range: decorator.range,
                        });
                    }
                }
            }
        }
        match made {
            Some(made) => Value::Decorated(std::rc::Rc::new(made)),
            None => Value::Function(stmt),
        }
    }

    pub(super) fn assign(&mut self, target: &'a Expr, value: Value<'a>) {
        match target {
            Expr::Name(name) => self.bind(name.id.as_str(), value),
            Expr::Tuple(_) | Expr::List(_) => {
                let targets = if let Expr::Tuple(tuple) = target { &tuple.elts } else { as_list(target) };
                let values = if let Value::List(values) = value { values } else { Vec::new() };
                for (index, target) in targets.iter().enumerate() {
                    let value = values.get(index).cloned().unwrap_or(Value::Opaque(target.range()));
                    self.assign(target, value);
                }
            }
            Expr::Attribute(attribute) => {
                let name = attribute.attr.as_str().to_owned();
                let keyword = Keyword { name, value, range: attribute.range };
                match self.eval(&attribute.value) {
                    Value::Task(task) => {
                        if let Some(task) = self.tasks.get_mut(task) {
                            task.keywords.push(keyword);
                        }
                    }
                    Value::Dag(dag) => {
                        if let Some(dag) = self.dags.get_mut(dag) {
                            dag.keywords.push(keyword);
                        }
                    }
                    _ => {}
                }
            }
            Expr::Subscript(subscript) => {
                let key = self.eval(&subscript.slice);
                if let Expr::Name(name) = &*subscript.value
                    && let Some(Value::Dict(items)) =
                        self.scopes.iter_mut().rev().find_map(|scope| scope.get_mut(name.id.as_str()))
                {
                    items.retain(|(old, _)| old.equals(&key) != Some(true));
                    items.push((key, value));
                }
            }
            _ => {}
        }
    }

    fn with(&mut self, stmt: &'a ruff_python_ast::StmtWith) -> Flow<'a> {
        let (dags, groups) = (self.open_dags.len(), self.open_groups.len());
        for item in &stmt.items {
            let value = self.eval(&item.context_expr);
            match &value {
                Value::Dag(dag) => self.open_dags.push(*dag),
                Value::Group(group) => self.open_groups.push(*group),
                _ => {}
            }
            if let Some(target) = &item.optional_vars {
                self.assign(target, value);
            }
        }
        let flow = self.body(&stmt.body);
        self.open_dags.truncate(dags);
        self.open_groups.truncate(groups);
        flow
    }

    fn condition(&mut self, stmt: &'a ruff_python_ast::StmtIf) -> Flow<'a> {
        let mut arms = vec![(Some(&*stmt.test), &stmt.body)];
        arms.extend(stmt.elif_else_clauses.iter().map(|clause| (clause.test.as_ref(), &clause.body)));
        for (at, (test, body)) in arms.iter().enumerate() {
            let truth = match test {
                Some(test) => self.eval(test).truth(),
                None => Some(true),
            };
            match truth {
                Some(true) => return self.body(body),
                Some(false) => {}
                None => {
                    for (_, body) in arms.iter().skip(at) {
                        self.unknown(body, stmt.range, "an `if` whose condition only Python can tell");
                    }
                    return Flow::Next;
                }
            }
        }
        Flow::Next
    }

    fn repeat(&mut self, stmt: &'a ruff_python_ast::StmtFor) -> Flow<'a> {
        let Some(items) = self.eval(&stmt.iter).items() else {
            self.unknown(&stmt.body, stmt.range, "a loop over values that only Python can tell");
            return Flow::Next;
        };
        for item in items {
            if !self.spend() {
                break;
            }
            self.assign(&stmt.target, item);
            match self.body(&stmt.body) {
                Flow::Next | Flow::Continue => {}
                Flow::Break => return Flow::Next,
                other @ Flow::Return(_) => return other,
            }
        }
        self.body(&stmt.orelse)
    }

    /// Passes over statements that may run or not: names that they bind mean anything, and tasks in them are reported.
    fn unknown(&mut self, body: &'a [Stmt], range: TextRange, what: &str) {
        let mut look = Look::default();
        look.visit_body(body);
        if look.makes_tasks {
            self.problem(range, format!("not converted: {what}, with tasks or dependencies in it"));
        }
        for name in look.bound {
            self.bind(name, Value::Opaque(range));
        }
    }

    /// Follows a call of a function of the file.
    pub(super) fn follow(
        &mut self,
        function: &'a StmtFunctionDef,
        args: Vec<Value<'a>>,
        keywords: &[Keyword<'a>],
        range: TextRange,
    ) -> Value<'a> {
        if self.calls >= CALLS {
            return Value::Opaque(range);
        }
        let mut scope = BTreeMap::new();
        let mut args = args.into_iter();
        let parameters = &function.parameters;
        for parameter in parameters.iter_non_variadic_params() {
            let name = parameter.parameter.name.as_str();
            let is_keyword_only = parameters.kwonlyargs.iter().any(|one| std::ptr::eq(one, parameter));
            let given =
                keywords.iter().find(|keyword| keyword.name == name).map(|keyword| keyword.value.clone());
            let given = given.or_else(|| if is_keyword_only { None } else { args.next() });
            let value = match (given, &parameter.default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.eval(default),
                (None, None) => Value::Opaque(range),
            };
            scope.insert(name.to_owned(), value);
        }
        for rest in [&parameters.vararg, &parameters.kwarg].into_iter().flatten() {
            scope.insert(rest.name.as_str().to_owned(), Value::Opaque(range));
        }
        self.calls += 1;
        self.scopes.push(scope);
        // A generator makes a list only where it is asked to.
        let flow = self.body(&function.body);
        self.scopes.pop();
        self.calls -= 1;
        if let Flow::Return(value) = flow { value } else { Value::None }
    }
}

fn as_list(expr: &Expr) -> &[Expr] {
    if let Expr::List(list) = expr { &list.elts } else { &[] }
}

/// Returns which of Airflow's decorators a name is, without the module.
pub(super) fn decorator_kind(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('.').collect();
    if parts.first() != Some(&"airflow") {
        return None;
    }
    let at =
        parts.iter().position(|part| ["dag", "task", "task_group", "setup", "teardown"].contains(part))?;
    Some(parts.get(at..)?.join("."))
}

/// Looks for tasks in statements that are not followed.
#[derive(Default)]
struct Look<'a> {
    makes_tasks: bool,
    bound: Vec<&'a str>,
}

impl<'a> Visitor<'a> for Look<'a> {
    fn visit_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Call(call) => {
                let name = match &*call.func {
                    Expr::Name(name) => name.id.as_str(),
                    Expr::Attribute(attribute) => attribute.attr.as_str(),
                    _ => "",
                };
                self.makes_tasks |= name.ends_with("Operator")
                    || name.ends_with("Sensor")
                    || ["DAG", "TaskGroup", "chain", "set_upstream", "set_downstream", "expand"]
                        .contains(&name)
                    || call.arguments.find_keyword("task_id").is_some();
            }
            Expr::BinOp(binary) => {
                let is_shift = matches!(
                    binary.op,
                    ruff_python_ast::Operator::RShift | ruff_python_ast::Operator::LShift
                );
                let is_number = matches!(&*binary.right, Expr::NumberLiteral(_));
                self.makes_tasks |= is_shift && !is_number;
            }
            Expr::Name(name) if name.ctx.is_store() => self.bound.push(name.id.as_str()),
            _ => {}
        }
        visitor::walk_expr(self, expr);
    }
}
