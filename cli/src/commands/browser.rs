//! Opens a page in the person's browser, where there is one.
//!
//! A login link never stands in the arguments of a process: every user of the machine could read it there, and use it
//! first. The browser gets the path of a file that only its owner may read and that leads on to the link.

use std::{
    fs,
    os::unix::{
        fs::DirBuilderExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
};

use crate::{error::Result, owner, report::say};

/// Programs that open a URL, tried in order.
const OPENERS: [&str; 4] = ["xdg-open", "open", "sensible-browser", "x-www-browser"];
/// The file that leads on to a login link, in the data directory.
const FILE_NAME: &str = "login.html";

/// What a server starts to open a page: see [`from_server`].
#[derive(Debug, clap::Args)]
pub(crate) struct OpenArgs {
    target: String,
}

fn opener(target: &str) -> Option<Child> {
    let start = |program: &&str| {
        let mut command = Command::new(program);
        command.arg(target).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C in the terminal is not meant for the browser.
        command.process_group(0).spawn().ok()
    };
    let child = OPENERS.iter().find_map(start);
    if child.is_none() {
        say("no browser was found to open the page with");
    }
    child
}

/// Writes the file that leads on to `link` and returns its path. It replaces the one before.
///
/// # Errors
/// CFG0104.
pub(crate) fn hide(link: &str, data_dir: &Path) -> Result<PathBuf> {
    if !data_dir.is_dir() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
        made.map_err(|source| crate::error::CliError::DataDir { path: data_dir.to_owned(), source })?;
    }
    let path = data_dir.join(FILE_NAME);
    let link = link.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;");
    let text = format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"refresh\" content=\"0; url={link}\"><title>Tidemill</title>\
         <p><a href=\"{link}\">Sign in</a></p>\n"
    );
    owner::write_private(&path, &text)?;
    Ok(path)
}

/// Removes what an earlier [`hide`] left: its link is used or will be replaced.
pub(crate) fn forget(data_dir: &Path) {
    let _ = fs::remove_file(data_dir.join(FILE_NAME));
}

/// Opens `link` by way of a file in the data directory; says so when nothing can. For a command that ends soon.
///
/// # Errors
/// CFG0104.
pub(crate) fn open(link: &str, data_dir: &Path) -> Result {
    let path = hide(link, data_dir)?;
    drop(opener(&path.display().to_string()));
    Ok(())
}

/// Opens `target`, a page without a secret or a file of [`hide`], from a process with a worker in it.
///
/// The worker takes every child of the first thread that it does not know, and so every orphan that it adopts, for what
/// a task left behind. Therefore a process in between adopts the browser, and a thread of its own waits for that process.
pub(crate) fn from_server(target: String, own_exe: PathBuf) {
    let work = move || {
        let mut command = Command::new(own_exe);
        command.args(["open", "--", &target]).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        if command.status().is_err() {
            say("no browser was found to open the page with");
        }
    };
    if std::thread::Builder::new().name("browser".to_owned()).spawn(work).is_err() {
        say("the page could not be opened");
    }
}

/// The process in between: adopts what the opener leaves behind and ends after the last of it.
pub(crate) fn run(args: &OpenArgs) -> ExitCode {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let Some(mut child) = opener(&args.target) else { return ExitCode::FAILURE };
    let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0));
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::empty()) {}
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_link_is_hidden_in_a_private_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("new");
        let path = hide("http://h/login?token=a&b=\"", &data_dir).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777, 0o700);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("content=\"0; url=http://h/login?token=a&amp;b=&quot;\""), "{text}");
        forget(&data_dir);
        assert!(!path.exists());
    }
}
