//! SIGTERM and Ctrl-C: the first asks to stop, the second ends the process at once.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    error::{CliError, Result},
    report::say,
};

/// Two signals within this are one request: `timeout` and service managers signal the process and its group.
const SAME_REQUEST: Duration = Duration::from_millis(200);
/// The exit code of a process that was told twice.
const AT_ONCE: i32 = 130;

/// The signals that stop a process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts to catch the signals.
    ///
    /// # Errors
    /// CFG0106.
    pub(crate) fn catch() -> Result<Self> {
        let failed = |source| CliError::Setup { what: "signals", source };
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for a signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Ends the process at once when another signal arrives. Tasks that run are killed by the guardian.
    pub(crate) fn exit_on_next(mut self) {
        tokio::spawn(async move {
            let first = Instant::now();
            loop {
                self.next().await;
                if first.elapsed() >= SAME_REQUEST {
                    break;
                }
            }
            say("told twice: ending at once");
            std::process::exit(AT_ONCE);
        });
    }
}
