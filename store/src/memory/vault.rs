//! Variables and connections of the memory twin.

use tidemill_engine::ids::{ConnectionId, VariableName};

use super::{
    State,
    apply::{Apply, constraint},
};
use crate::{
    batch::Batch,
    error::CommitError,
    vault::{ConnectionRow, VariableRow, VaultChange},
};

impl Apply<'_> {
    pub(super) fn vault(&mut self, batch: &Batch) -> Result<(), CommitError> {
        for change in &batch.vault {
            if !change.is_sealed() {
                return Err(constraint(None, "a value is not sealed"));
            }
            match change {
                VaultChange::SetVariable(row) => {
                    self.set(|s| &mut s.variables, row.name.clone(), Some(row.clone()));
                }
                VaultChange::DeleteVariable(name) => self.set(|s| &mut s.variables, name.clone(), None),
                VaultChange::SetConnection(row) => {
                    self.set(|s| &mut s.connections, row.id.clone(), Some(row.clone()));
                }
                VaultChange::DeleteConnection(id) => self.set(|s| &mut s.connections, id.clone(), None),
            }
        }
        Ok(())
    }
}

impl State {
    pub(super) fn variables_named(&self, names: &[VariableName]) -> Vec<VariableRow> {
        let is_asked = |row: &&VariableRow| names.is_empty() || names.contains(&row.name);
        self.variables.values().filter(is_asked).cloned().collect()
    }

    pub(super) fn connections_named(&self, ids: &[ConnectionId]) -> Vec<ConnectionRow> {
        let is_asked = |row: &&ConnectionRow| ids.is_empty() || ids.contains(&row.id);
        self.connections.values().filter(is_asked).cloned().collect()
    }
}
