//! What an earlier incarnation of this worker left in the work folder: killed, its logs shipped, reported lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidemill_engine::mask::Masker;
use tidemill_protocol::worker::{AttemptKey, HeartbeatRequest, LostAttempt};

use crate::{
    attempt::files::{Files, Record, TRIES},
    backoff::Backoff,
    client::Client,
    context::Context,
    log::Shipper,
    options::Options,
    outcome::Problem,
    process::{cgroup, proc},
};

/// A try of an earlier incarnation, proven dead.
#[derive(Debug)]
pub(crate) struct Leftover {
    record: Record,
    files: Files,
}

/// Kills what earlier incarnations left and returns their tries. Blocks until nothing of them lives.
pub(crate) fn sweep(options: &Options) -> Vec<Leftover> {
    let boot_id = proc::machine_boot_id();
    let Ok(entries) = std::fs::read_dir(options.work_dir.join(TRIES)) else { return Vec::new() };
    let mut leftovers = Vec::new();
    for entry in entries.flatten() {
        let files = Files { folder: entry.path() };
        let Some(record) = files.read_record() else {
            // Without a record no process was started from it.
            let _ = std::fs::remove_dir_all(&files.folder);
            continue;
        };
        if record.machine_boot_id == boot_id {
            while !record.target.kill_all(&BTreeMap::new(), Duration::from_secs(10)) {
                tracing::warn!(attempt = ?record.attempt, "processes of an earlier start do not die");
            }
            if let Some(leaf) = &record.target.cgroup {
                cgroup::remove(leaf);
            }
        }
        leftovers.push(Leftover { record, files });
    }
    leftovers
}

/// How long the loss of a try waits for the rest of its log; a longer log goes on arriving afterwards.
const LOG_FIRST: Duration = Duration::from_secs(10);

/// Ships what is left of the tries' logs and then reports the tries lost: whoever sees the end of a try may read
/// its log. A log says at its end that its try was lost, unless the server had taken the result already and only
/// its answer was lost.
pub(crate) fn report(context: &Arc<Context>, leftovers: Vec<Leftover>) {
    if leftovers.is_empty() {
        return;
    }
    context.ledger.expect_lost(leftovers.len());
    let context = context.clone();
    tokio::spawn(async move {
        let ended = ended_before(&context, &leftovers).await;
        for leftover in leftovers {
            let has_ended = ended.contains(&leftover.record.attempt);
            tokio::spawn(settle(context.clone(), leftover, has_ended));
        }
    });
}

async fn settle(context: Arc<Context>, leftover: Leftover, has_ended: bool) {
    let reason = Problem::LostByWorker.to_string();
    let lost = LostAttempt { attempt: leftover.record.attempt.clone(), reason: reason.clone() };
    let shipping = ship(&context.client, &leftover, (!has_ended).then_some(reason.as_str()));
    tokio::pin!(shipping);
    let is_shipped = tokio::time::timeout(LOG_FIRST, &mut shipping).await.is_ok();
    context.ledger.add_lost(lost);
    if !is_shipped {
        shipping.await;
    }
    context.remove_folder(leftover.files.folder.clone());
}

/// Asks which of the tries had ended for the server: their leases are over. Waits for a server that is away.
async fn ended_before(context: &Context, leftovers: &[Leftover]) -> Vec<AttemptKey> {
    let question = HeartbeatRequest {
        worker: context.options.worker.clone(),
        boot_id: context.boot_id.clone(),
        attempts: leftovers.iter().map(|leftover| leftover.record.attempt.clone()).collect(),
    };
    let mut backoff = Backoff::new();
    loop {
        match context.client.heartbeat(&question).await {
            Ok(answer) => return answer.fenced,
            Err(error) if error.status().is_some_and(|status| (400..500).contains(&status)) => {
                tracing::warn!(%error, "the server does not say how earlier tries ended");
                return Vec::new();
            }
            Err(_) => tokio::time::sleep(backoff.next()).await,
        }
    }
}

async fn ship(client: &Arc<Client>, leftover: &Leftover, reason: Option<&str>) {
    let record = &leftover.record;
    let masker = Arc::new(Masker::new(&record.secrets));
    let (attempt, token) = (record.attempt.clone(), record.token.clone());
    let shipper = Shipper::open(client.clone(), attempt, token, &leftover.files.log(), masker);
    match shipper {
        Ok(mut shipper) => {
            if let Some(reason) = reason {
                shipper.write_marker(reason);
            }
            shipper.finish_all().await;
        }
        Err(error) => {
            tracing::warn!(%error, attempt = ?record.attempt, "the log of a lost try cannot be read")
        }
    }
}
