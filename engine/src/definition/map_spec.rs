//! What a task is mapped over, as its file says it.

use serde::{Deserialize, Serialize};

/// The most elements that a task may have where it does not say.
pub const DEFAULT_MAP_LENGTH: u32 = 1024;
/// The most elements that a task may say.
pub const LONGEST_MAP: u32 = 10_000;

pub(crate) const fn default_map_length() -> u32 {
    DEFAULT_MAP_LENGTH
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
pub(crate) const fn is_default_map_length(length: &u32) -> bool {
    *length == DEFAULT_MAP_LENGTH
}

/// What a task is mapped over: it has one instance for each element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapSpec {
    /// Over one list.
    One(MapSource),
    /// Over every combination of one value of each list, in the order of the file; the last runs fastest.
    Product(Vec<(String, MapSource)>),
}

/// Where the elements come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapSource {
    /// They stand in the file; texts inside them are templates.
    List(Vec<serde_json::Value>),
    /// A template that gives a list.
    Template(String),
}
