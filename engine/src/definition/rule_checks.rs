//! Trigger rules that say nothing or can never hold, and tasks that can never run.
//!
//! For every task the ways in which it may end are worked out from those of its upstreams, each upstream by itself: what
//! two of them can only do together or not at all is not seen, so a task may be thought able to run that never does, and
//! never the other way round.

use std::{collections::BTreeSet, ops::Range};

use super::{
    branch_checks::{JOIN_BUDGET, closure},
    code::Code,
    graph_checks::Graph,
    problem::{Draft, Report},
    task::{GraphKind, TaskDraft},
};
use crate::state::TriggerRule;

/// The ways in which a task may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    success: bool,
    failed: bool,
    skipped: bool,
    upstream_failed: bool,
}

impl Ends {
    const ANY: Self = Self { success: true, failed: true, skipped: true, upstream_failed: true };
    const SKIPPED: Self = Self { success: false, failed: false, skipped: true, upstream_failed: false };

    const fn is_bad(self) -> bool {
        self.failed || self.upstream_failed
    }

    const fn is_good(self) -> bool {
        self.success || self.skipped
    }
}

/// What the upstreams of a task can do, each by itself.
struct Above {
    ends: Vec<Ends>,
}

impl Above {
    fn all(&self, can: impl Fn(Ends) -> bool) -> bool {
        self.ends.iter().all(|ends| can(*ends))
    }

    fn any(&self, can: impl Fn(Ends) -> bool) -> bool {
        self.ends.iter().any(|ends| can(*ends))
    }

    /// Why a rule can never hold; `None` when it can.
    fn never(&self, rule: TriggerRule) -> Option<&'static str> {
        let holds = |is_possible: bool, why: &'static str| (!is_possible).then_some(why);
        match rule {
            TriggerRule::Always | TriggerRule::AllDone => None,
            TriggerRule::AllSuccess => holds(self.all(|e| e.success), "one of the upstreams cannot succeed"),
            TriggerRule::AllFailed => holds(self.all(Ends::is_bad), "one of the upstreams cannot fail"),
            TriggerRule::AllDoneMinOneSuccess | TriggerRule::OneSuccess => {
                holds(self.any(|e| e.success), "none of the upstreams can succeed")
            }
            TriggerRule::AllSkipped => {
                holds(self.all(|e| e.skipped), "one of the upstreams cannot be skipped")
            }
            TriggerRule::OneFailed => holds(self.any(Ends::is_bad), "none of the upstreams can fail"),
            TriggerRule::OneDone => {
                holds(self.any(|e| e.success || e.failed), "none of the upstreams can succeed or fail")
            }
            TriggerRule::NoneFailed => holds(self.all(Ends::is_good), "one of the upstreams can only fail"),
            TriggerRule::NoneFailedMinOneSuccess => {
                holds(self.all(Ends::is_good) && self.any(|e| e.success), "none of the upstreams can succeed")
            }
            TriggerRule::NoneSkipped => {
                holds(self.all(|e| e.success || e.is_bad()), "one of the upstreams is always skipped")
            }
        }
    }

    /// Whether a rule can end a task as skipped, and as upstream_failed.
    fn ruled_out(&self, rule: TriggerRule) -> (bool, bool) {
        let (any_bad, all_skipped) = (self.any(Ends::is_bad), self.all(|e| e.skipped));
        let all_unsuccessful = self.all(|e| e.skipped || e.is_bad());
        match rule {
            TriggerRule::Always | TriggerRule::AllDone => (false, false),
            TriggerRule::AllSuccess => (self.any(|e| e.skipped), any_bad),
            TriggerRule::AllFailed => (self.any(Ends::is_good), false),
            TriggerRule::AllDoneMinOneSuccess | TriggerRule::OneSuccess => {
                (all_skipped, all_unsuccessful && any_bad)
            }
            TriggerRule::AllSkipped => (self.any(|e| e.success || e.is_bad()), false),
            TriggerRule::OneFailed => (self.all(Ends::is_good), false),
            TriggerRule::OneDone => (self.all(|e| e.skipped || e.upstream_failed), false),
            TriggerRule::NoneFailed => (false, any_bad),
            TriggerRule::NoneFailedMinOneSuccess => (all_skipped, any_bad),
            TriggerRule::NoneSkipped => (self.any(|e| e.skipped), false),
        }
    }
}

/// Checks the trigger rules of a graph without circles, and returns the tasks that can never run.
pub(crate) fn check(graph: &Graph<'_, '_>, report: &mut Report<'_>) -> BTreeSet<usize> {
    let mut ends = vec![Ends::ANY; graph.drafts.len()];
    let mut dead: BTreeSet<usize> = BTreeSet::new();
    let (loose, passed_over) = (loose(graph), passed_over(graph));
    for index in graph.order() {
        let Some(draft) = graph.drafts.get(index) else { continue };
        let up = graph.up(index);
        let above =
            Above { ends: up.iter().map(|(up, _)| ends.get(*up).copied().unwrap_or(Ends::ANY)).collect() };
        // A dependency that does not exist has been reported, and nothing is known of it.
        let is_whole = up.len() == draft.depends_on.len();
        let never = if up.is_empty() || !is_whole || !draft.setups.is_empty() {
            None
        } else {
            above.never(draft.rule)
        };
        let is_passed_over = passed_over.contains(&index);
        match (&draft.rule_at, never) {
            (Some(at), _) if draft.depends_on.is_empty() && draft.rule != TriggerRule::AllSuccess => {
                report.push(rule_on_root(at));
            }
            _ if is_passed_over => {
                dead.insert(index);
            }
            (rule_at, Some(why)) => {
                report.push(never_runs(graph, draft, rule_at.as_ref(), why, up, &dead));
                dead.insert(index);
            }
            _ => {}
        }
        let (skip, fail) = if is_whole { above.ruled_out(draft.rule) } else { (true, true) };
        let runs = never.is_none() && !is_passed_over;
        // A list of elements may be empty or too long.
        let is_mapped = draft.task.as_ref().is_none_or(|task| task.map.is_some());
        let can_fail = is_mapped || !matches!(draft.kind, GraphKind::Noop);
        let found = match runs {
            _ if is_passed_over => Ends::SKIPPED,
            runs => Ends {
                success: runs,
                failed: runs && can_fail,
                skipped: skip
                    || (runs && can_fail)
                    || loose.contains(&index)
                    || is_below_branch(graph, index),
                upstream_failed: fail || loose.contains(&index),
            },
        };
        if let Some(place) = ends.get_mut(index) {
            *place = found;
        }
    }
    dead
}

/// The tasks that more than their trigger rule decides about: everything below a setup or a gate.
fn loose(graph: &Graph<'_, '_>) -> BTreeSet<usize> {
    let is_open =
        |draft: &TaskDraft<'_>| draft.is_setup || matches!(draft.kind, GraphKind::Gate | GraphKind::Unknown);
    let mut open: Vec<usize> =
        (0..graph.drafts.len()).filter(|index| graph.drafts.get(*index).is_some_and(is_open)).collect();
    let mut found = BTreeSet::new();
    while let Some(index) = open.pop() {
        open.extend(graph.down(index).iter().filter(|below| found.insert(**below)));
    }
    found
}

fn is_below_branch(graph: &Graph<'_, '_>, index: usize) -> bool {
    let is_branch = |kind: &GraphKind<'_>| !matches!(kind, GraphKind::Noop | GraphKind::Process);
    graph.up(index).iter().any(|(up, _)| graph.drafts.get(*up).is_none_or(|draft| is_branch(&draft.kind)))
}

/// The tasks to which a branch directly above leads by none of its choices; they have a warning of their own.
fn passed_over(graph: &Graph<'_, '_>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut budget = JOIN_BUDGET;
    for (index, draft) in graph.drafts.iter().enumerate() {
        let GraphKind::Branch(choices) = &draft.kind else { continue };
        let targets = || choices.iter().flat_map(|choice| &choice.targets).map(|(id, _)| graph.by_id.get(id));
        // A misspelt target was meant for one of them.
        if targets().next().is_none() || targets().any(|target| target.is_none()) {
            continue;
        }
        let followed = closure(graph, targets().flatten().copied(), &mut budget);
        if budget == 0 {
            return found;
        }
        found.extend(graph.down(index).iter().copied().filter(|below| !followed.contains(below)));
    }
    found
}

fn rule_on_root(at: &Range<usize>) -> Draft {
    let message = "a task without upstreams runs at once, whatever its trigger rule";
    Draft::warning(Code::RULE_ON_ROOT, message, at.clone())
        .absence()
        .help("leave `trigger_rule` out, or add `depends_on`")
}

/// A rule that the task itself gives is what is wrong; else it is the upstream that never succeeds.
fn never_runs(
    graph: &Graph<'_, '_>,
    draft: &TaskDraft<'_>,
    rule_at: Option<&Range<usize>>,
    why: &str,
    up: &[(usize, Range<usize>)],
    dead: &BTreeSet<usize>,
) -> Draft {
    let cause = up.iter().find(|(up, _)| dead.contains(up));
    match (rule_at, cause) {
        (Some(at), None) => {
            let message = format!("`{}` can never hold: {why}", draft.rule);
            Draft::warning(Code::RULE_NEVER_HOLDS, message, at.clone())
                .absence()
                .help("this task would always be skipped")
        }
        (_, cause) => {
            let (name, at) = draft.id.clone().unwrap_or(("?", draft.at.clone()));
            let message = format!("`{name}` can never run with `{}`: {why}", draft.rule);
            let warning = Draft::warning(Code::NEVER_RUNS, message, at)
                .absence()
                .help("let something choose what is above it, or give it another `trigger_rule`");
            match cause {
                Some((up, at)) => warning.also(at.clone(), format!("`{}` never runs", graph.name(*up))),
                None => warning,
            }
        }
    }
}
