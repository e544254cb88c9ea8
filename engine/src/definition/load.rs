//! Loads a DAG file: text in, a complete DAG or every problem out.

use std::ops::Range;

use super::{
    asset_checks::{self, AssetPlaces},
    brackets,
    code::Code,
    conflicts, deadline,
    fields::{Fields, Mode},
    graph_checks,
    groups::Groups,
    keys::TableId,
    kinds::wrong_type,
    model::{Dag, Param, TimetableKind},
    notify,
    outside::Outside,
    params, plain_secrets,
    problem::{Draft, Problem, Report},
    schedule,
    syntax::{self, Parsed},
    task::{self, TaskDraft},
    template_checks,
    tree::{Node, Table, Value},
};
use crate::ids::DagId;

/// The largest file.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The most tasks of one DAG.
pub const MAX_TASKS: usize = 10_000;

/// What a DAG file gave.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The DAG; there exactly when no problem is an error.
    pub dag: Option<Dag>,
    /// What is wrong, in file order; at most [`super::problem::SHOWN`] and a note about the rest.
    pub problems: Vec<Problem>,
    /// What has to be looked up outside of the file.
    pub outside: Outside,
    /// The id in the file, even when the rest is wrong, so that the problems can be shown with the DAG.
    pub dag_id: Option<String>,
    /// The assets that it names, with their places.
    pub assets: AssetPlaces,
}

impl Loaded {
    /// Whether the file is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }
}

/// Loads the bytes of a DAG file. `path` names the file in messages and is never opened.
#[must_use]
pub fn load(source: &[u8], path: &str) -> Loaded {
    if source.len() > MAX_BYTES {
        let mut report = Report::new("", 0);
        let message = format!("{path} has {} bytes; a DAG file has at most {MAX_BYTES}", source.len());
        report
            .push(Draft::error(Code::FILE_TOO_LARGE, message, 0..0).help("put data into files of their own"));
        return Loaded {
            dag: None,
            problems: report.finish(&[]),
            outside: Outside::default(),
            dag_id: None,
            assets: AssetPlaces::default(),
        };
    }
    // A byte order mark is no character of the file, but it counts in byte places.
    let (source, offset) = match source.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => (rest, 3),
        None => (source, 0),
    };
    match std::str::from_utf8(source) {
        Ok(text) => load_text(text, offset),
        Err(error) => not_utf8(source, error.valid_up_to(), offset),
    }
}

fn not_utf8(source: &[u8], valid: usize, offset: usize) -> Loaded {
    let head = std::str::from_utf8(source.get(..valid).unwrap_or_default()).unwrap_or_default();
    let byte = source.get(valid).copied().unwrap_or_default();
    let mut report = Report::new(head, offset);
    let message = format!("the byte 0x{byte:02X} here is not UTF-8");
    let help = if source.starts_with(&[0xff, 0xfe]) || source.starts_with(&[0xfe, 0xff]) {
        "this is UTF-16; save the file as UTF-8"
    } else {
        "save the file as UTF-8"
    };
    report.push(Draft::error(Code::NOT_UTF8, message, valid..valid).help(help));
    Loaded {
        dag: None,
        problems: report.finish(&[]),
        outside: Outside::default(),
        dag_id: None,
        assets: AssetPlaces::default(),
    }
}

fn load_text(text: &str, offset: usize) -> Loaded {
    let mut report = Report::new(text, offset);
    let parsed = syntax::parse(text, &mut report);
    if parsed.syntax_errors.is_empty() {
        return build(&parsed, report);
    }
    // Marker lines are legal inside multi-line strings, so they are looked for only when something is wrong.
    let conflicts = conflicts::find(text);
    let masked = conflicts::blank(text, &conflicts);
    let repaired = brackets::repair(&masked);
    if conflicts.is_empty() && repaired.unclosed.is_empty() {
        return build(&parsed, report);
    }
    let inserted = repaired.unclosed.iter().map(|one| one.inserted.clone()).collect();
    let mut report = Report::new(&repaired.text, offset).with_inserted(inserted);
    let mut parsed = syntax::parse(&repaired.text, &mut report);
    for conflict in conflicts {
        let moved = |range: Range<usize>| repaired.moved(range);
        report.push(
            Draft::error(Code::MERGE_CONFLICT, "a merge conflict is left in the file", moved(conflict.start))
                .label("one side begins")
                .also(moved(conflict.middle), "the other side begins")
                .also(moved(conflict.end), "and ends")
                .help(
                    "keep one side and delete the three marker lines; below, only the first side is checked",
                ),
        );
    }
    for one in &repaired.unclosed {
        let mut draft = Draft::error(Code::SYNTAX, "this bracket is never closed", one.open.clone())
            .label("opened here")
            .help("close it before the next key");
        if let Some(next) = &one.next {
            draft = draft.also(next.clone(), "the next key begins here");
        }
        report.push(draft);
        parsed.syntax_errors.push(one.open.clone());
    }
    build(&parsed, report)
}

fn build(parsed: &Parsed<'_>, mut report: Report<'_>) -> Loaded {
    let report_ref = &mut report;
    let root = Fields::read(&parsed.root, 0..0, &[TableId::Root], Mode::Strict, report_ref);
    let dag_id = dag_table(&parsed.root).and_then(|(table, _)| match &table.get("id")?.node.value {
        Value::String(text) => Some(text.to_string()),
        _ => None,
    });
    let dag = read_dag(&parsed.root, &root, report_ref);
    let assets = asset_checks::read(&parsed.root, report_ref);
    plain_secrets::check(&parsed.root, report_ref);
    let has_errors = report.has_errors();
    let outside = Outside::note(&parsed.root, &report);
    let problems = report.finish(&parsed.syntax_errors);
    Loaded { dag: if has_errors { None } else { dag }, problems, outside, dag_id, assets }
}

fn dag_table<'s, 'a>(root: &'s Table<'a>) -> Option<(&'s Table<'a>, Range<usize>)> {
    let entry = root.get("dag")?;
    match &entry.node.value {
        Value::Table(table) => Some((table, entry.node.span.clone())),
        _ => None,
    }
}

fn read_dag(root: &Table<'_>, fields: &Fields<'_, '_>, report: &mut Report<'_>) -> Option<Dag> {
    if fields.field("dag").is_none() && !fields.is_misspelt("dag") {
        report.push(
            Draft::error(Code::MISSING_KEY, "the file has no `[dag]` table", 0..0)
                .absence()
                .help("begin with `[dag]` and `id = \"…\"`"),
        );
    }
    let (dag_fields, defaults) = match dag_table(root) {
        Some((table, at)) => {
            let fields = Fields::read(table, at, &[TableId::Dag], Mode::Strict, report);
            fields.require("id", "`[dag]`", report);
            let defaults = default_args(table, report);
            (fields, defaults)
        }
        None => (Fields::empty(0..0, vec![TableId::Dag]), Fields::empty(0..0, vec![TableId::Task])),
    };
    let dag = &dag_fields;
    let zone = schedule::timezone(dag, report);
    let start = schedule::date(dag, "start_date", zone, report);
    let end = schedule::date(dag, "end_date", zone, report);
    let schedule_read = schedule::schedule(dag, report);
    let is_interval = dag.word("timetable") == Some("interval");
    let timetable = if is_interval { TimetableKind::Interval } else { TimetableKind::Trigger };
    schedule::check_together(dag, schedule_read.as_ref(), timetable, start.as_ref(), end.as_ref(), report);
    let is_scheduled = dag.field("schedule").is_some();
    let params = read_params(root, is_scheduled, report);
    let on_success = notify::read(dag, "on_success", report);
    let on_failure = notify::read(dag, "on_failure", report);
    let on_deadline = notify::read(dag, "on_deadline", report);
    let deadline = deadline::read(dag, timetable, report);
    let groups = Groups::read(root, report);
    let drafts = tasks(root, fields, (&defaults, dag, &groups), report);
    let graph = graph_checks::check(&drafts, groups.names(), report);
    template_checks::check(root, &drafts, &graph, report);
    let task_count = drafts.len();
    let tasks: Vec<_> = drafts.into_iter().filter_map(|draft| draft.task).collect();
    if tasks.len() != task_count {
        return None;
    }
    Some(Dag {
        id: DagId::new(dag.text("id")?).ok()?,
        description: dag.string("description"),
        schedule: schedule_read?,
        timetable,
        timezone: zone,
        start_date: start.map(|(found, _)| found.utc),
        end_date: end.map(|(found, _)| found.utc),
        catchup: dag.bool("catchup"),
        max_active_runs: dag.u32("max_active_runs")?,
        max_active_tasks: dag.u32("max_active_tasks")?,
        run_timeout: dag.duration("run_timeout"),
        tags: dag.strings("tags"),
        owner: dag.string("owner"),
        doc: dag.string("doc"),
        on_success,
        on_failure,
        retention: dag.duration("retention"),
        max_consecutive_failed_runs: dag.u32("max_consecutive_failed_runs"),
        deadline,
        on_deadline,
        params,
        groups: groups.described,
        tasks,
    })
}

fn read_params(root: &Table<'_>, is_scheduled: bool, report: &mut Report<'_>) -> Vec<Param> {
    match root.get("params").map(|entry| &entry.node) {
        Some(Node { value: Value::Table(table), .. }) => params::read(table, is_scheduled, report),
        Some(node) => {
            wrong_type("params", "a table of tables", node, report);
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn default_args<'s, 'a>(dag: &'s Table<'a>, report: &mut Report<'_>) -> Fields<'s, 'a> {
    match dag.get("default_args").map(|entry| &entry.node) {
        Some(Node { value: Value::Table(table), span }) => {
            let fields = Fields::read(table, span.clone(), &[TableId::Task], Mode::DefaultArgs, report);
            // Read once here, so that a mistake is reported once and not for every task.
            task::check_defaults(&fields, report);
            fields
        }
        Some(node) => {
            wrong_type("default_args", "a table of task keys", node, report);
            Fields::empty(0..0, vec![TableId::Task])
        }
        None => Fields::empty(0..0, vec![TableId::Task]),
    }
}

fn tasks<'s, 'a>(
    root: &'s Table<'a>,
    root_fields: &Fields<'_, '_>,
    around: task::Around<'_, 's, 'a>,
    report: &mut Report<'_>,
) -> Vec<TaskDraft<'s>> {
    let Some(entry) = root.get("task") else {
        if root_fields.is_misspelt("task") {
            return Vec::new();
        }
        report.push(
            Draft::error(Code::NO_TASKS, "the DAG has no tasks", around.1.at.clone())
                .absence()
                .help("add a `[[task]]`"),
        );
        return Vec::new();
    };
    let items = match &entry.node.value {
        Value::Array { items, .. } if !items.is_empty() => items,
        Value::Array { .. } => {
            report.push(
                Draft::error(Code::NO_TASKS, "the DAG has no tasks", entry.node.span.clone())
                    .help("add a `[[task]]`"),
            );
            return Vec::new();
        }
        Value::Table(_) => {
            report.push(
                Draft::error(
                    Code::WRONG_TYPE,
                    "`task` must be a list of tables, not a table",
                    entry.node.span.clone(),
                )
                .help("write `[[task]]`, with two brackets, before each task")
                .suggest(Some("[[task]]")),
            );
            return Vec::new();
        }
        _ => {
            wrong_type("task", "a list of tables", &entry.node, report);
            return Vec::new();
        }
    };
    if let Some(first_too_many) = items.get(MAX_TASKS) {
        report.push(
            Draft::error(
                Code::TOO_MANY_TASKS,
                format!("{} tasks; a DAG has at most {MAX_TASKS}", items.len()),
                first_too_many.span.clone(),
            )
            .label("one task too many")
            .help("split the DAG"),
        );
        return Vec::new();
    }
    let mut drafts = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            Value::Table(table) => drafts.push(task::read(table, item.span.clone(), around, report)),
            _ => wrong_type("an element of task", "a table", item, report),
        }
    }
    drafts
}
