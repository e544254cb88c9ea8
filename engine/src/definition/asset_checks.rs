//! What the assets of DAG files say together: circles, and assets that nobody updates.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use petgraph::graph::{DiGraph, NodeIndex};

use super::{
    code::Code,
    load::Loaded,
    problem::{Draft, Problem, Report, Severity, Span},
    tree::{Node, Table, Value},
};
use crate::ids::AssetName;

/// The assets of one file, each with where it is named first.
#[derive(Clone, Debug, Default)]
pub struct AssetPlaces {
    /// Those that the DAG's schedule names.
    pub listens: BTreeMap<AssetName, Span>,
    /// Those that its tasks update.
    pub updates: BTreeMap<AssetName, Span>,
}

type Found = BTreeMap<AssetName, Range<usize>>;

fn strings<'s>(node: &'s Node<'_>) -> impl Iterator<Item = (AssetName, Range<usize>)> + 's {
    let items: &[Node<'_>] = match &node.value {
        Value::Array { items, is_tables: false } => items,
        _ => &[],
    };
    items.iter().filter_map(|item| match &item.value {
        Value::String(text) => Some((AssetName::new(text).ok()?, item.span.clone())),
        _ => None,
    })
}

fn table<'s, 'a>(table: &'s Table<'a>, key: &str) -> Option<&'s Table<'a>> {
    match &table.get(key)?.node.value {
        Value::Table(inner) => Some(inner),
        _ => None,
    }
}

fn add(found: &mut Found, node: &Node<'_>) {
    for (asset, at) in strings(node) {
        found.entry(asset).or_insert(at);
    }
}

/// Collects the assets of a file, and warns of a DAG that listens to what it updates itself.
pub(crate) fn read(root: &Table<'_>, report: &mut Report<'_>) -> AssetPlaces {
    let (mut listens, mut updates) = (Found::new(), Found::new());
    let schedule = table(root, "dag").and_then(|dag| table(dag, "schedule"));
    if let Some(entry) = schedule.and_then(|schedule| schedule.get("assets")) {
        add(&mut listens, &entry.node);
    }
    if let Some(Value::Array { items, .. }) = root.get("task").map(|entry| &entry.node.value) {
        for item in items {
            if let Value::Table(task) = &item.value
                && let Some(entry) = task.get("outlets")
            {
                add(&mut updates, &entry.node);
            }
        }
    }
    for (asset, at) in &updates {
        if let Some(listened) = listens.get(asset) {
            report.push(
                Draft::warning(
                    Code::ASSET_CIRCLE,
                    format!(
                        "the DAG waits for `{asset}`, which its own task updates: a run makes the next one"
                    ),
                    at.clone(),
                )
                .also(listened.clone(), "waited for here")
                .help("update another asset, unless it is meant to go on for ever"),
            );
        }
    }
    let placed = |found: Found| {
        found.into_iter().map(|(asset, at)| (asset, report.span(&at, String::new()))).collect()
    };
    AssetPlaces { listens: placed(listens), updates: placed(updates) }
}

/// Checks what files say together, and returns the problems with the position of their file. `is_whole` says that there
/// are no other files, so that an asset which none of them updates is worth a word.
#[must_use]
pub fn check_assets(files: &[&Loaded], is_whole: bool) -> Vec<(usize, Problem)> {
    let mut producers: BTreeMap<&AssetName, BTreeSet<usize>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate().filter(|(_, file)| file.dag.is_some()) {
        for asset in file.assets.updates.keys() {
            producers.entry(asset).or_default().insert(index);
        }
    }
    let circles = circles(files, &producers);
    let mut problems = Vec::new();
    for (index, file) in files.iter().enumerate().filter(|(_, file)| file.dag.is_some()) {
        for (asset, at) in &file.assets.listens {
            let sources = producers.get(asset);
            if sources.is_none() && is_whole {
                problems.push((index, without_source(asset, at)));
            }
            let circle = circles.iter().find(|circle| circle.contains(&index));
            let Some(circle) = circle.filter(|circle| sources.is_some_and(|s| !s.is_disjoint(circle))) else {
                continue;
            };
            problems.push((index, in_circle(files, circle, asset, at)));
        }
    }
    problems
}

/// Returns the groups of two and more files whose DAGs make runs of each other.
fn circles(files: &[&Loaded], producers: &BTreeMap<&AssetName, BTreeSet<usize>>) -> Vec<BTreeSet<usize>> {
    let mut graph = DiGraph::<usize, ()>::new();
    let nodes: Vec<NodeIndex> = (0..files.len()).map(|index| graph.add_node(index)).collect();
    for (index, file) in files.iter().enumerate() {
        for source in file.assets.listens.keys().filter_map(|asset| producers.get(asset)).flatten() {
            graph.update_edge(nodes[*source], nodes[index], ());
        }
    }
    let groups = petgraph::algo::tarjan_scc(&graph).into_iter();
    groups
        .filter(|group| group.len() > 1)
        .map(|group| group.iter().map(|node| graph[*node]).collect())
        .collect()
}

fn without_source(asset: &AssetName, at: &Span) -> Problem {
    Problem {
        code: Code::ASSET_WITHOUT_SOURCE,
        severity: Severity::Warning,
        message: format!("no task of these DAGs updates `{asset}`"),
        help: Some(format!(
            "add `outlets = [\"{asset}\"]` to the task that makes it, or post its events: `tidemill assets emit {asset}`"
        )),
        suggestion: None,
        spans: vec![at.clone()],
    }
}

fn in_circle(files: &[&Loaded], circle: &BTreeSet<usize>, asset: &AssetName, at: &Span) -> Problem {
    let name = |index: &usize| files[*index].dag_id.as_deref().unwrap_or("?");
    let names: Vec<&str> = circle.iter().map(name).take(8).collect();
    Problem {
        code: Code::ASSET_CIRCLE,
        severity: Severity::Warning,
        message: format!(
            "by `{asset}` and other assets, these DAGs make runs of each other: {}",
            names.join(", ")
        ),
        help: Some("let one of them run at dates, unless it is meant to go on for ever".to_owned()),
        suggestion: None,
        spans: vec![at.clone()],
    }
}
