//! The shell lexer: one character, or one value, at a time.
//!
//! It reads what dash and bash (as `/bin/sh`) agree on. Where they do not, it loses track on purpose: nothing
//! before that is affected, and no value may follow.

use std::collections::BTreeSet;

use super::{
    Caution, Refusal,
    frame::{Commands, Frame, Opener, Pending, Redirect},
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
    pub(super) assignments: BTreeSet<usize>,
    pub(super) makes_integers: bool,
    pub(super) calculates: bool,
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
    pub(super) frames: Vec<Frame>,
    pub(super) pending: Pending,
    pub(super) lost: Option<&'static str>,
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

    pub(super) fn lose(&mut self, why: &'static str) {
        self.state.lost.get_or_insert(why);
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.state.frames.push(frame);
    }

    pub(super) fn list(&mut self) -> Option<&mut Commands> {
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
        let ends_with_line = matches!(top, Frame::Comment | Frame::Heredoc(_));
        let own = if ends_with_line { below.len() - 1 } else { below.len() };
        let waits = below.iter().enumerate().any(|(depth, frame)| match frame {
            Frame::Commands(list) => depth < own && !list.heredocs.is_empty(),
            Frame::Heredoc(_) => true,
            _ => false,
        });
        if waits {
            self.lose("a line ends inside quotes or `$(…)` next to a heredoc");
        }
    }

    /// Decides a pending character without looking at the next one.
    pub(super) fn settle(&mut self) {
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

    pub(super) fn literal_dollar(&mut self) {
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

    /// Returns the list whose word the top frame is part of.
    pub(super) fn word_list(&mut self) -> Option<&mut Commands> {
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

    pub(super) fn word_char(&mut self, c: char) {
        if let Some(list) = self.word_list() {
            list.word_mut().push(c);
        }
    }

    pub(super) fn pop(&mut self) {
        self.state.frames.pop();
    }
}

/// Returns the command list that the top frame belongs to.
pub(super) fn innermost(frames: &mut [Frame]) -> Option<&mut Commands> {
    frames.iter_mut().rev().find_map(|frame| match frame {
        Frame::Commands(list) => Some(&mut **list),
        _ => None,
    })
}
