//! Messages become events: what an event needs from stored rows is loaded here, just before its step.

use std::sync::Arc;

use tidemill_engine::{
    action::Reply,
    event::{AttemptResult, Event, RequestId},
    ids::DagId,
    now::Now,
    state::TryOutcome,
    wait_reason::pool_waits,
};
use tidemill_protocol::worker::{
    AttemptReport, ExchangeRequest, ExchangeResponse, HeartbeatRequest, HeartbeatResponse,
};
use tidemill_store::{ReadError, batch::VersionRow, to_micros};

use crate::{
    change::Change,
    core::Core,
    error::{CallError, InvalidRequest, Unavailable},
    handle::chain,
    input::{FolderNews, Input, ReplyTo},
    request::{AdminWrite, TriggerRequest, Triggered},
    round::Waiter,
    sessions::{Admission, Sessions},
    view::WorkerView,
};

/// What is known of an attempt whose result came.
#[derive(Debug, Default)]
struct Stored {
    /// How its try ended, when it has no lease any more.
    outcome: Option<TryOutcome>,
    /// The DAG of its log, when the attempt was the sender's.
    own_dag: Option<DagId>,
}

pub(crate) fn unavailable(error: &ReadError) -> CallError {
    Unavailable::Store { reason: chain(error) }.into()
}

impl Core {
    /// Applies one message.
    pub(crate) async fn apply(&mut self, input: Input, now: Now) {
        self.round.events += 1;
        match input {
            Input::Request { request, event, side, reply } => {
                self.request(request, event, side, reply, now).await;
            }
            Input::Trigger { trigger, suffix, side, reply } => {
                self.trigger(*trigger, suffix, side, reply, now).await;
            }
            Input::PostAsset { post, side, reply } => self.post_asset(*post, &side, reply, now).await,
            Input::Assets { dag_id, reply } => {
                let found = self.engine.asset_status(&dag_id, now);
                self.round.asset_reasons.push((reply, found));
            }
            Input::Admin { write, reply } => {
                self.round.take_admin(&write, &self.known);
                self.round.admin.push(reply);
                if !write.run_deletes.is_empty() {
                    let runs = write.run_deletes.iter().map(|(_, run)| *run).collect();
                    self.step(Event::RunsDeleted { runs }, now);
                }
            }
            Input::Redeem { hash, session, reply } => {
                let redeemed = self.writer.redeem_login_link(self.term, &hash, &session).await;
                let answer =
                    redeemed.map_err(|error| Unavailable::NotCommitted { reason: chain(&error) }.into());
                let _ = reply.send(answer);
            }
            Input::Outbox { changes, reply } => {
                self.round.is_urgent = true;
                self.round.batch.outbox.extend(changes);
                self.round.admin.push(reply);
            }
            Input::Exchange { request, reply } => self.exchange(*request, reply, now).await,
            Input::Heartbeat { request, reply } => self.heartbeat(request, reply, now),
            Input::Started { note, reply } => {
                let event = Event::AttemptStarted {
                    attempt: note.attempt,
                    worker: note.worker,
                    started_at: to_micros(note.started_at),
                };
                self.step(event, now);
                let _ = reply.send(Ok(()));
            }
            Input::Explain { key, reply } => {
                let found = self.engine.explain(&key, now);
                self.round.reasons.push((reply, found));
            }
            Input::Ask(question) => question.answer(&self.engine, now),
            Input::Backfill { request, side, reply } => {
                self.create_backfill(*request, side, reply, now).await
            }
            Input::ExplainBackfill { backfill, reply } => {
                let _ = reply.send(Ok(self.engine.explain_backfill(backfill, now)));
            }
            Input::Workers { reply } => {
                let _ = reply.send(Ok(self.workers()));
            }
            Input::Durable { reply } => {
                let _ = reply.send(Ok(Box::new(self.engine.durable())));
            }
            Input::Folder(news) => self.folder(news, now),
        }
    }

    async fn request(
        &mut self,
        request: RequestId,
        mut event: Event,
        side: AdminWrite,
        reply: ReplyTo<Reply>,
        now: Now,
    ) {
        let asked = event.clone();
        if let Err(error) = self.load_for(&mut event).await {
            let _ = reply.send(Err(unavailable(&error)));
            return;
        }
        self.step(event, now);
        if !self.round.is_refused(request) {
            self.round.take_admin(&side, &self.known);
        }
        let call = Waiter::Call { event: Box::new(asked), side: Box::new(side), reply };
        self.round.waiters.insert(request, call);
    }

    async fn trigger(
        &mut self,
        trigger: TriggerRequest,
        suffix: String,
        side: AdminWrite,
        reply: ReplyTo<Triggered>,
        now: Now,
    ) {
        match self.prepare_trigger(&trigger).await {
            Ok(None) => {}
            Ok(Some(repeated)) => {
                let _ = reply.send(Ok(repeated));
                return;
            }
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        }
        let is_run_id_taken = match &trigger.run_id {
            None => false,
            Some(run_id) => match self.shared.reader.run(&trigger.dag_id, run_id).await {
                Ok(run) => run.is_some(),
                Err(error) => {
                    let _ = reply.send(Err(unavailable(&error)));
                    return;
                }
            },
        };
        let request = self.shared.new_request();
        let event = Event::RunRequested {
            request,
            dag_id: trigger.dag_id,
            run_id: trigger.run_id,
            logical_date: trigger.logical_date,
            conf: Arc::new(trigger.conf),
            triggered_by: trigger.triggered_by,
            suffix,
            is_run_id_taken,
        };
        self.step(event, now);
        let created = self.round.answers.iter().rev().find_map(|(id, answer)| match answer {
            Reply::RunCreated(run) if *id == request => Some(run.clone()),
            _ => None,
        });
        if let Some(run) = created {
            self.round.take_admin(&side, &self.known);
            if let Some(key) = &trigger.idempotency {
                self.round.take_idempotency(key, &run);
            }
        }
        self.round.waiters.insert(request, Waiter::Trigger { reply });
    }

    /// Checks `conf` and looks for an earlier request with the same idempotency key.
    async fn prepare_trigger(&self, trigger: &TriggerRequest) -> Result<Option<Triggered>, CallError> {
        if let Some(key) = &trigger.idempotency {
            let reader = &self.shared.reader;
            if let Some(row) = reader.idempotency(&key.key_hash).await.map_err(|error| unavailable(&error))? {
                if row.request_hash != key.request_hash {
                    return Err(InvalidRequest::IdempotencyConflict.into());
                }
                let run = reader.run_by_key(row.run).await.map_err(|error| unavailable(&error))?;
                // Retention may have taken the run; then the key means nothing any more.
                if let Some(run) = run {
                    return Ok(Some(Triggered { run, is_repeated: true }));
                }
            }
        }
        let known = self.known.dags.get(&trigger.dag_id);
        let version = known.map(|row| (row.dag_id.clone(), row.version.clone()));
        if let Some(dag) = version.and_then(|version| self.known.versions.get(&version)) {
            let checked = tidemill_engine::definition::check_conf(dag, &trigger.conf);
            if let Err(problems) = checked {
                return Err(InvalidRequest::Conf { problems }.into());
            }
        }
        Ok(None)
    }

    fn heartbeat(&mut self, request: HeartbeatRequest, reply: ReplyTo<HeartbeatResponse>, now: Now) {
        match self.renew(&request, now) {
            Ok(response) => {
                let HeartbeatRequest { worker, boot_id, attempts } = request;
                self.step(Event::Heartbeat { worker, boot_id, attempts }, now);
                self.round.heartbeats.push((reply, response));
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Renews leases in memory and says which attempts have none.
    ///
    /// A leader whose trust has run out may have been replaced, and its successor may be giving these attempts
    /// to somebody else; so it acknowledges nothing, except within the one outage lease.
    pub(crate) fn renew(
        &mut self,
        request: &HeartbeatRequest,
        now: Now,
    ) -> Result<HeartbeatResponse, CallError> {
        let excused_until = self.outage.as_ref().and_then(|outage| outage.excused_until);
        let is_excused = excused_until.is_some_and(|until| now.mono < until);
        if !self.trust.holds(now.mono) && !is_excused {
            return Err(Unavailable::NotLeader { leader: None }.into());
        }
        self.sessions.touch(&request.worker, &request.boot_id, now)?;
        let mut fenced = Vec::new();
        for attempt in &request.attempts {
            if self.engine.has_lease(attempt, &request.worker) {
                if let Some(lease) = self.known.leases.get_mut(attempt) {
                    lease.renewed = now.mono;
                }
            } else if self.round.sent.is_none() || self.round.outcome(attempt).is_none() {
                // One whose end is being committed has its lease until that is done.
                fenced.push(attempt.clone());
            }
        }
        Ok(HeartbeatResponse { fenced })
    }

    async fn exchange(&mut self, request: ExchangeRequest, reply: ReplyTo<ExchangeResponse>, now: Now) {
        let is_known = self.sessions.connected.contains_key(&request.worker);
        let admission = match self.sessions.admit(&request, now) {
            Ok(admission) => admission,
            Err(error) => {
                let _ = reply.send(Err(error.into()));
                return;
            }
        };
        if !is_known {
            tracing::info!(worker.name = %request.worker, "worker connected");
            self.shared.change(Change::Workers);
        }
        let mut stored = Vec::with_capacity(request.results.len());
        for report in &request.results {
            match self.stored(report, &request).await {
                Ok(outcome) => stored.push(outcome),
                Err(error) => {
                    let _ = reply.send(Err(unavailable(&error)));
                    return;
                }
            }
        }
        let exchange = self.round.exchanges.len();
        self.round.exchanges.push(Sessions::open(&request, reply, now));
        let ExchangeRequest { worker, boot_id, has_swept, capacity, queues, held, results, lost, .. } =
            request;
        for (report, stored) in results.into_iter().zip(stored) {
            let waiter = self.shared.new_request();
            let event = Event::AttemptFinished {
                request: Some(waiter),
                attempt: report.attempt.clone(),
                worker: worker.clone(),
                result: result_of(&report),
                stored: stored.outcome,
            };
            self.step(event, now);
            self.settle_result(waiter, exchange, report, stored.own_dag.as_ref());
        }
        if matches!(admission, Admission::Newest) {
            for attempt in &held {
                if let Some(lease) = self.known.leases.get_mut(attempt) {
                    lease.renewed = now.mono;
                }
            }
            let lost = lost.into_iter().map(|lost| (lost.attempt, lost.reason)).collect();
            let event = Event::WorkerExchanged { worker, boot_id, has_swept, capacity, queues, held, lost };
            self.step(event, now);
        } else {
            for lost in lost {
                // A newer exchange of this incarnation came first, so the engine knows where to give it next.
                let event = Event::AttemptLost {
                    attempt: lost.attempt,
                    worker: worker.clone(),
                    boot_id: boot_id.clone(),
                    reason: lost.reason,
                };
                self.step(event, now);
            }
        }
    }

    /// Looks up what an attempt was, before its result is stepped.
    async fn stored(&self, report: &AttemptReport, request: &ExchangeRequest) -> Result<Stored, ReadError> {
        let attempt = &report.attempt;
        let run = attempt.instance.run;
        if self.engine.has_lease(attempt, &request.worker) {
            let own_dag = self.known.runs.get(&run).map(|row| row.dag_id.clone());
            return Ok(Stored { outcome: None, own_dag });
        }
        let row = match self.round.try_row(attempt) {
            Some(row) => Some(row.clone()),
            None => self.shared.reader.try_row(attempt).await?,
        };
        let Some(row) = row else { return Ok(Stored::default()) };
        if row.worker != request.worker {
            return Ok(Stored { outcome: row.outcome, own_dag: None });
        }
        let own_dag = match self.known.runs.get(&run) {
            Some(row) => Some(row.dag_id.clone()),
            // Its run has ended, and its last bytes are still its own.
            None => self.shared.reader.run_by_key(run).await?.map(|row| row.dag_id),
        };
        Ok(Stored { outcome: row.outcome, own_dag })
    }

    /// Takes in what came with a result, by the verdict that the engine gave it.
    fn settle_result(
        &mut self,
        waiter: RequestId,
        exchange: usize,
        report: AttemptReport,
        own_dag: Option<&DagId>,
    ) {
        let verdict = self.round.answers.iter().rev().find_map(|(id, answer)| match answer {
            Reply::Verdict(verdict) if *id == waiter => Some(*verdict),
            _ => None,
        });
        if let Some(verdict) = verdict {
            self.round.take_evidence(own_dag, &report, verdict);
            if verdict == tidemill_engine::action::Verdict::Accepted {
                self.assignments.note_outputs(&report);
            }
        }
        self.round.waiters.insert(waiter, Waiter::Result { exchange, attempt: report.attempt });
    }

    fn folder(&mut self, news: Vec<FolderNews>, now: Now) {
        for item in news {
            match &item {
                FolderNews::Loaded { dag, version, path, source } => {
                    let event = Event::DagChanged {
                        dag: Arc::clone(dag),
                        version: version.clone(),
                        path: path.clone(),
                    };
                    let before = self.known.dags.get(&dag.id).map(|row| row.version.clone());
                    self.known.versions.insert((dag.id.clone(), version.clone()), Arc::clone(dag));
                    self.step(event, now);
                    for (task, why) in pool_waits(dag, &self.engine.pool_slots()) {
                        tracing::warn!(dag.id = %dag.id, task.id = %task, "the task will wait: {why}");
                    }
                    // A definition that the engine did not take has no row to hang on.
                    if self.known.dags.contains_key(&dag.id) {
                        self.round.is_urgent = true;
                        self.round.batch.versions.push(VersionRow {
                            dag_id: dag.id.clone(),
                            hash: version.clone(),
                            definition: Arc::clone(dag),
                            source: source.to_string(),
                            path: path.clone(),
                            created_at: now.wall,
                        });
                    }
                    if before.is_some_and(|before| before != *version) {
                        self.known.forget_versions(&dag.id);
                    }
                }
                FolderNews::Missing { dag_id } => {
                    self.step(Event::DagMissing { dag_id: dag_id.clone() }, now);
                }
                FolderNews::Problems(change) => {
                    self.round.is_urgent = true;
                    self.round.batch.import_errors.push(change.clone());
                }
            }
            self.round.folder.push(item);
        }
    }

    fn workers(&self) -> Vec<WorkerView> {
        let views = self.sessions.connected.iter().map(|(worker, session)| WorkerView {
            worker: worker.clone(),
            boot_id: session.boot_id.clone(),
            version: session.version.clone(),
            queues: session.queues.clone(),
            slots: session.slots,
            capacity: session.capacity,
            attempts: self
                .known
                .leases
                .iter()
                .filter(|(_, lease)| lease.worker == *worker)
                .map(|(attempt, _)| attempt.clone())
                .collect(),
            connected_at: session.connected_at,
            last_contact_at: session.last_contact.wall,
        });
        views.collect()
    }
}

fn result_of(report: &AttemptReport) -> AttemptResult {
    AttemptResult {
        outcome: report.outcome,
        exit_code: report.exit_code,
        is_final: report.is_final,
        reason: report.reason.clone(),
        follow: report.follow.clone(),
        started_at: report.started_at.map(to_micros),
    }
}
