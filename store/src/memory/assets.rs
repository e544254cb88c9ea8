//! Assets in the memory twin.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_engine::{
    asset::{AssetEventId, AssetEventRow, AssetQueueRow},
    ids::{AssetName, DagId, RunKey},
};

use super::State;
use crate::{
    assets::{
        AssetEventItem, AssetEventQuery, AssetProducer, AssetQuery, AssetSummary, CausedRun, OldAssetEvents,
        uses,
    },
    batch::AssetKey,
    codec::{cursor, page_size, read_cursor},
    error::ReadError,
    reader::Page,
    views::cut_page,
};

/// The tables.
#[derive(Debug, Default)]
pub(super) struct AssetTables {
    pub(super) events: BTreeMap<AssetEventId, (AssetEventRow, Option<AssetKey>)>,
    pub(super) queue: BTreeMap<(DagId, AssetEventId), AssetName>,
    pub(super) causes: BTreeMap<(DagId, AssetEventId), RunKey>,
}

impl AssetTables {
    fn event(&self, id: AssetEventId) -> Option<&AssetEventRow> {
        self.events.get(&id).map(|(row, _)| row)
    }

    /// Whether nobody waits for an event and no run was caused by it.
    pub(super) fn is_free(&self, id: AssetEventId) -> bool {
        !self.queue.keys().any(|(_, queued)| *queued == id) && !self.causes.keys().any(|(_, c)| *c == id)
    }

    pub(super) fn queues(&self) -> Vec<AssetQueueRow> {
        let mut rows: BTreeMap<(&DagId, &AssetName), AssetQueueRow> = BTreeMap::new();
        for ((dag_id, id), asset) in &self.queue {
            let Some(event) = self.event(*id) else { continue };
            rows.entry((dag_id, asset))
                .and_modify(|row| row.add(event))
                .or_insert_with(|| AssetQueueRow::of(dag_id.clone(), event));
        }
        rows.into_values().collect()
    }

    pub(super) fn caused_by(&self, run: RunKey, limit: u32) -> Vec<AssetEventRow> {
        let ids = self.causes.iter().filter(|(_, cause)| **cause == run).map(|((_, id), _)| *id);
        let ids: BTreeSet<AssetEventId> = ids.collect();
        ids.iter().rev().take(limit as usize).filter_map(|id| self.event(*id)).cloned().collect()
    }

    pub(super) fn queued(&self, dag_id: &DagId, limit: u32) -> Vec<AssetEventRow> {
        let ids = self.queue.keys().rev().filter(|(dag, _)| dag == dag_id);
        ids.take(limit as usize).filter_map(|(_, id)| self.event(*id)).cloned().collect()
    }

    pub(super) fn old(&self, old: OldAssetEvents) -> Vec<AssetEventId> {
        let mut rows: Vec<&AssetEventRow> = self.events.values().map(|(row, _)| row).collect();
        rows.retain(|row| row.at < old.before && self.is_free(row.id));
        rows.sort_by_key(|row| (row.at, row.id));
        rows.iter().take(old.limit as usize).map(|row| row.id).collect()
    }
}

impl State {
    pub(super) fn assets_page(&self, query: &AssetQuery) -> Result<Page<AssetSummary>, ReadError> {
        let after: Option<AssetName> = read_cursor(&query.page)?;
        let part = query.text.as_deref().map(str::to_ascii_lowercase);
        let mut found: BTreeMap<AssetName, AssetSummary> = BTreeMap::new();
        for dag in self.dags.values() {
            let Some(definition) = self.definition(&dag.dag_id, &dag.version) else { continue };
            for (asset, task) in uses(&definition) {
                let is_shown = after.as_ref().is_none_or(|after| asset > after)
                    && query.name.as_ref().is_none_or(|name| asset == name)
                    && part.as_ref().is_none_or(|part| asset.as_str().to_ascii_lowercase().contains(part));
                if !is_shown {
                    continue;
                }
                let summary = found.entry(asset.clone()).or_insert_with(|| AssetSummary {
                    name: asset.clone(),
                    producers: Vec::new(),
                    consumers: Vec::new(),
                    last_event: None,
                });
                let dag_id = dag.dag_id.clone();
                match task {
                    None => summary.consumers.push(dag_id),
                    Some(task) => summary.producers.push(AssetProducer { dag_id, task_id: task.clone() }),
                }
            }
        }
        for summary in found.values_mut() {
            summary.producers.sort();
            let mut events = self.assets.events.values().rev().map(|(row, _)| row);
            summary.last_event = events.find(|row| row.asset == summary.name).cloned();
        }
        let size = page_size(&query.page);
        Ok(cut_page(found.into_values().take(size + 1).collect(), size, |row| cursor(&row.name)))
    }

    pub(super) fn asset_events_page(
        &self,
        query: &AssetEventQuery,
    ) -> Result<Page<AssetEventItem>, ReadError> {
        let before: Option<AssetEventId> = read_cursor(&query.page)?;
        let rows = self.assets.events.values().rev().map(|(row, _)| row);
        let rows = rows.filter(|row| query.asset.as_ref().is_none_or(|asset| row.asset == *asset));
        let rows = rows.filter(|row| before.is_none_or(|before| row.id < before));
        let items = rows.map(|event| {
            let causes = self.assets.causes.iter().filter(|((_, id), _)| *id == event.id);
            let run = |run: &RunKey| self.runs.get(run);
            let runs = causes
                .filter_map(|(_, key)| run(key))
                .map(|row| CausedRun { dag_id: row.dag_id.clone(), run_id: row.run_id.clone() });
            let queued = self.assets.queue.keys().filter(|(_, id)| *id == event.id);
            AssetEventItem {
                runs: runs.collect(),
                queued_for: queued.map(|(dag_id, _)| dag_id.clone()).collect(),
                event: event.clone(),
            }
        });
        let size = page_size(&query.page);
        Ok(cut_page(items.take(size + 1).collect(), size, |item| cursor(&item.event.id)))
    }
}
