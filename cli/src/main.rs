#![doc = include_str!("../README.md")]

mod args;
mod client;
mod commands;
mod config;
mod error;
mod logging;
mod output;
mod owner;
mod report;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Cli::parse();
    args.global.color.apply(config::process_env("NO_COLOR").is_some_and(|value| !value.is_empty()));
    arm_failpoint();
    match commands::run(args) {
        Ok(code) => code,
        Err(error) => {
            report::show(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Arms what `TIDEMILL_FAILPOINT=POINT:VISITS` names: the process then kills itself there. Only a build with the
/// feature `failpoints`, which the kill tests use, has such points.
fn arm_failpoint() {
    let Some(wanted) = config::process_env("TIDEMILL_FAILPOINT") else { return };
    let Some((point, visits)) = wanted.split_once(':') else { return };
    let Ok(visits) = visits.parse() else { return };
    if tidemill_scheduler::FAILPOINTS.contains(&point) {
        tidemill_scheduler::arm_failpoint(point, visits);
    } else if tidemill_worker::failpoint::POINTS.contains(&point) {
        tidemill_worker::failpoint::arm(point, visits);
    }
}
