#![doc = include_str!("../README.md")]

pub mod floor;
pub mod load;
pub mod report;
