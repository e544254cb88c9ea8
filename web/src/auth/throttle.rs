//! Slows down who guesses: after ten failures within a minute an address has to wait for the minute to pass.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_secs(60);
const FAILURES: usize = 10;
/// How many addresses are remembered; past it the memory is worth more than the oldest entries.
const ADDRESSES: usize = 4096;

/// Failures by address; `None` stands for a peer whose address is not known.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    failures: Mutex<BTreeMap<Option<IpAddr>, Vec<Instant>>>,
}

impl Throttle {
    /// Whether the address has to wait.
    pub(crate) fn is_blocked(&self, address: Option<IpAddr>) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = failures.get_mut(&address) else { return false };
        list.retain(|at| at.elapsed() < WINDOW);
        list.len() >= FAILURES
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, address: Option<IpAddr>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES {
            failures.retain(|_, list| list.last().is_some_and(|at| at.elapsed() < WINDOW));
        }
        if failures.len() < ADDRESSES {
            failures.entry(address).or_default().push(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_block_one_address_and_no_other() {
        let throttle = Throttle::default();
        let bad = Some(IpAddr::from([10, 0, 0, 1]));
        for _ in 0..FAILURES {
            assert!(!throttle.is_blocked(bad));
            throttle.failed(bad);
        }
        assert!(throttle.is_blocked(bad));
        assert!(!throttle.is_blocked(None));
    }
}
