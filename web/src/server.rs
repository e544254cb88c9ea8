//! The router: the table of routes inside the layers that hold for all of them.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use crate::{
    access::{Access, Route, Table, VIEWER},
    api, assets,
    auth::{self, security},
    error::Problem,
    pages,
    state::WebState,
    zone,
};

/// The most that a request may carry, in bytes.
const BODY_BYTES: usize = 1024 * 1024;
/// An exchange carries results with the ends of their logs and their outputs.
const EXCHANGE_BODY_BYTES: usize = 32 * 1024 * 1024;

fn table(state: &WebState) -> Table {
    let table = Table::new(state).get("/static/{name}", Access::Public, assets::serve);
    pages::mount(api::mount(table))
}

/// Returns every route with its method and who may call it.
#[must_use]
pub fn routes(state: &WebState) -> Vec<Route> {
    table(state).into_parts().0
}

/// Builds the whole web server.
pub fn router(state: WebState) -> Router {
    let (_, router) = table(&state).into_parts();
    // What is not in the table needs a viewer too: a stranger learns nothing about paths (no suffix is special).
    let fallback = middleware::from_fn_with_state((state.clone(), VIEWER), auth::guard);
    let fallback = axum::handler::Handler::layer(missing, fallback);
    let wrong_method = middleware::from_fn_with_state((state.clone(), VIEWER), auth::guard);
    router
        .fallback(fallback)
        .method_not_allowed_fallback(axum::handler::Handler::layer(not_allowed, wrong_method))
        .layer(middleware::from_fn(limit_body))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(state.clone(), limit_time))
        .layer(middleware::from_fn_with_state(state.clone(), security::refuse_foreign))
        // Around whatever refuses, inside of what adds the headers.
        .layer(middleware::from_fn_with_state(state.clone(), pages_of_problems))
        .layer(middleware::from_fn_with_state(state.clone(), zone::layer))
        .layer(middleware::from_fn_with_state(state.clone(), security::headers))
        .with_state(state)
}

/// A browser that asked for a page gets one, also where something went wrong.
async fn pages_of_problems(State(state): State<WebState>, request: Request, next: Next) -> Response {
    if !pages::wants_page(request.headers(), request.uri().path()) {
        return next.run(request).await;
    }
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>().cloned() else { return response };
    // Another site learns nothing about who is signed in, and who waited too long does not wait for that as well.
    let is_told = !matches!(problem.code, "WEB0103" | "WEB0104" | "WEB0207");
    let identity = if is_told { auth::identify(&state, &headers).await.ok() } else { None };
    pages::problem_page(problem, &headers, &uri, identity.as_ref())
}

async fn missing() -> Problem {
    Problem::not_found("such page")
}

async fn not_allowed(request: Request) -> Problem {
    Problem::new("WEB0203", format!("{} is not possible here", request.method()))
}

async fn limit_body(request: Request, next: Next) -> Response {
    let limit = if request.uri().path() == "/worker/v1/exchange" { EXCHANGE_BODY_BYTES } else { BODY_BYTES };
    let length =
        request.headers().get("content-length").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if length.is_some_and(|length: usize| length > limit) {
        return Problem::new("WEB0204", format!("at most {limit} bytes")).into_response();
    }
    let (parts, body) = request.into_parts();
    // A body without a length is cut off at the limit while it is read.
    let body = axum::body::Body::new(http_body_util::Limited::new(body, limit));
    next.run(Request::from_parts(parts, body)).await
}

/// Bounds how long an answer may take to begin; streams go on after it.
async fn limit_time(State(state): State<WebState>, request: Request, next: Next) -> Response {
    let limit = state.options().request_timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new("WEB0207", format!("no answer within {} s", limit.as_secs())).into_response(),
    }
}
