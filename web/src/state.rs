//! What every handler reaches: the reader, the scheduler's handle, options and small caches.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics_exporter_prometheus::PrometheusHandle;
use tidemill_engine::{
    ids::{DagId, WorkerId},
    rows::VersionHash,
};
use tidemill_scheduler::Handle;
use tidemill_store::Reader;
use tokio::sync::watch;

use crate::{auth::throttle::Throttle, render::graph::Layout};

/// How long a worker key that was found good is believed without asking the database again.
const WORKER_KEY_TRUST: Duration = Duration::from_secs(1);
/// How many graph layouts are kept.
const LAYOUTS: usize = 64;

/// What an operator decides about the web server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host names, without port, under which the server may be called beside the loopback names.
    pub hosts: Vec<String>,
    /// The URL under which people reach the server, where it is not the address that it listens on. When it
    /// begins with `https://`, a proxy speaks TLS: cookies are `Secure` and named `__Host-…`.
    pub url: Option<String>,
    /// How long a person stays signed in. Default 30 days.
    pub session_lifetime: Duration,
    /// How long a request may take; streams and the exchange have limits of their own. Default 30 s.
    pub request_timeout: Duration,
    /// How long finished runs are kept where a DAG does not say; what `clean` goes by. Absent: for ever.
    pub retention: Option<Duration>,
    /// About how many rows one call of `clean` deletes at most; one run always goes. Default 50 000.
    pub clean_rows: u32,
    /// Renders the process's metrics, where a recorder is installed.
    pub metrics: Option<PrometheusHandle>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            url: None,
            session_lifetime: Duration::from_secs(30 * 24 * 3600),
            request_timeout: Duration::from_secs(30),
            retention: None,
            clean_rows: 50_000,
            metrics: None,
        }
    }
}

impl Options {
    /// Whether browsers reach the server over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url.starts_with("https://"))
    }
}

/// What every handler reaches. Cheap to clone.
#[derive(Clone)]
pub struct WebState {
    pub(crate) inner: Arc<Inner>,
}

/// Laid out graphs by version, the oldest first.
/// A version of a DAG, with which of its groups are folded.
pub(crate) type LayoutKey = (DagId, VersionHash, String);
type Layouts = Vec<(LayoutKey, Arc<Layout>)>;

pub(crate) struct Inner {
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) handle: Handle,
    pub(crate) options: Options,
    pub(crate) throttle: Throttle,
    worker_keys: Mutex<BTreeMap<String, (Instant, WorkerId)>>,
    layouts: Mutex<Layouts>,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for WebState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebState").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl WebState {
    /// Puts the parts together.
    #[must_use]
    pub fn new(reader: Arc<dyn Reader>, handle: Handle, options: Options) -> Self {
        let inner = Inner {
            reader,
            handle,
            options,
            throttle: Throttle::default(),
            worker_keys: Mutex::default(),
            layouts: Mutex::default(),
            stop: watch::channel(false).0,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Ends every open stream, so that a graceful shutdown does not wait for browsers.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }

    pub(crate) fn reader(&self) -> &dyn Reader {
        &*self.inner.reader
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.inner.handle
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Resolves when [`WebState::stop`] was called.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.inner.stop.subscribe();
        async move {
            // The sender lives in the state; should it go, the server is gone too.
            let _ = stop.wait_for(|is_stopping| *is_stopping).await;
        }
    }

    pub(crate) fn known_worker(&self, key_hash: &str) -> Option<WorkerId> {
        let mut keys = self.inner.worker_keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, (at, _)| at.elapsed() < WORKER_KEY_TRUST);
        keys.get(key_hash).map(|(_, worker)| worker.clone())
    }

    pub(crate) fn remember_worker(&self, key_hash: String, worker: WorkerId) {
        let mut keys = self.inner.worker_keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key_hash, (Instant::now(), worker));
    }

    /// Returns the layout of a version with some groups folded, making it once.
    pub(crate) fn layout(&self, key: LayoutKey, make: impl FnOnce() -> Layout) -> Arc<Layout> {
        {
            let layouts = self.inner.layouts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, layout)) = layouts.iter().find(|(known, _)| *known == key) {
                return Arc::clone(layout);
            }
        }
        // Made outside the lock: two requests may both make it, and either is right.
        let layout = Arc::new(make());
        let mut layouts = self.inner.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if layouts.len() >= LAYOUTS {
            layouts.remove(0);
        }
        layouts.push((key, Arc::clone(&layout)));
        layout
    }
}
