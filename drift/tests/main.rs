//! The crate from outside, over real files.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;
mod demo;
mod parquet;
mod reading;
mod scipy;
