//! Dag runs.

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use serde::Deserialize;
use tidemill_engine::{ids::DagId, state::RunType};
use tidemill_store::reader::RunQuery;

use crate::{
    actions,
    auth::Identity,
    error::{Problem, Result},
    extract::{
        self, Body, DagPath, Ids, OptionalBody, Paging, Params, RunPath, ended_within, instant, run_states,
    },
    state::WebState,
    views::{CancelBody, ChangesView, ClearBody, List, MarkBody, RunReasonView, RunView, TriggerBody},
};

/// Which runs a list shows.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RunListParams {
    #[serde(default)]
    pub(crate) state: Option<String>,
    #[serde(default)]
    pub(crate) run_type: Option<String>,
    #[serde(default)]
    pub(crate) ended_within: Option<String>,
    #[serde(default)]
    pub(crate) from: Option<String>,
    #[serde(default)]
    pub(crate) until: Option<String>,
    #[serde(default)]
    pub(crate) is_late: Option<bool>,
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

impl RunListParams {
    pub(crate) fn query(&self, dag_id: Option<DagId>, default_limit: u32) -> Result<RunQuery> {
        let run_type = match self.run_type.as_deref().filter(|t| !t.is_empty()) {
            Some(word) => Some(
                RunType::parse(word)
                    .ok_or_else(|| Problem::new("WEB0206", format!("{word:?} is not a run type")))?,
            ),
            None => None,
        };
        let page = Paging { cursor: self.cursor.clone(), limit: self.limit }.request(default_limit);
        let finished_since = ended_within(self.ended_within.as_deref())?.map(|span| Utc::now() - span);
        Ok(RunQuery {
            page,
            dag_id,
            states: run_states(self.state.as_deref())?,
            run_type,
            finished_since,
            logical_since: instant("from", self.from.as_deref())?,
            logical_before: instant("until", self.until.as_deref())?,
            is_late: self.is_late == Some(true),
        })
    }
}

/// Lists runs of every DAG by logical date, the newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(("state" = Option<String>, Query, description = "States, separated by commas"), ("run_type" = Option<String>, Query), ("ended_within" = Option<String>, Query, description = "Only what ended within so many hours or days: 24h, 7d"), ("from" = Option<String>, Query, description = "Only logical dates at this instant or later: RFC 3339, or a date in UTC"), ("until" = Option<String>, Query, description = "Only logical dates before this instant"), ("is_late" = Option<bool>, Query, description = "Only runs that have missed their deadline"), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = List<RunView>)))]
pub(crate) async fn all(
    State(state): State<WebState>,
    Params(params): Params<RunListParams>,
) -> Result<Json<List<RunView>>> {
    let page = state.reader().runs(&params.query(None, 50)?).await?;
    Ok(Json(List::of(page, Into::into)))
}

/// Lists runs of a DAG by logical date, the newest first.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs", tag = "runs", params(("dag_id" = String, Path), ("state" = Option<String>, Query, description = "States, separated by commas"), ("run_type" = Option<String>, Query), ("ended_within" = Option<String>, Query, description = "Only what ended within so many hours or days: 24h, 7d"), ("from" = Option<String>, Query, description = "Only logical dates at this instant or later: RFC 3339, or a date in UTC"), ("until" = Option<String>, Query, description = "Only logical dates before this instant"), ("is_late" = Option<bool>, Query, description = "Only runs that have missed their deadline"), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = List<RunView>)))]
pub(crate) async fn list(
    State(state): State<WebState>,
    Ids(ids): Ids<DagPath>,
    Params(params): Params<RunListParams>,
) -> Result<Json<List<RunView>>> {
    if state.reader().dag(&ids.dag_id).await?.is_none() {
        return Err(Problem::not_found("such DAG"));
    }
    let page = state.reader().runs(&params.query(Some(ids.dag_id), 50)?).await?;
    Ok(Json(List::of(page, Into::into)))
}

/// Triggers a run. `Idempotency-Key` makes a repetition return the same run.
#[utoipa::path(post, path = "/api/v1/dags/{dag_id}/runs", tag = "runs", params(("dag_id" = String, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = TriggerBody,
    responses((status = 201, body = RunView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn trigger(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<DagPath>,
    headers: HeaderMap,
    Body(body): Body<TriggerBody>,
) -> Result<Response> {
    let key = extract::idempotency_key(&headers)?;
    let made = actions::trigger(&state, &who, ids.dag_id, body, key).await?;
    let location = format!("/api/v1/dags/{}/runs/{}", made.run.dag_id, made.run.run_id);
    let repeated = if made.is_repeated { "true" } else { "false" };
    let headers =
        [(header::LOCATION, location.as_str()), (HeaderName::from_static("idempotent-replayed"), repeated)];
    Ok((StatusCode::CREATED, headers, Json(RunView::from(made.run))).into_response())
}

/// Shows a run.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}", tag = "runs", params(("dag_id" = String, Path), ("run_id" = String, Path)), responses((status = 200, body = RunView), (status = 404, body = Problem)))]
pub(crate) async fn show(State(state): State<WebState>, Ids(ids): Ids<RunPath>) -> Result<Json<RunView>> {
    Ok(Json(extract::run(&state, &ids.dag_id, &ids.run_id).await?.into()))
}

/// Says why a run has not ended: what holds the whole of it back, or what its task instances do and wait for. Empty when it
/// has ended.
#[utoipa::path(get, path = "/api/v1/dags/{dag_id}/runs/{run_id}/explain", operation_id = "explain_run", tag = "runs", params(("dag_id" = String, Path), ("run_id" = String, Path)),
    responses((status = 200, body = List<RunReasonView>), (status = 404, body = Problem)))]
pub(crate) async fn explain(
    State(state): State<WebState>,
    Ids(ids): Ids<RunPath>,
) -> Result<Json<List<RunReasonView>>> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let reasons = state.handle().explain_run(run.key).await?;
    Ok(Json(List::whole(reasons.iter().map(Into::into).collect())))
}

/// Cancels a run; what it has started is stopped. `dry_run` only says what would change.
#[utoipa::path(post, path = "/api/v1/dags/{dag_id}/runs/{run_id}/cancel", tag = "runs", params(("dag_id" = String, Path), ("run_id" = String, Path)), request_body = Option<CancelBody>,
    responses((status = 200, body = ChangesView), (status = 409, body = Problem)))]
pub(crate) async fn cancel(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<RunPath>,
    OptionalBody(body): OptionalBody<CancelBody>,
) -> Result<Json<ChangesView>> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let changed = actions::cancel(&state, &who, &run, body.dry_run).await?;
    Ok(Json(actions::changes(&state, &run, changed, body.dry_run).await?))
}

/// Lets a paused run go on: what had no try left gets new ones. `dry_run` only says what would change.
#[utoipa::path(post, path = "/api/v1/dags/{dag_id}/runs/{run_id}/resume", tag = "runs", params(("dag_id" = String, Path), ("run_id" = String, Path)), request_body = Option<CancelBody>,
    responses((status = 200, body = ChangesView), (status = 409, body = Problem)))]
pub(crate) async fn resume(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<RunPath>,
    OptionalBody(body): OptionalBody<CancelBody>,
) -> Result<Json<ChangesView>> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let changed = actions::resume(&state, &who, &run, body.dry_run).await?;
    Ok(Json(actions::changes(&state, &run, changed, body.dry_run).await?))
}

/// Clears task instances so that they run again.
#[utoipa::path(post, path = "/api/v1/dags/{dag_id}/runs/{run_id}/clear", tag = "runs", params(("dag_id" = String, Path), ("run_id" = String, Path)), request_body = ClearBody,
    responses((status = 200, body = ChangesView), (status = 404, body = Problem)))]
pub(crate) async fn clear(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<RunPath>,
    Body(body): Body<ClearBody>,
) -> Result<Json<ChangesView>> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let changed = actions::clear(&state, &who, &run, &body).await?;
    Ok(Json(actions::changes(&state, &run, changed, body.dry_run).await?))
}

/// Gives a run, or tasks of it, a verdict by hand.
#[utoipa::path(post, path = "/api/v1/dags/{dag_id}/runs/{run_id}/mark", tag = "runs", params(("dag_id" = String, Path), ("run_id" = String, Path)), request_body = MarkBody,
    responses((status = 200, body = ChangesView), (status = 422, body = Problem)))]
pub(crate) async fn mark(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<RunPath>,
    Body(body): Body<MarkBody>,
) -> Result<Json<ChangesView>> {
    let run = extract::run(&state, &ids.dag_id, &ids.run_id).await?;
    let changed = actions::mark(&state, &who, &run, &body).await?;
    Ok(Json(actions::changes(&state, &run, changed, body.dry_run).await?))
}
