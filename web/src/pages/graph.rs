//! How does it hang together? And which way did this run go?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use askama::Template;
use axum::{extract::State, response::Response};
use serde::Deserialize;
use tidemill_engine::{
    definition::{Dag, Task},
    ids::{DagId, RunId, TaskId, TaskInstanceKey},
    rows::{RunRow, TaskRow, VersionHash},
    state::{TaskState, TriggerRule},
};
use tidemill_protocol::worker::Report;
use tidemill_store::reader::{PageRequest, RunQuery};

use super::{
    Chrome,
    dag::{DagHead, find},
    groups::{self, Folded},
    page,
};
use crate::{
    error::Result,
    extract::{self, DagPath, Ids, Params},
    render::{
        Markup,
        graph::{Layout, Node, Shape, Verdict, draw, layout},
    },
    state::WebState,
};

/// How many branch tasks are asked for their verdict in words.
const VERDICTS: usize = 12;

struct Shown {
    run_id: String,
    state: &'static str,
}

#[derive(Template)]
#[template(path = "dag_graph.html")]
struct GraphPage {
    c: Chrome,
    h: DagHead,
    run: Option<Shown>,
    runs: Vec<String>,
    selected: String,
    toggles: Vec<Toggle>,
    /// The choice of groups as it was asked for, kept by the form that chooses the run.
    folded: String,
    graph: Markup,
}

/// `?run_id=&folded=`.
#[derive(Deserialize)]
pub(crate) struct GraphParams {
    #[serde(default)]
    run_id: Option<String>,
    #[serde(default)]
    folded: Option<String>,
}

/// A group of the DAG, and the address that folds or opens it.
struct Toggle {
    name: String,
    is_folded: bool,
    href: String,
}

/// The graph of a DAG with a run on it.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
    Params(params): Params<GraphParams>,
) -> Result<Response> {
    let detail = find(&state, &ids.dag_id).await?;
    let query = RunQuery {
        page: PageRequest { cursor: None, limit: 25 },
        dag_id: Some(ids.dag_id.clone()),
        ..RunQuery::default()
    };
    let runs = state.reader().runs(&query).await?.items;
    let run = match params.run_id.as_deref().and_then(|id| RunId::new(id).ok()) {
        Some(id) => Some(extract::run(&state, &ids.dag_id, &id).await?),
        None => runs.first().cloned(),
    };
    let (dag, rows) = match &run {
        Some(run) => (extract::definition(&state, run).await?, Some(state.reader().tasks(run.key).await?)),
        None => (Arc::clone(&detail.definition), None),
    };
    let folded = Folded::new(&dag, params.folded.as_deref());
    let asked = run.as_ref().map(|run| run.run_id.to_string()).unwrap_or_default();
    let href = |group: &str| {
        let pairs = [("run_id", asked.as_str()), ("folded", &folded.toggled(group))];
        format!("/dags/{}/graph?{}", ids.dag_id, super::dags::query_string(&pairs))
    };
    let picture = Picture::new(&dag, &folded);
    let graph = match (&run, &rows) {
        (Some(run), Some(rows)) => picture.of_run(&state, run, rows, &href).await?,
        _ => picture.plain(&state, &ids.dag_id, &detail.dag.version, &href),
    };
    let shown = groups::names(&dag).into_iter().filter(|name| !folded.hides_group(name));
    let toggles =
        shown.map(|name| Toggle { name: name.to_owned(), is_folded: folded.has(name), href: href(name) });
    let toggles = toggles.collect();
    page(&GraphPage {
        c,
        h: DagHead::load(&state, &detail, "graph").await?,
        selected: run.as_ref().map(|r| r.run_id.to_string()).unwrap_or_default(),
        run: run.map(|r| Shown { run_id: r.run_id.to_string(), state: r.state.as_str() }),
        runs: runs.into_iter().map(|r| r.run_id.to_string()).collect(),
        toggles,
        folded: params.folded.unwrap_or_default(),
        graph,
    })
}

fn edges(dag: &Dag) -> Vec<(usize, usize)> {
    let index: BTreeMap<&str, usize> =
        dag.tasks.iter().enumerate().map(|(i, t)| (t.id.as_str(), i)).collect();
    dag.tasks
        .iter()
        .enumerate()
        .flat_map(|(i, task)| {
            task.depends_on.iter().filter_map(|up| index.get(up.as_str())).map(move |up| (*up, i))
        })
        .collect()
}

/// A box of the picture: a task, or a folded group with its tasks.
enum Figure<'d> {
    Task(&'d Task),
    Group(&'d str, Vec<&'d Task>),
}

/// What is drawn of a DAG: its tasks, but for folded groups, which are one box each.
struct Picture<'d> {
    dag: &'d Dag,
    figures: Vec<Figure<'d>>,
    /// Per task the figure that it is, or is in.
    figure_of: Vec<usize>,
    key: String,
}

impl<'d> Picture<'d> {
    fn new(dag: &'d Dag, folded: &Folded) -> Self {
        let mut figures: Vec<Figure<'d>> = Vec::new();
        let mut of_group: BTreeMap<&str, usize> = BTreeMap::new();
        let mut figure_of = Vec::with_capacity(dag.tasks.len());
        for task in &dag.tasks {
            let at = match folded.hides(task) {
                Some(group) => *of_group.entry(group).or_insert(figures.len()),
                None => figures.len(),
            };
            match (figures.get_mut(at), folded.hides(task)) {
                (Some(Figure::Group(_, tasks)), _) => tasks.push(task),
                (_, Some(group)) => figures.push(Figure::Group(group, vec![task])),
                (_, None) => figures.push(Figure::Task(task)),
            }
            figure_of.push(at);
        }
        Self { dag, figures, figure_of, key: folded.key() }
    }

    /// The edges between figures. Tasks on both sides of a folded group would close a circle: the edge back is left out.
    fn edges(&self) -> Vec<(usize, usize)> {
        let written = edges(self.dag);
        let mut place = vec![usize::MAX; self.figures.len()];
        for (position, task) in topological(self.dag.tasks.len(), &written).into_iter().enumerate() {
            let figure = &mut place[self.figure_of[task]];
            *figure = (*figure).min(position);
        }
        let moved = written.into_iter().map(|(from, to)| (self.figure_of[from], self.figure_of[to]));
        let found: BTreeSet<(usize, usize)> = moved.filter(|(from, to)| place[*from] < place[*to]).collect();
        found.into_iter().collect()
    }

    fn shapes(&self) -> Vec<Shape<'d>> {
        let shape = |figure: &Figure<'d>| match figure {
            Figure::Task(task) => Shape {
                id: task.id.as_str(),
                caption: caption(task).chars().count(),
                has_badge: badge(task) != TriggerRule::AllSuccess,
            },
            Figure::Group(name, _) => Shape { id: name, caption: 18, has_badge: false },
        };
        self.figures.iter().map(shape).collect()
    }

    fn layout(&self, state: &WebState, dag_id: &DagId, version: &VersionHash) -> Arc<Layout> {
        let key = (dag_id.clone(), version.clone(), self.key.clone());
        state.layout(key, || layout(&self.shapes(), &self.edges()))
    }

    /// Draws the DAG without a run.
    fn plain(
        &self,
        state: &WebState,
        dag_id: &DagId,
        version: &VersionHash,
        open: &(dyn Fn(&str) -> String + Sync),
    ) -> Markup {
        let nodes = self.nodes(|_| None, |_| format!("/dags/{dag_id}"), open, &BTreeMap::new());
        draw(&self.layout(state, dag_id, version), &nodes, &BTreeMap::new())
    }

    /// Draws the DAG as a run went through it.
    async fn of_run(
        &self,
        state: &WebState,
        run: &RunRow,
        tasks: &[TaskRow],
        open: &(dyn Fn(&str) -> String + Sync),
    ) -> Result<Markup> {
        let mut rows: BTreeMap<&str, Vec<&TaskRow>> = BTreeMap::new();
        for row in tasks.iter().filter(|row| row.state != TaskState::Removed) {
            rows.entry(row.key.task.as_str()).or_default().push(row);
        }
        let lengths = state.reader().map_lengths(run.key).await?;
        let state_of = |task: &Task| {
            let of_task = rows.get(task.id.as_str()).map(Vec::as_slice).unwrap_or_default();
            // Of an expanded task nothing may be decided about some elements.
            let length = lengths.get(&task.id).copied().unwrap_or(1) as usize;
            let undecided = (of_task.len() < length).then_some(TaskState::NoStatus);
            groups::worst(of_task.iter().map(|row| row.state).chain(undecided))
        };
        let href = |task: &Task| format!("/dags/{}/runs/{}/tasks/{}", run.dag_id, run.run_id, task.id);
        let nodes = self.nodes(state_of, href, open, &lengths);
        let mut seen = BTreeMap::new();
        for ((from, to), verdict) in verdicts(state, self.dag, run, &rows).await? {
            seen.insert((self.figure_of[from], self.figure_of[to]), verdict);
        }
        Ok(draw(&self.layout(state, &run.dag_id, &run.dag_version), &nodes, &seen))
    }

    fn nodes(
        &self,
        state_of: impl Fn(&Task) -> Option<TaskState>,
        href: impl Fn(&Task) -> String,
        open: &(dyn Fn(&str) -> String + Sync),
        lengths: &BTreeMap<TaskId, u32>,
    ) -> Vec<Node<'d>> {
        let node = |figure: &Figure<'d>| match figure {
            Figure::Task(task) => Node {
                id: task.id.as_str(),
                kind: match lengths.get(&task.id) {
                    Some(length) => caption(task).replace(MAPPED, &format!("[{length}]")),
                    None => caption(task),
                },
                rule: badge(task),
                state: state_of(task),
                href: href(task),
            },
            Figure::Group(name, tasks) => Node {
                id: name,
                kind: format!("group of {} tasks", tasks.len()),
                rule: TriggerRule::AllSuccess,
                state: groups::worst(tasks.iter().filter_map(|task| state_of(task))),
                href: open(name),
            },
        };
        self.figures.iter().map(node).collect()
    }
}

/// Stands for the number of elements where no run says it. As wide as four digits, so that a layout serves every run.
const MAPPED: &str = "mapped";

/// What a task is and where it belongs, as far as there is something to say.
fn caption(task: &Task) -> String {
    let mapped = if task.map.is_some() { MAPPED } else { "" };
    let group = task.group.as_deref().unwrap_or_default();
    let parts = [task.role.label(), task.operator.as_str(), mapped, group];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// The rule worth a word: that of a teardown is its own.
const fn badge(task: &Task) -> TriggerRule {
    if task.role.is_teardown() { TriggerRule::AllSuccess } else { task.trigger_rule }
}

/// Upstreams before downstreams.
fn topological(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut below = vec![Vec::new(); count];
    let mut missing = vec![0_usize; count];
    for (from, to) in edges {
        below[*from].push(*to);
        missing[*to] += 1;
    }
    let mut order: Vec<usize> = (0..count).filter(|task| missing[*task] == 0).collect();
    let mut next = 0;
    while let Some(task) = order.get(next).copied() {
        next += 1;
        for to in &below[task] {
            missing[*to] -= 1;
            if missing[*to] == 0 {
                order.push(*to);
            }
        }
    }
    order
}

/// Draws the graph of a run with every group open, or the outermost folded where there are many tasks.
pub(crate) async fn of_run(state: &WebState, dag: &Dag, run: &RunRow, tasks: &[TaskRow]) -> Result<Markup> {
    let folded = Folded::new(dag, None);
    let open = |group: &str| {
        let pairs = [("run_id", run.run_id.as_str()), ("folded", &folded.toggled(group))];
        format!("/dags/{}/graph?{}", run.dag_id, super::dags::query_string(&pairs))
    };
    Picture::new(dag, &folded).of_run(state, run, tasks, &open).await
}

async fn verdicts(
    state: &WebState,
    dag: &Dag,
    run: &RunRow,
    rows: &BTreeMap<&str, Vec<&TaskRow>>,
) -> Result<BTreeMap<(usize, usize), Verdict>> {
    let mut verdicts = BTreeMap::new();
    let mut asked = 0;
    let edges = edges(dag);
    for (index, task) in dag.tasks.iter().enumerate().filter(|(_, task)| task.operator.is_branch()) {
        // A branch is never mapped.
        let row = rows.get(task.id.as_str()).and_then(|rows| rows.first());
        let Some(follow) = row.and_then(|row| row.follow.as_ref()) else { continue };
        let [taken, left] =
            if task.operator.is_gate() { ["passed", "stopped"] } else { ["chosen", "not taken"] };
        let mut word = taken.to_owned();
        if asked < VERDICTS {
            asked += 1;
            let key = TaskInstanceKey { run: run.key, task: task.id.clone(), map_index: -1 };
            if let Some(Report::Drift(report)) =
                state.reader().reports(&key).await?.into_iter().next().map(|r| r.report)
            {
                word = report.decision.map_or(word, |decision| decision.verdict);
            }
        }
        for (from, to) in edges.iter().filter(|(from, _)| *from == index) {
            let is_taken = follow.contains(&dag.tasks[*to].id);
            let label = if is_taken { word.clone() } else { left.to_owned() };
            verdicts.insert((*from, *to), Verdict { is_taken, label });
        }
    }
    Ok(verdicts)
}
