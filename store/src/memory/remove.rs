//! What a batch takes out of the memory twin: runs, DAGs, and what is too old.

use chrono::{DateTime, Utc};
use tidemill_engine::{
    ids::{DagId, RunKey},
    rows::VersionHash,
};

use super::{apply::Apply, first_of};
use crate::{batch::Batch, reader::OutboxRow};

impl Apply<'_> {
    pub(super) fn delete_run(&mut self, run: RunKey) {
        let Some(row) = self.state.runs.get(&run).cloned() else { return };
        let tasks: Vec<_> = self.state.tasks_of(run).map(|t| t.key.clone()).collect();
        let tries: Vec<_> = self.state.tries_of(run).map(|t| t.row.attempt.clone()).collect();
        let outputs = self.state.outputs.range(first_of(run)..).map(|(key, _)| key.clone());
        let outputs: Vec<_> = outputs.take_while(|key| key.run == run).collect();
        let maps: Vec<_> = self.state.maps.keys().filter(|(key, _)| *key == run).cloned().collect();
        for key in maps {
            self.set(|s| &mut s.maps, key, None);
        }
        let keys = self.state.idempotency.values().filter(|row| row.run == run);
        let keys: Vec<_> = keys.map(|row| row.key_hash.clone()).collect();
        for key in tasks {
            self.set(|s| &mut s.tasks, key, None);
        }
        for key in tries {
            self.set(|s| &mut s.tries, key.clone(), None);
            self.set(|s| &mut s.reports, key, None);
        }
        for key in outputs {
            self.set(|s| &mut s.outputs, key, None);
        }
        for key in keys {
            self.set(|s| &mut s.idempotency, key, None);
        }
        let causes = self.state.assets.causes.iter().filter(|(_, cause)| **cause == run);
        for key in causes.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.set(|s| &mut s.assets.causes, key, None);
        }
        self.forget_run_of_dates(run);
        self.index_run(&row, false);
        self.set(|s| &mut s.runs, run, None);
    }

    pub(super) fn delete_dag(&mut self, dag_id: &DagId) {
        let runs = self.state.run_dates.get(dag_id).into_iter().flatten();
        let runs: Vec<RunKey> = runs.map(|(_, key)| *key).collect();
        for run in runs {
            self.delete_run(run);
        }
        let keys = self.state.versions.keys().filter(|(dag, _)| dag == dag_id);
        for key in keys.cloned().collect::<Vec<_>>() {
            self.set(|s| &mut s.versions, key, None);
        }
        let keys = self.state.passed_over.keys().filter(|(dag, ..)| dag == dag_id);
        for key in keys.cloned().collect::<Vec<_>>() {
            self.set(|s| &mut s.passed_over, key, None);
        }
        let queued = self.state.assets.queue.keys().filter(|(dag, _)| dag == dag_id);
        for key in queued.cloned().collect::<Vec<_>>() {
            self.set(|s| &mut s.assets.queue, key, None);
        }
        self.delete_backfills(dag_id, None);
        self.set(|s| &mut s.dags, dag_id.clone(), None);
    }

    pub(super) fn prune(&mut self, dag_id: &DagId, before: DateTime<Utc>) {
        self.delete_backfills(dag_id, Some(before));
        let state = &self.state;
        let is_used = |hash: &VersionHash| {
            state.dags.get(dag_id).is_some_and(|dag| dag.version == *hash)
                || state.runs.values().any(|run| run.dag_id == *dag_id && run.dag_version == *hash)
        };
        let versions = state.versions.values().filter(|row| row.dag_id == *dag_id && row.created_at < before);
        let versions: Vec<_> = versions.map(|row| row.hash.clone()).filter(|hash| !is_used(hash)).collect();
        let passed = state.passed_over.iter().filter(|((dag, ..), row)| dag == dag_id && row.at < before);
        let passed: Vec<_> = passed.map(|(key, _)| key.clone()).collect();
        for hash in versions {
            self.set(|s| &mut s.versions, (dag_id.clone(), hash), None);
        }
        for key in passed {
            self.set(|s| &mut s.passed_over, key, None);
        }
    }

    pub(super) fn expire(&mut self, batch: &Batch) {
        let Some(before) = batch.expire_before else { return };
        self.expire_backfill_keys(before);
        let state = &self.state;
        let sessions: Vec<_> =
            state.sessions.values().filter(|s| s.expires_at < before).map(|s| s.hash.clone()).collect();
        let links: Vec<_> =
            state.login_links.values().filter(|l| l.expires_at < before).map(|l| l.hash.clone()).collect();
        let keys: Vec<_> = state
            .idempotency
            .values()
            .filter(|k| k.created_at < before)
            .map(|k| k.key_hash.clone())
            .collect();
        let is_old = |row: &&OutboxRow| row.next_attempt_at.is_none() && row.created_at < before;
        let messages: Vec<_> =
            state.outbox.values().filter(is_old).map(|row| row.message.id.clone()).collect();
        let keyed = state.assets.events.values().filter(|(row, key)| key.is_some() && row.at < before);
        let keyed: Vec<_> = keyed.map(|(row, _)| row.clone()).collect();
        for row in keyed {
            self.set(|s| &mut s.assets.events, row.id, Some((row, None)));
        }
        for key in sessions {
            self.set(|s| &mut s.sessions, key, None);
        }
        for key in links {
            self.set(|s| &mut s.login_links, key, None);
        }
        for key in keys {
            self.set(|s| &mut s.idempotency, key, None);
        }
        for key in messages {
            self.set(|s| &mut s.outbox, key, None);
        }
    }
}
