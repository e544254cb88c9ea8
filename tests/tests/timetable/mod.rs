//! The timetable against an independent implementation: Python's `croniter` on zoneinfo (`reference.py`).
//!
//! Three answers are compared for every triple of expression, zone and instant: the product's; the documented rules,
//! put on top of croniter's matching of local times; and croniter's own for a time with a zone. The first two must be
//! equal. Where the third differs, the difference must be one of these:
//!
//! - `gap`: a fixed time that a spring gap swallowed fires at the end of the gap; croniter comes out elsewhere.
//! - `second_pass`: a fixed time fires in the first pass of an overlap only. croniter takes an hour field that names
//!   every hour (`0-23`) for `*`, and lets a schedule with seconds fire in both passes.

mod zones;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Child, Command, Stdio},
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use tidemill_engine::{
    definition::{Schedule, TimetableKind},
    timetable::Timetable,
};

use self::zones::Changes;
use crate::e2e::python::python;

/// At least so many triples, and so many for each zone whose clock changes at midnight.
const WANTED: usize = 100_000;
const WANTED_AT_MIDNIGHT: usize = 200;

/// Instants lie between 1990 and 2037, where the data of both sides are the same.
const FIRST: i64 = 631_152_000;
const LAST: i64 = 2_114_380_800;
const DAY: i64 = 86_400;

/// Random numbers that are the same on every run (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from + 1).unwrap())).unwrap()
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// A field: a literal `*` in so many of a hundred, else one to three numbers, names, ranges and steps.
fn field(random: &mut Random, (low, high): (i64, i64), stars: u64, names: &[&str]) -> String {
    if random.is(stars) {
        return "*".to_owned();
    }
    let count = *random.pick(&[1, 1, 1, 2, 3]);
    let parts: Vec<String> = (0..count)
        .map(|_| {
            let from = random.between(low, high);
            // croniter reads `5-5` as the whole field, so a range has two ends.
            let to = random.between((from + 1).min(high), high);
            let name = |value: i64| usize::try_from(value - low).ok().and_then(|at| names.get(at));
            match (random.below(100), name(from)) {
                (0..10, Some(name)) => (*name).to_owned(),
                (0..50, _) => from.to_string(),
                _ if from == to => from.to_string(),
                (50..75, _) => format!("{from}-{to}"),
                (75..90, _) => format!("{from}-{to}/{}", random.between(1, 5)),
                // croniter overlooks a day field that is restricted to every day when the other one has a `*/2`.
                _ if matches!(high, 7 | 31) => {
                    format!("{low}-{}/{}", if high == 7 { 6 } else { high }, random.between(2, 5))
                }
                _ => format!("*/{}", random.between(2, (high / 2).max(2))),
            }
        })
        .collect();
    parts.join(",")
}

fn expression(random: &mut Random) -> String {
    const MONTHS: [&str; 12] =
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
    const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let mut fields = vec![
        field(random, (0, 59), 10, &[]),
        field(random, (0, 23), 30, &[]),
        field(random, (1, 31), 60, &[]),
        field(random, (1, 12), 70, &MONTHS),
        field(random, (0, 7), 60, &DAYS),
    ];
    if random.is(10) {
        fields.insert(0, field(random, (0, 59), 20, &[]));
    }
    fields.join(" ")
}

/// One question: when does the union of some expressions fire next, in a zone, after an instant?
struct Case {
    expressions: Vec<String>,
    zone: Tz,
    after: i64,
    next: i64,
}

fn timetable(expressions: &[String], zone: Tz) -> Option<Timetable> {
    let schedule = Schedule::Cron(expressions.to_vec());
    Timetable::compile(&schedule, TimetableKind::Trigger, zone, None, None).ok()
}

/// Five instants for one schedule in one zone, four of them from a day before to three days after a change,
/// and the firing after each of these.
fn ask(random: &mut Random, zone: Tz, changes: &[i64], cases: &mut Vec<Case>) {
    let count = if random.is(10) { 2 } else { 1 };
    let expressions: Vec<String> = (0..count).map(|_| expression(random)).collect();
    // Some combinations never fire (31 February); they are refused, which other tests look at.
    let Some(timetable) = timetable(&expressions, zone) else { return };
    for index in 0..5 {
        let after = if changes.is_empty() || index == 4 {
            random.between(FIRST, LAST)
        } else {
            random.pick(changes) + random.between(-DAY, 3 * DAY)
        };
        let from = DateTime::<Utc>::from_timestamp(after + 1, 0).unwrap();
        let mut after = after;
        for slot in timetable.from_logical_date(from).take(2) {
            let next = slot.run_after.timestamp();
            // Both sides search about fifty years ahead; a date beyond (29 February on a Monday) says nothing.
            if next - after < 30 * 366 * DAY {
                cases.push(Case { expressions: expressions.clone(), zone, after, next });
            }
            after = next;
        }
    }
}

fn cases() -> (Vec<Case>, BTreeMap<&'static str, usize>) {
    let mut random = Random(20_261_101);
    let mut cases = Vec::new();
    let zones: Vec<(Tz, Changes)> =
        chrono_tz::TZ_VARIANTS.iter().map(|zone| (*zone, Changes::of(*zone, FIRST, LAST))).collect();
    let mut at_midnight = BTreeMap::new();
    for (zone, changes) in zones.iter().filter(|(_, changes)| !changes.at_midnight.is_empty()) {
        let before = cases.len();
        while cases.len() - before < WANTED_AT_MIDNIGHT * 5 / 4 {
            ask(&mut random, *zone, &changes.at_midnight, &mut cases);
        }
        at_midnight.insert(zone.name(), cases.len() - before);
    }
    let lord_howe = zones.iter().find(|(zone, _)| *zone == Tz::Australia__Lord_Howe).unwrap();
    while cases.len() < WANTED {
        let (zone, changes) = if random.is(2) { lord_howe } else { random.pick(&zones) };
        ask(&mut random, *zone, &changes.all, &mut cases);
    }
    (cases, at_midnight)
}

fn start_reference(folder: &std::path::Path, name: &str, cases: &[Case]) -> Child {
    let path = folder.join(name);
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    for case in cases {
        writeln!(file, "{}\t{}\t{}", case.expressions.join("|"), case.zone.name(), case.after).unwrap();
    }
    file.flush().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/timetable/reference.py");
    // Not the system's data of time zones, but those that are installed beside it.
    Command::new(python())
        .arg(script)
        .env("PYTHONTZPATH", "")
        .stdin(std::fs::File::open(path).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn firings_equal_those_of_croniter() {
    let folder = tempfile::tempdir().unwrap();
    let (cases, at_midnight) = cases();
    let (left, right) = cases.split_at(cases.len() / 2);
    let other = start_reference(folder.path(), "left", left);
    let one = start_reference(folder.path(), "right", right);
    let reader = std::thread::spawn(move || other.wait_with_output().unwrap());
    let last = one.wait_with_output().unwrap();
    let first = reader.join().unwrap();
    assert!(first.status.success() && last.status.success(), "the reference failed");
    let answers = [first.stdout, last.stdout].map(|bytes| String::from_utf8(bytes).unwrap());
    let lines: Vec<&str> = answers.iter().flat_map(|text| text.lines()).collect();
    assert_eq!(lines.len(), cases.len());

    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, line) in cases.iter().zip(lines) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [model, direct, rule] = fields.as_slice() else { panic!("{line}") };
        *rules.entry(rule).or_default() += 1;
        let is_same = model.parse() == Ok(case.next);
        if !is_same || *rule == "unexplained" {
            let (schedule, zone) = (case.expressions.join(" | "), case.zone.name());
            wrong.push(format!(
                "{schedule} in {zone} after {}: {}, by the rules {model}, croniter {direct} ({rule})",
                case.after, case.next
            ));
        }
    }
    let zones: BTreeSet<&str> = cases.iter().map(|case| case.zone.name()).collect();
    println!(
        "{} triples in {} zones, {} of these change at midnight; croniter's own answers: {rules:?}; {} wrong",
        cases.len(),
        zones.len(),
        at_midnight.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n"));
    assert!(cases.len() >= WANTED && zones.len() == chrono_tz::TZ_VARIANTS.len());
    assert!(at_midnight.len() >= 30, "{at_midnight:?}");
    for name in ["America/Havana", "America/Asuncion", "Asia/Beirut", "Africa/Cairo", "America/Santiago"] {
        assert!(at_midnight.contains_key(name), "{name} changes at midnight");
    }
}
