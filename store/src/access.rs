//! Who may do what: roles, tokens, sessions, keys.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tidemill_engine::ids::{RunKey, WorkerId};

use crate::batch::AuditEntry;

/// A role, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything but secrets.
    Viewer,
    /// Also acts on runs and pauses DAGs.
    Operator,
    /// Also manages pools, tokens and people.
    Admin,
}

impl Role {
    /// Every role, weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Returns the stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Returns the role that the word stands for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change of who may do what. Secrets arrive hashed: SHA-256, hexadecimal.
#[derive(Clone, Debug, PartialEq)]
pub enum AccessChange {
    /// An API token, inserted or replaced by its id.
    Token(ApiToken),
    /// A session, inserted or replaced by its hash.
    Session(Session),
    /// A session that ends.
    EndSession {
        /// Its hash.
        hash: String,
    },
    /// A login link.
    LoginLink(LoginLink),
    /// A worker's key, inserted or replaced by its hash.
    WorkerKey(WorkerKey),
    /// Every key of a worker stops working.
    RevokeWorker {
        /// Which.
        worker: WorkerId,
        /// When.
        at: DateTime<Utc>,
    },
    /// A join token, inserted or replaced by its id.
    JoinToken(JoinToken),
}

/// A bearer token of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Its public id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the secret, hexadecimal.
    #[serde(skip)]
    pub hash: String,
    /// Who made it.
    pub created_by: String,
    /// Made at.
    pub created_at: DateTime<Utc>,
    /// Stops working at.
    pub expires_at: Option<DateTime<Utc>>,
    /// Revoked at.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A session of a person's browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// SHA-256 of the cookie's secret, hexadecimal.
    #[serde(skip)]
    pub hash: String,
    /// Who.
    pub actor: String,
    /// What they may do.
    pub role: Role,
    /// Began at.
    pub created_at: DateTime<Utc>,
    /// Ends at.
    pub expires_at: DateTime<Utc>,
}

impl Session {
    /// Returns the entry of the audit log that is written with the beginning of the session.
    pub(crate) fn begun(&self) -> AuditEntry {
        AuditEntry {
            at: self.created_at,
            actor: self.actor.clone(),
            action: "session.begin".to_owned(),
            subject: format!("person/{}", self.actor),
            detail: serde_json::json!({ "role": self.role, "expires_at": self.expires_at }),
        }
    }
}

/// A link that opens one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginLink {
    /// SHA-256 of the link's secret, hexadecimal.
    #[serde(skip)]
    pub hash: String,
    /// Who it is for.
    pub actor: String,
    /// The role of its session.
    pub role: Role,
    /// Made at.
    pub created_at: DateTime<Utc>,
    /// Stops working at.
    pub expires_at: DateTime<Utc>,
    /// Used at; it works once.
    pub used_at: Option<DateTime<Utc>>,
}

/// The key of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerKey {
    /// SHA-256 of the key, hexadecimal.
    #[serde(skip)]
    pub hash: String,
    /// Whose.
    pub worker: WorkerId,
    /// Made at.
    pub created_at: DateTime<Utc>,
    /// Revoked at.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A token that a worker exchanges for its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its public id.
    pub id: String,
    /// SHA-256 of the secret, hexadecimal.
    #[serde(skip)]
    pub hash: String,
    /// Who made it.
    pub created_by: String,
    /// Made at.
    pub created_at: DateTime<Utc>,
    /// Stops working at.
    pub expires_at: Option<DateTime<Utc>>,
    /// Revoked at.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Which run an `Idempotency-Key` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRow {
    /// SHA-256 of actor, route and key, hexadecimal.
    pub key_hash: String,
    /// SHA-256 of the request's body, hexadecimal: the same key with another body is a conflict.
    pub request_hash: String,
    /// The run.
    pub run: RunKey,
    /// When.
    pub created_at: DateTime<Utc>,
}
