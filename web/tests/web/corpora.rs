//! Corpora of hostile hosts, origins, addresses, paths and texts: none of them gets through.

use axum::{body::Body, http::Request};
use serde_json::json;
use tidemill_store::memory::MemoryStore;

use super::support::{ADMIN, App, HELLO, SESSION, report, request};

#[tokio::test]
async fn foreign_hosts_are_refused() {
    let app = App::new(&[]).await;
    let names = [
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "0.0.0.0",
        "[::]",
        "[::2]",
        "10.0.0.1",
        "localhost:80:80",
    ];
    let mut count = 0;
    for name in names {
        for port in ["", ":8080", ":80", ":x", ":"] {
            let host = format!("{name}{port}");
            for path in ["/", "/login", "/api/v1/health", "/api/v1/dags", "/nowhere"] {
                let message = Request::get(path)
                    .header("host", &host)
                    .header("authorization", format!("Bearer {ADMIN}"));
                let answer = app.send(message.body(Body::empty()).unwrap()).await;
                assert_eq!(answer.status, 421, "{host} {path}");
                count += 1;
            }
        }
    }
    for own in ["localhost", "LOCALHOST:9", "127.0.0.1:8080", "[::1]:1"] {
        let message = Request::get("/login").header("host", own).body(Body::empty()).unwrap();
        assert_eq!(app.send(message).await.status, 200, "{own}");
    }
    println!("{count} requests with a foreign host refused");
}

#[tokio::test]
async fn foreign_sites_change_nothing() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let foreign = [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "https://localhost"),
        ("origin", "http://localhost:81"),
        ("origin", "http://localhost.evil.example"),
        ("origin", "http://localhost@evil.example"),
        ("origin", ""),
        ("origin", "file://"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "anything"),
        ("origin", "http://127.0.0.1"),
    ];
    let paths = [
        "/dags/hello/pause",
        "/dags/hello/trigger",
        "/theme",
        "/logout",
        "/login",
        "/api/v1/dags/hello/runs",
    ];
    let mut count = 0;
    for (name, value) in foreign {
        for path in paths {
            let message = Request::post(path)
                .header("host", "localhost")
                .header(name, value)
                .header("cookie", format!("tidemill_session={SESSION}"))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from("is_paused=true&next=%2F"))
                .unwrap();
            let answer = app.send(message).await;
            assert_eq!(
                (answer.status.as_u16(), answer.json()["code"].as_str().unwrap()),
                (403, "WEB0103"),
                "{name}: {value} {path}"
            );
            count += 1;
        }
    }
    // A stream is not read across sites either.
    let stream = Request::get("/api/v1/events")
        .header("host", "localhost")
        .header("origin", "http://evil.example")
        .header("cookie", format!("tidemill_session={SESSION}"));
    assert_eq!(app.send(stream.body(Body::empty()).unwrap()).await.status, 403);
    assert_eq!(app.get("/api/v1/dags/hello").await.json()["is_paused"], false);
    assert_eq!(app.get("/api/v1/dags/hello/runs").await.json()["items"], json!([]));
    println!("{count} foreign requests refused");
}

#[tokio::test]
async fn behind_a_tls_proxy_its_pages_act_and_others_do_not() {
    let url = "https://mill.example".to_owned();
    let options = tidemill_web::Options {
        url: Some(url.clone()),
        hosts: vec!["mill.example".to_owned()],
        ..Default::default()
    };
    let app = App::with_options(&[("hello.toml", HELLO)], MemoryStore::default(), options).await;
    app.give_access().await;
    app.loaded("hello").await;
    let pause = async |host: &str, origin: &str| {
        let message = Request::post("/dags/hello/pause")
            .header("host", host)
            .header("origin", origin)
            .header("cookie", format!("__Host-tidemill_session={SESSION}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("is_paused=true"))
            .unwrap();
        app.send(message).await
    };
    for (host, origin) in [
        ("mill.example", "http://mill.example"),
        ("mill.example", "https://evil.example"),
        ("mill.example", "https://mill.example:444"),
        ("localhost", "https://mill.example"),
    ] {
        assert_eq!(pause(host, origin).await.status, 403, "{origin} {host}");
    }
    assert_eq!(app.get("/api/v1/dags/hello").await.json()["is_paused"], false);
    for (host, origin) in
        [("mill.example", "https://mill.example"), ("localhost:7373", "http://localhost:7373")]
    {
        let answer = pause(host, origin).await;
        assert_eq!(answer.status, 303, "{origin}");
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
    }
    let made = app.post("/api/v1/login_links", ADMIN, json!({})).await.json();
    let link = made["url"].as_str().unwrap();
    assert!(link.starts_with("https://mill.example/login?token="), "{link}");
    let sign_in = Request::post("/login")
        .header("host", "mill.example")
        .header("origin", &url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(link.split_once('?').unwrap().1.to_owned()))
        .unwrap();
    let answer = app.send(sign_in).await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-tidemill_session=") && cookie.contains("; Secure"), "{cookie}");
}

#[tokio::test]
async fn redirects_stay_on_the_server() {
    let app = App::new(&[]).await;
    let evil = [
        "//evil",
        "https:evil",
        "https://evil",
        "/\\evil",
        "%2f%2fevil",
        "\\\\evil",
        "javascript:alert(1)",
        "/%2fevil",
        "///evil",
        "http:/evil",
        "/\r\nx: y",
        "data:,x",
    ];
    for next in evil {
        let encoded: String = next.bytes().map(|b| format!("%{b:02X}")).collect();
        let answer = app.form("/theme", &format!("theme=dark&next={encoded}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"), "{next:?}");
        let shown = app
            .send(request("GET", &format!("/login?next={encoded}"), None).body(Body::empty()).unwrap())
            .await;
        assert!(shown.text().contains("name=\"next\" value=\"/\""), "{next:?}");
    }
}

#[tokio::test]
async fn no_path_leaves_its_folder() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let up = [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f",
        "..%5c..",
        "%00",
        ".",
        "a%2fb",
        "..;",
        "%252e%252e",
        "....//",
        "/etc/passwd",
        "~",
        "%c0%ae%c0%ae",
        "hello%00",
    ];
    let shapes = [
        "/dags/X",
        "/dags/X/code",
        "/dags/X/graph",
        "/dags/hello/runs/X",
        "/dags/hello/runs/X/tasks/greet",
        "/static/X",
        "/api/v1/dags/X",
        "/api/v1/dags/X/source",
        "/api/v1/dags/hello/source?version=X",
        "/api/v1/dags/hello/runs/X",
        "/api/v1/dags/hello/runs/X/tasks/X/tries/1/log",
        "/api/v1/pools/X",
    ];
    let mut count = 0;
    for shape in shapes {
        for name in up {
            let answer = app.get(&shape.replace('X', name)).await;
            assert!(
                answer.status.is_client_error() || shape.replace('X', name).ends_with("/."),
                "{shape} {name}: {}",
                answer.status
            );
            assert!(!answer.text().contains("root:"), "{shape} {name}");
            count += 1;
        }
    }
    println!("{count} traversals refused");
}

/// Elements and attributes that our own templates use; anything else came from outside.
const ELEMENTS: &str = " html head meta title link script body a header svg circle path nav ul li span form input button main div h1 h2 h3 p b section table thead tbody tr th td dl dt dd rect g datalist text i time label select option pre code ol footer dialog hr kbd textarea details summary br aside figure figcaption ";
const ATTRIBUTES: &str = " lang charset name content rel href type src defer class id viewbox fill stroke stroke-width stroke-linecap aria-hidden cx cy r d method action value title aria-label aria-current hx-get hx-trigger hx-select hx-target hx-swap data-events datetime data-rel data-since role data-row data-search placeholder selected for scope width height xmlns x y rx transform fill-rule text-anchor preserveaspectratio tabindex hidden aria-pressed data-log data-follow data-open data-task data-run data-col checked min max step pattern required spellcheck autocomplete maxlength stroke-dasharray opacity data-theme data-attempt data-zoom data-zone data-abs data-close data-cell data-here hx-push-url aria-expanded open list minlength ";

/// Walks over the tags of a page and names what our templates do not contain.
fn foreign_markup(html: &str) -> Option<String> {
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        let near: String = rest[open..].chars().take(80).collect();
        rest = &rest[open + 1..];
        if rest.starts_with(['!', '/']) {
            continue;
        }
        let (name, after) = split(rest, |c| !c.is_ascii_alphanumeric());
        if !ELEMENTS.contains(&format!(" {} ", name.to_ascii_lowercase())) {
            return Some(format!("<{name}> near {near:?}"));
        }
        rest = after;
        loop {
            rest = rest.trim_start_matches([' ', '\n', '/']);
            if rest.is_empty() || rest.starts_with('>') {
                break;
            }
            let (attribute, after) = split(rest, |c| matches!(c, '=' | ' ' | '\n' | '/' | '>'));
            let attribute = attribute.to_ascii_lowercase();
            rest = after;
            let mut value = "";
            if let Some(after) = rest.strip_prefix('=') {
                (value, rest) = match after.strip_prefix('"') {
                    Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                    None => split(after, |c| matches!(c, ' ' | '\n' | '>')),
                };
            }
            if !ATTRIBUTES.contains(&format!(" {attribute} ")) {
                return Some(format!("attribute {attribute:?} near {near:?}"));
            }
            let is_address = matches!(attribute.as_str(), "href" | "src" | "action" | "hx-get");
            if is_address && !value.starts_with(['/', '#', '?']) {
                return Some(format!("{attribute}={value:?}"));
            }
        }
    }
    None
}

fn split(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// 200 texts that would become markup where they are not escaped.
fn payloads() -> Vec<String> {
    let cores = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "<iframe srcdoc='x'>",
        "<style>*{}</style>",
        "<object data=x>",
        "<embed src=x>",
        "<base href=//evil>",
        "<meta http-equiv=refresh content=0>",
        "<marquee onstart=alert(1)>",
        "<video><source onerror=alert(1)></video>",
        "<math><mtext></mtext></math>",
        "<noscript><p title=\"</noscript><img src=x>\">",
        "<template><img></template>",
        "{{7*7}}<blink>",
        "<a href=javascript:alert(1)>x</a><u>",
        "<input autofocus onfocus=alert(1)>",
        "<body onload=alert(1)>",
        "<link rel=stylesheet href=//evil><blink>",
        "<details open ontoggle=alert(1)><blink>",
    ];
    let wraps: [fn(&str) -> String; 10] = [
        |c| c.to_owned(),
        |c| format!("\">{c}"),
        |c| format!("'>{c}"),
        |c| format!("</title>{c}"),
        |c| format!("</textarea>{c}"),
        |c| format!("--> {c}"),
        |c| format!("</script>{c}"),
        |c| format!("\" autofocus onfocus=alert(1) x=\"{c}"),
        |c| format!("]]>{c}"),
        |c| format!("\u{202e}{c}\\"),
    ];
    cores.iter().flat_map(|core| wraps.iter().map(|wrap| wrap(core))).collect()
}

#[tokio::test]
async fn two_hundred_hostile_texts_stay_text_on_every_page() {
    let payloads = payloads();
    assert_eq!(payloads.len(), 200);
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let all = payloads.join(" ");
    let few: Vec<String> = payloads.iter().take(60).map(|p| quoted(p)).collect();
    let dag = format!(
        "[dag]\nid = \"evil\"\ndescription = {}\nowner = {}\ndoc = {}\ntags = [{}]\n\n[params.p]\ntype = \"string\"\ntitle = {}\ndescription = {}\ndefault = {}\n\n[[task]]\nid = \"t\"\ncommand = [\"echo\", {}]\n",
        quoted(&all),
        quoted(&payloads[1]),
        quoted(&all),
        few.join(", "),
        quoted(&payloads[2]),
        quoted(&all),
        quoted(&payloads[13]),
        quoted(&payloads[4]),
    );
    let broken = format!("[dag]\nid = \"broken\"\n{} = 1\n", quoted(&payloads[0]));
    let mut app = App::new(&[("evil.toml", &dag), ("broken.toml", &broken)]).await;
    let log = all.clone().into_bytes();
    app.work(move |assignment| {
        let mut done = report(assignment, tidemill_protocol::worker::TryOutcome::Failed, &log);
        done.reason = Some(String::from_utf8_lossy(&log).into_owned());
        done.outputs.insert("<img src=x>".to_owned(), json!("<script>alert(1)</script>"));
        done
    });
    app.loaded("evil").await;
    let conf = json!({ "p": all });
    let run_id = app.trigger("evil", json!({ "conf": conf })).await;
    app.finished("evil", &run_id).await;
    let mut pages = vec![
        "/".to_owned(),
        "/dags".to_owned(),
        "/runs".to_owned(),
        "/pools".to_owned(),
        "/assets".to_owned(),
        "/dags/evil/assets".to_owned(),
        "/workers".to_owned(),
        "/settings".to_owned(),
        "/audit".to_owned(),
        "/dags/evil".to_owned(),
        "/dags/evil/graph".to_owned(),
        "/dags/evil/runs".to_owned(),
        "/dags/evil/code".to_owned(),
        "/dags/evil/trigger".to_owned(),
        format!("/dags/evil/runs/{run_id}"),
        format!("/dags/evil/runs/{run_id}/tasks/t"),
        format!("/dags/evil/runs/{run_id}/confirm?action=clear"),
    ];
    for payload in &payloads {
        let encoded: String = payload.bytes().map(|b| format!("%{b:02X}")).collect();
        pages.push(format!("/dags?q={encoded}&tag={encoded}"));
        pages.push(format!("/dags/{encoded}"));
        pages.push(format!("/audit?subject={encoded}&actor={encoded}"));
        pages.push(format!("/runs?state={encoded}"));
        pages.push(format!("/login?token={encoded}&next={encoded}"));
    }
    let mut count = 0;
    for path in &pages {
        let answer = app.page(path).await;
        assert!(!answer.status.is_server_error(), "{path}: {}", answer.text());
        assert_eq!(foreign_markup(&answer.text()), None, "{path}");
        count += 1;
    }
    println!("{count} pages hold no foreign markup");
}

#[test]
fn the_walker_finds_what_it_is_meant_to_find() {
    for bad in [
        "<img src=x>",
        "<a onclick=x>",
        "<p style=\"x\">",
        "<a href=\"javascript:x\">",
        "<p title=\"a\" onfocus=\"b\">",
    ] {
        assert!(foreign_markup(bad).is_some(), "{bad}");
    }
    assert_eq!(foreign_markup("<p class=\"a\"><a href=\"/x\">y</a></p>"), None);
}
