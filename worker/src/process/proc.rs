//! What `/proc` says. A process that disappears while it is looked at is simply absent.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    /// In clock ticks since the machine started; with the number it identifies the process.
    pub(crate) start_ticks: u64,
    /// Dead, waiting for its parent to read the exit code.
    pub(crate) is_zombie: bool,
}

/// Returns the process, if it exists.
pub(crate) fn process(pid: i32) -> Option<Process> {
    parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(pid: i32, text: &[u8]) -> Option<Process> {
    // The name is in parentheses and may contain anything, so the fields count from the last one.
    let end = text.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // `starttime` is field 22 of the line; group was field 5.
    let start_ticks = fields.nth(16)?.parse().ok()?;
    Some(Process { pid, parent, group, start_ticks, is_zombie: matches!(state, "Z" | "X") })
}

/// Returns every process of the machine that this one may see.
pub(crate) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| process(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// Returns the numbers of the processes that the first thread of `pid` is the parent of: the orphans that a
/// subreaper adopted are among them.
///
/// `None` when the kernel does not tell (it was built without `CONFIG_PROC_CHILDREN`).
pub(crate) fn children_of_first_thread(pid: i32) -> Option<Vec<i32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect())
}

/// Whether the process was started with `NAME=value` in its environment.
pub(crate) fn has_environment(pid: i32, assignment: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|text| text.split(|b| *b == 0).any(|entry| entry == assignment.as_bytes()))
}

/// Whether one of the process's three standard streams is the file.
pub(crate) fn has_stream(pid: i32, file: &OpenFile) -> bool {
    (0..3).any(|fd| {
        let link = PathBuf::from(format!("/proc/{pid}/fd/{fd}"));
        fs::read_link(&link).is_ok_and(|path| path == file.path) && FileId::of(&link) == Some(file.id)
    })
}

/// A file by name and identity. Numbers of removed files are given again, names of tries are not.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct OpenFile {
    pub(crate) path: PathBuf,
    pub(crate) id: FileId,
}

impl OpenFile {
    /// Returns the file at the path as a process that has it open sees it.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        Some(Self { id: FileId::of(&path)?, path })
    }
}

/// What identifies a file whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    /// Returns the identity of what the path leads to.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// Whether the process can gain no privileges; what a worker starts cannot, and neither can its descendants.
pub(crate) fn has_no_new_privileges(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| {
        text.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|v| v.trim() == "1"))
    })
}

/// Sends the signal unless the number belongs to another process by now. Returns whether it was sent.
pub(crate) fn signal(target: Process, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(target.pid) else { return false };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // The handle holds the process, so a start time that matches now cannot change before the signal.
    let is_same = process(target.pid).is_some_and(|now| now.start_ticks == target.start_ticks);
    is_same && pidfd_send_signal(&handle, signal).is_ok()
}

/// Returns what process numbers are valid for: the kernel's own random id of this start of the machine, and the
/// namespace of the numbers. A container that is started again has other processes under the same numbers.
pub(crate) fn machine_boot_id() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) b (c) S 1 40 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 1 1";
        let expected = Process { pid: 42, parent: 1, group: 40, start_ticks: 987_654, is_zombie: false };
        assert_eq!(parse_stat(42, line), Some(expected));
    }

    #[test]
    fn this_process_is_listed_and_is_its_own_file() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(processes().iter().any(|p| p.pid == me && !p.is_zombie));
        assert!(!has_environment(me, "TIDEMILL_ATTEMPT=none"));
    }
}
