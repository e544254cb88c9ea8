//! Health for load balancers.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tidemill_scheduler::StoreState;

use crate::{state::WebState, views::HealthView};

/// How the server is; 503 when the scheduler makes no progress.
#[utoipa::path(get, path = "/api/v1/health", tag = "server", responses((status = 200, body = HealthView), (status = 503, body = HealthView)))]
pub(crate) async fn health(State(state): State<WebState>) -> Response {
    let health = state.handle().health();
    let is_healthy = health.is_healthy();
    let view = HealthView {
        status: if is_healthy { "ok" } else { "degraded" },
        is_leader: health.is_leader,
        last_tick_age_ms: u64::try_from(health.last_tick_age.as_millis()).unwrap_or(u64::MAX),
        store_reason: match health.store {
            StoreState::Ok => None,
            StoreState::Degraded { reason } => Some(reason),
        },
        queue_depth: health.queue_depth,
        left_out: health.quarantined_runs,
        version: env!("CARGO_PKG_VERSION"),
    };
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(view)).into_response()
}
