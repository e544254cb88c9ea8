//! Places where a kill test may stop the process dead.
//!
//! Nothing here exists in a build without the cargo feature `failpoints`: `failpoint` is then an empty
//! function. With it, the process kills itself with SIGKILL at the chosen visit of the chosen point, or kills
//! another one: the server of a worker that lives on.

#[cfg(feature = "failpoints")]
mod active {
    use std::{path::PathBuf, sync::Mutex};

    pub(super) static ARMED: Mutex<Option<(String, u64)>> = Mutex::new(None);
    pub(super) static ORDERS: Mutex<Option<PathBuf>> = Mutex::new(None);
}

/// The points, in the order in which an attempt passes them: assigned but not yet spawned; result known but not
/// yet sent.
pub const POINTS: &[&str] = &["before_spawn", "before_result"];

/// Arms `point` so that its `visits`-th visit from now kills the process.
#[cfg(feature = "failpoints")]
pub fn arm(point: &str, visits: u64) {
    let mut armed = active::ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *armed = Some((point.to_owned(), visits.max(1)));
}

/// Does nothing in this build.
#[cfg(not(feature = "failpoints"))]
pub const fn arm(_point: &str, _visits: u64) {}

/// From now on a file says, again and again, which process is killed at which point: it holds `POINT PID` and is
/// removed by the visit that obeys it. The kill test of the server writes it for the worker that lives on.
#[cfg(feature = "failpoints")]
pub fn obey(orders: &std::path::Path) {
    let mut known = active::ORDERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *known = Some(orders.to_owned());
}

/// Does nothing in this build.
#[cfg(not(feature = "failpoints"))]
pub const fn obey(_orders: &std::path::Path) {}

/// Kills the process that the file of orders names for this point. Holding the lock lets one visit obey.
#[cfg(feature = "failpoints")]
fn follow_orders(point: &str) {
    let orders = active::ORDERS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(path) = orders.as_ref() else { return };
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let Some((named, pid)) = text.split_once(' ') else { return };
    let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    if let (true, Some(pid)) = (named == point && std::fs::remove_file(path).is_ok(), pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Kills the process here when this point is armed and its turn has come.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint(point: &str) {
    follow_orders(point);
    let mut armed = active::ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((name, visits)) = armed.as_mut()
        && name == point
    {
        *visits = visits.saturating_sub(1);
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
