//! What a DAG file says about things outside of it: files that must be there, dates that lie in the past.
//!
//! The loader neither opens files nor knows the time, so it only notes what is to be asked, with its place. Whoever loads
//! the file asks, and judges here: the words are the same for the command line and for the pages.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    code::Code,
    model::{Dag, Schedule},
    problem::{Problem, Report, Severity, Span},
    scripts::{self, NamedScript},
    tree::{Node, Table, Value},
};
use crate::timetable::Timetable;

/// From how many missed dates on `catchup` is warned of: about three years of days, or six weeks of hours.
pub const MANY_DATES: u64 = 1_000;

/// What has to be asked about a file, with the places that the questions come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Files that tasks execute, relative to the folder of the DAG file.
    pub scripts: Vec<NamedScript>,
    /// Where `catchup = true` stands.
    pub(super) catchup: Option<Span>,
    /// Where `end_date` stands.
    pub(super) end_date: Option<Span>,
}

/// What was found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It is there, or nobody can tell.
    There,
    /// It is there and its permissions do not let it be executed.
    NotExecutable,
    /// Nothing is there.
    Missing,
}

impl Outside {
    /// Notes what is to be asked.
    pub(super) fn note(root: &Table<'_>, report: &Report<'_>) -> Self {
        let key = |name: &str| match root.get("dag").map(|entry| &entry.node.value) {
            Some(Value::Table(dag)) => dag.get(name).map(|entry| &entry.node),
            _ => None,
        };
        let place = |node: &Node<'_>| report.place(&node.span);
        Self {
            scripts: scripts::find(root, report),
            catchup: key("catchup").filter(|node| matches!(node.value, Value::Boolean(true))).map(place),
            end_date: key("end_date").map(place),
        }
    }

    /// Says which of the files that tasks execute are not as they must be.
    #[must_use]
    pub fn missing(&self, look: &dyn Fn(&str) -> FileState) -> Vec<Problem> {
        let judge = |script: &NamedScript| {
            let NamedScript { path, task, .. } = script;
            let (message, label, help) = match look(path) {
                FileState::There => return None,
                FileState::NotExecutable if !script.is_program => return None,
                FileState::NotExecutable => (
                    format!("the task `{task}` executes `{path}`, which is not executable"),
                    "not executable",
                    format!("make it so: `chmod +x {path}`"),
                ),
                FileState::Missing => (
                    format!(
                        "the task `{task}` executes `{path}`, and there is no such file beside the DAG file"
                    ),
                    "not there",
                    "tasks run in the folder of their DAG file: put the file there or correct the path"
                        .to_owned(),
                ),
            };
            let span = Span { label: label.to_owned(), ..script.span.clone() };
            Some(warning(Code::MISSING_SCRIPT, message, help, span))
        };
        self.scripts.iter().filter_map(judge).collect()
    }

    /// Says what is odd about the dates at `now`. `cursor` is how far the dates are dealt with, where that is known;
    /// without it the DAG is taken for a new one.
    #[must_use]
    pub fn dates(&self, dag: &Dag, cursor: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Vec<Problem> {
        let mut found = Vec::new();
        let Ok(timetable) = Timetable::new(dag) else { return found };
        let timetable = timetable.first_seen(now);
        let has_dates = matches!(dag.schedule, Schedule::Cron(_) | Schedule::Every(_) | Schedule::Once);
        let first = timetable.cursor_before_start().unwrap_or(DateTime::UNIX_EPOCH);
        let is_from_start = dag.catchup || dag.schedule == Schedule::Once;
        let after = cursor.unwrap_or(if is_from_start { first } else { now }).max(first);
        if let (Some(span), true) = (&self.end_date, has_dates)
            && timetable.next_after(after).is_none()
        {
            let (message, help) = match cursor {
                None if timetable.next_after(first).is_none() => (
                    "the schedule never fires: it has no date between `start_date` and `end_date`",
                    "move `end_date`, or leave it out",
                ),
                _ => (
                    "the schedule does not fire any more: it has no date left before `end_date`",
                    "move `end_date`, or leave `schedule` out of a DAG that people and backfills start",
                ),
            };
            found.push(warning(Code::NO_DATE_LEFT, message.to_owned(), help.to_owned(), span.clone()));
        }
        if let Some(span) = self.catchup.as_ref().filter(|_| dag.start_date.is_some())
            && let Some(missed) = timetable.missed(after, now - TimeDelta::seconds(1))
            && missed.count >= MANY_DATES
        {
            found.push(many(missed.count, dag, cursor.is_some(), span));
        }
        found
    }
}

fn many(count: u64, dag: &Dag, is_known: bool, span: &Span) -> Problem {
    let at_least = if count >= crate::timetable::MISSED_COUNT_LIMIT { "at least " } else { "" };
    let message = if is_known {
        format!("`catchup` still has to create {at_least}{count} runs for dates that are past")
    } else {
        format!(
            "`catchup` creates {at_least}{count} runs for dates that are past as soon as the DAG is loaded"
        )
    };
    let help = format!(
        "they run {} at a time (`max_active_runs`); begin with a later `start_date`, or leave `catchup` out and run \
         the dates that you need as a backfill",
        dag.max_active_runs
    );
    warning(Code::CATCHUP_OF_MANY, message, help, span.clone())
}

fn warning(code: Code, message: String, help: String, span: Span) -> Problem {
    Problem {
        code,
        severity: Severity::Warning,
        message,
        help: Some(help),
        suggestion: None,
        spans: vec![span],
    }
}
