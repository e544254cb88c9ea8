//! The blocking chores around the process of a try: making it, proving it dead, letting go of it.

use std::{collections::BTreeMap, time::Duration};

use tidemill_protocol::worker::{Assignment, AttemptKey};

use crate::{
    attempt::files::{self, Files, Record},
    clock::{boottime_ms, boottime_ticks},
    context::Context,
    failpoint::failpoint,
    outcome::Problem,
    process::{
        cgroup,
        child::Child,
        proc::{self, OpenFile, Process},
        spawn::{Launch, spawn},
        tree::Target,
    },
};

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) target: Target,
}

/// Prepares the try's folder and starts its process. The record and the guardian know how to find the process
/// before there is one, so no instant exists in which a kill of the worker leaves it unknown.
pub(crate) fn start(context: &Context, assignment: &Assignment, files: &Files) -> Result<Started, Problem> {
    let log = files.create()?;
    let folder = files::task_folder(&context.options.dags_dir, &assignment.dag_file)?;
    let argv = files.write_work(&context.options, assignment)?;
    let name = files::name(&assignment.attempt);
    let marker = format!("{}/{name}", context.boot_id);
    let mut env = context.options.environment.clone();
    env.extend(assignment.env.clone());
    env.extend(files.environment(&context.options, assignment, &marker)?);
    let leaf = context.cgroups.as_ref().and_then(|cgroups| {
        cgroups
            .create(&context.next_leaf())
            .map_err(|error| tracing::warn!(%error, "no cgroup for a try"))
            .ok()
    });
    let mut target = Target {
        marker,
        cgroup: leaf.clone(),
        group: None,
        group_since_ticks: None,
        log: OpenFile::of(&files.log()),
        since_ticks: boottime_ticks(),
    };
    let started = (|| {
        files.write_record(&Record {
            attempt: assignment.attempt.clone(),
            token: assignment.token.clone(),
            secrets: assignment.secrets.clone(),
            target: target.clone(),
            machine_boot_id: context.machine_boot_id.clone(),
        })?;
        context.watch(&name, &target, &files.killed_by_guardian());
        failpoint("before_spawn");
        spawn(&Launch { argv, env, folder, log, cgroup: leaf })
    })();
    let child = started.inspect_err(|_| release(context, &assignment.attempt, &target))?;
    let group = child.pid();
    target.group = group;
    if let Some(group) = group {
        context.children.add(group);
        target.group_since_ticks = proc::process(group).map(|leader| leader.start_ticks);
        if let Err(error) = files.add_group(group, target.group_since_ticks) {
            tracing::warn!(%error, "the record of a try has no process group");
        }
        let grace_ms = u64::try_from(context.options.grace.as_millis()).unwrap_or(u64::MAX);
        // Past this the worker itself has failed to act, and the guardian does.
        let deadline_ms = assignment
            .timeout_ms
            .map(|ms| boottime_ms().saturating_add(ms).saturating_add(grace_ms).saturating_add(5_000));
        context.started(&name, &target, &files.killed_by_guardian(), deadline_ms);
    }
    Ok(Started { child, target })
}

/// Whether nothing of the try can be alive, found without looking at every process of the machine.
pub(crate) fn is_clean(context: &Context, target: &Target) -> bool {
    let is_group_empty = || {
        target
            .group
            .and_then(rustix::process::Pid::from_raw)
            .is_none_or(|group| rustix::process::test_kill_process_group(group).is_err())
    };
    let mut live = context.live();
    // The kernel lists what became the worker's child by adoption; none means that nothing escaped.
    let has_no_orphans = context.children.orphans().is_some_and(|orphans| orphans.is_empty());
    let is_clean =
        has_no_orphans && is_group_empty() && !target.cgroup.as_deref().is_some_and(cgroup::is_populated);
    if is_clean {
        live.remove(&target.marker);
    }
    is_clean
}

/// Kills everything of the try and returns when nothing of it is left.
pub(crate) fn kill(context: &Context, attempt: &AttemptKey, target: &Target) {
    context.look_at_descendants();
    let seen = context.live().get(&target.marker).map(|live| live.seen.clone()).unwrap_or_default();
    while !target.kill_all(&seen, Duration::from_secs(10)) {
        // It sits in the kernel. Reporting its end would allow a second execution beside it.
        tracing::warn!(?attempt, "processes of a try do not die");
    }
    for stray in leave_strays(context, target) {
        let found = BTreeMap::from([(stray.pid, stray.start_ticks)]);
        let target = Target {
            marker: "-".to_owned(),
            cgroup: None,
            group: None,
            group_since_ticks: None,
            log: None,
            since_ticks: stray.start_ticks,
        };
        target.kill_all(&found, Duration::from_secs(10));
    }
    context.children.orphans();
}

/// Takes the try off the table and returns the adopted orphans that shed every mark (environment, group,
/// streams) and that no other try on the table can have made: every other one began after them.
fn leave_strays(context: &Context, target: &Target) -> Vec<Process> {
    let mut live = context.live();
    live.remove(&target.marker);
    let orphans = context.children.orphans().unwrap_or_default();
    let is_stray = |orphan: &Process| {
        let can_be_others = live.values().any(|live| live.since_ticks <= orphan.start_ticks);
        // Only tasks are started without the right to gain privileges; a program that the hosting process
        // started for other reasons is left alone.
        !can_be_others && proc::has_no_new_privileges(orphan.pid)
    };
    orphans.into_iter().filter(is_stray).collect()
}

/// Lets go of a try whose processes are gone.
pub(crate) fn release(context: &Context, attempt: &AttemptKey, target: &Target) {
    context.forget(&files::name(attempt), &target.marker);
    if let Some(leaf) = target.cgroup.clone() {
        // Dead processes leave their cgroup a moment late, and nobody waits for that.
        tokio::task::spawn_blocking(move || cgroup::remove(&leaf));
    }
}
