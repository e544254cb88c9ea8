//! One commit per round, what is released after it, and what happens when it fails (DESIGN §4).
//!
//! | the store says | what is certain | what follows |
//! |---|---|---|
//! | done | all of it is stored | release |
//! | unavailable | nothing is stored | the same batch again, with back-off; nothing new is started |
//! | ambiguous | nothing | ask by the batch's number; the same batch again if it is not there |
//! | guard mismatch | nothing is stored, and memory is wrong | callers 503, rebuild |
//! | refused | nothing is stored, nor will it be | the run, the DAG file or the message to blame is set aside, the rest goes on |
//! | term over | nothing is stored | step down |

use std::{sync::Arc, time::Duration};

use tidemill_engine::{
    action::Reply,
    ids::{AttemptKey, DagId, RunKey},
};
use tidemill_protocol::worker::{Cancellation, ResultVerdict};
use tidemill_store::{BatchId, CommitError};

use crate::{
    backfill::created,
    change::Change,
    core::{Core, Exit},
    error::{CallError, Unavailable},
    failpoint::failpoint,
    handle::{Shared, chain},
    input::{FolderNews, Input},
    meter,
    request::{PostedEvent, Triggered},
    round::{LogTail, Round, Waiter},
};

/// How long before its lease ends a leader stops trusting that it leads.
pub(crate) const STEP_DOWN_MARGIN: Duration = Duration::from_secs(1);
/// So many times in a row a batch may be given up as too slow before it is taken apart.
const SLOW_LIMIT: u32 = 3;

impl Core {
    /// Commits the round. False: it was not committed, everybody who waited was told, and the engine was
    /// rebuilt.
    pub(crate) async fn commit(&mut self) -> Result<bool, Exit> {
        let tails = std::mem::take(&mut self.round.tails);
        // Whoever sees that a try has ended may read its log, so its last bytes go first. A tail is placed by
        // its offset: one whose result is then not committed does no harm.
        let has_tails = tails.is_empty() || matches!(self.write_tails(tails).await, Ok(true));
        if !self.round.batch.is_empty() && !self.write_batch().await? {
            return Ok(false);
        }
        if !has_tails {
            // The results are stored, their last bytes are not. Without an answer the worker brings both again,
            // and the verdict is then `duplicate`.
            for exchange in self.round.exchanges.drain(..) {
                exchange
                    .fail(Unavailable::Log { reason: "the end of a log could not be written".to_owned() });
            }
        }
        Ok(true)
    }

    async fn write_batch(&mut self) -> Result<bool, Exit> {
        let mut first = None;
        let mut slow = 0;
        // Given out only now: a number stands for one content, whatever was written since the round began.
        self.round.batch.id = BatchId(self.next_batch);
        loop {
            failpoint("before_commit");
            let began = self.shared.clock.now().mono;
            // If the batch turns out to have arrived, then perhaps the first time; only so far is leading certain.
            let first = *first.get_or_insert(began);
            let result = self.send_batch().await?;
            if let Err(error) = &result {
                meter::commit_failed(error.code());
            }
            match result {
                Ok(()) => {
                    failpoint("after_commit");
                    self.committed(first);
                    return Ok(true);
                }
                Err(CommitError::TermLost { .. }) => return Err(Exit::TermLost),
                Err(error @ CommitError::GuardMismatch { .. }) => {
                    tracing::error!(error = %chain(&error), "a batch did not fit the store; rebuilding");
                    let error = Unavailable::NotCommitted { reason: format!("{}: {error}", error.code()) };
                    self.fail_round(&error, false);
                    self.rebuild().await?;
                    return Ok(false);
                }
                Err(CommitError::Constraint { run, what }) => {
                    self.refused(run, &what).await?;
                    return Ok(false);
                }
                Err(error @ CommitError::Ambiguous { .. }) => {
                    let reason = format!("{}: {}", error.code(), chain(&error));
                    self.begin_outage(began, &reason);
                    self.endure(reason).await?;
                    if self.has_arrived().await? {
                        self.committed(first);
                        return Ok(true);
                    }
                }
                Err(error @ CommitError::Unavailable { why, .. }) => {
                    slow += u32::from(why == tidemill_store::error::Unavailable::Slow);
                    if slow >= SLOW_LIMIT {
                        // A machine that is slow may need less at a time; one bad row needs to be found.
                        self.refused(None, &chain(&error)).await?;
                        return Ok(false);
                    }
                    let reason = format!("{}: {}", error.code(), chain(&error));
                    self.begin_outage(began, &reason);
                    self.endure(reason).await?;
                }
            }
        }
    }

    /// Sends the batch of the round to the store. Heartbeats are answered meanwhile.
    async fn send_batch(&mut self) -> Result<Result<(), CommitError>, Exit> {
        let batch = Arc::new(std::mem::take(&mut self.round.batch));
        self.round.sent = Some(Arc::clone(&batch));
        let (writer, sent) = (Arc::clone(&self.writer), Arc::clone(&batch));
        let result = self.meanwhile(async move { writer.commit(&sent).await }).await;
        self.round.sent = None;
        self.round.batch = Arc::unwrap_or_clone(batch);
        result
    }

    /// Asks whether a batch whose answer was lost is stored.
    async fn has_arrived(&mut self) -> Result<bool, Exit> {
        loop {
            let (writer, term, batch) = (Arc::clone(&self.writer), self.term, self.round.batch.id);
            match self.meanwhile(async move { writer.was_committed(term, batch).await }).await? {
                Ok(has_arrived) => return Ok(has_arrived),
                Err(CommitError::TermLost { .. }) => return Err(Exit::TermLost),
                Err(error) => self.endure(format!("{}: {}", error.code(), chain(&error))).await?,
            }
        }
    }

    fn committed(&mut self, began: Duration) {
        let took = self.shared.clock.now().mono.saturating_sub(began);
        meter::committed(&self.round.batch, took);
        self.next_batch += 1;
        if let Some(lease) = self.lease {
            self.trust.extend((began + lease).saturating_sub(STEP_DOWN_MARGIN));
        }
        self.recovered();
    }

    fn write_tails(&self, tails: Vec<LogTail>) -> tokio::task::JoinHandle<bool> {
        let logs = Arc::clone(&self.shared.logs);
        tokio::task::spawn_blocking(move || {
            let mut is_written = true;
            for tail in tails {
                if let Err(error) = logs.append(&tail.dag_id, &tail.attempt, tail.offset, &tail.bytes) {
                    tracing::error!(error = %chain(&error), "the end of a log could not be written");
                    is_written = false;
                }
            }
            is_written
        })
    }

    /// Lets out what depended on the commit.
    pub(crate) fn release(&mut self) {
        failpoint("before_release");
        let now = self.shared.clock.now();
        let round = std::mem::take(&mut self.round);
        self.round = self.new_round(now);
        self.tell_changes(&round);
        self.assignments.settle();
        let Round {
            answers,
            mut waiters,
            mut exchanges,
            heartbeats,
            assignments,
            cancels,
            admin,
            reasons,
            pokes,
            asset_reasons,
            ..
        } = round;
        for (request, answer) in answers {
            match waiters.remove(&request) {
                Some(Waiter::Call { reply, .. }) => {
                    let _ = reply.send(refusals(answer));
                }
                Some(Waiter::Trigger { reply }) => {
                    let _ = reply.send(triggered(answer));
                }
                Some(Waiter::Post { reply }) => {
                    let _ = reply.send(posted(answer));
                }
                Some(Waiter::Backfill { reply }) => {
                    let _ = reply.send(created(answer));
                }
                Some(Waiter::Result { exchange, attempt }) => {
                    if let (Reply::Verdict(verdict), Some(open)) = (answer, exchanges.get_mut(exchange)) {
                        open.add_verdict(ResultVerdict { attempt, verdict });
                    }
                }
                None => {}
            }
        }
        for (reply, response) in heartbeats {
            let _ = reply.send(Ok(response));
        }
        for reply in admin {
            let _ = reply.send(Ok(()));
        }
        for (reply, found) in reasons {
            let _ = reply.send(Ok(found));
        }
        for (reply, found) in asset_reasons {
            let _ = reply.send(Ok(found));
        }
        for exchange in exchanges {
            self.sessions.park(exchange);
        }
        for (worker, assignment) in assignments {
            self.sessions.assign(&worker, assignment, now.mono);
        }
        for cancel in cancels {
            let cancellation = Cancellation { attempt: cancel.attempt, reason: cancel.reason };
            self.sessions.cancel(&cancel.worker, cancellation, now.mono);
        }
        self.join_poke_logs(pokes);
        for run in self.known.forget_ended() {
            self.assignments.forget_run(run);
        }
    }

    /// Puts the logs of a sensor's earlier pokes into one file. Nobody waits for it: what was not put together is read
    /// where it is, and the next poke makes up for it.
    fn join_poke_logs(&self, pokes: Vec<AttemptKey>) {
        if pokes.is_empty() {
            return;
        }
        let logs = Arc::clone(&self.shared.logs);
        let known = pokes.into_iter().filter_map(|attempt| {
            Some((self.known.runs.get(&attempt.instance.run)?.dag_id.clone(), attempt))
        });
        let known: Vec<_> = known.collect();
        tokio::task::spawn_blocking(move || {
            for (dag_id, attempt) in known {
                if let Err(error) = logs.join_pokes(&dag_id, &attempt) {
                    tracing::warn!(error = %chain(&error), "the logs of pokes could not be put together");
                }
            }
        });
    }

    /// Lets out what needs no commit while notes still wait for theirs.
    pub(crate) fn release_unwritten(&mut self) {
        for (reply, response) in std::mem::take(&mut self.round.heartbeats) {
            let _ = reply.send(Ok(response));
        }
        for (reply, found) in std::mem::take(&mut self.round.reasons) {
            let _ = reply.send(Ok(found));
        }
        for (reply, found) in std::mem::take(&mut self.round.asset_reasons) {
            let _ = reply.send(Ok(found));
        }
        // An exchange without results waits for nothing that is in this round.
        if self.round.waiters.is_empty() && self.round.assignments.is_empty() && self.round.cancels.is_empty()
        {
            for exchange in std::mem::take(&mut self.round.exchanges) {
                self.sessions.park(exchange);
            }
        } else {
            self.round.notes_due = Some(Duration::ZERO);
        }
    }

    fn tell_changes(&mut self, round: &Round) {
        let batch = &round.batch;
        {
            let mut runs = self.shared.runs.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            for change in &batch.runs {
                if change.row.state.is_terminal() {
                    runs.remove(&change.row.key);
                } else {
                    runs.insert(change.row.key, (change.row.dag_id.clone(), change.row.run_id.clone()));
                }
            }
        }
        if !batch.outbox.is_empty() {
            self.outbox.notify_one();
        }
        self.publish_dags(round);
        self.delete_logs(round);
        if self.shared.changes.receiver_count() == 0 {
            return;
        }
        for row in &batch.dags {
            self.shared.change(Change::Dag { dag_id: row.dag_id.clone() });
        }
        for dag_id in &batch.dag_deletes {
            self.shared.change(Change::Dag { dag_id: dag_id.clone() });
        }
        for change in &batch.runs {
            let row = &change.row;
            self.shared.change(Change::Run {
                dag_id: row.dag_id.clone(),
                run_id: row.run_id.clone(),
                run: row.key,
                state: row.state,
            });
        }
        for change in &batch.tasks {
            let row = &change.row;
            let Some(run) = self.known.runs.get(&row.key.run) else { continue };
            self.shared.change(Change::Task {
                dag_id: run.dag_id.clone(),
                run_id: run.run_id.clone(),
                run: row.key.run,
                task: row.key.task.clone(),
                map_index: row.key.map_index,
                state: row.state,
                try_number: row.try_number,
            });
        }
        if !batch.assets.is_empty() {
            self.shared.change(Change::Assets);
        }
        for row in &batch.backfills {
            self.shared.change(Change::Backfill { dag_id: row.dag_id.clone(), backfill: row.key });
        }
        if !batch.pools.is_empty() || !batch.pool_deletes.is_empty() {
            self.shared.change(Change::Pools);
        }
        if !batch.import_errors.is_empty() {
            self.shared.change(Change::ImportErrors);
        }
    }

    fn publish_dags(&self, round: &Round) {
        let poisoned = std::sync::PoisonError::into_inner;
        if !round.folder.is_empty() || !round.batch.dag_deletes.is_empty() {
            let mut dags = self.shared.dags.write().unwrap_or_else(poisoned);
            for news in &round.folder {
                if let FolderNews::Loaded { dag, .. } = news {
                    dags.insert(dag.id.clone(), Arc::clone(dag));
                }
            }
            for dag_id in &round.batch.dag_deletes {
                dags.remove(dag_id);
            }
        }
        if !round.batch.import_errors.is_empty() {
            let mut errors =
                self.shared.import_errors.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            for change in &round.batch.import_errors {
                match change {
                    tidemill_store::batch::ImportErrorChange::Set(error) => {
                        errors.insert(error.path.clone(), error.clone());
                    }
                    tidemill_store::batch::ImportErrorChange::Clear { path } => {
                        errors.remove(path);
                    }
                }
            }
        }
    }

    fn delete_logs(&self, round: &Round) {
        if round.deleted_runs.is_empty() && round.deleted_dags.is_empty() {
            return;
        }
        let (runs, dags) = (round.deleted_runs.clone(), round.deleted_dags.clone());
        tokio::spawn(delete_logs(Arc::clone(&self.shared), runs, dags));
    }

    /// Tells everybody who waits for the round that it was not committed; `is_refused` when the database will refuse it
    /// again.
    pub(crate) fn fail_round(&mut self, error: &Unavailable, is_refused: bool) {
        let now = self.shared.clock.now();
        let round = std::mem::take(&mut self.round);
        // What comes next is another content, so it gets another number.
        self.next_batch += 1;
        self.round = self.new_round(now);
        let is_alone = round.events <= 1;
        let mut again = 0;
        for (request, waiter) in round.waiters {
            match waiter {
                // Most of a failed batch is innocent: a call gets one more chance, in a round of its own.
                Waiter::Call { event, side, reply } if !is_alone => {
                    self.deferred.push_back(Input::Request { request, event: *event, side: *side, reply });
                    again += 1;
                }
                Waiter::Call { reply, .. } => drop(reply.send(Err(CallError::from(error.clone())))),
                Waiter::Trigger { reply } => drop(reply.send(Err(CallError::from(error.clone())))),
                Waiter::Post { reply } => drop(reply.send(Err(CallError::from(error.clone())))),
                Waiter::Backfill { reply } => drop(reply.send(Err(CallError::from(error.clone())))),
                Waiter::Result { .. } => {}
            }
        }
        for exchange in round.exchanges {
            exchange.fail(error.clone());
        }
        for (reply, _) in round.heartbeats {
            let _ = reply.send(Err(CallError::from(error.clone())));
        }
        for reply in round.admin {
            let _ = reply.send(Err(CallError::from(error.clone())));
        }
        for (reply, _) in round.reasons {
            let _ = reply.send(Err(CallError::from(error.clone())));
        }
        for (reply, _) in round.asset_reasons {
            let _ = reply.send(Err(CallError::from(error.clone())));
        }
        again += self.defer_folder(round.folder, is_alone && is_refused);
        self.isolated_rounds = self.isolated_rounds.max(again);
    }

    /// Drops the engine and builds it anew from what is stored.
    pub(crate) async fn rebuild(&mut self) -> Result<(), Exit> {
        let error = Unavailable::NotCommitted { reason: "the scheduler is being rebuilt".to_owned() };
        self.sessions.fail_parked(&error);
        let loaded = loop {
            let writer = Arc::clone(&self.writer);
            match self.meanwhile(async move { writer.load().await }).await? {
                Ok(loaded) => break loaded,
                Err(error) => self.endure(chain(&error)).await?,
            }
        };
        self.take_loaded(loaded);
        self.recovered();
        self.end_left_out().await
    }
}

/// Deletes the logs of runs that are gone. One that was cleared meanwhile is still there, and so are its logs.
async fn delete_logs(shared: Arc<Shared>, runs: Vec<(DagId, RunKey)>, dags: Vec<DagId>) {
    let mut gone = Vec::new();
    for (dag_id, run) in runs {
        match shared.reader.run_by_key(run).await {
            Ok(None) => gone.push((dag_id, run)),
            Ok(Some(_)) => {}
            // What is left behind is found at the next start.
            Err(error) => tracing::warn!(error = %chain(&error), "whether logs can be deleted is not known"),
        }
    }
    let deleted = tokio::task::spawn_blocking(move || {
        let of_runs = gone.iter().map(|(dag_id, run)| shared.logs.delete_run(dag_id, *run));
        let of_dags = dags.iter().map(|dag_id| shared.logs.delete_dag(dag_id));
        for error in of_runs.chain(of_dags).filter_map(Result::err) {
            tracing::warn!(error = %chain(&error), "logs could not be deleted");
        }
    });
    if let Err(error) = deleted.await {
        tracing::error!(error = %chain(&error), "logs could not be deleted");
    }
}

fn refusals(answer: Reply) -> Result<Reply, CallError> {
    match answer {
        Reply::Refused(refusal) => Err(CallError::Refused(refusal)),
        other => Ok(other),
    }
}

fn posted(answer: Reply) -> Result<PostedEvent, CallError> {
    match answer {
        Reply::AssetEvent(event) => Ok(PostedEvent { event: *event, is_repeated: false }),
        Reply::Refused(refusal) => Err(CallError::Refused(refusal)),
        _ => Err(Unavailable::NotCommitted { reason: "the engine gave no event".to_owned() }.into()),
    }
}

fn triggered(answer: Reply) -> Result<Triggered, CallError> {
    match answer {
        Reply::RunCreated(run) => Ok(Triggered { run: *run, is_repeated: false }),
        Reply::Refused(refusal) => Err(CallError::Refused(refusal)),
        _ => Err(Unavailable::NotCommitted { reason: "the engine gave no run".to_owned() }.into()),
    }
}
