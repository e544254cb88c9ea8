//! Starting and ending the real binary.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use super::client::Client;

/// How long anything may take before a test fails; generous, because machines are shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the binary under test, which is built with the tests.
pub(crate) fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let path = folder.join("tidemill");
    assert!(path.is_file(), "{} is missing: run `cargo build -p tidemill-cli`", path.display());
    path
}

/// Returns the root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns a port that is free now and that nobody gets by chance later: it lies below the ports that the kernel
/// gives to outgoing connections. A worker that lives on must find every start of its server at the same place.
pub(crate) fn lasting_port() -> u16 {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    (first..32_000)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("no port is free")
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `standalone`, or `server` for one whose workers are processes of their own.
    pub(crate) command: &'static str,
    pub(crate) listen: String,
    pub(crate) dags_dir: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) slots: u32,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) args: Vec<String>,
}

impl Options {
    pub(crate) fn new(dags_dir: &Path, data_dir: &Path) -> Self {
        Self {
            command: "standalone",
            listen: "127.0.0.1:0".to_owned(),
            dags_dir: dags_dir.to_owned(),
            data_dir: data_dir.to_owned(),
            slots: 8,
            env: BTreeMap::new(),
            args: Vec::new(),
        }
    }
}

/// A running `tidemill standalone` or `tidemill server`.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) client: Client,
    /// Everything that it printed to stderr, for messages of failed tests.
    pub(crate) stderr: PathBuf,
}

impl Server {
    /// Starts it and waits for its line `listening on …`.
    pub(crate) fn start(options: &Options) -> Self {
        Self::try_start(options).unwrap_or_else(|message| panic!("{message}"))
    }

    pub(crate) fn try_start(options: &Options) -> Result<Self, String> {
        fs::create_dir_all(&options.data_dir).unwrap();
        let stderr = options.data_dir.with_extension("stderr");
        let log = fs::File::options().create(true).append(true).open(&stderr).unwrap();
        let mut command = Command::new(binary());
        command
            .arg(options.command)
            .arg("--dags-dir")
            .arg(&options.dags_dir)
            .arg("--data-dir")
            .arg(&options.data_dir)
            .args(["--listen", &options.listen]);
        if options.command == "standalone" {
            command.args(["--slots", &options.slots.to_string()]);
        }
        let mut child = command
            .args(&options.args)
            .envs(&options.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // A group of its own: a signal to the test's group must not end it, and ending it spares the test.
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout);
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
            // Keep the pipe open and empty: a server must not die of a reader that is gone.
            let _ = lines.read_to_end(&mut Vec::new());
        });
        let url = loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(url) = line.trim().strip_prefix("listening on ") {
                        break url.to_owned();
                    }
                }
                Err(_) => {
                    let _ = child.kill();
                    let status = child.wait();
                    let said = fs::read_to_string(&stderr).unwrap_or_default();
                    return Err(format!("the server did not start ({status:?}); it said:\n{said}"));
                }
            }
        };
        let token = fs::read_to_string(options.data_dir.join("admin.token")).unwrap_or_default();
        let client = Client::new(&url, token.trim());
        Ok(Self { child, url, data_dir: options.data_dir.clone(), client, stderr })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server's process alone, as `kill -9 PID` does, and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Sends it a signal, as a terminal or a service manager does.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, signal);
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the server did not stop; it said:\n{}", self.said());
            std::thread::yield_now();
        }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs the CLI against a server and returns its exit code, stdout and stderr.
pub(crate) fn cli(server: &Server, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(binary())
        .args(args)
        .env("TIDEMILL_URL", &server.url)
        .env("TIDEMILL_TOKEN", fs::read_to_string(server.data_dir.join("admin.token")).unwrap().trim())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
