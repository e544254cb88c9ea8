//! What an `http` task or sensor asks.
//!
//! The same type holds the templates of a definition and, rendered, what a worker is told.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::millis;
use crate::ids::ConnectionId;

crate::state::word_enum! {
    /// The method of a request.
    HttpMethod {
        /// Reads.
        Get = "GET",
        /// Reads the head alone.
        Head = "HEAD",
        /// Makes something, or starts it.
        Post = "POST",
        /// Puts something in a place.
        Put = "PUT",
        /// Changes a part.
        Patch = "PATCH",
        /// Removes.
        Delete = "DELETE",
        /// Asks what is possible.
        Options = "OPTIONS",
    }
}

/// A request and which answers are good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpSpec {
    /// The method.
    pub method: HttpMethod,
    /// A whole URL, or what is added to that of the connection. A template.
    pub url: String,
    /// Where the host, a login and headers come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// Headers by name; values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What is added to the query of the URL; strings are templates, a list is repeated.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub query: Map<String, Value>,
    /// The body: text is sent as it is, everything else as JSON; strings are templates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// The ranges of statuses that are good, both ends included.
    pub expected_status: Vec<(u16, u16)>,
    /// The longest time of the whole request.
    #[serde(with = "millis")]
    pub request_timeout: Duration,
    /// Whether redirects are followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow_redirects: bool,
}

/// Returns ranges of statuses in words.
#[must_use]
pub fn show_statuses(ranges: &[(u16, u16)]) -> String {
    let shown: Vec<String> = ranges
        .iter()
        .map(|(low, high)| if low == high { low.to_string() } else { format!("{low}–{high}") })
        .collect();
    shown.join(", ")
}
