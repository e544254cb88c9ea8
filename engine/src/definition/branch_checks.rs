//! Checks of branches: what they choose is there, and what stands below them can run.

use std::collections::BTreeSet;

use super::{
    code::Code,
    fields::Placed,
    graph_checks::{Graph, unknown},
    problem::{Draft, Report},
    suggest::shown,
    task::GraphKind,
};
use crate::state::TriggerRule;

/// Bound of the search for joins below branches, in visited edges: about 50 ms.
pub(crate) const JOIN_BUDGET: usize = 2_000_000;

/// Branch targets exist and are directly below; what is directly below can be chosen.
pub(crate) fn check_targets(graph: &Graph<'_, '_>, report: &mut Report<'_>) {
    for (index, draft) in graph.drafts.iter().enumerate() {
        let below = graph.down(index);
        match &draft.kind {
            GraphKind::OpenBranch if below.is_empty() => report.push(
                Draft::warning(
                    Code::BRANCH_WITHOUT_DOWNSTREAM,
                    format!("the branch `{}` has nothing to choose from", graph.name(index)),
                    draft.at.clone(),
                )
                .absence()
                .help("let the tasks that it chooses depend on it"),
            ),
            GraphKind::Gate if below.is_empty() => report.push(
                Draft::warning(
                    Code::BRANCH_WITHOUT_DOWNSTREAM,
                    format!("`{}` has nothing below that it could hold back", graph.name(index)),
                    draft.at.clone(),
                )
                .absence()
                .help("let the tasks that are to be skipped depend on it"),
            ),
            GraphKind::Branch(choices) => {
                let targets: Vec<&Placed<'_>> = choices.iter().flat_map(|choice| &choice.targets).collect();
                for target in &targets {
                    check_target(graph, index, target, report);
                }
                let chosen: BTreeSet<usize> =
                    targets.iter().filter_map(|(id, _)| graph.by_id.get(id).copied()).collect();
                // A misspelt target was meant for one of them.
                if targets.iter().all(|(id, _)| graph.by_id.contains_key(id)) {
                    never_chosen(graph, index, &chosen, report);
                }
            }
            _ => {}
        }
    }
}

fn check_target(graph: &Graph<'_, '_>, branch: usize, target: &Placed<'_>, report: &mut Report<'_>) {
    let (id, at) = target;
    let Some(index) = graph.by_id.get(id) else {
        unknown(id, at, "the branch", (&graph.by_id, &graph.groups), None, report);
        return;
    };
    if !graph.down(branch).contains(index) {
        let name = graph.name(branch);
        report.push(
            Draft::error(Code::NOT_A_DOWNSTREAM, format!("`{}` is not directly below `{name}`", shown(id)), at.clone())
                .absence()
                .help(format!("a branch chooses among the tasks directly below it: add \"{name}\" to the `depends_on` of `{}`", shown(id))),
        );
    }
}

fn never_chosen(graph: &Graph<'_, '_>, branch: usize, chosen: &BTreeSet<usize>, report: &mut Report<'_>) {
    if chosen.is_empty() {
        return;
    }
    let followed = closure(graph, chosen.iter().copied(), &mut JOIN_BUDGET.clone());
    for below in graph.down(branch).iter().filter(|below| !followed.contains(below)) {
        let Some((_, at)) = graph.up(*below).iter().find(|(upstream, _)| *upstream == branch) else {
            continue;
        };
        report.push(
            Draft::warning(
                Code::NEVER_CHOSEN,
                format!(
                    "`{}` is always skipped: the branch `{}` never chooses it",
                    graph.name(*below),
                    graph.name(branch)
                ),
                at.clone(),
            )
            .absence(),
        );
    }
}

/// The tasks and everything below them. Stops early when the budget is used up.
pub(crate) fn closure(
    graph: &Graph<'_, '_>,
    from: impl Iterator<Item = usize>,
    budget: &mut usize,
) -> BTreeSet<usize> {
    let mut found: BTreeSet<usize> = from.collect();
    let mut queue: Vec<usize> = found.iter().copied().collect();
    while let Some(index) = queue.pop() {
        for below in graph.down(index) {
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                return found;
            }
            if found.insert(*below) {
                queue.push(*below);
            }
        }
    }
    found
}

/// A join that waits for `all_success` below a branch is skipped whenever the branch skips one of its parents. What can
/// never run has been reported.
pub(crate) fn check_joins(graph: &Graph<'_, '_>, dead: BTreeSet<usize>, report: &mut Report<'_>) {
    let order = graph.order();
    let mut budget = JOIN_BUDGET;
    let mut reported = dead;
    for branch in 0..graph.drafts.len() {
        for choice in choices(graph, branch) {
            if budget == 0 {
                return;
            }
            for join in spoiled_joins(graph, branch, &choice, &order, &mut budget) {
                if reported.insert(join) {
                    report_join(graph, branch, join, report);
                }
            }
        }
    }
}

/// The sets of direct downstreams that a branch may follow.
fn choices(graph: &Graph<'_, '_>, branch: usize) -> Vec<BTreeSet<usize>> {
    match graph.drafts.get(branch).map(|draft| &draft.kind) {
        Some(GraphKind::OpenBranch) => {
            graph.down(branch).iter().map(|below| BTreeSet::from([*below])).collect()
        }
        Some(GraphKind::Branch(choices)) => choices
            .iter()
            .map(|choice| choice.targets.iter().filter_map(|(id, _)| graph.by_id.get(id).copied()).collect())
            .collect(),
        _ => Vec::new(),
    }
}

/// The joins on the followed path that are skipped although nothing failed, when the branch takes `choice`.
fn spoiled_joins(
    graph: &Graph<'_, '_>,
    branch: usize,
    choice: &BTreeSet<usize>,
    order: &[usize],
    budget: &mut usize,
) -> Vec<usize> {
    let followed = closure(graph, choice.iter().copied(), budget);
    let mut skipped: BTreeSet<usize> =
        graph.down(branch).iter().copied().filter(|below| !followed.contains(below)).collect();
    if skipped.is_empty() {
        return Vec::new();
    }
    let below_branch = closure(graph, graph.down(branch).iter().copied(), budget);
    let mut joins = Vec::new();
    for index in order.iter().copied().filter(|index| below_branch.contains(index)) {
        let Some(draft) = graph.drafts.get(index) else { continue };
        let up = graph.up(index);
        *budget = budget.saturating_sub(up.len());
        if skipped.contains(&index) || draft.rule != TriggerRule::AllSuccess {
            continue;
        }
        if up.iter().any(|(upstream, _)| skipped.contains(upstream)) {
            skipped.insert(index);
            let is_reached = up.iter().any(|(upstream, _)| {
                !skipped.contains(upstream) && (followed.contains(upstream) || *upstream == branch)
            });
            if followed.contains(&index) && is_reached {
                joins.push(index);
            }
        }
    }
    joins
}

fn report_join(graph: &Graph<'_, '_>, branch: usize, join: usize, report: &mut Report<'_>) {
    let Some(draft) = graph.drafts.get(join) else { return };
    let at = draft
        .rule_at
        .clone()
        .or_else(|| draft.id.as_ref().map(|(_, at)| at.clone()))
        .unwrap_or_else(|| draft.at.clone());
    let name = graph.name(join);
    let mut problem = Draft::warning(
        Code::JOIN_BELOW_BRANCH,
        format!("`{name}` is skipped whenever `{}` skips one of its upstreams", graph.name(branch)),
        at,
    )
    .absence()
    .label("waits for `all_success`")
    .help("set `trigger_rule = \"none_failed_min_one_success\"` to run when the chosen side succeeded");
    if let Some((_, at)) = graph.drafts.get(branch).and_then(|draft| draft.id.as_ref()) {
        problem = problem.also(at.clone(), "the branch");
    }
    report.push(problem);
}
