//! Groups of tasks on the grid and the graph: as a tree, folded or open.
//!
//! Which groups are folded stands in the address (`?folded=load,train`), so that a page can be sent to somebody as it
//! is, and so that folding needs no script.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_engine::{
    definition::{Dag, Task},
    state::TaskState,
};

/// Above this many tasks the outermost groups are folded until somebody opens them.
const MANY: usize = 300;

/// Which groups are folded.
pub(crate) struct Folded {
    names: BTreeSet<String>,
}

impl Folded {
    /// Reads `folded`; names that the DAG does not have are left out.
    pub(crate) fn new(dag: &Dag, asked: Option<&str>) -> Self {
        let all = names(dag);
        let names = match asked {
            Some(asked) => asked.split(',').filter(|name| all.contains(name)).map(str::to_owned).collect(),
            None if dag.tasks.len() > MANY => {
                all.into_iter().filter(|name| !name.contains('.')).map(str::to_owned).collect()
            }
            None => BTreeSet::new(),
        };
        Self { names }
    }

    /// Returns the outermost folded group that a task is in.
    pub(crate) fn hides<'t>(&self, task: &'t Task) -> Option<&'t str> {
        let group = task.group.as_deref()?;
        inward(group).find(|name| self.names.contains(*name))
    }

    /// Whether a group is inside a folded one.
    pub(crate) fn hides_group(&self, group: &str) -> bool {
        inward(group).any(|name| name != group && self.names.contains(name))
    }

    /// Whether a group is folded itself.
    pub(crate) fn has(&self, group: &str) -> bool {
        self.names.contains(group)
    }

    /// Returns the value of `folded` after a group was folded or opened. It is never empty: that would be the same as
    /// nothing asked.
    pub(crate) fn toggled(&self, group: &str) -> String {
        let mut names = self.names.clone();
        if !names.remove(group) {
            names.insert(group.to_owned());
        }
        if names.is_empty() { "-".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(",") }
    }

    /// Returns what tells this choice from every other.
    pub(crate) fn key(&self) -> String {
        self.names.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    }
}

/// Returns the names of all groups of a DAG, those around others too.
pub(crate) fn names(dag: &Dag) -> BTreeSet<&str> {
    dag.tasks.iter().filter_map(|task| task.group.as_deref()).flat_map(inward).collect()
}

/// `a.b.c` as `a`, `a.b`, `a.b.c`.
fn inward(group: &str) -> impl Iterator<Item = &str> {
    let ends = group.match_indices('.').map(|(at, _)| at).chain([group.len()]);
    ends.filter_map(|end| group.get(..end))
}

/// A row of the tree of tasks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Row<'d> {
    /// A group, with its tasks in order.
    Group {
        /// Its whole name.
        name: &'d str,
        /// How many groups are around it.
        depth: usize,
        /// All tasks in it and in the groups inside.
        tasks: Vec<usize>,
    },
    /// A task.
    Task {
        /// Its position.
        task: usize,
        /// How many groups are around it.
        depth: usize,
    },
}

/// Puts tasks that are in `order` into a tree: a group stands where its first task would.
pub(crate) fn tree<'d>(dag: &'d Dag, order: &[usize], folded: &Folded) -> Vec<Row<'d>> {
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for task in order {
        for name in dag.tasks[*task].group.as_deref().into_iter().flat_map(inward) {
            members.entry(name).or_default().push(*task);
        }
    }
    let mut rows = Vec::with_capacity(order.len() + members.len());
    emit(dag, order, (None, 0), (&members, folded), &mut rows);
    rows
}

fn emit<'d>(
    dag: &'d Dag,
    tasks: &[usize],
    (inside, depth): (Option<&str>, usize),
    (members, folded): (&BTreeMap<&'d str, Vec<usize>>, &Folded),
    rows: &mut Vec<Row<'d>>,
) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for task in tasks {
        let own = dag.tasks[*task].group.as_deref();
        let next = own.and_then(|own| inward(own).find(|name| inside.is_none_or(|i| name.len() > i.len())));
        let Some(name) = next else {
            rows.push(Row::Task { task: *task, depth });
            continue;
        };
        if !seen.insert(name) {
            continue;
        }
        let within = members.get(name).cloned().unwrap_or_default();
        let is_open = !folded.has(name);
        rows.push(Row::Group { name, depth, tasks: within.clone() });
        if is_open {
            emit(dag, &within, (Some(name), depth + 1), (members, folded), rows);
        }
    }
}

/// The state of several instances in one: what needs attention first.
pub(crate) fn worst(states: impl Iterator<Item = TaskState>) -> Option<TaskState> {
    states.max_by_key(|state| attention(*state))
}

/// How much a state needs somebody's attention.
pub(crate) const fn attention(state: TaskState) -> u8 {
    match state {
        TaskState::Failed => 6,
        TaskState::UpstreamFailed => 5,
        TaskState::Running => 4,
        TaskState::Queued | TaskState::UpForRetry | TaskState::UpForReschedule | TaskState::AwaitingInput => {
            3
        }
        TaskState::Scheduled => 2,
        TaskState::Success => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use tidemill_engine::definition::load;

    use super::*;

    fn sample() -> Dag {
        let task = |id: &str, group: &str, up: &str| {
            let group = if group.is_empty() { String::new() } else { format!("group = \"{group}\"\n") };
            format!("[[task]]\nid = \"{id}\"\noperator = \"noop\"\n{group}depends_on = [{up}]\n")
        };
        let text = [
            "[dag]\nid = \"x\"\n".to_owned(),
            task("extract", "", ""),
            task("a", "load.daily", "\"extract\""),
            task("b", "load", "\"a\""),
            task("report", "", "\"b\""),
            task("c", "load.daily", "\"extract\""),
        ];
        load(text.concat().as_bytes(), "x.toml").dag.unwrap()
    }

    fn lines(asked: Option<&str>) -> String {
        let dag = sample();
        let rows = tree(&dag, &[0, 1, 4, 2, 3], &Folded::new(&dag, asked));
        let line = |row: &Row<'_>| match row {
            Row::Group { name, depth, tasks } => format!("{depth}:{name}({})", tasks.len()),
            Row::Task { task, depth } => format!("{depth}:{}", dag.tasks[*task].id),
        };
        rows.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_group_stands_where_its_first_task_would_and_folds_away() {
        assert_eq!(lines(None), "0:extract 0:load(3) 1:load.daily(2) 2:a 2:c 1:b 0:report");
        assert_eq!(lines(Some("load.daily")), "0:extract 0:load(3) 1:load.daily(2) 1:b 0:report");
        assert_eq!(lines(Some("load,nonsense")), "0:extract 0:load(3) 0:report");
    }

    #[test]
    fn the_address_of_a_choice_leads_back() {
        let dag = sample();
        let folded = Folded::new(&dag, Some("load"));
        assert_eq!(folded.hides(&dag.tasks[1]), Some("load"));
        assert_eq!(folded.toggled("load"), "-");
        assert_eq!(Folded::new(&dag, Some("-")).hides(&dag.tasks[1]), None);
        assert_eq!(folded.toggled("load.daily"), "load,load.daily");
    }
}
