//! Tokens, and what there is to know about this server.

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use chrono::Utc;

use super::{Chrome, page, see};
use crate::{
    actions,
    api::access::TokenPath,
    auth::Identity,
    error::Result,
    extract::{Form, Ids},
    render::{Markup, time},
    state::WebState,
    views::TokenBody,
};

struct Row {
    name: String,
    id: String,
    role: &'static str,
    made: Markup,
    by: String,
    ends: Markup,
    is_live: bool,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    c: Chrome,
    secret: Option<(&'static str, String)>,
    tokens: Vec<Row>,
    facts: Vec<(&'static str, String)>,
}

async fn render(state: &WebState, c: Chrome, secret: Option<(&'static str, String)>) -> Result<Response> {
    let now = Utc::now();
    let tokens = state.reader().api_tokens().await?;
    let row = |token: tidemill_store::access::ApiToken| {
        let mut ends = Markup::default();
        match (token.revoked_at, token.expires_at) {
            (Some(at), _) => {
                ends.raw("revoked ").markup(&time::relative(at, now));
            }
            (None, Some(at)) => ends = time::relative(at, now),
            (None, None) => {
                ends.raw("never");
            }
        }
        Row {
            name: token.name,
            id: token.id,
            role: token.role.as_str(),
            made: time::relative(token.created_at, now),
            by: token.created_by,
            ends,
            is_live: token.revoked_at.is_none() && token.expires_at.is_none_or(|at| at > now),
        }
    };
    let health = state.handle().health();
    let store = state.reader().health().await?;
    let facts = vec![
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("Leads", format!("{}, term {}", if health.is_leader { "yes" } else { "no" }, health.term)),
        (
            "Database",
            format!("{}, {}, schema {}", store.backend, time::size(store.size_bytes), store.schema_version),
        ),
        ("Queue", format!("{} of {} messages wait", health.queue_depth, health.queue_limit)),
        ("API", "/api/v1/openapi.json describes it; /metrics is for Prometheus".to_owned()),
    ];
    page(&SettingsPage { c, secret, tokens: tokens.into_iter().map(row).collect(), facts })
}

/// The settings.
pub(crate) async fn show(State(state): State<WebState>, c: Chrome) -> Result<Response> {
    render(&state, c, None).await
}

/// Makes a token and shows its secret once; a reload does not show it again.
pub(crate) async fn create_token(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    c: Chrome,
    form: Form,
) -> Result<Response> {
    let text = |name: &str| form.value(name).unwrap_or_default().to_owned();
    let body = TokenBody { name: text("name"), role: text("role"), days: None };
    let (_, secret) = actions::create_token(&state, &who, &body).await?;
    render(&state, c, Some(("The new token", secret.0))).await
}

/// Revokes a token.
pub(crate) async fn revoke_token(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    Ids(ids): Ids<TokenPath>,
) -> Result<Response> {
    actions::revoke_token(&state, &who, &ids.id).await?;
    Ok(see("/settings"))
}

/// Makes a join token and shows its secret once.
pub(crate) async fn create_join_token(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
    c: Chrome,
) -> Result<Response> {
    let (_, secret) = actions::create_join_token(&state, &who).await?;
    render(&state, c, Some(("The join token, good for an hour", secret.0))).await
}
