//! What a try was given, as it goes to its worker and as it is stored.
//!
//! **Invariant:** what is stored in clear shows no secret. Where there is one, the whole is stored beside it, sealed for
//! this attempt alone, so that a server that is started anew delivers exactly the same again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tidemill_engine::{connection::Connection, ids::AttemptKey, mask::Masker, secret::Secret};
use tidemill_protocol::worker::Work;

use crate::{
    prepare::Inputs,
    vault::{Vault, VaultError},
};

/// The key under which the sealed whole is stored.
const SEALED: &str = "sealed";

/// What is delivered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rendered {
    pub(crate) work: Work,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) inputs: Inputs,
    #[serde(default)]
    pub(crate) connections: BTreeMap<String, Connection>,
    #[serde(default)]
    pub(crate) secrets: Vec<Secret>,
}

fn place(attempt: &AttemptKey) -> String {
    let key = &attempt.instance;
    format!("try/{}/{}/{}/{}/{}", key.run, key.task, key.map_index, attempt.try_number, attempt.epoch)
}

impl Rendered {
    /// Returns what is stored of it.
    pub(crate) fn stored(&self, attempt: &AttemptKey, vault: &Vault) -> Result<Json, VaultError> {
        // Its keys are text, so it always is JSON.
        let mut shown = json!({"work": self.work, "env": self.env, "inputs": self.inputs});
        if self.secrets.is_empty() && self.connections.is_empty() {
            return Ok(shown);
        }
        Masker::new(&self.secrets).mask_json(&mut shown);
        let whole = serde_json::to_string(self).unwrap_or_default();
        if let Json::Object(map) = &mut shown {
            map.insert("connections".to_owned(), json!(self.connections.keys().collect::<Vec<_>>()));
            map.insert(SEALED.to_owned(), Json::from(vault.seal(&place(attempt), &whole)?));
        }
        Ok(shown)
    }

    /// Reads what [`Rendered::stored`] returned; nothing for what another version of this program stored.
    pub(crate) fn read(
        stored: Json,
        attempt: &AttemptKey,
        vault: &Vault,
    ) -> Result<Option<Self>, VaultError> {
        let Some(sealed) = stored.get(SEALED).and_then(Json::as_str) else {
            return Ok(serde_json::from_value(stored).ok());
        };
        let whole = vault.open(&place(attempt), sealed)?;
        Ok(serde_json::from_str(whole.reveal()).ok())
    }
}

/// Returns what people may see of the stored work of a try.
#[must_use]
pub fn shown_work(mut stored: Json) -> Json {
    if let Json::Object(map) = &mut stored {
        map.remove(SEALED);
    }
    stored
}

#[cfg(test)]
mod tests {
    use tidemill_engine::ids::{ConnectionId, RunKey, TaskId, TaskInstanceKey};

    use super::*;
    use crate::vault::Definitions;

    #[test]
    fn what_is_stored_shows_no_secret_and_gives_everything_back_to_its_own_attempt() {
        let vault = Vault::new(None, Definitions::default());
        let attempt = |epoch| AttemptKey {
            instance: TaskInstanceKey { run: RunKey(1), task: TaskId::new("a").unwrap(), map_index: -1 },
            try_number: 1,
            epoch,
        };
        let mut connection = Connection::new(ConnectionId::new("db").unwrap(), "postgres");
        connection.password = Some(Secret::new("hunter22"));
        let rendered = Rendered {
            work: Work::Shell { script: "x".to_owned() },
            env: BTreeMap::from([("PW".to_owned(), "is hunter22".to_owned())]),
            inputs: Inputs::new(),
            connections: BTreeMap::from([("db".to_owned(), connection)]),
            secrets: vec![Secret::new("hunter22")],
        };
        let stored = rendered.stored(&attempt(1), &vault).unwrap();
        assert!(!stored.to_string().contains("hunter22"), "{stored}");
        let again = Rendered::read(stored.clone(), &attempt(1), &vault).unwrap().unwrap();
        assert_eq!((again.env, again.connections), (rendered.env, rendered.connections));
        assert_eq!(Rendered::read(stored.clone(), &attempt(2), &vault).unwrap_err().code(), "STO0112");
        let shown = shown_work(stored);
        assert_eq!((&shown["env"]["PW"], &shown["connections"]), (&json!("is ***"), &json!(["db"])));
        assert!(shown.get("sealed").is_none());
    }
}
