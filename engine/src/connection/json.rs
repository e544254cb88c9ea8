//! A connection as JSON, under the names of this product or of Airflow.

use serde_json::{Map, Value as Json};

use super::Connection;
use crate::{ids::ConnectionId, secret::Secret};

/// Reads a connection from a JSON object. Messages never repeat a value.
pub(super) fn parse(id: ConnectionId, map: &Map<String, Json>) -> Result<Connection, String> {
    let mut connection = Connection::new(id, "");
    for (name, value) in map {
        if value.is_null() {
            continue;
        }
        let text = || match value {
            Json::String(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Json::Number(number) => Ok(Some(number.to_string())),
            _ => Err(format!("`{name}` must be a string")),
        };
        match name.as_str() {
            // The id is the key that the object stands under.
            "id" | "conn_id" => {}
            "kind" | "conn_type" => connection.kind = text()?.unwrap_or_default(),
            "description" => connection.description = text()?.unwrap_or_default(),
            "host" => connection.host = text()?,
            "login" => connection.login = text()?,
            "password" => connection.password = text()?.map(Secret::new),
            "schema" => connection.schema = text()?,
            "port" => {
                let port = |text: String| text.parse().ok().filter(|port| *port > 0);
                let wrong = || "`port` must be a number from 1 to 65535".to_owned();
                connection.port = text()?.map(|text| port(text).ok_or_else(wrong)).transpose()?;
            }
            "extra" | "extra_dejson" => connection.extra = extra(value)?,
            _ => {
                let known = "kind, description, host, port, login, password, schema, extra";
                return Err(format!("there is no field `{name}`; a connection has {known}"));
            }
        }
    }
    Ok(connection)
}

/// An object, or the text of one as Airflow keeps it.
fn extra(value: &Json) -> Result<Map<String, Json>, String> {
    let wrong = || "`extra` must be a JSON object".to_owned();
    match value {
        Json::Object(map) => Ok(map.clone()),
        Json::String(text) if text.trim().is_empty() => Ok(Map::new()),
        Json::String(text) => serde_json::from_str(text).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}
