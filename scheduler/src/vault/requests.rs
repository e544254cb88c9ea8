//! What people ask of variables and connections. A secret can be written and used, never read back.

use chrono::{DateTime, Utc};
use tidemill_engine::{
    connection::Connection,
    ids::{ConnectionId, VariableName},
    secret::{Secret, is_sensitive_name},
    template::RESERVED_VARIABLES,
};
use tidemill_store::vault::{ConnectionRow, VariableRow, VaultChange};

use super::{VaultError, connection_place, variable_place};
use crate::{
    error::{CallError, InvalidRequest, Unavailable},
    handle::{Handle, chain},
    request::AdminWrite,
};

/// The longest value of a variable, in bytes: it has to fit one variable of a process's environment.
const VALUE_LIMIT_BYTES: usize = 64 * 1024;
/// The longest field of a connection, in bytes.
const FIELD_LIMIT_BYTES: usize = 64 * 1024;

/// Where something comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The environment of this server.
    Environment,
    /// The database.
    Stored {
        /// Who wrote it last.
        by: String,
        /// When.
        at: DateTime<Utc>,
    },
}

/// A variable as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableView {
    /// Its name.
    pub name: VariableName,
    /// For people.
    pub description: String,
    /// Whether its value is never shown.
    pub is_secret: bool,
    /// Its value, where it is not secret and can be opened.
    pub value: Option<String>,
    /// Why it cannot be opened, coded.
    pub problem: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A connection as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// It, without its password; of `extra` only what no name calls secret.
    pub connection: Connection,
    /// Whether it has a password.
    pub has_password: bool,
    /// Names in `extra` whose values are not shown.
    pub hidden: Vec<String>,
    /// Why it cannot be opened, coded.
    pub problem: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a variable is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetVariable {
    /// Its value; absent: it stays.
    pub value: Option<Secret>,
    /// For people; absent: it stays.
    pub description: Option<String>,
    /// Whether it is secret; absent: it stays, and a new one is when its name says so.
    pub is_secret: Option<bool>,
}

/// What a connection is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetConnection {
    /// It. Without a password the stored one stays.
    pub connection: Connection,
    /// The stored password goes.
    pub is_password_removed: bool,
    /// Names in `extra` whose stored values stay, as nobody could have typed them again.
    pub kept: Vec<String>,
}

impl From<VaultError> for CallError {
    fn from(error: VaultError) -> Self {
        Unavailable::Vault(error).into()
    }
}

fn read(error: tidemill_store::ReadError) -> CallError {
    Unavailable::Store { reason: chain(&error) }.into()
}

fn wrong(what: impl Into<String>) -> CallError {
    InvalidRequest::Stored { what: what.into() }.into()
}

/// Splits `extra` into what may be shown and the names of the rest.
fn shown(mut connection: Connection) -> (Connection, Vec<String>) {
    let secrets = connection.secrets();
    connection.password = None;
    let is_hidden = |value: &serde_json::Value| {
        let text = value.to_string();
        secrets.iter().any(|secret| {
            let quoted = serde_json::Value::from(secret.reveal()).to_string();
            text.contains(&quoted[1..quoted.len() - 1])
        })
    };
    let hidden: Vec<String> =
        connection.extra.iter().filter(|(_, value)| is_hidden(value)).map(|(name, _)| name.clone()).collect();
    connection.extra.retain(|name, _| !hidden.contains(name));
    (connection, hidden)
}

impl Handle {
    /// Returns the variables by name, the values of secret ones left out.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn variables(&self) -> Result<Vec<VariableView>, CallError> {
        let vault = &self.shared.vault;
        let rows = self.shared.reader.variables(&[]).await.map_err(read)?;
        let defined = vault.definitions.variables().map(|(name, variable)| VariableView {
            name: name.clone(),
            description: String::new(),
            is_secret: variable.is_secret,
            value: (!variable.is_secret).then(|| variable.value.reveal().to_owned()),
            problem: None,
            origin: Origin::Environment,
        });
        let mut all: Vec<VariableView> = defined.collect();
        for row in rows.into_iter().filter(|row| vault.definitions.variable(row.name.as_str()).is_none()) {
            let opened = vault.open_variable(&row);
            all.push(VariableView {
                problem: opened.as_ref().err().map(|error| format!("{}: {error}", error.code())),
                value: opened.ok().filter(|v| !v.is_secret).map(|v| v.value.reveal().to_owned()),
                name: row.name,
                description: row.description,
                is_secret: row.is_secret,
                origin: Origin::Stored { by: row.updated_by, at: row.updated_at },
            });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Makes or changes a variable.
    ///
    /// # Errors
    /// [`CallError`]: SCH0247, SCH0248, STO0111 or unavailable.
    pub async fn set_variable(
        &self,
        name: VariableName,
        set: SetVariable,
        by: &str,
        mut side: AdminWrite,
    ) -> Result<(), CallError> {
        let vault = &self.shared.vault;
        if RESERVED_VARIABLES.contains(&name.as_str()) {
            return Err(wrong(format!(
                "a variable cannot be called `{name}`: `var.{name}` is a form of `var`"
            )));
        }
        if vault.definitions.variable(name.as_str()).is_some() {
            return Err(InvalidRequest::Defined { what: format!("variable {name}") }.into());
        }
        let _writing = vault.writing.lock().await;
        let old = self.shared.reader.variables(std::slice::from_ref(&name)).await.map_err(read)?.pop();
        let value = match (&set.value, &old) {
            (Some(value), _) if value.reveal().len() > VALUE_LIMIT_BYTES => {
                let size = value.reveal().len();
                return Err(wrong(format!(
                    "the value has {size} bytes; at most {VALUE_LIMIT_BYTES} are kept"
                )));
            }
            (Some(value), _) if value.reveal().contains('\0') => {
                return Err(wrong("the value holds a NUL character, which no process can be given"));
            }
            (Some(value), _) => vault.seal(&variable_place(&name), value.reveal())?,
            (None, Some(old)) => old.value.clone(),
            (None, None) => return Err(wrong(format!("the new variable {name} needs a value"))),
        };
        // A secret that becomes plain would be shown to everybody who can read, so it takes its value again.
        let was_secret = old.as_ref().is_some_and(|old| old.is_secret);
        let is_secret = set.is_secret.unwrap_or_else(|| match &old {
            Some(old) => old.is_secret,
            None => is_sensitive_name(name.as_str()),
        });
        if was_secret && !is_secret && set.value.is_none() {
            return Err(wrong("a secret becomes plain only together with a new value"));
        }
        side.vault.push(VaultChange::SetVariable(VariableRow {
            description: set.description.or_else(|| old.map(|old| old.description)).unwrap_or_default(),
            name,
            is_secret,
            value,
            updated_by: by.to_owned(),
            updated_at: tidemill_store::to_micros(self.shared.clock.now().wall),
        }));
        self.write(side).await
    }

    /// Deletes a variable.
    ///
    /// # Errors
    /// [`CallError`]: SCH0245, SCH0247 or unavailable.
    pub async fn delete_variable(&self, name: VariableName, mut side: AdminWrite) -> Result<(), CallError> {
        let vault = &self.shared.vault;
        if vault.definitions.variable(name.as_str()).is_some() {
            return Err(InvalidRequest::Defined { what: format!("variable {name}") }.into());
        }
        let _writing = vault.writing.lock().await;
        if self.shared.reader.variables(std::slice::from_ref(&name)).await.map_err(read)?.is_empty() {
            return Err(InvalidRequest::NotStored { what: format!("variable {name}") }.into());
        }
        side.vault.push(VaultChange::DeleteVariable(name));
        self.write(side).await
    }

    /// Returns the connections by id, without what is secret in them.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn connections(&self) -> Result<Vec<ConnectionView>, CallError> {
        let vault = &self.shared.vault;
        let view = |connection: Connection, origin| {
            let has_password = connection.password.is_some();
            let (connection, hidden) = shown(connection);
            ConnectionView { connection, has_password, hidden, problem: None, origin }
        };
        let mut all: Vec<ConnectionView> =
            vault.definitions.connections().map(|c| view(c.clone(), Origin::Environment)).collect();
        for row in self.shared.reader.connections(&[]).await.map_err(read)? {
            if vault.definitions.connection(&row.id).is_some() {
                continue;
            }
            let origin = Origin::Stored { by: row.updated_by.clone(), at: row.updated_at };
            all.push(match vault.open_connection(&row) {
                Ok(connection) => view(connection, origin),
                Err(error) => {
                    let has_password = row.password.is_some();
                    let bare = ConnectionRow { password: None, extra: None, ..row };
                    let connection = vault.open_connection(&bare)?;
                    let problem = Some(format!("{}: {error}", error.code()));
                    ConnectionView { connection, has_password, hidden: Vec::new(), problem, origin }
                }
            });
        }
        all.sort_by(|a, b| a.connection.id.cmp(&b.connection.id));
        Ok(all)
    }

    /// Makes or replaces a connection.
    ///
    /// # Errors
    /// [`CallError`]: SCH0247, SCH0248, STO0111 or unavailable.
    pub async fn set_connection(
        &self,
        set: SetConnection,
        by: &str,
        mut side: AdminWrite,
    ) -> Result<(), CallError> {
        let vault = &self.shared.vault;
        let SetConnection { mut connection, is_password_removed, kept } = set;
        let id = connection.id.clone();
        check(&connection)?;
        if vault.definitions.connection(&id).is_some() {
            return Err(InvalidRequest::Defined { what: format!("connection {id}") }.into());
        }
        let _writing = vault.writing.lock().await;
        let old = self.shared.reader.connections(std::slice::from_ref(&id)).await.map_err(read)?.pop();
        if let Some(old) = &old
            && !kept.is_empty()
        {
            let old = vault.open_connection(old)?;
            for (name, value) in old.extra.into_iter().filter(|(name, _)| kept.contains(name)) {
                connection.extra.entry(name).or_insert(value);
            }
        }
        let password = match &connection.password {
            Some(password) => Some(vault.seal(&connection_place(&id, "password"), password.reveal())?),
            None if is_password_removed => None,
            None => old.and_then(|old| old.password),
        };
        let extra = match connection.extra.is_empty() {
            true => None,
            false => {
                let text = serde_json::Value::Object(connection.extra).to_string();
                Some(vault.seal(&connection_place(&id, "extra"), &text)?)
            }
        };
        side.vault.push(VaultChange::SetConnection(ConnectionRow {
            id,
            kind: connection.kind,
            description: connection.description,
            host: connection.host,
            port: connection.port,
            login: connection.login,
            schema: connection.schema,
            password,
            extra,
            updated_by: by.to_owned(),
            updated_at: tidemill_store::to_micros(self.shared.clock.now().wall),
        }));
        self.write(side).await
    }

    /// Deletes a connection.
    ///
    /// # Errors
    /// [`CallError`]: SCH0246, SCH0247 or unavailable.
    pub async fn delete_connection(&self, id: ConnectionId, mut side: AdminWrite) -> Result<(), CallError> {
        let vault = &self.shared.vault;
        if vault.definitions.connection(&id).is_some() {
            return Err(InvalidRequest::Defined { what: format!("connection {id}") }.into());
        }
        let _writing = vault.writing.lock().await;
        if self.shared.reader.connections(std::slice::from_ref(&id)).await.map_err(read)?.is_empty() {
            return Err(InvalidRequest::NotStored { what: format!("connection {id}") }.into());
        }
        side.vault.push(VaultChange::DeleteConnection(id));
        self.write(side).await
    }

    /// Reads the key file again and seals everything with its first key. Returns the id of that key and how many rows
    /// were sealed anew. What does not open stays as it is and fails the whole: its key would be thrown away.
    ///
    /// # Errors
    /// [`CallError`]: STO0110 to STO0112 or unavailable.
    pub async fn seal_anew(&self, mut side: AdminWrite) -> Result<(String, usize), CallError> {
        let vault = &self.shared.vault;
        let _writing = vault.writing.lock().await;
        vault.reload()?;
        let key = vault.current_key()?;
        for mut row in self.shared.reader.variables(&[]).await.map_err(read)? {
            let value = vault.open_variable(&row)?.value;
            row.value = vault.seal(&variable_place(&row.name), value.reveal())?;
            side.vault.push(VaultChange::SetVariable(row));
        }
        for mut row in self.shared.reader.connections(&[]).await.map_err(read)? {
            let again = |field: &str, sealed: &Option<String>| -> Result<Option<String>, VaultError> {
                let place = connection_place(&row.id, field);
                let opened = sealed.as_ref().map(|sealed| vault.open(&place, sealed)).transpose()?;
                opened.map(|value| vault.seal(&place, value.reveal())).transpose()
            };
            (row.password, row.extra) = (again("password", &row.password)?, again("extra", &row.extra)?);
            side.vault.push(VaultChange::SetConnection(row));
        }
        let count = side.vault.len();
        self.write(side).await?;
        Ok((key, count))
    }
}

fn check(connection: &Connection) -> Result<(), CallError> {
    if connection.kind.is_empty() {
        return Err(wrong("a connection needs a kind, such as postgres, http or smtp"));
    }
    let is_kind = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '.');
    if !connection.kind.chars().all(is_kind) {
        return Err(wrong("the kind of a connection has letters, digits, `-`, `_`, `+` and `.` only"));
    }
    let extra = serde_json::Value::Object(connection.extra.clone()).to_string();
    let fields = [
        ("host", connection.host.as_deref()),
        ("login", connection.login.as_deref()),
        ("password", connection.password.as_ref().map(Secret::reveal)),
        ("schema", connection.schema.as_deref()),
        ("description", Some(connection.description.as_str())),
        ("extra", Some(extra.as_str())),
    ];
    for (name, value) in fields {
        if value.is_some_and(|value| value.len() > FIELD_LIMIT_BYTES || value.contains('\0')) {
            return Err(wrong(format!(
                "`{name}` is longer than {FIELD_LIMIT_BYTES} bytes or holds a NUL character"
            )));
        }
    }
    Ok(())
}
