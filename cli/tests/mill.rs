//! Runs the binary in a world of its own: a temporary home, no variables of the person who runs the tests.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A process may take this long to do what it is waited for: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A home folder in which commands run.
pub(crate) struct Mill {
    home: TempDir,
}

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Returns what was printed on stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }

    /// Asserts the exit code and returns the rest.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Asserts that it failed with a code on stderr and nothing on stdout.
    pub(crate) fn fails_with(self, code: &str) -> Self {
        self.exits(1).says(code)
    }

    /// Asserts that it refused the command line with a code on stderr and nothing on stdout.
    pub(crate) fn refuses_with(self, code: &str) -> Self {
        self.exits(2).says(code)
    }

    fn says(self, code: &str) -> Self {
        assert!(self.err.contains(code), "{code} is not in: {}", self.err);
        assert_eq!(self.out, "", "stdout is for data");
        self
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Mill {
    /// Makes an empty home.
    pub(crate) fn new() -> Self {
        Self { home: TempDir::new().unwrap() }
    }

    /// Returns a path in the home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file in the home.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Returns a command in the home.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command
            .args(args)
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.command(args).output().unwrap().into()
    }

    /// Starts a server in the home, with its DAG folder `dags`, and waits until it is ready.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        self.start_with(args, &[])
    }

    /// Starts a server with more variables.
    pub(crate) fn start_with(&self, args: &[&str], env: &[(&str, &str)]) -> Running {
        fs::create_dir_all(self.path("dags")).unwrap();
        let mut command = self.command(args);
        command.envs(env.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = ready.send(line);
            }
        });
        let err = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let line = match is_ready.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{args:?} did not get ready ({error}): {}", err.join().unwrap_or_default());
            }
        };
        let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Running { child, url, err: Some(err), lines: is_ready }
    }

    /// Starts `standalone` on a free port with the data directory `data`.
    pub(crate) fn standalone(&self) -> Running {
        self.start(&["standalone", "--listen", "127.0.0.1:0", "--data-dir", "data", "--dags-dir", "dags"])
    }
}

/// A server that runs; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) url: String,
    err: Option<std::thread::JoinHandle<String>>,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end and returns the exit status, further lines of stdout, and stderr.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the process did not end");
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(20));
        };
        let err = self.err.take().map(|err| err.join().unwrap()).unwrap_or_default();
        (status, self.lines.try_iter().collect(), err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until a condition holds: for what a real process gives no other signal of.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Returns a port that is free now and that nobody gets by chance while a server is started again: it lies below the
/// ports that the kernel gives to outgoing connections.
pub(crate) fn lasting_port() -> u16 {
    let first = 10_100 + (std::process::id() % 9_000) as u16;
    (first..20_000)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("no port is free")
}

/// Whether a path is private to its owner.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
