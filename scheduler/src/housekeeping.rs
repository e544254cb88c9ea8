//! What has to be done now and then and creates no dag runs: flushing logs, checkpoints, retention, expiry.
//!
//! `tokio-cron-scheduler` parses cron with a crate of its own and polls the wall clock, so it is used here, in
//! UTC, and nowhere else.

use std::{pin::Pin, sync::Arc, time::Duration};

use tidemill_engine::ids::{DagId, RunKey};
use tidemill_store::Writer;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::{
    handle::{Handle, chain},
    options::Options,
    request::AdminWrite,
};

/// Expired sessions, used keys and delivered messages are kept for this long.
const EXPIRED_FOR: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// How many runs one retention write deletes, so that no commit grows long.
const RUNS_PER_WRITE: u32 = 100;

/// Shuts the housekeeping down when its future is dropped: its own tasks would go on otherwise.
struct Guard(Option<JobScheduler>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let (Some(mut jobs), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = jobs.shutdown().await;
            });
        }
    }
}

/// Runs for as long as this server leads.
pub(crate) async fn run(options: Arc<Options>, handle: Handle, writer: Arc<dyn Writer>) {
    match schedule(options, handle, writer).await {
        Ok(jobs) => {
            let _guard = Guard(Some(jobs));
            std::future::pending::<()>().await;
        }
        Err(error) => tracing::error!(error = %chain(&error), "housekeeping does not run"),
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn schedule(
    options: Arc<Options>,
    handle: Handle,
    writer: Arc<dyn Writer>,
) -> Result<JobScheduler, JobSchedulerError> {
    let jobs = JobScheduler::new().await?;
    let flushed = handle.clone();
    jobs.add(Job::new_async("*/5 * * * * *", move |_, _| -> Work {
        let handle = flushed.clone();
        Box::pin(async move { flush_logs(&handle).await })
    })?)
    .await?;
    jobs.add(Job::new_async("30 */5 * * * *", move |_, _| -> Work {
        let writer = Arc::clone(&writer);
        Box::pin(async move {
            if let Err(error) = writer.checkpoint().await {
                tracing::warn!(error = %chain(&error), "the write-ahead log was not checkpointed");
            }
        })
    })?)
    .await?;
    jobs.add(Job::new_async("15 7 * * * *", move |_, _| -> Work {
        let (handle, retention) = (handle.clone(), options.retention);
        Box::pin(async move { run_once(&handle, retention).await })
    })?)
    .await?;
    jobs.start().await?;
    Ok(jobs)
}

async fn flush_logs(handle: &Handle) {
    let logs = Arc::clone(&handle.shared.logs);
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || logs.flush()).await {
        tracing::warn!(error = %chain(&error), "logs were not flushed");
    }
}

/// Deletes what retention and expiry say; returns nothing because the next hour tries again.
pub(crate) async fn run_once(handle: &Handle, default: Option<Duration>) {
    let now = handle.shared.clock.now().wall;
    let expiry = AdminWrite { expire_before: Some(now - EXPIRED_FOR), ..AdminWrite::default() };
    if let Err(error) = handle.write(expiry).await {
        tracing::warn!(error = %error, "nothing was expired");
    }
    let dags: Vec<(DagId, Option<Duration>)> = {
        let dags = handle.shared.dags.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        dags.iter().map(|(id, dag)| (id.clone(), dag.retention.or(default))).collect()
    };
    for (dag_id, retention) in dags {
        let Some(retention) = retention.and_then(|kept| chrono::TimeDelta::from_std(kept).ok()) else {
            continue;
        };
        let Some(before) = now.checked_sub_signed(retention) else { continue };
        if let Err(error) = delete_runs(handle, &dag_id, before).await {
            tracing::warn!(dag.id = %dag_id, error, "old runs were not deleted");
        }
    }
}

async fn delete_runs(
    handle: &Handle,
    dag_id: &DagId,
    before: chrono::DateTime<chrono::Utc>,
) -> Result<(), String> {
    loop {
        let reader = &handle.shared.reader;
        let old = reader.runs_finished_before(dag_id, before, RUNS_PER_WRITE).await.map_err(|e| chain(&e))?;
        let run_deletes: Vec<(DagId, RunKey)> = old.iter().map(|run| (dag_id.clone(), run.key)).collect();
        if run_deletes.is_empty() {
            return Ok(());
        }
        let write = AdminWrite { run_deletes, ..AdminWrite::default() };
        handle.write(write).await.map_err(|error| error.to_string())?;
    }
}
