//! The worker's end of the pipe.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{Message, READY};
use crate::{error::Error, process::children::Children};

/// The guardian of this worker. It is started again, and told everything again, when it is gone.
#[derive(Debug)]
pub(crate) struct Guardian {
    program: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    child: Option<(Child, ChildStdin)>,
    watched: BTreeMap<String, Message>,
}

impl Guardian {
    /// Starts the guardian.
    pub(crate) fn start(program: &Path, children: &Children) -> Result<Self, Error> {
        let child =
            launch(program).map_err(|source| Error::Guardian { program: program.to_owned(), source })?;
        if let Ok(pid) = i32::try_from(child.0.id()) {
            children.add(pid);
        }
        let inner = Inner { child: Some(child), watched: BTreeMap::new() };
        Ok(Self { program: program.to_owned(), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the guardian something. A guardian that does not read is replaced at the next check.
    pub(crate) fn send(&self, message: &Message) {
        let mut inner = self.lock();
        match message {
            Message::Watch { id, .. } => drop(inner.watched.insert(id.clone(), message.clone())),
            Message::Forget { id } => drop(inner.watched.remove(id)),
            Message::Contact { .. } => {}
        }
        inner.write(message);
    }

    /// Starts a new guardian when the old one is gone. May block: not for the threads of the runtime.
    pub(crate) fn check(&self, children: &Children) {
        let mut inner = self.lock();
        let is_alive = matches!(inner.child.as_mut().map(|(child, _)| child.try_wait()), Some(Ok(None)));
        if is_alive {
            return;
        }
        if let Some((mut child, pipe)) = inner.child.take() {
            drop(pipe);
            // It may have been dropped because it did not read; it must not act on what it knew.
            let _ = child.kill();
            let _ = child.wait();
            if let Ok(pid) = i32::try_from(child.id()) {
                children.remove(pid);
            }
        }
        tracing::warn!("the guardian process is gone; starting another one");
        match launch(&self.program) {
            Ok(child) => {
                if let Ok(pid) = i32::try_from(child.0.id()) {
                    children.add(pid);
                }
                inner.child = Some(child);
                let watched: Vec<Message> = inner.watched.values().cloned().collect();
                for message in &watched {
                    inner.write(message);
                }
            }
            Err(error) => tracing::error!(%error, "cannot start a guardian process"),
        }
    }

    /// Closes the pipe and waits for the end of the guardian. Nothing may be watched any more.
    pub(crate) fn close(&self) {
        if let Some((mut child, pipe)) = self.lock().child.take() {
            drop(pipe);
            let _ = child.wait();
        }
    }
}

impl Inner {
    fn write(&mut self, message: &Message) {
        let Some((child, pipe)) = self.child.as_mut() else { return };
        let Ok(mut line) = serde_json::to_vec(message) else { return };
        line.push(b'\n');
        // The pipe does not block: a guardian that was stopped must not stop the worker too. Messages are
        // shorter than what a pipe takes in one piece, so a line is written whole or not at all.
        if let Err(error) = pipe.write_all(&line) {
            tracing::warn!(%error, "the guardian process does not listen");
            let _ = child.kill();
        }
    }
}

fn launch(program: &Path) -> std::io::Result<(Child, ChildStdin)> {
    use std::os::unix::process::CommandExt;
    let mut child = Command::new("/bin/sh")
        // Ignored signals stay ignored in what the shell becomes.
        .args([
            OsStr::new("-c"),
            OsStr::new("trap '' TERM INT HUP QUIT; exec \"$1\" guardian"),
            OsStr::new("sh"),
        ])
        .arg(program)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    // The shell in between hides a program that cannot be executed, so the guardian says that it is there.
    let said = child.stdout.take().map(BufReader::new);
    let is_ready = said.is_some_and(|said| said.lines().map_while(Result::ok).any(|line| line == READY));
    if !is_ready {
        let _ = child.kill();
        let _ = child.wait();
        return Err(std::io::Error::other("it did not become ready"));
    }
    let pipe = child.stdin.take().ok_or_else(|| std::io::Error::other("the guardian has no pipe"))?;
    fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
    Ok((child, pipe))
}
