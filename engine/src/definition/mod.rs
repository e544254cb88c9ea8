//! What a DAG is: the typed definition that a DAG file becomes.
//!
//! **Invariant:** the definition is canonical. Two files that mean the same DAG give equal values, the
//! version hash is taken over its canonical JSON, and comments or formatting never make a new version.
//!
//! Data flow: bytes → [`load()`] → `syntax` (a tree with places) → `fields` (each table against the one table of
//! [`keys`]) → `task`, `params`, `schedule`, … → `graph_checks` → [`Dag`] and [`Problem`]s.

mod asset_checks;
mod brackets;
mod branch_checks;
pub mod code;
mod conflicts;
mod deadline;
pub mod drift;
mod drift_task;
mod editor_schema;
mod fields;
mod graph_checks;
mod groups;
mod hash;
pub mod http;
mod http_task;
mod inside;
mod inside_task;
mod key_table;
pub mod keys;
mod kinds;
mod load;
mod map_spec;
mod mapped;
pub mod millis;
pub mod model;
mod notify;
mod outside;
mod params;
mod places;
mod plain_secrets;
mod problem;
pub mod python;
mod python_task;
mod reference;
mod retry_on;
mod role;
mod rule_checks;
mod schedule;
mod schema;
mod scripts;
mod sensor;
pub mod sql;
mod sql_task;
mod suggest;
mod syntax;
mod task;
mod template_checks;
mod tree;
pub mod values;
mod waits;

pub use asset_checks::{AssetPlaces, check_assets};
pub use code::Code;
pub use drift::DriftSpec;
pub use editor_schema::json_schema;
pub use hash::{canonical_json, version_hash};
pub use http::{HttpMethod, HttpSpec, show_statuses};
pub(crate) use inside::moment;
pub use load::{Loaded, MAX_BYTES, MAX_TASKS, load};
pub use map_spec::{DEFAULT_MAP_LENGTH, LONGEST_MAP, MapSource, MapSpec};
pub use model::*;
pub use outside::{FileState, MANY_DATES, Outside};
pub use plain_secrets::masked_source;
pub use problem::{Problem, SHOWN, Severity, Span};
pub use python::{PythonSpec, PythonTarget};
pub use reference::reference;
pub use retry_on::RetryOn;
pub use schema::{ConfProblem, check_conf};
pub use scripts::NamedScript;
pub use sql::{SqlSpec, SqlTask, Statement, statements};
