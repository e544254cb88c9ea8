//! What a file says about itself, and the DAGs in it that nobody makes.

use ruff_python_ast::Stmt;
use ruff_text_size::Ranged;

use super::{interp::Interp, value::Value};
use crate::import::{Entry, Level};

impl<'a> Interp<'a> {
    /// Returns the docstring that a body begins with.
    pub(super) fn doc_of(&self, body: &'a [Stmt]) -> Option<String> {
        match body.first() {
            Some(Stmt::Expr(stmt)) => match &*stmt.value {
                ruff_python_ast::Expr::StringLiteral(text) => Some(text.value.to_str().to_owned()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the docstring of the file.
    pub(super) fn module_doc(&self) -> Option<String> {
        match self.lookup("__doc__") {
            Some(Value::Str(text)) => Some(text.trim().to_owned()),
            _ => None,
        }
    }

    /// Reports functions under `@dag` that nothing calls: Airflow does not know these DAGs.
    pub(super) fn uncalled(&self, body: &'a [Stmt]) -> Vec<Entry> {
        let mut entries = Vec::new();
        for stmt in body {
            let Stmt::FunctionDef(function) = stmt else { continue };
            let Some(Value::Decorated(decorated)) = self.lookup(function.name.as_str()) else { continue };
            if decorated.kind == "dag" && !self.dags.iter().any(|dag| dag.range == function.range()) {
                entries.push(Entry {
                    line: self.source.line_of(function),
                    level: Level::Problem,
                    dag_id: None,
                    task_id: None,
                    message: format!(
                        "not converted: nothing calls `{}`, so Airflow has no such DAG",
                        function.name.as_str()
                    ),
                });
            }
        }
        entries
    }
}
