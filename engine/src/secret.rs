//! A value that nobody may read over one's shoulder.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Text that never shows in a log line. It is written out only where it is needed: on the wire to the worker that
/// executes the task, and sealed in the database.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the value; whoever calls this answers for where it goes.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Parts of names whose values are secret wherever they stand, in lower case without separators.
const SENSITIVE: &[&str] = &[
    "accesskey",
    "accountkey",
    "apikey",
    "authorization",
    "authtoken",
    "bearer",
    "clientsecret",
    "connectionstring",
    "credential",
    "keyfiledict",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "pwd",
    "secret",
    "sastoken",
    "serviceaccount",
    "token",
];

/// Whether a name says that its value is secret, as `API_KEY`, `db-password` and `privateKey` do.
#[must_use]
pub fn is_sensitive_name(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    SENSITIVE.iter().any(|part| plain.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter22")), "<secret>");
        assert_eq!(serde_json::to_string(&Secret::new("hunter22")).unwrap(), "\"hunter22\"");
    }

    #[test]
    fn names_tell_what_is_secret() {
        for name in ["API_KEY", "db-password", "privateKey", "slack.token", "AWS_SECRET_ACCESS_KEY", "x_pwd"]
        {
            assert!(is_sensitive_name(name), "{name}");
        }
        for name in ["bucket", "region", "keyspace", "path", "user", "monkey"] {
            assert!(!is_sensitive_name(name), "{name}");
        }
    }
}
