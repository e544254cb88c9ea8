//! One round of the loop: what its events want written, and what is released once that is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tidemill_engine::{
    action::{Action, Assign, Cancel, Notify, OutputsChange, Reply, TaskChange, TryChange},
    asset::{AssetChange, AssetEventId, AssetSource, AssetStatus},
    backfill::BackfillRow,
    event::{Event, RequestId},
    ids::{AttemptKey, DagId, PoolName, RunKey, WorkerId},
    rows::{DagRow, RunRow, TryRow},
    state::TryOutcome,
    wait_reason::WaitReason,
};
use tidemill_protocol::worker::{AttemptReport, HeartbeatResponse, Verdict};
use tidemill_store::{
    Batch, BatchId, Coalescer,
    access::IdempotencyRow,
    batch::{AssetKey, AssetWrite, OutboxChange, OutputsWrite, ReportWrite, TryWrite},
};

use crate::{
    backfill::CreatedBackfill,
    input::{FolderNews, ReplyTo},
    known::Known,
    request::{AdminWrite, IdempotencyKey, PostedEvent, Triggered},
    sessions::OpenExchange,
};

/// Who waits for the answer to an event.
pub(crate) enum Waiter {
    /// A caller of the handle; the event is kept so that it can be tried once more after a rebuild.
    Call { event: Box<Event>, side: Box<AdminWrite>, reply: ReplyTo<Reply> },
    /// An event on an asset.
    Post { reply: ReplyTo<PostedEvent> },
    /// A trigger.
    Trigger { reply: ReplyTo<Triggered> },
    /// A new backfill.
    Backfill { reply: ReplyTo<CreatedBackfill> },
    /// A result of a worker; an index into [`Round::exchanges`].
    Result { exchange: usize, attempt: AttemptKey },
}

/// The bytes of a log that came with a result.
#[derive(Debug)]
pub(crate) struct LogTail {
    pub(crate) dag_id: DagId,
    pub(crate) attempt: AttemptKey,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Rows and releases of one round. What is not committed lives here and in the engine, nowhere else.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) batch: Batch,
    /// The batch while it is being committed.
    pub(crate) sent: Option<Arc<Batch>>,
    coalescer: Coalescer,
    dags: BTreeMap<DagId, usize>,
    tries: BTreeMap<AttemptKey, usize>,
    /// Something in it must not wait for the note interval.
    pub(crate) is_urgent: bool,
    /// The oldest note in it must be written by then.
    pub(crate) notes_due: Option<Duration>,
    pub(crate) waiters: BTreeMap<RequestId, Waiter>,
    pub(crate) answers: Vec<(RequestId, Reply)>,
    pub(crate) exchanges: Vec<OpenExchange>,
    pub(crate) heartbeats: Vec<(ReplyTo<HeartbeatResponse>, HeartbeatResponse)>,
    assigned: BTreeSet<AttemptKey>,
    /// Messages in the batch that are not rendered yet, by index.
    pub(crate) messages: Vec<usize>,
    /// Assignments that are not rendered yet.
    pub(crate) assigns: Vec<Assign>,
    pub(crate) assignments: Vec<(WorkerId, tidemill_protocol::worker::Assignment)>,
    pub(crate) cancels: Vec<Cancel>,
    pub(crate) tails: Vec<LogTail>,
    /// Pokes that go on with a try: the logs of the pokes before them are put together after the commit.
    pub(crate) pokes: Vec<AttemptKey>,
    pub(crate) folder: Vec<FolderNews>,
    /// Who asked why an instance does not run, and what they are told once that is committed.
    pub(crate) reasons: Vec<(ReplyTo<Vec<WaitReason>>, Vec<WaitReason>)>,
    /// The same for why a DAG is not run by its assets.
    pub(crate) asset_reasons: Vec<(ReplyTo<Option<AssetStatus>>, Option<AssetStatus>)>,
    /// Who waits for nothing but the commit.
    pub(crate) admin: Vec<ReplyTo<()>>,
    /// DAGs and runs whose logs are deleted after the commit.
    pub(crate) deleted_runs: Vec<(DagId, RunKey)>,
    pub(crate) deleted_dags: Vec<DagId>,
    /// How many events were applied.
    pub(crate) events: usize,
}

/// The output of a task that is kept with the events on its outlets.
pub(crate) const ASSET_EXTRA: &str = "asset_extra";

/// How long a note may wait for a commit to ride on.
const NOTE_INTERVAL: Duration = Duration::from_millis(250);

impl Round {
    /// Begins a round that commits as batch `id` of `term`.
    pub(crate) fn new(term: i64, id: BatchId, at: DateTime<Utc>) -> Self {
        Self { batch: Batch::new(term, id, at), ..Self::default() }
    }

    /// Whether nothing was stepped that waits for a commit.
    pub(crate) fn is_clean(&self) -> bool {
        !self.is_urgent && self.notes_due.is_none()
    }

    /// Takes in what the engine wants. Answers and assignments are kept for later steps.
    pub(crate) fn take(&mut self, actions: Vec<Action>, now: Duration) {
        for action in actions {
            let is_note = matches!(&action, Action::Task(TaskChange { is_note: true, .. }));
            if is_note {
                self.notes_due.get_or_insert(now + NOTE_INTERVAL);
            } else {
                self.is_urgent = true;
            }
            self.take_one(action);
        }
    }

    fn take_one(&mut self, action: Action) {
        match action {
            Action::Dag(row) => self.take_dag(row),
            Action::DeleteDag(dag_id) => {
                self.deleted_dags.push(dag_id.clone());
                self.batch.dag_deletes.push(dag_id);
            }
            Action::PassedOver(row) => self.batch.passed_over.push(row),
            Action::Run(change) => self.coalescer.push_run(&mut self.batch, change),
            Action::Task(change) => self.coalescer.push_task(&mut self.batch, change),
            Action::Map(change) => self.batch.maps.push(change),
            Action::Outputs(change) => {
                let OutputsChange { attempt, values } = change;
                self.batch.outputs.push(OutputsWrite { attempt, values });
            }
            Action::Try(change) => self.take_try(change),
            Action::Asset(change) => self.batch.assets.push(AssetWrite { change, key: None }),
            Action::Pool(row) => {
                self.forget_pool(&row.name);
                self.batch.pools.push(row);
            }
            Action::DeletePool(name) => {
                self.forget_pool(&name);
                self.batch.pool_deletes.push(name);
            }
            // A round can assign an attempt and, at the worker's exchange just after, assign it again.
            Action::Assign(assign) => {
                if self.assigned.insert(assign.attempt.clone()) {
                    self.assigns.push(assign);
                }
            }
            Action::Cancel(cancel) => {
                if !self.cancels.contains(&cancel) {
                    self.cancels.push(cancel);
                }
            }
            Action::Notify(notify) => self.take_message(notify),
            Action::Backfill(row) => self.take_backfill(*row),
            Action::BackfillDate(date) => self.batch.backfill_dates.push(date),
            Action::Answer(answer) => self.answers.push((answer.request, answer.reply)),
        }
    }

    /// One row per DAG: the last word counts.
    fn take_dag(&mut self, row: DagRow) {
        let known = self.dags.get(&row.dag_id).and_then(|index| self.batch.dags.get_mut(*index));
        if let Some(known) = known {
            *known = row;
            return;
        }
        self.dags.insert(row.dag_id.clone(), self.batch.dags.len());
        self.batch.dags.push(row);
    }

    /// One row per backfill: the last word counts.
    fn take_backfill(&mut self, row: BackfillRow) {
        match self.batch.backfills.iter_mut().find(|known| known.key == row.key) {
            Some(known) => *known = row,
            None => self.batch.backfills.push(row),
        }
    }

    /// The last word on a pool counts; the store writes pools before it deletes any.
    fn forget_pool(&mut self, name: &PoolName) {
        self.batch.pools.retain(|row| row.name != *name);
        self.batch.pool_deletes.retain(|other| other != name);
    }

    fn take_message(&mut self, notify: Notify) {
        self.messages.push(self.batch.outbox.len());
        self.batch.outbox.push(OutboxChange::Insert(notify));
    }

    fn take_try(&mut self, change: TryChange) {
        let attempt = change.row.attempt.clone();
        if change.from_epoch.is_some() {
            self.pokes.push(attempt.clone());
        }
        if let Some(write) = self.tries.get(&attempt).and_then(|index| self.batch.tries.get_mut(*index)) {
            write.change.row = change.row;
            return;
        }
        self.tries.insert(attempt, self.batch.tries.len());
        self.batch.tries.push(TryWrite { change, token_hash: None, rendered: None });
    }

    /// Notes what only the store keeps of a new try.
    pub(crate) fn complete_try(
        &mut self,
        attempt: &AttemptKey,
        token_hash: String,
        rendered: serde_json::Value,
    ) {
        if let Some(write) = self.tries.get(attempt).and_then(|index| self.batch.tries.get_mut(*index))
            && (write.change.is_new || write.change.from_epoch.is_some())
        {
            write.token_hash = Some(token_hash);
            write.rendered = Some(rendered);
        }
    }

    /// Returns the outcome that this round gives to an attempt.
    pub(crate) fn outcome(&self, attempt: &AttemptKey) -> Option<TryOutcome> {
        self.try_row(attempt)?.outcome
    }

    /// Returns the row that this round gives to an attempt.
    pub(crate) fn try_row(&self, attempt: &AttemptKey) -> Option<&TryRow> {
        let batch = self.sent.as_deref().unwrap_or(&self.batch);
        self.tries.get(attempt).and_then(|index| batch.tries.get(*index)).map(|write| &write.change.row)
    }

    /// Whether an answer to `request` says that it was done.
    pub(crate) fn is_refused(&self, request: RequestId) -> bool {
        self.answers.iter().rev().any(|(id, reply)| *id == request && matches!(reply, Reply::Refused(_)))
    }

    /// Adds an administrative write.
    pub(crate) fn take_admin(&mut self, write: &AdminWrite, known: &Known) {
        if *write == AdminWrite::default() {
            return;
        }
        self.is_urgent = true;
        self.batch.access.extend(write.access.iter().cloned());
        self.batch.audit.extend(write.audit.iter().cloned());
        self.batch.vault.extend(write.vault.iter().cloned());
        self.batch.settings.extend(write.settings.iter().cloned());
        // One that was cleared since it was found to be old is not old any more.
        let deleted: Vec<_> =
            write.run_deletes.iter().filter(|(_, run)| !known.runs.contains_key(run)).cloned().collect();
        self.batch.run_deletes.extend(deleted.iter().map(|(_, run)| *run));
        self.deleted_runs.extend(deleted);
        self.batch.asset_deletes.extend(write.asset_deletes.iter().copied());
        self.batch.prunes.extend(write.prunes.iter().cloned());
        if let Some(before) = write.expire_before {
            self.batch.expire_before =
                Some(self.batch.expire_before.map_or(before, |earlier| earlier.max(before)));
        }
    }

    /// Notes which run an idempotency key made.
    pub(crate) fn take_idempotency(&mut self, key: &IdempotencyKey, run: &RunRow) {
        self.batch.idempotency.push(IdempotencyRow {
            key_hash: key.key_hash.clone(),
            request_hash: key.request_hash.clone(),
            run: run.key,
            created_at: self.batch.at,
        });
    }

    /// Notes the idempotency key that an event was posted with.
    pub(crate) fn take_asset_key(&mut self, key: &IdempotencyKey, posted: AssetEventId) {
        let is_posted = |write: &&mut AssetWrite| match &write.change {
            AssetChange::Event { row, .. } => row.id == posted,
            _ => false,
        };
        if let Some(write) = self.batch.assets.iter_mut().rev().find(is_posted) {
            let (key_hash, request_hash) = (key.key_hash.clone(), key.request_hash.clone());
            write.key = Some(AssetKey { key_hash, request_hash });
        }
    }

    /// Lets a task say more about the events that its success made: the object that it wrote as its output
    /// [`ASSET_EXTRA`].
    fn take_asset_extra(&mut self, report: &AttemptReport) {
        let Some(serde_json::Value::Object(extra)) = report.outputs.get(ASSET_EXTRA) else { return };
        let (instance, extra) = (&report.attempt.instance, Arc::new(extra.clone()));
        for write in self.batch.assets.iter_mut().rev() {
            let AssetChange::Event { row, .. } = &mut write.change else { continue };
            let AssetSource::Task { run, task, map_index, try_number, .. } = &row.source else { continue };
            let is_its = (*run, task, *map_index) == (instance.run, &instance.task, instance.map_index);
            if is_its && *try_number == report.attempt.try_number {
                row.extra = Arc::clone(&extra);
            }
        }
    }

    /// Takes in what came with a result: outputs and report of an accepted one, and the end of the log of every attempt
    /// of the sender's own, whose DAG is given then. What a lost attempt wrote before it was killed is kept too.
    pub(crate) fn take_evidence(
        &mut self,
        own_dag: Option<&DagId>,
        report: &AttemptReport,
        verdict: Verdict,
    ) {
        let attempt = &report.attempt;
        if verdict == Verdict::Accepted {
            if report.outcome == TryOutcome::Success {
                self.take_asset_extra(report);
            }
            if report.outcome == TryOutcome::Success && !report.outputs.is_empty() {
                let values = report.outputs.clone();
                self.batch.outputs.push(OutputsWrite { attempt: attempt.clone(), values });
            }
            if let Some(found) = &report.report {
                self.batch.reports.push(ReportWrite { attempt: attempt.clone(), report: found.clone() });
            }
        }
        // A tail is placed by its offset, so a repeated result may bring it again.
        if !report.log_tail.is_empty()
            && let Some(dag_id) = own_dag
            && let Ok(bytes) = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &report.log_tail)
        {
            self.tails.push(LogTail {
                dag_id: dag_id.clone(),
                attempt: attempt.clone(),
                offset: report.log_tail_offset,
                bytes,
            });
        }
    }
}
