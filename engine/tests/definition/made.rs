//! Files that are made by code: too large, too deep, too many, odd but valid, and arbitrary.

use std::{fmt::Write as _, time::Instant};

use proptest::prelude::*;
use tidemill_engine::definition::{Command, Loaded, MAX_BYTES, Operator, SHOWN, Schedule, load};

const EVERYTHING: &str = include_str!("../good_files/everything.toml");
const ODD: &str = include_str!("../good_files/odd.toml");

fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded.problems.iter().map(|problem| problem.code.as_str()).collect()
}

fn tasks(count: usize, upstream: impl Fn(usize) -> Vec<usize>) -> String {
    let mut text = "[dag]\nid = \"big\"\n".to_owned();
    for index in 0..count {
        let up: Vec<String> = upstream(index).iter().map(|index| format!("\"t{index}\"")).collect();
        let up = up.join(", ");
        writeln!(text, "[[task]]\nid = \"t{index}\"\ncommand = \"true\"\ndepends_on = [{up}]").unwrap();
    }
    text
}

#[test]
fn groups_that_stand_for_too_many_dependencies_are_refused_by_name() {
    let group = |name: &str, count: usize| {
        (0..count)
            .map(|index| {
                format!("[[task]]\nid = \"{name}{index}\"\noperator = \"noop\"\ngroup = \"{name}\"\n")
            })
            .collect::<String>()
    };
    let file = |count| {
        let link = "[[group]]\nid = \"b\"\ndepends_on = \"group:a\"\n";
        format!("[dag]\nid = \"x\"\n{}{}{link}", group("a", count), group("b", count))
    };
    assert_eq!(codes(&load(file(500).as_bytes(), "x.toml")), ["DAG0011"]);
    let loaded = load(file(400).as_bytes(), "x.toml");
    assert_eq!(loaded.problems, []);
    let edges: usize = loaded.dag.unwrap().tasks.iter().map(|task| task.depends_on.len()).sum();
    assert_eq!(edges, 160_000);
}

#[test]
fn bytes_that_are_not_utf8_have_a_place() {
    let loaded = load(b"[dag]\nid = \"\xc3\xa4\xff\"\n", "x.toml");
    assert_eq!(codes(&loaded), ["DAG0001"]);
    let span = &loaded.problems[0].spans[0];
    assert_eq!((span.line, span.col, span.bytes.start), (2, 8, 14));
    let utf16 = load(b"\xff\xfe[\0d\0", "x.toml");
    assert_eq!(codes(&utf16), ["DAG0001"]);
    assert!(utf16.problems[0].help.as_deref().unwrap().contains("UTF-16"));
}

#[test]
fn a_file_over_one_mebibyte_is_not_read() {
    assert_eq!(codes(&load(&vec![b'#'; MAX_BYTES + 1], "x.toml")), ["DAG0002"]);
}

#[test]
fn keys_and_brackets_without_end_cost_little_and_end_nothing() {
    for text in [
        "a.".repeat(100_000) + "b = 1",
        format!("[{}b]", "a.".repeat(100_000)),
        "a = ".to_owned() + &"[".repeat(500_000),
        "a = ".to_owned() + &"{a = ".repeat(100_000),
        "[[a]]\n".repeat(100_000),
        "a = \"".to_owned() + &"\\".repeat(500_000),
    ] {
        let start = Instant::now();
        let loaded = load(text.as_bytes(), "x.toml");
        assert!(loaded.dag.is_none());
        assert!(start.elapsed().as_secs() < 30, "{:?} for {}", start.elapsed(), &text[..20]);
    }
}

#[test]
fn ten_thousand_tasks_load_and_one_more_is_refused() {
    let text = tasks(10_000, |index| {
        if index == 0 { vec![] } else { vec![index - 1, index / 2] }.into_iter().fold(
            vec![],
            |mut all, one| {
                if !all.contains(&one) && one != index {
                    all.push(one);
                }
                all
            },
        )
    });
    let start = Instant::now();
    let loaded = load(text.as_bytes(), "x.toml");
    println!("10 000 tasks in {:?} ({} bytes, debug build)", start.elapsed(), text.len());
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.dag.unwrap().tasks.len(), 10_000);
    let text = tasks(10_001, |_| vec![]).replace("depends_on = []\n", "");
    let refused = load(text.as_bytes(), "x.toml");
    assert_eq!(codes(&refused), ["DAG0009"]);
    assert_eq!(refused.problems[0].spans[0].line, 2 + 10_000 * 3 + 1);
}

#[test]
fn forty_layers_of_diamonds_load() {
    // Every layer doubles the number of paths: 2^40 of them, which nothing may walk one by one.
    let text = tasks(120, |index| match index % 3 {
        0 if index == 0 => vec![],
        0 => vec![index - 1, index - 2],
        1 => vec![index - 1],
        _ => vec![index - 2],
    });
    let loaded = load(text.as_bytes(), "x.toml");
    assert_eq!(loaded.problems, []);
    let branching =
        text.replacen("command = \"true\"", "operator = \"branch\"\nbranches = \"{{ run_id }}\"", 1);
    assert_eq!(codes(&load(branching.as_bytes(), "x.toml")), ["DAG0501"]);
}

#[test]
fn a_long_circle_is_named_once() {
    let text = tasks(3000, |index| vec![(index + 1) % 3000]);
    let loaded = load(text.as_bytes(), "x.toml");
    assert_eq!(codes(&loaded), ["DAG0405"]);
    assert!(loaded.problems[0].spans.len() <= 12 && loaded.problems[0].message.len() < 400);
}

#[test]
fn at_most_twenty_problems_are_shown_and_the_rest_counted() {
    let mut text = "[dag]\nid = \"x\"\n[[task]]\nid = \"a\"\ncommand = \"true\"\n".to_owned();
    for index in 0..30 {
        writeln!(text, "nonsense_{index} = 1").unwrap();
    }
    let loaded = load(text.as_bytes(), "x.toml");
    assert_eq!(loaded.problems.len(), SHOWN + 1);
    let last = loaded.problems.last().unwrap();
    assert_eq!((last.code.as_str(), last.message.as_str()), ("DAG0010", "10 more problems are not shown"));
}

#[test]
fn odd_but_valid_files_load() {
    let crlf = format!("\u{feff}{}", ODD.replace('\n', "\r\n"));
    for text in [ODD.to_owned(), crlf] {
        let loaded = load(text.as_bytes(), "odd.toml");
        assert_eq!(loaded.problems, []);
        let dag = loaded.dag.unwrap();
        assert_eq!(dag.schedule, Schedule::Cron(vec!["0 6 * * MON-FRI".into(), "30 7 * * SAT".into()]));
        assert_eq!(dag.tags, ["größe", "漢字"]);
        assert_eq!(dag.start_date.unwrap().to_rfc3339(), "2026-01-01T05:00:00+00:00");
        assert_eq!(dag.tasks[0].env["GREETING"], "Grüß Gott ☺");
        assert_eq!(dag.tasks[1].timeout.unwrap().as_secs(), 90);
        let Operator::Command { command: Command::Exec(words) } = &dag.tasks[1].operator else { panic!() };
        assert_eq!(words[2], "a \"quoted\" {{ params.n }}");
    }
}

#[test]
fn places_behind_a_byte_order_mark_and_crlf_are_the_same() {
    let text = "[dag]\nid = \"x\"\n[[task]]\nid = \"a\"\ncommand = \"true\"\nretrise = 1\n";
    let plain = load(text.as_bytes(), "x.toml");
    let other = load(format!("\u{feff}{}", text.replace('\n', "\r\n")).as_bytes(), "x.toml");
    let place = |loaded: &Loaded| {
        loaded
            .problems
            .iter()
            .map(|p| (p.spans[0].line, p.spans[0].col, p.spans[0].end_col))
            .collect::<Vec<_>>()
    };
    assert_eq!(place(&plain), [(6, 1, 7)]);
    assert_eq!(place(&plain), place(&other));
    assert_eq!(other.problems[0].spans[0].bytes.start, plain.problems[0].spans[0].bytes.start + 3 + 5);
}

#[test]
fn a_problem_has_the_shape_of_the_contract() {
    let loaded = load(
        b"[dag]\nid = \"x\"\nshedule = \"@daily\"\n[[task]]\nid = \"a\"\ncommand = \"true\"\n",
        "x.toml",
    );
    assert_eq!(
        serde_json::to_value(&loaded.problems).unwrap(),
        serde_json::json!([{
            "code": "DAG0101", "severity": "error", "message": "unknown key `shedule` in `[dag]`",
            "help": "did you mean `schedule`?", "suggestion": "schedule",
            "spans": [{ "line": 3, "col": 1, "end_line": 3, "end_col": 7, "label": "" }],
        }])
    );
}

fn consistent(bytes: &[u8]) {
    let loaded = load(bytes, "x.toml");
    assert_eq!(loaded.dag.is_some(), !loaded.has_errors());
    assert!(loaded.problems.len() <= SHOWN + 1);
    for span in loaded.problems.iter().flat_map(|problem| &problem.spans) {
        assert!(span.bytes.end <= bytes.len().max(3) && span.bytes.start <= span.bytes.end);
        assert!(span.line >= 1 && span.col >= 1 && (span.end_line, span.end_col) >= (span.line, span.col));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        consistent(&bytes);
    }

    #[test]
    fn arbitrary_toml_like_text_never_panics(text in "(\\[{1,2}(dag|task|params\\.p)\\]{1,2}\n|(id|depends_on|schedule|env|retries|branches|default|numeric) ?= ?(\"[a{%}' ]{0,8}\"|\\[[a,\" ]{0,6}\\]|\\{[a=, 1]{0,8}\\}|-?[0-9]{1,20}|2026-0[0-9]-3[0-9])\n){0,20}") {
        consistent(text.as_bytes());
    }

    #[test]
    fn damaged_files_never_panic(from in 0..EVERYTHING.len(), length in 0usize..40, with in "[\\x00-\\x7f\u{e4}]{0,6}") {
        let mut bytes = EVERYTHING.as_bytes().to_vec();
        let to = (from + length).min(bytes.len());
        bytes.splice(from..to, with.into_bytes());
        consistent(&bytes);
    }
}
