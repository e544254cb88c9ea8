//! What has this DAG been doing? Tasks × runs, a cell per task instance.
//!
//! The table is built as one piece of markup: 5 000 tasks × 25 runs are 125 000 cells. Above a limit a cell is
//! a bare element and the script finds its address from row and column; without a script the row and the column
//! still link, and whoever does not see the colours is told them in a sentence per row. A cell opens the panel beside
//! the grid ([`super::side`]).

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::{extract::State, response::Response};
use serde::Deserialize;
use tidemill_engine::{definition::Dag, ids::DagId, state::TaskState};
use tidemill_store::reader::{Grid, GridRun, PAGE_LIMIT};

use super::{
    Chrome,
    dag::{DagHead, find},
    dags::query_string,
    grid_head,
    groups::{self, Folded, Row},
    page,
    side::{Cell, Side},
};
use crate::{
    error::Result,
    extract::{DagPath, Ids, Paging, Params},
    render::{self, Markup, time},
    state::WebState,
};

/// How many runs are shown until somebody asks for more.
const RUNS: u32 = 25;
/// How many cells a grid grows to at most: a browser is slow with more, whatever the server does.
const MOST_CELLS: usize = 150_000;
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
    side: Option<Side>,
}

/// `?cursor=&limit=&folded=`, and the cell that is open.
#[derive(Deserialize)]
pub(crate) struct GridParams {
    cursor: Option<String>,
    limit: Option<u32>,
    folded: Option<String>,
    run_id: Option<String>,
    task_id: Option<String>,
    map_index: Option<i32>,
}

impl GridParams {
    /// The address of the same grid with another limit or cursor and without the open cell.
    fn query(&self, limit: Option<u32>, cursor: Option<&str>) -> String {
        let limit = limit.map(|n| n.to_string()).unwrap_or_default();
        query_string(&[
            ("limit", &limit),
            ("cursor", cursor.unwrap_or_default()),
            ("folded", self.folded.as_deref().unwrap_or_default()),
        ])
    }
}

/// How many runs are shown, and how many by the link for more; nothing where it would be too many.
fn runs_shown(asked: Option<u32>, tasks: usize) -> (u32, Option<u32>) {
    let most = u32::try_from(MOST_CELLS / tasks.max(1)).unwrap_or(u32::MAX).clamp(RUNS, PAGE_LIMIT);
    let shown = asked.unwrap_or(RUNS).clamp(1, most);
    (shown, (shown < most).then(|| shown.saturating_mul(2).min(most)))
}

/// The grid of a DAG.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(params): Params<GridParams>,
) -> Result<Response> {
    let detail = find(&state, &ids.dag_id).await?;
    let (limit, more) = runs_shown(params.limit, detail.definition.tasks.len());
    let paging = Paging { cursor: params.cursor.clone(), limit: Some(limit) };
    let folded = Folded::new(&detail.definition, params.folded.as_deref());
    let grid = state.reader().grid(&ids.dag_id, &paging.request(RUNS)).await?;
    let grid = grid.unwrap_or(Grid { tasks: Vec::new(), runs: Vec::new(), next_cursor: None });
    let passed = state.reader().passed_over(&ids.dag_id, 1).await?;
    let cell =
        Cell { run_id: params.run_id.clone(), task_id: params.task_id.clone(), map_index: params.map_index };
    let path = |query: String| format!("/dags/{}?{query}", ids.dag_id);
    let here = params.query(params.limit, params.cursor.as_deref());
    let side = match cell.named()? {
        Some(named) => Some(Side::load(&state, &ids.dag_id, &named, path(here.clone())).await?),
        None => None,
    };
    let view = View {
        folded: &folded,
        here: if here.is_empty() { "?".to_owned() } else { format!("?{here}&") },
        more: more
            .filter(|_| grid.next_cursor.is_some())
            .map(|limit| (limit, path(params.query(Some(limit), params.cursor.as_deref())))),
        open: params.run_id.as_deref().zip(params.task_id.as_deref()),
    };
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
        // What is older than the most that fits is a page of its own.
        older: grid.next_cursor.as_ref().map(|cursor| path(params.query(params.limit, Some(cursor)))),
        grid: draw(&ids.dag_id, &detail.definition, &grid, &view),
        passed_over: passed.first().map(|p| {
            format!(
                "The catch-up rule passed over {} dates, the last time {} to {}.",
                p.count,
                time::exact(p.first),
                time::exact(p.last)
            )
        }),
        doc: detail.definition.doc.as_deref().map(render::prose),
        side,
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

/// What a cell shows: of several elements the state that needs attention first, and how many there are.
#[derive(Clone, Copy, Default)]
struct Square {
    state: Option<TaskState>,
    elements: usize,
}

fn squares(run: &GridRun, tasks: usize) -> Vec<Square> {
    let mut squares = vec![Square::default(); tasks];
    for cell in run.cells.iter().filter(|cell| cell.map_index < 0 || cell.state != TaskState::Removed) {
        if let Some(square) = usize::try_from(cell.task).ok().and_then(|i| squares.get_mut(i)) {
            square.state = groups::worst(square.state.into_iter().chain([cell.state]));
            square.elements += usize::from(cell.map_index >= 0);
        }
    }
    squares
}

/// The columns of the grid: its runs, the oldest first, each with its states by the position of the task.
type Runs<'g> = Vec<(&'g GridRun, Vec<Square>)>;

/// How the grid is looked at.
struct View<'v> {
    folded: &'v Folded,
    /// The query of this page without an open cell, ready for another name.
    here: String,
    /// How many runs the link for more shows, and where it leads.
    more: Option<(u32, String)>,
    /// The run and the task whose cell is open.
    open: Option<(&'v str, &'v str)>,
}

/// What every row is drawn with.
struct Sheet<'g> {
    dag_id: &'g DagId,
    base: String,
    runs: Runs<'g>,
    columns: BTreeMap<&'g str, usize>,
    is_linked: bool,
    view: &'g View<'g>,
}

impl Sheet<'_> {
    fn squares(&self, task: &str) -> impl Iterator<Item = Square> {
        let column = self.columns.get(task).copied();
        let square =
            move |squares: &Vec<Square>| column.and_then(|i| squares.get(i).copied()).unwrap_or_default();
        self.runs.iter().map(move |(_, squares)| square(squares))
    }

    fn states(&self, task: &str) -> impl Iterator<Item = Option<TaskState>> {
        self.squares(task).map(|square| square.state)
    }

    /// The run whose cell of a task is open.
    fn open_run(&self, task: &str) -> Option<&str> {
        self.view.open.filter(|(_, open)| *open == task).map(|(run, _)| run)
    }
}

fn draw(dag_id: &DagId, dag: &Dag, grid: &Grid, view: &View<'_>) -> Markup {
    let order = order(dag);
    let rows = groups::tree(dag, &order, view.folded);
    let known: BTreeSet<&str> = dag.tasks.iter().map(|task| task.id.as_str()).collect();
    // What only older runs know comes last.
    let gone: Vec<&str> = grid.tasks.iter().map(|t| t.as_str()).filter(|t| !known.contains(t)).collect();
    let runs: Runs<'_> = grid.runs.iter().rev().map(|run| (run, squares(run, grid.tasks.len()))).collect();
    let count = rows.len() + gone.len();
    let sheet = Sheet {
        dag_id,
        base: format!("/dags/{dag_id}/runs/"),
        columns: grid.tasks.iter().enumerate().map(|(i, t)| (t.as_str(), i)).collect(),
        is_linked: count * runs.len() <= LINKED_CELLS,
        runs,
        view,
    };
    let mut out =
        Markup::with_capacity(count * sheet.runs.len() * if sheet.is_linked { 190 } else { 48 } + 4_096);
    out.raw("<table class=\"grid\"").attr("data-cell", &format!("/dags/{dag_id}/cell"));
    out.attr("data-here", &view.here).raw("><thead><tr><td>");
    if let Some((limit, href)) = &view.more {
        out.raw("<a id=\"more\"").attr("href", href).attr("hx-get", href);
        out.raw(" hx-target=\"#live\" hx-select=\"#live\" hx-swap=\"outerMorph\" hx-push-url=\"true\">");
        out.text(&format!("◂ up to {limit} runs")).raw("</a><br>");
    }
    let plural = if sheet.runs.len() == 1 { "" } else { "s" };
    out.text(&format!("{} run{plural}, the newest on the right", sheet.runs.len())).raw("</td>");
    grid_head::draw(&mut out, &sheet.base, sheet.runs.iter().map(|(run, _)| *run));
    out.raw("</tr></thead><tbody>");
    for row in rows {
        match row {
            Row::Group { name, depth, tasks } => {
                let ids: Vec<&str> = tasks.iter().map(|task| dag.tasks[*task].id.as_str()).collect();
                let doc = dag.groups.iter().find(|group| group.id == name).and_then(|g| g.doc.as_deref());
                group_row(&mut out, &sheet, (name, depth, doc), &ids, view.folded);
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
    let href = format!("/dags/{}?{}", sheet.dag_id, query_string(&[("folded", &toggled)]));
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
    let open_run = sheet.open_run(task);
    for ((run, _), Square { state, elements }) in sheet.runs.iter().zip(sheet.squares(task)) {
        let class = state.map_or("none", TaskState::as_str);
        let run_id = run.run.run_id.as_str();
        let on = if open_run == Some(run_id) { " on" } else { "" };
        if sheet.is_linked {
            out.raw("<td class=\"k\"><a class=\"c s-").raw(class).raw(on).raw("\" href=\"");
            out.text(&sheet.view.here).raw("run_id=").text(run_id).raw("&amp;task_id=").text(task);
            out.raw("#side\" title=\"").text(task);
            out.raw(": ").raw(state.map_or("no_status", TaskState::as_str));
            if elements > 0 {
                out.text(&format!(", {elements} element{}", if elements == 1 { "" } else { "s" }));
            }
            out.raw("\"><span class=\"sr\">").raw(class).raw("</span></a></td>");
        } else {
            out.raw("<td class=\"k\"><i class=\"c s-").raw(class).raw(on).raw("\"></i></td>");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_grows_until_it_is_too_large_for_a_browser() {
        assert_eq!(runs_shown(None, 10), (25, Some(50)));
        assert_eq!(runs_shown(Some(400), 10), (400, Some(500)));
        assert_eq!(runs_shown(Some(9_999), 10), (500, None));
        assert_eq!(runs_shown(None, 5_000), (25, Some(30)));
        assert_eq!(runs_shown(Some(500), 10_000), (25, None));
    }
}
