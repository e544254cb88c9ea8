//! From bytes to a tree of nodes with places.
//!
//! Built on the events of `toml_parser` (the parser inside the `toml` crate) instead of its `DeTable`: the tree
//! keeps the file's order, both places of a duplicate, dotted keys of any length without recursion, and turns
//! every fault into a coded problem without reading message texts.

use std::{borrow::Cow, num::IntErrorKind, ops::Range};

use toml::value::Datetime;
use toml_parser::{
    Expected, ParseError, Source,
    decoder::ScalarKind,
    parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document},
};

use super::{
    code::Code,
    problem::{Draft, Report},
    suggest::shown,
    tree::{Key, Node, Table, TableKind, Value, descend, put, walk},
};

/// How deep values and tables may nest.
const MAX_DEPTH: usize = 32;

/// The tree and where it is broken.
pub(crate) struct Parsed<'a> {
    pub(crate) root: Table<'a>,
    /// The places of syntax errors; empty when the file is well-formed TOML.
    pub(crate) syntax_errors: Vec<Range<usize>>,
}

/// Parses a document. Every fault goes to the report.
pub(crate) fn parse<'a>(text: &'a str, report: &mut Report<'_>) -> Parsed<'a> {
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let mut events: Vec<Event> = Vec::with_capacity(tokens.len());
    let mut too_deep: Vec<Range<usize>> = Vec::new();
    let mut errors: Vec<ParseError> = Vec::new();
    let mut depth = 0usize;
    {
        let mut sink = |event: Event| {
            match event.kind() {
                EventKind::ArrayOpen | EventKind::InlineTableOpen => {
                    depth += 1;
                    if depth == MAX_DEPTH + 1 {
                        too_deep.push(event.span().start()..event.span().end());
                    }
                }
                EventKind::ArrayClose | EventKind::InlineTableClose => depth = depth.saturating_sub(1),
                _ => {}
            }
            events.push(event);
        };
        let mut receiver = ValidateWhitespace::new(&mut sink, source);
        let mut receiver = RecursionGuard::new(&mut receiver, u32::try_from(MAX_DEPTH).unwrap_or(u32::MAX));
        parse_document(&tokens, &mut receiver, &mut errors);
    }
    let mut builder =
        Builder { source, events: &events, at: 0, errors, report, root: Table::new(TableKind::Header) };
    builder.document();
    let Builder { errors, root, .. } = builder;
    let mut syntax_errors = report_syntax(text, errors, &too_deep, report);
    for place in too_deep {
        report.push(
            Draft::error(Code::TOO_DEEP, format!("nested deeper than {MAX_DEPTH} levels"), place.clone())
                .label("one level too many"),
        );
        syntax_errors.push(place);
    }
    Parsed { root, syntax_errors }
}

/// Reports the first syntax error of each line: what follows on the line is a consequence.
fn report_syntax(
    text: &str,
    mut errors: Vec<ParseError>,
    too_deep: &[Range<usize>],
    report: &mut Report<'_>,
) -> Vec<Range<usize>> {
    let place = |error: &ParseError| {
        error.unexpected().or(error.context()).map_or(0..0, |span| span.start()..span.end())
    };
    errors.sort_by_key(|error| place(error).start);
    let mut kept: Vec<Range<usize>> = Vec::new();
    for error in errors {
        let at = place(&error);
        let is_same_line = kept.last().is_some_and(|last| {
            text.get(last.start.min(at.start)..at.start).is_some_and(|between| !between.contains('\n'))
        });
        if is_same_line || too_deep.iter().any(|deep| at.start >= deep.start) {
            continue;
        }
        let mut message = shown(error.description());
        if let Some(expected) = error.expected().filter(|expected| !expected.is_empty()) {
            let words: Vec<String> = expected.iter().map(expected_text).collect();
            message = format!("{message}, expected {}", words.join(" or "));
        }
        let draft = Draft::error(Code::SYNTAX, message, at.clone());
        report.push(match syntax_help(text.get(at.clone()).unwrap_or_default()) {
            Some(help) => draft.help(help),
            None => draft,
        });
        kept.push(at);
    }
    kept
}

/// Returns the place in a string without an end that shows it: its opening quotes when it may run over lines.
fn unclosed(raw: &str) -> Option<Range<usize>> {
    for quotes in ["\"\"\"", "'''"] {
        if raw.starts_with(quotes) {
            return (raw.len() < 6 || !raw.ends_with(quotes)).then_some(0..3);
        }
    }
    let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let is_closed = raw.len() > 1 && raw.ends_with(quote);
    (!is_closed).then(|| 0..raw.trim_end_matches(['\r', '\n']).len())
}

/// Helps with what people write who come from YAML, Python or JSON.
fn syntax_help(found: &str) -> Option<&'static str> {
    Some(match found.trim().to_ascii_lowercase().as_str() {
        "true" | "false" | "yes" | "no" | "on" | "off" => "write `true` or `false`",
        "none" | "null" | "nil" => "leave the key out: TOML has no null",
        ":" => "write `=` between a key and its value",
        word if word.starts_with(|c: char| c.is_ascii_alphabetic()) => "put quotes around a string",
        _ => return None,
    })
}

fn expected_text(expected: &Expected) -> String {
    match expected {
        Expected::Literal("\n") => "a line end".to_owned(),
        Expected::Literal(text) => format!("`{}`", text.escape_debug()),
        Expected::Description(text) => (*text).to_owned(),
        _ => "something else".to_owned(),
    }
}

struct Builder<'a, 'b, 'r> {
    source: Source<'a>,
    events: &'b [Event],
    at: usize,
    errors: Vec<ParseError>,
    report: &'b mut Report<'r>,
    root: Table<'a>,
}

impl<'a> Builder<'a, '_, '_> {
    fn next(&mut self) -> Option<Event> {
        let event = self.events.get(self.at).copied();
        self.at += usize::from(event.is_some());
        event
    }

    fn document(&mut self) {
        // Where keys go: positions from the root downwards, or nowhere after a header that was refused.
        let mut current: Option<Vec<usize>> = Some(Vec::new());
        while let Some(event) = self.next() {
            match event.kind() {
                EventKind::StdTableOpen | EventKind::ArrayTableOpen => current = self.header(event),
                EventKind::SimpleKey => {
                    let path = self.key_path(event, EventKind::KeyValSep);
                    let Some(path) = path else { continue };
                    let Some(node) = self.value() else { continue };
                    let mut detached = Table::new(TableKind::Header);
                    let table = match &current {
                        Some(steps) => walk(&mut self.root, steps),
                        None => Some(&mut detached),
                    };
                    if let Some(table) = table {
                        put(table, path, node, self.report);
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads a dotted key that begins with `first` up to and including the event `end`.
    fn key_path(&mut self, first: Event, end: EventKind) -> Option<Vec<Key<'a>>> {
        let mut path = vec![self.key(first)];
        loop {
            match self.events.get(self.at)?.kind() {
                EventKind::SimpleKey => {
                    let event = self.next()?;
                    if path.len() <= MAX_DEPTH {
                        path.push(self.key(event));
                    }
                }
                EventKind::KeySep | EventKind::Whitespace => self.at += 1,
                kind if kind == end => {
                    self.at += 1;
                    break;
                }
                _ => return None,
            }
        }
        if path.len() > MAX_DEPTH {
            let span = path.first()?.span.clone();
            self.report.push(Draft::error(
                Code::TOO_DEEP,
                format!("this key is nested deeper than {MAX_DEPTH} levels"),
                span,
            ));
            return None;
        }
        Some(path)
    }

    fn key(&mut self, event: Event) -> Key<'a> {
        let mut text = Cow::Borrowed("");
        if let Some(raw) = self.source.get(event) {
            raw.decode_key(&mut text, &mut self.errors);
        }
        Key { text, span: event.span().start()..event.span().end() }
    }

    fn header(&mut self, open: Event) -> Option<Vec<usize>> {
        let is_array = open.kind() == EventKind::ArrayTableOpen;
        let end = if is_array { EventKind::ArrayTableClose } else { EventKind::StdTableClose };
        while self.events.get(self.at).is_some_and(|event| event.kind() == EventKind::Whitespace) {
            self.at += 1;
        }
        let first = self.next().filter(|event| event.kind() == EventKind::SimpleKey)?;
        let mut path = self.key_path(first, end)?;
        let close = self.events.get(self.at.saturating_sub(1)).map_or(open.span().end(), |e| e.span().end());
        let span = open.span().start()..close;
        let last = path.pop()?;
        let mut steps = Vec::new();
        let mut table = &mut self.root;
        for key in path {
            let (index, next) = descend(table, key, TableKind::Implicit, self.report)?;
            steps.push(index);
            table = next;
        }
        let fresh = Node { span: span.clone(), value: Value::Table(Table::new(TableKind::Header)) };
        let Some(&index) = table.index.get(&last.text) else {
            let value =
                if is_array { Value::Array { items: vec![fresh], is_tables: true } } else { fresh.value };
            steps.push(table.insert(last, Node { span, value }));
            return Some(steps);
        };
        steps.push(index);
        let entry = table.entries.get_mut(index)?;
        match &mut entry.node.value {
            Value::Array { items, is_tables: true } if is_array => {
                items.push(fresh);
                return Some(steps);
            }
            Value::Table(existing) if !is_array && existing.kind == TableKind::Implicit => {
                existing.kind = TableKind::Header;
                entry.node.span = span;
                entry.key_span = last.span;
                return Some(steps);
            }
            _ => {}
        }
        let mixed = matches!(
            (&entry.node.value, is_array),
            (Value::Table(_), true) | (Value::Array { is_tables: true, .. }, false)
        );
        let name = shown(&last.text);
        let draft = Draft::error(Code::DUPLICATE_KEY, format!("`{name}` is defined twice"), last.span)
            .label("defined again here")
            .also(entry.key_span.clone(), "first defined here");
        self.report.push(if mixed {
            draft.help(format!("write `[[{name}]]` in every place, one for each element of the list"))
        } else {
            draft.help("keep one of the two")
        });
        None
    }

    /// Reads a value; white space before it is passed over.
    fn value(&mut self) -> Option<Node<'a>> {
        loop {
            let event = self.next()?;
            match event.kind() {
                EventKind::Whitespace => {}
                EventKind::Scalar => return Some(self.scalar(event)),
                EventKind::ArrayOpen => return Some(self.array(event)),
                EventKind::InlineTableOpen => return Some(self.inline_table(event)),
                _ => {
                    self.at -= 1;
                    return None;
                }
            }
        }
    }

    fn array(&mut self, open: Event) -> Node<'a> {
        let mut items = Vec::new();
        let mut end = open.span().end();
        while let Some(event) = self.next() {
            match event.kind() {
                EventKind::Scalar => items.push(self.scalar(event)),
                EventKind::ArrayOpen => items.push(self.array(event)),
                EventKind::InlineTableOpen => items.push(self.inline_table(event)),
                EventKind::ArrayClose => {
                    end = event.span().end();
                    break;
                }
                EventKind::ValueSep
                | EventKind::Whitespace
                | EventKind::Comment
                | EventKind::Newline
                | EventKind::Error => {}
                _ => {
                    self.at -= 1;
                    break;
                }
            }
            end = event.span().end();
        }
        Node { span: open.span().start()..end, value: Value::Array { items, is_tables: false } }
    }

    fn inline_table(&mut self, open: Event) -> Node<'a> {
        let mut table = Table::new(TableKind::Inline);
        let mut end = open.span().end();
        while let Some(event) = self.next() {
            match event.kind() {
                EventKind::SimpleKey => {
                    if let Some(path) = self.key_path(event, EventKind::KeyValSep)
                        && let Some(node) = self.value()
                    {
                        put(&mut table, path, node, self.report);
                    }
                }
                EventKind::InlineTableClose => {
                    end = event.span().end();
                    break;
                }
                EventKind::StdTableOpen | EventKind::ArrayTableOpen | EventKind::ArrayClose => {
                    self.at -= 1;
                    break;
                }
                _ => {}
            }
            end = event.span().end();
        }
        Node { span: open.span().start()..end, value: Value::Table(table) }
    }

    fn scalar(&mut self, event: Event) -> Node<'a> {
        let span = event.span().start()..event.span().end();
        let mut text = Cow::Borrowed("");
        let before = self.errors.len();
        if let Some(at) = self.source.get(event).and_then(|raw| unclosed(raw.as_str())) {
            let at = toml_parser::Span::new_unchecked(span.start + at.start, span.start + at.end);
            self.errors.push(ParseError::new("this string is never closed").with_unexpected(at));
            return Node { span, value: Value::Broken };
        }
        let kind = self.source.get(event).map(|raw| raw.decode_scalar(&mut text, &mut self.errors));
        if self.errors.len() > before {
            return Node { span, value: Value::Broken };
        }
        let value = match kind {
            Some(ScalarKind::String) => Value::String(text),
            Some(ScalarKind::Boolean(value)) => Value::Boolean(value),
            Some(ScalarKind::DateTime) => match text.parse::<Datetime>() {
                Ok(value) => Value::Datetime(value),
                Err(error) => {
                    self.report.push(Draft::error(Code::BAD_DATE, error.to_string(), span.clone()));
                    Value::Broken
                }
            },
            Some(ScalarKind::Float) => match text.parse::<f64>() {
                Ok(value) if value.is_finite() || text.contains("inf") || text.contains("nan") => {
                    Value::Float(value)
                }
                _ => self.overflow(span.clone()),
            },
            Some(ScalarKind::Integer(radix)) => match i64::from_str_radix(&text, radix.value()) {
                Ok(value) => Value::Integer(value),
                Err(error) => match error.kind() {
                    IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => self.overflow(span.clone()),
                    _ => {
                        let at = event.span();
                        self.errors.push(ParseError::new("this is not a number").with_unexpected(at));
                        Value::Broken
                    }
                },
            },
            None => Value::Broken,
        };
        Node { span, value }
    }

    fn overflow(&mut self, span: Range<usize>) -> Value<'a> {
        self.report.push(Draft::error(Code::INTEGER_OVERFLOW, "this number does not fit into 64 bits", span));
        Value::Broken
    }
}
