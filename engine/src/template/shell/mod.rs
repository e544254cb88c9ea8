//! Values in shell commands: each becomes data in the environment, or the template is refused.
//!
//! ```text
//! template ── parse ──▶ every path through its branches and loops ──▶ lexer ──▶ problems      (file loads)
//! template ── render, a mark per value ──▶ the one path taken ──▶ lexer ──▶ script + environment  (task starts)
//! ```
//!
//! Both use one lexer of the shell language, which knows in which quoting a value stands. The check runs it over
//! *all* paths (a set of lexer states flows through the branches, loops to a fixed point), so a checked template
//! cannot be refused when it is rendered, and no value can move a script to another path of the lexer.
//!
//! | where a value stands | what the script gets |
//! |---|---|
//! | outside quotes | `"${V}"`: always exactly one word, or part of one |
//! | in `"…"`, in the body of a heredoc with a bare delimiter, in a comment | `${V}` |
//! | in `'…'` | `'"${V}"'` |
//!
//! `/bin/sh` may be dash or bash, so what they read differently is refused as well: where the lexer cannot
//! vouch for both ("lost track"), every later value is refused.

mod command;
mod expansion;
mod frame;
mod lexer;
mod paths;
mod value;
mod words;

pub(super) use paths::check;

use lexer::{Form, Lexer};

/// Stands for a value in the rendered text: a noncharacter, which no template may hold.
pub(super) const MARK: &str = "\u{FDD0}";

/// Whether a character cannot occur in a command.
pub(super) fn is_reserved(c: char) -> bool {
    ('\u{FDD0}'..='\u{FDEF}').contains(&c)
}

/// Returns the name of the variable that carries the value with this number.
pub(super) fn variable(index: usize) -> String {
    format!("TIDEMILL_V{index}")
}

/// Why a value cannot stand where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Refusal {
    /// `$((…))`, `((…))`.
    Arithmetic,
    /// The name of a variable, a subscript, `${…}`, a file descriptor.
    Name,
    /// A heredoc's delimiter, or the body of one whose delimiter is quoted.
    Heredoc,
    /// Backticks.
    Backticks,
    /// `$'…'` and `$"…"`.
    DollarQuote,
    /// After a backslash.
    Backslash,
    /// `[[ … ]]` and here-strings.
    BashOnly,
    /// The name of the command.
    Command,
    /// Where `[`, `printf` and the like could take it for an operator or an option.
    Operator,
    /// The two shells, or two branches of the template, read this place differently.
    Lost(&'static str),
}

impl Refusal {
    /// Returns the stable code.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Arithmetic => "DAG0711",
            Self::Name => "DAG0712",
            Self::Heredoc => "DAG0713",
            Self::Backticks | Self::DollarQuote => "DAG0714",
            Self::Backslash => "DAG0715",
            Self::BashOnly => "DAG0716",
            Self::Command => "DAG0717",
            Self::Operator => "DAG0718",
            Self::Lost(_) => "DAG0719",
        }
    }

    /// Returns what is wrong.
    pub(super) fn message(self) -> String {
        let place = match self {
            Self::Arithmetic => "in shell arithmetic, which would evaluate it",
            Self::Name => {
                "where the shell expects a name: of a variable, in `${…}`, of a subscript or a file descriptor"
            }
            Self::Heredoc => "in a heredoc's delimiter or in a heredoc whose delimiter is quoted",
            Self::Backticks => "in backticks",
            Self::DollarQuote => "in `$'…'` or `$\"…\"`",
            Self::Backslash => "after a backslash",
            Self::BashOnly => "in `[[ … ]]` or in a here-string",
            Self::Command => "in the place of a command's name",
            Self::Operator => "where the command could take it for an operator or an option",
            Self::Lost(why) => return format!("cannot tell how the shell quotes this value: {why}"),
        };
        format!("a value cannot stand {place}")
    }

    /// Returns what to do about it.
    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Arithmetic => "calculate in the template: `{{ params.n + 1 }}`",
            Self::Name => "assign it to a variable of a fixed name first: `x={{ … }}`",
            Self::Heredoc => "write the delimiter without quotes, or pass the value through `env`",
            Self::Backticks => "write `$(…)`",
            Self::DollarQuote => "use plain quotes: `\"…\"`",
            Self::Backslash => "leave out the backslash: values need no escaping",
            Self::BashOnly => {
                "`/bin/sh` need not be bash: use `[ … ]`, or `printf '%s\\n' {{ … }} | command`"
            }
            Self::Command => {
                "a value may not choose a shell builtin: write `env -- {{ … }}`, or a path that begins with text"
            }
            Self::Operator => {
                "give it a fixed neighbour: `[ -n {{ … }} ]`, `[ {{ … }} = text ]`, `printf '%s' {{ … }}`"
            }
            Self::Lost(_) => {
                "move this part of the command to a script file and pass the value as an argument"
            }
        }
    }
}

/// What the check warns of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Caution {
    /// Another interpreter reads the value as code.
    NestedInterpreter,
    /// A variable that holds the value may be used in arithmetic.
    LaterArithmetic,
}

impl Caution {
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::NestedInterpreter => "DAG0720",
            Self::LaterArithmetic => "DAG0721",
        }
    }

    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::NestedInterpreter => "another interpreter reads this value as code",
            Self::LaterArithmetic => {
                "this value goes to a shell variable, and the command calculates: bash evaluates variables in arithmetic"
            }
        }
    }

    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::NestedInterpreter => {
                "pass it as an argument: `sh -c 'echo \"$1\"' sh {{ … }}`, `python3 script.py {{ … }}`"
            }
            Self::LaterArithmetic => "make it a number: `{{ … | int }}`",
        }
    }
}

/// Replaces every mark by a quoted reference to its variable.
///
/// # Errors
/// Why a value cannot stand where it stands.
pub(super) fn place_values(marked: &str) -> Result<String, String> {
    let mut lexer = Lexer::new();
    let mut script = String::with_capacity(marked.len() + 64);
    let mut index = 0;
    for (nth, text) in marked.split(MARK).enumerate() {
        if nth > 0 {
            let name = variable(index);
            match lexer.value(index) {
                Form::Bare => script.extend(["\"${", &name, "}\""]),
                Form::Double => script.extend(["${", &name, "}"]),
                Form::Single => script.extend(["'\"${", &name, "}\"'"]),
            }
            index += 1;
        }
        lexer.text(text);
        script.push_str(text);
    }
    match lexer.finish().refusals.first() {
        Some((_, refusal)) => Err(refusal.message()),
        None => Ok(script),
    }
}

/// An argument of an array command that is read as code and holds a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeArgument {
    /// Its position.
    pub index: usize,
    /// A shell reads it. No quoting can be made right inside of it, because nobody knows what the value stands in.
    pub is_shell: bool,
}

const SHELLS: &[&str] = &["sh", "dash", "bash", "ash", "ksh", "mksh", "zsh"];

/// Finds the argument of an array command that an interpreter would read as code although it holds a template, as in
/// `["bash", "-c", "echo {{ ds }}"]`.
#[must_use]
pub fn nested_interpreter<'a>(argv: impl IntoIterator<Item = &'a str>) -> Option<CodeArgument> {
    let mut tracker = command::Interpreter::default();
    let mut is_shell = false;
    argv.into_iter().enumerate().find_map(|(index, argument)| {
        let is_dynamic = super::is_dynamic(argument);
        let is_code = tracker.is_code() && is_dynamic;
        tracker.word(if is_dynamic { None } else { Some(argument) });
        is_shell |= argument.rsplit('/').next().is_some_and(|name| SHELLS.contains(&name));
        is_code.then_some(CodeArgument { index, is_shell })
    })
}
