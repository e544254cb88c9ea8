//! Reads one table against the key table: every key is known, in its place, built, of its type and in range.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use super::{
    code::Code,
    keys::{self, ALIASES, Default, KeySpec, Kind, Status, TableId, one_of},
    problem::{Draft, Report},
    suggest::{nearest, shown},
    syntax::{Node, Table, Value},
    values::{guess_duration, parse_duration, show_seconds},
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
        for entry in &table.entries {
            let key = entry.key.as_ref();
            let Some(spec) = tables.iter().find_map(|table| keys::find(*table, key)) else {
                // Any key may belong to an operator that is not known; only a near miss is worth a word.
                let is_near = || nearest(key, keys::of_table(TableId::Task).map(|spec| spec.name)).is_some();
                if mode != Mode::Lenient || (keys::named(key).is_empty() && is_near()) {
                    unknown_key(key, entry.key_span.clone(), tables, mode, report);
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
        Self { at, tables: tables.to_vec(), found }
    }

    /// A table that is not there.
    pub(crate) const fn empty(at: Range<usize>, tables: Vec<TableId>) -> Self {
        Self { at, tables, found: BTreeMap::new() }
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

    /// Reports the key when it is required and absent; returns whether it is there.
    pub(crate) fn require(&self, name: &str, what: &str, report: &mut Report<'_>) -> bool {
        if self.found.contains_key(name) {
            return true;
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

fn unknown_key(key: &str, at: Range<usize>, tables: &[TableId], mode: Mode, report: &mut Report<'_>) {
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
        return;
    }
    if !elsewhere.is_empty() && here != TableId::Param {
        let homes: Vec<&str> = elsewhere.iter().map(|spec| spec.table.title()).take(3).collect();
        report.push(
            Draft::error(Code::MISPLACED_KEY, format!("`{name}` does not belong into {place}"), at)
                .help(format!("it is a key of {}", homes.join(" and of "))),
        );
        return;
    }
    let names: Vec<&str> = tables
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
}

pub(crate) fn wrong_type(name: &str, wanted: &str, node: &Node<'_>, report: &mut Report<'_>) {
    if !matches!(node.value, Value::Broken) {
        let message = format!("`{}` must be {wanted}, not {}", shown(name), node.value.type_name());
        report.push(Draft::error(Code::WRONG_TYPE, message, node.span.clone()));
    }
}

/// Checks a value against the kind of its key.
fn check<'s, 'a>(spec: &KeySpec, node: &'s Node<'a>, report: &mut Report<'_>) -> Option<Typed<'s, 'a>> {
    let name = spec.name;
    match (spec.kind, &node.value) {
        (_, Value::Broken) => None,
        (Kind::Text, Value::String(text)) => {
            clean(name, text, node, true, report).then_some(Typed::Text(text))
        }
        (Kind::Line, Value::String(text)) => {
            let is_good = filled(name, text, node, report) && clean(name, text, node, false, report);
            is_good.then_some(Typed::Text(text))
        }
        (Kind::Template, Value::String(text)) => {
            let is_good = filled(name, text, node, report) && clean(name, text, node, true, report);
            is_good.then_some(Typed::Text(text))
        }
        (Kind::Name, Value::String(text)) => named(name, text, node, report).then_some(Typed::Text(text)),
        (Kind::Zone, Value::String(text)) => Some(Typed::Text(text)),
        (Kind::Word(words), Value::String(text)) => word(name, text, &words(), node, report).map(Typed::Word),
        (Kind::Words(all), Value::Array { items, is_tables: false }) => {
            words_list(name, items, &all(), node, report).map(Typed::Words)
        }
        (Kind::Bool, Value::Boolean(value)) => Some(Typed::Bool(*value)),
        (Kind::Int(low, high), Value::Integer(value)) => {
            in_range(name, (low..=high).contains(value), spec, node, report).then_some(Typed::Int(*value))
        }
        (Kind::Float(low, high, closed), Value::Integer(_) | Value::Float(_)) => {
            let value = number(node)?;
            let is_inside = if closed { low <= value && value <= high } else { low < value && value < high };
            in_range(name, is_inside && value.is_finite(), spec, node, report).then_some(Typed::Float(value))
        }
        (Kind::Backoff, Value::Boolean(value)) => Some(Typed::Float(if *value { 2.0 } else { 1.0 })),
        (Kind::Backoff, Value::Integer(_) | Value::Float(_)) => {
            let value = number(node)?;
            in_range(name, (1.0..=100.0).contains(&value), spec, node, report).then_some(Typed::Float(value))
        }
        (Kind::Duration(low, high), Value::String(_) | Value::Integer(_)) => {
            duration(name, low, high, node, report).map(Typed::Duration)
        }
        (Kind::Lines, Value::Array { items, is_tables: false }) => {
            lines(name, items, report).map(Typed::Texts)
        }
        (Kind::Names, Value::String(_)) => names(name, std::slice::from_ref(node), report).map(Typed::Texts),
        (Kind::Names, Value::Array { items, is_tables: false }) => {
            names(name, items, report).map(Typed::Texts)
        }
        (Kind::ExitCodes, Value::Array { items, is_tables: false }) => {
            exit_codes(name, items, report).map(Typed::Codes)
        }
        (Kind::Env, Value::Table(table)) => env(table, report).map(Typed::Env),
        (Kind::Date, Value::String(_) | Value::Datetime(_))
        | (Kind::Table(_), Value::Table(_))
        | (Kind::Tables(_), Value::Table(_) | Value::Array { .. })
        | (Kind::Special(_), _) => Some(Typed::Node),
        (kind, _) => {
            wrong_type(name, &kind.describe(), node, report);
            None
        }
    }
}

fn number(node: &Node<'_>) -> Option<f64> {
    match node.value {
        Value::Float(value) => Some(value),
        // Exact up to 2^53, and every range ends far below.
        #[expect(clippy::cast_precision_loss, reason = "every range ends far below 2^53")]
        Value::Integer(value) => Some(value as f64),
        _ => None,
    }
}

pub(crate) fn filled(name: &str, text: &str, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    let is_filled = !text.trim().is_empty();
    if !is_filled {
        report.push(Draft::error(
            Code::EMPTY_VALUE,
            format!("`{name}` must not be empty"),
            node.span.clone(),
        ));
    }
    is_filled
}

/// Refuses NUL everywhere (no process and no database takes it), other control characters in single lines.
pub(crate) fn clean(
    name: &str,
    text: &str,
    node: &Node<'_>,
    is_multiline: bool,
    report: &mut Report<'_>,
) -> bool {
    let bad = text.chars().find(|c| *c == '\0' || (!is_multiline && c.is_control()));
    if let Some(c) = bad {
        let message = format!("`{}` must not contain the character {}", shown(name), c.escape_unicode());
        report.push(Draft::error(Code::CONTROL_CHARACTER, message, node.span.clone()));
    }
    bad.is_none()
}

pub(crate) fn named(name: &str, text: &str, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    match crate::ids::TaskId::new(text) {
        Ok(_) => true,
        Err(error) => {
            let code = if text.is_empty() { Code::EMPTY_VALUE } else { Code::BAD_NAME };
            report.push(Draft::error(code, format!("`{name}` {error}"), node.span.clone()));
            false
        }
    }
}

fn word(
    name: &str,
    text: &str,
    words: &[&'static str],
    node: &Node<'_>,
    report: &mut Report<'_>,
) -> Option<&'static str> {
    let found = words.iter().find(|word| **word == text).copied();
    if found.is_some() {
        return found;
    }
    if name == "operator" {
        unknown_operator(text, node, report);
        return None;
    }
    let message = format!("`{name}` does not know `{}`", shown(text));
    let draft = Draft::error(Code::UNKNOWN_WORD, message, node.span.clone());
    let near = nearest(text, words.iter().copied());
    report.push(match near {
        Some(near) => draft.help(format!("did you mean `{near}`?")).suggest(Some(format!("\"{near}\""))),
        None => draft.help(format!("it is {}", one_of(words))),
    });
    None
}

fn unknown_operator(text: &str, node: &Node<'_>, report: &mut Report<'_>) {
    let at = node.span.clone();
    if keys::NOT_BUILT_OPERATORS.contains(&text) {
        report.push(
            Draft::error(Code::NOT_BUILT_OPERATOR, format!("the operator `{text}` is not built yet"), at)
                .help(format!("use {}", one_of(keys::OPERATORS))),
        );
        return;
    }
    let known = keys::OPERATORS.iter().chain(keys::NOT_BUILT_OPERATORS).copied();
    let alias = match text {
        "bash" | "shell" | "exec" | "sh" => Some("command"),
        "empty" | "dummy" => Some("noop"),
        _ => None,
    };
    let draft = Draft::error(Code::UNKNOWN_OPERATOR, format!("there is no operator `{}`", shown(text)), at);
    report.push(match nearest(text, known).or(alias) {
        Some(near) => draft.help(format!("did you mean `{near}`?")).suggest(Some(format!("\"{near}\""))),
        None => draft.help(format!("it is {}", one_of(keys::OPERATORS))),
    });
}

fn words_list(
    name: &str,
    items: &[Node<'_>],
    all: &[&'static str],
    node: &Node<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<(&'static str, Range<usize>)>> {
    if items.is_empty() {
        report.push(Draft::error(
            Code::EMPTY_VALUE,
            format!("`{name}` must not be empty"),
            node.span.clone(),
        ));
        return None;
    }
    let mut out: Vec<(&'static str, Range<usize>)> = Vec::new();
    let mut is_good = true;
    for item in items {
        let Value::String(text) = &item.value else {
            wrong_type(&format!("an element of {name}"), "a string", item, report);
            is_good = false;
            continue;
        };
        match word(name, text, all, item, report) {
            Some(found) => match out.iter().find(|(word, _)| *word == found) {
                Some((_, first)) => {
                    is_good = false;
                    twice(name, found, item, first.clone(), report);
                }
                None => out.push((found, item.span.clone())),
            },
            None => is_good = false,
        }
    }
    is_good.then_some(out)
}

fn twice(name: &str, text: &str, item: &Node<'_>, first: Range<usize>, report: &mut Report<'_>) {
    report.push(
        Draft::error(
            Code::DUPLICATE_ELEMENT,
            format!("`{name}` names `{}` twice", shown(text)),
            item.span.clone(),
        )
        .label("again here")
        .also(first, "first here"),
    );
}

fn in_range(name: &str, is_inside: bool, spec: &KeySpec, node: &Node<'_>, report: &mut Report<'_>) -> bool {
    if !is_inside {
        let message = format!("`{name}` must be {}", spec.kind.describe());
        report.push(Draft::error(Code::NUMBER_RANGE, message, node.span.clone()));
    }
    is_inside
}

/// Reads a duration and checks its range in seconds.
fn duration(name: &str, low: u64, high: u64, node: &Node<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let value = match &node.value {
        Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Value::String(text) => {
            let Some(value) = parse_duration(text) else {
                let message = format!("`{}` is not a duration", shown(text));
                let guess = guess_duration(text);
                let help = match &guess {
                    Some(guess) => format!("did you mean `\"{guess}\"`?"),
                    None => "write whole numbers with units, the largest first: \"90s\", \"5m\", \"1h30m\", \"2d\"".to_owned(),
                };
                report.push(
                    Draft::error(Code::BAD_DURATION, message, node.span.clone())
                        .help(help)
                        .suggest(guess.map(|guess| format!("\"{guess}\""))),
                );
                return None;
            };
            Some(value)
        }
        _ => None,
    };
    let value = value.filter(|value| (low..=high).contains(&value.as_secs()));
    if value.is_none() {
        let message = format!("`{name}` must be from {} to {}", show_seconds(low), show_seconds(high));
        report.push(Draft::error(Code::DURATION_RANGE, message, node.span.clone()));
    }
    value
}

fn lines<'s>(name: &str, items: &'s [Node<'_>], report: &mut Report<'_>) -> Option<Vec<Placed<'s>>> {
    list(
        name,
        items,
        report,
        |text, item, report| filled(name, text, item, report) && clean(name, text, item, false, report),
        true,
    )
}

fn names<'s>(name: &str, items: &'s [Node<'_>], report: &mut Report<'_>) -> Option<Vec<Placed<'s>>> {
    // The graph reports a dependency that is named twice, with its own code.
    list(name, items, report, |text, item, report| named(name, text, item, report), name != "depends_on")
}

fn list<'s>(
    name: &str,
    items: &'s [Node<'_>],
    report: &mut Report<'_>,
    check: impl Fn(&str, &Node<'_>, &mut Report<'_>) -> bool,
    is_unique: bool,
) -> Option<Vec<Placed<'s>>> {
    let mut out: Vec<Placed<'s>> = Vec::with_capacity(items.len());
    let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    let mut is_good = true;
    for item in items {
        let Value::String(text) = &item.value else {
            wrong_type(&format!("an element of {name}"), "a string", item, report);
            is_good = false;
            continue;
        };
        if !check(text, item, report) {
            is_good = false;
            continue;
        }
        match seen.get(text.as_ref()) {
            Some(first) if is_unique => {
                is_good = false;
                twice(name, text, item, first.clone(), report);
            }
            _ => {
                seen.insert(text, item.span.clone());
                out.push((text, item.span.clone()));
            }
        }
    }
    // Half a list of ids is still worth checking against the graph.
    (is_good || name == "depends_on").then_some(out)
}

fn exit_codes(name: &str, items: &[Node<'_>], report: &mut Report<'_>) -> Option<Vec<i32>> {
    let mut out: Vec<(i32, Range<usize>)> = Vec::new();
    let mut is_good = true;
    for item in items {
        match item.value {
            Value::Integer(value) if (1..=255).contains(&value) => {
                let code = i32::try_from(value).unwrap_or_default();
                if let Some((_, first)) = out.iter().find(|(other, _)| *other == code) {
                    is_good = false;
                    twice(name, &code.to_string(), item, first.clone(), report);
                } else {
                    out.push((code, item.span.clone()));
                }
            }
            Value::Integer(_) => {
                is_good = false;
                let message = format!("an exit code in `{name}` must be from 1 to 255");
                report.push(Draft::error(Code::NUMBER_RANGE, message, item.span.clone()));
            }
            _ => {
                is_good = false;
                wrong_type(&format!("an element of {name}"), "an integer", item, report);
            }
        }
    }
    let mut codes: Vec<i32> = out.into_iter().map(|(code, _)| code).collect();
    codes.sort_unstable();
    is_good.then_some(codes)
}

fn env<'s, 'a>(table: &'s Table<'a>, report: &mut Report<'_>) -> Option<Vec<(&'s str, &'s Node<'a>)>> {
    let mut out = Vec::new();
    let mut is_good = true;
    for entry in &table.entries {
        let name = entry.key.as_ref();
        let is_word = name
            .chars()
            .enumerate()
            .all(|(i, c)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit()));
        if name.is_empty() || !is_word {
            is_good = false;
            let message = format!("`{}` is not the name of an environment variable", shown(name));
            report.push(
                Draft::error(Code::BAD_ENV_NAME, message, entry.key_span.clone())
                    .help("use letters, digits and `_`, and do not begin with a digit"),
            );
        } else if name.starts_with("TIDEMILL_") {
            is_good = false;
            let message = format!("`{}` is set by the product itself", shown(name));
            report.push(
                Draft::error(Code::RESERVED_ENV_NAME, message, entry.key_span.clone())
                    .help("choose a name without `TIDEMILL_`"),
            );
        }
        match &entry.node.value {
            Value::String(text) => {
                if clean(name, text, &entry.node, true, report) {
                    out.push((name, &entry.node));
                } else {
                    is_good = false;
                }
            }
            _ => {
                is_good = false;
                wrong_type(name, "a string", &entry.node, report);
            }
        }
    }
    is_good.then_some(out)
}
