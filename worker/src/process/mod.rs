//! Processes: how a try is started, found again and killed with everything that it left behind.
//!
//! **Invariant:** nothing here signals a process by a bare number that may have been given to another one in
//! the meantime: a process is the pair of its number and its start time, checked through a pidfd.

pub(crate) mod cgroup;
pub(crate) mod child;
pub(crate) mod children;
#[cfg(target_arch = "x86_64")]
mod clone;
pub(crate) mod proc;
pub(crate) mod spawn;
pub(crate) mod tree;
