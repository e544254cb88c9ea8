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

/// Merges the writes of one try within a batch: first `is_new` and epoch, last row. Pokes of a sensor follow each other in
/// one try.
pub(crate) fn merged_tries(writes: &[TryWrite]) -> Vec<TryWrite> {
    let mut merged: Vec<TryWrite> = Vec::with_capacity(writes.len());
    let mut index: HashMap<AttemptKey, usize> = HashMap::with_capacity(writes.len());
    for write in writes {
        let attempt = &write.change.row.attempt;
        let found = index.get(&write.change.stored_attempt()).or_else(|| index.get(attempt)).copied();
        match found.and_then(|at| merged.get_mut(at).map(|first| (at, first))) {
            Some((at, first)) => {
                first.change.from_epoch = first.change.from_epoch.or_else(|| {
                    let epoch = first.change.row.attempt.epoch;
                    (!first.change.is_new && epoch != attempt.epoch).then_some(epoch)
                });
                first.change.row = write.change.row.clone();
                first.token_hash = write.token_hash.clone().or(first.token_hash.take());
                first.rendered = write.rendered.clone().or(first.rendered.take());
                index.insert(attempt.clone(), at);
            }
            None => {
                index.insert(attempt.clone(), merged.len());
                merged.push(write.clone());
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use tidemill_engine::{
        action::TryChange,
        ids::{RunKey, TaskId, TaskInstanceKey, WorkerId},
        rows::TryRow,
        state::TryOutcome,
    };

    use super::*;

    fn write(epoch: u32, is_new: bool, from_epoch: Option<u32>, outcome: Option<TryOutcome>) -> TryWrite {
        let instance = TaskInstanceKey { run: RunKey(1), task: TaskId::new("s").unwrap(), map_index: -1 };
        let row = TryRow {
            attempt: AttemptKey { instance, try_number: 1, epoch },
            worker: WorkerId::new("w").unwrap(),
            boot_id: "b".to_owned(),
            queued_at: DateTime::UNIX_EPOCH,
            started_at: None,
            finished_at: outcome.map(|_| DateTime::UNIX_EPOCH),
            outcome,
            exit_code: None,
            reason: None,
        };
        let token_hash = outcome.is_none().then(|| format!("hash {epoch}"));
        TryWrite { change: TryChange { is_new, from_epoch, row }, token_hash, rendered: None }
    }

    #[test]
    fn the_pokes_of_one_batch_are_one_write_of_their_try() {
        let merged = |writes: &[TryWrite]| {
            let merged = merged_tries(writes);
            assert_eq!(merged.len(), 1, "{merged:?}");
            let TryWrite { change, token_hash, .. } = merged[0].clone();
            (change.is_new, change.from_epoch, change.row.attempt.epoch, change.row.outcome, token_hash)
        };
        let (new, second, third) =
            (write(1, true, None, None), write(2, false, Some(1), None), write(3, false, Some(2), None));
        let end = write(3, false, None, Some(TryOutcome::Success));
        let hash = |epoch: u32| Some(format!("hash {epoch}"));
        let success = Some(TryOutcome::Success);
        let all = [new, second.clone(), third.clone(), end.clone()];
        assert_eq!(merged(&all), (true, None, 3, success, hash(3)));
        assert_eq!(merged(&[second, third.clone(), end.clone()]), (false, Some(1), 3, success, hash(3)));
        assert_eq!(merged(&[third, end.clone()]), (false, Some(2), 3, success, hash(3)));
        assert_eq!(merged(&[end]), (false, None, 3, success, None));
    }
}
