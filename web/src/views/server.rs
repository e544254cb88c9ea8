//! Pools, workers, tokens, files, the audit log and the server itself.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tidemill_scheduler::WorkerView;
use tidemill_store::{
    access::{ApiToken, JoinToken},
    batch::ImportError,
    reader::{AuditRow, PoolUse},
};
use utoipa::ToSchema;

/// A pool.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// How many slots it has.
    pub slots: u32,
    /// How many are taken.
    pub used: u32,
    /// What it protects.
    pub description: String,
}

impl From<PoolUse> for PoolView {
    fn from(pool: PoolUse) -> Self {
        Self {
            name: pool.name.to_string(),
            slots: pool.slots,
            used: pool.used,
            description: pool.description,
        }
    }
}

/// A connected worker.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkerInfoView {
    /// Its name.
    pub worker: String,
    /// Its product version.
    pub version: String,
    /// Its queues.
    pub queues: Vec<String>,
    /// How many it executes at a time.
    pub slots: u32,
    /// How many it is willing to hold; 0 while it drains.
    pub capacity: u32,
    /// How many it holds.
    pub attempts: usize,
    /// Connected at.
    pub connected_at: DateTime<Utc>,
    /// Heard of at.
    pub last_contact_at: DateTime<Utc>,
}

impl From<WorkerView> for WorkerInfoView {
    fn from(worker: WorkerView) -> Self {
        Self {
            worker: worker.worker.to_string(),
            version: worker.version,
            queues: worker.queues,
            slots: worker.slots,
            capacity: worker.capacity,
            attempts: worker.attempts.len(),
            connected_at: worker.connected_at,
            last_contact_at: worker.last_contact_at,
        }
    }
}

/// An API token or a join token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// Its public id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// `viewer`, `operator`, `admin`; `worker` for a join token.
    pub role: String,
    /// Who made it.
    pub created_by: String,
    /// Made at.
    pub created_at: DateTime<Utc>,
    /// Stops working at.
    pub expires_at: Option<DateTime<Utc>>,
    /// Revoked at.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl From<ApiToken> for TokenView {
    fn from(token: ApiToken) -> Self {
        Self {
            id: token.id,
            name: token.name,
            role: token.role.to_string(),
            created_by: token.created_by,
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
        }
    }
}

impl From<JoinToken> for TokenView {
    fn from(token: JoinToken) -> Self {
        Self {
            id: token.id,
            name: "join".to_owned(),
            role: "worker".to_owned(),
            created_by: token.created_by,
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
        }
    }
}

/// A new token; the secret is shown once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewTokenView {
    /// The token.
    #[serde(flatten)]
    pub info: TokenView,
    /// The secret. The server keeps its hash only.
    pub token: String,
}

/// A new login link; it works once.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoginLinkView {
    /// Path and query; put the server's address before it.
    pub path: String,
    /// The whole link, where the server knows under which URL people reach it (`server.url`).
    pub url: Option<String>,
    /// Stops working at.
    pub expires_at: DateTime<Utc>,
}

/// A DAG file with problems.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportErrorView {
    /// The file, relative to the DAG folder.
    pub path: String,
    /// The DAG whose last good version stays scheduled.
    pub dag_id: Option<String>,
    /// The problems in the shape of `dags check --format json`.
    #[schema(value_type = Object)]
    pub problems: serde_json::Value,
    /// Read at.
    pub at: DateTime<Utc>,
}

impl From<ImportError> for ImportErrorView {
    fn from(error: ImportError) -> Self {
        Self {
            path: error.path,
            dag_id: error.dag_id.map(|id| id.to_string()),
            problems: error.problems,
            at: error.at,
        }
    }
}

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Counts from 1 without a gap.
    pub seq: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// More.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
    /// SHA-256 over the hash before and the entry.
    pub hash: String,
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        Self {
            seq: row.seq,
            at: row.entry.at,
            actor: row.entry.actor,
            action: row.entry.action,
            subject: row.entry.subject,
            detail: row.entry.detail,
            hash: row.hash,
        }
    }
}

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthView {
    /// `ok` when the scheduler makes progress, else `degraded`.
    pub status: &'static str,
    /// Whether this server leads.
    pub is_leader: bool,
    /// How long ago the scheduler finished a round, in milliseconds.
    pub last_tick_age_ms: u64,
    /// Why the store does not take writes.
    pub store_reason: Option<String>,
    /// How many messages wait for the scheduler.
    pub queue_depth: usize,
    /// How many stored rows, dag runs and DAGs are left out because they cannot be read or written (SCH0502,
    /// SCH0501).
    pub left_out: usize,
    /// The product's version.
    pub version: &'static str,
}

/// What retention deleted, or would.
#[derive(Debug, Serialize, ToSchema)]
pub struct CleanedView {
    /// How many runs.
    pub runs: usize,
    /// Nothing was done.
    pub is_dry_run: bool,
    /// Nothing is left to delete. Else ask again: one call does a bounded amount of work.
    pub is_complete: bool,
}
