//! What requests carry. Unknown keys are refused: a misspelt key must not be ignored in silence.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::ToSchema;

/// Asks for a dag run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerBody {
    /// Overrides params.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub conf: serde_json::Map<String, serde_json::Value>,
    /// RFC 3339; null: now.
    #[serde(default)]
    pub logical_date: Option<DateTime<Utc>>,
    /// A run id of your own; null: one is made.
    #[serde(default)]
    pub run_id: Option<String>,
}

/// Posts an event on an asset.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssetEventBody {
    /// The asset.
    pub asset: String,
    /// What there is to say about it, at most 64 KiB.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// Changes a DAG.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchDagBody {
    /// The new value.
    pub is_paused: bool,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// Asks to clear task instances of a run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClearBody {
    /// The tasks; empty: all.
    pub tasks: Vec<String>,
    /// Only this element of each of the tasks.
    pub map_index: Option<i32>,
    /// Everything above them too.
    pub upstream: bool,
    /// Everything below them too.
    pub downstream: bool,
    /// Of all these only failed and upstream_failed ones.
    pub only_failed: bool,
    /// The same in every run of the DAG with an earlier logical date.
    pub past: bool,
    /// The same in every run of the DAG with a later logical date.
    pub future: bool,
    /// Only say what would change.
    pub dry_run: bool,
    /// The run takes the newest version of its DAG.
    pub latest: bool,
}

/// Asks to cancel a run; no body at all is this one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CancelBody {
    /// Only say what would change.
    pub dry_run: bool,
}

/// Gives a verdict by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkBody {
    /// The tasks; empty: the run itself.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// Only this element of each of the tasks.
    #[serde(default)]
    pub map_index: Option<i32>,
    /// `success` or `failed`.
    pub state: String,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// Makes or resizes a pool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolBody {
    /// How many slots.
    pub slots: u32,
    /// What it protects.
    #[serde(default)]
    pub description: String,
}

/// Makes an API token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenBody {
    /// What people call it.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Stops working after so many days; null: never.
    #[serde(default)]
    pub days: Option<u32>,
}

/// Asks for a login link.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoginLinkBody {
    /// `viewer`, `operator` or `admin`, at most the caller's; null: the caller's.
    pub role: Option<String>,
    /// Who signs in with it, as the audit log names them; null: the caller. Only an admin names somebody else.
    pub name: Option<String>,
}

/// Asks for retention now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CleanBody {
    /// Finished runs that ended longer ago go; null: what the retention rules say.
    #[serde(default)]
    pub older_than_days: Option<u32>,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}
