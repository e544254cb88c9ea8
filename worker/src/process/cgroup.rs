//! A cgroup v2 of its own for every try, where the kernel and the rights of the worker allow it.
//!
//! Only `cgroup.procs`, `cgroup.kill` and `cgroup.events` are needed, so a hybrid mount without controllers is
//! good enough. The process of a try is made inside its cgroup, or joins it before it executes the command: the
//! parent cannot put it there without a window in which the child may already have forked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The folder below which a worker makes one cgroup per try.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    folder: PathBuf,
}

impl Cgroups {
    /// Finds the v2 mount and makes the worker's folder there, named `name`. `Err` says why there is none.
    pub(crate) fn open(name: &str) -> Result<Self, String> {
        let mounts = read("/proc/self/mountinfo")?;
        let mount = find_mount(&mounts).ok_or("no cgroup v2 is mounted")?;
        let table = read("/proc/self/cgroup")?;
        let own = find_own(&table).ok_or("the worker is in no cgroup v2")?;
        let folder = mount.join(own.trim_start_matches('/')).join(format!("tidemill-{name}"));
        remove_leaves(&folder);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("cannot create {}: {error}", folder.display()));
            }
            _ => {}
        }
        let cgroups = Self { folder };
        cgroups.probe()?;
        Ok(cgroups)
    }

    /// Lets a process join a leaf and kills it there: rights, kernel version and mount options in one answer.
    fn probe(&self) -> Result<(), String> {
        let leaf = self.create("probe").map_err(|error| error.to_string())?;
        let status = Command::new("/bin/sh")
            .args(["-c", "echo 0 > \"$1\"", "sh"])
            .arg(leaf.join("cgroup.procs"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| error.to_string());
        let can_kill = leaf.join("cgroup.kill").exists();
        remove(&leaf);
        match status {
            Ok(status) if status.success() && can_kill => Ok(()),
            Ok(status) if status.success() => Err("the kernel has no cgroup.kill".to_owned()),
            Ok(_) => Err(format!("cannot move a process into {}", self.folder.display())),
            Err(error) => Err(error),
        }
    }

    /// Makes a leaf.
    pub(crate) fn create(&self, name: &str) -> std::io::Result<PathBuf> {
        let leaf = self.folder.join(name);
        fs::create_dir(&leaf)?;
        Ok(leaf)
    }

    /// Removes the worker's folder at the end; a leaf that is still occupied keeps it.
    pub(crate) fn close(&self) {
        remove_leaves(&self.folder);
        remove(&self.folder);
    }
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
}

fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        (kind == "cgroup2").then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

fn find_own(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Returns the processes in the leaf.
pub(crate) fn members(leaf: &Path) -> Vec<i32> {
    let text = fs::read_to_string(leaf.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether a living process is in the leaf or below it.
pub(crate) fn is_populated(leaf: &Path) -> bool {
    fs::read_to_string(leaf.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1"))
}

/// Kills everything in the leaf and below it.
pub(crate) fn kill(leaf: &Path) {
    // It fails when the leaf is gone, and then there is nothing to kill.
    let _ = fs::write(leaf.join("cgroup.kill"), "1");
}

/// Removes a leaf that is empty or about to be: dead processes leave their cgroup a moment after their exit.
pub(crate) fn remove(leaf: &Path) {
    let started = Instant::now();
    while let Err(error) = fs::remove_dir(leaf) {
        let is_busy = error.kind() == std::io::ErrorKind::ResourceBusy;
        if !is_busy || started.elapsed() > Duration::from_millis(500) {
            return;
        }
        // Tasks may have made cgroups of their own below theirs.
        remove_leaves(leaf);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills and removes what an earlier incarnation left below the folder.
fn remove_leaves(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        kill(&entry.path());
        remove(&entry.path());
    }
}

/// Returns how often the kernel killed something in this leaf because memory ran out, where it counts that.
pub(crate) fn oom_kills(leaf: &Path) -> Option<u64> {
    let text = fs::read_to_string(leaf.join("memory.events")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Returns how often the kernel killed something for memory on this machine, or in the worker's own v1 memory
/// cgroup when that one counts.
pub(crate) fn oom_kills_around() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let path = text.lines().find_map(|line| line.split_once(":memory:"))?.1.to_owned();
        let file = Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/'));
        let text = fs::read_to_string(file.join("memory.oom_control")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
    });
    own.unwrap_or_else(|| {
        let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_in_a_hybrid_and_in_a_plain_table() {
        let hybrid = "31 30 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      32 30 0:27 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let plain = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(find_mount(plain), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(find_mount("30 23 0:26 / /sys ro - sysfs sysfs rw\n"), None);
        assert_eq!(find_own("4:memory:/x\n0::/user.slice\n"), Some("/user.slice"));
        assert_eq!(find_own("4:memory:/x\n"), None);
    }
}
