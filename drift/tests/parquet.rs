//! Parquet files that pyarrow writes and that are refused, forced or damaged.

use std::{fs, path::Path, process::Command};

use tidemill_drift::{DriftError, DriftReport, DriftSpec, Options, compare};

use crate::common;

const SCRIPT: &str = r#"
import datetime, decimal, sys, pyarrow as pa, pyarrow.parquet as pq
folder = sys.argv[1]
when = [datetime.datetime(2026, 11, d + 1) for d in range(8)]
plain = {"x": [float(i) for i in range(8)], "zip": ["01", "1", "01", None, "", "7", "7", "é"],
         "n": ["1", " 2 ", "NA", "4", "inf", None, "7", "8"], "b": [True, False, None, True] * 2, "code": list(range(8))}
pq.write_table(pa.table(plain), f"{folder}/plain.parquet", row_group_size=3, compression="zstd")
pq.write_table(pa.table({**plain, "n": ["1", None, "x", "4"] * 2}), f"{folder}/words.parquet", row_group_size=5)
pq.write_table(pa.table({**plain, "when": when}), f"{folder}/int96.parquet", use_deprecated_int96_timestamps=True)
pq.write_table(pa.table({**plain, "list": [[i] for i in range(8)]}), f"{folder}/list.parquet")
pq.write_table(pa.table({**plain, "deep": [{"a": i} for i in range(8)]}), f"{folder}/deep.parquet")
pq.write_table(pa.table({**plain, "raw": pa.array([b"abcd"] * 8, type=pa.binary(4))}), f"{folder}/fixed.parquet")
"#;

fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    common::run(Command::new(common::python_with_scipy()).args(["-c", SCRIPT]).arg(folder.path()));
    folder
}

fn try_compare(
    base: &Path,
    current: &str,
    change: impl FnOnce(&mut DriftSpec),
) -> Result<DriftReport, DriftError> {
    let mut spec = DriftSpec {
        reference: current.to_owned(),
        current: current.to_owned(),
        min_samples: 0,
        ..DriftSpec::default()
    };
    change(&mut spec);
    compare(&spec, &Options { base: base.to_owned(), ..Options::default() })
}

#[test]
fn kinds_come_from_the_schema_or_are_forced() {
    let folder = files();
    let report = try_compare(folder.path(), "plain.parquet", |_| {}).unwrap();
    let kinds: Vec<&str> = report.features.iter().map(|f| f.kind.as_str()).collect();
    assert_eq!(kinds, ["numeric", "categorical", "categorical", "categorical", "numeric"]);
    let zip = &report.features[1];
    assert_eq!((zip.missing_reference, zip.n_reference), (2, 6));
    assert_eq!(report.features[3].missing_current, 2);
    let report = try_compare(folder.path(), "plain.parquet", |spec| {
        spec.numeric.columns = vec!["n".to_owned()];
        spec.categorical.columns = vec!["code".to_owned()];
    })
    .unwrap();
    let (n, code) = (&report.features[2], &report.features[4]);
    assert_eq!((n.kind.as_str(), n.n_current, n.missing_current, n.infinite_current), ("numeric", 5, 2, 1));
    assert_eq!(code.histogram.as_ref().unwrap().labels, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    let error = try_compare(folder.path(), "words.parquet", |s| s.numeric.columns = vec!["n".to_owned()])
        .unwrap_err();
    assert_eq!(error.code(), "DRF0205");
    assert!(error.to_string().contains("words.parquet` line 3, column `n`: `x`"), "{error}");
}

#[test]
fn formats_may_differ_between_the_sides() {
    let folder = files();
    common::write(folder.path(), "current.csv", "b,code,x,zip,n\ntrue,7,1,01,1\nfalse,3,2.5,é,x\n,2,NA,,\n");
    let report = try_compare(folder.path(), "plain.parquet", |spec| {
        spec.current = "current.csv".to_owned();
        spec.categorical.columns = vec!["code".to_owned()];
    })
    .unwrap();
    let names: Vec<&str> = report.features.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["x", "zip", "n", "b", "code"]);
    assert!(report.features.iter().all(|f| f.status == "ok"));
    assert_eq!(report.features[3].histogram.as_ref().unwrap().labels.len(), 2);
    assert_eq!(report.features[4].histogram.as_ref().unwrap().labels.len(), 8);
    let back = try_compare(folder.path(), "plain.parquet", |spec| {
        spec.reference = "current.csv".to_owned();
        spec.categorical.columns = vec!["code".to_owned()];
    });
    assert_eq!(back.unwrap().features[2].name, "x");
}

#[test]
fn what_is_not_compared_is_refused_unless_it_is_excluded() {
    let folder = files();
    for (file, column) in [("int96", "when"), ("list", "list"), ("deep", "deep"), ("fixed", "raw")] {
        let path = format!("{file}.parquet");
        let error = try_compare(folder.path(), &path, |_| {}).unwrap_err();
        assert_eq!(error.code(), "DRF0204", "{error}");
        assert!(error.to_string().contains(column), "{error}");
        try_compare(folder.path(), &path, |spec| spec.exclude = vec![column.to_owned()]).unwrap();
    }
}

#[test]
fn damaged_files_never_panic() {
    let folder = files();
    let sound = fs::read(folder.path().join("plain.parquet")).unwrap();
    let (mut refused, mut read) = (0, 0);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..400 {
        let mut bytes = sound.clone();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = (seed >> 33) as usize % bytes.len();
        if round % 4 == 0 {
            bytes.truncate(place);
        } else {
            bytes[place] ^= (seed >> 20) as u8 | 1;
        }
        fs::write(folder.path().join("damaged.parquet"), &bytes).unwrap();
        match try_compare(folder.path(), "damaged.parquet", |_| {}) {
            Ok(_) => read += 1,
            Err(error) => {
                assert!(error.code().starts_with("DRF0"), "{error}");
                refused += 1;
            }
        }
    }
    println!("{refused} damaged files refused, {read} read as far as their checks go");
    assert!(refused > 150);
}
