//! A value in a command: what replaces it, and whether it may stand there.

use super::{
    Caution, Refusal, command,
    frame::{Expect, Frame, Pending, Redirect},
    lexer::{Form, Lexer, innermost},
};

impl Lexer {
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

    pub(super) fn place(&mut self, id: usize) -> (Form, Option<Refusal>) {
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
    pub(super) fn place_in_word(&mut self, id: usize) -> Result<(), Refusal> {
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
