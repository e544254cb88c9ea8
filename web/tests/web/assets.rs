//! Assets over the API and on pages.

use serde_json::json;

use super::support::{App, OPERATOR, VIEWER};

const MAKE: &str = r#"
[dag]
id = "make"
[[task]]
id = "write"
operator = "noop"
outlets = ["wh/a"]
"#;

const USE: &str = r#"
[dag]
id = "use"
schedule = { assets = ["wh/a", "s3://b/c"] }
[[task]]
id = "t"
operator = "noop"
"#;

#[tokio::test]
async fn what_is_queued_missing_and_caused_is_shown() {
    let app = App::new(&[("make.toml", MAKE), ("use.toml", USE)]).await;
    app.loaded("make").await;
    app.loaded("use").await;
    let empty = app.page("/assets/show?name=wh/a").await.text();
    assert!(empty.contains("tidemill assets emit wh/a"), "{empty}");
    let run_id = app.trigger("make", json!({})).await;
    app.finished("make", &run_id).await;
    let status = app.get("/api/v1/dags/use/assets").await.json();
    assert_eq!(status["waits_for"]["reasons"][0]["message"], "waits for an event on s3://b/c");
    assert_eq!(status["waits_for"]["assets"][1]["queued"], 1, "{status}");
    let tab = app.page("/dags/use/assets").await.text();
    assert!(tab.contains("waits for an event on s3://b/c"), "{tab}");
    let list = app.page("/assets").await.text();
    for part in ["wh/a", "s3://b/c", "make · write", "/dags/use/assets", "nobody here"] {
        assert!(list.contains(part), "{part}: {list}");
    }
    assert!(app.page("/dags").await.text().contains("on events on s3://b/c and wh/a"));
    let event = json!({ "asset": "s3://b/c", "extra": { "rows": 5, "text": "<b>" } });
    assert_eq!(app.post("/api/v1/assets/events", VIEWER, event.clone()).await.status, 403);
    let posted = app.post("/api/v1/assets/events", OPERATOR, event).await;
    assert_eq!(posted.status, 201, "{}", posted.text());
    let runs = app.get("/api/v1/dags/use/runs?run_type=asset").await.json();
    let made = runs["items"][0]["run_id"].as_str().unwrap().to_owned();
    assert!(made.starts_with("asset__"), "{runs}");
    let causes = app.get(&format!("/api/v1/dags/use/runs/{made}/assets")).await.json();
    assert_eq!(causes["items"].as_array().unwrap().len(), 2);
    assert_eq!(causes["items"][1]["source"]["run_id"], run_id.as_str());
    let page = app.page(&format!("/dags/use/runs/{made}")).await.text();
    for part in ["Caused by", "make · write", "asset events", "&#60;b&#62;"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let history = app.page("/assets/show?name=s3://b/c").await.text();
    assert!(history.contains("run of use") && !history.contains("<b>\"}"), "{history}");
    // From a page, too; what is no object is refused.
    let answer = app.form("/assets/events", "asset=wh%2Fa&extra=%7B%22n%22%3A1%7D").await;
    assert_eq!(answer.header("location"), "/assets/show?name=wh%2Fa", "{}", answer.text());
    assert_eq!(app.form("/assets/events", "asset=wh%2Fa&extra=%5B1%5D").await.status, 422);
    assert_eq!(app.page("/assets/show?name=none").await.status, 404);
    let events = app.get("/api/v1/assets/events?asset=wh/a").await.json();
    assert_eq!(events["items"].as_array().unwrap().len(), 2);
    app.stop().await;
}
