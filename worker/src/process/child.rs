//! A process that was started, until its exit code is read.

use std::{io, os::fd::OwnedFd, process::ExitStatus};

use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::io::unix::AsyncFd;

use crate::attempt::machine::Exit;

/// A child process whose exit code is not read yet.
#[derive(Debug)]
pub(crate) enum Child {
    /// Started by the standard library.
    Std(tokio::process::Child),
    /// Started by `clone3`: its number and the descriptor that becomes readable when it ends.
    Handle(i32, AsyncFd<OwnedFd>),
}

impl From<tokio::process::Child> for Child {
    fn from(child: tokio::process::Child) -> Self {
        Self::Std(child)
    }
}

impl Child {
    /// Takes over a process by its descriptor. Must run inside the runtime.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn adopt(pid: i32, handle: OwnedFd) -> io::Result<Self> {
        Ok(Self::Handle(pid, super::clone::watch(handle)?))
    }

    /// Returns the number of the process, which is also that of its group.
    pub(crate) fn pid(&self) -> Option<i32> {
        match self {
            Self::Std(child) => child.id().and_then(|pid| i32::try_from(pid).ok()),
            Self::Handle(pid, _) => Some(*pid),
        }
    }

    /// Waits for the end and reads the exit code. May be given up and begun again; not to be called after it
    /// has returned.
    ///
    /// # Errors
    /// Only when somebody else has read the exit code.
    pub(crate) async fn wait(&mut self) -> io::Result<Exit> {
        match self {
            Self::Std(child) => Ok(exit_of(child.wait().await?)),
            Self::Handle(_, handle) => loop {
                let mut ready = handle.readable().await?;
                let ended = ready.try_io(|handle| {
                    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                    let status = waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(handle.get_ref())), options)?;
                    status.ok_or_else(|| io::ErrorKind::WouldBlock.into())
                });
                let Ok(status) = ended else { continue };
                let status = status?;
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, signal) => Exit::Signal(signal.unwrap_or(0)),
                });
            },
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}
