#![doc = include_str!("../README.md")]

mod column;
mod compare;
mod decide;
mod error;
mod measure;
#[cfg(test)]
mod properties;
mod read;
mod rule;
mod source;
mod stats;
mod table;

pub use compare::{MissingColumn, Options, compare};
pub use decide::{Branches, decide};
pub use error::{DriftError, Place};
pub use tidemill_protocol::drift::{Decision, DriftReport, DriftSpec, FeatureReport};
