//! What the loop counts, for whoever installed a recorder; without one a count costs one load.
//!
//! **Invariant:** only what is committed is counted, and once: labels are words of the domain, never names that
//! people chose, so the number of series does not grow with the number of DAGs.

use std::{collections::BTreeMap, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use tidemill_engine::state::{RunState, RunType, TaskState, TryOutcome};
use tidemill_store::Batch;

const EVENTS: &str = "tidemill_scheduler_events_total";
const ROUND: &str = "tidemill_scheduler_round_seconds";
const COMMIT: &str = "tidemill_store_commit_seconds";
const COMMIT_FAILURES: &str = "tidemill_store_commit_failures_total";
const RUNS_CREATED: &str = "tidemill_runs_created_total";
const RUNS_ENDED: &str = "tidemill_runs_ended_total";
const TASKS_ENDED: &str = "tidemill_task_instances_ended_total";
const TRIES_ENDED: &str = "tidemill_tries_ended_total";

/// Says what each series means and begins every one of them at zero, so that a rate over them is defined from the
/// first scrape on.
pub fn describe_metrics() {
    describe_counter!(EVENTS, "Messages that the scheduler has applied.");
    describe_histogram!(ROUND, Unit::Seconds, "How long a round of the scheduler took, its commit included.");
    describe_histogram!(COMMIT, Unit::Seconds, "How long a commit took.");
    describe_counter!(COMMIT_FAILURES, "Commits that the database did not take, by what it said.");
    describe_counter!(RUNS_CREATED, "Dag runs that were created, by type.");
    describe_counter!(RUNS_ENDED, "Dag runs that ended, by state.");
    describe_counter!(TASKS_ENDED, "Task instances that ended, by state.");
    describe_counter!(TRIES_ENDED, "Tries that ended, by outcome.");
    counter!(EVENTS).increment(0);
    for kind in RunType::ALL {
        counter!(RUNS_CREATED, "type" => kind.as_str()).increment(0);
    }
    for state in RunState::ALL.iter().filter(|state| state.is_terminal()) {
        counter!(RUNS_ENDED, "state" => state.as_str()).increment(0);
    }
    for state in TaskState::ALL.iter().filter(|state| state.is_terminal()) {
        counter!(TASKS_ENDED, "state" => state.as_str()).increment(0);
    }
    for outcome in TryOutcome::ALL {
        counter!(TRIES_ENDED, "outcome" => outcome.as_str()).increment(0);
    }
}

/// Counts a round.
pub(crate) fn round(events: usize, took: Duration) {
    counter!(EVENTS).increment(wide(events));
    histogram!(ROUND).record(took);
}

/// Counts a commit that failed.
pub(crate) fn commit_failed(code: &'static str) {
    counter!(COMMIT_FAILURES, "code" => code).increment(1);
}

/// Counts what a commit made true.
pub(crate) fn committed(batch: &Batch, took: Duration) {
    histogram!(COMMIT).record(took);
    let mut created = Tally::new();
    let mut ended = Tally::new();
    for change in &batch.runs {
        let row = &change.row;
        if change.from.is_none() {
            add(&mut created, row.run_type.as_str());
        }
        if row.state.is_terminal() && change.from != Some(row.state) {
            add(&mut ended, row.state.as_str());
        }
    }
    flush(&created, |word, n| counter!(RUNS_CREATED, "type" => word).increment(n));
    flush(&ended, |word, n| counter!(RUNS_ENDED, "state" => word).increment(n));
    let mut tasks = Tally::new();
    for change in &batch.tasks {
        if change.row.state.is_terminal() && change.from.state != change.row.state {
            add(&mut tasks, change.row.state.as_str());
        }
    }
    flush(&tasks, |word, n| counter!(TASKS_ENDED, "state" => word).increment(n));
    let mut tries = Tally::new();
    for outcome in batch.tries.iter().filter_map(|write| write.change.row.outcome) {
        add(&mut tries, outcome.as_str());
    }
    flush(&tries, |word, n| counter!(TRIES_ENDED, "outcome" => word).increment(n));
}

/// A batch has up to thousands of rows and a handful of words: they are added up before a recorder is asked.
type Tally = BTreeMap<&'static str, u64>;

fn add(tally: &mut Tally, word: &'static str) {
    *tally.entry(word).or_default() += 1;
}

fn flush(tally: &Tally, count: impl Fn(&'static str, u64)) {
    for (word, n) in tally {
        count(word, *n);
    }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
