//! How does it hang together? And which way did this run go?

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};
use serde::Deserialize;
use tidemill_engine::{
    definition::Dag,
    ids::{DagId, RunId, TaskInstanceKey},
    rows::{RunRow, TaskRow},
    state::{TaskState, TriggerRule},
};
use tidemill_protocol::worker::Report;
use tidemill_store::reader::{PageRequest, RunQuery};

use super::{
    Chrome,
    dag::{DagHead, find},
    page,
};
use crate::{
    error::Result,
    extract::{self, DagPath, Ids, Params},
    render::{
        Markup,
        graph::{Node, Shape, Verdict, draw, layout},
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
    graph: Markup,
}

/// `?run_id=`.
#[derive(Deserialize)]
pub(crate) struct GraphParams {
    #[serde(default)]
    run_id: Option<String>,
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
    let graph = match &run {
        Some(run) => {
            let dag = extract::definition(&state, run).await?;
            let tasks = state.reader().tasks(run.key).await?;
            of_run(&state, &dag, run, &tasks).await?
        }
        None => plain(&state, &ids.dag_id, &detail.definition, &detail.dag.version),
    };
    page(&GraphPage {
        c,
        h: DagHead::load(&state, &detail, "graph").await?,
        selected: run.as_ref().map(|r| r.run_id.to_string()).unwrap_or_default(),
        run: run.map(|r| Shown { run_id: r.run_id.to_string(), state: r.state.as_str() }),
        runs: runs.into_iter().map(|r| r.run_id.to_string()).collect(),
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

fn shapes(dag: &Dag) -> Vec<Shape<'_>> {
    let shape = |task: &tidemill_engine::definition::Task| task.trigger_rule != TriggerRule::AllSuccess;
    dag.tasks.iter().map(|task| Shape { id: task.id.as_str(), has_badge: shape(task) }).collect()
}

fn plain(
    state: &WebState,
    dag_id: &DagId,
    dag: &Dag,
    version: &tidemill_engine::rows::VersionHash,
) -> Markup {
    let layout = state.layout(dag_id, version, || layout(&shapes(dag), &edges(dag)));
    let nodes: Vec<Node<'_>> = dag
        .tasks
        .iter()
        .map(|task| Node {
            id: task.id.as_str(),
            operator: task.operator.as_str(),
            rule: task.trigger_rule,
            state: None,
            href: format!("/dags/{dag_id}"),
        })
        .collect();
    draw(&layout, &nodes, &BTreeMap::new())
}

/// Draws the graph of a run.
pub(crate) async fn of_run(state: &WebState, dag: &Dag, run: &RunRow, tasks: &[TaskRow]) -> Result<Markup> {
    let layout = state.layout(&run.dag_id, &run.dag_version, || layout(&shapes(dag), &edges(dag)));
    let rows: BTreeMap<&str, &TaskRow> = tasks.iter().map(|row| (row.key.task.as_str(), row)).collect();
    let nodes: Vec<Node<'_>> = dag
        .tasks
        .iter()
        .map(|task| Node {
            id: task.id.as_str(),
            operator: task.operator.as_str(),
            rule: task.trigger_rule,
            state: Some(rows.get(task.id.as_str()).map_or(TaskState::NoStatus, |row| row.state)),
            href: format!("/dags/{}/runs/{}/tasks/{}", run.dag_id, run.run_id, task.id),
        })
        .collect();
    let verdicts = verdicts(state, dag, run, &rows).await?;
    Ok(draw(&layout, &nodes, &verdicts))
}

async fn verdicts(
    state: &WebState,
    dag: &Dag,
    run: &RunRow,
    rows: &BTreeMap<&str, &TaskRow>,
) -> Result<BTreeMap<(usize, usize), Verdict>> {
    let mut verdicts = BTreeMap::new();
    let mut asked = 0;
    let edges = edges(dag);
    for (index, task) in dag.tasks.iter().enumerate().filter(|(_, task)| task.operator.is_branch()) {
        let Some(follow) = rows.get(task.id.as_str()).and_then(|row| row.follow.as_ref()) else { continue };
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
