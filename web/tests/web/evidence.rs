//! What people are told before they act, and what they can look up afterwards.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tidemill_protocol::worker::{Report, TryOutcome};

use super::{
    pages::BRANCHY,
    support::{App, HELLO, report},
};

#[tokio::test]
async fn a_cancel_and_a_mark_of_a_run_list_what_they_would_change() {
    let app = App::new(&[("branchy.toml", BRANCHY)]).await;
    app.loaded("branchy").await;
    // No worker is there, so the run goes nowhere.
    let run_id = app.trigger("branchy", json!({ "conf": { "way": "left" } })).await;
    let base = format!("/dags/branchy/runs/{run_id}");
    let asked = app.page(&format!("{base}/confirm?action=cancel")).await.text();
    assert!(asked.contains("4 task instances would change"), "{asked}");
    assert!(asked.contains("The run itself goes from") && asked.contains("cancelled"), "{asked}");
    let marked = app.page(&format!("{base}/confirm?action=mark&state=success")).await.text();
    assert!(marked.contains("4 task instances would change"), "{marked}");
    assert_eq!(marked.matches("class=\"state s-success\"").count(), 2, "the run and its leaf: {marked}");
    let cancel = format!("/api/v1{base}/cancel");
    let dry = app.post(&cancel, super::support::OPERATOR, json!({ "dry_run": true })).await.json();
    assert_eq!((&dry["is_dry_run"], dry["changed"].as_array().unwrap().len()), (&json!(true), 4));
    let wrong = app.post(&cancel, super::support::OPERATOR, json!({ "dryrun": true })).await;
    assert_eq!((wrong.status.as_u16(), &wrong.json()["code"]), (400, &json!("WEB0202")));
    let state = app.get(&format!("/api/v1{base}")).await.json()["state"].clone();
    assert!(state == "running" && !app.page("/audit").await.text().contains("run.cancel"), "{state}");
    let empty = super::support::request("POST", &cancel, Some(super::support::OPERATOR));
    let done = app.send(empty.body(axum::body::Body::empty()).unwrap()).await.json();
    assert_eq!((&done["is_dry_run"], &done["changed"]), (&json!(false), &dry["changed"]));
    assert_eq!(app.finished("branchy", &run_id).await["state"], "cancelled");
    let late = app.page(&format!("{base}/confirm?action=cancel")).await;
    assert!(late.status == 409 && late.text().contains("SCH0206"));
    let over = app.page(&format!("{base}/confirm?action=mark&state=failed")).await.text();
    assert!(over.contains("No task instance would change"), "{over}");
}

#[tokio::test]
async fn numbers_on_the_home_page_lead_to_the_runs_that_they_count() {
    let mut app = App::new(&[("hello.toml", HELLO)]).await;
    app.work(|assignment| report(assignment, TryOutcome::Failed, b""));
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({})).await;
    app.finished("hello", &run_id).await;
    let home = app.page("/").await.text();
    for state in ["failed", "success"] {
        assert!(home.contains(&format!("href=\"/runs?state={state}&#38;ended_within=24h\"")), "{home}");
    }
    for (path, is_there) in [
        ("/runs?state=failed&ended_within=24h", true),
        ("/runs?state=failed&ended_within=2d", true),
        ("/runs?state=failed&ended_within=0h", false),
        ("/runs?state=success&ended_within=24h", false),
    ] {
        let page = app.page(path).await.text();
        assert_eq!(page.contains(&run_id), is_there, "{path}");
        let items = app.get(&format!("/api/v1{path}")).await.json()["items"].as_array().unwrap().len();
        assert_eq!(items, usize::from(is_there), "{path}");
    }
    let page = app.page("/runs?ended_within=24h").await.text();
    assert!(page.contains("<option value=\"24h\" selected>"), "{page}");
    assert_eq!(app.page("/runs?ended_within=soon").await.status, 422);
}

/// A page of the list of DAGs has 500 of them.
#[tokio::test]
async fn the_next_run_is_found_among_more_dags_than_fit_a_page() {
    let mut files: Vec<(String, String)> = (0..500)
        .map(|n| (format!("d{n:03}.toml"), format!("[dag]\nid = \"d{n:03}\"\nschedule = \"@yearly\"\n")))
        .collect();
    files.push(("soon.toml".to_owned(), "[dag]\nid = \"soon\"\nschedule = { every = \"1m\" }\n".to_owned()));
    for (_, text) in &mut files {
        write!(text, "\n[[task]]\nid = \"a\"\noperator = \"noop\"\n").unwrap();
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let app = App::new(&files).await;
    for (name, _) in &files {
        app.loaded(name.trim_end_matches(".toml")).await;
    }
    let home = app.page("/").await.text();
    let next = home.split("Next runs").nth(1).unwrap();
    let first = next.split("href=\"/dags/").nth(1).unwrap();
    assert!(first.starts_with("soon\""), "{first}");
}

const DRIFTING: &str = r#"
[dag]
id = "drifting"

[[task]]
id = "monitor"
operator = "drift"
reference = "reference.csv"
current = "current.csv"
on_drift = "retrain"
on_stable = "no_op"

[[task]]
id = "retrain"
operator = "noop"
depends_on = ["monitor"]

[[task]]
id = "no_op"
operator = "noop"
depends_on = ["monitor"]
"#;

/// One feature, its p-value beyond any level and its PSI beyond any threshold, whatever the rule said of them.
fn drift_report(verdicts: &Value, psi: f64) -> Report {
    let mut feature = json!({
        "name": "age", "kind": "numeric", "status": "ok", "rows_reference": 100, "rows_current": 100,
        "missing_reference": 0, "missing_current": 0, "infinite_reference": 0, "infinite_current": 0,
        "n_reference": 100, "n_current": 100, "drifted": false, "reasons": [],
        "metrics": { "ks": { "statistic": 0.5, "sign": 1, "p_value": 1e-9, "method": "exact" }, "psi": { "value": psi },
            "wasserstein": { "value": 7.0, "normed": 1.25 } }
    });
    feature.as_object_mut().unwrap().extend(verdicts.as_object().unwrap().clone());
    let report = json!({ "features": [feature], "share": 0.0, "drifted": false });
    Report::Drift(serde_json::from_value(report).unwrap())
}

#[tokio::test]
async fn a_drift_page_prints_the_verdicts_of_the_report_and_guesses_none() {
    let mut app = App::new(&[("drifting.toml", DRIFTING)]).await;
    let count = std::sync::atomic::AtomicU32::new(0);
    app.work(move |assignment| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let verdicts = match n {
            0 => json!({}),
            1 => json!({ "significant": [], "large": ["psi"] }),
            _ => json!({ "significant": ["ks"], "large": ["wasserstein"] }),
        };
        let mut done = report(assignment, TryOutcome::Success, b"");
        done.report = Some(drift_report(&verdicts, 9.0 + f64::from(n)));
        done.follow = Some(vec!["no_op".parse().unwrap()]);
        done
    });
    app.loaded("drifting").await;
    let mut pages = Vec::new();
    // The history goes back 20 runs: more than that come after the first three.
    for day in 1..=24 {
        let made = app.trigger("drifting", json!({ "logical_date": format!("2026-10-{day:02}T00:00:00Z") }));
        let run_id = made.await;
        assert_eq!(app.finished("drifting", &run_id).await["state"], "success");
        if day <= 3 {
            pages.push(format!("/dags/drifting/runs/{run_id}/tasks/monitor"));
        }
    }
    let cells = [
        [
            "<td class=\"num\">9.000</td>",
            "<td class=\"num\">0.500</td>",
            "<td class=\"num\">1.250</td>",
            "<td class=\"num\">1.0e-9</td>",
        ],
        [
            "<td class=\"num over\">10.000</td>",
            "<td class=\"num\">0.500</td>",
            "<td class=\"num\">1.250</td>",
            "<td class=\"num\">1.0e-9</td>",
        ],
        [
            "<td class=\"num\">11.000</td>",
            "<td class=\"num\">0.500</td>",
            "<td class=\"num over\">1.250</td>",
            "<td class=\"num over\">1.0e-9</td>",
        ],
    ];
    let lines =
        ["<title>9.000</title>", "<title>9.000, 10.000</title>", "<title>9.000, 10.000, 11.000</title>"];
    for ((path, cells), line) in pages.iter().zip(cells).zip(lines) {
        let page = app.page(path).await.text();
        for cell in cells {
            assert!(page.contains(cell), "{cell} in {page}");
        }
        assert!(page.contains(line), "{line} in {page}");
        // What was measured has a column, what was not has none.
        assert!(page.contains(">Wasserstein, normed</th>") && !page.contains(">KL</th>"), "{page}");
    }
}

/// Two features; the second one moved more.
fn two_features() -> Report {
    let feature = |name: &str, psi: f64, reference: Value| {
        json!({
            "name": name, "kind": "numeric", "status": "ok", "rows_reference": 10, "rows_current": 10,
            "missing_reference": 0, "missing_current": 0, "infinite_reference": 0, "infinite_current": 0,
            "n_reference": 10, "n_current": 10, "drifted": psi > 0.2, "reasons": [], "large": [],
            "metrics": { "psi": { "value": psi } },
            "histogram": { "labels": ["low", "high"], "reference": reference, "current": [0.5, 0.5] }
        })
    };
    let features = [feature("age & size", 0.1, json!([0.6, 0.4])), feature("dose", 0.9, json!([0.99, 0.01]))];
    Report::Drift(
        serde_json::from_value(json!({ "features": features, "share": 0.5, "drifted": true })).unwrap(),
    )
}

#[tokio::test]
async fn a_feature_is_shown_in_large_and_the_run_lists_what_was_found_out() {
    let mut app = App::new(&[("drifting.toml", DRIFTING)]).await;
    app.work(|assignment| {
        let mut done = report(assignment, TryOutcome::Success, b"");
        done.report = Some(two_features());
        done.follow = Some(vec!["retrain".parse().unwrap()]);
        done
    });
    app.loaded("drifting").await;
    let mut runs = Vec::new();
    for day in ["2026-10-01T00:00:00Z", "2026-10-02T00:00:00Z"] {
        let run_id = app.trigger("drifting", json!({ "logical_date": day })).await;
        app.finished("drifting", &run_id).await;
        runs.push(run_id);
    }
    let path = format!("/dags/drifting/runs/{}/tasks/monitor", runs[1]);
    let page = app.page(&path).await.text();
    let focus = |page: &str| {
        page.split("id=\"feature\"").nth(1).unwrap().split("</section>").next().unwrap().to_owned()
    };
    // Nobody asked: the one that moved the most, with its history, each point of which leads to its run.
    let shown = focus(&page);
    assert!(shown.contains("<h2>dose</h2>") && shown.contains("high: 1.0 % → 50.0 %"), "{shown}");
    assert!(
        shown.contains("PSI of the last 2 runs")
            && shown.contains(&format!("/runs/{}/tasks/monitor", runs[0]))
    );
    assert!(page.contains("?feature=age%20%26%20size#feature"), "{page}");
    let asked = focus(&app.page(&format!("{path}?feature=age%20%26%20size")).await.text());
    assert!(asked.contains("<h2>age &#38; size</h2>") && asked.contains("low: 60.0 % → 50.0 %"), "{asked}");
    assert!(focus(&app.page(&format!("{path}?feature=gone")).await.text()).contains("<h2>dose</h2>"));

    let run = app.page(&format!("/dags/drifting/runs/{}", runs[1])).await.text();
    let evidence = run.split("id=\"evidence\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(
        evidence.contains("1 of 2 features drifted") && evidence.contains("/tasks/monitor"),
        "{evidence}"
    );
    // States are filters; the one that is on leads back.
    assert!(run.contains("href=\"?state=skipped#tasks\"") && run.contains("1 skipped"), "{run}");
    let skipped = app.page(&format!("/dags/drifting/runs/{}?state=skipped", runs[1])).await.text();
    let list = skipped.split("id=\"tasks\"").nth(1).unwrap();
    assert!(
        list.contains("href=\"?#tasks\"") && list.contains(">no_op</a>") && !list.contains(">retrain</a>"),
        "{list}"
    );
}

#[tokio::test]
async fn a_run_of_very_many_tasks_is_listed_in_pieces() {
    let mut dag = String::from("[dag]\nid = \"large\"\n");
    for n in 0..650 {
        write!(dag, "\n[[task]]\nid = \"t{n:03}\"\noperator = \"noop\"\n").unwrap();
    }
    let app = App::new(&[("large.toml", &dag)]).await;
    app.loaded("large").await;
    let run_id = app.trigger("large", json!({})).await;
    app.finished("large", &run_id).await;
    for (query, first, last, more) in [
        ("", "t000", "t299", Some("?skip=300#tasks")),
        ("?skip=300", "t300", "t599", Some("?skip=600#tasks")),
        ("?state=success&skip=600", "t600", "t649", None),
    ] {
        let page = app.page(&format!("/dags/large/runs/{run_id}{query}")).await.text();
        let list = page.split("id=\"tasks\"").nth(1).unwrap();
        assert!(list.contains(&format!(">{first}</a>")) && list.contains(&format!(">{last}</a>")), "{query}");
        assert_eq!(list.matches("<tr data-row>").count(), if more.is_some() { 300 } else { 50 }, "{query}");
        assert_eq!(list.contains("More task instances"), more.is_some(), "{query}");
        assert!(more.is_none_or(|more| list.contains(&format!("href=\"{more}\""))), "{query}");
    }
}
