//! `tidemill completions SHELL`.

use clap::CommandFactory;

use crate::{args::Cli, error::Result, output};

/// Prints a completion script for a shell, to be sourced or put where the shell looks for it.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidemill", &mut script);
    output::print_bytes(&script)?;
    Ok(())
}
