//! The REST API's shapes.

use axum::body::Body;
use serde_json::{Value, json};
use tidemill_protocol::worker::TryOutcome;
use tidemill_store::memory::MemoryStore;

use super::support::{ADMIN, App, HELLO, OPERATOR, report, request};

#[tokio::test]
async fn problems_have_one_shape_and_a_stable_code() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({ "run_id": "mine" })).await;
    assert_eq!(run_id, "mine");
    let cases: Vec<(&str, &str, Value, u16, &str)> = vec![
        ("GET", "/api/v1/dags/none", Value::Null, 404, "WEB0201"),
        ("GET", "/api/v1/dags/..", Value::Null, 404, "WEB0201"),
        ("GET", "/api/v1/nowhere", Value::Null, 404, "WEB0201"),
        ("GET", "/api/v1/runs?limit=x", Value::Null, 400, "WEB0202"),
        ("GET", "/api/v1/runs?state=odd", Value::Null, 422, "WEB0206"),
        ("GET", "/api/v1/runs?cursor=zzz", Value::Null, 400, "STO0302"),
        ("PUT", "/api/v1/runs", Value::Null, 405, "WEB0203"),
        ("POST", "/api/v1/dags/hello/runs", json!({ "cnof": {} }), 400, "WEB0202"),
        ("POST", "/api/v1/dags/hello/runs", json!({ "conf": { "count": 9 } }), 422, "SCH0214"),
        ("POST", "/api/v1/dags/hello/runs", json!({ "run_id": "mine" }), 409, "SCH0205"),
        ("POST", "/api/v1/dags/hello/runs", json!({ "run_id": "scheduled__x" }), 422, "SCH0213"),
        ("POST", "/api/v1/dags/hello/runs", json!({ "run_id": "../x" }), 422, "WEB0206"),
        ("POST", "/api/v1/dags/none/runs", json!({}), 404, "SCH0201"),
        ("POST", "/api/v1/dags/hello/runs/mine/mark", json!({ "state": "running" }), 422, "WEB0206"),
        ("POST", "/api/v1/dags/hello/runs/mine/clear", json!({ "tasks": ["none"] }), 404, "SCH0204"),
        ("POST", "/api/v1/tokens", json!({ "name": "x", "role": "root" }), 422, "WEB0206"),
        ("POST", "/api/v1/assets/events", json!({ "asset": "none" }), 404, "SCH0230"),
        ("POST", "/api/v1/assets/events", json!({ "asset": "a b" }), 422, "WEB0206"),
        ("GET", "/api/v1/assets?name=/x", Value::Null, 422, "WEB0206"),
        ("DELETE", "/api/v1/pools/none", Value::Null, 404, "SCH0211"),
        ("DELETE", "/api/v1/dags/hello", Value::Null, 409, "SCH0208"),
    ];
    for (method, path, body, status, code) in cases {
        let message = request(method, path, Some(ADMIN)).header("content-type", "application/json");
        let answer = app.send(message.body(Body::from(body.to_string())).unwrap()).await;
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{method} {path}: {}",
            answer.text()
        );
        let problem = answer.json();
        assert_eq!(
            (answer.status.as_u16(), problem["code"].as_str().unwrap()),
            (status, code),
            "{method} {path} {problem}"
        );
        for key in ["type", "title", "detail"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{path} {key}");
        }
        assert_eq!(problem["status"], status);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    let message =
        request("POST", "/api/v1/dags/hello/runs", Some(OPERATOR)).header("content-type", "application/json");
    let long = format!("{{\"conf\":{{\"name\":\"{}\"}}}}", "x".repeat(1024 * 1024));
    let answer = app.send(message.header("content-length", long.len()).body(Body::from(long)).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str().unwrap()), (413, "WEB0204"));
}

#[tokio::test]
async fn a_run_and_its_tasks_have_the_documented_fields() {
    let mut app = App::new(&[("hello.toml", HELLO)]).await;
    app.work(|assignment| {
        let mut done = report(assignment, TryOutcome::Success, b"hi\n");
        done.outputs.insert("answer".to_owned(), json!(42));
        done
    });
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({ "conf": { "name": "x" } })).await;
    assert!(run_id.starts_with("manual__"));
    let run = app.finished("hello", &run_id).await;
    for key in [
        "dag_id",
        "run_id",
        "run_type",
        "state",
        "with_failures",
        "reason",
        "logical_date",
        "data_interval_start",
        "data_interval_end",
        "queued_at",
        "started_at",
        "finished_at",
        "conf",
        "dag_version",
    ] {
        assert!(run.get(key).is_some(), "{key}");
    }
    assert_eq!((run["state"].as_str(), &run["conf"]), (Some("success"), &json!({ "name": "x" })));
    let base = format!("/api/v1/dags/hello/runs/{run_id}/tasks");
    let tasks = app.get(&base).await.json();
    let first = &tasks["items"][0];
    for key in [
        "task_id",
        "map_index",
        "operator",
        "state",
        "reason",
        "try_number",
        "queued_at",
        "started_at",
        "finished_at",
        "worker",
        "exit_code",
    ] {
        assert!(first.get(key).is_some(), "{key}");
    }
    assert_eq!(
        (first["task_id"].as_str(), first["map_index"].as_i64(), first["operator"].as_str()),
        (Some("greet"), Some(-1), Some("command"))
    );
    assert_eq!(app.get(&format!("{base}/greet/outputs")).await.json(), json!({ "answer": 42 }));
    assert_eq!(app.get(&format!("{base}/greet/explain")).await.json()["items"][0]["code"], "ended");
    for of in ["", "/explain", "/outputs"] {
        let answer = app.get(&format!("{base}/greet{of}?map_index=3")).await;
        assert_eq!(answer.status, 404, "{of}: the task has no elements");
    }
    assert_eq!(app.get(&format!("{base}/greet/tries")).await.json()["items"][0]["outcome"], "success");
    assert_eq!(app.get(&format!("{base}/greet/tries/1/log")).await.body, b"hi\n");
    assert_eq!(app.get("/api/v1/workers").await.json()["items"][0]["worker"], "w1");
}

#[tokio::test]
async fn lists_are_keyset_pages() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    for day in 1..=5 {
        app.trigger(
            "hello",
            json!({ "run_id": format!("r{day}"), "logical_date": format!("2026-11-0{day}T00:00:00Z") }),
        )
        .await;
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/dags/hello/runs?limit=2".to_owned();
    loop {
        let page = app.get(&path).await.json();
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|r| r["run_id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/dags/hello/runs?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["r5", "r4", "r3", "r2", "r1"]);
}

#[tokio::test]
async fn an_idempotency_key_makes_one_run() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let ask = |body: Value| {
        let message = request("POST", "/api/v1/dags/hello/runs", Some(OPERATOR))
            .header("content-type", "application/json");
        message.header("idempotency-key", "k1").body(Body::from(body.to_string())).unwrap()
    };
    let first = app.send(ask(json!({}))).await;
    let again = app.send(ask(json!({}))).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.json()["run_id"], again.json()["run_id"]);
    assert_eq!(again.header("idempotent-replayed"), "true");
    let other = app.send(ask(json!({ "conf": { "name": "y" } }))).await;
    assert_eq!((other.status.as_u16(), other.json()["code"].as_str().unwrap()), (409, "SCH0215"));
    assert_eq!(app.get("/api/v1/dags/hello/runs").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn openapi_describes_every_route() {
    let app = App::new(&[]).await;
    let document: Value = serde_json::from_str(&tidemill_web::openapi()).unwrap();
    let mut count = 0;
    for route in app.routes().iter().filter(|r| r.path.starts_with("/api/v1") || r.path == "/metrics") {
        let method = route.method.as_str().to_ascii_lowercase();
        assert!(document["paths"][route.path][&method].is_object(), "{method} {}", route.path);
        count += 1;
    }
    let described: usize =
        document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
    assert_eq!(described, count);
    insta::assert_snapshot!("openapi", tidemill_web::openapi());
}

#[tokio::test]
async fn a_call_of_clean_does_a_bounded_amount_of_work() {
    let options = tidemill_web::Options { clean_rows: 8, ..tidemill_web::Options::default() };
    let mut app = App::with_options(&[("hello.toml", HELLO)], MemoryStore::default(), options).await;
    app.give_access().await;
    app.work(|assignment| report(assignment, TryOutcome::Success, b"hi\n"));
    app.loaded("hello").await;
    for name in ["a", "b", "c"] {
        app.trigger("hello", json!({ "run_id": name })).await;
        app.finished("hello", name).await;
    }
    let clean = async |dry_run: bool| {
        let body = json!({ "older_than_days": 0, "dry_run": dry_run });
        let answer = app.post("/api/v1/clean", ADMIN, body).await.json();
        (answer["runs"].as_u64().unwrap(), answer["is_complete"].as_bool().unwrap())
    };
    assert_eq!(clean(true).await, (3, true));
    // A run of two tasks is about seven rows: the second one would be beyond the limit, but one always goes.
    assert_eq!(clean(false).await, (2, false));
    assert_eq!(clean(false).await, (1, true));
    assert_eq!(clean(false).await, (0, true));
    assert_eq!(app.get("/api/v1/runs").await.json()["items"], json!([]));
}

#[tokio::test]
async fn health_and_metrics_answer() {
    let app = App::new(&[]).await;
    let health = app.send(request("GET", "/api/v1/health", None).body(Body::empty()).unwrap()).await;
    assert_eq!((health.status.as_u16(), health.json()["status"].as_str().unwrap()), (200, "ok"));
    assert_eq!(health.json()["left_out"], 0);
    assert!(app.get("/metrics").await.text().contains("tidemill_leader 1"));
}
