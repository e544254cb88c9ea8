//! Delivers what the engine wants said to the outside: at least once, by id, off the loop.
//!
//! A message is a row of the same transaction as the change that it tells of. It is delivered by POST with its
//! id in the header `Idempotency-Key`, so that a receiver can drop a repetition. A delivery that fails is
//! repeated after 5 s, 10 s, … at most an hour, and given up after twelve failures.

use std::{sync::Arc, time::Duration};

use tidemill_outbound::{HeaderMap, Method, Outbound, Request, Url, header};
use tidemill_store::{batch::OutboxChange, reader::OutboxRow};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
};

use crate::{
    handle::{Shared, chain},
    input::Input,
    options::Options,
};

const FIRST_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
const FAILURE_LIMIT: u32 = 12;
/// How many messages are delivered at a time.
const BATCH: u32 = 16;
/// How often the outbox is looked at although nothing was queued.
const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// Wait after the store did not answer.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// The delivery service.
pub(crate) struct Outbox {
    options: Arc<Options>,
    shared: Arc<Shared>,
    queued: Arc<Notify>,
    outbound: Outbound,
}

impl Outbox {
    pub(crate) fn new(options: Arc<Options>, shared: Arc<Shared>, queued: Arc<Notify>) -> Self {
        let outbound = Outbound::new(options.outbound.clone());
        Self { options, shared, queued, outbound }
    }

    /// Delivers for as long as this server leads.
    pub(crate) async fn run(self) {
        loop {
            let wait = match self.run_once().await {
                Ok(0) => self.until_next().await,
                Ok(_) => Duration::ZERO,
                Err(reason) => {
                    tracing::warn!(reason, "messages could not be delivered");
                    STORE_RETRY
                }
            };
            if wait.is_zero() {
                continue;
            }
            let now = self.shared.clock.now().mono;
            let sleep = self.shared.clock.sleep_until(now + wait);
            tokio::select! {
                () = self.queued.notified() => {}
                () = sleep => {}
            }
        }
    }

    async fn until_next(&self) -> Duration {
        let now = self.shared.clock.now().wall;
        match self.shared.reader.outbox_next().await {
            // A message that is due and was not delivered just now is looked at again in a moment.
            Ok(Some(at)) => (at - now).to_std().unwrap_or_default().clamp(STORE_RETRY, POLL_INTERVAL),
            Ok(None) | Err(_) => POLL_INTERVAL,
        }
    }

    /// Delivers what is due and returns how many messages that were.
    async fn run_once(&self) -> Result<usize, String> {
        let now = self.shared.clock.now().wall;
        let due = self.shared.reader.outbox_due(now, BATCH).await.map_err(|error| chain(&error))?;
        if due.is_empty() {
            return Ok(0);
        }
        let count = due.len();
        let mut deliveries = JoinSet::new();
        for row in due {
            let outbound = self.outbound.clone();
            let timeout = self.options.delivery_timeout;
            deliveries.spawn(async move {
                let result = deliver(&outbound, &row, timeout).await;
                (row, result)
            });
        }
        let now = self.shared.clock.now().wall;
        let changes = deliveries
            .join_all()
            .await
            .into_iter()
            .map(|(row, result)| match result {
                Ok(()) => OutboxChange::Delivered { id: row.message.id, at: now },
                Err(error) => {
                    tracing::warn!(message.id = row.message.id, error, "a message was not delivered");
                    let next_attempt_at = next_delay(row.failures + 1)
                        .and_then(|delay| chrono::TimeDelta::from_std(delay).ok())
                        .map(|delay| now + delay);
                    OutboxChange::Failed { id: row.message.id, error, next_attempt_at }
                }
            })
            .collect();
        let (reply, stored) = oneshot::channel();
        self.shared
            .inbox
            .send(Input::Outbox { changes, reply })
            .await
            .map_err(|_| "the scheduler is stopping".to_owned())?;
        match stored.await {
            Ok(Ok(())) => Ok(count),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err("the scheduler is stopping".to_owned()),
        }
    }
}

/// Returns the wait after a failure; nothing when the message is given up.
fn next_delay(failures: u32) -> Option<Duration> {
    (failures < FAILURE_LIMIT)
        .then(|| FIRST_DELAY.saturating_mul(1 << (failures.saturating_sub(1)).min(20)).min(LONGEST_DELAY))
}

async fn deliver(outbound: &Outbound, row: &OutboxRow, timeout: Duration) -> Result<(), String> {
    let message = &row.message;
    let body = serde_json::json!({
        "id": message.id,
        "text": message.notification.message,
        "dag_id": message.dag_id,
        "run_id": message.run_id,
        "task_id": message.task,
        "state": message.state,
        "reason": message.reason,
    });
    let url = Url::parse(&message.notification.webhook).map_err(|error| error.to_string())?;
    let mut request = Request::new(Method::POST, url);
    request.timeout = timeout;
    request.headers = headers(&message.id)?;
    request.body = body.to_string().into_bytes();
    let response = outbound.call(request).await.map_err(|error| error.to_string())?;
    match response.is_success() {
        true => Ok(()),
        false => Err(format!("the receiver answered {}", response.status)),
    }
}

fn headers(id: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let id = id.parse().map_err(|_| "its id cannot be a header".to_owned())?;
    headers.insert("idempotency-key", id);
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_an_hour_and_ends() {
        let seconds: Vec<Option<u64>> =
            (1..=12).map(|n| next_delay(n).map(|delay| delay.as_secs())).collect();
        let expected = [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600];
        assert_eq!(seconds[..11], expected.map(Some));
        assert_eq!(seconds[11], None);
    }
}
