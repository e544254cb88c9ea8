//! Variables and connections. A secret can be written, never read.

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::json;
use tidemill_engine::ids::{ConnectionId, VariableName};

use crate::{
    actions_vault as actions,
    auth::Identity,
    error::{Problem, Result},
    extract::{Body, Ids},
    state::WebState,
    views::{ConnectionBody, ConnectionView, List, SealedView, VariableBody, VariableView},
};

/// `{name}`.
#[derive(Deserialize)]
pub(crate) struct VariablePath {
    pub(crate) name: VariableName,
}

/// `{id}`.
#[derive(Deserialize)]
pub(crate) struct ConnectionPath {
    pub(crate) id: ConnectionId,
}

/// Lists the variables by name. The values of secret ones are left out.
#[utoipa::path(get, path = "/api/v1/variables", tag = "variables", responses((status = 200, body = List<VariableView>)))]
pub(crate) async fn variables(State(state): State<WebState>) -> Result<Json<List<VariableView>>> {
    let found = state.handle().variables().await?;
    Ok(Json(List::whole(found.into_iter().map(Into::into).collect())))
}

async fn find_variable(state: &WebState, name: &VariableName) -> Result<VariableView> {
    let found = state.handle().variables().await?.into_iter().find(|v| v.name == *name);
    found.map(Into::into).ok_or_else(|| Problem::not_found("such variable"))
}

/// Shows a variable.
#[utoipa::path(get, path = "/api/v1/variables/{name}", tag = "variables", params(("name" = String, Path)), responses((status = 200, body = VariableView), (status = 404, body = Problem)))]
pub(crate) async fn variable(
    State(state): State<WebState>,
    Ids(ids): Ids<VariablePath>,
) -> Result<Json<VariableView>> {
    Ok(Json(find_variable(&state, &ids.name).await?))
}

/// Makes or changes a variable. What is left out stays as it is.
#[utoipa::path(put, path = "/api/v1/variables/{name}", tag = "variables", params(("name" = String, Path)), request_body = VariableBody, responses((status = 200, body = VariableView), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn put_variable(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<VariablePath>,
    Body(body): Body<VariableBody>,
) -> Result<Json<VariableView>> {
    actions::set_variable(&state, &who, ids.name.clone(), body).await?;
    Ok(Json(find_variable(&state, &ids.name).await?))
}

/// Deletes a variable.
#[utoipa::path(delete, path = "/api/v1/variables/{name}", tag = "variables", params(("name" = String, Path)), responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn delete_variable(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<VariablePath>,
) -> Result<StatusCode> {
    actions::delete_variable(&state, &who, ids.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the connections by id, without what is secret in them.
#[utoipa::path(get, path = "/api/v1/connections", tag = "connections", responses((status = 200, body = List<ConnectionView>)))]
pub(crate) async fn connections(State(state): State<WebState>) -> Result<Json<List<ConnectionView>>> {
    let found = state.handle().connections().await?;
    Ok(Json(List::whole(found.into_iter().map(Into::into).collect())))
}

async fn find_connection(state: &WebState, id: &ConnectionId) -> Result<ConnectionView> {
    let found = state.handle().connections().await?.into_iter().find(|c| c.connection.id == *id);
    found.map(Into::into).ok_or_else(|| Problem::not_found("such connection"))
}

/// Shows a connection, without what is secret in it.
#[utoipa::path(get, path = "/api/v1/connections/{id}", tag = "connections", params(("id" = String, Path)), responses((status = 200, body = ConnectionView), (status = 404, body = Problem)))]
pub(crate) async fn connection(
    State(state): State<WebState>,
    Ids(ids): Ids<ConnectionPath>,
) -> Result<Json<ConnectionView>> {
    Ok(Json(find_connection(&state, &ids.id).await?))
}

/// Makes or replaces a connection. Without `password` the stored one stays; an empty one removes it.
#[utoipa::path(put, path = "/api/v1/connections/{id}", tag = "connections", params(("id" = String, Path)), request_body = ConnectionBody, responses((status = 200, body = ConnectionView), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn put_connection(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<ConnectionPath>,
    Body(body): Body<ConnectionBody>,
) -> Result<Json<ConnectionView>> {
    actions::set_connection(&state, &who, ids.id.clone(), body).await?;
    Ok(Json(find_connection(&state, &ids.id).await?))
}

/// Deletes a connection.
#[utoipa::path(delete, path = "/api/v1/connections/{id}", tag = "connections", params(("id" = String, Path)), responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn delete_connection(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<ConnectionPath>,
) -> Result<StatusCode> {
    actions::delete_connection(&state, &who, ids.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads the key file again and seals every variable and connection with its first key.
#[utoipa::path(post, path = "/api/v1/seal", tag = "variables", responses((status = 200, body = SealedView), (status = 503, body = Problem)))]
pub(crate) async fn seal(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
) -> Result<Json<SealedView>> {
    let side = tidemill_scheduler::AdminWrite::audit(who.did("vault.seal", "vault".to_owned(), json!({})));
    let (key, sealed) = state.handle().seal_anew(side).await?;
    Ok(Json(SealedView { key, sealed }))
}
