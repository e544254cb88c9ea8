//! Messages to the outside, delivered to a listener of the test's own.

use std::time::Duration;

use tidemill_engine::state::{RunState, TryOutcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::world::{HandWorker, World, report, soon, trigger, wait_for_run};

/// Answers one HTTP request with a status and returns its head and body.
async fn serve(listener: &TcpListener, status: &str) -> (String, serde_json::Value) {
    let (mut stream, _) = soon("a delivery", listener.accept()).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = soon("the request", stream.read(&mut buffer)).await.unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            return (head.to_lowercase(), body);
        }
        assert!(count > 0, "the request ended early: {text}");
    }
}

#[tokio::test]
async fn a_message_is_delivered_by_id_until_it_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let world = World::in_memory();
    let scheduler = world.start().await;
    let handle = scheduler.handle();
    let dag = format!(
        "on_failure = [{{ webhook = \"{url}\", message = \"{{{{ run_id }}}} went wrong\" }}]\n\
         [[task]]\nid = \"only\"\ncommand = \"x\"\n"
    );
    world.define(&handle, "loud", &dag).await;
    let mut changes = handle.subscribe();
    let run = trigger(&handle, "loud").await;
    let mut worker = HandWorker::new(&handle, "w");
    let only = worker.next().await.remove(0);
    worker.exchange(vec![report(&only.attempt, TryOutcome::Failed, 1)]).await;
    wait_for_run(&mut changes, run.key, RunState::Failed).await;

    let (head, body) = serve(&listener, "500 Internal Server Error").await;
    let id = body["id"].as_str().unwrap().to_owned();
    assert!(head.contains(&format!("idempotency-key: {}", id.to_lowercase())), "{head}");
    assert_eq!(body["text"], format!("{} went wrong", run.run_id));
    assert_eq!((body["dag_id"].as_str(), body["state"].as_str()), (Some("loud"), Some("failed")));
    // It failed, so it comes again after the wait, also from a server that was started since.
    soon("the record of the failure", async {
        let now = crate::world::at("2026-11-05T12:01:00Z");
        while world.reader.outbox_due(now, 9).await.unwrap().first().is_none_or(|row| row.failures != 1) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scheduler.kill().await;
    let scheduler = world.start().await;
    scheduler.handle().durable().await.unwrap();
    let again = tokio::spawn(async move { serve(&listener, "204 No Content").await });
    soon("the second delivery", async {
        while !again.is_finished() {
            world.clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(again.await.unwrap().1["id"].as_str(), Some(id.as_str()));
    soon("the record of the delivery", async {
        while world.reader.outbox_next().await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scheduler.stop().await;
}
