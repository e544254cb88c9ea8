//! Reads calls: what makes DAGs, groups, tasks and dependencies.

use std::{collections::BTreeSet, rc::Rc};

use ruff_python_ast::ExprCall;
use ruff_text_size::TextRange;

use super::{
    functions::{builtin, delta, moment, text_method},
    interp::{DagDraft, GroupDraft, Interp, TaskDraft, Work, decorator_kind},
    mapped,
    value::{Decorated, Keyword, Object, Value},
    vault,
};
use crate::import::Level;

/// The arguments of a call.
pub(super) struct Arguments<'a> {
    pub(super) args: Vec<Value<'a>>,
    pub(super) keywords: Vec<Keyword<'a>>,
    pub(super) range: TextRange,
}

impl<'a> Arguments<'a> {
    /// Returns an argument by its name, or by its place.
    pub(super) fn get(&self, name: &str, place: usize) -> Option<&Value<'a>> {
        let keyword =
            self.keywords.iter().rev().find(|keyword| keyword.name == name).map(|keyword| &keyword.value);
        keyword.or_else(|| self.args.get(place))
    }

    /// Returns an argument that is an integer.
    pub(super) fn int(&self, name: &str, place: usize) -> Option<i64> {
        if let Some(Value::Int(value)) = self.get(name, place) { Some(*value) } else { None }
    }

    fn object(self, path: String) -> Value<'a> {
        Value::Object(Rc::new(Object { path, args: self.args, keywords: self.keywords, range: self.range }))
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

impl<'a> Interp<'a> {
    pub(super) fn call(&mut self, call: &'a ExprCall) -> Value<'a> {
        let callee = self.eval(&call.func);
        let range = TextRange::new(call.range_start, call.arguments.range.end());
        let mut arguments = Arguments { args: Vec::new(), keywords: Vec::new(), range };
        for arg in &call.arguments.args {
            let value = self.eval(arg);
            match (arg, value) {
                (ruff_python_ast::Expr::Starred(_), Value::List(more)) => arguments.args.extend(more),
                (_, value) => arguments.args.push(value),
            }
        }
        for keyword in &call.arguments.keywords {
            let value = self.eval(&keyword.value);
            let range = keyword.range;
            match (&keyword.arg, value) {
                (Some(name), value) => {
                    arguments.keywords.push(Keyword { name: name.as_str().to_owned(), value, range });
                }
                (None, Value::Dict(items)) => {
                    for (name, value) in items {
                        let Some(name) = name.as_str() else { continue };
                        arguments.keywords.push(Keyword { name: name.to_owned(), value, range });
                    }
                }
                (None, value) => arguments.keywords.push(Keyword { name: "**".to_owned(), value, range }),
            }
        }
        self.called(callee, arguments)
    }

    fn called(&mut self, callee: Value<'a>, arguments: Arguments<'a>) -> Value<'a> {
        let range = arguments.range;
        match callee {
            Value::Path(path) => self.named(path, arguments),
            Value::Function(function) => self.follow(function, arguments.args, &arguments.keywords, range),
            Value::Decorated(decorated) => self.decorated(&decorated, arguments),
            Value::Method(value, name) if name == "get_uri" && matches!(&*value, Value::Object(_)) => {
                let Value::Object(object) = *value else { return Value::Opaque(range) };
                vault::field(&object, "uri").map_or(Value::Opaque(range), Value::Template)
            }
            Value::Method(value, name) => self.method(*value, &name, arguments),
            Value::Opaque(_) if arguments.get("task_id", usize::MAX).is_some() => {
                let class = self.source.slice(range).split('(').next().unwrap_or_default().trim().to_owned();
                self.operator(class, arguments)
            }
            _ => Value::Opaque(range),
        }
    }

    fn named(&mut self, path: String, arguments: Arguments<'a>) -> Value<'a> {
        let range = arguments.range;
        let is_airflow = path.starts_with("airflow.");
        match last(&path) {
            "DAG" => self.make_dag(arguments),
            "TaskGroup" => self.make_group(arguments),
            "Label" => {
                self.report(Level::Note, range, "the label of a dependency is left out");
                Value::Label
            }
            "chain" | "chain_linear" if is_airflow => {
                self.chain(&arguments.args, range);
                Value::None
            }
            "cross_downstream" => {
                if let (Some(up), Some(down)) = (arguments.get("from_tasks", 0), arguments.get("to_tasks", 1))
                {
                    let (up, down) = (up.clone(), down.clone());
                    self.shift(up, down, true, range);
                }
                Value::None
            }
            "XComArg" => match (arguments.get("operator", 0), arguments.get("key", 1)) {
                (Some(Value::Task(task)), None) => Value::Output(*task, "return_value".to_owned()),
                (Some(Value::Task(task)), Some(Value::Str(key))) => Value::Output(*task, key.clone()),
                _ => Value::Opaque(range),
            },
            "get" if is_airflow && path.ends_with(".Variable.get") => {
                vault::variable(&arguments).map_or(Value::Opaque(range), Value::Template)
            }
            "timedelta" | "duration" => delta(&arguments).map_or(Value::Opaque(range), Value::Delta),
            "datetime" => moment(&arguments).map_or(Value::Opaque(range), Value::Moment),
            "timezone" | "ZoneInfo" | "Timezone" | "gettz" => match arguments.args.first() {
                Some(Value::Str(zone)) => Value::Zone(zone.clone()),
                _ => Value::Opaque(range),
            },
            name if path.starts_with("builtins.") => {
                builtin(name, &arguments).unwrap_or_else(|| arguments.object(path))
            }
            _ if decorator_kind(&path).is_some() => arguments.object(path),
            name if arguments.get("task_id", usize::MAX).is_some()
                || (is_airflow && (name.ends_with("Operator") || name.ends_with("Sensor"))) =>
            {
                let class = name.to_owned();
                self.operator(class, arguments)
            }
            _ => arguments.object(path),
        }
    }

    fn make_dag(&mut self, arguments: Arguments<'a>) -> Value<'a> {
        let range = arguments.range;
        let Some(id) = arguments.get("dag_id", 0).and_then(Value::text) else {
            self.problem(range, "not converted: a DAG whose id only Python can tell");
            return Value::Opaque(range);
        };
        let mut keywords = arguments.keywords;
        for (name, value) in ["description", "schedule"].iter().zip(arguments.args.into_iter().skip(1)) {
            keywords.push(Keyword { name: (*name).to_owned(), value, range });
        }
        self.dags.push(DagDraft { range, id, keywords });
        Value::Dag(self.dags.len() - 1)
    }

    fn make_group(&mut self, arguments: Arguments<'a>) -> Value<'a> {
        let range = arguments.range;
        let Some(name) = arguments.get("group_id", 0).and_then(Value::text) else {
            self.problem(range, "not converted: a task group whose id only Python can tell");
            return Value::Opaque(range);
        };
        let parent = match arguments.get("parent_group", usize::MAX) {
            Some(Value::Group(group)) => Some(*group),
            _ => self.open_groups.last().copied(),
        };
        let dag = match arguments.get("dag", usize::MAX) {
            Some(Value::Dag(dag)) => Some(*dag),
            _ => self.open_dags.last().copied(),
        };
        let above = parent.and_then(|parent| self.groups.get(parent));
        let (prefix, path) =
            above.map_or_else(Default::default, |group| (group.prefix.clone(), format!("{}.", group.id)));
        let is_prefix = !matches!(arguments.get("prefix_group_id", 1), Some(Value::Bool(false)));
        let own = if is_prefix { format!("{prefix}{name}.") } else { prefix };
        let mut defaults = above.map(|group| group.defaults.clone()).unwrap_or_default();
        for keyword in arguments.keywords {
            match (keyword.name.as_str(), &keyword.value) {
                ("default_args", Value::Dict(items)) => {
                    for (name, value) in items {
                        let Some(name) = name.as_str() else { continue };
                        defaults.push(Keyword {
                            name: name.to_owned(),
                            value: value.clone(),
                            range: keyword.range,
                        });
                    }
                }
                ("default_args", _) => {
                    self.problem(keyword.range, "the group's default_args are known to Python alone")
                }
                ("group_id" | "parent_group" | "dag" | "prefix_group_id" | "dag_id", _) => {}
                (name, _) => {
                    self.report(Level::Note, keyword.range, format!("`{name}` of the group is left out"))
                }
            }
        }
        self.groups.push(GroupDraft { id: format!("{path}{name}"), parent, dag, prefix: own, defaults });
        Value::Group(self.groups.len() - 1)
    }

    /// Makes a task of an operator.
    pub(super) fn operator(&mut self, class: String, arguments: Arguments<'a>) -> Value<'a> {
        let range = arguments.range;
        let Some(id) = arguments.get("task_id", 0).and_then(Value::text) else {
            self.problem(range, format!("not converted: a {class} whose task_id only Python can tell"));
            return Value::Opaque(range);
        };
        let values: Vec<Value<'a>> = arguments.keywords.iter().map(|keyword| keyword.value.clone()).collect();
        let task = self.make_task(id, Work::Operator(class), arguments.keywords, range);
        self.depend_on_outputs(task, &values);
        Value::Task(task)
    }

    pub(super) fn make_task(
        &mut self,
        id: String,
        work: Work<'a>,
        keywords: Vec<Keyword<'a>>,
        range: TextRange,
    ) -> usize {
        let given = keywords.iter().rev().find(|keyword| keyword.name == "task_group");
        let group = match given.map(|keyword| &keyword.value) {
            Some(Value::Group(group)) => Some(*group),
            _ => self.open_groups.last().copied(),
        };
        let of_group = group.and_then(|group| self.groups.get(group));
        let dag = keywords.iter().rev().find_map(|keyword| match (&*keyword.name, &keyword.value) {
            ("dag", Value::Dag(dag)) => Some(*dag),
            _ => None,
        });
        let dag =
            dag.or_else(|| of_group.and_then(|group| group.dag)).or_else(|| self.open_dags.last().copied());
        let id = format!("{}{id}", of_group.map_or("", |group| &group.prefix));
        let keywords =
            of_group.map(|group| group.defaults.clone()).unwrap_or_default().into_iter().chain(keywords);
        let mut scope = std::collections::BTreeMap::new();
        for (name, value) in self.scopes.iter().flatten() {
            if value.python().is_some() {
                scope.insert(name.clone(), value.clone());
            }
        }
        self.tasks.push(TaskDraft {
            dag,
            group,
            id,
            range,
            work,
            keywords: keywords.collect(),
            up: BTreeSet::new(),
            scope,
        });
        self.tasks.len() - 1
    }

    /// Makes a task depend on those whose outputs it is given.
    fn depend_on_outputs(&mut self, task: usize, values: &[Value<'a>]) {
        let mut found = BTreeSet::new();
        values.iter().for_each(|value| outputs(value, &mut found));
        found.remove(&task);
        if let Some(task) = self.tasks.get_mut(task) {
            task.up.extend(found);
        }
    }

    fn decorated(&mut self, decorated: &Rc<Decorated<'a>>, arguments: Arguments<'a>) -> Value<'a> {
        let name = decorated.function.name.as_str();
        let range = arguments.range;
        let given = |key: &str| {
            decorated.keywords.iter().rev().find(|keyword| keyword.name == key).map(|keyword| &keyword.value)
        };
        match decorated.kind.as_str() {
            "dag" => {
                let id = given("dag_id").and_then(Value::text).unwrap_or_else(|| name.to_owned());
                let mut keywords = decorated.keywords.clone();
                keywords.push(Keyword {
                    name: "_function".to_owned(),
                    value: Value::Function(decorated.function),
                    range,
                });
                self.dags.push(DagDraft { range: decorated.function.range, id, keywords });
                let dag = self.dags.len() - 1;
                self.open_dags.push(dag);
                let groups = std::mem::take(&mut self.open_groups);
                self.follow(decorated.function, arguments.args, &arguments.keywords, range);
                self.open_groups = groups;
                self.open_dags.pop();
                Value::Dag(dag)
            }
            "task_group" => {
                let id = given("group_id").or_else(|| given("dag_id")).and_then(Value::text);
                let mut keywords = decorated.keywords.clone();
                let value = Value::Str(id.unwrap_or_else(|| name.to_owned()));
                keywords.push(Keyword { name: "group_id".to_owned(), value, range });
                let group = self.make_group(Arguments { args: Vec::new(), keywords, range });
                if let Value::Group(group) = &group {
                    self.open_groups.push(*group);
                    let result = self.follow(decorated.function, arguments.args, &arguments.keywords, range);
                    self.open_groups.pop();
                    if matches!(result, Value::Task(_) | Value::Output(..)) {
                        return result;
                    }
                }
                group
            }
            kind => {
                let kind = kind.to_owned();
                self.make_function_task(decorated, &kind, arguments)
            }
        }
    }

    fn make_function_task(
        &mut self,
        decorated: &Rc<Decorated<'a>>,
        kind: &str,
        arguments: Arguments<'a>,
    ) -> Value<'a> {
        let mut keywords = decorated.keywords.clone();
        let id = keywords
            .iter()
            .rev()
            .find(|keyword| keyword.name == "task_id")
            .and_then(|keyword| keyword.value.text());
        let id = id.unwrap_or_else(|| decorated.function.name.as_str().to_owned());
        keywords.retain(|keyword| keyword.name != "task_id");
        if ["setup", "teardown"].contains(&kind) {
            let (name, range) = (format!("_{kind}"), arguments.range);
            keywords.push(Keyword { name, value: Value::Bool(true), range });
        }
        let prefix = self
            .open_groups
            .last()
            .and_then(|group| self.groups.get(*group))
            .map_or("", |group| &group.prefix);
        let dag = self.open_dags.last().copied();
        // The second call of a function is another task, as in Airflow.
        let is_taken =
            |id: &str| self.tasks.iter().any(|task| task.dag == dag && task.id == format!("{prefix}{id}"));
        let id = (0..10_000)
            .map(|n| if n == 0 { id.clone() } else { format!("{id}__{n}") })
            .find(|id| !is_taken(id))
            .unwrap_or(id);
        let mut given = decorated.bound.clone();
        given.extend(arguments.keywords);
        let mut values: Vec<Value<'a>> = given.iter().map(|keyword| keyword.value.clone()).collect();
        values.extend(arguments.args.iter().cloned());
        let work =
            Work::Function(Value::Function(decorated.function), kind.to_owned(), arguments.args, given);
        let task = self.make_task(id, work, keywords, arguments.range);
        self.depend_on_outputs(task, &values);
        Value::Task(task)
    }

    fn method(&mut self, value: Value<'a>, name: &str, arguments: Arguments<'a>) -> Value<'a> {
        let range = arguments.range;
        match (&value, name) {
            (_, "set_downstream" | "set_upstream") => {
                if let Some(other) = arguments.args.first().cloned() {
                    self.shift(value, other, name == "set_downstream", range);
                }
                Value::None
            }
            (Value::Task(task), "as_setup" | "as_teardown") => {
                let setups = arguments.get("setups", 0).filter(|_| name == "as_teardown").cloned();
                let keyword = Keyword {
                    name: format!("_{}", name.trim_start_matches("as_")),
                    value: setups.unwrap_or(Value::Bool(true)),
                    range,
                };
                let fails = arguments
                    .keywords
                    .iter()
                    .find(|keyword| keyword.name == "on_failure_fail_dagrun")
                    .cloned();
                if let Some(task) = self.tasks.get_mut(*task) {
                    task.keywords.push(keyword);
                    task.keywords.extend(fails);
                }
                if let Some(setups) = arguments.get("setups", 0).cloned() {
                    self.shift(setups, value.clone(), true, range);
                }
                value
            }
            (Value::Decorated(decorated), "override" | "partial") => {
                let mut changed = (**decorated).clone();
                let list = if name == "override" { &mut changed.keywords } else { &mut changed.bound };
                list.extend(arguments.keywords);
                Value::Decorated(Rc::new(changed))
            }
            (Value::Decorated(decorated), "expand" | "expand_kwargs") => {
                let decorated = Rc::clone(decorated);
                let id = decorated.function.name.as_str().to_owned();
                let made = match name {
                    "expand" if arguments.args.is_empty() => {
                        mapped::function(&decorated, &arguments.keywords, range)
                    }
                    _ => mapped::tables(&arguments).and_then(|(keywords, list)| {
                        let (work, mut all) = mapped::function(&decorated, &keywords, range)?;
                        mapped::replace(&mut all, list);
                        Ok((work, all))
                    }),
                };
                self.mapped(id, made, decorated.keywords.clone(), &decorated.bound, arguments)
            }
            (Value::Object(object), "expand" | "expand_kwargs") if object.path.ends_with(".partial") => {
                let object = Rc::clone(object);
                let made = match name {
                    "expand" if arguments.args.is_empty() => {
                        mapped::operator(&object, &arguments.keywords, range)
                    }
                    _ => mapped::tables(&arguments).and_then(|(keywords, list)| {
                        let (work, mut all) = mapped::operator(&object, &keywords, range)?;
                        mapped::replace(&mut all, list);
                        Ok((work, all))
                    }),
                };
                self.mapped("mapped".to_owned(), made, object.keywords.clone(), &[], arguments)
            }
            _ => text_method(&value, name, &arguments).unwrap_or(Value::Opaque(range)),
        }
    }

    fn mapped(
        &mut self,
        id: String,
        made: Result<(Work<'a>, Vec<Keyword<'a>>), String>,
        keywords: Vec<Keyword<'a>>,
        bound: &[Keyword<'a>],
        arguments: Arguments<'a>,
    ) -> Value<'a> {
        let all = keywords.iter().chain(bound).chain(&arguments.keywords);
        let mut values: Vec<Value<'a>> = all.map(|keyword| keyword.value.clone()).collect();
        values.extend(arguments.args.iter().cloned());
        let given = keywords.iter().rev().find(|keyword| keyword.name == "task_id");
        let id = given.and_then(|keyword| keyword.value.text()).unwrap_or(id);
        let (work, mut keywords) = made.unwrap_or_else(|why| (Work::Unknown(why), keywords));
        if let Work::Function(_, kind, ..) = &work
            && ["setup", "teardown"].contains(&kind.as_str())
        {
            let (name, range) = (format!("_{kind}"), arguments.range);
            keywords.push(Keyword { name, value: Value::Bool(true), range });
        }
        let task = self.make_task(id, work, keywords, arguments.range);
        self.depend_on_outputs(task, &values);
        Value::Task(task)
    }
}

fn outputs(value: &Value<'_>, found: &mut BTreeSet<usize>) {
    match value {
        Value::Task(task) | Value::Output(task, _) => {
            found.insert(*task);
        }
        Value::List(items) => items.iter().for_each(|item| outputs(item, found)),
        Value::Dict(items) => items.iter().for_each(|(_, item)| outputs(item, found)),
        _ => {}
    }
}
