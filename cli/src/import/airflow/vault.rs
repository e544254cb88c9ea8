//! Variables and connections: what a file reads of them becomes a template, and what a function reads comes by the environment.

use tidemill_engine::ids::{ConnectionId, VariableName};

use super::{
    calls::Arguments,
    value::{Object, Value, quoted},
};

/// The fields of a connection, which have the same names here.
const FIELDS: &[&str] = &[
    "conn_id",
    "conn_type",
    "description",
    "host",
    "login",
    "password",
    "port",
    "schema",
    "extra",
    "extra_dejson",
];

/// Returns the template of `Variable.get(…)`.
pub(super) fn variable(arguments: &Arguments<'_>) -> Option<String> {
    let Some(Value::Str(name)) = arguments.get("key", 0) else { return None };
    VariableName::new(name).ok()?;
    let is_json = match arguments.get("deserialize_json", usize::MAX) {
        None | Some(Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(_) => return None,
    };
    let place = if is_json { "var.json" } else { "var" };
    let default = arguments.get("default_var", 1).or_else(|| arguments.get("default", usize::MAX));
    let default = match default {
        None => String::new(),
        Some(Value::None) => " | default(\"\")".to_owned(),
        Some(value) => format!(" | default({})", value.python()?),
    };
    Some(format!("{{{{ {place}[{}]{default} }}}}", quoted(name)))
}

/// Whether a connection has a field of that name.
pub(super) fn is_field(name: &str) -> bool {
    FIELDS.contains(&name)
}

/// Returns the id that `BaseHook.get_connection(…)` or `Connection.get(…)` names.
pub(super) fn connection(object: &Object<'_>) -> Option<String> {
    let is_known = object.path.starts_with("airflow.")
        && (object.path.ends_with("Hook.get_connection") || object.path.ends_with(".Connection.get"));
    let keyword =
        object.keywords.iter().find(|keyword| keyword.name == "conn_id").map(|keyword| &keyword.value);
    match object.args.first().or(keyword) {
        Some(Value::Str(id)) if is_known && ConnectionId::new(id).is_ok() => Some(id.clone()),
        _ => None,
    }
}

/// Returns the template of a field of a connection.
pub(super) fn field(object: &Object<'_>, name: &str) -> Option<String> {
    Some(format!("{{{{ conn[{}].{name} }}}}", quoted(&connection(object)?)))
}

/// Returns the variable of the environment by which a function reads something, and its template; `None` where the name
/// does not fit.
pub(super) fn by_environment(is_connection: bool, name: &str) -> Option<(String, String)> {
    let upper = name.to_uppercase();
    let fits = !upper.is_empty() && upper.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_connection {
        let template = format!("{{{{ conn[{}].uri }}}}", quoted(name));
        return (fits && ConnectionId::new(name).is_ok())
            .then(|| (format!("AIRFLOW_CONN_{upper}"), template));
    }
    let template = format!("{{{{ var[{}] }}}}", quoted(name));
    (fits && VariableName::new(name).is_ok()).then(|| (format!("AIRFLOW_VAR_{upper}"), template))
}
