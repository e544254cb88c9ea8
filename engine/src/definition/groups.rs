//! Task groups: what `group:NAME` stands for, and what `[[group]]` adds.
//!
//! Groups exist in the file only. A dependency on a group becomes one on each of its leaves, and what a group depends
//! on becomes a dependency of each of its roots, so that the graph below knows nothing but tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    code::Code,
    fields::{Fields, Mode, Placed},
    graph_checks::unknown,
    keys::TableId,
    kinds::wrong_type,
    model::{GROUP_PREFIX, TaskGroup},
    problem::{Draft, Report},
    suggest::{nearest, shown},
    tree::{Table, Value},
};

/// The most dependencies that the groups of one file may stand for.
const MAX_EDGES: usize = 200_000;

/// The groups of a file.
#[derive(Default)]
pub(crate) struct Groups<'s> {
    ends: BTreeMap<&'s str, Ends<'s>>,
    /// Per task the upstreams that the groups around it add.
    added: BTreeMap<&'s str, Vec<Placed<'s>>>,
    /// The groups that say something about themselves.
    pub(crate) described: Vec<TaskGroup>,
    group_of: BTreeMap<&'s str, &'s str>,
    is_too_large: bool,
}

/// The ends of a group, in file order.
#[derive(Default)]
struct Ends<'s> {
    /// Tasks without an upstream in the group.
    roots: Vec<&'s str>,
    /// Tasks below which the group has nothing but teardowns.
    leaves: Vec<&'s str>,
}

/// A `[[group]]` as written.
struct Written<'s> {
    id: &'s str,
    depends_on: Vec<Placed<'s>>,
}

impl<'s> Groups<'s> {
    /// Reads the groups of a file: from the keys of its tasks, which are judged later, and from `[[group]]`.
    pub(crate) fn read(root: &'s Table<'_>, report: &mut Report<'_>) -> Self {
        let sketch = Sketch::read(root);
        let mut groups = Self { group_of: sketch.group_of(), ..Self::default() };
        let written = groups.tables(root, &sketch, report);
        groups.resolve(sketch, &written, report);
        groups
    }

    /// Returns the upstreams of a task: those written, groups replaced by their leaves, and those that its groups add.
    pub(crate) fn upstreams(
        &self,
        own: Option<&str>,
        written: Vec<Placed<'s>>,
        report: &mut Report<'_>,
    ) -> Vec<Placed<'s>> {
        let mut seen: BTreeSet<&str> = written.iter().map(|(text, _)| *text).collect();
        let mut out = Vec::with_capacity(written.len());
        for (text, at) in written {
            let Some(group) = text.strip_prefix(GROUP_PREFIX) else {
                out.push((text, at));
                continue;
            };
            if let Some(own) = own.filter(|own| self.is_in(own, group)) {
                let message = format!(
                    "the task `{}` is in the group `{}` that it depends on",
                    shown(own),
                    shown(group)
                );
                report.push(
                    Draft::error(Code::SELF_DEPENDENCY, message, at)
                        .help("depend on tasks of the group by their ids"),
                );
                continue;
            }
            match self.ends(group, &at, report) {
                Some(ends) => {
                    out.extend(
                        ends.leaves.iter().filter(|leaf| seen.insert(leaf)).map(|leaf| (*leaf, at.clone())),
                    );
                }
                // Kept, so that nobody takes the list for complete.
                None => out.push((text, at)),
            }
        }
        let added = own.and_then(|own| self.added.get(own)).into_iter().flatten();
        out.extend(added.filter(|(text, _)| seen.insert(text)).cloned());
        out
    }

    /// Returns what a branch follows: the tasks written, groups replaced by their roots.
    pub(crate) fn targets(&self, written: Vec<Placed<'s>>, report: &mut Report<'_>) -> Vec<Placed<'s>> {
        let mut out: Vec<Placed<'s>> = Vec::with_capacity(written.len());
        for (text, at) in written {
            let Some(group) = text.strip_prefix(GROUP_PREFIX) else {
                out.push((text, at));
                continue;
            };
            let roots = self.ends(group, &at, report).map_or(&[][..], |ends| &ends.roots);
            for root in roots {
                if !out.iter().any(|(other, _)| other == root) {
                    out.push((root, at.clone()));
                }
            }
        }
        out
    }

    /// Returns the names of all groups.
    pub(crate) fn names(&self) -> BTreeSet<&'s str> {
        self.ends.keys().copied().collect()
    }

    fn is_in(&self, task: &str, group: &str) -> bool {
        self.group_of.get(task).is_some_and(|own| is_inside(own, group))
    }

    fn ends(&self, group: &str, at: &Range<usize>, report: &mut Report<'_>) -> Option<&Ends<'s>> {
        if self.is_too_large {
            return None;
        }
        let found = self.ends.get(group);
        if found.is_none() {
            report.push(unknown_group(group, at, self.ends.keys().copied()));
        }
        found
    }

    fn tables(
        &mut self,
        root: &'s Table<'_>,
        sketch: &Sketch<'s>,
        report: &mut Report<'_>,
    ) -> Vec<Written<'s>> {
        let Some(entry) = root.get("group") else { return Vec::new() };
        let Value::Array { items, .. } = &entry.node.value else {
            wrong_type("group", "a list of tables", &entry.node, report);
            return Vec::new();
        };
        let mut written = Vec::new();
        let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        for item in items {
            let Value::Table(table) = &item.value else {
                wrong_type("an element of group", "a table", item, report);
                continue;
            };
            let fields = Fields::read(table, item.span.clone(), &[TableId::Group], Mode::Strict, report);
            fields.require("id", "this group", report);
            let (Some(id), Some(field)) = (fields.text("id"), fields.field("id")) else { continue };
            let at = field.node.span.clone();
            if let Some(first) = seen.insert(id, at.clone()) {
                let message = format!("two groups have the id `{}`", shown(id));
                report.push(
                    Draft::error(Code::DUPLICATE_ELEMENT, message, at)
                        .label("again here")
                        .also(first, "first here"),
                );
                continue;
            }
            if !sketch.members.contains_key(id) {
                report.push(unknown_group(id, &at, sketch.members.keys().copied()));
                continue;
            }
            self.described.push(TaskGroup { id: id.to_owned(), doc: fields.string("doc") });
            written.push(Written { id, depends_on: fields.texts("depends_on") });
        }
        written
    }

    /// Works out the ends of every group, innermost first: a dependency on a group inside adds edges to those around.
    fn resolve(&mut self, mut sketch: Sketch<'s>, written: &[Written<'s>], report: &mut Report<'_>) {
        let mut links = sketch.links();
        for group in written {
            self.link(group, &sketch, &mut links, report);
        }
        let mut names: Vec<&'s str> = sketch.members.keys().copied().collect();
        names.sort_by_key(|name| std::cmp::Reverse(depth(name)));
        let mut edges = 0;
        for level in names.chunk_by(|a, b| depth(a) == depth(b)) {
            for name in level {
                let ends = sketch.ends(name);
                self.ends.insert(name, ends);
            }
            let (ready, waiting): (Vec<_>, Vec<_>) =
                links.into_iter().partition(|link| link.is_known(&self.ends));
            links = waiting;
            for link in ready {
                let (above, below) =
                    (link.above.tasks(&self.ends, false), link.below.tasks(&self.ends, true));
                edges += above.len() * below.len();
                if edges > MAX_EDGES {
                    self.is_too_large = true;
                    report.push(too_many(&link.at));
                    return;
                }
                for below in below {
                    if matches!(link.below, End::Group(_)) {
                        let added = self.added.entry(below).or_default();
                        added.extend(above.iter().map(|above| (*above, link.at.clone())));
                    }
                    above.iter().for_each(|above| sketch.connect(above, below));
                }
            }
        }
    }

    /// Notes what a group depends on, when it can be.
    fn link(
        &self,
        group: &Written<'s>,
        sketch: &Sketch<'s>,
        links: &mut Vec<Link<'s>>,
        report: &mut Report<'_>,
    ) {
        for (text, at) in &group.depends_on {
            let above = text.strip_prefix(GROUP_PREFIX);
            let overlaps = match above {
                Some(other) => is_inside(other, group.id) || is_inside(group.id, other),
                None => self.is_in(text, group.id),
            };
            if overlaps {
                let message = format!("the group `{}` depends on a part of itself", shown(group.id));
                report.push(
                    Draft::error(Code::SELF_DEPENDENCY, message, at.clone())
                        .help("let the tasks of the group depend on each other by their ids"),
                );
                continue;
            }
            let above = match above {
                Some(other) if sketch.members.contains_key(other) => End::Group(other),
                Some(other) => {
                    report.push(unknown_group(other, at, sketch.members.keys().copied()));
                    continue;
                }
                None if sketch.index.contains_key(text) => End::Task(text),
                None => {
                    let names = sketch.members.keys().copied().collect();
                    unknown(text, at, "`depends_on`", (&sketch.index, &names), None, report);
                    continue;
                }
            };
            links.push(Link { above, below: End::Group(group.id), at: at.clone() });
        }
    }
}

fn unknown_group<'c>(group: &str, at: &Range<usize>, known: impl Iterator<Item = &'c str>) -> Draft {
    let message = format!("no task is in the group `{}`", shown(group));
    let draft = Draft::error(Code::UNKNOWN_GROUP, message, at.clone()).absence();
    match nearest(group, known) {
        Some(near) => draft.help(format!("did you mean `{near}`?")),
        None => draft.help(format!("give its tasks `group = \"{}\"`", shown(group))),
    }
}

fn too_many(at: &Range<usize>) -> Draft {
    let message = format!("the groups stand for more than {MAX_EDGES} dependencies");
    Draft::error(Code::TOO_MANY_EDGES, message, at.clone())
        .label("with this one")
        .help("put a noop between the groups: it depends on the one and the other depends on it")
}

/// Whether a group is another, or is somewhere inside it.
fn is_inside(group: &str, other: &str) -> bool {
    group.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn depth(group: &str) -> usize {
    group.split('.').count()
}

/// A group, and those around it, innermost first.
fn around(group: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(group), |name| name.rsplit_once('.').map(|(outer, _)| outer))
}

#[derive(Clone, Copy)]
enum End<'s> {
    Task(&'s str),
    Group(&'s str),
}

impl<'s> End<'s> {
    fn tasks(self, ends: &BTreeMap<&'s str, Ends<'s>>, is_below: bool) -> Vec<&'s str> {
        match self {
            Self::Task(id) => vec![id],
            Self::Group(name) => {
                let found = ends.get(name).map(|ends| if is_below { &ends.roots } else { &ends.leaves });
                found.cloned().unwrap_or_default()
            }
        }
    }

    fn is_known(self, ends: &BTreeMap<&'s str, Ends<'s>>) -> bool {
        match self {
            Self::Task(_) => true,
            Self::Group(name) => ends.contains_key(name),
        }
    }
}

/// A dependency with a group at one end or both.
struct Link<'s> {
    above: End<'s>,
    below: End<'s>,
    at: Range<usize>,
}

impl<'s> Link<'s> {
    fn is_known(&self, ends: &BTreeMap<&'s str, Ends<'s>>) -> bool {
        self.above.is_known(ends) && self.below.is_known(ends)
    }
}

/// The tasks as far as groups need them, read without a word about what is wrong.
struct Sketch<'s> {
    tasks: Vec<Sketched<'s>>,
    index: BTreeMap<&'s str, usize>,
    /// Per group, and those around it, its tasks in file order.
    members: BTreeMap<&'s str, Vec<usize>>,
}

struct Sketched<'s> {
    id: &'s str,
    group: Option<&'s str>,
    depends_on: Vec<Placed<'s>>,
    is_teardown: bool,
    up: Vec<usize>,
    down: Vec<usize>,
}

impl<'s> Sketch<'s> {
    fn read(root: &'s Table<'_>) -> Self {
        let mut sketch = Self { tasks: Vec::new(), index: BTreeMap::new(), members: BTreeMap::new() };
        let Some(Value::Array { items, .. }) = root.get("task").map(|entry| &entry.node.value) else {
            return sketch;
        };
        for item in items {
            let Value::Table(table) = &item.value else { continue };
            let Some((id, _)) = texts(table, "id").into_iter().next() else { continue };
            let position = sketch.tasks.len();
            sketch.index.entry(id).or_insert(position);
            let group = texts(table, "group").first().map(|(text, _)| *text);
            for name in group.into_iter().flat_map(around) {
                sketch.members.entry(name).or_default().push(position);
            }
            let mut depends_on = texts(table, "depends_on");
            depends_on.extend(texts(table, "teardown"));
            let is_teardown = table.get("teardown").is_some();
            sketch.tasks.push(Sketched {
                id,
                group,
                depends_on,
                is_teardown,
                up: Vec::new(),
                down: Vec::new(),
            });
        }
        sketch.connect_written();
        sketch
    }

    fn connect_written(&mut self) {
        for below in 0..self.tasks.len() {
            let above: Vec<usize> = self.tasks[below]
                .depends_on
                .iter()
                .filter_map(|(text, _)| self.index.get(text).copied())
                .collect();
            for above in above {
                self.tasks[below].up.push(above);
                self.tasks[above].down.push(below);
            }
        }
    }

    fn connect(&mut self, above: &str, below: &str) {
        if let (Some(above), Some(below)) = (self.index.get(above).copied(), self.index.get(below).copied()) {
            self.tasks[below].up.push(above);
            self.tasks[above].down.push(below);
        }
    }

    fn group_of(&self) -> BTreeMap<&'s str, &'s str> {
        self.tasks.iter().filter_map(|task| Some((task.id, task.group?))).collect()
    }

    /// Returns the dependencies of tasks on groups that they are not in.
    fn links(&self) -> Vec<Link<'s>> {
        let mut links = Vec::new();
        for task in &self.tasks {
            for (text, at) in &task.depends_on {
                let Some(group) = text.strip_prefix(GROUP_PREFIX) else { continue };
                if self.members.contains_key(group) && !task.group.is_some_and(|own| is_inside(own, group)) {
                    links.push(Link { above: End::Group(group), below: End::Task(task.id), at: at.clone() });
                }
            }
        }
        links
    }

    fn ends(&self, group: &str) -> Ends<'s> {
        let members = self.members.get(group).map_or(&[][..], Vec::as_slice);
        let is_in = |ix: &usize| self.tasks[*ix].group.is_some_and(|own| is_inside(own, group));
        let ids = |keep: &dyn Fn(&Sketched<'s>) -> bool| -> Vec<&'s str> {
            members.iter().map(|ix| &self.tasks[*ix]).filter(|task| keep(task)).map(|task| task.id).collect()
        };
        let roots = ids(&|task| !task.up.iter().any(is_in));
        let goes_on =
            |task: &Sketched<'s>| task.down.iter().any(|ix| is_in(ix) && !self.tasks[*ix].is_teardown);
        let mut leaves = ids(&|task| !task.is_teardown && !goes_on(task));
        if leaves.is_empty() {
            leaves = ids(&|task| !task.down.iter().any(is_in));
        }
        Ends { roots, leaves }
    }
}

/// Returns the text, or the texts of the list, under a key.
fn texts<'s>(table: &'s Table<'_>, key: &str) -> Vec<Placed<'s>> {
    let Some(entry) = table.get(key) else { return Vec::new() };
    let items = match &entry.node.value {
        Value::Array { items, .. } => items.as_slice(),
        _ => std::slice::from_ref(&entry.node),
    };
    let text = |node: &'s super::tree::Node<'_>| match &node.value {
        Value::String(text) => Some((text.as_ref(), node.span.clone())),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}
