//! The worker API as a client: one method per call, no policy.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::{Serialize, de::DeserializeOwned};
use tidemill_protocol::worker::{
    AttemptKey, ExchangeRequest, ExchangeResponse, HeartbeatRequest, HeartbeatResponse, JoinRequest,
    JoinResponse, LogAppend, LogAppended, StartedNote, Token, WorkerId,
};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No answer.
    #[error("no answer from the server")]
    Unreachable(#[source] reqwest::Error),
    /// An answer that is not a success.
    #[error("the server answered {status}: {detail}")]
    Status { status: u16, detail: String },
    /// This server is a stand-by; the client has changed to the one that leads.
    #[error("the server is not the leader")]
    Redirected,
}

impl CallError {
    /// The HTTP status, where there was an answer.
    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Unreachable(_) | Self::Redirected => None,
        }
    }
}

/// A client of the worker API.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// As configured.
    home: Url,
    /// The leader, as far as it is known.
    base: RwLock<Url>,
    key: Token,
}

impl Client {
    /// Returns a client with a connection pool of its own.
    pub(crate) fn new(base: Url, key: Token) -> Result<Self, reqwest::Error> {
        // No proxy: the server is named, and a proxy from the environment would see the key.
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, home: base.clone(), base: RwLock::new(base), key })
    }

    /// Returns the key, for a second client.
    pub(crate) fn key(&self) -> Token {
        self.key.clone()
    }

    fn request(&self, method: Method, path: &str, timeout: Duration) -> RequestBuilder {
        let mut url = self.base.read().unwrap_or_else(PoisonError::into_inner).clone();
        url.set_path(path);
        self.http.request(method, url).bearer_auth(&self.key.0).timeout(timeout)
    }

    fn turn_to(&self, url: Url) {
        *self.base.write().unwrap_or_else(PoisonError::into_inner) = url;
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CallError> {
        let response = request.send().await.map_err(|error| {
            // A leader that is gone: the configured server knows who leads now.
            self.turn_to(self.home.clone());
            CallError::Unreachable(error)
        })?;
        let status = response.status();
        if status == StatusCode::MISDIRECTED_REQUEST {
            let leader = response.headers().get("location").and_then(|value| value.to_str().ok());
            if let Some(url) =
                leader.and_then(|text| Url::parse(text).ok()).filter(|url| url.scheme() == "http")
            {
                self.turn_to(url);
                return Err(CallError::Redirected);
            }
        }
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            let detail = text.chars().take(300).collect();
            return Err(CallError::Status { status: status.as_u16(), detail });
        }
        response.json().await.map_err(CallError::Unreachable)
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        timeout: Duration,
    ) -> Result<T, CallError> {
        self.call(self.request(Method::POST, path, timeout).json(body)).await
    }

    /// Exchanges a join token, which is this client's key, for a key of the worker's own.
    pub(crate) async fn join(&self, worker: &WorkerId) -> Result<JoinResponse, CallError> {
        let body = JoinRequest { worker: worker.clone() };
        self.post("/worker/v1/join", &body, Duration::from_secs(10)).await
    }

    /// One exchange; the server holds it for up to 20 s.
    pub(crate) async fn exchange(&self, body: &ExchangeRequest) -> Result<ExchangeResponse, CallError> {
        self.post("/worker/v1/exchange", body, Duration::from_secs(30)).await
    }

    /// One heartbeat.
    pub(crate) async fn heartbeat(&self, body: &HeartbeatRequest) -> Result<HeartbeatResponse, CallError> {
        self.post("/worker/v1/heartbeat", body, Duration::from_secs(4)).await
    }

    /// Reports a start; best effort.
    pub(crate) async fn started(&self, body: &StartedNote) -> Result<(), CallError> {
        let request = self.request(Method::POST, "/worker/v1/started", Duration::from_secs(5)).json(body);
        let response = request.send().await.map_err(CallError::Unreachable)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(CallError::Status { status: status.as_u16(), detail: String::new() }),
        }
    }

    /// Appends bytes to the log of an attempt. Returns where the server wants the next ones.
    pub(crate) async fn append_log(
        &self,
        attempt: &AttemptKey,
        token: &Token,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<u64, CallError> {
        let query = LogAppend {
            run: attempt.instance.run.0,
            task: attempt.instance.task.clone(),
            map_index: attempt.instance.map_index,
            try_number: attempt.try_number,
            epoch: attempt.epoch,
            offset,
        };
        let request = self
            .request(Method::PUT, "/worker/v1/log", Duration::from_secs(30))
            .query(&query)
            .header("x-attempt-token", &token.0)
            .header("content-type", "application/octet-stream")
            .body(bytes);
        let answer: LogAppended = self.call(request).await?;
        Ok(answer.next_offset)
    }
}
