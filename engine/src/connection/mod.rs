//! A connection: how a task reaches a system outside, with what it needs to be let in.

mod json;
mod uri;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
pub use uri::UriError;

use crate::{
    ids::ConnectionId,
    secret::{Secret, is_sensitive_name},
};

/// A named way to a system outside. Its password and what else opens doors is encrypted where it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its name, as in `conn.warehouse.host`.
    pub id: ConnectionId,
    /// What it leads to, such as `postgres`, `http`, `smtp`.
    #[serde(default)]
    pub kind: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The machine, or a whole URL of a web service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Who logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// What proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The database, or what else stands behind the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Anything else by name. All of it is encrypted; values under names such as `token` are masked as well.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra: serde_json::Map<String, Json>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("login", &self.login)
            .field("schema", &self.schema)
            .field("extra", &self.extra.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The fields of a connection as templates name them, the names of Airflow included.
pub const FIELDS: &[&str] = &[
    "id",
    "conn_id",
    "kind",
    "conn_type",
    "description",
    "host",
    "port",
    "login",
    "password",
    "schema",
    "extra",
    "extra_dejson",
    "uri",
];

impl Connection {
    /// Returns a connection that leads nowhere yet.
    #[must_use]
    pub fn new(id: ConnectionId, kind: impl Into<String>) -> Self {
        Self {
            id,
            kind: kind.into(),
            description: String::new(),
            host: None,
            port: None,
            login: None,
            password: None,
            schema: None,
            extra: serde_json::Map::new(),
        }
    }

    /// Reads a connection from its URI, `kind://login:password@host:port/schema?extra=value`, with every part
    /// percent-encoded.
    ///
    /// # Errors
    /// [`UriError`], which never repeats the text.
    pub fn from_uri(id: ConnectionId, text: &str) -> Result<Self, UriError> {
        uri::parse(id, text)
    }

    /// Reads a connection from a JSON object, under the names of this product or of Airflow.
    ///
    /// # Errors
    /// What is wrong, without any value.
    pub fn from_json(id: ConnectionId, map: &serde_json::Map<String, Json>) -> Result<Self, String> {
        json::parse(id, map)
    }

    /// Reads a connection from its URI or, where the text begins with `{`, from JSON.
    ///
    /// # Errors
    /// What is wrong, without any of the text.
    pub fn from_text(id: ConnectionId, text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            // The message of the parser may repeat a word of the text.
            let map = serde_json::from_str(text).map_err(|error| {
                format!("it is not a JSON object (line {}, column {})", error.line(), error.column())
            })?;
            return Self::from_json(id, &map);
        }
        Self::from_uri(id, text).map_err(|error| error.to_string())
    }

    /// Returns the URI that [`Connection::from_uri`] reads; it holds the password.
    #[must_use]
    pub fn uri(&self) -> String {
        uri::print(self)
    }

    /// Returns everything in it that must not be shown: the password, and the values in `extra` whose names say so.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let mut found: Vec<Secret> = self.password.iter().cloned().collect();
        for (name, value) in &self.extra {
            collect(value, is_sensitive_name(name), &mut found);
        }
        found.retain(|secret| !secret.reveal().is_empty());
        found
    }

    /// Returns the fields as a template sees them. An absent field is empty text, as it prints.
    #[must_use]
    pub fn values(&self) -> BTreeMap<&'static str, Json> {
        let text = |value: Option<&String>| Json::from(value.cloned().unwrap_or_default());
        let extra = Json::Object(self.extra.clone());
        FIELDS
            .iter()
            .map(|field| {
                let value = match *field {
                    "id" | "conn_id" => Json::from(self.id.as_str()),
                    "kind" | "conn_type" => Json::from(self.kind.as_str()),
                    "description" => Json::from(self.description.as_str()),
                    "host" => text(self.host.as_ref()),
                    "port" => self.port.map_or_else(|| Json::from(""), Json::from),
                    "login" => text(self.login.as_ref()),
                    "password" => Json::from(self.password.as_ref().map_or("", Secret::reveal)),
                    "schema" => text(self.schema.as_ref()),
                    "uri" => Json::from(self.uri()),
                    _ => extra.clone(),
                };
                (*field, value)
            })
            .collect()
    }
}

/// Collects the text below a name that is secret.
pub(crate) fn collect(value: &Json, is_secret: bool, found: &mut Vec<Secret>) {
    match value {
        Json::String(text) if is_secret => found.push(Secret::new(text.as_str())),
        Json::Number(number) if is_secret => found.push(Secret::new(number.to_string())),
        Json::Array(items) => items.iter().for_each(|item| collect(item, is_secret, found)),
        Json::Object(map) => {
            map.iter().for_each(|(name, value)| collect(value, is_secret || is_sensitive_name(name), found))
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warehouse() -> Connection {
        let uri = "postgres://ann:p%40ss%2Fword@db.example:5432/sales?sslmode=require&api_token=tok-123456";
        Connection::from_uri(ConnectionId::new("warehouse").unwrap(), uri).unwrap()
    }

    #[test]
    fn its_secrets_are_the_password_and_what_the_names_in_extra_say() {
        let mut connection = warehouse();
        let nested = serde_json::json!({"auth": {"client_secret": ["abc", {"x": "deep"}]}, "region": "eu"});
        connection.extra.insert("more".to_owned(), nested);
        let found: Vec<String> = connection.secrets().iter().map(|s| s.reveal().to_owned()).collect();
        assert_eq!(found, ["p@ss/word", "tok-123456", "abc", "deep"]);
        assert!(!format!("{connection:?}").contains("p@ss"));
        assert!(!format!("{connection:?}").contains("tok-"));
    }

    #[test]
    fn every_field_of_the_list_has_a_value() {
        let connection = warehouse();
        let values = connection.values();
        assert_eq!(values.len(), FIELDS.len());
        assert_eq!(values["password"], "p@ss/word");
        assert_eq!(values["port"], 5432);
        assert_eq!(values["conn_type"], "postgres");
        assert_eq!(values["extra_dejson"]["sslmode"], "require");
        let empty = Connection::new(ConnectionId::new("x").unwrap(), "http");
        assert!(empty.secrets().is_empty());
        assert_eq!(empty.values()["host"], "");
    }
}
