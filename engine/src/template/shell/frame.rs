//! The lexer's state: a stack of frames, one per quoting or nesting that is open.

use super::command::Command;

/// How much of a word is remembered: longer than any reserved word, name or delimiter of interest.
const WORD_LIMIT: usize = 64;

/// What the lexer is inside of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Frame {
    /// A list of commands: the script, `$(…)`, `(…)`.
    Commands(Box<Commands>),
    /// `"…"`; `$"…"` when `is_locale`.
    Double { is_locale: bool },
    /// `'…'`.
    Single,
    /// `$'…'`.
    Ansi,
    /// `` `…` ``.
    Backtick,
    /// `${…}`.
    Parameter { is_quoted: bool, seen: ParameterPart },
    /// `$((…))` and `((…))`, with the open parentheses.
    Arithmetic { depth: u32, is_command: bool },
    /// `# …`.
    Comment,
    /// The body of a heredoc.
    Heredoc(Heredoc),
}

/// How far a `${…}` was read; subscripts and substrings are arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ParameterPart {
    /// The name.
    Name,
    /// A colon after the name.
    Colon,
    /// Behind the operator.
    Word,
}

/// Characters that decide something together with the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Pending {
    /// Nothing.
    #[default]
    None,
    /// `\`, and whether it splits an operator.
    Backslash { after_operator: bool },
    /// `$`.
    Dollar,
    /// `$(`.
    DollarParen,
    /// `<`.
    Less,
    /// `<<`.
    LessLess,
    /// `>`.
    Greater,
    /// `;`.
    Semicolon,
    /// `;;`.
    CaseEnd,
    /// `&`.
    Ampersand,
    /// `|`.
    Pipe,
    /// `(` where a command begins.
    OpenParen,
    /// `name(`.
    FunctionParen,
    /// `)` that should be the first of two.
    ArithmeticEnd,
}

/// What the next word of a command list is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Expect {
    /// A reserved word, an assignment or the name of a command.
    #[default]
    Command,
    /// An argument.
    Argument,
    /// The variable of a `for`.
    ForName,
    /// `in` or `do`.
    ForIn,
    /// What a `case` looks at.
    CaseWord,
    /// The `in` of a `case`.
    CaseIn,
    /// A pattern of a `case`, or `esac`.
    CasePattern,
}

/// What the next word is when a redirection stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Redirect {
    /// A file.
    File,
    /// A file descriptor.
    Descriptor,
    /// A heredoc's delimiter.
    Heredoc { strips_tabs: bool },
    /// A here-string.
    HereString,
}

/// A word in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Word {
    /// What is known of its content, quotes removed, up to the first part that is not literal.
    pub(super) text: String,
    /// Some of it was quoted, so it is no reserved word.
    pub(super) is_quoted: bool,
    /// It has a part that is not literal, or was too long to remember.
    pub(super) is_dynamic: bool,
    /// One of those parts is a value.
    pub(super) has_value: bool,
    /// It begins with `NAME=`.
    pub(super) is_assignment: bool,
}

impl Word {
    /// Adds a literal character.
    pub(super) fn push(&mut self, c: char) {
        if self.is_dynamic {
            return;
        }
        if self.text.len() >= WORD_LIMIT {
            self.is_dynamic = true;
            return;
        }
        self.text.push(c);
    }

    /// Returns the content when all of it is literal.
    pub(super) fn literal(&self) -> Option<&str> {
        (!self.is_dynamic).then_some(&*self.text)
    }
}

/// A heredoc whose body is still to come or being read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Heredoc {
    /// The line that ends it.
    pub(super) delimiter: Vec<char>,
    /// Its delimiter was quoted: nothing in it is expanded.
    pub(super) is_quoted: bool,
    /// `<<-`.
    pub(super) strips_tabs: bool,
    /// An interpreter reads it.
    pub(super) is_code: bool,
    /// How many characters of the delimiter the line matches so far; absent when it cannot match.
    pub(super) matched: Option<usize>,
    /// The line continues another one.
    pub(super) is_joined: bool,
}

/// How a list of commands began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Opener {
    /// It is the script.
    Script,
    /// `$(`.
    Substitution,
    /// `(`.
    Subshell,
}

/// A list of commands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Commands {
    pub(super) opener: Opener,
    pub(super) expect: Expect,
    pub(super) redirect: Option<Redirect>,
    pub(super) word: Option<Word>,
    pub(super) command: Command,
    /// `command` or `builtin` came before.
    pub(super) is_prefixed: bool,
    /// Open `case`s.
    pub(super) cases: u32,
    /// Inside `[[ … ]]`.
    pub(super) is_condition: bool,
    /// Heredocs whose bodies begin after this line.
    pub(super) heredocs: Vec<Heredoc>,
}

impl Commands {
    /// Begins a list.
    pub(super) fn new(opener: Opener) -> Self {
        Self {
            opener,
            expect: Expect::Command,
            redirect: None,
            word: None,
            command: Command::default(),
            is_prefixed: false,
            cases: 0,
            is_condition: false,
            heredocs: Vec::new(),
        }
    }

    /// Returns the word in progress, begun if there was none.
    pub(super) fn word_mut(&mut self) -> &mut Word {
        self.word.get_or_insert_with(Word::default)
    }
}
