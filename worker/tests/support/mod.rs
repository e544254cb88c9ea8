//! A server in the test, workers as processes, and waiting for conditions.

mod server;
mod worker;

pub(crate) use server::{Server, State};
pub(crate) use worker::{Setup, User, is_locked};

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tidemill_protocol::worker::{Assignment, AttemptKey, DagId, RunId, TaskId, TaskInstanceKey, Token, Work};

/// How long anything may take before a test gives up. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at a condition that no signal announces until it holds. Returns whether it did in time.
pub(crate) fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > patience {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    true
}

/// Returns the key of a first try.
pub(crate) fn key(task: &str) -> AttemptKey {
    let instance = TaskInstanceKey {
        run: serde_json::from_str("7").unwrap(),
        task: TaskId::new(task).unwrap(),
        map_index: -1,
    };
    AttemptKey { instance, try_number: 1, epoch: 1 }
}

/// Returns an assignment of a shell script.
pub(crate) fn shell(task: &str, script: &str) -> Assignment {
    assignment(task, Work::Shell { script: script.to_owned() })
}

/// Returns an assignment.
pub(crate) fn assignment(task: &str, work: Work) -> Assignment {
    Assignment {
        attempt: key(task),
        token: Token(format!("token-{task}")),
        dag_id: DagId::new("demo").unwrap(),
        run_id: RunId::new("manual__1").unwrap(),
        dag_file: "demo.toml".to_owned(),
        work,
        env: BTreeMap::from([("TIDEMILL_TASK_ID".to_owned(), task.to_owned())]),
        connections: BTreeMap::new(),
        secrets: Vec::new(),
        inputs: BTreeMap::new(),
        timeout_ms: None,
        skip_on_exit_code: vec![99],
        fail_on_exit_code: vec![],
        lease_ms: 30_000,
    }
}
