//! Virtual environments: one for each interpreter and set of requirements, built once and used by many tries.
//!
//! ```text
//! WORK_DIR/venvs/HASH/        the environment
//! WORK_DIR/venvs/HASH/ready   written when it is complete; its time says when it was last used
//! WORK_DIR/venvs/HASH.lock    exclusive while it is built or removed, shared while it is used
//! ```
//!
//! **Invariant:** an environment without `ready` is never used, whoever was killed while building it. The lock is
//! inherited by what builds and by what runs, so it is held for as long as any process of that try lives.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use rustix::{
    fs::{FlockOperation, flock, syncfs},
    io::{FdFlags, fcntl_setfd},
};
use sha2::{Digest, Sha256};
use tidemill_protocol::operators::PythonSpec;

use crate::{
    operator::{Out, Surroundings},
    outcome::Problem,
};

/// How many lines of a failed build become its reason.
const TAIL_LINES: usize = 8;
/// The most that they may hold, in characters.
const TAIL_CHARS: usize = 1500;
/// How deep requirements files may include each other.
const INCLUDES: usize = 16;

/// An environment, by what it is made of.
struct Venv {
    folder: PathBuf,
    name: String,
    /// The interpreter itself, by its path.
    python: String,
    version: String,
}

impl Venv {
    fn ready(&self) -> PathBuf {
        self.folder.join("ready")
    }

    /// Whether it is complete. It counts as used from now on.
    fn is_ready(&self) -> bool {
        File::options()
            .write(true)
            .open(self.ready())
            .and_then(|file| file.set_modified(SystemTime::now()))
            .is_ok()
    }
}

/// Returns the environment, built where it is not there yet, with the lock that protects it.
pub(super) fn prepare(
    spec: &PythonSpec,
    program: &str,
    around: &Surroundings,
    out: &mut Out,
) -> Result<(PathBuf, File), Problem> {
    let root = around.work_dir.join("venvs");
    fs::create_dir_all(&root).map_err(|error| prepare_problem(&root, &error))?;
    let venv = identify(spec, program, &root)?;
    let lock_path = root.join(format!("{}.lock", venv.name));
    let lock = File::options().create(true).append(true).mode(0o600).open(&lock_path);
    let lock = lock.map_err(|error| prepare_problem(&lock_path, &error))?;
    let locked =
        |operation| flock(&lock, operation).map_err(|error| prepare_problem(&lock_path, &error.into()));
    locked(FlockOperation::LockShared)?;
    if venv.is_ready() {
        out.line(&format!("environment {}: {} (built before)", venv.name, venv.version));
        return Ok((venv.folder, lock));
    }
    locked(FlockOperation::Unlock)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        out.line(&format!("environment {}: another try is building it; waiting", venv.name));
        locked(FlockOperation::LockExclusive)?;
    }
    if venv.is_ready() {
        out.line(&format!("environment {}: {} (built meanwhile)", venv.name, venv.version));
    } else {
        // Whatever installs the packages keeps the lock: when this process is killed alone, nobody may build beside
        // what is still writing.
        keep_open(&lock);
        build(&venv, spec, out)?;
    }
    locked(FlockOperation::LockShared)?;
    if !venv.is_ready() {
        // Removed between the two locks, which takes a clean-up of something that was used this moment.
        return Err(Problem::PythonVenv { name: venv.name, error: "it was removed meanwhile".to_owned() });
    }
    clean(&root, &venv.name, Duration::from_secs(around.venv_max_age_seconds), out);
    Ok((venv.folder, lock))
}

/// Lets the processes that are started from now on inherit the file.
pub(super) fn keep_open(lock: &File) {
    let _ = fcntl_setfd(lock, FdFlags::empty());
}

fn prepare_problem(path: &Path, error: &std::io::Error) -> Problem {
    Problem::Prepare { what: path.display().to_string(), error: error.to_string() }
}

/// Finds the name of an environment: the hash of the interpreter, its version and everything that is required.
fn identify(spec: &PythonSpec, program: &str, root: &Path) -> Result<Venv, Problem> {
    let unusable = |error: String| Problem::PythonInterpreter { program: program.to_owned(), error };
    let script = "import sys; print(sys.executable); print(sys.version.split()[0]); print(sys.version)";
    let asked = Command::new(program).args(["-c", script]).stdin(Stdio::null()).output();
    let asked = asked.map_err(|error| unusable(error.to_string()))?;
    if !asked.status.success() {
        return Err(unusable(String::from_utf8_lossy(&asked.stderr).trim().to_owned()));
    }
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    let mut lines = said.lines();
    let (python, version) =
        (lines.next().unwrap_or_default().to_owned(), lines.next().unwrap_or_default().to_owned());
    let mut hash = Sha256::new();
    let mut add = |text: &[u8]| {
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(text);
    };
    add(said.as_bytes());
    let sorted: BTreeSet<&str> = spec.requirements.iter().map(|line| line.trim()).collect();
    sorted.iter().for_each(|line| add(line.as_bytes()));
    if let Some(file) = &spec.requirements_file {
        add_file(Path::new(file), INCLUDES, &mut add)?;
    }
    let name: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(Venv { folder: root.join(&name), name, python, version: format!("Python {version}") })
}

/// Adds a requirements file and those that it includes.
fn add_file(path: &Path, depth: usize, add: &mut impl FnMut(&[u8])) -> Result<(), Problem> {
    let text = fs::read_to_string(path).map_err(|error| Problem::PythonRequirements {
        file: path.display().to_string(),
        error: error.to_string(),
    })?;
    add(text.as_bytes());
    let included = text.lines().filter_map(|line| {
        let line = line.trim();
        ["--requirement", "--constraint", "-r", "-c"].iter().find_map(|option| {
            let rest = line.strip_prefix(option)?;
            Some(rest.trim_start_matches(['=', ' ', '\t'])).filter(|rest| !rest.is_empty())
        })
    });
    for file in included.filter(|file| depth > 0 && !file.contains("://")) {
        add_file(&path.parent().unwrap_or(Path::new("")).join(file), depth - 1, add)?;
    }
    Ok(())
}

/// Builds the environment from nothing.
fn build(venv: &Venv, spec: &PythonSpec, out: &mut Out) -> Result<(), Problem> {
    let started = Instant::now();
    let failed = |error: String| Problem::PythonVenv { name: venv.name.clone(), error };
    let io = |error: std::io::Error| failed(error.to_string());
    match fs::remove_dir_all(&venv.folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let uv = has_uv();
    let tool = if uv { "uv" } else { "pip" };
    out.line(&format!("environment {}: {}, building with {tool}", venv.name, venv.version));
    let list = venv.folder.with_extension("txt");
    fs::write(&list, spec.requirements.join("\n") + "\n").map_err(io)?;
    for mut command in commands(venv, spec, uv, &list) {
        run(&mut command, out).map_err(failed)?;
    }
    let _ = fs::rename(&list, venv.folder.join("requirements.txt"));
    // What `ready` stands for must be on the disk before it is.
    let folder = File::open(&venv.folder).map_err(io)?;
    syncfs(&folder).map_err(|error| io(error.into()))?;
    fs::write(venv.ready(), format!("{}\n{}\n", venv.python, venv.version)).map_err(io)?;
    out.line(&format!("environment {}: built in {:.1} s", venv.name, started.elapsed().as_secs_f64()));
    Ok(())
}

fn has_uv() -> bool {
    let asked = Command::new("uv").arg("--version").stdin(Stdio::null()).output();
    asked.is_ok_and(|asked| asked.status.success())
}

/// Returns what makes the environment, in order.
fn commands(venv: &Venv, spec: &PythonSpec, uv: bool, list: &Path) -> Vec<Command> {
    let inside = venv.folder.join("bin/python");
    let mut create = Command::new(if uv { "uv" } else { venv.python.as_str() });
    let mut install = Command::new(if uv { Path::new("uv") } else { inside.as_path() });
    if uv {
        create.args(["venv", "--quiet", "--python", &venv.python]).arg(&venv.folder);
        install.args(["pip", "install", "--python"]).arg(&inside);
        for command in [&mut create, &mut install] {
            // The interpreter is the one that was asked for, and none from elsewhere.
            command.env("UV_PYTHON_DOWNLOADS", "never").env("UV_NO_PROGRESS", "1");
            for (pip, uv) in INDEX_VARIABLES {
                if let (Some(value), None) = (std::env::var_os(pip), std::env::var_os(uv)) {
                    command.env(uv, value);
                }
            }
        }
    } else {
        create.args(["-m", "venv"]).arg(&venv.folder);
        install.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"]);
    }
    install.arg("-r").arg(list);
    if let Some(file) = &spec.requirements_file {
        install.arg("-r").arg(file);
    }
    vec![create, install]
}

/// Where packages come from, as pip is told, and what uv calls it: a worker that is set up for one works for both.
const INDEX_VARIABLES: [(&str, &str); 3] = [
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
    ("PIP_FIND_LINKS", "UV_FIND_LINKS"),
];

/// Runs a command, its words in the log. Its last ones are the error.
fn run(command: &mut Command, out: &mut Out) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let both = writer.try_clone().map_err(|error| error.to_string())?;
    let child = command.stdin(Stdio::null()).stdout(writer).stderr(both).spawn();
    // Else this process holds the writing end and the reading never ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.map_err(|error| format!("{name}: {error}"))?;
    let mut tail = VecDeque::new();
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        out.line(&line);
        if !line.trim().is_empty() {
            tail.push_back(line);
        }
        if tail.len() > TAIL_LINES {
            tail.pop_front();
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let text = Vec::from(tail).join("\n");
    let skipped = text.chars().count().saturating_sub(TAIL_CHARS);
    let text: String = text.chars().skip(skipped).collect();
    Err(if text.is_empty() { format!("{name} ended with {status}") } else { text })
}

/// Removes the environments that nobody has used for so long, and what is left of builds that were killed.
fn clean(root: &Path, own: &str, max_age: Duration, out: &mut Out) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || !path.is_dir() {
            continue;
        }
        let used = fs::metadata(path.join("ready")).and_then(|ready| ready.modified());
        let age = used.ok().map(|at| at.elapsed().unwrap_or_default());
        if age.is_some_and(|age| age <= max_age) {
            continue;
        }
        let lock = File::options().create(true).append(true).open(path.with_extension("lock"));
        let is_free = lock.is_ok_and(|lock| {
            let is_free = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            // Without `ready` first: a removal that is cut short leaves nothing that looks complete.
            is_free
                && (age.is_none() || fs::remove_file(path.join("ready")).is_ok())
                && fs::remove_dir_all(&path).is_ok()
        });
        if is_free {
            out.line(&format!("environment {name}: removed, it was not used any more"));
        }
    }
}
