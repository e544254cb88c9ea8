//! The description of the API in its own words.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use utoipa::OpenApi;

use super::{access, assets, backfills, clean, dags, events, health, instances, logs, pools, runs, vault};
use crate::meters;

/// Everything under `/api/v1`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidemill",
        description = "The REST API. Errors are application/problem+json with a stable code."
    ),
    paths(
        health::health,
        meters::metrics,
        events::stream,
        serve,
        dags::list,
        dags::show,
        dags::patch,
        dags::delete,
        dags::source,
        dags::versions,
        dags::import_errors,
        runs::all,
        runs::list,
        runs::trigger,
        runs::show,
        runs::explain,
        runs::cancel,
        runs::resume,
        runs::clear,
        runs::mark,
        instances::list,
        instances::show,
        instances::explain,
        instances::outputs,
        instances::report,
        instances::tries,
        instances::rendered,
        logs::range,
        logs::follow,
        assets::list,
        assets::events,
        assets::post,
        assets::of_dag,
        assets::of_run,
        backfills::list,
        backfills::create,
        backfills::show,
        backfills::dates,
        backfills::pause,
        backfills::resume,
        backfills::cancel,
        pools::list,
        pools::show,
        pools::put,
        pools::delete,
        vault::variables,
        vault::variable,
        vault::put_variable,
        vault::delete_variable,
        vault::connections,
        vault::connection,
        vault::put_connection,
        vault::delete_connection,
        vault::seal,
        access::workers,
        access::revoke_worker,
        access::tokens,
        access::create_token,
        access::revoke_token,
        access::join_tokens,
        access::create_join_token,
        access::create_login_link,
        access::audit,
        clean::clean,
    ),
    components(schemas(crate::error::Problem))
)]
struct Api;

/// Returns the description as JSON.
#[must_use]
pub fn document() -> String {
    Api::openapi().to_pretty_json().unwrap_or_default()
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "server", responses((status = 200, content_type = "application/json", body = Object)))]
pub(crate) async fn serve() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}
