//! What is to become of an undecided instance, and in words why: branches, setups, then the trigger rule.

use std::collections::BTreeSet;

use super::{instances::Tally, run::Run};
use crate::{
    definition::Operator,
    graph::TaskIndex,
    rows::TaskRow,
    state::{TaskState, TriggerRule},
    trigger_rule::{self, Decision},
};

/// Returns the decision that the states above a task allow, for each of its undecided instances (`semantics.md` §1, §7).
pub(super) fn verdict(run: &Run, ix: TaskIndex) -> Decision {
    let (rule, counts) = (run.graph.task(ix).trigger_rule, run.instances.of(ix).counts);
    if let Some(setups) = run.graph.setups_of(ix) {
        if !counts.is_all_done() || !being_stopped(run, ix).is_empty() {
            return Decision::Wait;
        }
        return of_setups(run, setups, false);
    }
    // A cleared setup waits until what used its last work is known to be dead.
    if run.graph.task(ix).role.is_setup() && !being_stopped(run, ix).is_empty() {
        return Decision::Wait;
    }
    let covering = run.graph.setups_above(ix);
    if covering.is_empty() || counts.total == 0 || rule == TriggerRule::Always {
        return trigger_rule::decide(rule, counts);
    }
    match of_setups(run, covering, true) {
        Decision::Run => trigger_rule::decide(rule, counts),
        other => other,
    }
}

/// Returns the tasks that are being stopped and that a setup or a teardown must not work under: what stands between them
/// may be skipped or cleared already, so that the upstreams alone do not tell.
pub(super) fn being_stopped(run: &Run, ix: TaskIndex) -> Vec<TaskIndex> {
    let is_stopping = |ix: &TaskIndex| run.instances.of(*ix).tally.stopping > 0;
    if run.graph.setups_of(ix).is_some() {
        return run.graph.work_of(ix).filter(is_stopping).collect();
    }
    if !run.graph.task(ix).role.is_setup() || !(0..run.graph.len()).any(|ix| is_stopping(&ix)) {
        return Vec::new();
    }
    run.graph.descendants(&BTreeSet::from([ix])).into_iter().filter(is_stopping).collect()
}

/// Judges setups: a teardown wants one success, what lies between wants them all.
fn of_setups(run: &Run, setups: &[TaskIndex], wants_all: bool) -> Decision {
    let tallies = || setups.iter().map(|setup| &run.instances.of(*setup).tally);
    let is_done = |tally: &Tally| tally.of(TaskState::Success) == tally.counting();
    if tallies().all(is_done) || (!wants_all && tallies().any(|tally| tally.of(TaskState::Success) > 0)) {
        return Decision::Run;
    }
    if tallies().any(|tally| tally.bad() > 0) {
        return Decision::UpstreamFailed;
    }
    match tallies().any(|tally| tally.open() > 0) {
        // A skip decides only when nothing can fail any more, so that timing does not decide between the two.
        true => Decision::Wait,
        false => Decision::Skip,
    }
}

/// Says why a verdict ended an instance: the setups that it needs, or else the upstreams that ended as it does, or,
/// where a rule wanted failures, all that have ended.
pub(super) fn ended_by_rule(run: &Run, ix: TaskIndex, word: &str) -> String {
    let is_alike = |state: TaskState| match word {
        "skipped" => state == TaskState::Skipped,
        _ => matches!(state, TaskState::Failed | TaskState::UpstreamFailed),
    };
    let needed = run.graph.setups_of(ix).unwrap_or_else(|| run.graph.setups_above(ix));
    let rows_of = |tasks: &[TaskIndex]| -> Vec<&TaskRow> {
        tasks.iter().flat_map(|task| run.instances.of_task(*task)).map(|(_, record)| &record.row).collect()
    };
    if let Some(row) = rows_of(needed).into_iter().find(|row| is_alike(row.state)) {
        return format!("its setup {} is {}", row.key.name(), row.state);
    }
    let rule = run.graph.task(ix).trigger_rule;
    let mut ended = rows_of(run.graph.upstream(ix));
    ended.retain(|row| row.state.is_terminal() && row.state != TaskState::Removed);
    let mut culprits: Vec<_> = ended.iter().copied().filter(|row| is_alike(row.state)).collect();
    if culprits.is_empty() {
        culprits = ended;
    }
    let named: Vec<String> =
        culprits.iter().take(4).map(|row| format!("{} is {}", row.key.name(), row.state)).collect();
    match culprits.len().saturating_sub(named.len()) {
        _ if named.is_empty() => format!("trigger rule {rule} cannot hold any more"),
        0 => format!("trigger rule {rule}: {}", named.join(", ")),
        more => format!("trigger rule {rule}: {} and {more} more", named.join(", ")),
    }
}

/// Says why an instance is skipped whatever its trigger rule: a short circuit above ended it, or a branch directly
/// above succeeded and did not follow it. What cleans up goes by its setups alone.
pub(super) fn ruled_out(run: &Run, ix: TaskIndex) -> Option<String> {
    if run.graph.setups_of(ix).is_some_and(|setups| !setups.is_empty()) {
        return None;
    }
    if let Some(circuit) = run.instances.of(ix).cut_by {
        return Some(not_followed(run, circuit));
    }
    run.graph.branch_upstream(ix).iter().copied().find_map(|branch| {
        // A branch is never mapped.
        let row = &run.instances.of(branch).only.row;
        let follow = row.follow.as_ref().filter(|_| row.state == TaskState::Success)?;
        (!run.graph.is_followed(branch, follow, ix)).then(|| not_followed(run, branch))
    })
}

fn not_followed(run: &Run, branch: TaskIndex) -> String {
    let task = run.graph.task(branch);
    match task.operator {
        Operator::ShortCircuit { .. } => format!("the condition of short circuit {} does not hold", task.id),
        Operator::LatestOnly => format!("{} found a newer date of the schedule", task.id),
        _ => format!("branch {} did not choose it", task.id),
    }
}

/// Whether an instance goes on when its run is ending: it cleans up after a setup that succeeded, or that is just being
/// stopped and may have.
pub(super) fn cleans_up(run: &Run, ix: TaskIndex) -> bool {
    let setups = run.graph.setups_of(ix).unwrap_or_default();
    setups.iter().map(|setup| &run.instances.of(*setup).tally).any(|tally| {
        tally.of(TaskState::Success) + tally.of(TaskState::Queued) + tally.of(TaskState::Running) > 0
    })
}
