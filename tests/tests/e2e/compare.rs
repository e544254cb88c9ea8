//! The numbers of scipy and numpy once more, through the command: what a person sees, not what the library returns.

#[path = "../../../drift/tests/common.rs"]
#[expect(dead_code, reason = "its files are written by the script")]
mod common;

use std::process::Command;

use serde_json::Value;

use super::server::{binary, repository};

/// What the report calls a number, and what the reference does.
const SIZES: [(&str, &str); 7] = [
    ("/ks/statistic", "ks"),
    ("/psi/value", "psi_atoms"),
    ("/kl/reference_current", "kl_reference_current"),
    ("/kl/current_reference", "kl_current_reference"),
    ("/js/distance", "js_distance"),
    ("/wasserstein/value", "wasserstein"),
    ("/wasserstein/normed", "wasserstein_normed"),
];
const P_VALUES: [(&str, &str); 4] = [
    ("/ks/p_value", "p_auto"),
    ("/ks/p_value_corrected", "corrected"),
    ("/chi2/p_value", "chi2"),
    ("/chi2/p_value_corrected", "corrected"),
];

fn is_near(expected: f64, actual: f64, relative: f64, absolute: f64) -> bool {
    (actual - expected).abs() <= absolute || ((actual - expected) / expected).abs() <= relative
}

#[test]
fn the_command_prints_the_numbers_of_scipy_and_numpy() {
    let folder = tempfile::tempdir().unwrap();
    let script = repository().join("drift/tests/reference.py");
    common::run(Command::new(common::python_with_scipy()).arg(script).arg(folder.path()));
    let cases = std::fs::read(folder.path().join("cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    let (mut numbers, mut drifted, mut wrong) = (0, 0, Vec::new());
    for case in cases.as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap();
        let printed = common::run(
            Command::new(binary())
                .current_dir(folder.path())
                .args(["drift", "compare", "--reference", text("reference"), "--current", text("current")])
                .args(["--metrics", "ks,psi,kl,js,wasserstein,chi2", "--format", "json"]),
        );
        let report: Value = serde_json::from_str(&printed).unwrap();
        let features = report["features"].as_array().unwrap();
        let expected = case["features"].as_object().unwrap();
        assert_eq!(features.len(), expected.len(), "{}", text("name"));
        for feature in features {
            let name = feature["name"].as_str().unwrap();
            let expected = &expected[name];
            let mut check = |is_right: bool, what: &str| {
                numbers += 1;
                if !is_right {
                    wrong.push(format!("{} {name} {what}: {feature} and {expected}", text("name")));
                }
            };
            check(feature["status"] == expected["status"], "status");
            if expected["status"] != "ok" {
                continue;
            }
            check(feature["drifted"] == expected["drifted"], "drifted");
            drifted += usize::from(feature["drifted"] == true);
            let given = |at: &str| feature["metrics"].pointer(at).and_then(Value::as_f64);
            for (at, key) in SIZES {
                if let Some(size) = expected["numbers"][key].as_f64() {
                    check(given(at).is_some_and(|actual| is_near(size, actual, 1e-9, 1e-12)), key);
                }
            }
            for (at, key) in P_VALUES.iter().filter(|(at, _)| {
                feature["metrics"].pointer(&at[..at.rfind('/').unwrap_or(0)]).is_some_and(Value::is_object)
            }) {
                if let Some(p) = expected["numbers"][*key].as_f64() {
                    check(given(at).is_some_and(|actual| is_near(p, actual, 1e-6, 1e-11)), key);
                }
            }
        }
    }
    println!(
        "{} calls, {numbers} numbers, {drifted} features drifted, {} wrong",
        cases.as_array().unwrap().len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(numbers > 1_000 && drifted > 10);
}
