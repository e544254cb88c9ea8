//! The two hidden commands that a worker starts: its guardian, and the operators that are Tidemill itself.

use std::{path::PathBuf, process::ExitCode};

/// Ends what a worker can no longer end; started by the worker, told over a pipe.
#[derive(Debug, clap::Args)]
pub(crate) struct GuardianArgs {}

/// Executes an operator; started by the worker.
#[derive(Debug, clap::Args)]
pub(crate) struct OperatorArgs {
    /// What to do, as the worker wrote it down.
    spec: PathBuf,
}

pub(crate) fn guardian(_args: &GuardianArgs) -> ExitCode {
    tidemill_worker::guardian::main()
}

pub(crate) fn operator(args: &OperatorArgs) -> ExitCode {
    tidemill_worker::operator::main(&args.spec)
}
