//! What a simple command does with its words: which of them may be values.

use super::Refusal;

/// How a command treats values among its arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Rule {
    /// As data.
    #[default]
    Free,
    /// `[` and `test`: a value next to another can be taken for an operator, and bash's `-v` evaluates
    /// subscripts.
    Test,
    /// `printf`, `set`: the first argument decides what the others mean.
    LiteralFirst,
    /// `read`, `unset`, `declare`, `let`: arguments are names, and bash evaluates their subscripts.
    Names,
    /// `export`, `readonly`, `local`: `NAME=value` with a fixed name only.
    Declare,
}

const NAMES: &[&str] = &[
    "read",
    "unset",
    "getopts",
    "let",
    "declare",
    "typeset",
    "mapfile",
    "readarray",
    "wait",
    "bind",
    "enable",
    "complete",
    "compgen",
    "compopt",
    "history",
    "fc",
    "shopt",
    "hash",
    "alias",
    "unalias",
];
const UNARY: &[&str] = &[
    "-b", "-c", "-d", "-e", "-f", "-g", "-h", "-k", "-L", "-n", "-p", "-r", "-S", "-s", "-t", "-u", "-w",
    "-x", "-z", "-G", "-N", "-O",
];
const BINARY: &[&str] =
    &["=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef"];
/// Variables whose assignment the shell itself acts on: it evaluates or executes what they hold.
const EVALUATED: &[&str] = &[
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "PROMPT_COMMAND",
    "ENV",
    "BASH_ENV",
    "RANDOM",
    "SRANDOM",
    "SECONDS",
    "LINENO",
    "HISTCMD",
    "OPTIND",
    "BASHPID",
    "BASH_ARGV0",
    "MAILPATH",
    "IFS",
];

/// Whether a value may be assigned to the variable of this name.
pub(super) fn is_assignable(name: &str) -> bool {
    !EVALUATED.contains(&name)
}

/// Whether the text is a variable's name.
pub(super) fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What preceded the word in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Previous {
    #[default]
    Other,
    /// An operator of `test` that takes the next word as text.
    Operator,
    /// `-v` of `printf`.
    NameOption,
}

/// A simple command as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Command {
    rule: Rule,
    has_argument: bool,
    has_option: bool,
    previous: Previous,
    /// A value in `test` that is fine if a binary operator follows.
    undecided: Option<usize>,
    pub(super) interpreter: Interpreter,
    /// It makes integers of variables: `declare -i`.
    pub(super) makes_integers: bool,
    /// It calculates: `let`.
    pub(super) calculates: bool,
}

impl Command {
    /// Begins a command with its name.
    pub(super) fn named(name: &str) -> Self {
        let rule = match name {
            "[" | "test" => Rule::Test,
            "printf" | "set" => Rule::LiteralFirst,
            "export" | "readonly" | "local" => Rule::Declare,
            name if NAMES.contains(&name) => Rule::Names,
            _ => Rule::Free,
        };
        let mut command = Self { rule, calculates: name == "let", ..Self::default() };
        command.interpreter.word(Some(name));
        command
    }

    /// Decides on a value in the argument whose literal beginning is `before`.
    ///
    /// # Errors
    /// Why it cannot stand there.
    pub(super) fn value(&mut self, before: &str, is_first_in_word: bool, id: usize) -> Result<(), Refusal> {
        let looks_like_operator = before.chars().next().is_none_or(|c| "-!()=<>".contains(c));
        match self.rule {
            Rule::Free => Ok(()),
            Rule::Names => Err(Refusal::Name),
            Rule::LiteralFirst if self.previous == Previous::NameOption => Err(Refusal::Name),
            Rule::LiteralFirst if !self.has_argument && looks_like_operator => Err(Refusal::Operator),
            Rule::LiteralFirst => Ok(()),
            Rule::Declare => match before.split_once('=') {
                Some((name, _)) if is_name(name) && is_assignable(name) && !self.has_option => Ok(()),
                _ => Err(Refusal::Name),
            },
            Rule::Test if is_first_in_word && self.undecided.is_some() => Err(Refusal::Operator),
            Rule::Test => {
                if looks_like_operator && is_first_in_word && self.previous != Previous::Operator {
                    self.undecided = Some(id);
                }
                Ok(())
            }
        }
    }

    /// Ends an argument. `text` is its content when all of it is literal. Returns a value that turns out to
    /// be badly placed.
    pub(super) fn word(&mut self, text: Option<&str>, has_value: bool) -> Option<(usize, Refusal)> {
        let is_binary = text.is_some_and(|text| BINARY.contains(&text));
        let mut bad = None;
        if !has_value {
            bad = self.undecided.take().filter(|_| !is_binary).map(|id| (id, Refusal::Operator));
        }
        let is_operator = is_binary || text.is_some_and(|text| UNARY.contains(&text));
        let is_option = text.is_some_and(|text| text.starts_with(['-', '+']) && text.len() > 1);
        self.previous = match self.rule {
            Rule::Test if is_operator => Previous::Operator,
            Rule::LiteralFirst if text.is_some_and(|text| text.starts_with("-v")) => Previous::NameOption,
            _ => Previous::Other,
        };
        if is_option && matches!(self.rule, Rule::Names | Rule::Declare) {
            let option = text.unwrap_or_default();
            self.has_option |= option.contains(|c: char| !matches!(c, '-' | '+' | 'x' | 'r' | 'p' | 'g'));
            self.makes_integers |= option.contains(['i', 'n']);
        }
        self.has_argument = true;
        self.interpreter.word(text);
        bad
    }

    /// Ends the command. Returns a value that turns out to be badly placed.
    pub(super) fn end(&mut self) -> Option<(usize, Refusal)> {
        self.undecided.take().map(|id| (id, Refusal::Operator))
    }
}

/// Watches for a command that reads its arguments as code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Interpreter {
    /// None so far.
    #[default]
    None,
    /// One that reads code after an option with one of these letters.
    Waiting(&'static str),
    /// The next word is code.
    Next,
    /// Every further word is code.
    All,
    /// One whose code was seen; its input may still be code.
    Done,
}

const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "su", "runuser"];
const LANGUAGES: &[&str] =
    &["python", "python2", "python3", "perl", "ruby", "node", "php", "lua", "Rscript", "psql"];
const EVALUATORS: &[&str] = &["eval", "trap", ".", "source", "ssh", "watch", "parallel", "exec-sh"];

impl Interpreter {
    /// Whether the word that begins now is code.
    pub(super) const fn is_code(self) -> bool {
        matches!(self, Self::Next | Self::All)
    }

    /// Whether what the command reads from a heredoc may be code.
    pub(super) const fn reads_code(self) -> bool {
        !matches!(self, Self::None)
    }

    /// Reads a word; absent when it is not literal.
    pub(super) fn word(&mut self, text: Option<&str>) {
        let text = text.unwrap_or_default();
        let base = text.rsplit('/').next().unwrap_or(text);
        let language = base.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        *self = match *self {
            Self::All => Self::All,
            Self::Next => Self::Done,
            Self::Waiting(letters) if text.starts_with('-') => {
                let is_short = !text.starts_with("--") && text.contains(|c| letters.contains(c));
                if is_short || matches!(text, "--command" | "--eval") {
                    Self::Next
                } else {
                    Self::Waiting(letters)
                }
            }
            // A script file: what follows are its arguments.
            Self::Waiting(_) if text.contains(['.', '/']) => Self::Done,
            _ if EVALUATORS.contains(&base) => Self::All,
            _ if SHELLS.contains(&base) => Self::Waiting("c"),
            _ if LANGUAGES.contains(&base) || LANGUAGES.contains(&language) => Self::Waiting("cer"),
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_found_behind_its_wrappers() {
        let mut seen = Interpreter::default();
        for word in ["env", "A=1", "timeout", "5", "/usr/bin/python3.11", "-u"] {
            seen.word(Some(word));
            assert!(!seen.is_code(), "{word}");
        }
        seen.word(Some("-c"));
        assert!(seen.is_code());
        seen.word(None);
        assert!(!seen.is_code() && seen.reads_code());
    }
}
