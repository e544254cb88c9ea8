//! Following a log as it grows.

use std::time::Duration;

use tidemill_engine::ids::AttemptKey;
use tidemill_scheduler::Change;
use tokio::sync::broadcast;

use crate::state::WebState;

/// How much is read at a time, in bytes.
const CHUNK: usize = 64 * 1024;
/// The net under missed notifications.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A stream ends after this long and the browser comes back, so that a session that was ended is noticed.
const STREAM_LIFETIME: Duration = Duration::from_secs(300);

/// Reads a log from an offset and waits for more.
pub(crate) struct LogTail {
    state: WebState,
    attempt: AttemptKey,
    offset: u64,
    changes: broadcast::Receiver<Change>,
    started: tokio::time::Instant,
    has_ended: bool,
}

impl LogTail {
    pub(crate) fn new(state: &WebState, attempt: AttemptKey, offset: u64) -> Self {
        Self {
            state: state.clone(),
            attempt,
            offset,
            // Subscribed before the first read, so that no growth falls between.
            changes: state.handle().subscribe(),
            started: tokio::time::Instant::now(),
            has_ended: false,
        }
    }

    /// Where the next bytes begin.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the try has ended and everything was read.
    pub(crate) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns the next bytes; nothing more when the try has ended, the server stops or the stream is old.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        let stopped = self.state.stopped();
        tokio::pin!(stopped);
        loop {
            // The end is looked up before the log: what was written before the end is then certainly read.
            let is_over = self.is_over().await;
            let slice = self.state.handle().read_log(self.attempt.clone(), self.offset, CHUNK).await.ok()?;
            if !slice.bytes.is_empty() {
                self.offset += u64::try_from(slice.bytes.len()).unwrap_or(0);
                return Some(slice.bytes);
            }
            if is_over {
                self.has_ended = true;
                return None;
            }
            if self.started.elapsed() > STREAM_LIFETIME {
                return None;
            }
            tokio::select! {
                () = &mut stopped => return None,
                () = Self::grown(&mut self.changes, &self.attempt) => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn is_over(&mut self) -> bool {
        // A database that does not answer is not an end.
        match self.state.reader().try_row(&self.attempt).await {
            Ok(Some(row)) => row.outcome.is_some(),
            // The next poke of a sensor goes on with the try: its log is this one, and more.
            Ok(None) => {
                let tries = self.state.reader().tries(&self.attempt.instance).await.unwrap_or_default();
                let same = tries.into_iter().find(|row| row.attempt.try_number == self.attempt.try_number);
                let outcome = same.as_ref().and_then(|row| row.outcome);
                if let Some(row) = same {
                    self.attempt = row.attempt;
                }
                outcome.is_some()
            }
            Err(_) => false,
        }
    }

    async fn grown(changes: &mut broadcast::Receiver<Change>, own: &AttemptKey) {
        loop {
            match changes.recv().await {
                Ok(Change::Log { attempt, .. }) if attempt == *own => return,
                Ok(Change::Task { run, task, .. })
                    if run == own.instance.run && task == own.instance.task =>
                {
                    return;
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                // The scheduler is gone; the timer goes on until the server stops.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
