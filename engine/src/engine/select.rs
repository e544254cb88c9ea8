//! Which instances a clear, a mark or the end of a run is about.

use std::collections::BTreeSet;

use super::{instances::InstanceIndex, run::Run, verdict::cleans_up};
use crate::{
    action::{Changed, Refusal},
    event::ClearSelection,
    graph::TaskIndex,
    ids::{TaskId, TaskInstanceKey},
    state::{RunState, TaskState},
};

/// Returns the instances that end with their run: all that have not ended, but for what cleans up. What was to clean up and
/// waits for a person ends too: nobody would bring it on in a run that ends.
pub(super) fn to_end(run: &Run) -> Vec<InstanceIndex> {
    let tasks = (0..run.graph.len()).filter(|task| run.instances.of(*task).tally.open() > 0);
    let ends = |ix: &InstanceIndex| {
        let state = run.instances[*ix].row.state;
        !state.is_terminal() && !is_spared(run, *ix)
    };
    instances_of(run, &tasks.collect()).filter(ends).collect()
}

/// Whether an instance goes on in a run that ends, because it cleans up.
fn is_spared(run: &Run, ix: InstanceIndex) -> bool {
    let state = run.instances[ix].row.state;
    !state.is_terminal() && state != TaskState::AwaitingInput && cleans_up(run, ix.task)
}

/// Returns the instances of some tasks.
pub(super) fn instances_of<'a>(
    run: &'a Run,
    tasks: &'a BTreeSet<TaskIndex>,
) -> impl Iterator<Item = InstanceIndex> + 'a {
    let all = tasks.iter().flat_map(|task| run.instances.of_task(*task));
    // What is removed is over: only a new list brings it back.
    all.filter(|(_, record)| record.row.state != TaskState::Removed).map(|(ix, _)| ix)
}

/// Returns the instances of some tasks, or the one element of each that is asked for.
pub(super) fn chosen(
    run: &Run,
    tasks: &BTreeSet<TaskIndex>,
    map_index: Option<i32>,
) -> Result<BTreeSet<InstanceIndex>, Refusal> {
    let Some(map_index) = map_index else { return Ok(instances_of(run, tasks).collect()) };
    let one = |task: &TaskIndex| {
        let ix = InstanceIndex { task: *task, map_index };
        let is_there = run.instances.has(ix) && run.instances[ix].row.state != TaskState::Removed;
        let name =
            || TaskInstanceKey { run: run.row.key, task: run.graph.task(*task).id.clone(), map_index }.name();
        if is_there { Ok(ix) } else { Err(Refusal::UnknownElement(name())) }
    };
    tasks.iter().map(one).collect()
}

/// Whether a mark concerns nothing but what still cleans up.
pub(super) fn is_cleaning(run: &Run, tasks: &[TaskId]) -> bool {
    let is_kept = |id| {
        let found: Option<TaskIndex> = run.graph.index_of(id);
        found.is_some_and(|task| run.instances.of(task).tally.open() > 0 && cleans_up(run, task))
    };
    !tasks.is_empty() && tasks.iter().all(is_kept)
}

/// Returns the leaves that get the verdict of a run that is marked: they carry it, so that it needs no record of its
/// own and survives a restart. What is leased stops first.
pub(super) fn leaves_to_mark(run: &Run, state: RunState) -> Vec<InstanceIndex> {
    let is_good = |state: TaskState| matches!(state, TaskState::Success | TaskState::Skipped);
    let leaves: BTreeSet<TaskIndex> = run.graph.leaves().iter().copied().collect();
    let leaves: Vec<InstanceIndex> = instances_of(run, &leaves).collect();
    // Leaves that do not wait for everybody may all have ended well while something above them still runs.
    let is_kept = |ix: &InstanceIndex| is_spared(run, *ix);
    let are_all_good =
        leaves.iter().filter(|ix| !is_kept(ix)).all(|ix| is_good(run.instances[*ix].row.state));
    let is_marked = |ix: &InstanceIndex| {
        let now = run.instances[*ix].row.state;
        let is_against = match state {
            RunState::Success => now.is_terminal() && !is_good(now),
            _ => are_all_good,
        };
        (!now.is_terminal() || is_against) && !now.has_lease()
    };
    leaves.into_iter().filter(is_marked).filter(|ix| !is_kept(ix)).collect()
}

pub(super) fn changed(run: &Run, ix: InstanceIndex, to: TaskState) -> Changed {
    let row = &run.instances[ix].row;
    Changed {
        run: row.key.run,
        task: row.key.task.clone(),
        map_index: row.key.map_index,
        from: row.state,
        to,
    }
}

pub(super) fn positions(run: &Run, tasks: &[TaskId]) -> Result<BTreeSet<TaskIndex>, Refusal> {
    tasks
        .iter()
        .map(|id| run.graph.index_of(id).ok_or_else(|| Refusal::UnknownTask(id.to_string())))
        .collect()
}

/// Returns the instances that a clear selects and that there is something to clear of, or that are to run for the
/// first time in a newer version.
pub(super) fn select(
    run: &Run,
    selection: &ClearSelection,
    is_newer: bool,
) -> Result<BTreeSet<InstanceIndex>, Refusal> {
    let named = positions(run, &selection.tasks)?;
    let mut selected: BTreeSet<TaskIndex> =
        if selection.tasks.is_empty() { (0..run.graph.len()).collect() } else { named.clone() };
    if selection.upstream {
        selected.extend(run.graph.ancestors(&named));
    }
    if selection.downstream {
        selected.extend(run.graph.descendants(&named));
    }
    let is_there = |ix: &InstanceIndex| run.instances[*ix].row.state != TaskState::NoStatus || is_newer;
    let mut instances = chosen(run, &named, selection.map_index)?;
    selected.retain(|task| selection.tasks.is_empty() || !named.contains(task));
    instances.extend(instances_of(run, &selected));
    let mut found: BTreeSet<InstanceIndex> = instances
        .into_iter()
        .filter(|ix| {
            let state = run.instances[*ix].row.state;
            let is_failed = matches!(state, TaskState::Failed | TaskState::UpstreamFailed);
            is_there(ix) && (is_failed || !selection.only_failed)
        })
        .collect();
    let belonging = run.graph.belonging_to(&found.iter().map(|ix| ix.task).collect());
    found.extend(instances_of(run, &belonging).filter(is_there));
    Ok(found)
}

/// Returns what is decided anew below instances that are marked as success: what never ran because they had failed.
/// What failed below by itself keeps its verdict.
pub(super) fn revived_by(
    run: &Run,
    named: &BTreeSet<TaskIndex>,
    state: TaskState,
) -> BTreeSet<InstanceIndex> {
    if state != TaskState::Success {
        return BTreeSet::new();
    }
    let mut below = run.graph.descendants(named);
    below.retain(|task| !named.contains(task));
    below.into_iter().flat_map(|task| run.of_task_in(task, TaskState::UpstreamFailed)).collect()
}
