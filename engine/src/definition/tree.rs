//! The tree that a file is parsed into: every key and value with its place, in the order of the file.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use toml::value::Datetime;

use super::{
    code::Code,
    problem::{Draft, Report},
    suggest::shown,
};

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    /// The value's bytes; for a table with a header, the header's.
    pub(crate) span: Range<usize>,
    pub(crate) value: Value<'a>,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    String(Cow<'a, str>),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(Datetime),
    /// `is_tables`: written with `[[header]]`s.
    Array {
        items: Vec<Node<'a>>,
        is_tables: bool,
    },
    Table(Table<'a>),
    /// Already reported; nothing more is said about it.
    Broken,
}

impl Value<'_> {
    /// Names the type for messages.
    pub(crate) const fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::Array { is_tables: true, .. } => "a list of tables",
            Self::Array { .. } => "a list",
            Self::Table(_) => "a table",
            Self::Broken => "broken",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// Made by a longer header below it.
    Implicit,
    /// Made by a dotted key.
    Dotted,
    Header,
    Inline,
}

/// The entries of a table in file order.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    pub(crate) entries: Vec<Entry<'a>>,
    pub(crate) index: BTreeMap<Cow<'a, str>, usize>,
    pub(crate) kind: TableKind,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node<'a>,
}

impl<'a> Table<'a> {
    pub(crate) const fn new(kind: TableKind) -> Self {
        Self { entries: Vec::new(), index: BTreeMap::new(), kind }
    }

    /// Returns the entry of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry<'a>> {
        self.index.get(key).and_then(|index| self.entries.get(*index))
    }

    pub(crate) fn insert(&mut self, key: Key<'a>, node: Node<'a>) -> usize {
        let index = self.entries.len();
        self.index.insert(key.text.clone(), index);
        self.entries.push(Entry { key: key.text, key_span: key.span, node });
        index
    }

    /// Whether it was written as `{ … }`.
    pub(crate) fn is_inline(&self) -> bool {
        self.kind == TableKind::Inline
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) span: Range<usize>,
}

/// Follows positions downwards; in a list of tables to its last element.
pub(crate) fn walk<'t, 'a>(root: &'t mut Table<'a>, steps: &[usize]) -> Option<&'t mut Table<'a>> {
    let mut table = root;
    for step in steps {
        table = inner(table.entries.get_mut(*step)?)?;
    }
    Some(table)
}

pub(crate) fn inner<'t, 'a>(entry: &'t mut Entry<'a>) -> Option<&'t mut Table<'a>> {
    match &mut entry.node.value {
        Value::Table(table) => Some(table),
        Value::Array { items, is_tables: true } => match items.last_mut().map(|node| &mut node.value) {
            Some(Value::Table(table)) => Some(table),
            _ => None,
        },
        _ => None,
    }
}

/// Goes one key down, making a table of `kind` where there is none.
pub(crate) fn descend<'t, 'a>(
    table: &'t mut Table<'a>,
    key: Key<'a>,
    kind: TableKind,
    report: &mut Report<'_>,
) -> Option<(usize, &'t mut Table<'a>)> {
    let index = match table.index.get(&key.text) {
        Some(index) => *index,
        None => {
            let node = Node { span: key.span.clone(), value: Value::Table(Table::new(kind)) };
            table.insert(key.clone(), node)
        }
    };
    let entry = table.entries.get_mut(index)?;
    let (first, name) = (entry.key_span.clone(), shown(&key.text));
    if matches!(entry.node.value, Value::Broken) {
        return None;
    }
    let type_name = entry.node.value.type_name();
    let Some(found) = inner(entry) else {
        report.push(
            Draft::error(
                Code::NOT_A_TABLE,
                format!("`{name}` is {type_name}, so nothing can be put under it"),
                key.span,
            )
            .label("used as a table here")
            .also(first, "defined here"),
        );
        return None;
    };
    // A table in braces is closed, and a dotted key may not reopen a table that has a header.
    let is_closed =
        found.kind == TableKind::Inline || (kind == TableKind::Dotted && found.kind == TableKind::Header);
    if is_closed {
        report.push(
            Draft::error(Code::DUPLICATE_KEY, format!("`{name}` is defined twice"), key.span)
                .label("extended here")
                .also(first, "defined here")
                .help("put all of its keys into one place"),
        );
        return None;
    }
    Some((index, found))
}

/// Puts a value under a dotted key.
pub(crate) fn put<'a>(
    table: &mut Table<'a>,
    mut path: Vec<Key<'a>>,
    node: Node<'a>,
    report: &mut Report<'_>,
) {
    let Some(last) = path.pop() else { return };
    let mut table = table;
    for key in path {
        let Some((_, next)) = descend(table, key, TableKind::Dotted, report) else { return };
        table = next;
    }
    if let Some(existing) = table.get(&last.text) {
        report.push(
            Draft::error(
                Code::DUPLICATE_KEY,
                format!("the key `{}` is defined twice", shown(&last.text)),
                last.span,
            )
            .label("defined again here")
            .also(existing.key_span.clone(), "first defined here")
            .help("keep one of the two"),
        );
    } else {
        table.insert(last, node);
    }
}
