//! Asset events come, wait in the queues of the DAGs that listen, and become runs (`semantics.md` §11).
//!
//! A queue holds a summary per asset and not the events, so that an asset which fires for years while another one never
//! does costs no memory; the store keeps each row and moves them all when a run takes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::{DagEntry, Engine, Instance, Out, Timer, schedule::Wanted};
use crate::{
    action::{Action, Refusal, Reply},
    asset::{
        AssetChange, AssetEventId, AssetEventRow, AssetExtra, AssetQueueRow, AssetQueued, AssetSource,
        AssetStatus, AssetWait,
    },
    definition::{AssetSchedule, Dag},
    event::RequestId,
    ids::{AssetName, DagId, RunId},
    state::RunType,
};

/// What waits for one DAG.
pub(super) type AssetQueue = BTreeMap<AssetName, AssetQueueRow>;

/// A DAG whose run makes an event that it listens to itself, without a process in between, would go round for ever: within
/// one step, or from one step to the next where its tasks are prepared. So a run comes this much later than the former one,
/// as with `@continuous`, when it follows in the same step, or when that one has ended and a run by assets made the event.
const ROUND_TRIP: Duration = Duration::from_secs(1);

/// Which DAGs listen to an asset, and which make events on it.
#[derive(Clone, Debug, Default)]
pub(super) struct AssetIndex {
    consumers: BTreeMap<AssetName, BTreeSet<DagId>>,
    producers: BTreeMap<AssetName, BTreeSet<DagId>>,
    /// What is queued for DAGs that the engine has no definition of: kept until their file says again what they are.
    pub(super) orphans: BTreeMap<DagId, AssetQueue>,
}

impl AssetIndex {
    fn is_known(&self, asset: &AssetName) -> bool {
        self.consumers.contains_key(asset) || self.producers.contains_key(asset)
    }

    /// Takes in what a definition says about assets.
    pub(super) fn insert(&mut self, dag: &Dag) {
        for asset in listened_to(dag) {
            self.consumers.entry(asset.clone()).or_default().insert(dag.id.clone());
        }
        for asset in dag.tasks.iter().flat_map(|task| &task.outlets) {
            self.producers.entry(asset.clone()).or_default().insert(dag.id.clone());
        }
    }

    /// Forgets what a definition said.
    pub(super) fn remove(&mut self, dag: &Dag) {
        let outlets = || dag.tasks.iter().flat_map(|task| &task.outlets);
        let parts = [
            (&mut self.consumers, listened_to(dag).iter().collect::<Vec<_>>()),
            (&mut self.producers, outlets().collect()),
        ];
        for (index, assets) in parts {
            for asset in assets {
                if let Some(dags) = index.get_mut(asset) {
                    dags.remove(&dag.id);
                    if dags.is_empty() {
                        index.remove(asset);
                    }
                }
            }
        }
    }
}

fn listened_to(dag: &Dag) -> &[AssetName] {
    dag.schedule.assets().map_or(&[], |schedule| schedule.assets.as_slice())
}

/// An event that somebody posts.
#[derive(Clone, Debug)]
pub(super) struct Posted {
    pub(super) asset: AssetName,
    pub(super) extra: AssetExtra,
    pub(super) by: Option<String>,
}

impl DagEntry {
    fn assets(&self) -> Option<&AssetSchedule> {
        self.graph.dag.schedule.assets()
    }

    /// Whether an event at that instant is queued for this DAG. A pause, a missing file or a full DAG drops nothing.
    fn listens_at(&self, at: DateTime<Utc>) -> bool {
        let dag = &self.graph.dag;
        dag.start_date.is_none_or(|start| at >= start) && dag.end_date.is_none_or(|end| at <= end)
    }

    /// Returns the assets that an event is missing on.
    fn missing_assets(&self, schedule: &AssetSchedule) -> Vec<AssetName> {
        let has_some = schedule.assets.iter().any(|asset| self.asset_queue.contains_key(asset));
        if schedule.any && has_some {
            return Vec::new();
        }
        schedule.assets.iter().filter(|asset| !self.asset_queue.contains_key(*asset)).cloned().collect()
    }

    /// Says why no run is made, by the same questions that making one asks.
    fn asset_waits(&self, now: DateTime<Utc>) -> Option<Vec<AssetWait>> {
        let schedule = self.assets()?;
        let mut waits = Vec::new();
        if self.row.is_missing {
            waits.push(AssetWait::FileMissing);
        }
        if self.row.is_paused {
            waits.push(AssetWait::DagPaused);
        }
        let missing = self.missing_assets(schedule);
        if !missing.is_empty() {
            match (self.graph.dag.start_date, self.graph.dag.end_date) {
                (Some(at), _) if now < at => waits.push(AssetWait::NotBegun { at }),
                (_, Some(at)) if now > at => waits.push(AssetWait::Over { at }),
                _ => {}
            }
            waits.push(AssetWait::Assets { missing, any: schedule.any });
        }
        if self.active_runs() >= self.limit() {
            let active = u32::try_from(self.active_runs()).unwrap_or(u32::MAX);
            waits.push(AssetWait::RunLimit { active, limit: self.graph.dag.max_active_runs });
        }
        Some(waits)
    }
}

impl Engine {
    /// Returns what waits of the assets that a DAG listens to and why that has made no run. None: the DAG is not known,
    /// or does not listen to assets.
    #[must_use]
    pub fn asset_status(&self, dag_id: &DagId, now: crate::now::Now) -> Option<AssetStatus> {
        let entry = self.dags.get(dag_id)?;
        let schedule = entry.assets()?;
        let mut waits = entry.asset_waits(now.wall)?;
        if waits.is_empty() {
            waits.push(AssetWait::Next);
        }
        let queued = |asset: &AssetName| {
            let queue = entry.asset_queue.get(asset);
            AssetQueued {
                asset: asset.clone(),
                count: queue.map_or(0, |queue| queue.count),
                first_at: queue.map(|queue| queue.first_at),
                last_at: queue.map(|queue| queue.last_at),
            }
        };
        Some(AssetStatus { any: schedule.any, assets: schedule.assets.iter().map(queued).collect(), waits })
    }

    /// Somebody posts an event.
    pub(super) fn asset_posted(&mut self, request: RequestId, posted: Posted, out: &mut Out) {
        if !self.assets.is_known(&posted.asset) {
            return out.refuse(request, Refusal::UnknownAsset(posted.asset));
        }
        let at = out.now.wall;
        let row = AssetEventRow {
            id: self.new_asset_event(),
            asset: posted.asset,
            at,
            interval_start: at,
            interval_end: at,
            source: AssetSource::Posted { by: posted.by },
            extra: posted.extra,
        };
        out.answer(request, Reply::AssetEvent(Box::new(row.clone())));
        self.deliver(row, false, out);
    }

    /// A task succeeded by itself: an event on each of its outlets, in the same step and so in the same commit.
    pub(super) fn update_outlets(&mut self, (key, ix): Instance, out: &mut Out) {
        let Some(run) = self.runs.get(&key) else { return };
        let graph = Arc::clone(&run.graph);
        let outlets = &graph.task(ix.task).outlets;
        if outlets.is_empty() {
            return;
        }
        let row = &run.instances[ix].row;
        let source = AssetSource::Task {
            dag_id: run.row.dag_id.clone(),
            run: key,
            run_id: run.row.run_id.clone(),
            task: row.key.task.clone(),
            map_index: row.key.map_index,
            try_number: row.try_number,
        };
        let (interval_start, interval_end) = (run.row.data_interval_start, run.row.data_interval_end);
        let is_asset_run = run.row.run_type == RunType::Asset;
        for asset in outlets {
            let row = AssetEventRow {
                id: self.new_asset_event(),
                asset: asset.clone(),
                at: out.now.wall,
                interval_start,
                interval_end,
                source: source.clone(),
                extra: AssetExtra::default(),
            };
            self.deliver(row, is_asset_run, out);
        }
    }

    fn new_asset_event(&mut self) -> AssetEventId {
        let id = AssetEventId(self.next_asset_event);
        self.next_asset_event += 1;
        id
    }

    /// Queues an event for every DAG that listens.
    fn deliver(&mut self, row: AssetEventRow, is_of_asset_run: bool, out: &mut Out) {
        let mut queued_for = Vec::new();
        for dag_id in self.assets.consumers.get(&row.asset).into_iter().flatten() {
            let Some(entry) = self.dags.get_mut(dag_id).filter(|entry| entry.listens_at(row.at)) else {
                continue;
            };
            entry
                .asset_queue
                .entry(row.asset.clone())
                .and_modify(|queue| queue.add(&row))
                .or_insert_with(|| AssetQueueRow::of(dag_id.clone(), &row));
            entry.is_fed_by_asset_runs |= is_of_asset_run;
            queued_for.push(dag_id.clone());
            out.promoting.insert(dag_id.clone());
        }
        out.actions.push(Action::Asset(AssetChange::Event { row, queued_for }));
    }

    /// Makes a run of a DAG whose assets have the events that it waits for; the run takes everything that is queued.
    pub(super) fn run_by_assets(&mut self, dag_id: &DagId, out: &mut Out) {
        let Some(entry) = self.dags.get_mut(dag_id).filter(|entry| !entry.is_asset_run_deferred) else {
            return;
        };
        if entry.asset_waits(out.now.wall).is_none_or(|waits| !waits.is_empty()) {
            return;
        }
        if let Some((former, made_at)) = entry.newest_asset_run {
            let is_round_trip =
                out.by_assets.contains(dag_id) || (entry.is_fed_by_asset_runs && !entry.is_active(former));
            let wait = (made_at + ROUND_TRIP).saturating_sub(out.now.mono);
            if is_round_trip && !wait.is_zero() {
                return self.defer_by_assets(dag_id, wait, out.now.mono);
            }
        }
        entry.is_fed_by_asset_runs = false;
        let queue = std::mem::take(&mut entry.asset_queue);
        let (mut start, mut end, mut at) = (None, None, None);
        let (mut count, mut newest) = (0, AssetEventId::default());
        for row in queue.values() {
            start = start.min(Some(row.interval_start)).or(Some(row.interval_start));
            end = end.max(Some(row.interval_end));
            at = at.max(Some(row.last_at));
            count += row.count;
            newest = newest.max(row.newest);
        }
        let logical_date = at.unwrap_or(out.now.wall);
        let interval = (start.unwrap_or(logical_date), end.unwrap_or(logical_date));
        let stamp = logical_date.format("%Y-%m-%dT%H:%M:%SZ");
        let Ok(run_id) = RunId::new(format!("asset__{stamp}__{}", six_characters(newest))) else { return };
        let wanted = Wanted {
            run_id: None,
            logical_date: Some(logical_date),
            conf: Arc::default(),
            triggered_by: None,
            origin: None,
            suffix: String::new(),
            is_run_id_taken: false,
            backfill: None,
        };
        if let Some(row) = self.create_run(dag_id, run_id, RunType::Asset, interval, wanted, out) {
            if let Some(entry) = self.dags.get_mut(dag_id) {
                entry.newest_asset_run = Some((row.key, out.now.mono));
            }
            out.by_assets.insert(dag_id.clone());
            let change = AssetChange::Take { dag_id: dag_id.clone(), run: row.key, count };
            out.actions.push(Action::Asset(change));
        }
    }

    /// Looks at the assets of a DAG again after a while.
    pub(super) fn defer_by_assets(&mut self, dag_id: &DagId, delay: Duration, now: Duration) {
        let Some(entry) = self.dags.get_mut(dag_id).filter(|entry| !entry.is_asset_run_deferred) else {
            return;
        };
        entry.is_asset_run_deferred = true;
        self.timers.insert((now + delay, Timer::Assets(dag_id.clone())));
    }

    /// The while is over.
    pub(super) fn assets_due(&mut self, dag_id: DagId, out: &mut Out) {
        if let Some(entry) = self.dags.get_mut(&dag_id) {
            entry.is_asset_run_deferred = false;
            out.promoting.insert(dag_id);
        }
    }

    /// A DAG has another definition: what it listens to no more leaves its queue.
    pub(super) fn relisten(&mut self, dag_id: &DagId, former: Option<&Dag>, out: &mut Out) {
        if let Some(former) = former {
            self.assets.remove(former);
        }
        let orphan = self.assets.orphans.remove(dag_id);
        let Some(entry) = self.dags.get_mut(dag_id) else { return };
        entry.asset_queue.extend(orphan.unwrap_or_default());
        let dag = Arc::clone(&entry.graph.dag);
        self.assets.insert(&dag);
        let listened = listened_to(&dag);
        let is_gone = |asset: &AssetName| listened.binary_search(asset).is_err();
        let mut count = 0;
        let mut assets = Vec::new();
        for (asset, queue) in entry.asset_queue.extract_if(.., |asset, _| is_gone(asset)) {
            count += queue.count;
            assets.push(asset);
        }
        if count > 0 {
            out.actions.push(Action::Asset(AssetChange::Drop { dag_id: dag_id.clone(), assets, count }));
        }
    }

    /// A DAG is deleted with everything that hangs on it.
    pub(super) fn unlisten(&mut self, dag_id: &DagId, former: Option<&Dag>) {
        if let Some(former) = former {
            self.assets.remove(former);
        }
        self.assets.orphans.remove(dag_id);
    }

    /// Gives every queue to its DAG, and lets what a crash left ready be looked at with the first tick.
    pub(super) fn restore_assets(&mut self, rows: Vec<AssetQueueRow>, now: crate::now::Now) {
        for entry in self.dags.values() {
            self.assets.insert(&entry.graph.dag);
        }
        for row in rows {
            let queue = match self.dags.get_mut(&row.dag_id) {
                Some(entry) => &mut entry.asset_queue,
                None => self.assets.orphans.entry(row.dag_id.clone()).or_default(),
            };
            queue.insert(row.asset.clone(), row);
        }
        let is_ready = |entry: &&DagEntry| entry.asset_waits(now.wall).is_some_and(|waits| waits.is_empty());
        let ready: Vec<DagId> = self.dags.values().filter(is_ready).map(|e| e.row.dag_id.clone()).collect();
        for dag_id in ready {
            self.defer_by_assets(&dag_id, Duration::ZERO, now.mono);
        }
    }

    /// Returns every queue.
    pub(super) fn asset_queues(&self) -> Vec<AssetQueueRow> {
        let of_dags = self.dags.values().map(|entry| &entry.asset_queue);
        let mut rows: Vec<AssetQueueRow> =
            of_dags.chain(self.assets.orphans.values()).flat_map(BTreeMap::values).cloned().collect();
        rows.sort_by(|a, b| (&a.dag_id, &a.asset).cmp(&(&b.dag_id, &b.asset)));
        rows
    }
}

/// Writes the number of an event in six characters: the numbers are never used again, so run ids differ without chance.
fn six_characters(id: AssetEventId) -> String {
    let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rest = id.0.unsigned_abs();
    let mut text = [b'0'; 6];
    for place in text.iter_mut().rev() {
        *place = digits[(rest % 36) as usize];
        rest /= 36;
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::{AssetEventId, six_characters};

    #[test]
    fn the_end_of_a_run_id_counts_up() {
        assert_eq!(six_characters(AssetEventId(0)), "000000");
        assert_eq!(six_characters(AssetEventId(35)), "00000z");
        assert_eq!(six_characters(AssetEventId(36)), "000010");
        assert_eq!(six_characters(AssetEventId(36_i64.pow(6) - 1)), "zzzzzz");
    }
}
