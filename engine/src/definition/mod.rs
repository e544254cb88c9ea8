//! What a DAG is: the typed definition that a DAG file becomes.
//!
//! **Invariant:** the definition is canonical. Two files that mean the same DAG give equal values, the
//! version hash is taken over its canonical JSON, and comments or formatting never make a new version.

pub mod drift;
pub mod model;

pub use drift::DriftSpec;
pub use model::*;
