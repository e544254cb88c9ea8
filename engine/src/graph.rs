//! The compiled graph of one DAG version, shared by all its runs.
//!
//! **Invariant:** acyclic. The loader refuses cycles with a named path; [`Graph::new`] refuses them again, so
//! that nothing below has to think about them.

use std::{cmp::Reverse, collections::BTreeMap, collections::BTreeSet, sync::Arc};

use petgraph::{
    Direction,
    algo::tarjan_scc,
    graph::{DiGraph, NodeIndex},
    visit::{Bfs, Reversed},
};

use crate::{
    definition::{Dag, Role, Task},
    ids::TaskId,
    rows::VersionHash,
    scopes::Scopes,
    state::WeightRule,
};

/// Why a definition has no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A task depends on one that does not exist.
    #[error("task {task} depends on {upstream}, which does not exist")]
    UnknownUpstream {
        /// The task.
        task: TaskId,
        /// What it names.
        upstream: TaskId,
    },
    /// Tasks depend on each other in a circle.
    #[error("the tasks {} depend on each other in a circle", .0.iter().map(TaskId::as_str).collect::<Vec<_>>().join(" → "))]
    Cycle(Vec<TaskId>),
}

/// The position of a task in its version; file order.
pub type TaskIndex = usize;

/// A DAG version with everything that deciding needs, computed once.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The definition.
    pub dag: Arc<Dag>,
    /// Its hash.
    pub version: VersionHash,
    graph: DiGraph<TaskIndex, ()>,
    index: BTreeMap<TaskId, TaskIndex>,
    upstream: Vec<Vec<TaskIndex>>,
    downstream: Vec<Vec<TaskIndex>>,
    topological: Vec<TaskIndex>,
    leaves: Vec<TaskIndex>,
    weights: Vec<i64>,
    /// Per task the direct upstreams that are branches.
    branch_upstream: Vec<Vec<TaskIndex>>,
    /// Per branch, which of its direct downstreams are reachable from which: (from, to).
    reachable_below: BTreeMap<TaskIndex, BTreeSet<(TaskIndex, TaskIndex)>>,
    /// Setups, teardowns and what lies between them.
    scopes: Scopes,
    /// Tasks that ask for the run before.
    past_tasks: Vec<TaskIndex>,
}

impl Graph {
    /// Compiles a definition. Costs O(tasks × (tasks + edges) / 64) once per version.
    ///
    /// # Errors
    /// [`GraphError`] when a dependency does not exist or there is a cycle.
    pub fn new(dag: Arc<Dag>, version: VersionHash) -> Result<Self, GraphError> {
        let count = dag.tasks.len();
        let mut graph = DiGraph::with_capacity(count, count);
        let mut index = BTreeMap::new();
        for (ix, task) in dag.tasks.iter().enumerate() {
            graph.add_node(ix);
            index.insert(task.id.clone(), ix);
        }
        let mut upstream = vec![Vec::new(); count];
        let mut downstream = vec![Vec::new(); count];
        for (ix, task) in dag.tasks.iter().enumerate() {
            for name in &task.depends_on {
                let Some(&up) = index.get(name) else {
                    return Err(GraphError::UnknownUpstream {
                        task: task.id.clone(),
                        upstream: name.clone(),
                    });
                };
                graph.add_edge(NodeIndex::new(up), NodeIndex::new(ix), ());
                upstream[ix].push(up);
                downstream[up].push(ix);
            }
        }
        let topological = topological(&upstream, &downstream);
        if topological.len() < count {
            return Err(GraphError::Cycle(cycle(&graph, &dag)));
        }
        let leaves = leaves(&dag, &downstream);
        let weights = weights(&dag, &upstream, &downstream, &topological);
        let branch_upstream: Vec<Vec<TaskIndex>> = upstream
            .iter()
            .map(|ups| ups.iter().copied().filter(|up| dag.tasks[*up].operator.is_branch()).collect())
            .collect();
        let mut reachable_below = BTreeMap::new();
        for (ix, task) in dag.tasks.iter().enumerate() {
            if task.operator.is_branch() {
                reachable_below.insert(ix, pairs_below(&graph, &downstream[ix]));
            }
        }
        let past_tasks = (0..count).filter(|ix| dag.tasks[*ix].asks_past()).collect();
        let scopes = Scopes::new(&dag, &index, &upstream, &downstream);
        Ok(Self {
            dag,
            version,
            graph,
            index,
            upstream,
            downstream,
            topological,
            leaves,
            weights,
            branch_upstream,
            reachable_below,
            scopes,
            past_tasks,
        })
    }

    /// Returns how many tasks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dag.tasks.len()
    }

    /// Whether there are no tasks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dag.tasks.is_empty()
    }

    /// Returns the task at a position.
    #[must_use]
    pub fn task(&self, ix: TaskIndex) -> &Task {
        &self.dag.tasks[ix]
    }

    /// Returns the position of a task.
    #[must_use]
    pub fn index_of(&self, task: &TaskId) -> Option<TaskIndex> {
        self.index.get(task).copied()
    }

    /// Returns the direct upstreams in file order of `depends_on`.
    #[must_use]
    pub fn upstream(&self, ix: TaskIndex) -> &[TaskIndex] {
        &self.upstream[ix]
    }

    /// Returns the direct downstreams in file order.
    #[must_use]
    pub fn downstream(&self, ix: TaskIndex) -> &[TaskIndex] {
        &self.downstream[ix]
    }

    /// Returns all positions, upstreams first; file order among equals.
    #[must_use]
    pub fn topological(&self) -> &[TaskIndex] {
        &self.topological
    }

    /// Returns the tasks that decide how a run ends: those below which nothing but teardowns stands, and the teardowns
    /// whose failure fails the run.
    #[must_use]
    pub fn leaves(&self) -> &[TaskIndex] {
        &self.leaves
    }

    /// Returns the effective priority weight (`semantics.md` §8).
    #[must_use]
    pub fn weight(&self, ix: TaskIndex) -> i64 {
        self.weights[ix]
    }

    /// Returns the direct upstreams that are branches.
    #[must_use]
    pub fn branch_upstream(&self, ix: TaskIndex) -> &[TaskIndex] {
        &self.branch_upstream[ix]
    }

    /// Whether a branch that chose `chosen` follows its direct downstream `ix`: it is chosen, or reachable from
    /// a chosen one (`semantics.md` §2.2).
    #[must_use]
    pub fn is_followed(&self, branch: TaskIndex, chosen: &[TaskId], ix: TaskIndex) -> bool {
        let pairs = self.reachable_below.get(&branch);
        chosen
            .iter()
            .filter_map(|id| self.index_of(id))
            .any(|from| from == ix || pairs.is_some_and(|pairs| pairs.contains(&(from, ix))))
    }

    /// Returns the setups of a teardown; `None` when the task is no teardown.
    #[must_use]
    pub fn setups_of(&self, ix: TaskIndex) -> Option<&[TaskIndex]> {
        self.scopes.setups_of(ix)
    }

    /// Returns the tasks that ask for the run before, in file order.
    #[must_use]
    pub fn past_tasks(&self) -> &[TaskIndex] {
        &self.past_tasks
    }

    /// Whether a task asks for the run before.
    #[must_use]
    pub fn asks_past(&self, ix: TaskIndex) -> bool {
        self.dag.tasks[ix].asks_past()
    }

    /// Returns every setup and every teardown.
    pub fn setups_and_teardowns(&self) -> impl Iterator<Item = TaskIndex> {
        self.scopes.setups_and_teardowns()
    }

    /// Returns the tasks between a teardown and its setups.
    pub fn work_of(&self, teardown: TaskIndex) -> impl Iterator<Item = TaskIndex> {
        self.scopes.work_of(teardown)
    }

    /// Returns the setups that a task needs although they are not directly upstream.
    #[must_use]
    pub fn setups_above(&self, ix: TaskIndex) -> &[TaskIndex] {
        self.scopes.above(ix)
    }

    /// Returns the tasks that need a setup that is not directly upstream of them.
    #[must_use]
    pub fn below_setup(&self, setup: TaskIndex) -> &[TaskIndex] {
        self.scopes.below(setup)
    }

    /// Returns the setups and teardowns that must run again with the given tasks.
    #[must_use]
    pub fn belonging_to(&self, tasks: &BTreeSet<TaskIndex>) -> BTreeSet<TaskIndex> {
        self.scopes.belonging_to(tasks, &self.upstream, &self.downstream)
    }

    /// Returns the tasks of a group, and of the groups inside it, that have no upstream in it, in file order.
    #[must_use]
    pub fn roots_of_group(&self, group: &str) -> Vec<TaskIndex> {
        let is_in = |ix: TaskIndex| self.dag.tasks[ix].is_in_group(group);
        (0..self.len()).filter(|ix| is_in(*ix) && !self.upstream[*ix].iter().any(|up| is_in(*up))).collect()
    }

    /// Returns everything above, and including, the given tasks.
    #[must_use]
    pub fn ancestors(&self, of: &BTreeSet<TaskIndex>) -> BTreeSet<TaskIndex> {
        let mut found = BTreeSet::new();
        for ix in of {
            let mut walk = Bfs::new(Reversed(&self.graph), NodeIndex::new(*ix));
            while let Some(node) = walk.next(Reversed(&self.graph)) {
                found.insert(node.index());
            }
        }
        found
    }

    /// Returns everything below, and including, the given tasks.
    #[must_use]
    pub fn descendants(&self, of: &BTreeSet<TaskIndex>) -> BTreeSet<TaskIndex> {
        let mut found = of.clone();
        let mut open: Vec<TaskIndex> = of.iter().copied().collect();
        while let Some(ix) = open.pop() {
            for down in &self.downstream[ix] {
                if found.insert(*down) {
                    open.push(*down);
                }
            }
        }
        found
    }

    /// Returns the petgraph graph; node weights are positions.
    #[must_use]
    pub const fn petgraph(&self) -> &DiGraph<TaskIndex, ()> {
        &self.graph
    }
}

/// A DAG of nothing but teardowns is decided by the last of them.
fn leaves(dag: &Dag, downstream: &[Vec<TaskIndex>]) -> Vec<TaskIndex> {
    let is_deciding = |ix: &TaskIndex| match dag.tasks[*ix].role {
        Role::Teardown { fails_run, .. } => fails_run,
        _ => downstream[*ix].iter().all(|down| dag.tasks[*down].role.is_teardown()),
    };
    let found: Vec<TaskIndex> = (0..dag.tasks.len()).filter(is_deciding).collect();
    if found.is_empty() {
        return (0..dag.tasks.len()).filter(|ix| downstream[*ix].is_empty()).collect();
    }
    found
}

/// Kahn's algorithm with file order among the ready ones; shorter than `len` exactly when there is a cycle.
fn topological(upstream: &[Vec<TaskIndex>], downstream: &[Vec<TaskIndex>]) -> Vec<TaskIndex> {
    let mut missing: Vec<usize> = upstream.iter().map(Vec::len).collect();
    let mut ready: BTreeSet<TaskIndex> = (0..missing.len()).filter(|ix| missing[*ix] == 0).collect();
    let mut order = Vec::with_capacity(missing.len());
    while let Some(ix) = ready.pop_first() {
        order.push(ix);
        for down in &downstream[ix] {
            missing[*down] -= 1;
            if missing[*down] == 0 {
                ready.insert(*down);
            }
        }
    }
    order
}

/// Returns one shortest cycle as a closed path (the first task is repeated at the end).
fn cycle(graph: &DiGraph<TaskIndex, ()>, dag: &Dag) -> Vec<TaskId> {
    let mut best: Option<Vec<usize>> = None;
    for component in tarjan_scc(graph) {
        let members: BTreeSet<usize> = component.iter().map(|node| node.index()).collect();
        for start in &members {
            if let Some(path) = shortest_back_to(graph, &members, *start)
                && best.as_ref().is_none_or(|b| (path.len(), &path) < (b.len(), b))
            {
                best = Some(path);
            }
            // One start per component finds a cycle; all of them find the shortest. Large knots get the first.
            if members.len() > 200 && best.is_some() {
                break;
            }
        }
    }
    best.unwrap_or_default().into_iter().map(|ix| dag.tasks[ix].id.clone()).collect()
}

fn shortest_back_to(
    graph: &DiGraph<TaskIndex, ()>,
    members: &BTreeSet<usize>,
    start: usize,
) -> Option<Vec<usize>> {
    let mut parent: BTreeMap<usize, usize> = BTreeMap::new();
    let mut open = std::collections::VecDeque::from([start]);
    while let Some(ix) = open.pop_front() {
        let mut next: Vec<usize> =
            graph.neighbors_directed(NodeIndex::new(ix), Direction::Outgoing).map(NodeIndex::index).collect();
        next.sort_unstable();
        for down in next {
            if down == start {
                let mut path = vec![start, ix];
                let mut at = ix;
                while at != start {
                    at = *parent.get(&at)?;
                    path.push(at);
                }
                if ix == start {
                    path.pop();
                }
                path.reverse();
                return Some(path);
            }
            if members.contains(&down) && !parent.contains_key(&down) {
                parent.insert(down, ix);
                open.push_back(down);
            }
        }
    }
    None
}

/// Returns the pairs (from, to) among `tasks` where `to` is reachable from `from`.
fn pairs_below(graph: &DiGraph<TaskIndex, ()>, tasks: &[TaskIndex]) -> BTreeSet<(TaskIndex, TaskIndex)> {
    let wanted: BTreeSet<TaskIndex> = tasks.iter().copied().collect();
    let mut pairs = BTreeSet::new();
    for from in &wanted {
        let mut walk = Bfs::new(graph, NodeIndex::new(*from));
        while let Some(node) = walk.next(graph) {
            if node.index() != *from && wanted.contains(&node.index()) {
                pairs.insert((*from, node.index()));
            }
        }
    }
    pairs
}

/// Effective weights. Sets of descendants are bit sets: 10 000 tasks need 12.5 MB for a moment, once a version.
fn weights(
    dag: &Dag,
    upstream: &[Vec<TaskIndex>],
    downstream: &[Vec<TaskIndex>],
    topological: &[TaskIndex],
) -> Vec<i64> {
    let wants = |rule| dag.tasks.iter().any(|task| task.weight_rule == rule);
    let below = wants(WeightRule::Downstream)
        .then(|| sums(dag, downstream, topological.iter().rev().copied().collect()));
    let above = wants(WeightRule::Upstream).then(|| sums(dag, upstream, topological.to_vec()));
    dag.tasks
        .iter()
        .enumerate()
        .map(|(ix, task)| match task.weight_rule {
            WeightRule::Downstream => below.as_ref().map_or(task.priority_weight, |sums| sums[ix]),
            WeightRule::Upstream => above.as_ref().map_or(task.priority_weight, |sums| sums[ix]),
            WeightRule::Absolute => task.priority_weight,
        })
        .collect()
}

/// Per task its own weight plus that of everything reachable over `edges`; `order` has targets first.
fn sums(dag: &Dag, edges: &[Vec<TaskIndex>], order: Vec<TaskIndex>) -> Vec<i64> {
    let words = dag.tasks.len().div_ceil(64);
    let mut sets: Vec<Vec<u64>> = vec![Vec::new(); dag.tasks.len()];
    let mut total = vec![0_i64; dag.tasks.len()];
    for ix in order {
        let mut set = vec![0_u64; words];
        set[ix / 64] |= 1 << (ix % 64);
        for target in &edges[ix] {
            for (word, other) in set.iter_mut().zip(&sets[*target]) {
                *word |= other;
            }
        }
        let mut sum = 0_i64;
        for (position, word) in set.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                let bit = position * 64 + rest.trailing_zeros() as usize;
                sum = sum.saturating_add(dag.tasks[bit].priority_weight);
                rest &= rest - 1;
            }
        }
        total[ix] = sum;
        sets[ix] = set;
    }
    total
}

/// Orders task instances in a pool: those of backfills last, weight descending, logical date ascending, then creation,
/// file order and element (`semantics.md` §8, §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// It is of a backfill, which yields to everything else.
    pub yields: bool,
    /// Effective weight, heaviest first.
    pub weight: Reverse<i64>,
    /// Logical date of the run in microseconds.
    pub logical_date: i64,
    /// The run.
    pub run: i64,
    /// The task's position.
    pub task: TaskIndex,
}
