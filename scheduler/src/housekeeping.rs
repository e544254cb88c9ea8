//! What has to be done now and then and creates no dag runs: flushing logs, checkpoints, retention, expiry.
//!
//! `tokio-cron-scheduler` parses cron with a crate of its own and polls the wall clock, so it is used here, in
//! UTC, and nowhere else.

use std::{pin::Pin, sync::Arc, time::Duration};

use tidemill_engine::ids::{DagId, RunKey};
use tidemill_store::{Writer, assets::OldAssetEvents};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::{
    handle::{Handle, chain},
    options::Options,
    request::AdminWrite,
};

/// Expired sessions, used keys and delivered messages are kept for this long.
const EXPIRED_FOR: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// How many runs one retention write deletes at most.
const RUNS_PER_WRITE: u32 = 100;
/// How many rows one retention write deletes about, so that no commit grows long: everything else waits for it.
const ROWS_PER_WRITE: u32 = 10_000;
/// How many asset events one retention write deletes.
const EVENTS_PER_WRITE: u32 = 2_000;
/// Wait between two such writes, so that what people and workers want comes first.
const PAUSE: Duration = Duration::from_millis(50);
/// How many runs are looked for at a time while logs without a run are looked for.
const SWEEP_CHUNK: usize = 200;

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
    let swept = handle.clone();
    match schedule(options, handle, writer).await {
        Ok(jobs) => {
            let _guard = Guard(Some(jobs));
            sweep_logs(&swept).await;
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
    let before = default.and_then(|kept| chrono::TimeDelta::from_std(kept).ok());
    if let Some(before) = before.and_then(|kept| now.checked_sub_signed(kept))
        && let Err(error) = delete_asset_events(handle, before).await
    {
        tracing::warn!(error, "old asset events were not deleted");
    }
    let dags: Vec<(DagId, Option<Duration>, usize)> = {
        let dags = handle.shared.dags.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        dags.iter().map(|(id, dag)| (id.clone(), dag.retention.or(default), dag.tasks.len())).collect()
    };
    for (dag_id, retention, tasks) in dags {
        let Some(retention) = retention.and_then(|kept| chrono::TimeDelta::from_std(kept).ok()) else {
            continue;
        };
        let Some(before) = now.checked_sub_signed(retention) else { continue };
        if let Err(error) = delete_runs(handle, &dag_id, before, runs_per_write(tasks)).await {
            tracing::warn!(dag.id = %dag_id, error, "old runs were not deleted");
        }
    }
}

/// Returns about how many rows a dag run has: an instance has a row, its tries and perhaps outputs.
#[must_use]
pub fn rows_per_run(tasks: usize) -> u32 {
    u32::try_from(tasks).unwrap_or(u32::MAX).saturating_mul(3).saturating_add(1)
}

/// Returns how many runs of so many tasks one retention write deletes, so that no commit grows long.
#[must_use]
pub fn runs_per_write(tasks: usize) -> u32 {
    (ROWS_PER_WRITE / rows_per_run(tasks)).clamp(1, RUNS_PER_WRITE)
}

/// Deletes the runs of a DAG that ended before an instant, a bounded number of rows at a time.
pub(crate) async fn delete_runs(
    handle: &Handle,
    dag_id: &DagId,
    before: chrono::DateTime<chrono::Utc>,
    limit: u32,
) -> Result<(), String> {
    loop {
        let reader = &handle.shared.reader;
        let old = reader.runs_finished_before(dag_id, before, limit).await.map_err(|e| chain(&e))?;
        let run_deletes: Vec<(DagId, RunKey)> = old.iter().map(|run| (dag_id.clone(), run.key)).collect();
        let is_last = run_deletes.len() < limit as usize;
        // What nothing refers to any more goes with the last run that did.
        let prunes = if is_last { vec![(dag_id.clone(), before)] } else { Vec::new() };
        let write = AdminWrite { run_deletes, prunes, ..AdminWrite::default() };
        handle.write(write).await.map_err(|error| error.to_string())?;
        if is_last {
            return Ok(());
        }
        let now = handle.shared.clock.now().mono;
        handle.shared.clock.sleep_until(now + PAUSE).await;
    }
}

/// Deletes the asset events of before an instant that nobody waits for and that no run which is kept was caused by, a
/// bounded number at a time.
pub(crate) async fn delete_asset_events(
    handle: &Handle,
    before: chrono::DateTime<chrono::Utc>,
) -> Result<(), String> {
    loop {
        let old = OldAssetEvents { before, limit: EVENTS_PER_WRITE };
        let ids = handle.shared.reader.old_asset_events(old).await.map_err(|error| chain(&error))?;
        if ids.is_empty() {
            return Ok(());
        }
        let is_last = ids.len() < EVENTS_PER_WRITE as usize;
        let write = AdminWrite { asset_deletes: ids, ..AdminWrite::default() };
        handle.write(write).await.map_err(|error| error.to_string())?;
        if is_last {
            return Ok(());
        }
        let now = handle.shared.clock.now().mono;
        handle.shared.clock.sleep_until(now + PAUSE).await;
    }
}

/// Deletes logs whose runs are gone: a server that was killed between a deletion and its logs left them behind.
async fn sweep_logs(handle: &Handle) {
    let logs = Arc::clone(&handle.shared.logs);
    let Ok(found) = tokio::task::spawn_blocking(move || logs.runs()).await else { return };
    for chunk in found.chunks(SWEEP_CHUNK) {
        let mut gone = Vec::new();
        for (dag_id, run) in chunk {
            if let Ok(None) = handle.shared.reader.run_by_key(*run).await {
                gone.push((dag_id.clone(), *run));
            }
        }
        let logs = Arc::clone(&handle.shared.logs);
        let deleted = tokio::task::spawn_blocking(move || {
            for error in gone.iter().filter_map(|(dag_id, run)| logs.delete_run(dag_id, *run).err()) {
                tracing::warn!(error = %chain(&error), "logs could not be deleted");
            }
        });
        if deleted.await.is_err() {
            return;
        }
        let now = handle.shared.clock.now().mono;
        handle.shared.clock.sleep_until(now + PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{ROWS_PER_WRITE, RUNS_PER_WRITE, runs_per_write};

    #[test]
    fn a_retention_write_is_bounded_by_rows() {
        assert_eq!(runs_per_write(1), RUNS_PER_WRITE);
        assert_eq!(runs_per_write(10_000), 1);
        for tasks in [1, 10, 100, 1_000, 3_000] {
            let rows = runs_per_write(tasks) * u32::try_from(tasks).unwrap();
            assert!(rows <= ROWS_PER_WRITE, "{tasks} tasks: {rows} rows");
        }
    }
}
