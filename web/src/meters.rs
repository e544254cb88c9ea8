//! Metrics in the text format of Prometheus.
//!
//! What happened is counted where it happens (`scheduler`) and kept by the process's recorder; how things stand is
//! asked for when somebody looks, so that it is right after a restart too.

use std::{fmt::Write, time::Duration};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use chrono::Utc;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tidemill_scheduler::WorkerView;
use tidemill_store::reader::HomeCounts;

use crate::state::WebState;

/// From a commit on a fast disk to the longest anybody waits, in seconds.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How often samples are folded into their buckets: they would pile up where nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Makes this process record metrics, for [`crate::Options::metrics`]. Once per process, inside a runtime.
///
/// # Errors
/// [`BuildError`] when another recorder was installed before.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    tidemill_scheduler::describe_metrics();
    let kept = handle.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            kept.run_upkeep();
        }
    });
    Ok(handle)
}

/// A text that grows family by family.
struct Text(String);

impl Text {
    /// Adds one gauge with its samples: what stands between the braces, and the value.
    fn gauge(&mut self, name: &str, help: &str, samples: &[(String, f64)]) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in samples {
            let _ = match labels.as_str() {
                "" => writeln!(self.0, "{name} {value}"),
                labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
            };
        }
    }

    fn one(&mut self, name: &str, help: &str, value: f64) {
        self.gauge(name, help, &[(String::new(), value)]);
    }
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(state): State<WebState>) -> Response {
    let mut text = Text(state.options().metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default());
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    text.gauge("tidemill_build_info", "The version of this server.", &[(version, 1.0)]);
    let health = state.handle().health();
    text.one("tidemill_leader", "Whether this server leads.", f64::from(u8::from(health.is_leader)));
    text.one(
        "tidemill_up",
        "Whether the scheduler makes progress.",
        f64::from(u8::from(health.is_healthy())),
    );
    text.one(
        "tidemill_scheduler_tick_age_seconds",
        "Time since the scheduler finished a round.",
        health.last_tick_age.as_secs_f64(),
    );
    text.one(
        "tidemill_scheduler_queue_depth",
        "Messages that wait for the scheduler.",
        number(health.queue_depth as u64),
    );
    text.one(
        "tidemill_import_errors",
        "DAG files that could not be loaded.",
        number(health.import_errors as u64),
    );
    text.one(
        "tidemill_quarantined_runs",
        "Dag runs that are set aside.",
        number(health.quarantined_runs as u64),
    );
    // What cannot be asked for is left out: a zero would look like an answer.
    if let Ok(workers) = state.handle().workers().await {
        workers_text(&mut text, &workers);
    }
    if let Ok(counts) = state.reader().home(Utc::now()).await {
        counts_text(&mut text, &counts);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0).into_response()
}

fn workers_text(text: &mut Text, workers: &[WorkerView]) {
    let slots: u64 = workers.iter().map(|worker| u64::from(worker.slots)).sum();
    let attempts: usize = workers.iter().map(|worker| worker.attempts.len()).sum();
    text.one("tidemill_workers", "Connected workers.", number(workers.len() as u64));
    text.one("tidemill_worker_slots", "Slots of all connected workers.", number(slots));
    text.one("tidemill_worker_attempts", "Attempts that connected workers hold.", number(attempts as u64));
}

fn counts_text(text: &mut Text, counts: &HomeCounts) {
    let labelled = |label: &str, word: &str, n: u64| (format!("{label}=\"{word}\""), number(n));
    let runs = [
        labelled("state", "queued", counts.runs_queued),
        labelled("state", "running", counts.runs_running),
        labelled("state", "paused", counts.runs_paused),
    ];
    text.gauge("tidemill_runs", "Dag runs that have not ended, by state.", &runs);
    let tasks: Vec<_> = tidemill_engine::state::TaskState::ALL
        .iter()
        .filter(|state| !state.is_terminal() && **state != tidemill_engine::state::TaskState::NoStatus)
        .map(|state| labelled("state", state.as_str(), counts.tasks.get(state).copied().unwrap_or(0)))
        .collect();
    text.gauge("tidemill_task_instances", "Task instances that have not ended, by state.", &tasks);
    let dags = [
        labelled("state", "active", counts.dags_active),
        labelled("state", "paused", counts.dags_paused),
        labelled("state", "missing", counts.dags_missing),
    ];
    text.gauge("tidemill_dags", "DAGs: active, paused, or with a file that is gone.", &dags);
    text.one(
        "tidemill_outbox_pending",
        "Notifications that wait for their delivery.",
        number(counts.outbox_pending),
    );
}

/// Exact up to 2^53, like every number of this format.
#[expect(clippy::cast_precision_loss, reason = "the text format has no integers")]
fn number(n: u64) -> f64 {
    n as f64
}
