//! Assets and their events.

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tidemill_engine::ids::AssetName;
use tidemill_store::assets::{AssetEventQuery, AssetQuery};

use crate::{
    actions,
    auth::Identity,
    error::{Problem, Result},
    extract::{self, Body, DagPath, Ids, Paging, Params, RunPath},
    state::WebState,
    views::{AssetEventBody, AssetEventView, AssetView, DagAssetsView, List},
};

/// How many causing events of a run are listed.
const CAUSES: u32 = 500;

/// Which assets a list shows.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct AssetListParams {
    #[serde(default)]
    pub(crate) q: Option<String>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

/// Which events a list shows.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct AssetEventParams {
    #[serde(default)]
    pub(crate) asset: Option<String>,
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

/// Reads the name of an asset; empty is none.
pub(crate) fn asset_name(text: Option<&str>) -> Result<Option<AssetName>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let name = AssetName::new(text);
    name.map(Some).map_err(|error| Problem::new("WEB0206", format!("the name of an asset {error}")))
}

impl AssetListParams {
    pub(crate) fn query(&self) -> Result<AssetQuery> {
        let paging = Paging { cursor: self.cursor.clone(), limit: self.limit };
        Ok(AssetQuery {
            page: paging.request(50),
            text: self.q.clone().filter(|text| !text.is_empty()),
            name: asset_name(self.name.as_deref())?,
        })
    }
}

impl AssetEventParams {
    pub(crate) fn query(&self) -> Result<AssetEventQuery> {
        let paging = Paging { cursor: self.cursor.clone(), limit: self.limit };
        Ok(AssetEventQuery { page: paging.request(50), asset: asset_name(self.asset.as_deref())? })
    }
}

/// Lists the assets that DAG files name.
#[utoipa::path(get, path = "/api/v1/assets", tag = "assets", params(("q" = Option<String>, Query, description = "Part of the name"), ("name" = Option<String>, Query, description = "This one only"), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = List<AssetView>)))]
pub(crate) async fn list(
    State(state): State<WebState>,
    Params(params): Params<AssetListParams>,
) -> Result<Json<List<AssetView>>> {
    let page = state.reader().assets(&params.query()?).await?;
    Ok(Json(List::of(page, Into::into)))
}

/// Lists events, the newest first.
#[utoipa::path(get, path = "/api/v1/assets/events", tag = "assets", params(("asset" = Option<String>, Query, description = "Of this asset only"), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = List<AssetEventView>)))]
pub(crate) async fn events(
    State(state): State<WebState>,
    Params(params): Params<AssetEventParams>,
) -> Result<Json<List<AssetEventView>>> {
    let page = state.reader().asset_events(&params.query()?).await?;
    Ok(Json(List::of(page, Into::into)))
}

/// Posts an event. `Idempotency-Key` makes a repetition return the same event.
#[utoipa::path(post, path = "/api/v1/assets/events", tag = "assets", params(("Idempotency-Key" = Option<String>, Header)), request_body = AssetEventBody,
    responses((status = 201, body = AssetEventView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn post(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    headers: HeaderMap,
    Body(body): Body<AssetEventBody>,
) -> Result<Response> {
    let key = extract::idempotency_key(&headers)?;
    let posted = actions::post_asset_event(&state, &who, body, key).await?;
    let repeated = if posted.is_repeated { "true" } else { "false" };
    let headers = [(HeaderName::from_static("idempotent-replayed"), repeated)];
    Ok((StatusCode::CREATED, headers, Json(AssetEventView::from(posted.event))).into_response())
}

/// Shows the assets of a DAG: what its tasks update, what it waits for and why that makes no run.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/assets", tag = "assets", params(("dag_id" = String, Path)), responses((status = 200, body = DagAssetsView), (status = 404, body = Problem)))]
pub(crate) async fn of_dag(
    State(state): State<WebState>,
    Ids(ids): Ids<DagPath>,
) -> Result<Json<DagAssetsView>> {
    let found = state.reader().dag(&ids.dag_id).await?.ok_or_else(|| Problem::not_found("such DAG"))?;
    let status = state.handle().asset_status(ids.dag_id).await?;
    Ok(Json(DagAssetsView::of(&found.definition, status)))
}

/// Lists the events that caused a run, the newest first, at most 500.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/assets", tag = "assets", params(("dag_id" = String, Path), ("run_id" = String, Path)), responses((status = 200, body = List<AssetEventView>), (status = 404, body = Problem)))]
pub(crate) async fn of_run(
    State(state): State<WebState>,
    Ids(ids): Ids<RunPath>,
) -> Result<Json<List<AssetEventView>>> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let events = state.reader().run_asset_events(run.key, CAUSES).await?;
    Ok(Json(List::whole(events.into_iter().map(Into::into).collect())))
}
