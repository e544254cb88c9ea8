//! The guardian: a small process that ends what its worker can no longer end.
//!
//! ```text
//! worker ──pipe, one JSON message a line──▶ guardian
//!   watch    a try: how its processes are found, until when it may run
//!   contact  start of the last answered request
//!   forget   nothing of the try lives any more
//! (closed)   the worker is dead: kill everything that is still watched, then end
//! ```
//!
//! While the worker lives the guardian acts only past a deadline: 25 s after the last contact, which a worker
//! that hangs or is stopped does not move any more, or past a try's own deadline. It ignores the signals that
//! a terminal or a service manager sends to everybody, runs in a process group of its own and uses one thread.

mod client;
mod process;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use client::Guardian;
pub use process::main;

use crate::process::tree::Target;

/// The line that a guardian prints once.
const READY: &str = "guardian ready";

/// What the worker tells its guardian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// A try, or more about it.
    Watch {
        /// Which.
        id: String,
        /// How its processes are found.
        target: Target,
        /// The file that is touched before the guardian kills the try while the worker lives.
        mark: PathBuf,
        /// Until when it may run, on the clock that runs in suspend.
        deadline_ms: Option<u64>,
    },
    /// The start of the last answered request, on the same clock.
    Contact {
        /// When.
        at_ms: u64,
    },
    /// The try is over.
    Forget {
        /// Which.
        id: String,
    },
}
