//! Where did the time of a run go? Waiting and running of its task instances, and the path that it waited for.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tidemill_engine::{
    definition::Dag,
    ids::{RunId, TaskInstanceKey},
    rows::{RunRow, TaskRow, TryRow},
    state::TaskState,
};
use tidemill_store::reader::{PageRequest, RunQuery};

use super::{
    Chrome,
    dag::{DagHead, find},
    page,
    run::task_href,
    task,
};
use crate::{
    error::{Problem, Result},
    extract::{self, DagPath, Ids, Params},
    render::{
        Markup,
        gantt::{self, Bar, Line},
        time,
    },
    state::WebState,
};

/// How many rows are drawn. More than that nobody reads, and what is left out is short.
const ROWS: usize = 300;
/// How many tries are looked at.
const TRIES: u32 = 5_000;
/// How many runs can be chosen from.
const RUNS: u32 = 50;

/// `?run_id=`.
#[derive(Deserialize)]
pub(crate) struct GanttParams {
    #[serde(default)]
    run_id: Option<String>,
}

#[derive(Template)]
#[template(path = "dag_gantt.html")]
struct GanttPage {
    c: Chrome,
    h: DagHead,
    runs: Vec<String>,
    run: Option<(String, &'static str)>,
    path: Vec<(String, String, String)>,
    path_share: String,
    chart: Markup,
    left_out: usize,
}

/// The times of a run.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(params): Params<GanttParams>,
) -> Result<Response> {
    let detail = find(&state, &ids.dag_id).await?;
    let query = RunQuery {
        page: PageRequest { cursor: None, limit: RUNS },
        dag_id: Some(ids.dag_id.clone()),
        ..RunQuery::default()
    };
    let newest = state.reader().runs(&query).await?.items;
    let run = match params.run_id.as_deref().filter(|id| !id.is_empty()) {
        Some(id) => {
            let id: RunId = id.parse().map_err(|_| Problem::not_found("such dag run"))?;
            Some(extract::run(&state, &ids.dag_id, &id).await?)
        }
        None => newest.iter().find(|run| run.started_at.is_some()).cloned(),
    };
    let mut runs: Vec<String> = newest.iter().map(|run| run.run_id.to_string()).collect();
    if let Some(run) = &run
        && !newest.iter().any(|other| other.key == run.key)
    {
        runs.push(run.run_id.to_string());
    }
    let times = match &run {
        Some(run) => Some(Times::load(&state, run).await?),
        None => None,
    };
    let times = times.unwrap_or_default();
    page(&GanttPage {
        c,
        h: DagHead::load(&state, &detail, "gantt").await?,
        runs,
        run: run.map(|run| (run.run_id.to_string(), run.state.as_str())),
        path: times.path,
        path_share: times.path_share,
        chart: times.chart,
        left_out: times.left_out,
    })
}

#[derive(Default)]
struct Times {
    /// Address, name and duration of what the run waited for, in order.
    path: Vec<(String, String, String)>,
    path_share: String,
    chart: Markup,
    left_out: usize,
}

impl Times {
    async fn load(state: &WebState, run: &RunRow) -> Result<Self> {
        let now = Utc::now();
        let dag = extract::definition(state, run).await?;
        let rows = state.reader().tasks(run.key).await?;
        let mut tries: BTreeMap<TaskInstanceKey, Vec<TryRow>> = BTreeMap::new();
        for row in state.reader().run_tries(run.key, TRIES).await? {
            tries.entry(row.attempt.instance.clone()).or_default().push(row);
        }
        let critical = critical_path(&dag, &rows, now);
        let shown = shown(&rows, &critical, now);
        let left_out = rows.iter().filter(|row| span(row, now).is_some()).count() - shown.len();
        let on_path: BTreeSet<&TaskInstanceKey> = critical.iter().map(|row| &row.key).collect();
        let lines: Vec<Line> = shown
            .into_iter()
            .map(|row| line(run, row, tries.get(&row.key).map_or(&[][..], Vec::as_slice), &on_path, now))
            .collect();
        let running: i64 = critical
            .iter()
            .filter_map(|row| Some((end(row, now)? - row.started_at?).num_milliseconds()))
            .sum();
        let whole = run.started_at.map(|from| (run.finished_at.unwrap_or(now) - from).num_milliseconds());
        Ok(Self {
            path: critical
                .iter()
                .map(|row| {
                    let ms = row.started_at.zip(end(row, now)).map(|(a, b)| (b - a).num_milliseconds());
                    let href = task_href(run, row.key.task.as_str(), row.key.map_index);
                    (href, task::label(&row.key), ms.map(time::duration).unwrap_or_default())
                })
                .collect(),
            path_share: whole
                .filter(|whole| *whole > 0 && running > 0)
                .map(|whole| {
                    format!("{} of {} were spent in it", time::duration(running), time::duration(whole))
                })
                .unwrap_or_default(),
            chart: gantt::draw(&lines, now),
            left_out,
        })
    }
}

/// When an instance ended, or now while it goes on.
fn end(row: &TaskRow, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    row.finished_at.or_else(|| (row.state == TaskState::Running).then_some(now))
}

/// From when to when an instance waited or ran.
fn span(row: &TaskRow, now: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let begin = row.scheduled_at.or(row.queued_at).or(row.started_at).or(row.finished_at)?;
    Some((begin, row.finished_at.unwrap_or(now)))
}

/// The rows that are drawn, by their begin: those of the path, then the longest.
fn shown<'r>(rows: &'r [TaskRow], critical: &[&TaskRow], now: DateTime<Utc>) -> Vec<&'r TaskRow> {
    let on_path: BTreeSet<&TaskInstanceKey> = critical.iter().map(|row| &row.key).collect();
    let mut spans: Vec<_> = rows.iter().filter_map(|row| Some((span(row, now)?, row))).collect();
    spans.sort_by_key(|((from, to), row)| (!on_path.contains(&row.key), *from - *to));
    spans.truncate(ROWS);
    spans.sort_by(|(a, of_a), (b, of_b)| a.cmp(b).then_with(|| of_a.key.cmp(&of_b.key)));
    spans.into_iter().map(|(_, row)| row).collect()
}

/// What the end of the run waited for: from what ended last, each time the direct upstream that ended last.
fn critical_path<'r>(dag: &Dag, rows: &'r [TaskRow], now: DateTime<Utc>) -> Vec<&'r TaskRow> {
    let mut last: BTreeMap<&str, &TaskRow> = BTreeMap::new();
    // What was skipped ended, but nobody waited for its work: it speaks only where nothing else does.
    let rank = |row: &TaskRow| end(row, now).map(|at| (at, row.started_at));
    for row in rows.iter().filter(|row| rank(row).is_some()) {
        let entry = last.entry(row.key.task.as_str()).or_insert(row);
        if rank(row) > rank(entry) {
            *entry = row;
        }
    }
    let depends: BTreeMap<&str, &[_]> =
        dag.tasks.iter().map(|task| (task.id.as_str(), task.depends_on.as_slice())).collect();
    let mut path = Vec::new();
    let mut at = last.values().copied().filter(|row| row.started_at.is_some()).max_by_key(|row| rank(row));
    while let Some(row) = at {
        path.push(row);
        let upstreams = depends.get(row.key.task.as_str()).copied().unwrap_or_default();
        at = upstreams.iter().filter_map(|up| last.get(up.as_str()).copied()).max_by_key(|row| rank(row));
        // A definition has no cycle; rows of an older version might pretend one.
        if path.len() > rows.len() {
            break;
        }
    }
    path.reverse();
    path
}

fn line(
    run: &RunRow,
    row: &TaskRow,
    tries: &[TryRow],
    on_path: &BTreeSet<&TaskInstanceKey>,
    now: DateTime<Utc>,
) -> Line {
    let mut bars = Vec::new();
    let mut waits = Vec::new();
    let mut idle = row.scheduled_at;
    for attempt in tries {
        // The row of a live try does not know yet that it has started; its instance does.
        let started = attempt.started_at.or(if attempt.outcome.is_none() { row.started_at } else { None });
        let ended = attempt.finished_at.unwrap_or(now);
        let begin = started.unwrap_or(ended);
        // A clear makes an instance wait anew: what lies before its present wait is no part of it.
        let from = idle.filter(|at| *at <= begin).unwrap_or(attempt.queued_at);
        waits.push((from, begin));
        if let Some(started) = started {
            let state = attempt.outcome.map_or(row.state.as_str(), |outcome| outcome.as_str());
            bars.push(Bar {
                from: started,
                to: ended,
                state,
                label: format!("try {}", attempt.attempt.try_number),
            });
        }
        idle = Some(ended);
    }
    if tries.is_empty() {
        let to = end(row, now).unwrap_or(now);
        waits.extend(row.scheduled_at.map(|from| (from, row.started_at.unwrap_or(to))));
        bars.extend(row.started_at.map(|from| Bar {
            from,
            to,
            state: row.state.as_str(),
            label: String::new(),
        }));
    } else if !row.state.is_terminal() && !row.state.has_lease() {
        waits.extend(idle.map(|from| (from, now)));
    }
    Line {
        href: task_href(run, row.key.task.as_str(), row.key.map_index),
        label: task::label(&row.key),
        state: row.state.as_str(),
        is_critical: on_path.contains(&row.key),
        waits,
        bars,
    }
}

#[cfg(test)]
mod tests {
    use tidemill_engine::{definition::load, ids::RunKey};

    use super::*;

    fn row(task: &str, from: Option<i64>, to: Option<i64>) -> TaskRow {
        let at = |seconds: i64| DateTime::from_timestamp(1_793_836_800 + seconds, 0).unwrap();
        TaskRow {
            key: TaskInstanceKey { run: RunKey(1), task: task.parse().unwrap(), map_index: -1 },
            state: if to.is_none() { TaskState::Running } else { TaskState::Success },
            try_number: 1,
            epoch: 1,
            failures: 0,
            losses: 0,
            scheduled_at: Some(at(0)),
            queued_at: from.map(at),
            started_at: from.map(at),
            finished_at: to.map(at),
            retry_at: None,
            pokes: 0,
            first_poke_at: None,
            next_poke_at: None,
            worker: None,
            exit_code: None,
            reason: None,
            stop: None,
            follow: None,
        }
    }

    fn path_of(rows: &[TaskRow]) -> String {
        let task = |id: &str, up: &str| {
            format!("[[task]]\nid = \"{id}\"\noperator = \"noop\"\ndepends_on = [{up}]\n")
        };
        let text = [
            "[dag]\nid = \"x\"\n".to_owned(),
            task("a", ""),
            task("slow", "\"a\""),
            task("quick", "\"a\""),
            task("join", "\"slow\", \"quick\""),
            task("aside", "\"quick\""),
        ];
        let dag = load(text.concat().as_bytes(), "x.toml").dag.unwrap();
        let now = DateTime::from_timestamp(1_793_836_800 + 100, 0).unwrap();
        let path = critical_path(&dag, rows, now);
        path.iter().map(|row| row.key.task.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_critical_path_goes_by_what_ended_last() {
        let a = row("a", Some(1), Some(5));
        let (slow, quick) = (row("slow", Some(6), Some(40)), row("quick", Some(6), Some(9)));
        let (join, aside) = (row("join", Some(41), Some(42)), row("aside", Some(10), Some(12)));
        assert_eq!(path_of(&[a.clone(), slow, quick.clone(), join, aside.clone()]), "a slow join");
        // One that still runs is the one that everybody waits for.
        assert_eq!(path_of(&[a.clone(), row("slow", Some(6), None), quick.clone(), aside.clone()]), "a slow");
        assert_eq!(path_of(&[a.clone(), quick, aside]), "a quick aside");
        // What never started ended too, but is the end of no path.
        assert_eq!(path_of(&[a, row("join", None, Some(50))]), "a");
        assert_eq!(path_of(&[]), "");
    }

    #[test]
    fn of_many_rows_the_path_and_the_longest_are_drawn() {
        let rows: Vec<TaskRow> = (0..400).map(|n| row(&format!("t{n}"), Some(n), Some(n + 1))).collect();
        let now = DateTime::from_timestamp(1_793_836_800 + 500, 0).unwrap();
        let drawn = shown(&rows, &[&rows[0]], now);
        assert_eq!(drawn.len(), ROWS);
        assert!(
            drawn.iter().any(|row| row.key.task.as_str() == "t0")
                && drawn.iter().any(|row| row.key.task.as_str() == "t399")
        );
        assert!(!drawn.iter().any(|row| row.key.task.as_str() == "t1"));
    }
}
