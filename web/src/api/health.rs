//! Health for load balancers, metrics for Prometheus.

use std::fmt::Write;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
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
        version: env!("CARGO_PKG_VERSION"),
    };
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(view)).into_response()
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(state): State<WebState>) -> Response {
    let mut text = state.options().metrics.as_ref().map(|m| m.render()).unwrap_or_default();
    let health = state.handle().health();
    let gauges = [
        ("tidemill_leader", "Whether this server leads.", f64::from(u8::from(health.is_leader))),
        (
            "tidemill_scheduler_tick_age_seconds",
            "Time since the scheduler finished a round.",
            health.last_tick_age.as_secs_f64(),
        ),
        (
            "tidemill_scheduler_queue_depth",
            "Messages that wait for the scheduler.",
            count(health.queue_depth),
        ),
        ("tidemill_import_errors", "DAG files that could not be loaded.", count(health.import_errors)),
        ("tidemill_quarantined_runs", "Dag runs that are set aside.", count(health.quarantined_runs)),
    ];
    for (name, help, value) in gauges {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}
