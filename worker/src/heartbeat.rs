//! The heartbeat: a thread, a runtime and a connection of its own, so that nothing that keeps the rest of the
//! worker busy can make a live task look dead.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidemill_protocol::worker::{HEARTBEAT_SECONDS, HeartbeatRequest, LEASE_SECONDS};

use crate::{
    backoff::Backoff, client::Client, clock::boottime_ms, context::Context, error::Error, guardian::Message,
};

/// A main loop that gave no sign of life for this long supervises nothing: its leases must end.
const PULSE_LIMIT_MS: u64 = 10_000;

/// The thread.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    stop: Arc<AtomicBool>,
    context: Arc<Context>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Heartbeat {
    /// Starts the thread.
    pub(crate) fn start(context: &Arc<Context>, client: Client) -> Result<Self, Error> {
        let failed = |source| Error::Setup { what: "the heartbeat thread", source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, is_over) = (context.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || runtime.block_on(beat(&shared, &client, &is_over)))
            .map_err(failed)?;
        Ok(Self { stop, context: context.clone(), thread: Some(thread) })
    }

    /// Ends the thread; a request under way is waited for, at most its own time limit.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.context.ledger.beat_now.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn beat(context: &Context, client: &Client, is_over: &AtomicBool) {
    let mut backoff = Backoff::new();
    while !is_over.load(Ordering::Relaxed) {
        let pause = if beat_once(context, client).await {
            backoff.reset();
            Duration::from_secs(HEARTBEAT_SECONDS)
        } else {
            backoff.next().min(Duration::from_secs(1))
        };
        context.guardian.check(&context.children);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.ledger.beat_now.notified() => {}
        }
    }
}

/// Sends one heartbeat. Returns whether it was answered.
async fn beat_once(context: &Context, client: &Client) -> bool {
    let ledger = &context.ledger;
    if ledger.pulse_age_ms() > PULSE_LIMIT_MS {
        tracing::error!("the worker's main loop does not move; its leases are not renewed");
        return false;
    }
    let attempts = ledger.leased();
    let request = HeartbeatRequest {
        worker: context.options.worker.clone(),
        boot_id: context.boot_id.clone(),
        attempts: attempts.clone(),
    };
    let started_ms = boottime_ms();
    match client.heartbeat(&request).await {
        Ok(answer) => {
            ledger.renew(&attempts, &answer.fenced, started_ms, LEASE_SECONDS * 1_000);
            record_contact(context, started_ms);
            true
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a heartbeat was not answered");
            false
        }
    }
}

/// Records an answered request with the worker and its guardian.
pub(crate) fn record_contact(context: &Context, started_ms: u64) {
    context.ledger.record_contact(started_ms);
    context.guardian.send(&Message::Contact { at_ms: started_ms });
}
