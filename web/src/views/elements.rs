//! The elements of mapped tasks among the instances of a run, and a mapped task as a whole.

use std::collections::BTreeMap;

use tidemill_engine::{definition::Dag, ids::TaskId, rows::TaskRow, state::TaskState};

use super::TaskView;
use crate::pages::groups::worst;

impl TaskView {
    /// An expanded task as a whole: what needs attention first in it, and in words how its elements are.
    pub(crate) fn whole(views: Vec<Self>) -> Option<Self> {
        let told = told(views.iter().map(|view| view.state.as_str()));
        let state = worst(views.iter().filter_map(|view| TaskState::parse(&view.state)))?;
        let is_ended = state.is_terminal() && views.iter().all(|view| view.finished_at.is_some());
        Some(Self {
            map_index: -1,
            state: state.to_string(),
            reason: Some(told),
            try_number: views.iter().map(|view| view.try_number).max().unwrap_or(0),
            queued_at: views.iter().filter_map(|view| view.queued_at).min(),
            started_at: views.iter().filter_map(|view| view.started_at).min(),
            finished_at: views.iter().filter_map(|view| view.finished_at).max().filter(|_| is_ended),
            worker: None,
            exit_code: None,
            ..views.into_iter().next()?
        })
    }
}

/// Says how many elements there are and how they are: `1000 elements: 2 failed, 998 success`.
pub(crate) fn told<'a>(states: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for state in states {
        *counts.entry(state).or_default() += 1;
    }
    let count: usize = counts.values().sum();
    let words: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let s = if count == 1 { "" } else { "s" };
    format!("{count} element{s}: {}", words.join(", "))
}

/// All instances of a run: every task of its version, stored or not, then what is left of older versions.
pub(crate) fn task_views(dag: &Dag, rows: Vec<TaskRow>, lengths: &BTreeMap<TaskId, u32>) -> Vec<TaskView> {
    let mut by_task: BTreeMap<String, Vec<TaskRow>> = BTreeMap::new();
    for row in rows {
        by_task.entry(row.key.task.to_string()).or_default().push(row);
    }
    let mut views = Vec::new();
    for task in &dag.tasks {
        let operator = Some(task.operator.as_str());
        let rows = by_task.remove(task.id.as_str()).unwrap_or_default();
        // Of an expanded task every element is there, decided or not, and what was removed of a longer list.
        let length = lengths.get(&task.id).map_or(0, |length| i32::try_from(*length).unwrap_or(i32::MAX));
        let mut rows: BTreeMap<i32, TaskRow> = rows.into_iter().map(|row| (row.key.map_index, row)).collect();
        let expected = if length > 0 { 0..length } else { -1..0 };
        for map_index in expected {
            views.push(match rows.remove(&map_index) {
                Some(row) => TaskView::of(row, operator),
                None => TaskView::undecided(task.id.as_str(), map_index, operator),
            });
        }
        views.extend(rows.into_values().map(|row| TaskView::of(row, operator)));
    }
    views.extend(by_task.into_values().flatten().map(|row| TaskView::of(row, None)));
    views
}
