//! A server with its scheduler, a worker that answers at once, and a client.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{TimeDelta, Utc};
use http_body_util::BodyExt;
use serde_json::Value;
use tidemill_engine::ids::DagId;
use tidemill_protocol::worker::{
    Assignment, AttemptReport, ExchangeRequest, ExchangeResponse, PROTOCOL_VERSION, Token, TryOutcome, Work,
    WorkerId,
};
use tidemill_scheduler::{AdminWrite, Handle, Options, Scheduler, SystemClock, token_hash};
use tidemill_store::{
    access::{AccessChange, ApiToken, JoinToken, LoginLink, Role, Session, WorkerKey},
    memory::MemoryStore,
};
use tidemill_web::{WebState, router, routes};
use tower::ServiceExt;

pub(crate) const VIEWER: &str = "viewer-0123456789abcdef";
pub(crate) const OPERATOR: &str = "operator-0123456789abcdef";
pub(crate) const ADMIN: &str = "admin-0123456789abcdef";
pub(crate) const EXPIRED: &str = "expired-0123456789abcdef";
pub(crate) const REVOKED: &str = "revoked-0123456789abcdef";
pub(crate) const WORKER: &str = "worker-key-0123456789abcdef";
pub(crate) const OTHER_WORKER: &str = "other-worker-key-0123456789abcdef";
pub(crate) const JOIN: &str = "join-0123456789abcdef";
pub(crate) const LINK: &str = "login-link-0123456789abcdef";
pub(crate) const SESSION: &str = "session-0123456789abcdef";
pub(crate) const WORKER_NAME: &str = "w1";

/// Nothing in these tests takes this long; who waits longer has found a bug.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct App {
    pub(crate) router: Router,
    pub(crate) handle: Handle,
    pub(crate) reader: Arc<MemoryStore>,
    pub(crate) state: WebState,
    scheduler: Option<Scheduler>,
    folder: tempfile::TempDir,
    worker: Option<tokio::task::JoinHandle<()>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.state.stop();
        if let Some(worker) = self.worker.take() {
            worker.abort();
        }
        if let Some(scheduler) = self.scheduler.take() {
            drop(scheduler.kill());
        }
    }
}

pub(crate) const HELLO: &str = r#"
[dag]
id = "hello"
description = "says hello"
tags = ["demo"]

[params.name]
type = "string"
default = "world"

[params.count]
type = "integer"
default = 1
minimum = 1
maximum = 5

[[task]]
id = "greet"
command = "echo hello"

[[task]]
id = "after"
operator = "noop"
depends_on = ["greet"]
"#;

impl App {
    pub(crate) async fn new(files: &[(&str, &str)]) -> Self {
        let app = Self::with(files, MemoryStore::default()).await;
        app.give_access().await;
        app
    }

    /// Stops as a server that was asked to does.
    pub(crate) async fn stop(mut self) {
        if let Some(scheduler) = self.scheduler.take() {
            scheduler.stop().await;
        }
    }

    pub(crate) async fn with(files: &[(&str, &str)], store: MemoryStore) -> Self {
        Self::with_options(files, store, tidemill_web::Options::default()).await
    }

    pub(crate) async fn with_options(
        files: &[(&str, &str)],
        store: MemoryStore,
        web: tidemill_web::Options,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dags = folder.path().join("dags");
        std::fs::create_dir_all(&dags).unwrap();
        for (name, text) in files {
            std::fs::write(dags.join(name), text).unwrap();
        }
        let options = Options::new(&dags, folder.path().join("logs"));
        let reader = Arc::new(store.clone());
        let scheduler =
            Scheduler::start(options, reader.clone(), Arc::new(store), Arc::new(SystemClock::default()))
                .await
                .unwrap();
        let handle = scheduler.handle();
        let state = WebState::new(reader.clone(), handle.clone(), web);
        Self {
            router: router(state.clone()),
            handle,
            reader,
            state,
            scheduler: Some(scheduler),
            folder,
            worker: None,
        }
    }

    /// Writes a file of the DAG folder anew.
    pub(crate) fn save(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join("dags").join(name), text).unwrap();
    }

    pub(crate) fn routes(&self) -> Vec<tidemill_web::Route> {
        routes(&self.state)
    }

    pub(crate) async fn give_access(&self) {
        let now = Utc::now();
        let hash = |secret: &str| token_hash(&Token(secret.to_owned()));
        let token = |id: &str, secret: &str, role| ApiToken {
            id: id.to_owned(),
            name: id.to_owned(),
            role,
            hash: hash(secret),
            created_by: "test".to_owned(),
            created_at: now,
            expires_at: None,
            revoked_at: None,
        };
        let key = |name: &str, secret: &str| WorkerKey {
            hash: hash(secret),
            worker: WorkerId::new(name).unwrap(),
            created_at: now,
            revoked_at: None,
        };
        let soon = now + TimeDelta::hours(1);
        let access = vec![
            AccessChange::Token(token("viewer", VIEWER, Role::Viewer)),
            AccessChange::Token(token("operator", OPERATOR, Role::Operator)),
            AccessChange::Token(token("admin", ADMIN, Role::Admin)),
            AccessChange::Token(ApiToken {
                expires_at: Some(now - TimeDelta::hours(1)),
                ..token("old", EXPIRED, Role::Admin)
            }),
            AccessChange::Token(ApiToken { revoked_at: Some(now), ..token("gone", REVOKED, Role::Admin) }),
            AccessChange::WorkerKey(key(WORKER_NAME, WORKER)),
            AccessChange::WorkerKey(key("w2", OTHER_WORKER)),
            AccessChange::JoinToken(JoinToken {
                id: "join_a".to_owned(),
                hash: hash(JOIN),
                created_by: "test".to_owned(),
                created_at: now,
                expires_at: Some(soon),
                revoked_at: None,
            }),
            AccessChange::LoginLink(LoginLink {
                hash: hash(LINK),
                actor: "ann".to_owned(),
                role: Role::Admin,
                created_at: now,
                expires_at: soon,
                used_at: None,
            }),
            AccessChange::Session(Session {
                hash: hash(SESSION),
                actor: "ann".to_owned(),
                role: Role::Admin,
                created_at: now,
                expires_at: soon,
            }),
        ];
        self.handle.write(AdminWrite { access, ..AdminWrite::default() }).await.unwrap();
    }

    /// Waits until the DAG's file is loaded and its row is stored.
    pub(crate) async fn loaded(&self, dag_id: &str) {
        let id = DagId::new(dag_id).unwrap();
        self.until(&format!("{dag_id} is loaded"), async || {
            self.handle.dag(&id).is_some() && self.get(&format!("/api/v1/dags/{dag_id}")).await.status == 200
        })
        .await;
    }

    /// Waits for a condition, looking again after every committed change.
    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let mut changes = self.handle.subscribe();
        let wait = async {
            while !condition().await {
                // A change may have been committed just before the subscription: the timer is the net.
                let _ = tokio::time::timeout(Duration::from_millis(200), changes.recv()).await;
            }
        };
        assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "waited in vain until {what}");
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.send_to(&self.router, request).await
    }

    pub(crate) async fn send_to(&self, router: &Router, request: Request<Body>) -> Answer {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        // A stream has no end: only its head counts here.
        let is_stream =
            parts.headers.get("content-type").is_some_and(|t| t.as_bytes().starts_with(b"text/event-stream"));
        let body = if is_stream { Vec::new() } else { body.collect().await.unwrap().to_bytes().to_vec() };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path, Some(ADMIN)).body(Body::empty()).unwrap()).await
    }

    /// A page as a browser with a session gets it.
    pub(crate) async fn page(&self, path: &str) -> Answer {
        self.page_with(path, "").await
    }

    /// The same with another cookie beside that of the session.
    pub(crate) async fn page_with(&self, path: &str, cookie: &str) -> Answer {
        let request = Request::builder()
            .uri(path)
            .header("host", "localhost")
            .header("accept", "text/html")
            .header("cookie", format!("tidemill_session={SESSION}; {cookie}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        let request = request("POST", path, Some(token)).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn form(&self, path: &str, fields: &str) -> Answer {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("accept", "text/html")
            .header("origin", "http://localhost")
            .header("cookie", format!("tidemill_session={SESSION}"))
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(fields.to_owned())).unwrap()).await
    }

    pub(crate) async fn trigger(&self, dag_id: &str, body: Value) -> String {
        let answer = self.post(&format!("/api/v1/dags/{dag_id}/runs"), OPERATOR, body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["run_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn finished(&self, dag_id: &str, run_id: &str) -> Value {
        let path = format!("/api/v1/dags/{dag_id}/runs/{run_id}");
        self.until(&format!("{run_id} has ended"), async || {
            let state = self.get(&path).await.json()["state"].as_str().unwrap_or_default().to_owned();
            matches!(state.as_str(), "success" | "failed" | "cancelled")
        })
        .await;
        self.get(&path).await.json()
    }

    /// Starts a worker that answers every assignment with what `act` says.
    pub(crate) fn work(&mut self, act: impl Fn(&Assignment) -> AttemptReport + Send + Sync + 'static) {
        let router = self.router.clone();
        self.worker = Some(tokio::spawn(async move {
            let mut results = Vec::new();
            for seq in 1.. {
                let message = exchange_request(seq, std::mem::take(&mut results));
                let request = request("POST", "/worker/v1/exchange", Some(WORKER))
                    .header("content-type", "application/json");
                let body = Body::from(serde_json::to_vec(&message).unwrap());
                let response = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
                let bytes = response.into_body().collect().await.unwrap().to_bytes();
                let Ok(answer) = serde_json::from_slice::<ExchangeResponse>(&bytes) else { return };
                results = answer.assignments.iter().map(&act).collect();
            }
        }));
    }
}

pub(crate) fn request(method: &str, path: &str, token: Option<&str>) -> axum::http::request::Builder {
    let builder = Request::builder().method(method).uri(path).header("host", "localhost");
    match token {
        Some(token) => builder.header("authorization", format!("Bearer {token}")),
        None => builder,
    }
}

pub(crate) fn exchange_request(seq: u64, results: Vec<AttemptReport>) -> ExchangeRequest {
    ExchangeRequest {
        protocol: PROTOCOL_VERSION,
        version: "0.1.0".to_owned(),
        worker: WorkerId::new(WORKER_NAME).unwrap(),
        boot_id: "boot".to_owned(),
        seq,
        has_swept: true,
        capacity: 4,
        slots: 4,
        queues: vec!["default".to_owned()],
        held: Vec::new(),
        results,
        lost: Vec::new(),
    }
}

/// A report of an attempt that ended by itself.
pub(crate) fn report(assignment: &Assignment, outcome: TryOutcome, log: &[u8]) -> AttemptReport {
    let now = Utc::now();
    AttemptReport {
        attempt: assignment.attempt.clone(),
        outcome,
        exit_code: Some(i32::from(outcome != TryOutcome::Success)),
        is_final: outcome != TryOutcome::Success,
        reason: (outcome != TryOutcome::Success).then(|| "exit code 1".to_owned()),
        follow: match &assignment.work {
            Work::Branch { chosen, .. } => Some(chosen.clone()),
            _ => None,
        },
        outputs: std::collections::BTreeMap::new(),
        report: None,
        started_at: Some(now),
        finished_at: now,
        log_bytes: log.len() as u64,
        log_tail_offset: 0,
        log_tail: STANDARD.encode(log),
    }
}
