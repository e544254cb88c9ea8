//! Places where a kill test may stop the process dead.
//!
//! Nothing here exists in a build without the cargo feature `failpoints`: [`failpoint`] is then an empty
//! function. With it, the process kills itself with SIGKILL at the chosen visit of the chosen point, which is
//! as abrupt as a power cut for everything but the disk cache.

#[cfg(feature = "failpoints")]
mod active {
    use std::sync::Mutex;

    pub(super) static ARMED: Mutex<Option<(String, u64)>> = Mutex::new(None);
}

/// The points, in the order in which a batch passes them.
pub const POINTS: &[&str] = &["before_commit", "after_commit", "before_release"];

/// Arms `point` so that its `visits`-th visit from now kills the process.
#[cfg(feature = "failpoints")]
pub fn arm(point: &str, visits: u64) {
    let mut armed = active::ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *armed = Some((point.to_owned(), visits.max(1)));
}

/// Does nothing in this build.
#[cfg(not(feature = "failpoints"))]
pub const fn arm(_point: &str, _visits: u64) {}

/// Kills the process here when this point is armed and its turn has come.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint(point: &str) {
    let mut armed = active::ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((name, visits)) = armed.as_mut()
        && name == point
    {
        *visits -= 1;
        if *visits == 0 {
            // No destructor, no flush: the same as a kill from outside.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::process::abort();
        }
    }
}

/// Does nothing in this build.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn failpoint(_point: &str) {}
