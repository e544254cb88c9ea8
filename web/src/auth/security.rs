//! What holds for every request, whatever route it takes: host, origin, headers.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    error::{Problem, Result},
    state::WebState,
};

/// Every script and style is a file of our own, so no nonce and no `unsafe-*` is needed.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'";

/// Headers of every response; a handler may set a stricter one itself.
pub const HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "geolocation=(), camera=(), microphone=(), payment=()"),
    ("cache-control", "no-store"),
];

/// Refuses foreign hosts and origins.
pub(crate) async fn refuse_foreign(State(state): State<WebState>, request: Request, next: Next) -> Response {
    let checked = check_host(&state.options().hosts, &request)
        .and_then(|()| check_origin(request.method(), request.headers(), state.options().is_tls()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Adds the security headers to whatever is answered.
pub(crate) async fn headers(State(state): State<WebState>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if state.options().is_tls() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

/// Splits `host[:port]`, brackets of an IPv6 address included; absent when it is neither.
fn host_name(authority: &str) -> Option<&str> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            (&authority[..end + 2], &rest[end + 1..])
        }
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|p| p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()));
    (is_port && !name.is_empty()).then_some(name)
}

fn is_loopback(name: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// A name that an attacker's page can bind to this address (DNS rebinding) is not one of ours.
fn check_host(allowed: &[String], request: &Request) -> Result<()> {
    let refuse = |host: &str| {
        Problem::new(
            "WEB0104",
            format!("{host:?} is not a name of this server; allow it with `server.allowed_hosts`"),
        )
    };
    let mut values = request.headers().get_all(header::HOST).iter();
    let host = match (values.next(), values.next()) {
        (Some(host), None) => host.to_str().map_err(|_| refuse("?"))?,
        _ => return Err(refuse("")),
    };
    let name = host_name(host).ok_or_else(|| refuse(host))?;
    if is_loopback(name) || allowed.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        Ok(())
    } else {
        Err(refuse(host))
    }
}

/// A browser says where a request comes from; anything else (the CLI, curl) says nothing and has no cookie to
/// be abused. Reading is refused to a foreign `Origin` too, so that streams are not read across sites.
fn check_origin(method: &Method, headers: &HeaderMap, is_tls: bool) -> Result<()> {
    let refuse = |what: &str| Problem::new("WEB0103", format!("{what}; nothing was changed"));
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    if let Some(site) = headers.get("sec-fetch-site")
        && !is_read
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return Err(refuse("the browser says that another site sent it"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let own = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    // Beside the proxy that speaks TLS, the server's own machine reaches it without.
    let is_near = host_name(own).is_some_and(is_loopback);
    let schemes: &[&str] = match (is_tls, is_near) {
        (true, true) => &["https://", "http://"],
        (true, false) => &["https://"],
        (false, _) => &["http://"],
    };
    let origin = origin.to_str().unwrap_or_default();
    let is_own = schemes
        .iter()
        .filter_map(|scheme| origin.strip_prefix(scheme))
        .any(|authority| authority.eq_ignore_ascii_case(own));
    if is_own { Ok(()) } else { Err(refuse("its Origin is not this server")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_apart_whole() {
        assert_eq!(host_name("localhost:8080"), Some("localhost"));
        assert_eq!(host_name("[::1]:80"), Some("[::1]"));
        assert_eq!(host_name("127.0.0.1"), Some("127.0.0.1"));
        for bad in ["", ":80", "localhost:80:90", "localhost:abc", "[::1", "[::1]x", "localhost:123456"] {
            assert_eq!(host_name(bad), None, "{bad:?}");
        }
    }
}
