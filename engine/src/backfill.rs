//! What a backfill is and what becomes of each of its dates (`semantics.md` §9).
//!
//! A backfill goes through the dates of its DAG from one logical date to another, one page at a time. What it does with
//! a date is decided by [`plan`], for a dry run and in earnest by the same lines.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    definition::Dag,
    ids::{BackfillKey, DagId, RunId, RunKey},
    state::{RunState, RunType, word_enum},
    timetable::{Slot, Timetable},
};

/// The most dates that one backfill may have: ten years of hourly dates and some.
pub const MAX_DATES: usize = 100_000;

/// The most runs that one backfill may have active at a time.
pub const MAX_ACTIVE_RUNS: u32 = 1000;

word_enum! {
    /// The state of a backfill.
    BackfillState {
        /// It makes runs of its dates as its limit allows. A crash leaves it here.
        Running = "running",
        /// A person, or a run of failures, has stopped it for now; what runs already goes on.
        Paused = "paused",
        /// Every date is dealt with and every run has ended.
        Finished = "finished",
        /// A person cancelled it and its runs have ended.
        Cancelled = "cancelled",
    }
}

impl BackfillState {
    /// Whether nothing more happens in it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled)
    }
}

word_enum! {
    /// What a backfill does with a date that has a run already.
    Reprocess {
        /// Passes over it.
        None = "none",
        /// Runs it again when it ended without success.
        Failed = "failed",
        /// Runs it again, however it ended.
        Completed = "completed",
    }
}

word_enum! {
    /// What became of one date of a backfill.
    DateOutcome {
        /// A run was made for it.
        Created = "created",
        /// The run that it had was cleared and joined the backfill.
        Reprocessed = "reprocessed",
        /// It has a run that is not to be run again.
        PassedOver = "passed_over",
        /// It has a run that has not ended, or one that cannot be cleared.
        LeftAlone = "left_alone",
    }
}

word_enum! {
    /// What a person asks of a backfill.
    BackfillChange {
        /// No more runs for now.
        Pause = "pause",
        /// On with it.
        Resume = "resume",
        /// No more runs at all, and those that have not ended are cancelled.
        Cancel = "cancel",
    }
}

/// What somebody wants filled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackfillSpec {
    /// The first logical date.
    pub from: DateTime<Utc>,
    /// The last logical date.
    pub to: DateTime<Utc>,
    /// What becomes of dates that have a run.
    pub reprocess: Reprocess,
    /// How many of its runs may be active at a time.
    pub max_active_runs: u32,
    /// The newest date first.
    pub run_backwards: bool,
    /// What every run overrides of the params.
    pub conf: Arc<serde_json::Map<String, serde_json::Value>>,
}

/// A backfill as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackfillRow {
    /// Its number.
    pub key: BackfillKey,
    /// The DAG.
    pub dag_id: DagId,
    /// What is filled; `from` and `to` are dates of the DAG.
    pub spec: BackfillSpec,
    /// Where it is.
    pub state: BackfillState,
    /// Why it is paused, when no person did it.
    pub reason: Option<String>,
    /// The date that was dealt with last; absent before the first.
    pub cursor: Option<DateTime<Utc>>,
    /// How many dates it has, by the newest schedule.
    pub date_count: u64,
    /// Dates that got a run.
    pub created: u64,
    /// Dates whose run was cleared.
    pub reprocessed: u64,
    /// Dates that were passed over.
    pub passed_over: u64,
    /// Dates that were left alone.
    pub left_alone: u64,
    /// How many of its runs failed in a row.
    pub failed_runs: u32,
    /// A person asked for its cancellation at.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// Who created it.
    pub created_by: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Ended at; set exactly in a terminal state.
    pub finished_at: Option<DateTime<Utc>>,
}

impl BackfillRow {
    /// Returns how many dates were dealt with.
    #[must_use]
    pub const fn dealt_with(&self) -> u64 {
        self.created + self.reprocessed + self.passed_over + self.left_alone
    }

    /// Returns how many dates nobody has looked at yet.
    #[must_use]
    pub const fn dates_left(&self) -> u64 {
        self.date_count.saturating_sub(self.dealt_with())
    }

    /// Whether it still makes runs, as far as it itself says.
    #[must_use]
    pub fn is_going_on(&self) -> bool {
        self.state == BackfillState::Running && self.cancel_requested_at.is_none()
    }
}

/// What became of one date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillDate {
    /// The backfill.
    pub backfill: BackfillKey,
    /// The date.
    pub logical_date: DateTime<Utc>,
    /// What became of it.
    pub outcome: DateOutcome,
    /// Its run: the one that was made or cleared, or the one that was in the way.
    pub run: Option<RunKey>,
    /// Why, where no run came of it.
    pub reason: Option<String>,
}

/// A scheduled or backfill run of a date, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatedRun {
    /// The run.
    pub run: RunKey,
    /// Its id.
    pub run_id: RunId,
    /// How it came to be.
    pub run_type: RunType,
    /// Where it is.
    pub state: RunState,
    /// The date.
    pub logical_date: DateTime<Utc>,
    /// Why it cannot be loaded, when that is so.
    pub unreadable: Option<String>,
}

/// What is to be done with a date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// A run is made for it.
    Create,
    /// Its run is cleared and joins the backfill.
    Reprocess(RunKey),
    /// Nothing, because of that run.
    Nothing {
        /// `passed_over` or `left_alone`.
        outcome: DateOutcome,
        /// The run.
        run: RunKey,
        /// Why.
        reason: String,
    },
}

impl Plan {
    /// Returns what the date is counted as.
    #[must_use]
    pub const fn outcome(&self) -> DateOutcome {
        match self {
            Self::Create => DateOutcome::Created,
            Self::Reprocess(_) => DateOutcome::Reprocessed,
            Self::Nothing { outcome, .. } => *outcome,
        }
    }
}

/// Decides what becomes of a date that has these runs. Manual runs are not of a date, so they are not among them.
#[must_use]
pub fn plan<'a>(reprocess: Reprocess, found: impl IntoIterator<Item = &'a DatedRun>) -> Plan {
    let mut found: Vec<&DatedRun> = found.into_iter().collect();
    // Where a date has both, the scheduled one is the run of the date (`semantics.md` §6).
    found.sort_by_key(|run| (run.run_type != RunType::Scheduled, run.run));
    if let Some(active) = found.iter().find(|run| !run.state.is_terminal()) {
        let reason = format!("{} is {}", active.run_id, active.state);
        return Plan::Nothing { outcome: DateOutcome::LeftAlone, run: active.run, reason };
    }
    let Some(run) = found.first() else { return Plan::Create };
    let is_again = match reprocess {
        Reprocess::None => false,
        Reprocess::Failed => run.state != RunState::Success,
        Reprocess::Completed => true,
    };
    match &run.unreadable {
        _ if !is_again => {
            let reason = format!("{} has ended as {}", run.run_id, run.state);
            Plan::Nothing { outcome: DateOutcome::PassedOver, run: run.run, reason }
        }
        Some(why) => {
            let reason = format!("{} cannot be cleared: {why}", run.run_id);
            Plan::Nothing { outcome: DateOutcome::LeftAlone, run: run.run, reason }
        }
        None => Plan::Reprocess(run.run),
    }
}

/// Why a backfill is not possible as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillProblem {
    /// `from` is after `to`, or the limit is not possible.
    BadRange(String),
    /// The DAG has no date there that lies wholly in the past.
    NoDates,
    /// There are more than [`MAX_DATES`].
    TooManyDates,
    /// A task asks for the run before, which would come later.
    PastBackwards,
}

/// The dates of a backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dates {
    /// The first.
    pub first: Slot,
    /// The last.
    pub last: Slot,
    /// How many.
    pub count: u64,
}

/// Finds the dates that a backfill would have at `now`: those of the DAG from `from` to `to` that lie wholly in the past.
///
/// # Errors
/// [`BackfillProblem`].
pub fn dates(
    dag: &Dag,
    timetable: &Timetable,
    spec: &BackfillSpec,
    now: DateTime<Utc>,
) -> Result<Dates, BackfillProblem> {
    if spec.from > spec.to {
        return Err(BackfillProblem::BadRange("the first date is after the last one".to_owned()));
    }
    if spec.max_active_runs == 0 || spec.max_active_runs > MAX_ACTIVE_RUNS {
        let text = format!("max_active_runs is {}, it may be 1 to {MAX_ACTIVE_RUNS}", spec.max_active_runs);
        return Err(BackfillProblem::BadRange(text));
    }
    if spec.run_backwards && dag.tasks.iter().any(|task| task.depends_on_past || task.wait_for_downstream) {
        return Err(BackfillProblem::PastBackwards);
    }
    let is_past = |slot: &Slot| slot.logical_date <= spec.to && slot.run_after <= now;
    let mut found = timetable.from_logical_date(spec.from).take_while(is_past).take(MAX_DATES + 1);
    let first = found.next().ok_or(BackfillProblem::NoDates)?;
    let (last, count) = found.fold((first, 1), |(_, count), slot| (slot, count + 1));
    if count > MAX_DATES as u64 {
        return Err(BackfillProblem::TooManyDates);
    }
    Ok(Dates { first, last, count })
}

/// Returns the dates that come after `cursor`, in the order of the backfill.
pub fn dates_after<'a>(
    timetable: &'a Timetable,
    spec: &'a BackfillSpec,
    cursor: Option<DateTime<Utc>>,
) -> Box<dyn Iterator<Item = Slot> + 'a> {
    let next = chrono::TimeDelta::microseconds(1);
    if spec.run_backwards {
        let newest = cursor.map_or(spec.to, |cursor| cursor - next);
        Box::new(timetable.until_logical_date(newest).take_while(|slot| slot.logical_date >= spec.from))
    } else {
        let oldest = cursor.map_or(spec.from, |cursor| cursor + next);
        Box::new(timetable.from_logical_date(oldest).take_while(|slot| slot.logical_date <= spec.to))
    }
}

/// A page of dates that a backfill can deal with now; the loop looks up which runs they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillPage {
    /// The backfill.
    pub backfill: BackfillKey,
    /// Its DAG.
    pub dag_id: DagId,
    /// What becomes of dates that have a run.
    pub reprocess: Reprocess,
    /// The dates, in the order in which they are dealt with.
    pub dates: Vec<DateTime<Utc>>,
    /// How many runs may be made or cleared now.
    pub room: usize,
}

impl BackfillPage {
    /// Returns the runs that would be cleared, given what was found: these the loop loads whole.
    #[must_use]
    pub fn to_load(&self, found: &[DatedRun]) -> Vec<RunKey> {
        let mut runs = Vec::new();
        let mut room = self.room;
        for date in &self.dates {
            let of_date = found.iter().filter(|run| run.logical_date == *date);
            let plan = plan(self.reprocess, of_date);
            let is_run = matches!(plan.outcome(), DateOutcome::Created | DateOutcome::Reprocessed);
            if is_run && room == 0 {
                break;
            }
            room -= usize::from(is_run);
            if let Plan::Reprocess(run) = plan {
                runs.push(run);
            }
        }
        runs
    }
}

/// Why a backfill makes no run at present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum BackfillWait {
    /// It is paused.
    Paused {
        /// Why, when no person did it.
        reason: Option<String>,
    },
    /// It is being cancelled and its runs are ending.
    Cancelling {
        /// How many have not ended.
        active: u32,
    },
    /// The file of its DAG is missing, or there is no definition that could run.
    NoDefinition,
    /// Its limit is reached.
    Limit {
        /// How many of its runs are active.
        active: u32,
        /// The limit.
        limit: u32,
    },
    /// Every date is dealt with, and its last runs have not ended.
    LastRuns {
        /// How many have not ended.
        active: u32,
    },
    /// The clock was set back before its next date.
    Future {
        /// The date.
        date: DateTime<Utc>,
    },
    /// It is about to go on.
    Next,
}

impl fmt::Display for BackfillWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { reason: Some(reason) } => write!(f, "it is paused: {reason}"),
            Self::Paused { reason: None } => f.write_str("a person has paused it"),
            Self::Cancelling { active } => write!(f, "it is being cancelled: {active} runs have not ended"),
            Self::NoDefinition => f.write_str("the file of its DAG is missing or cannot be read"),
            Self::Limit { active, limit } => {
                write!(f, "{active} of its max_active_runs = {limit} runs are active")
            }
            Self::LastRuns { active } => {
                write!(f, "every date is dealt with, {active} runs have not ended")
            }
            Self::Future { date } => {
                write!(
                    f,
                    "the date {} is not past, the clock was set back",
                    date.format("%Y-%m-%dT%H:%M:%SZ")
                )
            }
            Self::Next => f.write_str("it is about to go on"),
        }
    }
}
