//! Outputs of task instances that the next ones are likely to need.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidemill_engine::ids::{RunKey, TaskId, TaskInstanceKey};

/// Outputs of a task instance by key.
pub(crate) type Values = Arc<BTreeMap<String, serde_json::Value>>;

/// Above this, remembered outputs are forgotten and read again when needed, in bytes.
const LIMIT_BYTES: usize = 64 * 1024 * 1024;
/// The same, in task instances.
const LIMIT: usize = 100_000;

/// What is remembered.
///
/// **Invariant:** what was reported in the open round is never forgotten before its commit: it is not stored yet, so
/// reading it again would find nothing, and a downstream would be rendered without it.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// Of the open round.
    fresh: BTreeMap<TaskInstanceKey, Values>,
    stored: BTreeMap<TaskInstanceKey, (Values, usize)>,
    stored_bytes: usize,
}

impl Outputs {
    /// Notes what an accepted result brought; the round is not committed yet.
    pub(crate) fn note(&mut self, key: TaskInstanceKey, values: BTreeMap<String, serde_json::Value>) {
        self.fresh.insert(key, Arc::new(values));
    }

    /// Everything that was noted is stored now.
    pub(crate) fn settle(&mut self) {
        for (key, values) in std::mem::take(&mut self.fresh) {
            self.remember(key, values);
        }
    }

    /// Remembers what was read.
    pub(crate) fn remember(&mut self, key: TaskInstanceKey, values: Values) {
        let size: usize = values.iter().map(|(name, value)| name.len() + approximate_size(value)).sum();
        self.forget_stored(&key);
        if self.stored_bytes + size > LIMIT_BYTES || self.stored.len() >= LIMIT {
            self.stored.clear();
            self.stored_bytes = 0;
        }
        self.stored_bytes += size;
        self.stored.insert(key, (values, size));
    }

    /// Returns what is remembered of an instance.
    pub(crate) fn get(&self, key: &TaskInstanceKey) -> Option<Values> {
        self.fresh.get(key).or_else(|| self.stored.get(key).map(|(values, _)| values)).cloned()
    }

    /// Forgets an instance: it was cleared.
    pub(crate) fn forget(&mut self, key: &TaskInstanceKey) {
        self.fresh.remove(key);
        self.forget_stored(key);
    }

    fn forget_stored(&mut self, key: &TaskInstanceKey) {
        if let Some((_, size)) = self.stored.remove(key) {
            self.stored_bytes -= size;
        }
    }

    /// Forgets a run that has ended.
    pub(crate) fn forget_run(&mut self, run: RunKey) {
        // The least id that the pattern of task ids allows.
        let Ok(first) = TaskId::new("0") else { return };
        let from = TaskInstanceKey { run, task: first, map_index: i32::MIN };
        let stored = self.stored.range(from.clone()..).take_while(|(key, _)| key.run == run);
        let fresh = self.fresh.range(from..).take_while(|(key, _)| key.run == run);
        let gone: BTreeSet<TaskInstanceKey> =
            stored.map(|(key, _)| key.clone()).chain(fresh.map(|(key, _)| key.clone())).collect();
        for key in gone {
            self.forget(&key);
        }
    }
}

fn approximate_size(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len() + 8,
        serde_json::Value::Array(items) => items.iter().map(approximate_size).sum::<usize>() + 8,
        serde_json::Value::Object(map) => {
            map.iter().map(|(key, value)| key.len() + approximate_size(value)).sum::<usize>() + 8
        }
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(run: i64, task: &str) -> TaskInstanceKey {
        TaskInstanceKey { run: RunKey(run), task: TaskId::new(task).unwrap(), map_index: -1 }
    }

    fn values(size: usize) -> BTreeMap<String, serde_json::Value> {
        BTreeMap::from([("path".to_owned(), serde_json::json!("x".repeat(size)))])
    }

    #[test]
    fn what_is_not_stored_yet_is_never_forgotten() {
        let mut outputs = Outputs::default();
        outputs.note(key(1, "a"), values(10));
        for number in 0..3 {
            outputs.remember(key(2, &format!("big{number}")), Arc::new(values(LIMIT_BYTES / 2)));
        }
        assert_eq!(*outputs.get(&key(1, "a")).unwrap(), values(10));
        assert!(outputs.get(&key(2, "big0")).is_none(), "the limit holds for what can be read again");
        outputs.settle();
        assert!(outputs.get(&key(1, "a")).is_some());
    }

    #[test]
    fn what_is_forgotten_makes_room() {
        let mut outputs = Outputs::default();
        outputs.remember(key(1, "kept"), Arc::new(values(10)));
        for round in 0..9 {
            outputs.remember(key(2, "big"), Arc::new(values(LIMIT_BYTES / 2)));
            if round % 2 == 0 {
                outputs.forget(&key(2, "big"));
            }
        }
        assert!(outputs.get(&key(1, "kept")).is_some(), "nothing had to go");
        outputs.forget_run(RunKey(2));
        outputs.forget_run(RunKey(1));
        assert_eq!(outputs.stored_bytes, 0);
    }
}
