//! Backfills.

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tidemill_engine::{
    backfill::{BackfillChange, BackfillState},
    ids::{BackfillKey, DagId},
};
use tidemill_store::reader::BackfillQuery;

use crate::{
    auth::Identity,
    backfills,
    error::{Problem, Result},
    extract::{Body, Ids, OptionalBody, Paging, Params},
    state::WebState,
    views::{
        CancelBody, List,
        backfills::{BackfillBody, BackfillChangeView, BackfillDateView, BackfillPreviewView, BackfillView},
    },
};

/// `{id}`.
#[derive(Deserialize)]
pub(crate) struct BackfillPath {
    pub(crate) id: i64,
}

/// Which backfills a list shows.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct BackfillListParams {
    #[serde(default)]
    pub(crate) dag_id: Option<String>,
    #[serde(default)]
    pub(crate) state: Option<String>,
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

impl BackfillListParams {
    pub(crate) fn query(&self) -> Result<BackfillQuery> {
        let invalid = |text: String| Problem::new("WEB0206", text);
        let dag_id = self.dag_id.as_deref().filter(|id| !id.is_empty());
        let dag_id =
            dag_id.map(DagId::new).transpose().map_err(|error| invalid(format!("dag_id {error}")))?;
        let words = self.state.as_deref().unwrap_or_default().split(',').filter(|word| !word.is_empty());
        let states = words.map(|word| {
            BackfillState::parse(word)
                .ok_or_else(|| invalid(format!("{word:?} is not a state of a backfill")))
        });
        let page = Paging { cursor: self.cursor.clone(), limit: self.limit }.request(50);
        Ok(BackfillQuery { page, dag_id, states: states.collect::<Result<_>>()? })
    }
}

/// Lists backfills with their progress, the newest first.
#[utoipa::path(get, path = "/api/v1/backfills", tag = "backfills", params(("dag_id" = Option<String>, Query), ("state" = Option<String>, Query, description = "States, separated by commas"), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = List<BackfillView>)))]
pub(crate) async fn list(
    State(state): State<WebState>,
    Params(params): Params<BackfillListParams>,
) -> Result<Json<List<BackfillView>>> {
    let page = state.reader().backfills(&params.query()?).await?;
    let mut items = Vec::with_capacity(page.items.len());
    for item in page.items {
        items.push(backfills::view(&state, item).await?);
    }
    Ok(Json(List { items, next_cursor: page.next_cursor }))
}

/// Creates a backfill; `dry_run` only says what would become of each date. `Idempotency-Key` makes a repetition return
/// the same backfill.
#[utoipa::path(post, path = "/api/v1/backfills", tag = "backfills", params(("Idempotency-Key" = Option<String>, Header)), request_body = BackfillBody,
    responses((status = 200, body = BackfillPreviewView, description = "Of a dry run"), (status = 201, body = BackfillView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn create(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    headers: HeaderMap,
    Body(body): Body<BackfillBody>,
) -> Result<Response> {
    const KEY: HeaderName = HeaderName::from_static("idempotency-key");
    let dag_id = backfills::dag_id(&body)?;
    let spec = backfills::spec(&state, &dag_id, &body).await?;
    if body.dry_run {
        let limit = body.limit.unwrap_or(100) as usize;
        let preview = backfills::preview(&state, &dag_id, &spec, body.cursor.as_deref(), limit).await?;
        return Ok(Json(preview).into_response());
    }
    let key = headers.get(&KEY).map(|value| value.to_str()).transpose();
    let key = key.map_err(|_| Problem::new("WEB0202", "Idempotency-Key must be visible ASCII"))?;
    let made = backfills::create(&state, &who, dag_id, spec, key).await?;
    let location = format!("/api/v1/backfills/{}", made.row.key);
    let repeated = if made.is_repeated { "true" } else { "false" };
    let item = backfills::find(&state, made.row.key).await?;
    let view = backfills::view(&state, item).await?;
    let headers =
        [(header::LOCATION, location.as_str()), (HeaderName::from_static("idempotent-replayed"), repeated)];
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

/// Shows a backfill with its progress.
#[utoipa::path(get, path = "/api/v1/backfills/{id}", tag = "backfills", params(("id" = i64, Path)), responses((status = 200, body = BackfillView), (status = 404, body = Problem)))]
pub(crate) async fn show(
    State(state): State<WebState>,
    Ids(ids): Ids<BackfillPath>,
) -> Result<Json<BackfillView>> {
    let item = backfills::find(&state, BackfillKey(ids.id)).await?;
    Ok(Json(backfills::view(&state, item).await?))
}

/// Lists the dates that a backfill has dealt with, by date.
#[utoipa::path(get, path = "/api/v1/backfills/{id}/dates", tag = "backfills", params(("id" = i64, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = List<BackfillDateView>), (status = 404, body = Problem)))]
pub(crate) async fn dates(
    State(state): State<WebState>,
    Ids(ids): Ids<BackfillPath>,
    Params(paging): Params<Paging>,
) -> Result<Json<List<BackfillDateView>>> {
    let item = backfills::find(&state, BackfillKey(ids.id)).await?;
    let page = state.reader().backfill_dates(item.row.key, &paging.request(100)).await?;
    Ok(Json(List::of(page, Into::into)))
}

async fn change(
    state: &WebState,
    who: &Identity,
    ids: &BackfillPath,
    change: BackfillChange,
    dry_run: bool,
) -> Result<Json<BackfillChangeView>> {
    let (row, runs) = backfills::change(state, who, BackfillKey(ids.id), change, dry_run).await?;
    Ok(Json(BackfillChangeView {
        id: row.key.0,
        state: row.state.to_string(),
        cancelled_runs: runs.iter().map(ToString::to_string).collect(),
        dry_run,
    }))
}

/// Pauses a backfill: no more dates become runs; those that run go on.
#[utoipa::path(post, path = "/api/v1/backfills/{id}/pause", tag = "backfills", params(("id" = i64, Path)), request_body = Option<CancelBody>,
    responses((status = 200, body = BackfillChangeView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn pause(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<BackfillPath>,
    OptionalBody(body): OptionalBody<CancelBody>,
) -> Result<Json<BackfillChangeView>> {
    change(&state, &who, &ids, BackfillChange::Pause, body.dry_run).await
}

/// Lets a paused backfill go on.
#[utoipa::path(post, path = "/api/v1/backfills/{id}/resume", tag = "backfills", params(("id" = i64, Path)), request_body = Option<CancelBody>,
    responses((status = 200, body = BackfillChangeView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn resume(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<BackfillPath>,
    OptionalBody(body): OptionalBody<CancelBody>,
) -> Result<Json<BackfillChangeView>> {
    change(&state, &who, &ids, BackfillChange::Resume, body.dry_run).await
}

/// Cancels a backfill and its runs that have not ended. `dry_run` only says which these are.
#[utoipa::path(post, path = "/api/v1/backfills/{id}/cancel", tag = "backfills", params(("id" = i64, Path)), request_body = Option<CancelBody>,
    responses((status = 200, body = BackfillChangeView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn cancel(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<BackfillPath>,
    OptionalBody(body): OptionalBody<CancelBody>,
) -> Result<Json<BackfillChangeView>> {
    change(&state, &who, &ids, BackfillChange::Cancel, body.dry_run).await
}
