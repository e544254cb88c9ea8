//! Checking every path through a command's template.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::ast::{Expr, Stmt};

use super::{
    super::{TemplateProblem, check::error, facts::extent},
    Refusal, is_reserved,
    lexer::{Findings, Form, Lexer, State},
};

/// How many lexer states a template may be in at one place. Honest branches leave one or two.
const MAX_STATES: usize = 64;
/// How much text the check reads in all, over all paths.
const MAX_BYTES: usize = 4 * 1024 * 1024;

const AMBIGUOUS: Refusal = Refusal::Lost("it depends on the branches that the template takes");
const INTRICATE: &str = "the template has too many paths";

/// Checks where values stand in a command.
pub(in super::super) fn check(template: &str, root: &Stmt<'_>) -> Vec<TemplateProblem> {
    if let Some((at, c)) = template.char_indices().find(|(_, c)| is_reserved(*c)) {
        let message = format!("the character U+{:04X} cannot stand in a command", u32::from(c));
        return vec![error(Refusal::Lost("").code(), at..at + c.len_utf8(), message)];
    }
    let mut walk = Walk::default();
    let ends = walk.stmt(root, BTreeSet::from([Lexer::new().state]));
    for state in ends {
        walk.findings.merge(Lexer::at(state).finish());
    }
    walk.problems(template)
}

#[derive(Default)]
struct Walk {
    findings: Findings,
    /// Byte ranges of the values, by their number.
    values: Vec<std::ops::Range<usize>>,
    /// Numbers of the values, by their place.
    numbers: BTreeMap<usize, usize>,
    /// Values that are numbers whatever happens.
    numeric: BTreeSet<usize>,
    bytes: usize,
    is_intricate: bool,
}

impl Walk {
    fn stmt(&mut self, stmt: &Stmt<'_>, states: BTreeSet<State>) -> BTreeSet<State> {
        if self.is_intricate {
            return states;
        }
        match stmt {
            Stmt::Template(node) => self.body(&node.children, states),
            Stmt::EmitRaw(node) => self.each(states, |lexer| lexer.text(node.raw), node.raw.len()),
            Stmt::EmitExpr(node) => {
                let id = self.number(&node.expr);
                self.each(states, |lexer| _ = lexer.value(id), 16)
            }
            Stmt::IfCond(node) => {
                let mut ends = self.body(&node.true_body, states.clone());
                ends.extend(self.body(&node.false_body, states));
                ends
            }
            Stmt::ForLoop(node) => {
                let mut ends = self.body(&node.else_body, states.clone());
                ends.extend(self.repeat(&node.body, states));
                ends
            }
            Stmt::WithBlock(node) => self.body(&node.body, states),
            _ => states,
        }
    }

    fn body(&mut self, body: &[Stmt<'_>], states: BTreeSet<State>) -> BTreeSet<State> {
        body.iter().fold(states, |states, stmt| self.stmt(stmt, states))
    }

    /// Follows a loop until it adds no state any more.
    fn repeat(&mut self, body: &[Stmt<'_>], begin: BTreeSet<State>) -> BTreeSet<State> {
        let mut reached = begin;
        let mut fresh = reached.clone();
        loop {
            fresh = self.body(body, fresh).into_iter().filter(|state| !reached.contains(state)).collect();
            if fresh.is_empty() || self.is_intricate {
                return reached;
            }
            reached.extend(fresh.iter().cloned());
            self.is_intricate |= reached.len() > MAX_STATES * 4;
        }
    }

    fn each(&mut self, states: BTreeSet<State>, read: impl Fn(&mut Lexer), bytes: usize) -> BTreeSet<State> {
        let mut next = BTreeSet::new();
        for state in states {
            self.bytes += bytes;
            let mut lexer = Lexer::at(state);
            read(&mut lexer);
            next.insert(lexer.state);
            self.findings.merge(lexer.findings);
        }
        self.is_intricate |= next.len() > MAX_STATES || self.bytes > MAX_BYTES;
        next
    }

    fn number(&mut self, expr: &Expr<'_>) -> usize {
        let range = extent(expr);
        let next = self.values.len();
        let id = *self.numbers.entry(range.start).or_insert(next);
        if id == next {
            self.values.push(range);
            if matches!(expr, Expr::Filter(filter) if matches!(filter.name, "int" | "length" | "count")) {
                self.numeric.insert(id);
            }
        }
        id
    }

    fn problems(self, template: &str) -> Vec<TemplateProblem> {
        if self.is_intricate {
            let refusal = Refusal::Lost(INTRICATE);
            return vec![problem(refusal, 0..template.len())];
        }
        let findings = self.findings.conclude();
        let mut refusals = findings.refusals;
        let mut forms: BTreeMap<usize, BTreeSet<Form>> = BTreeMap::new();
        for (id, form) in findings.forms {
            forms.entry(id).or_default().insert(form);
        }
        refusals.extend(forms.iter().filter(|(_, forms)| forms.len() > 1).map(|(id, _)| (*id, AMBIGUOUS)));
        let place = |id: usize| self.values.get(id).cloned().unwrap_or(0..template.len());
        let mut problems: Vec<TemplateProblem> =
            refusals.iter().map(|(id, refusal)| problem(*refusal, place(*id))).collect();
        for (id, caution) in findings.cautions {
            let is_number = self.numeric.contains(&id);
            if is_number || refusals.iter().any(|(refused, _)| *refused == id) {
                continue;
            }
            let mut problem = error(caution.code(), place(id), caution.message().to_owned());
            problem.is_warning = true;
            problem.help = Some(caution.help().to_owned());
            problems.push(problem);
        }
        problems
    }
}

fn problem(refusal: Refusal, range: std::ops::Range<usize>) -> TemplateProblem {
    let mut problem = error(refusal.code(), range, refusal.message());
    problem.help = Some(refusal.help().to_owned());
    problem
}
