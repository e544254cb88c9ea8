#![doc = include_str!("../README.md")]

mod attempt;
mod backoff;
mod client;
mod clock;
mod context;
mod error;
mod exchange;
pub mod failpoint;
pub mod guardian;
mod heartbeat;
mod ledger;
mod log;
pub mod operator;
mod options;
mod outcome;
mod outputs;
mod pace;
mod process;
mod start;
mod sweep;
mod worker;

pub use error::Error;
pub use options::{CgroupUse, Credential, INHERITED, Options};
pub use worker::{ExitSummary, Stop, run};
