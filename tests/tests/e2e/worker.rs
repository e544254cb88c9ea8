//! A `tidemill worker` beside a `tidemill server`.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use super::server::{PATIENCE, Server, binary, cli};

/// A running worker.
pub(crate) struct Worker {
    child: Child,
    stderr: PathBuf,
}

impl Worker {
    /// Starts a worker that joins `server` with a token made for it.
    pub(crate) fn start(
        server: &Server,
        name: &str,
        dags: &Path,
        work: &Path,
        slots: u32,
        env: &[(&str, &Path)],
    ) -> Self {
        let (code, out, err) = cli(server, &["tokens", "create", "--role", "worker", "--format", "json"]);
        assert_eq!(code, 0, "{err}");
        let token: serde_json::Value = serde_json::from_str(&out).unwrap();
        let stderr = work.with_extension("stderr");
        let log = fs::File::options().create(true).append(true).open(&stderr).unwrap();
        let child = Command::new(binary())
            .args(["worker", "--name", name, "--url", &server.url, "--slots", &slots.to_string()])
            .arg("--dags-dir")
            .arg(dags)
            .arg("--work-dir")
            .arg(work)
            .env("TIDEMILL_JOIN_TOKEN", token["token"].as_str().unwrap())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, stderr }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Kills the worker's process alone, as `kill -9 PID` does, and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal to the worker's process alone.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.has_ended() {
                return status;
            }
            assert!(Instant::now() < until, "the worker did not stop; it said:\n{}", self.said());
            std::thread::yield_now();
        }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
