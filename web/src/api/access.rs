//! Workers, tokens, login links and the audit log.

use axum::{Extension, Json, body::Bytes, extract::State, http::StatusCode};
use serde::Deserialize;
use tidemill_engine::ids::WorkerId;
use tidemill_store::reader::AuditQuery;

use crate::{
    actions,
    auth::Identity,
    error::{Problem, Result},
    extract::{Body, Ids, Paging, Params},
    state::WebState,
    views::{
        AuditView, List, LoginLinkBody, LoginLinkView, NewTokenView, TokenBody, TokenView, WorkerInfoView,
    },
};

/// Lists the connected workers.
#[utoipa::path(get, path = "/api/v1/workers", tag = "workers", responses((status = 200, body = List<WorkerInfoView>)))]
pub(crate) async fn workers(State(state): State<WebState>) -> Result<Json<List<WorkerInfoView>>> {
    let workers = state.handle().workers().await?;
    Ok(Json(List::whole(workers.into_iter().map(Into::into).collect())))
}

/// `{worker}`.
#[derive(Deserialize)]
pub(crate) struct WorkerPath {
    pub(crate) worker: WorkerId,
}

/// Makes every key of a worker stop working.
#[utoipa::path(delete, path = "/api/v1/workers/{worker}", tag = "workers", params(("worker" = String, Path)), responses((status = 204)))]
pub(crate) async fn revoke_worker(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<WorkerPath>,
) -> Result<StatusCode> {
    actions::revoke_worker(&state, &who, ids.worker).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the API tokens, the newest first.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", responses((status = 200, body = List<TokenView>)))]
pub(crate) async fn tokens(State(state): State<WebState>) -> Result<Json<List<TokenView>>> {
    let tokens = state.reader().api_tokens().await?;
    Ok(Json(List::whole(tokens.into_iter().map(Into::into).collect())))
}

/// Makes an API token; the secret is shown once.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = TokenBody, responses((status = 201, body = NewTokenView), (status = 422, body = Problem)))]
pub(crate) async fn create_token(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Body(body): Body<TokenBody>,
) -> Result<(StatusCode, Json<NewTokenView>)> {
    let (token, secret) = actions::create_token(&state, &who, &body).await?;
    Ok((StatusCode::CREATED, Json(NewTokenView { info: token.into(), token: secret.0 })))
}

/// `{id}`.
#[derive(Deserialize)]
pub(crate) struct TokenPath {
    pub(crate) id: String,
}

/// Revokes an API token or a join token; the next request with it is refused.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "access", params(("id" = String, Path)), responses((status = 204), (status = 404, body = Problem)))]
pub(crate) async fn revoke_token(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<TokenPath>,
) -> Result<StatusCode> {
    actions::revoke_token(&state, &who, &ids.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the join tokens, the newest first.
#[utoipa::path(get, path = "/api/v1/join_tokens", tag = "access", responses((status = 200, body = List<TokenView>)))]
pub(crate) async fn join_tokens(State(state): State<WebState>) -> Result<Json<List<TokenView>>> {
    let tokens = state.reader().join_tokens().await?;
    Ok(Json(List::whole(tokens.into_iter().map(Into::into).collect())))
}

/// Makes a join token for workers; the secret is shown once.
#[utoipa::path(post, path = "/api/v1/join_tokens", tag = "access", responses((status = 201, body = NewTokenView)))]
pub(crate) async fn create_join_token(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
) -> Result<(StatusCode, Json<NewTokenView>)> {
    let (token, secret) = actions::create_join_token(&state, &who).await?;
    Ok((StatusCode::CREATED, Json(NewTokenView { info: token.into(), token: secret.0 })))
}

/// Makes a login link that works once within 15 minutes, with at most the caller's role. No body asks for nothing special.
#[utoipa::path(post, path = "/api/v1/login_links", tag = "access", request_body = LoginLinkBody, responses((status = 201, body = LoginLinkView), (status = 403, body = Problem)))]
pub(crate) async fn create_login_link(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<LoginLinkView>)> {
    let body: LoginLinkBody = if bytes.is_empty() {
        LoginLinkBody::default()
    } else {
        serde_json::from_slice(&bytes).map_err(|error| Problem::new("WEB0202", error.to_string()))?
    };
    let (link, secret) = actions::create_login_link(&state, &who, &body).await?;
    let path = format!("/login?token={}", secret.0);
    let url = state.options().url.as_ref().map(|url| format!("{url}{path}"));
    let view = LoginLinkView { path, url, expires_at: link.expires_at };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Which audit entries a list shows.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct AuditParams {
    #[serde(default)]
    pub(crate) subject: Option<String>,
    #[serde(default)]
    pub(crate) actor: Option<String>,
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

impl AuditParams {
    pub(crate) fn query(&self, default_limit: u32) -> AuditQuery {
        let text = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
        let page = Paging { cursor: self.cursor.clone(), limit: self.limit }.request(default_limit);
        AuditQuery {
            page,
            subject_prefix: text(&self.subject),
            actor: text(&self.actor),
            ..AuditQuery::default()
        }
    }
}

/// Lists the audit log, the newest entry first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "access", params(("subject" = Option<String>, Query, description = "Subjects that begin so, such as dag/etl"), ("actor" = Option<String>, Query), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = List<AuditView>)))]
pub(crate) async fn audit(
    State(state): State<WebState>,
    Params(params): Params<AuditParams>,
) -> Result<Json<List<AuditView>>> {
    let page = state.reader().audit(&params.query(100)).await?;
    Ok(Json(List::of(page, Into::into)))
}
