//! What can go wrong when a template is rendered.

use std::ops::Range;

use minijinja::{Error, ErrorKind};

/// Why a template could not be rendered. The try fails with it before a process is started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A name or an attribute has no value.
    #[error("undefined value: {what}")]
    Undefined {
        /// What was undefined.
        what: String,
        /// Where, in bytes of the template.
        range: Option<Range<usize>>,
    },
    /// A filter, macro or operator refused its operands, or the template does not parse.
    #[error("{what}")]
    Evaluation {
        /// What was refused.
        what: String,
        /// Where, in bytes of the template.
        range: Option<Range<usize>>,
    },
    /// The template does more work or prints more than it may.
    #[error("{what}")]
    Limit {
        /// Which limit.
        what: String,
    },
    /// A value does not fit into an environment variable or an argument.
    #[error(
        "`{name}` is {size_bytes} bytes long; one environment variable or argument holds at most {limit_bytes}. Read large values from the file `$TIDEMILL_INPUTS`"
    )]
    TooLarge {
        /// The variable, or what it is.
        name: String,
        /// With name and `=`.
        size_bytes: usize,
        /// The most that fits.
        limit_bytes: usize,
    },
    /// A value holds a NUL byte, which neither an environment variable nor an argument can carry.
    #[error("`{name}` holds a NUL character, which no process can be given")]
    Nul {
        /// The variable, or what it is.
        name: String,
    },
    /// A condition printed something else than `true` or `false`.
    #[error("the condition printed {text:?} instead of `true` or `false`")]
    Condition {
        /// What it printed, shortened.
        text: String,
    },
    /// A `map` that is no list.
    #[error("it is {found} and not a list")]
    NotAList {
        /// What it is, with its type.
        found: String,
    },
    /// A branch template printed something that is not a task id or a list of them.
    #[error("the branch printed {text:?} instead of a task id or a JSON array of task ids")]
    Branch {
        /// What it printed, shortened.
        text: String,
    },
    /// A text that should be an id or a date is none.
    #[error("it gives {text:?}, which is not {what}")]
    Unusable {
        /// The text, shortened.
        text: String,
        /// What it should be.
        what: &'static str,
    },
    /// There is no such variable.
    #[error("there is no variable `{name}`; `tidemill variables set {name}` makes it")]
    NoVariable {
        /// Its name.
        name: String,
    },
    /// There is no such connection.
    #[error("there is no connection `{id}`; `tidemill connections set {id}` makes it")]
    NoConnection {
        /// Its id.
        id: String,
    },
    /// A variable that is read as JSON is none.
    #[error("the variable `{name}` is not JSON")]
    NoJson {
        /// Its name.
        name: String,
    },
    /// A secret would stand in the arguments of a process, which every user of the machine can read.
    #[error(
        "{place} holds a secret, and every user of the machine can read the arguments of a process: pass it in `env`"
    )]
    SecretArgument {
        /// Which argument.
        place: String,
    },
    /// A value stands where the shell cannot take it as data. [`super::check()`] refuses such a template; this
    /// is the same refusal for one that was never checked.
    #[error("{what}")]
    ShellContext {
        /// Why.
        what: String,
    },
}

impl RenderError {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Undefined { .. } => "SCH0701",
            Self::Evaluation { .. } => "SCH0702",
            Self::Limit { .. } => "SCH0703",
            Self::TooLarge { .. } => "SCH0704",
            Self::Nul { .. } => "SCH0705",
            Self::Condition { .. } => "SCH0706",
            Self::Branch { .. } => "SCH0707",
            Self::ShellContext { .. } => "SCH0708",
            Self::NotAList { .. } => "SCH0720",
            Self::Unusable { .. } => "SCH0274",
            Self::NoVariable { .. } => "SCH0240",
            Self::NoConnection { .. } => "SCH0241",
            Self::NoJson { .. } => "SCH0243",
            Self::SecretArgument { .. } => "SCH0244",
        }
    }

    /// Whether the same file may render later: somebody makes what is missing.
    #[must_use]
    pub const fn may_pass_later(&self) -> bool {
        matches!(self, Self::NoVariable { .. } | Self::NoConnection { .. } | Self::NoJson { .. })
    }

    pub(super) fn of(error: &Error, template: &str) -> Self {
        let range = error.range().filter(|range| template.get(range.clone()).is_some());
        let place = range.clone().and_then(|range| template.get(range)).unwrap_or_default().trim();
        match error.kind() {
            ErrorKind::UndefinedError => {
                let what = if place.is_empty() { error.to_string() } else { format!("`{}`", shorten(place)) };
                Self::Undefined { what, range }
            }
            ErrorKind::OutOfFuel => {
                Self::Limit { what: "the template does more work than one may".to_owned() }
            }
            ErrorKind::WriteFailure => Self::Limit { what: "the template prints more than 1 MiB".to_owned() },
            kind => {
                let detail = error.detail().map_or_else(|| kind.to_string(), str::to_owned);
                let what =
                    if place.is_empty() { detail } else { format!("{detail}, in `{}`", shorten(place)) };
                Self::Evaluation { what, range }
            }
        }
    }
}

/// Cuts a text for a message.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 80;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}
