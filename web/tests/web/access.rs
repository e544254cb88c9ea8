//! Every route with every credential, and what holds for all requests.

use axum::{body::Body, http::Request};
use serde_json::json;
use tidemill_store::access::Role;
use tidemill_web::{Access, Method, Route};

use super::support::{
    ADMIN, Answer, App, EXPIRED, HELLO, JOIN, LINK, OPERATOR, OTHER_WORKER, REVOKED, SESSION, VIEWER, WORKER,
    WORKER_NAME, exchange_request, request,
};

/// Fills the names of a path with things that exist, or with other ones.
fn fill(path: &str, run_id: &str) -> String {
    path.replace("{dag_id}", "hello")
        .replace("{run_id}", run_id)
        .replace("{task_id}", "greet")
        .replace("{try_number}", "1")
        .replace("{worker}", "nobody")
        .replace("{id}", "tok_none")
        .replace("{name}", "none")
}

fn is_allowed(access: Access, credential: &str) -> bool {
    let role = match credential {
        VIEWER => Some(Role::Viewer),
        OPERATOR => Some(Role::Operator),
        ADMIN => Some(Role::Admin),
        _ => None,
    };
    match access {
        Access::Public => true,
        Access::Role(needed) => role.is_some_and(|role| role >= needed),
        Access::Worker | Access::Attempt => credential == WORKER || credential == OTHER_WORKER,
        Access::Join => credential == JOIN,
    }
}

#[tokio::test]
async fn every_route_refuses_every_credential_that_it_does_not_name() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({})).await;
    let credentials = [
        "",
        "nothing",
        "nothing-0123456789abcdef",
        EXPIRED,
        REVOKED,
        VIEWER,
        OPERATOR,
        ADMIN,
        WORKER,
        OTHER_WORKER,
        JOIN,
    ];
    let routes = app.routes();
    let (mut refused, mut passed) = (0, 0);
    for Route { method, path, access } in &routes {
        // What ends the run would change the answers of what comes after; order does not matter here.
        for credential in credentials {
            let token = (!credential.is_empty()).then_some(credential);
            let path = fill(path, &run_id);
            let message = request(method.as_str(), &path, token).header("content-type", "application/json");
            let status = app.send(message.body(Body::from("{")).unwrap()).await.status.as_u16();
            let place = format!("{} {path} with {credential:?}: {status}", method.as_str());
            if is_allowed(*access, credential) {
                assert!(status != 401 && (status != 403 || path == "/login"), "{place}");
                passed += 1;
            } else {
                assert!(status == 401 || status == 403, "{place}");
                refused += 1;
            }
        }
    }
    println!(
        "{} routes × {} credentials: {refused} refused, {passed} passed",
        routes.len(),
        credentials.len()
    );
}

#[tokio::test]
async fn at_most_three_paths_are_public_and_no_get_changes_anything() {
    let app = App::new(&[]).await;
    let mut public: Vec<&str> =
        app.routes().iter().filter(|r| r.access == Access::Public).map(|r| r.path).collect();
    public.dedup();
    assert_eq!(public, ["/static/{name}", "/api/v1/health", "/login"]);
    let changing =
        ["pause", "actions", "cancel", "clear", "mark", "revoke", "delete", "logout", "theme", "join"];
    // Pages that say what would change, and ask, have the address of the form that does it.
    let asks = |path: &str| ["/dags/{dag_id}/pause", "/backfills/{id}/cancel"].contains(&path);
    for route in app.routes().iter().filter(|r| r.method == Method::Get && !asks(r.path)) {
        let last = route.path.rsplit('/').next().unwrap();
        assert!(!changing.contains(&last), "GET {}", route.path);
    }
}

#[tokio::test]
async fn no_suffix_of_a_path_opens_it() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    let mut count = 0;
    for route in app.routes().iter().filter(|r| r.access != Access::Public && r.path != "/") {
        for suffix in
            ["/health", ";health", "%2fhealth", "//", "/./", "/login", "/static/x", "/configs", "/ready"]
        {
            let path = format!("{}{suffix}", fill(route.path, "r").trim_end_matches('/'));
            for method in ["GET", "POST"] {
                let status =
                    app.send(request(method, &path, None).body(Body::empty()).unwrap()).await.status.as_u16();
                assert!(status == 401 || status == 403, "{method} {path}: {status}");
                count += 1;
            }
        }
    }
    println!("{count} requests with a suffix refused");
}

#[tokio::test]
async fn a_worker_speaks_only_for_itself() {
    let app = App::new(&[]).await;
    let body = serde_json::to_vec(&exchange_request(1, Vec::new())).unwrap();
    let message =
        request("POST", "/worker/v1/exchange", Some(OTHER_WORKER)).header("content-type", "application/json");
    let answer = app.send(message.body(Body::from(body)).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str().unwrap()), (403, "WEB0107"));
}

#[tokio::test]
async fn a_worker_joins_with_its_token_and_uses_its_own_key() {
    let app = App::new(&[]).await;
    let answer = app.post("/worker/v1/join", JOIN, json!({ "worker": "fresh" })).await;
    assert_eq!(answer.status, 200);
    let key = answer.json()["key"].as_str().unwrap().to_owned();
    let beat = json!({ "worker": "fresh", "boot_id": "b", "attempts": [] });
    assert_eq!(app.post("/worker/v1/heartbeat", &key, beat.clone()).await.status, 200);
    // Nobody is connected under the name. Another one joins: the first key is worth nothing any more.
    let again = app.post("/worker/v1/join", JOIN, json!({ "worker": "fresh" })).await.json();
    assert_ne!(again["key"].as_str().unwrap(), key);
}

#[tokio::test]
async fn a_login_link_opens_one_session_and_only_by_its_button() {
    let app = App::new(&[]).await;
    let link = format!("/login?token={LINK}");
    for _ in 0..3 {
        let shown = app.send(request("GET", &link, None).body(Body::empty()).unwrap()).await;
        assert_eq!(shown.status, 200);
        assert!(
            shown.text().contains("method=\"post\" action=\"/login\"")
                && shown.header("set-cookie").is_empty()
        );
    }
    let sign_in = || {
        let body = format!("token={LINK}&next=%2Fdags");
        Request::post("/login")
            .header("host", "localhost")
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap()
    };
    let first = app.send(sign_in()).await;
    assert_eq!((first.status.as_u16(), first.header("location")), (303, "/dags"));
    let cookie = first.header("set-cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"),
        "{cookie}"
    );
    let second = app.send(sign_in()).await;
    assert_eq!((second.status.as_u16(), second.json()["code"].as_str().unwrap()), (403, "WEB0106"));
    // The session works, and after signing out the same cookie does not.
    let pair = cookie.split(';').next().unwrap().to_owned();
    let visit = |method: &str, path: &str| {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("cookie", &pair)
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(app.send(visit("GET", "/dags")).await.status, 200);
    assert_eq!(app.send(visit("POST", "/logout")).await.status, 303);
    assert_eq!(app.send(visit("GET", "/dags")).await.status, 401);
}

#[tokio::test]
async fn a_join_token_does_not_take_the_name_of_a_connected_worker() {
    let mut app = App::new(&[]).await;
    app.work(|assignment| unreachable!("{assignment:?}"));
    app.until("the worker is connected", async || {
        app.get("/api/v1/workers").await.json()["items"][0]["worker"] == WORKER_NAME
    })
    .await;
    let join = async || app.post("/worker/v1/join", JOIN, json!({ "worker": WORKER_NAME })).await;
    let beat = async || {
        let body = json!({ "worker": WORKER_NAME, "boot_id": "boot", "attempts": [] });
        app.post("/worker/v1/heartbeat", WORKER, body).await.status.as_u16()
    };
    let refused = join().await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str().unwrap()), (409, "WEB0108"));
    assert_eq!(beat().await, 200, "the live worker keeps its key");
    // One token serves several workers.
    for name in ["w3", "w4"] {
        assert_eq!(app.post("/worker/v1/join", JOIN, json!({ "worker": name })).await.status, 200);
    }
    let path = format!("/api/v1/workers/{WORKER_NAME}");
    let revoke = request("DELETE", &path, Some(ADMIN)).body(Body::empty()).unwrap();
    assert_eq!(app.send(revoke).await.status, 204);
    assert_eq!(join().await.status, 200, "an admin gave the name away");
}

/// Signs in with a link and returns the cookie.
async fn sign_in(app: &App, link: &Answer) -> String {
    assert_eq!(link.status, 201, "{}", link.text());
    let path = link.json()["path"].as_str().unwrap().to_owned();
    let form = path.split_once('?').unwrap().1.to_owned();
    let message = Request::post("/login")
        .header("host", "localhost")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = app.send(message.body(Body::from(form)).unwrap()).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

/// Asks as a browser with that cookie and returns the status.
async fn browse(app: &App, cookie: &str, method: &str, path: &str) -> u16 {
    let message = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("cookie", cookie);
    let body = if path.ends_with("/pause") { "is_paused=true" } else { "" };
    app.send(message.body(Body::from(body)).unwrap()).await.status.as_u16()
}

#[tokio::test]
async fn a_login_link_has_at_most_the_role_of_its_maker() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let ask = async |token: &str, body| app.post("/api/v1/login_links", token, body).await;
    let olga = sign_in(&app, &ask(ADMIN, json!({ "role": "operator", "name": "olga" })).await).await;
    for (method, path, status) in [
        ("GET", "/dags", 200),
        ("GET", "/dags/hello", 200),
        ("POST", "/dags/hello/pause", 303),
        ("GET", "/settings", 403),
        ("GET", "/audit", 403),
        ("POST", "/settings/tokens", 403),
        // She would prolong her session with it, for ever.
        ("POST", "/api/v1/login_links", 403),
    ] {
        assert_eq!(browse(&app, &olga, method, path).await, status, "{method} {path}");
    }
    let viewer = sign_in(&app, &ask(VIEWER, json!({})).await).await;
    for (method, path, status) in [
        ("GET", "/dags/hello", 200),
        ("POST", "/dags/hello/pause", 403),
        ("GET", "/dags/hello/trigger", 403),
        ("GET", "/settings", 403),
    ] {
        assert_eq!(browse(&app, &viewer, method, path).await, status, "{method} {path}");
    }
    for (token, body, status, code) in [
        (VIEWER, json!({ "role": "operator" }), 403, "WEB0102"),
        (OPERATOR, json!({ "role": "admin" }), 403, "WEB0102"),
        (OPERATOR, json!({ "name": "ann" }), 403, "WEB0102"),
        (ADMIN, json!({ "role": "root" }), 422, "WEB0206"),
        (ADMIN, json!({ "name": "token:viewer" }), 422, "WEB0206"),
        (ADMIN, json!({ "rolle": "viewer" }), 400, "WEB0202"),
    ] {
        let answer = ask(token, body.clone()).await;
        let found = (answer.status.as_u16(), answer.json()["code"].as_str().unwrap().to_owned());
        assert_eq!(found, (status, code.to_owned()), "{body}");
    }
    // What a token began ends with it.
    assert_eq!(browse(&app, &viewer, "GET", "/dags").await, 200);
    let revoke = request("DELETE", "/api/v1/tokens/viewer", Some(ADMIN)).body(Body::empty()).unwrap();
    assert_eq!(app.send(revoke).await.status, 204);
    assert_eq!(browse(&app, &viewer, "GET", "/dags").await, 401);
    // Beginning and end of a session are in the audit log.
    assert_eq!(browse(&app, &olga, "POST", "/logout").await, 303);
    assert_eq!(browse(&app, &olga, "GET", "/dags").await, 401);
    let log = app.get("/api/v1/audit?actor=olga").await.json();
    let did: Vec<_> =
        log["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(did, ["session.end", "dag.pause", "session.begin"], "{log}");
    assert_eq!(log["items"][2]["detail"]["role"], "operator");
}

#[tokio::test]
async fn a_session_survives_a_restart_of_the_server() {
    let store = tidemill_store::memory::MemoryStore::default();
    let app = App::with(&[], store.clone()).await;
    assert_eq!(app.page("/dags").await.status, 401);
    app.give_access().await;
    assert_eq!(app.page("/dags").await.status, 200);
    app.stop().await;
    let again = App::with(&[], store).await;
    assert_eq!(again.page("/dags").await.status, 200);
}

#[tokio::test]
async fn guessing_login_tokens_is_slowed_down() {
    let app = App::new(&[]).await;
    let mut statuses = Vec::new();
    for n in 0..12 {
        let message = Request::post("/login")
            .header("host", "localhost")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(format!("token=guess-number-{n:020}")))
            .unwrap();
        statuses.push(app.send(message).await.status.as_u16());
    }
    assert_eq!(statuses, [403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 429, 429]);
}

#[tokio::test]
async fn a_revoked_token_is_refused_by_the_next_request() {
    let app = App::new(&[]).await;
    let made = app.post("/api/v1/tokens", ADMIN, json!({ "name": "ci", "role": "viewer" })).await.json();
    let secret = made["token"].as_str().unwrap();
    let list = || request("GET", "/api/v1/dags", Some(secret)).body(Body::empty()).unwrap();
    assert_eq!(app.send(list()).await.status, 200);
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(
        app.send(request("DELETE", &path, Some(ADMIN)).body(Body::empty()).unwrap()).await.status,
        204
    );
    assert_eq!(app.send(list()).await.status, 401);
    // The list never shows a secret or its hash.
    let listed = app.get("/api/v1/tokens").await.text();
    assert!(!listed.contains(secret) && !listed.contains("hash"));
}

#[tokio::test]
async fn a_cookie_does_not_help_a_bad_bearer() {
    let app = App::new(&[]).await;
    let message = request("GET", "/api/v1/dags", Some("nothing-0123456789abcdef"))
        .header("cookie", format!("tidemill_session={SESSION}"));
    assert_eq!(app.send(message.body(Body::empty()).unwrap()).await.status, 401);
}

#[tokio::test]
async fn refusals_carry_their_codes() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let code = |answer: Answer| answer.json()["code"].as_str().unwrap_or_default().to_owned();
    let ask = |path: &str, token| request("GET", path, token).body(Body::empty()).unwrap();
    assert_eq!(code(app.send(ask("/api/v1/dags", None)).await), "WEB0101");
    assert_eq!(code(app.post("/api/v1/dags/hello/runs", VIEWER, json!({})).await), "WEB0102");
    let foreign = Request::get("/").header("host", "evil.example").body(Body::empty()).unwrap();
    assert_eq!(code(app.send(foreign).await), "WEB0104");
    let guess = |n: u32| {
        let body = Body::from(format!("token=guess-number-{n:020}"));
        let message = Request::post("/login").header("host", "localhost");
        message.header("content-type", "application/x-www-form-urlencoded").body(body).unwrap()
    };
    for n in 0..10 {
        assert_eq!(code(app.send(guess(n)).await), "WEB0106");
    }
    assert_eq!(code(app.send(guess(10)).await), "WEB0105");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let app = App::new(&[]).await;
    let options = tidemill_web::Options {
        request_timeout: std::time::Duration::from_millis(20),
        ..tidemill_web::Options::default()
    };
    let state = tidemill_web::WebState::new(app.reader.clone(), app.handle.clone(), options);
    // With nothing to say an exchange is held for 20 s.
    let body = serde_json::to_vec(&exchange_request(1, Vec::new())).unwrap();
    let message =
        request("POST", "/worker/v1/exchange", Some(WORKER)).header("content-type", "application/json");
    let answer = app.send_to(&tidemill_web::router(state), message.body(Body::from(body)).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str().unwrap()), (503, "WEB0207"));
    assert_eq!(answer.header("retry-after"), "5");
}
