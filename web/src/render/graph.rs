//! A DAG as a layered picture, left to right.
//!
//! Ranks are longest paths from the sources. Long edges get a bend per rank that they pass, so that they run
//! between the boxes; `rust-sugiyama` orders and places everything within its rank. Its order differs
//! between calls on the same graph, so a layout is made once per DAG version and kept. Branch verdicts are
//! drawn onto it per run: the branch taken solid, the others dimmed and dashed.

use std::collections::BTreeMap;

use rust_sugiyama::configure::{Config, CrossingMinimization, RankingType};
use tidemill_engine::state::{TaskState, TriggerRule};

use super::Markup;

const BOX_HEIGHT: f64 = 44.0;
const ROW: f64 = 68.0;
const RANK_GAP: f64 = 96.0;
const MARGIN: f64 = 16.0;
const SHOWN_CHARACTERS: usize = 30;
/// Above this many tasks neither transposition nor bends pay: both cost more than quadratic time.
const LARGE: usize = 200;

/// What the layout needs of a task.
pub(crate) struct Shape<'a> {
    pub(crate) id: &'a str,
    /// How many characters stand below the id.
    pub(crate) caption: usize,
    pub(crate) has_badge: bool,
}

/// Where everything goes; independent of any run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layout {
    boxes: Vec<Place>,
    edges: Vec<Line>,
    width: f64,
    height: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    from: usize,
    to: usize,
    /// The y of the line in each rank between its ends, with the rank's left and right border.
    bends: Vec<(f64, f64, f64)>,
}

/// What a run adds to a box.
pub(crate) struct Node<'a> {
    pub(crate) id: &'a str,
    /// What it is: its operator, or that it is a group.
    pub(crate) kind: String,
    pub(crate) rule: TriggerRule,
    pub(crate) state: Option<TaskState>,
    pub(crate) href: String,
}

/// What a branch decided about an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) is_taken: bool,
    pub(crate) label: String,
}

/// Lays out `shapes` in topological order of `edges` (pairs of indexes).
pub(crate) fn layout(shapes: &[Shape<'_>], edges: &[(usize, usize)]) -> Layout {
    if shapes.is_empty() {
        return Layout::default();
    }
    let mut edges: Vec<(usize, usize)> =
        edges.iter().copied().filter(|(a, b)| a != b && *a < shapes.len() && *b < shapes.len()).collect();
    edges.sort_unstable();
    edges.dedup();
    let ranks = ranks(shapes.len(), &edges);
    let edges = reduce(shapes.len(), &edges, &ranks);
    let widths: Vec<f64> = shapes.iter().map(box_width).collect();
    let columns = columns(&ranks, &widths);
    let (rows, bends) = rows(shapes.len(), &edges, &ranks);
    let boxes: Vec<Place> = (0..shapes.len())
        .map(|i| Place { x: columns[ranks[i]].0, y: MARGIN + rows[i], width: widths[i] })
        .collect();
    let lines: Vec<Line> = edges
        .iter()
        .zip(bends)
        .map(|(&(from, to), rows)| Line {
            from,
            to,
            bends: rows
                .into_iter()
                .enumerate()
                .filter_map(|(i, y)| {
                    let (left, right) = *columns.get(ranks[from] + 1 + i)?;
                    Some((left, right, MARGIN + y + BOX_HEIGHT / 2.0))
                })
                .collect(),
        })
        .collect();
    let width = columns.iter().map(|c| c.1).fold(0.0, f64::max) + MARGIN;
    let height = boxes
        .iter()
        .map(|b| b.y + BOX_HEIGHT)
        .chain(lines.iter().flat_map(|l| l.bends.iter().map(|b| b.2)))
        .fold(0.0, f64::max)
        + MARGIN
        + 14.0;
    Layout { boxes, edges: lines, width, height }
}

fn box_width(shape: &Shape<'_>) -> f64 {
    let wide = |characters: usize| f64::from(u32::try_from(characters.min(SHOWN_CHARACTERS)).unwrap_or(0));
    let text = (wide(shape.id.chars().count()) * 7.8 + 56.0).max(wide(shape.caption) * 6.2 + 32.0);
    text.max(if shape.has_badge { 170.0 } else { 128.0 })
}

/// Longest path from a source. A cycle cannot load; should one be here, its nodes stay at rank 0.
fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut below = vec![Vec::new(); count];
    let mut open = vec![0_usize; count];
    for &(a, b) in edges {
        below[a].push(b);
        open[b] += 1;
    }
    let mut ranks = vec![0; count];
    let mut ready: Vec<usize> = (0..count).filter(|i| open[*i] == 0).collect();
    while let Some(a) = ready.pop() {
        for &b in &below[a] {
            ranks[b] = ranks[b].max(ranks[a] + 1);
            open[b] -= 1;
            if open[b] == 0 {
                ready.push(b);
            }
        }
    }
    ranks
}

/// Leaves out an edge that a longer path implies. Bounded: past the budget the rest stays as it is.
fn reduce(count: usize, edges: &[(usize, usize)], ranks: &[usize]) -> Vec<(usize, usize)> {
    let mut below = vec![Vec::new(); count];
    for &(a, b) in edges {
        below[a].push(b);
    }
    let mut budget = 2_000_000_usize;
    let mut seen = vec![usize::MAX; count];
    let mut kept = Vec::with_capacity(edges.len());
    for (a, targets) in below.iter().enumerate() {
        let furthest = targets.iter().map(|b| ranks[*b]).max().unwrap_or(0);
        // Everything reachable over a longer path; edges over one rank have no longer path.
        let mut stack: Vec<usize> = if targets.len() > 1 { targets.clone() } else { Vec::new() };
        while let Some(at) = stack.pop() {
            for &next in &below[at] {
                budget = budget.saturating_sub(1);
                if ranks[next] <= furthest && seen[next] != a && budget > 0 {
                    seen[next] = a;
                    stack.push(next);
                }
            }
        }
        kept.extend(targets.iter().filter(|b| seen[**b] != a || budget == 0).map(|b| (a, *b)));
    }
    kept
}

/// Left and right border of each rank.
fn columns(ranks: &[usize], widths: &[f64]) -> Vec<(f64, f64)> {
    let mut widest = vec![0.0_f64; ranks.iter().max().map_or(0, |r| r + 1)];
    for (rank, width) in ranks.iter().zip(widths) {
        widest[*rank] = widest[*rank].max(*width);
    }
    let mut x = MARGIN;
    widest
        .into_iter()
        .map(|width| {
            let column = (x, x + width);
            x += width + RANK_GAP;
            column
        })
        .collect()
}

/// The top of every box, and per edge the tops of its bends.
fn rows(count: usize, edges: &[(usize, usize)], ranks: &[usize]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut vertices: Vec<(u32, (f64, f64))> = (0..count).map(|i| (id(i), (BOX_HEIGHT, 10.0))).collect();
    let mut links = Vec::with_capacity(edges.len());
    let mut bend_ids: Vec<Vec<usize>> = Vec::with_capacity(edges.len());
    for &(a, b) in edges {
        let mut ids = Vec::new();
        if count <= LARGE {
            for _ in ranks[a] + 1..ranks[b] {
                ids.push(vertices.len());
                vertices.push((id(vertices.len()), (BOX_HEIGHT / 2.0, 10.0)));
            }
        }
        let mut last = a;
        for next in ids.iter().copied().chain([b]) {
            links.push((id(last), id(next)));
            last = next;
        }
        bend_ids.push(ids);
    }
    let config = Config {
        minimum_length: 1,
        vertex_spacing: ROW - BOX_HEIGHT,
        dummy_vertices: count <= LARGE,
        dummy_size: 0.5,
        ranking_type: RankingType::Up,
        c_minimization: CrossingMinimization::Barycenter,
        transpose: count <= LARGE,
    };
    let mut tops = vec![0.0_f64; vertices.len()];
    let mut offset = 0.0;
    let mut components = rust_sugiyama::from_vertices_and_edges(&vertices, &links, &config);
    // The library's component order is not stable; the smallest index is.
    components.sort_by_key(|(places, _, _)| places.iter().map(|p| p.0).min());
    for (places, _, _) in components {
        let low = places.iter().map(|p| p.1.0).fold(f64::INFINITY, f64::min);
        let mut high = 0.0_f64;
        for (index, (across, _)) in places {
            if let Some(top) = tops.get_mut(index) {
                *top = offset + across - low;
                high = high.max(across - low);
            }
        }
        offset += high + ROW;
    }
    separate(&mut tops, ranks, count);
    let bends = bend_ids.iter().map(|ids| ids.iter().map(|i| tops[*i]).collect()).collect();
    (tops, bends)
}

/// Boxes of one rank never overlap, whatever the library answered.
fn separate(tops: &mut [f64], ranks: &[usize], count: usize) {
    let mut by_rank: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, rank) in ranks.iter().enumerate().take(count) {
        by_rank.entry(*rank).or_default().push(index);
    }
    for members in by_rank.values_mut() {
        members.sort_by(|a, b| tops[*a].total_cmp(&tops[*b]).then(a.cmp(b)));
        for pair in 1..members.len() {
            let least = tops[members[pair - 1]] + ROW - 8.0;
            tops[members[pair]] = tops[members[pair]].max(least);
        }
    }
}

fn id(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Draws `layout` with what a run (or none) says about it. `verdicts` is keyed by (upstream, downstream).
pub(crate) fn draw(
    layout: &Layout,
    nodes: &[Node<'_>],
    verdicts: &BTreeMap<(usize, usize), Verdict>,
) -> Markup {
    let mut out = Markup::with_capacity(nodes.len() * 600 + layout.edges.len() * 260);
    out.raw("<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"group\" aria-label=\"Graph of the DAG\"");
    out.num("width", layout.width).num("height", layout.height).raw(" viewBox=\"0 0 ");
    out.coordinate(layout.width).raw(" ").coordinate(layout.height).raw("\">");
    for line in &layout.edges {
        draw_edge(&mut out, layout, line, verdicts.get(&(line.from, line.to)));
    }
    for (place, node) in layout.boxes.iter().zip(nodes) {
        draw_node(&mut out, *place, node);
    }
    // Labels last: above every line.
    for line in &layout.edges {
        if let Some(verdict) = verdicts.get(&(line.from, line.to)) {
            draw_verdict(&mut out, layout, line, verdict);
        }
    }
    out.raw("</svg>");
    out
}

fn ends(layout: &Layout, line: &Line) -> Option<((f64, f64), (f64, f64))> {
    let (from, to) = (layout.boxes.get(line.from)?, layout.boxes.get(line.to)?);
    Some(((from.x + from.width, from.y + BOX_HEIGHT / 2.0), (to.x - 8.0, to.y + BOX_HEIGHT / 2.0)))
}

const fn edge_class(verdict: Option<&Verdict>) -> &'static str {
    match verdict {
        Some(Verdict { is_taken: true, .. }) => " taken",
        Some(_) => " not-taken",
        None => "",
    }
}

fn draw_edge(out: &mut Markup, layout: &Layout, line: &Line, verdict: Option<&Verdict>) {
    let Some((start, end)) = ends(layout, line) else { return };
    let class = edge_class(verdict);
    out.raw("<path class=\"edge").raw(class).raw("\" d=\"M");
    out.coordinate(start.0).raw(" ").coordinate(start.1);
    let mut at = start;
    for &(left, right, y) in &line.bends {
        curve(out, at, (left, y));
        out.raw("H").coordinate(right);
        at = (right, y);
    }
    curve(out, at, end);
    out.raw("\"/><path class=\"tip").raw(class).raw("\" d=\"M");
    out.coordinate(end.0 + 8.0).raw(" ").coordinate(end.1).raw("l-9 -4.500v9z\"/>");
}

fn curve(out: &mut Markup, from: (f64, f64), to: (f64, f64)) {
    let pull = ((to.0 - from.0) / 2.0).max(12.0);
    out.raw("C").coordinate(from.0 + pull).raw(" ").coordinate(from.1).raw(" ");
    out.coordinate(to.0 - pull).raw(" ").coordinate(to.1).raw(" ");
    out.coordinate(to.0).raw(" ").coordinate(to.1);
}

fn draw_verdict(out: &mut Markup, layout: &Layout, line: &Line, verdict: &Verdict) {
    let Some((_, end)) = ends(layout, line) else { return };
    let width = f64::from(u32::try_from(verdict.label.chars().count()).unwrap_or(0)) * 6.4 + 12.0;
    let x = end.0 - 8.0 - width;
    out.raw("<g class=\"verdict").raw(edge_class(Some(verdict))).raw("\"><rect rx=\"8\" height=\"17\"");
    out.num("x", x).num("y", end.1 - 8.5).num("width", width).raw("/><text text-anchor=\"middle\"");
    out.num("x", x + width / 2.0).num("y", end.1 + 4.0).raw(">").text(&verdict.label).raw("</text></g>");
}

fn draw_node(out: &mut Markup, place: Place, node: &Node<'_>) {
    let state = node.state.unwrap_or(TaskState::NoStatus);
    out.raw("<a").attr("href", &node.href).raw("><g class=\"node s-").raw(state.as_str()).raw("\"><title>");
    out.text(node.id)
        .raw(": ")
        .raw(if node.state.is_some() { state.as_str() } else { "no run shown" })
        .raw("</title>");
    out.raw("<rect class=\"box\" rx=\"6\"").num("x", place.x).num("y", place.y).num("width", place.width);
    out.num("height", BOX_HEIGHT).raw("/><rect class=\"side\" rx=\"2\" width=\"4\"").num("x", place.x + 4.0);
    out.num("y", place.y + 6.0).num("height", BOX_HEIGHT - 12.0).raw("/>");
    if node.state.is_some() {
        out.raw("<path class=\"mark\" transform=\"translate(")
            .coordinate(place.x + place.width - 24.0)
            .raw(" ");
        out.coordinate(place.y + 8.0).raw(")\" fill-rule=\"evenodd\" d=\"").raw(icon(state)).raw("\"/>");
    }
    out.raw("<text class=\"id\"").num("x", place.x + 16.0).num("y", place.y + 19.0).raw(">");
    out.text(&shorten(node.id)).raw("</text><text class=\"op\"");
    out.num("x", place.x + 16.0)
        .num("y", place.y + 35.0)
        .raw(">")
        .text(&shorten(&node.kind))
        .raw("</text></g></a>");
    if node.rule != TriggerRule::AllSuccess {
        let rule = node.rule.as_str();
        let width = f64::from(u32::try_from(rule.len()).unwrap_or(0)) * 5.8 + 12.0;
        let x = place.x + (place.width - width) / 2.0;
        out.raw("<g class=\"rule\"><rect rx=\"7\" height=\"15\"").num("x", x);
        out.num("y", place.y + BOX_HEIGHT - 4.0).num("width", width).raw("/><text text-anchor=\"middle\"");
        out.num("x", x + width / 2.0)
            .num("y", place.y + BOX_HEIGHT + 7.0)
            .raw(">")
            .raw(rule)
            .raw("</text></g>");
    }
}

fn shorten(id: &str) -> String {
    if id.chars().count() <= SHOWN_CHARACTERS {
        return id.to_owned();
    }
    id.chars().take(SHOWN_CHARACTERS - 1).chain(['…']).collect()
}

/// The shape of a state, 16 by 16: the same shapes as in the style sheet.
const fn icon(state: TaskState) -> &'static str {
    match state {
        TaskState::Success => "M8 0a8 8 0 1 0 0 16A8 8 0 0 0 8 0zm4 5.6-5 6-3-2.9 1.1-1.2 1.8 1.7 3.8-4.700z",
        TaskState::Failed => {
            "M4.7 0h6.600L16 4.700v6.600L11.3 16H4.700L0 11.300V4.700zm6.8 5.6-1.1-1.100L8 6.9 5.6 4.5 4.5 5.6 6.9 8l-2.4 2.4 1.1 1.100L8 9.100l2.4 2.4 1.1-1.100L9.1 8z"
        }
        TaskState::Running => {
            "M8 0a8 8 0 0 1 8 8h-2.400A5.6 5.6 0 1 0 8 13.600V16A8 8 0 1 1 8 0zm0 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6z"
        }
        TaskState::Queued => {
            "M2.5 6a2 2 0 1 1 0 4 2 2 0 0 1 0-4zM8 6a2 2 0 1 1 0 4 2 2 0 0 1 0-4zm5.5 0a2 2 0 1 1 0 4 2 2 0 0 1 0-4z"
        }
        TaskState::Scheduled => {
            "M8 0a8 8 0 1 0 0 16A8 8 0 0 0 8 0zm0 1.800a6.2 6.2 0 1 1 0 12.400A6.2 6.2 0 0 1 8 1.800zM7.2 4h1.600v3.700l2.7 1.6-.800 1.3-3.5-2z"
        }
        TaskState::UpForRetry | TaskState::UpForReschedule => {
            "M8 1a7 7 0 0 1 5.2 2.300L15 1.500V7H9.500l2.2-2.200A4.9 4.9 0 1 0 12.8 9H15A7 7 0 1 1 8 1z"
        }
        TaskState::Skipped => "M1 3l6 5-6 5zm7 0l6 5-6 5z",
        TaskState::UpstreamFailed => {
            "M8 0a8 8 0 1 0 0 16A8 8 0 0 0 8 0zM2.2 8a5.8 5.8 0 0 1 9.2-4.700l-8.1 8.100A5.8 5.8 0 0 1 2.2 8zM8 13.800a5.8 5.8 0 0 1-3.4-1.100l8.1-8.100A5.8 5.8 0 0 1 8 13.800z"
        }
        TaskState::AwaitingInput => {
            "M8 0a5 5 0 0 1 5 5v3l2 3v1H1v-1l2-3V5a5 5 0 0 1 5-5zM6 13h4a2 2 0 1 1-4 0z"
        }
        TaskState::Removed | TaskState::NoStatus => "M3 7h10v2H3z",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes<'a>(ids: &[&'a str]) -> Vec<Shape<'a>> {
        ids.iter().map(|id| Shape { id, caption: 0, has_badge: false }).collect()
    }

    #[test]
    fn edges_run_to_the_right_and_boxes_never_overlap() {
        let ids = ["a", "b", "c", "d", "e", "lonely"];
        let edges = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (0, 4)];
        let made = layout(&shapes(&ids), &edges);
        assert_eq!(made.edges.len(), 5, "the edge a → e is implied");
        for line in &made.edges {
            assert!(made.boxes[line.from].x + made.boxes[line.from].width < made.boxes[line.to].x);
        }
        for (i, a) in made.boxes.iter().enumerate() {
            for b in &made.boxes[i + 1..] {
                let apart = (a.y - b.y).abs() >= BOX_HEIGHT || a.x + a.width < b.x || b.x + b.width < a.x;
                assert!(apart, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn a_branch_shows_its_verdict_and_text_stays_text() {
        let made = layout(&shapes(&["b", "yes", "no"]), &[(0, 1), (0, 2)]);
        let node = |id| Node {
            id,
            kind: "branch".to_owned(),
            rule: TriggerRule::NoneFailed,
            state: Some(TaskState::Success),
            href: "/x?\"><script>".to_owned(),
        };
        let verdict = |is_taken| Verdict { is_taken, label: "<drift>".to_owned() };
        let verdicts = BTreeMap::from([((0, 1), verdict(true)), ((0, 2), verdict(false))]);
        let text = draw(&made, &[node("b"), node("yes"), node("no")], &verdicts).to_string();
        assert!(
            text.contains("edge taken") && text.contains("edge not-taken") && text.contains("&lt;drift&gt;")
        );
        assert!(!text.contains("<script") && !text.contains("style=") && text.contains("none_failed"));
    }

    #[test]
    fn a_wide_and_deep_graph_is_laid_out() {
        let names: Vec<String> = (0..3_000).map(|i| format!("task_{i}")).collect();
        let edges: Vec<(usize, usize)> =
            (30..3_000).flat_map(|i| [(i - 30, i), (i - 30 + (i % 7), i)]).filter(|(a, b)| a < b).collect();
        let shapes: Vec<Shape<'_>> =
            names.iter().map(|id| Shape { id, caption: 0, has_badge: false }).collect();
        let made = layout(&shapes, &edges);
        assert_eq!(made.boxes.len(), 3_000);
        assert!(made.width.is_finite() && made.height.is_finite());
    }
}
