//! Where the names of a file are defined, and which names a piece of code needs.

use std::collections::{BTreeMap, BTreeSet};

use ruff_python_ast::{
    Expr, ExprContext, Parameters, Stmt,
    visitor::{self, Visitor},
};

/// The statements that define each name, in the order of the file; those of the module before those of functions.
#[derive(Default)]
pub(super) struct Definitions<'a> {
    module: BTreeMap<String, Vec<&'a Stmt>>,
    inner: BTreeMap<String, Vec<&'a Stmt>>,
}

impl<'a> Definitions<'a> {
    pub(super) fn of(body: &'a [Stmt]) -> Self {
        let mut found = Self::default();
        found.add(body, true);
        found
    }

    /// Returns the statements that define a name.
    pub(super) fn get(&self, name: &str) -> &[&'a Stmt] {
        self.module.get(name).or_else(|| self.inner.get(name)).map_or(&[], Vec::as_slice)
    }

    /// Whether the module itself defines a name.
    pub(super) fn is_of_module(&self, name: &str) -> bool {
        self.module.contains_key(name)
    }

    fn add(&mut self, body: &'a [Stmt], is_module: bool) {
        for stmt in body {
            for name in binds(stmt) {
                let map = if is_module { &mut self.module } else { &mut self.inner };
                map.entry(name.to_owned()).or_default().push(stmt);
            }
            match stmt {
                Stmt::FunctionDef(stmt) => self.add(&stmt.body, false),
                Stmt::With(stmt) => self.add(&stmt.body, is_module),
                Stmt::If(stmt) => {
                    self.add(&stmt.body, is_module);
                    for clause in &stmt.elif_else_clauses {
                        self.add(&clause.body, is_module);
                    }
                }
                Stmt::For(stmt) => self.add(&stmt.body, is_module),
                Stmt::Try(stmt) => {
                    self.add(&stmt.body, is_module);
                    self.add(&stmt.orelse, is_module);
                    self.add(&stmt.finalbody, is_module);
                }
                _ => {}
            }
        }
    }
}

/// Returns the names that a simple statement binds.
fn binds(stmt: &Stmt) -> Vec<&str> {
    let mut names = Vec::new();
    match stmt {
        Stmt::FunctionDef(stmt) => names.push(stmt.name.as_str()),
        Stmt::ClassDef(stmt) => names.push(stmt.name.as_str()),
        Stmt::Import(stmt) => {
            for alias in &stmt.names {
                let name = alias.asname.as_ref().unwrap_or(&alias.name).as_str();
                names.push(name.split('.').next().unwrap_or(name));
            }
        }
        Stmt::ImportFrom(stmt) => {
            names
                .extend(stmt.names.iter().map(|alias| alias.asname.as_ref().unwrap_or(&alias.name).as_str()));
        }
        Stmt::Assign(stmt) => stmt.targets.iter().for_each(|target| targets(target, &mut names)),
        Stmt::AnnAssign(stmt) => targets(&stmt.target, &mut names),
        Stmt::AugAssign(stmt) => targets(&stmt.target, &mut names),
        _ => {}
    }
    names
}

fn targets<'a>(target: &'a Expr, names: &mut Vec<&'a str>) {
    match target {
        Expr::Name(name) => names.push(name.id.as_str()),
        Expr::Tuple(tuple) => tuple.elts.iter().for_each(|target| targets(target, names)),
        Expr::List(list) => list.elts.iter().for_each(|target| targets(target, names)),
        // `CONFIG["a"] = 1` belongs to CONFIG.
        Expr::Subscript(subscript) => targets(&subscript.value, names),
        _ => {}
    }
}

/// What a piece of code needs and does.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    loads: BTreeSet<&'a str>,
    stores: BTreeSet<&'a str>,
    globals: BTreeSet<&'a str>,
    /// The import statements in it.
    pub(super) imports: Vec<&'a Stmt>,
    /// The ids that it pulls from, and whether there are some that only Python can tell.
    pub(super) pulls: BTreeSet<String>,
    pub(super) pulls_unknown: bool,
    /// The variables and connections that it reads by name.
    pub(super) variables: BTreeSet<String>,
    pub(super) connections: BTreeSet<String>,
    /// Whether it does something else with variables or connections.
    pub(super) vault_unknown: bool,
}

impl<'a> Names<'a> {
    pub(super) fn of_expr(expr: &'a Expr) -> Self {
        let mut names = Self::default();
        names.visit_expr(expr);
        names
    }

    pub(super) fn of_body(parameters: Option<&'a Parameters>, body: &'a [Stmt]) -> Self {
        let mut names = Self::default();
        if let Some(parameters) = parameters {
            names.visit_parameters(parameters);
        }
        names.visit_body(body);
        names
    }

    pub(super) fn of_stmt(stmt: &'a Stmt) -> Self {
        let mut names = Self::default();
        match stmt {
            // Its own name is bound outside.
            Stmt::FunctionDef(function) => {
                for decorator in &function.decorator_list {
                    names.visit_decorator(decorator);
                }
                names.visit_parameters(&function.parameters);
                names.visit_body(&function.body);
            }
            other => names.visit_stmt(other),
        }
        names
    }

    /// Returns the names that must come from outside.
    pub(super) fn free(&self) -> impl Iterator<Item = &'a str> {
        self.loads.iter().filter(|name| !self.stores.contains(*name)).chain(&self.globals).copied()
    }
}

impl<'a> Visitor<'a> for Names<'a> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::FunctionDef(function) => {
                self.stores.insert(function.name.as_str());
            }
            Stmt::ClassDef(class) => {
                self.stores.insert(class.name.as_str());
            }
            Stmt::Import(_) | Stmt::ImportFrom(_) => {
                self.stores.extend(binds(stmt));
                self.imports.push(stmt);
            }
            Stmt::Global(global) => self.globals.extend(global.names.iter().map(|name| name.as_str())),
            _ => {}
        }
        visitor::walk_stmt(self, stmt);
    }

    // Scripts begin with `from __future__ import annotations`: nobody looks these names up.
    fn visit_annotation(&mut self, _: &'a Expr) {}

    fn visit_parameters(&mut self, parameters: &'a Parameters) {
        self.stores.extend(parameters.iter().map(|parameter| parameter.name().as_str()));
        visitor::walk_parameters(self, parameters);
    }

    fn visit_except_handler(&mut self, handler: &'a ruff_python_ast::ExceptHandler) {
        let ruff_python_ast::ExceptHandler::ExceptHandler(inner) = handler;
        self.stores.extend(inner.name.iter().map(|name| name.as_str()));
        visitor::walk_except_handler(self, handler);
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Name(name) => {
                let set = if name.ctx == ExprContext::Load { &mut self.loads } else { &mut self.stores };
                set.insert(name.id.as_str());
            }
            Expr::Call(call) => {
                if let Expr::Attribute(attribute) = &*call.func
                    && attribute.attr.as_str() == "xcom_pull"
                {
                    let given = call.arguments.find_argument_value("task_ids", 0);
                    self.pull(given);
                }
                if let Expr::Attribute(attribute) = &*call.func
                    && let Expr::Name(class) = &*attribute.value
                {
                    self.read(class.id.as_str(), attribute.attr.as_str(), &call.arguments);
                }
            }
            _ => {}
        }
        visitor::walk_expr(self, expr);
    }
}

impl Names<'_> {
    /// Notes `Variable.get("x")` and `BaseHook.get_connection("x")`. One with a default is none of them: an environment cannot say
    /// that something is not there.
    fn read(&mut self, class: &str, method: &str, arguments: &ruff_python_ast::Arguments) {
        let (names, key) = match (class, method) {
            ("Variable", "get") => (&mut self.variables, "key"),
            ("BaseHook", "get_connection") => (&mut self.connections, "conn_id"),
            ("Variable" | "BaseHook", _) => {
                self.vault_unknown = true;
                return;
            }
            _ => return,
        };
        let has_default = arguments.args.len() > 1
            || arguments.keywords.iter().any(|keyword| {
                keyword
                    .arg
                    .as_ref()
                    .is_none_or(|name| name.as_str() != key && name.as_str() != "deserialize_json")
            });
        match arguments.find_argument_value(key, 0) {
            Some(Expr::StringLiteral(name)) if !has_default => {
                names.insert(name.value.to_str().to_owned());
            }
            _ => self.vault_unknown = true,
        }
    }

    fn pull(&mut self, given: Option<&Expr>) {
        match given {
            Some(Expr::StringLiteral(text)) => {
                self.pulls.insert(text.value.to_str().to_owned());
            }
            Some(Expr::List(list)) => list.elts.iter().for_each(|item| self.pull(Some(item))),
            Some(Expr::Tuple(list)) => list.elts.iter().for_each(|item| self.pull(Some(item))),
            _ => self.pulls_unknown = true,
        }
    }
}

/// Names that Python itself knows.
pub(super) const BUILTINS: &[&str] = &[
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BaseException",
    "BrokenPipeError",
    "ConnectionError",
    "EOFError",
    "Ellipsis",
    "EnvironmentError",
    "Exception",
    "ExceptionGroup",
    "False",
    "FileExistsError",
    "FileNotFoundError",
    "FloatingPointError",
    "GeneratorExit",
    "IOError",
    "ImportError",
    "IndexError",
    "IsADirectoryError",
    "KeyError",
    "KeyboardInterrupt",
    "LookupError",
    "MemoryError",
    "ModuleNotFoundError",
    "NameError",
    "None",
    "NotADirectoryError",
    "NotImplemented",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PermissionError",
    "RecursionError",
    "RuntimeError",
    "StopAsyncIteration",
    "StopIteration",
    "SyntaxError",
    "SystemError",
    "SystemExit",
    "TimeoutError",
    "True",
    "TypeError",
    "UnicodeDecodeError",
    "UnicodeEncodeError",
    "UnicodeError",
    "UserWarning",
    "ValueError",
    "Warning",
    "ZeroDivisionError",
    "__file__",
    "__name__",
    "abs",
    "aiter",
    "all",
    "anext",
    "any",
    "ascii",
    "bin",
    "bool",
    "breakpoint",
    "bytearray",
    "bytes",
    "callable",
    "chr",
    "classmethod",
    "compile",
    "complex",
    "delattr",
    "dict",
    "dir",
    "divmod",
    "enumerate",
    "eval",
    "exec",
    "exit",
    "filter",
    "float",
    "format",
    "frozenset",
    "getattr",
    "globals",
    "hasattr",
    "hash",
    "help",
    "hex",
    "id",
    "input",
    "int",
    "isinstance",
    "issubclass",
    "iter",
    "len",
    "list",
    "locals",
    "map",
    "max",
    "memoryview",
    "min",
    "next",
    "object",
    "oct",
    "open",
    "ord",
    "pow",
    "print",
    "property",
    "quit",
    "range",
    "repr",
    "reversed",
    "round",
    "set",
    "setattr",
    "slice",
    "sorted",
    "staticmethod",
    "str",
    "sum",
    "super",
    "tuple",
    "type",
    "vars",
    "zip",
    "__import__",
];
