//! Converts operators and sensors that ask another service or a database.

use toml::Value as Toml;

use super::{sensors, tasks::Making, value::Value};
use crate::import::words;

/// The arguments of the operators of this file that are converted, or that say nothing here.
pub(super) const OWN: &[&str] = &[
    "http_conn_id",
    "conn_id",
    "postgres_conn_id",
    "sqlite_conn_id",
    "endpoint",
    "method",
    "data",
    "request_params",
    "headers",
    "extra_options",
    "log_response",
    "deferrable",
    "sql",
    "parameters",
    "autocommit",
    "split_statements",
    "return_last",
    "show_return_value_in_logs",
    "poke_interval",
    "timeout",
    "soft_fail",
    "exponential_backoff",
    "max_wait",
    "mode",
    "tcp_keep_alive",
    "tcp_keep_alive_idle",
    "tcp_keep_alive_count",
    "tcp_keep_alive_interval",
];

/// Converts an operator. Returns false for one that it does not know.
pub(super) fn convert(making: &mut Making<'_, '_>, class: &str) -> bool {
    match class {
        "HttpOperator" | "SimpleHttpOperator" => request(making, "http", "POST"),
        "HttpSensor" | "HttpSensorAsync" => {
            request(making, "http_sensor", "GET");
            sensors::poking(making);
        }
        "SQLExecuteQueryOperator" => query(making, "sql", "conn_id"),
        "PostgresOperator" => query(making, "sql", "postgres_conn_id"),
        "SqliteOperator" => query(making, "sql", "sqlite_conn_id"),
        "SqlSensor" => {
            query(making, "sql_sensor", "conn_id");
            sensors::poking(making);
        }
        _ => return false,
    }
    true
}

/// Returns a value as it stands in a DAG file; `None` where only Python can tell.
fn toml_of(making: &mut Making<'_, '_>, value: &Value<'_>) -> Option<Toml> {
    Some(match value {
        Value::Int(value) => Toml::from(*value),
        Value::Float(value) => Toml::from(*value),
        Value::Bool(value) => Toml::from(*value),
        Value::List(items) => {
            Toml::Array(items.iter().map(|item| toml_of(making, item)).collect::<Option<_>>()?)
        }
        Value::Dict(items) => {
            let mut table = toml::Table::new();
            for (name, value) in items {
                table.insert(name.as_str()?.to_owned(), toml_of(making, value)?);
            }
            Toml::Table(table)
        }
        other => {
            let text = making.interp.text_of(other)?;
            Toml::from(making.template(&text))
        }
    })
}

/// Sets a key to what an argument says.
fn set(making: &mut Making<'_, '_>, name: &str, key: &str) {
    let Some(value) = making.value(name).cloned() else { return };
    match toml_of(making, &value) {
        Some(Toml::Table(table)) if table.is_empty() => {}
        Some(value) => making.task.set(key, value),
        None => making.problem(format!("`{name}` has a value that only Python can tell")),
    }
}

/// Sets the connection. Airflow's own default is a connection by name, too.
fn connection(making: &mut Making<'_, '_>, name: &str, default: &str) {
    let id = making.text(name).unwrap_or_else(|| default.to_owned());
    if id.contains("{{") {
        return making.problem(format!("`{name}` is a template, and connections are named here"));
    }
    making.task.set("connection", words::id(&id));
}

fn request(making: &mut Making<'_, '_>, operator: &str, usual: &str) {
    let method = match making.value("method") {
        None => usual.to_owned(),
        Some(value) => value.as_str().unwrap_or_default().to_uppercase(),
    };
    if !["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&method.as_str()) {
        return making.refuse("a `method` that only Python can tell");
    }
    making.task.set("operator", operator);
    connection(making, "http_conn_id", "http_default");
    making.task.set("method", method.as_str());
    if let Some(endpoint) = making.text("endpoint") {
        making.task.set("url", endpoint);
    }
    let is_reading = matches!(method.as_str(), "GET" | "HEAD");
    let is_table = matches!(making.value("data"), Some(Value::Dict(_)));
    match (is_reading, is_table) {
        (true, _) => set(making, "data", "query"),
        (false, true) => {
            making.problem("Airflow sends a dict in `data` as a form; here `body` is sent as JSON");
            set(making, "data", "body");
        }
        (false, false) => set(making, "data", "body"),
    }
    set(making, "request_params", "query");
    set(making, "headers", "headers");
    options(making);
}

/// `extra_options` of the library that Airflow calls with.
fn options(making: &mut Making<'_, '_>) {
    let Some(value) = making.value("extra_options").cloned() else { return };
    let Value::Dict(items) = value else {
        return making.problem("`extra_options` has a value that only Python can tell");
    };
    for (name, value) in items {
        match (name.as_str(), &value) {
            (Some("timeout"), Value::Int(seconds)) => {
                making.task.set("request_timeout", format!("{seconds}s"));
            }
            (Some("check_response"), Value::Bool(false)) => making.task.set("expected_status", "100-599"),
            (Some("allow_redirects"), Value::Bool(follow)) => making.task.set("follow_redirects", *follow),
            (Some(name), _) => making.problem(format!("`{name}` of `extra_options` is left out")),
            _ => making.problem("`extra_options` has a value that only Python can tell"),
        }
    }
}

fn query(making: &mut Making<'_, '_>, operator: &str, conn: &str) {
    let script = match making.value("sql").cloned() {
        Some(Value::List(items)) => {
            items.iter().map(|item| making.interp.text_of(item)).collect::<Option<Vec<_>>>().map(|all| {
                all.iter().map(|one| one.trim().trim_end_matches(';')).collect::<Vec<_>>().join(";\n")
            })
        }
        Some(value) => making.interp.text_of(&value),
        None => None,
    };
    let Some(script) = script else { return making.refuse("a `sql` that only Python can tell") };
    let mut parameters = toml::Table::new();
    let mut positional = Vec::new();
    match making.value("parameters").cloned() {
        None => {}
        Some(Value::List(items)) => {
            for (index, item) in items.iter().enumerate() {
                let Some(value) = toml_of(making, item) else {
                    return making.refuse("`parameters` that only Python can tell");
                };
                let name = format!("p{}", index + 1);
                parameters.insert(name.clone(), value);
                positional.push(name);
            }
        }
        Some(value) => match toml_of(making, &value) {
            Some(Toml::Table(table)) => parameters = table,
            _ => return making.refuse("`parameters` that only Python can tell"),
        },
    }
    making.task.set("operator", operator);
    let default = match conn {
        "postgres_conn_id" => "postgres_default",
        "sqlite_conn_id" => "sqlite_default",
        _ => "default",
    };
    connection(making, conn, default);
    if script.trim().ends_with(".sql") && !script.trim().contains(char::is_whitespace) {
        making.note(format!(
            "Airflow renders `{}` as a template; here the file is taken as it is",
            script.trim()
        ));
        making.task.set("sql_file", script.trim());
    } else {
        let script = placed(&script, &positional, !parameters.is_empty());
        let Some(sql) = without_templates(making, &script, &mut parameters) else {
            return making.refuse(
                "a template in `sql` that is not a whole value in quotes: values are parameters here, and nothing else can be one",
            );
        };
        making.task.set("sql", sql.trim());
    }
    if !parameters.is_empty() {
        making.task.set("parameters", Toml::Table(parameters));
    }
    if operator == "sql" && making.value("autocommit").and_then(Value::truth) == Some(true) {
        making.task.set("transaction", false);
    }
}

/// Writes `%(name)s`, `%s` and `?` as `:name`.
fn placed(script: &str, positional: &[String], has_parameters: bool) -> String {
    if !has_parameters {
        return script.to_owned();
    }
    let mut names = positional.iter();
    let mut text = String::new();
    let mut rest = script;
    while let Some(at) = rest.find(['%', '?']) {
        text.push_str(&rest[..at]);
        let tail = &rest[at..];
        let named = tail.strip_prefix("%(").and_then(|tail| tail.split_once(")s"));
        rest = if let Some((name, after)) = named {
            text.push_str(&format!(":{name}"));
            after
        } else if let Some(after) = tail.strip_prefix("%%") {
            text.push('%');
            after
        } else {
            let width = if tail.starts_with("%s") { 2 } else { 1 };
            let is_place = tail.starts_with("%s") || tail.starts_with('?');
            match names.next().filter(|_| is_place) {
                Some(name) => text.push_str(&format!(":{name}")),
                None => text.push_str(&tail[..width]),
            }
            &tail[width..]
        };
    }
    text.push_str(rest);
    text
}

/// Makes a parameter of each template that is a whole value in quotes; `None` when there is another one.
fn without_templates(
    making: &mut Making<'_, '_>,
    script: &str,
    parameters: &mut toml::Table,
) -> Option<String> {
    let mut text = String::new();
    let mut rest = script;
    while let Some(at) = rest.find("{{") {
        let before = rest[..at].strip_suffix('\'')?;
        let end = rest[at..].find("}}")? + at + 2;
        let after = rest[end..].strip_prefix('\'')?;
        let template = making.template(&rest[at..end]);
        let inner = template.trim_start_matches("{{").trim_end_matches("}}").trim().to_owned();
        let is_name = inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && inner.starts_with(|c: char| c.is_ascii_alphabetic());
        let mut name = if is_name { inner } else { format!("value_{}", parameters.len() + 1) };
        while parameters.get(&name).is_some_and(|other| other.as_str() != Some(&template)) {
            name.push('_');
        }
        text.push_str(before);
        text.push_str(&format!(":{name}"));
        parameters.insert(name, Toml::from(template));
        rest = after;
    }
    text.push_str(rest);
    (!text.contains("{%") && !text.contains("{#")).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_other_libraries_are_written_with_a_colon() {
        let names = ["p1".to_owned(), "p2".to_owned()];
        for (script, expected) in [
            ("a = %s AND b = %s", "a = :p1 AND b = :p2"),
            ("a = ? AND b LIKE 'x%%'", "a = :p1 AND b LIKE 'x%'"),
            ("a = %(day)s AND b % 2 = 0", "a = :day AND b % 2 = 0"),
        ] {
            assert_eq!(placed(script, &names, true), expected);
        }
        assert_eq!(placed("a LIKE 'x%%' AND b ? 'c'", &[], false), "a LIKE 'x%%' AND b ? 'c'");
    }
}
