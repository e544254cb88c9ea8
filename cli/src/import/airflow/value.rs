//! What an expression of a DAG file is, as far as reading tells.

use std::rc::Rc;

use ruff_python_ast::{ExprLambda, StmtFunctionDef};
use ruff_text_size::TextRange;

/// A keyword argument.
#[derive(Clone, Debug)]
pub(super) struct Keyword<'a> {
    pub(super) name: String,
    pub(super) value: Value<'a>,
    pub(super) range: TextRange,
}

/// An instant without its zone, and the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Year, month, day, hour, minute, second.
    pub(super) parts: [i64; 6],
    pub(super) zone: Option<String>,
}

impl Moment {
    /// Returns the date, or the date and time when it is not midnight, as TOML writes it.
    pub(super) fn toml(&self) -> String {
        let [year, month, day, hour, minute, second] = self.parts;
        let date = format!("{year:04}-{month:02}-{day:02}");
        if [hour, minute, second] == [0, 0, 0] {
            date
        } else {
            format!("{date}T{hour:02}:{minute:02}:{second:02}")
        }
    }
}

/// A call of something that is not in the file.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    /// The dotted name of what was called.
    pub(super) path: String,
    pub(super) args: Vec<Value<'a>>,
    pub(super) keywords: Vec<Keyword<'a>>,
    pub(super) range: TextRange,
}

/// A function under one of Airflow's decorators.
#[derive(Clone, Debug)]
pub(super) struct Decorated<'a> {
    /// `dag`, `task`, `task.branch`, `task_group`, `setup`, …
    pub(super) kind: String,
    pub(super) function: &'a StmtFunctionDef,
    /// What the decorator, `.override` and `.partial` say.
    pub(super) keywords: Vec<Keyword<'a>>,
    /// Arguments of the function that `.partial` gives.
    pub(super) bound: Vec<Keyword<'a>>,
}

/// A value. What cannot be known is `Opaque` and keeps its place.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    /// Lists, tuples and sets.
    List(Vec<Self>),
    Dict(Vec<(Self, Self)>),
    Moment(Moment),
    /// Milliseconds.
    Delta(i64),
    Zone(String),
    /// A name of another module, or one that Python knows (`builtins.range`).
    Path(String),
    Object(Rc<Object<'a>>),
    Dag(usize),
    Task(usize),
    /// An output of a task.
    Output(usize, String),
    /// What one of the lists that a task is mapped over gives its element.
    Element(String),
    /// A template of Airflow's that gives it when the task starts: a variable, or a field of a connection.
    Template(String),
    Group(usize),
    Label,
    Function(&'a StmtFunctionDef),
    Lambda(&'a ExprLambda),
    Decorated(Rc<Decorated<'a>>),
    /// An attribute of a value.
    Method(Box<Self>, String),
    Opaque(TextRange),
}

impl Value<'_> {
    /// Returns what Python's `bool` says, where it can be known.
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Self::None => Some(false),
            Self::Bool(value) => Some(*value),
            Self::Int(value) => Some(*value != 0),
            Self::Float(value) => Some(*value != 0.0),
            Self::Str(text) => Some(!text.is_empty()),
            Self::List(items) => Some(!items.is_empty()),
            Self::Dict(items) => Some(!items.is_empty()),
            _ => None,
        }
    }

    /// Returns what Python's `str` says, where that is known and means what people expect.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Str(text) => Some(text.clone()),
            Self::Int(value) => Some(value.to_string()),
            Self::Float(value) => Some(format!("{value:?}")),
            Self::Bool(true) => Some("True".to_owned()),
            Self::Bool(false) => Some("False".to_owned()),
            Self::None => Some("None".to_owned()),
            _ => None,
        }
    }

    /// Returns the text of a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// Whether two values are known and equal; `None` when it cannot be known.
    pub(super) fn equals(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a == b),
            (Self::Str(a), Self::Str(b)) => Some(a == b),
            (Self::Bool(a), Self::Bool(b)) => Some(a == b),
            (Self::None, Self::None) => Some(true),
            (Self::Str(_) | Self::Int(_) | Self::Bool(_), Self::None)
            | (Self::None, Self::Str(_) | Self::Int(_) | Self::Bool(_))
            | (Self::Str(_), Self::Int(_))
            | (Self::Int(_), Self::Str(_)) => Some(false),
            _ => None,
        }
    }

    /// Returns the value as a literal of Python, when it is plain data.
    pub(super) fn python(&self) -> Option<String> {
        let list = |items: &[Self]| items.iter().map(Self::python).collect::<Option<Vec<_>>>();
        Some(match self {
            Self::Str(text) => quoted(text),
            Self::List(items) => format!("[{}]", list(items)?.join(", ")),
            Self::Dict(items) => {
                let item =
                    |(key, value): &(Self, Self)| Some(format!("{}: {}", key.python()?, value.python()?));
                format!("{{{}}}", items.iter().map(item).collect::<Option<Vec<_>>>()?.join(", "))
            }
            Self::Float(value) if !value.is_finite() => return None,
            other => other.text()?,
        })
    }
}

/// Returns a text as a literal of Python.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
