//! The reading rules, the statuses and every error with its code.

use std::path::Path;

use tempfile::TempDir;
use tidemill_drift::{DriftError, DriftReport, DriftSpec, FeatureReport, MissingColumn, Options, compare};

use crate::common::write;

/// A reference and current data in a folder of their own.
struct Pair {
    folder: TempDir,
    spec: DriftSpec,
    options: Options,
}

impl Pair {
    fn new(reference: (&str, &str), current: (&str, &str)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), reference.0, reference.1);
        write(folder.path(), current.0, current.1);
        let spec = DriftSpec {
            reference: reference.0.to_owned(),
            current: current.0.to_owned(),
            min_samples: 0,
            ..DriftSpec::default()
        };
        let options = Options { base: folder.path().to_owned(), ..Options::default() };
        Self { folder, spec, options }
    }

    fn csv(reference: &str, current: &str) -> Self {
        Self::new(("r.csv", reference), ("c.csv", current))
    }

    fn lenient(mut self) -> Self {
        self.options.missing_column = MissingColumn::NoData;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut DriftSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    fn report(&self) -> DriftReport {
        compare(&self.spec, &self.options).unwrap_or_else(|e| panic!("{}: {e}", e.code()))
    }

    /// Returns the error; its code must have a page, and its help a full sentence.
    fn error(&self, code: &str) -> DriftError {
        let error = compare(&self.spec, &self.options).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.help().ends_with('.'), "{}", error.help());
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/errors/{code}.md"));
        assert!(page.exists(), "{}", page.display());
        error
    }
}

fn feature<'a>(report: &'a DriftReport, name: &str) -> &'a FeatureReport {
    report.features.iter().find(|f| f.name == name).unwrap()
}

#[test]
fn csv_kinds_come_from_the_reference_cells() {
    let report = Pair::csv(
        "n,text,gone,mixed,quoted\n1,a,NA,1,\"a,b\"\n 2.5 ,NA,,x,\"\"\nNaN,,None,2,a b \n",
        "mixed,n,text,gone,quoted\n7,1e3,b,inf,a\n7,-inf,a,what,\"a,b\"\n",
    )
    .report();
    let names: Vec<&str> = report.features.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["n", "text", "gone", "mixed", "quoted"]);
    let n = feature(&report, "n");
    assert_eq!(
        (n.kind.as_str(), n.n_reference, n.missing_reference, n.infinite_current),
        ("numeric", 2, 1, 1)
    );
    let text = feature(&report, "text");
    // `NA` is a category, only the empty cell is missing.
    assert_eq!((text.kind.as_str(), text.n_reference, text.missing_reference), ("categorical", 2, 1));
    let mixed = feature(&report, "mixed");
    assert_eq!((mixed.kind.as_str(), mixed.n_reference, mixed.n_current), ("categorical", 3, 2));
    let gone = feature(&report, "gone");
    assert_eq!((gone.status.as_str(), gone.n_reference, gone.missing_reference), ("no_reference", 0, 3));
    let quoted = feature(&report, "quoted").histogram.clone().unwrap();
    assert!(quoted.labels.contains(&"a b ".to_owned()) && quoted.labels.contains(&"a,b".to_owned()));
}

#[test]
fn kinds_are_forced_by_the_configuration() {
    let pair = Pair::csv("zip,x\n01,1\n1,2\n", "zip,x\n01,1\n01,1\n")
        .with(|s| s.categorical.columns = vec!["zip".into()]);
    let report = pair.report();
    let zip = feature(&report, "zip");
    assert_eq!(zip.histogram.as_ref().unwrap().labels, ["01", "1"]);
    let pair = Pair::csv("x\n1\nabc\n", "x\n1\n").with(|s| s.numeric.columns = vec!["x".into()]);
    let error = pair.error("DRF0205");
    assert!(error.to_string().contains("r.csv` line 3, column `x`: `abc`"), "{error}");
}

#[test]
fn json_lines_are_read_by_value() {
    let reference = r#"{"n": 1, "s": "1", "b": true, "late": 1, "mixed": 1}
{"n": null, "s": "2", "b": false, "mixed": "2"}

{"n": NaN, "s": "", "b": null, "extra": {"x": [1]}, "mixed": ""}
{"n": -Infinity, "s": "1"}
"#;
    let current = r#"{"n": 2.5, "s": "1", "b": true, "late": 2, "mixed": 3}"#;
    let pair =
        Pair::new(("r.jsonl", reference), ("c.ndjson", current)).with(|s| s.exclude = vec!["extra".into()]);
    let report = pair.report();
    let n = feature(&report, "n");
    assert_eq!(
        (n.kind.as_str(), n.n_reference, n.missing_reference, n.infinite_reference),
        ("numeric", 1, 2, 1)
    );
    let s = feature(&report, "s");
    assert_eq!((s.kind.as_str(), s.n_reference, s.missing_reference), ("categorical", 3, 1));
    assert_eq!(feature(&report, "b").histogram.as_ref().unwrap().labels, ["true", "false"]);
    assert_eq!(feature(&report, "late").missing_reference, 3);
    assert_eq!(feature(&report, "mixed").kind, "numeric");
    let pair = Pair::new(("r.jsonl", reference), ("c.ndjson", current));
    assert!(pair.lenient().error("DRF0204").to_string().contains("extra"));
}

#[test]
fn folders_are_read_in_order_and_nested() {
    let pair = Pair::new(("ref/day=2/b.csv", "x,y\n3,c\n"), ("cur/a.csv", "x,y\n1,a\n"));
    write(pair.folder.path(), "ref/day=1/a.csv", "y,x\na,1\nb,2\n");
    write(pair.folder.path(), "ref/_SUCCESS", "");
    write(pair.folder.path(), "ref/.hidden.csv", "broken");
    write(pair.folder.path(), "ref/README.md", "notes");
    let pair = pair.with(|s| {
        s.reference = "ref/".into();
        s.current = "cur".into();
    });
    let report = pair.report();
    assert_eq!(feature(&report, "y").rows_reference, 3);
    assert_eq!(feature(&report, "x").n_reference, 3);
    write(pair.folder.path(), "ref/z.jsonl", "{}");
    pair.error("DRF0104");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let rows = |shift: u32| {
        (0..200).map(|i| format!("{},{},{}\n", i * 7 % 50 + shift, i % 9, i % 3)).collect::<String>()
    };
    let pair = Pair::csv(&format!("a,b,c\n{}", rows(0)), &format!("a,b,c\n{}", rows(9)));
    let one = compare(&pair.spec, &Options { threads: 1, ..pair.options.clone() }).unwrap();
    let many = compare(&pair.spec, &Options { threads: 8, ..pair.options.clone() }).unwrap();
    assert_eq!(one, many);
}

#[test]
fn statuses_tell_why_a_feature_is_untested() {
    let many = |n: usize| format!("x,y\n{}", "1,\n2,5\n".repeat(n));
    let report = Pair::csv(&many(20), &many(10)).with(|s| s.min_samples = 20).report();
    assert_eq!(feature(&report, "x").status, "insufficient");
    assert!(report.share.is_none() && !report.drifted);
    // Strictly more than `min_samples`.
    let report = Pair::csv(&many(20), &many(10)).with(|s| s.min_samples = 19).report();
    assert_eq!(
        (feature(&report, "x").status.as_str(), feature(&report, "y").status.as_str()),
        ("ok", "insufficient")
    );
    let report = Pair::csv("x\n1\n", "x\n").report();
    assert_eq!((feature(&report, "x").status.as_str(), feature(&report, "x").rows_current), ("no_data", 0));
    assert!(feature(&report, "x").metrics.ks.is_none());
}

#[test]
fn a_vanished_column_fails_the_operator_and_is_no_data_on_the_command_line() {
    let pair = Pair::csv("x,y\n1,2\n2,3\n", "x\n1\n");
    assert!(pair.error("DRF0301").to_string().contains("column `y`"));
    let report = pair.lenient().report();
    let y = feature(&report, "y");
    assert_eq!((y.status.as_str(), y.missing_current, y.rows_current), ("no_data", 1, 1));
    // One part of several is enough for the operator.
    let pair = Pair::new(("r.csv", "x,y\n1,2\n"), ("c/1.csv", "x\n1\n")).with(|s| s.current = "c".into());
    write(pair.folder.path(), "c/0.csv", "x,y\n1,2\n");
    assert!(pair.error("DRF0301").to_string().contains("1.csv"));
}

/// 2^53 and 2^53 + 1 are one `f64`, but two identifiers.
#[test]
fn large_integers_stay_different_categories_in_json() {
    let pair = Pair::new(
        ("r.jsonl", "{\"id\": 9007199254740992}\n{\"id\": 9007199254740993}\n"),
        ("c.jsonl", "{\"id\": 9007199254740993}\n"),
    )
    .with(|s| s.categorical.columns = vec!["id".into()])
    .lenient();
    let report = pair.report();
    let evidence = serde_json::to_string(feature(&report, "id")).unwrap();
    assert!(evidence.contains("9007199254740992") && evidence.contains("9007199254740993"), "{evidence}");
}

#[test]
fn names_of_the_configuration_must_exist() {
    for change in [
        (|s: &mut DriftSpec| s.features = vec!["z".into()]) as fn(&mut DriftSpec),
        |s| s.numeric.columns = vec!["z".into()],
        |s| s.categorical.columns = vec!["z".into()],
        |s| s.rule.columns = vec!["z".into()],
    ] {
        let error = Pair::csv("x,y\n1,2\n", "x,y\n1,2\n").with(change).error("DRF0302");
        assert_eq!(error.help(), "the reference has: x, y.");
    }
    let pair =
        Pair::csv("x\n1\n", "x,z\n1,2\n").with(|s| s.features = vec!["x".into(), "z".into()]).lenient();
    assert_eq!(feature(&pair.report(), "z").status, "no_reference");
    Pair::csv("x\n1\n", "x\n1\n").with(|s| s.exclude = vec!["x".into()]).error("DRF0303");
}

#[test]
fn paths_that_lead_nowhere_have_codes() {
    let pair = || Pair::csv("x\n1\n", "x\n1\n");
    pair().with(|s| s.current = "  ".into()).error("DRF0101");
    pair().with(|s| s.reference = "absent.csv".into()).error("DRF0102");
    let empty = pair();
    std::fs::create_dir(empty.folder.path().join("empty")).unwrap();
    empty.with(|s| s.current = "empty".into()).error("DRF0103");
    Pair::new(("r.csv", "x\n1\n"), ("c.csv.gz", "x\n1\n")).error("DRF0104");
    Pair::csv("x\n1\n", "").error("DRF0105");
    Pair::new(("r.csv", "x\n1\n"), ("c.jsonl", "\n")).error("DRF0105");
    Pair::new(("r.csv", "x\n1\n"), ("c.parquet", "")).error("DRF0105");
}

#[test]
fn files_without_a_telling_name_are_recognised() {
    let report = Pair::new(("r", "{\"x\": 1}\n"), ("c", "x\n1\n")).report();
    assert_eq!(feature(&report, "x").status, "ok");
}

#[test]
fn broken_files_have_codes_and_places() {
    let bad = |current: &str| Pair::csv("x,y\n1,2\n", current);
    assert!(
        bad("x,y\n1,2\n3\n").error("DRF0201").to_string().contains("line 3: 1 cells where the header has 2")
    );
    bad("x,x,y\n1,2,3\n").error("DRF0201");
    let error = bad("x,y\n1,2\n\"3\n\",4\n5,six\n").error("DRF0205");
    assert!(error.to_string().contains("c.csv` line 5, column `y`: `six` is not a number"), "{error}");
    let json = |current: &str| Pair::new(("r.jsonl", "{\"x\": 1}\n"), ("c.jsonl", current));
    assert!(json("{\"x\": 1}\n{\"x\": 1\n").error("DRF0202").to_string().contains("line 2"));
    json("[1]\n").error("DRF0202");
    json("{\"x\": 1} 2\n").error("DRF0202");
    let error = json("{\"x\": 1}\n{\"x\": true}\n").error("DRF0205");
    assert!(error.to_string().contains("line 2, column `x`: `true`"), "{error}");
    json("{\"x\": [1]}\n").error("DRF0204");
    Pair::new(("r.csv", "x\n1\n"), ("c.parquet", "PAR1 no, it is not PAR1")).error("DRF0203");
    let pair = Pair::csv("x\na\n", "x\na\n");
    write(pair.folder.path(), "c.csv", b"x\n\xff\xfe\n");
    pair.error("DRF0204");
}
