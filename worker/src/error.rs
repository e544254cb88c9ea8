//! Why a worker cannot start or go on. How a *try* ends is in [`crate::outcome`].

use std::path::PathBuf;

/// Why a worker cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option cannot work.
    #[error("WRK0001: option {option} {why}")]
    Options {
        /// Which.
        option: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The server's URL cannot be used.
    #[error("WRK0002: the server URL {url:?} cannot be used: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The work folder cannot be used.
    #[error("WRK0003: cannot use {path} in the work folder")]
    WorkDir {
        /// What was touched.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another worker has the work folder.
    #[error("WRK0004: the work folder {path} is in use by {owner}")]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Who has it, as far as it is known.
        owner: String,
    },
    /// The server refuses the credential.
    #[error("WRK0005: the server refuses this worker's credential ({status})")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The guardian process cannot be started.
    #[error("WRK0006: cannot start the guardian process {program}")]
    Guardian {
        /// What was started.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server does not speak this version of the protocol.
    #[error(
        "WRK0007: the server does not speak version {version} of the worker protocol ({status}): {detail}"
    )]
    Protocol {
        /// Ours.
        version: u32,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        detail: String,
    },
    /// A thread or a limit of the process could not be set up.
    #[error("WRK0008: cannot set up the worker's process: {what}")]
    Setup {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_system_is_named_and_its_cause_is_kept() {
        let source = std::io::Error::from_raw_os_error(11);
        let error = Error::Setup { what: "the heartbeat thread", source };
        assert_eq!(error.to_string(), "WRK0008: cannot set up the worker's process: the heartbeat thread");
        assert!(std::error::Error::source(&error).is_some());
    }
}
