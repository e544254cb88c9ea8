//! What the engine must be told before it can act on an instance by itself.
//!
//! The engine cannot render templates: their values are in the store. So where a decision needs one, it *asks*:
//! [`crate::engine::Engine::unprepared`] lists who needs what; the loop loads what the templates name, prepares it
//! with [`crate::template::prepare`] (pure), and answers in the same round with [`crate::event::Event::Prepared`]. An
//! answer that is an error ends the instance as `failed` with that reason. Nothing of an open question is stored: after a
//! rebuild the engine asks again. Meanwhile the instance is `no_status` and its wait reason is `preparing`.
//!
//! **A new kind** is a variant here in both enums; a place in `engine/prepare.rs` that asks (`Engine::ask`) where the
//! engine decides on such a task, and one that takes the answer (`Engine::prepared`); an arm in
//! `template/prepare.rs` for what it needs and how it is rendered; and an answer in the test worlds. The loop needs no
//! change.

use serde::{Deserialize, Serialize};

use crate::{ids::TaskInstanceKey, mapping::MapValues};

/// What has to be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preparation {
    /// The elements of a mapped task.
    Map,
    /// Until when a `time_sensor` waits.
    Until,
}

/// What was prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prepared {
    /// The elements of a mapped task; they may be none.
    Map(MapValues),
    /// Until when a `time_sensor` waits, as text.
    Until(String),
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
        }
    }
}
