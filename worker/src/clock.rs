//! The clock of leases: it runs while the machine is suspended and no person can set it.

use rustix::time::{ClockId, clock_gettime};

/// Clock ticks per second of `/proc/PID/stat`; Linux fixes `USER_HZ` at 100 on every platform we build for.
const TICKS_PER_SECOND: u64 = 100;

/// Returns the milliseconds since the machine started, suspend included.
pub(crate) fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000 + nanoseconds / 1_000_000
}

/// Returns the same instant in the unit of a process's start time in `/proc`.
pub(crate) fn boottime_ticks() -> u64 {
    boottime_ms() * TICKS_PER_SECOND / 1_000
}
