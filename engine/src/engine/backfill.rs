//! Backfills: their dates become runs, a page at a time and as their own limit allows (`semantics.md` §9).
//!
//! The loop asks for a page of dates ([`Engine::backfill_page`]), looks up which runs these have, and answers with
//! [`crate::event::Event::BackfillDates`]. One step deals with one page, so that ten years of hourly dates are neither
//! loaded nor made at once. A run of a backfill that has not ended counts against the backfill's limit, any other run
//! against `max_active_runs` of its DAG.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};

use super::{CREATED_PER_STEP, DagEntry, Engine, Out, run::Run, schedule::Wanted, select::select};
use crate::{
    action::{Action, Refusal, Reply},
    backfill::{
        BackfillChange, BackfillDate, BackfillPage, BackfillRow, BackfillSpec, BackfillState, BackfillWait,
        DateOutcome, DatedRun, Plan, dates, dates_after, plan,
    },
    definition::check_conf,
    event::{ClearSelection, RequestId},
    ids::{BackfillKey, DagId, RunId, RunKey},
    rows::{FinishedRun, RunRow},
    state::{RunState, RunType},
    timetable::Slot,
};

/// How many dates are looked up at a time. Far more than a step makes runs of, because most of them may have one.
const DATES_PER_PAGE: usize = 100;

/// A backfill that has not ended, with its runs that have not ended.
#[derive(Clone, Debug)]
pub(super) struct Backfill {
    pub(super) row: BackfillRow,
    /// Those that wait for its limit.
    pub(super) queued: BTreeSet<(DateTime<Utc>, RunKey)>,
    /// Those that count against it.
    pub(super) running: BTreeSet<RunKey>,
}

/// What the loop found for a page.
pub(super) struct Found {
    pub(super) dates: Vec<DateTime<Utc>>,
    pub(super) runs: Vec<DatedRun>,
    pub(super) finished: Vec<FinishedRun>,
}

impl Backfill {
    pub(super) const fn new(row: BackfillRow) -> Self {
        Self { row, queued: BTreeSet::new(), running: BTreeSet::new() }
    }

    pub(super) fn active(&self) -> usize {
        self.queued.len() + self.running.len()
    }

    fn limit(&self) -> usize {
        self.row.spec.max_active_runs as usize
    }

    pub(super) fn is_over_limit(&self) -> bool {
        self.running.len() > self.limit()
    }

    /// Returns the queued run that comes first in its order.
    pub(super) fn first_queued(&self) -> Option<RunKey> {
        let next = if self.row.spec.run_backwards { self.queued.last() } else { self.queued.first() };
        next.map(|(_, key)| *key)
    }

    /// Whether a queued run may begin: of one that is being cancelled it does so to clean up.
    pub(super) fn may_start(&self) -> bool {
        self.row.state == BackfillState::Running || self.row.cancel_requested_at.is_some()
    }

    pub(super) fn has_place(&self) -> bool {
        self.may_start() && self.running.len() < self.limit()
    }

    fn action(&self) -> Action {
        Action::Backfill(Box::new(self.row.clone()))
    }
}

impl Engine {
    /// Returns the next page of dates that can be dealt with; the backfills take turns.
    #[must_use]
    pub fn backfill_page(&self, now: crate::now::Now) -> Option<BackfillPage> {
        let after = BackfillKey(self.backfill_turn.0 + 1);
        let turns = self.backfills.range(after..).chain(self.backfills.range(..after));
        turns.map(|(_, backfill)| backfill).find_map(|backfill| {
            let dates: Vec<DateTime<Utc>> =
                self.due_slots(backfill, now.wall).map(|slot| slot.logical_date).collect();
            (!dates.is_empty()).then(|| BackfillPage {
                backfill: backfill.row.key,
                dag_id: backfill.row.dag_id.clone(),
                reprocess: backfill.row.spec.reprocess,
                dates,
                room: self.room(backfill),
            })
        })
    }

    /// Whether [`Self::backfill_page`] has one.
    #[must_use]
    pub fn is_backfill_due(&self, now: crate::now::Now) -> bool {
        self.backfills.values().any(|backfill| self.due_slots(backfill, now.wall).next().is_some())
    }

    /// Returns the dates that a backfill can deal with at present.
    fn due_slots<'a>(
        &'a self,
        backfill: &'a Backfill,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = Slot> + 'a {
        let entry = self
            .dags
            .get(&backfill.row.dag_id)
            .filter(|entry| backfill.row.is_going_on() && !entry.row.is_missing && self.room(backfill) > 0);
        let slots = entry.map(|entry| slots_left(entry, &backfill.row));
        slots.into_iter().flatten().take_while(move |slot| slot.run_after <= now).take(DATES_PER_PAGE)
    }

    /// Returns how many runs a step may make of it.
    fn room(&self, backfill: &Backfill) -> usize {
        backfill.limit().saturating_sub(backfill.active()).min(CREATED_PER_STEP)
    }

    /// Returns why a backfill makes no run at present; `None` when it has ended or is not known.
    #[must_use]
    pub fn explain_backfill(&self, key: BackfillKey, now: crate::now::Now) -> Option<BackfillWait> {
        let backfill = self.backfills.get(&key)?;
        let count = |runs: usize| u32::try_from(runs).unwrap_or(u32::MAX);
        let active = count(backfill.active());
        if backfill.row.cancel_requested_at.is_some() {
            return Some(BackfillWait::Cancelling { active });
        }
        if backfill.row.state == BackfillState::Paused {
            return Some(BackfillWait::Paused { reason: backfill.row.reason.clone() });
        }
        let Some(entry) = self.dags.get(&backfill.row.dag_id).filter(|entry| !entry.row.is_missing) else {
            return Some(BackfillWait::NoDefinition);
        };
        let next = slots_left(entry, &backfill.row).next();
        Some(match next {
            None => BackfillWait::LastRuns { active },
            Some(slot) if slot.run_after > now.wall => BackfillWait::Future { date: slot.logical_date },
            Some(_) if self.room(backfill) == 0 => {
                BackfillWait::Limit { active, limit: backfill.row.spec.max_active_runs }
            }
            Some(_) => BackfillWait::Next,
        })
    }

    /// Creates a backfill.
    pub(super) fn backfill_requested(
        &mut self,
        request: RequestId,
        dag_id: &DagId,
        spec: BackfillSpec,
        created_by: Option<String>,
        out: &mut Out,
    ) {
        let Some(entry) = self.dags.get(dag_id) else { return out.refuse(request, Refusal::UnknownDag) };
        if entry.row.is_missing {
            return out.refuse(request, Refusal::MissingDag);
        }
        let found = match dates(&entry.graph.dag, &entry.timetable, &spec, out.now.wall) {
            Ok(found) => found,
            Err(problem) => return out.refuse(request, Refusal::Backfill(problem)),
        };
        let (from, to) = (found.first.logical_date, found.last.logical_date);
        let overlaps = |other: &&Backfill| {
            other.row.dag_id == *dag_id && other.row.spec.from <= to && other.row.spec.to >= from
        };
        if let Some(other) = self.backfills.values().find(overlaps) {
            return out.refuse(request, Refusal::BackfillOverlaps(other.row.key));
        }
        let row = BackfillRow {
            key: BackfillKey(self.next_run_key),
            dag_id: dag_id.clone(),
            spec: BackfillSpec { from, to, ..spec },
            state: BackfillState::Running,
            reason: None,
            cursor: None,
            date_count: found.count,
            created: 0,
            reprocessed: 0,
            passed_over: 0,
            left_alone: 0,
            failed_runs: 0,
            cancel_requested_at: None,
            created_by,
            created_at: out.now.wall,
            finished_at: None,
        };
        self.next_run_key += 1;
        let backfill = Backfill::new(row.clone());
        out.actions.push(backfill.action());
        self.backfills.insert(row.key, backfill);
        out.answer(request, Reply::Backfill(Box::new(row), Vec::new()));
    }

    /// Deals with a page of dates.
    pub(super) fn backfill_dates(&mut self, key: BackfillKey, found: Found, out: &mut Out) {
        self.backfill_turn = key;
        let Some(backfill) = self.backfills.get(&key) else { return };
        let Some(entry) = self.dags.get(&backfill.row.dag_id) else { return };
        if let Some(why) = unfit(entry, &backfill.row) {
            return self.pause_backfill(key, why, out);
        }
        let dag_id = backfill.row.dag_id.clone();
        let mut room = self.room(backfill);
        let reprocess = backfill.row.spec.reprocess;
        let slots: Vec<Slot> = self.due_slots(backfill, out.now.wall).collect();
        let mut finished = found.finished;
        for slot in slots {
            let date = slot.logical_date;
            if !found.dates.contains(&date) {
                break;
            }
            let plan = plan(reprocess, found.runs.iter().filter(|run| run.logical_date == date));
            let outcome = plan.outcome();
            let (run, reason) = match plan {
                Plan::Nothing { run, reason, .. } => (Some(run), Some(reason)),
                _ if room == 0 => break,
                Plan::Create => (self.fill(key, slot, out), None),
                Plan::Reprocess(run) => {
                    let Some(at) = finished.iter().position(|found| found.snapshot.run.key == run) else {
                        break;
                    };
                    (self.reprocess(key, finished.swap_remove(at), out), None)
                }
            };
            room -= usize::from(reason.is_none());
            self.date_done(BackfillDate { backfill: key, logical_date: date, outcome, run, reason }, out);
        }
        if let Some(backfill) = self.backfills.get(&key) {
            out.actions.push(backfill.action());
        }
        out.promoting.insert(dag_id);
    }

    fn date_done(&mut self, date: BackfillDate, out: &mut Out) {
        if let Some(backfill) = self.backfills.get_mut(&date.backfill) {
            let row = &mut backfill.row;
            row.cursor = Some(date.logical_date);
            let counter = match date.outcome {
                DateOutcome::Created => &mut row.created,
                DateOutcome::Reprocessed => &mut row.reprocessed,
                DateOutcome::PassedOver => &mut row.passed_over,
                DateOutcome::LeftAlone => &mut row.left_alone,
            };
            *counter += 1;
            out.actions.push(Action::BackfillDate(date));
        }
    }

    /// Makes the run of a date.
    fn fill(&mut self, key: BackfillKey, slot: Slot, out: &mut Out) -> Option<RunKey> {
        let row = &self.backfills.get(&key)?.row;
        let dag_id = row.dag_id.clone();
        let run_id =
            RunId::new(format!("backfill__{}", slot.logical_date.format("%Y-%m-%dT%H:%M:%SZ"))).ok()?;
        let wanted = Wanted {
            run_id: None,
            logical_date: Some(slot.logical_date),
            conf: Arc::clone(&row.spec.conf),
            triggered_by: row.created_by.clone(),
            origin: None,
            suffix: String::new(),
            is_run_id_taken: false,
            backfill: Some((key, is_first(row))),
        };
        let interval = (slot.data_interval_start, slot.data_interval_end);
        self.create_run(&dag_id, run_id, RunType::Backfill, interval, wanted, out).map(|row| row.key)
    }

    /// Clears the run of a date, which takes the newest version and joins the backfill.
    fn reprocess(&mut self, key: BackfillKey, finished: FinishedRun, out: &mut Out) -> Option<RunKey> {
        let row = self.backfills.get(&key)?.row.clone();
        let former = finished.snapshot.clone();
        let run_key = finished.snapshot.run.key;
        let mut run = self.open(run_key, Some(Box::new(finished)), true).ok()?;
        run.row.backfill = Some(key);
        run.row.ignores_past = is_first(&row);
        if !row.spec.conf.is_empty() {
            run.row.conf = row.spec.conf;
        }
        // Also what the version before did not have.
        let all = select(&run, &ClearSelection::default(), true).ok()?;
        self.adopt(run);
        self.take_latest(run_key, Some(former), out);
        self.clear_instances(run_key, &all, out);
        self.reopen(run_key, out);
        Some(run_key)
    }

    /// Pauses, resumes or cancels a backfill.
    pub(super) fn backfill_changed(
        &mut self,
        request: RequestId,
        key: BackfillKey,
        change: BackfillChange,
        ended: Option<BackfillState>,
        is_dry_run: bool,
        out: &mut Out,
    ) {
        let Some(backfill) = self.backfills.get(&key) else {
            return out.refuse(request, ended.map_or(Refusal::UnknownBackfill, Refusal::BackfillEnded));
        };
        let mut row = backfill.row.clone();
        let is_cancelling = row.cancel_requested_at.is_some();
        if is_cancelling && change != BackfillChange::Cancel {
            return out.refuse(request, Refusal::BackfillEnded(BackfillState::Cancelled));
        }
        let mut runs = Vec::new();
        match change {
            BackfillChange::Pause if row.state == BackfillState::Running => {
                (row.state, row.reason) = (BackfillState::Paused, None);
            }
            BackfillChange::Resume if row.state == BackfillState::Paused => {
                (row.state, row.reason, row.failed_runs) = (BackfillState::Running, None, 0);
            }
            BackfillChange::Cancel if !is_cancelling => {
                row.cancel_requested_at = Some(out.now.wall);
                let queued = backfill.queued.iter().map(|(_, run)| *run);
                runs = queued.chain(backfill.running.iter().copied()).collect();
                runs.sort();
            }
            _ => {}
        }
        if !is_dry_run && row != backfill.row {
            self.set_backfill(row.clone(), out);
            for run in &runs {
                self.cancel_run(*run, out);
            }
        }
        out.answer(request, Reply::Backfill(Box::new(row), runs));
    }

    fn set_backfill(&mut self, row: BackfillRow, out: &mut Out) {
        let Some(backfill) = self.backfills.get_mut(&row.key) else { return };
        backfill.row = row;
        out.actions.push(backfill.action());
        out.promoting.insert(backfill.row.dag_id.clone());
    }

    fn pause_backfill(&mut self, key: BackfillKey, reason: String, out: &mut Out) {
        let Some(backfill) = self.backfills.get(&key) else { return };
        let row = BackfillRow { state: BackfillState::Paused, reason: Some(reason), ..backfill.row.clone() };
        self.set_backfill(row, out);
    }

    /// Counts how many runs of a backfill failed in a row, and pauses it when they are as many as its DAG says. True:
    /// the run was one of a backfill that has not ended.
    pub(super) fn count_failed_of_backfill(&mut self, run: &RunRow, state: RunState, out: &mut Out) -> bool {
        let Some(key) = self.lane_of(run) else { return false };
        let limit = self.dags.get(&run.dag_id).and_then(|dag| dag.graph.dag.max_consecutive_failed_runs);
        let (Some(limit), Some(backfill)) = (limit, self.backfills.get(&key)) else { return true };
        let mut row = backfill.row.clone();
        row.failed_runs = match state {
            RunState::Failed => row.failed_runs.saturating_add(1),
            RunState::Success => 0,
            _ => row.failed_runs,
        };
        if row.failed_runs >= limit && row.is_going_on() {
            row.state = BackfillState::Paused;
            row.reason = Some(format!(
                "SCH0228: {} of its runs failed in a row (max_consecutive_failed_runs = {limit}), the last one is {}",
                row.failed_runs, run.run_id
            ));
        }
        if row != backfill.row {
            self.set_backfill(row, out);
        }
        true
    }

    /// Returns the backfill whose limit a run counts against.
    pub(super) fn lane_of(&self, run: &RunRow) -> Option<BackfillKey> {
        run.backfill.filter(|key| self.backfills.contains_key(key))
    }

    /// Lets a run wait for the limit that it counts against.
    pub(super) fn enqueue(&mut self, row: &RunRow) {
        let place = (row.logical_date, row.key);
        if let Some(backfill) = row.backfill.and_then(|key| self.backfills.get_mut(&key)) {
            backfill.queued.insert(place);
        } else if let Some(entry) = self.dags.get_mut(&row.dag_id) {
            entry.queued.insert(place);
        }
    }

    /// Lets a run count as running.
    pub(super) fn occupy(&mut self, row: &RunRow) {
        let place = (row.logical_date, row.key);
        if let Some(backfill) = row.backfill.and_then(|key| self.backfills.get_mut(&key)) {
            backfill.queued.remove(&place);
            backfill.running.insert(row.key);
        } else if let Some(entry) = self.dags.get_mut(&row.dag_id) {
            entry.queued.remove(&place);
            entry.running.insert(row.key);
        }
    }

    /// Lets a run wait and count no more. Whether others stood still because of it.
    pub(super) fn vacate(&mut self, row: &RunRow) -> bool {
        let place = (row.logical_date, row.key);
        if let Some(backfill) = row.backfill.and_then(|key| self.backfills.get_mut(&key)) {
            let was_over = backfill.is_over_limit();
            backfill.queued.remove(&place);
            backfill.running.remove(&row.key);
            return was_over;
        }
        let Some(entry) = self.dags.get_mut(&row.dag_id) else { return false };
        let was_over = entry.is_over_limit();
        entry.queued.remove(&place);
        entry.running.remove(&row.key);
        was_over
    }

    /// Returns the backfills of a DAG that have not ended.
    pub(super) fn backfills_of<'a>(&'a self, dag_id: &'a DagId) -> impl Iterator<Item = &'a Backfill> + 'a {
        self.backfills.values().filter(move |backfill| backfill.row.dag_id == *dag_id)
    }

    /// Returns every run of a DAG that has begun and not ended.
    pub(super) fn running_of<'a>(&'a self, entry: &'a DagEntry) -> impl Iterator<Item = &'a Run> + 'a {
        let of_backfills = self.backfills_of(&entry.row.dag_id).flat_map(|backfill| &backfill.running);
        entry.running.iter().chain(of_backfills).filter_map(|key| self.runs.get(key))
    }

    /// Ends the backfills of a DAG that have nothing left to do.
    pub(super) fn end_backfills(&mut self, dag_id: &DagId, out: &mut Out) {
        let Some(entry) = self.dags.get(dag_id) else { return };
        let is_done = |backfill: &&Backfill| {
            backfill.active() == 0
                && (backfill.row.cancel_requested_at.is_some()
                    || (backfill.row.state == BackfillState::Running
                        && slots_left(entry, &backfill.row).next().is_none()))
        };
        let done: Vec<BackfillKey> =
            self.backfills_of(dag_id).filter(is_done).map(|backfill| backfill.row.key).collect();
        for mut backfill in done.iter().filter_map(|key| self.backfills.remove(key)).collect::<Vec<_>>() {
            backfill.row.state = match backfill.row.cancel_requested_at {
                Some(_) => BackfillState::Cancelled,
                None => BackfillState::Finished,
            };
            backfill.row.finished_at = Some(out.now.wall);
            out.actions.push(backfill.action());
        }
    }

    /// Counts the dates of a DAG's backfills anew, by a schedule that has changed.
    pub(super) fn recount_dates(&mut self, dag_id: &DagId, out: &mut Out) {
        let Some(entry) = self.dags.get(dag_id) else { return };
        for backfill in self.backfills.values_mut().filter(|backfill| backfill.row.dag_id == *dag_id) {
            let left = slots_left(entry, &backfill.row).take(crate::backfill::MAX_DATES).count();
            let count = backfill.row.dealt_with() + left as u64;
            if backfill.row.date_count != count {
                backfill.row.date_count = count;
                out.actions.push(backfill.action());
            }
        }
    }
}

/// Returns the dates that a backfill has not dealt with, in its order.
fn slots_left<'a>(entry: &'a DagEntry, row: &'a BackfillRow) -> Box<dyn Iterator<Item = Slot> + 'a> {
    dates_after(&entry.timetable, &row.spec, row.cursor)
}

/// Whether the next run is its first: that one asks for no run before it (`semantics.md` §6).
const fn is_first(row: &BackfillRow) -> bool {
    row.created + row.reprocessed == 0
}

/// Says why a backfill does not fit the newest version of its DAG any more.
fn unfit(entry: &DagEntry, row: &BackfillRow) -> Option<String> {
    if row.spec.run_backwards && !entry.graph.past_tasks().is_empty() {
        return Some("SCH0224: a task asks for the run before, and this backfill runs backwards".to_owned());
    }
    let problems = check_conf(&entry.graph.dag, &row.spec.conf).err()?;
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Some(format!("SCH0226: its conf does not fit the newest version of the DAG: {}", problems.join("; ")))
}
