//! The guardian itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    os::fd::AsFd,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::getppid,
};
use tidemill_protocol::worker::SELF_KILL_SECONDS;

use super::{Message, READY};
use crate::{
    clock::boottime_ms,
    process::{
        proc::{self, Process},
        tree::{Target, add_descendants},
    },
};

/// The worker acts first; the guardian is for a worker that does not.
const SLACK_MS: u64 = 1_000;
/// How long a look for deadlines can be late.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// Messages that arrive within this time are read together; it also is how late a closed pipe is noticed.
const BATCH: Duration = Duration::from_millis(20);

struct Watched {
    target: Target,
    mark: PathBuf,
    deadline_ms: Option<u64>,
}

struct State {
    worker: i32,
    watched: BTreeMap<String, Watched>,
    contact_ms: u64,
    /// Descendants of the worker, by number and start time, as they were last seen: what shed every mark of
    /// its try is still found here when the worker is gone.
    remembered: BTreeMap<i32, u64>,
}

/// Runs the guardian until its pipe closes and nothing is left to kill.
#[must_use]
pub fn main() -> ExitCode {
    let worker = getppid().map_or(0, |pid| pid.as_raw_pid());
    let mut state =
        State { worker, watched: BTreeMap::new(), contact_ms: boottime_ms(), remembered: BTreeMap::new() };
    {
        use std::io::Write as _;
        let mut out = std::io::stdout();
        if writeln!(out, "{READY}").and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    let Ok(pipe) = std::io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut pipe = File::from(pipe);
    let mut buffer = Vec::new();
    let mut last_look_ms = 0;
    loop {
        let mut events = [PollFd::new(&pipe, PollFlags::IN)];
        let is_ready = poll(&mut events, Some(&INTERVAL)).is_ok_and(|ready| ready > 0);
        if is_ready {
            std::thread::sleep(BATCH);
            let mut chunk = vec![0; 64 * 1024];
            match pipe.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => buffer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
            state.apply_lines(&mut buffer);
        }
        let now = boottime_ms();
        if now.saturating_sub(last_look_ms) >= 500 {
            last_look_ms = now;
            state.look(now);
        }
    }
    state.kill_everything();
    ExitCode::SUCCESS
}

impl State {
    fn apply_lines(&mut self, buffer: &mut Vec<u8>) {
        let Some(end) = buffer.iter().rposition(|b| *b == b'\n') else { return };
        let rest = buffer.split_off(end + 1);
        for line in std::mem::replace(buffer, rest).split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Message::Watch { id, target, mark, deadline_ms }) => {
                    self.watched.insert(id, Watched { target, mark, deadline_ms });
                }
                Ok(Message::Contact { at_ms }) => self.contact_ms = self.contact_ms.max(at_ms),
                Ok(Message::Forget { id }) => drop(self.watched.remove(&id)),
                // A newer worker with an older guardian cannot happen: both are the same program.
                Err(_) => {}
            }
        }
    }

    /// Kills what is past its deadline and remembers what the worker's descendants are.
    fn look(&mut self, now_ms: u64) {
        if self.watched.is_empty() {
            self.remembered.clear();
            return;
        }
        let has_contact = now_ms.saturating_sub(self.contact_ms) <= SELF_KILL_SECONDS * 1_000 + SLACK_MS;
        let descendants = self.descendants();
        self.remembered = descendants.iter().map(|p| (p.pid, p.start_ticks)).collect();
        for watched in self.watched.values() {
            let is_late = watched.deadline_ms.is_some_and(|deadline| now_ms > deadline);
            if !has_contact || is_late {
                let _ = File::create(&watched.mark);
                watched.target.kill_once(&BTreeMap::new());
            }
        }
        if !has_contact {
            for process in descendants {
                proc::signal(process, rustix::process::Signal::KILL);
            }
        }
    }

    /// Returns the living descendants of the worker that can be tasks: this process is none of them, and what
    /// may still gain privileges was started by somebody else in the worker's process.
    fn descendants(&self) -> Vec<Process> {
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        let all: Vec<Process> =
            proc::processes().into_iter().filter(|p| !p.is_zombie && p.pid != me).collect();
        let mut found = BTreeSet::from([self.worker]);
        add_descendants(&all, &mut found);
        found.remove(&self.worker);
        all.into_iter().filter(|p| found.contains(&p.pid) && proc::has_no_new_privileges(p.pid)).collect()
    }

    /// The worker is gone: kills everything that it had running, until nothing is found any more.
    fn kill_everything(&self) {
        // The cgroups and groups first, each with one call; then what hid.
        for watched in self.watched.values() {
            watched.target.kill_once(&self.remembered);
        }
        for watched in self.watched.values() {
            watched.target.kill_all(&self.remembered, Duration::from_secs(30));
        }
    }
}
