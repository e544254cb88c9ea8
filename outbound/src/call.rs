//! One call: a request, redirects where they are followed, a bounded answer.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, StatusCode, Uri,
    body::Incoming,
    client::conn::http1,
    header::{
        ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, LOCATION,
        TRANSFER_ENCODING, USER_AGENT,
    },
};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::{
    Allow,
    connect::{connect, place},
    error::{CallError, chain},
};

/// Where calls may go.
#[derive(Clone, Debug, Default)]
pub struct Outbound {
    allow: Allow,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where. User and password in it become a header.
    pub url: Url,
    /// The headers. None of them goes to another origin than that of `url`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The longest time of all of it.
    pub timeout: Duration,
    /// The longest answer.
    pub limit_bytes: usize,
    /// How many redirects of a `GET` or `HEAD` are followed. What is not followed is an answer.
    pub redirects: u8,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// Who answered in the end.
    pub url: Url,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// Who answered in the end.
    pub url: Url,
    body: Incoming,
    read_bytes: usize,
    limit_bytes: usize,
    after: Duration,
    deadline: Instant,
}

impl Request {
    /// Returns a request without headers and body: 30 s, 1 MiB, no redirect.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(30),
            limit_bytes: 1024 * 1024,
            redirects: 0,
        }
    }
}

impl Response {
    /// Whether the status is one of success.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

/// Returns a URL without what may be secret in it: user, password, query and fragment.
#[must_use]
pub fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

impl Outbound {
    /// Returns a way out to the public internet and to what `allow` names.
    #[must_use]
    pub const fn new(allow: Allow) -> Self {
        Self { allow }
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// [`CallError`], codes `NET0001` to `NET0006`.
    pub async fn call(&self, request: Request) -> Result<Response, CallError> {
        let mut answer = self.open(request).await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status: answer.status, headers: answer.headers, body, url: answer.url })
    }

    /// Asks, and leaves the body of the answer to be read piece by piece. The longest time goes on until its end.
    ///
    /// # Errors
    /// [`CallError`], codes `NET0001` to `NET0004` and `NET0006`.
    pub async fn open(&self, request: Request) -> Result<Answer, CallError> {
        let after = request.timeout;
        let late = CallError::TimedOut { url: shown(&request.url), after };
        let deadline = Instant::now() + after;
        match timeout_at(deadline, self.follow(request, deadline)).await {
            Ok(result) => result,
            Err(_) => Err(late),
        }
    }

    async fn follow(&self, mut request: Request, deadline: Instant) -> Result<Answer, CallError> {
        let first = shown(&request.url);
        let limit = request.redirects;
        for _ in 0..=limit {
            let (status, headers, body) = self.once(&request).await?;
            let next = next_of(&request, status, &headers).filter(|_| limit > 0);
            let Some(next) = next else {
                return Ok(Answer {
                    status: status.as_u16(),
                    headers,
                    url: request.url,
                    body,
                    read_bytes: 0,
                    limit_bytes: request.limit_bytes,
                    after: request.timeout,
                    deadline,
                });
            };
            if next.origin() != request.url.origin() {
                // What was meant for one host is no business of another.
                request.headers = kept(&request.headers);
            }
            request.url = next;
        }
        Err(CallError::Redirects { url: first, limit })
    }

    async fn once(&self, request: &Request) -> Result<(StatusCode, HeaderMap, Incoming), CallError> {
        let unreachable = |error: &dyn std::error::Error| CallError::Unreachable {
            url: shown(&request.url),
            why: chain(error),
        };
        let prepared = prepare(request)?;
        let stream = connect(&request.url, &self.allow).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        // It ends when the answer was read or dropped.
        tokio::spawn(connection);
        let response = sender.send_request(prepared).await.map_err(|error| unreachable(&error))?;
        let (head, body) = response.into_parts();
        Ok((head.status, head.headers, body))
    }
}

fn prepare(request: &Request) -> Result<hyper::Request<Full<Bytes>>, CallError> {
    let url = &request.url;
    let wrong = |why: String| CallError::Address { url: shown(url), why };
    let (host, _) = place(url)?;
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let uri: Uri = target.parse().map_err(|error| wrong(format!("{error}")))?;
    let mut built = hyper::Request::new(Full::new(Bytes::from(request.body.clone())));
    *built.method_mut() = request.method.clone();
    *built.uri_mut() = uri;
    let headers = built.headers_mut();
    headers.clone_from(&request.headers);
    // How the message is framed is not for a caller to say.
    for name in [HOST, CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
        headers.remove(name);
    }
    let authority = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| wrong(error.to_string()));
    headers.insert(HOST, value(&authority)?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if !headers.contains_key(USER_AGENT) {
        headers.insert(USER_AGENT, value(concat!("tidemill/", env!("CARGO_PKG_VERSION")))?);
    }
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let has_credentials = !user.is_empty() || !password.is_empty();
    if has_credentials && !headers.contains_key(AUTHORIZATION) {
        let mut plain: Vec<u8> = percent_decode_str(user).collect();
        plain.push(b':');
        plain.extend(percent_decode_str(password));
        let mut credentials = value(&format!("Basic {}", STANDARD.encode(plain)))?;
        credentials.set_sensitive(true);
        headers.insert(AUTHORIZATION, credentials);
    }
    if request.body.is_empty() {
        headers.remove(CONTENT_TYPE);
    }
    Ok(built)
}

/// Returns where an answer leads on to. One that cannot be read, or that leaves the web, is an answer like any other.
fn next_of(request: &Request, status: StatusCode, headers: &HeaderMap) -> Option<Url> {
    let is_redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let is_harmless = request.method == Method::GET || request.method == Method::HEAD;
    if !(is_redirect && is_harmless) {
        return None;
    }
    let next = request.url.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    matches!(next.scheme(), "http" | "https").then_some(next)
}

/// Returns the headers that any host may see.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in [ACCEPT, USER_AGENT] {
        if let Some(value) = headers.get(&name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}

impl Answer {
    /// Returns the next piece of the body; nothing at its end.
    ///
    /// # Errors
    /// [`CallError`], codes `NET0003` to `NET0005`.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            let late = || CallError::TimedOut { url: shown(&self.url), after: self.after };
            let frame = timeout_at(self.deadline, self.body.frame()).await.map_err(|_| late())?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame
                .map_err(|error| CallError::Unreachable { url: shown(&self.url), why: chain(&error) })?;
            let Ok(data) = frame.into_data() else { continue };
            self.read_bytes += data.len();
            if self.read_bytes > self.limit_bytes {
                let limit_bytes = self.limit_bytes;
                return Err(CallError::TooLong { url: shown(&self.url), limit_bytes });
            }
            return Ok(Some(data));
        }
    }
}
