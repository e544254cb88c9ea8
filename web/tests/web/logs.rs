//! Logs: the bytes that come out are the bytes that went in.

use std::time::Duration;

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidemill_protocol::worker::{ExchangeResponse, TryOutcome};
use tower::ServiceExt;

use super::support::{ADMIN, App, HELLO, WORKER, exchange_request, report, request};

/// Bytes that no text survives: every value, no line feed at the end.
fn odd_bytes() -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..40_000_u32).flat_map(|n| [n as u8, (n >> 8) as u8, b'\n', 0xff, 0x1b]).collect();
    bytes.push(0xc3);
    bytes
}

async fn ship(app: &App, token: &str, attempt: &Value, offset: usize, bytes: &[u8]) -> Value {
    let path = format!(
        "/worker/v1/log?run={}&task={}&map_index={}&try_number={}&epoch={}&offset={offset}",
        attempt["run"],
        attempt["task"].as_str().unwrap(),
        attempt["map_index"],
        attempt["try_number"],
        attempt["epoch"]
    );
    let message = request("PUT", &path, Some(WORKER)).header("x-attempt-token", token);
    app.send(message.body(Body::from(bytes.to_vec())).unwrap()).await.json()
}

async fn exchange(
    app: &App,
    seq: u64,
    results: Vec<tidemill_protocol::worker::AttemptReport>,
) -> ExchangeResponse {
    let body = serde_json::to_vec(&exchange_request(seq, results)).unwrap();
    let message =
        request("POST", "/worker/v1/exchange", Some(WORKER)).header("content-type", "application/json");
    serde_json::from_slice(&app.send(message.body(Body::from(body)).unwrap()).await.body).unwrap()
}

/// Collects what a log stream carries until its `end` event.
async fn follow(app: &App, path: &str) -> Vec<u8> {
    let response = app
        .router
        .clone()
        .oneshot(request("GET", path, Some(ADMIN)).body(Body::empty()).unwrap())
        .await
        .unwrap();
    let mut body = response.into_body();
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }
    assert!(text.contains("event: end"), "the stream ended by itself");
    let mut bytes = Vec::new();
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let data: Value = serde_json::from_str(data).unwrap();
        if let Some(chunk) = data["bytes"].as_str() {
            assert_eq!(data["offset"].as_u64().unwrap() as usize, bytes.len());
            bytes.extend(STANDARD.decode(chunk).unwrap());
        }
    }
    bytes
}

#[tokio::test]
async fn ranges_tails_and_streams_give_the_bytes_of_the_task() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({})).await;
    let assignment = exchange(&app, 1, Vec::new()).await.assignments.remove(0);
    let attempt = serde_json::to_value(&assignment.attempt).unwrap();
    let base = format!("/api/v1/dags/hello/runs/{run_id}/tasks/greet/tries/1/log");
    let bytes = odd_bytes();
    // Followed while it is written; a piece is sent twice and a gap is refused.
    let following = {
        let path = format!("{base}/events");
        let log = async { follow(&app, &path).await };
        let write = async {
            let half = bytes.len() / 2;
            let kept = ship(&app, &assignment.token.0, &attempt, 0, &bytes[..half]).await;
            assert_eq!(kept["next_offset"], half);
            assert_eq!(
                ship(&app, &assignment.token.0, &attempt, 0, &bytes[..half]).await["next_offset"],
                half
            );
            assert_eq!(
                ship(&app, &assignment.token.0, &attempt, half + 10, &bytes[half + 10..]).await["next_offset"],
                half
            );
            assert_eq!(
                ship(&app, &assignment.token.0, &attempt, half, &bytes[half..]).await["next_offset"],
                bytes.len()
            );
            let mut done = report(&assignment, TryOutcome::Success, b"");
            done.log_bytes = bytes.len() as u64;
            done.log_tail_offset = bytes.len() as u64;
            assert_eq!(exchange(&app, 2, vec![done]).await.verdicts.len(), 1);
        };
        let both = async { tokio::join!(log, write).0 };
        tokio::time::timeout(Duration::from_secs(60), both).await.unwrap()
    };
    assert_eq!(Sha256::digest(&following), Sha256::digest(&bytes));
    assert_eq!(app.get(&base).await.body, bytes);
    assert_eq!(app.get(&format!("{base}?tail=100")).await.body, bytes[bytes.len() - 100..]);
    assert_eq!(app.get(&format!("{base}?offset=7&limit=9")).await.body, bytes[7..16]);
    let ranged = app
        .send(request("GET", &base, Some(ADMIN)).header("range", "bytes=5-104").body(Body::empty()).unwrap())
        .await;
    assert_eq!((ranged.status.as_u16(), ranged.body.as_slice()), (206, &bytes[5..105]));
    assert_eq!(ranged.header("content-range"), format!("bytes 5-104/{}", bytes.len()));
    assert_eq!(ranged.header("content-security-policy"), "sandbox");
    let past = app
        .send(
            request("GET", &base, Some(ADMIN))
                .header("range", "bytes=99999999-")
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert_eq!((past.status.as_u16(), past.json()["code"].as_str().unwrap()), (416, "WEB0205"));
    println!("{} bytes identical by range, tail, offset and stream", bytes.len());
}

#[tokio::test]
async fn an_attempt_token_opens_its_own_log_only() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    app.trigger("hello", json!({})).await;
    let assignment = exchange(&app, 1, Vec::new()).await.assignments.remove(0);
    let own = serde_json::to_value(&assignment.attempt).unwrap();
    let mut count = 0;
    for (field, value) in [
        ("task", json!("gree")),
        ("task", json!("greet2")),
        ("task", json!("after")),
        ("try_number", json!(2)),
        ("epoch", json!(2)),
        ("map_index", json!(0)),
        ("run", json!(99)),
    ] {
        let mut other = own.clone();
        other[field] = value;
        assert_eq!(ship(&app, &assignment.token.0, &other, 0, b"x").await["code"], "SCH0403", "{other}");
        count += 1;
    }
    assert_eq!(ship(&app, "0000", &own, 0, b"x").await["code"], "SCH0403");
    assert_eq!(ship(&app, &assignment.token.0, &own, 0, b"x").await["next_offset"], 1);
    println!("{count} foreign attempts refused");
}

#[tokio::test]
async fn a_page_shows_the_end_of_a_log_with_its_colours() {
    let mut app = App::new(&[("hello.toml", HELLO)]).await;
    app.work(|assignment| {
        report(assignment, TryOutcome::Success, b"plain\n\x1b[31mred\x1b[0m\n\x1b]52;c;eA==\x07end")
    });
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({})).await;
    app.finished("hello", &run_id).await;
    let page = app.page(&format!("/dags/hello/runs/{run_id}/tasks/greet")).await.text();
    assert!(
        page.contains("<span class=\"f1\">red</span>") && page.contains("plain") && !page.contains("52;c")
    );
}

#[tokio::test]
async fn the_stream_of_a_log_tells_what_changes_beside_it_until_the_log_ends() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({})).await;
    let other = app.trigger("hello", json!({})).await;
    let assignments = exchange(&app, 1, Vec::new()).await.assignments;
    let path = format!("/dags/hello/runs/{run_id}/tasks/greet/tries/1/lines");
    let stream =
        app.router.clone().oneshot(request("GET", &path, Some(ADMIN)).body(Body::empty()).unwrap()).await;
    let results = assignments.iter().map(|a| report(a, TryOutcome::Success, b"hi\n")).collect();
    exchange(&app, 2, results).await;
    let read = async {
        let body = stream.unwrap().into_body().collect().await.unwrap().to_bytes();
        String::from_utf8_lossy(&body).into_owned()
    };
    let text = tokio::time::timeout(Duration::from_secs(60), read).await.unwrap();
    assert!(text.contains("event: lines") && text.trim_end().ends_with("data: end"), "{text}");
    assert!(text.contains("event: change") && text.contains(&run_id) && !text.contains(&other), "{text}");
}
