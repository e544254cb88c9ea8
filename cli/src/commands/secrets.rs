//! Values that must not stand among the arguments of a process: read from a file, from stdin or from the keyboard.

use std::{
    io::{BufRead, IsTerminal, Read},
    path::{Path, PathBuf},
};

use crate::{
    error::{CliError, Result},
    report::say,
};

/// Values are read no further than this, in bytes; the server keeps less.
const LIMIT_BYTES: u64 = 1024 * 1024;

/// Reads a value: from the file, or from stdin. At a terminal one line is asked for, and not echoed.
///
/// # Errors
/// CFG0302, CFG0321.
pub(crate) fn read(file: Option<&Path>, what: &str) -> Result<String> {
    if let Some(path) = file.filter(|path| *path != Path::new("-")) {
        let unreadable = |source| CliError::Unreadable { path: path.to_owned(), source };
        return trimmed(std::fs::File::open(path).map_err(unreadable)?, path.to_owned());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return trimmed(stdin.lock(), PathBuf::from("the standard input"));
    }
    say(format!("{what}, then Enter (it is not shown):"));
    let _quiet = Quiet::begin();
    let mut line = String::new();
    let unreadable = |source| CliError::Unreadable { path: PathBuf::from("the standard input"), source };
    stdin.lock().read_line(&mut line).map_err(unreadable)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads to the end. What editors and `echo` put there is no part of a value.
fn trimmed(source: impl Read, path: PathBuf) -> Result<String> {
    let mut text = String::new();
    source
        .take(LIMIT_BYTES)
        .read_to_string(&mut text)
        .map_err(|source| CliError::Unreadable { path, source })?;
    let end =
        text.strip_suffix('\n').map_or(text.len(), |rest| rest.strip_suffix('\r').unwrap_or(rest).len());
    text.truncate(end);
    Ok(text)
}

/// The terminal does not echo while this lives.
struct Quiet(Option<rustix::termios::Termios>);

impl Quiet {
    fn begin() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let stdin = std::io::stdin();
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        let is_set = tcsetattr(&stdin, OptionalActions::Flush, &quiet).is_ok();
        Self(is_set.then_some(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            use rustix::termios::{OptionalActions, tcsetattr};
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_feed_at_the_end_is_no_part_of_a_value() {
        let read = |text: &str| trimmed(text.as_bytes(), PathBuf::new()).unwrap();
        assert_eq!(read("hush\n"), "hush");
        assert_eq!(read("hush\r\n"), "hush");
        assert_eq!(read("a\nb\n\n"), "a\nb\n");
        assert_eq!(read(""), "");
    }
}
