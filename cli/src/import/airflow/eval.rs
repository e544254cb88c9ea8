//! Reads expressions.

use ruff_python_ast::{
    BoolOp, CmpOp, Comprehension, Expr, ExprCompare, FStringPart, InterpolatedStringElement, Number,
    Operator, UnaryOp,
};
use ruff_text_size::{Ranged, TextRange};

use super::{interp::Interp, names::BUILTINS, value::Value, vault};

/// No list gets longer than this by what is read.
const LONGEST_LIST: usize = 10_000;

impl<'a> Value<'a> {
    /// Returns what a loop over it sees.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items.clone()),
            Self::Dict(items) => Some(items.iter().map(|(key, _)| key.clone()).collect()),
            _ => None,
        }
    }
}

impl<'a> Interp<'a> {
    pub(super) fn expression(&mut self, expr: &'a Expr) -> Value<'a> {
        let opaque = Value::Opaque(expr.range());
        match expr {
            Expr::NoneLiteral(_) => Value::None,
            Expr::BooleanLiteral(literal) => Value::Bool(literal.value),
            Expr::StringLiteral(literal) => Value::Str(literal.value.to_str().to_owned()),
            Expr::NumberLiteral(literal) => match &literal.value {
                Number::Int(int) => int.as_i64().map_or(opaque, Value::Int),
                Number::Float(float) => Value::Float(*float),
                Number::Complex { .. } => opaque,
            },
            Expr::FString(string) => self.f_string(string).map_or(opaque, Value::Str),
            Expr::Name(name) => self.name(name.id.as_str(), opaque),
            Expr::Attribute(attribute) => {
                let value = self.eval(&attribute.value);
                self.attribute(value, attribute.attr.as_str(), expr.range())
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.list(&list.elts),
            Expr::Tuple(tuple) => self.list(&tuple.elts),
            Expr::Set(set) => self.list(&set.elts),
            Expr::Dict(dict) => self.dict(dict).unwrap_or(opaque),
            Expr::BinOp(binary) => {
                let left = self.eval(&binary.left);
                let right = self.eval(&binary.right);
                self.binary(left, binary.op, right, binary.range)
            }
            Expr::UnaryOp(unary) => match (unary.op, self.eval(&unary.operand)) {
                (UnaryOp::Not, value) => value.truth().map_or(opaque, |truth| Value::Bool(!truth)),
                (UnaryOp::USub, Value::Int(value)) => value.checked_neg().map_or(opaque, Value::Int),
                (UnaryOp::USub, Value::Float(value)) => Value::Float(-value),
                (UnaryOp::USub, Value::Delta(value)) => value.checked_neg().map_or(opaque, Value::Delta),
                _ => opaque,
            },
            Expr::BoolOp(logic) => self.logic(logic).unwrap_or(opaque),
            Expr::Compare(compare) => self.compare(compare).map_or(opaque, Value::Bool),
            Expr::If(choice) => match self.eval(&choice.test).truth() {
                Some(true) => self.eval(&choice.body),
                Some(false) => self.eval(&choice.orelse),
                None => opaque,
            },
            Expr::Named(named) => {
                let value = self.eval(&named.value);
                self.assign(&named.target, value.clone());
                value
            }
            Expr::Subscript(subscript) => {
                let value = self.eval(&subscript.value);
                let key = self.eval(&subscript.slice);
                subscripted(value, &key).unwrap_or(opaque)
            }
            Expr::ListComp(made) => self.comprehension(&made.generators, &made.elt, opaque),
            Expr::SetComp(made) => self.comprehension(&made.generators, &made.elt, opaque),
            Expr::Generator(made) => self.comprehension(&made.generators, &made.elt, opaque),
            Expr::Lambda(lambda) => Value::Lambda(lambda),
            Expr::Starred(starred) => self.eval(&starred.value),
            _ => opaque,
        }
    }

    fn name(&self, name: &str, opaque: Value<'a>) -> Value<'a> {
        match self.lookup(name) {
            Some(value) => value.clone(),
            None if BUILTINS.contains(&name) => Value::Path(format!("builtins.{name}")),
            None => opaque,
        }
    }

    fn attribute(&mut self, value: Value<'a>, name: &str, range: TextRange) -> Value<'a> {
        match (value, name) {
            (Value::Path(path), _) => Value::Path(format!("{path}.{name}")),
            (Value::Task(task), "output") => Value::Output(task, "return_value".to_owned()),
            (Value::Task(task), "task_id") => {
                self.tasks.get(task).map_or(Value::Opaque(range), |task| Value::Str(task.id.clone()))
            }
            (Value::Dag(dag), "dag_id") => {
                self.dags.get(dag).map_or(Value::Opaque(range), |dag| Value::Str(dag.id.clone()))
            }
            (Value::Group(group), "group_id") => {
                self.groups.get(group).map_or(Value::Opaque(range), |group| Value::Str(group.id.clone()))
            }
            (Value::Opaque(_), _) => Value::Opaque(range),
            (Value::Object(object), field)
                if vault::is_field(field) && vault::connection(&object).is_some() =>
            {
                vault::field(&object, field).map_or(Value::Opaque(range), Value::Template)
            }
            (value, _) => Value::Method(Box::new(value), name.to_owned()),
        }
    }

    fn dict(&mut self, dict: &'a ruff_python_ast::ExprDict) -> Option<Value<'a>> {
        let mut items = Vec::new();
        for item in &dict.items {
            match &item.key {
                Some(key) => items.push((self.eval(key), self.eval(&item.value))),
                None => match self.eval(&item.value) {
                    Value::Dict(more) => items.extend(more),
                    _ => return None,
                },
            }
        }
        Some(Value::Dict(items))
    }

    fn logic(&mut self, logic: &'a ruff_python_ast::ExprBoolOp) -> Option<Value<'a>> {
        let mut last = None;
        for value in &logic.values {
            let value = self.eval(value);
            let truth = value.truth()?;
            last = Some(value);
            if truth == (logic.op == BoolOp::Or) {
                break;
            }
        }
        last
    }

    fn list(&mut self, elts: &'a [Expr]) -> Value<'a> {
        let mut items = Vec::new();
        for elt in elts {
            let value = self.eval(elt);
            match (elt, value) {
                (Expr::Starred(_), Value::List(more)) => items.extend(more),
                (_, value) => items.push(value),
            }
        }
        Value::List(items)
    }

    fn comprehension(
        &mut self,
        generators: &'a [Comprehension],
        elt: &'a Expr,
        opaque: Value<'a>,
    ) -> Value<'a> {
        self.scopes.push(std::collections::BTreeMap::new());
        let mut items = Vec::new();
        let is_known = self.generate(generators, elt, &mut items);
        self.scopes.pop();
        if is_known { Value::List(items) } else { opaque }
    }

    fn generate(
        &mut self,
        generators: &'a [Comprehension],
        elt: &'a Expr,
        items: &mut Vec<Value<'a>>,
    ) -> bool {
        let Some((first, rest)) = generators.split_first() else {
            items.push(self.eval(elt));
            return items.len() <= LONGEST_LIST && self.spend();
        };
        let Some(values) = self.eval(&first.iter).items() else { return false };
        for value in values {
            self.assign(&first.target, value);
            let mut is_in = true;
            for condition in &first.ifs {
                match self.eval(condition).truth() {
                    Some(truth) => is_in &= truth,
                    None => return false,
                }
            }
            if is_in && !self.generate(rest, elt, items) {
                return false;
            }
        }
        true
    }

    /// Returns the text of an f-string, when all that is in it is known.
    fn f_string(&mut self, string: &'a ruff_python_ast::ExprFString) -> Option<String> {
        let mut text = String::new();
        for part in &string.value {
            match part {
                FStringPart::Literal(literal) => text.push_str(&literal.value),
                FStringPart::FString(string) => {
                    for element in &string.elements {
                        match element {
                            InterpolatedStringElement::Literal(literal) => text.push_str(&literal.value),
                            InterpolatedStringElement::Interpolation(element) => {
                                if element.format_spec.is_some() || element.debug_text.is_some() {
                                    return None;
                                }
                                let value = self.eval(&element.expression);
                                text.push_str(&self.text_of(&value)?);
                            }
                        }
                    }
                }
            }
        }
        Some(text)
    }

    /// Returns what a value is within a text; an output of a task becomes a template.
    pub(super) fn text_of(&self, value: &Value<'a>) -> Option<String> {
        match value {
            Value::Output(task, key) => Some(format!("{{{{ {} }}}}", self.output_reference(*task, key)?)),
            Value::Element(name) => Some(format!("{{{{ map.value[{}] }}}}", super::value::quoted(name))),
            Value::Template(text) => Some(text.clone()),
            other => other.text(),
        }
    }

    /// Returns how a template names an output.
    pub(super) fn output_reference(&self, task: usize, key: &str) -> Option<String> {
        let id = &self.tasks.get(task)?.id;
        Some(format!(
            "ti.xcom_pull(task_ids={}, key={})",
            super::value::quoted(id),
            super::value::quoted(key)
        ))
    }

    fn compare(&mut self, compare: &'a ExprCompare) -> Option<bool> {
        let ([op], [right]) = (&*compare.ops, &*compare.comparators) else { return None };
        let left = self.eval(&compare.left);
        let right = self.eval(right);
        match (op, &left, &right) {
            (CmpOp::Eq | CmpOp::Is, _, _) => left.equals(&right),
            (CmpOp::NotEq | CmpOp::IsNot, _, _) => left.equals(&right).map(|is| !is),
            (CmpOp::In | CmpOp::NotIn, _, Value::List(_) | Value::Dict(_)) => {
                let found =
                    right.items()?.iter().map(|item| left.equals(item)).collect::<Option<Vec<_>>>()?;
                Some(found.contains(&true) == (*op == CmpOp::In))
            }
            (CmpOp::Lt, Value::Int(a), Value::Int(b)) => Some(a < b),
            (CmpOp::LtE, Value::Int(a), Value::Int(b)) => Some(a <= b),
            (CmpOp::Gt, Value::Int(a), Value::Int(b)) => Some(a > b),
            (CmpOp::GtE, Value::Int(a), Value::Int(b)) => Some(a >= b),
            _ => None,
        }
    }

    pub(super) fn binary(
        &mut self,
        left: Value<'a>,
        op: Operator,
        right: Value<'a>,
        range: TextRange,
    ) -> Value<'a> {
        let opaque = Value::Opaque(range);
        match (op, left, right) {
            (Operator::RShift | Operator::LShift, Value::Int(_), Value::Int(_)) => opaque,
            (Operator::RShift, left, right) => self.shift(left, right, true, range),
            (Operator::LShift, left, right) => self.shift(left, right, false, range),
            (Operator::Add, Value::Int(a), Value::Int(b)) => a.checked_add(b).map_or(opaque, Value::Int),
            (Operator::Sub, Value::Int(a), Value::Int(b)) => a.checked_sub(b).map_or(opaque, Value::Int),
            (Operator::Mult, Value::Int(a), Value::Int(b)) => a.checked_mul(b).map_or(opaque, Value::Int),
            (Operator::FloorDiv, Value::Int(a), Value::Int(b)) if b > 0 => Value::Int(a.div_euclid(b)),
            (Operator::Mod, Value::Int(a), Value::Int(b)) if b > 0 => Value::Int(a.rem_euclid(b)),
            (Operator::Add, Value::Str(a), Value::Str(b)) if a.len() + b.len() < 1 << 20 => {
                Value::Str(a + &b)
            }
            (Operator::Add, Value::List(mut a), Value::List(b)) if a.len() + b.len() <= LONGEST_LIST => {
                a.extend(b);
                Value::List(a)
            }
            (Operator::BitOr, Value::Dict(mut a), Value::Dict(b)) => {
                a.retain(|(key, _)| !b.iter().any(|(other, _)| key.equals(other) == Some(true)));
                a.extend(b);
                Value::Dict(a)
            }
            (Operator::Add, Value::Delta(a), Value::Delta(b)) => {
                a.checked_add(b).map_or(opaque, Value::Delta)
            }
            (Operator::Mult, Value::Delta(a), Value::Int(b))
            | (Operator::Mult, Value::Int(b), Value::Delta(a)) => {
                a.checked_mul(b).map_or(opaque, Value::Delta)
            }
            (Operator::Mod, Value::Str(format), value) => {
                self.percent(&format, value).map_or(opaque, Value::Str)
            }
            _ => opaque,
        }
    }

    /// `"a %s" % value`, for `%s` and `%d` alone.
    fn percent(&self, format: &str, value: Value<'a>) -> Option<String> {
        let mut values = match value {
            Value::List(values) => values,
            other => vec![other],
        }
        .into_iter();
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => match chars.next()? {
                    '%' => text.push('%'),
                    's' | 'd' => text.push_str(&self.text_of(&values.next()?)?),
                    _ => return None,
                },
                c => text.push(c),
            }
        }
        values.next().is_none().then_some(text)
    }
}

fn subscripted<'a>(value: Value<'a>, key: &Value<'a>) -> Option<Value<'a>> {
    match (value, key) {
        (Value::List(items), Value::Int(index)) => {
            let index = if *index < 0 {
                items.len().checked_sub(index.unsigned_abs().try_into().ok()?)?
            } else {
                usize::try_from(*index).ok()?
            };
            items.get(index).cloned()
        }
        (Value::Dict(items), key) => {
            items.into_iter().rev().find(|(name, _)| name.equals(key) == Some(true)).map(|(_, value)| value)
        }
        // A task that returns several values pushes one output for each.
        (Value::Output(task, name), Value::Str(key)) if name == "return_value" => {
            Some(Value::Output(task, key.clone()))
        }
        (Value::Task(task), Value::Str(key)) => Some(Value::Output(task, key.clone())),
        _ => None,
    }
}
