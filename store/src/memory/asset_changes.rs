//! Applies what happened on assets to the memory twin.

use tidemill_engine::{
    asset::AssetChange,
    ids::{AssetName, DagId},
};

use super::{
    State,
    apply::{Apply, constraint, mismatch},
};
use crate::{
    batch::{AssetKey, AssetWrite},
    error::{CommitError, RowRef},
};

impl Apply<'_> {
    pub(super) fn asset(&mut self, write: &AssetWrite) -> Result<(), CommitError> {
        let queue_of = |state: &State, dag: &DagId, is_of: &dyn Fn(&AssetName) -> bool| -> Vec<_> {
            let rows = state.assets.queue.iter().filter(|((id, _), asset)| id == dag && is_of(asset));
            rows.map(|(key, _)| key.clone()).collect()
        };
        let wrong = |dag: &DagId| mismatch(RowRef::Other { table: "asset_queue", key: dag.to_string() });
        match &write.change {
            AssetChange::Event { row, queued_for } => {
                let known = |key: &AssetKey| {
                    let keys = self.state.assets.events.values().filter_map(|(_, known)| known.as_ref());
                    keys.into_iter().any(|known| known.key_hash == key.key_hash)
                };
                if self.state.assets.events.contains_key(&row.id) || write.key.as_ref().is_some_and(known) {
                    return Err(constraint(None, format!("asset event {} or its key exists", row.id)));
                }
                let next = self.state.leader.next_asset_event;
                self.state.leader.next_asset_event = next.max(row.id.0 + 1);
                self.journal.push(Box::new(move |state| state.leader.next_asset_event = next));
                self.set(|s| &mut s.assets.events, row.id, Some((row.clone(), write.key.clone())));
                for dag in queued_for {
                    if !self.state.dags.contains_key(dag) {
                        return Err(constraint(None, format!("there is no dag {dag} to queue an event for")));
                    }
                    self.set(|s| &mut s.assets.queue, (dag.clone(), row.id), Some(row.asset.clone()));
                }
            }
            AssetChange::Take { dag_id, run, count } => {
                self.check_run(*run, "asset cause")?;
                let taken = queue_of(self.state, dag_id, &|_| true);
                if taken.len() as u64 != *count {
                    return Err(wrong(dag_id));
                }
                for key in taken {
                    if self.state.assets.causes.contains_key(&key) {
                        return Err(constraint(
                            Some(*run),
                            format!("asset event {} was taken before", key.1),
                        ));
                    }
                    self.set(|s| &mut s.assets.queue, key.clone(), None);
                    self.set(|s| &mut s.assets.causes, key, Some(*run));
                }
            }
            AssetChange::Drop { dag_id, assets, count } => {
                let gone = queue_of(self.state, dag_id, &|asset| assets.contains(asset));
                if gone.len() as u64 != *count {
                    return Err(wrong(dag_id));
                }
                for key in gone {
                    self.set(|s| &mut s.assets.queue, key, None);
                }
            }
        }
        Ok(())
    }
}
