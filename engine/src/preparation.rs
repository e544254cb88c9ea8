//! What the engine must be told before it can act on an instance by itself.
//!
//! The engine cannot render templates: their values are in the store. So where a decision needs one, it *asks*:
//! [`crate::engine::Engine::unprepared`] lists who needs what; the loop loads what the templates name, prepares it
//! with [`crate::template::prepare`] (pure), and answers in the same round with [`crate::event::Event::Prepared`]. An
//! answer that is an error ends the instance as `failed` with that reason. Nothing of an open question is stored: after a
//! rebuild the engine asks again. Meanwhile the instance is `no_status` and its wait reason is `preparing`.
//!
//! What depends on the store as well is in [`crate::engine::Engine::unprepared_stored`] instead, and answered once
//! everything that was decided is committed.
//!
//! **A new kind** is a variant here in both enums; a place in `engine/prepare.rs` that asks (`Engine::ask`) where the
//! engine decides on such a task, and one that takes the answer (`Engine::prepared`); an arm in
//! `template/prepare.rs` for what it needs and how it is rendered; and an answer in the test worlds. The loop needs no
//! change.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{DagId, RunId, TaskInstanceKey},
    mapping::MapValues,
    rows::RunRow,
    state::{RunState, RunType},
};

/// What has to be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preparation {
    /// The elements of a mapped task.
    Map,
    /// Until when a `time_sensor` waits.
    Until,
    /// Which run a `dag_run_sensor` means, and what has become of it.
    Runs,
    /// What a `trigger_dag` triggers.
    Trigger,
}

/// What was prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prepared {
    /// The elements of a mapped task; they may be none.
    Map(MapValues),
    /// Until when a `time_sensor` waits, as text.
    Until(String),
    /// The run that a `dag_run_sensor` means.
    Runs(Box<RunAsked>),
    /// What a `trigger_dag` triggers.
    Trigger(Box<TriggerPlan>),
}

/// Which run is meant, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAsked {
    /// Its DAG, which there may not be.
    pub dag_id: DagId,
    /// Its logical date; absent: the newest.
    pub logical_date: Option<DateTime<Utc>>,
    /// What is stored of it, when there is one.
    pub found: Option<FoundRun>,
}

/// A run that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRun {
    /// Its id.
    pub run_id: RunId,
    /// Where it is.
    pub state: RunState,
}

impl FoundRun {
    /// Returns what a row says.
    #[must_use]
    pub fn of(row: &RunRow) -> Self {
        Self { run_id: row.run_id.clone(), state: row.state }
    }

    /// Returns which of two runs with one logical date counts: a scheduled one, one of a backfill, the newest.
    #[must_use]
    pub const fn rank(row: &RunRow) -> (u8, i64) {
        let of_type = match row.run_type {
            RunType::Scheduled => 2,
            RunType::Backfill => 1,
            RunType::Manual | RunType::Asset | RunType::Policy => 0,
        };
        (of_type, row.key.0)
    }
}

/// A run that is to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerPlan {
    /// Its DAG.
    pub dag_id: DagId,
    /// What overrides its params.
    pub conf: Arc<serde_json::Map<String, serde_json::Value>>,
    /// Its logical date; absent: now.
    pub logical_date: Option<DateTime<Utc>>,
    /// Its id; absent: one is made.
    pub run_id: Option<RunId>,
    /// Six characters for the id; entropy comes in from the shell.
    pub suffix: String,
    /// The shell found a run of the DAG with this id.
    pub is_run_id_taken: bool,
}

/// Who needs what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unprepared {
    /// The instance; of a mapped task the one without an element.
    pub instance: TaskInstanceKey,
    /// What it needs.
    pub what: Preparation,
}

impl Preparation {
    /// Returns what is being prepared, for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Until => "until",
            Self::Runs => "dag_id",
            Self::Trigger => "conf",
        }
    }

    /// Whether the answer depends on what is stored: then everything that was decided has to be.
    #[must_use]
    pub const fn needs_clean_store(self) -> bool {
        matches!(self, Self::Runs | Self::Trigger)
    }
}
