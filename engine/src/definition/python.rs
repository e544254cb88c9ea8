//! What a `python` task calls: a script or a function in a file, with what environment.
//!
//! The same type holds the templates of a definition and, rendered, what a worker is told.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A `python` task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PythonSpec {
    /// What is called.
    pub target: PythonTarget,
    /// The requirements of its own virtual environment, as in a requirements file. Not templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    /// A requirements file, relative to the folder of the DAG file. Not a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements_file: Option<String>,
    /// The interpreter, found in `PATH` or by its path; absent: `python3`. Not a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
}

/// What a `python` task calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PythonTarget {
    /// A file, as `__main__`.
    Script {
        /// Its path, a template.
        path: String,
        /// `sys.argv[1:]`, templates.
        args: Vec<String>,
    },
    /// A function in a file.
    Callable {
        /// The path of the file. Not a template.
        file: String,
        /// The name of the function, with dots for attributes. Not a template.
        function: String,
        /// Positional arguments; strings in them are templates.
        args: Vec<Value>,
        /// Keyword arguments; strings in them are templates.
        kwargs: Map<String, Value>,
    },
}
