//! The connected workers.

use askama::Template;
use axum::{extract::State, response::Response};
use chrono::Utc;

use super::{Chrome, page};
use crate::{
    error::Result,
    render::{Markup, chart, time},
    state::WebState,
};

struct Row {
    name: String,
    state: &'static str,
    used: u32,
    slots: u32,
    meter: Markup,
    queues: Vec<String>,
    version: String,
    contact: Markup,
    connected: Markup,
}

#[derive(Template)]
#[template(path = "workers.html")]
struct WorkersPage {
    c: Chrome,
    workers: Vec<Row>,
}

/// The list of workers.
pub(crate) async fn show(State(state): State<WebState>, c: Chrome) -> Result<Response> {
    let now = Utc::now();
    let workers = state.handle().workers().await?;
    let row = |worker: tidemill_scheduler::WorkerView| {
        let used = u32::try_from(worker.attempts.len()).unwrap_or(u32::MAX);
        Row {
            name: worker.worker.to_string(),
            // One that takes nothing more is draining; one that was silent for three heartbeats is in doubt.
            state: if (now - worker.last_contact_at).num_seconds() > 25 {
                "silent"
            } else if worker.capacity == 0 {
                "draining"
            } else if used > 0 {
                "busy"
            } else {
                "idle"
            },
            used,
            slots: worker.slots,
            meter: chart::meter(used, worker.slots),
            queues: worker.queues,
            version: worker.version,
            contact: time::relative(worker.last_contact_at, now),
            connected: time::relative(worker.connected_at, now),
        }
    };
    page(&WorkersPage { c, workers: workers.into_iter().map(row).collect() })
}
