//! What went wrong in the last 24 hours, for the home page.

use chrono::{DateTime, TimeDelta, Utc};
use tidemill_engine::state::{RunState, TaskState};
use tidemill_store::reader::{PageRequest, RunQuery, TaskQuery};

use super::run::first_sentence;
use crate::{
    error::Result,
    render::{Markup, time},
    state::WebState,
};

/// How far the page looks back.
const WINDOW: TimeDelta = TimeDelta::hours(24);
/// How many of the newest failures are looked at, and how many are shown.
const LOOKED_AT: u32 = 100;
const SHOWN: usize = 6;

/// A failure that a person can open.
pub(crate) struct Trouble {
    pub(crate) href: String,
    pub(crate) dag_id: String,
    /// The task, when the run did not fail by it.
    pub(crate) what: String,
    pub(crate) reason: String,
    pub(crate) at: Markup,
}

/// Failed runs, then task instances that failed in runs that did not, each the latest first.
pub(crate) async fn of_the_last_day(state: &WebState, now: DateTime<Utc>) -> Result<Vec<Trouble>> {
    let since = now - WINDOW;
    let page = PageRequest { cursor: None, limit: LOOKED_AT };
    let query = RunQuery {
        page: page.clone(),
        states: vec![RunState::Failed],
        finished_since: Some(since),
        ..RunQuery::default()
    };
    let mut runs = state.reader().runs(&query).await?.items;
    runs.sort_by_key(|run| std::cmp::Reverse(run.finished_at));
    let query = TaskQuery {
        page,
        state: Some(TaskState::Failed),
        finished_since: Some(since),
        ..TaskQuery::default()
    };
    let mut tasks = state.reader().task_list(&query).await?.items;
    tasks.sort_by_key(|item| std::cmp::Reverse(item.task.finished_at));
    let mut troubles = Vec::new();
    for run in runs.iter().take(SHOWN) {
        // The task that failed first says more than the run, whose reason is about its leaves.
        let first = tasks.iter().rfind(|item| item.task.key.run == run.key);
        let of_task = first.map(|item| match &item.task.reason {
            Some(reason) => format!("task {} failed: {}", item.task.key.task, first_sentence(reason)),
            None => format!("task {} failed", item.task.key.task),
        });
        troubles.push(Trouble {
            href: format!("/dags/{}/runs/{}", run.dag_id, run.run_id),
            dag_id: run.dag_id.to_string(),
            what: run.run_id.to_string(),
            reason: of_task.or_else(|| run.reason.clone()).unwrap_or_default(),
            at: time::relative(run.finished_at.unwrap_or(now), now),
        });
    }
    let is_told =
        |item: &tidemill_store::reader::TaskListItem| runs.iter().any(|run| run.key == item.task.key.run);
    for item in tasks.iter().filter(|item| !is_told(item)).take(SHOWN.saturating_sub(troubles.len())) {
        let index = item.task.key.map_index;
        let query = if index >= 0 { format!("?map_index={index}") } else { String::new() };
        troubles.push(Trouble {
            href: format!("/dags/{}/runs/{}/tasks/{}{query}", item.dag_id, item.run_id, item.task.key.task),
            dag_id: item.dag_id.to_string(),
            what: format!("{} in {}", item.task.key.task, item.run_id),
            reason: item.task.reason.as_deref().map(first_sentence).unwrap_or_default().to_owned(),
            at: time::relative(item.task.finished_at.unwrap_or(now), now),
        });
    }
    Ok(troubles)
}
