#![doc = include_str!("../README.md")]

mod args;
mod client;
mod commands;
mod config;
mod error;
mod import;
mod logging;
mod output;
mod owner;
mod report;
#[cfg(test)]
mod shown;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Cli::parse();
    args.global.color.apply(config::process_env("NO_COLOR").is_some_and(|value| !value.is_empty()));
    config::arm_failpoint();
    match commands::run(args) {
        Ok(code) => code,
        Err(error) => {
            report::show(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
