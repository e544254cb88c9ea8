//! The worker API as the real server speaks it, over a state that a test can look into.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State as Shared},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{post, put},
};
use base64::Engine as _;
use tidemill_protocol::worker::{
    Assignment, AttemptKey, AttemptReport, Cancellation, EXCHANGE_HOLD_SECONDS, ExchangeRequest,
    ExchangeResponse, HeartbeatRequest, HeartbeatResponse, JoinRequest, JoinResponse, LogAppend, LogAppended,
    LostAttempt, ResultVerdict, StartedNote, TaskInstanceKey, Token, Verdict,
};

use super::PATIENCE;

/// What the server knows and what it shall do.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Given out with the next exchange, whether or not the worker has capacity.
    pub(crate) assignments: Vec<Assignment>,
    /// Given out with the next exchange.
    pub(crate) cancellations: Vec<Cancellation>,
    /// Results in the order in which they were first seen.
    pub(crate) reports: Vec<AttemptReport>,
    /// How often each result came.
    pub(crate) deliveries: BTreeMap<AttemptKey, u32>,
    /// Results of these get no verdict yet.
    pub(crate) without_verdict: BTreeSet<AttemptKey>,
    /// These have no lease any more.
    pub(crate) fenced: BTreeSet<AttemptKey>,
    pub(crate) logs: BTreeMap<AttemptKey, Vec<u8>>,
    pub(crate) appends: u64,
    pub(crate) lost: Vec<LostAttempt>,
    pub(crate) started: Vec<StartedNote>,
    pub(crate) exchanges: Vec<ExchangeRequest>,
    pub(crate) heartbeats: Vec<HeartbeatRequest>,
    /// Every call fails with this status.
    pub(crate) down: Option<u16>,
    /// An exchange with a result of one of these that has outputs is refused with 400.
    pub(crate) unreadable: BTreeSet<AttemptKey>,
    /// Every exchange is sent on to this address.
    pub(crate) leader: Option<String>,
    /// How many calls carried a wrong credential.
    pub(crate) unauthorized: u64,
    newest_seq: BTreeMap<String, u64>,
}

impl State {
    /// Returns the first report of a task.
    pub(crate) fn report(&self, task: &str) -> Option<&AttemptReport> {
        self.reports.iter().find(|report| report.attempt.instance.task.as_str() == task)
    }

    /// Returns the log of a first try, as far as it has arrived.
    pub(crate) fn log(&self, task: &str) -> Vec<u8> {
        self.logs.get(&super::key(task)).cloned().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    wake: tokio::sync::Notify,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    inner: Arc<Inner>,
    pub(crate) url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let inner = Arc::new(Inner::default());
        let router = Router::new()
            .route("/worker/v1/join", post(join))
            .route("/worker/v1/exchange", post(exchange))
            .route("/worker/v1/heartbeat", post(heartbeat))
            .route("/worker/v1/started", post(started))
            .route("/worker/v1/log", put(log))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(inner.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inner, url, _runtime: runtime }
    }

    /// Looks at the state or changes it; what waits notices.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.inner.lock());
        self.inner.notify();
        result
    }

    /// Gives assignments to the worker.
    pub(crate) fn assign(&self, assignments: impl IntoIterator<Item = Assignment>) {
        self.with(|state| state.assignments.extend(assignments));
    }

    /// Waits until `look` finds what it looks for.
    pub(crate) fn wait<T>(&self, what: &str, look: impl FnMut(&State) -> Option<T>) -> T {
        self.wait_for(PATIENCE, what, look)
    }

    fn wait_for<T>(&self, patience: Duration, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let started = Instant::now();
        let mut state = self.inner.lock();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            assert!(started.elapsed() < patience, "{what} did not happen: {state:#?}");
            (state, _) = self.inner.changed.wait_timeout(state, Duration::from_secs(1)).unwrap();
        }
    }

    /// Waits for the report of a task that may have to install something first.
    pub(crate) fn late_report(&self, task: &str) -> AttemptReport {
        self.wait_for(PATIENCE * 6, &format!("the report of {task}"), |state| state.report(task).cloned())
    }

    /// Waits for the report of a task.
    pub(crate) fn report(&self, task: &str) -> AttemptReport {
        self.wait(&format!("the report of {task}"), |state| state.report(task).cloned())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn notify(&self) {
        self.changed.notify_all();
        self.wake.notify_waiters();
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let mut state = self.lock();
        if let Some(status) = state.down {
            return Err(StatusCode::from_u16(status).unwrap());
        }
        if headers.get("authorization").is_some_and(|value| value == "Bearer worker-key") {
            return Ok(());
        }
        state.unauthorized += 1;
        Err(StatusCode::UNAUTHORIZED)
    }
}

async fn join(
    Shared(inner): Shared<Arc<Inner>>,
    headers: HeaderMap,
    Json(_): Json<JoinRequest>,
) -> Result<Json<JoinResponse>, StatusCode> {
    if headers.get("authorization").is_some_and(|value| value == "Bearer join-token") {
        return Ok(Json(JoinResponse { key: Token("worker-key".to_owned()) }));
    }
    inner.lock().unauthorized += 1;
    Err(StatusCode::UNAUTHORIZED)
}

async fn exchange(
    Shared(inner): Shared<Arc<Inner>>,
    headers: HeaderMap,
    Json(request): Json<ExchangeRequest>,
) -> Result<Json<ExchangeResponse>, Response> {
    inner.check(&headers).map_err(IntoResponse::into_response)?;
    {
        let state = inner.lock();
        let is_bad =
            |report: &AttemptReport| !report.outputs.is_empty() && state.unreadable.contains(&report.attempt);
        if request.results.iter().any(is_bad) {
            return Err(StatusCode::BAD_REQUEST.into_response());
        }
        if let Some(leader) = &state.leader {
            let location = [("location", leader.clone())];
            return Err((StatusCode::MISDIRECTED_REQUEST, location).into_response());
        }
    }
    let mut response = ExchangeResponse { seq: request.seq, ..ExchangeResponse::default() };
    {
        let mut state = inner.lock();
        let newest = state.newest_seq.entry(request.boot_id.clone()).or_default();
        *newest = (*newest).max(request.seq);
        response.verdicts = request.results.iter().filter_map(|result| verdict(&mut state, result)).collect();
        state.lost.extend(request.lost.iter().cloned());
        state.exchanges.push(request.clone());
    }
    inner.notify();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(EXCHANGE_HOLD_SECONDS);
    loop {
        let woken = inner.wake.notified();
        {
            let mut state = inner.lock();
            let is_newest = state.newest_seq.get(&request.boot_id) == Some(&request.seq);
            if is_newest && request.capacity > 0 {
                response.assignments = std::mem::take(&mut state.assignments);
            }
            if is_newest {
                response.cancellations = std::mem::take(&mut state.cancellations);
            }
            let has_news = !response.verdicts.is_empty()
                || !response.assignments.is_empty()
                || !response.cancellations.is_empty()
                || !request.lost.is_empty();
            if has_news || !is_newest {
                return Ok(Json(response));
            }
        }
        if tokio::time::timeout_at(deadline, woken).await.is_err() {
            return Ok(Json(response));
        }
    }
}

fn verdict(state: &mut State, result: &AttemptReport) -> Option<ResultVerdict> {
    let attempt = result.attempt.clone();
    *state.deliveries.entry(attempt.clone()).or_default() += 1;
    let is_known = state.reports.iter().any(|report| report.attempt == attempt);
    let verdict = if state.fenced.contains(&attempt) {
        Verdict::Fenced
    } else if is_known {
        Verdict::Duplicate
    } else {
        let tail = base64::engine::general_purpose::STANDARD.decode(&result.log_tail).unwrap();
        append(state, &attempt, result.log_tail_offset, &tail);
        state.reports.push(result.clone());
        Verdict::Accepted
    };
    (!state.without_verdict.contains(&attempt)).then_some(ResultVerdict { attempt, verdict })
}

/// Stores bytes by their position; what is there already is passed over. Returns the length.
fn append(state: &mut State, attempt: &AttemptKey, offset: u64, bytes: &[u8]) -> u64 {
    let log = state.logs.entry(attempt.clone()).or_default();
    let have = log.len() as u64;
    if offset <= have {
        let known = usize::try_from(have - offset).unwrap();
        log.extend_from_slice(bytes.get(known..).unwrap_or_default());
    }
    log.len() as u64
}

async fn heartbeat(
    Shared(inner): Shared<Arc<Inner>>,
    headers: HeaderMap,
    Json(request): Json<HeartbeatRequest>,
) -> Result<Json<HeartbeatResponse>, StatusCode> {
    inner.check(&headers)?;
    let fenced = {
        let mut state = inner.lock();
        let has_ended = |key: &AttemptKey| state.reports.iter().any(|report| report.attempt == *key);
        let is_over = |key: &&AttemptKey| state.fenced.contains(*key) || has_ended(key);
        let fenced = request.attempts.iter().filter(is_over).cloned().collect();
        state.heartbeats.push(request);
        fenced
    };
    inner.notify();
    Ok(Json(HeartbeatResponse { fenced }))
}

async fn started(
    Shared(inner): Shared<Arc<Inner>>,
    headers: HeaderMap,
    Json(note): Json<StartedNote>,
) -> Result<StatusCode, StatusCode> {
    inner.check(&headers)?;
    inner.lock().started.push(note);
    inner.notify();
    Ok(StatusCode::NO_CONTENT)
}

async fn log(
    Shared(inner): Shared<Arc<Inner>>,
    headers: HeaderMap,
    Query(query): Query<LogAppend>,
    bytes: Bytes,
) -> Result<Json<LogAppended>, StatusCode> {
    inner.check(&headers)?;
    let token = headers.get("x-attempt-token").and_then(|value| value.to_str().ok());
    if token != Some(&format!("token-{}", query.task)) {
        inner.lock().unauthorized += 1;
        return Err(StatusCode::FORBIDDEN);
    }
    let run = serde_json::from_value(query.run.into()).unwrap();
    let instance = TaskInstanceKey { run, task: query.task, map_index: query.map_index };
    let attempt = AttemptKey { instance, try_number: query.try_number, epoch: query.epoch };
    let next_offset = {
        let mut state = inner.lock();
        state.appends += 1;
        append(&mut state, &attempt, query.offset, &bytes)
    };
    inner.notify();
    Ok(Json(LogAppended { next_offset }))
}
