//! Params: constants and `Param(…)` as the tables of a DAG file.

use tidemill_engine::definition::keys::TableId;
use toml::Value as Toml;

use super::value::Value;
use crate::import::{Key, is_built};

/// The schemas' keywords that a param may have.
const SCHEMA: &[&str] = &[
    "type",
    "title",
    "description",
    "enum",
    "examples",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "format",
    "minItems",
    "maxItems",
    "uniqueItems",
    "pattern",
    "const",
    "items",
    "properties",
    "required",
    "additionalProperties",
];

/// Returns a constant of the source.
pub(super) fn constant<'a>(expr: &ruff_python_ast::Expr) -> Option<Value<'a>> {
    use ruff_python_ast::{Expr, Number};
    Some(match expr {
        Expr::StringLiteral(text) => Value::Str(text.value.to_str().to_owned()),
        Expr::BooleanLiteral(literal) => Value::Bool(literal.value),
        Expr::NoneLiteral(_) => Value::None,
        Expr::NumberLiteral(literal) => match &literal.value {
            Number::Int(int) => Value::Int(int.as_i64()?),
            Number::Float(float) => Value::Float(*float),
            Number::Complex { .. } => return None,
        },
        Expr::List(list) => Value::List(list.elts.iter().map(constant).collect::<Option<_>>()?),
        _ => return None,
    })
}

/// Returns a value as TOML, which has no null.
fn toml(value: &Value<'_>) -> Option<Toml> {
    Some(match value {
        Value::Str(text) => Toml::from(text.as_str()),
        Value::Int(int) => Toml::from(*int),
        Value::Float(float) if float.is_finite() => Toml::from(*float),
        Value::Bool(bool) => Toml::from(*bool),
        Value::List(items) => Toml::Array(items.iter().map(toml).collect::<Option<_>>()?),
        Value::Dict(items) => {
            let item =
                |(name, value): &(Value<'_>, Value<'_>)| Some((name.as_str()?.to_owned(), toml(value)?));
            Toml::Table(items.iter().map(item).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// Returns the keys of a param.
pub(super) fn param(value: &Value<'_>) -> Option<Vec<Key>> {
    let Value::Object(object) = value else {
        // Without a null an optional text is an empty one.
        let value = if matches!(value, Value::None) { Toml::from("") } else { toml(value)? };
        return Some(vec![("default".to_owned(), value)]);
    };
    if object.path.rsplit('.').next() != Some("Param") {
        return None;
    }
    let mut keys = Vec::new();
    let named = |name: &str| {
        object.keywords.iter().find(|keyword| keyword.name == name).map(|keyword| &keyword.value)
    };
    for name in SCHEMA {
        if let Some(value) = named(name).filter(|_| is_built(TableId::Param, name)) {
            keys.push(((*name).to_owned(), toml(value)?));
        }
    }
    match object.args.first().or_else(|| named("default")) {
        Some(Value::None) => keys.push(("default".to_owned(), Toml::from(""))),
        Some(value) => keys.push(("default".to_owned(), toml(value)?)),
        None => {}
    }
    Some(keys)
}
