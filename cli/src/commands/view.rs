//! What the client commands print of the server's JSON.

use serde_json::Value;

use crate::{
    error::Result,
    output::{Format, Table, print_json},
    report::say,
};

/// Returns a field as text; empty when it is absent or null.
pub(crate) fn text(item: &Value, name: &str) -> String {
    match item.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Returns a table of some fields.
pub(crate) fn table(items: &[Value], columns: &[(&str, &str)]) -> Table {
    let headings: Vec<_> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut table = Table::new(&headings);
    for item in items {
        table.row(columns.iter().map(|(_, field)| text(item, field)));
    }
    table
}

/// Returns a table of runs.
pub(crate) fn runs(items: &[Value]) -> Table {
    table(
        items,
        &[
            ("DAG", "dag_id"),
            ("RUN", "run_id"),
            ("STATE", "state"),
            ("LOGICAL DATE", "logical_date"),
            ("STARTED", "started_at"),
            ("FINISHED", "finished_at"),
            ("REASON", "reason"),
        ],
    )
}

/// Prints one object: as JSON, or a line per field.
pub(crate) fn one(item: &Value, format: Format) -> Result {
    if format == Format::Json {
        print_json(item)?;
        return Ok(());
    }
    let mut table = Table::new(&["FIELD", "VALUE"]);
    if let Value::Object(map) = item {
        for name in map.keys() {
            table.row([name.clone(), text(item, name)]);
        }
    }
    table.print()?;
    Ok(())
}

/// Prints what a clear, a mark or a cancel changed, or would.
pub(crate) fn changes(changes: &Value, format: Format) -> Result {
    if format == Format::Json {
        print_json(changes)?;
        return Ok(());
    }
    let empty = Vec::new();
    let items = changes.get("changed").and_then(Value::as_array).unwrap_or(&empty);
    let table = table(
        items,
        &[("RUN", "run_id"), ("TASK", "task_id"), ("MAP INDEX", "map_index"), ("FROM", "from"), ("TO", "to")],
    );
    if !table.is_empty() {
        table.print()?;
    }
    let verb = if changes.get("is_dry_run") == Some(&Value::Bool(true)) { "would change" } else { "changed" };
    say(format!("{} task instances {verb}", items.len()));
    Ok(())
}
