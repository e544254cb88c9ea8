//! Who is calling, and may they.
//!
//! People carry a session cookie, machines a bearer token, workers a key, joining workers a join token. Only
//! SHA-256 hashes are stored; the lookup is by hash, so timing says nothing about a secret. Nothing is cached
//! for people and machines: a revoked token or an ended session is refused by the very next request.

pub(crate) mod security;
pub(crate) mod throttle;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use tidemill_engine::ids::WorkerId;
use tidemill_protocol::worker::Token;
use tidemill_scheduler::token_hash;
use tidemill_store::access::{JoinToken, Role};
use tidemill_store::batch::AuditEntry;

use crate::{
    access::Access,
    error::{Problem, Result},
    state::WebState,
};

/// A person or a machine with a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) actor: String,
    pub(crate) role: Role,
    /// The hash of the session, when it is one.
    pub(crate) session: Option<String>,
}

impl Identity {
    /// Returns an audit entry by this actor.
    pub(crate) fn did(&self, action: &str, subject: String, detail: serde_json::Value) -> AuditEntry {
        AuditEntry { at: Utc::now(), actor: self.actor.clone(), action: action.to_owned(), subject, detail }
    }
}

/// A worker that showed its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerIdentity(pub(crate) WorkerId);

/// A join token that was shown.
#[derive(Clone, Debug)]
pub(crate) struct Joining(pub(crate) JoinToken);

/// Returns the name of the session cookie.
pub(crate) const fn cookie_name(is_tls: bool) -> &'static str {
    if is_tls { "__Host-tidemill_session" } else { "tidemill_session" }
}

/// Returns the value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn bearer(headers: &HeaderMap) -> Option<Token> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && (16..=512).contains(&token.len()))
        .then(|| Token(token.to_owned()))
}

/// Refuses who may not call the route; what it learned about the caller goes to the handler.
pub(crate) async fn guard(
    State((state, access)): State<(WebState, Access)>,
    mut request: Request,
    next: Next,
) -> Response {
    match check(&state, access, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn check(state: &WebState, access: Access, request: &mut Request) -> Result<()> {
    match access {
        Access::Public => {
            // A page that is open to everybody still shows who is signed in.
            if let Ok(identity) = identify(state, request.headers()).await {
                request.extensions_mut().insert(identity);
            }
        }
        Access::Role(role) => {
            let identity = identify(state, request.headers()).await?;
            if identity.role < role {
                let detail = format!("this needs the role {role}, {} has {}", identity.actor, identity.role);
                return Err(Problem::new("WEB0102", detail));
            }
            request.extensions_mut().insert(identity);
        }
        Access::Worker | Access::Attempt => {
            let worker = identify_worker(state, request.headers()).await?;
            request.extensions_mut().insert(worker);
        }
        Access::Join => {
            let joining = identify_joining(state, request.headers()).await?;
            request.extensions_mut().insert(joining);
        }
    }
    Ok(())
}

fn not_signed_in(detail: &str) -> Problem {
    Problem::new("WEB0101", detail)
}

/// Finds out who a person or a machine is.
pub(crate) async fn identify(state: &WebState, headers: &HeaderMap) -> Result<Identity> {
    let now = Utc::now();
    if headers.contains_key(header::AUTHORIZATION) {
        // Who shows a token is judged by the token alone, never by a cookie that happens to be there.
        let token = bearer(headers).ok_or_else(|| not_signed_in("the bearer token is not valid"))?;
        let stored = state.reader().api_token(&token_hash(&token)).await?;
        return stored
            .filter(|t| t.revoked_at.is_none() && t.expires_at.is_none_or(|at| at > now))
            .map(|t| Identity { actor: format!("token:{}", t.name), role: t.role, session: None })
            .ok_or_else(|| not_signed_in("the bearer token is not valid"));
    }
    let secret = cookie(headers, cookie_name(state.options().is_tls()))
        .filter(|secret| (16..=512).contains(&secret.len()))
        .ok_or_else(|| not_signed_in("a session cookie or a bearer token is needed"))?;
    let hash = token_hash(&Token(secret.to_owned()));
    let stored = state.reader().session(&hash).await?;
    let session =
        stored.filter(|s| s.expires_at > now).ok_or_else(|| not_signed_in("the session has ended"))?;
    if let Some(name) = session.actor.strip_prefix("token:")
        && !is_token_live(state, name, session.role).await?
    {
        return Err(not_signed_in("the token that the session was begun with is revoked or has expired"));
    }
    Ok(Identity { actor: session.actor, role: session.role, session: Some(hash) })
}

/// Whether a token of this name may still do what `role` may.
async fn is_token_live(state: &WebState, name: &str, role: Role) -> Result<bool> {
    let now = Utc::now();
    let tokens = state.reader().api_tokens().await?;
    Ok(tokens.iter().any(|token| {
        token.name == name
            && token.role >= role
            && token.revoked_at.is_none()
            && token.expires_at.is_none_or(|at| at > now)
    }))
}

async fn identify_worker(state: &WebState, headers: &HeaderMap) -> Result<WorkerIdentity> {
    let key = bearer(headers).ok_or_else(|| not_signed_in("a worker key is needed"))?;
    let hash = token_hash(&key);
    if let Some(worker) = state.known_worker(&hash) {
        return Ok(WorkerIdentity(worker));
    }
    let stored = state.reader().worker_key(&hash).await?;
    let key = stored
        .filter(|key| key.revoked_at.is_none())
        .ok_or_else(|| not_signed_in("the worker key is not valid"))?;
    state.remember_worker(hash, key.worker.clone());
    Ok(WorkerIdentity(key.worker))
}

async fn identify_joining(state: &WebState, headers: &HeaderMap) -> Result<Joining> {
    let token = bearer(headers).ok_or_else(|| not_signed_in("a join token is needed"))?;
    let stored = state.reader().join_token(&token_hash(&token)).await?;
    let now = Utc::now();
    stored
        .filter(|t| t.revoked_at.is_none() && t.expires_at.is_none_or(|at| at > now))
        .map(Joining)
        .ok_or_else(|| not_signed_in("the join token is not valid"))
}

/// Returns `next` when it stays on this server, else the home page.
pub(crate) fn safe_next(next: Option<&str>) -> &str {
    let Some(next) = next else { return "/" };
    let is_local = next.starts_with('/')
        && !next.starts_with("//")
        && !next.starts_with("/login")
        && next.len() <= 2_000
        && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    // A decoder on the way may undo one layer, and what it finds must be harmless too.
    let lower = next.get(..6).unwrap_or(next).to_ascii_lowercase();
    let hides_authority = lower.starts_with("/%2f") || lower.starts_with("/%5c") || lower.starts_with("/%09");
    if is_local && !hides_authority { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_never_leaves_the_server() {
        for evil in [
            "//evil.example",
            "https:evil",
            "https://evil",
            "/\\evil",
            "\\\\evil",
            "%2f%2fevil",
            "/%2fevil",
            "/%5Cevil",
            "javascript:alert(1)",
            "/ok\r\nSet-Cookie: a=b",
            "",
            "evil",
            "/\tevil",
            "/%09/evil",
            "data:text/html,x",
            "///evil",
            "/login?next=/login",
            "http:/evil",
            "/é",
        ] {
            assert_eq!(safe_next(Some(evil)), "/", "{evil:?}");
        }
        assert_eq!(safe_next(Some("/dags/a/runs/b?x=1#y")), "/dags/a/runs/b?x=1#y");
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "xtidemill_session=no; tidemill_session=yes; a=b".parse().unwrap());
        assert_eq!(cookie(&headers, "tidemill_session"), Some("yes"));
        assert_eq!(cookie(&headers, "session"), None);
    }
}
