//! SIGTERM and Ctrl-C as a person or a service manager sends them: what happens to running tasks, the exit code, and
//! a second one.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    server::{Options, PATIENCE, Server},
    truth::{Truth, TruthFolder},
    worker::Worker,
};

/// A folder with one DAG of one task, and what the task records.
struct Mill {
    _folder: tempfile::TempDir,
    truth: TruthFolder,
    options: Options,
    work: PathBuf,
}

impl Mill {
    /// The task's script records itself around `body`, in which `GO` is a file that the test makes.
    fn new(body: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let truth = TruthFolder::new(&folder.path().join("truth"));
        let dags = folder.path().join("dags");
        fs::create_dir_all(&dags).unwrap();
        let body = body
            .replace("GO", &truth.0.join("go").display().to_string())
            .replace("SEEN", &truth.0.join("seen").display().to_string());
        fs::write(dags.join("task.sh"), truth.script(&body)).unwrap();
        let text = "[dag]\nid = \"one\"\n[[task]]\nid = \"a\"\ncommand = [\"/bin/sh\", \"./task.sh\"]\n";
        fs::write(dags.join("one.toml"), text).unwrap();
        let options = Options::new(&dags, &folder.path().join("data"));
        let work = folder.path().join("work");
        Self { _folder: folder, truth, options, work }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.options.env.insert(name.to_owned(), value.to_owned());
    }

    fn go(&self) {
        fs::write(self.truth.0.join("go"), "").unwrap();
    }

    /// Whether a process of an execution lives: it holds the lock of its task instance.
    fn is_locked(&self) -> bool {
        fs::read_dir(self.truth.0.join("locks")).unwrap().flatten().any(|entry| is_locked(&entry.path()))
    }

    fn until(&self, server: &Server, what: &str, is_so: impl Fn(&Truth) -> bool) {
        until(server, what, || is_so(&self.truth.read()));
    }

    async fn tries(&self, server: &Server, run: &str) -> Vec<(u64, String)> {
        let tries = server.client.get(&format!("/dags/one/runs/{run}/tasks/a/tries")).await;
        let items = tries["items"].as_array().unwrap().iter();
        items
            .map(|row| {
                (row["try_number"].as_u64().unwrap(), row["outcome"].as_str().unwrap_or("-").to_owned())
            })
            .collect()
    }
}

fn until(server: &Server, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for: {what}; the server said:\n{}", server.said());
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn is_locked(path: &Path) -> bool {
    use rustix::fs::{FlockOperation, flock};
    let Ok(file) = fs::File::open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Ignores TERM, says that it got it, and ends when the test lets it.
const STUBBORN: &str = r#"trap 'touch "SEEN"' TERM
until [ -e "GO" ]; do sleep 0.05; done"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_ctrl_c_ends_at_once_with_130_and_nothing_of_a_task_survives() {
    let mut mill = Mill::new(STUBBORN);
    mill.set("TIDEMILL_GRACE", "10m");
    let mut server = Server::start(&mill.options);
    let run = server.client.trigger("one", None).await;
    mill.until(&server, "the task runs", |seen| seen.starts.len() == 1);
    // `timeout` signals the process and its group in one moment: that is one request.
    server.signal(Signal::INT);
    server.signal(Signal::INT);
    let seen = mill.truth.0.join("seen");
    until(&server, "the task got TERM", || seen.exists());
    assert_eq!(server.has_ended(), None, "the first one gives the task its grace");
    assert!(mill.is_locked(), "the task runs on in its grace");
    until(&server, "the second one ends it", || {
        server.signal(Signal::INT);
        server.said().contains("told twice")
    });
    assert_eq!(server.wait().code(), Some(130), "{}", server.said());
    assert!(server.said().contains("told twice"), "{}", server.said());
    until(&server, "the guardian has killed the task", || !mill.is_locked());
    mill.go();
    let mut server = Server::start(&mill.options);
    assert_eq!(server.client.wait("one", &run).await["state"], "success");
    let tries = mill.tries(&server, &run).await;
    assert!(
        tries.contains(&(1, "lost".to_owned())) && tries.contains(&(2, "success".to_owned())),
        "{tries:?}"
    );
    assert_eq!(server.stop().code(), Some(0), "{}", server.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_stops_within_its_grace_is_recorded_and_tried_again() {
    for signal in [Signal::TERM, Signal::INT] {
        let mill = Mill::new(
            r#"trap 'touch "SEEN"; exit 3' TERM
until [ -e "GO" ]; do sleep 0.05; done"#,
        );
        let mut server = Server::start(&mill.options);
        let run = server.client.trigger("one", None).await;
        mill.until(&server, "the task runs", |seen| seen.starts.len() == 1);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{}", server.said());
        assert!(mill.truth.0.join("seen").exists(), "it had the time to react");
        assert!(!mill.is_locked());
        mill.go();
        let server = Server::start(&mill.options);
        assert_eq!(server.client.wait("one", &run).await["state"], "success");
        let tries = mill.tries(&server, &run).await;
        assert!(tries.contains(&(1, "lost".to_owned())), "being stopped costs no retry: {tries:?}");
        assert_eq!(tries.len(), 2, "{tries:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_running_tasks_end_by_themselves() {
    let mut mill = Mill::new(STUBBORN);
    mill.set("TIDEMILL_DRAIN", "10m");
    let mut server = Server::start(&mill.options);
    let run = server.client.trigger("one", None).await;
    mill.until(&server, "the task runs", |seen| seen.starts.len() == 1);
    server.signal(Signal::TERM);
    until(&server, "the stop", || server.said().contains("stopping"));
    assert_eq!(server.has_ended(), None);
    mill.go();
    assert_eq!(server.wait().code(), Some(0), "{}", server.said());
    assert!(!mill.truth.0.join("seen").exists(), "it was not sent TERM");
    let server = Server::start(&mill.options);
    assert_eq!(server.client.wait("one", &run).await["state"], "success");
    assert_eq!(mill.tries(&server, &run).await, [(1, "success".to_owned())]);
    assert_eq!(mill.truth.read().starts.len(), 1, "executed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_leaves_the_tasks_of_its_workers_alone() {
    let mut mill = Mill::new(STUBBORN);
    mill.options.command = "server";
    mill.options.listen = format!("127.0.0.1:{}", super::server::lasting_port());
    let mut server = Server::start(&mill.options);
    let mut worker = Worker::start(&server, "w", &mill.options.dags_dir, &mill.work, 2, &[]);
    let run = server.client.trigger("one", None).await;
    mill.until(&server, "the task runs", |seen| seen.starts.len() == 1);
    assert_eq!(server.stop().code(), Some(0), "{}", server.said());
    assert!(mill.is_locked(), "the task runs on");
    mill.go();
    mill.until(&server, "the task ends without a server", |seen| seen.ends.len() == 1);
    let server = Server::start(&mill.options);
    assert_eq!(server.client.wait("one", &run).await["state"], "success");
    assert_eq!(mill.tries(&server, &run).await, [(1, "success".to_owned())]);
    worker.signal(Signal::INT);
    assert_eq!(worker.wait().code(), Some(0), "{}", worker.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_told_twice_ends_at_once_with_130() {
    let mut mill = Mill::new(STUBBORN);
    mill.options.command = "server";
    let server = Server::start(&mill.options);
    let drain = [("TIDEMILL_DRAIN", Path::new("10m"))];
    let mut worker = Worker::start(&server, "w", &mill.options.dags_dir, &mill.work, 2, &drain);
    server.client.trigger("one", None).await;
    mill.until(&server, "the task runs", |seen| seen.starts.len() == 1);
    worker.signal(Signal::TERM);
    until(&server, "the stop", || worker.said().contains("stopping"));
    assert_eq!(worker.has_ended(), None);
    until(&server, "the second one ends it", || {
        worker.signal(Signal::TERM);
        worker.said().contains("told twice")
    });
    assert_eq!(worker.wait().code(), Some(130), "{}", worker.said());
    until(&server, "the guardian has killed the task", || !mill.is_locked());
}
