//! The shell lexer: one character, or one value, at a time.
//!
//! It reads what dash and bash (as `/bin/sh`) agree on. Where they do not, it loses track on purpose: nothing
//! before that is affected, and no value may follow.

use std::collections::BTreeSet;

use super::{
    Caution, Refusal,
    command::{self, Command},
    frame::{Commands, Expect, Frame, Heredoc, Opener, ParameterPart, Pending, Redirect, Word},
};

/// What replaces a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// `"${V}"`.
    Bare,
    /// `${V}`.
    Double,
    /// `'"${V}"'`.
    Single,
}

/// What was found, by value.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub(super) refusals: BTreeSet<(usize, Refusal)>,
    pub(super) cautions: BTreeSet<(usize, Caution)>,
    pub(super) forms: BTreeSet<(usize, Form)>,
    assignments: BTreeSet<usize>,
    makes_integers: bool,
    calculates: bool,
}

impl Findings {
    /// Takes in what another path found.
    pub(super) fn merge(&mut self, other: Self) {
        self.refusals.extend(other.refusals);
        self.cautions.extend(other.cautions);
        self.forms.extend(other.forms);
        self.assignments.extend(other.assignments);
        self.makes_integers |= other.makes_integers;
        self.calculates |= other.calculates;
    }

    /// Draws the conclusions that need the whole script.
    pub(super) fn conclude(mut self) -> Self {
        for &id in &self.assignments {
            if self.makes_integers {
                self.refusals.insert((id, Refusal::Arithmetic));
            } else if self.calculates {
                self.cautions.insert((id, Caution::LaterArithmetic));
            }
        }
        self
    }
}

/// Where the lexer is, without what it found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct State {
    frames: Vec<Frame>,
    pending: Pending,
    lost: Option<&'static str>,
}

/// The lexer.
#[derive(Clone, Debug)]
pub(super) struct Lexer {
    pub(super) state: State,
    pub(super) findings: Findings,
}

impl Lexer {
    /// Begins a script.
    pub(super) fn new() -> Self {
        let frames = vec![Frame::Commands(Box::new(Commands::new(Opener::Script)))];
        Self::at(State { frames, pending: Pending::None, lost: None })
    }

    /// Goes on from a state.
    pub(super) fn at(state: State) -> Self {
        Self { state, findings: Findings::default() }
    }

    /// Reads text of the template.
    pub(super) fn text(&mut self, text: &str) {
        for c in text.chars() {
            if self.state.lost.is_some() {
                return;
            }
            self.read(c);
        }
    }

    /// Ends the script.
    pub(super) fn finish(mut self) -> Findings {
        self.settle();
        if let Some(Frame::Commands(list)) = self.state.frames.first_mut() {
            let bad = list.command.end();
            self.findings.refusals.extend(bad);
        }
        self.findings.conclude()
    }

    /// Reads a value and returns what replaces it.
    pub(super) fn value(&mut self, id: usize) -> Form {
        let was_pending = self.state.pending;
        self.settle();
        let (form, refusal) = match was_pending {
            Pending::Backslash { .. } => (Form::Bare, Some(Refusal::Backslash)),
            Pending::Dollar => (Form::Bare, Some(Refusal::Name)),
            _ => self.place(id),
        };
        let refusal = self.state.lost.map(Refusal::Lost).or(refusal);
        self.findings.refusals.extend(refusal.map(|refusal| (id, refusal)));
        self.findings.forms.insert((id, form));
        form
    }

    fn place(&mut self, id: usize) -> (Form, Option<Refusal>) {
        if let Some(refusal) = self.state.frames.iter().find_map(refuses_inside) {
            return (Form::Bare, Some(refusal));
        }
        let form = match self.state.frames.last_mut() {
            Some(Frame::Comment) => return (Form::Double, None),
            Some(Frame::Heredoc(heredoc)) => {
                heredoc.matched = None;
                if heredoc.is_code {
                    self.findings.cautions.insert((id, Caution::NestedInterpreter));
                }
                return (Form::Double, heredoc.is_quoted.then_some(Refusal::Heredoc));
            }
            Some(Frame::Double { .. }) => Form::Double,
            Some(Frame::Single) => Form::Single,
            _ => Form::Bare,
        };
        let refusal = self.place_in_word(id).err();
        (form, refusal)
    }

    /// Decides on a value that is part of a word.
    fn place_in_word(&mut self, id: usize) -> Result<(), Refusal> {
        let Some(list) = innermost(&mut self.state.frames) else { return Ok(()) };
        let mut word = list.word.take().unwrap_or_default();
        let is_first = !word.has_value;
        word.has_value = true;
        let before = word.text.clone();
        let is_assignment = word.is_assignment;
        word.is_dynamic = true;
        list.word = Some(word);
        match list.redirect {
            Some(Redirect::File) => return Ok(()),
            Some(Redirect::Descriptor) => return Err(Refusal::Name),
            Some(Redirect::Heredoc { .. }) => return Err(Refusal::Heredoc),
            Some(Redirect::HereString) => return Err(Refusal::BashOnly),
            None if list.is_condition => return Err(Refusal::BashOnly),
            None => {}
        }
        match list.expect {
            Expect::Command if is_assignment => {
                self.findings.assignments.insert(id);
                let name = before.split('=').next().unwrap_or_default();
                if command::is_assignable(name) { Ok(()) } else { Err(Refusal::Arithmetic) }
            }
            Expect::Command if before.split_once('[').is_some_and(|(name, _)| command::is_name(name)) => {
                Err(Refusal::Name)
            }
            Expect::Command if before.contains('/') => Ok(()),
            Expect::Command => Err(Refusal::Command),
            Expect::Argument => {
                if list.command.interpreter.is_code() {
                    self.findings.cautions.insert((id, Caution::NestedInterpreter));
                }
                if before.split_once('=').is_some_and(|(name, _)| command::is_name(name)) {
                    self.findings.assignments.insert(id);
                }
                list.command.value(&before, is_first, id)
            }
            Expect::CaseWord | Expect::CasePattern => Ok(()),
            Expect::ForName | Expect::ForIn | Expect::CaseIn => Err(Refusal::Name),
        }
    }

    fn lose(&mut self, why: &'static str) {
        self.state.lost.get_or_insert(why);
    }

    fn push(&mut self, frame: Frame) {
        self.state.frames.push(frame);
    }

    fn list(&mut self) -> Option<&mut Commands> {
        innermost(&mut self.state.frames)
    }

    fn read(&mut self, c: char) {
        if c == '\n' {
            self.check_newline();
        }
        let pending = std::mem::take(&mut self.state.pending);
        if pending == Pending::None || !self.resolve(pending, c) {
            self.plain(c);
        }
    }

    /// A newline inside something that a heredoc waits for, or is wrapped around, is read in two ways.
    fn check_newline(&mut self) {
        let Some((top, below)) = self.state.frames.split_last() else { return };
        let waits = below.iter().any(|frame| match frame {
            Frame::Commands(list) => !list.heredocs.is_empty() && !matches!(top, Frame::Comment),
            Frame::Heredoc(_) => true,
            _ => false,
        });
        if waits {
            self.lose("a line ends inside quotes or `$(…)` next to a heredoc");
        }
    }

    /// Decides a pending character without looking at the next one.
    fn settle(&mut self) {
        match std::mem::take(&mut self.state.pending) {
            Pending::None | Pending::FunctionParen | Pending::ArithmeticEnd | Pending::CaseEnd => {}
            Pending::Backslash { .. } | Pending::Dollar => self.literal_dollar(),
            Pending::DollarParen => self.push(Frame::Commands(Box::new(Commands::new(Opener::Substitution)))),
            Pending::Less | Pending::Greater => self.redirect(Redirect::File),
            Pending::LessLess => self.redirect(Redirect::Heredoc { strips_tabs: false }),
            Pending::Semicolon | Pending::Ampersand | Pending::Pipe => self.separate(),
            Pending::OpenParen => self.push(Frame::Commands(Box::new(Commands::new(Opener::Subshell)))),
        }
    }

    fn literal_dollar(&mut self) {
        if let Some(list) = self.word_list() {
            list.word_mut().push('$');
        }
    }

    /// Resolves a pending character with the next one. Returns whether that one is used up.
    fn resolve(&mut self, pending: Pending, c: char) -> bool {
        match (pending, c) {
            (Pending::Backslash { after_operator }, _) => self.escaped(c, after_operator),
            (Pending::Dollar, _) => return self.dollar(c),
            (Pending::DollarParen, '(') => self.arithmetic(false),
            (Pending::OpenParen, '(') => self.arithmetic(true),
            (Pending::Less, '<') => self.state.pending = Pending::LessLess,
            (Pending::Less, '&') | (Pending::Greater, '&') => self.redirect(Redirect::Descriptor),
            (Pending::Less, '>') | (Pending::Greater, '|') | (Pending::Greater, '>') => {
                self.redirect(Redirect::File)
            }
            (Pending::Less | Pending::Greater, '(') => self.lose("process substitution exists only in bash"),
            (Pending::LessLess, '-') => self.redirect(Redirect::Heredoc { strips_tabs: true }),
            (Pending::LessLess, '<') => self.redirect(Redirect::HereString),
            (Pending::Semicolon, ';') => self.case_end(),
            (Pending::Semicolon | Pending::CaseEnd, '&') => self.lose("`;&` exists only in bash"),
            (Pending::Ampersand, '>') => self.lose("`&>` means two things: write `> file 2>&1`"),
            (Pending::Pipe, '&') => self.lose("`|&` exists only in bash"),
            (Pending::Ampersand, '&') | (Pending::Pipe, '|') => self.separate(),
            (Pending::FunctionParen, ' ' | '\t') => self.state.pending = Pending::FunctionParen,
            (Pending::FunctionParen, ')') => self.separate(),
            (Pending::FunctionParen, _) => {
                self.lose("a parenthesis inside a word: arrays and patterns exist only in bash")
            }
            (Pending::ArithmeticEnd, ')') => self.pop(),
            (Pending::ArithmeticEnd, _) => {
                self.lose("`((` without `))`: write a space between two parentheses")
            }
            (Pending::CaseEnd, _) => return false,
            _ => {
                self.state.pending = pending;
                self.settle();
                if c == '\\' {
                    self.state.pending = Pending::Backslash { after_operator: true };
                    return true;
                }
                return false;
            }
        }
        true
    }

    fn arithmetic(&mut self, is_command: bool) {
        self.findings.calculates = true;
        self.push(Frame::Arithmetic { depth: 2, is_command });
    }

    fn dollar(&mut self, c: char) -> bool {
        let in_words = matches!(self.state.frames.last(), Some(Frame::Commands(_)));
        let is_expansion = c.is_ascii_alphanumeric() || "_@*#?-$!({".contains(c);
        if is_expansion && let Some(list) = self.word_list() {
            list.word_mut().is_dynamic = true;
        }
        if is_expansion && let Some(Frame::Heredoc(heredoc)) = self.state.frames.last_mut() {
            heredoc.matched = None;
        }
        match c {
            '(' => self.state.pending = Pending::DollarParen,
            '{' => {
                let is_quoted =
                    matches!(self.state.frames.last(), Some(Frame::Double { .. } | Frame::Heredoc(_)));
                self.push(Frame::Parameter { is_quoted, seen: ParameterPart::Name });
            }
            '[' => self.lose("`$[` exists only in bash"),
            '\'' if in_words => self.quote(Frame::Ansi),
            '"' if in_words => self.quote(Frame::Double { is_locale: true }),
            '\\' => {
                self.literal_dollar();
                self.state.pending = Pending::Backslash { after_operator: true };
            }
            _ if is_expansion => {}
            _ => {
                self.literal_dollar();
                return false;
            }
        }
        true
    }

    fn quote(&mut self, frame: Frame) {
        if let Some(list) = self.word_list() {
            list.word_mut().is_quoted = true;
        }
        self.push(frame);
    }

    fn escaped(&mut self, c: char, after_operator: bool) {
        if c == '\n' && after_operator {
            return self.lose("a line continuation splits an operator");
        }
        match self.state.frames.last_mut() {
            Some(Frame::Ansi) if c == '\'' => {
                self.lose("`\\'` inside `$'…'` ends it in dash and not in bash")
            }
            Some(Frame::Heredoc(heredoc)) => {
                if c == '\n' {
                    heredoc.is_joined = true;
                    heredoc.matched = Some(0);
                }
            }
            Some(Frame::Commands(list)) if c != '\n' => {
                let word = list.word_mut();
                word.push(c);
                word.is_quoted = true;
            }
            Some(Frame::Double { .. }) => {
                if let Some(list) = self.word_list() {
                    let word = list.word_mut();
                    if !"$`\"\\\n".contains(c) {
                        word.push('\\');
                    }
                    if c != '\n' {
                        word.push(c);
                    }
                }
            }
            _ => {}
        }
    }

    /// Returns the list whose word the top frame is part of.
    fn word_list(&mut self) -> Option<&mut Commands> {
        let (top, below) = self.state.frames.split_last_mut()?;
        match (top, below.last_mut()) {
            (Frame::Commands(list), _) => Some(list),
            (Frame::Double { .. } | Frame::Single | Frame::Ansi, Some(Frame::Commands(list))) => Some(list),
            _ => None,
        }
    }

    fn plain(&mut self, c: char) {
        let depth = self.state.frames.len();
        let is_in_parameter =
            depth >= 2 && matches!(self.state.frames.get(depth - 2), Some(Frame::Parameter { .. }));
        let Some(top) = self.state.frames.last_mut() else { return };
        match top {
            Frame::Commands(_) => self.in_commands(c),
            Frame::Comment => {
                if c == '\n' {
                    self.pop();
                    self.in_commands(c);
                }
            }
            Frame::Single if c == '\'' => self.pop(),
            Frame::Single => self.word_char(c),
            Frame::Ansi if c == '\'' => self.pop(),
            Frame::Backtick if c == '`' => self.pop(),
            Frame::Ansi | Frame::Backtick => {
                if c == '\\' {
                    self.state.pending = Pending::Backslash { after_operator: false };
                }
            }
            Frame::Double { .. } if c == '"' => self.pop(),
            Frame::Double { .. } if c == '}' && is_in_parameter => {
                self.lose("quotes inside `${…}` that hold a `}`");
            }
            Frame::Double { .. } => {
                if !self.expansion(c) {
                    self.word_char(c);
                }
            }
            Frame::Parameter { is_quoted, seen } => {
                let (is_quoted, seen) = (*is_quoted, *seen);
                self.in_parameter(c, is_quoted, seen);
            }
            Frame::Arithmetic { depth, is_command } => {
                let (depth, is_command) = (*depth, *is_command);
                self.in_arithmetic(c, depth, is_command);
            }
            Frame::Heredoc(_) => self.in_heredoc(c),
        }
    }

    fn word_char(&mut self, c: char) {
        if let Some(list) = self.word_list() {
            list.word_mut().push(c);
        }
    }

    /// Reads what means the same in double quotes, `${…}`, arithmetic and heredocs.
    fn expansion(&mut self, c: char) -> bool {
        match c {
            '\\' => self.state.pending = Pending::Backslash { after_operator: false },
            '$' => self.state.pending = Pending::Dollar,
            '`' => {
                if let Some(list) = self.word_list() {
                    list.word_mut().is_dynamic = true;
                }
                self.push(Frame::Backtick);
            }
            _ => return false,
        }
        true
    }

    fn in_parameter(&mut self, c: char, is_quoted: bool, seen: ParameterPart) {
        let is_word = c.is_ascii_alphanumeric() || "_@*#?-$!".contains(c);
        let next = match (seen, c) {
            (ParameterPart::Name, ':') => ParameterPart::Colon,
            (ParameterPart::Name, _) if is_word => ParameterPart::Name,
            (ParameterPart::Colon, '-' | '=' | '?' | '+') => ParameterPart::Word,
            (ParameterPart::Colon, _) | (ParameterPart::Name, '[') => {
                self.findings.calculates = true;
                ParameterPart::Word
            }
            _ => ParameterPart::Word,
        };
        if let Some(Frame::Parameter { seen, .. }) = self.state.frames.last_mut() {
            *seen = next;
        }
        match c {
            '}' => self.pop(),
            '\'' if is_quoted => self.lose("a single quote inside `${…}` inside double quotes"),
            '\'' => self.push(Frame::Single),
            '"' => self.push(Frame::Double { is_locale: false }),
            _ => {
                self.expansion(c);
            }
        }
    }

    fn in_arithmetic(&mut self, c: char, depth: u32, is_command: bool) {
        match c {
            '(' => self.set_depth(depth + 1),
            ')' if depth > 2 => self.set_depth(depth - 1),
            ')' => self.state.pending = Pending::ArithmeticEnd,
            '\'' => self.lose("a single quote in arithmetic"),
            '"' => self.push(Frame::Double { is_locale: false }),
            // As two subshells, which is what dash reads where a command begins, this would be a comment or a
            // heredoc.
            '#' | '<' if is_command => self.lose("`((` is arithmetic in bash and two subshells in dash"),
            _ => {
                self.expansion(c);
            }
        }
    }

    fn set_depth(&mut self, to: u32) {
        if let Some(Frame::Arithmetic { depth, .. }) = self.state.frames.last_mut() {
            *depth = to;
        }
    }

    fn in_heredoc(&mut self, c: char) {
        let Some(Frame::Heredoc(heredoc)) = self.state.frames.last_mut() else { return };
        if c == '\n' {
            let is_end = heredoc.matched == Some(heredoc.delimiter.len());
            if is_end && heredoc.is_joined {
                return self.lose("a heredoc's last line continues another one");
            }
            heredoc.is_joined = false;
            heredoc.matched = Some(0);
            if is_end {
                self.pop();
                self.next_heredoc();
            }
            return;
        }
        let is_quoted = heredoc.is_quoted;
        if !(heredoc.strips_tabs && c == '\t' && heredoc.matched == Some(0)) {
            heredoc.matched =
                heredoc.matched.filter(|at| heredoc.delimiter.get(*at) == Some(&c)).map(|at| at + 1);
        }
        if !is_quoted {
            self.expansion(c);
        }
    }

    fn next_heredoc(&mut self) {
        if let Some(Frame::Commands(list)) = self.state.frames.last_mut()
            && !list.heredocs.is_empty()
        {
            let next = list.heredocs.remove(0);
            self.push(Frame::Heredoc(next));
        }
    }

    fn pop(&mut self) {
        self.state.frames.pop();
    }

    fn in_commands(&mut self, c: char) {
        let Some(list) = self.list() else { return };
        if list.is_condition && "()<>;&|\n#".contains(c) {
            if !"&|".contains(c) {
                self.lose("an operator inside `[[ … ]]`");
            }
            return;
        }
        match c {
            ' ' | '\t' => self.end_word(),
            '\n' => {
                self.separate();
                self.next_heredoc();
            }
            ';' => self.operator(Pending::Semicolon),
            '&' => self.operator(Pending::Ampersand),
            '|' => self.operator(Pending::Pipe),
            '<' => self.redirection(Pending::Less),
            '>' => self.redirection(Pending::Greater),
            '(' => self.open_paren(),
            ')' => self.close_paren(),
            '\'' => self.quote(Frame::Single),
            '"' => self.quote(Frame::Double { is_locale: false }),
            '#' if list.word.is_none() => self.push(Frame::Comment),
            '=' => {
                let word = list.word_mut();
                word.is_assignment |= !word.is_quoted && !word.is_dynamic && command::is_name(&word.text);
                word.push(c);
            }
            _ => {
                if !self.expansion(c) {
                    self.word_char(c);
                }
            }
        }
    }

    fn operator(&mut self, pending: Pending) {
        self.end_word();
        self.state.pending = pending;
    }

    fn redirection(&mut self, pending: Pending) {
        if let Some(list) = self.list() {
            // `2>`: the digits belong to the operator.
            let is_number = |word: &Word| {
                !word.is_quoted && !word.is_dynamic && word.text.chars().all(|c| c.is_ascii_digit())
            };
            if list.word.as_ref().is_some_and(is_number) {
                list.word = None;
            }
        }
        self.operator(pending);
    }

    fn redirect(&mut self, redirect: Redirect) {
        if let Some(list) = self.list() {
            list.redirect = Some(redirect);
        }
    }

    fn open_paren(&mut self) {
        let Some(list) = self.list() else { return };
        let is_bare = list.word.is_none() && list.redirect.is_none();
        match list.expect {
            Expect::CasePattern if is_bare => {}
            Expect::Command if is_bare => self.state.pending = Pending::OpenParen,
            Expect::Command | Expect::Argument
                if list.word.as_ref().is_none_or(|word| !word.is_assignment) =>
            {
                self.end_word();
                self.state.pending = Pending::FunctionParen;
            }
            _ => self.lose("a parenthesis inside a word: arrays and patterns exist only in bash"),
        }
    }

    fn close_paren(&mut self) {
        self.end_word();
        let Some(list) = self.list() else { return };
        if list.expect == Expect::CasePattern {
            list.expect = Expect::Command;
            return;
        }
        if list.opener == Opener::Script
            || list.cases > 0
            || !list.heredocs.is_empty()
            || list.redirect.is_some()
        {
            return self.lose("a `)` that closes nothing");
        }
        let is_subshell = list.opener == Opener::Subshell;
        self.end_command();
        self.pop();
        if is_subshell && let Some(list) = self.list() {
            list.expect = Expect::Argument;
            list.command = Command::default();
        }
    }

    fn end_command(&mut self) {
        if let Some(list) = innermost(&mut self.state.frames) {
            let bad = list.command.end();
            self.findings.makes_integers |= list.command.makes_integers;
            self.findings.calculates |= list.command.calculates;
            self.findings.refusals.extend(bad);
            list.command = Command::default();
            list.is_prefixed = false;
        }
    }

    /// Ends a command at `;`, `&`, `|` or a newline.
    fn separate(&mut self) {
        self.end_word();
        self.end_command();
        if let Some(list) = self.list() {
            list.redirect = None;
            if !matches!(list.expect, Expect::CasePattern | Expect::CaseIn | Expect::ForIn) {
                list.expect = Expect::Command;
            }
        }
    }

    fn case_end(&mut self) {
        self.separate();
        match self.list() {
            Some(list) if list.cases > 0 => list.expect = Expect::CasePattern,
            _ => self.lose("`;;` outside `case`"),
        }
        self.state.pending = Pending::CaseEnd;
    }

    fn end_word(&mut self) {
        let Some(list) = self.list() else { return };
        let Some(word) = list.word.take() else { return };
        if let Some(redirect) = list.redirect.take() {
            return self.end_target(redirect, &word);
        }
        match list.expect {
            Expect::Command => self.end_command_word(&word),
            Expect::Argument if list.is_condition => {
                if word.literal() == Some("]]") && !word.is_quoted {
                    list.is_condition = false;
                }
            }
            Expect::Argument => {
                let bad = list.command.word(word.literal(), word.has_value);
                self.findings.refusals.extend(bad);
            }
            Expect::ForName => list.expect = Expect::ForIn,
            Expect::ForIn if word.text == "in" => list.expect = Expect::Argument,
            Expect::ForIn => list.expect = Expect::Command,
            Expect::CaseWord => list.expect = Expect::CaseIn,
            Expect::CaseIn => list.expect = Expect::CasePattern,
            Expect::CasePattern => {
                if word.literal() == Some("esac") && !word.is_quoted {
                    list.cases = list.cases.saturating_sub(1);
                    list.expect = Expect::Argument;
                }
            }
        }
    }

    fn end_target(&mut self, redirect: Redirect, word: &Word) {
        let Redirect::Heredoc { strips_tabs } = redirect else { return };
        let Some(delimiter) = word.literal().map(|text| text.chars().collect()) else {
            return self.lose("a heredoc's delimiter that is not plain text");
        };
        if let Some(list) = self.list() {
            list.heredocs.push(Heredoc {
                delimiter,
                is_quoted: word.is_quoted,
                strips_tabs,
                is_code: list.command.interpreter.reads_code(),
                matched: Some(0),
                is_joined: false,
            });
        }
    }

    /// Ends a word where a command begins: a reserved word, an assignment or a name.
    fn end_command_word(&mut self, word: &Word) {
        let Some(list) = self.list() else { return };
        let text = word.literal().unwrap_or_default();
        if !word.is_quoted && !word.is_dynamic && !list.is_prefixed {
            match text {
                "if" | "then" | "elif" | "else" | "do" | "while" | "until" | "!" | "{" | "time" => return,
                "fi" | "done" | "}" => {
                    list.expect = Expect::Argument;
                    return;
                }
                "esac" => {
                    list.cases = list.cases.saturating_sub(1);
                    list.expect = Expect::Argument;
                    return;
                }
                "for" => {
                    list.expect = Expect::ForName;
                    return;
                }
                "case" => {
                    list.expect = Expect::CaseWord;
                    list.cases += 1;
                    return;
                }
                "[[" => {
                    list.expect = Expect::Argument;
                    list.is_condition = true;
                    self.findings.calculates = true;
                    return;
                }
                "function" | "select" | "coproc" => {
                    return self.lose("`function`, `select` and `coproc` exist only in bash");
                }
                _ => {}
            }
        }
        if word.is_assignment {
            return;
        }
        match text {
            "alias" => self.lose("aliases change what later words mean"),
            "command" | "builtin" => list.is_prefixed = true,
            "-v" | "-V" if list.is_prefixed => list.expect = Expect::Argument,
            option if list.is_prefixed && option.starts_with('-') => {}
            name => {
                list.command = Command::named(name);
                list.expect = Expect::Argument;
            }
        }
    }
}

/// Returns the command list that the top frame belongs to.
fn innermost(frames: &mut [Frame]) -> Option<&mut Commands> {
    frames.iter_mut().rev().find_map(|frame| match frame {
        Frame::Commands(list) => Some(&mut **list),
        _ => None,
    })
}

/// Why nothing inside this frame may be a value.
const fn refuses_inside(frame: &Frame) -> Option<Refusal> {
    match frame {
        Frame::Arithmetic { .. } => Some(Refusal::Arithmetic),
        Frame::Parameter { .. } => Some(Refusal::Name),
        Frame::Backtick => Some(Refusal::Backticks),
        Frame::Ansi | Frame::Double { is_locale: true } => Some(Refusal::DollarQuote),
        _ => None,
    }
}
