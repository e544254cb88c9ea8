//! What the shell expands, in words, quotes, `${…}`, arithmetic and heredocs.

use super::{
    frame::{Frame, ParameterPart, Pending},
    lexer::Lexer,
};

impl Lexer {
    pub(super) fn arithmetic(&mut self, is_command: bool) {
        self.findings.calculates = true;
        self.push(Frame::Arithmetic { depth: 2, is_command });
    }

    pub(super) fn dollar(&mut self, c: char) -> bool {
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

    pub(super) fn quote(&mut self, frame: Frame) {
        if let Some(list) = self.word_list() {
            list.word_mut().is_quoted = true;
        }
        self.push(frame);
    }

    pub(super) fn escaped(&mut self, c: char, after_operator: bool) {
        if c == '\n' && after_operator {
            return self.lose("a line continuation splits an operator");
        }
        match self.state.frames.last_mut() {
            Some(Frame::Ansi) if c == '\'' => {
                self.lose("`\\'` inside `$'…'` ends it in dash and not in bash")
            }
            Some(Frame::Heredoc(heredoc)) if c == '\n' => {
                heredoc.is_joined = true;
                heredoc.matched = Some(0);
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

    /// Reads what means the same in double quotes, `${…}`, arithmetic and heredocs.
    pub(super) fn expansion(&mut self, c: char) -> bool {
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

    pub(super) fn in_parameter(&mut self, c: char, is_quoted: bool, seen: ParameterPart) {
        let is_word = c.is_ascii_alphanumeric() || "_@*#?-$!".contains(c);
        let next = match (seen, c) {
            (ParameterPart::Name, ':') => ParameterPart::Colon,
            // `${!x}` reads the variable that `x` names, subscript and all.
            (ParameterPart::Name, '!') => {
                self.findings.calculates = true;
                ParameterPart::Name
            }
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

    pub(super) fn in_arithmetic(&mut self, c: char, depth: u32, is_command: bool) {
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

    pub(super) fn set_depth(&mut self, to: u32) {
        if let Some(Frame::Arithmetic { depth, .. }) = self.state.frames.last_mut() {
            *depth = to;
        }
    }

    pub(super) fn in_heredoc(&mut self, c: char) {
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

    pub(super) fn next_heredoc(&mut self) {
        if let Some(Frame::Commands(list)) = self.state.frames.last_mut()
            && !list.heredocs.is_empty()
        {
            let next = list.heredocs.remove(0);
            self.push(Frame::Heredoc(next));
        }
    }
}
