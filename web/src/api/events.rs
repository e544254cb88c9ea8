//! The event stream: committed changes as they happen.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response, Sse, sse},
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use tidemill_engine::ids::{DagId, RunId};
use tidemill_scheduler::Change;
use tokio::{sync::broadcast, time::Instant};

use crate::{error::Result, extract::Params, state::WebState};

/// A stream ends after this long and the client comes back, so that a session that was ended is noticed.
const STREAM_LIFETIME: Duration = Duration::from_secs(300);

/// Which changes.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct EventParams {
    #[serde(default)]
    dag_id: Option<String>,
    #[serde(default)]
    run_id: Option<String>,
    #[serde(default)]
    logs: Option<bool>,
}

impl EventParams {
    /// What a page about a run wants to know.
    pub(crate) fn of_run(dag_id: &DagId, run_id: &RunId) -> Self {
        Self { dag_id: Some(dag_id.to_string()), run_id: Some(run_id.to_string()), logs: None }
    }

    fn wants(&self, change: &Change) -> bool {
        let is_dag = |id: &str| self.dag_id.as_deref().is_none_or(|own| own == id);
        let is_run = |id: &str| self.run_id.as_deref().is_none_or(|own| own == id);
        match change {
            Change::Dag { dag_id } => is_dag(dag_id.as_str()) && self.run_id.is_none(),
            Change::Run { dag_id, run_id, .. } | Change::Task { dag_id, run_id, .. } => {
                is_dag(dag_id.as_str()) && is_run(run_id.as_str())
            }
            Change::Backfill { dag_id, .. } => is_dag(dag_id.as_str()) && self.run_id.is_none(),
            Change::Log { .. } => self.logs == Some(true),
            Change::Workers | Change::Pools | Change::Assets | Change::ImportErrors => self.dag_id.is_none(),
        }
    }
}

/// Streams committed changes: `change` events; `reload` when some were lost on the way to a slow client.
#[utoipa::path(get, path = "/api/v1/events", tag = "server", params(("dag_id" = Option<String>, Query), ("run_id" = Option<String>, Query), ("logs" = Option<bool>, Query, description = "Also growth of logs")),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(crate) async fn stream(
    State(state): State<WebState>,
    Params(params): Params<EventParams>,
) -> Result<Response> {
    let events = changes(&state, params).map(Ok::<_, Infallible>);
    Ok(Sse::new(events).keep_alive(sse::KeepAlive::default()).into_response())
}

/// Committed changes as `change` events, until the server stops or the stream is old.
pub(crate) fn changes(state: &WebState, params: EventParams) -> impl Stream<Item = sse::Event> + use<> {
    let changes = state.handle().subscribe();
    let until = Instant::now() + STREAM_LIFETIME;
    stream::unfold((state.clone(), changes, params), move |(state, mut changes, params)| async move {
        let stopped = state.stopped();
        tokio::pin!(stopped);
        loop {
            let received = tokio::select! {
                () = &mut stopped => return None,
                () = tokio::time::sleep_until(until) => return None,
                received = changes.recv() => received,
            };
            let event = match received {
                Ok(change) if params.wants(&change) => sse::Event::default()
                    .event("change")
                    .data(serde_json::to_string(&change).unwrap_or_default()),
                Ok(_) => continue,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    sse::Event::default().event("change").data("{\"kind\":\"reload\"}")
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            return Some((event, (state, changes, params)));
        }
    })
}
