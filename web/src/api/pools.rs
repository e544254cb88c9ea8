//! Pools.

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::Deserialize;
use tidemill_engine::ids::PoolName;

use crate::{
    actions,
    auth::Identity,
    error::{Problem, Result},
    extract::{Body, Ids},
    state::WebState,
    views::{List, PoolBody, PoolView},
};

/// `{name}`.
#[derive(Deserialize)]
pub(crate) struct PoolPath {
    pub(crate) name: PoolName,
}

/// Lists the pools by name.
#[utoipa::path(get, path = "/api/v1/pools", tag = "pools", responses((status = 200, body = List<PoolView>)))]
pub(crate) async fn list(State(state): State<WebState>) -> Result<Json<List<PoolView>>> {
    let pools = state.reader().pools().await?;
    Ok(Json(List::whole(pools.into_iter().map(Into::into).collect())))
}

async fn find(state: &WebState, name: &PoolName) -> Result<PoolView> {
    let pools = state.reader().pools().await?;
    let pool = pools.into_iter().find(|pool| pool.name == *name);
    pool.map(Into::into).ok_or_else(|| Problem::not_found("such pool"))
}

/// Shows a pool.
#[utoipa::path(get, path = "/api/v1/pools/{name}", tag = "pools", params(("name" = String, Path)), responses((status = 200, body = PoolView), (status = 404, body = Problem)))]
pub(crate) async fn show(State(state): State<WebState>, Ids(ids): Ids<PoolPath>) -> Result<Json<PoolView>> {
    Ok(Json(find(&state, &ids.name).await?))
}

/// Makes or resizes a pool.
#[utoipa::path(put, path = "/api/v1/pools/{name}", tag = "pools", params(("name" = String, Path)), request_body = PoolBody, responses((status = 200, body = PoolView)))]
pub(crate) async fn put(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<PoolPath>,
    Body(body): Body<PoolBody>,
) -> Result<Json<PoolView>> {
    actions::set_pool(&state, &who, ids.name.clone(), body).await?;
    Ok(Json(find(&state, &ids.name).await?))
}

/// Deletes a pool.
#[utoipa::path(delete, path = "/api/v1/pools/{name}", tag = "pools", params(("name" = String, Path)), responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn delete(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<PoolPath>,
) -> Result<StatusCode> {
    actions::delete_pool(&state, &who, ids.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
