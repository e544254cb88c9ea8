//! Variables and connections as they are stored. The store never sees what is secret in them: it keeps sealed text,
//! and the key is elsewhere.

use chrono::{DateTime, Utc};
use tidemill_engine::ids::{ConnectionId, VariableName};

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableRow {
    /// Its name.
    pub name: VariableName,
    /// For people.
    pub description: String,
    /// Whether it is never shown again and masked in logs. Every value is sealed, secret or not.
    pub is_secret: bool,
    /// The value, sealed.
    pub value: String,
    /// Who wrote it last.
    pub updated_by: String,
    /// When.
    pub updated_at: DateTime<Utc>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Its id.
    pub id: ConnectionId,
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
    /// The database, or what else stands behind the port.
    pub schema: Option<String>,
    /// The password, sealed.
    pub password: Option<String>,
    /// A JSON object of everything else, sealed.
    pub extra: Option<String>,
    /// Who wrote it last.
    pub updated_by: String,
    /// When.
    pub updated_at: DateTime<Utc>,
}

/// A change of variables and connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultChange {
    /// A variable, inserted or replaced by its name.
    SetVariable(VariableRow),
    /// A variable is deleted; one that is not there is no error.
    DeleteVariable(VariableName),
    /// A connection, inserted or replaced by its id.
    SetConnection(ConnectionRow),
    /// A connection is deleted; one that is not there is no error.
    DeleteConnection(ConnectionId),
}

impl VaultChange {
    /// Whether everything that has to be sealed is, as the schema checks it in a database.
    pub(crate) fn is_sealed(&self) -> bool {
        let is_sealed = |text: &String| text.starts_with("v1:");
        match self {
            Self::SetVariable(row) => is_sealed(&row.value),
            Self::SetConnection(row) => row.password.iter().chain(&row.extra).all(is_sealed),
            Self::DeleteVariable(_) | Self::DeleteConnection(_) => true,
        }
    }
}
