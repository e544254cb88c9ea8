//! A worker process in a folder of its own.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, Server, eventually};
use crate::helper::Config;

/// Whose rights a worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// Those of the test.
    Same,
    /// Nobody's, by dropping them; only when the test is root.
    Nobody,
}

/// The folders of a worker, which outlive its process.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    pub(crate) config: Config,
    pub(crate) user: User,
    /// A delegated cgroup that the process is started in.
    pub(crate) cgroup: Option<PathBuf>,
    starts: AtomicU32,
}

/// A worker process.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) child: Child,
    pub(crate) output: PathBuf,
}

impl Setup {
    pub(crate) fn new(server: &Server) -> Self {
        Self::for_user(server, User::Same)
    }

    pub(crate) fn for_user(server: &Server, user: User) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let own_exe = path.join("tidemill");
        let binary = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\nTIDEMILL_TEST_ROLE=$1 TIDEMILL_TEST_ARGUMENT=$2 \
             exec '{}' --exact helper::process --nocapture --quiet\n",
            binary.display()
        );
        fs::write(&own_exe, script).unwrap();
        fs::set_permissions(&own_exe, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let config = Config {
            server_url: server.url.clone(),
            own_exe,
            dags_dir: path.join("dags"),
            work_dir: path.join("work"),
            slots: 4,
            grace_ms: 10_000,
            drain_ms: 0,
            cgroups: false,
            join_token: None,
        };
        fs::create_dir(&config.dags_dir).unwrap();
        fs::create_dir(&config.work_dir).unwrap();
        fs::create_dir(path.join("files")).unwrap();
        if user == User::Nobody {
            for name in ["dags", "work", "files"] {
                let status =
                    Command::new("chown").args(["65534:65534"]).arg(path.join(name)).status().unwrap();
                assert!(status.success());
            }
        }
        Self { folder, config, user, cgroup: None, starts: AtomicU32::new(0) }
    }

    /// A folder that the tasks can write to.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// Starts a worker process in these folders.
    pub(crate) fn start(&self) -> Worker {
        self.start_by(&self.config.own_exe)
    }

    /// Starts a worker process from another program than the one that it believes to be its own.
    pub(crate) fn start_by(&self, program: &Path) -> Worker {
        let count = self.starts.fetch_add(1, Ordering::Relaxed);
        let config = self.folder.path().join(format!("config-{count}.json"));
        fs::write(&config, serde_json::to_vec(&self.config).unwrap()).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
        let output = self.folder.path().join(format!("output-{count}"));
        let file = File::create(&output).unwrap();
        let mut words: Vec<String> = Vec::new();
        if let Some(cgroup) = &self.cgroup {
            let line = format!("echo 0 > '{}/cgroup.procs' && exec \"$@\"", cgroup.display());
            words.extend(["/bin/sh".to_owned(), "-c".to_owned(), line, "sh".to_owned()]);
        }
        if self.user == User::Nobody {
            let drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
            words.extend(drop.map(str::to_owned));
        }
        words.push(program.display().to_string());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg("worker")
            .arg(config)
            .env("DAEMON_SECRET", "never-for-tasks")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Worker { child, output }
    }
}

impl Worker {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the guardian's number.
    pub(crate) fn guardian(&self) -> Option<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?.flatten();
        let children = tasks.flat_map(|task| {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
        });
        children.into_iter().find(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|b| *b == 0).any(|entry| entry == b"TIDEMILL_TEST_ROLE=guardian")
        })
    }

    /// Returns when the guardian has read and looked since: it has gone to sleep several times.
    pub(crate) fn wait_for_guardian(&self) {
        let guardian = self.guardian().expect("the worker has a guardian");
        let naps = || {
            let tasks = fs::read_dir(format!("/proc/{guardian}/task")).into_iter().flatten().flatten();
            let counts = tasks.map(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
                line.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0)
            });
            counts.sum::<u64>()
        };
        let before = naps();
        assert!(eventually(PATIENCE, || naps() >= before + 4), "the guardian does not look");
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    /// Waits for the end of the process. Returns its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        let ended = eventually(PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "the worker does not end: {}", self.output());
        status.unwrap().code()
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the worker said:\n{}", fs::read_to_string(&self.output).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether somebody holds the lock on the file.
pub(crate) fn is_locked(path: &Path) -> bool {
    use rustix::fs::{FlockOperation, flock};
    File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
}
