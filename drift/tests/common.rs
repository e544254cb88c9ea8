//! What several tests need: files, and a Python with scipy.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// What the numbers are compared with.
const PINS: [&str; 3] = ["numpy==2.4.6", "scipy==1.17.0", "pyarrow==26.0.1"];

/// Returns the interpreter of a virtual environment with numpy, scipy and pyarrow, installing them once.
///
/// Fails, and never skips, when that is impossible: without it nothing proves the numbers.
pub(crate) fn python_with_scipy() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(folder).unwrap();
    // Tests run as processes of their own; one installs, the others wait here.
    let lock = File::create(folder.join("scipy-venv.lock")).unwrap();
    lock.lock().unwrap();
    let venv = folder.join("scipy-venv");
    let (python, ready) = (venv.join("bin/python"), venv.join("ready"));
    if fs::read_to_string(&ready).is_ok_and(|pins| pins == PINS.join(" ")) {
        return python;
    }
    if venv.exists() {
        fs::remove_dir_all(&venv).unwrap();
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PINS));
    fs::write(&ready, PINS.join(" ")).unwrap();
    python
}

/// Runs a program to its successful end and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Writes a file below a folder and returns its path as text.
pub(crate) fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}
