//! What the pages show, and what every one of them carries.

use std::{collections::BTreeMap, fmt::Write as _};

use axum::{body::Body, http::Request};
use serde_json::json;
use tidemill_protocol::worker::{Report, TryOutcome, Work};
use tidemill_web::HEADERS;

use super::support::{ADMIN, App, HELLO, OPERATOR, SESSION, report, request};

pub(super) const BRANCHY: &str = r#"
[dag]
id = "branchy"
description = "chooses a way"
schedule = "@daily"

[[task]]
id = "choose"
operator = "branch"
branches = [{ when = "{{ params.way == 'left' }}", then = "left" }, { then = "right" }]

[[task]]
id = "left"
command = "echo left"
depends_on = ["choose"]

[[task]]
id = "right"
operator = "noop"
depends_on = ["choose"]

[[task]]
id = "join"
operator = "noop"
trigger_rule = "none_failed_min_one_success"
depends_on = ["left", "right"]

[params.way]
type = "string"
enum = ["left", "right"]
default = "left"
"#;

#[tokio::test]
async fn every_html_answer_carries_the_security_headers() {
    let mut app = App::new(&[("hello.toml", HELLO)]).await;
    app.work(|assignment| report(assignment, TryOutcome::Failed, b"boom\n"));
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({})).await;
    app.finished("hello", &run_id).await;
    let mut count = 0;
    for route in app.routes().iter().filter(|r| r.method == tidemill_web::Method::Get) {
        let path = route
            .path
            .replace("{dag_id}", "hello")
            .replace("{run_id}", &run_id)
            .replace("{task_id}", "greet")
            .replace("{try_number}", "1")
            .replace("{name}", "x");
        for path in [path.clone(), format!("{path}/nowhere")] {
            let answer = app.page(&path).await;
            for (name, value) in
                HEADERS.iter().filter(|h| h.0 != "cache-control" && h.0 != "content-security-policy")
            {
                assert_eq!(answer.header(name), *value, "{path} {name}");
            }
            if answer.header("content-type").starts_with("text/html") {
                assert_eq!(
                    answer.header("content-security-policy"),
                    tidemill_web::CONTENT_SECURITY_POLICY,
                    "{path}"
                );
                assert_eq!(answer.header("cache-control"), "no-store", "{path}");
                let text = answer.text();
                for word in [" style=", "<style", "hx-on", "js:", "javascript:", " onclick", "unsafe-"] {
                    assert!(!text.contains(word), "{path} {word}");
                }
                assert_eq!(
                    text.matches("<script").count(),
                    text.matches("<script src=\"/static/").count(),
                    "{path}"
                );
                count += 1;
            }
        }
    }
    println!("{count} HTML answers with all headers");
    assert!(count > 30);
}

#[tokio::test]
async fn a_failed_run_shows_its_first_failure_and_how_to_go_on() {
    let mut app = App::new(&[("hello.toml", HELLO)]).await;
    let log: String = (1..=60).map(|n| format!("line {n}\n")).collect();
    app.work(move |assignment| report(assignment, TryOutcome::Failed, log.as_bytes()));
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({})).await;
    assert_eq!(app.finished("hello", &run_id).await["state"], "failed");
    let page = app.page(&format!("/dags/hello/runs/{run_id}")).await.text();
    for words in
        ["task greet failed (exit code 1)", "line 60", "line 21", "Retry from failure", "upstream_failed"]
    {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("line 20<"));
    // The question lists what the answer will do, and asking changes nothing.
    let confirm =
        app.page(&format!("/dags/hello/runs/{run_id}/confirm?action=clear&only_failed=true")).await.text();
    assert!(confirm.contains("2 task instances would change"), "{confirm}");
    assert_eq!(app.get(&format!("/api/v1/dags/hello/runs/{run_id}")).await.json()["state"], "failed");
    let done = app.form(&format!("/dags/hello/runs/{run_id}/actions"), "action=clear&only_failed=true").await;
    assert_eq!(done.status, 303);
    app.until("the second try has failed", async || {
        app.get(&format!("/api/v1/dags/hello/runs/{run_id}/tasks/greet")).await.json()["try_number"] == 2
    })
    .await;
    assert!(app.page("/audit").await.text().contains("run.clear"));
}

#[tokio::test]
async fn home_says_for_a_day_what_failed_and_links_to_it() {
    let mut app = App::new(&[("hello.toml", HELLO)]).await;
    assert!(app.page("/").await.text().contains("Something is wrong with the server"), "no worker is there");
    let count = std::sync::atomic::AtomicUsize::new(0);
    app.work(move |assignment| {
        let is_first = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        report(assignment, if is_first { TryOutcome::Failed } else { TryOutcome::Success }, b"")
    });
    app.loaded("hello").await;
    app.until("the worker is seen", async || app.page("/").await.text().contains("1 connected, 4 slots"))
        .await;
    let home = app.page("/").await.text();
    assert!(home.contains("Everything is fine") && !home.contains("id=\"troubles\""), "{home}");
    assert!(home.contains("class=\"state s-ok\"") && !home.contains("class=\"state s-lost\""));
    let workers = app.page("/workers").await.text();
    assert!(workers.contains("idle") && !workers.contains("success"), "a worker has no state of a run");

    let failed = app.trigger("hello", json!({})).await;
    assert_eq!(app.finished("hello", &failed).await["state"], "failed");
    let home = app.page("/").await.text();
    assert!(home.contains("Something needs a person") && home.contains("the last run of hello failed"));
    let later = app.trigger("hello", json!({})).await;
    assert_eq!(app.finished("hello", &later).await["state"], "success");
    // Nobody is needed any more, and yet not everything was fine.
    let home = app.page("/").await.text();
    assert!(home.contains("<a href=\"#troubles\">1 run failed in the last 24 hours</a>"), "{home}");
    assert!(home.contains(&format!("href=\"/dags/hello/runs/{failed}\"")), "{home}");
    assert!(
        home.contains("task greet failed: exit code 1") && !home.contains("Everything is fine"),
        "{home}"
    );
}

#[tokio::test]
async fn the_branch_that_was_taken_looks_different_from_the_other() {
    let mut app = App::new(&[("branchy.toml", BRANCHY)]).await;
    app.work(|assignment| {
        let mut done = report(assignment, TryOutcome::Success, b"");
        if let Work::Branch { chosen, because, .. } = &assignment.work {
            done.report = Some(Report::Branch { chosen: chosen.clone(), because: because.clone() });
        }
        done
    });
    app.loaded("branchy").await;
    let run_id = app.trigger("branchy", json!({ "conf": { "way": "left" } })).await;
    assert_eq!(app.finished("branchy", &run_id).await["state"], "success");
    let page = app.page(&format!("/dags/branchy/graph?run_id={run_id}")).await.text();
    assert_eq!(page.matches("class=\"edge taken\"").count(), 1);
    assert_eq!(page.matches("class=\"edge not-taken\"").count(), 1);
    assert!(page.contains("node s-skipped") && page.contains("none_failed_min_one_success"));
    let task = app.page(&format!("/dags/branchy/runs/{run_id}/tasks/choose")).await.text();
    assert!(task.contains("Branch: left"));
    let grid = app.page("/dags/branchy").await.text();
    assert!(grid.contains("c s-skipped") && grid.contains("c s-success"));
}

#[tokio::test]
async fn the_trigger_form_is_made_from_params_and_shows_errors_beside_fields() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    app.loaded("hello").await;
    let form = app.page("/dags/hello/trigger").await.text();
    assert!(form.contains("name=\"param.count\" type=\"number\" value=\"1\" min=\"1\" max=\"5\""), "{form}");
    let wrong = app.form("/dags/hello/trigger", "param.name=bob&param.count=9").await;
    assert_eq!(wrong.status, 422);
    let text = wrong.text();
    let field = text.split("<div class=\"field").find(|f| f.contains("param.count")).unwrap();
    assert!(
        field.starts_with(" wrong") && field.contains("class=\"error\"") && field.contains("value=\"9\""),
        "{field}"
    );
    let right = app.form("/dags/hello/trigger", "param.name=bob&param.count=1&logical_date=2026-11-05").await;
    assert_eq!(right.status, 303, "{}", right.text());
    let run = app.get(&format!("/api/v1{}", right.header("location"))).await.json();
    assert_eq!(
        (run["conf"].clone(), run["logical_date"].clone()),
        (json!({ "name": "bob" }), json!("2026-11-05T00:00:00Z"))
    );
}

const PARAMS: &str = r#"
[dag]
id = "formed"
[params.rows]
type = "integer"
minimum = 1
default = 10
[params.at]
type = "string"
format = "date-time"
default = "2026-01-31T06:00:00+02:00"
[params.size]
enum = ["small", "large"]
default = "small"
[params.options]
type = "object"
default = { depth = 3 }
properties = { depth = { type = "integer", minimum = 1 } }
[params.label]
type = "string"
pattern = '^[a-z<]+$'
examples = ["a", "b"]
default = "a"
[[task]]
id = "load"
command = "load --rows {{ params.rows }} {{ params.label }} {{ params.options.depth }}"
env = { SECRET = "{{ var.token }}" }
[[task]]
id = "train"
depends_on = ["load"]
command = ["train", "{{ params.size }}", "{{ ds }}", "{{ outputs.load.rows }}"]
"#;

#[tokio::test]
async fn the_trigger_form_has_a_control_for_each_type_and_keeps_what_was_typed() {
    let app = App::new(&[("formed.toml", PARAMS)]).await;
    app.loaded("formed").await;
    let form = app.page("/dags/formed/trigger").await.text();
    for part in [
        "name=\"param.rows\" type=\"number\" value=\"10\" min=\"1\" step=\"1\"",
        "name=\"param.at\" type=\"datetime-local\" value=\"2026-01-31T04:00:00\"",
        "<option value=\"&#34;small&#34;\" selected>small</option>",
        "<datalist id=\"l-param.label\"><option value=\"a\">",
        "<textarea id=\"f-param.options\"",
    ] {
        assert!(form.contains(part), "{part}\n{form}");
    }
    let fields = "param.rows=x&param.at=2026-01-31T04:00:00&param.size=small&param.options=%7B%22depth%22%3A0%7D&param.label=A%3Cb%3E&run_id=a+b";
    let wrong = app.form("/dags/formed/trigger", fields).await;
    assert_eq!(wrong.status, 422);
    let text = wrong.text();
    let beside = |name: &str| {
        text.split("<div class=\"field").find(|field| field.contains(&format!("name=\"{name}\""))).unwrap()
    };
    for (name, typed, error) in [
        ("param.rows", "value=\"x\"", "must be a number"),
        ("param.options", "&#34;depth&#34;:0", "`/depth` must be at least 1"),
        ("param.label", "value=\"A&#60;b&#62;\"", "must match the pattern ^[a-z&#60;]+$"),
        ("run_id", "value=\"a b\"", "class=\"error\""),
    ] {
        let field = beside(name);
        assert!(
            field.starts_with(" wrong") && field.contains(typed) && field.contains(error),
            "{name}: {field}"
        );
    }
    assert!(!beside("param.at").starts_with(" wrong") && !text.contains("role=\"alert\""), "{text}");
    // By the API every problem is named by a JSON pointer.
    let body = json!({ "conf": { "rows": 0, "options": { "depth": "x" }, "colour": 1 } });
    let refused = app.post("/api/v1/dags/formed/runs", OPERATOR, body).await;
    assert_eq!(refused.status, 422);
    let pointers: Vec<String> = refused.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pointers, ["/rows", "/options/depth", "/colour"]);
    assert_eq!(app.get("/api/v1/dags/formed/runs").await.json()["items"], json!([]));
    println!("{{\"fields\": 7, \"errors_beside\": 4, \"pointers\": {}}}", pointers.len());
}

#[tokio::test]
async fn the_preview_of_a_trigger_shows_params_and_commands_and_starts_nothing() {
    let app = App::new(&[("formed.toml", PARAMS)]).await;
    app.loaded("formed").await;
    let fields = "param.rows=7&param.size=large&param.label=b&logical_date=2026-11-05&step=preview";
    let answer = app.form("/dags/formed/trigger", fields).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let preview = text.split("id=\"preview\"").nth(1).unwrap();
    for part in [
        "&#34;rows&#34;: 7",
        "[&#34;train&#34;,&#34;large&#34;,&#34;2026-11-05&#34;,&#34;‹outputs.load.rows›&#34;]",
        "SECRET=‹var.token›",
        "=7<",
        "Known when it starts: outputs.load.rows",
    ] {
        assert!(preview.contains(part), "{part}\n{preview}");
    }
    assert!(text.contains("value=\"7\"") && text.contains("value=\"2026-11-05\""), "{text}");
    assert_eq!(app.get("/api/v1/dags/formed/runs").await.json()["items"], json!([]), "nothing was started");
    let wrong = app.form("/dags/formed/trigger", "param.rows=0&step=preview").await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains("must be at least 1"));
    let started = app.form("/dags/formed/trigger", "param.rows=7").await;
    assert_eq!(started.status, 303);
    assert_eq!(app.get("/api/v1/dags/formed/runs").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_dag_warns_of_variables_and_connections_that_are_not_there_until_they_are() {
    let file = "[dag]\nid = \"naming\"\n[[task]]\nid = \"load\"\ncommand = [\"load\", \"{{ var.region }}\", \"{{ conn.db.host }}\"]\n";
    let app = App::new(&[("naming.toml", file)]).await;
    app.loaded("naming").await;
    let warnings = async || {
        let dag = app.get("/api/v1/dags/naming").await.json();
        dag["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = warnings().await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].starts_with("DAG0515: the server has no variable `region`, which `load` will ask for"));
    assert!(all[1].starts_with("DAG0515: the server has no connection `db`"), "{all:?}");
    assert!(app.page("/dags/naming").await.text().contains("no variable `region`"));
    let put =
        request("PUT", "/api/v1/variables/region", Some(ADMIN)).header("content-type", "application/json");
    let made = app.send(put.body(Body::from(json!({ "value": "eu" }).to_string())).unwrap()).await;
    assert!(made.status.is_success(), "{}", made.text());
    let left = warnings().await;
    assert!(left.len() == 1 && left[0].contains("connection `db`"), "{left:?}");
}

#[tokio::test]
async fn pausing_is_a_button_and_an_error_is_a_page() {
    let app =
        App::new(&[("hello.toml", HELLO), ("broken.toml", "[dag]\nid = \"broken\"\nshedule = \"@daily\"\n")])
            .await;
    app.loaded("hello").await;
    let answer = app.form("/dags/hello/pause", "is_paused=true&next=%2Fdags").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/dags"));
    assert_eq!(app.get("/api/v1/dags/hello").await.json()["is_paused"], true);
    let missing = app.page("/dags/nothing").await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("WEB0201") && missing.text().contains("<title>Not found"));
    app.until("the import error is stored", async || {
        app.get("/api/v1/import_errors").await.json()["items"][0]["path"] == "broken.toml"
    })
    .await;
    let page = app.page("/dags").await.text();
    assert!(
        page.contains("broken.toml does not load")
            && page.contains("</span>^^^^^^^</span>")
            && page.contains("shedule"),
        "{page}"
    );
}

#[tokio::test]
async fn an_empty_server_says_what_fills_its_pages() {
    let app = App::new(&[]).await;
    let expected = BTreeMap::from([
        ("/dags", "tidemill dags check"),
        ("/runs", "tidemill dags trigger"),
        ("/workers", "tidemill worker"),
        ("/audit", "No entry"),
        ("/", "tidemill dags unpause"),
    ]);
    for (path, words) in expected {
        assert!(app.page(path).await.text().contains(words), "{path}");
    }
}

#[tokio::test]
async fn what_the_author_wrote_about_a_task_is_shown_as_text() {
    let dag = "[dag]\nid = \"told\"\n\n[[task]]\nid = \"train\"\ncommand = \"true\"\ndoc = \"Takes <b>two</b> hours.\"\n";
    let app = App::new(&[("told.toml", dag)]).await;
    app.loaded("told").await;
    let run_id = app.trigger("told", json!({})).await;
    let page = app.page(&format!("/dags/told/runs/{run_id}/tasks/train")).await.text();
    assert!(page.contains("Takes &#60;b&#62;two&#60;/b&#62; hours."), "{page}");
}

/// What `dags check` warns of, a running server says too, and what only it can know about the pools.
#[tokio::test]
async fn a_dag_that_loads_with_warnings_says_so_on_its_page() {
    let odd = "[dag]\nid = \"odd\"\n[[task]]\nid = \"a\"\ncommand = 'sh -c \"echo {{ run_id }}\"'\npool = \"gpu\"\n\
               [[task]]\nid = \"b\"\ncommand = \"true\"\npool_slots = 500\n";
    let app = App::new(&[("hello.toml", HELLO), ("odd.toml", odd)]).await;
    app.loaded("odd").await;
    app.loaded("hello").await;
    for tab in ["", "/graph", "/runs", "/code", "/calendar", "/gantt", "/durations", "/audit"] {
        let page = app.page(&format!("/dags/odd{tab}")).await.text();
        for text in
            ["DAG0720 in line 5", "a will wait: there is no pool gpu", "b will wait: it wants 500 slots"]
        {
            assert!(page.contains(text), "{tab}: {text}: {page}");
        }
    }
    assert!(!app.page("/dags/hello").await.text().contains("will wait"));
}

/// What a pause changes is told before it is done, and a clear shows what else it can select.
#[tokio::test]
async fn a_pause_and_a_clear_are_asked_about_first() {
    let dag = "[dag]\nid = \"daily\"\nschedule = \"@daily\"\n[[task]]\nid = \"a\"\noperator = \"noop\"\n\
               [[task]]\nid = \"b\"\noperator = \"noop\"\ndepends_on = \"a\"\n";
    let app = App::new(&[("daily.toml", dag)]).await;
    app.loaded("daily").await;
    let head = app.page("/dags/daily").await.text();
    assert!(head.contains("/dags/daily/pause?is_paused=true&amp;next=/dags/daily"), "{head}");
    let asked = app.page("/dags/daily/pause").await.text();
    assert!(asked.contains("No scheduled run is created any more; the next would be that of"), "{asked}");
    assert_eq!(app.get("/api/v1/dags/daily").await.json()["is_paused"], false);
    assert_eq!(app.form("/dags/daily/pause", "is_paused=true").await.status, 303);
    let asked = app.page("/dags/daily/pause").await.text();
    assert!(asked.contains("Scheduled runs are created again, the next is that of"), "{asked}");
    let nothing = app.page("/dags/daily/pause?is_paused=true").await.text();
    assert!(
        nothing.contains("is paused already") && !nothing.contains("<button class=\"primary\""),
        "{nothing}"
    );
    assert_eq!(app.page("/dags/nope/pause?is_paused=true").await.status, 404);

    let run_id = app.trigger("daily", json!({})).await;
    app.finished("daily", &run_id).await;
    let base = format!("/dags/daily/runs/{run_id}");
    let confirm = app.page(&format!("{base}/confirm?action=clear&task=b&upstream=true")).await.text();
    assert!(confirm.contains("name=\"upstream\" value=\"true\" checked"), "{confirm}");
    assert!(confirm.contains("2 task instances would change"), "{confirm}");
    let done = app.form(&format!("{base}/actions"), "action=clear&task=b&upstream=true").await;
    assert_eq!(done.status, 303);
    app.finished("daily", &run_id).await;
    assert!(!app.page(&format!("{base}/confirm?action=cancel")).await.text().contains("What it selects"));
}

/// A run that waits says for what, on its page and over the API, and so do its task instances.
#[tokio::test]
async fn a_run_that_has_not_ended_says_why() {
    let dag = "[dag]\nid = \"slow\"\nmax_active_runs = 1\n[[task]]\nid = \"a\"\ncommand = \"true\"\n\
               [[task]]\nid = \"b\"\noperator = \"noop\"\ndepends_on = \"a\"\n";
    let app = App::new(&[("slow.toml", dag)]).await;
    app.loaded("slow").await;
    let first = app.trigger("slow", json!({})).await;
    let second = app.trigger("slow", json!({})).await;
    let no_worker = "no worker that serves queue default is connected";
    let why = app.get(&format!("/api/v1/dags/slow/runs/{first}/explain")).await.json();
    assert_eq!(why["items"][0]["message"], no_worker);
    assert_eq!((&why["items"][0]["tasks"], &why["items"][0]["count"]), (&json!(["a"]), &json!(1)));
    let why = app.get(&format!("/api/v1/dags/slow/runs/{second}/explain")).await.json();
    assert_eq!(why["items"][1]["detail"]["active"], json!([first]));
    let page = app.page(&format!("/dags/slow/runs/{first}")).await.text();
    assert!(page.contains("Why it has not ended") && page.contains(&format!("a: {no_worker}")), "{page}");
    let tasks = app.get(&format!("/api/v1/dags/slow/runs/{first}/tasks")).await.json();
    assert_eq!(tasks["items"][0]["reason"], no_worker);
    assert_eq!(tasks["items"][1]["reason"], "waits for upstream (all_success): a");
    let one = app.get(&format!("/api/v1/dags/slow/runs/{first}/tasks/b")).await.json();
    assert_eq!(one["reason"], "waits for upstream (all_success): a");
    app.post(&format!("/api/v1/dags/slow/runs/{first}/cancel"), OPERATOR, json!({})).await;
    let over = app.get(&format!("/api/v1/dags/slow/runs/{first}/explain")).await.json();
    assert_eq!(over["items"], json!([]));
}

/// What a task executes is looked for whenever the page is shown: a file that comes later is not missed any more.
#[tokio::test]
async fn a_script_that_is_missing_is_told_until_it_is_there() {
    let dag = "[dag]\nid = \"late\"\n[[task]]\nid = \"a\"\ncommand = \"python3 late.py\"\n";
    let app = App::new(&[("late.toml", dag)]).await;
    app.loaded("late").await;
    let page = app.page("/dags/late").await.text();
    assert!(page.contains("DAG0510 in line 5") && page.contains("late.py"), "{page}");
    let shown = app.get("/api/v1/dags/late").await.json();
    assert!(shown["warnings"][0].as_str().unwrap().starts_with("DAG0510 "), "{shown}");
    app.save("late.py", "");
    let page = app.page("/dags/late").await.text();
    assert!(!page.contains("DAG0510"), "{page}");
    assert_eq!(app.get("/api/v1/dags/late").await.json()["warnings"], json!([]));
}

/// The limit above which a cell of the grid has no link is 6 000.
#[tokio::test]
async fn a_grid_too_large_for_a_link_per_cell_is_told_row_by_row() {
    let mut dag = String::from("[dag]\nid = \"large\"\n");
    for n in 0..3_001 {
        write!(dag, "\n[[task]]\nid = \"t{n}\"\noperator = \"noop\"\n").unwrap();
    }
    let app = App::new(&[("large.toml", &dag)]).await;
    app.loaded("large").await;
    let first = app.trigger("large", json!({})).await;
    app.finished("large", &first).await;
    let small = app.page("/dags/large").await.text();
    assert!(small.contains("<a class=\"c s-success\"") && !small.contains("in the newest run"));
    let newest = app.trigger("large", json!({})).await;
    app.finished("large", &newest).await;
    let page = app.page("/dags/large").await.text();
    assert!(page.contains("<i class=\"c s-success\"></i>") && !page.contains("<a class=\"c "));
    for task in ["t0", "t3000"] {
        let head = format!(
            "<a href=\"/dags/large/runs/{newest}/tasks/{task}\">{task}</a><span class=\"sr\">: success in the newest run; of all shown 2 success</span>"
        );
        assert!(page.contains(&head), "{task}");
    }
}

#[tokio::test]
async fn a_browser_that_is_refused_for_host_or_origin_gets_a_page() {
    let app = App::new(&[("hello.toml", HELLO)]).await;
    let browser = |host: &str, origin: Option<&str>| {
        let of = Request::post("/dags/hello/pause")
            .header("host", host)
            .header("accept", "text/html,application/xhtml+xml")
            .header("cookie", format!("tidemill_session={SESSION}"));
        let of = match origin {
            Some(origin) => of.header("origin", origin),
            None => of,
        };
        of.body(Body::empty()).unwrap()
    };
    for (request, status, code) in [
        (browser("evil.example", None), 421, "WEB0104"),
        (browser("localhost", Some("https://evil.example")), 403, "WEB0103"),
    ] {
        let answer = app.send(request).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(answer.header("content-security-policy"), tidemill_web::CONTENT_SECURITY_POLICY);
        let page = answer.text();
        assert!(page.contains(code) && page.contains("<h1>"), "{page}");
        assert!(!page.contains("ann"), "another site is not told who is signed in: {page}");
    }
    // A program still gets JSON.
    let program = Request::get("/api/v1/dags").header("host", "evil.example").header("accept", "text/html");
    assert_eq!(app.send(program.body(Body::empty()).unwrap()).await.json()["code"], "WEB0104");
}
