//! Starting the process of a try.
//!
//! Where the machine allows it, one system call makes the process inside its cgroup ([`super::clone`]). Else the
//! standard library starts it, and a cgroup is joined by a one-line shell in between. Never `pre_exec`: it
//! forfeits `posix_spawn`, which costs a worker with 300 MB twenty times the time per start.
//!
//! What a task must inherit (umask, limits, no new privileges) is set on the worker before.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::child::Child;
use crate::outcome::Problem;

/// The longest single argument or `NAME=value`, its end included (`MAX_ARG_STRLEN`).
const ARGUMENT_LIMIT_BYTES: usize = 131_072;

/// Everything that one start needs.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Program and arguments.
    pub(crate) argv: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Where it starts.
    pub(crate) folder: PathBuf,
    /// Where both streams go; opened for appending.
    pub(crate) log: File,
    /// The cgroup that it is made in.
    pub(crate) cgroup: Option<PathBuf>,
}

/// Starts the process in a group of its own. Must run inside the runtime, on a thread that may block.
///
/// # Errors
/// A coded [`Problem`] that becomes the outcome of the try.
pub(crate) fn spawn(launch: &Launch) -> Result<Child, Problem> {
    let program = resolve(launch)?;
    check_sizes(launch)?;
    // A thread keeps this once it is set, and what it starts inherits it.
    rustix::thread::set_no_new_privs(true).map_err(|error| start_failed(launch, &error.into()))?;
    #[cfg(target_arch = "x86_64")]
    match at_once::spawn(launch, &program) {
        Err(at_once::Refusal::Start(error)) => return Err(start_failed(launch, &error)),
        Ok(child) => return Ok(child),
        Err(at_once::Refusal::NotHere) => {}
    }
    in_steps(launch, &program).map(Child::from).map_err(|error| start_failed(launch, &error))
}

/// Starts it by the means of the standard library.
fn in_steps(launch: &Launch, program: &Path) -> io::Result<tokio::process::Child> {
    let mut command = match &launch.cgroup {
        None => {
            let mut command = Command::new(program);
            command.arg0(&launch.argv[0]).args(&launch.argv[1..]);
            command
        }
        Some(leaf) => {
            let mut command = Command::new("/bin/sh");
            // The command replaces the shell, so the process that is waited for is the task itself.
            command.args(["-c", "echo 0 > \"$1\" || exit 125; shift; exec \"$@\"", "sh"]);
            command.arg(leaf.join("cgroup.procs")).args(&launch.argv);
            command
        }
    };
    command
        .env_clear()
        .envs(&launch.env)
        .current_dir(&launch.folder)
        .stdin(Stdio::null())
        .stdout(launch.log.try_clone()?)
        .stderr(launch.log.try_clone()?)
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
}

#[cfg(target_arch = "x86_64")]
mod at_once {
    //! With one system call.

    use std::{
        ffi::{CString, OsStr},
        fs::File,
        io,
        os::{
            fd::{AsFd, OwnedFd},
            unix::ffi::OsStrExt,
        },
        path::Path,
    };

    use rustix::{
        fs::{Mode, OFlags, open},
        io::fcntl_dupfd_cloexec,
    };

    use super::{
        super::{
            child::Child,
            clone::{Order, StartError, start},
        },
        Launch,
    };

    pub(super) enum Refusal {
        /// The program cannot be executed, or there is no room for another process.
        Start(io::Error),
        /// This machine has no such system call, or no right to it.
        NotHere,
    }

    impl From<io::Error> for Refusal {
        fn from(error: io::Error) -> Self {
            Self::Start(error)
        }
    }

    pub(super) fn spawn(launch: &Launch, program: &Path) -> Result<Child, Refusal> {
        let argv: Vec<CString> = launch.argv.iter().map(|word| text(word)).collect::<Result<_, _>>()?;
        let program = text(program.as_os_str())?;
        match execute(launch, &program, &argv) {
            // A script without a first line that names its shell: the shell's own rule for such files.
            Err(Refusal::Start(error)) if error.raw_os_error() == Some(libc::ENOEXEC) => {
                let mut by_shell = vec![c"/bin/sh".to_owned(), program];
                by_shell.extend(argv.into_iter().skip(1));
                execute(launch, &c"/bin/sh".to_owned(), &by_shell)
            }
            other => other,
        }
    }

    fn execute(launch: &Launch, program: &CString, argv: &[CString]) -> Result<Child, Refusal> {
        let assignments = launch.env.iter().map(|(name, value)| text(OsStr::new(&format!("{name}={value}"))));
        let env: Vec<CString> = assignments.collect::<Result<_, _>>()?;
        let folder = text(launch.folder.as_os_str())?;
        // Above the standard streams, which the child replaces one after the other.
        let high = |file: &File| fcntl_dupfd_cloexec(file, 3).map_err(io::Error::from);
        let (stdin, log) = (high(&File::open("/dev/null")?)?, high(&launch.log)?);
        let cgroup = launch.cgroup.as_deref().map(open_folder).transpose()?;
        let order = Order {
            program,
            argv,
            env: &env,
            folder: &folder,
            stdin: stdin.as_fd(),
            log: log.as_fd(),
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
        };
        match start(&order) {
            Ok((pid, handle)) => Ok(Child::adopt(pid, handle)?),
            Err(StartError::Exec(error)) => Err(Refusal::Start(error)),
            Err(StartError::Clone(error)) => match error.raw_os_error() {
                // Too many processes, no memory: the other way would meet the same.
                Some(libc::EAGAIN | libc::ENOMEM) => Err(Refusal::Start(error)),
                _ => {
                    tracing::debug!(%error, "no process by clone3; the longer way is taken");
                    Err(Refusal::NotHere)
                }
            },
        }
    }

    fn text(word: &OsStr) -> io::Result<CString> {
        CString::new(word.as_bytes()).map_err(io::Error::other)
    }

    fn open_folder(path: &Path) -> io::Result<OwnedFd> {
        Ok(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
    }
}

fn start_failed(launch: &Launch, error: &io::Error) -> Problem {
    if error.kind() == io::ErrorKind::ArgumentListTooLong {
        return Problem::TooLarge {
            what: "command and environment together".to_owned(),
            bytes: total(launch),
        };
    }
    Problem::CannotStart {
        program: launch.argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default(),
        error: error.to_string(),
    }
}

/// Finds the program as the task itself would: with a slash from its folder, else along its own `PATH`.
fn resolve(launch: &Launch) -> Result<PathBuf, Problem> {
    let Some(name) = launch.argv.first().filter(|name| !name.is_empty()) else {
        return Err(Problem::CannotStart {
            program: String::new(),
            error: "the command is empty".to_owned(),
        });
    };
    let text = name.to_string_lossy().into_owned();
    let refused = |error: &str| Problem::CannotStart { program: text.clone(), error: error.to_owned() };
    if text.contains('/') {
        let path = launch.folder.join(name);
        return match std::fs::metadata(&path) {
            Err(error) => Err(refused(&error.to_string())),
            Ok(_) if !is_program(&path) => Err(refused("it is not an executable file")),
            Ok(_) => Ok(path),
        };
    }
    let path = launch.env.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
    path.split(':')
        .map(|folder| launch.folder.join(folder).join(name))
        .find(|candidate| is_program(candidate))
        .ok_or_else(|| refused("no such program on PATH"))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Finds what the kernel would refuse, so that the message can name it, with a shell in between too.
fn check_sizes(launch: &Launch) -> Result<(), Problem> {
    for (index, argument) in launch.argv.iter().enumerate() {
        if argument.len() >= ARGUMENT_LIMIT_BYTES {
            let what = format!("argument {index} of the command");
            return Err(Problem::TooLarge { what, bytes: argument.len() });
        }
        if argument.as_encoded_bytes().contains(&0) {
            return Err(Problem::NulByte { what: format!("argument {index} of the command") });
        }
    }
    for (name, value) in &launch.env {
        if name.len() + value.len() + 1 >= ARGUMENT_LIMIT_BYTES {
            return Err(Problem::TooLarge {
                what: format!("environment variable {name}"),
                bytes: name.len() + value.len() + 1,
            });
        }
        if name.contains('\0') || value.contains('\0') || name.contains('=') || name.is_empty() {
            return Err(Problem::NulByte { what: format!("environment variable {name:?}") });
        }
    }
    // The kernel allows a quarter of the stack limit, and never less than 128 KiB.
    let stack = rustix::process::getrlimit(rustix::process::Resource::Stack).current;
    let limit = stack.map_or(6 << 20, |bytes| usize::try_from(bytes / 4).unwrap_or(usize::MAX)).min(6 << 20);
    let bytes = total(launch);
    if bytes + 4096 > limit.max(131_072) {
        return Err(Problem::TooLarge { what: "command and environment together".to_owned(), bytes });
    }
    Ok(())
}

fn total(launch: &Launch) -> usize {
    // Every string costs its end and a pointer.
    let arguments: usize = launch.argv.iter().map(|argument| argument.len() + 9).sum();
    arguments + launch.env.iter().map(|(name, value)| name.len() + value.len() + 10).sum::<usize>()
}
