//! The Python packages that tests need, installed once a checkout. Never skipped: what cannot be installed fails.

use std::{fs, path::PathBuf, process::Command, sync::Mutex};

use super::server::repository;

/// The data of the time zones are those of `chrono-tz`.
const PACKAGES: [&str; 9] = [
    "selenium==4.51.0",
    "axe-core-python==0.1.0",
    "numpy==2.4.6",
    "scipy==1.17.0",
    "croniter==7.0.0",
    "tzdata==2025.2",
    "jsonschema==4.26.0",
    "uv==0.13.9",
    "taplo==0.9.3",
];

/// Returns the interpreter with the packages.
pub(crate) fn python() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let folder = repository().join("target/venv-e2e");
    fs::create_dir_all(&folder).unwrap();
    // Tests run as processes of their own: the lock of a file keeps two of them from installing at once.
    let lock = fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (venv, complete) = (folder.join("venv"), folder.join("complete"));
    let python = venv.join("bin/python");
    if fs::read_to_string(&complete).ok() != Some(PACKAGES.join(" ")) {
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES));
        fs::write(complete, PACKAGES.join(" ")).unwrap();
    }
    python
}
