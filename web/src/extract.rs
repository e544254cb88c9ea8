//! Extractors whose refusals are problems with a code.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, HeaderName, StatusCode, request::Parts},
};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use tidemill_engine::{
    definition::Dag,
    ids::{DagId, RunId, TaskId},
    rows::{RunRow, VersionHash},
    state::RunState,
};
use tidemill_store::reader::{PAGE_LIMIT, PageRequest};

use crate::{
    error::{Problem, Result},
    state::WebState,
};

/// Path parameters. A name that breaks the pattern names nothing: 404, whatever it tried to be.
pub(crate) struct Ids<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Ids<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(ids)) => Ok(Self(ids)),
            Err(_) => Err(Problem::not_found("such path")),
        }
    }
}

/// The query string.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Problem::new("WEB0202", error.body_text())),
        }
    }
}

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::new("WEB0204", error.body_text()))
            }
            Err(error) => Err(Problem::new("WEB0202", error.body_text())),
        }
    }
}

/// A JSON body that may be left out.
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| Problem::new("WEB0204", error.body_text()))?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        let body = serde_json::from_slice(&bytes);
        body.map(Self).map_err(|error| Problem::new("WEB0202", error.to_string()))
    }
}

/// A form, its fields in order.
pub(crate) struct Form(pub(crate) Vec<(String, String)>);

impl Form {
    /// Returns the first value of a field that is not empty.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Whether a box is ticked.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some()
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        match axum::Form::<Vec<(String, String)>>::from_request(request, state).await {
            Ok(axum::Form(fields)) => Ok(Self(fields)),
            Err(error) => Err(Problem::new("WEB0202", error.body_text())),
        }
    }
}

/// Reads the header `Idempotency-Key`.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>> {
    const KEY: HeaderName = HeaderName::from_static("idempotency-key");
    let Some(value) = headers.get(&KEY) else { return Ok(None) };
    let text = value.to_str();
    text.map(Some).map_err(|_| Problem::new("WEB0202", "Idempotency-Key must be visible ASCII"))
}

/// `{dag_id}`.
#[derive(Deserialize)]
pub(crate) struct DagPath {
    pub(crate) dag_id: DagId,
}

/// `{dag_id}/…/{run_id}`.
#[derive(Deserialize)]
pub(crate) struct RunPath {
    pub(crate) dag_id: DagId,
    pub(crate) run_id: RunId,
}

/// `{dag_id}/…/{run_id}/…/{task_id}`.
#[derive(Deserialize)]
pub(crate) struct TaskPath {
    pub(crate) dag_id: DagId,
    pub(crate) run_id: RunId,
    pub(crate) task_id: TaskId,
}

/// `{dag_id}/…/{run_id}/…/{task_id}/…/{try_number}`.
#[derive(Deserialize)]
pub(crate) struct TryPath {
    pub(crate) dag_id: DagId,
    pub(crate) run_id: RunId,
    pub(crate) task_id: TaskId,
    pub(crate) try_number: u32,
}

/// `?map_index=`.
#[derive(Deserialize)]
pub(crate) struct MapIndex {
    pub(crate) map_index: Option<i32>,
}

impl MapIndex {
    pub(crate) fn value(&self) -> i32 {
        self.map_index.unwrap_or(-1)
    }
}

/// `?limit=&cursor=`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Paging {
    pub(crate) cursor: Option<String>,
    pub(crate) limit: Option<u32>,
}

impl Paging {
    pub(crate) fn request(&self, default: u32) -> PageRequest {
        let limit = self.limit.unwrap_or(default).clamp(1, PAGE_LIMIT);
        PageRequest { cursor: self.cursor.clone().filter(|c| !c.is_empty()), limit }
    }
}

/// Finds a run.
pub(crate) async fn run(state: &WebState, dag_id: &DagId, run_id: &RunId) -> Result<RunRow> {
    let run = state.reader().run(dag_id, run_id).await?;
    run.ok_or_else(|| Problem::not_found("such dag run"))
}

/// Finds the definition that a run is pinned to.
pub(crate) async fn definition(state: &WebState, run: &RunRow) -> Result<std::sync::Arc<Dag>> {
    let dag = state.reader().definition(&run.dag_id, &run.dag_version).await?;
    dag.ok_or_else(|| Problem::not_found("such DAG version"))
}

/// Reads a version from a query.
pub(crate) fn version(text: Option<&str>) -> Option<VersionHash> {
    text.filter(|t| t.len() == 32 && t.bytes().all(|b| b.is_ascii_hexdigit())).map(|t| VersionHash(t.into()))
}

/// Reads `ended_within=24h`: hours or days, back from now.
pub(crate) fn ended_within(text: Option<&str>) -> Result<Option<TimeDelta>> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    let number = |unit: char| text.strip_suffix(unit).and_then(|n| n.parse::<u16>().ok()).map(i64::from);
    let span = number('h').map(TimeDelta::hours).or_else(|| number('d').map(TimeDelta::days));
    let refuse = || Problem::new("WEB0206", format!("ended_within must be such as 24h or 7d, not {text:?}"));
    span.map(Some).ok_or_else(refuse)
}

/// Reads an instant of a query: RFC 3339, or a date, which begins in UTC.
pub(crate) fn instant(name: &str, text: Option<&str>) -> Result<Option<DateTime<Utc>>> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
    let of_date = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN).and_utc());
    let read = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()).or_else(of_date);
    let refuse = || {
        Problem::new(
            "WEB0206",
            format!("{name} must be an instant or a date such as 2026-11-05, not {text:?}"),
        )
    };
    read.map(Some).ok_or_else(refuse)
}

/// Reads `state=a,b` of runs.
pub(crate) fn run_states(text: Option<&str>) -> Result<Vec<RunState>> {
    let words = text.unwrap_or_default().split(',').filter(|w| !w.is_empty());
    words
        .map(|w| {
            RunState::parse(w)
                .ok_or_else(|| Problem::new("WEB0206", format!("{w:?} is not a state of a dag run")))
        })
        .collect()
}
