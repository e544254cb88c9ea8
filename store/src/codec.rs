//! Small conversions that every implementation shares: instants, cursors, hashes.

use std::collections::HashMap;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tidemill_engine::ids::AttemptKey;

use crate::{
    batch::{AuditEntry, TryWrite},
    error::ReadError,
    reader::{PAGE_LIMIT, PageRequest},
};

/// Cuts an instant to what is stored: whole microseconds.
#[must_use]
pub fn to_micros(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

/// Makes an opaque cursor of a key.
pub(crate) fn cursor<K: Serialize>(key: &K) -> Option<String> {
    serde_json::to_vec(key).ok().map(hex::encode)
}

/// Reads a cursor; absent stays absent.
pub(crate) fn read_cursor<K: DeserializeOwned>(page: &PageRequest) -> Result<Option<K>, ReadError> {
    let Some(text) = &page.cursor else { return Ok(None) };
    let bytes = hex::decode(text).map_err(|_| ReadError::BadCursor(text.clone()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|_| ReadError::BadCursor(text.clone()))
}

/// How many rows a page has.
pub(crate) fn page_size(page: &PageRequest) -> usize {
    page.limit.clamp(1, PAGE_LIMIT) as usize
}

/// The hash that an empty audit log begins with.
pub(crate) const AUDIT_ROOT: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Returns the hash of an audit entry. Fields are length-prefixed, so that no two entries read alike.
pub(crate) fn audit_hash(previous: &str, entry: &AuditEntry, detail: &str) -> String {
    let at = entry.at.timestamp_micros().to_string();
    let mut hasher = Sha256::new();
    for field in [previous, &at, &entry.actor, &entry.action, &entry.subject, detail] {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field.as_bytes());
    }
    hex::encode(hasher.finalize())
}

/// Merges the writes of one try within a batch: first `is_new`, last row.
pub(crate) fn merged_tries(writes: &[TryWrite]) -> Vec<TryWrite> {
    let mut merged: Vec<TryWrite> = Vec::with_capacity(writes.len());
    let mut index: HashMap<&AttemptKey, usize> = HashMap::with_capacity(writes.len());
    for write in writes {
        match index.get(&write.change.row.attempt).and_then(|at| merged.get_mut(*at)) {
            Some(first) => {
                first.change.row = write.change.row.clone();
                first.token_hash = write.token_hash.clone().or(first.token_hash.take());
                first.rendered = write.rendered.clone().or(first.rendered.take());
            }
            None => {
                index.insert(&write.change.row.attempt, merged.len());
                merged.push(write.clone());
            }
        }
    }
    merged
}
