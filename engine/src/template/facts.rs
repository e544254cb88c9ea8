//! What a template refers to: one walk over its syntax tree, read by the checks and by [`super::needs()`].

use std::{collections::BTreeSet, ops::Range};

use minijinja::machinery::{
    Span,
    ast::{self, CallArg, Expr, Stmt},
};

/// One step below a root name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `.name` or `["name"]`.
    Name(String),
    /// Anything that is only known when it is evaluated.
    Computed,
}

/// A use of a name that the template does not define itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// The name.
    pub(super) root: String,
    /// What is taken from it.
    pub(super) path: Vec<Step>,
    /// It is called.
    pub(super) is_call: bool,
    /// It may be undefined: it stands before `default` or `is defined`.
    pub(super) may_be_undefined: bool,
    /// Where.
    pub(super) range: Range<usize>,
}

/// A construct that captures what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Capture {
    /// What it is, in words.
    pub(super) what: &'static str,
    /// Where.
    pub(super) range: Range<usize>,
}

/// Everything a template refers to, in order of appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Names.
    pub(super) references: Vec<Reference>,
    /// Filters.
    pub(super) filters: Vec<(String, Range<usize>)>,
    /// Tests.
    pub(super) tests: Vec<(String, Range<usize>)>,
    /// Methods that are called on values of the template's own.
    pub(super) captures: Vec<Capture>,
    /// `{{ … }}`.
    pub(super) placeholders: usize,
}

/// Returns the byte range of a span.
pub(super) fn range_of(span: Span) -> Range<usize> {
    span.start_offset as usize..(span.end_offset as usize).max(span.start_offset as usize)
}

/// Returns the byte range of a whole expression. minijinja's own span of `a.b` begins at the dot.
pub(super) fn extent(expr: &Expr<'_>) -> Range<usize> {
    let own = range_of(expr.span());
    let first = match expr {
        Expr::GetAttr(node) => &node.expr,
        Expr::GetItem(node) => &node.expr,
        Expr::Slice(node) => &node.expr,
        Expr::Call(node) => &node.expr,
        Expr::Test(node) => &node.expr,
        Expr::BinOp(node) => &node.left,
        Expr::Compare(node) => &node.expr,
        Expr::Filter(node) => match &node.expr {
            Some(inner) => inner,
            None => return own,
        },
        _ => return own,
    };
    extent(first).start.min(own.start)..own.end
}

/// Walks a parsed template.
pub(super) fn collect(root: &Stmt<'_>) -> Facts {
    let mut walk = Walk { facts: Facts::default(), scopes: vec![BTreeSet::new()] };
    walk.stmt(root);
    walk.facts
}

struct Walk {
    facts: Facts,
    scopes: Vec<BTreeSet<String>>,
}

impl Walk {
    fn is_local(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.contains(name))
    }

    fn define(&mut self, name: &str) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned());
        }
    }

    /// Defines what an assignment target names. `ns.x` defines nothing: `ns` has to exist.
    fn define_target(&mut self, target: &Expr<'_>) {
        match target {
            Expr::Var(var) => self.define(var.id),
            Expr::List(list) => list.items.iter().for_each(|item| self.define_target(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.define_target(item)),
            other => self.expr(other),
        }
    }

    fn body(&mut self, body: &[Stmt<'_>]) {
        body.iter().for_each(|stmt| self.stmt(stmt));
    }

    fn scoped(&mut self, inside: impl FnOnce(&mut Self)) {
        self.scopes.push(BTreeSet::new());
        inside(self);
        self.scopes.pop();
    }

    fn capture(&mut self, what: &'static str, span: Span) {
        self.facts.captures.push(Capture { what, range: range_of(span) });
    }

    fn stmt(&mut self, stmt: &Stmt<'_>) {
        match stmt {
            Stmt::Template(template) => self.body(&template.children),
            Stmt::EmitRaw(_) => {}
            Stmt::EmitExpr(emit) => {
                self.facts.placeholders += 1;
                self.expr(&emit.expr);
            }
            Stmt::ForLoop(node) => {
                if node.recursive {
                    self.capture("a recursive loop", node.span());
                }
                self.expr(&node.iter);
                self.scoped(|walk| {
                    walk.define("loop");
                    walk.define_target(&node.target);
                    node.filter_expr.iter().for_each(|expr| walk.expr(expr));
                    walk.body(&node.body);
                });
                self.body(&node.else_body);
            }
            Stmt::IfCond(node) => {
                self.expr(&node.expr);
                self.body(&node.true_body);
                self.body(&node.false_body);
            }
            Stmt::WithBlock(node) => self.scoped(|walk| {
                for (target, value) in &node.assignments {
                    walk.expr(value);
                    walk.define_target(target);
                }
                walk.body(&node.body);
            }),
            Stmt::Set(node) => {
                self.expr(&node.expr);
                self.define_target(&node.target);
            }
            Stmt::SetBlock(node) => {
                self.capture("a `{% set %}` block", node.span());
                node.filter.iter().for_each(|expr| self.expr(expr));
                self.body(&node.body);
                self.define_target(&node.target);
            }
            Stmt::AutoEscape(node) => {
                self.capture("an `{% autoescape %}` block", node.span());
                self.expr(&node.enabled);
                self.body(&node.body);
            }
            Stmt::FilterBlock(node) => {
                self.capture("a `{% filter %}` block", node.span());
                self.expr(&node.filter);
                self.body(&node.body);
            }
            Stmt::Macro(node) => {
                self.capture("a `{% macro %}`", node.span());
                self.macro_decl(node);
            }
            Stmt::CallBlock(node) => {
                self.capture("a `{% call %}` block", node.span());
                self.call(&node.call, range_of(node.call.span()));
                self.macro_decl(&node.macro_decl);
            }
            Stmt::Do(node) => self.call(&node.call, range_of(node.call.span())),
        }
    }

    fn macro_decl(&mut self, node: &ast::Macro<'_>) {
        self.define(node.name);
        self.scoped(|walk| {
            walk.define("caller");
            node.args.iter().for_each(|arg| walk.define_target(arg));
            node.defaults.iter().for_each(|expr| walk.expr(expr));
            walk.body(&node.body);
        });
    }

    fn args(&mut self, args: &[CallArg<'_>]) {
        for arg in args {
            match arg {
                CallArg::Pos(expr)
                | CallArg::Kwarg(_, expr)
                | CallArg::PosSplat(expr)
                | CallArg::KwargSplat(expr) => {
                    self.expr(expr);
                }
            }
        }
    }

    fn call(&mut self, call: &ast::Call<'_>, range: Range<usize>) {
        self.chain(&call.expr, Use { is_call: true, may_be_undefined: false, range });
        self.args(&call.args);
    }

    fn expr(&mut self, expr: &Expr<'_>) {
        self.operand(expr, false);
    }

    fn operand(&mut self, expr: &Expr<'_>, may_be_undefined: bool) {
        match expr {
            Expr::Const(_) => {}
            Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) => {
                self.chain(expr, Use { is_call: false, may_be_undefined, range: extent(expr) });
            }
            Expr::Slice(node) => {
                self.expr(&node.expr);
                [&node.start, &node.stop, &node.step].into_iter().flatten().for_each(|part| self.expr(part));
            }
            Expr::UnaryOp(node) => self.expr(&node.expr),
            Expr::BinOp(node) => {
                self.expr(&node.left);
                self.expr(&node.right);
            }
            Expr::Compare(node) => {
                self.expr(&node.expr);
                node.ops.iter().for_each(|op| self.expr(&op.expr));
            }
            Expr::IfExpr(node) => {
                self.expr(&node.test_expr);
                self.expr(&node.true_expr);
                node.false_expr.iter().for_each(|expr| self.expr(expr));
            }
            Expr::Filter(node) => {
                self.facts.filters.push((node.name.to_owned(), range_of(node.span())));
                let is_default = matches!(node.name, "default" | "d");
                node.expr.iter().for_each(|expr| self.operand(expr, is_default));
                self.args(&node.args);
            }
            Expr::Test(node) => {
                self.facts.tests.push((node.name.to_owned(), range_of(node.span())));
                self.operand(&node.expr, matches!(node.name, "defined" | "undefined"));
                self.args(&node.args);
            }
            Expr::Call(node) => self.call(node, extent(expr)),
            Expr::List(node) => node.items.iter().for_each(|item| self.expr(item)),
            Expr::Tuple(node) => node.items.iter().for_each(|item| self.expr(item)),
            Expr::Map(node) => node.keys.iter().chain(&node.values).for_each(|item| self.expr(item)),
        }
    }

    /// Flattens `a.b["c"]` to its root and the steps below it.
    fn chain(&mut self, expr: &Expr<'_>, used: Use) {
        let mut path = Vec::new();
        let mut current = expr;
        loop {
            match current {
                Expr::GetAttr(node) => {
                    path.push(Step::Name(node.name.to_owned()));
                    current = &node.expr;
                }
                Expr::GetItem(node) => {
                    let name = match &node.subscript_expr {
                        Expr::Const(constant) => constant.value.as_str().map(str::to_owned),
                        computed => {
                            self.expr(computed);
                            None
                        }
                    };
                    path.push(name.map_or(Step::Computed, Step::Name));
                    current = &node.expr;
                }
                Expr::Var(var) => {
                    if !self.is_local(var.id) {
                        path.reverse();
                        self.facts.references.push(Reference {
                            root: var.id.to_owned(),
                            path,
                            is_call: used.is_call,
                            may_be_undefined: used.may_be_undefined,
                            range: used.range,
                        });
                    }
                    return;
                }
                other => return self.expr(other),
            }
        }
    }
}

struct Use {
    is_call: bool,
    may_be_undefined: bool,
    range: Range<usize>,
}
