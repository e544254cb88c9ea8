//! Variables and connections.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_scheduler::Origin;
use utoipa::ToSchema;

/// A variable.
#[derive(Debug, Serialize, ToSchema)]
pub struct VariableView {
    /// Its name, as in `var.name`.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether its value is never shown.
    pub is_secret: bool,
    /// Its value; absent when it is secret or cannot be opened.
    pub value: Option<String>,
    /// Why it cannot be opened, coded.
    pub problem: Option<String>,
    /// `stored` or `environment`.
    pub origin: &'static str,
    /// Who wrote it last.
    pub updated_by: Option<String>,
    /// When.
    pub updated_at: Option<DateTime<Utc>>,
}

fn parts(origin: Origin) -> (&'static str, Option<String>, Option<DateTime<Utc>>) {
    match origin {
        Origin::Environment => ("environment", None, None),
        Origin::Stored { by, at } => ("stored", Some(by), Some(at)),
    }
}

impl From<tidemill_scheduler::VariableView> for VariableView {
    fn from(found: tidemill_scheduler::VariableView) -> Self {
        let (origin, updated_by, updated_at) = parts(found.origin);
        Self {
            name: found.name.to_string(),
            description: found.description,
            is_secret: found.is_secret,
            value: found.value,
            problem: found.problem,
            origin,
            updated_by,
            updated_at,
        }
    }
}

/// What a variable is to be. What is left out stays as it is.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VariableBody {
    /// Its value.
    #[serde(default)]
    pub value: Option<String>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether it is never shown again. A new variable is secret when its name says so.
    #[serde(default)]
    pub is_secret: Option<bool>,
}

/// A connection, without what is secret in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionView {
    /// Its id, as in `conn.id.host`.
    pub id: String,
    /// What it leads to.
    pub kind: String,
    /// For people.
    pub description: String,
    /// The machine.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// Who logs in.
    pub login: Option<String>,
    /// Whether there is a password.
    pub has_password: bool,
    /// The database, or what else stands behind the port.
    pub schema: Option<String>,
    /// Anything else by name, as far as no name says that it is secret.
    #[schema(value_type = Object)]
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Names in `extra` whose values are never shown.
    pub hidden: Vec<String>,
    /// Why it cannot be opened, coded.
    pub problem: Option<String>,
    /// `stored` or `environment`.
    pub origin: &'static str,
    /// Who wrote it last.
    pub updated_by: Option<String>,
    /// When.
    pub updated_at: Option<DateTime<Utc>>,
}

impl From<tidemill_scheduler::ConnectionView> for ConnectionView {
    fn from(found: tidemill_scheduler::ConnectionView) -> Self {
        let (origin, updated_by, updated_at) = parts(found.origin);
        let connection = found.connection;
        Self {
            id: connection.id.to_string(),
            kind: connection.kind,
            description: connection.description,
            host: connection.host,
            port: connection.port,
            login: connection.login,
            has_password: found.has_password,
            schema: connection.schema,
            extra: connection.extra,
            hidden: found.hidden,
            problem: found.problem,
            origin,
            updated_by,
            updated_at,
        }
    }
}

/// What a connection is to be.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionBody {
    /// What it leads to, such as `postgres`, `http`, `smtp`.
    pub kind: String,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// The machine, or a whole URL of a web service.
    #[serde(default)]
    pub host: Option<String>,
    /// The port.
    #[serde(default)]
    pub port: Option<u16>,
    /// Who logs in.
    #[serde(default)]
    pub login: Option<String>,
    /// What proves it. Absent: the stored one stays; empty: it goes.
    #[serde(default)]
    pub password: Option<String>,
    /// The database, or what else stands behind the port.
    #[serde(default)]
    pub schema: Option<String>,
    /// Anything else by name; all of it is encrypted.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Names in `extra` whose stored values stay.
    #[serde(default)]
    pub keep: Vec<String>,
}

/// What was sealed anew.
#[derive(Debug, Serialize, ToSchema)]
pub struct SealedView {
    /// The id of the key that seals now.
    pub key: String,
    /// How many variables and connections were sealed with it.
    pub sealed: usize,
}
