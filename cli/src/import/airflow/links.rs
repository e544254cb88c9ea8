//! Dependencies between tasks and groups.

use std::collections::BTreeSet;

use ruff_text_size::TextRange;

use super::{interp::Interp, value::Value};

impl<'a> Interp<'a> {
    /// `left >> right` (or `<<`), and returns what the expression is.
    pub(super) fn shift(
        &mut self,
        left: Value<'a>,
        right: Value<'a>,
        is_down: bool,
        range: TextRange,
    ) -> Value<'a> {
        // A label belongs to the edge: `a >> Label("x") >> b` is `a >> b`.
        if matches!(right, Value::Label) {
            return left;
        }
        let (up, down) = if is_down { (&left, &right) } else { (&right, &left) };
        if !matches!(left, Value::Label) {
            self.link(up, down, range);
        }
        right
    }

    /// `chain(a, [b, c], [d, e], f)`: lists of one length are linked pairwise.
    pub(super) fn chain(&mut self, values: &[Value<'a>], range: TextRange) {
        let values: Vec<&Value<'a>> = values.iter().filter(|value| !matches!(value, Value::Label)).collect();
        for pair in values.windows(2) {
            match pair {
                [Value::List(up), Value::List(down)] if up.len() == down.len() => {
                    for (up, down) in up.iter().zip(down) {
                        self.link(up, down, range);
                    }
                }
                [up, down] => self.link(up, down, range),
                _ => {}
            }
        }
    }

    fn link(&mut self, up: &Value<'a>, down: &Value<'a>, range: TextRange) {
        let (mut ups, mut downs) = (BTreeSet::new(), BTreeSet::new());
        if !(self.ends(up, false, &mut ups) && self.ends(down, true, &mut downs)) {
            let text: String = self.source.slice(range).chars().take(80).collect();
            self.problem(
                range,
                format!("not converted: a dependency on something that only Python can tell: {text}"),
            );
        }
        for down in downs {
            if let Some(task) = self.tasks.get_mut(down) {
                task.up.extend(ups.iter().copied().filter(|up| *up != down));
            }
        }
    }

    /// Collects the tasks at the end of an edge: for a group its roots or its leaves. Returns false when some are unknown.
    fn ends(&self, value: &Value<'a>, is_down: bool, found: &mut BTreeSet<usize>) -> bool {
        match value {
            Value::Task(task) | Value::Output(task, _) => {
                found.insert(*task);
                true
            }
            Value::Group(group) => {
                found.extend(if is_down { self.roots(*group) } else { self.leaves(*group) });
                true
            }
            Value::List(items) => {
                items.iter().map(|item| self.ends(item, is_down, found)).fold(true, |all, one| all & one)
            }
            Value::None | Value::Label | Value::Dag(_) => true,
            _ => false,
        }
    }

    fn members(&self, group: usize) -> BTreeSet<usize> {
        (0..self.tasks.len()).filter(|task| self.is_in(*task, group)).collect()
    }

    /// Returns the tasks of a group that depend on none of it.
    pub(super) fn roots(&self, group: usize) -> BTreeSet<usize> {
        let members = self.members(group);
        let is_root =
            |task: &&usize| self.tasks.get(**task).is_some_and(|task| task.up.is_disjoint(&members));
        members.iter().filter(is_root).copied().collect()
    }

    /// Returns the tasks of a group on which none of it depends.
    fn leaves(&self, group: usize) -> BTreeSet<usize> {
        let members = self.members(group);
        let ups: BTreeSet<usize> = members
            .iter()
            .filter_map(|task| self.tasks.get(*task))
            .flat_map(|task| task.up.iter().copied())
            .collect();
        members.difference(&ups).copied().collect()
    }

    fn is_in(&self, task: usize, group: usize) -> bool {
        let mut at = self.tasks.get(task).and_then(|task| task.group);
        while let Some(inner) = at {
            if inner == group {
                return true;
            }
            at = self.groups.get(inner).and_then(|group| group.parent);
        }
        false
    }
}
