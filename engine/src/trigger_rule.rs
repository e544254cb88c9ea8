//! When a task instance may run, given the states of its direct upstreams (`semantics.md` §1).
//!
//! One function over counters: finishing an upstream changes one counter, so a decision costs O(1) per edge.

use serde::{Deserialize, Serialize};

use crate::state::{TaskState, TriggerRule};

/// How the direct upstreams of one instance ended so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamCounts {
    /// `U`: upstream instances, removed ones not included.
    pub total: u32,
    /// `S`.
    pub success: u32,
    /// `K`.
    pub skipped: u32,
    /// `F`.
    pub failed: u32,
    /// `UF`.
    pub upstream_failed: u32,
}

impl UpstreamCounts {
    /// Counts an upstream that ended.
    pub fn add(&mut self, state: TaskState) {
        match state {
            TaskState::Success => self.success += 1,
            TaskState::Skipped => self.skipped += 1,
            TaskState::Failed => self.failed += 1,
            TaskState::UpstreamFailed => self.upstream_failed += 1,
            TaskState::Removed => self.total = self.total.saturating_sub(1),
            _ => {}
        }
    }

    /// Returns how many ended.
    #[must_use]
    pub const fn done(&self) -> u32 {
        self.success + self.skipped + self.failed + self.upstream_failed
    }

    /// Whether every upstream ended.
    #[must_use]
    pub const fn is_all_done(&self) -> bool {
        self.done() >= self.total
    }
}

/// What a trigger rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Not yet.
    Wait,
    /// Run it.
    Run,
    /// End it as skipped.
    Skip,
    /// End it as upstream_failed.
    UpstreamFailed,
}

/// Applies a trigger rule to what is known.
#[must_use]
pub fn decide(rule: TriggerRule, c: UpstreamCounts) -> Decision {
    use Decision::{Run, Skip, UpstreamFailed, Wait};
    if c.total == 0 || rule == TriggerRule::Always {
        return Run;
    }
    let all = c.is_all_done();
    let any_failed = c.failed + c.upstream_failed > 0;
    // Order of every arm: the terminal verdict, else running, else waiting.
    let when_all = |verdict| if all { verdict } else { Wait };
    match rule {
        TriggerRule::Always => Run,
        TriggerRule::AllSuccess if any_failed => UpstreamFailed,
        TriggerRule::AllSuccess => when_all(if c.skipped > 0 { Skip } else { Run }),
        TriggerRule::AllFailed if c.success + c.skipped > 0 => Skip,
        TriggerRule::AllFailed => when_all(Run),
        TriggerRule::AllDone => when_all(Run),
        TriggerRule::AllDoneMinOneSuccess => when_all(if c.success > 0 { Run } else { no_success(c) }),
        TriggerRule::AllSkipped if c.success > 0 || any_failed => Skip,
        TriggerRule::AllSkipped => when_all(Run),
        TriggerRule::OneSuccess if c.success > 0 => Run,
        TriggerRule::OneSuccess => when_all(no_success(c)),
        TriggerRule::OneFailed if any_failed => Run,
        TriggerRule::OneFailed => when_all(Skip),
        TriggerRule::OneDone if c.success + c.failed > 0 => Run,
        TriggerRule::OneDone => when_all(Skip),
        TriggerRule::NoneFailed | TriggerRule::NoneFailedMinOneSuccess if any_failed => UpstreamFailed,
        TriggerRule::NoneFailed => when_all(Run),
        TriggerRule::NoneFailedMinOneSuccess => when_all(if c.success > 0 { Run } else { Skip }),
        TriggerRule::NoneSkipped if c.skipped > 0 => Skip,
        TriggerRule::NoneSkipped => when_all(Run),
    }
}

/// All ended and none succeeded: skipped if all were skipped, else upstream_failed.
const fn no_success(c: UpstreamCounts) -> Decision {
    if c.skipped >= c.total { Decision::Skip } else { Decision::UpstreamFailed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [TaskState; 4] =
        [TaskState::Success, TaskState::Skipped, TaskState::Failed, TaskState::UpstreamFailed];

    fn counts(total: u32, ended: &[TaskState]) -> UpstreamCounts {
        let mut counts = UpstreamCounts { total, ..UpstreamCounts::default() };
        for state in ended {
            counts.add(*state);
        }
        counts
    }

    /// The table of `semantics.md` §1, written once more as plain predicates over complete knowledge.
    fn oracle(rule: TriggerRule, all: &[TaskState]) -> Decision {
        use Decision::{Run, Skip, UpstreamFailed};
        let n = |state| all.iter().filter(|s| **s == state).count();
        let (s, k) = (n(TaskState::Success), n(TaskState::Skipped));
        let bad = n(TaskState::Failed) + n(TaskState::UpstreamFailed);
        let verdict = |run: bool, other: Decision| if run { Run } else { other };
        match rule {
            TriggerRule::Always | TriggerRule::AllDone => Run,
            TriggerRule::AllSuccess => verdict(s == all.len(), if bad > 0 { UpstreamFailed } else { Skip }),
            TriggerRule::AllFailed => verdict(bad == all.len(), Skip),
            TriggerRule::AllDoneMinOneSuccess | TriggerRule::OneSuccess => {
                verdict(s > 0, if k == all.len() { Skip } else { UpstreamFailed })
            }
            TriggerRule::AllSkipped => verdict(k == all.len(), Skip),
            TriggerRule::OneFailed => verdict(bad > 0, Skip),
            TriggerRule::OneDone => verdict(s + n(TaskState::Failed) > 0, Skip),
            TriggerRule::NoneFailed => verdict(bad == 0, UpstreamFailed),
            TriggerRule::NoneFailedMinOneSuccess => {
                verdict(bad == 0 && s > 0, if bad > 0 { UpstreamFailed } else { Skip })
            }
            TriggerRule::NoneSkipped => verdict(k == 0, Skip),
        }
    }

    fn sequences(length: usize) -> Vec<Vec<TaskState>> {
        (0..length).fold(vec![Vec::new()], |all, _| {
            all.iter().flat_map(|head| ENDS.iter().map(|end| [head.clone(), vec![*end]].concat())).collect()
        })
    }

    /// A verdict on partial information is the verdict of every completion; waiting means that two completions
    /// differ, except for the rules that wait by meaning. Exhaustive up to five upstreams.
    #[test]
    fn rules_are_exactly_timely() {
        let mut checked = 0_u32;
        for total in 1..=5_usize {
            let complete = sequences(total);
            for rule in TriggerRule::ALL {
                for known in 0..=total {
                    for prefix in sequences(known) {
                        let now = decide(*rule, counts(u32::try_from(total).unwrap(), &prefix));
                        let mut outcomes: Vec<Decision> = Vec::new();
                        for rest in complete.iter().filter(|c| c.starts_with(&prefix)) {
                            let end = oracle(*rule, rest);
                            if !outcomes.contains(&end) {
                                outcomes.push(end);
                            }
                        }
                        checked += 1;
                        if now == Decision::Wait {
                            let waits_by_meaning =
                                matches!(rule, TriggerRule::AllDone | TriggerRule::AllDoneMinOneSuccess);
                            assert!(
                                known < total && (outcomes.len() > 1 || waits_by_meaning),
                                "{rule} waits needlessly at {prefix:?} of {total}"
                            );
                        } else {
                            assert_eq!(outcomes, [now], "{rule} decides too early at {prefix:?} of {total}");
                        }
                    }
                }
            }
        }
        assert!(checked > 18_000, "only {checked} cases");
    }

    #[test]
    fn removed_upstreams_leave_the_total() {
        let mut c = counts(2, &[TaskState::Success]);
        assert_eq!(decide(TriggerRule::AllSuccess, c), Decision::Wait);
        c.add(TaskState::Removed);
        assert_eq!(decide(TriggerRule::AllSuccess, c), Decision::Run);
    }

    #[test]
    fn absent_is_not_satisfied() {
        for rule in TriggerRule::ALL.iter().filter(|rule| **rule != TriggerRule::Always) {
            assert_eq!(decide(*rule, counts(3, &[])), Decision::Wait, "{rule}");
        }
    }
}
