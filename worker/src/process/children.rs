//! The worker as subreaper: what a dead intermediate parent leaves behind becomes a child of the worker.
//!
//! So, once the main process of a try has ended, "nothing escaped" is one small read: the first thread of the
//! worker has no child that the worker did not start. Children are only ever waited for by number. Waiting for
//! "any child" would take exit codes away from the runtime.
//!
//! **Invariant:** every child that the worker starts is registered before the thread that started it ends, and
//! none is started by the first thread, so an unregistered child of the first thread is an adopted orphan.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::proc::{self, Process};

/// The numbers of the processes that the worker itself started and has not waited for yet.
#[derive(Debug, Default)]
pub(crate) struct Children(Mutex<BTreeSet<i32>>);

impl Children {
    /// Registers a child.
    pub(crate) fn add(&self, pid: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
    }

    /// Forgets a child whose exit code was read.
    pub(crate) fn remove(&self, pid: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }

    /// Reads the exit codes of dead orphans and returns the living ones.
    ///
    /// `None` when the kernel does not list children; then only a look at all processes can tell.
    pub(crate) fn orphans(&self) -> Option<Vec<Process>> {
        let me = i32::try_from(std::process::id()).ok()?;
        let listed = proc::children_of_first_thread(me)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut living = Vec::new();
        for pid in listed.into_iter().filter(|pid| !known.contains(pid)) {
            let Some(process) = proc::process(pid).filter(|p| p.parent == me) else { continue };
            if process.is_zombie {
                let _ = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
            } else {
                living.push(process);
            }
        }
        Some(living)
    }
}
