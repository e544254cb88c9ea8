//! What an operator decides about the scheduler.

use std::{path::PathBuf, time::Duration};

use tidemill_outbound::Allow;

use crate::vault::Definitions;

/// The scheduler's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The folder of the DAG files.
    pub dags_dir: PathBuf,
    /// The folder of the task logs.
    pub logs_dir: PathBuf,
    /// Who this server is, for the leadership row; for people.
    pub server: String,
    /// The URL under which workers and stand-bys reach this server.
    pub url: String,
    /// How often the DAG folder is looked through although nothing reported a change. Default 5 s.
    pub rescan_interval: Duration,
    /// How long the folder must be quiet before a change is read. Default 50 ms.
    pub debounce: Duration,
    /// The file of the keys that variables and connections are sealed with; it is made where there is none. Absent: a
    /// key that ends with the process.
    pub secret_key_file: Option<PathBuf>,
    /// Variables and connections of the server's environment.
    pub definitions: Definitions,
    /// How long finished runs and their logs are kept when a DAG does not say; absent: for ever.
    pub retention: Option<Duration>,
    /// How long one delivery of a notification may take. Default 10 s.
    pub delivery_timeout: Duration,
    /// Which addresses notifications may go to although they are not public.
    pub outbound: Allow,
    /// Whether the DAG folder is watched at all. Tests that register DAGs by hand switch it off.
    pub is_folder_watched: bool,
    /// Whether housekeeping runs (retention, checkpoints, expiry). Default true.
    pub has_housekeeping: bool,
}

/// Why options were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// An interval is zero.
    #[error("{0} must be longer than zero")]
    ZeroInterval(&'static str),
    /// The rescan is the net under the notifications of the file system.
    #[error("rescan_interval must not be longer than an hour")]
    RescanTooRare,
}

impl Options {
    /// Returns the defaults for two folders.
    #[must_use]
    pub fn new(dags_dir: impl Into<PathBuf>, logs_dir: impl Into<PathBuf>) -> Self {
        Self {
            dags_dir: dags_dir.into(),
            logs_dir: logs_dir.into(),
            server: format!("tidemill[{}]", std::process::id()),
            url: String::new(),
            rescan_interval: Duration::from_secs(5),
            debounce: Duration::from_millis(50),
            secret_key_file: None,
            definitions: Definitions::default(),
            retention: None,
            delivery_timeout: Duration::from_secs(10),
            outbound: Allow::default(),
            is_folder_watched: true,
            has_housekeeping: true,
        }
    }

    /// Checks the options against each other.
    ///
    /// # Errors
    /// [`OptionsError`].
    pub fn validate(&self) -> Result<(), OptionsError> {
        for (name, value) in
            [("rescan_interval", self.rescan_interval), ("delivery_timeout", self.delivery_timeout)]
        {
            if value.is_zero() {
                return Err(OptionsError::ZeroInterval(name));
            }
        }
        if self.rescan_interval > Duration::from_secs(3600) {
            return Err(OptionsError::RescanTooRare);
        }
        Ok(())
    }
}
