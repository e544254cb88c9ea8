//! The worker API, version 1: every message between a worker and the leading server.
//!
//! ```text
//! worker                                              server
//!   POST /worker/v1/exchange   ── results, held ──▶     (held ≤ 20 s)
//!                              ◀─ verdicts, assignments, cancellations ──
//!   POST /worker/v1/heartbeat  ── held ──▶              (thread and connection of its own)
//!                              ◀─ what is still leased ──
//!   POST /worker/v1/started    ── attempt, instant ──▶  (a note; best effort)
//!   PUT  /worker/v1/log        ── attempt token, offset, bytes ──▶
//!                              ◀─ next offset ──
//! ```
//!
//! Authentication: `Authorization: Bearer <worker key>` everywhere; a log append also carries the attempt's
//! own token in `X-Attempt-Token`, which is the only thing that opens that attempt's log.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
pub use tidemill_engine::{
    action::Verdict,
    connection::Connection,
    ids::{AttemptKey, DagId, RunId, TaskId, TaskInstanceKey, WorkerId},
    secret::Secret,
    state::{StopReason, TryOutcome},
};

use crate::{
    drift::{DriftReport, DriftSpec},
    operators::{AnswerCondition, HttpSpec, PythonSpec, SqlSpec, SqlTask},
};

/// The version in the path and in every message.
pub const PROTOCOL_VERSION: u32 = 1;
/// How long the server holds an exchange at most, in seconds.
pub const EXCHANGE_HOLD_SECONDS: u64 = 20;
/// Interval between heartbeats, in seconds.
pub const HEARTBEAT_SECONDS: u64 = 5;
/// A lease, from its assignment or last renewal, in seconds.
pub const LEASE_SECONDS: u64 = 30;
/// Without contact for this long, counted from the start of the last answered request, the worker sends TERM.
pub const SELF_TERM_SECONDS: u64 = 15;
/// Without contact for this long the worker sends KILL.
pub const SELF_KILL_SECONDS: u64 = 25;
/// A worker starts nothing whose lease has less than this left, in seconds.
pub const MIN_LEASE_TO_START_SECONDS: u64 = 10;
/// The most that one log append carries, in bytes.
pub const LOG_CHUNK_BYTES: usize = 256 * 1024;
/// How much of the end of a log rides with the result, in bytes.
pub const LOG_TAIL_BYTES: usize = 64 * 1024;
/// The limit of one output value, in bytes.
pub const OUTPUT_LIMIT_BYTES: usize = 256 * 1024;

/// Exchanges a join token for a worker key: `POST /worker/v1/join`, `Authorization: Bearer <join token>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The name that the worker wants.
    pub worker: WorkerId,
}

/// The worker's own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinResponse {
    /// The secret; the server keeps its hash.
    pub key: Token,
}

/// One exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExchangeRequest {
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The product's version, for people.
    pub version: String,
    /// Who.
    pub worker: WorkerId,
    /// Its incarnation, random at start.
    pub boot_id: String,
    /// Counts this incarnation's exchanges from 1. A newer one makes the server answer an older one at once.
    pub seq: u64,
    /// Nothing of an older incarnation lives any more on this machine, and what it lost was told: attempts of older
    /// incarnations that the server still believes to be here are over. Their logs have arrived, or are so long
    /// that nobody should wait for them.
    pub has_swept: bool,
    /// How many attempts it is willing to hold in all; 0 while it drains.
    pub capacity: u32,
    /// How many it executes at a time.
    pub slots: u32,
    /// The queues that it serves.
    pub queues: Vec<String>,
    /// Every attempt that it holds and has no result for.
    pub held: Vec<AttemptKey>,
    /// Results that have no verdict yet; repeated until they get one.
    pub results: Vec<AttemptReport>,
    /// Attempts of an older incarnation that its sweep proved dead.
    pub lost: Vec<LostAttempt>,
}

/// An attempt that a sweep proved dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostAttempt {
    /// Which.
    pub attempt: AttemptKey,
    /// How it is known.
    pub reason: String,
}

/// The answer to an exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExchangeResponse {
    /// The sequence number that is answered.
    pub seq: u64,
    /// One per result of the request.
    pub verdicts: Vec<ResultVerdict>,
    /// What to start. The worker ignores one that it holds or has finished.
    pub assignments: Vec<Assignment>,
    /// What to stop.
    pub cancellations: Vec<Cancellation>,
}

/// The verdict on one result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultVerdict {
    /// Whose.
    pub attempt: AttemptKey,
    /// What.
    pub verdict: Verdict,
}

/// A request to stop an attempt.
///
/// Repeated until the attempt ends. A worker that does not hold the attempt answers with a report of outcome
/// `stopped` for it and never starts it later: the assignment may still be under way to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// Which.
    pub attempt: AttemptKey,
    /// Why.
    pub reason: StopReason,
}

/// A secret that never shows in a log line.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

/// Everything a worker needs to execute one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The fence.
    pub attempt: AttemptKey,
    /// Opens this attempt's log and nothing else.
    pub token: Token,
    /// The DAG.
    pub dag_id: DagId,
    /// The run.
    pub run_id: RunId,
    /// The DAG file relative to the DAG folder; the task runs in its folder.
    pub dag_file: String,
    /// What to do, rendered.
    pub work: Work,
    /// The task's environment: the `TIDEMILL_*` variables that the server knows, the task's `env` and the
    /// data of its templates. The worker adds the paths.
    pub env: BTreeMap<String, String>,
    /// The outputs of the upstreams: task id → key → value; written to `$TIDEMILL_INPUTS`.
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// The connections that the operator's own keys name, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub connections: BTreeMap<String, Connection>,
    /// What must not show in the log and in the reason of its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Per try, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Exit codes that end the try as skipped.
    pub skip_on_exit_code: Vec<i32>,
    /// Exit codes after which no retry follows.
    pub fail_on_exit_code: Vec<i32>,
    /// What remains of the lease when this leaves the server, in milliseconds.
    pub lease_ms: u64,
}

/// What an attempt does, rendered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// `/bin/sh -c SCRIPT`.
    Shell {
        /// The script; interpolated values are in the environment.
        script: String,
    },
    /// Executed as it is.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// Runs Python code; `tidemill operator` prepares its environment and becomes the interpreter.
    Python {
        /// What is called, rendered.
        spec: Box<PythonSpec>,
    },
    /// Evaluates a branch; executed as `tidemill operator`.
    Branch {
        /// The ids that were chosen, already rendered and evaluated.
        chosen: Vec<String>,
        /// How, in words, for the log.
        because: String,
        /// The ids that may be chosen.
        allowed: Vec<TaskId>,
    },
    /// Measures drift; executed as `tidemill operator`.
    Drift {
        /// What and how, paths rendered.
        spec: Box<DriftSpec>,
        /// Followed when the data drifted.
        on_drift: Vec<TaskId>,
        /// Followed when they did not.
        on_stable: Vec<TaskId>,
        /// Followed when no feature could be tested.
        on_insufficient_data: Option<Vec<TaskId>>,
    },
    /// Calls a webhook; executed as `tidemill operator`.
    Notify {
        /// Where.
        webhook: String,
        /// The JSON body.
        body: serde_json::Value,
    },
    /// Asks another service; executed as `tidemill operator`.
    Http {
        /// What, rendered.
        spec: Box<HttpSpec>,
        /// Where the body goes instead of an output.
        response_file: Option<String>,
    },
    /// Executes statements in a database; executed as `tidemill operator`.
    Sql {
        /// Which, parameters rendered.
        spec: Box<SqlTask>,
    },
    /// Asks another service once: one poke of a sensor; executed as `tidemill operator`.
    HttpSensor {
        /// What, rendered.
        spec: Box<HttpSpec>,
        /// What the answer must be beside its status.
        when: Option<AnswerCondition>,
    },
    /// Asks a database once: one poke of a sensor; executed as `tidemill operator`.
    SqlSensor {
        /// Which, parameters rendered.
        spec: Box<SqlSpec>,
        /// What it must give.
        when: Option<AnswerCondition>,
    },
    /// Looks once whether a file is there: one poke of a sensor; executed as `tidemill operator`.
    FileSensor {
        /// The file, folder or pattern.
        path: String,
    },
}

impl Work {
    /// Whether it is executed as `tidemill operator`, and not as a command.
    #[must_use]
    pub const fn is_operator(&self) -> bool {
        !matches!(self, Self::Shell { .. } | Self::Exec { .. })
    }
}

/// The end of an attempt, as its worker saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptReport {
    /// The fence.
    pub attempt: AttemptKey,
    /// How.
    pub outcome: TryOutcome,
    /// Its exit code, where it exited.
    pub exit_code: Option<i32>,
    /// No retry follows.
    pub is_final: bool,
    /// Why, in words; coded where it is an error of ours.
    pub reason: Option<String>,
    /// What a branch follows.
    pub follow: Option<Vec<String>>,
    /// Outputs by key.
    pub outputs: BTreeMap<String, serde_json::Value>,
    /// What an operator found, shown on the task's page.
    pub report: Option<Report>,
    /// Started at, by the worker's clock.
    pub started_at: Option<DateTime<Utc>>,
    /// Ended at, by the worker's clock.
    pub finished_at: DateTime<Utc>,
    /// The whole length of the log, in bytes.
    pub log_bytes: u64,
    /// Where the tail begins.
    pub log_tail_offset: u64,
    /// The end of the log, at most [`LOG_TAIL_BYTES`], base 64.
    pub log_tail: String,
}

/// Evidence of an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Report {
    /// Of `drift`.
    Drift(Box<DriftReport>),
    /// Of `branch`.
    Branch {
        /// What was chosen.
        chosen: Vec<String>,
        /// How, in words.
        because: String,
    },
}

/// Renews leases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatRequest {
    /// Who.
    pub worker: WorkerId,
    /// Its incarnation.
    pub boot_id: String,
    /// What it holds, results without a verdict included.
    pub attempts: Vec<AttemptKey>,
}

/// Which leases are renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatResponse {
    /// Of the listed attempts, those that no longer hold their lease: kill at once, their results are fenced.
    pub fenced: Vec<AttemptKey>,
}

/// A start, reported as a note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedNote {
    /// Who.
    pub worker: WorkerId,
    /// Which.
    pub attempt: AttemptKey,
    /// When, by the worker's clock.
    pub started_at: DateTime<Utc>,
}

/// Query of a log append; the bytes are the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogAppend {
    /// The run's number.
    pub run: i64,
    /// The task.
    pub task: TaskId,
    /// The element, −1 when not mapped.
    pub map_index: i32,
    /// The try.
    pub try_number: u32,
    /// The lease epoch.
    pub epoch: u32,
    /// Where the bytes begin. Bytes that the server has are compared by position only and passed over.
    pub offset: u64,
}

/// The answer to a log append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogAppended {
    /// How much the server has; the next append begins here.
    pub next_offset: u64,
}
