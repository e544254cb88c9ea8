//! What has this DAG been doing? Tasks × runs, a cell per task instance.
//!
//! The table is built as one piece of markup: 5 000 tasks × 25 runs are 125 000 cells. Above a limit a cell is
//! a bare element and the script finds its address from row and column; without a script the row and the column
//! still link, and whoever does not see the colours is told them in a sentence per row.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;
use serde::Deserialize;
use tidemill_engine::{
    definition::Dag,
    ids::DagId,
    state::{RunState, TaskState},
};
use tidemill_store::reader::{Grid, GridRun};

use super::{
    Chrome,
    dag::{DagHead, find},
    groups::{self, Folded, Row},
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

/// `?cursor=&limit=&folded=`.
#[derive(Deserialize)]
pub(crate) struct GridParams {
    cursor: Option<String>,
    limit: Option<u32>,
    folded: Option<String>,
}

/// The grid of a DAG.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(params): Params<GridParams>,
) -> Result<Response> {
    let detail = find(&state, &ids.dag_id).await?;
    let paging = Paging { cursor: params.cursor, limit: params.limit };
    let folded = Folded::new(&detail.definition, params.folded.as_deref());
    let kept = params.folded.as_deref().unwrap_or_default();
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
            format!(
                "/dags/{}?{}",
                ids.dag_id,
                super::dags::query_string(&[("cursor", cursor), ("folded", kept)])
            )
        }),
        grid: draw(&ids.dag_id, &detail.definition, &grid, &folded),
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

/// The tasks of the newest definition in topological order.
fn order(dag: &Dag) -> Vec<usize> {
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
    order
}

/// The state of a cell: of several mapped elements the one that needs attention first.
fn cells(run: &GridRun, tasks: usize) -> Vec<Option<TaskState>> {
    let mut cells: Vec<Option<TaskState>> = vec![None; tasks];
    for cell in &run.cells {
        if let Some(slot) = usize::try_from(cell.task).ok().and_then(|i| cells.get_mut(i)) {
            *slot = groups::worst(slot.iter().copied().chain([cell.state]));
        }
    }
    cells
}

/// The columns of the grid: its runs, the oldest first, each with its states by the position of the task.
type Runs<'g> = Vec<(&'g GridRun, Vec<Option<TaskState>>)>;

/// What every row is drawn with.
struct Sheet<'g> {
    dag_id: &'g DagId,
    base: String,
    runs: Runs<'g>,
    columns: BTreeMap<&'g str, usize>,
    is_linked: bool,
}

impl Sheet<'_> {
    fn states(&self, task: &str) -> impl Iterator<Item = Option<TaskState>> {
        let column = self.columns.get(task).copied();
        self.runs.iter().map(move |(_, states)| column.and_then(|i| states.get(i).copied().flatten()))
    }
}

fn draw(dag_id: &DagId, dag: &Dag, grid: &Grid, folded: &Folded) -> Markup {
    let order = order(dag);
    let rows = groups::tree(dag, &order, folded);
    let known: BTreeSet<&str> = dag.tasks.iter().map(|task| task.id.as_str()).collect();
    // What only older runs know comes last.
    let gone: Vec<&str> = grid.tasks.iter().map(|t| t.as_str()).filter(|t| !known.contains(t)).collect();
    let runs: Runs<'_> = grid.runs.iter().rev().map(|run| (run, cells(run, grid.tasks.len()))).collect();
    let count = rows.len() + gone.len();
    let sheet = Sheet {
        dag_id,
        base: format!("/dags/{dag_id}/runs/"),
        columns: grid.tasks.iter().enumerate().map(|(i, t)| (t.as_str(), i)).collect(),
        is_linked: count * runs.len() <= LINKED_CELLS,
        runs,
    };
    let mut out =
        Markup::with_capacity(count * sheet.runs.len() * if sheet.is_linked { 170 } else { 48 } + 4_096);
    out.raw("<table class=\"grid\"><thead><tr><td>");
    let plural = if sheet.runs.len() == 1 { "" } else { "s" };
    out.text(&format!("{} run{plural}, the newest on the right", sheet.runs.len())).raw("</td>");
    head(&mut out, &sheet.base, &sheet.runs);
    out.raw("</tr></thead><tbody>");
    for row in rows {
        match row {
            Row::Group { name, depth, tasks } => {
                let ids: Vec<&str> = tasks.iter().map(|task| dag.tasks[*task].id.as_str()).collect();
                let doc = dag.groups.iter().find(|group| group.id == name).and_then(|g| g.doc.as_deref());
                group_row(&mut out, &sheet, (name, depth, doc), &ids, folded);
            }
            Row::Task { task, depth } => task_row(&mut out, &sheet, dag.tasks[task].id.as_str(), depth),
        }
    }
    for task in gone {
        task_row(&mut out, &sheet, task, 0);
    }
    out.raw("</tbody></table>");
    out
}

/// A group: its name folds and opens it, its cells say what needs attention in it.
fn group_row(
    out: &mut Markup,
    sheet: &Sheet<'_>,
    (name, depth, doc): (&str, usize, Option<&str>),
    tasks: &[&str],
    folded: &Folded,
) {
    let is_folded = folded.has(name);
    let toggled = folded.toggled(name);
    let href = format!("/dags/{}?{}", sheet.dag_id, super::dags::query_string(&[("folded", &toggled)]));
    out.raw("<tr class=\"group\"><th scope=\"row\" class=\"in").raw(inset(depth)).raw("\"><a");
    out.attr("href", &href).attr("aria-expanded", if is_folded { "false" } else { "true" });
    if let Some(doc) = doc {
        out.attr("title", doc);
    }
    let own = name.rsplit_once('.').map_or(name, |(_, own)| own);
    out.raw(">").raw(if is_folded { "▸ " } else { "▾ " }).text(own);
    out.raw(" <span class=\"muted\">").text(&tasks.len().to_string()).raw("</span></a></th>");
    let rows: Vec<Vec<Option<TaskState>>> = tasks.iter().map(|task| sheet.states(task).collect()).collect();
    for run in 0..sheet.runs.len() {
        let state = groups::worst(rows.iter().filter_map(|row| row.get(run).copied().flatten()));
        let class = state.map_or("none", TaskState::as_str);
        out.raw("<td class=\"k\"><i class=\"c s-").raw(class).raw("\"");
        out.attr("title", &format!("{name}: {class}")).raw("></i><span class=\"sr\">");
        out.raw(class).raw("</span></td>");
    }
    out.raw("</tr>");
}

const fn inset(depth: usize) -> &'static str {
    match depth {
        0 => "0",
        1 => "1",
        2 => "2",
        _ => "3",
    }
}

fn task_row(out: &mut Markup, sheet: &Sheet<'_>, task: &str, depth: usize) {
    out.raw("<tr data-row").attr("data-task", task).raw("><th scope=\"row\" class=\"in");
    out.raw(inset(depth)).raw("\">");
    match sheet.runs.last() {
        Some((newest, _)) => {
            out.raw("<a").attr("href", &format!("{}{}/tasks/{task}", sheet.base, newest.run.run_id)).raw(">");
            out.text(task).raw("</a>");
        }
        None => _ = out.text(task),
    }
    if !sheet.is_linked {
        out.raw("<span class=\"sr\">: ").text(&told(sheet.states(task))).raw("</span>");
    }
    out.raw("</th>");
    for ((run, _), state) in sheet.runs.iter().zip(sheet.states(task)) {
        let class = state.map_or("none", TaskState::as_str);
        if sheet.is_linked {
            out.raw("<td class=\"k\"><a class=\"c s-").raw(class).raw("\" href=\"").text(&sheet.base);
            out.text(run.run.run_id.as_str()).raw("/tasks/").text(task).raw("\" title=\"").text(task);
            out.raw(": ").raw(state.map_or("no_status", TaskState::as_str));
            out.raw("\"><span class=\"sr\">").raw(class).raw("</span></a></td>");
        } else {
            out.raw("<td class=\"k\"><i class=\"c s-").raw(class).raw("\"></i></td>");
        }
    }
    out.raw("</tr>");
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
