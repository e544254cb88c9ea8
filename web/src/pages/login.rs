//! Signing in with a one-time link, signing out, and the theme.
//!
//! Opening a link changes nothing: mail scanners and previews open links too. The page that it shows has a
//! button, and that is what uses the link up.

use std::net::{IpAddr, SocketAddr};

use askama::Template;
use axum::{
    Extension,
    extract::{ConnectInfo, FromRequestParts, State},
    http::{HeaderValue, header, request::Parts},
    response::Response,
};
use chrono::{TimeDelta, Utc};
use serde::Deserialize;
use tidemill_protocol::worker::Token;
use tidemill_scheduler::{AdminWrite, random_token, token_hash};
use tidemill_store::access::{AccessChange, Session};

use super::{Chrome, THEME_COOKIE, page, see, theme_word};
use crate::{
    auth::{Identity, cookie_name, safe_next},
    error::{Problem, Result},
    extract::{Form, Params},
    state::WebState,
    zone::{self, Choice},
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    c: Chrome,
    token: String,
    next: String,
    problem: Option<String>,
}

/// `?token=&next=`.
#[derive(Deserialize)]
pub(crate) struct LoginParams {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    next: Option<String>,
}

/// The address of the peer, where the server tells it.
pub(crate) struct Peer(Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> std::result::Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())))
    }
}

/// The page to sign in where a page was asked for that needs it.
pub(crate) fn form(c: Chrome, problem: Option<String>) -> Result<Response> {
    let next = safe_next(Some(&c.here)).to_owned();
    page(&LoginPage { c, token: String::new(), next, problem })
}

/// Shows the button behind a link, or a field for the token.
pub(crate) async fn show(c: Chrome, Params(params): Params<LoginParams>) -> Result<Response> {
    let next = safe_next(params.next.as_deref()).to_owned();
    page(&LoginPage { c, token: params.token.unwrap_or_default(), next, problem: None })
}

/// Uses up a link and begins a session with an id of its own.
pub(crate) async fn sign_in(
    State(state): State<WebState>,
    Peer(address): Peer,
    form: Form,
) -> Result<Response> {
    let throttle = &state.inner.throttle;
    if throttle.is_blocked(address) {
        return Err(Problem::new("WEB0105", "wait a minute, then try again"));
    }
    let refuse =
        || Problem::new("WEB0106", "it is unknown, used or too old; `tidemill login` makes a new one");
    let token = Token(form.value("token").unwrap_or_default().trim().to_owned());
    let hash = token_hash(&token);
    let now = Utc::now();
    let link = state.reader().login_link(&hash).await?;
    let Some(link) = link.filter(|link| link.used_at.is_none() && link.expires_at > now) else {
        throttle.failed(address);
        return Err(refuse());
    };
    let secret = random_token().map_err(|e| Problem::internal(&e))?;
    let lifetime = TimeDelta::from_std(state.options().session_lifetime).unwrap_or(TimeDelta::days(30));
    let session = Session {
        hash: token_hash(&secret),
        actor: link.actor,
        role: link.role,
        created_at: now,
        expires_at: now + lifetime,
    };
    // Two clicks race here; the store lets one of them win.
    if !state.handle().redeem_login_link(hash, session).await? {
        throttle.failed(address);
        return Err(refuse());
    }
    let mut response = see(safe_next(form.value("next")));
    set_session(&state, &mut response, &secret.0, lifetime.num_seconds());
    Ok(response)
}

fn set_session(state: &WebState, response: &mut Response, value: &str, seconds: i64) {
    let is_tls = state.options().is_tls();
    let secure = if is_tls { "; Secure" } else { "" };
    // Lax, not Strict: a link in a chat message must find the reader signed in. Changes are not reached by
    // links, and the origin check holds for everything else.
    let text =
        format!("{}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}", cookie_name(is_tls));
    if let Ok(text) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, text);
    }
}

/// Ends the session.
pub(crate) async fn sign_out(
    State(state): State<WebState>,
    Extension(who): Extension<Identity>,
) -> Result<Response> {
    if let Some(hash) = who.session.clone() {
        let entry = who.did("session.end", format!("person/{}", who.actor), serde_json::json!({}));
        let write = AdminWrite::access(AccessChange::EndSession { hash }).with_audit(entry);
        state.handle().write(write).await?;
    }
    let mut response = see("/login");
    set_session(&state, &mut response, "", 0);
    Ok(response)
}

/// Remembers the theme in this browser; nothing on the server changes.
pub(crate) async fn theme(form: Form) -> Response {
    remember(&form, THEME_COOKIE, theme_word(form.value("theme").unwrap_or_default()))
}

/// Remembers in this browser in which zone times are told; nothing on the server changes.
pub(crate) async fn zone(form: Form) -> Response {
    let choice = Choice::parse(form.value("zone").unwrap_or_default());
    remember(&form, zone::COOKIE, if choice == Choice::Utc { "" } else { choice.as_str() })
}

/// Sets a cookie to one of our own words, or ends it where there is nothing to remember.
fn remember(form: &Form, name: &'static str, word: &'static str) -> Response {
    let mut response = see(safe_next(form.value("next")));
    let age = if word.is_empty() { 0 } else { 31_536_000 };
    if let Ok(text) = HeaderValue::from_str(&format!("{name}={word}; Path=/; SameSite=Lax; Max-Age={age}")) {
        response.headers_mut().append(header::SET_COOKIE, text);
    }
    response
}
