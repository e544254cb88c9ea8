//! The log of a server or worker: on stderr, as text or as one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::{config::Config, error::Result};

/// Starts logging for the rest of the process.
///
/// # Errors
/// CFG0005 when the level cannot be read.
pub(crate) fn start(config: &Config) -> Result {
    let level = config.text("log.level").unwrap_or("info");
    // A plain level is meant for Tidemill; what its libraries say interests when it warns.
    let is_plain = !level.contains(['=', ',']);
    let directives = match level {
        "off" | "error" => level.to_owned(),
        _ if is_plain => format!("warn,tidemill={level}"),
        _ => level.to_owned(),
    };
    let filter = EnvFilter::try_new(directives)
        .map_err(|error| config.bad("log.level", "log.level", error.to_string()))?;
    let is_colored = crate::report::is_colored() && std::io::stderr().is_terminal();
    let text = fmt::layer().with_writer(std::io::stderr).with_ansi(is_colored);
    let registry = tracing_subscriber::registry().with(filter);
    // A subscriber that is there already (a second start in one process) stays.
    let _ = if config.text("log.format") == Some("json") {
        registry.with(fmt::layer().with_writer(std::io::stderr).json().flatten_event(true)).try_init()
    } else {
        registry.with(text).try_init()
    };
    Ok(())
}
