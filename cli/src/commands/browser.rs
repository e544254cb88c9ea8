//! Opens a page in the person's browser, where there is one.

use std::process::{Command, Stdio};

use crate::report::say;

/// Programs that open a URL, tried in order.
const OPENERS: [&str; 4] = ["xdg-open", "open", "sensible-browser", "x-www-browser"];

/// Opens `url`; says so when nothing can.
pub(crate) fn open(url: &str) {
    let is_opened = OPENERS.iter().any(|program| {
        Command::new(program)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .is_ok()
    });
    if !is_opened {
        say("no browser was found to open the page with");
    }
}
