//! Damaged files: whatever the text is, reading it ends, and what comes of it is accepted by the engine or dropped.

use tidemill_engine::definition::load;

use super::import;
use crate::import::{accept::accept, write::Scripts};

const SHAPES: &[&str] = &[
    include_str!("../../../tests/import/continuous_training.py"),
    include_str!("../../../tests/import/bash_chain.py"),
    include_str!("../../../tests/import/assets.py"),
    include_str!("../../../tests/import/taskflow.py"),
    include_str!("../../../tests/import/taskflow_branch.py"),
    include_str!("../../../tests/import/task_groups.py"),
    include_str!("../../../tests/import/sensors.py"),
    include_str!("../../../tests/import/loops.py"),
    include_str!("../../../tests/import/several_dags.py"),
    include_str!("../../../tests/import/settings.py"),
    include_str!("../../../tests/import/unsupported.py"),
    include_str!("../../../tests/import/old_airflow.py"),
];

/// Pieces that are put in where they do not belong.
const PIECES: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "'''",
    ",",
    "=",
    ">>",
    "<<",
    "**",
    "*",
    ":",
    "\n",
    "\n    ",
    "None",
    "-1",
    "9223372036854775807",
    "1e400",
    "'ä{{ ds }}'",
    "'{% if %}'",
    "f'{x!r:>{y}}'",
    "lambda: 0",
    "dag",
    "[]",
    "{}",
    "\\",
    "\0",
    "ß",
    ".expand(x=1)",
    "\"\"\"",
    "yield",
    "await x",
    "{{ ti.xcom_pull('",
    "*[a, b]",
    "for x in x",
    "0.1",
];

/// A small generator, so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }

    fn place(&mut self, text: &str) -> usize {
        let mut at = self.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

fn damage(text: &mut String, random: &mut Random) {
    let (a, b) = (random.place(text), random.place(text));
    let range = a.min(b)..a.max(b).min(a.min(b) + 60);
    let range = if text.is_char_boundary(range.end) { range } else { a.min(b)..a.min(b) };
    match random.below(10) {
        0 => text.replace_range(range, ""),
        1 => {
            let copy = text[range].to_owned();
            let at = random.place(text);
            text.insert_str(at, &copy);
        }
        2 => text.insert_str(a, PIECES[random.below(PIECES.len())]),
        3..8 => {
            // A word in place of another.
            let words: Vec<String> = text
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect();
            let (from, to) = (random.below(words.len()), random.below(words.len()));
            if let (Some(from), Some(to)) = (words.get(from), words.get(to)) {
                *text = text.replacen(from.as_str(), to, 1 + random.below(3));
            }
        }
        _ => {
            let mut lines: Vec<&str> = text.split('\n').collect();
            let (from, to) = (random.below(lines.len()), random.below(lines.len()));
            lines.swap(from, to);
            *text = lines.join("\n");
        }
    }
}

#[test]
fn damaged_files_never_panic_and_never_give_a_file_that_is_refused() {
    let (mut read, mut refused, mut dags, mut tasks) = (0, 0, 0, 0);
    for seed in 0..5_000_u64 {
        let mut random = Random(seed);
        let mut text = SHAPES[random.below(SHAPES.len())].to_owned();
        for _ in 0..=random.below(3) {
            damage(&mut text, &mut random);
        }
        match import(&text, "damaged.py") {
            Err(_) => refused += 1,
            Ok(mut imported) => {
                read += 1;
                let scripts = if seed % 2 == 0 { Scripts::Beside } else { Scripts::Inside };
                for (file, dag) in accept(&mut imported, scripts).iter().zip(&imported.dags) {
                    assert!(!load(file.text.as_bytes(), "x").has_errors(), "seed {seed}");
                    dags += 1;
                    tasks += dag.tasks.len();
                }
            }
        }
    }
    println!("{{\"read\": {read}, \"refused\": {refused}, \"dags\": {dags}, \"tasks\": {tasks}}}");
    assert!(read > 1_000 && refused > 1_000 && dags > 1_000, "{read} {refused} {dags}");
}

#[test]
fn deep_nesting_is_refused_or_followed_and_never_ends_the_process() {
    for text in [
        format!("x = {}1", "(".repeat(90)),
        format!("x = {}1{}", "[".repeat(99), "]".repeat(99)),
        format!("x = {}1", "-".repeat(4_900)),
        format!("x = {}", vec!["a"; 2_400].join("+")),
        format!("x = {}1", "lambda: ".repeat(2_000)),
        format!("x = a{}", ".b".repeat(2_400)),
        format!("x = a{}", "()".repeat(4_000)),
        (0..99).map(|level| format!("{}if x:\n", " ".repeat(level))).collect::<String>()
            + &" ".repeat(99)
            + "pass\n",
        "def f():\n    return f()\nf()\n".to_owned(),
        "x = [0]\nfor i in range(10000):\n    for j in range(10000):\n        x = x + x\n".to_owned(),
        "def f(x):\n    return [f(x), f(x), f(x)]\nf(1)\n".to_owned(),
    ] {
        let _ = import(&text, "deep.py");
    }
}
