//! Variables and connections: where they come from, how they are sealed, and what a task gets of them.
//!
//! **Invariant:** what is secret leaves this module in three ways only: to the renderer, to the worker that executes the
//! task, and as a `Masker`. A request never gets it back.
//!
//! What the environment of the server defines comes before what is stored ([`Definitions`]).

mod definitions;
mod keys;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

pub use definitions::{CONNECTION_PREFIX, DefinitionError, Definitions, VARIABLE_PREFIX};
pub use keys::{VaultError, add_key};
pub use requests::{ConnectionView, Origin, SetConnection, SetVariable, VariableView};
use tidemill_engine::{
    connection::Connection,
    definition::Problem,
    ids::{ConnectionId, VariableName},
    secret::Secret,
    template::{NamesOutside, Variable},
};
use tidemill_store::{
    ReadError, Reader,
    vault::{ConnectionRow, VariableRow},
};

use self::keys::Keys;

/// Opens and seals.
#[derive(Debug)]
pub(crate) struct Vault {
    /// Where the keys are kept; absent: nowhere, and they are made anew with every start.
    file: Option<PathBuf>,
    keys: RwLock<Result<Arc<Keys>, VaultError>>,
    pub(crate) definitions: Definitions,
    /// Held by whoever reads what is stored to write it changed.
    pub(crate) writing: tokio::sync::Mutex<()>,
}

/// Why something stored cannot be given to a task.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The store did not answer.
    Read(ReadError),
    /// It cannot be opened.
    Vault(VaultError),
}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<VaultError> for LoadError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

/// What was found of what a task needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) connections: BTreeMap<String, Connection>,
}

fn variable_place(name: &VariableName) -> String {
    format!("variable/{name}")
}

fn connection_place(id: &ConnectionId, field: &str) -> String {
    format!("connection/{id}/{field}")
}

impl Vault {
    /// Opens the vault. A key file that cannot be used is told when something has to be sealed or opened: everything
    /// that needs no secret goes on.
    pub(crate) fn new(file: Option<PathBuf>, definitions: Definitions) -> Self {
        let keys = match &file {
            Some(path) => keys::load_or_create(path),
            None => Keys::generate()
                .map_err(|error| VaultError::KeyFile { path: "(none)".to_owned(), why: error.to_string() }),
        };
        if let Err(error) = &keys {
            tracing::error!("{}: {error}; variables and connections cannot be used", error.code());
        }
        let writing = tokio::sync::Mutex::new(());
        Self { file, keys: RwLock::new(keys.map(Arc::new)), definitions, writing }
    }

    /// Reads the key file again: a new key was put into it, or it is back. What was read before stays when it cannot be read.
    pub(crate) fn reload(&self) -> Result<(), VaultError> {
        let Some(path) = &self.file else { return Ok(()) };
        let read = keys::read(path)
            .map(Arc::new)
            .map_err(|why| VaultError::KeyFile { path: path.display().to_string(), why });
        let result = read.as_ref().map(drop).map_err(Clone::clone);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if read.is_ok() || keys.is_err() {
            *keys = read;
        }
        result
    }

    fn keys(&self) -> Result<Arc<Keys>, VaultError> {
        let known = || self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        // One that could not be read may be there by now.
        known().or_else(|_| self.reload().and_then(|()| known()))
    }

    /// Returns the id of the key that seals.
    pub(crate) fn current_key(&self) -> Result<String, VaultError> {
        Ok(self.keys()?.current().to_owned())
    }

    pub(crate) fn seal(&self, place: &str, value: &str) -> Result<String, VaultError> {
        self.keys()?.seal(place, value).map_err(|error| VaultError::KeyFile {
            path: self.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            why: error.to_string(),
        })
    }

    pub(crate) fn open(&self, place: &str, sealed: &str) -> Result<Secret, VaultError> {
        let keys = self.keys()?;
        match keys.open(place, sealed) {
            // The key may have been put into the file since.
            Err(VaultError::OtherKey { .. }) if self.reload().is_ok() => self.keys()?.open(place, sealed),
            result => result,
        }
    }

    pub(crate) fn open_variable(&self, row: &VariableRow) -> Result<Variable, VaultError> {
        let value = self.open(&variable_place(&row.name), &row.value)?;
        Ok(Variable { value, is_secret: row.is_secret })
    }

    pub(crate) fn open_connection(&self, row: &ConnectionRow) -> Result<Connection, VaultError> {
        let open = |field: &str, sealed: &Option<String>| {
            let place = connection_place(&row.id, field);
            sealed.as_ref().map(|sealed| self.open(&place, sealed)).transpose()
        };
        let extra = match open("extra", &row.extra)? {
            Some(text) => serde_json::from_str(text.reveal())
                .map_err(|_| VaultError::Damaged { what: connection_place(&row.id, "extra") })?,
            None => serde_json::Map::new(),
        };
        Ok(Connection {
            id: row.id.clone(),
            kind: row.kind.clone(),
            description: row.description.clone(),
            host: row.host.clone(),
            port: row.port,
            login: row.login.clone(),
            password: open("password", &row.password)?,
            schema: row.schema.clone(),
            extra,
        })
    }

    /// Says what of a DAG does not exist here. Nothing is decrypted for it.
    pub(crate) async fn missing(
        &self,
        reader: &dyn Reader,
        names: &NamesOutside,
    ) -> Result<Vec<Problem>, ReadError> {
        let unknown: Vec<VariableName> = names
            .variables
            .keys()
            .filter(|name| self.definitions.variable(name).is_none())
            .filter_map(|name| VariableName::new(name).ok())
            .collect();
        let ids: Vec<ConnectionId> = names
            .connections
            .keys()
            .filter_map(|id| ConnectionId::new(id).ok())
            .filter(|id| self.definitions.connection(id).is_none())
            .collect();
        // An empty list would ask for all.
        let variables = if unknown.is_empty() { Vec::new() } else { reader.variables(&unknown).await? };
        let connections = if ids.is_empty() { Vec::new() } else { reader.connections(&ids).await? };
        let is_asked = |name: &str| unknown.iter().any(|one| one.as_str() == name);
        let is_asked_for = |id: &str| ids.iter().any(|one| one.as_str() == id);
        Ok(names.missing(
            |name| !is_asked(name) || variables.iter().any(|row| row.name.as_str() == name),
            |id| !is_asked_for(id) || connections.iter().any(|row| row.id.as_str() == id),
        ))
    }

    /// Loads exactly what is named. What does not exist is left out.
    pub(crate) async fn load(
        &self,
        reader: &dyn Reader,
        variables: &BTreeSet<String>,
        connections: &BTreeSet<String>,
    ) -> Result<Found, LoadError> {
        let mut found = Found::default();
        let mut names = Vec::new();
        for name in variables {
            match self.definitions.variable(name) {
                Some(variable) => drop(found.variables.insert(name.clone(), variable.clone())),
                None => names.extend(VariableName::new(name)),
            }
        }
        let mut ids = Vec::new();
        for id in connections.iter().filter_map(|id| ConnectionId::new(id).ok()) {
            match self.definitions.connection(&id) {
                Some(connection) => drop(found.connections.insert(id.to_string(), connection)),
                None => ids.push(id),
            }
        }
        // An empty list would ask for all.
        if !names.is_empty() {
            for row in reader.variables(&names).await? {
                found.variables.insert(row.name.to_string(), self.open_variable(&row)?);
            }
        }
        if !ids.is_empty() {
            for row in reader.connections(&ids).await? {
                found.connections.insert(row.id.to_string(), self.open_connection(&row)?);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_that_is_away_for_a_moment_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let vault = || Vault::new(Some(path.clone()), Definitions::default());
        let first = vault();
        let sealed = first.seal("variable/a", "hunter22").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, "nonsense").unwrap();
        // The keys that were read stay; one that never could read any reads them once they are there.
        assert_eq!(first.reload().unwrap_err().code(), "STO0111");
        assert_eq!(first.open("variable/a", &sealed).unwrap().reveal(), "hunter22");
        let second = vault();
        assert_eq!(second.open("variable/a", &sealed).unwrap_err().code(), "STO0111");
        std::fs::write(&path, text).unwrap();
        assert_eq!(second.open("variable/a", &sealed).unwrap().reveal(), "hunter22");
    }
}
