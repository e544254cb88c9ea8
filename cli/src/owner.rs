//! Who has the data directory, and who has the port: messages name the owner.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::error::{CliError, Result};

/// The lock of a data directory; it ends with the process, however the process ends.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _file: File,
}

/// Makes the data directory, readable by its owner only, and locks it.
///
/// # Errors
/// CFG0103, CFG0104.
pub(crate) fn lock(data_dir: &Path) -> Result<DataDirLock> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::DataDir { path, source }
    };
    if !data_dir.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(unusable(data_dir))?;
    }
    let path = data_dir.join("tidemill.lock");
    // Not truncated: until the lock is ours, the content is the owner's.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(unusable(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(CliError::DataDirLocked { path: data_dir.to_owned(), owner: named(&text) });
        }
        Err(error) => return Err(unusable(&path)(error.into())),
    }
    let command = without_secrets(std::env::args_os().map(|word| word.to_string_lossy().into_owned()));
    let line = format!("{}\n{command}\n", std::process::id());
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(line.as_bytes()));
    written.map_err(unusable(&path))?;
    Ok(DataDirLock { _file: file })
}

/// Names the owner that a lock file describes: process id in the first line, command line in the second.
fn named(text: &str) -> String {
    let mut lines = text.lines();
    match (lines.next().filter(|line| !line.is_empty()), lines.next()) {
        (Some(pid), Some(command)) if !command.is_empty() => format!("process {pid} ({command})"),
        (Some(pid), _) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

/// What stands in for a secret.
const HIDDEN: &str = "***";

/// Returns a command line in one line and without its secrets: it ends up in a file and in messages, and those in
/// tickets. That goes for the command lines of other programs too, so any option is looked at that sounds like one.
fn without_secrets(words: impl Iterator<Item = String>) -> String {
    let mut shown = Vec::new();
    let mut is_secret = false;
    for word in words {
        let option = word.strip_prefix('-').map(|rest| rest.split_once('=').unwrap_or((rest, "")));
        if std::mem::take(&mut is_secret) && option.is_none() {
            shown.push(HIDDEN.to_owned());
            continue;
        }
        match option {
            Some((name, value)) if is_secret_name(name) => {
                is_secret = value.is_empty();
                shown.push(if is_secret { word } else { format!("-{name}={HIDDEN}") });
            }
            _ => shown.push(without_password(&word)),
        }
    }
    shown.join(" ").replace(['\n', '\r'], " ")
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "password", "passwd", "secret"].iter().any(|end| name.ends_with(end))
}

/// Hides the password before the host of a URL, and the values of its query that sound like one.
fn without_password(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let (before, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    // The last `@` ends the user part: a password may itself hold one, and a `/` that should have been encoded.
    let before = match before.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host)))
    {
        Some((user, host)) => format!("{user}:{HIDDEN}@{host}"),
        None => before.to_owned(),
    };
    let query = query.map_or_else(String::new, |query| {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret_name(name) => format!("{name}={HIDDEN}"),
            _ => pair.to_owned(),
        });
        format!("?{}", pairs.collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{before}{query}")
}

/// Names the process that listens on an address, as far as `/proc` shows it to this user.
pub(crate) fn of_port(address: SocketAddr) -> String {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|text| listener(&text, address.port()).map(str::to_owned));
    let owner = inode.and_then(|inode| process_with(&format!("socket:[{inode}]")));
    owner.unwrap_or_else(|| "another process".to_owned())
}

/// Returns the inode of the socket that listens on a port, from a table of `/proc/net`.
fn listener(table: &str, port: u16) -> Option<&str> {
    /// The state LISTEN.
    const LISTEN: &str = "0A";
    let wanted = format!("{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        (local == wanted && *fields.get(3)? == LISTEN).then(|| fields.get(9).copied())?
    })
}

/// Returns the process that has a file open by the name of its link.
fn process_with(link: &str) -> Option<String> {
    let processes = fs::read_dir("/proc").ok()?;
    for entry in processes.flatten() {
        let name = entry.file_name();
        let pid = name.to_string_lossy();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(open) = fs::read_dir(entry.path().join("fd")) else { continue };
        let has_it = open
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.to_string_lossy() == link));
        if has_it {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
            return Some(named(&format!("{pid}\n{}\n", without_secrets(words))));
        }
    }
    None
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// CFG0104.
pub(crate) fn write_private(path: &Path, text: &str) -> Result {
    let write = || -> io::Result<()> {
        let beside = PathBuf::from(format!("{}.new", path.display()));
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| CliError::DataDir { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_names_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let lock_of_first = lock(folder.path()).unwrap();
        // Another open file description in the same process stands for another process.
        let error = lock(folder.path()).unwrap_err();
        assert_eq!(error.code(), "CFG0103");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock_of_first);
        assert!(lock(folder.path()).is_ok());
    }

    #[test]
    fn secrets_of_a_command_line_are_not_shown() {
        let shown = |line: &str| without_secrets(line.split(' ').map(str::to_owned));
        for (line, wanted) in [
            ("tidemill standalone --slots 2", "tidemill standalone --slots 2"),
            ("x --database postgres://u:p@w@h/db", "x --database postgres://u:***@h/db"),
            ("x --database=postgres://u:a/b@h", "x --database=postgres://u:***@h"),
            ("x postgres://h/db?user=u&password=pw", "x postgres://h/db?user=u&password=***"),
            ("x --token hush --url http://h", "x --token *** --url http://h"),
            ("x --token=hush --join-token=hush", "x --token=*** --join-token=***"),
            ("x --token --url http://h", "x --token --url http://h"),
            ("x --token-file path", "x --token-file path"),
            ("x http://h/login?token=hush", "x http://h/login?token=***"),
        ] {
            assert_eq!(shown(line), wanted);
        }
    }

    #[test]
    fn a_busy_port_names_its_owner() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = of_port(listener.local_addr().unwrap());
        assert!(owner.starts_with(&format!("process {} (", std::process::id())), "{owner}");
        let free = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
        assert_eq!(of_port(free), "another process");
    }

    #[test]
    fn a_private_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_private(&path, "one").unwrap();
        write_private(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
