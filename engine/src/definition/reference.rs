//! Writes `docs/dag-files.md` from the key table, so that the reference cannot differ from what is checked.

use std::fmt::Write as _;

use super::keys::{Default, KeySpec, NOT_BUILT_OPERATORS, OPERATORS, Status, TableId, of_table, one_of};
use crate::definition::values::show_seconds;

const INTRODUCTION: &str = "\
# DAG files

A DAG is one TOML file under the DAG folder. This page lists every key; it is made from the table that the checks
use, so it is complete. `tidemill dags check PATH` tells every problem of a file with its place, and
`tidemill explain CODE` explains a code.

```toml
[dag]
id = \"hello\"
schedule = \"@daily\"

[[task]]
id = \"greet\"
command = \"echo hello on {{ ds }}\"
```

- A key that is not listed here is an error, and so is one whose feature is not built yet: nothing is ignored.
- Durations are `\"90s\"`, `\"5m\"`, `\"1h30m\"`, `\"2d\"` (whole numbers, the largest unit first), or an integer of seconds.
- Dates are TOML dates or date-times, or the same as strings; without an offset they are in the DAG's time zone.
- Ids match `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$` and are not `.` or `..`.
- Keys marked *template* take Jinja placeholders; see `templates.md`.
- Keys marked with ◆ may also stand in `default_args`. A task's own value wins; `env` is merged by name.
- A file has at most 1 MiB, 10 000 tasks and 32 levels.
- A version is the hash of the meaning: comments, formatting and the order of keys make no new version.
";

/// Returns the reference of every key as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = INTRODUCTION.to_owned();
    for table in TableId::ALL {
        section(*table, &mut out);
    }
    out
}

fn section(table: TableId, out: &mut String) {
    let title = match table {
        TableId::Root => "The tables of a file".to_owned(),
        TableId::Arm => "An arm of `branches`".to_owned(),
        other => other.title().to_owned(),
    };
    // Writing into a string cannot fail.
    let _ = writeln!(out, "\n## {title}\n");
    if table == TableId::Task {
        let _ = writeln!(
            out,
            "The operators are {}. Each has its own keys, listed below; `noop` and `latest_only` have none.",
            one_of(OPERATORS)
        );
        let _ = writeln!(
            out,
            "`latest_only` skips the tasks directly below it in every run of the schedule but the newest; runs that \
             no date made always pass."
        );
        let _ = writeln!(
            out,
            "Planned and refused by name: {}.\n",
            one_of(NOT_BUILT_OPERATORS).replace(" or ", ", ")
        );
    }
    out.push_str("| key | value | default | what it does | example |\n|---|---|---|---|---|\n");
    for spec in of_table(table).filter(|spec| spec.status == Status::Built) {
        row(spec, out);
    }
    let planned: Vec<String> = of_table(table)
        .filter_map(|spec| match spec.status {
            Status::NotBuilt(feature) => Some(format!("`{}` ({feature})", spec.name)),
            Status::Built => None,
        })
        .collect();
    if !planned.is_empty() {
        let _ = writeln!(out, "\nNot built yet, refused with `DAG0103`: {}.", planned.join(", "));
    }
}

fn row(spec: &KeySpec, out: &mut String) {
    let mark = if spec.in_default_args { " ◆" } else { "" };
    let default = match spec.default {
        Default::Required => "**required**".to_owned(),
        Default::None => "–".to_owned(),
        Default::Int(value) => format!("`{value}`"),
        Default::Float(value) => format!("`{value:?}`"),
        Default::Bool(value) => format!("`{value}`"),
        Default::Text(text) => format!("`\"{text}\"`"),
        Default::Seconds(seconds) => format!("`\"{}\"`", show_seconds(seconds)),
        Default::Said(text) => text.to_owned(),
    };
    let example = if spec.example.starts_with('[') && spec.table == TableId::Root {
        format!("`{}`", spec.example)
    } else {
        format!("`{} = {}`", spec.name, spec.example)
    };
    let cells =
        [spec.kind.describe(), default, spec.doc.to_owned(), example].map(|cell| cell.replace('|', "\\|"));
    let _ = writeln!(out, "| `{}`{mark} | {} |", spec.name, cells.join(" | "));
}
