//! Every name, field, method, filter, test and function of templates, one row each, rendered for three runs: a scheduled one of an
//! interval timetable, a scheduled one of a trigger timetable, and one that a person started. What the tables below
//! do not name does not exist, and what exists is named: the last test compares them with the vocabulary and with the page.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::{
    Context, instant,
    names::{NAMES, Shape},
    render_text,
};
use crate::{
    connection::Connection,
    definition::load,
    ids::{ConnectionId, RunId, RunKey, TaskId},
    rows::{RunRow, VersionHash},
    secret::Secret,
    state::{RunState, RunType},
    template::Variable,
    timetable::Timetable,
};

const FILE: &str = r#"
[dag]
id = "daily"
description = "about"
owner = "ann"
tags = ["ml"]
schedule = "@daily"
timetable = "TIMETABLE"
[params.rows]
default = 10
[params.size]
default = "small"
[[task]]
id = "train"
command = "true"
"#;

/// The context of a try, made as the scheduler makes it.
fn context(
    timetable: &str,
    run_type: RunType,
    at: &str,
    run_id: &str,
    previous: Option<[&str; 2]>,
) -> Context {
    let loaded = load(FILE.replace("TIMETABLE", timetable).as_bytes(), "daily.toml");
    assert_eq!(loaded.problems, []);
    let dag = loaded.dag.unwrap();
    let at = at.parse().unwrap();
    let rules = Timetable::new(&dag).unwrap();
    let interval = if run_type == RunType::Manual {
        rules.manual_interval(at)
    } else {
        let slot = rules.from_logical_date(at).next().unwrap();
        assert_eq!(slot.logical_date, at);
        (slot.data_interval_start, slot.data_interval_end)
    };
    let conf = if run_type == RunType::Manual { json!({ "size": "large" }) } else { json!({}) };
    let run = RunRow {
        key: RunKey(1),
        dag_id: dag.id.clone(),
        run_id: RunId::new(run_id).unwrap(),
        run_type,
        state: RunState::Running,
        with_failures: false,
        reason: None,
        logical_date: at,
        data_interval_start: interval.0,
        data_interval_end: interval.1,
        queued_at: at,
        started_at: Some(at),
        finished_at: None,
        conf: Arc::new(conf.as_object().cloned().unwrap()),
        dag_version: VersionHash("v".into()),
        cancel_requested_at: None,
        timed_out_at: None,
        triggered_by: None,
        deadline_at: None,
        deadline_missed_at: None,
        backfill: None,
        ignores_past: false,
        origin: None,
    };
    let mut context = Context::of_try(&dag, &run, &TaskId::new("train").unwrap(), 2, 7, 1);
    context.prev_data_interval_start_success = previous.map(|interval| interval[0].parse().unwrap());
    context.prev_data_interval_end_success = previous.map(|interval| interval[1].parse().unwrap());
    context.map_value = Some(json!({ "file": "b.csv" }));
    context.outputs = BTreeMap::from([("load".to_owned(), BTreeMap::from([("rows".to_owned(), json!(3))]))]);
    for (name, value) in [("region", "eu"), ("limits", "{\"cpu\": 4}")] {
        let value = Secret::new(value);
        context.variables.insert(name.to_owned(), Variable { value, is_secret: false });
    }
    let mut connection = Connection::new(ConnectionId::new("db").unwrap(), "postgres");
    connection.description = "warehouse".to_owned();
    connection.host = Some("db.example".to_owned());
    connection.port = Some(5432);
    connection.login = Some("etl".to_owned());
    connection.password = Some(Secret::new("p@ss"));
    connection.schema = Some("main".to_owned());
    connection.extra = json!({ "sslmode": "require" }).as_object().cloned().unwrap();
    context.connections.insert("db".to_owned(), connection);
    context.triggering_asset_events.insert("wh/a".to_owned(), vec![json!({ "extra": { "rows": 3 } })]);
    context
}

fn runs() -> [Context; 3] {
    let midnight = "2026-11-05T00:00:00Z";
    let day = |day: u32| format!("2026-11-0{day}T00:00:00Z");
    [
        context(
            "interval",
            RunType::Scheduled,
            midnight,
            "scheduled__2026-11-05T00:00:00Z",
            Some([&day(4), &day(5)]),
        ),
        context(
            "trigger",
            RunType::Scheduled,
            midnight,
            "scheduled__2026-11-05T00:00:00Z",
            Some([&day(3), &day(4)]),
        ),
        context(
            "trigger",
            RunType::Manual,
            "2026-11-05T09:30:00Z",
            "manual__2026-11-05T09:30:00Z__abcdef",
            None,
        ),
    ]
}

/// What differs between the runs: expression, then what it prints in each.
const OF_RUNS: &[(&str, [&str; 3])] = &[
    ("ds", ["2026-11-05"; 3]),
    ("ds_nodash", ["20261105"; 3]),
    ("ts", ["2026-11-05T00:00:00+00:00", "2026-11-05T00:00:00+00:00", "2026-11-05T09:30:00+00:00"]),
    ("ts_nodash", ["20261105T000000", "20261105T000000", "20261105T093000"]),
    ("ts_nodash_with_tz", ["20261105T000000+0000", "20261105T000000+0000", "20261105T093000+0000"]),
    ("logical_date", ["2026-11-05T00:00:00+00:00", "2026-11-05T00:00:00+00:00", "2026-11-05T09:30:00+00:00"]),
    (
        "data_interval_start",
        ["2026-11-05T00:00:00+00:00", "2026-11-04T00:00:00+00:00", "2026-11-04T00:00:00+00:00"],
    ),
    (
        "data_interval_end",
        ["2026-11-06T00:00:00+00:00", "2026-11-05T00:00:00+00:00", "2026-11-05T00:00:00+00:00"],
    ),
    ("prev_data_interval_start_success", ["2026-11-04T00:00:00+00:00", "2026-11-03T00:00:00+00:00", "null"]),
    ("prev_data_interval_end_success", ["2026-11-05T00:00:00+00:00", "2026-11-04T00:00:00+00:00", "null"]),
    (
        "run_id",
        [
            "scheduled__2026-11-05T00:00:00Z",
            "scheduled__2026-11-05T00:00:00Z",
            "manual__2026-11-05T09:30:00Z__abcdef",
        ],
    ),
    ("params.size", ["small", "small", "large"]),
    ("params.rows", ["10"; 3]),
    ("dag.dag_id", ["daily"; 3]),
    ("dag.description", ["about"; 3]),
    ("dag.owner", ["ann"; 3]),
    ("dag.tags", [r#"["ml"]"#; 3]),
    (
        "dag_run.run_id",
        [
            "scheduled__2026-11-05T00:00:00Z",
            "scheduled__2026-11-05T00:00:00Z",
            "manual__2026-11-05T09:30:00Z__abcdef",
        ],
    ),
    ("dag_run.run_type", ["scheduled", "scheduled", "manual"]),
    (
        "dag_run.logical_date | ts",
        ["2026-11-05T00:00:00+00:00", "2026-11-05T00:00:00+00:00", "2026-11-05T09:30:00+00:00"],
    ),
    ("dag_run.data_interval_start | ds", ["2026-11-05", "2026-11-04", "2026-11-04"]),
    ("dag_run.data_interval_end | ds", ["2026-11-06", "2026-11-05", "2026-11-05"]),
    ("dag_run.conf", ["{}", "{}", r#"{"size":"large"}"#]),
    ("task.task_id", ["train"; 3]),
    ("ti.dag_id", ["daily"; 3]),
    ("ti.run_id == run_id", ["true"; 3]),
    ("ti.task_id", ["train"; 3]),
    ("ti.try_number", ["2"; 3]),
    ("ti.map_index", ["1"; 3]),
    ("try_number", ["2"; 3]),
    ("map_index", ["1"; 3]),
    ("map.value.file", ["b.csv"; 3]),
    ("map.index", ["1"; 3]),
    ("outputs.load.rows", ["3"; 3]),
    ("var.region", ["eu"; 3]),
    ("var.value.region", ["eu"; 3]),
    ("var.json.limits.cpu", ["4"; 3]),
    ("conn.db.id", ["db"; 3]),
    ("conn.db.conn_id", ["db"; 3]),
    ("conn.db.kind", ["postgres"; 3]),
    ("conn.db.conn_type", ["postgres"; 3]),
    ("conn.db.description", ["warehouse"; 3]),
    ("conn.db.host", ["db.example"; 3]),
    ("conn.db.port", ["5432"; 3]),
    ("conn.db.login", ["etl"; 3]),
    ("conn.db.password", ["p@ss"; 3]),
    ("conn.db.schema", ["main"; 3]),
    ("conn.db.extra.sslmode", ["require"; 3]),
    ("conn.db.extra_dejson.sslmode", ["require"; 3]),
    ("conn.db.uri", ["postgres://etl:p%40ss@db.example:5432/main?sslmode=require"; 3]),
    ("triggering_asset_events['wh/a'][0].extra.rows", ["3"; 3]),
    ("macros.ds_add(ds, -5)", ["2026-10-31"; 3]),
    ("macros.ds_format(ds, '%Y-%m-%d', '%d.%m.%y')", ["05.11.26"; 3]),
    ("ds_add(ds, 1)", ["2026-11-06"; 3]),
    ("ds_format(ds, '%Y-%m-%d', '%Y/%j')", ["2026/309"; 3]),
    ("logical_date.hour", ["0", "0", "9"]),
    ("logical_date.minute", ["0", "0", "30"]),
    ("logical_date.year", ["2026"; 3]),
    ("logical_date.month", ["11"; 3]),
    ("logical_date.day", ["5"; 3]),
    ("logical_date.second", ["0"; 3]),
    ("logical_date.microsecond", ["0"; 3]),
    (
        "data_interval_end.isoformat()",
        ["2026-11-06T00:00:00+00:00", "2026-11-05T00:00:00+00:00", "2026-11-05T00:00:00+00:00"],
    ),
    ("data_interval_end.date()", ["2026-11-06", "2026-11-05", "2026-11-05"]),
    ("data_interval_end.timestamp()", ["1793923200", "1793836800", "1793836800"]),
    ("data_interval_end.weekday()", ["4", "3", "3"]),
    ("data_interval_end.isoweekday()", ["5", "4", "4"]),
    ("data_interval_end.strftime('%Y/%m/%d')", ["2026/11/06", "2026/11/05", "2026/11/05"]),
    (
        "logical_date.in_timezone('Europe/Vienna')",
        ["2026-11-05T01:00:00+01:00", "2026-11-05T01:00:00+01:00", "2026-11-05T10:30:00+01:00"],
    ),
    (
        "logical_date.add(days=1, hours=2)",
        ["2026-11-06T02:00:00+00:00", "2026-11-06T02:00:00+00:00", "2026-11-06T11:30:00+00:00"],
    ),
    ("logical_date.subtract(weeks=1) | ds", ["2026-10-29"; 3]),
    ("data_interval_end | ds", ["2026-11-06", "2026-11-05", "2026-11-05"]),
    ("data_interval_end | ds_nodash", ["20261106", "20261105", "20261105"]),
    (
        "data_interval_end | ts",
        ["2026-11-06T00:00:00+00:00", "2026-11-05T00:00:00+00:00", "2026-11-05T00:00:00+00:00"],
    ),
    ("data_interval_end | ts_nodash", ["20261106T000000", "20261105T000000", "20261105T000000"]),
    (
        "data_interval_end | ts_nodash_with_tz",
        ["20261106T000000+0000", "20261105T000000+0000", "20261105T000000+0000"],
    ),
];

/// Filters, tests and functions that know nothing of runs.
const OF_VALUES: &[(&str, &str)] = &[
    ("-3 | abs", "3"),
    ("{'a': 1} | attr('a')", "1"),
    ("[1, 2, 3] | batch(2) | list", "[[1,2],[3]]"),
    ("'x' | bool", "true"),
    ("'abc' | capitalize", "Abc"),
    ("[1] | chain([2]) | list", "[1,2]"),
    ("[1, 2] | count", "2"),
    ("params.nope | d('x')", "x"),
    ("params.nope | default('x')", "x"),
    ("{'b': 1, 'a': 2} | dictsort", r#"[["a",2],["b",1]]"#),
    ("'abc' | first", "a"),
    ("'1.5' | float", "1.5"),
    ("'%s-%s' | format(1, 2)", "1-2"),
    ("[{'k': 1}, {'k': 1}] | groupby('k') | length", "1"),
    ("'a\nb' | indent(2)", "a\n  b"),
    ("'7' | int", "7"),
    ("{'a': 1} | items | list", r#"[["a",1]]"#),
    ("['a', 'b'] | join('-')", "a-b"),
    ("'abc' | last", "c"),
    ("'abc' | length", "3"),
    ("'a\nb' | lines", r#"["a","b"]"#),
    ("'ab' | list", r#"["a","b"]"#),
    ("'AB' | lower", "ab"),
    ("['a'] | map('upper') | list", r#"["A"]"#),
    ("[1, 3, 2] | max", "3"),
    ("[3, 1, 2] | min", "1"),
    ("1 | pprint", "1"),
    ("[1, 2] | reject('odd') | list", "[2]"),
    ("[{'a': true}, {'a': false}] | rejectattr('a') | list", r#"[{"a":false}]"#),
    ("'a-b' | replace('-', '+')", "a+b"),
    ("'abc' | reverse", "cba"),
    ("1.6 | round | int", "2"),
    ("[1, 2] | select('odd') | list", "[1]"),
    ("[{'a': true}, {'a': false}] | selectattr('a') | list", r#"[{"a":true}]"#),
    ("[1, 2, 3] | slice(2) | list", "[[1,2],[3]]"),
    ("[2, 1] | sort", "[1,2]"),
    ("'a,b' | split(',') | list", r#"["a","b"]"#),
    ("(1 | string) ~ 'x'", "1x"),
    ("[1, 2] | sum", "3"),
    ("'a b' | title", "A B"),
    ("{'a': '<'} | tojson", r#"{"a":"<"}"#),
    ("' a ' | trim", "a"),
    ("[1, 1, 2] | unique | list", "[1,2]"),
    ("'ab' | upper", "AB"),
    ("[1] | zip([2]) | list", "[[1,2]]"),
    ("true is boolean", "true"),
    ("ds is defined", "true"),
    ("4 is divisibleby(2)", "true"),
    ("'ab' is endingwith('b')", "true"),
    ("1 is eq(1)", "true"),
    ("1 is equalto(1)", "true"),
    ("2 is even", "true"),
    ("false is false", "true"),
    ("'upper' is filter", "true"),
    ("1.5 is float", "true"),
    ("2 is ge(1)", "true"),
    ("2 is greaterthan(1)", "true"),
    ("2 is gt(1)", "true"),
    ("1 is in([1])", "true"),
    ("1 is int", "true"),
    ("1 is integer", "true"),
    ("[1] is iterable", "true"),
    ("1 is le(1)", "true"),
    ("1 is lessthan(2)", "true"),
    ("'a' is lower", "true"),
    ("1 is lt(2)", "true"),
    ("{} is mapping", "true"),
    ("1 is ne(2)", "true"),
    ("none is none", "true"),
    ("1 is number", "true"),
    ("1 is odd", "true"),
    ("none is sameas(none)", "true"),
    ("[] is sequence", "true"),
    ("'ab' is startingwith('a')", "true"),
    ("'a' is string", "true"),
    ("'odd' is test", "true"),
    ("true is true", "true"),
    ("params.nope is undefined", "true"),
    ("'A' is upper", "true"),
    ("range(3) | list", "[0,1,2]"),
    ("dict(a=1)", r#"{"a":1}"#),
    ("namespace(a=1).a", "1"),
];

#[test]
fn every_name_filter_and_macro_prints_what_it_should_in_each_kind_of_run() {
    let runs = runs();
    let (mut rendered, mut wrong) = (0, Vec::new());
    let mut check = |expression: &str, context: &Context, expected: &str| {
        let found = render_text(&format!("{{{{ {expression} }}}}"), context);
        if found.as_deref() != Ok(expected) {
            wrong.push(format!("{expression}: {found:?}, not {expected:?}"));
        }
        rendered += 1;
    };
    for (expression, expected) in OF_RUNS {
        for (context, expected) in runs.iter().zip(expected) {
            check(expression, context, expected);
        }
    }
    for (expression, expected) in OF_VALUES {
        check(expression, &runs[0], expected);
    }
    assert_eq!(wrong, Vec::<String>::new());
    println!("{{\"rows\": {}, \"rendered\": {rendered}}}", OF_RUNS.len() + OF_VALUES.len());
}

#[test]
fn the_tables_leave_nothing_out() {
    let all: Vec<&str> = OF_RUNS.iter().map(|row| row.0).chain(OF_VALUES.iter().map(|row| row.0)).collect();
    let has = |part: &str| {
        all.iter().any(|row| {
            *row == part
                || row.starts_with(&format!("{part}."))
                || row.starts_with(&format!("{part}("))
                || row.starts_with(&format!("{part} "))
                || row.starts_with(&format!("{part}["))
        })
    };
    let mut wanted = 0;
    let mut missing = Vec::new();
    for (name, shape, _) in NAMES {
        let fields: Vec<String> = match shape {
            Shape::Fields(fields) => fields.iter().map(|(field, _)| format!("{name}.{field}")).collect(),
            _ => vec![(*name).to_owned()],
        };
        wanted += fields.len();
        missing.extend(fields.into_iter().filter(|field| !has(field)));
    }
    for member in instant::ATTRIBUTES.iter().chain(instant::METHODS) {
        wanted += 1;
        if !all.iter().any(|row| row.contains(&format!(".{member}"))) {
            missing.push(format!("datetime.{member}"));
        }
    }
    let page = include_str!("../../../docs/templates.md");
    let words = |from: &str, to: &str| -> Vec<&str> {
        let part = page.split(from).nth(1).and_then(|rest| rest.split(to).next()).unwrap();
        part.split('`').skip(1).step_by(2).collect()
    };
    let of_dates = ["ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz"];
    for filter in words("\nFilters: ", ", and the date filters").into_iter().chain(of_dates) {
        wanted += 1;
        let is_row = |row: &&str| {
            row.split(" | ").skip(1).any(|part| part.split(['(', ')', ' ']).next() == Some(filter))
        };
        if !all.iter().any(is_row) {
            missing.push(format!("filter {filter}"));
        }
    }
    for test in words("\nTests: ", "\n\n") {
        wanted += 1;
        if !all
            .iter()
            .any(|row| row.split(" is ").nth(1).is_some_and(|part| part.split('(').next() == Some(test)))
        {
            missing.push(format!("test {test}"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    println!("{{\"vocabulary\": {wanted}}}");
}
