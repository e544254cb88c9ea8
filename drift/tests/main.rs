//! The crate from outside, over real files.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic and its output are the report"
)]

mod common;
mod demo;
mod parquet;
mod reading;
mod scipy;
