//! Reads one table against the key table: every key is known, in its place, built, of its type and in range.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use super::{
    code::Code,
    keys::{self, ALIASES, Default, Status, TableId},
    kinds::check,
    problem::{Draft, Report},
    suggest::{nearest, shown},
    tree::{Node, Table},
};

/// A text with its place.
pub(crate) type Placed<'s> = (&'s str, Range<usize>);

/// A value that satisfies its key's kind.
#[derive(Clone, Debug)]
pub(crate) enum Typed<'s, 'a> {
    Text(&'s str),
    Word(&'static str),
    Bool(bool),
    Int(i64),
    Float(f64),
    Duration(Duration),
    Texts(Vec<Placed<'s>>),
    Words(Vec<(&'static str, Range<usize>)>),
    Codes(Vec<i32>),
    Env(Vec<(&'s str, &'s Node<'a>)>),
    /// Checked where it is read.
    Node,
}

/// A key that is there.
#[derive(Clone, Debug)]
pub(crate) struct Field<'s, 'a> {
    pub(crate) key_span: Range<usize>,
    pub(crate) node: &'s Node<'a>,
    /// Absent when the value is wrong, which has been reported.
    pub(crate) value: Option<Typed<'s, 'a>>,
}

/// The keys of one table.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'s, 'a> {
    /// The header or the braces.
    pub(crate) at: Range<usize>,
    tables: Vec<TableId>,
    found: BTreeMap<&'static str, Field<'s, 'a>>,
    /// Keys that were proposed in place of unknown ones: they are misspelt, not missing.
    proposed: Vec<&'static str>,
}

/// How strictly unknown keys are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Strict,
    /// The operator is unknown or not built, so its own keys cannot be judged.
    Lenient,
    /// `default_args`.
    DefaultArgs,
}

impl<'s, 'a> Fields<'s, 'a> {
    /// Checks the keys of `table`, which may hold the keys of all `tables`.
    pub(crate) fn read(
        table: &'s Table<'a>,
        at: Range<usize>,
        tables: &[TableId],
        mode: Mode,
        report: &mut Report<'_>,
    ) -> Self {
        let mut found = BTreeMap::new();
        let mut proposed = Vec::new();
        for entry in &table.entries {
            let key = entry.key.as_ref();
            let Some(spec) = tables.iter().find_map(|table| keys::find(*table, key)) else {
                // Any key may belong to an operator that is not known; only a near miss is worth a word.
                let is_near = || nearest(key, keys::of_table(TableId::Task).map(|spec| spec.name)).is_some();
                if mode != Mode::Lenient || (keys::named(key).is_empty() && is_near()) {
                    proposed.extend(unknown_key(key, entry.key_span.clone(), tables, mode, report));
                }
                continue;
            };
            if let Status::NotBuilt(feature) = spec.status {
                report.push(
                    Draft::error(
                        Code::NOT_BUILT_KEY,
                        format!("`{key}`: {feature}: not built yet"),
                        entry.key_span.clone(),
                    )
                    .help("leave the key out"),
                );
                continue;
            }
            if mode == Mode::DefaultArgs && !spec.in_default_args {
                report.push(
                    Draft::error(
                        Code::NOT_IN_DEFAULT_ARGS,
                        format!("`{key}` cannot stand in `default_args`"),
                        entry.key_span.clone(),
                    )
                    .help("it belongs to each task alone"),
                );
                continue;
            }
            let value = check(spec, &entry.node, report);
            found.insert(spec.name, Field { key_span: entry.key_span.clone(), node: &entry.node, value });
        }
        Self { at, tables: tables.to_vec(), found, proposed }
    }

    /// A table that is not there.
    pub(crate) const fn empty(at: Range<usize>, tables: Vec<TableId>) -> Self {
        Self { at, tables, found: BTreeMap::new(), proposed: Vec::new() }
    }

    /// Takes the keys that are not here from `fallback`.
    pub(crate) fn or(mut self, fallback: &Self) -> Self {
        for (name, field) in &fallback.found {
            self.found.entry(name).or_insert_with(|| field.clone());
        }
        self
    }

    /// Returns the key if it is there.
    pub(crate) fn field(&self, name: &str) -> Option<&Field<'s, 'a>> {
        self.found.get(name)
    }

    fn value(&self, name: &str) -> Option<&Typed<'s, 'a>> {
        self.field(name)?.value.as_ref()
    }

    fn default(&self, name: &str) -> Option<Default> {
        self.tables.iter().find_map(|table| keys::find(*table, name)).map(|spec| spec.default)
    }

    /// Whether an unknown key was taken for this one.
    pub(crate) fn is_misspelt(&self, name: &str) -> bool {
        self.proposed.contains(&name)
    }

    /// Reports the key when it is required and absent; returns whether it is there.
    pub(crate) fn require(&self, name: &str, what: &str, report: &mut Report<'_>) -> bool {
        if self.found.contains_key(name) {
            return true;
        }
        if self.is_misspelt(name) {
            return false;
        }
        let example =
            self.tables.iter().find_map(|table| keys::find(*table, name)).map_or("", |spec| spec.example);
        let draft =
            Draft::error(Code::MISSING_KEY, format!("{what} has no `{name}`"), self.at.clone()).absence();
        report.push(draft.help(format!("add `{name} = {example}`")));
        false
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'s str> {
        match self.value(name)? {
            Typed::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn string(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// The word of an enum, or its default.
    pub(crate) fn word(&self, name: &str) -> Option<&'static str> {
        match (self.value(name), self.default(name)) {
            (Some(Typed::Word(word)), _) => Some(word),
            (_, Some(Default::Text(word))) => Some(word),
            _ => None,
        }
    }

    pub(crate) fn text_or_default(&self, name: &str) -> &'s str {
        match (self.text(name), self.default(name)) {
            (Some(text), _) => text,
            (None, Some(Default::Text(text))) => text,
            _ => "",
        }
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        match (self.value(name), self.default(name)) {
            (Some(Typed::Bool(value)), _) => *value,
            (_, Some(Default::Bool(value))) => value,
            _ => false,
        }
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match (self.value(name), self.default(name)) {
            (Some(Typed::Int(value)), _) => Some(*value),
            (_, Some(Default::Int(value))) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn u32(&self, name: &str) -> Option<u32> {
        self.int(name).and_then(|value| u32::try_from(value).ok())
    }

    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        match (self.value(name), self.default(name)) {
            (Some(Typed::Float(value)), _) => Some(*value),
            (_, Some(Default::Float(value))) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        match (self.value(name), self.default(name)) {
            (Some(Typed::Duration(value)), _) => Some(*value),
            (_, Some(Default::Seconds(value))) => Some(Duration::from_secs(value)),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<Placed<'s>> {
        match self.value(name) {
            Some(Typed::Texts(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn strings(&self, name: &str) -> Vec<String> {
        self.texts(name).into_iter().map(|(text, _)| text.to_owned()).collect()
    }

    pub(crate) fn words(&self, name: &str) -> Option<Vec<(&'static str, Range<usize>)>> {
        match self.value(name)? {
            Typed::Words(words) => Some(words.clone()),
            _ => None,
        }
    }

    pub(crate) fn codes(&self, name: &str) -> Option<Vec<i32>> {
        match self.value(name)? {
            Typed::Codes(codes) => Some(codes.clone()),
            _ => None,
        }
    }

    pub(crate) fn env(&self, name: &str) -> Vec<(&'s str, &'s Node<'a>)> {
        match self.value(name) {
            Some(Typed::Env(pairs)) => pairs.clone(),
            _ => Vec::new(),
        }
    }

    /// The node of a key that is checked where it is read.
    pub(crate) fn node(&self, name: &str) -> Option<&'s Node<'a>> {
        self.field(name).filter(|field| field.value.is_some()).map(|field| field.node)
    }
}

/// Reports an unknown key and returns the one that was probably meant.
fn unknown_key(
    key: &str,
    at: Range<usize>,
    tables: &[TableId],
    mode: Mode,
    report: &mut Report<'_>,
) -> Option<&'static str> {
    let here = tables.first().copied().unwrap_or(TableId::Root);
    let place = if mode == Mode::DefaultArgs { "`default_args`" } else { here.title() };
    let name = shown(key);
    let elsewhere = keys::named(key);
    if let Some(operator) = elsewhere.iter().find_map(|spec| spec.table.operator())
        && here == TableId::Task
    {
        let code =
            if mode == Mode::DefaultArgs { Code::NOT_IN_DEFAULT_ARGS } else { Code::OTHER_OPERATOR_KEY };
        let used = tables.iter().find_map(|table| table.operator()).unwrap_or("noop");
        let message = if mode == Mode::DefaultArgs {
            format!("`{name}` cannot stand in `default_args`")
        } else {
            format!("`{name}` is a key of the operator `{operator}`, this task's operator is `{used}`")
        };
        report.push(Draft::error(code, message, at).help(if mode == Mode::DefaultArgs {
            "it belongs to each task alone".to_owned()
        } else {
            format!("set `operator = \"{operator}\"` or leave the key out")
        }));
        return None;
    }
    if !elsewhere.is_empty() && here != TableId::Param {
        let homes: Vec<&str> = elsewhere.iter().map(|spec| spec.table.title()).take(3).collect();
        report.push(
            Draft::error(Code::MISPLACED_KEY, format!("`{name}` does not belong in {place}"), at)
                .help(format!("it is a key of {}", homes.join(" and of "))),
        );
        return None;
    }
    let names: Vec<&'static str> = tables
        .iter()
        .flat_map(|table| keys::of_table(*table))
        .filter(|spec| mode != Mode::DefaultArgs || spec.in_default_args)
        .map(|spec| spec.name)
        .collect();
    let alias = ALIASES.iter().find(|(from, to)| *from == key && names.contains(to)).map(|(_, to)| *to);
    let suggestion = nearest(key, names.iter().copied()).or(alias);
    report.push(
        Draft::error(Code::UNKNOWN_KEY, format!("unknown key `{name}` in {place}"), at).suggest(suggestion),
    );
    suggestion
}
