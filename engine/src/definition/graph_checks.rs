//! Checks of the tasks against each other: ids, dependencies, circles, branches, trigger rules.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
};

use petgraph::{algo::kosaraju_scc, graph::DiGraph};

use super::{
    branch_checks::{check_joins, check_targets},
    code::Code,
    model::GROUP_PREFIX,
    problem::{Draft, Report},
    rule_checks,
    suggest::{nearest, shown},
    task::TaskDraft,
};

/// How many edges of a circle are pointed at; the message names all up to this many.
const SHOWN_EDGES: usize = 12;
/// The tasks as numbers.
pub(crate) struct Graph<'d, 's> {
    pub(crate) drafts: &'d [TaskDraft<'s>],
    pub(crate) by_id: BTreeMap<&'s str, usize>,
    /// The names of all groups.
    pub(crate) groups: BTreeSet<&'s str>,
    /// Per task: (upstream, place of the dependency).
    upstreams: Vec<Vec<(usize, Range<usize>)>>,
    downstreams: Vec<Vec<usize>>,
}

/// Runs every check.
pub(crate) fn check<'d, 's>(
    drafts: &'d [TaskDraft<'s>],
    groups: BTreeSet<&'s str>,
    report: &mut Report<'_>,
) -> Graph<'d, 's> {
    let by_id = ids(drafts, report);
    let graph = edges(drafts, by_id, groups, report);
    check_targets(&graph, report);
    check_roles(&graph, report);
    // What follows walks the graph in order.
    if !circles(&graph, report) {
        let dead = rule_checks::check(&graph, report);
        check_joins(&graph, dead, report);
    }
    graph
}

fn ids<'s>(drafts: &[TaskDraft<'s>], report: &mut Report<'_>) -> BTreeMap<&'s str, usize> {
    let mut by_id: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        let Some((id, at)) = &draft.id else { continue };
        if let Some(first) =
            by_id.get(id).and_then(|first| drafts.get(*first)).and_then(|first| first.id.as_ref())
        {
            report.push(
                Draft::error(
                    Code::DUPLICATE_TASK,
                    format!("two tasks have the id `{}`", shown(id)),
                    at.clone(),
                )
                .label("again here")
                .also(first.1.clone(), "first here"),
            );
        } else {
            by_id.insert(id, index);
        }
    }
    by_id
}

fn edges<'d, 's>(
    drafts: &'d [TaskDraft<'s>],
    by_id: BTreeMap<&'s str, usize>,
    groups: BTreeSet<&'s str>,
    report: &mut Report<'_>,
) -> Graph<'d, 's> {
    let mut upstreams = vec![Vec::new(); drafts.len()];
    let mut downstreams = vec![Vec::new(); drafts.len()];
    for (index, draft) in drafts.iter().enumerate() {
        let own = draft.id.as_ref().map(|(id, _)| *id);
        let mut seen: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        // A group that could not be resolved has been reported.
        for (text, at) in draft.depends_on.iter().filter(|(text, _)| !text.starts_with(GROUP_PREFIX)) {
            if let Some(first) = seen.insert(text, at.clone()) {
                report.push(
                    Draft::error(
                        Code::DUPLICATE_DEPENDENCY,
                        format!("`depends_on` names `{}` twice", shown(text)),
                        at.clone(),
                    )
                    .label("again here")
                    .also(first, "first here"),
                );
                continue;
            }
            if own == Some(*text) {
                report.push(
                    Draft::error(
                        Code::SELF_DEPENDENCY,
                        format!("the task `{}` depends on itself", shown(text)),
                        at.clone(),
                    )
                    .help("take it out of `depends_on`"),
                );
                continue;
            }
            match by_id.get(text) {
                Some(upstream) => {
                    if let (Some(list), Some(below)) =
                        (upstreams.get_mut(index), downstreams.get_mut(*upstream))
                    {
                        list.push((*upstream, at.clone()));
                        below.push(index);
                    }
                }
                None => {
                    let is_cleaned_up = draft.setups.iter().any(|(_, place)| place == at);
                    let key = if is_cleaned_up { "`teardown`" } else { "`depends_on`" };
                    unknown(text, at, key, (&by_id, &groups), own, report);
                }
            }
        }
    }
    Graph { drafts, by_id, groups, upstreams, downstreams }
}

/// A teardown cleans up after setups.
fn check_roles(graph: &Graph<'_, '_>, report: &mut Report<'_>) {
    for draft in graph.drafts {
        for (text, at) in &draft.setups {
            let setup = graph.by_id.get(text).and_then(|index| graph.drafts.get(*index));
            if let Some(setup) = setup.filter(|setup| !setup.is_setup) {
                let message = format!("`{}` is no setup, so nothing can be cleaned up after it", shown(text));
                report.push(
                    Draft::error(Code::SETUP_TEARDOWN, message, at.clone())
                        .also(
                            setup.id.as_ref().map_or_else(|| setup.at.clone(), |(_, at)| at.clone()),
                            "this task",
                        )
                        .help(format!("add `setup = true` to `{}`", shown(text))),
                );
            }
        }
    }
}

/// Reports a task id that no task has.
pub(crate) fn unknown(
    text: &str,
    at: &Range<usize>,
    key: &str,
    (by_id, groups): (&BTreeMap<&str, usize>, &BTreeSet<&str>),
    own: Option<&str>,
    report: &mut Report<'_>,
) {
    let near = nearest(text, by_id.keys().copied().filter(|id| Some(*id) != own));
    let draft = Draft::error(
        Code::UNKNOWN_TASK,
        format!("{key} names the task `{}`, which does not exist", shown(text)),
        at.clone(),
    )
    .absence();
    report.push(match near {
        _ if groups.contains(text) => draft
            .help(format!("`{text}` is a group: write `group:{text}`"))
            .suggest(Some(format!("\"{GROUP_PREFIX}{text}\""))),
        Some(near) => draft.help(format!("did you mean `{near}`?")).suggest(Some(format!("\"{near}\""))),
        None => draft,
    });
}

impl Graph<'_, '_> {
    pub(crate) fn name(&self, index: usize) -> &str {
        self.drafts.get(index).and_then(|draft| draft.id.as_ref()).map_or("?", |(id, _)| id)
    }

    pub(crate) fn up(&self, index: usize) -> &[(usize, Range<usize>)] {
        self.upstreams.get(index).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn down(&self, index: usize) -> &[usize] {
        self.downstreams.get(index).map_or(&[], Vec::as_slice)
    }

    /// Whether `id` is a direct or indirect upstream. `true` where that cannot be known because a dependency on
    /// the way does not exist: that has been reported.
    pub(crate) fn is_upstream(&self, of: usize, id: &str) -> bool {
        let Some(wanted) = self.by_id.get(id).copied() else { return true };
        let mut seen = BTreeSet::from([of]);
        let mut queue = VecDeque::from([of]);
        while let Some(index) = queue.pop_front() {
            let written = self.drafts.get(index).map_or(0, |draft| draft.depends_on.len());
            if self.up(index).len() < written {
                return true;
            }
            for (upstream, _) in self.up(index) {
                if *upstream == wanted {
                    return true;
                }
                if seen.insert(*upstream) {
                    queue.push_back(*upstream);
                }
            }
        }
        false
    }

    /// Upstreams before downstreams; only for graphs without circles.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut missing: Vec<usize> = self.upstreams.iter().map(Vec::len).collect();
        let mut ready: VecDeque<usize> =
            missing.iter().enumerate().filter(|(_, count)| **count == 0).map(|(index, _)| index).collect();
        let mut order = Vec::with_capacity(missing.len());
        while let Some(index) = ready.pop_front() {
            order.push(index);
            for below in self.down(index) {
                if let Some(count) = missing.get_mut(*below) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push_back(*below);
                    }
                }
            }
        }
        order
    }
}

/// Reports the shortest circle of every knot; returns whether there is one.
fn circles(graph: &Graph<'_, '_>, report: &mut Report<'_>) -> bool {
    let mut net: DiGraph<(), ()> = DiGraph::with_capacity(graph.drafts.len(), graph.drafts.len());
    let nodes: Vec<_> = graph.drafts.iter().map(|_| net.add_node(())).collect();
    for (index, list) in graph.upstreams.iter().enumerate() {
        for (upstream, _) in list {
            if let (Some(from), Some(to)) = (nodes.get(*upstream), nodes.get(index)) {
                net.add_edge(*from, *to, ());
            }
        }
    }
    let mut found = false;
    let mut knots: Vec<Vec<usize>> = kosaraju_scc(&net)
        .into_iter()
        .filter(|knot| knot.len() > 1)
        .map(|knot| {
            let mut knot: Vec<usize> = knot.into_iter().map(petgraph::graph::NodeIndex::index).collect();
            knot.sort_unstable();
            knot
        })
        .collect();
    knots.sort_unstable();
    for knot in knots {
        if let Some(circle) = shortest(graph, &knot) {
            found = true;
            report_circle(graph, &circle, report);
        }
    }
    found
}

/// The shortest circle inside a knot, beginning with its first task in the file. In a huge knot only the first
/// tasks are tried: any circle shows the mistake.
fn shortest(graph: &Graph<'_, '_>, knot: &[usize]) -> Option<Vec<usize>> {
    let members: BTreeSet<usize> = knot.iter().copied().collect();
    let mut best: Option<Vec<usize>> = None;
    for start in knot.iter().take(if knot.len() > 200 { 20 } else { knot.len() }) {
        let mut from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([*start]);
        'search: while let Some(index) = queue.pop_front() {
            for below in graph.down(index).iter().filter(|below| members.contains(below)) {
                if below == start {
                    let mut path = vec![index];
                    let mut at = index;
                    while at != *start {
                        let Some(previous) = from.get(&at) else { break };
                        at = *previous;
                        path.push(at);
                    }
                    path.reverse();
                    if best.as_ref().is_none_or(|best| path.len() < best.len()) {
                        best = Some(path);
                    }
                    break 'search;
                }
                if !from.contains_key(below) {
                    from.insert(*below, index);
                    queue.push_back(*below);
                }
            }
        }
    }
    best
}

fn report_circle(graph: &Graph<'_, '_>, circle: &[usize], report: &mut Report<'_>) {
    let mut names: Vec<String> =
        circle.iter().take(SHOWN_EDGES).map(|index| format!("`{}`", graph.name(*index))).collect();
    if circle.len() > SHOWN_EDGES {
        names.push(format!("… {} more …", circle.len() - SHOWN_EDGES));
    }
    names.extend(circle.first().map(|index| format!("`{}`", graph.name(*index))));
    let message = format!("the tasks depend on each other in a circle: {}", names.join(" → "));
    let mut draft: Option<Draft> = None;
    // Each task waits for the one before it; the first waits for the last.
    let before = circle.iter().cycle().skip(circle.len().saturating_sub(1));
    let mut places: Vec<(Range<usize>, String)> = circle
        .iter()
        .zip(before)
        .filter_map(|(index, previous)| {
            let (_, at) = graph.up(*index).iter().find(|(upstream, _)| upstream == previous)?;
            Some((at.clone(), format!("`{}` waits for `{}`", graph.name(*index), graph.name(*previous))))
        })
        .collect();
    places.sort_by_key(|(at, _)| at.start);
    places.truncate(SHOWN_EDGES);
    for (at, label) in places {
        draft = Some(match draft {
            None => Draft::error(Code::CYCLE, message.clone(), at).label(label),
            Some(draft) => draft.also(at, label),
        });
    }
    if let Some(draft) = draft {
        report.push(draft.help("take one of these dependencies out"));
    }
}
