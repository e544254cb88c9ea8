//! The version of a DAG: the hash of its canonical definition.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::model::Dag;
use crate::rows::VersionHash;

/// Returns the hash of the canonical JSON: members sorted, no blanks, numbers as `serde_json` writes them.
/// Comments and formatting of the file make no new version.
#[must_use]
pub fn version_hash(dag: &Dag) -> VersionHash {
    let digest = Sha256::digest(canonical_json(dag).as_bytes());
    let hex = hex::encode(digest);
    VersionHash(Arc::from(hex.get(..32).unwrap_or_default()))
}

/// Returns the canonical JSON of a DAG.
#[must_use]
pub fn canonical_json(dag: &Dag) -> String {
    let mut out = String::new();
    // The types of the definition have string keys and finite numbers only, so this cannot fail.
    write(&serde_json::to_value(dag).unwrap_or_default(), &mut out);
    out
}

/// Sorts members itself: the order inside `serde_json::Map` depends on a feature that any crate may switch on.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}
