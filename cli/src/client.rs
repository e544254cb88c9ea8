//! The HTTP client of the commands that need a server: the REST API of DESIGN §7 and nothing else.

use std::{fs, path::Path, time::Duration};

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    args::Connection,
    config::Config,
    error::{CliError, Result},
};

/// A request may be held this long; the server answers within 30 s.
const TIMEOUT: Duration = Duration::from_secs(40);
/// The most rows of one page.
const PAGE: u32 = 500;

/// A server and the right to use it.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

/// What `server.json` in the data directory says.
pub(crate) fn local_server(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join("server.json")).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    value.get("url")?.as_str().map(str::to_owned)
}

impl Client {
    /// Finds out where the server is and with which token it is asked.
    ///
    /// # Errors
    /// CFG0005 when the URL cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let local = local_server(&config.data_dir);
        let given = config.text("client.url").map(str::to_owned);
        let text = given
            .clone()
            .or_else(|| local.clone())
            .unwrap_or_else(|| format!("http://{}", config.text("server.listen").unwrap_or_default()));
        let bad = |why: String| config.bad("client.url", "the server's URL", why);
        let base = Url::parse(&text).map_err(|error| bad(format!("{text:?}: {error}")))?;
        // The local administrator's token is not sent to another host.
        let is_local = given.is_none() || given == local || is_loopback(&base);
        let token = config.text("client.token").map(str::to_owned).or_else(|| {
            let text = fs::read_to_string(config.data_dir.join("admin.token")).ok()?;
            is_local.then(|| text.trim().to_owned())
        });
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| bad(error.to_string()))?;
        Ok(Self { http, base, token })
    }

    /// Returns the URL of a path of segments under `/api/v1`.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(segments);
        }
        url
    }

    /// Returns the server's address without a path.
    pub(crate) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request
            .send()
            .await
            .map_err(|source| CliError::NoServer { url: self.base().to_owned(), source: Some(source) })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// Turns a refusal of the server into an error with the server's code.
    async fn refusal(&self, response: Response) -> CliError {
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED && self.token.is_none() {
            return CliError::NoToken { url: self.base().to_owned() };
        }
        // One that stands by, or a proxy before a server that is restarted.
        let is_passing = status.is_server_error() || status == StatusCode::MISDIRECTED_REQUEST;
        let problem: Option<Value> = response.json().await.ok();
        let text = |name: &str| problem.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let Some(code) = text("code") else {
            let (url, why) = (self.base().to_owned(), format!("HTTP status {status}"));
            return CliError::BadAnswer { url, why, is_passing };
        };
        let message = match (text("title"), text("detail")) {
            (Some(title), Some(detail)) if title != detail => format!("{title}: {detail}"),
            (title, detail) => title.or(detail).unwrap_or_else(|| status.to_string()),
        };
        let errors = problem.as_ref().and_then(|p| p.get("errors")).and_then(Value::as_array);
        let part = |error: &Value| {
            Some(format!("`{}` {}", error.get("pointer")?.as_str()?, error.get("message")?.as_str()?))
        };
        let causes = errors.into_iter().flatten().filter_map(part).collect();
        let help = Some(format!("`tidemill explain {code}` says more."));
        CliError::Coded { code, message, help, causes, is_passing }
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let bytes = response.bytes().await.map_err(|error| self.broken_off(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| CliError::BadAnswer {
            url: self.base().to_owned(),
            why: error.to_string(),
            is_passing: false,
        })
    }

    /// The connection ended within the answer.
    fn broken_off(&self, error: &reqwest::Error) -> CliError {
        CliError::BadAnswer { url: self.base().to_owned(), why: error.to_string(), is_passing: true }
    }

    /// Reads.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
    ) -> Result<T> {
        let request = self.request(Method::GET, self.url(segments)).query(query);
        let response = self.send(request).await?;
        self.json(response).await
    }

    /// Reads text.
    pub(crate) async fn text(&self, segments: &[&str]) -> Result<String> {
        let response = self.send(self.request(Method::GET, self.url(segments))).await?;
        response.text().await.map_err(|error| self.broken_off(&error))
    }

    /// Reads bytes.
    pub(crate) async fn bytes(&self, segments: &[&str], query: &[(&str, String)]) -> Result<Vec<u8>> {
        let request = self.request(Method::GET, self.url(segments)).query(query);
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.broken_off(&error))?;
        Ok(bytes.to_vec())
    }

    /// Reads a list page by page, up to `limit` rows.
    pub(crate) async fn list(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
        limit: u32,
    ) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let left = limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
            let mut query = query.to_vec();
            query.push(("limit", left.min(PAGE).to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut page: Value = self.get(segments, &query).await?;
            if let Some(Value::Array(rows)) = page.get_mut("items").map(Value::take) {
                items.extend(rows);
            }
            cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || items.len() >= limit as usize {
                items.truncate(limit as usize);
                return Ok(items);
            }
        }
    }

    /// Sends JSON and reads JSON.
    pub(crate) async fn send_json<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: &B,
        headers: &[(&'static str, &str)],
    ) -> Result<T> {
        let mut request = self.request(method, self.url(segments)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send(request).await?;
        self.json(response).await
    }

    /// Sends JSON by POST and reads JSON.
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &B,
    ) -> Result<T> {
        self.send_json(Method::POST, segments, body, &[]).await
    }

    /// Deletes.
    pub(crate) async fn delete(&self, segments: &[&str]) -> Result {
        self.send(self.request(Method::DELETE, self.url(segments))).await.map(drop)
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

impl Connection {
    /// Adds what these options override in the configuration.
    pub(crate) fn apply(&self, overrides: &mut crate::config::Overrides) {
        overrides.set("client.url", self.url.as_ref());
        overrides.set("client.token", self.token.as_ref());
        overrides.set_file("client.token", self.token_file.as_ref());
    }
}

/// Runs a client command on a small runtime of its own.
///
/// # Errors
/// CFG0106, and those of the command.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| CliError::Setup { what: "the runtime", source })?.block_on(work)
}
