//! The operator `sql` and the sensor `sql_sensor`: reads their keys.

use serde_json::{Map, Value as Json};

use super::{
    code::Code,
    fields::{Field, Fields},
    kinds::{filled, wrong_type},
    model::Operator,
    params::json,
    problem::{Draft, Report},
    sql::{SqlSpec, SqlTask, names_of},
    suggest::{nearest, shown},
};
use crate::{ids::ConnectionId, template::is_dynamic};

/// Reads the keys of a `sql` task.
pub(crate) fn operator(fields: &Fields<'_, '_>, name: &str, report: &mut Report<'_>) -> Option<Operator> {
    let spec = read(fields, name, report)?;
    let (transaction, output_file) = (fields.bool("transaction"), fields.string("output_file"));
    Some(Operator::Sql { spec: Box::new(SqlTask { spec, transaction, output_file }) })
}

/// Reads the keys that the operator and the sensor share.
pub(crate) fn read(fields: &Fields<'_, '_>, name: &str, report: &mut Report<'_>) -> Option<SqlSpec> {
    let has_database = one_of(
        (fields, name),
        ["connection", "database"],
        Code::SQL_DATABASE,
        "add `connection = \"warehouse\"`, or `database = \"data.sqlite\"` for a SQLite file",
        report,
    );
    let has_source = one_of(
        (fields, name),
        ["sql", "sql_file"],
        Code::SQL_SOURCE,
        "add `sql = \"SELECT …\"`, or `sql_file = \"query.sql\"`",
        report,
    );
    for key in ["sql", "sql_file"] {
        if let (Some(text), Some(field)) = (fields.text(key), fields.field(key))
            && is_dynamic(text)
        {
            let message = format!("`{key}` is no template: a value must never become a part of a statement");
            report.push(
                Draft::error(Code::SQL_TEMPLATE, message, field.node.span.clone())
                    .help("write `:day` in the statement and `parameters = { day = \"{{ ds }}\" }`"),
            );
        }
    }
    if let (Some(text), Some(node)) = (fields.text("sql"), fields.node("sql"))
        && !filled("sql", text, node, report)
    {
        return None;
    }
    let parameters = parameters(fields, report)?;
    if let (Some(sql), Some(field)) = (fields.text("sql"), fields.field("sql"))
        && !is_dynamic(sql)
    {
        check_names((sql, field), &parameters, fields, report);
    }
    (has_database && has_source).then(|| SqlSpec {
        connection: fields.text("connection").and_then(|id| ConnectionId::new(id).ok()),
        database: fields.string("database"),
        sql: fields.string("sql"),
        sql_file: fields.string("sql_file"),
        parameters,
        statement_timeout: fields.duration("statement_timeout"),
    })
}

/// Whether exactly one of two keys is there; otherwise it is said.
fn one_of(
    (fields, name): (&Fields<'_, '_>, &str),
    [first, second]: [&'static str; 2],
    code: Code,
    help: &str,
    report: &mut Report<'_>,
) -> bool {
    match (fields.field(first), fields.field(second)) {
        (None, None) => {
            if !fields.is_misspelt(first) && !fields.is_misspelt(second) {
                let message = format!("{name} has neither `{first}` nor `{second}`");
                report.push(Draft::error(code, message, fields.at.clone()).absence().help(help));
            }
            false
        }
        (Some(one), Some(other)) => {
            let message = format!("{name} has a `{first}` and a `{second}`");
            let draft = Draft::error(code, message, other.key_span.clone());
            report.push(draft.also(one.key_span.clone(), "the other one").help("leave one of them out"));
            false
        }
        _ => true,
    }
}

fn parameters(fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Map<String, Json>> {
    let Some(node) = fields.node("parameters") else { return Some(Map::new()) };
    match json(node) {
        Json::Object(map) => Some(map),
        _ => {
            wrong_type("parameters", "a table", node, report);
            None
        }
    }
}

fn check_names(
    (sql, field): (&str, &Field<'_, '_>),
    parameters: &Map<String, Json>,
    fields: &Fields<'_, '_>,
    report: &mut Report<'_>,
) {
    let used = names_of(sql);
    for name in used.iter().filter(|name| !parameters.contains_key(*name)) {
        let message = format!("the statement names `:{}`, which `parameters` does not give", shown(name));
        let draft = Draft::error(Code::SQL_PARAMETER, message, field.node.span.clone());
        report.push(match nearest(name, parameters.keys().map(String::as_str)) {
            Some(near) => draft.help(format!("did you mean `:{near}`?")),
            None => draft.help(format!("add `parameters = {{ {name} = … }}`")),
        });
    }
    if let Some(at) = fields.field("parameters") {
        for name in parameters.keys().filter(|name| !used.contains(*name)) {
            let message = format!("no statement names the parameter `:{}`", shown(name));
            report.push(
                Draft::warning(Code::SQL_PARAMETER, message, at.key_span.clone())
                    .help("leave it out, or write it into the statement"),
            );
        }
    }
}
