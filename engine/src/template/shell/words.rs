//! Words, operators and reserved words of a list of commands.

use super::{
    command::{self, Command},
    frame::{Expect, Frame, Heredoc, Opener, Pending, Redirect, Word},
    lexer::{Lexer, innermost},
};

impl Lexer {
    pub(super) fn in_commands(&mut self, c: char) {
        let Some(list) = self.list() else { return };
        if list.is_condition && "();<>&|\n#".contains(c) {
            if list.word.as_ref().and_then(Word::literal) != Some("]]") {
                if !"&|".contains(c) {
                    self.lose("an operator inside `[[ … ]]`");
                }
                return;
            }
            self.end_word();
        }
        let Some(list) = self.list() else { return };
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

    pub(super) fn operator(&mut self, pending: Pending) {
        self.end_word();
        self.state.pending = pending;
    }

    pub(super) fn redirection(&mut self, pending: Pending) {
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

    pub(super) fn redirect(&mut self, redirect: Redirect) {
        if let Some(list) = self.list() {
            list.redirect = Some(redirect);
        }
    }

    pub(super) fn open_paren(&mut self) {
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

    pub(super) fn close_paren(&mut self) {
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

    pub(super) fn end_command(&mut self) {
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
    pub(super) fn separate(&mut self) {
        self.end_word();
        self.end_command();
        if let Some(list) = self.list() {
            list.redirect = None;
            if !matches!(list.expect, Expect::CasePattern | Expect::CaseIn | Expect::ForIn) {
                list.expect = Expect::Command;
            }
        }
    }

    pub(super) fn case_end(&mut self) {
        self.separate();
        match self.list() {
            Some(list) if list.cases > 0 => list.expect = Expect::CasePattern,
            _ => self.lose("`;;` outside `case`"),
        }
        self.state.pending = Pending::CaseEnd;
    }

    pub(super) fn end_word(&mut self) {
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

    pub(super) fn end_target(&mut self, redirect: Redirect, word: &Word) {
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
    pub(super) fn end_command_word(&mut self, word: &Word) {
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
            // Options of `command` and `time`: the command's name is still to come.
            option if option.starts_with('-') => {}
            name => {
                list.command = Command::named(name);
                list.expect = Expect::Argument;
            }
        }
    }
}
