//! A PostgreSQL cluster of the tests' own.
//!
//! Included by path (`#[path = "…/tests/support/postgres.rs"] mod postgres;`), so that every crate's tests can have
//! it; it needs nothing but the standard library. All test processes share one cluster: runners start a process per
//! test, and a cluster each would cost seconds. Every process holds a shared lock while it lives; a watcher that waits
//! for the exclusive lock stops the cluster and deletes it when the last one is gone, however it went.
//!
//! PostgreSQL being there is a prerequisite of the tests: without it they fail and say so. They never skip.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    sync::atomic::{AtomicU32, Ordering},
};

/// The test process's share in the cluster. The lock lives as long as the process.
struct Cluster {
    folder: PathBuf,
    _share: File,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Makes an empty database in the shared cluster and returns its URL.
pub(crate) fn new_database() -> String {
    let cluster = CLUSTER.get_or_init(Cluster::join);
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("t_{}_{number}", std::process::id());
    // From `template0`, which nobody can connect to: a template that somebody is connected to cannot be copied.
    run(Command::new(bin("psql"))
        .args(["-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"])
        .arg(&cluster.folder)
        .args(["-c", &format!("DROP DATABASE IF EXISTS {name}")])
        .args(["-c", &format!("CREATE DATABASE {name} TEMPLATE template0")]));
    format!("postgres://postgres@localhost/{name}?host={}", cluster.folder.display())
}

impl Cluster {
    fn join() -> Self {
        let user = unprivileged_user();
        // A socket's path has about a hundred bytes, so the folder is a short one.
        let folder = std::env::temp_dir().join(format!("tidemill-pg-{}", user.as_deref().unwrap_or("self")));
        let lock = |name: &str| {
            let path = folder.with_extension(name);
            File::options().create(true).truncate(false).read(true).write(true).open(&path).unwrap_or_else(
                |error| panic!("the tests' PostgreSQL needs the lock file {}: {error}", path.display()),
            )
        };
        let share = lock("use");
        share.lock_shared().expect("a shared lock");
        let starting = lock("start");
        starting.lock().expect("an exclusive lock");
        if !is_running(&folder, user.as_deref()) {
            start(&folder, user.as_deref());
        }
        drop(starting);
        Self { folder, _share: share }
    }
}

/// Whether the cluster's server lives. It is not asked to answer in time: a busy one would be taken for a dead one.
fn is_running(folder: &Path, user: Option<&str>) -> bool {
    let status =
        as_user(user, "pg_ctl").args(["status", "-D"]).arg(folder.join("data")).current_dir("/").output();
    status.is_ok_and(|output| output.status.success())
}

fn start(folder: &Path, user: Option<&str>) {
    if folder.exists() {
        // A leftover of a machine that went down: nobody holds the lock, so nobody uses it.
        fs::remove_dir_all(folder).expect("the leftover cluster is deleted");
    }
    fs::create_dir_all(folder).expect("a folder for the cluster");
    if let Some(user) = user {
        run(Command::new("chown").arg(user).arg(folder));
    }
    let data = folder.join("data");
    run(as_user(user, "initdb")
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
        .arg(&data));
    let options = format!(
        "-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off -c full_page_writes=off \
         -c autovacuum=off -c max_wal_size=256MB -c max_connections=300",
        folder.display()
    );
    run(as_user(user, "pg_ctl")
        .args(["start", "-w", "-D"])
        .arg(&data)
        .arg("-l")
        .arg(folder.join("log"))
        .args(["-o", &options]));
    let stop = format!(
        "{} {} stop -m immediate -D '{}'; rm -rf '{}'",
        user.map_or(String::new(), |user| format!("setpriv --reuid={user} --regid={user} --clear-groups")),
        bin("pg_ctl").display(),
        data.display(),
        folder.display()
    );
    // In a session of its own: a runner that kills this test's process group must not kill the one that tidies up.
    Command::new("setsid")
        .args(["--fork", "flock", "-x"])
        .arg(folder.with_extension("use"))
        .args(["sh", "-c", &stop])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the watcher that stops the cluster (setsid and flock of util-linux)");
}

/// `initdb` and the server refuse to run as root.
fn unprivileged_user() -> Option<String> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if id(&["-u"])? != "0" {
        return None;
    }
    ["postgres", "nobody"].into_iter().find(|user| id(&["-u", user]).is_some()).map(str::to_owned)
}

fn as_user(user: Option<&str>, program: &str) -> Command {
    let program = bin(program);
    match user {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={user}"))
                .arg("--clear-groups")
                .arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Finds a program of the newest PostgreSQL on this machine.
fn bin(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin").join(program)))
        })
        .filter(|(_, path)| path.exists())
        .collect();
    found.sort();
    if let Some((_, path)) = found.pop() {
        return path;
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!(
                "PostgreSQL's {program} was not found. The tests need a PostgreSQL server's programs \
                 (Debian: apt-get install -y postgresql)."
            )
        })
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).current_dir("/").output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
    // What went wrong comes before the command: whoever prints only a part of this prints the useful one.
    assert!(
        output.status.success(),
        "{}: {}{}: {command:?}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
}
