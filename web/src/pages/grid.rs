//! What has this DAG been doing? Tasks × runs, a cell per task instance.
//!
//! The table is built as one piece of markup: 5 000 tasks × 25 runs are 125 000 cells. Above a limit a cell is
//! a bare element and the script finds its address from row and column; without a script the row and the column
//! still link, and whoever does not see the colours is told them in a sentence per row.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;
use tidemill_engine::{
    definition::Dag,
    ids::DagId,
    state::{RunState, TaskState},
};
use tidemill_store::reader::{Grid, GridRun};

use super::{
    Chrome,
    dag::{DagHead, find},
    page,
};
use crate::{
    error::Result,
    extract::{DagPath, Ids, Paging, Params},
    render::{self, Markup, time},
    state::WebState,
};

/// How many runs are shown at a time.
const RUNS: u32 = 25;
/// Above this many cells a cell has no link of its own.
const LINKED_CELLS: usize = 6_000;

#[derive(Template)]
#[template(path = "dag_grid.html")]
struct GridPage {
    c: Chrome,
    h: DagHead,
    legend: [&'static str; 8],
    is_empty: bool,
    grid: Markup,
    older: Option<String>,
    passed_over: Option<String>,
    doc: Option<Markup>,
}

/// The grid of a DAG.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(paging): Params<Paging>,
) -> Result<Response> {
    let detail = find(&state, &ids.dag_id).await?;
    let grid = state.reader().grid(&ids.dag_id, &paging.request(RUNS)).await?;
    let grid = grid.unwrap_or(Grid { tasks: Vec::new(), runs: Vec::new(), next_cursor: None });
    let passed = state.reader().passed_over(&ids.dag_id, 1).await?;
    page(&GridPage {
        c,
        h: DagHead::load(&state, &detail, "grid").await?,
        legend: [
            "success",
            "failed",
            "running",
            "queued",
            "scheduled",
            "up_for_retry",
            "skipped",
            "upstream_failed",
        ],
        is_empty: grid.runs.is_empty(),
        older: grid.next_cursor.as_ref().map(|cursor| {
            format!("/dags/{}?{}", ids.dag_id, super::dags::query_string(&[("cursor", cursor)]))
        }),
        grid: draw(&ids.dag_id, &detail.definition, &grid),
        passed_over: passed.first().map(|p| {
            format!(
                "The catch-up rule passed over {} dates, the last time {} to {}.",
                p.count,
                time::exact(p.first),
                time::exact(p.last)
            )
        }),
        doc: detail.definition.doc.as_deref().map(render::prose),
    })
}

/// The tasks in topological order of the newest definition, then what only older runs know.
fn rows<'a>(dag: &'a Dag, grid: &'a Grid) -> Vec<&'a str> {
    let index: BTreeMap<&str, usize> =
        dag.tasks.iter().enumerate().map(|(i, t)| (t.id.as_str(), i)).collect();
    let mut depth = vec![0_usize; dag.tasks.len()];
    // File order mostly is topological; a bounded number of passes settles the rest.
    for _ in 0..dag.tasks.len().min(64) {
        let mut has_changed = false;
        for (i, task) in dag.tasks.iter().enumerate() {
            let above =
                task.depends_on.iter().filter_map(|up| index.get(up.as_str())).map(|up| depth[*up] + 1).max();
            if let Some(above) = above
                && above > depth[i]
            {
                depth[i] = above;
                has_changed = true;
            }
        }
        if !has_changed {
            break;
        }
    }
    let mut order: Vec<usize> = (0..dag.tasks.len()).collect();
    order.sort_by_key(|i| (depth[*i], *i));
    let mut rows: Vec<&str> = order.into_iter().map(|i| dag.tasks[i].id.as_str()).collect();
    rows.extend(grid.tasks.iter().map(|t| t.as_str()).filter(|t| !index.contains_key(t)));
    rows
}

/// The state of a cell: of several mapped elements the one that needs attention first.
fn cells(run: &GridRun, tasks: usize) -> Vec<Option<TaskState>> {
    let mut cells: Vec<Option<TaskState>> = vec![None; tasks];
    for cell in &run.cells {
        if let Some(slot) = usize::try_from(cell.task).ok().and_then(|i| cells.get_mut(i)) {
            *slot = Some(slot.map_or(cell.state, |known| {
                if weight(cell.state) > weight(known) { cell.state } else { known }
            }));
        }
    }
    cells
}

const fn weight(state: TaskState) -> u8 {
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

fn draw(dag_id: &DagId, dag: &Dag, grid: &Grid) -> Markup {
    let rows = rows(dag, grid);
    let columns: BTreeMap<&str, usize> =
        grid.tasks.iter().enumerate().map(|(i, t)| (t.as_str(), i)).collect();
    let runs: Vec<(&GridRun, Vec<Option<TaskState>>)> =
        grid.runs.iter().rev().map(|run| (run, cells(run, grid.tasks.len()))).collect();
    let is_linked = rows.len() * runs.len() <= LINKED_CELLS;
    let base = format!("/dags/{dag_id}/runs/");
    let mut out = Markup::with_capacity(rows.len() * runs.len() * if is_linked { 170 } else { 48 } + 4_096);
    out.raw("<table class=\"grid\"><thead><tr><td>");
    out.text(&format!("{} runs, the newest on the right", runs.len())).raw("</td>");
    head(&mut out, &base, &runs);
    out.raw("</tr></thead><tbody>");
    for task in rows {
        let column = columns.get(task);
        let states = || runs.iter().map(|(_, states)| column.and_then(|i| states.get(*i).copied().flatten()));
        out.raw("<tr data-row").attr("data-task", task).raw("><th scope=\"row\">");
        match runs.last() {
            Some((newest, _)) => {
                out.raw("<a").attr("href", &format!("{base}{}/tasks/{task}", newest.run.run_id)).raw(">");
                out.text(task).raw("</a>");
            }
            None => _ = out.text(task),
        }
        if !is_linked {
            out.raw("<span class=\"sr\">: ").text(&told(states())).raw("</span>");
        }
        out.raw("</th>");
        for ((run, _), state) in runs.iter().zip(states()) {
            let class = state.map_or("none", TaskState::as_str);
            if is_linked {
                out.raw("<td class=\"k\"><a class=\"c s-").raw(class).raw("\"");
                out.raw(" href=\"")
                    .text(&base)
                    .text(run.run.run_id.as_str())
                    .raw("/tasks/")
                    .text(task)
                    .raw("\"");
                out.raw(" title=\"").text(task).raw(": ").raw(state.map_or("no_status", TaskState::as_str));
                out.raw("\"><span class=\"sr\">").raw(class).raw("</span></a></td>");
            } else {
                out.raw("<td class=\"k\"><i class=\"c s-").raw(class).raw("\"></i></td>");
            }
        }
        out.raw("</tr>");
    }
    out.raw("</tbody></table>");
    out
}

/// A row in words: the newest state, then how often each one occurs.
fn told(states: impl Iterator<Item = Option<TaskState>>) -> String {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut newest = None;
    for state in states {
        let word = state.map_or("no_status", TaskState::as_str);
        *counts.entry(word).or_default() += 1;
        newest = Some(word);
    }
    let counts: Vec<String> = counts.iter().map(|(word, n)| format!("{n} {word}")).collect();
    format!("{} in the newest run; of all shown {}", newest.unwrap_or("no_status"), counts.join(", "))
}

fn head(out: &mut Markup, base: &str, runs: &[(&GridRun, Vec<Option<TaskState>>)]) {
    let now = Utc::now();
    let took = |run: &GridRun| {
        run.run.started_at.map(|start| (run.run.finished_at.unwrap_or(now) - start).num_milliseconds().max(1))
    };
    let longest = runs.iter().filter_map(|(run, _)| took(run)).max().unwrap_or(1);
    for (index, (run, _)) in runs.iter().enumerate() {
        let bar = &run.run;
        let href = format!("{base}{}", bar.run_id);
        let share = took(run)
            .map_or(0.0, |ms| f64::from(u32::try_from(ms * 1000 / longest).unwrap_or(1000)) / 1000.0);
        let height = 4.0 + share.sqrt() * 44.0;
        let words = took(run).map(time::duration).unwrap_or_default();
        out.raw("<th scope=\"col\"")
            .attr("data-run", &href)
            .attr("data-col", &(index + 1).to_string())
            .raw("><a");
        out.attr("href", &href).attr("title", &format!("{}: {} {words}", bar.run_id, bar.state)).raw(">");
        out.raw(
            "<svg width=\"20\" height=\"50\" viewBox=\"0 0 20 50\" aria-hidden=\"true\"><rect class=\"bar s-",
        )
        .raw(bar.state.as_str());
        out.raw("\" x=\"4\" width=\"12\" rx=\"2\"").num("y", 50.0 - height).num("height", height).raw("/>");
        if bar.state == RunState::Failed {
            out.raw("<path class=\"glyph\" d=\"M7 41l6 6m0 -6l-6 6\"/>");
        }
        out.raw("</svg><span>")
            .text(&bar.logical_date.format("%d").to_string())
            .raw("</span><span class=\"sr\">");
        out.text(bar.run_id.as_str()).raw(" ").raw(bar.state.as_str()).raw("</span></a></th>");
    }
}
