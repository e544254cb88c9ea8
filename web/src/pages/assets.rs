//! Assets: who updates them, who waits for them, and what happened on them.

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use chrono::Utc;
use serde::Deserialize;
use tidemill_engine::{
    asset::{AssetEventRow, AssetSource},
    ids::AssetName,
};
use tidemill_store::{
    assets::{AssetEventItem, AssetEventQuery, AssetQuery, AssetSummary},
    reader::PageRequest,
};

use super::{Chrome, dag, dag::DagHead, dags::query_string, page, see};
use crate::{
    actions,
    api::assets::{AssetListParams, asset_name},
    auth::Identity,
    error::{Problem, Result},
    extract::{DagPath, Form, Ids, Paging, Params},
    render::{Markup, time},
    state::WebState,
    views::AssetEventBody,
};

/// How many events a page of the history shows.
const EVENTS: u32 = 50;

pub(crate) fn asset_href(asset: &AssetName) -> String {
    format!("/assets/show?{}", query_string(&[("name", asset.as_str())]))
}

/// A link with its text.
struct Link {
    href: String,
    text: String,
}

impl Link {
    fn dag(dag_id: &str) -> Self {
        Self { href: format!("/dags/{dag_id}/assets"), text: dag_id.to_owned() }
    }
}

struct Row {
    href: String,
    name: String,
    producers: Vec<Link>,
    consumers: Vec<Link>,
    last: Option<EventLine>,
}

/// One event on a page.
pub(crate) struct EventLine {
    pub(crate) asset: String,
    pub(crate) asset_href: String,
    pub(crate) at: Markup,
    pub(crate) by: Markup,
    pub(crate) extra: String,
    pub(crate) became: Markup,
}

impl EventLine {
    pub(crate) fn of(row: &AssetEventRow) -> Self {
        let mut by = Markup::default();
        match &row.source {
            AssetSource::Task { dag_id, run_id, task, map_index, try_number, .. } => {
                let element = if *map_index >= 0 { format!("?map_index={map_index}") } else { String::new() };
                by.raw("<a").attr("href", &format!("/dags/{dag_id}/runs/{run_id}/tasks/{task}{element}"));
                by.raw(">").text(&format!("{dag_id} · {task}")).raw("</a>");
                if *try_number > 1 {
                    by.text(&format!(" try {try_number}"));
                }
            }
            AssetSource::Posted { by: who } => {
                by.text(&format!("posted by {}", who.as_deref().unwrap_or("somebody")));
            }
        }
        let extra = match row.extra.is_empty() {
            true => String::new(),
            false => serde_json::to_string(row.extra.as_ref()).unwrap_or_default(),
        };
        Self {
            asset: row.asset.to_string(),
            asset_href: asset_href(&row.asset),
            at: time::relative(row.at, Utc::now()),
            by,
            extra: shortened(extra),
            became: Markup::default(),
        }
    }

    fn of_item(item: &AssetEventItem) -> Self {
        let mut became = Markup::default();
        for (index, run) in item.runs.iter().enumerate() {
            became.text(if index > 0 { ", " } else { "" });
            became.raw("<a").attr("href", &format!("/dags/{}/runs/{}", run.dag_id, run.run_id));
            became.raw(">").text(&format!("run of {}", run.dag_id)).raw("</a>");
        }
        for (index, dag_id) in item.queued_for.iter().enumerate() {
            became.text(if index + item.runs.len() > 0 { ", " } else { "" });
            became.text("queued for ").raw("<a").attr("href", &format!("/dags/{dag_id}/assets"));
            became.raw(">").text(dag_id.as_str()).raw("</a>");
        }
        Self { became, ..Self::of(&item.event) }
    }
}

/// What is said about an event can be long; the API gives it whole.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn row(asset: AssetSummary) -> Row {
    let producers = asset.producers.iter().map(|one| Link {
        href: format!("/dags/{}/assets", one.dag_id),
        text: format!("{} · {}", one.dag_id, one.task_id),
    });
    Row {
        href: asset_href(&asset.name),
        name: asset.name.to_string(),
        producers: producers.collect(),
        consumers: asset.consumers.iter().map(|dag_id| Link::dag(dag_id.as_str())).collect(),
        last: asset.last_event.as_ref().map(EventLine::of),
    }
}

#[derive(Template)]
#[template(path = "assets.html")]
struct AssetsPage {
    c: Chrome,
    q: String,
    rows: Vec<Row>,
    next_page: Option<String>,
}

/// The list of assets.
pub(crate) async fn show(
    State(state): State<WebState>,
    c: Chrome,
    Params(params): Params<AssetListParams>,
) -> Result<Response> {
    let found = state.reader().assets(&params.query()?).await?;
    let q = params.q.clone().unwrap_or_default();
    let next_page = found
        .next_cursor
        .as_ref()
        .map(|cursor| format!("/assets?{}", query_string(&[("q", &q), ("cursor", cursor)])));
    page(&AssetsPage { c, q, rows: found.items.into_iter().map(row).collect(), next_page })
}

/// `?name=&cursor=`.
#[derive(Deserialize)]
pub(crate) struct AssetParams {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    cursor: Option<String>,
}

struct Waiting {
    dag: Link,
    any: bool,
    queued: u64,
    since: Option<Markup>,
    reasons: Vec<String>,
}

#[derive(Template)]
#[template(path = "asset.html")]
struct AssetPage {
    c: Chrome,
    name: String,
    is_known: bool,
    producers: Vec<Link>,
    consumers: Vec<Waiting>,
    events: Vec<EventLine>,
    next_page: Option<String>,
}

/// One asset with its history.
pub(crate) async fn one(
    State(state): State<WebState>,
    c: Chrome,
    Params(params): Params<AssetParams>,
) -> Result<Response> {
    let asset =
        asset_name(params.name.as_deref())?.ok_or_else(|| Problem::not_found("asset without a name"))?;
    let query = AssetQuery { name: Some(asset.clone()), ..AssetQuery::default() };
    let known = state.reader().assets(&query).await?.items.pop();
    let paging = Paging { cursor: params.cursor.clone(), limit: None };
    let query = AssetEventQuery { page: paging.request(EVENTS), asset: Some(asset.clone()) };
    let events = state.reader().asset_events(&query).await?;
    if known.is_none() && events.items.is_empty() {
        return Err(Problem::not_found("such asset"));
    }
    let mut consumers = Vec::new();
    for dag_id in known.iter().flat_map(|asset| &asset.consumers) {
        let Some(status) = state.handle().asset_status(dag_id.clone()).await? else { continue };
        let own = status.assets.iter().find(|queued| queued.asset == asset);
        consumers.push(Waiting {
            dag: Link::dag(dag_id.as_str()),
            any: status.any,
            queued: own.map_or(0, |own| own.count),
            since: own.and_then(|own| own.first_at).map(|at| time::relative(at, Utc::now())),
            reasons: status.waits.iter().map(ToString::to_string).collect(),
        });
    }
    let next_page = events.next_cursor.as_ref().map(|cursor| {
        format!("/assets/show?{}", query_string(&[("name", asset.as_str()), ("cursor", cursor)]))
    });
    page(&AssetPage {
        c,
        name: asset.to_string(),
        is_known: known.is_some(),
        producers: known.map(|asset| row(asset).producers).unwrap_or_default(),
        consumers,
        events: events.items.iter().map(EventLine::of_item).collect(),
        next_page,
    })
}

/// Posts an event from the page of its asset.
pub(crate) async fn emit(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    form: Form,
) -> Result<Response> {
    let asset = form.value("asset").unwrap_or_default().to_owned();
    let extra = match form.value("extra").map(str::trim).filter(|text| !text.is_empty()) {
        None => serde_json::Map::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| Problem::new("WEB0206", format!("extra is not a JSON object: {error}")))?,
    };
    let back = format!("/assets/show?{}", query_string(&[("name", &asset)]));
    actions::post_asset_event(&state, &who, AssetEventBody { asset, extra }, None).await?;
    Ok(see(&back))
}

struct Queued {
    asset: String,
    href: String,
    count: u64,
    since: Option<Markup>,
    last: Option<Markup>,
}

struct Update {
    task: String,
    asset: String,
    href: String,
}

#[derive(Template)]
#[template(path = "dag_assets.html")]
struct DagAssetsPage {
    c: Chrome,
    h: DagHead,
    waits_for: Option<bool>,
    reasons: Vec<String>,
    queues: Vec<Queued>,
    queued: Vec<EventLine>,
    updates: Vec<Update>,
}

/// The assets of a DAG: what it waits for with what is queued, and what it updates.
pub(crate) async fn of_dag(
    State(state): State<WebState>,
    c: Chrome,
    Ids(ids): Ids<DagPath>,
) -> Result<Response> {
    let detail = dag::find(&state, &ids.dag_id).await?;
    let status = state.handle().asset_status(ids.dag_id.clone()).await?;
    let queued = match &status {
        Some(_) => state.reader().queued_asset_events(&ids.dag_id, PageRequest::default().limit).await?,
        None => Vec::new(),
    };
    let now = Utc::now();
    let queues = status.iter().flat_map(|status| &status.assets).map(|queue| Queued {
        asset: queue.asset.to_string(),
        href: asset_href(&queue.asset),
        count: queue.count,
        since: queue.first_at.map(|at| time::relative(at, now)),
        last: queue.last_at.map(|at| time::relative(at, now)),
    });
    let updates = detail.definition.tasks.iter().flat_map(|task| {
        let update = |asset: &AssetName| Update {
            task: task.id.to_string(),
            asset: asset.to_string(),
            href: asset_href(asset),
        };
        task.outlets.iter().map(update).collect::<Vec<_>>()
    });
    page(&DagAssetsPage {
        c,
        waits_for: status.as_ref().map(|status| status.any),
        reasons: status.iter().flat_map(|status| &status.waits).map(ToString::to_string).collect(),
        queues: queues.collect(),
        queued: queued.iter().map(EventLine::of).collect(),
        updates: updates.collect(),
        h: DagHead::load(&state, &detail, "assets").await?,
    })
}
