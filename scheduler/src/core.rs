//! The loop: drain, step, render, commit, release. It decides nothing.
//!
//! ```text
//!            ┌─────────────── wait for a message, a timer, a stop ◀───────────────┐
//!            ▼                                                                    │
//!   drain ≤ 1 024 messages ─▶ step each ─▶ tick if due ─▶ render assignments      │
//!                                                              │                  │
//!                       one commit of everything  ◀────────────┘                  │
//!                          │ committed                 │ not committed            │
//!                          ▼                           ▼                          │
//!           answers, assignments, notes        waiters: 503, rebuild ─────────────┤
//!                          └──────────────────────────────────────────────────────┘
//! ```
//!
//! **Invariant:** between two rounds the engine equals the store, apart from notes younger than 250 ms.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use tidemill_engine::{
    action::Action,
    engine::Engine,
    event::Event,
    ids::{DagId, RunKey},
    now::Now,
    rows::EngineSnapshot,
};
use tidemill_store::{BatchId, Writer, writer::Loaded};
use tokio::sync::{mpsc, watch};

use crate::{
    assign::Assignments,
    handle::Shared,
    input::Input,
    known::Known,
    meter,
    outage::Outage,
    panics::{Panics, caught},
    round::Round,
    sessions::Sessions,
    view::StoreState,
};

/// How many messages one round takes: bounds the size of a batch and how long anybody waits for its answer.
const EVENTS_PER_ROUND: usize = 1024;
/// How many runs before others are looked up in one round.
const LOOKED_UP_PER_ROUND: usize = 100;
/// The longest sleep: a wall clock that jumps is noticed within this.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The shortest time between two ticks, so that a date that stays due cannot spin the loop.
const TICK_INTERVAL: Duration = Duration::from_millis(10);

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was asked to.
    Stopped,
    /// Another server leads.
    TermLost,
}

/// How long the leader may trust that it leads, in milliseconds of the monotonic clock.
#[derive(Debug)]
pub(crate) struct Trust(AtomicU64);

impl Trust {
    /// Without an expiry.
    pub(crate) const fn for_ever() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// Until an instant.
    pub(crate) fn until(at: Duration) -> Self {
        Self(AtomicU64::new(u64::try_from(at.as_millis()).unwrap_or(u64::MAX)))
    }

    pub(crate) fn extend(&self, until: Duration) {
        self.0.fetch_max(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    pub(crate) fn end(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn holds(&self, now: Duration) -> bool {
        u128::from(self.0.load(Ordering::Acquire)) > now.as_millis()
    }
}

/// What a leader holds.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) writer: Arc<dyn Writer>,
    pub(crate) inbox: mpsc::Receiver<Input>,
    /// Messages that were taken out of the inbox and wait for another round.
    pub(crate) deferred: VecDeque<Input>,
    pub(crate) engine: Engine,
    pub(crate) known: Known,
    pub(crate) sessions: Sessions,
    pub(crate) assignments: Assignments,
    pub(crate) round: Round,
    pub(crate) term: i64,
    pub(crate) next_batch: i64,
    pub(crate) trust: Arc<Trust>,
    /// The lease of the leadership, where it has one.
    pub(crate) lease: Option<Duration>,
    pub(crate) outage: Option<Outage>,
    /// Every lease is renewed before the next tick, because the silence was ours.
    pub(crate) must_renew: bool,
    /// Until then, attempts of workers that were not heard of keep their lease.
    pub(crate) grace_until: Duration,
    /// Rounds that take a single message, to find the one that the store refuses.
    pub(crate) isolated_rounds: usize,
    /// Runs that the engine could not take in, with the reason; ended in the store as soon as it takes that.
    pub(crate) left_out: Vec<(RunKey, String)>,
    /// Runs that are set aside, with the reason.
    pub(crate) quarantined: BTreeMap<RunKey, String>,
    /// DAGs whose next run the store refuses, with the reason.
    pub(crate) quarantined_dags: BTreeMap<DagId, String>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) lost: watch::Receiver<bool>,
    pub(crate) last_tick: Option<Duration>,
    /// The wall clock of the newest tick, to notice that it was set back.
    pub(crate) last_wall: Option<DateTime<Utc>>,
    pub(crate) last_renewal: Duration,
    pub(crate) panics: Panics,
    /// Wakes the outbox after a commit that queued messages.
    pub(crate) outbox: Arc<tokio::sync::Notify>,
}

impl Core {
    /// Runs until it is stopped or another server leads, and hands the inbox back.
    pub(crate) async fn run(mut self, loaded: Loaded) -> (Exit, mpsc::Receiver<Input>) {
        let mut result = caught(self.begin(loaded)).await;
        let exit = loop {
            result = match result {
                Ok(Ok(())) => caught(self.run_once()).await,
                Ok(Err(exit)) => break exit,
                Err(panic) => Ok(self.recover(panic).await),
            };
        };
        let error = match exit {
            Exit::Stopped => crate::error::Unavailable::Stopping,
            Exit::TermLost => crate::error::Unavailable::NotLeader { leader: None },
        };
        self.fail_round(&error, false);
        self.sessions.fail_parked(&error);
        for input in self.deferred.drain(..) {
            input.refuse(&error);
        }
        (exit, self.inbox)
    }

    async fn begin(&mut self, loaded: Loaded) -> Result<(), Exit> {
        self.take_loaded(loaded);
        self.end_left_out().await
    }

    /// One round.
    async fn run_once(&mut self) -> Result<(), Exit> {
        self.wait().await?;
        let now = self.shared.clock.now();
        self.renew_after_outage(now);
        self.look_back(now).await?;
        self.look_up_usual(now).await?;
        self.fill_back(now).await?;
        self.answer_stored(now).await?;
        let before = self.round.events;
        self.drain(now).await?;
        let events = self.round.events.saturating_sub(before);
        self.tick(now).await?;
        let is_due = self.round.notes_due.is_some_and(|due| due <= now.mono);
        let has_work = self.round.is_urgent || is_due || self.must_commit_first();
        self.render(now).await?;
        if has_work || self.round.is_urgent {
            if self.commit().await? {
                self.release();
            }
        } else if self.round.notes_due.is_none() {
            // Nothing to write: questions and empty exchanges are answered all the same.
            self.release();
        } else {
            self.release_unwritten();
        }
        let began = now.mono;
        let now = self.shared.clock.now();
        meter::round(events, now.mono.saturating_sub(began));
        self.sessions.answer_due(now.mono);
        self.let_silent_go(now);
        self.shared.update_status(|status| status.last_tick = now.mono);
        Ok(())
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Result<(), Exit> {
        if *self.stop.borrow() {
            return Err(Exit::Stopped);
        }
        if *self.lost.borrow() {
            return Err(Exit::TermLost);
        }
        let now = self.shared.clock.now();
        let has_to_look_up = self.engine.is_past_unknown()
            || self.engine.is_usual_unknown()
            || self.engine.asks_store()
            || self.engine.is_backfill_due(now);
        if !self.deferred.is_empty() || self.round.is_urgent || has_to_look_up {
            return Ok(());
        }
        let mut sleep = self.shared.clock.sleep_until(self.deadline(now));
        tokio::select! {
            biased;
            // A sender that is gone asks for the same as one that said so.
            changed = self.stop.changed() => if changed.is_err() { return Err(Exit::Stopped) },
            changed = self.lost.changed() => if changed.is_err() { return Err(Exit::TermLost) },
            input = self.inbox.recv() => match input {
                Some(input) => self.deferred.push_back(input),
                // Every handle is gone, so nobody can ask for anything any more; time goes on.
                None => (&mut sleep).await,
            },
            () = &mut sleep => {}
        }
        if *self.stop.borrow() { Err(Exit::Stopped) } else { Ok(()) }
    }

    fn deadline(&self, now: Now) -> Duration {
        let mut at = now.mono + LONGEST_SLEEP;
        if let Some(wake) = self.engine.wake_at() {
            let until_date = (wake.wall - now.wall).to_std().unwrap_or_default();
            let due = wake.mono.min(now.mono.saturating_add(until_date));
            let earliest = self.last_tick.map_or(now.mono, |last| last + TICK_INTERVAL);
            at = at.min(due.max(earliest));
        }
        [self.round.notes_due, self.sessions.next_answer()].into_iter().flatten().fold(at, Duration::min)
    }

    /// Applies waiting messages.
    async fn drain(&mut self, now: Now) -> Result<(), Exit> {
        let limit = if self.isolated_rounds > 0 { 1 } else { EVENTS_PER_ROUND };
        self.isolated_rounds = self.isolated_rounds.saturating_sub(1);
        for _ in 0..limit {
            if self.must_commit_first() {
                break;
            }
            let Some(input) = self.deferred.pop_front().or_else(|| self.inbox.try_recv().ok()) else { break };
            if input.needs_clean_store() && !self.round.is_clean() {
                self.deferred.push_front(input);
                break;
            }
            self.apply(input, now).await;
        }
        Ok(())
    }

    /// Whether the next message reads rows that the open round may have changed.
    fn must_commit_first(&self) -> bool {
        !self.round.is_clean() && self.deferred.front().is_some_and(Input::needs_clean_store)
    }

    /// Lets what is due become due.
    async fn tick(&mut self, now: Now) -> Result<(), Exit> {
        let was_set_back = self.last_wall.replace(now.wall).is_some_and(|last| now.wall < last);
        let is_due = was_set_back
            || self.engine.wake_at().is_some_and(|at| at.wall <= now.wall || at.mono <= now.mono);
        let is_early = self.last_tick.is_some_and(|last| last + TICK_INTERVAL > now.mono && last != now.mono);
        if !is_due || is_early {
            return Ok(());
        }
        self.last_tick = Some(now.mono);
        let dates = self.engine.due_dates(now);
        let taken = if dates.is_empty() { Vec::new() } else { self.taken(&dates).await? };
        self.step(Event::Tick { taken }, now);
        Ok(())
    }

    /// Looks up the runs before those whose tasks ask for them. What is read must be all that was decided, so an open
    /// round is committed first and this comes back.
    async fn look_back(&mut self, now: Now) -> Result<(), Exit> {
        if !self.engine.is_past_unknown() {
            return Ok(());
        }
        if !self.round.is_clean() {
            self.round.is_urgent = true;
            return Ok(());
        }
        for (run, dag_id, before) in self.engine.unknown_past().into_iter().take(LOOKED_UP_PER_ROUND) {
            // What the last answer has led to must be stored before the next is asked.
            if !self.round.is_clean() {
                break;
            }
            let previous = loop {
                let (reader, dag_id) = (Arc::clone(&self.shared.reader), dag_id.clone());
                match self.meanwhile(async move { reader.previous_run(&dag_id, before).await }).await? {
                    Ok(previous) => break previous,
                    Err(error) => self.endure(crate::handle::chain(&error)).await?,
                }
            };
            self.recovered();
            self.step(Event::Past { run, previous: previous.map(Box::new) }, now);
        }
        Ok(())
    }

    /// Looks up how long a run of a DAG usually takes, for the deadlines that ask for it.
    async fn look_up_usual(&mut self, now: Now) -> Result<(), Exit> {
        if !self.engine.is_usual_unknown() {
            return Ok(());
        }
        for (run, dag_id) in self.engine.unknown_usual().into_iter().take(LOOKED_UP_PER_ROUND) {
            let duration = loop {
                let (reader, dag_id) = (Arc::clone(&self.shared.reader), dag_id.clone());
                match self.meanwhile(async move { crate::usual::duration(&*reader, dag_id).await }).await? {
                    Ok(duration) => break duration,
                    Err(error) => self.endure(crate::handle::chain(&error)).await?,
                }
            };
            self.recovered();
            self.step(Event::Usual { run, duration }, now);
        }
        Ok(())
    }

    /// Returns which dates have a scheduled run already, stored or in this round.
    async fn taken(&mut self, dates: &[(DagId, DateTime<Utc>)]) -> Result<Vec<(DagId, DateTime<Utc>)>, Exit> {
        let mut taken = loop {
            let (reader, dates) = (Arc::clone(&self.shared.reader), dates.to_vec());
            match self.meanwhile(async move { reader.taken_dates(&dates).await }).await? {
                Ok(taken) => break taken,
                Err(error) => self.endure(crate::handle::chain(&error)).await?,
            }
        };
        self.recovered();
        let scheduled = tidemill_engine::state::RunType::Scheduled;
        for change in self.round.batch.runs.iter().filter(|change| change.row.run_type == scheduled) {
            taken.push((change.row.dag_id.clone(), change.row.logical_date));
        }
        Ok(taken)
    }

    /// Steps the engine and takes in what it wants.
    pub(crate) fn step(&mut self, event: Event, now: Now) {
        let actions = self.engine.step(event, now);
        self.take(actions, now);
    }

    pub(crate) fn take(&mut self, actions: Vec<Action>, now: Now) {
        for action in &actions {
            self.known.learn(action, now.mono);
            self.assignments.learn(action);
            if let Action::Run(change) = action
                && !change.row.state.is_terminal()
            {
                // A person cleared it after its cause was gone.
                self.quarantined.remove(&change.row.key);
            }
        }
        self.round.take(actions, now.mono);
    }

    /// Takes in what is stored, as far as it can be read and is not set aside.
    pub(crate) fn take_loaded(&mut self, loaded: Loaded) {
        for unreadable in &loaded.unreadable {
            tracing::error!(code = "SCH0502", what = %unreadable.what, "a stored row was left out");
        }
        let reason = |what: &str| format!("SCH0502: a stored row of this dag run cannot be read: {what}");
        self.left_out =
            loaded.unreadable.iter().filter_map(|row| row.run.map(|run| (run, reason(&row.what)))).collect();
        let snapshot = self.without_quarantined(loaded.snapshot);
        let runs: Vec<RunKey> = snapshot.runs.iter().map(|run| run.run.key).collect();
        self.rebuild_from(snapshot);
        let undefined = runs.into_iter().filter(|run| !self.engine.has_run(*run));
        self.left_out.extend(undefined.map(|run| (run, reason("its definition does not compile"))));
        let count = self.quarantined.len() + self.quarantined_dags.len() + loaded.unreadable.len();
        self.shared.update_status(|status| status.quarantined_runs = count);
    }

    /// Builds everything from a snapshot and lets the engine go on from there.
    fn rebuild_from(&mut self, snapshot: EngineSnapshot) {
        let now = self.shared.clock.now();
        self.known = Known::of(&snapshot, now.mono);
        self.assignments = Assignments::default();
        self.round = self.new_round(now);
        self.publish(&snapshot);
        self.engine = Engine::restore(snapshot, now);
        self.last_tick = None;
        let actions = self.engine.resume(now);
        self.take(actions, now);
    }

    /// Lets handles see what the snapshot holds.
    fn publish(&self, snapshot: &EngineSnapshot) {
        let poisoned = std::sync::PoisonError::into_inner;
        let dags = snapshot.dags.iter().map(|(row, dag)| (row.dag_id.clone(), Arc::clone(dag))).collect();
        *self.shared.dags.write().unwrap_or_else(poisoned) = dags;
        let runs = snapshot
            .runs
            .iter()
            .map(|run| (run.run.key, (run.run.dag_id.clone(), run.run.run_id.clone())))
            .collect();
        *self.shared.runs.write().unwrap_or_else(std::sync::PoisonError::into_inner) = runs;
    }

    pub(crate) fn new_round(&self, now: Now) -> Round {
        Round::new(self.term, BatchId(self.next_batch), now.wall)
    }

    /// After an outage of ours, or while a take-over gives the workers time to be heard of, nobody is declared
    /// lost because of a silence that we caused.
    fn renew_after_outage(&mut self, now: Now) {
        let is_grace = now.mono < self.grace_until && self.last_renewal + Duration::from_secs(10) <= now.mono;
        if !self.must_renew && !is_grace {
            return;
        }
        self.must_renew = false;
        self.last_renewal = now.mono;
        let mut held: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (attempt, lease) in &self.known.leases {
            held.entry((lease.worker.clone(), lease.boot_id.clone())).or_default().push(attempt.clone());
        }
        for ((worker, boot_id), attempts) in held {
            self.step(Event::Heartbeat { worker, boot_id, attempts }, now);
        }
    }

    /// Tells the engine about workers that were not heard of for a lease.
    fn let_silent_go(&mut self, now: Now) {
        for (worker, boot_id) in self.sessions.take_silent(now.mono) {
            tracing::warn!(worker.name = %worker, "worker was not heard of for its lease");
            self.step(Event::WorkerLeft { worker, boot_id }, now);
            self.shared.change(crate::change::Change::Workers);
        }
    }

    pub(crate) fn set_store_state(&self, store: StoreState) {
        self.shared.update_status(|status| status.store = store);
    }
}
