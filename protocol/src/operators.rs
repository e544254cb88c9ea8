//! What the operators that run on a worker are told, rendered.

pub use tidemill_engine::definition::python::{PythonSpec, PythonTarget};
