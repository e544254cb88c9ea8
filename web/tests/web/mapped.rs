//! Mapped tasks on pages and over the API: the whole, and each element.

use serde_json::{Value, json};
use tidemill_protocol::worker::TryOutcome;

use super::support::{App, OPERATOR, report};

const MAPPED: &str = r#"
[dag]
id = "mapped"

[[task]]
id = "each"
command = "echo {{ map.value.file }}"
map = { file = ["north.csv", "<b>south</b>", "a very long name of a file that goes on and on and on and on and on and on and on.csv"] }
max_active_per_run = 2

[[task]]
id = "many"
operator = "noop"
map = "{{ range(600) | list }}"

[[task]]
id = "join"
operator = "noop"
depends_on = ["each", "many"]
"#;

async fn ended() -> (App, String) {
    let mut app = App::new(&[("mapped.toml", MAPPED)]).await;
    app.work(|assignment| {
        let is_second = assignment.attempt.instance.map_index == 1 && assignment.attempt.try_number == 1;
        let outcome = if is_second { TryOutcome::Failed } else { TryOutcome::Success };
        let mut done = report(assignment, outcome, b"what it said\n");
        done.outputs.insert("rows".to_owned(), json!(assignment.attempt.instance.map_index * 10));
        done
    });
    app.loaded("mapped").await;
    let run_id = app.trigger("mapped", json!({})).await;
    assert_eq!(app.finished("mapped", &run_id).await["state"], "failed");
    (app, run_id)
}

#[tokio::test]
async fn a_mapped_task_is_one_line_everywhere_and_a_list_of_elements_on_its_own_page() {
    let (app, run_id) = ended().await;
    let run = app.page(&format!("/dags/mapped/runs/{run_id}")).await.text();
    assert!(
        run.contains("3 elements: 1 failed, 2 success") && run.contains("600 elements: 600 success"),
        "{run}"
    );
    assert!(run.contains("603 of 604 ended") || run.contains("604 of 604 ended"), "{run}");
    assert_eq!(run.matches("data-row").count(), 3, "a line for each task");
    assert!(run.contains("command · [3]") && run.contains("noop · [600]"), "the boxes of the graph");
    let grid = app.page("/dags/mapped").await.text();
    assert!(
        grid.contains("title=\"each: failed, 3 elements\"") && grid.contains("many: success, 600 elements")
    );

    let task = app.page(&format!("/dags/mapped/runs/{run_id}/tasks/each")).await.text();
    for words in ["north.csv", "&#60;b&#62;south&#60;/b&#62;", "?map_index=1", "file (3)", "exit code 1"] {
        assert!(task.contains(words), "{words}: {task}");
    }
    assert!(!task.contains("<b>south") && task.contains('…'), "a long value is cut");
    let failed = app.page(&format!("/dags/mapped/runs/{run_id}/tasks/each?state=failed")).await.text();
    assert_eq!(failed.matches("data-row").count(), 1);
    let many = app.page(&format!("/dags/mapped/runs/{run_id}/tasks/many")).await.text();
    assert_eq!(many.matches("data-row").count(), 500);
    assert!(many.contains("1 to 500 of 600") && many.contains("?from=500"));
    let rest = app.page(&format!("/dags/mapped/runs/{run_id}/tasks/many?from=500")).await.text();
    assert_eq!(rest.matches("data-row").count(), 100);

    let element = app.page(&format!("/dags/mapped/runs/{run_id}/tasks/each?map_index=0")).await.text();
    for words in ["each [0]", "what it said", "north.csv", "map_index=0"] {
        assert!(element.contains(words), "{words}: {element}");
    }
    assert_eq!(app.page(&format!("/dags/mapped/runs/{run_id}/tasks/each?map_index=3")).await.status, 404);
}

#[tokio::test]
async fn the_api_reads_clears_and_marks_one_element_or_all() {
    let (app, run_id) = ended().await;
    let base = format!("/api/v1/dags/mapped/runs/{run_id}");
    let tasks = app.get(&format!("{base}/tasks")).await.json();
    let of_each: Vec<&Value> =
        tasks["items"].as_array().unwrap().iter().filter(|item| item["task_id"] == "each").collect();
    let states: Vec<&str> = of_each.iter().map(|item| item["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["success", "failed", "success"]);
    let whole = app.get(&format!("{base}/tasks/each")).await.json();
    assert_eq!((&whole["map_index"], &whole["state"]), (&json!(-1), &json!("failed")));
    let outputs = app.get(&format!("{base}/tasks/each/outputs")).await.json();
    assert_eq!(outputs, json!({ "rows": [0, null, 20] }));
    let outputs = app.get(&format!("{base}/tasks/each/outputs?map_index=2")).await.json();
    assert_eq!(outputs, json!({ "rows": 20 }));
    let tries = app.get(&format!("{base}/tasks/each/tries?map_index=1")).await.json();
    assert_eq!(tries["items"].as_array().unwrap().len(), 1);

    let body = json!({ "tasks": ["each"], "map_index": 7, "dry_run": true });
    let refused = app.post(&format!("{base}/clear"), OPERATOR, body).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (404, &json!("SCH0114")));
    let body = json!({ "tasks": ["each"], "map_index": 1, "state": "success", "dry_run": true });
    let would = app.post(&format!("{base}/mark"), OPERATOR, body).await.json();
    assert_eq!(would["changed"][0]["map_index"], 1, "{would}");
    let confirm = app
        .page(&format!("/dags/mapped/runs/{run_id}/confirm?action=clear&task=each&map_index=1"))
        .await
        .text();
    assert!(
        confirm.contains("Clear each[1]") && confirm.contains("1 task instance would change"),
        "{confirm}"
    );
    let fields = "action=clear&task=each&map_index=1&downstream=true";
    assert_eq!(app.form(&format!("/dags/mapped/runs/{run_id}/actions"), fields).await.status, 303);
    app.until("the element has run again", async || {
        app.get(&format!("{base}/tasks/each?map_index=1")).await.json()["state"] == "success"
    })
    .await;
    assert_eq!(app.finished("mapped", &run_id).await["state"], "success");
    let again = app.get(&format!("{base}/tasks/each?map_index=0")).await.json();
    assert_eq!(again["try_number"], 1, "the others stay as they are");
    let explained = app.get(&format!("{base}/tasks/each/explain?map_index=1")).await.json();
    assert_eq!(explained["items"][0]["code"], "ended", "{explained}");
}
