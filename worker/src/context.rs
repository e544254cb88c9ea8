//! What every part of a running worker shares.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tidemill_protocol::worker::TryOutcome;
use tokio::sync::Semaphore;

use crate::{
    client::Client,
    guardian::{Guardian, Message},
    ledger::Ledger,
    options::Options,
    process::{
        cgroup::Cgroups,
        children::Children,
        proc::{self, Process},
        tree::{Target, add_descendants},
    },
};

/// What every part of a running worker shares.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) options: Options,
    pub(crate) ledger: Ledger,
    pub(crate) client: Arc<Client>,
    pub(crate) guardian: Guardian,
    pub(crate) children: Children,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) slots: Arc<Semaphore>,
    /// This incarnation, random.
    pub(crate) boot_id: String,
    pub(crate) machine_boot_id: String,
    pub(crate) counts: Counts,
    /// How often the kernel had killed something for memory at the last look: looking at every start would cost
    /// more than it tells.
    pub(crate) oom_kills: AtomicU64,
    /// The tries whose processes may live, by their marker.
    live: Mutex<BTreeMap<String, Live>>,
    leaves: AtomicU64,
}

/// A try whose processes may live.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Nothing of it was started before.
    pub(crate) since_ticks: u64,
    /// Its first process, by number and start time, once there is one.
    pub(crate) first: Option<(i32, u64)>,
    /// What has descended from it, as far as it was seen: by that, a process that sheds every mark and is adopted
    /// by the worker is still known as this try's.
    pub(crate) seen: BTreeMap<i32, u64>,
}

/// How many tries ended how.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) finished: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) handed_back: AtomicU64,
}

impl Counts {
    pub(crate) fn count(&self, outcome: TryOutcome) {
        let counter = match outcome {
            TryOutcome::HandedBack => &self.handed_back,
            TryOutcome::Lost => &self.lost,
            _ => &self.finished,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Context {
    pub(crate) fn new(
        options: Options,
        client: Arc<Client>,
        guardian: Guardian,
        children: Children,
        cgroups: Option<Cgroups>,
        boot_id: String,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(options.slots as usize));
        Self {
            options,
            ledger: Ledger::new(),
            client,
            guardian,
            children,
            cgroups,
            slots,
            boot_id,
            machine_boot_id: proc::machine_boot_id(),
            counts: Counts::default(),
            oom_kills: AtomicU64::new(crate::process::cgroup::oom_kills_around()),
            live: Mutex::default(),
            leaves: AtomicU64::new(0),
        }
    }

    /// Returns a name for a leaf cgroup that no other try has, of this incarnation or of another: the guardian of a
    /// worker that was killed may still be killing by name when the next incarnation has its first tries.
    pub(crate) fn next_leaf(&self) -> String {
        format!("{}-{}", self.boot_id, self.leaves.fetch_add(1, Ordering::Relaxed))
    }

    /// A process of the try is about to be made.
    pub(crate) fn watch(&self, id: &str, target: &Target, mark: &Path) {
        let live = Live { since_ticks: target.since_ticks, ..Live::default() };
        self.live().insert(target.marker.clone(), live);
        self.guardian.send(&Message::Watch {
            id: id.to_owned(),
            target: target.clone(),
            mark: mark.to_owned(),
            deadline_ms: None,
        });
    }

    /// The process of the try runs.
    pub(crate) fn started(&self, id: &str, target: &Target, mark: &Path, deadline_ms: Option<u64>) {
        if let Some(live) = self.live().get_mut(&target.marker) {
            live.first = target.group.zip(target.group_since_ticks);
        }
        self.guardian.send(&Message::Watch {
            id: id.to_owned(),
            target: target.clone(),
            mark: mark.to_owned(),
            deadline_ms,
        });
    }

    /// Nothing of the try is alive.
    pub(crate) fn forget(&self, id: &str, marker: &str) {
        self.live().remove(marker);
        self.guardian.send(&Message::Forget { id: id.to_owned() });
    }

    /// The tries whose processes may live. Whoever decides about orphans holds this, and leaves the table in the
    /// same step: otherwise two tries that end together would each leave an orphan to the other.
    pub(crate) fn live(&self) -> MutexGuard<'_, BTreeMap<String, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks which processes descend from which try. A cgroup makes that needless.
    pub(crate) fn look_at_descendants(&self) {
        let mut live = self.live();
        if self.cgroups.is_some() || live.is_empty() {
            return;
        }
        let all: Vec<Process> = proc::processes().into_iter().filter(|process| !process.is_zombie).collect();
        for live in live.values_mut() {
            let is_known = |process: &&Process| {
                let start = Some(&process.start_ticks);
                live.seen.get(&process.pid) == start || live.first == Some((process.pid, process.start_ticks))
            };
            let mut found = all.iter().filter(is_known).map(|process| process.pid).collect();
            add_descendants(&all, &mut found);
            live.seen = all
                .iter()
                .filter(|process| found.contains(&process.pid))
                .map(|process| (process.pid, process.start_ticks))
                .collect();
        }
    }

    /// Removes the folder of a try that is over.
    pub(crate) fn remove_folder(&self, folder: PathBuf) {
        tokio::task::spawn_blocking(move || {
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::warn!(%error, folder = %folder.display(), "cannot remove the folder of a try");
            }
        });
    }
}
