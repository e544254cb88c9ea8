//! Backfills: what people ask of them, and the pages of dates that the loop looks up for the engine.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tidemill_engine::{
    action::{Refusal, Reply},
    backfill::{
        self, BackfillChange, BackfillRow, BackfillSpec, BackfillState, BackfillWait, DatedRun, Dates, Plan,
    },
    definition::check_conf,
    event::Event,
    ids::{BackfillKey, DagId, RunKey},
    now::Now,
    rows::FinishedRun,
    timetable::Timetable,
};
use tidemill_store::{
    ReadError,
    reader::{BackfillIdempotencyRow, BackfillQuery},
};

use crate::{
    core::{Core, Exit},
    error::{CallError, InvalidRequest, Unavailable},
    handle::{Handle, chain},
    input::{Input, ReplyTo},
    request::{AdminWrite, IdempotencyKey},
    round::Waiter,
};

/// The most dates of one page of a preview.
const PREVIEW_LIMIT: usize = 500;

/// Asks for a backfill.
#[derive(Clone, Debug, PartialEq)]
pub struct BackfillRequest {
    /// The DAG.
    pub dag_id: DagId,
    /// What is filled.
    pub spec: BackfillSpec,
    /// Who asks, for people.
    pub created_by: Option<String>,
    /// Makes a repetition of the same request return the same backfill.
    pub idempotency: Option<IdempotencyKey>,
}

/// What became of a request for a backfill.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedBackfill {
    /// The backfill.
    pub row: BackfillRow,
    /// An earlier request with the same idempotency key made it.
    pub is_repeated: bool,
}

/// What a backfill would do, one page of its dates.
#[derive(Clone, Debug, PartialEq)]
pub struct BackfillPreview {
    /// Its dates.
    pub dates: Dates,
    /// What becomes of each, in the order of the backfill.
    pub items: Vec<(DateTime<Utc>, Plan)>,
    /// Where the next page begins; absent at the end.
    pub next: Option<DateTime<Utc>>,
}

fn unavailable(error: &ReadError) -> CallError {
    Unavailable::Store { reason: chain(error) }.into()
}

impl Handle {
    /// Creates a backfill. `conf` is checked against the DAG's params.
    ///
    /// # Errors
    /// [`CallError`]: SCH0201, SCH0202, SCH0214, SCH0215, SCH0221 to SCH0224, SCH0227 or unavailable.
    pub async fn create_backfill(
        &self,
        request: BackfillRequest,
        side: AdminWrite,
    ) -> Result<CreatedBackfill, CallError> {
        self.send(|reply| Input::Backfill { request: Box::new(request), side, reply }).await
    }

    /// Returns what a backfill would do, by the same rules, without creating one: a page of at most `limit` dates that
    /// begins after the date `after`.
    ///
    /// # Errors
    /// As of [`Self::create_backfill`].
    pub async fn preview_backfill(
        &self,
        dag_id: &DagId,
        spec: &BackfillSpec,
        after: Option<DateTime<Utc>>,
        limit: usize,
    ) -> Result<BackfillPreview, CallError> {
        let reader = &self.shared.reader;
        let detail = reader.dag(dag_id).await.map_err(|error| unavailable(&error))?;
        let detail = detail.ok_or(CallError::Refused(Refusal::UnknownDag))?;
        if detail.dag.is_missing {
            return Err(CallError::Refused(Refusal::MissingDag));
        }
        let dag = self.dag(dag_id).unwrap_or(detail.definition);
        let timetable = Timetable::new(&dag).map_err(|_| CallError::Refused(Refusal::MissingDag))?;
        let timetable = timetable.first_seen(detail.dag.created_at);
        let now = self.shared.clock.now().wall;
        let refused = |problem| CallError::Refused(Refusal::Backfill(problem));
        let dates = backfill::dates(&dag, &timetable, spec, now).map_err(refused)?;
        checked_conf(&dag, spec)?;
        let (from, to) = (dates.first.logical_date, dates.last.logical_date);
        self.check_overlap(dag_id, from, to).await?;
        let spec = BackfillSpec { from, to, ..spec.clone() };
        let limit = limit.clamp(1, PREVIEW_LIMIT);
        let slots = backfill::dates_after(&timetable, &spec, after).take(limit + 1);
        let mut page: Vec<DateTime<Utc>> = slots.map(|slot| slot.logical_date).collect();
        let has_more = page.len() > limit;
        page.truncate(limit);
        let found = reader.dated_runs(dag_id, &page).await.map_err(|error| unavailable(&error))?;
        let of_date = |date: DateTime<Utc>| found.iter().filter(move |run| run.logical_date == date);
        let next = page.last().copied().filter(|_| has_more);
        let items = page.into_iter().map(|date| (date, backfill::plan(spec.reprocess, of_date(date))));
        Ok(BackfillPreview { dates, items: items.collect(), next })
    }

    async fn check_overlap(
        &self,
        dag_id: &DagId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<(), CallError> {
        let states = vec![BackfillState::Running, BackfillState::Paused];
        let query = BackfillQuery { dag_id: Some(dag_id.clone()), states, ..BackfillQuery::default() };
        let active = self.shared.reader.backfills(&query).await.map_err(|error| unavailable(&error))?;
        let other = active.items.iter().find(|item| item.row.spec.from <= to && item.row.spec.to >= from);
        match other {
            Some(item) => Err(CallError::Refused(Refusal::BackfillOverlaps(item.row.key))),
            None => Ok(()),
        }
    }

    /// Pauses, resumes or cancels a backfill; returns it as it is then, and the runs that are cancelled with it.
    ///
    /// # Errors
    /// [`CallError`]: SCH0220, SCH0225 or unavailable.
    pub async fn change_backfill(
        &self,
        backfill: BackfillKey,
        change: BackfillChange,
        is_dry_run: bool,
        side: AdminWrite,
    ) -> Result<(BackfillRow, Vec<RunKey>), CallError> {
        let reply = self
            .request(side, |request| Event::BackfillChanged {
                request,
                backfill,
                change,
                is_dry_run,
                ended: None,
            })
            .await?;
        match reply {
            Reply::Backfill(row, runs) => Ok((*row, runs)),
            _ => Err(Unavailable::NotCommitted { reason: "the engine gave no backfill".to_owned() }.into()),
        }
    }

    /// Returns why a backfill makes no run at present; `None` when it has ended.
    ///
    /// # Errors
    /// [`CallError`]: unavailable.
    pub async fn explain_backfill(&self, backfill: BackfillKey) -> Result<Option<BackfillWait>, CallError> {
        self.send(|reply| Input::ExplainBackfill { backfill, reply }).await
    }
}

fn checked_conf(dag: &tidemill_engine::definition::Dag, spec: &BackfillSpec) -> Result<(), CallError> {
    check_conf(dag, &spec.conf).map(drop).map_err(|problems| InvalidRequest::Conf { problems }.into())
}

impl Core {
    /// Looks up which runs the next dates of a backfill have, and lets the engine deal with them. What is read must be
    /// all that was decided, so an open round is committed first and this comes back.
    pub(crate) async fn fill_back(&mut self, now: Now) -> Result<(), Exit> {
        if !self.engine.is_backfill_due(now) {
            return Ok(());
        }
        if !self.round.is_clean() {
            self.round.is_urgent = true;
            return Ok(());
        }
        let Some(page) = self.engine.backfill_page(now) else { return Ok(()) };
        let mut found = loop {
            let (reader, page) = (Arc::clone(&self.shared.reader), page.clone());
            match self.meanwhile(async move { reader.dated_runs(&page.dag_id, &page.dates).await }).await? {
                Ok(found) => break found,
                Err(error) => self.endure(chain(&error)).await?,
            }
        };
        let mut finished = Vec::new();
        for run in page.to_load(&found) {
            match self.load_dated(run).await? {
                Ok(loaded) => finished.push(loaded),
                Err(why) => mark_unreadable(&mut found, run, &why),
            }
        }
        self.recovered();
        self.step(Event::BackfillDates { backfill: page.backfill, dates: page.dates, found, finished }, now);
        Ok(())
    }

    /// Loads a run that is to be cleared; one that cannot be read holds nothing up.
    async fn load_dated(&mut self, run: RunKey) -> Result<Result<FinishedRun, String>, Exit> {
        loop {
            let writer = Arc::clone(&self.writer);
            match self.meanwhile(async move { writer.load_run(run).await }).await? {
                Ok(Some(loaded)) => {
                    self.known.visit(&loaded.snapshot.run, &loaded.dag);
                    return Ok(Ok(loaded));
                }
                Ok(None) => return Ok(Err("its version is not stored".to_owned())),
                Err(ReadError::Unavailable { source }) => self.endure(source.to_string()).await?,
                Err(error) => {
                    tracing::error!(code = "SCH0502", run.key = %run, error = %chain(&error), "a run of a backfill's date cannot be read");
                    return Ok(Err(chain(&error)));
                }
            }
        }
    }

    /// Creates a backfill, unless an earlier request with the same idempotency key did.
    pub(crate) async fn create_backfill(
        &mut self,
        asked: BackfillRequest,
        side: AdminWrite,
        reply: ReplyTo<CreatedBackfill>,
        now: Now,
    ) {
        match self.prepare_backfill(&asked).await {
            Ok(None) => {}
            Ok(Some(repeated)) => return drop(reply.send(Ok(repeated))),
            Err(error) => return drop(reply.send(Err(error))),
        }
        let request = self.shared.new_request();
        let BackfillRequest { dag_id, spec, created_by, idempotency } = asked;
        self.step(Event::BackfillRequested { request, dag_id, spec: Box::new(spec), created_by }, now);
        let created = self.round.answers.iter().rev().find_map(|(id, answer)| match answer {
            Reply::Backfill(row, _) if *id == request => Some(row.key),
            _ => None,
        });
        if let Some(backfill) = created {
            self.round.take_admin(&side, &self.known);
            if let Some(key) = idempotency {
                self.round.batch.backfill_idempotency.push(BackfillIdempotencyRow {
                    key_hash: key.key_hash,
                    request_hash: key.request_hash,
                    backfill,
                    created_at: self.round.batch.at,
                });
            }
        }
        self.round.waiters.insert(request, Waiter::Backfill { reply });
    }

    async fn prepare_backfill(&self, asked: &BackfillRequest) -> Result<Option<CreatedBackfill>, CallError> {
        let reader = &self.shared.reader;
        if let Some(key) = &asked.idempotency
            && let Some(row) =
                reader.backfill_idempotency(&key.key_hash).await.map_err(|error| unavailable(&error))?
        {
            if row.request_hash != key.request_hash {
                return Err(InvalidRequest::IdempotencyConflict.into());
            }
            let stored = reader.backfill(row.backfill).await.map_err(|error| unavailable(&error))?;
            // Retention may have taken it; then the key means nothing any more.
            if let Some(item) = stored {
                return Ok(Some(CreatedBackfill { row: item.row, is_repeated: true }));
            }
        }
        let known = self.known.dags.get(&asked.dag_id);
        let version = known.map(|row| (row.dag_id.clone(), row.version.clone()));
        match version.and_then(|version| self.known.versions.get(&version)) {
            Some(dag) => checked_conf(dag, &asked.spec).map(|()| None),
            None => Ok(None),
        }
    }
}

fn mark_unreadable(found: &mut [DatedRun], run: RunKey, why: &str) {
    for dated in found.iter_mut().filter(|dated| dated.run == run) {
        dated.unreadable = Some(why.to_owned());
    }
}

/// Returns what the waiter for a new backfill gets.
pub(crate) fn created(answer: Reply) -> Result<CreatedBackfill, CallError> {
    match answer {
        Reply::Backfill(row, _) => Ok(CreatedBackfill { row: *row, is_repeated: false }),
        Reply::Refused(refusal) => Err(CallError::Refused(refusal)),
        _ => Err(Unavailable::NotCommitted { reason: "the engine gave no backfill".to_owned() }.into()),
    }
}
