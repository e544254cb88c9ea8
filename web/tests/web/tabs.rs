//! The tabs of a DAG, the panel beside its grid, and the zone in which times are told.

use serde_json::json;
use tidemill_protocol::worker::TryOutcome;

use super::support::{App, HELLO, VIEWER, report, request};

const NOOP: &str = "[dag]\nid = \"quick\"\nschedule = \"@daily\"\ntimezone = \"Europe/Berlin\"\n\n[[task]]\nid = \"only\"\noperator = \"noop\"\n";

async fn failed(app: &mut App) -> String {
    let log: String = (1..=60).map(|n| format!("line {n}\n")).collect();
    app.work(move |assignment| report(assignment, TryOutcome::Failed, log.as_bytes()));
    app.loaded("hello").await;
    let run_id = app.trigger("hello", json!({})).await;
    app.finished("hello", &run_id).await;
    run_id
}

#[tokio::test]
async fn a_cell_opens_a_panel_that_says_what_happened_and_what_can_be_done() {
    let mut app = App::new(&[("hello.toml", HELLO)]).await;
    let run_id = failed(&mut app).await;
    let grid = app.page("/dags/hello").await.text();
    let link = format!("?run_id={run_id}&amp;task_id=greet#side");
    assert!(grid.contains(&link) && !grid.contains("id=\"side\""), "{grid}");
    let cell = format!("run_id={run_id}&task_id=greet");
    let open = app.page(&format!("/dags/hello?{cell}")).await.text();
    let alone = app.page(&format!("/dags/hello/cell?{cell}")).await.text();
    for page in [&open, &alone] {
        for words in
            ["Failed", "on try 1", "line 60", "line 46", "Clear with downstream", "Mark success", ">1</a>"]
        {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(!page.contains("line 45<"), "only the end of the log");
        assert!(
            page.contains(&format!(
                "hx-get=\"/dags/hello/cell?run_id={}&#38;task_id=greet\"",
                run_id.replace(':', "%3A")
            )),
            "{page}"
        );
    }
    assert!(open.contains("c s-failed on") && open.matches("id=\"side\"").count() == 1);
    assert!(!alone.contains("<html") && alone.trim_start().starts_with("<aside"));
    // What never ran says so, and why.
    let after = app.page(&format!("/dags/hello/cell?run_id={run_id}&task_id=after")).await.text();
    assert!(after.contains("upstream_failed") && after.contains("No try yet"), "{after}");
    for nothing in ["run_id=nothing&task_id=greet", "task_id=greet", "run_id=../x&task_id=greet"] {
        assert_eq!(app.page(&format!("/dags/hello/cell?{nothing}")).await.status, 404, "{nothing}");
    }
    let gone = app.page(&format!("/dags/hello?run_id={run_id}&task_id=gone")).await;
    assert_eq!(gone.status, 404);
    // Whoever may only look is offered nothing to do.
    let look =
        request("GET", &format!("/dags/hello/cell?{cell}"), Some(VIEWER)).header("accept", "text/html");
    let seen = app.send(look.body(axum::body::Body::empty()).unwrap()).await;
    assert!(seen.status == 200 && seen.text().contains("line 60") && !seen.text().contains("Mark success"));
}

#[tokio::test]
async fn the_grid_grows_to_the_left() {
    let app = App::new(&[("quick.toml", NOOP)]).await;
    app.loaded("quick").await;
    let mut first = String::new();
    for n in 0..27 {
        let body = json!({ "logical_date": format!("2026-10-{:02}T00:00:00Z", n + 1) });
        let run_id = app.trigger("quick", body).await;
        app.finished("quick", &run_id).await;
        if n == 0 {
            first = run_id;
        }
    }
    let grid = app.page("/dags/quick").await.text();
    assert!(grid.contains("href=\"/dags/quick?limit=50\"") && !grid.contains(&first), "{grid}");
    let more = app.page("/dags/quick?limit=50").await.text();
    assert!(more.contains("27 runs") && more.contains(&first) && !more.contains("id=\"more\""), "{more}");
    assert!(
        more.contains(&format!("?limit=50&amp;run_id={first}&amp;task_id=only#side")),
        "the choice is kept"
    );
}

#[tokio::test]
async fn a_year_is_a_calendar_whose_days_lead_to_their_runs() {
    let app = App::new(&[("quick.toml", NOOP)]).await;
    app.loaded("quick").await;
    // Midnight of the sixth in Berlin.
    let run_id = app.trigger("quick", json!({ "logical_date": "2024-11-05T23:00:00Z" })).await;
    app.finished("quick", &run_id).await;
    let page = app.page("/dags/quick/calendar?year=2024").await.text();
    assert!(page.contains("1 run · 1 success · days in Europe/Berlin"), "{page}");
    let href = "/dags/quick/runs?from=2024-11-05T23%3A00%3A00Z&amp;until=2024-11-06T23%3A00%3A00Z";
    assert!(page.contains(&format!("href=\"{href}\"><title>2024-11-06: 1 success")), "{page}");
    assert_eq!(page.matches("class=\"day ").count() - 6, 366, "squares beside those of the legend");
    let list = app.page(&href.replace("&amp;", "&")).await.text();
    assert!(list.contains(&run_id) && list.contains("logical dates from"), "{list}");
    let other = app.page("/dags/quick/runs?from=2024-11-06T23:00:00Z").await.text();
    assert!(!other.contains(&run_id));
    let empty = app.page("/dags/quick/calendar?year=2023").await.text();
    assert!(empty.contains("No run in 2023") && empty.contains("tidemill dags trigger quick"));
    assert!(app.page("/dags/quick/calendar").await.text().contains("planned"), "the days to come");
    for (path, status) in
        [("calendar?year=9999", 422), ("runs?from=yesterday", 422), ("calendar?year=x", 400)]
    {
        assert_eq!(app.page(&format!("/dags/quick/{path}")).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn the_times_of_a_run_show_what_it_waited_for() {
    let mut app = App::new(&[("hello.toml", HELLO)]).await;
    app.work(|assignment| report(assignment, TryOutcome::Success, b""));
    app.loaded("hello").await;
    for (tab, words) in [("gantt", "No run has started yet"), ("durations", "No run has started yet")] {
        let page = app.page(&format!("/dags/hello/{tab}")).await.text();
        assert!(page.contains(words) && page.contains("tidemill dags trigger hello"), "{tab}: {page}");
    }
    let run_id = app.trigger("hello", json!({})).await;
    app.finished("hello", &run_id).await;
    let gantt = app.page("/dags/hello/gantt").await.text();
    assert!(gantt.contains("Critical path") && gantt.contains("class=\"line critical\""), "{gantt}");
    assert!(
        gantt.contains("try 1 success") && gantt.contains(&format!("/runs/{run_id}/tasks/greet")),
        "{gantt}"
    );
    assert_eq!(app.page("/dags/hello/gantt?run_id=nothing").await.status, 404);
    let durations = app.page("/dags/hello/durations").await.text();
    assert!(
        durations.contains(">median ") && durations.contains(&format!("href=\"/dags/hello/runs/{run_id}\""))
    );
    let of_task = app.page("/dags/hello/durations?task_id=greet&limit=25").await.text();
    assert!(of_task.contains(&format!("href=\"/dags/hello/runs/{run_id}/tasks/greet\"")), "{of_task}");
    let nothing = app.page("/dags/hello/durations?task_id=gone").await.text();
    assert!(nothing.contains("gone started in none of these runs"), "{nothing}");
}

#[tokio::test]
async fn the_code_shows_what_a_version_changed() {
    let app = App::new(&[("quick.toml", NOOP)]).await;
    app.loaded("quick").await;
    let first = app.get("/api/v1/dags/quick").await.json()["dag_version"].as_str().unwrap().to_owned();
    assert!(!app.page("/dags/quick/code").await.text().contains("changed</h2>"));
    app.save("quick.toml", &NOOP.replace("@daily", "@hourly"));
    app.until("the new version is stored", async || {
        app.get("/api/v1/dags/quick").await.json()["dag_version"] != json!(first)
    })
    .await;
    let newest = app.page("/dags/quick/code").await.text();
    assert!(newest.contains("What this version changed") && !newest.contains("the next version"), "{newest}");
    let older = app.page(&format!("/dags/quick/code?version={first}")).await.text();
    assert!(older.contains("What the next version changed") && !older.contains("this version"), "{older}");
    for page in [newest, older] {
        let removed = page.split("class=\"l del\"").nth(1).unwrap().split("</span></span>").next().unwrap();
        let added = page.split("class=\"l ins\"").nth(1).unwrap();
        assert!(removed.contains("@daily") && added.contains("@hourly"), "{page}");
    }
}

#[tokio::test]
async fn the_audit_of_a_dag_is_its_own() {
    let app = App::new(&[("hello.toml", HELLO), ("other.toml", &HELLO.replace("hello", "hello_2"))]).await;
    app.loaded("hello").await;
    app.loaded("hello_2").await;
    for dag in ["hello", "hello_2"] {
        app.form(&format!("/dags/{dag}/pause"), "is_paused=true").await;
    }
    let page = app.page("/dags/hello/audit").await.text();
    assert!(
        page.contains("dag.pause") && page.contains(">dag/hello<") && !page.contains("dag/hello_2"),
        "{page}"
    );
    assert!(app.page("/dags/hello").await.text().contains("href=\"/dags/hello/audit\""));
    let look = request("GET", "/dags/hello", Some(VIEWER)).header("accept", "text/html");
    let seen = app.send(look.body(axum::body::Body::empty()).unwrap()).await.text();
    assert!(seen.contains("/dags/hello/gantt") && !seen.contains("/dags/hello/audit"), "not for everybody");
}

#[tokio::test]
async fn times_are_told_in_the_zone_that_a_person_chose() {
    let app = App::new(&[("quick.toml", NOOP)]).await;
    app.loaded("quick").await;
    let run_id = app.trigger("quick", json!({ "logical_date": "2026-11-05T23:30:00Z" })).await;
    app.finished("quick", &run_id).await;
    let path = format!("/dags/quick/runs/{run_id}");
    let page = app.page(&path).await.text();
    assert!(page.contains(">2026-11-05 23:30:00 UTC<") && page.contains("data-zone=\"utc\""), "{page}");
    let exact =
        "title=\"2026-11-06 00:30:00 CET (Europe/Berlin), 2026-11-05T23:30:00Z\">2026-11-06 00:30:00 CET<";
    for page in [
        app.page_with(&path, "tidemill_zone=dag").await.text(),
        app.page(&format!("{path}?zone=dag")).await.text(),
        // Among runs of many DAGs each is told in the zone of its own.
        app.page_with("/runs", "tidemill_zone=dag").await.text(),
    ] {
        assert!(page.contains(exact), "{page}");
    }
    assert!(app.page_with("/dags/quick", "tidemill_zone=dag").await.text().contains("<span>06</span>"));
    // Only a script knows the zone of a browser; the page says so to it and is in UTC.
    let local = app.page_with(&path, "tidemill_zone=local").await.text();
    assert!(local.contains("data-zone=\"local\"") && local.contains("2026-11-05 23:30:00 UTC"), "{local}");
    let chosen = app.form("/zone", "zone=dag&next=%2Fruns").await;
    assert_eq!((chosen.status.as_u16(), chosen.header("location")), (303, "/runs"));
    assert!(chosen.header("set-cookie").starts_with("tidemill_zone=dag; Path=/; SameSite=Lax"));
    let back = app.form("/zone", "zone=utc").await;
    assert!(back.header("set-cookie").contains("Max-Age=0"));
}
