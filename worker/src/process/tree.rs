//! Everything that belongs to one try, wherever it hid, and how it is killed.
//!
//! A process belongs to a try when it is in the try's cgroup or process group, carries the try's marker in its
//! environment, holds the try's log as a standard stream, was remembered as one of its processes, or descends
//! from such a process. The name of a process never counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{
    cgroup,
    proc::{self, OpenFile, Process},
};

/// The environment variable that marks every process of a try.
pub(crate) const MARKER: &str = "TIDEMILL_ATTEMPT";

/// How the processes of one try are recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// The value of [`MARKER`].
    pub(crate) marker: String,
    /// The leaf cgroup, where there is one.
    pub(crate) cgroup: Option<PathBuf>,
    /// The process group, once the process is started.
    pub(crate) group: Option<i32>,
    /// When its leader was started, in ticks: a leader of another time leads another group of the same number.
    pub(crate) group_since_ticks: Option<u64>,
    /// The log file.
    pub(crate) log: Option<OpenFile>,
    /// Nothing that was started before this is part of the try.
    pub(crate) since_ticks: u64,
}

impl Target {
    /// Returns the living processes of the try.
    pub(crate) fn members(&self, remembered: &BTreeMap<i32, u64>) -> Vec<Process> {
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        let all: Vec<Process> = proc::processes()
            .into_iter()
            .filter(|p| !p.is_zombie && p.pid != me && p.start_ticks >= self.since_ticks)
            .collect();
        let in_cgroup: BTreeSet<i32> =
            self.cgroup.as_deref().map(cgroup::members).unwrap_or_default().into_iter().collect();
        let is_other_group = self.group.is_some_and(|group| {
            let leader = proc::process(group);
            leader.zip(self.group_since_ticks).is_some_and(|(leader, since)| leader.start_ticks != since)
        });
        let assignment = format!("{MARKER}={}", self.marker);
        let mut found: BTreeSet<i32> = all
            .iter()
            .filter(|p| {
                in_cgroup.contains(&p.pid)
                    || (self.group == Some(p.group) && !is_other_group)
                    || remembered.get(&p.pid) == Some(&p.start_ticks)
                    || proc::has_environment(p.pid, &assignment)
                    || self.log.as_ref().is_some_and(|log| proc::has_stream(p.pid, log))
            })
            .map(|p| p.pid)
            .collect();
        add_descendants(&all, &mut found);
        all.into_iter().filter(|p| found.contains(&p.pid)).collect()
    }

    /// Sends SIGKILL to everything that belongs to the try. Returns how many living processes were found.
    pub(crate) fn kill_once(&self, remembered: &BTreeMap<i32, u64>) -> usize {
        // One write kills the whole cgroup, processes that are just being made included.
        if let Some(path) = self.cgroup.as_deref() {
            cgroup::kill(path);
        }
        let members = self.members(remembered);
        for member in &members {
            proc::signal(*member, Signal::KILL);
        }
        members.len()
    }

    /// Kills until nothing is found any more, at most for `patience`. Returns whether nothing is left.
    ///
    /// Repeats because a process may have started another between the look and the signal.
    pub(crate) fn kill_all(&self, remembered: &BTreeMap<i32, u64>, patience: Duration) -> bool {
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        while self.kill_once(remembered) > 0 {
            if started.elapsed() > patience {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        true
    }
}

/// Adds every process whose chain of parents reaches one that is already found.
pub(crate) fn add_descendants(all: &[Process], found: &mut BTreeSet<i32>) {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut open: Vec<i32> = found.iter().copied().collect();
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if found.insert(*child) {
                open.push(*child);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_through_several_generations() {
        let process = |pid, parent| Process { pid, parent, group: pid, start_ticks: 1, is_zombie: false };
        let all = [process(10, 1), process(11, 10), process(12, 11), process(20, 1), process(13, 12)];
        let mut found = BTreeSet::from([11]);
        add_descendants(&all, &mut found);
        assert_eq!(found, BTreeSet::from([11, 12, 13]));
    }
}
