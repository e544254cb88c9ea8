//! What a client gets instead of what it asked for: `application/problem+json`, or a page for a browser.
//!
//! The text of an unexpected error is logged, never sent.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tidemill_engine::definition::ConfProblem;
use tidemill_scheduler::{CallError, InvalidRequest, Unavailable};
use tidemill_store::ReadError;

/// A problem after RFC 9457 with a stable code.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Where the code is explained.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short sentence that is the same for the same code.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The stable code, such as `WEB0201`.
    pub code: &'static str,
    /// What happened this time.
    pub detail: String,
    /// Every part of the body that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<PartProblem>,
    /// Where the leading server is, when this one does not lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}

/// What is wrong with a part of what was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PartProblem {
    /// Where in `conf`: a JSON pointer (RFC 6901), such as `/columns/1`.
    pub pointer: String,
    /// What is wrong there: a sentence without its subject.
    pub message: String,
}

impl std::fmt::Display for PartProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` {}", self.pointer, self.message)
    }
}

impl From<ConfProblem> for PartProblem {
    fn from(problem: ConfProblem) -> Self {
        Self { pointer: problem.pointer, message: problem.message }
    }
}

/// The codes of this crate: code, status, title.
pub const CODES: &[(&str, u16, &str)] = &[
    ("WEB0101", 401, "Not signed in"),
    ("WEB0102", 403, "The role does not allow it"),
    ("WEB0103", 403, "The request came from another site"),
    ("WEB0104", 421, "The host name is not one of this server"),
    ("WEB0105", 429, "Too many failed attempts to sign in"),
    ("WEB0106", 403, "The login link does not work"),
    ("WEB0107", 403, "The worker may not act for another one"),
    ("WEB0108", 409, "A worker of this name is connected"),
    ("WEB0201", 404, "Not found"),
    ("WEB0202", 400, "The request cannot be read"),
    ("WEB0203", 405, "The method is not allowed here"),
    ("WEB0204", 413, "The request is too large"),
    ("WEB0205", 416, "The range lies outside the log"),
    ("WEB0206", 422, "A value is not valid"),
    ("WEB0207", 503, "The server took too long"),
    ("WEB0301", 500, "Something is wrong inside"),
];

/// Answers of handlers.
pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    /// Makes a problem of this crate's own.
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        let (status, title) =
            CODES.iter().find(|c| c.0 == code).map_or((500, "Something is wrong inside"), |c| (c.1, c.2));
        Self::other(code, status, title, detail.into())
    }

    fn other(code: &'static str, status: u16, title: &'static str, detail: String) -> Self {
        Self {
            kind: format!("https://tidemill.dev/errors/{code}"),
            title,
            status,
            code,
            detail,
            errors: Vec::new(),
            leader: None,
        }
    }

    /// There is no such thing.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new("WEB0201", format!("there is no {what}"))
    }

    /// The error is ours: it is logged with its causes and the client learns only that.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %chain(error), "unexpected error in a request");
        Self::new("WEB0301", "the server logged what happened")
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let code = error.code();
        match &error {
            ReadError::BadCursor(_) => Self::other(code, 400, "The cursor is not valid", error.to_string()),
            ReadError::Unavailable { .. } => {
                tracing::warn!(error = %chain(&error), "the database did not answer");
                Self::other(code, 503, "The database does not answer", "try again in a moment".to_owned())
            }
            ReadError::Unreadable { .. } => {
                tracing::error!(error = %chain(&error), "a stored row cannot be read");
                Self::other(
                    code,
                    500,
                    "A stored row cannot be read",
                    "the server logged which one".to_owned(),
                )
            }
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let code = error.code();
        let detail = error.to_string();
        match error {
            CallError::Refused(_) => {
                let (status, title) = match code {
                    "SCH0114" | "SCH0201" | "SCH0203" | "SCH0204" | "SCH0211" | "SCH0220" | "SCH0230" => {
                        (404, "Not found")
                    }
                    "SCH0209" | "SCH0212" | "SCH0221" | "SCH0222" | "SCH0224" | "SCH0227" => {
                        (422, "A value is not valid")
                    }
                    _ => (409, "The state does not allow it"),
                };
                Self::other(code, status, title, detail)
            }
            CallError::Invalid(invalid) => {
                let (status, title) = match &invalid {
                    InvalidRequest::AttemptToken => (403, "The attempt token does not fit"),
                    InvalidRequest::UnknownAttempt | InvalidRequest::NotStored { .. } => (404, "Not found"),
                    InvalidRequest::Protocol { .. } => (400, "Another version of the protocol"),
                    InvalidRequest::Replaced { .. }
                    | InvalidRequest::IdempotencyConflict
                    | InvalidRequest::Defined { .. } => (409, "The state does not allow it"),
                    _ => (422, "A value is not valid"),
                };
                let mut problem = Self::other(code, status, title, detail);
                if let InvalidRequest::Conf { problems } = invalid {
                    problem.errors = problems.into_iter().map(PartProblem::from).collect();
                }
                problem
            }
            CallError::Unavailable(unavailable) => {
                let leader = match &unavailable {
                    Unavailable::NotLeader { leader } => leader.clone(),
                    _ => None,
                };
                let (status, title) =
                    if leader.is_some() { (421, "Another server leads") } else { (503, "Not now") };
                let mut problem = Self::other(code, status, title, detail);
                problem.leader = leader;
                problem
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == 429 || self.status == 503 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        // A worker goes on at the leader.
        if let Some(leader) = self.leader.as_deref().and_then(|url| HeaderValue::from_str(url).ok()) {
            headers.insert(header::LOCATION, leader);
        }
        // Pages are made from it by the error layer.
        response.extensions_mut().insert(self);
        response
    }
}
