//! `python`: prepares the interpreter and becomes it.
//!
//! The process of the operator is replaced by Python's, so that its exit code, its signals and its memory are the
//! task's own. What is called and with what stands in a file beside the log; `runner.py` reads it.

mod venv;

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tidemill_protocol::operators::{PythonSpec, PythonTarget};

use super::{OperatorResult, Out, Surroundings};
use crate::outcome::Problem;

const RUNNER: &str = include_str!("runner.py");

/// What a task runs with.
struct Interpreter {
    program: PathBuf,
    /// The virtual environment, and the lock that keeps it from being removed while it is used.
    venv: Option<(PathBuf, File)>,
}

/// Becomes Python. Returns when that is not possible.
pub(super) fn execute(spec: &PythonSpec, around: &Surroundings, out: &mut Out) -> OperatorResult {
    match become_python(spec, around, out) {
        Ok(never) => match never {},
        Err(problem) => OperatorResult::failed(&problem, false),
    }
}

fn become_python(
    spec: &PythonSpec,
    around: &Surroundings,
    out: &mut Out,
) -> Result<std::convert::Infallible, Problem> {
    let file = match &spec.target {
        PythonTarget::Script { path, .. } => path,
        PythonTarget::Callable { file, .. } => file,
    };
    if !Path::new(file).is_file() {
        let error = format!("there is no file {file} in the folder of the DAG file");
        return Err(Problem::PythonTarget { error });
    }
    let interpreter = interpreter(spec, around, out)?;
    let call = json!({ "target": spec.target, "result": around.result });
    let runner = write(around, "runner.py", RUNNER.as_bytes())?;
    let call = write(around, "call.json", call.to_string().as_bytes())?;
    let mut command = Command::new(&interpreter.program);
    command.arg("-u").arg(runner).arg(call).env("PYTHONUNBUFFERED", "1");
    if std::env::var_os("PYTHONPYCACHEPREFIX").is_none()
        && std::env::var_os("PYTHONDONTWRITEBYTECODE").is_none()
    {
        // Else every import writes into the DAG folder, which is watched and may be read-only.
        command.env("PYTHONPYCACHEPREFIX", around.work_dir.join("pycache"));
    }
    if let Some((folder, lock)) = &interpreter.venv {
        let mut path = folder.join("bin").into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        command.env("PATH", path).env("VIRTUAL_ENV", folder).env_remove("PYTHONHOME");
        venv::keep_open(lock);
    }
    let error = command.exec();
    let program = interpreter.program.display().to_string();
    Err(Problem::PythonInterpreter { program, error: error.to_string() })
}

fn interpreter(spec: &PythonSpec, around: &Surroundings, out: &mut Out) -> Result<Interpreter, Problem> {
    let program = spec.python.as_deref().unwrap_or("python3");
    if spec.requirements.is_empty() && spec.requirements_file.is_none() {
        return Ok(Interpreter { program: PathBuf::from(program), venv: None });
    }
    let (folder, lock) = venv::prepare(spec, program, around, out)?;
    Ok(Interpreter { program: folder.join("bin/python"), venv: Some((folder, lock)) })
}

/// Writes a file beside the log.
fn write(around: &Surroundings, name: &str, text: &[u8]) -> Result<PathBuf, Problem> {
    let path = around.result.with_file_name(name);
    let problem =
        |error: std::io::Error| Problem::Prepare { what: name.to_owned(), error: error.to_string() };
    let _ = fs::remove_file(&path);
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(&path).map_err(problem)?;
    file.write_all(text).map_err(problem)?;
    Ok(path)
}
