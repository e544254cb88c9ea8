//! Variables and connections that the environment of the server defines: `TIDEMILL_VAR_NAME`, `TIDEMILL_CONN_ID`.
//!
//! They come before stored ones of the same name and cannot be changed by a request. A variable of the environment has
//! few characters to choose from, so `my-db.main`, `MY_DB_MAIN` and `my_db_main` are one name here.

use std::collections::BTreeMap;

use tidemill_engine::{
    connection::Connection,
    ids::{ConnectionId, VariableName},
    secret::{Secret, is_sensitive_name},
    template::Variable,
};

/// How a variable of the environment that defines a variable begins.
pub const VARIABLE_PREFIX: &str = "TIDEMILL_VAR_";
/// How a variable of the environment that defines a connection begins.
pub const CONNECTION_PREFIX: &str = "TIDEMILL_CONN_";

/// What the environment defines, by folded name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    variables: BTreeMap<String, (VariableName, Variable)>,
    connections: BTreeMap<String, Connection>,
}

/// A variable of the environment defines nothing that can be used. It never holds the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is no connection: {why}")]
pub struct DefinitionError {
    /// The variable of the environment.
    pub name: String,
    /// Why.
    pub why: String,
}

/// Returns the name under which all spellings meet.
fn fold(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '.' | '-') { '_' } else { c.to_ascii_lowercase() }).collect()
}

impl Definitions {
    /// Reads the definitions among the variables of an environment. Others are passed over.
    ///
    /// # Errors
    /// [`DefinitionError`] for a connection that is neither a URI nor JSON.
    pub fn read(environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, DefinitionError> {
        let mut found = Self::default();
        for (name, text) in environment {
            if let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) {
                let Ok(id) = VariableName::new(rest.to_ascii_lowercase()) else { continue };
                let variable = Variable { value: Secret::new(text), is_secret: is_sensitive_name(rest) };
                found.variables.insert(fold(rest), (id, variable));
            } else if let Some(rest) = name.strip_prefix(CONNECTION_PREFIX) {
                let Ok(id) = ConnectionId::new(rest.to_ascii_lowercase()) else { continue };
                let connection = Connection::from_text(id, &text)
                    .map_err(|why| DefinitionError { name: name.clone(), why })?;
                found.connections.insert(fold(rest), connection);
            }
        }
        Ok(found)
    }

    /// Returns a variable.
    pub(crate) fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.get(&fold(name)).map(|(_, variable)| variable)
    }

    /// Returns a connection, under the id that was asked for.
    pub(crate) fn connection(&self, id: &ConnectionId) -> Option<Connection> {
        self.connections.get(&fold(id.as_str())).map(|found| Connection { id: id.clone(), ..found.clone() })
    }

    /// Returns every variable.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&VariableName, &Variable)> {
        self.variables.values().map(|(name, variable)| (name, variable))
    }

    /// Returns every connection.
    pub(crate) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Definitions, DefinitionError> {
        Definitions::read(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())))
    }

    #[test]
    fn every_spelling_of_a_name_finds_it() {
        let found = read(&[
            ("TIDEMILL_VAR_MY_BUCKET", "s3://x"),
            ("TIDEMILL_VAR_API_TOKEN", "tok-123"),
            ("TIDEMILL_CONN_WARE_HOUSE", "postgres://ann:pw@db/sales"),
            (
                "TIDEMILL_CONN_JSON",
                r#"{"conn_type": "http", "host": "h", "port": "80", "extra": "{\"a\": 1}"}"#,
            ),
            ("OTHER", "x"),
        ])
        .unwrap();
        assert_eq!(found.variable("my-bucket").unwrap().value.reveal(), "s3://x");
        assert!(!found.variable("My_Bucket").unwrap().is_secret);
        assert!(found.variable("api_token").unwrap().is_secret);
        let id = ConnectionId::new("ware-house").unwrap();
        assert_eq!(found.connection(&id).unwrap().id, id);
        let json = found.connection(&ConnectionId::new("json").unwrap()).unwrap();
        assert_eq!((json.kind.as_str(), json.port, &json.extra["a"]), ("http", Some(80), &1.into()));
        assert_eq!((found.variables().count(), found.connections().count()), (2, 2));
    }

    #[test]
    fn what_is_no_connection_names_its_variable_and_not_its_value() {
        for text in ["hunter22", "{\"password\": hunter22}", "{\"port\": \"hunter22\"}", "{\"hunter22\": 1}"]
        {
            let error = read(&[("TIDEMILL_CONN_X", text)]).unwrap_err();
            assert_eq!(error.name, "TIDEMILL_CONN_X");
            assert!(!error.to_string().contains("hunter22") || text.contains("\"hunter22\": 1"), "{error}");
        }
    }
}
