//! `http`: one request; and `http_sensor`: whether its answer is what is waited for.
//!
//! Outputs: `status`, `headers`, and `body` (JSON where the answer says that it is, otherwise text), or `file` and `bytes`
//! where the body goes to a file.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json};
use tidemill_engine::{
    definition::{HttpSpec, show_statuses},
    template::AnswerCondition,
};
use tidemill_outbound::{
    Answer, CallError, HeaderMap, Method, Outbound, Request, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION},
    shown,
};
use tidemill_protocol::worker::{Connection, OUTPUT_LIMIT_BYTES};

use super::{OperatorResult, Out, Surroundings, call};
use crate::outcome::Problem;

/// How many redirects are followed where they are.
const REDIRECTS: u8 = 5;
/// The most that is written to a file.
const FILE_LIMIT_BYTES: usize = 10 * 1024 * 1024 * 1024;
/// How much of an answer that does not do is shown.
const EXCERPT_CHARS: usize = 500;

/// What came of a request.
enum Outcome {
    /// A status that is expected, with the outputs.
    Good(Map<String, Json>),
    /// Another one, with its reason and the beginning of its body.
    Other { status: u16, why: String, excerpt: String },
}

pub(super) fn execute(
    spec: &HttpSpec,
    response_file: Option<&str>,
    around: &Surroundings,
    out: &mut Out,
) -> OperatorResult {
    match ask(spec, response_file, around, &mut |line| out.line(line)) {
        Ok(Outcome::Good(outputs)) => {
            OperatorResult { outputs: outputs.into_iter().collect(), ..OperatorResult::default() }
        }
        Ok(Outcome::Other { status, why, excerpt }) => {
            if !excerpt.is_empty() {
                out.line(&excerpt);
            }
            let expected = show_statuses(&spec.expected_status);
            OperatorResult::failed(&Problem::HttpStatus { status, why, expected }, false)
        }
        Err(problem) => failed(&problem),
    }
}

pub(super) fn poke(
    spec: &HttpSpec,
    when: Option<&AnswerCondition>,
    around: &Surroundings,
    out: &mut Out,
) -> OperatorResult {
    let outputs = match ask(spec, None, around, &mut |_| {}) {
        Ok(Outcome::Good(outputs)) => outputs,
        Ok(Outcome::Other { status, why, .. }) => {
            return OperatorResult::not_yet(format!("{why} answers {status}"), out);
        }
        // Whoever is waited for may not be there yet.
        Err(Problem::Call(error)) if !error.is_final() => {
            return OperatorResult::not_yet(error.to_string(), out);
        }
        Err(problem) => return failed(&problem),
    };
    super::judge(Json::Object(outputs), when, "the status and the body", out)
}

fn failed(problem: &Problem) -> OperatorResult {
    let is_final = match problem {
        Problem::Call(error) => error.is_final(),
        Problem::HttpRequest { .. } => true,
        _ => false,
    };
    OperatorResult::failed(problem, is_final)
}

fn ask(
    spec: &HttpSpec,
    response_file: Option<&str>,
    around: &Surroundings,
    say: &mut dyn FnMut(&str),
) -> Result<Outcome, Problem> {
    let connection = spec.connection.as_ref().and_then(|id| around.connections.get(id.as_str()));
    let (url, host) = url_of(spec, connection)?;
    let mut request =
        Request::new(Method::from_bytes(spec.method.as_str().as_bytes()).unwrap_or(Method::GET), url);
    request.timeout = spec.request_timeout;
    request.limit_bytes = if response_file.is_some() { FILE_LIMIT_BYTES } else { OUTPUT_LIMIT_BYTES };
    request.redirects = if spec.follow_redirects { REDIRECTS } else { 0 };
    request.headers = headers_of(spec, connection)?;
    request.body = match &spec.body {
        None => Vec::new(),
        Some(Json::String(text)) => text.clone().into_bytes(),
        Some(other) => other.to_string().into_bytes(),
    };
    let asked = shown(&request.url);
    say(&format!("{} {asked}", spec.method));
    let started = Instant::now();
    let outbound = call::outbound(around, host.as_deref())?;
    call::block_on(receive(&outbound, request, spec, response_file, say, started))?
}

async fn receive(
    outbound: &Outbound,
    request: Request,
    spec: &HttpSpec,
    response_file: Option<&str>,
    say: &mut dyn FnMut(&str),
    started: Instant,
) -> Result<Outcome, Problem> {
    let mut answer = outbound.open(request).await?;
    let status = answer.status;
    let from = shown(&answer.url);
    let is_good = spec.expected_status.iter().any(|(low, high)| (*low..=*high).contains(&status));
    let (mut file, mut body) = (None, Vec::new());
    if let (Some(path), true) = (response_file, is_good) {
        file = Some(Target::create(path).map_err(|error| Target::problem(path, &error))?);
    }
    let mut bytes = 0;
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // What is wrong has been seen; the rest of it is not worth a failure of its own.
            Err(CallError::TooLong { .. }) if !is_good => break,
            Err(error) => return Err(error.into()),
        };
        bytes += chunk.len();
        match &mut file {
            Some(file) => file.write(&chunk)?,
            None => body.extend_from_slice(&chunk),
        }
    }
    let kind = text_of(&answer.headers, &CONTENT_TYPE);
    let millis = started.elapsed().as_millis();
    say(&format!("answered {status} in {millis} ms, {bytes} bytes{}", described(&kind)));
    if !is_good {
        return Ok(Outcome::Other { status, why: reason(from, &answer), excerpt: excerpt(&body) });
    }
    let mut outputs = Map::new();
    outputs.insert("status".to_owned(), status.into());
    outputs.insert("headers".to_owned(), headers_json(&answer.headers));
    match file {
        Some(file) => {
            let path = file.keep()?;
            say(&format!("written to {path}"));
            outputs.insert("file".to_owned(), path.into());
            outputs.insert("bytes".to_owned(), bytes.into());
        }
        None => {
            outputs.insert("body".to_owned(), value_of(&kind, body));
        }
    }
    Ok(Outcome::Good(outputs))
}

fn described(kind: &str) -> String {
    if kind.is_empty() { String::new() } else { format!(" of {kind}") }
}

fn reason(from: String, answer: &Answer) -> String {
    let to = text_of(&answer.headers, &LOCATION);
    match Url::parse(&to) {
        Ok(to) => format!("{from} (which leads on to {})", shown(&to)),
        Err(_) => from,
    }
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut short: String = text.trim().chars().take(EXCERPT_CHARS).collect();
    if text.trim().chars().count() > EXCERPT_CHARS {
        short.push('…');
    }
    short
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

fn headers_json(headers: &HeaderMap) -> Json {
    let mut map = Map::new();
    for name in headers.keys() {
        let all: Vec<_> =
            headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        map.insert(name.as_str().to_owned(), all.join(", ").into());
    }
    Json::Object(map)
}

/// JSON where the answer says so and it is; otherwise text.
fn value_of(kind: &str, body: Vec<u8>) -> Json {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = kind == "application/json" || kind.ends_with("+json");
    if is_json && let Ok(value) = serde_json::from_slice(&body) {
        return value;
    }
    match String::from_utf8(body) {
        Ok(text) => Json::String(text),
        Err(error) => Json::String(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// Returns the URL and, where a connection gave it, the host that may be called wherever it leads.
fn url_of(spec: &HttpSpec, connection: Option<&Connection>) -> Result<(Url, Option<String>), Problem> {
    let wrong = |why: String| Problem::HttpRequest { why };
    let parse = |text: &str| Url::parse(text.trim()).map_err(|error| wrong(format!("its URL: {error}")));
    let (mut url, host) = match connection {
        None => (parse(&spec.url)?, None),
        Some(connection) => {
            let base = parse(
                &base_of(connection)
                    .ok_or_else(|| wrong(format!("the connection {} names no host", connection.id)))?,
            )?;
            let url = match Url::parse(spec.url.trim()) {
                // Its login would go to a stranger.
                Ok(whole) if whole.origin() != base.origin() => {
                    return Err(wrong(format!(
                        "{} is not at the host of the connection {}",
                        shown(&whole),
                        connection.id
                    )));
                }
                Ok(whole) => whole,
                Err(_) => parse(&below(&base, spec.url.trim()))?,
            };
            let host = base.host_str().map(str::to_owned);
            (url, host)
        }
    };
    if !spec.query.is_empty() {
        let mut pairs = url.query_pairs_mut();
        for (name, value) in &spec.query {
            match value {
                Json::Array(items) => {
                    for item in items {
                        pairs.append_pair(name, &plain(item));
                    }
                }
                Json::Null => {}
                other => {
                    pairs.append_pair(name, &plain(other));
                }
            }
        }
    }
    Ok((url, host))
}

fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Puts a path below the URL of a connection; one that leaves it leaves it on its own host.
fn below(base: &Url, path: &str) -> String {
    if path.is_empty() {
        return base.to_string();
    }
    let mut text = base.clone();
    text.set_query(None);
    text.set_fragment(None);
    format!("{}/{}", text.as_str().trim_end_matches('/'), path.trim_start_matches('/'))
}

/// Returns the URL that a connection leads to, without its login.
fn base_of(connection: &Connection) -> Option<String> {
    let host = connection.host.as_deref().map(str::trim).filter(|host| !host.is_empty())?;
    if host.contains("://") {
        return Some(host.to_owned());
    }
    let schema = connection.schema.as_deref().unwrap_or_default();
    let scheme = match (schema, connection.kind.as_str()) {
        ("http" | "https", _) => schema,
        (_, "https") => "https",
        _ => "http",
    };
    let port = connection.port.map(|port| format!(":{port}")).unwrap_or_default();
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    Some(format!("{scheme}://{host}{port}"))
}

/// The headers of the connection, over them those of the task.
fn headers_of(spec: &HttpSpec, connection: Option<&Connection>) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str, is_secret: bool| -> Result<(), Problem> {
        let wrong = || Problem::HttpRequest { why: format!("the header {name:?} cannot be sent as it is") };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(is_secret);
        headers.insert(key, value);
        Ok(())
    };
    match &spec.body {
        Some(Json::String(_)) => set(CONTENT_TYPE.as_str(), "text/plain; charset=utf-8", false)?,
        Some(_) => set(CONTENT_TYPE.as_str(), "application/json", false)?,
        None => {}
    }
    if let Some(connection) = connection {
        if let Some(Json::Object(more)) = connection.extra.get("headers") {
            for (name, value) in more {
                set(name, &plain(value), true)?;
            }
        }
        let password = connection.password.as_ref().map(|secret| secret.reveal().to_owned());
        let token = connection.extra.get("token").map(plain);
        let proof = match (&connection.login, token, password) {
            (_, Some(token), _) | (None, None, Some(token)) => Some(format!("Bearer {token}")),
            (Some(login), None, password) => Some(format!(
                "Basic {}",
                STANDARD.encode(format!("{login}:{}", password.unwrap_or_default()))
            )),
            (None, None, None) => None,
        };
        if let Some(proof) = proof {
            set(AUTHORIZATION.as_str(), &proof, true)?;
        }
    }
    for (name, value) in &spec.headers {
        set(name, value, true)?;
    }
    Ok(headers)
}

/// A file that is there when it is whole.
pub(super) struct Target {
    path: String,
    open: PathBuf,
    file: File,
}

impl Target {
    /// Begins a file beside its place.
    pub(super) fn create(path: &str) -> io::Result<Self> {
        let place = Path::new(path);
        let name = place.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        if let Some(folder) = place.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let open = place.with_file_name(hidden);
        Ok(Self { path: path.to_owned(), file: File::create(&open)?, open })
    }

    /// Says why a file cannot be written.
    pub(super) fn problem(path: &str, error: &io::Error) -> Problem {
        Problem::OutputFile { path: path.to_owned(), error: error.to_string() }
    }

    /// Adds to the file.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.file.write_all(bytes).map_err(|error| Self::problem(&self.path, &error))
    }

    /// Puts the file into its place and returns its path.
    pub(super) fn keep(self) -> Result<String, Problem> {
        let kept = self.file.sync_all().and_then(|()| fs::rename(&self.open, &self.path));
        kept.map_err(|error| Self::problem(&self.path, &error))?;
        Ok(self.path.clone())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Nothing is there any more where it was kept.
        let _ = fs::remove_file(&self.open);
    }
}
