//! Assets over the loop and a store: posted events, runs that take them, and what their templates see.

use serde_json::json;
use tidemill_engine::{asset::AssetWait, ids::AssetName};
use tidemill_protocol::worker::Assignment;
use tidemill_scheduler::{AdminWrite, AssetPost, CallError, Handle, IdempotencyKey, PostedEvent};
use tidemill_store::assets::AssetEventQuery;

use crate::world::{HandWorker, World, dag_id, success, trigger};

const CONSUMER: &str = r#"schedule = { assets = ["wh/a", "wh/b"] }
max_active_runs = 1

[[task]]
id = "use"
command = "x"
env = { EVENTS = "{{ triggering_asset_events | tojson }}" }
"#;

const PRODUCER: &str = r#"
[[task]]
id = "make"
command = "x"
outlets = ["wh/a"]
"#;

fn post(asset: &str, number: i64, key: Option<(&str, &str)>) -> AssetPost {
    AssetPost {
        asset: AssetName::new(asset).unwrap(),
        extra: json!({ "number": number }).as_object().cloned().unwrap(),
        by: Some("ada".into()),
        idempotency: key
            .map(|(key, body)| IdempotencyKey { key_hash: key.into(), request_hash: body.into() }),
    }
}

async fn posted(handle: &Handle, post: AssetPost) -> Result<PostedEvent, CallError> {
    handle.post_asset_event(post, AdminWrite::default()).await
}

fn events_of(assignment: &Assignment) -> serde_json::Value {
    serde_json::from_str(&assignment.env["EVENTS"]).unwrap()
}

async fn a_run_sees_the_events_that_caused_it(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "consumer", CONSUMER).await;
    world.define(&handle, "producer", PRODUCER).await;
    posted(&handle, post("wh/b", 1, None)).await.unwrap();
    posted(&handle, post("wh/b", 2, None)).await.unwrap();
    let status = handle.asset_status(dag_id("consumer")).await.unwrap().unwrap();
    let missing = vec![AssetName::new("wh/a").unwrap()];
    assert_eq!(status.waits, [AssetWait::Assets { missing, any: false }]);
    assert_eq!(handle.asset_status(dag_id("producer")).await.unwrap(), None);
    let mut worker = HandWorker::new(&handle, "w");
    let source = trigger(&handle, "producer").await;
    let first = worker.next().await.remove(0);
    // The success, its event, the run and its first assignment are one commit: the events are not stored when the
    // assignment is rendered.
    let mut result = success(&first.attempt);
    result.outputs.insert("asset_extra".into(), json!({ "rows": 7 }));
    let answer = worker.exchange(vec![result]).await;
    let seen = events_of(&answer.assignments[0]);
    let numbers: Vec<_> = seen["wh/b"].as_array().unwrap().iter().map(|e| &e["extra"]["number"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(2)], "{seen}");
    assert_eq!(seen["wh/a"][0]["source_run_id"], source.run_id.as_str());
    let run = world.run(answer.assignments[0].attempt.instance.run).await;
    let stored = world.reader.run_asset_events(run.key, 10).await.unwrap();
    assert_eq!(stored.iter().map(|event| event.asset.as_str()).collect::<Vec<_>>(), ["wh/a", "wh/b", "wh/b"]);
    assert_eq!(*stored[0].extra, json!({ "rows": 7 }).as_object().cloned().unwrap(), "what the task said");
    // A later try of it sees the same, from the store now.
    for asset in ["wh/a", "wh/b"] {
        posted(&handle, post(asset, 3, None)).await.unwrap();
    }
    world.check_rebuild(&handle).await;
    let answer = worker.exchange(vec![success(&answer.assignments[0].attempt)]).await;
    assert_eq!(events_of(&answer.assignments[0])["wh/b"].as_array().unwrap().len(), 1);
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

async fn an_event_is_posted_once_and_only_on_a_known_asset(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "producer", PRODUCER).await;
    let code = |result: Result<PostedEvent, CallError>| result.map(drop).map_err(|error| error.code());
    assert_eq!(code(posted(&handle, post("wh/x", 1, None)).await), Err("SCH0230"));
    let mut large = post("wh/a", 1, None);
    large.extra.insert("text".into(), json!("x".repeat(65_536)));
    assert_eq!(code(posted(&handle, large).await), Err("SCH0231"));
    let keyed = |body| posted(&handle, post("wh/a", 1, Some(("k", body))));
    let (one, two) = tokio::join!(keyed("body"), keyed("body"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.event, two.event);
    assert_ne!(one.is_repeated, two.is_repeated);
    assert_eq!(code(keyed("another").await), Err("SCH0215"));
    let events = world.reader.asset_events(&AssetEventQuery::default()).await.unwrap().items;
    assert_eq!(events.len(), 1);
    scheduler.stop().await;
}

async fn what_waits_survives_another_leader(world: World) {
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    world.define(&handle, "consumer", CONSUMER).await;
    posted(&handle, post("wh/a", 1, None)).await.unwrap();
    scheduler.stop().await;
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    posted(&handle, post("wh/b", 2, None)).await.unwrap();
    let mut worker = HandWorker::new(&handle, "w");
    let seen = events_of(&worker.next().await[0]);
    assert_eq!((seen["wh/a"].is_array(), seen["wh/b"].is_array()), (true, true), "{seen}");
    world.check_rebuild(&handle).await;
    scheduler.stop().await;
}

over_both_stores!(
    a_run_sees_the_events_that_caused_it,
    an_event_is_posted_once_and_only_on_a_known_asset,
    what_waits_survives_another_leader,
);
