//! The log of a try on its way to the server.
//!
//! The child writes straight to a file that is opened for appending, so its bytes survive any death of the
//! worker. The worker reads behind it and ships byte ranges; the position is the key, so a range that is sent
//! twice is stored once.
//!
//! Secrets are masked on the way, at the same length. One may be cut by the end of a range or by a write that is not
//! complete: a range is read with what surrounds it, and what may be the beginning of a secret waits for the rest.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::Engine as _;
use tidemill_engine::mask::Masker;
use tidemill_protocol::worker::{AttemptKey, LOG_CHUNK_BYTES, LOG_TAIL_BYTES, Token};
use tokio::sync::Notify;

use crate::{
    backoff::Backoff,
    client::{CallError, Client},
};

/// How often a growing log is shipped at most.
const INTERVAL: Duration = Duration::from_millis(200);
/// How often a silent log is looked at.
const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Reads a log file behind its writer and ships it.
#[derive(Debug)]
pub(crate) struct Shipper {
    client: Arc<Client>,
    attempt: AttemptKey,
    token: Token,
    path: PathBuf,
    file: File,
    /// How much the server has.
    shipped: u64,
    /// Position in the log minus position in the file. A task that opens its log again for writing, as in
    /// `> /dev/stderr`, cuts the file; what was read before stays where it was.
    shift: u64,
    masker: Arc<Masker>,
    /// The server does not take this log any more.
    is_refused: bool,
}

/// The end of a log, as it rides with a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) bytes: u64,
    pub(crate) tail_offset: u64,
    pub(crate) tail: String,
}

impl Shipper {
    pub(crate) fn open(
        client: Arc<Client>,
        attempt: AttemptKey,
        token: Token,
        path: &Path,
        masker: Arc<Masker>,
    ) -> io::Result<Self> {
        let file = File::open(path)?;
        let path = path.to_owned();
        Ok(Self { client, attempt, token, path, file, shipped: 0, shift: 0, masker, is_refused: false })
    }

    /// Returns the length of the log, whatever happened to the file.
    fn length(&mut self) -> u64 {
        let in_file = self.file.metadata().map_or(0, |data| data.len());
        if in_file + self.shift < self.shipped {
            self.shift = self.shipped;
        }
        in_file + self.shift
    }

    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        let mut filled = 0;
        while filled < bytes {
            match self.file.read_at(&mut buffer[filled..], offset - self.shift + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }

    /// Reads a range as it is shipped: whatever of it belongs to a secret is masked.
    fn read_masked(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        if self.masker.is_empty() {
            return self.read(offset, bytes);
        }
        let reach = self.masker.reach();
        let from = offset.saturating_sub(reach as u64).max(self.shift);
        let before = usize::try_from(offset - from).unwrap_or(reach);
        let mut around = self.read(from, before + bytes + reach)?;
        self.masker.mask_bytes(&mut around);
        let end = around.len().min(before + bytes);
        Ok(around.get(before..end).unwrap_or_default().to_vec())
    }

    /// Returns how many bytes before `end` may be the beginning of a secret whose rest is not written yet.
    fn pending(&self, end: u64) -> u64 {
        let reach = self.masker.reach();
        let from = end.saturating_sub(reach as u64).max(self.shift);
        let wanted = usize::try_from(end.saturating_sub(from)).unwrap_or(reach);
        if wanted == 0 {
            return 0;
        }
        self.read(from, wanted).map_or(0, |last| self.masker.pending(&last)) as u64
    }

    /// Ships what lies before `end`, one range after the other. Returns whether anything was shipped.
    async fn ship_until(&mut self, end: u64) -> Result<bool, CallError> {
        let before = self.shipped;
        while self.shipped < end && !self.is_refused {
            let wanted = usize::try_from(end - self.shipped).unwrap_or(LOG_CHUNK_BYTES).min(LOG_CHUNK_BYTES);
            let bytes = match self.read_masked(self.shipped, wanted) {
                Ok(bytes) if !bytes.is_empty() => bytes,
                _ => break,
            };
            let reach = self.shipped + bytes.len() as u64;
            match self.client.append_log(&self.attempt, &self.token, self.shipped, bytes).await {
                // The server decides where the next range begins: it may have more, or less.
                Ok(next) if next >= self.shift => self.shipped = next.min(end.max(reach)),
                Ok(_) => self.shipped = reach,
                Err(error) if error.status().is_some_and(is_refusal) => {
                    tracing::warn!(attempt = ?self.attempt, %error, "the server does not take this log");
                    self.is_refused = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.shipped != before)
    }

    /// Ships while the log grows, until `finish` is notified. Returns itself for the end.
    pub(crate) async fn pump(mut self, finish: Arc<Notify>) -> Self {
        let mut pause = INTERVAL;
        let mut backoff = Backoff::new();
        loop {
            tokio::select! {
                () = finish.notified() => return self,
                () = tokio::time::sleep(pause) => {}
            }
            let length = self.length();
            let end = length - self.pending(length);
            pause = match self.ship_until(end).await {
                Ok(true) => INTERVAL,
                Ok(false) => (pause * 2).min(SLOW_INTERVAL),
                Err(_) => backoff.next(),
            };
        }
    }

    /// Ships everything that does not fit the tail, trying until it succeeds. Returns the tail.
    pub(crate) async fn finish(&mut self) -> LogEnd {
        let mut backoff = Backoff::new();
        let length = self.length();
        let tail_offset = length.saturating_sub(LOG_TAIL_BYTES as u64).max(self.shift);
        while let Err(error) = self.ship_until(tail_offset).await {
            tracing::debug!(attempt = ?self.attempt, %error, "the log waits for the server");
            tokio::time::sleep(backoff.next()).await;
        }
        let tail = self.read_masked(tail_offset, LOG_TAIL_BYTES).unwrap_or_default();
        LogEnd {
            bytes: tail_offset + tail.len() as u64,
            tail_offset,
            tail: base64::engine::general_purpose::STANDARD.encode(tail),
        }
    }

    /// Ships everything: the log of a try that nobody reports any more.
    pub(crate) async fn finish_all(&mut self) {
        let mut backoff = Backoff::new();
        let length = self.length();
        while let Err(error) = self.ship_until(length).await {
            tracing::debug!(attempt = ?self.attempt, %error, "the log waits for the server");
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Appends the line that says how a try ended when it did not end by itself.
    pub(crate) fn write_marker(&mut self, why: &str) {
        let length = self.length();
        let ends_with_newline =
            length == self.shift || self.read(length - 1, 1).is_ok_and(|last| last == b"\n");
        append_marker(&self.path, why, ends_with_newline);
    }
}

/// A log append that will never be taken, however often it is sent.
const fn is_refusal(status: u16) -> bool {
    matches!(status, 400 | 403 | 404 | 405 | 409 | 410 | 413 | 422)
}

fn append_marker(path: &Path, why: &str, ends_with_newline: bool) {
    let line = format!("{}[tidemill] {why}\n", if ends_with_newline { "" } else { "\n" });
    let written =
        File::options().append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "cannot write the end marker of a log");
    }
}
