//! The worker API: who it is comes from the key, never from the message.

use axum::{Extension, Json, body::Bytes, extract::State, http::HeaderMap};
use tidemill_engine::ids::{AttemptKey, RunKey, TaskInstanceKey, WorkerId};
use tidemill_protocol::worker::{
    ExchangeRequest, ExchangeResponse, HeartbeatRequest, HeartbeatResponse, JoinRequest, JoinResponse,
    LogAppend, LogAppended, StartedNote, Token,
};

use crate::{
    actions,
    auth::{Joining, WorkerIdentity},
    error::{Problem, Result},
    extract::{Body, Params},
    state::WebState,
};

/// The most that one log append may carry, in bytes: twice what a worker sends.
const LOG_BODY_BYTES: usize = 512 * 1024;

fn is_own(own: &WorkerIdentity, named: &WorkerId) -> Result<()> {
    if own.0 == *named {
        return Ok(());
    }
    Err(Problem::new("WEB0107", format!("the key belongs to worker {}, the message names {named}", own.0)))
}

/// Exchanges a join token for a worker key.
pub(crate) async fn join(
    State(state): State<WebState>,
    Extension(joining): Extension<Joining>,
    Body(request): Body<JoinRequest>,
) -> Result<Json<JoinResponse>> {
    let key = actions::join(&state, &joining, request.worker).await?;
    Ok(Json(JoinResponse { key }))
}

/// Carries results in and assignments out; held for up to 20 s.
pub(crate) async fn exchange(
    State(state): State<WebState>,
    Extension(worker): Extension<WorkerIdentity>,
    Body(request): Body<ExchangeRequest>,
) -> Result<Json<ExchangeResponse>> {
    is_own(&worker, &request.worker)?;
    Ok(Json(state.handle().exchange(request).await?))
}

/// Renews leases.
pub(crate) async fn heartbeat(
    State(state): State<WebState>,
    Extension(worker): Extension<WorkerIdentity>,
    Body(request): Body<HeartbeatRequest>,
) -> Result<Json<HeartbeatResponse>> {
    is_own(&worker, &request.worker)?;
    Ok(Json(state.handle().heartbeat(request).await?))
}

/// Notes a start.
pub(crate) async fn started(
    State(state): State<WebState>,
    Extension(worker): Extension<WorkerIdentity>,
    Body(note): Body<StartedNote>,
) -> Result<Json<serde_json::Value>> {
    is_own(&worker, &note.worker)?;
    state.handle().started(note).await?;
    Ok(Json(serde_json::json!({})))
}

/// Appends to the log of one attempt; only that attempt's token opens it.
pub(crate) async fn append_log(
    State(state): State<WebState>,
    Extension(_worker): Extension<WorkerIdentity>,
    Params(query): Params<LogAppend>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<LogAppended>> {
    if bytes.len() > LOG_BODY_BYTES {
        return Err(Problem::new("WEB0204", format!("a log append carries at most {LOG_BODY_BYTES} bytes")));
    }
    let token = headers
        .get("x-attempt-token")
        .and_then(|value| value.to_str().ok())
        .map(|value| Token(value.to_owned()))
        .ok_or_else(|| Problem::new("WEB0101", "an attempt token is needed"))?;
    let instance = TaskInstanceKey { run: RunKey(query.run), task: query.task, map_index: query.map_index };
    let attempt = AttemptKey { instance, try_number: query.try_number, epoch: query.epoch };
    let next_offset = state.handle().append_log(attempt, &token, query.offset, bytes.to_vec()).await?;
    Ok(Json(LogAppended { next_offset }))
}
